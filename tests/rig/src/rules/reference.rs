//! What rules mean, read straight from `docs/filters.md`: parse the packet, try rule after rule.
//!
//! It shares nothing with the compiler but the rules' own type.

use filter::{Action, Direction, Rule, Rules, TrafficDirection, Transport};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::LinkType;

/// The number of the first rule that matches a frame, from 1; 0 if none does. `frame` holds the
/// bytes present.
pub fn verdict(rules: &Rules, link: LinkType, direction: Direction, frame: &[u8]) -> u32 {
    let packet = parse(link, frame);
    for (index, rule) in rules.as_slice().iter().enumerate() {
        assert!(matches!(rule.action, Action::Include | Action::Exclude));
        if matches(rule, direction, packet.as_ref()) {
            return index as u32 + 1;
        }
    }
    0
}

/// What of an IP packet is there to be read.
#[derive(Debug)]
struct Packet {
    source: IpAddr,
    destination: IpAddr,
    /// `None` where an extension header that is cut, or one too many, hides it.
    protocol: Option<u8>,
    ports: Option<(u16, u16)>,
    icmp: Option<(u8, u8)>,
}

fn matches(rule: &Rule, direction: Direction, packet: Option<&Packet>) -> bool {
    match (rule.direction, direction) {
        (Some(TrafficDirection::Ingress), Direction::Out)
        | (Some(TrafficDirection::Egress), Direction::In) => return false,
        _ => {}
    }
    let Some(packet) = packet else {
        let none = rule.source.is_none() && rule.destination.is_none() && rule.protocol.is_none();
        return none && rule.transport == Transport::Any;
    };
    if rule.source.is_some_and(|net| !net.contains(&packet.source)) {
        return false;
    }
    if rule.destination.is_some_and(|net| !net.contains(&packet.destination)) {
        return false;
    }
    if rule.protocol.is_some() && rule.protocol != packet.protocol {
        return false;
    }
    match rule.transport {
        Transport::Any => true,
        Transport::Ports { source, destination } => packet.ports.is_some_and(|(from, to)| {
            source.is_none_or(|range| range.min <= from && from <= range.max)
                && destination.is_none_or(|range| range.min <= to && to <= range.max)
        }),
        Transport::Icmp { kind, code } => packet.icmp.is_some_and(|(its_kind, its_code)| {
            kind == its_kind && code.is_none_or(|code| code == its_code)
        }),
    }
}

/// `None`: not IP, or its IP header is cut or broken.
fn parse(link: LinkType, frame: &[u8]) -> Option<Packet> {
    let at = match link {
        LinkType::ETHERNET => past_tags(frame, 12, 14)?,
        LinkType::LINUX_SLL => past_tags(frame, 14, 16)?,
        LinkType::LINUX_SLL2 => past_tags(frame, 0, 20)?,
        LinkType::RAW => match frame.first()? >> 4 {
            4 => (4, frame),
            6 => (6, frame),
            _ => return None,
        },
        LinkType::IPV4 => (4, frame),
        LinkType::IPV6 => (6, frame),
        LinkType::NULL | LinkType::LOOP => {
            let family: [u8; 4] = frame.get(..4)?.try_into().ok()?;
            let version = match (u32::from_be_bytes(family), u32::from_le_bytes(family)) {
                (2, _) | (_, 2) => 4,
                (10 | 24 | 28 | 30, _) | (_, 10 | 24 | 28 | 30) => 6,
                _ => return None,
            };
            (version, &frame[4..])
        }
        _ => panic!("link type {link} is not one that rules read"),
    };
    match at {
        (4, packet) => ipv4(packet),
        (_, packet) => ipv6(packet),
    }
}

/// The IP version behind at most four tags, and the packet.
fn past_tags(frame: &[u8], type_at: usize, at: usize) -> Option<(u8, &[u8])> {
    frame.get(..at)?;
    let mut ethertype = be16(frame, type_at)?;
    let mut rest = &frame[at..];
    for _ in 0..4 {
        if matches!(ethertype, 0x8100 | 0x88a8 | 0x9100) {
            ethertype = be16(rest, 2)?;
            rest = &rest[4..];
        }
    }
    match ethertype {
        0x0800 => Some((4, rest)),
        0x86dd => Some((6, rest)),
        _ => None,
    }
}

fn ipv4(packet: &[u8]) -> Option<Packet> {
    let header = packet.get(..20)?;
    let words = header[0] & 15;
    if header[0] >> 4 != 4 || words < 5 {
        return None;
    }
    let address = |at: usize| -> IpAddr {
        Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]).into()
    };
    let later_fragment = be16(header, 6)? & 0x1fff != 0;
    let upper = packet.get(usize::from(words) * 4..).filter(|_| !later_fragment);
    Some(finish(address(12), address(16), Some(header[9]), upper.unwrap_or(&[]), 1))
}

fn ipv6(packet: &[u8]) -> Option<Packet> {
    let header = packet.get(..40)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let address = |at: usize| -> IpAddr {
        let bytes: [u8; 16] = header[at..at + 16].try_into().expect("16 bytes");
        Ipv6Addr::from(bytes).into()
    };
    let (mut next, mut rest) = (header[6], packet.get(40..)?);
    let is_extension = |number: u8| matches!(number, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140);
    let (mut protocol, mut later_fragment) = (None, false);
    for steps in 0..=8 {
        if !is_extension(next) {
            protocol = Some(next);
            break;
        }
        if steps == 8 || rest.len() < 8 || later_fragment {
            break;
        }
        let length = match next {
            44 => {
                later_fragment = be16(rest, 2)? & 0xfff8 != 0;
                8
            }
            51 => (usize::from(rest[1]) + 2) * 4,
            _ => (usize::from(rest[1]) + 1) * 8,
        };
        next = rest[0];
        rest = rest.get(length..).unwrap_or(&[]);
    }
    let upper = if later_fragment { &[] } else { rest };
    Some(finish(address(8), address(24), protocol, upper, 58))
}

fn finish(
    source: IpAddr,
    destination: IpAddr,
    protocol: Option<u8>,
    upper: &[u8],
    icmp: u8,
) -> Packet {
    let has_ports = matches!(protocol, Some(6 | 17));
    let ports = be16(upper, 0).zip(be16(upper, 2)).filter(|_| has_ports);
    // Type and code are looked at where four bytes are, as many as ports have.
    let header = upper.get(..4).filter(|_| protocol == Some(icmp));
    Packet {
        source,
        destination,
        protocol,
        ports,
        icmp: header.map(|header| (header[0], header[1])),
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
