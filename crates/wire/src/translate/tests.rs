//! Checksums judged by etherparse, mappings turned round, answers and fragments.

use super::*;
use crate::LinkType;
use crate::checksum::{Sum, of};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

const LINK: LinkType = LinkType::ETHERNET;

/// A frame of a session's end: TCP, UDP or an echo request, over either version.
fn frame(is_v6: bool, kind: u8, source: End, destination: End, payload: &[u8]) -> Vec<u8> {
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match (source.address, destination.address) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("two versions"),
    };
    let mut out = Vec::new();
    let (from, to) = (source.port, destination.port);
    match kind % 3 {
        0 => ip.tcp(from, to, 7, 1000).ack(9).write(&mut out, payload).unwrap(),
        1 => ip.udp(from, to).write(&mut out, payload).unwrap(),
        _ if is_v6 => ip.icmpv6_echo_request(from, 3).write(&mut out, payload).unwrap(),
        _ => ip.icmpv4_echo_request(from, 3).write(&mut out, payload).unwrap(),
    }
    out
}

/// Whether all checksums are right, and what the packet says now.
fn judged(frame: &[u8]) -> (bool, IpAddr, IpAddr, u8) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let (ip_ok, src, dst, hops) = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            let is_right = header.calc_header_checksum() == header.header_checksum;
            let (src, dst) = (header.source.into(), header.destination.into());
            (is_right, src, dst, header.time_to_live)
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let (src, dst) = (header.source_addr().into(), header.destination_addr().into());
            (true, src, dst, header.hop_limit())
        }
        _ => panic!("no IP"),
    };
    let is_right = match sliced.transport.unwrap() {
        TransportSlice::Udp(udp) if udp.checksum() == 0 => true,
        _ => upper_is_right(frame, src, dst),
    };
    (ip_ok && is_right, src, dst, hops)
}

/// The sum over pseudo-header and all that stands behind the IP header is 0.
fn upper_is_right(frame: &[u8], src: IpAddr, dst: IpAddr) -> bool {
    let reading = Reading::of(LINK, frame).unwrap();
    let upper = &frame[reading.transport_at as usize..reading.end as usize];
    let mut sum = match (src, dst) {
        _ if reading.protocol == 1 => Sum::new(),
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            Sum::pseudo_v4(src.octets(), dst.octets(), reading.protocol, upper.len() as u32)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            Sum::pseudo_v6(src.octets(), dst.octets(), reading.protocol, upper.len() as u32)
        }
        _ => panic!("two versions"),
    };
    sum.add_bytes(upper);
    sum.finish() == 0
}

fn address(is_v6: bool, seed: u32) -> IpAddr {
    match is_v6 {
        false => std::net::Ipv4Addr::from(0x0a00_0000 | (seed & 0xff_ffff)).into(),
        true => {
            let high = 0x2001_0db8_0000_0000_u128 << 64;
            std::net::Ipv6Addr::from(high | u128::from(seed) << 24 | 1).into()
        }
    }
}

fn session() -> impl Strategy<Value = (bool, u8, [End; 4])> {
    (any::<bool>(), any::<u8>(), any::<[(u32, u16); 4]>()).prop_map(|(is_v6, kind, ends)| {
        let ends = ends.map(|(seed, port)| End { address: address(is_v6, seed), port });
        let [a, mut b, c, mut d] = ends;
        if kind % 3 == 2 {
            // An id belongs to both ends.
            (b.port, d.port) = (a.port, c.port);
        }
        (is_v6, kind, [a, b, c, d])
    })
}

