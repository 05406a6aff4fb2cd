//! What the tests over real links share: hosts in a line, numbered packets, taplines that run beside
//! the test, and their ledgers.
//!
//! ```text
//! client ──────── tapped ──────── sink
//!   numbered      mirror          receive
//!   packets       capture
//! ```

#![allow(dead_code, reason = "each test uses its part")]

pub mod bump;

use api::Stats;
use io::nic::NicSink;
use rig::{
    Finished, Generator, Host, Line, Running, Scratch, Topology, stats, tool_or_skip, wait_until,
};
use rustix::process::Signal;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wire::LinkType;

pub const BINARY: &str = env!("CARGO_BIN_EXE_tapline");
/// How long a program may take for what is done at once.
pub const SOON: Duration = Duration::from_secs(10);
/// How long one may take to start: the kernel looks through each program, and others may have the CPU.
pub const STARTED: Duration = Duration::from_secs(60);
/// Where numbered packets go.
pub const PORT: u16 = 9;
/// The expression that selects them.
pub const NUMBERED: &str = "udp port 9";

/// Lets one test of a file run at a time: two loads at once measure only the machine.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    // A test that failed has left nothing that disturbs the next one.
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Client, tapped host and sink, with a folder for files.
pub struct Scene {
    net: Topology,
    scratch: Scratch,
    /// Takes the packets at the tapped host, so that no ICMP answers them.
    _listener: UdpSocket,
    /// Programs started: each has a ledger of its own.
    started: AtomicU32,
    _alone: Option<MutexGuard<'static, ()>>,
}

impl Scene {
    /// A scene beside which no other test of the file runs that asked for the same.
    pub fn alone(name: &str) -> Scene {
        let alone = alone();
        Scene { _alone: Some(alone), ..Scene::new(name) }
    }

    pub fn new(name: &str) -> Scene {
        Scene::over(name, &Scene::line())
    }

    /// The hosts of a scene, to be built otherwise than by default.
    pub fn line() -> Line {
        Topology::line(["client", "tapped", "sink"])
    }

    pub fn over(name: &str, line: &Line) -> Scene {
        let net = line.build();
        let bind = || UdpSocket::bind(("0.0.0.0", PORT)).expect("nobody else is in the namespace");
        let listener = net.host("tapped").netns.run(bind).expect("it can be entered");
        let (scratch, started) = (Scratch::new(name), AtomicU32::new(0));
        Scene { net, scratch, _listener: listener, started, _alone: None }
    }

    pub fn host(&self, name: &str) -> &Host {
        self.net.host(name)
    }

    /// The path of a file in the scene's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// Starts a tapline on a host: the command, and its arguments.
    pub fn start(&self, host: &str, words: &[&str]) -> Tapline {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let ledger = self.path(&format!("{}-{number}.json", words[0]));
        Tapline::start(self.host(host), ledger, words)
    }

    /// Sends numbered packets from the client to the tapped host; gives how many.
    pub fn send(&self, generator: &Generator) -> u64 {
        generator.run_in(&self.host("client").netns, self.numbered_to()).accepted
    }

    /// Sends a frame from an interface of a host.
    pub fn send_frame(&self, host: &str, interface: &str, frame: &[u8]) {
        let open = || NicSink::open(interface).expect("the interface is there");
        let mut sink = self.host(host).netns.run(open).expect("the namespace is there");
        let meta = io::Meta {
            ts_ns: 0,
            origlen: frame.len() as u32,
            link_type: LinkType::ETHERNET,
            interface: io::InterfaceId(0),
            direction: io::Direction::Unknown,
            outer: None,
            packet_id: None,
            gso: None,
            decided: false,
            flow_hash: None,
        };
        let packet = io::Packet { data: io::Data::copy_of(frame), meta };
        let taken = io::Sink::send(&mut sink, io::Selection::new(&[packet], &[0]));
        assert_eq!(taken, 1);
    }

