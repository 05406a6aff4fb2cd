//! Tests of decapsulation: outer packets built by hand around one inner frame.

use super::*;
use crate::geneve;
use crate::l2tp::UDP_PREFIX;
use crate::metadata::{self, Lane};
use crate::tunnel::Cookie;
use crate::{Layer, erspan};
use core::net::Ipv4Addr;
use proptest::prelude::*;

const LANE: Lane = Lane { epoch: 0xdead_beef, tap: 1, target: 2, lane: 3 };

// The packets inside: IPv4 of 28 bytes, and an Ethernet frame of 42 that holds it.
fn ip_packet() -> Vec<u8> {
    ipv4(253, &[0xaa; 8])
}

fn frame() -> Vec<u8> {
    ethernet(&[0x08, 0], &ip_packet())
}

fn ethernet(ethertype: &[u8], payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], ethertype, payload].concat()
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = ((20 + payload.len()) as u16).to_be_bytes();
    let head = [0x45, 0, len[0], len[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    [&head[..], &[10, 0, 0, 1, 10, 0, 0, 2], payload].concat()
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    let (mut src, mut dst) = ([0; 16], [0; 16]);
    (src[0], src[15], dst[0], dst[15]) = (0xfd, 1, 0xfd, 2);
    [&[0x60, 0, 0, 0, len[0], len[1], next, 64][..], &src, &dst, payload].concat()
}

fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let words = [src, dst, len, 0].map(u16::to_be_bytes);
    [words.as_flattened(), payload].concat()
}

fn over_udp(port: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(&[0x08, 0], &ipv4(17, &udp(50_000, port, payload)))
}

fn vxlan(flags: u8, next: u8, vni: u8, payload: &[u8]) -> Vec<u8> {
    [&[flags, 0, 0, next, 0, 0, vni, 0], payload].concat()
}

fn geneve(protocol: u16, control: bool, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let vni = crate::Vni::new(9).unwrap();
    let repr = geneve::Repr { vni, protocol, control, critical: false, options };
    let mut bytes = vec![0xa5; repr.header_len()];
    repr.emit(&mut bytes);
    [bytes, payload.to_vec()].concat()
}

fn gre(flags: u8, protocol: u16, optional: &[u8], payload: &[u8]) -> Vec<u8> {
    let [high, low] = protocol.to_be_bytes();
    [&[flags, 0, high, low], optional, payload].concat()
}

fn block(told: metadata::Told) -> Vec<u8> {
    let mut option = vec![0; metadata::OPTION_LEN];
    metadata::Repr { lane: LANE, told }.emit(&mut option);
    option
}

fn look(frame: &[u8]) -> Result<Option<Found>, Error> {
    Rules::default().in_frame(LinkType::ETHERNET, frame)
}

// The tunnel's name, the link type of what is in it, and its bytes.
fn open(outer: &[u8]) -> (String, LinkType, Vec<u8>) {
    let found = look(outer).unwrap().expect("a tunnel");
    let Content::Packet(inner) = found.content else { panic!("{found:?}") };
    let packet = &outer[inner.at as usize..inner.end as usize];
    (found.tunnel.to_string(), inner.link_type, packet.to_vec())
}

fn is(name: &str, link: LinkType, packet: Vec<u8>) -> (String, LinkType, Vec<u8>) {
    (name.to_string(), link, packet)
}

fn content(outer: &[u8]) -> Content {
    look(outer).unwrap().expect("a tunnel").content
}

