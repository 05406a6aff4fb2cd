use super::*;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Whether expressions can be compiled here; says why not where they cannot.
fn has_libpcap() -> bool {
    let loaded = version();
    if let Err(e) = &loaded {
        let _ = writeln!(std::io::stderr(), "skipped: libpcap is not installed ({e})");
    }
    loaded.is_ok()
}

/// Expressions for both link types that the comparison with tcpdump uses.
const EXPRESSIONS: &[&str] = &[
    "",
    "ip",
    "ip6",
    "tcp port 80",
    "tcp port 80 and host 1.2.3.4",
    "udp portrange 6000-6010",
    "not (tcp or udp)",
    "src net 10.0.0.0/8 and dst net 192.168.0.0/16",
    "ip6 net 2001:db8::/32",
    "ip6 host 2001:db8::1 and tcp dst port 443",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[tcpflags] == tcp-syn",
    "greater 1000",
    "less 64",
    "len > 100 and len <= 200",
    "ip[2:2] > 576",
    "ip[6:2] & 0x1fff = 0",
    "ip[0] & 0xf != 5",
    "icmp[icmptype] = icmp-echo",
    "icmp6 and ip6[40] = 128",
    "ip proto 47",
    "ip6 proto 58",
    "ip6 protochain 6",
    "ip broadcast",
    "ip multicast",
    "ip6 multicast",
    "sctp port 2905",
    "esp or ah",
    "tcp[0:2] * 2 + 4 > tcp[2:2] / 3 % 7",
    "udp[8] ^ 0x55 = 1 << 3",
    "src port 53 || dst port 53",
    "mpls",
];

const ETHERNET_EXPRESSIONS: &[&str] = &[
    "arp",
    "rarp",
    "ether host 00:11:22:33:44:55",
    "ether src 00:11:22:33:44:55 and not ether broadcast",
    "ether multicast",
    "ether proto 0x88cc",
    "ether[0] & 1 = 0 and ip[16] >= 224",
    "vlan",
    "vlan 100 and tcp port 80",
    "vlan 100 && vlan 200 && ip6",
    "mpls 1000 and ip",
    "pppoes 7 and ip",
    "stp",
    "lldp or ether proto 0x88cc",
    "udp port 4789 and vxlan",
    "geneve 7 and tcp",
    "arp or (vlan and arp)",
    "less 64 and ether dst ff:ff:ff:ff:ff:ff",
];

/// Writes a file of no packets and returns where; the caller removes it.
fn empty_pcap(link_type: LinkType, snaplen: u32) -> PathBuf {
    static FILES: AtomicU32 = AtomicU32::new(0);
    let n = FILES.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("libpcap-test-{}-{n}.pcap", std::process::id()));
    std::fs::write(&path, file_header(link_type, snaplen)).unwrap();
    path
}

/// Compares the listing of every expression with `tcpdump -d -r`, and both failures too.
fn compare_with_tcpdump<'a>(
    link_type: LinkType,
    snaplen: u32,
    expressions: impl Iterator<Item = &'a &'a str>,
) {
    if !has_libpcap() {
        return;
    }
    if Command::new("tcpdump").arg("--version").output().is_err() {
        let _ = writeln!(std::io::stderr(), "skipped: tcpdump is not installed");
        return;
    }
    let path = empty_pcap(link_type, snaplen);
    for expression in expressions {
        let tcpdump = |how| {
            let mut command = Command::new("tcpdump");
            let output = command.args([how, "-r"]).arg(&path).arg(expression).output().unwrap();
            output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
        };
        let ours = compile(expression, link_type, snaplen).ok();
        let context = format!("{expression:?} over {link_type}");
        assert_eq!(ours.as_ref().map(Program::to_string), tcpdump("-d"), "{context}");
        let decimal = ours.map(|program| program.decimal().to_string());
        assert_eq!(decimal, tcpdump("-ddd"), "{context}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn programs_over_ethernet_are_tcpdumps() {
    compare_with_tcpdump(
        LinkType::ETHERNET,
        262_144,
        EXPRESSIONS.iter().chain(ETHERNET_EXPRESSIONS),
    );
}

#[test]
fn programs_over_raw_ip_are_tcpdumps() {
    compare_with_tcpdump(LinkType::RAW, 65_535, EXPRESSIONS.iter());
}

#[test]
fn programs_over_other_link_types_are_tcpdumps() {
    let few = ["ip", "tcp port 80", "ip6 and udp", "greater 99", "vlan", "ip broadcast"];
    for n in [0, 9, 50, 100, 102, 103, 104, 105, 106, 108, 113, 228, 229, 276] {
        compare_with_tcpdump(LinkType(n), 96, few.iter());
    }
}

#[test]
fn a_snap_length_of_none_is_the_largest() {
    compare_with_tcpdump(LinkType::ETHERNET, 0, ["ip", ""].iter());
    compare_with_tcpdump(LinkType::ETHERNET, u32::MAX, ["ip", ""].iter());
}

#[test]
fn an_empty_expression_matches_everything() {
    for expression in ["", "  \n"] {
        let program = compile(expression, LinkType::ETHERNET, 0).unwrap();
        assert!(program.matches(&[], 0));
    }
}

#[test]
fn a_compiled_program_tells_frames_apart() {
    if !has_libpcap() {
        return;
    }
    let program = compile("udp dst port 4789 and len = 900", LinkType::ETHERNET, 0).unwrap();
    let mut frame = [0u8; 60];
    frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x00]);
    frame[23] = 17;
    frame[36..38].copy_from_slice(&4789u16.to_be_bytes());
    assert!(program.matches(&frame, 900));
    assert!(!program.matches(&frame, 60));
    assert!(!program.matches(&frame[..37], 900));
    frame[23] = 6;
    assert!(!program.matches(&frame, 900));
}

