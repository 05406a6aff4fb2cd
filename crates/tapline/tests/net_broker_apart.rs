//! A broker's targets stand apart: one whose reader stops, leaves or comes back, or whose link goes down,
//! costs the others nothing, and what it missed is counted to the packet.

mod over_links;

use api::{DropReason, TargetStats};
use over_links::*;
use rig::{
    Generator, Running, Tcpdump, duplicates, missing, numbers_in, reordered, root_or_skip,
    tool_or_skip, wait_until,
};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// 10 MB/s: more than a pipe, a thread and a small queue hold, in a second.
const LOAD: Generator = Generator { pps: 10_000, count: 40_000, payload_bytes: 900, flows: 4 };
/// Packets that a target must have lost before it may go on.
const LOST: u64 = 1000;

/// Gives the tapped host a link of its own.
fn link(scene: &Scene, out: &str, into: &str) {
    let host = scene.host("tapped");
    for words in [
        &format!("link add {out} type veth peer name {into}"),
        &format!("link set {out} up"),
        &format!("link set {into} up"),
    ] {
        host.ip(words);
    }
}

fn fifo(scene: &Scene) -> PathBuf {
    let path = scene.path("pipe.pcapng");
    assert!(Command::new("mkfifo").arg(&path).status().expect("coreutils").success());
    path
}

/// Starts a broker between the client and two targets with small queues.
fn start(scene: &Scene, targets: [&str; 2]) -> Tapline {
    start_with(scene, targets, "drop_oldest")
}

fn start_with(scene: &Scene, targets: [&str; 2], overflow: &str) -> Tapline {
    let [first, second] = targets;
    let words = ["broker", "--in", "nic:client", "--out", first, "--out", second];
    let queue = ["--queue", "1MiB", "--overflow", overflow];
    scene.start("tapped", &[&words[..], &queue, &[NUMBERED]].concat())
}

/// What the second target has lost so far.
fn lost(broker: &Tapline) -> u64 {
    broker.ledger().targets[1].drops.total()
}

/// Asserts that a target saw each number once and in order, but for those that it counts as lost.
fn assert_counted(numbers: &[u64], sent: u64, line: &TargetStats) {
    assert_eq!((duplicates(numbers), reordered(numbers)), (vec![], vec![]), "{line}");
    assert_eq!((line.matched, line.queued), (sent, 0), "{line}");
    assert_eq!(missing(numbers, sent).len() as u64, line.drops.total(), "{line}");
    assert_eq!(line.sent, numbers.len() as u64, "{line}");
}

/// What a program that read a capture printed, as a file's numbers.
fn numbers_of(reader: Running, file: &Path) -> Vec<u64> {
    std::fs::write(file, reader.finish(SOON).stdout).expect("the folder is there");
    assert_is_whole(file);
    numbers_in(file)
}

#[test]
fn a_reader_that_stops_costs_its_own_target_only() {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return;
    }
    for overflow in ["drop_oldest", "drop_newest"] {
        let scene = Scene::alone(&format!("broker-reader-{overflow}"));
        link(&scene, "out", "in");
        let (pipe, seen) = (fifo(&scene), scene.path("seen.pcap"));
        let to = format!("pcap:{}", text(&pipe));
        let broker = start_with(&scene, ["nic:out", &to], overflow);
        let reader = Running::start(Command::new("cat").arg(&pipe));
        broker.wait_for("has a reader");
        let tcpdump = Tcpdump::start(scene.host("tapped"), "in", &seen, NUMBERED);
        reader.signal(Signal::STOP);
        let sent = thread::scope(|scope| {
            let load = scope.spawn(|| scene.send(&LOAD));
            wait_until("the pipe's target loses packets", SOON, || lost(&broker) > LOST);
            reader.signal(Signal::CONT);
            load.join().expect("it sends")
        });
        broker.wait_for_matched(sent);
        wait_until("all is read", SOON, || broker.ledger().targets[1].queued == 0);
        tcpdump.stop();
        let ledger = broker.stop();
        let [first, second] = &ledger.targets[..] else { panic!("two targets: {ledger}") };
        assert_counted(&numbers_in(&seen), sent, first);
        assert_eq!(first.drops.total(), 0, "{ledger}");
        assert_counted(&numbers_of(reader, &scene.path("read.pcapng")), sent, second);
        assert_eq!(second.drops.get(DropReason::QueueFull), second.drops.total(), "{ledger}");
    }
}

