//! What the tests of the path in the kernel share: a TCP stream of the tapped host's own that must not
//! notice anything, and the traces that a mirror may leave.

#![allow(dead_code, reason = "each test uses its part")]

pub mod outer;
pub mod traffic;

use io::netns::Netns;
use rig::Host;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest that the stream may stand still, as [`bound`] has it.
pub const STALL_MAX: Duration = Duration::from_millis(200);

/// A bound in time: what is asked for where STRICT is set, on a machine that does nothing else; three times
/// as long anywhere else.
pub fn bound(asked: Duration) -> Duration {
    if std::env::var_os("STRICT").is_some() { asked } else { 3 * asked }
}

/// What is written at once, and how often: some 16 MB/s, in super-packets.
const WRITE_BYTES: usize = 16 << 10;
const WRITE_EVERY: Duration = Duration::from_millis(1);
/// How often the machine is asked whether it runs threads at all, and how late it may answer.
const BEAT: Duration = Duration::from_millis(5);
const LATE: Duration = Duration::from_millis(15);
/// How long a connection may take to come about, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A TCP stream between two hosts that is written and read until it is stopped.
pub struct Stream {
    is_done: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    writer: JoinHandle<u64>,
    reader: JoinHandle<Vec<Gap>>,
    beats: JoinHandle<Vec<Gap>>,
    /// Where it is written.
    netns: Netns,
}

/// What became of a stream.
#[derive(Debug)]
pub struct Passed {
    /// Bytes that were read, each as it was written.
    pub bytes: u64,
    /// The longest time without any, less the time in which this machine ran no thread of the test.
    pub stalled: Duration,
    /// The same, nothing deducted.
    pub stalled_by_clock: Duration,
    /// Times that TCP waited in vain for word of what it had sent (`TCPTimeouts`): packets of the host
    /// were lost.
    pub timeouts: u64,
    /// Segments that TCP sent again (`RetransSegs`), be it that they were lost or late.
    pub sent_again: u64,
}

/// A time in which nothing happened.
#[derive(Debug, Clone, Copy)]
struct Gap {
    from: Instant,
    to: Instant,
}

impl Stream {
    /// Begins one from a host to an address of another.
    pub fn start(from: &Host, to: &Host, address: SocketAddr) -> Stream {
        let listener = inside(&to.netns, || TcpListener::bind(address)).expect("the port is free");
        let connect = || TcpStream::connect_timeout(&address, PATIENCE);
        let near = inside(&from.netns, connect).expect("it is reached");
        let (far, _) = listener.accept().expect("it stands");
        near.set_write_timeout(Some(PATIENCE)).expect("not zero");
        far.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let is_done = Arc::new(AtomicBool::new(false));
        let bytes = Arc::new(AtomicU64::new(0));
        let writer = {
            let is_done = Arc::clone(&is_done);
            std::thread::spawn(move || write(near, &is_done))
        };
        let reader = {
            let bytes = Arc::clone(&bytes);
            std::thread::spawn(move || read(far, &bytes))
        };
        let beats = {
            let is_done = Arc::clone(&is_done);
            std::thread::spawn(move || beat(&is_done))
        };
        let netns = from.netns.hold().expect("a namespace that was made can be held");
        Stream { is_done, bytes, writer, reader, beats, netns }
    }

    /// Bytes that were read by now.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Ends it; what was written must have been read.
    pub fn stop(self) -> Passed {
        self.is_done.store(true, Ordering::Relaxed);
        let written = self.writer.join().expect("all is written");
        let gaps = self.reader.join().expect("what is read is what was written");
        let pauses = self.beats.join().expect("it only sleeps");
        assert_eq!(self.bytes.load(Ordering::Relaxed), written);
        let longest = |of: &dyn Fn(&Gap) -> Duration| gaps.iter().map(of).max().unwrap_or_default();
        Passed {
            bytes: written,
            stalled: longest(&|gap| gap.length().saturating_sub(gap.shared_with(&pauses))),
            stalled_by_clock: longest(&|gap| gap.length()),
            timeouts: counter(&self.netns, "netstat", "TcpExt", "TCPTimeouts"),
            sent_again: counter(&self.netns, "snmp", "Tcp", "RetransSegs"),
        }
    }
}

