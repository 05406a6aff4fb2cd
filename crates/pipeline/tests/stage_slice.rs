//! Packets cut at their end, and bytes of them overwritten.

mod shaped;

use api::{Anchor, StageKind};
use shaped::{Shaper, cut, frame, packet};
use wire::LinkType;

fn slice(bytes: u32, after: Option<Anchor>) -> StageKind {
    StageKind::Slice { bytes, after }
}

fn udp() -> Vec<u8> {
    frame::ethernet(0x0800, &frame::ipv4(17, &frame::udp(1000, 53, &[7; 40])))
}

/// A frame inside of VXLAN, in a frame with two tags; what is in front of the inner frame is 58 bytes.
fn in_vxlan(inner: &[u8]) -> Vec<u8> {
    let vxlan = [&[8, 0, 0, 0, 0, 0, 71, 0][..], inner].concat();
    let outer = frame::ethernet(0x0800, &frame::ipv4(17, &frame::udp(50000, 4789, &vxlan)));
    frame::tagged(&outer, &[10, 20])
}

const IN_VXLAN_LEN: usize = 14 + 8 + 20 + 8 + 8;

#[test]
fn a_slice_keeps_the_begin_and_the_original_length() {
    let mut stage = Shaper::new(slice(60, None));
    let whole = packet(LinkType::ETHERNET, &udp());
    let hash = whole.compute_flow_hash();
    let sliced = stage.one(whole);
    assert_eq!(*sliced.data, udp()[..60]);
    assert_eq!(sliced.meta.origlen as usize, udp().len());
    assert_eq!(stage.frame(&[2; 60]), [2; 60]);
    assert_eq!(stage.touched(), 1);
    // Ports that are cut off still tell the flow.
    let sliced = Shaper::new(slice(20, None)).one(packet(LinkType::ETHERNET, &udp()));
    assert_eq!(sliced.meta.flow_hash, Some(hash));
    assert_ne!(sliced.compute_flow_hash(), hash);
    assert!(Shaper::new(slice(0, None)).frame(&udp()).is_empty());
}

#[test]
fn a_slice_counts_from_the_end_of_a_header() {
    let options = [2, 4, 5, 0xb4, 1, 3, 3, 7];
    let mut tcp = frame::tcp(1, 2, 2, &[9; 100]);
    tcp.splice(20..20, options);
    tcp[12] = 0x70;
    let tcp = frame::ethernet(0x86dd, &frame::ipv6(6, &tcp));
    let sctp = frame::ethernet(0x0800, &frame::ipv4(132, &[5; 100]));
    let icmp = frame::ethernet(
        0x0800,
        &frame::ipv4(1, &[&[8, 0, 0, 0, 0, 1, 0, 1][..], &[9; 90]].concat()),
    );
    let llc = frame::ethernet(60, &[0x42; 60]);
    let arp = frame::arp();
    let extended = frame::ethernet(
        0x86dd,
        &frame::ipv6(0, &[&[17, 0, 1, 4, 0, 0, 0, 0][..], &frame::udp(1, 2, &[7; 50])].concat()),
    );
    let tunnelled = in_vxlan(&udp());
    let whole = usize::MAX;
    for (name, frame, [ethernet, ip, transport, inner_ip, inner_transport]) in [
        ("udp", &udp(), [14, 34, 42, 34, 42]),
        ("tcp", &tcp, [14, 54, 82, 54, 82]),
        ("sctp", &sctp, [14, 34, 46, 34, 46]),
        ("icmp", &icmp, [14, 34, 42, 34, 42]),
        ("tags", &frame::tagged(&udp(), &[1, 2, 3, 4, 5]), [34, 54, 62, 54, 62]),
        ("extended", &extended, [14, 62, 70, 62, 70]),
        ("llc", &llc, [14, whole, whole, whole, whole]),
        ("arp", &arp, [14, whole, whole, whole, whole]),
        ("vxlan", &tunnelled, [22, 42, 50, IN_VXLAN_LEN + 34, IN_VXLAN_LEN + 42]),
    ] {
        for (anchor, end) in [
            (Anchor::Ethernet, ethernet),
            (Anchor::Ip, ip),
            (Anchor::Transport, transport),
            (Anchor::InnerIp, inner_ip),
            (Anchor::InnerTransport, inner_transport),
        ] {
            let kept = end.saturating_add(5).min(frame.len());
            let sliced = Shaper::new(slice(5, Some(anchor))).one(packet(LinkType::ETHERNET, frame));
            assert_eq!(*sliced.data, frame[..kept], "{name} {anchor:?}");
            assert_eq!(sliced.meta.origlen as usize, frame.len());
        }
    }
}