    /// Joins client and tapped host anew, as they were, after their link was deleted.
    pub fn rejoin(&self) {
        let (client, tapped) = (self.host("client"), self.host("tapped"));
        client.netns.join("tapped", &tapped.netns, "client").expect("the names are free");
        for (host, other, (interface, back)) in
            [(client, tapped, ("tapped", "client")), (tapped, client, ("client", "tapped"))]
        {
            host.ip(&format!("link set {interface} address {}", host.mac(interface)));
            host.ip(&format!("addr add {}/24 dev {interface}", host.v4(interface)));
            let (address, mac) = (other.v4(back), other.mac(back));
            host.ip(&format!("neigh replace {address} lladdr {mac} dev {interface} nud permanent"));
        }
    }

    /// Where numbered packets go.
    pub fn numbered_to(&self) -> SocketAddr {
        (self.host("tapped").v4("client"), PORT).into()
    }
}

/// A tapline that runs and writes a ledger.
pub struct Tapline {
    running: Running,
    ledger: PathBuf,
}

impl Tapline {
    /// Starts it on a host, with `--stats-json`, and waits until it takes packets.
    pub fn start(host: &Host, ledger: PathBuf, words: &[&str]) -> Tapline {
        Tapline::start_as(host.netns.command(BINARY), ledger, words)
    }

    /// The same for a command that runs the binary in its own way.
    pub fn start_as(mut program: Command, ledger: PathBuf, words: &[&str]) -> Tapline {
        program.arg(words[0]).arg("--stats-json").arg(&ledger).args(&words[1..]);
        let running = Running::start(&mut program);
        running.wait_for("listening on", STARTED);
        Tapline { running, ledger }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Waits until it says something on standard error; gives that line.
    pub fn wait_for(&self, text: &str) -> String {
        self.running.wait_for(text, SOON)
    }

    /// The same of what may take as long as a start.
    pub fn wait_long_for(&self, text: &str) -> String {
        self.running.wait_for(text, STARTED)
    }

    /// Its ledger now, which must balance.
    pub fn ledger(&self) -> Stats {
        let ledger = self.running.ledger(&self.ledger, SOON);
        assert_eq!(ledger.unaccounted, 0, "while it runs: {ledger}");
        ledger
    }

    /// The file that its ledger is written to.
    pub fn ledger_file(&self) -> &Path {
        &self.ledger
    }

    /// Waits until so many packets were seen.
    pub fn wait_for_seen(&self, count: u64) {
        let what = format!("{count} packets are seen");
        wait_until(&what, SOON, || self.ledger().seen >= Some(count));
    }

    /// Waits until so many packets have matched.
    pub fn wait_for_matched(&self, count: u64) {
        let what = format!("{count} packets match");
        wait_until(&what, SOON, || self.ledger().matched >= count);
    }

    /// Waits until so many packets have come out of tunnels.
    pub fn wait_for_received(&self, count: u64) {
        let what = format!("{count} packets are received");
        wait_until(&what, SOON, || self.ledger().received >= count);
    }

    /// Interrupts it; it must succeed, and its ledger balance.
    pub fn stop(self) -> Stats {
        self.signal(Signal::INT);
        self.finish(0).0
    }

    /// Waits for its end with an exit code; the ledger must balance, as JSON and as text. Gives it,
    /// and what was said.
    pub fn finish(self, code: i32) -> (Stats, String) {
        let Finished { status, stderr, .. } = self.running.finish(SOON);
        assert_eq!(status.code(), Some(code), "{status}: {stderr}");
        let ledger = stats(&self.ledger);
        assert_eq!(ledger.unaccounted, 0, "{stderr}");
        let lines: Vec<&str> = stderr.lines().filter(|l| l.contains("unaccounted")).collect();
        assert!(!lines.is_empty(), "it says no ledger: {stderr}");
        assert!(lines.iter().all(|line| line.ends_with(", 0 unaccounted")), "{stderr}");
        (ledger, stderr)
    }

    /// Ends it by SIGKILL, which leaves it no time for a ledger.
    pub fn kill(self) {
        self.signal(Signal::KILL);
        self.running.finish(SOON);
    }
}

/// A path as a word of a command.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are ASCII")
}

/// Asserts that Wireshark's capinfos, where it is installed, reads a file without a complaint.
pub fn assert_is_whole(file: &Path) {
    if tool_or_skip("capinfos") {
        let output = Command::new("capinfos").arg(file).output().expect("it is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", file.display());
    }
}
