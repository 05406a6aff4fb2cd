//! No packet vanishes: what is in the file is what was sent less what the ledgers say was dropped.
//!
//! ```text
//! client ──────── tapped ──────── sink
//!   numbered      mirror          receive
//!   packets
//! ```
//! Also the links may lose packets, when a CPU's backlog is full; the veths' own counters say how
//! many, and these are the only ones that a ledger need not know.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

use api::{DropReason, Stats};
use rig::{
    Finished, Generator, Host, Running, Scratch, Topology, capture_files, duplicates, frames_in,
    missing, numbers_in, reordered, root_or_skip, stats, wait_until,
};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
const FLOWS: usize = 4;
/// The numbered packets' port; nothing else is tapped.
const PORT: u16 = 9;

/// One test at a time: two loads at once measure only the machine.
static ONE: Mutex<()> = Mutex::new(());

#[test]
fn at_50_kpps_the_file_holds_what_was_sent_less_what_was_dropped() {
    if !root_or_skip("at_50_kpps_the_file_holds_what_was_sent_less_what_was_dropped") {
        return;
    }
    let scene = Scene::new("paced");
    let receive = scene.receive("in.pcapng", 4789, &[]);
    let mirror = scene.mirror(&["--to", "vxlan://10.71.1.2?vni=71"], &[]);
    let sent = scene.send(50_000, 100_000);
    let mirrored = scene.stop(mirror);
    let received = scene.stop_receive(receive, &mirrored);
    let numbers = check_file(&scene.path("in.pcapng"), sent);
    scene.check_balance(sent, numbers, &mirrored, &received);
}

#[test]
fn losses_of_a_small_ring_are_counted_to_the_packet() {
    if !root_or_skip("losses_of_a_small_ring_are_counted_to_the_packet") {
        return;
    }
    let scene = Scene::new("ring");
    let receive = scene.receive("in.pcapng", 4789, &[]);
    let mirror = scene.mirror(&["--to", "vxlan://10.71.1.2?vni=71"], &["-B", "64"]);
    let sent = scene.send_while_paused(&mirror, 50_000);
    let mirrored = scene.stop(mirror);
    let received = scene.stop_receive(receive, &mirrored);
    assert!(mirrored.drops.get(DropReason::KernelRing) > 0, "{mirrored}");
    let numbers = check_file(&scene.path("in.pcapng"), sent);
    scene.check_balance(sent, numbers, &mirrored, &received);
}

#[test]
fn losses_of_a_small_socket_buffer_are_counted_to_the_packet() {
    if !root_or_skip("losses_of_a_small_socket_buffer_are_counted_to_the_packet") {
        return;
    }
    let scene = Scene::new("socket");
    let receive = scene.receive("in.pcapng", 4789, &["-B", "64"]);
    let mirror = scene.mirror(&["--to", "vxlan://10.71.1.2?vni=71"], &[]);
    let sent = scene.send_while_paused(&receive, 50_000);
    let mirrored = scene.stop(mirror);
    let received = scene.stop_receive(receive, &mirrored);
    assert!(received.drops.get(DropReason::KernelSocket) > 0, "{received}");
    let numbers = check_file(&scene.path("in.pcapng"), sent);
    scene.check_balance(sent, numbers, &mirrored, &received);
}

#[test]
fn losses_at_full_rate_are_counted_to_the_packet() {
    if !root_or_skip("losses_at_full_rate_are_counted_to_the_packet") {
        return;
    }
    let scene = Scene::new("flood");
    let receive = scene.receive("in.pcapng", 4789, &["-B", "64"]);
    let mirror = scene.mirror(&["--to", "vxlan://10.71.1.2?vni=71"], &["-B", "64"]);
    let sent = scene.send(0, 200_000);
    let mirrored = scene.stop(mirror);
    let received = scene.stop_receive(receive, &mirrored);
    let lost = mirrored.drops.total() + received.drops.total();
    assert!(lost > 0, "buffers of some hundred packets took a flood: {mirrored}{received}");
    let numbers = check_file(&scene.path("in.pcapng"), sent);
    scene.check_balance(sent, numbers, &mirrored, &received);
}

