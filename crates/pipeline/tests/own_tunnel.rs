//! Which packets a tap takes for its own tunnel's: those and no others.

mod taps;

use api::DropReason;
use io::memory::MemorySink;
use io::{Direction, Packet};
use pipeline::{FarEnd, OwnTunnels};
use taps::frame::{self, ethernet, tagged, udp};
use taps::*;
use wire::encap::Told;
use wire::flow::{flow_hash, source_port};
use wire::metadata::Lane;
use wire::tunnel::{Carrier, Encap};
use wire::walk::Walk;
use wire::{LinkType, Vni};

const SINK: [u8; 4] = [10, 9, 0, 2];
const US: [u8; 4] = [10, 9, 0, 1];
const GRE: Carrier = Carrier::Ip { protocol: 47 };

fn own(any_direction: bool) -> OwnTunnels {
    let udp = |port| Carrier::Udp { port };
    let far_ends = [("10.9.0.2", udp(4789)), ("fd00::2", udp(4790)), ("10.9.0.3", GRE)];
    let far_ends = far_ends.map(|(address, carrier)| FarEnd {
        address: address.parse().expect("an address"),
        carrier,
    });
    OwnTunnels::new(far_ends.to_vec(), any_direction)
}

fn sent(frame: &[u8]) -> Packet {
    let mut packet = packet(0, frame);
    packet.meta.direction = Direction::Out;
    packet
}

/// A packet of our tunnel over IPv4.
fn tunnel4() -> Vec<u8> {
    udp4((US, 0xc001), (SINK, 4789), &[0; 58])
}

/// An Ethernet frame of an IPv6 packet to the sink.
fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(0x86dd, &frame::ipv6(next, payload))
}

/// A fragment of a packet to the sink, at an offset in units of 8 bytes.
fn fragment4(offset: u16, more: bool, protocol: u8) -> Vec<u8> {
    let mut frame = tunnel4();
    frame[20..22].copy_from_slice(&(offset | u16::from(more) << 13).to_be_bytes());
    frame[23] = protocol;
    frame
}

/// IPv6 fragment headers of one datagram: UDP follows, offset and flags, identification.
const FIRST: [u8; 8] = [17, 0, 0, 1, 0, 0, 0, 1];
const LAST: [u8; 8] = [17, 0, 0x05, 0xc8, 0, 0, 0, 1];

#[test]
fn own_packets_are_recognised() {
    let mut own = own(false);
    for (what, frame) in [
        ("IPv4", tunnel4()),
        ("the highest source port", udp4((US, 0xffff), (SINK, 4789), &[])),
        ("the lowest source port", udp4((US, 0xc000), (SINK, 4789), &[])),
        ("one tag", tagged(&tunnel4(), &[7])),
        ("two tags", tagged(&tunnel4(), &[7, 7])),
        ("IPv6", ipv6(17, &udp(0xd000, 4790, &[0; 20]))),
        ("first fragment", fragment4(0, true, 17)),
        ("last fragment", fragment4(185, false, 17)),
        ("first IPv6 fragment", ipv6(44, &[&FIRST[..], &udp(0xd000, 4790, &[0; 64])].concat())),
        ("last IPv6 fragment", ipv6(44, &[&LAST[..], &[0; 64]].concat())),
    ] {
        assert!(own.contains(&sent(&frame)), "{what}");
    }
    let mut raw = sent(&tunnel4()[14..]);
    raw.meta.link_type = LinkType::RAW;
    assert!(own.contains(&raw), "without an Ethernet header");
}

#[test]
fn other_packets_are_not() {
    let mut own = own(false);
    for (what, frame) in [
        ("a source port that no hash gives", udp4((US, 0xbfff), (SINK, 4789), &[])),
        ("another port", udp4((US, 0xc001), (SINK, 4790), &[])),
        ("another host", udp4((US, 0xc001), ([10, 9, 0, 3], 4789), &[])),
        ("the answer", udp4((SINK, 4789), (US, 0xc001), &[])),
        ("TCP", fragment4(0, false, 6)),
        ("a fragment of TCP", fragment4(185, false, 6)),
        ("the IPv4 remote's port over IPv6", ipv6(17, &udp(0xd000, 4789, &[0; 20]))),
        ("ARP", ethernet(0x0806, &[0; 28])),
        ("cut in the addresses", tunnel4()[..30].to_vec()),
        ("nothing", Vec::new()),
    ] {
        assert!(!own.contains(&sent(&frame)), "{what}");
    }
}

/// A VXLAN packet to a sink of somebody else, from the port that its inner flow gives, or one beside.
fn of_another_tap(beside: u16) -> Vec<u8> {
    let inner = flow_frame(3);
    let hash = flow_hash(&Walk::new(LinkType::ETHERNET, &inner), &inner);
    let payload = [&[8, 0, 0, 0, 0, 0, 71, 0][..], &inner].concat();
    udp4((US, source_port(hash) ^ beside), ([10, 9, 0, 77], 4789), &payload)
}

