//! `mirror` into VXLAN beside the kernel's own mirroring, tc mirred into a vxlan device.
//!
//! ```text
//! left ──────────────────── tap ──────────────────── sink
//! generator       tapped: "left"   VXLAN out: "sink"      counted as they come in
//! ```

use super::contest::{Contestant, Counted, added_cpu, run_all};
use super::{Stage, process, to_nobody, words};
use crate::row::Row;
use rig::{Host, Topology};
use std::path::Path;

pub const BENCH: &str = "mirror";
const PEER: &str = "tc mirred + vxlan";
/// Takes a frame of 1500 B and the outer headers, so that nothing is cut into fragments.
const UNDERLAY_MTU: u32 = 1600;

pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let net = Topology::line(["left", "tap", "sink"]).build();
    let (left, tap, sink) = (net.host("left"), net.host("tap"), net.host("sink"));
    tap.ip(&format!("link set sink mtu {UNDERLAY_MTU}"));
    sink.ip(&format!("link set tap mtu {UNDERLAY_MTU}"));
    // Counted are datagrams, so that the kernel cuts super-packets before they leave, at our cost. NICs
    // do that for nothing.
    run_all(&[(tap, words("ethtool -K sink tx-udp-segmentation off"))])?;
    let to = to_nobody(left, "tap", "10.71.0.9", 9)?;
    let remote = to_nobody(tap, "sink", "10.71.1.9", 4789)?;
    let endpoint = format!("vxlan://{remote}?vni=7");
    let mirror = |_: &Path| {
        let mut command = tap.netns.command(stage.tapline);
        command.args(["mirror", "-i", "left", "--datapath", "ring", "--to", &endpoint]);
        command
    };
    let at_sink = || Counted::Interface(sink, "tap");
    let mut contestants = vec![Contestant::new("tapline, ring", to, at_sink()).running(mirror)];
    let (set_up, take_down) = tc(tap, &remote.ip().to_string());
    let why_no_tc = why_no_tc(&set_up, &take_down);
    if why_no_tc.is_none() {
        let peer = Contestant::new(PEER, to, at_sink());
        contestants.push(Contestant { set_up, take_down, ..peer });
    }
    contestants.push(Contestant::new("(nothing)", to, Counted::No));
    let absent = why_no_tc.map(|why| (PEER, why));
    added_cpu(stage, BENCH, (left, "tap"), None, &contestants, absent)
}

/// Commands, each on a host.
type Commands<'a> = Vec<(&'a Host, Vec<String>)>;

/// The commands that have the kernel mirror what comes in, and those that end it.
fn tc<'a>(tap: &'a Host, remote: &str) -> (Commands<'a>, Commands<'a>) {
    let vxlan =
        format!("ip link add vx0 mtu 1500 type vxlan id 7 remote {remote} dstport 4789 dev sink");
    // A classic BPF program of one instruction, `return all`: of the classifiers that take every
    // packet it is the one that most kernels have.
    let filter = "tc filter add dev left ingress bpf bytecode";
    let mut filter = words(filter);
    filter.push("1,6 0 0 4294967295".into());
    filter.extend(words("action mirred egress mirror dev vx0"));
    let set_up = vec![
        words(&vxlan),
        words("ip link set vx0 addrgenmode none up"),
        words("tc qdisc add dev left clsact"),
        filter,
    ];
    let take_down = vec![words("tc qdisc del dev left clsact"), words("ip link del vx0")];
    let on_tap = |commands: Vec<Vec<String>>| commands.into_iter().map(|c| (tap, c)).collect();
    (on_tap(set_up), on_tap(take_down))
}

/// Tries the commands out: kernels differ in what they can do.
fn why_no_tc(set_up: &Commands<'_>, take_down: &Commands<'_>) -> Option<String> {
    if !process::is_installed("tc", "-V") {
        return Some("tc is not installed (iproute2)".into());
    }
    let tried = run_all(set_up);
    for command in take_down {
        // Whatever of it was not made cannot be removed.
        let _ = run_all(std::slice::from_ref(command));
    }
    tried.err().map(|why| why.to_string().replace('\n', " "))
}
