//! A target that is stopped, or whose link is down, costs the others nothing, and its counters say
//! exactly what it missed.

mod over_links;

use api::{DropReason, TargetStats};
use over_links::*;
use rig::{
    Generator, Running, Tcpdump, duplicates, missing, numbers_in, reordered, root_or_skip,
    tool_or_skip,
};
use rustix::process::Signal;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const PPS: u64 = 20_000;
/// Four seconds of them.
const PACKETS: u64 = 4 * PPS;

/// Links of the tapped host's own: what goes out through `outN` comes in through `inN`.
fn links(scene: &Scene, numbers: &[u32]) {
    for n in numbers {
        let host = scene.host("tapped");
        host.ip(&format!("link add out{n} type veth peer name in{n}"));
        host.ip(&format!("link set out{n} up"));
        host.ip(&format!("link set in{n} up"));
    }
}

/// Sends for four seconds, and does something from the second one to the fourth.
fn disturbed(scene: &Scene, begin: impl FnOnce(), end: impl FnOnce()) -> u64 {
    thread::scope(|scope| {
        let load = scope.spawn(|| scene.send(&Generator::new(PPS, PACKETS).flows(4)));
        thread::sleep(Duration::from_secs(1));
        begin();
        thread::sleep(Duration::from_secs(2));
        end();
        load.join().expect("it sends")
    })
}

/// Asserts that a capture has all packets, once, in order.
fn assert_undisturbed(numbers: &[u64], sent: u64) {
    assert_eq!(missing(numbers, sent), [0; 0]);
    assert_eq!((duplicates(numbers), reordered(numbers)), (vec![], vec![]));
}

/// Asserts that what a target dropped is what its far end misses.
fn assert_gap(line: &TargetStats, numbers: &[u64], sent: u64) {
    let gap = missing(numbers, sent).len() as u64;
    assert!(gap > 0, "nothing was disturbed: {line}");
    assert_eq!((line.matched, line.drops.total()), (sent, gap), "{line}");
    assert_eq!((duplicates(numbers), reordered(numbers)), (vec![], vec![]), "{line}");
}

#[test]
fn a_link_that_is_down_costs_its_own_target_only() {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::alone("broker-link-down");
    links(&scene, &[1, 2]);
    let to = ["--out", "nic:out1", "--out", "nic:out2"];
    let words = ["broker", "--in", "nic:client,direction=in"];
    let broker = scene.start("tapped", &[&words[..], &to, &["udp", "port", "9"]].concat());
    let host = scene.host("tapped");
    let paths = [1, 2].map(|n| scene.path(&format!("in{n}.pcap")));
    let [one, two] =
        [1, 2].map(|n| Tcpdump::start(host, &format!("in{n}"), &paths[n - 1], NUMBERED));
    let set = |state: &str| drop(host.ip(&format!("link set out2 {state}")));
    let sent = disturbed(&scene, || set("down"), || set("up"));
    broker.wait_for_matched(sent);
    one.stop();
    two.stop();
    let ledger = broker.stop();
    assert_undisturbed(&numbers_in(&paths[0]), sent);
    assert_eq!((ledger.targets[0].sent, ledger.targets[0].drops.total()), (sent, 0), "{ledger}");
    assert_gap(&ledger.targets[1], &numbers_in(&paths[1]), sent);
}

#[test]
fn a_reader_that_is_stopped_costs_its_own_target_only() {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return;
    }
    for overflow in ["drop_oldest", "drop_newest"] {
        let scene = Scene::alone(&format!("broker-stopped-{overflow}"));
        links(&scene, &[1]);
        let (fifo, copy) = (scene.path("fifo.pcapng"), scene.path("copy.pcapng"));
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("coreutils").success());
        let read = format!("cat {} >{}", text(&fifo), text(&copy));
        let reader = Running::start(Command::new("sh").args(["-c", &format!("exec {read}")]));
        let pipe = format!("pcap:{}", text(&fifo));
        let words = ["broker", "--in", "nic:client,direction=in", "--queue", "200kB"];
        let to = ["--overflow", overflow, "--out", "nic:out1", "--out", &pipe];
        let broker = scene.start("tapped", &[&words[..], &to, &["udp", "port", "9"]].concat());
        let path = scene.path("in1.pcap");
        let tcpdump = Tcpdump::start(scene.host("tapped"), "in1", &path, NUMBERED);
        let begun = Instant::now();
        let sent =
            disturbed(&scene, || reader.signal(Signal::STOP), || reader.signal(Signal::CONT));
        assert!(begun.elapsed() >= Duration::from_secs(3), "it was a load");
        broker.wait_for_matched(sent);
        tcpdump.stop();
        let ledger = broker.stop();
        reader.finish(SOON);
        assert_undisturbed(&numbers_in(&path), sent);
        assert_eq!(ledger.targets[0].drops.total(), 0, "{ledger}");
        let line = &ledger.targets[1];
        assert_gap(line, &numbers_in(&copy), sent);
        assert_eq!(line.drops.get(DropReason::QueueFull), line.drops.total(), "{line}");
    }
}
