//! Valid packets: what lies start from.

use crate::tunnels::{PARAMETERS_LEN, tunnel};
use wire::encap::Told;
use wire::metadata::Lane;
use wire::tunnel::{Carrier, Encap};
use wire::udp;
use wire::walk::Walk;
use wire::{Direction, LinkType};

/// The seeds of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "fuzz_vxlan" => headers(&[0], 0),
        "fuzz_geneve" => headers(&[1], 0),
        "fuzz_metadata" => headers(&[1], 8),
        "fuzz_gre" => headers(&[2, 3, 4, 5, 6], 0),
        "fuzz_erspan" => headers(&[5, 6], 8),
        "fuzz_l2tp" => l2tp(),
        "fuzz_udp" => vec![wrapped(tunnel_of(0, 0))[34..].to_vec()],
        "fuzz_walk" | "fuzz_flow" => behind(&[0], frames()),
        "fuzz_segment" => super_packets(),
        "fuzz_recognise" => behind(&[0, 5], frames()),
        "fuzz_checksum" => behind(&[7], vec![(1..=40).collect()]),
        "fuzz_encap" => all().iter().map(|p| [&p[..], &tcp(4, 8)].concat()).collect(),
        "fuzz_decap" => {
            let mut tunnels: Vec<_> = all().into_iter().map(wrapped).collect();
            tunnels.extend(frames());
            behind(&[0, 0], tunnels)
        }
        _ => unreachable!("a target without seeds: {target}"),
    }
}

fn behind(prefix: &[u8], seeds: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    seeds.into_iter().map(|seed| [prefix, &seed].concat()).collect()
}

// Parameters of a tunnel of this kind, with these flags.
fn tunnel_of(kind: u8, flags: u8) -> [u8; PARAMETERS_LEN] {
    [kind, flags, 0, 0, 0x0a, 0x0a, 0x0a, 0x0b, 9, 4 | (flags % 3), 1, 1]
}

// Every kind with each of its options.
fn all() -> Vec<[u8; PARAMETERS_LEN]> {
    let flags = [0, 1, 2, 4, 7];
    (0..8).flat_map(|kind| flags.map(|flags| tunnel_of(kind, flags))).collect()
}

// The header that a tunnel puts in front of a frame, and the frame.
fn packet(parameters: [u8; PARAMETERS_LEN]) -> (Carrier, Vec<u8>) {
    let (encap, carrier, _) = tunnel(parameters);
    let frame = tcp(4, 8);
    let fit = encap.fit(LinkType::ETHERNET, &frame).expect("any tunnel takes IP in Ethernet");
    let payload = &frame[fit.at..fit.end];
    let lane = Lane { epoch: 1, tap: 2, target: 3, lane: 4 };
    let told = Told { origlen: 62, ts_ns: 1 << 60, direction: Direction::Out, lane };
    let mut packet = vec![0; encap.header_len(carrier)];
    encap.emit(&mut packet, carrier, &fit, payload, &told, 5);
    packet.extend_from_slice(payload);
    (carrier, packet)
}

// From an offset on, so that what stands inside GRE or GENEVE is had alone.
fn headers(kinds: &[u8], at: usize) -> Vec<Vec<u8>> {
    let of_kind = all().into_iter().filter(|p| kinds.contains(&p[0]) && (at == 0 || p[1] == 1));
    of_kind.map(|p| packet(p).1[at..].to_vec()).collect()
}

fn l2tp() -> Vec<Vec<u8>> {
    let hello = [0xc8, 3, 0, 20, 0, 0, 0, 7, 0, 2, 0, 3, 0x80, 8, 0, 0, 0, 0, 0, 6];
    let mut seeds = vec![[&[0x80], &hello[..]].concat(), [&[0; 5], &hello[..]].concat()];
    for parameters in all().into_iter().filter(|p| p[0] == 7) {
        seeds.push([&[parameters[9]], &packet(parameters).1[..]].concat());
        let [mut over_udp] = [parameters];
        over_udp[3] = 1;
        seeds.push([&[0x80 | parameters[9]], &packet(over_udp).1[..]].concat());
    }
    seeds
}

// The whole frame: Ethernet and IPv4 in front, UDP where the tunnel needs it.
fn wrapped(parameters: [u8; PARAMETERS_LEN]) -> Vec<u8> {
    let (carrier, packet) = packet(parameters);
    match carrier {
        Carrier::Ip { protocol } => ipv4(protocol, &packet),
        Carrier::Udp { port } => {
            let length = (udp::HEADER_LEN + packet.len()) as u16;
            let mut datagram = vec![0; udp::HEADER_LEN];
            let header = udp::Repr { src_port: 0xc001, dst_port: port, length, checksum: 0 };
            header.emit(&mut datagram);
            ipv4(17, &[datagram, packet].concat())
        }
    }
}

