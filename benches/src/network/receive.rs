//! `receive -w` beside the kernel's vxlan device with tcpdump on it.

use super::contest::{Contestant, Counted, added_cpu};
use super::{Stage, tcpdump, to_nobody, why_not, words};
use crate::row::Row;
use rig::Topology;
use std::net::SocketAddr;
use std::path::Path;

pub const BENCH: &str = "receive -w";
const PEER: &str = "vxlan device + tcpdump";
const VNI: u32 = 7;
const PORT: u16 = 4789;
/// Takes a frame of 1500 B and the outer headers.
const MTU: u32 = 1600;

pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let net = Topology::line(["left", "right"]).mtu(MTU).build();
    let (left, right) = (net.host("left"), net.host("right"));
    let nobody = to_nobody(left, "right", "10.71.0.9", PORT)?;
    let to = SocketAddr::new(right.v4("left").into(), PORT);
    let receive = |file: &Path| {
        let mut command = right.netns.command(stage.tapline);
        command.args(["receive", "--listen", &format!("vxlan://{to}"), "-w"]).arg(file);
        command
    };
    let mut contestants = vec![Contestant::new("tapline", to, Counted::File).running(receive)];
    let why_no_tcpdump = why_not("tcpdump");
    if why_no_tcpdump.is_none() {
        let add = format!("ip link add vx0 type vxlan id {VNI} dstport {PORT} local {}", to.ip());
        let peer = Contestant::new(PEER, to, Counted::File);
        contestants.push(Contestant {
            set_up: [&add, "ip link set vx0 addrgenmode none up"].map(|c| (right, words(c))).into(),
            take_down: vec![(right, words("ip link del vx0"))],
            ..peer.running(|file| tcpdump(right, "vx0", file))
        });
    }
    contestants.push(Contestant::new("(nothing)", nobody, Counted::No));
    let absent = why_no_tcpdump.map(|why| (PEER, why));
    added_cpu(stage, BENCH, (left, "right"), Some(VNI), &contestants, absent)
}