#[test]
fn each_kind_gives_its_packet() {
    let l2tp = [&[0, 0, 0, 7, 0, 0, 0, 0][..], &frame()].concat();
    let l2tp_udp = [&UDP_PREFIX[..], &l2tp].concat();
    let ii = [&[0x10, 0, 0, 21, 0, 0, 0, 1][..], &frame()].concat();
    let iii = [&[0x20, 0, 0, 22, 0, 0, 0, 1, 0, 0, 0, 0][..], &frame()].concat();
    let key = [0, 0, 1, 0xf4];
    let cases = [
        (over_udp(4789, &vxlan(8, 0, 71, &frame())), "vxlan-71"),
        (over_udp(6081, &geneve(0x6558, false, &[], &frame())), "geneve-9"),
        (over_udp(1701, &l2tp_udp), "l2tp-7"),
        (over_udp(4754, &gre(0x20, 0x6558, &key, &frame())), "gretap-500"),
        (ethernet(&[8, 0], &ipv4(47, &gre(0, 0x6558, &[], &frame()))), "gretap-none"),
        (ethernet(&[8, 0], &ipv4(47, &gre(0, 0x88be, &[], &frame()))), "erspan-none"),
        (ethernet(&[8, 0], &ipv4(47, &gre(0x10, 0x88be, &[0; 4], &ii))), "erspan-21"),
        (ethernet(&[8, 0], &ipv4(47, &gre(0x10, 0x22eb, &[0; 4], &iii))), "erspan-22"),
        (ethernet(&[8, 0], &ipv4(115, &l2tp)), "l2tp-7"),
        (ethernet(&[0x86, 0xdd], &ipv6(115, &l2tp)), "l2tp-7"),
    ];
    for (outer, name) in cases {
        assert_eq!(open(&outer), is(name, LinkType::ETHERNET, frame()));
    }
    let cases = [
        (over_udp(6081, &geneve(0x0800, false, &[], &ip_packet())), "geneve-9"),
        (over_udp(4789, &vxlan(0x0c, 1, 71, &ip_packet())), "vxlan-71"),
        (ethernet(&[0x86, 0xdd], &ipv6(47, &gre(0x20, 0x0800, &key, &ip_packet()))), "gre-500"),
    ];
    for (outer, name) in cases {
        assert_eq!(open(&outer), is(name, LinkType::RAW, ip_packet()));
    }
}

#[test]
fn sender_and_receiver_are_those_next_to_the_tunnel() {
    let gre = gre(0, 0x0800, &[], &ip_packet());
    let far = ethernet(&[0x86, 0xdd], &ipv6(4, &ipv4(47, &gre)));
    let found = look(&far).unwrap().unwrap();
    assert_eq!(found.source, Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))));
    assert_eq!(found.destination, Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2))));
    assert_eq!(Rules::default().in_ip(Kind::Gre, &gre).unwrap().source, None);
}

#[test]
fn tags_labels_and_ip_in_ip_are_walked_past() {
    let tunnel = ipv4(17, &udp(1, 4789, &vxlan(8, 0, 71, &frame())));
    let labels = [0, 1, 0, 64, 0, 2, 1, 64];
    let cases = [
        ethernet(&[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0], &tunnel),
        ethernet(&[0x88, 0x47], &[&labels[..], &tunnel].concat()),
        ethernet(&[0x81, 0, 0, 2, 0x88, 0x48], &[&labels[4..], &tunnel].concat()),
        ethernet(&[8, 0], &ipv4(4, &tunnel)),
        ethernet(&[0x86, 0xdd], &ipv6(41, &ipv6(4, &tunnel))),
        ethernet(&[8, 0], &ipv4(137, &[&labels[..], &tunnel].concat())),
        over_udp(6635, &[&labels[4..], &tunnel].concat()),
    ];
    for outer in cases {
        assert_eq!(open(&outer), is("vxlan-71", LinkType::ETHERNET, frame()));
    }
    // In GRE, labels and Cisco's metadata stand in front of what is carried.
    let behind_labels = gre(0, 0x8847, &[], &[&labels[..], &ip_packet()].concat());
    let behind_tag = gre(0, 0x8909, &[], &[&[8, 0, 1, 1, 0, 1, 0, 0][..], &ip_packet()].concat());
    for gre in [behind_labels, behind_tag] {
        let outer = ethernet(&[8, 0], &ipv4(47, &gre));
        assert_eq!(open(&outer), is("gre-none", LinkType::RAW, ip_packet()));
    }
}

#[test]
fn layers_come_off_one_by_one() {
    let l2tp = ipv4(115, &[&[0, 0, 0, 7, 0, 0, 0, 0][..], &frame()].concat());
    let gre = ipv4(47, &gre(0, 0x0800, &[], &l2tp));
    let mut packet = over_udp(4789, &vxlan(8, 0, 71, &ethernet(&[8, 0], &gre)));
    let (mut link, mut names) = (LinkType::ETHERNET, vec![]);
    while let Some(found) = Rules::default().in_frame(link, &packet).unwrap() {
        let Content::Packet(inner) = found.content else { panic!("{found:?}") };
        names.push(found.tunnel.to_string());
        (link, packet) = (inner.link_type, packet[inner.at as usize..inner.end as usize].to_vec());
    }
    assert_eq!(names, ["vxlan-71", "gre-none", "l2tp-7"]);
    assert_eq!((link, packet), (LinkType::ETHERNET, frame()));
}

