//! What of a packet says to which session it belongs.

use super::End;
use crate::LinkType;
use crate::walk::{Fragment, IpVersion, TransportKind, Walk, protocol};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the headers of a packet in an error that may change at most.
pub(super) const ABOUT_BYTES_MAX: usize = 256;

/// What a packet is to a translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TCP or UDP, with both ports; a first fragment too.
    Ports,
    /// An ICMP or ICMPv6 query with an id: echo; in IPv4 also timestamp, information and mask.
    Query {
        /// It answers one.
        is_reply: bool,
    },
    /// An ICMP or ICMPv6 error about a packet that went the other way.
    Error(About),
    /// Another protocol: it has addresses only.
    Plain,
    /// A fragment without ports: the session is that of its first one.
    Later,
    /// Nothing that can be translated.
    Foreign,
}

/// The packet in an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Offset in the frame of its IP header.
    pub at: u32,
    /// Offset in the frame of its transport header.
    pub transport_at: u32,
    /// Its protocol: an IP header's number.
    pub protocol: u8,
    /// Where it came from.
    pub source: End,
    /// Where it went.
    pub destination: End,
    /// Whether it was an answer to an ICMP query; `None`: no query.
    pub is_reply: Option<bool>,
}

/// An IP packet in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Version.
    pub version: IpVersion,
    /// Offset in the frame of the IP header.
    pub ip_at: u32,
    /// Offset in the frame of what stands behind it and its extensions.
    pub transport_at: u32,
    /// Offset in the frame of the packet's end, padding left out.
    pub end: u32,
    /// The upper layer's protocol: an IP header's number.
    pub protocol: u8,
    /// Where it comes from; port 0 where there is none.
    pub source: End,
    /// Where it goes.
    pub destination: End,
    /// Time to live, or hop limit.
    pub hops: u8,
    /// Set if it is a fragment, the first included.
    pub fragment: Option<Fragment>,
    /// Whether a router may cut it into fragments: IPv4 without DF.
    pub may_fragment: bool,
    /// What it is.
    pub kind: Kind,
}

impl Reading {
    /// Reads a frame that begins with a header of this link type. `None` if there is no whole IP
    /// packet in it.
    #[inline]
    pub fn of(link: LinkType, frame: &[u8]) -> Option<Reading> {
        let walk = Walk::new(link, frame);
        let network = walk.network?;
        let ip_at = network.at as usize;
        let end = ip_at.checked_add(network.declared_len? as usize)?;
        if frame.len() < end {
            return None;
        }
        let head = frame.get(ip_at..)?;
        let (source, destination) = addresses(network.version, head)?;
        let transport_at = ip_at + network.header_len as usize;
        let (hops, may_fragment, is_authenticated) = match network.version {
            IpVersion::V4 => {
                let own = usize::from(head[0] & 0x0f) * 4;
                (head[8], head[6] & 0x40 == 0, network.header_len as usize != own)
            }
            IpVersion::V6 => (head[7], false, has_ah(head)),
        };
        let mut reading = Reading {
            version: network.version,
            ip_at: network.at,
            transport_at: transport_at as u32,
            end: end as u32,
            protocol: network.protocol,
            source: End { address: source, port: 0 },
            destination: End { address: destination, port: 0 },
            hops,
            fragment: network.fragment,
            may_fragment,
            kind: Kind::Plain,
        };
        let packet = &frame[..end];
        reading.kind = match network.fragment {
            _ if is_authenticated || network.rerouted || transport_at > end => Kind::Foreign,
            Some(Fragment { offset: 1.., .. }) => Kind::Later,
            _ => match walk.transport {
                Some(transport) if transport.at as usize == transport_at => {
                    reading.upper(transport.kind, packet)
                }
                _ => Kind::Plain,
            },
        };
        Some(reading)
    }

    /// Bytes of the IP packet.
    pub const fn ip_len(&self) -> usize {
        (self.end - self.ip_at) as usize
    }