#[test]
fn another_tap_s_are_recognised_by_their_source_port() {
    let mut own = own(false);
    assert!(own.contains(&sent(&of_another_tap(0))));
    assert!(own.contains(&sent(&tagged(&of_another_tap(0), &[7]))));
    for (what, frame) in [
        ("a stranger's source port", of_another_tap(1)),
        ("cut in the VXLAN header", of_another_tap(0)[..47].to_vec()),
        ("no VXLAN", udp4((US, 0xc001), ([10, 9, 0, 77], 4789), &[0; 60])),
    ] {
        assert!(!own.contains(&sent(&frame)), "{what}");
    }
}

#[test]
fn only_sent_ones_are_unless_the_interface_is_a_loop() {
    for (direction, any_direction, wanted) in [
        (Direction::Out, false, true),
        (Direction::In, false, false),
        (Direction::Unknown, false, false),
        (Direction::In, true, true),
        (Direction::Unknown, true, true),
    ] {
        let mut packet = packet(0, &tunnel4());
        packet.meta.direction = direction;
        assert_eq!(own(any_direction).contains(&packet), wanted, "{direction:?} {any_direction}");
    }
    assert!(!OwnTunnels::default().contains(&sent(&tunnel4())), "no tunnel, none of its packets");
}

#[test]
fn they_are_dropped_before_the_filter_and_counted() {
    let sink = MemorySink::default();
    let own_and_other = (0..100).map(|number| {
        let frame = if number % 4 == 0 { tunnel4() } else { flow_frame(number) };
        let mut packet = packet(number, &frame);
        packet.meta.direction = Direction::Out;
        packet
    });
    let mut tap = tap(live(own_and_other), vec![only("sink", sink.clone())]);
    tap.own = own(false);
    let report = run(tap);
    assert_eq!(report.drops.get(DropReason::OwnTunnel), 25);
    assert_eq!((report.seen(), report.matched, report.filtered), (100, 75, 0));
    assert!(numbers(&sink).iter().all(|number| number % 4 != 0));
}

#[test]
fn fragments_follow_their_first_one() {
    let mut own = own(false);
    let mut strangers = fragment4(0, true, 17);
    strangers[36..38].copy_from_slice(&2049u16.to_be_bytes());
    assert!(!own.contains(&sent(&strangers)), "another service of the sink");
    assert!(!own.contains(&sent(&fragment4(185, false, 17))), "of a datagram that is not ours");

    let whole = of_another_tap(0);
    let mut first = whole.clone();
    first[20] |= 0x20;
    let mut last = whole;
    last[20..22].copy_from_slice(&185u16.to_be_bytes());
    assert!(!own.contains(&sent(&last)), "not yet known");
    assert!(own.contains(&sent(&first)), "another tap's, by its look");
    assert!(own.contains(&sent(&last)), "another tap's, by its first fragment");
    last[18] ^= 1;
    assert!(!own.contains(&sent(&last)), "another identification");
}

#[test]
fn a_tunnel_with_an_ip_protocol_of_its_own_is_recognised_by_its_far_end() {
    let mut own = own(false);
    let gre = |to, protocol| ethernet(0x0800, &frame::ipv4_between(US, to, protocol, 0, &[0; 30]));
    assert!(own.contains(&sent(&gre([10, 9, 0, 3], 47))));
    assert!(!own.contains(&sent(&gre([10, 9, 0, 3], 115))), "L2TPv3");
    assert!(!own.contains(&sent(&gre([10, 9, 0, 2], 47))), "GRE to where VXLAN is sent");
}

#[test]
fn another_tap_s_geneve_is_recognised_by_its_metadata() {
    let geneve = |metadata| {
        let encap = Encap::Geneve { vni: Vni::new(7).expect("24 bits"), metadata };
        let carrier = Carrier::Udp { port: 6081 };
        let lane = Lane { epoch: 1, tap: 1, target: 0, lane: 0 };
        let told = Told { origlen: 60, ts_ns: 1, direction: wire::Direction::In, lane };
        let mut payload = vec![0; encap.header_len(carrier)];
        let fit = encap.fit(LinkType::ETHERNET, &[0; 60]).expect("an Ethernet frame");
        encap.emit(&mut payload, carrier, &fit, &[0; 60], &told, 5);
        payload.extend_from_slice(&[0; 60]);
        udp4((US, 0xc001), ([10, 9, 0, 77], 6081), &payload)
    };
    assert!(own(false).contains(&sent(&geneve(true))));
    assert!(!own(false).contains(&sent(&geneve(false))), "a stranger's");
}