#[test]
fn a_reader_may_leave_and_another_one_gets_a_capture_of_its_own() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("broker-leaves");
    link(&scene, "out", "in");
    let pipe = fifo(&scene);
    let broker = start(&scene, ["nic:out", &format!("pcap:{}", text(&pipe))]);
    let some = Generator::new(10_000, 1000);
    let (mut sent, mut read) = (0, 0);
    for round in 0..2 {
        // Nobody reads.
        let before = lost(&broker);
        sent += scene.send(&some);
        wait_until("what nobody reads is counted", SOON, || {
            let line = broker.ledger().targets[1].clone();
            (line.matched, line.queued) == (sent, 0) && lost(&broker) == before + some.count
        });
        let reader = Running::start(Command::new("cat").arg(&pipe));
        broker.wait_for("has a reader");
        sent += scene.send(&some);
        read += some.count;
        wait_until("what is read is sent", SOON, || broker.ledger().targets[1].sent == read);
        if round == 0 {
            reader.signal(Signal::TERM);
            reader.finish(SOON);
            broker.wait_for("its reader has gone");
        } else {
            let ledger = broker.stop();
            let [first, second] = &ledger.targets[..] else { panic!("two targets: {ledger}") };
            assert_eq!((first.sent, second.sent), (sent, read), "{ledger}");
            let unread = second.drops.get(DropReason::Unreachable);
            assert_eq!((unread, second.drops.total()), (sent - read, sent - read), "{ledger}");
            let numbers = numbers_of(reader, &scene.path("read.pcapng"));
            assert_eq!(numbers, (0..some.count).collect::<Vec<_>>());
            return;
        }
    }
}

#[test]
fn a_link_that_is_down_costs_its_own_target_only() {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::alone("broker-link");
    link(&scene, "out", "in");
    link(&scene, "out2", "in2");
    let broker = start(&scene, ["nic:out", "nic:out2"]);
    let tapped = scene.host("tapped");
    let files = ["in", "in2"].map(|name| (name, scene.path(&format!("{name}.pcap"))));
    let tcpdumps =
        files.each_ref().map(|(name, file)| Tcpdump::start(tapped, name, file, NUMBERED));
    let sent = thread::scope(|scope| {
        let load = scope.spawn(|| scene.send(&LOAD));
        broker.wait_for_matched(2000);
        tapped.ip("link set out2 down");
        wait_until("the target that is down loses packets", SOON, || lost(&broker) > LOST);
        tapped.ip("link set out2 up");
        broker.wait_for("is up again");
        load.join().expect("it sends")
    });
    broker.wait_for_matched(sent);
    tcpdumps.into_iter().for_each(|tcpdump| drop(tcpdump.stop()));
    let ledger = broker.stop();
    let [first, second] = &ledger.targets[..] else { panic!("two targets: {ledger}") };
    let [numbers, numbers_with_gap] = files.map(|(_, file)| numbers_in(file));
    assert_counted(&numbers, sent, first);
    assert_eq!(first.drops.total(), 0, "{ledger}");
    // In the very call during which the link went down, the kernel may have taken frames and swallowed
    // them: of at most one call.
    let swallowed = second.sent - numbers_with_gap.len() as u64;
    assert!(swallowed <= 64, "{swallowed}: {ledger}");
    let gap = missing(&numbers_with_gap, sent).len() as u64;
    assert_eq!((second.matched, gap), (sent, second.drops.total() + swallowed), "{ledger}");
    assert_eq!(duplicates(&numbers_with_gap), [0; 0], "{ledger}");
    assert_eq!(reordered(&numbers_with_gap), [0; 0], "{ledger}");
    assert!(second.drops.get(DropReason::Unreachable) > LOST, "{ledger}");
    assert_eq!(second.sent_bytes, second.sent * (14 + 20 + 8 + 900), "{ledger}");
}

#[test]
fn a_file_is_played_at_its_times_or_so_many_times_as_fast() {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::alone("broker-play");
    link(&scene, "out", "in");
    let file = scene.path("file.pcapng");
    let capture = scene.start("tapped", &["capture", "-i", "client", "-w", text(&file), NUMBERED]);
    let some = Generator::new(200, 200);
    assert_eq!(scene.send(&some), some.count);
    capture.wait_for_matched(some.count);
    capture.stop();
    let times = |path: &Path| -> Vec<u64> {
        rig::frames_in(path).iter().map(|frame| frame.ts_ns).collect()
    };
    let span = |times: &[u64]| times[times.len() - 1] - times[0];
    let recorded = span(&times(&file));
    for speed in [1, 4] {
        let seen = scene.path(&format!("seen-{speed}.pcap"));
        let tcpdump = Tcpdump::start(scene.host("tapped"), "in", &seen, NUMBERED);
        let source = format!("pcap:{},speed=x{speed}", text(&file));
        let mut broker = scene.host("tapped").netns.command(BINARY);
        let broker = broker.args(["broker", "--in", &source, "--out", "nic:out"]);
        let finished = Running::start(broker).finish(3 * SOON);
        assert!(finished.status.success(), "{}", finished.stderr);
        tcpdump.stop();
        assert_eq!(numbers_in(&seen), (0..some.count).collect::<Vec<_>>());
        // The first one may be late, and what follows is not.
        let (played, due) = (span(&times(&seen)), recorded / speed);
        assert!(played > due / 2, "{played} ns for {due} ns at {speed} times the speed");
    }
}
