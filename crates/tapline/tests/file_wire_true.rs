//! `capture -r X --wire-true`: files that hold super-packets become files of the wire's packets.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_files;

use over_files::*;
use rig::{Scratch, rows, tool_or_skip};
use std::path::{Path, PathBuf};

const SYN: u8 = 0x02;
const PSH_ACK: u8 = 0x18;

/// A TCP packet without options but the MSS; lengths are filled in, checksums left 0.
fn tcp(sent: bool, flags: u8, seq: u32, mss: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let (near, far) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let (near_port, far_port) = (50_000u16.to_be_bytes(), 80u16.to_be_bytes());
    let options = mss.map_or(vec![], |mss| [&[2, 4][..], &mss.to_be_bytes()].concat());
    let len = (40 + options.len() + payload.len()) as u16;
    let (src, dst) = if sent { (near, far) } else { (far, near) };
    let (src_port, dst_port) = if sent { (near_port, far_port) } else { (far_port, near_port) };
    [
        &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0][..],
        &[0x45, 0],
        &len.to_be_bytes(),
        &[0, 100, 0x40, 0, 64, 6, 0, 0],
        &src,
        &dst,
        &src_port,
        &dst_port,
        &seq.to_be_bytes(),
        &[0, 0, 0, 1, ((5 + options.len() / 4) << 4) as u8, flags, 1, 0, 0, 0, 0, 0],
        &options,
        payload,
    ]
    .concat()
}

fn wire_true(from: &Path, to: &Path, more: &[&str]) -> String {
    let words =
        ["capture", "-r", from.to_str().unwrap(), "--wire-true", "-w", to.to_str().unwrap()];
    let output = tapline(words.iter().chain(more));
    assert_done(&output);
    assert_says_ledger(&output, 2);
    stderr(&output).to_owned()
}

/// What tshark says of the packets of a file that tell whether they are whole.
const FIELDS: [&str; 5] =
    ["frame.len", "tcp.len", "ip.checksum.status", "tcp.checksum.status", "udp.checksum.status"];
const CHECKED: [&str; 6] = [
    "-o",
    "ip.check_checksum:TRUE",
    "-o",
    "tcp.check_checksum:TRUE",
    "-o",
    "udp.check_checksum:TRUE",
];

/// Asserts that all packets fit the MTU and have good checksums; gives the sum of TCP's payload.
fn assert_true(path: &Path, mtu: usize) -> usize {
    let mut payload = 0;
    for row in rows(path, &CHECKED, &FIELDS) {
        let len: usize = row[0].parse().unwrap();
        assert!(len <= mtu + 14, "{len} bytes in {}", path.display());
        payload += row[1].parse::<usize>().unwrap();
        for status in row[2..].iter().flat_map(|cell| cell.split(',')) {
            // Good, or a UDP checksum that is not there.
            assert!(matches!(status, "" | "1" | "3"), "{}: {row:?}", path.display());
        }
    }
    payload
}

