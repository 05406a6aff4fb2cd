//! Tunnels into a broker: at 100,000 packets a second none is lost, whatever strangers send beside
//! them.

mod over_links;

use api::DropReason;
use over_links::*;
use rig::{
    Generator, Tcpdump, duplicates, missing, numbers_in, reordered, root_or_skip, tool_or_skip,
};
use std::net::SocketAddr;
use std::thread;

const PPS: u64 = 100_000;
/// As many as the rings on their way hold: a busy machine may come to them later.
const PACKETS: u64 = 20_000;
const STRANGERS: u64 = 500;

/// Mirrors numbered packets into a tunnel, a stranger's beside them into one of the same kind, and has
/// a broker hand those of the first on to a NIC.
fn all_arrive(kind: &str, ours: &str, foreign: &str) {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::alone(&format!("broker-{kind}"));
    let sink = scene.host("sink");
    sink.ip("link add out type veth peer name in");
    sink.ip("link set out up");
    sink.ip("link set in up");
    let tunnel = format!("{kind}://0.0.0.0?{ours}");
    let broker = scene.start("sink", &["broker", "--in", &tunnel, "--out", "nic:out"]);
    let seen = scene.path("seen.pcap");
    let tcpdump = Tcpdump::start(sink, "in", &seen, NUMBERED);
    let to = |id: &str| format!("{kind}://10.71.1.2?{id}");
    let mirror = |id: &str, port: &str| {
        scene.start("tapped", &["mirror", "-i", "client", "--to", &to(id), "udp", "port", port])
    };
    let (mine, theirs) = (mirror(ours, "9"), mirror(foreign, "10"));
    let (sent, strange) = thread::scope(|scope| {
        let port_10: SocketAddr = (scene.host("tapped").v4("client"), 10).into();
        let client = &scene.host("client").netns;
        let beside = scope
            .spawn(move || Generator::new(STRANGERS, STRANGERS).run_in(client, port_10).accepted);
        let sent = scene.send(&Generator::new(PPS, PACKETS).flows(16));
        (sent, beside.join().expect("it sends"))
    });
    mine.wait_for_matched(sent);
    theirs.wait_for_matched(strange);
    let (mine, theirs) = (mine.stop(), theirs.stop());
    assert_eq!((mine.sent, theirs.sent), (sent, strange), "{mine}{theirs}");
    broker.wait_for_received(sent + strange);
    tcpdump.stop();
    let ledger = broker.stop();
    let numbers = numbers_in(&seen);
    assert_eq!(missing(&numbers, sent), [0; 0], "{ledger}");
    assert_eq!((duplicates(&numbers), reordered(&numbers)), (vec![], vec![]));
    assert_eq!(ledger.drops.get(DropReason::ForeignId), strange, "{ledger}");
    assert_eq!(ledger.drops.total(), strange, "{ledger}");
    assert_eq!((ledger.matched, ledger.sent), (sent, sent), "{ledger}");
}

#[test]
fn gretap_beside_a_stranger_s_key() {
    all_arrive("gretap", "key=500", "key=501");
}

#[test]
fn vxlan_beside_a_stranger_s_vni() {
    all_arrive("vxlan", "vni=71", "vni=72");
}