#[test]
fn an_error_shows_its_column() {
    if !has_libpcap() {
        return;
    }
    // (expression, column, part of the reason, part of the mend)
    let table: &[(&str, usize, &str, &str)] = &[
        ("tcp port 80 adn host 1.2.3.4", 13, "syntax error", "`and`"),
        ("tcp prot 80", 5, "syntax error", "`port`"),
        ("tpc port 80", 1, "syntax error", "`tcp`"),
        ("foo", 1, "syntax error", "`foo` cannot stand here"),
        ("tcp port", 9, "syntax error", "too early"),
        ("tcp port  ", 9, "syntax error", "too early"),
        ("ip and", 7, "syntax error", "too early"),
        ("(tcp or udp", 12, "syntax error", "too early"),
        ("tcp or udp) and ip", 11, "syntax error", "no `(`"),
        ("ip and () or arp", 9, "syntax error", "not complete"),
        ("tcp[0 = 1", 7, "syntax error", "cannot stand"),
        ("ip[2:2 > 5", 8, "syntax error", "cannot stand"),
        ("tcp port 80 and and udp", 17, "syntax error", "cannot stand"),
        ("ip @ host 1.2.3.4", 4, "syntax error", "cannot stand"),
        ("ip and é", 8, "syntax error", "cannot stand"),
        ("host 'x'", 6, "syntax error", "cannot stand"),
        ("port nonesuch", 6, "unknown port 'nonesuch'", ""),
        ("tcp and port hots", 14, "unknown port", ""),
        ("port 80 and port 70000", 18, "70000", ""),
        ("ip and vlan 5000", 13, "4095", ""),
        ("net 10.0.0.1/8 or ip", 14, "non-network bits", ""),
        ("tcp[0:3] = 1 and ip", 7, "data size", ""),
        ("ip and tcp host 1.2.3.4", 8, "'tcp' modifier", ""),
        ("ip and ip6 or\ttcp port 99999999999", 24, "overflows", ""),
        ("ip and ip6", 8, "rejects all packets", ""),
        ("ip\0", 3, "NUL", "remove"),
        ("ip and inbound", 8, "inbound/outbound", "--direction"),
    ];
    for &(expression, column, reason, mend) in table {
        let e = compile(expression, LinkType::ETHERNET, 65_535).unwrap_err();
        let context = format!("{expression:?}: {e}");
        assert_eq!(e.column, Some(column), "{context}");
        assert!(e.reason.contains(reason), "{context}");
        assert!(e.mend.contains(mend), "{context}");
    }
}

#[test]
fn an_error_prints_a_mark_under_its_column() {
    if !has_libpcap() {
        return;
    }
    let e = compile("tcp port 80 adn host 1.2.3.4", LinkType::ETHERNET, 0).unwrap_err();
    assert_eq!(
        e.to_string(),
        "bad filter expression at column 13: syntax error\n  \
           tcp port 80 adn host 1.2.3.4\n              ^\n  did you mean `and`?"
    );
    // A long expression of several lines is shown in part, in one line.
    let long = format!("{}\nadn tcp{}", "ip or ".repeat(50) + "ip", " or arp".repeat(50));
    let shown = compile(&long, LinkType::ETHERNET, 0).unwrap_err().to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 4, "{shown}");
    let mark = lines[2].find('^').unwrap();
    assert_eq!(&lines[1][mark..mark + 3], "adn");
    assert!(lines[1].len() < 110);
}

#[test]
fn an_unknown_link_type_has_no_column() {
    if !has_libpcap() {
        return;
    }
    let e = compile("tcp", LinkType(147), 0);
    let e = e.expect_err("LINKTYPE_USER0 has no network layer");
    assert!(!e.reason.is_empty());
}

#[test]
fn hostile_expressions_end_soon() {
    if !has_libpcap() {
        return;
    }
    let deep = EXPRESSION_BYTES_MAX / 2 - 4;
    for expression in [
        "(".repeat(EXPRESSION_BYTES_MAX),
        "!".repeat(EXPRESSION_BYTES_MAX - 2) + "ip",
        "(".repeat(deep) + "ip" + &")".repeat(deep),
        "ip or ".repeat(2000) + "adn ip",
        "ip and\n".repeat(2000) + "port nonesuch",
        "a".repeat(EXPRESSION_BYTES_MAX),
        "ip ".repeat(EXPRESSION_BYTES_MAX),
    ] {
        let start = Instant::now();
        let result = compile(&expression, LinkType::ETHERNET, 0);
        if let Err(e) = result {
            assert!(e.to_string().len() < 1000 + e.reason.len());
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{}", &expression[..20]);
    }
    let e = compile(&"ip or ".repeat(9999), LinkType::ETHERNET, 0).unwrap_err();
    assert!(e.reason.contains("59994 bytes"), "{e}");
}

#[test]
fn the_version_names_libpcap() {
    if has_libpcap() {
        assert!(version().unwrap().contains("libpcap"));
    }
}
