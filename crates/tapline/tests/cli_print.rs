//! What `capture` prints without `-w`: a line a packet, as text or as JSON.

mod over_files;

use capfile::{Direction, Interface, PcapngWriter, SectionInfo};
use over_files::frame::*;
use over_files::*;
use serde_json::Value;
use std::process::{Command, Stdio};

/// Frames and what stands behind the time in their text line.
fn frames() -> Vec<(Vec<u8>, &'static str)> {
    let fragment = |offset_and_more| {
        let packet = ipv4_between([10, 0, 0, 1], [10, 0, 0, 2], 17, offset_and_more, &[5; 24]);
        ethernet(0x0800, &packet)
    };
    let icmp = [8, 0, 0, 0, 0, 1, 0, 1];
    vec![
        (
            ethernet(0x0800, &ipv4(6, &tcp(1000, 80, 0x18, b"GET /"))),
            "10.0.0.1.1000 > 10.0.0.2.80: tcp [P.] seq 1 ack 2 win 512 payload 5, length 59",
        ),
        (
            ethernet(0x86dd, &ipv6(6, &tcp(80, 1000, 0x12, b""))),
            "fd00::1.80 > fd00::2.1000: tcp [S.] seq 1 ack 2 win 512 payload 0, length 74",
        ),
        (
            ethernet(0x0800, &ipv4(17, &udp(53, 1000, b"answer"))),
            "10.0.0.1.53 > 10.0.0.2.1000: udp payload 6, length 48",
        ),
        (ethernet(0x0800, &ipv4(1, &icmp)), "10.0.0.1 > 10.0.0.2: icmp type 8 code 0, length 42"),
        (
            ethernet(0x86dd, &ipv6(58, &[128, 0, 0, 0, 0, 1, 0, 1])),
            "fd00::1 > fd00::2: icmp6 type 128 code 0, length 62",
        ),
        (arp(), "arp, length 42"),
        (tagged(&arp(), &[7]), "vlan 7 arp, length 46"),
        (
            tagged(&ethernet(0x0800, &ipv4(17, &udp(1, 2, b""))), &[200, 2001]),
            "vlan 200 vlan 2001 10.0.0.1.1 > 10.0.0.2.2: udp payload 0, length 50",
        ),
        (fragment(0x00b9), "10.0.0.1 > 10.0.0.2: fragment of protocol 17, length 58"),
        (ethernet(0x0800, &ipv4(47, &[0; 4])), "10.0.0.1 > 10.0.0.2: protocol 47, length 38"),
        (ethernet(0x88cc, &[0; 20]), "ethertype 0x88cc, length 34"),
    ]
}

#[test]
fn a_text_line_names_addresses_ports_and_what_is_carried() {
    let input = pcap(1, frames().iter().map(|(frame, _)| frame));
    let output = tapline_reading(&input, &["capture", "-r", "-"]);
    assert_done(&output);
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert_eq!(lines.len(), frames().len());
    for (number, (line, (_, wanted))) in lines.iter().zip(frames()).enumerate() {
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(time, format!("2023-11-14T22:13:20.{number:06}000Z"));
        assert_eq!(rest, wanted);
    }
}

#[test]
fn broken_and_empty_frames_have_a_line_too() {
    let whole: Vec<Vec<u8>> = frames().into_iter().map(|(frame, _)| frame).collect();
    let cut = whole.iter().flat_map(|frame| (0..frame.len()).map(|len| &frame[..len]));
    let cut: Vec<&[u8]> = cut.collect();
    let input = pcap(1, &cut);
    for format in ["text", "json"] {
        let output = tapline_reading(&input, &["capture", "-r", "-", "--format", format]);
        assert_done(&output);
        assert_eq!(stdout(&output).lines().count(), cut.len());
    }
}

#[test]
fn a_packet_that_was_cut_shows_both_lengths() {
    let mut input = over_files::by_hand::File::pcap(capfile::Endian::Big, 0xa1b2_3c4d, 1);
    input.record(1, 2, 1514, &ethernet(0x0800, &ipv4(6, &tcp(1, 2, 0x10, &[0; 40]))));
    let output = tapline_reading(&input.bytes, &["capture", "-r", "-", "-s", "60"]);
    let line = stdout(&output);
    assert!(line.starts_with("1970-01-01T00:00:01.000000002Z "), "{line}");
    assert!(line.ends_with(", length 1514 (60 captured)\n"), "{line}");
}

