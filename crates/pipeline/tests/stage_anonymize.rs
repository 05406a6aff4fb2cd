//! Addresses changed, checksums mended: tshark says of each checksum whether it is right.

mod shaped;

use api::{AnonymizeKey, StageKind};
use capfile::{PcapResolution, PcapWriter};
use io::{Outer, Packet};
use proptest::prelude::*;
use rig::Scratch;
use shaped::{Shaper, cut, frame, packet, tunnelled};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::LinkType;
use wire::checksum::{self, Sum};
use wire::tunnel::{Encap, Kind, Tunnel};

const A4: [u8; 4] = [192, 0, 2, 1];
const B4: [u8; 4] = [192, 0, 2, 2];
const A6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const B6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const C6: [u8; 16] = [0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// The key of public examples, by which A4 and A6 become [`BECOMES_A4`] and [`BECOMES_A6`].
fn stage() -> Shaper {
    let key = AnonymizeKey(std::array::from_fn(|n| n as u8));
    Shaper::new(StageKind::Anonymize { key })
}

const BECOMES_A4: [u8; 4] = [2, 90, 93, 17];
const BECOMES_A6: [u8; 16] = [
    0xdd, 0x92, 0x2c, 0x44, 0x3f, 0xc0, 0xff, 0x1e, 0x7f, 0xf9, 0xc7, 0xf0, 0x81, 0x80, 0x7e, 0x00,
];

/// What an address becomes, told by an ARP request or an IPv6 packet without content.
fn becomes4(address: [u8; 4]) -> [u8; 4] {
    let after = stage().frame(&eth4(&ip4(address, address, 253, &[])));
    after[26..30].try_into().expect("4 bytes")
}

fn becomes6(address: [u8; 16]) -> [u8; 16] {
    let after = stage().frame(&eth6(&ip6(address, address, 59, &[])));
    after[22..38].try_into().expect("16 bytes")
}

fn ip4(src: [u8; 4], dst: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = frame::ipv4_between(src, dst, protocol, 0, payload);
    header_checksum(&mut packet);
    packet
}

fn header_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let check = checksum::of(&packet[..20]);
    packet[10..12].copy_from_slice(&check.to_be_bytes());
}

fn ip6(src: [u8; 16], dst: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = frame::ipv6(next, payload);
    packet[8..24].copy_from_slice(&src);
    packet[24..40].copy_from_slice(&dst);
    packet
}

fn eth4(packet: &[u8]) -> Vec<u8> {
    frame::ethernet(0x0800, packet)
}

fn eth6(packet: &[u8]) -> Vec<u8> {
    frame::ethernet(0x86dd, packet)
}

fn checked(pseudo: Sum, mut segment: Vec<u8>, at: usize) -> Vec<u8> {
    segment[at..at + 2].fill(0);
    let mut sum = pseudo;
    sum.add_bytes(&segment);
    segment[at..at + 2].copy_from_slice(&sum.finish_nonzero().to_be_bytes());
    segment
}

fn check4(src: [u8; 4], dst: [u8; 4], protocol: u8, segment: Vec<u8>) -> Vec<u8> {
    let at = if protocol == TCP { 16 } else { 6 };
    checked(Sum::pseudo_v4(src, dst, protocol, segment.len() as u32), segment, at)
}

fn check6(src: [u8; 16], dst: [u8; 16], protocol: u8, segment: Vec<u8>) -> Vec<u8> {
    let at = match protocol {
        TCP => 16,
        UDP => 6,
        _ => 2,
    };
    checked(Sum::pseudo_v6(src, dst, protocol, segment.len() as u32), segment, at)
}

fn tcp4() -> Vec<u8> {
    ip4(A4, B4, TCP, &check4(A4, B4, TCP, frame::tcp(1000, 80, 0x18, b"odd")))
}

fn udp6() -> Vec<u8> {
    ip6(A6, B6, UDP, &check6(A6, B6, UDP, frame::udp(5000, 53, &[7; 33])))
}

fn icmp4(message: Vec<u8>) -> Vec<u8> {
    eth4(&ip4(B4, A4, 1, &checked(Sum::new(), message, 2)))
}

