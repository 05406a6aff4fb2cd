//! Segments against frames that etherparse builds from the same fields, byte for byte.

use super::*;
use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder,
    TcpHeader, UdpHeader,
};
use proptest::prelude::*;

const ETHERNET: LinkType = LinkType::ETHERNET;

/// The fields of a super-packet; `build` writes the wire's frames with them, or itself.
#[derive(Debug, Clone, Copy)]
struct Flow {
    v6: bool,
    udp: bool,
    id: u16,
    df: bool,
    tags: u8,
    tcp_options: usize,
    flags: bool,
}

const FLOW: Flow =
    Flow { v6: false, udp: false, id: 0x1234, df: true, tags: 0, tcp_options: 12, flags: true };
const SEQ: u32 = 0xffff_fc00; // wraps within any test

impl Flow {
    fn ip(&self, i: usize, protocol: IpNumber, payload_len: usize) -> IpHeaders {
        let len = payload_len as u16;
        if self.v6 {
            let ip = Ipv6Header {
                traffic_class: 3,
                flow_label: Ipv6FlowLabel::try_new(0x12345).unwrap(),
                payload_length: len,
                next_header: protocol,
                hop_limit: 60,
                source: [0x20; 16],
                destination: [0xfe; 16],
            };
            IpHeaders::Ipv6(ip, Default::default())
        } else {
            let mut ip = Ipv4Header::new(len, 60, protocol, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
            let fixed = self.id == 0 && self.df;
            ip.identification = if fixed { 0 } else { self.id.wrapping_add(i as u16) };
            ip.dont_fragment = self.df;
            ip.fragment_offset = IpFragOffset::ZERO;
            IpHeaders::Ipv4(ip, Default::default())
        }
    }

    /// The frame that carries `payload` as segment `i` of `count`, `size` bytes each.
    fn build(&self, i: usize, count: usize, size: usize, payload: &[u8]) -> Vec<u8> {
        let mut tcp = TcpHeader::new(443, 50000, SEQ.wrapping_add((i * size) as u32), 500);
        tcp.set_options_raw(&[1; 40][..self.tcp_options]).unwrap();
        tcp.acknowledgment_number = 77;
        tcp.ack = true;
        tcp.ece = true;
        tcp.cwr = self.flags && i == 0;
        tcp.psh = self.flags && i + 1 == count;
        tcp.fin = self.flags && i + 1 == count;
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let mut frame = Vec::new();
        if self.udp {
            let builder = builder.ip(self.ip(i, IpNumber::UDP, 8 + payload.len()));
            builder.udp(443, 50000).write(&mut frame, payload).unwrap();
        } else {
            let len = tcp.header_len() + payload.len();
            let builder = builder.ip(self.ip(i, IpNumber::TCP, len));
            builder.tcp_header(tcp).write(&mut frame, payload).unwrap();
        }
        for n in 0..self.tags {
            frame.splice(12..12, [0x81, 0, 0x20, n]);
        }
        frame
    }

    fn super_packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = self.build(0, 1, 0, payload);
        let transport_at = self.transport_at();
        // What stands in the field is the pseudo-header's sum, not a checksum.
        let at = transport_at + csum_offset(self.udp);
        frame[at..at + 2].copy_from_slice(&[0xa5, 0xa5]);
        frame
    }

    fn transport_at(&self) -> usize {
        14 + 4 * usize::from(self.tags) + if self.v6 { 40 } else { 20 }
    }

    fn gso(&self, size: u16) -> Gso {
        let kind = match (self.udp, self.v6) {
            (true, _) => GsoKind::UdpL4,
            (false, true) => GsoKind::TcpV6,
            (false, false) => GsoKind::TcpV4,
        };
        let csum_offset = csum_offset(self.udp) as u16;
        Gso { kind, size, csum_start: self.transport_at() as u16, csum_offset }
    }
}

fn cut(frame: &[u8], gso: &Gso) -> Vec<Vec<u8>> {
    let plan = Plan::new(ETHERNET, frame, gso).unwrap();
    let emit = |i: usize| {
        let mut out = vec![0xa5; plan.segment_len(i)];
        plan.emit(frame, i, &mut out);
        out
    };
    (0..plan.count()).map(emit).collect()
}

