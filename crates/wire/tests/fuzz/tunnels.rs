//! Whole tunnels: what goes in comes out, and any bytes come out in a bounded number of layers.

use crate::frames::link;
use crate::headers::l2tp_format;
use wire::decap::{Content, Inner, Rules};
use wire::encap::{HEADER_LEN_MAX, Told};
use wire::metadata::Lane;
use wire::tunnel::{Carrier, Encap, Erspan, Gre, Kind, L2tp};
use wire::{Direction, LinkType, Vni, erspan};

/// Bytes that [`encap`] makes a tunnel of; the rest is the frame.
pub const PARAMETERS_LEN: usize = 12;

/// The tunnel, its carrier and the link type that parameters name.
pub fn tunnel(parameters: [u8; PARAMETERS_LEN]) -> (Encap, Carrier, LinkType) {
    let [kind, flags, link_type, udp, a, b, c, d, e, f, ..] = parameters;
    let word = u32::from_be_bytes([a, b, c, d]);
    let flag = |bit: u8| flags >> bit & 1 != 0;
    let vni = Vni::new(word & Vni::MAX).expect("it is masked");
    let gre = Gre { key: flag(0).then_some(word), checksum: flag(1), sequence: flag(2) };
    let (session, index) = (word as u16 & erspan::SESSION_MAX, word >> 12);
    let encap = match kind % 8 {
        0 => Encap::Vxlan { vni },
        1 => Encap::Geneve { vni, metadata: flag(0) },
        2 => Encap::Gre(gre),
        3 => Encap::Gretap(gre),
        4 => Encap::Erspan(Erspan::I),
        5 => Encap::Erspan(Erspan::II { session, index }),
        6 => {
            let (hardware, seconds) = (e & erspan::HARDWARE_MAX, flag(0));
            Encap::Erspan(Erspan::III { session, hardware, seconds })
        }
        _ => {
            let (session, format) = (word.max(1), l2tp_format(f));
            Encap::L2tp(L2tp { session, format, sequence: flag(0) && format.sublayer })
        }
    };
    let kind = encap.tunnel().kind;
    let carrier = match kind.protocol().filter(|_| udp & 1 == 0) {
        Some(protocol) => Carrier::Ip { protocol },
        None => Carrier::Udp { port: kind.port() },
    };
    (encap, carrier, link(link_type))
}

// Parameters, then the frame.
pub fn encap(bytes: &[u8]) {
    let Some((&parameters, frame)) = bytes.split_first_chunk() else { return };
    let (encap, carrier, link_type) = tunnel(parameters);
    let Some(fit) = encap.fit(link_type, frame) else { return };
    let payload = &frame[fit.at..fit.end];
    let lane = Lane { epoch: 1, tap: 2, target: 3, lane: parameters[10] };
    let sequence =
        u32::from_be_bytes([parameters[8], parameters[9], parameters[10], parameters[11]]);
    let direction = if parameters[11] & 1 == 0 { Direction::In } else { Direction::Out };
    let ts_ns = u64::from(sequence) * 1_000_000_007;
    let told = Told { origlen: payload.len() as u32 + 9, ts_ns, direction, lane };

    let len = encap.header_len(carrier);
    assert!(len <= HEADER_LEN_MAX);
    let mut packet = vec![0xa5; len];
    encap.emit(&mut packet, carrier, &fit, payload, &told, sequence);
    packet.extend_from_slice(payload);

    let rules = match encap {
        Encap::L2tp(l2tp) => Rules::default().with_l2tp(l2tp.format),
        _ => Rules::default(),
    };
    let kind = encap.tunnel().kind;
    let found = match carrier {
        Carrier::Ip { .. } => rules.in_ip(kind, &packet),
        Carrier::Udp { .. } => rules.in_udp(kind, &packet),
    };
    let carries_ethernet = fit.protocol == 0x6558;
    if payload.len() < if carries_ethernet { 14 } else { 1 } {
        return assert!(found.is_err());
    }
    let found = found.unwrap_or_else(|e| panic!("{encap:?}: {e}"));
    assert_eq!(found.tunnel, encap.tunnel());
    let Content::Packet(inner) = found.content else { panic!("{encap:?}: {found:?}") };
    assert_eq!((inner.at as usize, inner.end as usize), (len, packet.len()));
    let link_type = if carries_ethernet { LinkType::ETHERNET } else { LinkType::RAW };
    assert_eq!(inner.link_type, link_type);
    came_back(encap, &inner, &told, sequence);
}

// What the tunnel carries of what was told.
fn came_back(encap: Encap, inner: &Inner, told: &Told, sequence: u32) {
    let back = &inner.told;
    let (number, time) = match encap {
        Encap::Vxlan { .. } | Encap::Geneve { metadata: false, .. } => (None, None),
        Encap::Geneve { metadata: true, .. } => {
            assert_eq!((back.origlen, back.lane), (Some(told.origlen), Some(told.lane)));
            assert_eq!(back.direction, told.direction);
            (Some(sequence), Some(told.ts_ns))
        }
        Encap::Gre(gre) | Encap::Gretap(gre) => (gre.sequence.then_some(sequence), None),
        Encap::Erspan(Erspan::I) => (None, None),
        Encap::Erspan(Erspan::II { .. }) => (Some(sequence), None),
        Encap::Erspan(Erspan::III { seconds, .. }) => {
            assert_eq!(back.direction, told.direction);
            let fits = told.ts_ns / 1_000_000_000 <= u64::from(u32::MAX);
            (Some(sequence), (seconds && fits).then_some(told.ts_ns))
        }
        Encap::L2tp(l2tp) => (l2tp.sequence.then_some(sequence & 0xff_ffff), None),
    };
    assert_eq!((back.sequence, back.ts_ns), (number, time), "{encap:?}");
}

// The first byte is the link type, the second what the far end agreed on.
pub fn decap(bytes: &[u8]) {
    let Some((&[first, second], frame)) = bytes.split_first_chunk() else { return };
    let rules = if second & 0x80 == 0 {
        Rules::default()
    } else {
        Rules::default().with_l2tp(l2tp_format(second)).with_port(Kind::Erspan, 0x1234)
    };
    for kind in Kind::ALL {
        for found in [rules.in_ip(kind, frame), rules.in_udp(kind, frame)].into_iter().flatten() {
            if let Content::Packet(inner) = found.content {
                check(&inner, frame);
            }
        }
    }
    layers(&rules, link(first), frame);
}

/// The number of tunnels around the innermost packet. Each takes at least the shortest headers
/// away, so there is an end.
pub fn layers(rules: &Rules, mut link_type: LinkType, mut part: &[u8]) -> usize {
    let mut layers = 0;
    while let Ok(Some(found)) = rules.in_frame(link_type, part) {
        let Content::Packet(inner) = found.content else { break };
        check(&inner, part);
        let inside = &part[inner.at as usize..inner.end as usize];
        assert!(inside.len() + 24 <= part.len(), "an IP and a GRE header are 24 bytes");
        (link_type, part, layers) = (inner.link_type, inside, layers + 1);
    }
    layers
}

fn check(inner: &Inner, frame: &[u8]) {
    let (at, end) = (inner.at as usize, inner.end as usize);
    assert!(at <= end && end <= frame.len(), "{inner:?} in {} bytes", frame.len());
    assert!(matches!(inner.link_type, LinkType::ETHERNET | LinkType::RAW));
    assert!(inner.outer_len as usize >= end - at);
    let _ = inner.origlen(&frame[at..end]);
}