fn icmp6(message: Vec<u8>) -> Vec<u8> {
    eth6(&ip6(B6, A6, ICMPV6, &check6(B6, A6, ICMPV6, message)))
}

/// The outer UDP datagram of a frame gets a checksum.
fn outer_udp_checked(mut frame: Vec<u8>) -> Vec<u8> {
    let is_v6 = frame[12..14] == [0x86, 0xdd];
    let (addresses, udp) = if is_v6 { (22, 54) } else { (26, 34) };
    let len = (frame.len() - udp) as u32;
    let ends = &frame[addresses..udp];
    let sum = match is_v6 {
        true => Sum::pseudo_v6(
            ends[..16].try_into().expect("16 bytes"),
            ends[16..32].try_into().expect("16 bytes"),
            UDP,
            len,
        ),
        false => Sum::pseudo_v4(
            ends[..4].try_into().expect("4 bytes"),
            ends[4..8].try_into().expect("4 bytes"),
            UDP,
            len,
        ),
    };
    let datagram = checked(sum, frame.split_off(udp), 6);
    [frame, datagram].concat()
}

/// A TCP segment on a way of three segments, of which one is left (RFC 8754), or over a home
/// address (RFC 6275).
fn routed(kind: u8) -> Vec<u8> {
    let segment = check6(A6, C6, TCP, frame::tcp(1, 2, 2, &[5; 9]));
    let header = match kind {
        4 => [&[TCP, 6, 4, 1, 2, 0, 0, 0][..], &C6, &B6, &A6].concat(),
        _ => [&[TCP, 2, 2, 1, 0, 0, 0, 0][..], &C6].concat(),
    };
    eth6(&ip6(A6, B6, 43, &[header, segment].concat()))
}

/// Frames of every kind that has addresses, all checksums right.
fn frames() -> Vec<Vec<u8>> {
    let first_fragment = {
        let mut packet = tcp4();
        packet[6] = 0x20;
        header_checksum(&mut packet);
        packet
    };
    let quoted = |head: [u8; 8], packet: &[u8]| [&head[..], packet].concat();
    let mut frames = vec![
        eth4(&tcp4()),
        eth4(&ip4(A4, B4, UDP, &check4(A4, B4, UDP, frame::udp(1, 2, &[9; 21])))),
        eth4(&ip4(A4, B4, UDP, &frame::udp(1, 2, &[9; 20]))), // no checksum
        eth6(&ip6(A6, B6, TCP, &check6(A6, B6, TCP, frame::tcp(1, 2, 2, &[8; 50])))),
        eth6(&udp6()),
        frame::tagged(&eth4(&tcp4()), &[100, 200]),
        eth4(&first_fragment),
        icmp4(vec![8, 0, 0, 0, 0, 1, 0, 1, 7, 7, 7]),
        icmp4(quoted([3, 1, 0, 0, 0, 0, 0, 0], &tcp4())),
        icmp4(quoted([11, 0, 0, 0, 0, 0, 0, 0], &tcp4()[..28])),
        icmp4(quoted([5, 1, 0, 0, 192, 0, 2, 1], &tcp4())),
        icmp6(vec![128, 0, 0, 0, 0, 1, 0, 1]),
        icmp6(quoted([1, 4, 0, 0, 0, 0, 0, 0], &udp6())),
        icmp6(quoted([2, 0, 0, 0, 0, 0, 5, 0], &udp6()[..48])),
        icmp6([&[135, 0, 0, 0, 0, 0, 0, 0][..], &A6].concat()),
        icmp6([&[137, 0, 0, 0, 0, 0, 0, 0][..], &A6, &B6].concat()),
        icmp6([&[131, 0, 0, 0, 0, 0, 0, 0][..], &C6].concat()),
        eth4(&ip4(A4, B4, 4, &ip4(B4, A4, 41, &udp6()))),
        frame::ethernet(0x8847, &[&[0, 1, 1, 64][..], &tcp4()].concat()),
        frame::ethernet(0x8864, &[&[0x11, 0, 0, 1, 0, 45, 0x00, 0x21][..], &tcp4()].concat()),
        routed(4),
        routed(2),
    ];
    for inner in [eth4(&tcp4()), eth6(&udp6())] {
        for encap in tunnelled::encaps() {
            for (mut outer, _) in tunnelled::frames(&encap, &inner) {
                if outer[12] == 8 {
                    header_checksum(&mut outer[14..34]);
                }
                let protocol = if outer[12] == 8 { outer[23] } else { outer[20] };
                if protocol == UDP {
                    frames.push(outer_udp_checked(outer));
                } else {
                    frames.push(outer);
                }
            }
        }
    }
    frames
}