    fn upper(&mut self, kind: TransportKind, packet: &[u8]) -> Kind {
        let upper = &packet[self.transport_at as usize..];
        match kind {
            TransportKind::Tcp | TransportKind::Udp => match ports(upper) {
                Some((source, destination)) => {
                    (self.source.port, self.destination.port) = (source, destination);
                    Kind::Ports
                }
                None => Kind::Foreign,
            },
            TransportKind::Icmp | TransportKind::Icmpv6 => {
                let is_v6 = kind == TransportKind::Icmpv6;
                let Some(head) = upper.first_chunk::<8>() else { return Kind::Foreign };
                if let Some(is_reply) = query(is_v6, head[0]) {
                    let id = u16::from_be_bytes([head[4], head[5]]);
                    (self.source.port, self.destination.port) = (id, id);
                    return Kind::Query { is_reply };
                }
                let about = match is_error(is_v6, head[0]) && self.fragment.is_none() {
                    true => about(self.version, packet, self.transport_at as usize + 8),
                    false => None,
                };
                about.map_or(Kind::Foreign, Kind::Error)
            }
        }
    }
}

/// The packet in an error, which begins at an offset.
fn about(version: IpVersion, packet: &[u8], at: usize) -> Option<About> {
    let quoted = packet.get(at..)?;
    let walk = Walk::new(LinkType::RAW, quoted);
    let network = walk.network.filter(|network| network.version == version)?;
    let (source, destination) = addresses(version, quoted)?;
    let transport_at = network.header_len as usize;
    // A later fragment has no ports, and what changes must fit.
    let is_later = network.fragment.is_some_and(|fragment| fragment.offset != 0);
    if is_later || transport_at + 20 > ABOUT_BYTES_MAX {
        return None;
    }
    let mut about = About {
        at: at as u32,
        transport_at: (at + transport_at) as u32,
        protocol: network.protocol,
        source: End { address: source, port: 0 },
        destination: End { address: destination, port: 0 },
        is_reply: None,
    };
    let upper = quoted.get(transport_at..)?;
    let is_v6 = version == IpVersion::V6;
    match network.protocol {
        protocol::TCP | protocol::UDP => {
            (about.source.port, about.destination.port) = ports(upper)?;
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let head = upper.first_chunk::<8>()?;
            about.is_reply = Some(query(is_v6, head[0])?);
            let id = u16::from_be_bytes([head[4], head[5]]);
            (about.source.port, about.destination.port) = (id, id);
        }
        _ => {}
    }
    Some(about)
}

fn addresses(version: IpVersion, head: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match version {
        IpVersion::V4 => {
            let address = |at: usize| head.get(at..)?.first_chunk::<4>().copied();
            Some((Ipv4Addr::from(address(12)?).into(), Ipv4Addr::from(address(16)?).into()))
        }
        IpVersion::V6 => {
            let address = |at: usize| head.get(at..)?.first_chunk::<16>().copied();
            Some((Ipv6Addr::from(address(8)?).into(), Ipv6Addr::from(address(24)?).into()))
        }
    }
}

fn ports(upper: &[u8]) -> Option<(u16, u16)> {
    let head = upper.first_chunk::<4>()?;
    Some((u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]])))
}

/// Whether a message of a type with an id answers another one.
const fn query(is_v6: bool, kind: u8) -> Option<bool> {
    match (is_v6, kind) {
        (false, 8 | 13 | 15 | 17) | (true, 128) => Some(false),
        (false, 0 | 14 | 16 | 18) | (true, 129) => Some(true),
        _ => None,
    }
}

/// Whether a message of a type has a packet in it that caused it. A redirect (5) is for its link only.
pub(super) const fn is_error(is_v6: bool, kind: u8) -> bool {
    match is_v6 {
        false => matches!(kind, 3 | 4 | 11 | 12),
        true => matches!(kind, 1..=4),
    }
}

/// Whether an authentication header stands among the first extensions of an IPv6 packet.
fn has_ah(head: &[u8]) -> bool {
    let (mut next, mut at) = (head[6], 40);
    // As many as the bound on the kernel's side.
    for _ in 0..8 {
        let Some(extension) = head.get(at..).and_then(<[u8]>::first_chunk::<2>) else {
            return false;
        };
        at += match next {
            protocol::AH => return true,
            protocol::FRAGMENT => 8,
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION => {
                (usize::from(extension[1]) + 1) * 8
            }
            _ => return false,
        };
        next = extension[0];
    }
    false
}
