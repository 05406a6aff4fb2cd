//! Wider flows: pinned vectors, symmetry, and what is inside tunnels.
//!
//! The hashes were computed from the module's text by a program in another language.

use super::tests::bytes;
use super::*;
use etherparse::PacketBuilder;
use proptest::prelude::*;

const TCP: &str = "020000000002 020000000001 0800 4500002800000000400600000a0000010a000002 9c400050000000000000000050020000 00000000";
const TCP_BACK: &str = "020000000001 020000000002 0800 4500002800000000400600000a0000020a000001 00509c40000000000000000050120000 00000000";
const TCP_FRAGMENT: &str =
    "020000000002 020000000001 0800 4500001c00010003400600000a0000010a000002 a5a5a5a5a5a5a5a5";
const TCP_ERROR: &str = "020000000001 0200000000ff 0800 4500003800000000400100000a0000fe0a000001 0303000000000000 4500002800000000400600000a0000010a000002 9c40005000000000";
const UDP6: &str = "020000000002 020000000001 86dd 6000000000081140 20010db8000000000000000000000001 20010db8000000000000000000000002 9c40003500080000";
const ARP: &str =
    "ffffffffffff 020000000001 0806 0001080006040001 0200000000010a000001 0000000000000a000002";

fn key(frame: &[u8]) -> FlowKey {
    FlowKey::new(&Walk::new(LinkType::ETHERNET, frame), frame)
}

fn inner(frame: &[u8]) -> u32 {
    inner_hash(&Rules::default(), LinkType::ETHERNET, frame)
}

#[test]
fn vectors() {
    for (name, hex, three, two) in [
        ("TCP", TCP, 0x5355_6c3e, 0x3f1b_cd36),
        ("the way back", TCP_BACK, 0x5355_6c3e, 0x3f1b_cd36),
        ("a fragment of it", TCP_FRAGMENT, 0x5355_6c3e, 0x3f1b_cd36),
        ("an ICMP error about it", TCP_ERROR, 0x5355_6c3e, 0x3f1b_cd36),
        ("UDP over IPv6", UDP6, 0x57df_57eb, 0x6f79_60aa),
        ("ARP: MACs and EtherType, MACs", ARP, 0xa04a_404b, 0x97f7_8b9c),
    ] {
        let key = key(&bytes(hex));
        let got = (key.three_tuple().hash(), key.two_tuple().hash());
        assert_eq!(got, (three, two), "{name}: {:#010x} {:#010x}", got.0, got.1);
    }
    assert_eq!([0, 71, u32::MAX].map(tunnel_hash), [0x71e3_2c1d, 0x636c_bf48, 0xac09_c04c]);
}

#[test]
fn tunnels_spread_over_the_slots() {
    let mut slots: Vec<usize> = (0..1000).map(|id| slot(tunnel_hash(id))).collect();
    slots.sort_unstable();
    slots.dedup();
    // Of 1000 among 16,384, some 30 fall on one that is taken.
    assert!(slots.len() > 940, "{}", slots.len());
}

/// A frame inside VXLAN, from either tunnel endpoint.
fn in_vxlan(frame: &[u8], there: bool) -> Vec<u8> {
    let (src, dst) =
        if there { ([192, 0, 2, 1], [192, 0, 2, 2]) } else { ([192, 0, 2, 2], [192, 0, 2, 1]) };
    let payload = [&[8, 0, 0, 0, 0, 0, 71, 0], frame].concat();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(src, dst, 64).udp(50_000, 4789);
    let mut outer = Vec::new();
    builder.write(&mut outer, &payload).unwrap();
    outer
}

#[test]
fn what_is_inside_decides_through_any_layers() {
    let (frame, back) = (bytes(TCP), bytes(TCP_BACK));
    assert_eq!(inner(&frame), key(&frame).hash(), "no tunnel");
    assert_eq!(inner(&in_vxlan(&frame, true)), key(&frame).hash());
    assert_eq!(inner(&in_vxlan(&back, false)), key(&frame).hash(), "both directions");
    assert_eq!(inner(&in_vxlan(&in_vxlan(&frame, false), true)), key(&frame).hash());

    // GRE 4 bytes, IP in IP, MPLS: each in front of the IP packet.
    let ip = &frame[14..];
    let over_ip = |protocol: u8, payload: &[u8]| {
        let len = (20 + payload.len()) as u16;
        let mut header = bytes("45000000000000004000 0000 c0000201c0000202");
        header[2..4].copy_from_slice(&len.to_be_bytes());
        header[9] = protocol;
        [&frame[..14], &header, payload].concat()
    };
    assert_eq!(inner(&over_ip(47, &[&[0, 0, 8, 0], ip].concat())), key(&frame).hash(), "GRE");
    assert_eq!(inner(&over_ip(4, ip)), key(&frame).hash(), "IP in IP");
    let labels = [&frame[..12], &[0x88, 0x47, 0, 1, 0, 0x40, 0, 1, 1, 0x40], ip].concat();
    assert_eq!(inner(&labels), key(&frame).hash(), "MPLS");
    // ARP is no IP packet: the outer one stands.
    let arp = over_ip(47, &[&[0, 0, 8, 6][..], &bytes(ARP)[14..]].concat());
    assert_eq!(inner(&arp), key(&arp).hash());
}

proptest! {
    #[test]
    fn both_directions_are_one_wider_flow(
        a in any::<[u8; 16]>(), b in any::<[u8; 16]>(), ports in any::<[u16; 4]>(), v6: bool, tcp: bool
    ) {
        let frame = |src: [u8; 16], dst: [u8; 16], from, to| {
            let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
            let ip = if v6 { builder.ipv6(src, dst, 64) } else {
                builder.ipv4([src[0], src[1], src[2], src[3]], [dst[0], dst[1], dst[2], dst[3]], 64)
            };
            let mut frame = Vec::new();
            if tcp {
                ip.tcp(from, to, 1, 2).write(&mut frame, b"data").unwrap();
            } else {
                ip.udp(from, to).write(&mut frame, b"data").unwrap();
            }
            frame
        };
        // Any two connections of two hosts are one flow of addresses.
        let there = frame(a, b, ports[0], ports[1]);
        let back = frame(b, a, ports[2], ports[3]);
        prop_assert_eq!(key(&there).three_tuple(), key(&back).three_tuple());
        prop_assert_eq!(key(&there).two_tuple(), key(&back).two_tuple());
        // Unless a port is that of a tunnel, which the noise in it may look like.
        let same = frame(b, a, ports[1], ports[0]);
        if tcp {
            prop_assert_eq!(inner(&in_vxlan(&there, true)), inner(&in_vxlan(&same, false)));
        }
    }

    #[test]
    fn noise_has_an_innermost_packet(
        link in 0..300u16, port in prop::sample::select(vec![4789u16, 6081, 1701, 4754, 6635]),
        noise in prop::collection::vec(any::<u8>(), 0..160)
    ) {
        inner_hash(&Rules::default(), LinkType(link), &noise);
        let mut frame = Vec::new();
        let ip = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([1; 4], [2; 4], 64);
        ip.udp(1, port).write(&mut frame, &noise).unwrap();
        inner(&frame);
    }
}