#[test]
fn ports_can_be_added_and_given_another_kind() {
    let rules = Rules::default().with_port(Kind::Vxlan, 8472).with_port(Kind::Geneve, 4789);
    let tunnel = |frame: &[u8]| {
        rules.in_frame(LinkType::ETHERNET, frame).unwrap().map(|f| f.tunnel.to_string())
    };
    let vxlan = vxlan(8, 0, 71, &frame());
    let geneve = geneve(0x6558, false, &[], &frame());
    assert_eq!(tunnel(&over_udp(8472, &vxlan)).as_deref(), Some("vxlan-71"));
    assert_eq!(tunnel(&over_udp(4789, &geneve)).as_deref(), Some("geneve-9"));
    assert_eq!(tunnel(&over_udp(6081, &geneve)).as_deref(), Some("geneve-9"));
    assert_eq!(tunnel(&over_udp(crate::vxlan::GPE_PORT, &vxlan)).as_deref(), Some("vxlan-71"));
    assert_eq!(tunnel(&over_udp(8473, &vxlan)), None);
    // The source port counts only where L2TPv3 answers.
    let from = |port, payload: &[u8]| ethernet(&[8, 0], &ipv4(17, &udp(port, 40_000, payload)));
    let l2tp = [&UDP_PREFIX[..], &[0, 0, 0, 7, 0, 0, 0, 0], &frame()].concat();
    assert_eq!(tunnel(&from(1701, &l2tp)).as_deref(), Some("l2tp-7"));
    assert_eq!(tunnel(&from(8472, &vxlan)), None);
}

#[test]
fn an_l2tp_format_that_is_given_is_kept_to() {
    let format = L2tpFormat { cookie: Cookie::Short([1, 2, 3, 4]), sublayer: true };
    let rules = Rules::default().with_l2tp(format);
    let packet = [&[0, 0, 0, 7, 1, 2, 3, 4, 0x40, 0, 0, 5][..], &frame()].concat();
    let found = rules.in_ip(Kind::L2tp, &packet).unwrap();
    let Content::Packet(inner) = found.content else { panic!("{found:?}") };
    assert_eq!((inner.at, inner.end as usize), (12, packet.len()));
    assert_eq!((inner.told.sequence, inner.told.lane), (Some(5), None));
    let mut stranger = packet;
    stranger[4] = 9;
    let e = rules.in_ip(Kind::L2tp, &stranger).unwrap_err();
    assert_eq!(e.to_string(), "L2TPv3: the cookie is not the one agreed on");
}

#[test]
fn what_a_tap_tells_comes_out() {
    let (sequence, origlen, ts_ns, direction) = (7, 1514, 9, Direction::Out);
    let option = block(metadata::Told::Packet { sequence, origlen, ts_ns, direction });
    let other = [0, 0, 0x80, 1, 0, 0, 0, 0x0c];
    let options = [&other[..], &option].concat();
    let outer = over_udp(6081, &geneve(0x6558, false, &options, &frame()));
    let Content::Packet(inner) = content(&outer) else { panic!() };
    let told = Told {
        origlen: Some(origlen),
        ts_ns: Some(ts_ns),
        direction,
        sequence: Some(sequence),
        lane: Some(LANE),
    };
    assert_eq!(inner.told, told);
    assert_eq!(inner.origlen(&frame()), origlen);
    // A block that cannot be read costs what it would have told, and no packet.
    let mut options = options;
    options[8 + 4] = 0;
    let outer = over_udp(6081, &geneve(0x6558, false, &options, &frame()));
    let Content::Packet(inner) = content(&outer) else { panic!() };
    assert_eq!(inner.told, Told::default());
}

#[test]
fn messages_of_the_tunnel_are_no_packets() {
    let progress = block(metadata::Told::Progress { next: 70, ts_ns: 1 });
    let outer = over_udp(6081, &geneve(0x6558, true, &progress, &[]));
    assert_eq!(content(&outer), Content::Progress { lane: LANE, next: 70 });
    let outer = over_udp(6081, &geneve(0x6558, true, &[], &frame()));
    assert_eq!(content(&outer), Content::Control);
    let hello = [0xc8, 3, 0, 20, 0, 0, 0, 7, 0, 2, 0, 3, 0x80, 8, 0, 0, 0, 0, 0, 6];
    assert_eq!(content(&over_udp(1701, &hello)), Content::Control);
    let outer = ethernet(&[8, 0], &ipv4(115, &[&[0; 4], &hello[..]].concat()));
    assert_eq!(content(&outer), Content::Control);
}

