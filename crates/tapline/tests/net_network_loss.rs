//! What the network between a tap and its sink loses, doubles and swaps is told apart and counted, to
//! the packet, by the numbers in tapline's GENEVE option.
//!
//! ```text
//! mirror -r ──geneve──▶ forwarder ──geneve──▶ receive          all on loopback
//!                       loses some, doubles some, swaps some
//! ```

mod over_loopback;

use api::{NetworkStats, SourceStats, Stats};
use over_loopback::{BINARY, SOON, free_port};
use rig::{Finished, Running, Scratch, root_or_skip, rows, tool_or_skip, wait_until};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const FRAME_BYTES: usize = 500;
/// Holds all packets of a file, as the forwarder may get no time for a while.
const BUFFER_BYTES: usize = 64 << 20;

/// What becomes of a packet on the way.
#[derive(Clone, Copy)]
enum Fate {
    Passes,
    IsLost,
    Doubles,
    /// The next one overtakes it.
    Waits,
}

/// Stands for the number of a message without a packet.
const WORD: u32 = u32::MAX;

/// A hop that treats each packet by its VNI and number.
struct Forwarder {
    port: u16,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    fn start(to: u16, fate: impl Fn(u32, u32) -> Fate + Send + 'static) -> Forwarder {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
        set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES).expect("root may");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a time");
        let port = socket.local_addr().expect("it is bound").port();
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let forward = move || {
            let (mut buffer, mut waiting) = ([0; 2048], Vec::new());
            let send = |bytes: &[u8]| {
                socket.send_to(bytes, ("127.0.0.1", to)).expect("it is sent");
            };
            while !until.load(Ordering::Relaxed) {
                let Ok(len) = socket.recv(&mut buffer) else { continue };
                let packet = &buffer[..len];
                match fate_of(packet, &fate) {
                    Fate::IsLost => continue,
                    Fate::Waits => {
                        waiting = packet.to_vec();
                        continue;
                    }
                    Fate::Doubles => send(packet),
                    Fate::Passes => {}
                }
                send(packet);
                if !waiting.is_empty() {
                    send(&std::mem::take(&mut waiting));
                }
            }
        };
        Forwarder { port, ended, thread: Some(std::thread::spawn(forward)) }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let ended = self.thread.take().expect("taken here only").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the forwarder fails");
    }
}

/// The VNI and the number stand at fixed places in what tapline sends.
fn fate_of(packet: &[u8], fate: impl Fn(u32, u32) -> Fate) -> Fate {
    let word = |at: usize| u32::from_be_bytes(*packet[at..].first_chunk().expect("4 bytes"));
    match packet[1] & 0x80 {
        0 => fate(word(4) >> 8, word(24)),
        _ => fate(word(4) >> 8, WORD),
    }
}

/// A receiver of GENEVE, its port and its file.
struct Receiver {
    running: Running,
    port: u16,
    ledger: PathBuf,
}

impl Receiver {
    fn start(scratch: &Scratch, words: &[&str]) -> Receiver {
        let (port, ledger) = (free_port(), scratch.path("receive.json"));
        let mut command = Command::new(BINARY);
        command.args(["receive", "--listen", &format!("geneve://127.0.0.1:{port}")]);
        let running = Running::start(command.arg("--stats-json").arg(&ledger).args(words));
        running.wait_for("listening on", SOON);
        Receiver { running, port, ledger }
    }