proptest! {
    #[test]
    fn checksums_are_right_if_they_were_and_the_way_back_restores(
        (is_v6, kind, [a, b, c, d]) in session(),
        payload in proptest::collection::vec(any::<u8>(), 0..100), is_broken: bool,
    ) {
        let mut packet = frame(is_v6, kind, a, b, &payload);
        if is_broken {
            let last = packet.len() - 1;
            packet[last] ^= 0x55;
        }
        let was_right = judged(&packet).0;
        let before = packet.clone();
        let reading = Reading::of(LINK, &packet).unwrap();
        prop_assert_eq!((reading.source.address, reading.destination.address), (a.address, b.address));
        prop_assert_eq!(reading.source.port, a.port);
        let there = Mapping { source: c, destination: d };
        translate(&mut packet, &reading, &there, Hops::Lower);
        let (is_right, src, dst, hops) = judged(&packet);
        prop_assert_eq!((is_right, src, dst, hops), (was_right, c.address, d.address, 63));
        let now = Reading::of(LINK, &packet).unwrap();
        prop_assert_eq!((now.source, now.destination), (c, d));

        let mut packet = before.clone();
        translate(&mut packet, &reading, &there, Hops::Keep);
        let now = Reading::of(LINK, &packet).unwrap();
        translate(&mut packet, &now, &Mapping { source: a, destination: b }, Hops::Keep);
        prop_assert!(same(&packet, &before), "{packet:02x?}\n{before:02x?}");
    }

    #[test]
    fn the_packet_in_an_error_goes_the_other_way(
        (is_v6, kind, [a, b, c, d]) in session(), router: u32, cut in 0..60usize,
        payload in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        // We sent c to d; the error comes from a router, and becomes one about a to b.
        let ours = frame(is_v6, kind, c, d, &payload);
        let reading = Reading::of(LINK, &ours).unwrap();
        let router = address(is_v6, router);
        let mut out = [0; 2000];
        let len = answer(&ours, &reading, Answer::TimeExceeded, router, &mut out).unwrap();
        // Cut off behind the ports, as old routers do.
        let quoted = if is_v6 { 14 + 48 + 40 } else { 14 + 28 + 20 } + 8;
        let mut error = recut(&out[..len], len.saturating_sub(cut).max(quoted));
        prop_assert!(judged(&error).0);
        let before = error.clone();
        let reading = Reading::of(LINK, &error).unwrap();
        let Kind::Error(about) = reading.kind else { panic!("{reading:?}") };
        prop_assert_eq!((about.source, about.destination), (c, d));
        let back = Mapping { source: b, destination: a };
        translate(&mut error, &reading, &back, Hops::Lower);
        prop_assert_eq!(judged(&error), (true, b.address, a.address, 63));
        let now = Reading::of(LINK, &error).unwrap();
        let Kind::Error(about) = now.kind else { panic!("{now:?}") };
        prop_assert_eq!((about.source, about.destination), (a, b));
        if !is_v6 {
            let at = about.at as usize;
            prop_assert_eq!(of(&error[at..at + 20]), 0, "the embedded header's checksum");
        }

        let mut error = before.clone();
        translate_from(&mut error, &reading, &back, router, Hops::Keep);
        prop_assert_eq!(judged(&error).1, router);
        let now = Reading::of(LINK, &error).unwrap();
        let ours = Mapping { source: d, destination: c };
        translate_from(&mut error, &now, &ours, router, Hops::Keep);
        prop_assert!(same(&error, &before), "{error:02x?}\n{before:02x?}");
    }

    #[test]
    fn no_frame_makes_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0..3u8, mtu in 0..200usize,
    ) {
        let mut frame = bytes;
        if frame.len() > 15 {
            match version {
                0 => frame[12..15].copy_from_slice(&[8, 0, 0x45]),
                1 => frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]),
                _ => {}
            }
        }
        let Some(reading) = Reading::of(LINK, &frame) else { return Ok(()) };
        let end = |seed| End { address: address(reading.source.address.is_ipv6(), seed), port: 5 };
        let mut out = [0; 2000];
        let ours = end(3).address;
        let _ = answer(&frame, &reading, Answer::Unreachable, ours, &mut out);
        if let Some(cut) = Fragments::new(&reading, &frame, mtu) {
            for i in 0..cut.count() {
                cut.emit(&frame, i, &mut out[..cut.len(i)]);
            }
        }
        let mapping = Mapping { source: end(1), destination: end(2) };
        translate(&mut frame, &reading, &mapping, Hops::Lower);
    }

    #[test]
    fn fragments_are_the_packet(payload in proptest::collection::vec(any::<u8>(), 1..3000), mtu in 68..1500usize) {
        let [from, to] = [address(false, 1), address(false, 2)].map(|address| End { address, port: 9 });
        let mut packet = frame(false, 1, from, to, &payload);
        packet[20] &= !0x40;
        packet[24..26].fill(0);
        let check = of(&packet[14..34]).to_be_bytes();
        packet[24..26].copy_from_slice(&check);
        let reading = Reading::of(LINK, &packet).unwrap();
        let Some(cut) = Fragments::new(&reading, &packet, mtu) else {
            prop_assert!(packet.len() - 14 <= mtu);
            return Ok(());
        };
        let mut whole: Vec<u8> = Vec::new();
        for i in 0..cut.count() {
            let mut out = vec![0xa5; cut.len(i)];
            cut.emit(&packet, i, &mut out);
            prop_assert!(out.len() - 14 <= mtu);
            prop_assert_eq!(of(&out[14..34]), 0);
            let piece = Reading::of(LINK, &out).unwrap().fragment.unwrap();
            prop_assert_eq!(usize::from(piece.offset), whole.len());
            prop_assert_eq!(piece.more, i + 1 < cut.count());
            whole.extend(&out[34..]);
        }
        prop_assert_eq!(&whole, &packet[34..]);
    }
}

