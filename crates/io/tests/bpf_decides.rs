//! Which expressions the kernel can decide, and that it is true: what judges super-packets judges
//! each of their segments alike, and what judges whole frames does not read a checksum.

mod super_packet;

use filter::Program;
use filter::ebpf::{Decides, decides};
use rig::rules::Random;
use wire::LinkType;
use wire::segment::Plan;
use wire::walk::Walk;

const EVERYTHING: &[&str] = &[
    "",
    "ip",
    "ip6",
    "arp",
    "arp host 10.0.0.1",
    "tcp",
    "udp port 4789",
    "tcp port 80",
    "tcp dst port 80 or udp portrange 1000-2000",
    "host 10.0.0.1",
    "host 10.0.0.1 and tcp port 443",
    "src net 10.0.0.0/8 and not port 22",
    "ip6 host fd00::1",
    "icmp[icmptype] = icmp-echo",
    "icmp6",
    "ip6 proto 17",
    "ip6 and tcp src port 443",
    "ether host 02:00:00:00:00:01",
    "ether multicast",
    "ether proto 0x88cc",
    "stp",
    "vlan",
    "mpls",
    "vlan 100",
    "vlan and tcp port 80",
    "vlan 7 and vlan 100 and host 10.0.0.1",
    "ip[8] < 5",
    "ip[6:2] & 0x1fff != 0",
    "ip proto 47",
    "sctp port 9",
];

const WHOLE_FRAMES: &[&str] = &[
    "less 100",
    "greater 200 and udp",
    "len > 64",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[14:2] = 0",
    "udp[4:2] > 100",
    "ip[2:2] > 576",
    "ip[4:2] = 0",
    "ip[10:2] = 0",
    "ip6[4:2] > 1000",
    "vlan and tcp[13] = 2",
];

/// Expressions, and the instruction that is in their way.
const NOTHING: &[(&str, &str)] = &[
    ("tcp[16:2] = 0", "ldh [x + 30]"),
    ("udp[6:2] = 0", "ldh [x + 20]"),
    ("tcp[4:4] > 5", "ld [x + 18]"),
    ("tcp[8:4] = 0", "ld [x + 22]"),
    ("tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420", "ld [x + 14]"),
    ("udp[8:4] = 1", "ld [x + 22]"),
    ("ether[23] = 6", "ldb [23]"),
    ("ether[14] & 0xf0 = 0x40", "ldb [14]"),
    ("ether[100] = 1", "ldb [100]"),
    ("ip[20] = 1", "ldb [34]"),
    ("ip6[56:2] = 0", "ldh [70]"),
    ("mpls 5", "ld [14]"),
    ("vlan and vlan and vlan and vlan and ip", "ldh [24]"),
];

fn program(expression: &str, link_type: LinkType) -> Program {
    io::libpcap::compile(expression, link_type, 0).unwrap_or_else(|e| panic!("{e}"))
}

fn libpcap_or_skip() -> bool {
    io::libpcap::version().is_ok() || rig::tool_or_skip("libpcap")
}

#[test]
fn expressions_are_told_apart() {
    if !libpcap_or_skip() {
        return;
    }
    for expression in EVERYTHING {
        let program = program(expression, LinkType::ETHERNET);
        let got = decides(&program, LinkType::ETHERNET);
        assert_eq!(got, Decides::Everything, "{expression}\n{program}");
    }
    for expression in WHOLE_FRAMES {
        let program = program(expression, LinkType::ETHERNET);
        let got = decides(&program, LinkType::ETHERNET);
        assert_eq!(got, Decides::WholeFrames, "{expression}\n{program}");
    }
    for (expression, load) in NOTHING {
        let program = program(expression, LinkType::ETHERNET);
        let got = decides(&program, LinkType::ETHERNET);
        let Decides::Nothing(obstacle) = &got else {
            panic!("{expression}: {got:?}\n{program}");
        };
        assert!(obstacle.to_string().contains(load), "{expression}: {obstacle}\n{program}");
    }
}

#[test]
fn raw_ip_is_told_apart_by_its_version() {
    if !libpcap_or_skip() {
        return;
    }
    for (expression, expected) in [
        ("ip", Decides::Everything),
        ("tcp port 80", Decides::Everything),
        ("ip6 host fd00::1", Decides::Everything),
        ("tcp[13] = 2", Decides::WholeFrames),
    ] {
        let program = program(expression, LinkType::RAW);
        assert_eq!(decides(&program, LinkType::RAW), expected, "{expression}\n{program}");
    }
    let program = program("ip", LinkType::LINUX_SLL);
    assert!(matches!(decides(&program, LinkType::LINUX_SLL), Decides::Nothing(_)));
}

#[test]
fn what_decides_everything_judges_super_packets_as_their_segments() {
    if !libpcap_or_skip() {
        return;
    }
    let mut random = Random::new(0x7365_676d_656e_7473);
    let programs: Vec<_> = EVERYTHING.iter().map(|e| (e, program(e, LinkType::ETHERNET))).collect();
    let (mut segments, mut matched) = (0, 0);
    for _ in 0..1500 {
        let packet = super_packet::random(&mut random, 2);
        let plan = Plan::new(LinkType::ETHERNET, &packet.frame, &packet.gso).expect("it is sound");
        for i in 0..plan.count().min(5) {
            let mut segment = vec![0; plan.segment_len(i)];
            plan.emit(&packet.frame, i, &mut segment);
            segments += 1;
            for (expression, program) in &programs {
                let whole = program.matches(&packet.frame, packet.frame.len() as u32);
                let part = program.matches(&segment, segment.len() as u32);
                assert_eq!(whole, part, "`{expression}`, segment {i} of {:02x?}", packet.frame);
                matched += usize::from(whole);
            }
        }
    }
    assert!(matched > segments, "each has its match: {matched} of {segments} segments");
}

#[test]
fn what_decides_whole_frames_reads_no_checksum_that_is_not_complete() {
    if !libpcap_or_skip() {
        return;
    }
    let mut random = Random::new(0x6368_6563_6b73);
    let programs: Vec<_> = EVERYTHING
        .iter()
        .chain(WHOLE_FRAMES)
        .map(|e| (e, program(e, LinkType::ETHERNET)))
        .collect();
    for _ in 0..3000 {
        let packet = super_packet::random(&mut random, 2);
        let at = usize::from(packet.gso.csum_start + packet.gso.csum_offset);
        let mut completed = packet.frame.clone();
        completed[at] = random.bits() as u8;
        completed[at + 1] = random.bits() as u8;
        for (expression, program) in &programs {
            let len = completed.len() as u32;
            let (before, after) =
                (program.matches(&packet.frame, len), program.matches(&completed, len));
            assert_eq!(before, after, "`{expression}` over {:02x?}", packet.frame);
        }
        assert!(Walk::new(LinkType::ETHERNET, &completed).transport.is_some());
    }
}
