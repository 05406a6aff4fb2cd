//! Tunnel packets as they were on the underlay, put together again where they were fragments, and
//! without what differs from one run to the next: identifications, times, numbers.

use std::collections::BTreeMap;
use wire::decap::{Content, Rules};
use wire::tunnel::Kind;
use wire::{Direction, LinkType};

/// What tells tunnels apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tunnel {
    pub kind: Kind,
    pub id: u32,
    pub is_v6: bool,
}

/// One tunnel packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// TOS and TTL, or traffic class and hop limit.
    pub class: u8,
    pub hops: u8,
    /// IPv4's "don't fragment".
    pub is_whole: bool,
    /// Whether it came in fragments.
    pub was_fragmented: bool,
    /// UDP ports; 0: none.
    pub ports: (u16, u16),
    /// What GENEVE tells of it.
    pub origlen: Option<u32>,
    /// The direction told: 1 in, 2 out, 0 not told.
    pub direction: u8,
    /// The protocol of a payload that has no link type; 0: it is a packet.
    pub link_type: u16,
    /// The packet inside.
    pub bytes: Vec<u8>,
}

/// Where one of IP's fields stands.
const IP_AT: usize = 14;

/// A fragment of an outer packet.
struct Fragment {
    /// What tells its packet from others.
    key: Vec<u8>,
    offset: usize,
    more: bool,
    /// The headers of the whole packet.
    header: Vec<u8>,
    payload: Vec<u8>,
}

/// Of frames those of tunnels, in an order that depends on them alone.
pub fn by_tunnel<'a>(frames: impl Iterator<Item = &'a [u8]>) -> BTreeMap<Tunnel, Vec<Packet>> {
    let mut found: BTreeMap<Tunnel, Vec<Packet>> = BTreeMap::new();
    let mut fragments: BTreeMap<Vec<u8>, Vec<Fragment>> = BTreeMap::new();
    let mut take = |frame: &[u8], was_fragmented| {
        if let Some((tunnel, packet)) = read(frame, was_fragmented) {
            found.entry(tunnel).or_default().push(packet);
        }
    };
    for frame in frames {
        let Some(fragment) = fragment(frame) else {
            take(frame, false);
            continue;
        };
        let (key, header) = (fragment.key.clone(), fragment.header.clone());
        let parts = fragments.entry(key.clone()).or_default();
        parts.push(fragment);
        if let Some(payload) = whole(parts) {
            take(&[header, payload].concat(), true);
            fragments.remove(&key);
        }
    }
    assert!(fragments.is_empty(), "{} packets whose fragments are not all there", fragments.len());
    found.values_mut().for_each(|packets| packets.sort());
    found
}

/// The first difference of what two runs gave, which are in order.
pub fn difference(one: &[Packet], other: &[Packet]) -> Option<String> {
    if one == other {
        return None;
    }
    let count = |of: &[Packet], packet: &Packet| of.iter().filter(|p| *p == packet).count();
    let missing = one.iter().find(|packet| count(one, packet) > count(other, packet));
    let added = other.iter().find(|packet| count(other, packet) > count(one, packet));
    let show = |packet: Option<&Packet>| match packet {
        None => "none".to_owned(),
        Some(packet) => {
            let shown = &packet.bytes[..packet.bytes.len().min(96)];
            let head = Packet { bytes: Vec::new(), ..packet.clone() };
            format!("{} bytes {shown:02x?} {head:?}", packet.bytes.len())
        }
    };
    Some(format!(
        "{} and {} packets\n  only by ring:   {}\n  only in kernel: {}",
        one.len(),
        other.len(),
        show(missing),
        show(added)
    ))
}

fn read(frame: &[u8], was_fragmented: bool) -> Option<(Tunnel, Packet)> {
    let found = Rules::default().in_frame(LinkType::ETHERNET, frame).ok()??;
    let is_v6 = frame[12..14] == [0x86, 0xdd];
    let ip = &frame[IP_AT..];
    let (class, hops, is_whole, ip_len) = match is_v6 {
        true => (ip[0] << 4 | ip[1] >> 4, ip[7], false, 40),
        false => (ip[1], ip[8], ip[6] & 0x40 != 0, 20),
    };
    let port = |at: usize| u16::from_be_bytes([ip[ip_len + at], ip[ip_len + at + 1]]);
    let ports = match found.tunnel.kind {
        Kind::Vxlan | Kind::Geneve => (port(0), port(2)),
        _ => (0, 0),
    };
    let (link_type, origlen, direction, bytes) = match found.content {
        Content::Packet(inner) => {
            let direction = match inner.told.direction {
                Direction::In => 1,
                Direction::Out => 2,
                _ => 0,
            };
            let bytes = frame[inner.at as usize..inner.end as usize].to_vec();
            (inner.link_type.0, inner.told.origlen, direction, bytes)
        }
        Content::Opaque(_) => (u16::MAX, None, 0, frame[IP_AT + ip_len..].to_vec()),
        Content::Control | Content::Progress { .. } => return None,
    };
    let tunnel = Tunnel { kind: found.tunnel.kind, id: found.tunnel.id?, is_v6 };
    let packet = Packet {
        class,
        hops,
        is_whole: is_whole && !was_fragmented,
        was_fragmented,
        ports,
        origlen,
        direction,
        link_type,
        bytes,
    };
    Some((tunnel, packet))
}

/// Reads a fragment; `None` if it is none.
fn fragment(frame: &[u8]) -> Option<Fragment> {
    let ip = &frame[IP_AT..];
    let word = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
    match frame[12..14] {
        [8, 0] => {
            let (field, len) = (word(6), usize::from(word(2)));
            let (offset, more) = (usize::from(field & 0x1fff) * 8, field & 0x2000 != 0);
            let mut header = frame[..IP_AT + 20].to_vec();
            header[IP_AT + 6..IP_AT + 8].fill(0);
            // The length of the whole is not known yet: who reads it takes what there is.
            header[IP_AT + 2..IP_AT + 4].fill(0xff);
            let key = [&ip[12..20], &ip[4..6], &ip[9..10]].concat();
            let payload = ip[20..len].to_vec();
            (offset > 0 || more).then_some(Fragment { key, offset, more, header, payload })
        }
        [0x86, 0xdd] if ip[6] == 44 => {
            let (field, len) = (word(42), usize::from(word(4)));
            let (offset, more) = (usize::from(field & 0xfff8), field & 1 != 0);
            let mut header = frame[..IP_AT + 40].to_vec();
            header[IP_AT + 6] = ip[40];
            header[IP_AT + 4..IP_AT + 6].fill(0xff);
            let key = [&ip[8..40], &ip[44..48], &ip[40..41]].concat();
            let payload = ip[48..40 + len].to_vec();
            Some(Fragment { key, offset, more, header, payload })
        }
        _ => None,
    }
}

/// The payload of all fragments, once they are there.
fn whole(parts: &mut [Fragment]) -> Option<Vec<u8>> {
    parts.sort_by_key(|part| part.offset);
    let mut payload = Vec::new();
    for part in parts.iter() {
        if part.offset != payload.len() {
            return None;
        }
        payload.extend(&part.payload);
    }
    let is_whole = parts.last().is_some_and(|part| !part.more);
    is_whole.then_some(payload)
}