fn ethernet(ethertype: &[u8], payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], ethertype, payload].concat()
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (20 + payload.len() as u16).to_be_bytes();
    let header = [0x45, 0, high, low, 0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    ethernet(&[0x08, 0x00], &[&header, payload].concat())
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (payload.len() as u16).to_be_bytes();
    let mut header = vec![0x60, 0, 0, 0, high, low, next, 64];
    header.extend([0xfd; 16]);
    header.extend([0xfe; 16]);
    ethernet(&[0x86, 0xdd], &[&header, payload].concat())
}

/// IPv4 headers and what stands between them, each in the one before it, as long as a packet can be.
pub fn nest(protocol: u8, between: &[u8]) -> Vec<u8> {
    let step = 20 + between.len();
    let header = |len: usize| {
        let [high, low] = (len as u16).to_be_bytes();
        [0x45, 0, high, low, 0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
    };
    let lens = (1..=usize::from(u16::MAX) / step).rev().map(|n| n * step);
    lens.flat_map(|len| [&header(len)[..], between].concat()).collect()
}

fn tcp(version: u8, payload_len: usize) -> Vec<u8> {
    let mut segment = vec![0x04, 0xd2, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0];
    segment.resize(20 + payload_len, 0x2a);
    if version == 4 { ipv4(6, &segment) } else { ipv6(6, &segment) }
}

fn frames() -> Vec<Vec<u8>> {
    let datagram = [0x04, 0xd2, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.resize(46, 0);
    let mut tagged = tcp(4, 4);
    tagged.splice(12..12, [0x88, 0xa8, 0x20, 0x07, 0x81, 0x00, 0x00, 0x64]);
    let mut error = vec![3, 1, 0, 0, 0, 0, 0, 0];
    error.extend_from_slice(&tcp(4, 0)[14..]);
    let mut fragment = ipv4(17, &datagram);
    (fragment[20], fragment[21]) = (0x20, 0x02);
    let extensions = [43, 0, 5, 2, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 1];
    let chain = [&extensions[..], &[17, 0, 1, 4, 0, 0, 0, 0], &datagram].concat();
    vec![
        tcp(4, 8),
        tcp(6, 8),
        ipv4(17, &datagram),
        ethernet(&[0x08, 0x06], &arp),
        ethernet(&[0, 7], &[0x42, 0x42, 3, 0, 0, 0, 0]),
        tagged,
        ipv4(1, &error),
        fragment,
        ipv6(0, &chain),
        ipv4(4, &tcp(4, 0)[14..]),
        ipv6(51, &[&[17, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2][..], &[0; 12], &datagram].concat()),
        ethernet(
            &[0x88, 0x47],
            &[&[0, 0, 0x10, 64, 0, 0, 0x21, 64][..], &tcp(4, 0)[14..]].concat(),
        ),
    ]
}

// In front: kind and link type, segment size, where the checksum stands.
fn super_packets() -> Vec<Vec<u8>> {
    let mut datagrams = vec![0x04, 0xd2, 0, 53, 0, 38, 0, 0];
    datagrams.resize(38, 7);
    let seed = |kind, offset, frame: Vec<u8>| {
        let transport = Walk::new(LinkType::ETHERNET, &frame).transport;
        let at = transport.expect("these have one").at as u8;
        [&[kind, 10, at, offset], &frame[..]].concat()
    };
    let inside = |kind| {
        let parameters = tunnel_of(kind, 0);
        let frame = wrapped(parameters);
        let at = frame.len() - 28;
        [&[0, 3, at as u8, 16], &frame[..]].concat()
    };
    let mut seeds = vec![
        seed(0, 16, tcp(4, 35)),
        seed(1, 16, tcp(6, 35)),
        seed(2, 6, ipv4(17, &datagrams)),
        seed(2, 6, ipv6(17, &datagrams)),
    ];
    seeds.extend([0, 1, 2, 3].map(inside));
    seeds
}

#[test]
fn seeds_are_what_they_are_meant_to_be() {
    use wire::decap::Rules;
    use wire::segment::{Gso, GsoKind, Plan};
    for parameters in all() {
        let frame = wrapped(parameters);
        let (encap, ..) = tunnel(parameters);
        let rules = match encap {
            Encap::L2tp(l2tp) => Rules::default().with_l2tp(l2tp.format),
            _ => Rules::default(),
        };
        let found = rules.in_frame(LinkType::ETHERNET, &frame).unwrap().unwrap();
        assert_eq!(found.tunnel, encap.tunnel());
    }
    for seed in super_packets() {
        let (&[kinds, size, csum_start, csum_offset], frame) = seed.split_first_chunk().unwrap();
        let kind = [GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::UdpL4][usize::from(kinds)];
        let (size, csum_start, csum_offset) = (size.into(), csum_start.into(), csum_offset.into());
        let plan =
            Plan::new(LinkType::ETHERNET, frame, &Gso { kind, size, csum_start, csum_offset });
        assert!(plan.unwrap().count() > 2);
    }
}
