//! No packet vanishes: what is in the file is what was sent less what the ledgers say was dropped.
//!
//! The links may lose packets too, when a CPU's backlog is full; the veths' own counters say how
//! many, and these are the only ones that a ledger need not know.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_links;

use api::{DropReason, Stats};
use over_links::*;
use rig::{
    Frame, Generator, capture_files, duplicates, frames_in, missing, numbers_in, reordered,
    root_or_skip, wait_until,
};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const MIRROR: &[&str] = &["mirror", "-i", "client", "--to", "vxlan://10.71.1.2?vni=71"];
/// A ring or a socket buffer of some hundred packets.
const SMALL: &[&str] = &["-B", "64"];
const DEFAULT: &[&str] = &[];

#[test]
fn at_50_kpps_the_file_holds_what_was_sent_less_what_was_dropped() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("loss-paced");
    carry(&scene, DEFAULT, DEFAULT, |_, _| send(&scene, 50_000, 100_000));
}

#[test]
fn losses_of_a_small_ring_are_counted_to_the_packet() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("loss-ring");
    let (mirrored, _) =
        carry(&scene, SMALL, DEFAULT, |mirror, _| send_while_paused(&scene, mirror));
    assert!(mirrored.drops.get(DropReason::KernelRing) > 0, "{mirrored}");
}

#[test]
fn losses_of_a_small_socket_buffer_are_counted_to_the_packet() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("loss-socket");
    let small = [SMALL, &["--datapath", "socket"]].concat();
    let (_, received) =
        carry(&scene, DEFAULT, &small, |_, receive| send_while_paused(&scene, receive));
    assert!(received.drops.get(DropReason::KernelSocket) > 0, "{received}");
}

#[test]
fn losses_of_a_small_receiving_ring_are_counted_to_the_packet() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("loss-receiving-ring");
    let (_, received) =
        carry(&scene, DEFAULT, SMALL, |_, receive| send_while_paused(&scene, receive));
    assert!(received.drops.get(DropReason::KernelRing) > 0, "{received}");
}

#[test]
fn losses_at_full_rate_are_counted_to_the_packet() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("loss-flood");
    let (mirrored, received) = carry(&scene, SMALL, SMALL, |_, _| send(&scene, 0, 200_000));
    let lost = mirrored.drops.total() + received.drops.total();
    assert!(lost > 0, "buffers of some hundred packets took a flood: {mirrored}{received}");
}

#[test]
fn a_group_shares_flows_and_a_replicated_file_has_all() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("loss-group");
    let receivers = [4789, 4790].map(|port| {
        let path = scene.path(&format!("{port}.pcapng"));
        (start_receive(&scene, &path, port, DEFAULT), path)
    });
    let file = format!("pcap:{}", scene.path("all.pcapng").display());
    let group = "vxlan://10.71.1.2?vni=1,vxlan://10.71.1.2:4790?vni=1";
    let words = ["mirror", "-i", "client", "--to", group, "--to", &file, NUMBERED];
    let mirror = scene.start("tapped", &words);
    let sent = scene.send(&Generator::new(30_000, 60_000).flows(32));
    let mirrored = mirror.stop();
    assert_eq!(mirrored.targets.len(), 3);
    let [first, second, all] = &mirrored.targets[..] else { panic!("{mirrored}") };
    assert_eq!(first.matched + second.matched, mirrored.matched);
    assert_eq!(all.matched, mirrored.matched);

    // The replicated file lacks only what the ring lost, whatever became of the group's packets.
    let in_all = check_file(&scene.path("all.pcapng"), sent);
    assert_eq!(in_all + tap_drops(&mirrored) + lost_before_tap(&scene), sent, "{mirrored}");
    assert_eq!(all.sent, in_all);

    let mut ports_of = Vec::new();
    let mut in_group = 0;
    for ((receive, path), target) in receivers.into_iter().zip([first, second]) {
        let received = stop_receive(&scene, receive, target.sent);
        in_group += check_file(&path, sent) + received.drops.total();
        ports_of.push(source_ports(&path));
    }
    assert_eq!(in_group + lost_behind_tap(&scene), first.sent + second.sent, "{mirrored}");
    assert!(ports_of.iter().all(|ports| !ports.is_empty()), "one target has every flow");
    assert!(ports_of[0].iter().all(|port| !ports_of[1].contains(port)), "{ports_of:?}");
    assert_eq!(ports_of[0].len() + ports_of[1].len(), 32);
}

#[test]
fn rotation_under_load_loses_nothing() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("loss-rotation");
    let archive = scene.path("archive");
    let words = ["receive", "--listen", "vxlan://10.71.1.2", "--archive", text(&archive)];
    let receive = scene.start("sink", &[&words[..], &["-C", "300KiB", "-G", "1"]].concat());
    let mirror = scene.start("tapped", &[MIRROR, &[NUMBERED]].concat());
    let sent = send(&scene, 20_000, 40_000);
    let mirrored = mirror.stop();
    let received = stop_receive(&scene, receive, mirrored.sent);
    let files = capture_files(&archive);
    assert!(files.len() > 10, "{files:?}");
    assert!(files.iter().all(|file| std::fs::metadata(file).unwrap().len() <= 310 << 10));
    // In the order of their names, which is that of time.
    let numbers: Vec<u64> = files.iter().flat_map(numbers_in).collect();
    assert_eq!((duplicates(&numbers), reordered(&numbers)), (vec![], vec![]));
    check_balance(&scene, sent, numbers.len() as u64, &mirrored, &received);
}