#[test]
fn payloads_without_a_link_type_stay_where_they_are() {
    let over_gre = |gre: &[u8]| content(&ethernet(&[8, 0], &ipv4(47, gre)));
    let arp = over_udp(6081, &geneve(0x0806, false, &[], &[0; 28]));
    assert_eq!(content(&arp), Content::Opaque(Opaque::Protocol(0x0806)));
    assert_eq!(over_gre(&gre(0, 0x2000, &[], &[0; 9])), Content::Opaque(Opaque::Protocol(0x2000)));
    assert_eq!(over_gre(&gre(0, 0, &[], &[])), Content::Opaque(Opaque::Protocol(0)));
    let mut iii = [0x20, 0, 0, 22, 0, 0, 0, 1, 0, 0, 7 << 2, 0].to_vec();
    iii.extend([0; 40]);
    let iii = gre(0x10, 0x22eb, &[0; 4], &iii);
    assert_eq!(over_gre(&iii), Content::Opaque(Opaque::FrameType(7)));
    let nsh = over_udp(4789, &vxlan(0x0c, 4, 71, &[0; 40]));
    assert_eq!(content(&nsh), Content::Opaque(Opaque::Nsh));
    assert_eq!(Opaque::Protocol(0x2000).to_string(), "protocol 0x2000");
}

#[test]
fn erspan_iii_tells_direction_and_time() {
    let repr = erspan::Repr::III {
        common: erspan::Common { vlan: 0, cos: 0, encap: 0, truncated: false, session: 5 },
        extra: erspan::Extra {
            timestamp: 42,
            granularity: erspan::Granularity::Ieee1588,
            sgt: 0,
            pdu: true,
            frame_type: erspan::FRAME_TYPE_ETHERNET,
            hardware: 1,
            egress: true,
            platform: Some(erspan::Platform::seconds_only(3)),
        },
    };
    let mut header = vec![0xa5; repr.header_len()];
    repr.emit(&mut header);
    let gre = gre(0x10, 0x22eb, &[0, 0, 0, 8], &[header, frame()].concat());
    let Content::Packet(inner) = content(&ethernet(&[8, 0], &ipv4(47, &gre))) else { panic!() };
    assert_eq!((inner.told.ts_ns, inner.told.direction), (Some(3_000_000_042), Direction::Out));
    assert_eq!(inner.told.sequence, Some(8));
}

#[test]
fn odd_bits_of_vxlan_do_not_hide_the_frame() {
    for flags in 0..=u8::MAX {
        for next in [0, 1, 2, 3, 9] {
            let outer = over_udp(4789, &vxlan(flags | 8, next, 0, &frame()));
            assert_eq!(open(&outer), is("vxlan-0", LinkType::ETHERNET, frame()));
        }
    }
}

#[test]
fn fragments_and_strangers_hold_no_tunnel() {
    let mut first = over_udp(4789, &vxlan(8, 0, 71, &frame()));
    assert!(look(&first).unwrap().is_some());
    first[14 + 6] = 0x20;
    assert_eq!(look(&first), Ok(None));
    assert_eq!(look(&over_udp(53, &vxlan(8, 0, 71, &frame()))), Ok(None));
    assert_eq!(look(&frame()), Ok(None));
    assert_eq!(look(&ethernet(&[0x88, 0x47], &[0; 64])), Ok(None));
    assert_eq!(look(&[]), Ok(None));
}

