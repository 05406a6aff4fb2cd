//! That nothing is pruned which the exact filter takes: random frames and random expressions, each frame
//! alone in a segment of its own, so that no other one hides a mistake. `SEARCH_ROUNDS` in the environment
//! says how many expressions are tried.

use super::{Expression, Query};
use crate::Window;
use crate::index::{AddressSet, Row, Table};
use capfile::{Direction, Interface, PcapngWriter, Reader, SectionInfo};
use wire::LinkType;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

const V4: [[u8; 4]; 4] = [[10, 0, 0, 1], [10, 0, 0, 2], [192, 0, 2, 1], [224, 0, 0, 1]];
const V6: [[u8; 16]; 3] = [
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
];
const PORTS: [u16; 5] = [53, 80, 443, 4789, 6081];
const PROTOCOLS: [u8; 11] = [6, 6, 17, 17, 1, 58, 132, 2, 47, 50, 51];

fn transport(random: &mut Random, protocol: u8, depth: u32) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    bytes.extend(random.of(&PORTS).to_be_bytes());
    bytes.extend(random.of(&PORTS).to_be_bytes());
    match protocol {
        6 => bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, random.below(64) as u8, 0, 9, 0, 0, 0, 0]),
        17 => {
            let inner = if bytes[2..4] == 4789_u16.to_be_bytes() && depth < 2 {
                let mut inner = vec![8, 0, 0, 0, 0, 0, 71, 0];
                inner.extend(ethernet(random, depth + 1));
                inner
            } else {
                vec![0; 8]
            };
            bytes.extend((8 + inner.len() as u16).to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(inner);
        }
        47 if depth < 2 => {
            let is_v6 = random.one_in(2);
            bytes = vec![0, 0];
            bytes.extend(if is_v6 { [0x86, 0xdd] } else { [8, 0] });
            bytes.extend(ip(random, is_v6, depth + 1));
        }
        _ => bytes.extend([random.below(256) as u8; 16]),
    }
    bytes
}

fn ip(random: &mut Random, is_v6: bool, depth: u32) -> Vec<u8> {
    let mut protocol = random.of(&PROTOCOLS);
    let mut payload = transport(random, protocol, depth);
    if protocol == 51 {
        let inner = random.of(&[6, 17]);
        let mut header = vec![inner, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
        header.extend(transport(random, inner, depth));
        payload = header;
    }
    let mut bytes;
    if is_v6 {
        while random.one_in(3) {
            let (number, header) = match random.below(3) {
                0 => (0, vec![protocol, 0, 1, 4, 0, 0, 0, 0]),
                1 => (60, vec![protocol, 0, 1, 4, 0, 0, 0, 0]),
                _ => (44, vec![protocol, 0, 0, random.of(&[0, 1, 8]), 0, 0, 0, 7]),
            };
            payload = [header, payload].concat();
            protocol = number;
        }
        bytes = vec![0x60, 0, 0, 0];
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend([protocol, 64]);
        bytes.extend(random.of(&V6));
        bytes.extend(random.of(&V6));
    } else {
        let options = if random.one_in(4) { 4 } else { 0 };
        let fragment = random.of(&[[0, 0], [0, 0], [0, 0], [0x20, 0], [0, 5]]);
        bytes = vec![0x45 + options as u8 / 4, 0];
        bytes.extend((20 + options as u16 + payload.len() as u16).to_be_bytes());
        bytes.extend([0, 7, fragment[0], fragment[1], 64, protocol, 0, 0]);
        bytes.extend(random.of(&V4));
        bytes.extend(random.of(&V4));
        bytes.extend(vec![1; options]);
    }
    bytes.extend(payload);
    bytes
}

fn arp(random: &mut Random) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1];
    arp.extend(random.of(&V4));
    arp.extend([0; 6]);
    arp.extend(random.of(&V4));
    arp
}

fn ethernet(random: &mut Random, depth: u32) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, random.of(&[1, 2]), 2, 0, 0, 0, 0, random.of(&[1, 2])];
    while random.one_in(4) {
        bytes.extend(random.of(&[[0x81, 0], [0x88, 0xa8], [0x91, 0]]));
        bytes.extend([0, random.of(&[7, 8])]);
    }
    let (kind, payload): ([u8; 2], _) = match random.below(16) {
        0 | 1 => (random.of(&[[8, 6], [0x80, 0x35]]), arp(random)),
        2 => ([0, 39], vec![0x42, 0x42, 3, 0, 0, 0, 0, 0]),
        3 => ([0x88, 0x47], [vec![0, 0, 0x11, 64], ip(random, false, depth)].concat()),
        4 => {
            let mut session = vec![0x11, 0, 0, 7, 0, 60, 0, 0x21];
            session.extend(ip(random, false, depth));
            ([0x88, 0x64], session)
        }
        5..=8 => ([0x86, 0xdd], ip(random, true, depth)),
        _ => ([8, 0], ip(random, false, depth)),
    };
    bytes.extend(kind);
    bytes.extend(payload);
    bytes
}