/// Different bytes everywhere, so that a wrong offset shows.
fn payload(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn flows() -> impl Strategy<Value = Flow> {
    let id = prop_oneof![Just(0u16), Just(0xffff), any::<u16>()];
    let parts = (any::<[bool; 4]>(), id, 0..4u8, 0..=10usize);
    parts.prop_map(|([v6, udp, df, flags], id, tags, words)| Flow {
        v6,
        udp,
        id,
        df,
        tags,
        tcp_options: words * 4,
        flags,
    })
}

proptest! {
    #[test]
    fn segments_are_what_etherparse_builds(
        flow in flows(), size in 1..2000u16, len in 0..20_000usize, padding in 0..9usize
    ) {
        let payload = payload(len.min(usize::from(size) * 40));
        let mut frame = flow.super_packet(&payload);
        frame.resize(frame.len() + padding, 0xee);
        let segments = cut(&frame, &flow.gso(size));
        let size = usize::from(size);
        let count = payload.len().div_ceil(size).max(1);
        prop_assert_eq!(segments.len(), count);
        for (i, segment) in segments.iter().enumerate() {
            let part = &payload[i * size..payload.len().min((i + 1) * size)];
            prop_assert_eq!(segment, &flow.build(i, count, size, part), "segment {} of {}", i, count);
        }
    }

    #[test]
    fn every_cut_is_an_error(flow in flows(), cut: prop::sample::Index) {
        let frame = flow.super_packet(&payload(3000));
        let cut = cut.index(frame.len());
        let e = Plan::new(ETHERNET, &frame[..cut], &flow.gso(1000)).unwrap_err();
        let truncated = matches!(e, Error::Truncated { needed, got, .. } if needed > got);
        prop_assert!(truncated, "{} of {}: {}", cut, frame.len(), e);
    }

    /// Any bytes: an error, or segments that hold all the payload.
    #[test]
    fn noise(
        flow in flows(), at: prop::sample::Index, noise in prop::collection::vec(any::<u8>(), 0..40),
        size in 0..200u16, csum_start in 0..80u16, given: bool
    ) {
        let mut frame = flow.super_packet(&payload(400));
        let at = at.index(60);
        frame[at..at + noise.len()].copy_from_slice(&noise);
        let mut gso = Gso { csum_start, ..flow.gso(size) };
        if given {
            gso.csum_start = flow.transport_at() as u16;
        }
        if let Ok(plan) = Plan::new(ETHERNET, &frame, &gso) {
            let mut bytes = 0;
            for i in 0..plan.count() {
                let mut out = vec![0; plan.segment_len(i)];
                plan.emit(&frame, i, &mut out);
                bytes += out.len();
            }
            prop_assert!(bytes <= frame.len() * plan.count());
        }
    }
}

#[test]
fn ids_count_up_except_zero_with_df() {
    for (id, df, third) in [(0, true, 0), (0, false, 2), (0xffff, true, 1), (7, false, 9)] {
        let flow = Flow { id, df, ..FLOW };
        let segments = cut(&flow.super_packet(&payload(300)), &flow.gso(100));
        assert_eq!(segments[2][18..20], u16::to_be_bytes(third), "{id} {df}");
    }
}

#[test]
fn a_tcp_checksum_of_zero_stays_zero() {
    let mut frame = FLOW.super_packet(&payload(300));
    let check = &cut(&frame, &FLOW.gso(100))[1][50..52].to_vec();
    frame[52..54].copy_from_slice(check); // the urgent pointer makes up for the checksum
    assert_eq!(cut(&frame, &FLOW.gso(100))[1][50..52], [0, 0]);
}

#[test]
fn a_udp_checksum_of_zero_becomes_ffff() {
    let flow = Flow { udp: true, ..FLOW };
    let mut frame = flow.super_packet(&payload(300));
    let check = cut(&frame, &flow.gso(100))[1][40..42].to_vec();
    let at = 42 + 100; // the first word of the second datagram, made to sum to zero
    let word = u16::from_be_bytes([frame[at], frame[at + 1]]);
    let word = checksum::update_u16(!word, 0, u16::from_be_bytes([check[0], check[1]]));
    frame[at..at + 2].copy_from_slice(&(!word).to_be_bytes());
    assert_eq!(cut(&frame, &flow.gso(100))[1][40..42], [0xff, 0xff]);
}

#[test]
fn a_jumbo_header_is_removed() {
    let flow = Flow { v6: true, ..FLOW };
    let payload = payload(70_000);
    let mut frame = flow.build(0, 1, 0, &payload[..60_000]);
    frame.extend_from_slice(&payload[60_000..]);
    let jumbo = (frame.len() as u32 - 54 + 8).to_be_bytes();
    frame.splice(54..54, [[6, 0, 0xc2, 4], jumbo].concat());
    frame[18..21].copy_from_slice(&[0, 0, 0]);
    let gso = Gso { csum_start: 62, ..flow.gso(1400) };
    let segments = cut(&frame, &gso);
    assert_eq!(segments.len(), 50);
    for (i, segment) in segments.iter().enumerate() {
        assert_eq!(segment, &flow.build(i, 50, 1400, &payload[i * 1400..(i + 1) * 1400]));
    }
    frame[54 + 1] = 1; // a longer header: the jumbo length would stay behind
    let e = Plan::new(ETHERNET, &frame, &Gso { csum_start: 70, ..gso }).unwrap_err();
    assert!(matches!(e, Error::Malformed { .. }), "{e}");
}

#[test]
fn a_declared_length_of_zero_means_all_of_the_frame() {
    let payload = payload(70_000);
    let mut frame = FLOW.build(0, 1, 0, &payload[..60_000]);
    frame.extend_from_slice(&payload[60_000..]);
    frame[16..18].copy_from_slice(&[0, 0]);
    let segments = cut(&frame, &FLOW.gso(7000));
    assert_eq!(segments.len(), 10);
    assert_eq!(segments[9], FLOW.build(9, 10, 7000, &payload[63_000..]));
}

#[test]
fn a_routing_header_hides_the_final_destination() {
    // The kernel left the pseudo-header's sum with the final destination in the field.
    let flow = Flow { v6: true, ..FLOW };
    let last = [0x77; 16];
    let with_routing = |mut frame: Vec<u8>, partial: bool| {
        let len = frame.len() - 54;
        let mut sum = Sum::pseudo_v6([0x20; 16], last, 6, len as u32);
        if !partial {
            frame[70..72].copy_from_slice(&[0, 0]);
            sum.add_bytes(&frame[54..]);
        }
        let field = if partial { sum.fold() } else { sum.finish() };
        frame[70..72].copy_from_slice(&field.to_be_bytes());
        frame.splice(54..54, [&[6, 2, 0, 1, 0, 0, 0, 0][..], &last].concat());
        let len = (frame.len() - 54) as u16;
        put(&mut frame, 18, len);
        frame[20] = 43;
        frame
    };
    let payload = payload(300);
    let frame = with_routing(flow.super_packet(&payload), true);
    let gso = Gso { csum_start: 78, ..flow.gso(100) };
    for (i, segment) in cut(&frame, &gso).into_iter().enumerate() {
        let plain = flow.build(i, 3, 100, &payload[i * 100..(i + 1) * 100]);
        assert_eq!(segment, with_routing(plain, false), "segment {i}");
    }
}

#[test]
fn a_jumbo_header_of_a_tunnel_is_an_error() {
    let inner = FLOW.super_packet(&payload(300));
    let outer = Flow { v6: true, ..FLOW };
    let mut frame = wrap(outer, Tunnel::IpInIp, &inner, 0);
    let jumbo = (frame.len() as u32 - 54 + 8).to_be_bytes();
    frame.splice(54..54, [[4, 0, 0xc2, 4], jumbo].concat());
    frame[18..21].copy_from_slice(&[0, 0, 0]);
    let gso = Gso { csum_start: 62 + 20, ..FLOW.gso(100) };
    let e = Plan::new(ETHERNET, &frame, &gso).unwrap_err();
    assert_eq!(e.to_string(), "offload: jumbo length in a tunnel's outer header");
}

/// Which tunnel stands around a frame.
#[derive(Debug, Clone, Copy)]
enum Tunnel {
    Vxlan { checksum: bool },
    Geneve { checksum: bool },
    GreKeyed,
    IpInIp,
}

/// `outer` around a whole frame; `i` counts for the outer id.
fn wrap(outer: Flow, tunnel: Tunnel, inner: &[u8], i: usize) -> Vec<u8> {
    let (head, protocol, checksum): (&[u8], _, _) = match tunnel {
        Tunnel::Vxlan { checksum } => (&[8, 0, 0, 0, 0, 0, 71, 0], IpNumber::UDP, checksum),
        Tunnel::Geneve { checksum } => {
            let head = &[1, 0, 0x65, 0x58, 0, 0, 71, 0, 0xff, 1, 1, 0];
            (head, IpNumber::UDP, checksum)
        }
        Tunnel::GreKeyed => (&[0x20, 0, 0x65, 0x58, 0, 0, 1, 0xf4], IpNumber::GRE, false),
        Tunnel::IpInIp if inner[14] >> 4 == 6 => (&[], IpNumber::IPV6, false),
        Tunnel::IpInIp => (&[], IpNumber::IPV4, false),
    };
    let inner = if matches!(tunnel, Tunnel::IpInIp) { &inner[14..] } else { inner };
    let mut payload = [head, inner].concat();
    let ip = if protocol == IpNumber::UDP {
        let ip = outer.ip(i, protocol, 8 + payload.len());
        let mut udp = UdpHeader {
            source_port: 50000,
            destination_port: 4789,
            length: 8 + payload.len() as u16,
            checksum: 0,
        };
        if checksum {
            udp.checksum = match &ip {
                IpHeaders::Ipv4(ip, _) => udp.calc_checksum_ipv4(ip, &payload).unwrap(),
                IpHeaders::Ipv6(ip, _) => udp.calc_checksum_ipv6(ip, &payload).unwrap(),
            };
        }
        payload.splice(0..0, udp.to_bytes());
        ip
    } else {
        outer.ip(i, protocol, payload.len())
    };
    let mut frame = [&[4; 6][..], &[2; 6], if outer.v6 { &[0x86, 0xdd] } else { &[8, 0] }].concat();
    match ip {
        IpHeaders::Ipv4(mut ip, _) => {
            ip.header_checksum = ip.calc_header_checksum();
            frame.extend_from_slice(&ip.to_bytes());
        }
        IpHeaders::Ipv6(ip, _) => frame.extend_from_slice(&ip.to_bytes()),
    }
    [frame, payload].concat()
}

proptest! {
    #[test]
    fn tunnels_are_cut_inside_and_mended_outside(
        inner in flows(), outer in flows(), size in 100..1500u16, len in 1..6000usize,
        tunnel in prop::sample::select(vec![
            Tunnel::Vxlan { checksum: false }, Tunnel::Vxlan { checksum: true },
            Tunnel::Geneve { checksum: false }, Tunnel::Geneve { checksum: true },
            Tunnel::GreKeyed, Tunnel::IpInIp,
        ]),
    ) {
        let tags = if matches!(tunnel, Tunnel::IpInIp) { 0 } else { inner.tags };
        let inner = Flow { tags, ..inner };
        let payload = payload(len);
        let frame = wrap(outer, tunnel, &inner.super_packet(&payload), 0);
        let head = frame.len() - payload.len() - inner.build(0, 1, 0, &[]).len();
        let csum_start = (head + inner.transport_at()) as u16;
        let gso = Gso { csum_start, ..inner.gso(size) };
        let segments = cut(&frame, &gso);
        let size = usize::from(size);
        prop_assert_eq!(segments.len(), len.div_ceil(size));
        for (i, segment) in segments.iter().enumerate() {
            let part = &payload[i * size..len.min((i + 1) * size)];
            let expected = inner.build(i, segments.len(), size, part);
            prop_assert_eq!(segment, &wrap(outer, tunnel, &expected, i), "segment {}", i);
        }
        for cut in [head, frame.len() - payload.len(), frame.len() - 1] {
            prop_assert!(Plan::new(ETHERNET, &frame[..cut], &gso).is_err());
        }
    }
}

#[test]
fn contradictions_are_errors() {
    let frame = FLOW.super_packet(&payload(300));
    let gso = FLOW.gso(100);
    let what = |gso: Gso| Plan::new(ETHERNET, &frame, &gso).unwrap_err().to_string();
    let start = "offload: no transport header of that kind at the checksum start";
    assert_eq!(what(Gso { size: 0, ..gso }), "offload: segment size is 0");
    assert_eq!(what(Gso { kind: GsoKind::TcpV6, ..gso }), "offload: TCPv6 announced, IPv4 found");
    assert_eq!(what(Gso { kind: GsoKind::UdpL4, ..gso }), start);
    assert_eq!(what(Gso { csum_start: 30, ..gso }), start);
    assert_eq!(
        what(Gso { csum_offset: 6, ..gso }),
        "offload: checksum offset is not the transport's"
    );
    assert!(Plan::new(LinkType(147), &frame, &gso).is_err());
}

#[test]
fn without_a_checksum_start_the_first_transport_is_taken() {
    let frame = FLOW.super_packet(&payload(300));
    let gso = Gso { csum_start: 0, csum_offset: 0, ..FLOW.gso(100) };
    assert_eq!(cut(&frame, &gso), cut(&frame, &FLOW.gso(100)));
}

/// A frame whose checksum holds the pseudo-header's sum, and the finished frame.
fn partial(flow: Flow, payload: &[u8]) -> (Vec<u8>, Vec<u8>, usize, usize) {
    let whole = flow.build(0, 1, 0, payload);
    let (start, offset) = (flow.transport_at(), csum_offset(flow.udp));
    let mut frame = whole.clone();
    let (protocol, len) = (if flow.udp { 17 } else { 6 }, (frame.len() - start) as u32);
    let sum = if flow.v6 {
        Sum::pseudo_v6([0x20; 16], [0xfe; 16], protocol, len)
    } else {
        Sum::pseudo_v4([10, 0, 0, 1], [10, 0, 0, 2], protocol, len)
    };
    put(&mut frame, start + offset, sum.fold());
    (frame, whole, start, offset)
}

proptest! {
    #[test]
    fn completed_checksums_are_etherparses(flow in flows(), len in 0..600usize) {
        let (mut frame, whole, start, offset) = partial(flow, &payload(len));
        prop_assert_eq!(complete_checksum(&mut frame, start, offset), Ok(()));
        prop_assert_eq!(frame, whole);
    }
}

#[test]
fn a_lone_checksum_of_zero_is_written_ffff() {
    let (_, whole, start, offset) = partial(FLOW, b"");
    let (mut frame, ..) = partial(FLOW, b"");
    // The urgent pointer makes up for the checksum.
    let at = start + offset;
    frame[at + 2..at + 4].copy_from_slice(&whole[at..at + 2]);
    complete_checksum(&mut frame, start, offset).unwrap();
    assert_eq!(frame[at..at + 2], [0xff, 0xff]);
}

// An SCTP packet of one COOKIE ACK chunk, its checksum left to the NIC.
#[test]
fn sctp_gets_its_crc() {
    let mut frame = vec![0xee; 34];
    frame.extend([0x0b, 0x59, 0x0b, 0x59, 0, 0, 0x0e, 0x50, 0xa5, 0xa5, 0xa5, 0xa5, 11, 0, 0, 4]);
    complete_checksum(&mut frame, 34, 8).unwrap();
    let mut plain = frame[34..].to_vec();
    plain[8..12].fill(0);
    assert_eq!(frame[42..46], crate::crc32c::of(&plain).to_le_bytes());
    assert_eq!(frame[46..], [11, 0, 0, 4]);
    assert!(complete_checksum(&mut frame[..45], 34, 8).is_err());
}

#[test]
fn a_field_outside_the_frame_is_an_error() {
    let mut frame = [0; 52];
    assert_eq!(complete_checksum(&mut frame, 34, 16), Ok(()));
    let e = complete_checksum(&mut frame[..51], 34, 16).unwrap_err();
    assert_eq!(e, Error::Truncated { layer: Layer::Offload, needed: 52, got: 51 });
    assert!(complete_checksum(&mut frame, usize::MAX, 16).is_err());
}