/// The same but for a checksum whose zero has two faces.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).filter(|(one, other)| one != other);
    let are_zeros = |(one, other): (&u8, &u8)| matches!((one, other), (0, 0xff) | (0xff, 0));
    one.len() == other.len()
        && differences.clone().count() <= 4
        && differences.into_iter().all(are_zeros)
}

/// An error that holds less of its packet.
fn recut(frame: &[u8], len: usize) -> Vec<u8> {
    let mut cut = frame[..len].to_vec();
    let reading = Reading::of(LINK, frame).unwrap();
    let at = reading.transport_at as usize;
    match reading.version {
        crate::walk::IpVersion::V4 => {
            cut[16..18].copy_from_slice(&((len - 14) as u16).to_be_bytes());
            cut[24..26].fill(0);
            let check = of(&cut[14..34]).to_be_bytes();
            cut[24..26].copy_from_slice(&check);
        }
        crate::walk::IpVersion::V6 => {
            cut[18..20].copy_from_slice(&((len - 54) as u16).to_be_bytes());
        }
    }
    cut[at + 2..at + 4].fill(0);
    let mut sum = match (reading.source.address, reading.destination.address) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            Sum::pseudo_v6(src.octets(), dst.octets(), 58, (len - at) as u32)
        }
        _ => Sum::new(),
    };
    sum.add_bytes(&cut[at..]);
    let check = sum.finish().to_be_bytes();
    cut[at + 2..at + 4].copy_from_slice(&check);
    cut
}

fn ends(port: u16) -> [End; 2] {
    [address(false, 1), address(false, 2)].map(|address| End { address, port })
}

#[test]
fn a_udp_checksum_of_zero_stays_zero() {
    let [from, to] = ends(53);
    let mut packet = frame(false, 1, from, to, b"query");
    packet[40..42].fill(0);
    let reading = Reading::of(LINK, &packet).unwrap();
    let mapping = Mapping { source: End { port: 99, ..to }, destination: from };
    translate(&mut packet, &reading, &mapping, Hops::Lower);
    assert_eq!(packet[40..42], [0, 0]);
    assert_eq!(packet[34..38], [0, 99, 0, 53]);
}

#[test]
fn a_first_fragment_has_ports_and_a_later_one_addresses() {
    let [from, to] = ends(53);
    let mut packet = frame(false, 1, from, to, &[7; 64]);
    packet[20..22].copy_from_slice(&[0x20, 0]);
    let reading = Reading::of(LINK, &packet).unwrap();
    assert_eq!((reading.kind, reading.source.port), (Kind::Ports, 53));
    assert!(reading.fragment.is_some_and(|fragment| fragment.more));
    packet[20..22].copy_from_slice(&[0, 5]);
    let reading = Reading::of(LINK, &packet).unwrap();
    assert_eq!((reading.kind, reading.source.port), (Kind::Later, 0));
    let upper = packet[34..].to_vec();
    translate(&mut packet, &reading, &Mapping { source: to, destination: from }, Hops::Lower);
    assert_eq!(packet[34..], upper);
    assert_eq!(packet[26..30], packet_of(to.address));
}

fn packet_of(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => panic!("no IPv4 address"),
    }
}

