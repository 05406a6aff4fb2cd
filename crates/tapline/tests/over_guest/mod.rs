//! A namespace with a guest beside it, and pings through a tunnel between the two.

mod cases;

pub use cases::{Case, cases};

use api::Stats;
use capfile::{LINKTYPE_ETHERNET, PcapResolution, PcapWriter, Reader};
use cases::{GUEST, HOST};
use io::netns::Netns;
use io::tun::{Tap, Tun};
use rig::{Frame, GUEST_LINK, Guest, Running, Scratch, Tcpdump, stats, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_tapline");
/// How long a program may take for what is done at once, beside an emulated processor.
const SOON: Duration = Duration::from_secs(20);

/// What passes between the hosts but tunnels is no part of the comparison.
const TUNNELS: &str = "not arp and not icmp and not icmp6";
/// IP without anything in front of it.
const LINKTYPE_RAW: u16 = 101;

/// The ends of the tunnel: "inner" here, `t0` in the guest. IPv4, IPv6, MAC.
const HERE: [&str; 3] = ["10.72.0.1", "fd72::1", "02:72:00:00:00:01"];
const THERE: [&str; 3] = ["10.72.0.2", "fd72::2", "02:72:00:00:00:02"];
const LINK_MACS: [&str; 2] = ["02:71:00:00:00:01", "02:71:00:00:00:02"];
/// What pings carry, over and over.
const PATTERN: [u8; 16] = *b"\x5a\x00\xff\x17\xc3\xe1\xde\xad\xbe\xef\x01\x23\x45\x67\x89\xab";
/// How many pings are sent at a time.
const PINGS: u64 = 100;
/// Room for 1400 bytes and all headers in every tunnel.
const LINK_MTU: u32 = 1600;

/// This host: a namespace.
pub struct Scene {
    netns: Netns,
    scratch: Scratch,
}

impl Scene {
    pub fn new() -> Scene {
        let netns = Netns::new().unwrap_or_else(|e| panic!("{e}"));
        Scene { netns, scratch: Scratch::new("kernel") }
    }

    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Gives both ends of the link to the guest their addresses. They know each other: no packet
    /// waits for an answer.
    pub fn address(&self, guest: &mut Guest) {
        let mut here = |words: &str| drop(self.ip(words));
        configure(
            &mut here,
            GUEST_LINK,
            true,
            [HOST[0], HOST[1], LINK_MACS[0]],
            [GUEST[0], GUEST[1], LINK_MACS[1]],
        );
        let mut there = |words: &str| drop(guest.run(&format!("ip {words}")));
        configure(
            &mut there,
            "eth0",
            true,
            [GUEST[0], GUEST[1], LINK_MACS[1]],
            [HOST[0], HOST[1], LINK_MACS[0]],
        );
        here(&format!("link set {GUEST_LINK} mtu {LINK_MTU}"));
        there(&format!("link set eth0 mtu {LINK_MTU}"));
    }

    /// Checks one tunnel.
    ///
    /// # Panics
    /// If a packet is lost, comes twice or differs.
    pub fn check(&self, guest: &mut Guest, case: &Case) {
        let (netns, from_guest) = (&self.netns, format!("src host {} and {TUNNELS}", case.guest));
        let inner = Inner::new(netns, case.is_ethernet);
        // Not only what this case leaves, but what one before it left that failed.
        guest.ask("ip link del t0; ip l2tp del tunnel tunnel_id 1");
        guest.run(&case.make);
        let outer = Tcpdump::start_in(netns, GUEST_LINK, &self.path("guest.pcap"), &from_guest);
        let receive = self.receive(&["--listen", &case.listen], inner);
        let mirror = self.mirror(&["-i", "inner", "--direction", "out", "--to", &case.to]);
        configure(
            &mut |words| drop(guest.run(&format!("ip {words}"))),
            "t0",
            case.is_ethernet,
            THERE,
            HERE,
        );
        configure(&mut |words| drop(self.ip(words)), "inner", case.is_ethernet, HERE, THERE);

        judge("the guest's ping", &guest.ask(&ping_line(1400, HERE[0])).0);
        judge("this host's ping", &self.ping(&ping_line(56, THERE[1])));

        let sent = mirror.stop();
        assert!(sent.matched >= 2 * PINGS && sent.drops.total() == 0, "mirror: {sent}");
        assert_eq!(sent.sent, sent.matched, "mirror: {sent}");
        let (received, frames) = receive.stop();
        assert!(received.received >= 2 * PINGS && received.drops.total() == 0, "{received}");
        assert_eq!(received.received, frames.len() as u64);
        self.compare(case, &outer.stop(), &frames);
    }

    /// Sends what came out of the guest's tunnel into one of ours, and compares what the two look
    /// like from outside.
    fn compare(&self, case: &Case, by_guest: &[Frame], frames: &[Vec<u8>]) {
        let file = self.path("frames.pcap");
        let link_type = if case.is_ethernet { LINKTYPE_ETHERNET } else { LINKTYPE_RAW };
        let writer = File::create(&file).expect("the folder is ours");
        let mut writer =
            PcapWriter::new(writer, link_type, 0, PcapResolution::Nano).expect("there is room");
        for frame in frames {
            writer.write(0, frame.len() as u32, frame).expect("there is room");
        }
        writer.flush().expect("there is room");

        let expression = format!("dst host {} and {TUNNELS}", case.guest);
        let recorded = self.path("here.pcap");
        let outer = Tcpdump::start_in(&self.netns, GUEST_LINK, &recorded, &expression);
        let finished =
            self.start_mirror(&["-r", text(&file), "--to", &case.like_the_guest]).finish(SOON);
        assert!(finished.status.success(), "mirror -r: {}", finished.stderr);
        let by_us = outer.stop();
        let pings = |frames: &[Frame]| -> Vec<Vec<u8>> {
            let tunnels = frames.iter().map(|frame| case.tunnel_in(&frame.bytes));
            tunnels.filter(|tunnel| tunnel.windows(PATTERN.len()).any(|w| w == PATTERN)).collect()
        };
        let (by_guest, by_us) = (pings(by_guest), pings(&by_us));
        assert_eq!((by_guest.len(), by_us.len()), (2 * PINGS as usize, 2 * PINGS as usize));
        for (at, (guest, us)) in by_guest.iter().zip(&by_us).enumerate() {
            let begin = |bytes: &[u8]| format!("{:02x?}", &bytes[..bytes.len().min(48)]);
            assert!(guest == us, "packet {at}: {}\nours:     {}", begin(guest), begin(us));
        }
    }

    fn ping(&self, line: &str) -> String {
        let mut words = line.split(' ');
        let mut ping = self.netns.command(words.next().expect("a line has a first word"));
        let output = ping.args(words).output().expect("ping can be run");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn mirror(&self, words: &[&str]) -> Mirror {
        let ledger = self.path("mirror.json");
        let running = self.start_mirror(&[&["--stats-json", text(&ledger)], words].concat());
        running.wait_for("listening on", SOON);
        Mirror { running, ledger }
    }

    fn start_mirror(&self, words: &[&str]) -> Running {
        Running::start(self.netns.command(BINARY).arg("mirror").args(words))
    }

    fn receive(&self, words: &[&str], inner: Inner) -> Receive {
        let (ledger, said) = (self.path("receive.json"), self.path("receive.txt"));
        let mut command = self.netns.command(BINARY);
        command.args(["receive", "-U", "-w", "-", "--stats-json"]).arg(&ledger).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(&said).expect("the folder is ours"));
        let mut child = command.spawn().expect("tapline can be started");
        let frames = child.stdout.take().expect("piped");
        let pump = std::thread::spawn(move || {
            let mut reader = Reader::new(frames).expect("a capture begins");
            let mut passed = Vec::new();
            while let Some(record) = reader.next().expect("a capture goes on") {
                inner.send(record.data);
                passed.push(record.data.to_vec());
            }
            passed
        });
        let mut receive = Receive { child, pump: Some(pump), ledger, said };
        wait_until("receive listens", SOON, || {
            let ended = receive.child.try_wait().expect("it is a child");
            assert!(ended.is_none(), "receive ended: {}", receive.said());
            receive.said().contains("listening on")
        });
        receive
    }

    fn ip(&self, words: &str) -> String {
        self.netns.ip(words).unwrap_or_else(|e| panic!("{e}"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }
}

/// Gives an end of a link its addresses. The neighbour is fixed: nothing passes but what is sent.
fn configure(
    ip: &mut dyn FnMut(&str),
    device: &str,
    is_ethernet: bool,
    own: [&str; 3],
    other: [&str; 3],
) {
    ip(&format!("link set {device} addrgenmode none"));
    if is_ethernet {
        ip(&format!("link set {device} address {}", own[2]));
    }
    ip(&format!("link set {device} up"));
    for address in 0..2 {
        let bits = if address == 0 { 24 } else { 64 };
        ip(&format!("addr add {}/{bits} dev {device} nodad", own[address]));
        if is_ethernet {
            let neighbour = format!("{} lladdr {}", other[address], other[2]);
            ip(&format!("neigh replace {neighbour} dev {device} nud permanent"));
        }
    }
}

/// A ping that compares what comes back with what it sent. It waits for answers to go on: the guest is
/// slow.
fn ping_line(bytes: u32, to: &str) -> String {
    let pattern: String = PATTERN.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("ping -n -q -c {PINGS} -A -l 10 -W 5 -s {bytes} -p {pattern} {to}")
}

/// Every ping was answered, once, by the same bytes.
fn judge(what: &str, said: &str) {
    let all = format!("{PINGS} packets transmitted, {PINGS} received, 0% packet loss");
    assert!(said.contains(&all), "{what}: not {PINGS} of {PINGS}:\n{said}");
    for wrong in ["wrong data", "duplicates", "errors", "truncated"] {
        assert!(!said.contains(wrong), "{what}: {wrong}:\n{said}");
    }
}

/// The device "inner": what it sends is mirrored, what is written to it comes in.
enum Inner {
    Ethernet(Tap),
    Ip(Tun),
}

impl Inner {
    fn new(netns: &Netns, is_ethernet: bool) -> Inner {
        let inner = netns.run(|| match is_ethernet {
            true => Inner::Ethernet(Tap::new("inner").unwrap_or_else(|e| panic!("{e}"))),
            false => Inner::Ip(Tun::new("inner", None).unwrap_or_else(|e| panic!("{e}"))),
        });
        // Nobody reads what it sends: there must be room for all of it.
        netns.ip("link set inner txqueuelen 10000").unwrap_or_else(|e| panic!("{e}"));
        netns.ip("link set inner up").unwrap_or_else(|e| panic!("{e}"));
        inner.unwrap_or_else(|e| panic!("{e}"))
    }

    fn send(&self, frame: &[u8]) {
        match self {
            Inner::Ethernet(tap) => tap.send(frame, None).unwrap_or_else(|e| panic!("{e}")),
            Inner::Ip(tun) => tun.send(frame).unwrap_or_else(|e| panic!("{e}")),
        }
    }
}

/// A mirror that runs.
struct Mirror {
    running: Running,
    ledger: PathBuf,
}

impl Mirror {
    fn stop(self) -> Stats {
        let finished = self.running.stop(SOON);
        assert!(finished.status.success(), "mirror: {}", finished.stderr);
        balanced(&self.ledger)
    }
}

/// A receiver that runs, and the thread that carries what it writes to "inner".
struct Receive {
    child: Child,
    pump: Option<JoinHandle<Vec<Vec<u8>>>>,
    ledger: PathBuf,
    said: PathBuf,
}

impl Receive {
    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// Ends it; gives its ledger, and the frames that came.
    fn stop(mut self) -> (Stats, Vec<Vec<u8>>) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it is not waited for yet");
        let pump = self.pump.take().expect("taken here only");
        wait_until("receive ends", SOON, || pump.is_finished());
        let frames = pump.join().expect("the pump does not panic");
        let status = self.child.wait().expect("it is a child");
        assert!(status.success(), "receive: {}", self.said());
        (balanced(&self.ledger), frames)
    }
}

impl Drop for Receive {
    fn drop(&mut self) {
        // Both fail only for a program that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are ASCII")
}

fn balanced(ledger: &Path) -> Stats {
    let ledger = stats(ledger);
    assert_eq!(ledger.unaccounted, 0, "{ledger}");
    ledger
}