#[test]
fn the_connection_s_begin_tells_the_size_and_without_it_the_mtu() {
    let scratch = Scratch::new("wire-true");
    let (from, to) = (scratch.path("big.pcap"), scratch.path("true.pcapng"));
    let payload: Vec<u8> = (0..3000u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    let begin = [
        tcp(true, SYN, 99, Some(1460), b""),
        tcp(false, SYN | 0x10, 0, Some(1000), b""),
        tcp(true, PSH_ACK, 100, None, &payload),
    ];
    std::fs::write(&from, pcap(1, &begin)).unwrap();
    let said = wire_true(&from, &to, &[]);
    assert!(said.contains("cut 1 super-packets into 3 packets (0 of estimated size)"), "{said}");
    let packets = packets_in(&to);
    let lengths: Vec<usize> = packets.iter().map(|packet| packet.bytes.len()).collect();
    assert_eq!(lengths, [58, 58, 1054, 1054, 1054]);
    assert!(packets.iter().all(|packet| packet.interface_number == 0));
    let joined: Vec<u8> = packets[2..].iter().flat_map(|p| p.bytes[54..].to_vec()).collect();
    assert_eq!(joined, payload);

    std::fs::write(&from, pcap(1, &begin[2..])).unwrap();
    let json = scratch.path("stats.json");
    let more = ["--mtu", "1240", "--stats-json", json.to_str().unwrap()];
    let said = wire_true(&from, &to, &more);
    assert!(said.contains("into 3 packets (3 of estimated size), left 0"), "{said}");
    let packets = packets_in(&to);
    let lengths: Vec<usize> = packets.iter().map(|packet| packet.bytes.len()).collect();
    assert_eq!(lengths, [1254, 1254, 654]);
    for packet in &packets {
        let description = packet.interface.description.as_deref().unwrap();
        assert!(description.contains("estimated for MTU 1240"), "{description}");
    }
    let counted = rig::stats(&json).wire_true.unwrap();
    assert_eq!((counted.super_packets, counted.segments, counted.estimated), (1, 3, 3));
    if tool_or_skip("tshark") {
        assert_eq!(assert_true(&to, 1240), 3000);
    }
}

#[test]
fn a_filter_and_a_count_see_the_wire_s_packets() {
    let scratch = Scratch::new("wire-true-filter");
    let (from, to) = (scratch.path("big.pcap"), scratch.path("true.pcap"));
    let frame = tcp(true, PSH_ACK, 100, None, &[5; 14_600]);
    std::fs::write(&from, pcap(1, [&frame, &frame])).unwrap();
    wire_true(&from, &to, &["-c", "3", "tcp[13] & 8 == 0"]);
    let packets = packets_in(&to);
    assert_eq!(packets.len(), 3);
    assert!(packets.iter().all(|packet| packet.bytes.len() == 1514));
    wire_true(&from, &to, &["-s", "60"]);
    let packets = packets_in(&to);
    assert_eq!(packets.len(), 20);
    assert!(packets.iter().all(|packet| packet.origlen == 1514 && packet.bytes.len() == 60));
}

/// The folder of outside captures, where there is one.
fn captures_or_skip() -> Option<PathBuf> {
    let folder = std::env::var_os("TAPLINE_CAPTURES").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: TAPLINE_CAPTURES names no folder of captures");
    }
    folder
}

#[test]
fn captures_of_others_become_true() {
    let Some(folder) = captures_or_skip() else { return };
    if !tool_or_skip("tshark") {
        return;
    }
    let scratch = Scratch::new("wire-true-others");
    // The payload of each file's one packet, which tcpdump prints where no length is 0.
    for (name, payload) in [
        ("gso-ipv4", 7240),
        ("gso-ipv4-vxlan-ipv4", 6990),
        ("gso-ipv6", 7140),
        ("gso-ipv6-geneve-ipv6", 6790),
        ("bigtcp-ipv4-vxlan-ipv4", 80_000),
        ("ipv4_tcp_http_xml_tso", 1976),
    ] {
        for mtu in [1500, 1280] {
            let (from, to) = (folder.join(format!("{name}.pcap")), scratch.path("true.pcapng"));
            let said = wire_true(&from, &to, &["--mtu", &mtu.to_string()]);
            assert!(said.contains("cut 1 super-packets"), "{name}: {said}");
            assert_eq!(assert_true(&to, mtu), payload, "{name}");
            wire_true(&from, &to, &["--mtu", &mtu.to_string(), "--decap", "all"]);
            let layers = rows(&to, &["-Y", "vxlan or geneve"], &["frame.number"]);
            assert!(layers.is_empty(), "{name}: still in a tunnel: {layers:?}");
            assert_eq!(assert_true(&to, mtu), payload, "{name}, out of its tunnel");
        }
    }
    for name in ["various_gre", "geneve", "vxlan", "erspan-type-iii-ft-0", "802.1ad_QinQ"] {
        let (from, to) = (folder.join(format!("{name}.pcap")), scratch.path("same.pcapng"));
        let said = wire_true(&from, &to, &[]);
        assert!(said.contains("cut 0 super-packets"), "{name}: {said}");
        let (left, right) = (packets_in(&from), packets_in(&to));
        assert_eq!(left.len(), right.len(), "{name}");
        for (one, other) in left.iter().zip(&right) {
            assert_eq!(
                (&one.bytes, one.origlen, one.ts_ns),
                (&other.bytes, other.origlen, other.ts_ns)
            );
        }
    }
}
