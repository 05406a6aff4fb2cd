//! The walk against frames built by etherparse, against etherparse's own reading, and on noise.

use super::*;
use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

const ETHERNET: LinkType = LinkType::ETHERNET;
const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

fn udp4(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(1234, 53);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

fn tcp6(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv6([0x20; 16], [0x30; 16], 64)
        .tcp(443, 50000, 7, 1000)
        .options_raw(&[1, 1, 1, 1])
        .unwrap();
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

/// Ethernet, IPv6 with the given first next-header number, and the bytes behind it.
fn ipv6(next: u8, payload_len: u16, rest: &[u8]) -> Vec<u8> {
    let mut frame = [&MACS.1[..], &MACS.0[..], &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    frame.extend_from_slice(&payload_len.to_be_bytes());
    frame.extend_from_slice(&[next, 64]);
    frame.extend_from_slice(&[[0x20; 16], [0x30; 16]].concat());
    frame.extend_from_slice(rest);
    frame
}

fn tag(frame: &[u8], tpid: u16, tci: u16) -> Vec<u8> {
    let tag = (u32::from(tpid) << 16 | u32::from(tci)).to_be_bytes();
    [&frame[..12], &tag[..], &frame[12..]].concat()
}

const UDP: [u8; 8] = [0x12, 0x34, 0, 53, 0, 8, 0, 0];

#[test]
fn udp_over_ipv4_with_padding() {
    let mut frame = udp4(b"hello");
    frame.resize(60, 0xa5);
    let walk = Walk::new(ETHERNET, &frame);
    assert_eq!(walk.stop, Stop { layer: Layer::Udp, at: 34, why: Why::Complete });
    assert_eq!((walk.ethertype, walk.ethertype_at), (Some(0x0800), Some(12)));
    assert_eq!(walk.payload(&frame), b"hello");
    assert_eq!(walk.wire_len(), Some(47));
    assert_eq!(
        walk.five_tuple(&frame),
        Some(FiveTuple {
            src: [10, 0, 0, 1].into(),
            dst: [10, 0, 0, 2].into(),
            ports: Some((1234, 53)),
            protocol: 17,
        })
    );
}

#[test]
fn tcp_options_over_ipv6() {
    let frame = tcp6(b"hello");
    let walk = Walk::new(ETHERNET, &frame);
    assert_eq!(walk.stop, Stop { layer: Layer::Tcp, at: 54, why: Why::Complete });
    assert_eq!(
        walk.transport,
        Some(Transport { kind: TransportKind::Tcp, at: 54, header_len: 24 })
    );
    assert_eq!(walk.payload(&frame), b"hello");
    assert_eq!(walk.wire_len(), Some(frame.len()));
    assert_eq!(walk.ports(&frame), Some((443, 50000)));
}

#[test]
fn tags_of_any_depth() {
    let plain = udp4(b"x");
    let mut frame = plain.clone();
    for depth in 1..=7u16 {
        frame = tag(&frame, [0x8100, 0x88a8, 0x9100][usize::from(depth) % 3], 0xb000 | depth);
        let walk = Walk::new(ETHERNET, &frame);
        assert_eq!(walk.vlan_count, depth);
        assert_eq!(walk.vlans().len(), usize::from(depth).min(VLANS_KEPT));
        assert_eq!(walk.vlans()[0].vid(), depth, "outermost first");
        assert_eq!((walk.vlans()[0].pcp(), walk.vlans()[0].dei()), (5, true));
        assert_eq!(walk.ethertype_at, Some(12 + 4 * u32::from(depth)));
        assert_eq!(walk.wire_len(), Some(frame.len()));
        assert_eq!(walk.five_tuple(&frame), Walk::new(ETHERNET, &plain).five_tuple(&plain));
    }
    frame.truncate(16);
    let stop = Walk::new(ETHERNET, &frame).stop;
    let why = Why::Truncated { needed: 4, got: 2 };
    assert_eq!(stop, Stop { layer: Layer::Vlan, at: 14, why });
}

#[test]
fn a_length_is_no_ethertype() {
    // Spanning tree: destination, source, length 38, LLC.
    let frame = [&[1, 0x80, 0xc2, 0, 0, 0][..], &MACS.0, &[0, 38, 0x42, 0x42, 3]].concat();
    let walk = Walk::new(ETHERNET, &frame);
    assert_eq!(walk.stop, Stop { layer: Layer::Llc, at: 14, why: Why::Complete });
    assert_eq!((walk.ethertype, walk.wire_len(), walk.five_tuple(&frame)), (None, None, None));
}

#[test]
fn arp_and_its_padding() {
    let mut frame = [&[0xff; 6][..], &MACS.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    frame.resize(60, 0);
    let walk = Walk::new(ETHERNET, &frame);
    assert_eq!(walk.stop, Stop { layer: Layer::Arp, at: 14, why: Why::Complete });
    assert_eq!(walk.end, 42);
    let why = Why::Truncated { needed: 28, got: 27 };
    assert_eq!(Walk::new(ETHERNET, &frame[..41]).stop.why, why);
}

#[test]
fn ipv4_fragments_have_no_ports() {
    for (flags, offset, more) in [(0x2000u16, 0, true), (0x2001, 8, true), (0x0002, 16, false)] {
        let mut frame = udp4(b"01234567");
        frame[20..22].copy_from_slice(&flags.to_be_bytes());
        let walk = Walk::new(ETHERNET, &frame);
        let network = walk.network.unwrap();
        let id = u16::from_be_bytes([frame[18], frame[19]]).into();
        assert_eq!(network.fragment, Some(Fragment { offset, more, id }));
        assert_eq!(walk.five_tuple(&frame).unwrap().ports, None);
        assert_eq!(walk.transport.is_some(), offset == 0);
        assert_eq!(walk.stop.why == Why::Fragment, offset != 0);
        assert_eq!(walk.wire_len(), Some(frame.len()));
    }
}

#[test]
fn ipv4_options_and_bad_lengths() {
    let plain = udp4(b"x");
    let mut frame = [&plain[..34], &[1, 1, 1, 1], &plain[34..]].concat();
    frame[14] = 0x46;
    frame[17] += 4;
    let walk = Walk::new(ETHERNET, &frame);
    assert_eq!((walk.network.unwrap().header_len, walk.stop.at), (24, 38));
    assert_eq!(walk.ports(&frame), Some((1234, 53)));

    frame[14] = 0x44;
    let stop = Walk::new(ETHERNET, &frame).stop;
    assert!(matches!(stop.why, Why::Malformed(_)), "{stop:?}");
    frame[14] = 0x46;
    frame[17] = 23;
    let walk = Walk::new(ETHERNET, &frame);
    assert!(matches!(walk.stop.why, Why::Malformed(_)));
    assert_eq!(walk.five_tuple(&frame).unwrap().ports, None, "the length leaves no room");
    frame[17] = 0;
    let walk = Walk::new(ETHERNET, &frame);
    assert_eq!((walk.stop.why, walk.wire_len()), (Why::Complete, None), "super-packet");
    assert_eq!(walk.end as usize, frame.len());
}

#[test]
fn ipv6_extension_headers() {
    // Hop-by-hop (PadN) → routing (one segment left) → AH (12 bytes) → destination → UDP.
    let mut rest = vec![43, 0, 1, 4, 0, 0, 0, 0];
    rest.extend([51, 2, 0, 1, 0, 0, 0, 0]);
    rest.extend([0x40; 16]);
    rest.extend([60, 1, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1]);
    rest.extend([17, 0, 1, 4, 0, 0, 0, 0]);
    rest.extend(UDP);
    let frame = ipv6(0, rest.len() as u16, &rest);
    let walk = Walk::new(ETHERNET, &frame);
    let network = walk.network.unwrap();
    assert_eq!((network.header_len, network.protocol, network.rerouted), (92, 17, true));
    assert_eq!(walk.stop, Stop { layer: Layer::Udp, at: 106, why: Why::Complete });
    assert_eq!(walk.ports(&frame), Some((0x1234, 53)));
    for len in 54..106 {
        let walk = Walk::new(ETHERNET, &frame[..len]);
        assert!(matches!(walk.stop.why, Why::Truncated { .. }), "{len}: {:?}", walk.stop);
        assert_eq!(walk.wire_len(), Some(frame.len()), "declared, not captured");
    }
}

#[test]
fn ipv6_fragments() {
    let fragment = |bits: u16| {
        let [a, b] = bits.to_be_bytes();
        let frame = ipv6(44, 16, &[&[17, 0, a, b, 0, 0, 0, 9], &UDP[..]].concat());
        let walk = Walk::new(ETHERNET, &frame);
        (walk, walk.five_tuple(&frame).unwrap())
    };
    let (walk, tuple) = fragment(0);
    assert_eq!((walk.is_fragment(), tuple.ports), (false, Some((0x1234, 53))), "atomic");
    let (walk, tuple) = fragment(1);
    assert_eq!(walk.network.unwrap().fragment, Some(Fragment { offset: 0, more: true, id: 9 }));
    assert_eq!((tuple.ports, tuple.protocol), (None, 17));
    assert_eq!(walk.transport.unwrap().kind, TransportKind::Udp);
    let (walk, tuple) = fragment(0x00b0);
    assert_eq!(walk.network.unwrap().fragment, Some(Fragment { offset: 0xb0, more: false, id: 9 }));
    assert_eq!((walk.stop.why, tuple.ports, tuple.protocol), (Why::Fragment, None, 17));
    assert_eq!(walk.transport, None);

    // Destination options in the first fragment only: all fragments still name one protocol.
    let rest = [&[60, 0, 0, 1, 0, 0, 0, 9, 17, 0, 1, 4, 0, 0, 0, 0], &UDP[..]].concat();
    let frame = ipv6(44, 24, &rest);
    let walk = Walk::new(ETHERNET, &frame);
    assert_eq!(walk.network.unwrap().protocol, 60);
    assert_eq!(walk.stop, Stop { layer: Layer::Udp, at: 70, why: Why::Complete });
}

#[test]
fn jumbo_lengths() {
    let rest = [&[17, 0, 0xc2, 4, 0, 0, 0, 16], &UDP[..], b"padding"].concat();
    let mut frame = ipv6(0, 0, &rest);
    let walk = Walk::new(ETHERNET, &frame);
    assert_eq!(walk.wire_len(), Some(54 + 16));
    assert_eq!((walk.stop.why, walk.end), (Why::Complete, 70));
    frame[56] = 0x01; // the option becomes PadN: nothing declares a length now
    let walk = Walk::new(ETHERNET, &frame);
    assert_eq!((walk.stop.why, walk.wire_len()), (Why::Complete, None));
}

#[test]
fn what_cannot_be_followed_says_so() {
    let why =
        |next, rest: &[u8]| Walk::new(ETHERNET, &ipv6(next, rest.len() as u16, rest)).stop.why;
    assert_eq!(why(50, &[0; 8]), Why::Encrypted);
    assert_eq!(why(59, &[]), Why::NoNextHeader);
    assert_eq!(why(47, &[0; 8]), Why::UnknownProtocol(47));
    assert_eq!(why(1, &[0; 8]), Why::UnknownProtocol(1), "ICMPv4 in IPv6");
    assert_eq!(Walk::new(ETHERNET, &ipv6(59, 0, &[])).wire_len(), Some(54));
    let mut frame = udp4(b"");
    frame[12..14].copy_from_slice(&[0x88, 0xcc]);
    let stop = Walk::new(ETHERNET, &frame).stop;
    let why = Why::UnknownEtherType(0x88cc);
    assert_eq!(stop, Stop { layer: Layer::Ethernet, at: 12, why });
    assert_eq!(Walk::new(LinkType(147), &frame).stop.why, Why::UnknownLink);
}

#[test]
fn other_link_types() {
    let (v4, v6) = (udp4(b"hello"), tcp6(b"hello"));
    let sll = |kind: u16| [&[0; 14][..], &kind.to_be_bytes()].concat();
    let sll2 = |kind: u16| [&kind.to_be_bytes()[..], &[0; 18]].concat();
    for (link, head, packet) in [
        (LinkType::RAW, vec![], &v4),
        (LinkType::RAW, vec![], &v6),
        (LinkType::IPV4, vec![], &v4),
        (LinkType::IPV6, vec![], &v6),
        (LinkType::NULL, vec![2, 0, 0, 0], &v4),
        (LinkType::NULL, vec![0, 0, 0, 30], &v6),
        (LinkType::LOOP, vec![0, 0, 0, 24], &v6),
        (LinkType::LINUX_SLL, sll(0x0800), &v4),
        (LinkType::LINUX_SLL, [sll(0x8100), vec![0, 5, 0x86, 0xdd]].concat(), &v6),
        (LinkType::LINUX_SLL2, sll2(0x86dd), &v6),
        (LinkType::LINUX_SLL2, [sll2(0x8100), vec![0, 5, 8, 0]].concat(), &v4),
    ] {
        let frame = [&head[..], &packet[14..]].concat();
        let walk = Walk::new(link, &frame);
        assert_eq!(walk.stop.why, Why::Complete, "{link}");
        assert_eq!(walk.payload(&frame), b"hello", "{link}");
        assert_eq!(walk.wire_len(), Some(frame.len()), "{link}");
        for len in 0..frame.len() - 5 {
            let why = Walk::new(link, &frame[..len]).stop.why;
            assert!(matches!(why, Why::Truncated { .. }), "{link} {len}: {why:?}");
        }
    }
    assert!(matches!(Walk::new(LinkType::RAW, &[0x50]).stop.why, Why::Malformed(_)));
    assert_eq!(Walk::new(LinkType::NULL, &[7; 9]).stop.why, Why::UnknownEtherType(0x0707_0707));
}

#[test]
fn a_tcp_header_cut_behind_its_ports_still_has_them() {
    let frame = tcp6(b"");
    let walk = Walk::new(ETHERNET, &frame[..58]);
    let why = Why::Truncated { needed: 20, got: 4 };
    assert_eq!(walk.stop, Stop { layer: Layer::Tcp, at: 54, why });
    assert_eq!(walk.ports(&frame[..58]), Some((443, 50000)));
    let walk = Walk::new(ETHERNET, &frame[..57]);
    assert_eq!(walk.five_tuple(&frame[..57]).unwrap().ports, None);
}

/// A packet of random kind, by etherparse.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let parts = (any::<bool>(), 0..3u8, 0..3u8, any::<[u8; 16]>(), any::<[u16; 2]>(), 0..60usize);
    parts.prop_map(|(v6, tags, kind, address, ports, len)| {
        let mut frame = Vec::new();
        let payload = vec![0x5a; len];
        let builder = PacketBuilder::ethernet2(MACS.0, MACS.1);
        let ip = if v6 {
            builder.ipv6(address, [9; 16], 64)
        } else {
            builder.ipv4([address[0], address[1], 2, 3], [10, 0, 0, 9], 64)
        };
        match kind {
            0 => ip.udp(ports[0], ports[1]).write(&mut frame, &payload).unwrap(),
            1 => ip.tcp(ports[0], ports[1], 1, 2).write(&mut frame, &payload).unwrap(),
            _ if v6 => ip.icmpv6_echo_request(ports[0], 1).write(&mut frame, &payload).unwrap(),
            _ => ip.icmpv4_echo_request(ports[0], 1).write(&mut frame, &payload).unwrap(),
        }
        for n in 0..tags {
            frame = tag(&frame, 0x8100, u16::from(n));
        }
        frame
    })
}

proptest! {
    #[test]
    fn agrees_with_etherparse(frame in packets()) {
        let walk = Walk::new(ETHERNET, &frame);
        let judge = SlicedPacket::from_ethernet(&frame).unwrap();
        prop_assert_eq!(walk.stop.why, Why::Complete);
        prop_assert_eq!(walk.wire_len(), Some(frame.len()));
        let (kind, payload) = match judge.transport.unwrap() {
            TransportSlice::Udp(udp) => (TransportKind::Udp, udp.payload().to_vec()),
            TransportSlice::Tcp(tcp) => (TransportKind::Tcp, tcp.payload().to_vec()),
            TransportSlice::Icmpv4(icmp) => (TransportKind::Icmp, icmp.payload().to_vec()),
            TransportSlice::Icmpv6(icmp) => (TransportKind::Icmpv6, icmp.payload().to_vec()),
        };
        prop_assert_eq!(walk.transport.unwrap().kind, kind);
        prop_assert_eq!(walk.payload(&frame), payload);
    }

    /// Any cut: the same headers up to the cut, a stop that says so, and offsets inside.
    #[test]
    fn a_cut_frame_says_where(frame in packets(), cut: prop::sample::Index) {
        let whole = Walk::new(ETHERNET, &frame);
        let cut = &frame[..cut.index(frame.len())];
        let walk = Walk::new(ETHERNET, cut);
        let truncated = matches!(walk.stop.why, Why::Truncated { .. });
        prop_assert_eq!(truncated, cut.len() < whole.payload_at as usize);
        prop_assert!(walk.stop.at as usize <= cut.len());
        if let Why::Truncated { needed, got } = walk.stop.why {
            prop_assert_eq!((walk.stop.at + got) as usize, cut.len());
            prop_assert!(needed > got);
        }
        if walk.network.is_some() {
            prop_assert_eq!(walk.wire_len(), whole.wire_len());
        }
    }

    /// Noise, and noise behind a plausible start: no panic, offsets inside the frame.
    #[test]
    fn noise(
        link in prop::sample::select(vec![0u16, 1, 101, 108, 113, 228, 229, 276, 999]),
        start in packets(), keep in 0..80usize, noise in prop::collection::vec(any::<u8>(), 0..120)
    ) {
        let frame = [&start[..keep.min(start.len())], &noise[..]].concat();
        let walk = Walk::new(LinkType(link), &frame);
        prop_assert!(walk.end as usize <= frame.len());
        prop_assert!(walk.payload_at as usize <= frame.len());
        prop_assert!(walk.stop.at as usize <= frame.len());
        walk.five_tuple(&frame);
        // A shorter frame than the one walked gives less, not a panic.
        walk.five_tuple(&frame[..frame.len() / 2]);
        walk.payload(&frame[..frame.len() / 2]);
    }
}
