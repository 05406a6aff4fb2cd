//! What other programs make of a sealed segment.

use crate::made::*;
use capfile::seekable::PIECE_LEN;
use rig::Scratch;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An archive in a folder with one segment, of packets of several kinds.
fn archive(scratch: &Scratch) -> (PathBuf, PathBuf, Vec<Made>) {
    let mut packets: Vec<Made> =
        (0..3000).map(|n| question(n % 70, T + u64::from(n), &noise(n))).collect();
    let ends = [[10, 0, 0, 1], [10, 0, 0, 2]].map(std::net::IpAddr::from);
    for (n, packet) in packets.iter_mut().enumerate().filter(|(n, _)| n % 3 == 0) {
        let (ethertype, data) = ip(ends[0], ends[1], 6, 0, &tcp(n as u16 % 9, 443, 0x18, b"hello"));
        *packet = Made::new(packet.ts_ns, ethernet(&[], ethertype, &data), ends);
    }
    let name = name("eth0", &packets);
    let sealed = sealed(scratch.folder(), &capture(&["eth0"], &packets, false), &name).unwrap();
    assert!(sealed.record.bytes > 4 * PIECE_LEN as u64, "{}", sealed.record.bytes);
    let place = |from: &Path, part| {
        let path = scratch.path("archive").join(name.key(part));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::rename(from, &path).unwrap();
        path
    };
    let data = place(&sealed.data, archive::Part::Data);
    (data, place(&sealed.index, archive::Part::Index), packets)
}

/// Bytes that do not compress: then frames are longer than what programs read at a time.
fn noise(seed: u32) -> Vec<u8> {
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*state >> 24) as u8)
    };
    std::iter::successors(Some((seed, 0)), |&(mut state, _)| next(&mut state).map(|b| (state, b)))
        .skip(1)
        .map(|(_, byte)| byte)
        .take(600)
        .collect()
}

/// Runs a program that must succeed and say nothing on standard error, but for tshark's word about root.
fn quiet(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().filter(|line| !line.contains("Running as user")).collect();
    assert!(output.status.success() && said.is_empty(), "{program}: {said:?}");
    output.stdout
}

#[test]
fn zstd_and_sha256sum_read_it() {
    if !rig::tool_or_skip("zstd") {
        return;
    }
    let scratch = Scratch::new("seal-zstd");
    let (data, _, packets) = archive(&scratch);
    let path = data.to_str().unwrap();
    quiet("zstd", &["-q", "-t", path]);
    let raw = quiet("zstd", &["-q", "-d", "-c", path]);
    assert_eq!(raw, capture(&["eth0"], &packets, false));
    let sum = String::from_utf8(quiet("sha256sum", &[path])).unwrap();
    assert_eq!(sum.split(' ').next(), Some(&sha256(&data)[..]));
}

#[test]
fn wireshark_s_programs_read_it_compressed() {
    if !rig::tool_or_skip("tshark") || !rig::tool_or_skip("capinfos") {
        return;
    }
    let scratch = Scratch::new("seal-tshark");
    let (data, index, packets) = archive(&scratch);
    let path = data.to_str().unwrap();
    let fields = ["-T", "fields", "-e", "frame.time_epoch", "-e", "communityid"];
    let arguments = ["-n", "-r", path, "--enable-protocol", "communityid"];
    let lines = quiet("tshark", &[&arguments[..], &fields].concat());
    let lines = String::from_utf8(lines).unwrap();
    let mut ids: BTreeMap<String, u64> = BTreeMap::new();
    for (line, packet) in lines.lines().zip(&packets) {
        let (time, id) = line.split_once('\t').unwrap();
        let time = time.replace('.', "");
        assert_eq!(time.parse::<u64>(), Ok(packet.ts_ns));
        *ids.entry(id.to_owned()).or_default() += 1;
    }
    assert_eq!(lines.lines().count(), packets.len());
    // Wireshark's community ids are those of the index, for as many packets.
    let rows = archive::index::rows_of(std::fs::read(index).unwrap().into()).unwrap();
    let ours = rows
        .into_iter()
        .map(|row| (row.flow.unwrap().community_id.unwrap(), row.packets.0 + row.packets.1));
    assert_eq!(ids, ours.collect());
    let told = String::from_utf8(quiet("capinfos", &["-c", "-M", path])).unwrap();
    assert!(told.contains("3000"), "{told}");
}

#[test]
fn duckdb_reads_the_index() {
    let Some(python) = python_with_duckdb() else { return };
    let scratch = Scratch::new("seal-duckdb");
    let (_, _, packets) = archive(&scratch);
    let query = format!(
        "import duckdb\nfor row in duckdb.sql(\"select proto, sum(bytes), sum(packets), \
         min(first_ns), any_value(source), any_value(hour) from '{}/**/*.index.parquet' \
         group by 1 order by 1\").fetchall(): print(*row)",
        scratch.path("archive").display()
    );
    let lines = quiet(python.to_str().unwrap(), &["-c", &query]);
    let sums = |is_tcp: bool| {
        let of = packets.iter().filter(|packet| (packet.data[23] == 6) == is_tcp);
        let bytes: u64 = of.clone().map(|packet| u64::from(packet.origlen)).sum();
        let first = of.clone().map(|packet| packet.ts_ns).min().unwrap();
        format!("{} {bytes} {} {first} eth0 13", if is_tcp { 6 } else { 17 }, of.count())
    };
    let want = format!("{}\n{}\n", sums(true), sums(false));
    assert_eq!(String::from_utf8(lines).unwrap(), want);
}

/// A Python that has DuckDB: the system's, or one of its own beside the build, which is made once.
fn python_with_duckdb() -> Option<PathBuf> {
    let has = |python: &Path| {
        let output = Command::new(python).args(["-c", "import duckdb"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).join("duckdb");
    let python = own.join("bin/python3");
    if let Some(found) = [Path::new("python3"), &python].into_iter().find(|python| has(python)) {
        return Some(found.into());
    }
    let run = |program: &Path, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    let made = run(Path::new("python3"), &["-m", "venv", own.to_str().unwrap()])
        && run(&python, &["-m", "pip", "install", "--quiet", "duckdb"]);
    if made && has(&python) {
        return Some(python);
    }
    rig::skip("needs Python with its package duckdb");
    None
}