/// A frame of some link type; some are cut, some are damaged.
fn frame(random: &mut Random) -> (LinkType, Vec<u8>) {
    let is_v6 = random.one_in(3);
    let kind = if is_v6 { [0x86, 0xdd] } else { [8, 0] };
    let (link_type, mut bytes) = match random.below(12) {
        0 => (LinkType::RAW, ip(random, is_v6, 0)),
        1 => {
            let mut bytes = vec![0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
            bytes.extend(kind);
            bytes.extend(ip(random, is_v6, 0));
            (LinkType::LINUX_SLL, bytes)
        }
        2 => {
            let mut bytes = vec![if is_v6 { 10 } else { 2 }, 0, 0, 0];
            bytes.extend(ip(random, is_v6, 0));
            (LinkType::NULL, bytes)
        }
        // PPP, and 802.11, neither of which the frame walk knows.
        3 => (LinkType(9), [vec![0xff, 3, 0, 0x21], ip(random, false, 0)].concat()),
        4 => {
            let mut bytes = vec![8, 2, 0, 0, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
            bytes.extend([2, 0, 0, 0, 0, 3, 0, 0, 0xaa, 0xaa, 3, 0, 0, 0]);
            if random.one_in(3) {
                bytes.extend([8, 6]);
                bytes.extend(arp(random));
            } else {
                bytes.extend(kind);
                bytes.extend(ip(random, is_v6, 0));
            }
            (LinkType(105), bytes)
        }
        _ => (LinkType::ETHERNET, ethernet(random, 0)),
    };
    if random.one_in(4) {
        bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
    }
    if random.one_in(6) && !bytes.is_empty() {
        let at = random.below(bytes.len().min(60) as u64) as usize;
        bytes[at] = random.next() as u8;
    }
    (link_type, bytes)
}

fn address(random: &mut Random) -> String {
    match random.below(3) {
        0 => std::net::Ipv6Addr::from(random.of(&V6)).to_string(),
        _ => std::net::Ipv4Addr::from(random.of(&V4)).to_string(),
    }
}

fn primitive(random: &mut Random) -> String {
    let direction = random.of(&["", "", "src ", "dst ", "src or dst ", "src and dst "]);
    let port = random.of(&PORTS);
    match random.below(24) {
        0..=3 => format!("{direction}host {}", address(random)),
        4 => format!("{}{direction}host {}", random.of(&["ip ", "arp ", "rarp "]), {
            std::net::Ipv4Addr::from(random.of(&V4))
        }),
        5 => format!(
            "{direction}net {}",
            random.of(&[
                "10.0.0.0/8",
                "10.0.0.2/31",
                "10.0",
                "fd00::/16",
                "224.0.0.0/4",
                "192.0.2.0 mask 255.255.255.0"
            ])
        ),
        6..=9 => format!("{}{direction}port {port}", random.of(&["", "tcp ", "udp ", "sctp "])),
        10 => format!("{}{direction}portrange 60-500", random.of(&["", "tcp ", "udp "])),
        11 => format!("port {port} or {}", random.of(&PORTS)),
        12 => format!("(port {port} and not {})", random.of(&PORTS)),
        13 => format!("host ({} or {})", address(random), address(random)),
        14..=17 => random
            .of(&[
                "tcp", "udp", "icmp", "icmp6", "sctp", "igmp", "ah", "esp", "arp", "rarp", "ip",
                "ip6", "pim", "stp",
            ])
            .into(),
        18 => format!(
            "{}proto {}",
            random.of(&["", "ip ", "ip6 "]),
            random.of(&["6", "17", "0", "44", "51", "47", "58", "\\tcp", "\\udp"])
        ),
        19 => random
            .of(&[
                "ether proto 0x0800",
                "ether proto \\arp",
                "ether proto 0x8100",
                "ether proto 0x8847",
            ])
            .into(),
        20 => random
            .of(&[
                "tcp[13] & 2 != 0",
                "udp[2:2] = 80",
                "ip[9] = 6",
                "len > 80",
                "less 70",
                "greater 50",
                "(ip[0] & 0xf) * 4 > 20",
                "len - 20 > 60",
            ])
            .into(),
        21 => random
            .of(&[
                "ether host 02:00:00:00:00:01",
                "ether src 02:00:00:00:00:02",
                "broadcast",
                "ip multicast",
                "ip6 multicast",
            ])
            .into(),
        22 => random.of(&["vlan", "vlan 7", "mpls", "pppoes", "pppoes 7"]).into(),
        _ => random.of(&["ip protochain 17", "ip6 protochain 6"]).into(),
    }
}

fn expression(random: &mut Random, depth: u32) -> String {
    let mut text = String::new();
    for n in 0..1 + random.below(3) {
        if n > 0 {
            text.push_str(random.of(&[" and ", " or ", " && ", " || ", " and "]));
        }
        if random.one_in(5) {
            text.push_str(random.of(&["not ", "! "]));
        }
        match depth < 2 && random.one_in(4) {
            true => text.push_str(&format!("({})", expression(random, depth + 1))),
            false => text.push_str(&primitive(random)),
        }
    }
    text
}

/// What a row becomes when it collapses with others: it keeps one address, none, or nothing.
fn collapsed(row: &Row) -> [Row; 4] {
    let keep = |which: Option<bool>| {
        let mut row = Row { flows: 2, macs: None, ..row.clone() };
        for flow in [&mut row.flow, &mut row.outer].into_iter().flatten() {
            let kept = match which {
                None => None,
                Some(true) => flow.ip_lo,
                Some(false) => flow.ip_hi,
            };
            (flow.ip_lo, flow.ip_hi) = (kept, None);
            (flow.port_lo, flow.port_hi, flow.community_id) = (None, None, None);
        }
        row
    };
    let vlan = Vec::new();
    let nothing = Row { ethertype: 0, flow: None, outer: None, tunnel: None, vlan, ..keep(None) };
    [keep(None), keep(Some(true)), keep(Some(false)), nothing]
}

#[test]
fn what_the_filter_takes_is_never_pruned() {
    let rounds = std::env::var("SEARCH_ROUNDS").ok().map_or(1_500, |text| text.parse().unwrap());
    let (mut matched, mut pruned, mut by_addresses) = (0_u32, 0_u32, 0_u32);
    for seed in 0..rounds {
        let mut random = Random(seed);
        let frames: Vec<_> = (0..8).map(|_| frame(&mut random)).collect();
        let text = expression(&mut random, 0);
        // Some make no sense to libpcap.
        let Ok(expression) = Expression::new(&text) else { continue };
        let query = Query { expression, ..Query::all(Window::ALL) };
        for (link_type, bytes) in frames {
            let Ok(program) = query.expression.program(link_type) else { continue };
            let mut writer = PcapngWriter::new(Vec::new(), &SectionInfo::default()).unwrap();
            writer.add_interface(&Interface::new(link_type.0)).unwrap();
            let origlen = bytes.len() as u32 + 5;
            writer.write(0, seed, origlen, Direction::In, &bytes, None).unwrap();
            let file = writer.into_inner();
            let mut reader = Reader::new(&file[..]).unwrap();
            assert!(reader.advance().unwrap());
            let mut table = Table::new("eth0");
            table.add(&reader.record().unwrap(), reader.interfaces(), 1);
            let gathered = table.finish(file.len() as u64);
            let addresses = AddressSet::decode(&gathered.addresses.encode());
            let wanted = query.wanted();
            let in_rows =
                gathered.rows.iter().any(|row| wanted.may_be_in(row) && query.wants_row(row, None));
            let in_addresses = query.wants_addresses(&addresses);
            let is_match = program.matches(&bytes, origlen);
            let what = || {
                format!("seed {seed}: `{text}` on {link_type} {bytes:02x?}: {:?}", gathered.rows)
            };
            assert!(!is_match || in_rows, "row: {}", what());
            let loose = gathered.rows.iter().flat_map(collapsed);
            let mut pruned_loose = loose
                .filter(|row| is_match && !(wanted.may_be_in(row) && query.wants_row(row, None)));
            assert_eq!(pruned_loose.next(), None, "collapsed: {}", what());
            assert!(!is_match || in_addresses, "addresses: {}", what());
            matched += u32::from(is_match);
            pruned += u32::from(!is_match && !in_rows);
            by_addresses += u32::from(!is_match && !in_addresses);
        }
    }
    // It would prove little if nothing was pruned.
    assert!(
        matched > 700 && pruned > 2_000 && by_addresses > 200,
        "{matched} {pruned} {by_addresses}"
    );
}
