//! `capture -r X -w Y` keeps packets: times, lengths, bytes, interfaces, link types.

mod over_files;

use capfile::{Direction, Endian, Interface, PcapngWriter, SectionInfo};
use over_files::by_hand::{File, every_block};
use over_files::*;
use rig::Scratch;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Copies a file into one of another name, and gives that.
fn copy(scratch: &Scratch, from: &Path, name: &str) -> PathBuf {
    let to = scratch.path(name);
    assert_done(&copied(from, &to));
    to
}

/// A pcap file with packets that were cut, empty, and longer than they say.
fn pcap_file(endian: Endian, magic: u32, fraction: u32) -> Vec<u8> {
    let mut file = File::pcap(endian, magic, 1);
    file.record(1_700_000_000, fraction, 60, &[1; 60]);
    file.record(1_700_000_000, 0, 1514, &[2; 96]);
    file.record(0, 0, 60, &[]);
    file.record(u32::MAX, fraction, 9, &[3; 41]);
    file.bytes
}

/// Hand-made files of every kind, by name.
fn made() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("micro-little.pcap", pcap_file(Endian::Little, 0xa1b2_c3d4, 999_999)),
        ("micro-big.pcap", pcap_file(Endian::Big, 0xa1b2_c3d4, 999_999)),
        ("nano-little.pcap", pcap_file(Endian::Little, 0xa1b2_3c4d, 999_999_999)),
        ("nano-big.pcap", pcap_file(Endian::Big, 0xa1b2_3c4d, 999_999_999)),
        ("every-block.pcapng", every_block().bytes),
        ("interfaces.pcapng", interfaces()),
        ("empty.pcap", File::pcap(Endian::Little, 0xa1b2_c3d4, 113).bytes),
    ]
}

/// Interfaces with names, texts and link types, of which two are alike; both directions.
fn interfaces() -> Vec<u8> {
    let section = SectionInfo { hardware: Some("box".into()), ..SectionInfo::default() };
    let mut writer = PcapngWriter::new(Vec::new(), &section).expect("memory takes it");
    let described = Interface {
        name: Some("eth0".into()),
        description: Some("the uplink".into()),
        filter: Some("tcp".into()),
        os: Some("Linux".into()),
        snaplen: 262_144,
        ..Interface::new(1)
    };
    let all = [described.clone(), Interface::new(101), described, Interface::new(276)];
    for interface in &all {
        writer.add_interface(interface).expect("memory takes it");
    }
    let directions = [Direction::In, Direction::Out, Direction::Unknown];
    for number in 0..1000u32 {
        let (interface, direction) = (number % 4, directions[number as usize % 3]);
        let ts_ns = 1_700_000_000_123_456_789 - u64::from(number) * 7;
        let data = vec![number as u8; number as usize];
        let comment = (number % 5 == 0).then_some("a comment");
        writer.write(interface, ts_ns, 2 * number, direction, &data, comment).expect("it fits");
    }
    writer.into_inner()
}

#[test]
fn a_copy_holds_the_same_packets_of_the_same_interfaces() {
    let scratch = Scratch::new("copy");
    for (name, bytes) in made() {
        let from = scratch.path(name);
        fs::write(&from, &bytes).unwrap();
        let wanted = packets(&bytes);
        let got = packets_in(&copy(&scratch, &from, "copy.pcapng"));
        assert_eq!(got.len(), wanted.len(), "{name}");
        // The numbers of interfaces may change, but which packets share one may not.
        let mut number_of = std::collections::BTreeMap::new();
        for (n, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
            let number = *number_of.entry(wanted.interface_number).or_insert(got.interface_number);
            let wanted = Packet { interface_number: number, ..wanted.clone() };
            assert_eq!(*got, wanted, "packet {n} of {name}");
        }
        let mut numbers: Vec<u32> = number_of.values().copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), number_of.len(), "{name}: two interfaces became one");
    }
}

#[test]
fn a_copy_into_pcap_holds_the_same_packets() {
    let scratch = Scratch::new("copy-pcap");
    for (name, bytes) in made().into_iter().filter(|(name, _)| name.ends_with(".pcap")) {
        let from = scratch.path(name);
        fs::write(&from, &bytes).unwrap();
        let got = packets_in(&copy(&scratch, &from, "copy.pcap"));
        let parts = |p: &Packet| (p.ts_ns, p.origlen, p.bytes.clone(), p.interface.link_type);
        let wanted: Vec<_> = packets(&bytes).iter().map(parts).collect();
        assert_eq!(got.iter().map(parts).collect::<Vec<_>>(), wanted, "{name}");
    }
}

/// What tshark says of each packet. A Simple Packet Block has no time, a copy of it the time 0.
fn judged(path: &Path, options: &[&str]) -> Vec<Vec<String>> {
    let mut rows = rig::rows(path, options, &["frame.time_epoch", "frame.cap_len", "frame.len"]);
    rows.iter_mut().filter(|row| row[0].is_empty()).for_each(|row| row[0] = "0.000000000".into());
    rows
}

#[test]
fn tshark_finds_the_same_in_a_copy() {
    if !rig::tool_or_skip("tshark") {
        return;
    }
    let scratch = Scratch::new("copy-tshark");
    let judged_ones = ["nano-big.pcap", "every-block.pcapng", "interfaces.pcapng"];
    for (name, bytes) in made().into_iter().filter(|(name, _)| judged_ones.contains(name)) {
        let from = scratch.path(name);
        fs::write(&from, &bytes).unwrap();
        // tshark lists custom blocks too, as packets of plain data or of none.
        let options = match name {
            "every-block.pcapng" => {
                &["-Y", "frame.cap_len > 0 and frame.protocols != \"data\""][..]
            }
            _ => &[],
        };
        let to = copy(&scratch, &from, "copy.pcapng");
        assert_eq!(judged(&to, options), judged(&from, options), "{name}");
    }
}

