//! What does not fit the path: cut, fragmented or dropped, as the path changes under a running mirror.
//!
//! ```text
//! client ─────── tapped ─────── router ─────── sink
//!   numbered     mirror         smaller MTU     receive
//!   packets                     behind it
//! ```

mod over_links;

use api::{DropReason, Stats};
use over_links::*;
use rig::{
    Frame, Generator, Line, Topology, frames_in, root_or_skip, rows, tool_or_skip, wait_until,
};
use std::net::IpAddr;
use std::time::Duration;

/// Headers of a numbered packet: Ethernet, IPv4, UDP.
const HEADERS_BYTES: usize = 14 + 20 + 8;
/// UDP, GENEVE, and tapline's option.
const GENEVE_BYTES: usize = 8 + 8 + 32;
const SMALL_MTU: usize = 1300;
/// A change is seen within a second, on a machine that has time for it.
const SEEN: Duration = Duration::from_secs(2);

fn endpoint(scheme: &str, address: IpAddr, query: &str) -> String {
    match address {
        IpAddr::V4(v4) => format!("{scheme}://{v4}{query}"),
        IpAddr::V6(v6) => format!("{scheme}://[{v6}]{query}"),
    }
}

/// Packets of `payload_bytes`, slowly enough for every machine.
fn packets(payload_bytes: usize, count: u64) -> Generator {
    Generator::new(2_000, count).payload_bytes(payload_bytes).flows(2)
}

fn target(ledger: &Stats) -> (u64, u64, u64, u64) {
    let [target] = &ledger.targets[..] else { panic!("one target: {ledger}") };
    (target.sent, target.cut, target.fragmented, target.drops.get(DropReason::Oversize))
}

/// What a listener at the sink got, once the mirror is at its end.
struct Run {
    ledger: Stats,
    frames: Vec<Frame>,
}

/// Mirrors what `load` sends, with a policy, to the sink by way of its neighbour.
fn run(
    scene: &Scene,
    scheme: &str,
    neighbour: &str,
    is_v4: bool,
    policy: &str,
    load: impl FnOnce(&Tapline),
) -> Run {
    let sink = scene.host("sink");
    let address: IpAddr = if is_v4 { sink.v4(neighbour).into() } else { sink.v6(neighbour).into() };
    let file = scene.path(&format!("{scheme}-{policy}-{is_v4}.pcapng"));
    let listen = endpoint(scheme, address, "?vni=7");
    let receive = scene.start("sink", &["receive", "--listen", &listen, "-w", text(&file)]);
    let words = ["mirror", "-i", "client", "--to", &listen, "--oversize", policy, NUMBERED];
    let mirror = scene.start("tapped", &words);
    load(&mirror);
    let ledger = mirror.stop();
    let what = format!("what was sent is received: {ledger}");
    wait_until(&what, SOON, || receive.ledger().received >= ledger.sent);
    receive.stop();
    Run { ledger, frames: frames_in(&file) }
}

fn lengths(frames: &[Frame], origlen: usize) -> Vec<usize> {
    let of = frames.iter().filter(|frame| frame.origlen as usize == origlen);
    of.map(|frame| frame.bytes.len()).collect()
}

