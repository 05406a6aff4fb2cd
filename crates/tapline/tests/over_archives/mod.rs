//! What the black-box tests of `tapline archive` share: numbered captures, and archives made of them.

#![allow(dead_code, reason = "each test uses its part")]

use capfile::{Direction, Interface, PcapngWriter, Reader, SectionInfo};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// 2026-11-27 13:14:15 UTC.
pub const T: u64 = 1_795_785_255_000_000_000;
pub const S: u64 = 1_000_000_000;
pub const HOUR: u64 = 3600 * S;

/// Runs `tapline archive` to its end.
pub fn archive<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    command(arguments).output().expect("the program that was just built can be started")
}

/// `tapline archive`, not started yet.
pub fn command<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
    command.arg("archive").args(arguments).stdin(Stdio::null());
    command
}

/// Runs it on an archive, and expects an exit code; gives what it printed, and what it said.
pub fn on(place: &Path, code: i32, words: &[&str]) -> (String, String) {
    let mut all: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
    all.extend([OsStr::new("--archive"), place.as_os_str()]);
    said(&archive(all), code, words)
}

/// What a program printed and said, if its exit code is the one that is expected.
pub fn said(output: &Output, code: i32, words: &[&str]) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{words:?}:\n{out}{err}");
    (out, err)
}

/// Lines of JSON, those of one kind.
pub fn lines(text: &str, kind: &str) -> Vec<Value> {
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON"));
    lines.filter(|line: &Value| line["kind"] == kind).collect()
}

/// A packet with a number, to and from addresses that come again.
pub fn packet(number: u64) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let last = (number % 5) as u8;
    let mut ip = vec![0x45, 0, 0, 48, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 1, last];
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend([0x30, 0x39, 0, 53, 0, 28, 0, 0]);
    frame.extend(number.to_be_bytes());
    frame.extend([0; 12]);
    frame
}

/// A capture of packets, each with its interface's name, its time and its number.
pub fn capture(packets: &[(&str, u64, u64)]) -> Vec<u8> {
    let mut writer = PcapngWriter::new(Vec::new(), &SectionInfo::default()).expect("memory");
    let mut interfaces: BTreeMap<&str, u32> = BTreeMap::new();
    for &(name, ts_ns, number) in packets {
        let interface = *interfaces.entry(name).or_insert_with(|| {
            let name = Some(name.to_owned()).filter(|name| !name.is_empty());
            let interface = Interface { name, ..Interface::new(capfile::LINKTYPE_ETHERNET) };
            writer.add_interface(&interface).expect("memory")
        });
        let data = packet(number);
        writer
            .write(interface, ts_ns, data.len() as u32, Direction::In, &data, None)
            .expect("memory");
    }
    writer.into_inner()
}

/// Times and numbers of the packets of a capture, in its order.
pub fn packets_in(capture: &[u8]) -> Vec<(u64, u64)> {
    let mut reader = Reader::new(capture).expect("a capture");
    let mut packets = Vec::new();
    while let Some(record) = reader.next().expect("a good capture") {
        let at = record.data.len() - 20;
        let number = record.data[at..at + 8].try_into().expect("8 bytes");
        packets.push((record.ts_ns, u64::from_be_bytes(number)));
    }
    assert!(reader.warning().is_none());
    packets
}

/// Puts a segment of `count` packets, a second apart, into an archive, as versions before sealing did.
pub fn put_plain(place: &Path, source: &str, first_ns: u64, count: u64, number: u64) -> String {
    let packets: Vec<_> = (0..count).map(|n| (source, first_ns + n * S, number + n)).collect();
    let id = ulid::Ulid::from_parts(first_ns / 1_000_000, u128::from(number));
    let last_ns = first_ns + (count - 1) * S;
    let name = archive::SegmentName { first_ns, last_ns, id, source: source.into() };
    let key = name.key(archive::Part::Plain);
    let path = place.join(&key);
    fs::create_dir_all(path.parent().expect("a key has folders")).expect("folders are made");
    fs::write(path, capture(&packets)).expect("the file is written");
    key
}

/// All files below a folder, by their paths in it; without those that go meanwhile.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = vec![folder.into()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let key = path.strip_prefix(folder).expect("it is below").display().to_string();
                    if let Ok(bytes) = fs::read(path) {
                        found.insert(key, bytes);
                    }
                }
            }
        }
    }
    found
}