#[test]
fn a_group_shares_flows_and_a_replicated_file_has_all() {
    if !root_or_skip("a_group_shares_flows_and_a_replicated_file_has_all") {
        return;
    }
    let scene = Scene::new("group");
    let receivers = [4789, 4790].map(|port| scene.receive(&format!("{port}.pcapng"), port, &[]));
    let file = format!("pcap:{}", scene.path("all.pcapng").display());
    let group = "vxlan://10.71.1.2?vni=1,vxlan://10.71.1.2:4790?vni=1";
    let mirror = scene.mirror(&["--to", group, "--to", &file], &[]);
    let generator = Generator::new(30_000, 60_000).flows(32);
    let sent = scene.generate(&generator);
    let mirrored = scene.stop(mirror);
    assert_eq!(mirrored.targets.len(), 3);
    let [first, second, all] = &mirrored.targets[..] else { panic!("{mirrored}") };
    assert_eq!(first.matched + second.matched, mirrored.matched);
    assert_eq!(all.matched, mirrored.matched);

    // The replicated file lacks only what the ring lost, whatever became of the group's packets.
    let in_all = check_file(&scene.path("all.pcapng"), sent);
    assert_eq!(in_all + tap_drops(&mirrored) + scene.lost_before_tap(), sent, "{mirrored}");
    assert_eq!(all.sent, in_all);

    let mut ports_of = Vec::new();
    let mut in_group = 0;
    for (receive, target) in receivers.into_iter().zip([first, second]) {
        let path = receive.path.clone();
        let received = scene.stop_receive_of(receive, target.sent);
        in_group += check_file(&path, sent) + received.drops.total();
        ports_of.push(source_ports(&path));
    }
    assert_eq!(in_group + scene.lost_behind_tap(), first.sent + second.sent, "{mirrored}");
    assert!(ports_of.iter().all(|ports| !ports.is_empty()), "one target has every flow");
    assert!(ports_of[0].iter().all(|port| !ports_of[1].contains(port)), "{ports_of:?}");
    assert_eq!(ports_of[0].len() + ports_of[1].len(), 32);
}

#[test]
fn rotation_under_load_loses_nothing() {
    if !root_or_skip("rotation_under_load_loses_nothing") {
        return;
    }
    let scene = Scene::new("rotation");
    let archive = scene.path("archive");
    let words =
        ["receive", "--listen", "vxlan://10.71.1.2", "--archive", archive.to_str().unwrap()];
    let receive =
        scene.start("sink", &[&words[..], &["-C", "300KiB", "-G", "1"]].concat(), archive.clone());
    let mirror = scene.mirror(&["--to", "vxlan://10.71.1.2?vni=71"], &[]);
    let sent = scene.send(20_000, 40_000);
    let mirrored = scene.stop(mirror);
    let received = scene.stop_receive(receive, &mirrored);
    let files = capture_files(&archive);
    assert!(files.len() > 10, "{files:?}");
    assert!(files.iter().all(|file| std::fs::metadata(file).unwrap().len() <= 310 << 10));
    // In the order of their names, which is that of time.
    let numbers: Vec<u64> = files.iter().flat_map(numbers_in).collect();
    assert_eq!((duplicates(&numbers), reordered(&numbers)), (vec![], vec![]));
    scene.check_balance(sent, numbers.len() as u64, &mirrored, &received);
}

#[test]
fn capture_to_a_file_counts_what_a_small_ring_loses() {
    if !root_or_skip("capture_to_a_file_counts_what_a_small_ring_loses") {
        return;
    }
    let scene = Scene::new("capture");
    let path = scene.path("capture.pcapng");
    let capture = scene.start(
        "tapped",
        &["capture", "-i", "client", "-B", "64", "-w", path.to_str().unwrap(), "udp port 9"],
        path.clone(),
    );
    let sent = scene.send_while_paused(&capture, 50_000);
    let captured = scene.stop(capture);
    let in_file = check_file(&path, sent);
    assert!(captured.drops.get(DropReason::KernelRing) > 0, "{captured}");
    assert_eq!(in_file, captured.written);
    assert_eq!(in_file + captured.drops.total() + scene.lost_before_tap(), sent, "{captured}");
}

struct Scene {
    net: Topology,
    scratch: Scratch,
    /// Takes the packets at the tapped host, so that no ICMP answers them.
    _listener: UdpSocket,
    _alone: MutexGuard<'static, ()>,
}

/// A running tapline.
struct Tapline {
    running: Running,
    /// Its capture file, if it writes one.
    path: PathBuf,
    ledger: PathBuf,
}

impl Scene {
    fn new(name: &str) -> Scene {
        // A test that failed has left nothing that disturbs the next one.
        let alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let net = Topology::line(["client", "tapped", "sink"]).build();
        let tapped = net.host("tapped");
        let bind = || UdpSocket::bind((tapped.v4("client"), PORT)).unwrap();
        let listener = tapped.netns.run(bind).unwrap();
        let scratch = Scratch::new(&format!("loss-{name}"));
        Scene { net, scratch, _listener: listener, _alone: alone }
    }