const STATUS: [&str; 6] = [
    "ip.checksum.status",
    "tcp.checksum.status",
    "udp.checksum.status",
    "icmp.checksum.status",
    "icmpv6.checksum.status",
    "gre.checksum.status",
];
const ADDRESSES: [&str; 4] = ["ip.addr", "ipv6.addr", "arp.src.proto_ipv4", "arp.dst.proto_ipv4"];

/// What tshark says of every checksum and every address in the frames.
fn judged(frames: &[Vec<u8>]) -> Vec<Vec<String>> {
    let scratch = Scratch::new("stage-anonymize");
    let path = scratch.path("x.pcap");
    let mut writer = PcapWriter::new(Vec::new(), 1, 65_535, PcapResolution::Nano).expect("memory");
    for frame in frames {
        writer.write(0, frame.len() as u32, frame).expect("memory takes it");
    }
    std::fs::write(&path, writer.get_ref()).expect("the folder can be written to");
    let checks = ["ip", "tcp", "udp"].map(|name| format!("{name}.check_checksum:TRUE"));
    let mut options: Vec<&str> = checks.iter().flat_map(|check| ["-o", check]).collect();
    options.extend(["-d", "udp.port==4754,gre"]);
    let fields = [&STATUS[..], &ADDRESSES].concat();
    rig::rows(&path, &options, &fields)
}

#[test]
fn tshark_finds_every_checksum_as_right_as_before_and_every_address_changed() {
    if !rig::tool_or_skip("tshark") {
        return;
    }
    let before = frames();
    let mut stage = stage();
    let after: Vec<Vec<u8>> = before.iter().map(|frame| stage.frame(frame)).collect();
    assert_eq!(stage.touched() as usize, before.len());
    let (was, is) = (judged(&before), judged(&after));
    assert_eq!((was.len(), is.len()), (before.len(), before.len()));
    let text = |address: IpAddr| address.to_string();
    let map: Vec<(String, String)> =
        [A4, B4, [10, 0, 0, 1], [10, 0, 0, 2]]
            .map(|a| (text(Ipv4Addr::from(a).into()), text(Ipv4Addr::from(becomes4(a)).into())))
            .into_iter()
            .chain([A6, B6, C6, frame_end(1), frame_end(2)].map(|a| {
                (text(Ipv6Addr::from(a).into()), text(Ipv6Addr::from(becomes6(a)).into()))
            }))
            .collect();
    let mut good = 0;
    for (number, (was, is)) in was.iter().zip(&is).enumerate() {
        for ((was, is), name) in was.iter().zip(is).zip(STATUS) {
            assert!(!was.contains('0'), "{name} of frame {number}: our own frame is wrong: {was}");
            assert_eq!(was, is, "{name} of frame {number}: {:02x?}", after[number]);
            good += is.matches('1').count();
        }
        for (was, is) in was.iter().zip(is).skip(STATUS.len()) {
            let wanted = was.split(',').map(|was| {
                let known = map.iter().find(|(from, _)| from == was);
                known.map_or(was, |(_, to)| to.as_str())
            });
            assert_eq!(*is, wanted.collect::<Vec<_>>().join(","), "frame {number}");
            assert!(was.is_empty() || was != is, "frame {number}: {was}");
        }
    }
    assert!(good > 2 * before.len(), "tshark has judged {good} checksums to be right");
}

/// The addresses of `frame::ipv6`.
fn frame_end(last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    (address[0], address[15]) = (0xfd, last);
    address
}