#[test]
fn padding_is_left_out_and_cut_bytes_are_counted() {
    let whole = over_udp(4789, &vxlan(8, 0, 71, &ethernet(&[0x88, 0xcc], &[1; 30])));
    let padded = [&whole[..], &[0; 18]].concat();
    assert_eq!(open(&padded).2, ethernet(&[0x88, 0xcc], &[1; 30]));
    let Content::Packet(inner) = content(&padded) else { panic!() };
    assert_eq!(inner.outer_len, 44);
    let Content::Packet(inner) = content(&whole[..whole.len() - 20]) else { panic!() };
    assert_eq!((inner.end - inner.at, inner.outer_len), (24, 44));
    assert_eq!(inner.origlen(&whole[inner.at as usize..inner.end as usize]), 44);
    // The sender sliced: its headers say less than the packet's own.
    let sliced = over_udp(4789, &vxlan(8, 0, 71, &frame()[..38]));
    let Content::Packet(inner) = content(&sliced) else { panic!() };
    assert_eq!(inner.outer_len, 38);
    assert_eq!(inner.origlen(&frame()[..38]), 42);
}

#[test]
fn headers_that_are_cut_or_cannot_be_say_so() {
    let e = look(&over_udp(4789, &vxlan(8, 0, 71, &frame()[..13]))).unwrap_err();
    assert_eq!(e, Error::Truncated { layer: Layer::Ethernet, needed: 14, got: 13 });
    let text = |outer: &[u8]| look(outer).unwrap_err().to_string();
    assert_eq!(text(&over_udp(4789, &vxlan(0, 0, 71, &frame()))), "VXLAN: I flag clear, no VNI");
    let pptp = ethernet(&[8, 0], &ipv4(47, &[0x30, 1, 0x88, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(text(&pptp), "GRE: not version 0 (PPTP has version 1)");
    let neither = ethernet(&[8, 0], &ipv4(47, &gre(0, 0x0800, &[], &[0x55; 20])));
    assert_eq!(text(&neither), "IPv4: version is neither 4 nor 6");
    let empty = ethernet(&[8, 0], &ipv4(47, &gre(0, 0x86dd, &[], &[])));
    assert_eq!(text(&empty), "IPv6: 1 bytes needed, 0 present (cut by a snap length?)");
}

fn outers() -> Vec<Vec<u8>> {
    let option = block(metadata::Told::Packet {
        sequence: 1,
        origlen: 2,
        ts_ns: 3,
        direction: Direction::In,
    });
    let l2tp = [&[0, 0, 0, 7, 0, 0, 0, 0][..], &frame()].concat();
    let iii = [&[0x20, 0, 0, 22, 0, 0, 0, 1, 0, 0, 0, 1, 0x14, 0, 0, 0, 0, 0, 0, 9][..], &frame()];
    let labels = [0, 1, 0, 64, 0, 2, 1, 64];
    vec![
        over_udp(4789, &vxlan(8, 0, 71, &frame())),
        over_udp(6081, &geneve(0x6558, false, &option, &frame())),
        over_udp(6081, &geneve(0x6558, true, &option, &[])),
        over_udp(1701, &[&UDP_PREFIX[..], &l2tp].concat()),
        ethernet(&[0x86, 0xdd], &ipv6(115, &l2tp)),
        ethernet(&[8, 0], &ipv4(4, &ipv4(47, &gre(0x10, 0x22eb, &[0; 4], &iii.concat())))),
        ethernet(
            &[0x88, 0x47],
            &[&labels[..], &ipv4(47, &gre(0xb0, 0x6558, &[0; 12], &frame()))].concat(),
        ),
    ]
}

// Takes all layers off, whatever they are, and looks that the answers keep to the frame.
fn take_off(rules: &Rules, frame: &[u8]) {
    let (mut link, mut part) = (LinkType::ETHERNET, frame);
    while let Ok(Some(Found { content: Content::Packet(inner), .. })) = rules.in_frame(link, part) {
        let (at, end) = (inner.at as usize, inner.end as usize);
        assert!(0 < at && at < end && end <= part.len(), "{inner:?} in {} bytes", part.len());
        assert!(inner.outer_len as usize >= end - at);
        (link, part) = (inner.link_type, &part[at..end]);
        assert!(inner.origlen(part) > 0);
    }
}

#[test]
fn every_cut_length_is_survived() {
    for outer in outers() {
        for len in 0..=outer.len() {
            take_off(&Rules::default(), &outer[..len]);
        }
    }
}

proptest! {
    #[test]
    fn every_lie_is_survived(
        which in 0_usize..7,
        lies in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut outer = outers().swap_remove(which);
        for (at, lie) in lies {
            let at = at.index(outer.len());
            outer[at] = lie;
        }
        take_off(&Rules::default(), &outer[..=cut.index(outer.len())]);
        take_off(&Rules::default(), &outer);
    }
}
