//! A tap in the kernel whose filter, VNI, slice and sinks are changed under load: each change holds
//! within a second, no packet is without a copy or with two, and the host's own packets are neither
//! lost nor doubled.

mod over_kernel;
mod over_links;

use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use over_kernel::{STALL_MAX, Stream, bound, inside};
use over_links::*;
use rig::{Frame, Generator, Tcpdump, duplicates, missing, root_or_skip, tool_or_skip};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// Where the numbered packets go, and how many a second, over how many flows.
const TO_PORT: u16 = 19;
const PPS: u64 = 2_000;
const FLOWS: usize = 16;
/// How soon a change must hold.
const APPLIED: Duration = Duration::from_secs(1);
/// How long packets of before may be under way.
const UNDER_WAY_NS: u64 = 200_000_000;
/// How long it is looked whether it does.
const HELD: Duration = Duration::from_millis(700);
/// How often all changes are made.
const CYCLES: usize = 2;

/// What the tap does between two changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    vni: u32,
    /// Bytes kept; 0: all.
    slice: usize,
    sinks: Sinks,
    /// Whether the filter keeps only the packets of every other flow.
    half: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sinks {
    V4,
    V6,
    /// A group of both.
    Both,
    /// Each packet to both: what two targets are.
    Each,
}

/// One change after the other, each of one thing; the last leads back to the first.
const STATES: [Wanted; 8] = {
    let first = Wanted { vni: 71, slice: 0, sinks: Sinks::V4, half: false };
    [
        first,
        Wanted { vni: 72, ..first },
        Wanted { vni: 72, slice: 70, ..first },
        Wanted { vni: 72, slice: 70, sinks: Sinks::V6, ..first },
        Wanted { vni: 72, slice: 70, sinks: Sinks::Both, ..first },
        Wanted { vni: 72, slice: 70, sinks: Sinks::Each, ..first },
        Wanted { vni: 72, slice: 70, sinks: Sinks::Each, half: true },
        Wanted { vni: 71, slice: 70, sinks: Sinks::V4, half: false },
    ]
};

impl Wanted {
    fn file(self, scene: &Scene) -> String {
        let sink = scene.host("sink");
        let v4 = format!("vxlan://{}?vni={}", sink.v4("tapped"), self.vni);
        let v6 = format!("vxlan://[{}]?vni={}", sink.v6("tapped"), self.vni);
        let to = match self.sinks {
            Sinks::V4 => format!("\"{v4}\""),
            Sinks::V6 => format!("\"{v6}\""),
            Sinks::Both => format!("\"{v4},{v6}\""),
            Sinks::Each => format!("\"{v4}\", \"{v6}\""),
        };
        let half = if self.half { " and udp[0:2] & 1 = 1" } else { "" };
        format!(
            "[[tap]]\nname = \"live\"\ninterface = \"client\"\ndirection = \"in\"\n\
             datapath = \"kernel\"\nto = [{to}]\nsnapshot_length = {}\n\
             expression = \"udp dst port {TO_PORT}{half}\"\n",
            self.slice
        )
    }
}

/// A copy of a numbered packet, as it came to the sink.
#[derive(Debug, Clone, Copy)]
struct Copy {
    ts_ns: u64,
    number: u64,
    source_port: u16,
    is_v6: bool,
    vni: u32,
    inner_bytes: usize,
}

impl Copy {
    /// Reads a frame with a VXLAN packet that holds one.
    fn of(frame: &Frame) -> Option<Copy> {
        let bytes = &frame.bytes;
        let is_v6 = bytes[12..14] == [0x86, 0xdd];
        let vxlan_at = 14 + if is_v6 { 40 } else { 20 } + 8;
        let inner_at = vxlan_at + 8;
        // Ethernet, IPv4, UDP, magic, number.
        let udp_at = inner_at + 14 + 20;
        let number_at = udp_at + 8 + 8;
        let number = bytes.get(number_at..number_at + 8)?.try_into().ok()?;
        Some(Copy {
            ts_ns: frame.ts_ns,
            number: u64::from_be_bytes(number),
            source_port: u16::from_be_bytes([bytes[udp_at], bytes[udp_at + 1]]),
            is_v6,
            vni: u32::from_be_bytes(bytes[vxlan_at + 4..vxlan_at + 8].try_into().ok()?) >> 8,
            inner_bytes: bytes.len() - inner_at,
        })
    }