#[test]
fn no_byte_of_an_address_stays_wherever_it_stands() {
    let mut stage = stage();
    for frame in frames() {
        let after = stage.frame(&frame);
        assert_eq!(after.len(), frame.len());
        for address in [&A4[..], &B4, &A6, &B6, &C6, &[10, 0, 0, 1], &frame_end(1)] {
            let stands = |bytes: &[u8]| bytes.windows(address.len()).any(|w| w == address);
            assert!(!stands(&after), "{address:02x?} in {after:02x?}");
        }
        assert_eq!(after[..12], frame[..12], "MAC addresses stay");
    }
}

/// The first fragment of an IPv4 packet, or of an IPv6 packet, in an Ethernet frame: `len` bytes of
/// what it holds.
fn first_fragment_of(frame: &[u8], len: usize) -> Vec<u8> {
    if frame[12] == 8 {
        let mut packet = frame[14..34 + len].to_vec();
        packet[2..4].copy_from_slice(&(20 + len as u16).to_be_bytes());
        packet[6] = 0x20;
        header_checksum(&mut packet);
        return eth4(&packet);
    }
    let mut packet = frame[14..54].to_vec();
    let header = [packet[6], 0, 0, 1, 0, 0, 0, 9];
    packet[6] = 44;
    packet[4..6].copy_from_slice(&(8 + len as u16).to_be_bytes());
    eth6(&[&packet[..], &header, &frame[54..54 + len]].concat())
}

#[test]
fn what_the_first_fragment_of_a_tunnel_packet_shows_is_changed_as_in_the_whole() {
    let mut stage = stage();
    let long = ip4(A4, B4, TCP, &check4(A4, B4, TCP, frame::tcp(1000, 80, 0x18, &[7; 60])));
    for encap in tunnelled::encaps() {
        for (mut outer, _) in tunnelled::frames(&encap, &eth4(&long)) {
            if outer[12] == 8 {
                header_checksum(&mut outer[14..34]);
            }
            // All but the last bytes of the inner payload.
            let headers = if outer[12] == 8 { 34 } else { 54 };
            let len = (outer.len() - headers - 8) / 8 * 8;
            let wanted = first_fragment_of(&stage.frame(&outer), len);
            let before = first_fragment_of(&outer, len);
            assert_eq!(stage.frame(&before), wanted, "{encap:?}");
        }
    }
}

#[test]
fn public_examples_arp_and_what_is_told_beside_a_packet() {
    let mut stage = stage();
    assert_eq!(stage.frame(&eth4(&tcp4()))[26..30], BECOMES_A4);
    assert_eq!(stage.frame(&eth6(&udp6()))[22..38], BECOMES_A6);
    let mut arp = frame::arp();
    arp[28..32].copy_from_slice(&A4);
    arp[38..42].copy_from_slice(&A4);
    let mut wanted = arp.clone();
    wanted[28..32].copy_from_slice(&BECOMES_A4);
    wanted[38..42].copy_from_slice(&BECOMES_A4);
    assert_eq!(stage.frame(&arp), wanted);
    let half = stage.one(cut(&arp, 8));
    assert_eq!(*half.data, wanted[..34], "what is there of a cut one");

    let mut opened = packet(LinkType::ETHERNET, &eth4(&tcp4()));
    let tunnel = Tunnel { kind: Kind::Vxlan, id: Some(71) };
    opened.meta.outer = Some(Outer { tunnel, source: IpAddr::from(A4) });
    opened.meta.flow_hash = Some(opened.compute_flow_hash());
    let after = stage.one(opened);
    assert_eq!(after.meta.outer, Some(Outer { tunnel, source: IpAddr::from(BECOMES_A4) }));
    assert_eq!(after.meta.flow_hash, None, "the old one would tell the addresses");

    let before = (stage.touched(), frame::ethernet(0x88cc, &[1; 50]));
    assert_eq!(stage.frame(&before.1), before.1);
    assert_eq!(stage.touched(), before.0);
}