/// What the network stack of a namespace has counted: a line of names, then one of numbers.
fn counter(netns: &Netns, file: &str, protocol: &str, name: &str) -> u64 {
    let read = || std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
    let text = inside(netns, read).expect("it is read");
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{protocol}:")));
    let mut words = || lines.next().into_iter().flat_map(str::split_ascii_whitespace);
    let at = words().position(|word| word == name).expect("it counts that");
    words().nth(at).and_then(|word| word.parse().ok()).expect("a number")
}

impl Gap {
    fn length(&self) -> Duration {
        self.to - self.from
    }

    /// How much of it lies in others.
    fn shared_with(&self, others: &[Gap]) -> Duration {
        let shared = |other: &Gap| {
            self.to.min(other.to).saturating_duration_since(self.from.max(other.from))
        };
        others.iter().map(shared).sum()
    }
}

/// The byte at a place of the stream.
fn content(at: u64) -> u8 {
    (at ^ at >> 8 ^ at >> 17) as u8
}

fn write(mut to: TcpStream, is_done: &AtomicBool) -> u64 {
    let mut written = 0;
    while !is_done.load(Ordering::Relaxed) {
        let bytes: Vec<u8> = (written..written + WRITE_BYTES as u64).map(content).collect();
        to.write_all(&bytes).expect("the stream stands");
        written += bytes.len() as u64;
        std::thread::sleep(WRITE_EVERY);
    }
    written
}

/// Reads to the end; gives the gaps of which one may be too long.
fn read(mut from: TcpStream, bytes: &AtomicU64) -> Vec<Gap> {
    let (mut buffer, mut at, mut gaps) = (vec![0; 256 << 10], 0, Vec::new());
    let mut last = Instant::now();
    loop {
        let len = from.read(&mut buffer).expect("the stream stands");
        let now = Instant::now();
        if len == 0 {
            return gaps;
        }
        if now - last > STALL_MAX / 8 {
            gaps.push(Gap { from: last, to: now });
        }
        last = now;
        for (place, byte) in buffer[..len].iter().enumerate() {
            let wanted = content(at + place as u64);
            assert_eq!(*byte, wanted, "byte {} of the stream", at + place as u64);
        }
        at += len as u64;
        bytes.store(at, Ordering::Relaxed);
    }
}

/// Sleeps for a short time, again and again; gives the times in which it was not woken when it should
/// have been: then the machine was busy with others.
fn beat(is_done: &AtomicBool) -> Vec<Gap> {
    let mut late = Vec::new();
    while !is_done.load(Ordering::Relaxed) {
        let due = Instant::now() + BEAT;
        std::thread::sleep(BEAT);
        let now = Instant::now();
        if now - due > LATE {
            late.push(Gap { from: due, to: now });
        }
    }
    late
}

/// What a mirror may leave in the network namespace of a host, as text: interfaces, programs and
/// filters on them, qdiscs, and links into other namespaces.
pub fn traces(of: &Host) -> String {
    let mut found = inside(&of.netns, || {
        let names = io::offloads::interfaces();
        let attached = names.iter().map(|name| {
            match io::bpf::list::attached(name) {
                Ok(attached) => format!("{name}: {attached:?}\n"),
                // It has gone since it was listed.
                Err(io::Error::NoInterface { .. }) => format!("{name}: gone\n"),
                Err(error) => panic!("{name}: {error}"),
            }
        });
        attached.collect::<String>()
    });
    found += &of.ip("netns list-id");
    let qdiscs = of.netns.command("tc").args(["qdisc", "show"]).output().expect("tc runs");
    // veth devices have a queue or none, as they like.
    let qdiscs = String::from_utf8_lossy(&qdiscs.stdout).into_owned();
    found + &qdiscs.lines().filter(|line| line.contains("clsact")).collect::<Vec<_>>().join("\n")
}

/// Runs a function inside a namespace.
pub fn inside<R: Send>(netns: &Netns, function: impl FnOnce() -> R + Send) -> R {
    netns.run(function).expect("a namespace that was made can be entered")
}