#[test]
fn a_json_line_has_the_fields_that_the_packet_has() {
    let section = SectionInfo::default();
    let mut writer = PcapngWriter::new(Vec::new(), &section).unwrap();
    writer.add_interface(&Interface { name: Some("eth0".into()), ..Interface::new(1) }).unwrap();
    let tcp = tagged(&ethernet(0x0800, &ipv4(6, &tcp(1000, 80, 0x02, b"x"))), &[7]);
    let ts_ns = 1_700_000_000_123_456_789;
    writer.write(0, ts_ns, 1514, Direction::Out, &tcp, None).unwrap();
    writer.write(0, ts_ns, 42, Direction::Unknown, &arp(), None).unwrap();
    let input = writer.into_inner();
    let output = tapline_reading(&input, &["capture", "-r", "-", "--format", "json", "-q"]);
    assert_done(&output);
    assert_eq!(stderr(&output), "", "-q is quiet");
    let lines: Vec<Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [tcp, arp] = &lines[..] else { panic!("{}", stdout(&output)) };
    for (field, wanted) in [
        ("time", Value::from("2023-11-14T22:13:20.123456789Z")),
        ("interface", "eth0".into()),
        ("direction", "out".into()),
        ("caplen", 59.into()),
        ("origlen", 1514.into()),
        ("link_type", 1.into()),
        ("vlan", vec![7].into()),
        ("ethertype", 0x0800.into()),
        ("src", "10.0.0.1".into()),
        ("dst", "10.0.0.2".into()),
        ("protocol", 6.into()),
        ("src_port", 1000.into()),
        ("dst_port", 80.into()),
        ("tcp_flags", "S".into()),
    ] {
        assert_eq!(tcp[field], wanted, "{field}");
    }
    assert!(tcp["info"].as_str().unwrap().starts_with("tcp [S]"));
    let fields: Vec<&str> = arp.as_object().unwrap().keys().map(String::as_str).collect();
    let mut wanted =
        ["time", "interface", "caplen", "origlen", "link_type", "ethertype", "info"].to_vec();
    wanted.sort_unstable();
    assert_eq!(fields, wanted, "what is not there is left out");
}

#[test]
fn a_name_that_would_break_the_line_or_command_the_terminal_is_made_harmless() {
    let mut writer = PcapngWriter::new(Vec::new(), &SectionInfo::default()).unwrap();
    let name = Some("\u{1b}[31mred\nline\u{9b}1m".into());
    writer.add_interface(&Interface { name, ..Interface::new(1) }).unwrap();
    writer.write(0, 0, 42, Direction::In, &arp(), None).unwrap();
    let input = writer.into_inner();
    for format in ["text", "json"] {
        let output = tapline_reading(&input, &["capture", "-r", "-", "--format", format]);
        assert_done(&output);
        assert_eq!(stdout(&output).lines().count(), 1, "{}", stdout(&output));
        assert!(stdout(&output).contains("\u{fffd}[31mred\u{fffd}line\u{fffd}1m"));
        assert!(!stdout(&output).trim_end().contains(char::is_control), "{}", stdout(&output));
    }
}

#[test]
fn what_is_printed_is_what_the_expression_selects() {
    let input = pcap(1, frames().iter().map(|(frame, _)| frame));
    for (expression, count) in [("udp port 53", 1), ("ip6", 2), ("arp or vlan", 3), ("port 9", 0)] {
        let output = tapline_reading(&input, &["capture", "-r", "-", expression]);
        assert_done(&output);
        assert_eq!(stdout(&output).lines().count(), count, "{expression}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_printing_without_an_error() {
    let scratch = rig::Scratch::new("print-head");
    let from = scratch.path("x.pcap");
    std::fs::write(&from, pcap(1, (0..20_000).map(|_| arp()))).unwrap();
    let output = tapline_read_for(100, &["capture", "-r", &from.display().to_string()]);
    assert_done(&output);
    assert_says_ledger(&output, 2);
}

#[test]
fn a_full_disk_behind_standard_output_is_a_failure() {
    let scratch = rig::Scratch::new("print-full");
    let from = scratch.path("x.pcap");
    std::fs::write(&from, pcap(1, [arp(), arp()])).unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
    command.args(["capture", "-r"]).arg(&from).stdout(full).stderr(Stdio::piped());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("print packets: No space left") && text.contains("; make room"),
        "{text}"
    );
    assert!(text.contains("sent 0, dropped 2 (stopped 2), 0 un"), "{text}");
}