#[test]
fn capture_to_a_file_counts_what_a_small_ring_loses() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("loss-capture");
    let path = scene.path("capture.pcapng");
    let words = ["capture", "-i", "client", "-w", text(&path)];
    let capture = scene.start("tapped", &[&words, SMALL, &[NUMBERED]].concat());
    let sent = send_while_paused(&scene, &capture);
    let captured = capture.stop();
    let in_file = check_file(&path, sent);
    assert!(captured.drops.get(DropReason::KernelRing) > 0, "{captured}");
    assert_eq!(in_file, captured.written);
    assert_eq!(in_file + captured.drops.total() + lost_before_tap(&scene), sent, "{captured}");
}

/// Mirrors what is sent into a receiver's file, with more arguments for either; checks that
/// everything is in the file or counted, and gives the ledgers of `mirror` and `receive`.
fn carry(
    scene: &Scene,
    for_mirror: &[&str],
    for_receive: &[&str],
    send: impl FnOnce(&Tapline, &Tapline) -> u64,
) -> (Stats, Stats) {
    let file = scene.path("in.pcapng");
    let receive = start_receive(scene, &file, 4789, for_receive);
    let mirror = scene.start("tapped", &[MIRROR, for_mirror, &[NUMBERED]].concat());
    let sent = send(&mirror, &receive);
    let mirrored = mirror.stop();
    let received = stop_receive(scene, receive, mirrored.sent);
    let found = check_file(&file, sent);
    check_balance(scene, sent, found, &mirrored, &received);
    (mirrored, received)
}

fn start_receive(scene: &Scene, file: &Path, port: u16, more: &[&str]) -> Tapline {
    let listen = format!("vxlan://10.71.1.2:{port}");
    let words = ["receive", "--listen", &listen, "-w", text(file)];
    scene.start("sink", &[&words, more].concat())
}

/// Sends numbered packets of four flows, and gives their number.
fn send(scene: &Scene, pps: u64, count: u64) -> u64 {
    scene.send(&Generator::new(pps, count).flows(4))
}

/// Sends a second of numbered packets, for a part of which a program stands still.
fn send_while_paused(scene: &Scene, program: &Tapline) -> u64 {
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(scene, 50_000, 50_000));
        std::thread::sleep(Duration::from_millis(100));
        program.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(400));
        program.signal(Signal::CONT);
        sending.join().unwrap()
    })
}

/// Packets that the link into the tapped host lost.
fn lost_before_tap(scene: &Scene) -> u64 {
    scene.host("client").counter("tapped", "tx", "dropped")
}

/// Packets that the link to the sink lost.
fn lost_behind_tap(scene: &Scene) -> u64 {
    scene.host("tapped").counter("sink", "tx", "dropped")
}

/// Stops a receiver once it has got all that was sent to it.
fn stop_receive(scene: &Scene, receive: Tapline, sent: u64) -> Stats {
    let end = Instant::now() + SOON;
    wait_until("all that was sent is received or counted as lost", SOON * 2, || {
        // The kernel's drops stand in `received` too, as what a listener lost.
        receive.ledger().received + lost_behind_tap(scene) >= sent || Instant::now() > end
    });
    receive.stop()
}

/// found = sent − Σ counted drops, and each ledger says so of its own part.
fn check_balance(scene: &Scene, sent: u64, found: u64, mirrored: &Stats, received: &Stats) {
    let (before, behind) = (lost_before_tap(scene), lost_behind_tap(scene));
    eprintln!("sent {sent}, found {found}, lost by the links {before} and {behind}");
    eprint!("{mirrored}{received}");
    assert_eq!(mirrored.matched + tap_drops(mirrored) + before, sent, "{mirrored}");
    assert_eq!(received.received + behind, mirrored.sent, "{mirrored}{received}");
    let counted = mirrored.drops.total() + received.drops.total();
    assert_eq!(found, sent - counted - before - behind, "{mirrored}{received}");
    assert_eq!(found, received.written);
}

/// What was dropped before the filter.
fn tap_drops(mirrored: &Stats) -> u64 {
    mirrored.taps.iter().map(|tap| tap.drops.total()).sum()
}

/// Every number of a file is there once, and each flow's in order; gives how many there are.
fn check_file(path: &Path, sent: u64) -> u64 {
    let numbers = numbers_in(path);
    assert_eq!(duplicates(&numbers), [0; 0]);
    assert_eq!(numbers.len(), frames_in(path).len(), "packets without a number");
    assert_eq!(numbers.len() + missing(&numbers, sent).len(), sent as usize, "numbers not sent");
    let mut last = BTreeMap::new();
    for number in &numbers {
        // 32 flows are 4 flows of 8 each: with either number of flows a flow's numbers go up.
        let before = last.insert(number % 32, number);
        assert!(before.is_none_or(|before| before < number), "{number} behind {before:?}");
    }
    numbers.len() as u64
}

/// The UDP source ports of a file's packets, each once: the flows.
fn source_ports(path: &Path) -> Vec<u16> {
    let ports = |frame: &Frame| u16::from_be_bytes([frame.bytes[34], frame.bytes[35]]);
    let mut ports: Vec<u16> = frames_in(path).iter().map(ports).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}