    fn is_as(&self, wanted: Wanted, whole: usize) -> bool {
        let sinks = match wanted.sinks {
            Sinks::V4 => !self.is_v6,
            Sinks::V6 => self.is_v6,
            Sinks::Both | Sinks::Each => true,
        };
        let inner_bytes = if wanted.slice > 0 { wanted.slice } else { whole };
        let half = !wanted.half || self.source_port & 1 == 1;
        sinks && half && self.vni == wanted.vni && self.inner_bytes == inner_bytes
    }
}

fn write(path: &Path, content: &str) {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, content).expect("the folder is there");
    std::fs::rename(&partial, path).expect("it is on the same file system");
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("it is later than 1970").as_nanos() as u64
}

/// One change, and when it held.
#[derive(Debug, Clone, Copy)]
struct Change {
    asked_ns: u64,
    applied_ns: u64,
    wanted: Wanted,
}

/// Dropped, it says that something is done.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The CPU time that a process has used, its calls of the kernel included.
fn used(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks = rest.split_ascii_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// Takes the host's own packets until there is none for a while; gives their numbers.
fn take(socket: &UdpSocket, is_done: &AtomicBool) -> Vec<u64> {
    let (mut numbers, mut buffer) = (Vec::new(), [0; 2048]);
    loop {
        match socket.recv(&mut buffer) {
            Ok(len) if len >= 16 => {
                numbers.push(u64::from_be_bytes(buffer[8..16].try_into().expect("eight bytes")));
            }
            Ok(len) => panic!("a packet of {len} bytes"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if is_done.load(Ordering::Relaxed) {
                    return numbers;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn changes_hold_within_a_second_and_nobody_loses_a_packet() {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::alone("mirror-live");
    let (client, tapped, sink) = (scene.host("client"), scene.host("tapped"), scene.host("sink"));
    let config = scene.path("taps.toml");
    write(&config, &STATES[0].file(&scene));
    let listener = inside(&tapped.netns, || UdpSocket::bind(("0.0.0.0", TO_PORT)));
    let listener = listener.expect("the port is free");
    setsockopt(&listener, RcvBufForce, &(64 << 20)).expect("root may");
    listener.set_read_timeout(Some(Duration::from_millis(300))).expect("not zero");
    // Nobody answers there that the port is unreachable.
    let bind = || ["0.0.0.0", "::"].map(|address| UdpSocket::bind((address, 4789)).ok());
    let _silent = inside(&sink.netns, bind);
    let judge = Tcpdump::start(sink, "tapped", &scene.path("sink.pcap"), "udp port 4789");
    let mirror = scene.start("tapped", &["mirror", "-c", text(&config)]);
    let stream = Stream::start(client, tapped, (tapped.v4("client"), 80).into());
    let (is_done, is_taken) = (AtomicBool::new(false), AtomicBool::new(false));
    let (mut changes, mut slowest) = (Vec::new(), Duration::ZERO);
    let (sent, own) = std::thread::scope(|scope| {
        // What fails below ends the threads, too.
        let _ends = [Ends(&is_taken), Ends(&is_done)];
        let load = scope.spawn(|| {
            let generator = Generator::new(PPS, 10_000_000).flows(FLOWS);
            let to = (tapped.v4("client"), TO_PORT).into();
            generator.run_while(&client.netns, to, || !is_done.load(Ordering::Relaxed))
        });
        let own = scope.spawn(|| take(&listener, &is_taken));
        mirror.wait_for_matched(PPS / 2);
        let now = now_ns();
        changes.push(Change { asked_ns: now, applied_ns: now, wanted: STATES[0] });
        for wanted in STATES.into_iter().cycle().skip(1).take(CYCLES * STATES.len()) {
            std::thread::sleep(HELD);
            write(&config, &wanted.file(&scene));
            let (asked_ns, used_before) = (now_ns(), used(mirror.id()));
            mirror.signal(Signal::HUP);
            mirror.wait_long_for("reloaded: tap live");
            let applied_ns = now_ns();
            changes.push(Change { asked_ns, applied_ns, wanted });
            // Where others have the CPU, it takes as long as it has it itself.
            let used = used(mirror.id()).saturating_sub(used_before);
            let took = Duration::from_nanos(applied_ns - asked_ns).min(used);
            slowest = slowest.max(took);
            assert!(took < bound(APPLIED), "{wanted:?} took {took:?}");
        }
        std::thread::sleep(HELD);
        is_done.store(true, Ordering::Relaxed);
        let sent = load.join().expect("it does not panic").accepted;
        is_taken.store(true, Ordering::Relaxed);
        (sent, own.join().expect("it does not panic"))
    });
    let passed = stream.stop();
    let ledger = mirror.stop();
    let copies: Vec<Copy> = judge.stop().iter().filter_map(Copy::of).collect();
    eprintln!(
        "{} changes, each within {slowest:?}, {sent} packets, {} copies; TCP stalled for {:?} at most ({:?} by the clock)\n\
         {ledger}",
        changes.len() - 1,
        copies.len(),
        passed.stalled,
        passed.stalled_by_clock
    );
    assert_eq!((missing(&own, sent), duplicates(&own)), (vec![], vec![]), "the host's own");
    assert!(passed.stalled <= bound(STALL_MAX), "{passed:?}");
    assert_copies(&copies, &changes, sent);
}

/// The copies of one packet.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    v4: usize,
    v6: usize,
    /// When the last one came.
    ts_ns: u64,
}

/// That every copy is as it was wanted when it came, until a change holds as it was wanted before; and that every
/// packet has its copies.
fn assert_copies(copies: &[Copy], changes: &[Change], sent: u64) {
    let whole = copies.iter().map(|copy| copy.inner_bytes).max().expect("there are copies");
    let mut counts = vec![0; changes.len()];
    let mut seen: BTreeMap<u64, Seen> = BTreeMap::new();
    for copy in copies {
        let of = seen.entry(copy.number).or_default();
        of.ts_ns = copy.ts_ns;
        *if copy.is_v6 { &mut of.v6 } else { &mut of.v4 } += 1;
        let at = changes.iter().rposition(|of| of.asked_ns <= copy.ts_ns).unwrap_or(0);
        let Change { applied_ns, wanted, .. } = changes[at];
        let is_settled = copy.ts_ns > applied_ns + UNDER_WAY_NS;
        let is_right = copy.is_as(wanted, whole);
        let was_right = at > 0 && copy.is_as(changes[at - 1].wanted, whole);
        assert!(is_right || was_right && !is_settled, "{copy:?} is not as {wanted:?}");
        counts[at] += usize::from(is_settled);
    }
    assert!(counts.iter().all(|&count| count > 100), "copies once each change holds: {counts:?}");
    // The states that hold when a packet passes, with those before that may still hold.
    let held = |ts_ns: u64| {
        let at = changes.iter().rposition(|of| of.asked_ns <= ts_ns).unwrap_or(0);
        let is_settled = ts_ns > changes[at].applied_ns + UNDER_WAY_NS;
        let from = if is_settled { at } else { at.saturating_sub(1) };
        changes[from..=at].iter().map(|of| of.wanted)
    };
    let first = *seen.keys().next().expect("there are copies");
    let near = |number: u64| seen.range(number..).next().map_or(u64::MAX, |(_, of)| of.ts_ns);
    let lost: Vec<u64> = (first..sent)
        .filter(|number| !seen.contains_key(number))
        .filter(|&number| !held(near(number)).any(|wanted| wanted.half))
        .collect();
    let shown = &lost[..lost.len().min(20)];
    assert!(lost.is_empty(), "{} packets without a copy: {shown:?}", lost.len());
    let doubled: Vec<(&u64, &Seen)> = seen
        .iter()
        .filter(|(_, of)| {
            let may_be_two = held(of.ts_ns).any(|wanted| wanted.sinks == Sinks::Each);
            of.v4 > 1 || of.v6 > 1 || of.v4 + of.v6 > 1 && !may_be_two
        })
        .collect();
    let shown = &doubled[..doubled.len().min(20)];
    assert!(doubled.is_empty(), "{} packets with too many copies: {shown:?}", doubled.len());
}