    /// Waits until a source's line is as wanted, and the ledger balances.
    fn wait_for(&self, name: &str, wanted: impl Fn(&SourceStats) -> bool) {
        let end = Instant::now() + SOON;
        loop {
            let ledger = self.running.ledger(&self.ledger, SOON);
            assert_eq!(ledger.unaccounted, 0, "{ledger}");
            if ledger.sources.iter().any(|line| line.name == name && wanted(line)) {
                return;
            }
            assert!(Instant::now() < end, "{name} is not as wanted: {ledger}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(self) -> (Stats, String) {
        let Finished { status, stderr, .. } = self.running.stop(SOON);
        assert_eq!(status.code(), Some(0), "{stderr}");
        (rig::stats(&self.ledger), stderr)
    }
}

/// A capture of so many UDP packets of a hundred flows.
fn capture(path: &Path, count: u32) {
    let words = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1];
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    for number in 0..count {
        let len = FRAME_BYTES as u32;
        bytes.extend([1_700_000_000, number, len, len].map(u32::to_le_bytes).concat());
        let mut frame = [&[2; 12][..], &[8, 0, 0x45, 0, 0x01, 0xe6, 0, 0, 0, 0, 64, 17]].concat();
        frame.extend([0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x30, (number % 100) as u8, 0, 9]);
        frame.extend([0x01, 0xd2, 0, 0]);
        frame.resize(FRAME_BYTES, number as u8);
        bytes.extend(frame);
    }
    std::fs::write(path, bytes).expect("the folder is there");
}

fn mirror(path: &Path, words: &[&str]) {
    let output = Command::new(BINARY).args(["mirror", "-r"]).arg(path).args(words).output();
    let output = output.expect("the program that was just built can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn losses_duplicates_and_swaps_are_counted_to_the_packet() {
    if !root_or_skip() {
        return;
    }
    const PACKETS: u32 = 10_000;
    let scratch = Scratch::new("network-loss");
    let (file, small, all) =
        (scratch.path("in.pcap"), scratch.path("small.pcap"), scratch.path("all.pcapng"));
    capture(&file, PACKETS);
    capture(&small, 500);
    let receiver = Receiver::start(&scratch, &["-w", all.to_str().expect("ASCII")]);
    let forwarder = Forwarder::start(receiver.port, |vni, number| match (vni, number % 100) {
        _ if number == WORD => Fate::Passes,
        // One per cent, the last one too.
        (1, 99) => Fate::IsLost,
        (2, 5) if number % 200 == 5 => Fate::Doubles,
        (2, 7) if number % 500 == 7 => Fate::Waits,
        (3, 0) => Fate::IsLost,
        (4, _) => Fate::IsLost,
        _ => Fate::Passes,
    });
    let to = |vni: u32| format!("geneve://127.0.0.1:{}?vni={vni}", forwarder.port);
    let network =
        |lost, duplicates, reordered| Some(NetworkStats { lost, duplicates, reordered, late: 0 });
    let name = |vni: u32| format!("geneve-{vni}-127.0.0.1");

    mirror(&file, &["--to", &to(1)]);
    receiver
        .wait_for(&name(1), |line| (line.received, line.network) == (9_900, network(100, 0, 0)));
    mirror(&file, &["--to", &to(2)]);
    receiver
        .wait_for(&name(2), |line| (line.received, line.network) == (10_050, network(0, 50, 20)));
    // Begun three times: a start is no loss, and no number comes twice.
    for times in 1..=3 {
        mirror(&small, &["--to", &to(3)]);
        receiver.wait_for(&name(3), |line| {
            (line.received, line.network) == (times * 495, network(times * 5, 0, 0))
        });
    }
    // Nothing comes but word of what was sent.
    mirror(&small, &["--to", &to(4)]);
    receiver.wait_for(&name(4), |line| (line.received, line.network) == (0, network(500, 0, 0)));
    // Balanced over two tunnels, each sees a part of the packets and misses none.
    mirror(&file, &["--to", &format!("{},{}", to(5), to(6))]);
    for vni in [5, 6] {
        receiver.wait_for(&name(vni), |line| line.network == network(0, 0, 0));
    }
    let of = |stats: &Stats, vni: u32| {
        stats.sources.iter().find(|l| l.name == name(vni)).map_or(0, |line| line.received)
    };
    wait_until("all have come", SOON, || {
        let stats = receiver.running.ledger(&receiver.ledger, SOON);
        of(&stats, 5) + of(&stats, 6) == u64::from(PACKETS)
    });

    let (stats, said) = receiver.stop();
    assert_eq!(stats.unaccounted, 0, "{said}");
    assert_eq!(stats.received, stats.written, "{said}");
    for vni in [5, 6] {
        assert!(of(&stats, vni) > 1000, "{said}");
    }
    let line = format!(
        "source {}: received 9900, lost on the network 100, duplicated 0, reordered 0, \
         written 9900, dropped 0, 0 unaccounted",
        name(1)
    );
    assert!(said.contains(&line), "{said}");
    let names: BTreeSet<_> = stats.sources.iter().map(|line| &line.name).collect();
    assert_eq!(names.len(), 6, "{said}");
}

#[test]
fn a_receiver_that_only_hands_on_counts_them_too() {
    if !root_or_skip() {
        return;
    }
    let scratch = Scratch::new("network-relay");
    let file = scratch.path("in.pcap");
    capture(&file, 1000);
    let receiver = Receiver::start(&scratch, &["--to", "null:"]);
    let forwarder = Forwarder::start(receiver.port, |_, number| match number {
        0 | 500 | 999 => Fate::IsLost,
        _ => Fate::Passes,
    });
    mirror(&file, &["--to", &format!("geneve://127.0.0.1:{}?vni=9", forwarder.port)]);
    receiver.wait_for("geneve-9-127.0.0.1", |line| {
        line.received == 997 && line.network.is_some_and(|network| network.lost == 3)
    });
    let (stats, said) = receiver.stop();
    assert_eq!((stats.received, stats.written, stats.sent), (997, 997, 997), "{said}");
    assert_eq!((stats.unaccounted, stats.sources.len()), (0, 1), "{said}");
}

#[test]
fn the_loss_of_the_last_packets_and_of_word_of_them_is_counted() {
    if !root_or_skip() {
        return;
    }
    let scratch = Scratch::new("last-words");
    let file = scratch.path("in.pcap");
    capture(&file, 100);
    let receiver = Receiver::start(&scratch, &["--to", "null:"]);
    let words = AtomicU32::new(0);
    let forwarder = Forwarder::start(receiver.port, move |_, number| match number {
        WORD if words.fetch_add(1, Ordering::Relaxed) == 0 => Fate::IsLost,
        90..100 => Fate::IsLost,
        _ => Fate::Passes,
    });
    mirror(&file, &["--to", &format!("geneve://127.0.0.1:{}?vni=9", forwarder.port)]);
    receiver.wait_for("geneve-9-127.0.0.1", |line| {
        line.received == 90 && line.network.is_some_and(|network| network.lost == 10)
    });
    receiver.stop();
}

#[test]
fn sliced_packets_keep_their_length_time_and_number_in_geneve() {
    if !root_or_skip() || !tool_or_skip("tshark") {
        return;
    }
    let scratch = Scratch::new("geneve-slice");
    let (file, all) = (scratch.path("in.pcap"), scratch.path("all.pcapng"));
    capture(&file, 300);
    let receiver = Receiver::start(&scratch, &["-w", all.to_str().expect("ASCII")]);
    let to = format!("geneve://127.0.0.1:{}?vni=7", receiver.port);
    mirror(&file, &["-s", "128", "--to", &to]);
    receiver.wait_for("geneve-7-127.0.0.1", |line| line.received == 300);
    receiver.stop();
    let fields = ["frame.len", "frame.cap_len", "frame.time_epoch"];
    let seen = rows(&all, &[], &fields);
    assert_eq!(seen.len(), 300);
    for (row, sent) in seen.iter().zip(rows(&file, &[], &fields)) {
        assert_eq!(row[..2], ["500", "128"]);
        assert_eq!(row[2], sent[2], "the time of the capture");
    }
}