#[test]
fn a_folder_of_captures_is_copied_without_a_difference() {
    let Some(folder) = std::env::var_os("TAPLINE_CAPTURES") else {
        let why = "skipped: a_folder_of_captures: TAPLINE_CAPTURES names none";
        let _ = writeln!(std::io::stderr(), "{why}"); // past the test runner's capture
        return;
    };
    let scratch = Scratch::new("copy-captures");
    let files = rig::capture_files(Path::new(&folder));
    assert!(!files.is_empty(), "no captures in {}", folder.display());
    for from in files {
        let wanted = packets(&fs::read(&from).unwrap());
        let to = copy(&scratch, &from, "copy.pcapng");
        assert!(packets_in(&to) == wanted, "{}", from.display());
        if rig::tool_or_skip("tshark") {
            assert!(judged(&to, &[]) == judged(&from, &[]), "{}", from.display());
        }
        let (to_pcap, parts) = (copy(&scratch, &from, "copy.pcap"), |p: &Packet| {
            (p.ts_ns, p.origlen, p.bytes.clone())
        });
        let same = packets_in(&to_pcap).iter().map(parts).eq(wanted.iter().map(parts));
        assert!(same, "{} into pcap", from.display());
    }
}

#[test]
fn standard_input_and_output_serve_as_files() {
    for (name, bytes) in made() {
        let output = tapline_reading(&bytes, &["capture", "-r", "-", "-w", "-"]);
        assert_done(&output);
        let (got, wanted) = (packets(&output.stdout), packets(&bytes));
        assert_eq!(got.len(), wanted.len(), "{name}");
        for (got, wanted) in got.iter().zip(&wanted) {
            assert_eq!((got.ts_ns, got.origlen), (wanted.ts_ns, wanted.origlen), "{name}");
            assert_eq!(got.bytes, wanted.bytes, "{name}");
        }
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_copy_without_an_error() {
    let bytes = pcap(1, (0..50_000).map(|_| [0; 200]));
    let scratch = Scratch::new("copy-head");
    let from = scratch.path("x.pcap");
    fs::write(&from, &bytes).unwrap();
    let from = from.display().to_string();
    let output = tapline_read_for(1000, &["capture", "-w", "-", "-r", &from]);
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    assert_says_ledger(&output, 2);
}

#[test]
fn a_file_that_is_cut_gives_its_whole_packets_and_a_warning() {
    let scratch = Scratch::new("copy-cut");
    let (from, to) = (scratch.path("cut"), scratch.path("copy.pcapng"));
    for (name, file) in [("pcapng", every_block()), ("pcap", big_pcap())] {
        let len = file.bytes.len();
        for cut in [len - 1, len - 7, len / 2] {
            fs::write(&from, &file.bytes[..cut]).unwrap();
            let output = copied(&from, &to);
            assert_done(&output);
            let ends = file.ends.iter().take_while(|&&(end, _)| end <= cut as u64);
            let good = ends.clone().last().expect("the header is whole").0;
            let whole = ends.filter(|&&(_, is_packet)| is_packet).count();
            assert_eq!(packets_in(&to).len(), whole, "{name} cut at {cut}");
            let text = stderr(&output);
            if good == cut as u64 {
                assert!(!text.contains("is cut"), "{text}");
                continue;
            }
            assert!(text.contains(&format!("is cut at byte {cut}")), "{text}");
            assert!(text.contains(&format!("head -c {good}")), "says the mend: {text}");
        }
    }
}

fn big_pcap() -> File {
    let mut file = File::pcap(Endian::Big, 0xa1b2_3c4d, 1);
    for number in 0..500 {
        file.record(number, number, 1514, &[number as u8; 100]);
    }
    file
}

#[test]
fn a_damaged_file_gives_its_good_part_and_exit_code_1() {
    let scratch = Scratch::new("copy-damaged");
    let (from, to) = (scratch.path("damaged"), scratch.path("copy.pcapng"));
    let mut file = big_pcap();
    let (at, _) = file.ends[300];
    file.bytes[at as usize + 8..][..4].fill(0xff);
    fs::write(&from, &file.bytes).unwrap();
    let output = copied(&from, &to);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains(&format!("damaged at byte {at}")), "{text}");
    assert!(text.contains(&format!("head -c {at}")), "says the mend: {text}");
    assert!(text.contains("seen 300"), "the ledger is printed all the same: {text}");
    let got = packets_in(&to);
    assert_eq!(got.len(), 300);
    assert!(got.iter().zip(0..).all(|(packet, number)| packet.bytes == [number as u8; 100]));
}

#[test]
fn what_is_no_capture_is_named() {
    let scratch = Scratch::new("copy-foreign");
    let from = scratch.path("foreign");
    for (bytes, wanted) in [
        (&b"hello, world, this is no capture"[..], "no format known here"),
        (b"", "empty"),
        (b"\xd4\xc3\xb2\xa1\x02\x00", "24 bytes"),
        // Compressed by their first bytes, and then not.
        (b"\x1f\x8b\x08\x00 and so on and so on", "cannot read the capture at byte 0"),
        (b"\x28\xb5\x2f\xfd and so on and so on", "cannot read the capture at byte 0"),
    ] {
        fs::write(&from, bytes).unwrap();
        let output = tapline(["capture".as_ref(), "-r".as_ref(), from.as_path()]);
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        assert!(text.starts_with("tapline: ") && text.contains(wanted), "{text}");
        assert!(text.contains("/foreign"), "names the file: {text}");
    }
}
