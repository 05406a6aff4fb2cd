//! What the tests of a receiver share: one that listens on loopback, numbered packets in tunnels, and
//! what is on its disk.

#![allow(dead_code, reason = "each test uses its part")]

use api::Stats;
use capfile::Reader;
use rig::{Finished, MAGIC, Running, numbers_in, open_capture, stats, tool_or_skip, wait_until};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub const BINARY: &str = env!("CARGO_BIN_EXE_tapline");
/// How long a program may take for what is done at once.
pub const SOON: Duration = Duration::from_secs(10);

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
    socket.local_addr().expect("it is bound").port()
}

/// A sender of numbered packets in VXLAN.
pub struct Sender {
    socket: UdpSocket,
    to: SocketAddr,
    /// The number of the next packet.
    pub next: u64,
    /// Whether what it sends cannot be compressed.
    pub is_noise: bool,
}

impl Sender {
    pub fn new(port: u16) -> Sender {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
        Sender { socket, to: ([127, 0, 0, 1], port).into(), next: 0, is_noise: false }
    }

    /// Sends so many packets of so many bytes, a few at a time.
    pub fn send(&mut self, count: u64, frame_bytes: usize) {
        for sent in 0..count {
            let mut packet = vec![8, 0, 0, 0, 0, 0, 71, 0];
            packet.extend([2; 12]);
            packet.extend([0x88, 0xb5]); // for local experiments (IEEE 802)
            packet.extend(MAGIC);
            packet.extend(self.next.to_be_bytes());
            let mut noise = self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            while self.is_noise && packet.len() < 8 + frame_bytes {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                packet.push(noise as u8);
            }
            packet.resize(8 + frame_bytes.max(14 + 16), self.next as u8);
            // With nobody there, an ICMP error of the packet before comes back.
            let _ = self.socket.send_to(&packet, self.to);
            self.next += 1;
            if sent % 32 == 31 {
                std::thread::sleep(Duration::from_micros(500));
            }
        }
    }
}

/// A `tapline receive` at work.
pub struct Receiver {
    running: Running,
    ledger: PathBuf,
}

impl Receiver {
    /// Starts it on a port of loopback, with further words, and waits until it listens.
    pub fn start(port: u16, ledger: &Path, words: &[&str]) -> Receiver {
        let receiver = Receiver::launch(port, ledger, words);
        receiver.wait_for("listening on");
        receiver
    }

    /// Starts it and does not wait.
    pub fn launch(port: u16, ledger: &Path, words: &[&str]) -> Receiver {
        Receiver::launch_by(Command::new(BINARY), port, ledger, words)
    }

    /// Starts it by a command that was prepared.
    pub fn launch_by(mut command: Command, port: u16, ledger: &Path, words: &[&str]) -> Receiver {
        let listen = format!("vxlan://127.0.0.1:{port}");
        command.args(["receive", "--listen", &listen, "--stats-json"]).arg(ledger).args(words);
        Receiver { running: Running::start(&mut command), ledger: ledger.into() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.id()
    }

    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Waits until it says something; gives that line.
    pub fn wait_for(&self, text: &str) -> String {
        self.running.wait_for(text, SOON)
    }

    /// Its ledger now, which must balance.
    pub fn ledger(&self) -> Stats {
        let ledger = self.running.ledger(&self.ledger, SOON);
        assert_eq!(ledger.unaccounted, 0, "while it runs: {ledger}");
        ledger
    }

    /// Waits until so many packets have come.
    pub fn wait_for_received(&self, count: u64) {
        wait_until(&format!("{count} received"), SOON, || self.ledger().received >= count);
    }

    /// Ends it by SIGINT; it must exit with 0 and its ledger balance. Gives it and what was said.
    pub fn stop(self) -> (Stats, String) {
        self.signal(Signal::INT);
        let Finished { status, stderr, .. } = self.running.finish(SOON);
        assert_eq!(status.code(), Some(0), "{stderr}");
        let ledger = stats(&self.ledger);
        assert_eq!(ledger.unaccounted, 0, "{stderr}");
        assert_eq!(ledger.received, ledger.written + ledger.drops.total(), "{stderr}");
        (ledger, stderr)
    }

    /// Waits until it ends by itself; gives its exit code and what it said.
    pub fn refused(self) -> (i32, String) {
        let Finished { status, stderr, .. } = self.running.finish(SOON);
        (status.code().expect("no signal was sent"), stderr)
    }

    /// Ends it by SIGKILL.
    pub fn kill(self) {
        self.signal(Signal::KILL);
        self.running.finish(SOON);
    }
}

/// A path as a word of a command.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are ASCII")
}

/// The files below a folder whose names end so.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a folder that opens can be read").path();
        match path.is_dir() {
            true => found.extend(files(&path, ending)),
            false if path.to_string_lossy().ends_with(ending) => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

/// The segments of an archive that are not open any more, each once: stored, or waiting in its spool.
pub fn segments(archive: &Path) -> Vec<PathBuf> {
    let mut segments = Vec::new();
    let mut ids = BTreeSet::new();
    for ending in [".pcapng.zst", ".pcapng.zst.sealed", ".pcapng.closed"] {
        for file in files(archive, ending) {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let stem = name.strip_suffix(ending).unwrap_or_default();
            // A ULID, 26 characters.
            if ids.insert(stem[stem.len().saturating_sub(26)..].to_string()) {
                segments.push(file);
            }
        }
    }
    segments
}

/// The numbers in the closed segments of an archive, or in a file; each must be whole, as Wireshark
/// sees it too.
pub fn numbers_in_whole(files: &[PathBuf]) -> Vec<u64> {
    for file in files {
        let mut reader = Reader::new(open_capture(file).expect("it is there")).expect("a capture");
        while reader.advance().unwrap_or_else(|e| panic!("{}: {e}", file.display())) {}
        assert!(reader.warning().is_none(), "{}: {:?}", file.display(), reader.warning());
    }
    if !files.is_empty() && tool_or_skip("capinfos") {
        let output = Command::new("capinfos").arg("-c").args(files).output().expect("installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
    files.iter().flat_map(numbers_in).collect()
}

/// The numbers in the open segments of an archive up to their last whole blocks.
pub fn numbers_in_open(archive: &Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    for file in files(archive, ".pcapng.open") {
        // Without its header, its process was killed just then.
        let Ok(mut reader) = Reader::new(File::open(&file).expect("nobody removes it")) else {
            continue;
        };
        while let Some(record) = reader.next().unwrap_or_else(|e| panic!("{}: {e}", file.display()))
        {
            let number = record.data[14 + MAGIC.len()..].first_chunk().expect("it was sent whole");
            numbers.push(u64::from_be_bytes(*number));
        }
    }
    numbers
}