#[test]
fn what_cannot_be_translated_stays_as_it_is() {
    let [from, to] = ends(53);
    let mapping = Mapping { source: to, destination: from };
    let mut redirect = frame(false, 2, from, to, &[0; 40]);
    redirect[34] = 5;
    let mut authenticated = frame(false, 0, from, to, &[0; 40]);
    authenticated[23] = 51;
    // Next header TCP, length 4: 24 bytes.
    authenticated[34..36].copy_from_slice(&[6, 4]);
    for mut packet in [redirect, authenticated] {
        let before = packet.clone();
        let reading = Reading::of(LINK, &packet).unwrap();
        assert_eq!(reading.kind, Kind::Foreign);
        translate(&mut packet, &reading, &mapping, Hops::Lower);
        assert_eq!(packet, before);
    }
    assert_eq!(Reading::of(LINK, &frame(false, 0, from, to, &[0; 40])[..60]), None);
}

#[test]
fn a_router_says_why() {
    for is_v6 in [false, true] {
        let [from, to] = [1, 2].map(|seed| End { address: address(is_v6, seed), port: 53 });
        let us = address(is_v6, 3);
        let packet = frame(is_v6, 1, from, to, &[7; 1400]);
        let reading = Reading::of(LINK, &packet).unwrap();
        let head = if is_v6 { 40 } else { 20 };
        for (what, v4, v6) in [
            (Answer::TimeExceeded, [11, 0, 0, 0], [3, 0, 0, 0]),
            (Answer::TooBig(1280), [3, 4, 5, 0], [2, 0, 5, 0]),
            (Answer::Unreachable, [3, 1, 0, 0], [1, 3, 0, 0]),
        ] {
            let mut out = [0xa5; 14 + ANSWER_LEN_MAX];
            let len = answer(&packet, &reading, what, us, &mut out).unwrap();
            let out = &out[..len];
            assert_eq!(judged(out), (true, us, from.address, 64));
            assert_eq!((&out[..6], &out[6..12]), (&packet[6..12], &packet[..6]));
            assert_eq!(len, 14 + if is_v6 { 1280 } else { 576 });
            let icmp = &out[14 + head..];
            let wanted = if is_v6 { v6 } else { v4 };
            assert_eq!([icmp[0], icmp[1], icmp[6], icmp[7]], wanted);
            assert_eq!(icmp[8..], packet[14..len - head - 8]);
            // Never about an error.
            let error = Reading::of(LINK, out).unwrap();
            assert!(matches!(error.kind, Kind::Error(_)));
            assert_eq!(answer(out, &error, what, us, &mut [0; 2000]), None);
        }
        // Nor about what went to many, or came from nobody.
        let mut many = packet.clone();
        many[0] = 0xff;
        assert_eq!(answer(&many, &reading, Answer::Unreachable, us, &mut [0; 2000]), None);
        let none = if is_v6 { "::" } else { "0.0.0.0" }.parse().unwrap();
        let nobody = Reading { source: End { address: none, port: 1 }, ..reading };
        assert_eq!(answer(&packet, &nobody, Answer::Unreachable, us, &mut [0; 2000]), None);
        let later = Reading {
            fragment: Some(crate::walk::Fragment { offset: 8, more: false, id: 1 }),
            ..reading
        };
        assert_eq!(answer(&packet, &later, Answer::Unreachable, us, &mut [0; 2000]), None);
        assert_eq!(answer(&packet, &reading, Answer::Unreachable, us, &mut [0; 40]), None);
    }
}

#[test]
fn options_that_are_not_copied_stay_in_the_first_fragment() {
    let mut packet = vec![2; 12];
    packet.extend([8, 0, 0x47, 0, 0, 92, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    // Record route (not copied), then router alert (copied), then the end.
    packet.extend([7, 3, 4, 0x94, 4, 0, 0, 0]);
    packet.extend([9; 64]);
    let reading = Reading::of(LINK, &packet).unwrap();
    let cut = Fragments::new(&reading, &packet, 68).unwrap();
    assert_eq!(cut.count(), 2);
    let mut out = vec![0; cut.len(1)];
    cut.emit(&packet, 1, &mut out);
    assert_eq!(out[34..42], [1, 1, 1, 0x94, 4, 0, 0, 0]);
    let mut first = vec![0; cut.len(0)];
    cut.emit(&packet, 0, &mut first);
    assert_eq!(first[34..42], packet[34..42]);
}