#[test]
fn later_fragments_have_no_checksum_to_mend_and_cut_packets_lose_nothing() {
    let mut stage = stage();
    let mut later = ip4(A4, B4, UDP, &[0xab; 40]);
    later[7] = 3;
    header_checksum(&mut later);
    let after = stage.frame(&eth4(&later));
    assert_eq!(after[34..], [0xab; 40]);
    assert_eq!(checksum::of(&after[14..34]), 0);
    for (frame, addresses_end, check_at) in [(eth4(&tcp4()), 34, 50), (eth6(&udp6()), 54, 60)] {
        let whole = stage.frame(&frame);
        // Half a checksum cannot be mended.
        for len in (0..frame.len()).filter(|&len| len != check_at + 1) {
            let mut left = stage.one(cut(&frame, frame.len() - len));
            assert_eq!(left.caplen(), len);
            if frame[12] == 8 && len < addresses_end {
                // The header's checksum cannot be told without all of the addresses.
                let check = len.min(24)..len.min(26);
                left.data[check.clone()].copy_from_slice(&whole[check]);
            }
            assert_eq!(*left.data, whole[..len], "{len} of {frame:02x?}");
        }
    }
}

#[test]
fn a_zero_checksum_of_udp_means_none_and_is_never_made() {
    let mut stage = stage();
    let mut seen = 0;
    // Among all lengths of payload bytes there are some whose checksum becomes 0, which is written ffff.
    for n in 0..=u16::MAX {
        let datagram = [&frame::udp(n, 2, &[])[..]].concat();
        let before = eth4(&ip4(A4, B4, UDP, &check4(A4, B4, UDP, datagram)));
        let after = stage.frame(&before);
        assert_ne!(after[40..42], [0, 0]);
        if after[40..42] == [0xff, 0xff] {
            seen += 1;
            let sum = Sum::pseudo_v4(becomes4(A4), becomes4(B4), UDP, 8);
            assert_eq!(checked(sum, after[34..].to_vec(), 6), after[34..]);
        }
    }
    assert!(seen > 0);
}

fn sum_is_right(packet: &Packet) -> bool {
    let data = &packet.data;
    let address = |at: usize| data[at..at + 4].try_into().expect("4 bytes");
    let (src, dst) = (address(26), address(30));
    let mut sum = Sum::pseudo_v4(src, dst, TCP, data.len() as u32 - 34);
    sum.add_bytes(&data[34..]);
    sum.finish() == 0
}

proptest! {
    #[test]
    fn a_right_checksum_stays_right_and_a_wrong_one_wrong(
        src: [u8; 4], dst: [u8; 4], payload in proptest::collection::vec(any::<u8>(), 0..60), off in 1..0xffffu16
    ) {
        let segment = check4(src, dst, TCP, frame::tcp(1, 2, 2, &payload));
        let mut right = packet(LinkType::ETHERNET, &eth4(&ip4(src, dst, TCP, &segment)));
        let mut wrong = right.copy();
        let check = u16::from_be_bytes([wrong.data[50], wrong.data[51]]);
        let bad = checksum::update_u16(check, 0, off);
        wrong.data[50..52].copy_from_slice(&bad.to_be_bytes());
        prop_assume!(sum_is_right(&right) && !sum_is_right(&wrong));
        let mut stage = stage();
        right = stage.one(right);
        wrong = stage.one(wrong);
        prop_assert!(sum_is_right(&right) && !sum_is_right(&wrong));
        prop_assert_eq!(checksum::of(&right.data[14..34]), 0);
    }
}

#[test]
fn a_gre_checksum_over_changed_addresses_is_right_again() {
    let with_checksum = |encap: &Encap| match encap {
        Encap::Gre(gre) | Encap::Gretap(gre) => gre.checksum,
        _ => false,
    };
    for encap in tunnelled::encaps().iter().filter(|encap| with_checksum(encap)) {
        for (outer, _) in tunnelled::frames(encap, &eth4(&tcp4())) {
            let after = stage().frame(&outer);
            let walk = wire::walk::Walk::new(LinkType::ETHERNET, &after);
            let gre = wire::gre::Packet::new_checked(walk.payload(&after)).expect("a header");
            assert!(gre.checksum_is_good(), "{encap:?}");
        }
    }
}
