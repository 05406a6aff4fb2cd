//! A namespace with a guest beside it, and pings through a tunnel between the two.

mod cases;

pub use cases::{Case, cases};

use api::Stats;
use capfile::Reader;
use cases::{GUEST, HOST};
use io::netns::Netns;
use io::tun::{Tap, Tun};
use rig::{GUEST_LINK, Guest, Running, Scratch, stats, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_tapline");
/// How long a program may take for what is done at once, beside an emulated processor.
const SOON: Duration = Duration::from_secs(20);

/// The ends of the tunnel: "inner" here, `t0` in the guest. IPv4, IPv6, MAC.
const HERE: [&str; 3] = ["10.72.0.1", "fd72::1", "02:72:00:00:00:01"];
const THERE: [&str; 3] = ["10.72.0.2", "fd72::2", "02:72:00:00:00:02"];
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

    /// Gives both ends of the link to the guest their addresses.
    pub fn address(&self, guest: &mut Guest) {
        self.ip(&format!("link set {GUEST_LINK} mtu {LINK_MTU}"));
        guest.run(&format!("ip link set eth0 mtu {LINK_MTU}"));
        for (here, there) in HOST.into_iter().zip(GUEST) {
            let bits = if here.contains(':') { 64 } else { 24 };
            self.ip(&format!("addr add {here}/{bits} dev {GUEST_LINK} nodad"));
            guest.run(&format!("ip addr add {there}/{bits} dev eth0 nodad"));
        }
    }

    /// Checks one tunnel.
    ///
    /// # Panics
    /// If a packet is lost, comes twice or differs.
    pub fn check(&self, guest: &mut Guest, case: &Case) {
        let inner = Inner::new(&self.netns, case.is_ethernet);
        let _ = guest.ask(&case.unmake());
        guest.run(&case.guest);
        let receive = self.receive(&["--listen", &case.listen], inner);
        let mirror = self.mirror(&["-i", "inner", "--direction", "out", "--to", &case.to]);
        configure(&mut |words| drop(guest.run(&format!("ip {words}"))), "t0", case, THERE, HERE);
        configure(&mut |words| drop(self.ip(words)), "inner", case, HERE, THERE);

        judge("the guest's ping", &guest.ask(&ping_line(1400, HERE[0])).0);
        judge("this host's ping", &self.ping(&ping_line(56, THERE[1])));
        let sent = mirror.stop();
        assert!(sent.matched >= 2 * PINGS && sent.drops.total() == 0, "mirror: {sent}");
        assert_eq!(sent.sent, sent.matched, "mirror: {sent}");
        let received = receive.stop();
        assert!(
            received.received >= 2 * PINGS && received.drops.total() == 0,
            "receive: {received}"
        );
        guest.run(&case.unmake());
    }

    fn ping(&self, line: &str) -> String {
        let mut words = line.split(' ');
        let mut ping = self.netns.command(words.next().expect("a line has a first word"));
        let output = ping.args(words).output().expect("ping can be run");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn mirror(&self, words: &[&str]) -> Mirror {
        let ledger = self.path("mirror.json");
        let mut command = self.netns.command(BINARY);
        command.arg("mirror").arg("--stats-json").arg(&ledger).args(words);
        let running = Running::start(&mut command);
        running.wait_for("listening on", SOON);
        Mirror { running, ledger }
    }

    fn receive(&self, words: &[&str], inner: Inner) -> Receive {
        let (ledger, said) = (self.path("receive.json"), self.path("receive.txt"));
        let mut command = self.netns.command(BINARY);
        command.args(["receive", "-w", "-", "--stats-json"]).arg(&ledger).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(&said).expect("the folder is ours"));
        let mut child = command.spawn().expect("tapline can be started");
        let frames = child.stdout.take().expect("piped");
        let pump = std::thread::spawn(move || {
            let mut reader = Reader::new(frames).expect("a capture begins");
            while let Some(record) = reader.next().expect("a capture goes on") {
                inner.send(record.data);
            }
        });
        let receive = Receive { child, pump: Some(pump), ledger, said };
        wait_until("receive listens", SOON, || receive.said().contains("listening on"));
        receive
    }

    fn ip(&self, words: &str) -> String {
        self.netns.ip(words).unwrap_or_else(|e| panic!("{e}"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }
}

/// Gives an end of a tunnel its addresses. The neighbour is fixed: no question passes but pings.
fn configure(
    ip: &mut dyn FnMut(&str),
    device: &str,
    case: &Case,
    own: [&str; 3],
    other: [&str; 3],
) {
    ip(&format!("link set {device} addrgenmode none"));
    if case.is_ethernet {
        ip(&format!("link set {device} address {}", own[2]));
    }
    ip(&format!("link set {device} up"));
    for address in 0..2 {
        let bits = if address == 0 { 24 } else { 64 };
        ip(&format!("addr add {}/{bits} dev {device} nodad", own[address]));
        if case.is_ethernet {
            let neighbour = format!("{} lladdr {}", other[address], other[2]);
            ip(&format!("neigh replace {neighbour} dev {device} nud permanent"));
        }
    }
}

/// A ping that compares what comes back with what it sent.
fn ping_line(bytes: u32, to: &str) -> String {
    let pattern = "5a00ff17c3e1deadbeef0123456789ab";
    format!("ping -n -q -c {PINGS} -i 0.005 -W 5 -s {bytes} -p {pattern} {to}")
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
    pump: Option<JoinHandle<()>>,
    ledger: PathBuf,
    said: PathBuf,
}

impl Receive {
    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap_or_default()
    }

    fn stop(mut self) -> Stats {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it is not waited for yet");
        let pump = self.pump.take().expect("taken here only");
        wait_until("receive ends", SOON, || pump.is_finished());
        pump.join().expect("the pump does not panic");
        let status = self.child.wait().expect("it is a child");
        assert!(status.success(), "receive: {}", self.said());
        balanced(&self.ledger)
    }
}

impl Drop for Receive {
    fn drop(&mut self) {
        // Both fail only for a program that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn balanced(ledger: &Path) -> Stats {
    let ledger = stats(ledger);
    assert_eq!(ledger.unaccounted, 0, "{ledger}");
    ledger
}