    fn host(&self, name: &str) -> &Host {
        self.net.host(name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    fn start(&self, host: &str, words: &[&str], path: PathBuf) -> Tapline {
        let ledger = self.path(&format!(
            "{}-{}.json",
            words[0],
            path.file_name().map_or_else(Default::default, |n| n.to_string_lossy())
        ));
        let mut command = self.host(host).netns.command(env!("CARGO_BIN_EXE_tapline"));
        command.args(&words[..1]).arg("--stats-json").arg(&ledger).args(&words[1..]);
        let running = Running::start(&mut command);
        running.wait_for("listening on", SOON);
        Tapline { running, path, ledger }
    }

    fn receive(&self, file: &str, port: u16, more: &[&str]) -> Tapline {
        let (path, listen) = (self.path(file), format!("vxlan://10.71.1.2:{port}"));
        let mut words = vec!["receive", "--listen", &listen, "-w", path.to_str().unwrap()];
        words.extend(more);
        self.start("sink", &words, path.clone())
    }

    fn mirror(&self, to: &[&str], more: &[&str]) -> Tapline {
        let mut words = vec!["mirror", "-i", "client"];
        words.extend(to);
        words.extend(more);
        words.push("udp port 9");
        self.start("tapped", &words, PathBuf::new())
    }

    /// Sends numbered packets and gives their number.
    fn send(&self, pps: u64, count: u64) -> u64 {
        self.generate(&Generator::new(pps, count).flows(FLOWS))
    }

    fn generate(&self, generator: &Generator) -> u64 {
        let to = (self.host("tapped").v4("client"), PORT).into();
        generator.run_in(&self.host("client").netns, to).accepted
    }

    /// Sends numbered packets while a program stands still for a part of the time.
    fn send_while_paused(&self, program: &Tapline, count: u64) -> u64 {
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| self.send(50_000, count));
            std::thread::sleep(Duration::from_millis(100));
            program.running.signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(400));
            program.running.signal(Signal::CONT);
            sending.join().unwrap()
        })
    }

    /// Packets that the link into the tapped host lost.
    fn lost_before_tap(&self) -> u64 {
        self.host("client").counter("tapped", "tx", "dropped")
    }

    /// Packets that the link to the sink lost.
    fn lost_behind_tap(&self) -> u64 {
        self.host("tapped").counter("sink", "tx", "dropped")
    }

    /// Stops a program; its ledger must balance.
    fn stop(&self, tapline: Tapline) -> Stats {
        let Finished { status, stderr, .. } = tapline.running.stop(SOON);
        assert!(status.success(), "{status}: {stderr}");
        let ledger = stats(&tapline.ledger);
        assert_eq!(ledger.unaccounted, 0, "{stderr}");
        for line in stderr.lines().filter(|line| line.contains("received") || line.contains("seen"))
        {
            assert!(line.ends_with(", 0 unaccounted"), "{line}");
        }
        eprint!("{stderr}");
        ledger
    }

    fn stop_receive(&self, receive: Tapline, mirrored: &Stats) -> Stats {
        self.stop_receive_of(receive, mirrored.sent)
    }

    /// Stops a receiver once it has got all that was sent to it.
    fn stop_receive_of(&self, receive: Tapline, sent: u64) -> Stats {
        let end = Instant::now() + SOON;
        wait_until("all that was sent is received or counted as lost", SOON * 2, || {
            let ledger = receive.running.ledger(&receive.ledger, SOON);
            assert_eq!(ledger.unaccounted, 0, "while it runs: {ledger}");
            // The kernel's drops stand in `received` too, as what a listener lost.
            ledger.received + self.lost_behind_tap() >= sent || Instant::now() > end
        });
        self.stop(receive)
    }

    /// found = sent − Σ counted drops, and each ledger says so of its own part.
    fn check_balance(&self, sent: u64, found: u64, mirrored: &Stats, received: &Stats) {
        let (before, behind) = (self.lost_before_tap(), self.lost_behind_tap());
        eprintln!("sent {sent}, found {found}, lost by the links {before} and {behind}");
        assert_eq!(mirrored.matched + tap_drops(mirrored) + before, sent, "{mirrored}");
        assert_eq!(received.received + behind, mirrored.sent, "{mirrored}{received}");
        let counted = mirrored.drops.total() + received.drops.total();
        assert_eq!(found, sent - counted - before - behind, "{mirrored}{received}");
        assert_eq!(found, received.written);
    }
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
    let ports = |frame: &rig::Frame| u16::from_be_bytes([frame.bytes[34], frame.bytes[35]]);
    let mut ports: Vec<u16> = frames_in(path).iter().map(ports).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}
