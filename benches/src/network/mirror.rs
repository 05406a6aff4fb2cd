//! `mirror` into VXLAN beside the kernel's own mirroring, tc mirred into a vxlan device.
//!
//! ```text
//! left ──────────────────── tap ──────────────────── sink
//! generator       tapped: "left"   VXLAN out: "sink"      counted as they come in
//! ```

use super::contest::{Contest, Contestant, Counted};
use super::generator::Load;
use super::{Stage, process, to_nobody, words};
use crate::row::{Row, Unit};
use rig::Topology;
use std::path::Path;
use std::process::Command;

const BENCH: &str = "mirror";
/// Takes a frame of 1500 B and the outer headers, so that nothing is cut into fragments.
const UNDERLAY_MTU: u32 = 1600;

pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let net = Topology::line(["left", "tap", "sink"]).build();
    let (left, tap, sink) = (net.host("left"), net.host("tap"), net.host("sink"));
    tap.ip(&format!("link set sink mtu {UNDERLAY_MTU}"));
    sink.ip(&format!("link set tap mtu {UNDERLAY_MTU}"));
    let to = to_nobody(left, "tap", "10.71.0.9", 9)?;
    let remote = to_nobody(tap, "sink", "10.71.1.9", 4789)?;
    let endpoint = format!("vxlan://{remote}?vni=7");
    let why_no_tc = why_no_tc(tap, &remote.ip().to_string());

    let mut rows = Vec::new();
    for &size in &stage.effort.sizes {
        let contestant = |subject| Contestant {
            subject,
            command: None,
            set_up: Vec::new(),
            take_down: Vec::new(),
            to,
            counted: Counted::Interface(sink, "tap"),
        };
        let mirror = |_: &Path| {
            let mut command: Command = tap.netns.command(stage.tapline);
            command.args(["mirror", "-i", "left", "--datapath", "ring", "--to", &endpoint]);
            command
        };
        let mut contestants =
            vec![Contestant { command: Some(Box::new(mirror)), ..contestant("tapline, ring") }];
        if why_no_tc.is_none() {
            let (set_up, take_down) = tc(&remote.ip().to_string());
            contestants.push(Contestant {
                set_up: set_up.into_iter().map(|words| (tap, words)).collect(),
                take_down: take_down.into_iter().map(|words| (tap, words)).collect(),
                ..contestant("tc mirred + vxlan")
            });
        }
        contestants.push(Contestant { counted: Counted::No, ..contestant("(nothing)") });
        let (pace, count) = (stage.effort.pace, stage.effort.packets / 2);
        let case = format!("{size} B, {} kpps, added CPU", pace / 1000);
        let contest = Contest {
            bench: BENCH,
            case: case.clone(),
            load: Load { frame_bytes: size, pps: Some(pace), count, vni: None },
            runs: stage.effort.runs,
            sender: (left, "tap"),
            contestants,
            with_sender: true,
            folder: stage.folder,
        };
        rows.extend(contest.run()?);
        if let Some(why) = &why_no_tc {
            let subject = "tc mirred + vxlan";
            rows.push(Row::skipped(BENCH, &case, subject, Unit::NsPerPacket, Some(why.clone())));
        }
    }
    Ok(rows)
}

/// The commands that have the kernel mirror what comes in, and those that end it.
fn tc(remote: &str) -> (Vec<Vec<String>>, Vec<Vec<String>>) {
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
    (set_up, take_down)
}

/// Tries the commands out: kernels differ in what they can do.
fn why_no_tc(host: &rig::Host, remote: &str) -> Option<String> {
    if !process::is_installed("tc", "-V") {
        return Some("tc is not installed (iproute2)".into());
    }
    let (set_up, take_down) = tc(remote);
    let run = |words: &Vec<String>| {
        let output = host.netns.command(&words[0]).args(&words[1..]).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(format!("`{}`: {}", words.join(" "), said.trim().replace('\n', " ")))
            }
            Err(error) => Err(error.to_string()),
        }
    };
    let tried = set_up.iter().try_for_each(run);
    for words in &take_down {
        // Whatever of it was not made cannot be removed.
        let _ = run(words);
    }
    tried.err()
}