#[test]
fn what_a_lowered_mtu_does_not_let_through_is_cut_and_keeps_its_length() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("lowered");
    let tapped = scene.host("tapped");
    for is_v4 in [true, false] {
        let headers = if is_v4 { 20 } else { 40 } + GENEVE_BYTES;
        let fits = SMALL_MTU - headers - HEADERS_BYTES;
        let Run { ledger, frames } = run(&scene, "geneve", "tapped", is_v4, "auto", |mirror| {
            scene.send(&packets(fits, 100));
            scene.send(&packets(1400, 100));
            mirror.wait_for_matched(200);
            tapped.ip(&format!("link set sink mtu {SMALL_MTU}"));
            std::thread::sleep(SEEN);
            scene.send(&packets(fits, 50));
            scene.send(&packets(fits + 1, 60));
            scene.send(&packets(1400, 70));
            mirror.wait_for_matched(380);
            tapped.ip("link set sink mtu 1500");
            std::thread::sleep(SEEN);
            scene.send(&packets(fits + 1, 80));
        });
        // 1400 is too long for 1500 as well.
        assert_eq!(target(&ledger), (460, 100 + 60 + 70, 0, 0), "{ledger}");
        assert_eq!(ledger.drops.total(), 0, "{ledger}");
        assert_eq!(lengths(&frames, HEADERS_BYTES + fits), vec![HEADERS_BYTES + fits; 150]);
        let (small, full) = (SMALL_MTU - headers, 1500 - headers);
        let whole = small + 1;
        let wanted = [vec![small; 60], vec![whole; 80]].concat();
        assert_eq!(lengths(&frames, whole), wanted);
        let wanted = [vec![full; 100], vec![small; 70]].concat();
        assert_eq!(lengths(&frames, HEADERS_BYTES + 1400), wanted);
    }
}

/// A line with a router, behind which the MTU is smaller. All know how to reach the sink.
fn behind_a_router(name: &str) -> Scene {
    let line: Line = Topology::line(["client", "tapped", "router", "sink"]);
    let scene = Scene::over(name, &line);
    let (tapped, router, sink) = (scene.host("tapped"), scene.host("router"), scene.host("sink"));
    router.ip(&format!("link set sink mtu {SMALL_MTU}"));
    sink.ip(&format!("link set router mtu {SMALL_MTU}"));
    let forward = || {
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{key}"), "1").expect("it is there");
        }
    };
    router.netns.run(forward).expect("it can be entered");
    tapped.ip(&format!("route add 10.71.2.0/24 via {}", router.v4("tapped")));
    tapped.ip(&format!("route add fd71:0:0:2::/64 via {}", router.v6("tapped")));
    sink.ip(&format!("route add 10.71.1.0/24 via {}", router.v4("sink")));
    sink.ip(&format!("route add fd71:0:0:1::/64 via {}", router.v6("sink")));
    scene
}

#[test]
fn what_a_router_does_not_let_through_is_counted_and_then_cut_to_fit() {
    if !root_or_skip() {
        return;
    }
    for is_v4 in [true, false] {
        let scene = behind_a_router("router-cut");
        let Run { ledger, frames } = run(&scene, "geneve", "router", is_v4, "cut", |mirror| {
            scene.send(&packets(1300, 40));
            mirror.wait_for_matched(40);
            std::thread::sleep(SEEN);
            scene.send(&packets(1300, 200));
        });
        let (sent, cut, fragmented, oversize) = target(&ledger);
        // The first ones were too large for the router, which said so of each.
        assert_eq!((sent + oversize, fragmented), (240, 0), "{ledger}");
        assert!((1..=40).contains(&oversize) && cut >= 200, "{ledger}");
        assert_eq!(frames.len() as u64, sent, "{ledger}");
        let headers = if is_v4 { 20 } else { 40 } + GENEVE_BYTES;
        let lengths = lengths(&frames, HEADERS_BYTES + 1300);
        assert_eq!(lengths, vec![SMALL_MTU - headers; sent as usize]);
    }
}

#[test]
fn what_a_router_does_not_let_through_arrives_in_fragments() {
    if !root_or_skip() {
        return;
    }
    for is_v4 in [true, false] {
        let scene = behind_a_router("router-fragment");
        let Run { ledger, frames } = run(&scene, "vxlan", "router", is_v4, "auto", |mirror| {
            scene.send(&packets(1300, 40));
            mirror.wait_for_matched(40);
            std::thread::sleep(SEEN);
            scene.send(&packets(1300, 200));
        });
        let (sent, cut, fragmented, oversize) = target(&ledger);
        assert_eq!((sent + oversize, cut), (240, 0), "{ledger}");
        if is_v4 {
            // The router does it, as it may.
            assert_eq!((fragmented, oversize), (0, 0), "{ledger}");
        } else {
            assert!((1..=40).contains(&oversize) && fragmented >= 200, "{ledger}");
        }
        assert_eq!(frames.len() as u64, sent, "{ledger}");
        assert!(frames.iter().all(|frame| frame.bytes.len() == HEADERS_BYTES + 1300));
    }
}