#[test]
fn what_lacks_the_header_is_kept_whole() {
    let fragment = frame::ipv4_between([10, 0, 0, 1], [10, 0, 0, 2], 17, 100, &[7; 80]);
    let fragment = frame::ethernet(0x0800, &fragment);
    let mut by_transport = Shaper::new(slice(0, Some(Anchor::Transport)));
    assert_eq!(by_transport.frame(&fragment), fragment);
    let half = cut(&udp(), udp().len() - 40);
    assert_eq!(by_transport.one(half).caplen(), 40, "the header is not whole");
    let raw = packet(LinkType::RAW, &udp()[14..]);
    assert_eq!(Shaper::new(slice(0, Some(Anchor::Ethernet))).one(raw).caplen(), udp().len() - 14);
    let raw = packet(LinkType::RAW, &udp()[14..]);
    assert_eq!(by_transport.one(raw).caplen(), 28);
    assert_eq!(by_transport.touched(), 1);
}

#[test]
fn inner_headers_are_found_through_ip_in_ip_and_labels() {
    let ip = frame::ipv4(17, &frame::udp(1, 2, &[7; 40]));
    let in_ip = frame::ethernet(0x86dd, &frame::ipv6(4, &frame::ipv4(4, &ip)));
    let pseudowire = [&[0, 1, 0, 64, 0, 2, 1, 64, 0, 0, 0, 0][..], &udp()].concat();
    let pseudowire = frame::ethernet(0x8847, &pseudowire);
    for (frame, kept) in [(in_ip, 14 + 40 + 20 + 28), (pseudowire, 14 + 12 + 42)] {
        let sliced = Shaper::new(slice(0, Some(Anchor::InnerTransport))).frame(&frame);
        assert_eq!(sliced, frame[..kept]);
    }
}

#[test]
fn a_trim_takes_off_only_what_is_left_of_the_wire_s_end() {
    let mut stage = Shaper::new(StageKind::Trim { bytes: 4 });
    for (left_out, kept) in [(0, 78), (1, 78), (4, 78), (5, 77), (30, 52)] {
        let trimmed = stage.one(cut(&udp(), left_out));
        assert_eq!(udp().len(), 82);
        assert_eq!((trimmed.caplen(), trimmed.meta.origlen), (kept, 82), "{left_out} left out");
    }
    assert_eq!(stage.touched(), 2);
    assert!(Shaper::new(StageKind::Trim { bytes: 500 }).frame(&udp()).is_empty());
    // A source may say less than it has.
    let mut more = packet(LinkType::ETHERNET, &udp());
    more.meta.origlen = 10;
    assert_eq!(stage.one(more).caplen(), 78);
}

#[test]
fn a_mask_overwrites_what_is_there_of_its_range() {
    let mask = |offset, bytes, from| StageKind::Mask { offset, bytes, from, value: 0xff };
    let mut all = Shaper::new(mask(0, None, None));
    assert_eq!(all.frame(&udp()), [0xff; 82]);
    let len = udp().len();
    for (kind, range) in [
        (mask(2, Some(3), None), 2..5),
        (mask(12, Some(4), Some(Anchor::Ip)), 26..30),
        (mask(8, None, Some(Anchor::Transport)), 42..len),
        (mask(40, Some(u32::MAX), Some(Anchor::Transport)), 74..len),
        (mask(u32::MAX, Some(1), Some(Anchor::Transport)), 0..0),
        (mask(48, Some(1), Some(Anchor::Transport)), 0..0),
    ] {
        let mut wanted = udp();
        wanted[range.clone()].fill(0xff);
        let mut stage = Shaper::new(kind);
        assert_eq!(stage.frame(&udp()), wanted);
        assert_eq!(stage.touched(), u64::from(!range.is_empty()));
    }
    let mut wanted = in_vxlan(&udp());
    wanted[IN_VXLAN_LEN + 34..IN_VXLAN_LEN + 38].fill(0xff);
    let ports = mask(0, Some(4), Some(Anchor::InnerTransport));
    assert_eq!(Shaper::new(ports).frame(&in_vxlan(&udp())), wanted);
}

#[test]
fn masked_ports_still_tell_the_flow() {
    let whole = packet(LinkType::ETHERNET, &udp());
    let hash = whole.compute_flow_hash();
    let kind =
        StageKind::Mask { offset: 0, bytes: Some(2), from: Some(Anchor::Transport), value: 0 };
    assert_eq!(Shaper::new(kind).one(whole).meta.flow_hash, Some(hash));
}
