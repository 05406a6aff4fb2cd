//! `receive -w` from a ring beside the kernel's vxlan device with tcpdump on it, and beside sockets.

use super::contest::{Contestant, Counted, added_cpu};
use super::generator::Tunnel;
use super::{Stage, tcpdump, to_nobody, why_not, words};
use crate::row::Row;
use rig::{Host, Topology};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

pub const BENCH: &str = "receive -w";
pub const BENCH_GRETAP: &str = "receive -w, GRETAP";
const PEER: &str = "vxlan device + tcpdump";
const VNI: u32 = 7;
const PORT: u16 = 4789;
/// Takes a frame of 1500 B and the outer headers.
const MTU: u32 = 1600;

/// VXLAN.
pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let net = Topology::line(["left", "right"]).mtu(MTU).build();
    let (left, right) = (net.host("left"), net.host("right"));
    let nobody = to_nobody(left, "right", "10.71.0.9", PORT)?;
    let to = SocketAddr::new(right.v4("left").into(), PORT);
    let listen = format!("vxlan://{to}");
    let ring = receive(stage.tapline, right, &listen, "ring");
    let mut contestants = vec![Contestant::new("tapline", to, Counted::File).running(ring)];
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
    let sockets = receive(stage.tapline, right, &listen, "socket");
    contestants.push(Contestant::new("tapline, sockets", to, Counted::File).running(sockets));
    contestants.push(Contestant::new("(nothing)", nobody, Counted::No));
    let absent = why_no_tcpdump.map(|why| (PEER, why));
    let tunnel = Some(Tunnel::Vxlan(VNI));
    added_cpu(stage, BENCH, (left, "right"), tunnel, &contestants, absent)
}

/// Ethernet in GRE, which this kernel may have no device for.
pub fn run_gretap(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let net = Topology::line(["left", "right"]).mtu(MTU).build();
    let (left, right) = (net.host("left"), net.host("right"));
    let nobody = to_nobody(left, "right", "10.71.0.9", 0)?;
    let to = SocketAddr::new(right.v4("left").into(), 0);
    let listen = format!("gretap://{}", to.ip());
    let contestants = [("tapline", "ring"), ("tapline, sockets", "socket")];
    let mut contestants: Vec<Contestant<'_>> = contestants
        .map(|(subject, datapath)| {
            let program = receive(stage.tapline, right, &listen, datapath);
            Contestant::new(subject, to, Counted::File).running(program)
        })
        .into();
    contestants.push(Contestant::new("(nothing)", nobody, Counted::No));
    added_cpu(stage, BENCH_GRETAP, (left, "right"), Some(Tunnel::Gretap), &contestants, None)
}

/// A receiver on a host.
fn receive<'a>(
    tapline: &'a Path,
    host: &'a Host,
    listen: &'a str,
    datapath: &'a str,
) -> impl Fn(&Path) -> Command + 'a {
    move |file| {
        let mut command = host.netns.command(tapline);
        command.args(["receive", "--datapath", datapath, "--listen", listen, "-w"]).arg(file);
        command
    }
}