#[test]
fn a_link_that_is_down_is_counted_and_used_again_when_it_is_back() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("link");
    let sink = scene.host("sink");
    for is_v4 in [true, false] {
        let Run { ledger, frames } = run(&scene, "vxlan", "tapped", is_v4, "drop", |mirror| {
            scene.send(&packets(64, 100));
            mirror.wait_for_matched(100);
            sink.ip("link set tapped down");
            std::thread::sleep(SEEN);
            scene.send(&packets(64, 60));
            mirror.wait_for_matched(160);
            sink.ip("link set tapped up");
            let address = format!("{}/64 dev tapped nodad", sink.v6("tapped"));
            sink.ip(&format!("addr replace {address}"));
            std::thread::sleep(SEEN);
            scene.send(&packets(64, 200));
        });
        let unreachable = ledger.drops.get(DropReason::Unreachable);
        assert_eq!((unreachable, ledger.drops.total(), ledger.sent), (60, 60, 300), "{ledger}");
        assert_eq!(frames.len(), 300);
    }
}

#[test]
fn a_neighbour_that_is_forgotten_is_found_again_without_a_loss() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("neighbour");
    let (tapped, sink) = (scene.host("tapped"), scene.host("sink"));
    for is_v4 in [true, false] {
        let Run { ledger, frames } = run(&scene, "vxlan", "tapped", is_v4, "auto", |mirror| {
            scene.send(&packets(64, 100));
            mirror.wait_for_matched(100);
            let address: IpAddr =
                if is_v4 { sink.v4("tapped").into() } else { sink.v6("tapped").into() };
            tapped.ip(&format!("neigh del {address} dev sink"));
            std::thread::sleep(SEEN);
            for _ in 0..3 {
                // One at a time until it answers: the kernel keeps a few for it meanwhile.
                scene.send(&packets(64, 1));
                std::thread::sleep(Duration::from_millis(500));
            }
            scene.send(&packets(64, 500));
        });
        assert_eq!((ledger.sent, ledger.drops.total()), (603, 0), "{ledger}");
        assert_eq!(frames.len(), 603);
    }
}

#[test]
fn the_class_of_outer_packets_is_as_asked_for() {
    if !root_or_skip() || !tool_or_skip("tcpdump") || !tool_or_skip("tshark") {
        return;
    }
    let scene = Scene::alone("dscp");
    let sink = scene.host("sink");
    let outer = scene.path("outer.pcap");
    let expression = "udp port 4789 or proto 47 or ip6 proto 47";
    let tcpdump = rig::Tcpdump::start(sink, "tapped", &outer, expression);
    // Over UDP as frames, over IP by the raw socket.
    let ends: [IpAddr; 2] = [sink.v4("tapped").into(), sink.v6("tapped").into()];
    let of = |address| [("vxlan", "?vni=7"), ("gretap", "")].map(|(s, q)| endpoint(s, address, q));
    let mut words: Vec<String> =
        ["mirror", "-i", "client", "--dscp", "46"].map(String::from).into();
    for endpoint in ends.into_iter().flat_map(of) {
        words.extend(["--to".into(), endpoint]);
    }
    words.push(NUMBERED.into());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mirror = scene.start("tapped", &words);
    scene.send(&packets(64, 50));
    mirror.wait_for_matched(50);
    tcpdump.stop();
    let ledger = mirror.stop();
    assert_eq!(ledger.drops.total(), 0, "{ledger}");
    let rows = rows(&outer, &[], &["ip.dsfield.dscp", "ipv6.tclass.dscp"]);
    assert!(rows.len() >= 4, "{rows:?}");
    for row in rows {
        // The inner packet's class stands behind the outer one's.
        let outer = if row[1].is_empty() { &row[0] } else { &row[1] };
        assert_eq!(outer.split(',').next(), Some("46"), "{row:?}");
    }
}
