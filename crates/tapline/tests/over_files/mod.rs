//! What the black-box tests over files share: the program, hand-made captures, frames.

#![allow(dead_code, reason = "each test uses its part")]

#[path = "../../../capfile/tests/reading/by_hand.rs"]
pub mod by_hand;
#[path = "../../../pipeline/tests/taps/frame.rs"]
pub mod frame;

use by_hand::File;
use capfile::{Direction, Endian, Interface, Reader, TsResolution};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs tapline to its end, without input.
pub fn tapline<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
    command.args(arguments).stdin(Stdio::null());
    command.output().expect("the program that was just built can be started")
}

/// Runs tapline with bytes on its standard input.
pub fn tapline_reading(input: &[u8], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program that was just built can be started");
    let mut stdin = child.stdin.take().expect("piped above");
    let input = input.to_vec();
    // It may end before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the program ends");
    writer.join().expect("the writer does not panic");
    output
}

/// Has tapline copy a capture file.
pub fn copied(from: &Path, to: &Path) -> Output {
    tapline(["capture".as_ref(), "-r".as_ref(), from, "-w".as_ref(), to])
}

/// Runs tapline with a reader of its standard output that goes away after so many bytes.
pub fn tapline_read_for(bytes: usize, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program that was just built can be started");
    let mut reader = child.stdout.take().expect("piped above");
    reader.read_exact(&mut vec![0; bytes]).expect("so much is printed");
    drop(reader);
    child.wait_with_output().expect("the program ends")
}

pub fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).expect("messages are text")
}

pub fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).expect("packets are printed as text")
}

/// Asserts that a program has done what it was asked for.
pub fn assert_done(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

/// Asserts that a program has said a ledger of so many lines, which, and only they, say how many
/// packets are unaccounted: none.
pub fn assert_says_ledger(output: &Output, lines: usize) {
    let text = stderr(output);
    let ledger: Vec<&str> = text.lines().filter(|line| line.contains("unaccounted")).collect();
    assert_eq!(ledger.len(), lines, "{text}");
    for line in ledger {
        assert!(line.ends_with(", 0 unaccounted"), "{line}");
        assert_eq!(line.matches("unaccounted").count(), 1, "{line}");
    }
}

/// A packet with all that a capture file says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    pub ts_ns: u64,
    pub origlen: u32,
    pub direction: Direction,
    pub bytes: Vec<u8>,
    /// Without what only says how the times of the file are written.
    pub interface: Interface,
    pub interface_number: u32,
}

/// Reads a capture to its end or to the place where it is cut or damaged.
pub fn packets(bytes: &[u8]) -> Vec<Packet> {
    let mut reader = Reader::new(bytes).expect("a capture");
    let mut packets = Vec::new();
    while let Ok(true) = reader.advance() {
        let record = reader.record().expect("advance says so");
        let interface = &reader.interfaces()[record.interface as usize];
        let interface = Interface {
            ts_resolution: TsResolution::default(),
            ts_offset_s: 0,
            ..interface.clone()
        };
        packets.push(Packet {
            ts_ns: record.ts_ns,
            origlen: record.origlen,
            direction: record.direction,
            bytes: record.data.to_vec(),
            interface,
            interface_number: record.interface,
        });
    }
    packets
}

/// As [`packets`], of a file that must end behind a whole record.
pub fn packets_in(path: &Path) -> Vec<Packet> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut reader = Reader::new(&bytes[..]).expect("a capture");
    while reader.next().expect("whole blocks").is_some() {}
    assert!(reader.warning().is_none(), "{}: {:?}", path.display(), reader.warning());
    packets(&bytes)
}

/// A pcap file of microseconds, little endian, whose packets are one microsecond apart.
pub fn pcap<F: AsRef<[u8]>>(link_type: u32, frames: impl IntoIterator<Item = F>) -> Vec<u8> {
    let mut file = File::pcap(Endian::Little, 0xa1b2_c3d4, link_type);
    for (number, frame) in frames.into_iter().enumerate() {
        let frame = frame.as_ref();
        let (seconds, fraction) = (1_700_000_000 + number / 1_000_000, number % 1_000_000);
        file.record(seconds as u32, fraction as u32, frame.len() as u32, frame);
    }
    file.bytes
}
