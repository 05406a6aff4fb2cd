//! One layer of decapsulation: where in a frame the packet of a tunnel stands, and what is told
//! about it.
//!
//! ```text
//! link · VLAN tags ─ IP ─┬ UDP to a tunnel's port ─┬ VXLAN, GENEVE, L2TPv3, GRE ─ what they carry
//!      └ MPLS labels ─┘  ├ 47, 115 ────────────────┘
//!                        ├ 4, 41 ─ IP, as before
//!                        └ 137, UDP 6635 ─ MPLS labels ─ IP, as before
//! ```
//!
//! Whoever wants all layers asks again with what came out. Headers are told by the ports assigned
//! and by those given ([`Rules`]); how they are read stands in their modules. MPLS labels and IP in
//! IP are walked past, as they lead to the packet that the tunnel is in (RFC 3032, 4023, 7510;
//! 2003, 2473, 4213). A fragment holds no tunnel: it is put together elsewhere.
//!
//! What comes out has to have a link type. Ethernet frames and IP packets have; any other payload,
//! such as ARP without an Ethernet header, is [`Content::Opaque`] and best left encapsulated.
//! Of a tunnel's own messages it is said that they are that.
//!
//! Liberal, as the headers' modules are. Lengths may shorten what is inside and are not believed
//! beyond the frame. Work is linear in the bytes of the headers.

mod headers;
#[cfg(test)]
mod tests;

use crate::metadata::Lane;
use crate::tunnel::{Kind, L2tpFormat, Tunnel};
use crate::walk::{TransportKind, Walk, Why};
use crate::{Direction, Error, LinkType, gre, l2tp, mpls, vxlan};
use core::fmt;
use core::net::IpAddr;
use core::ops::Range;

/// What is taken for a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// UDP ports, with the kind of tunnel at each; the first that fits decides.
    ports: Vec<(u16, Kind)>,
    /// The format of L2TPv3; `None`: guessed for each packet.
    l2tp: Option<L2tpFormat>,
}

impl Default for Rules {
    /// The ports assigned; L2TPv3 is guessed.
    fn default() -> Rules {
        let kinds = [Kind::Vxlan, Kind::Geneve, Kind::L2tp, Kind::Gre];
        let assigned = kinds.map(|kind| (kind.port(), kind));
        let ports = assigned.into_iter().chain([(vxlan::GPE_PORT, Kind::Vxlan)]).collect();
        Rules { ports, l2tp: None }
    }
}

impl Rules {
    /// Takes also what goes to this UDP port for a tunnel of this kind. A port that has a kind gets
    /// this one.
    pub fn with_port(mut self, kind: Kind, port: u16) -> Rules {
        self.ports.insert(0, (port, kind));
        self
    }

    /// Reads L2TPv3 in this format only; a packet with another cookie is malformed.
    pub fn with_l2tp(mut self, format: L2tpFormat) -> Rules {
        self.l2tp = Some(format);
        self
    }

    /// Finds the outermost tunnel of a frame; `None` if it holds none. Offsets in the answer are
    /// offsets in `frame`.
    ///
    /// # Errors
    /// If the tunnel's header, or that of what it carries, is cut off or malformed.
    #[inline]
    pub fn in_frame(&self, link: LinkType, frame: &[u8]) -> Result<Option<Found>, Error> {
        let (mut link, mut part, mut base) = (link, frame, 0);
        loop {
            let walk = Walk::new(link, part);
            let payload = walk.payload(part);
            let passed = match self.step(&walk, part) {
                Step::Udp(kind) => {
                    return Ok(Some(self.in_udp(kind, payload)?.at(base, &walk, part)));
                }
                Step::Ip(kind) => {
                    return Ok(Some(self.in_ip(kind, payload)?.at(base, &walk, part)));
                }
                Step::IpInIp => Some(0),
                Step::Labels => mpls::stack_len(payload),
                Step::End => None,
            };
            let Some(passed) = passed else {
                return Ok(None);
            };
            (link, part) = (LinkType::RAW, &payload[passed..]);
            base += walk.payload_at as usize + passed;
        }
    }

    /// Finds the packet inside of all tunnels, labels and IP headers around IP: what its first byte is,
    /// and where it stands in `frame`. That is the whole frame if there are none.
    pub fn innermost(&self, link: LinkType, frame: &[u8]) -> (LinkType, Range<usize>) {
        let (mut link, mut at, mut end) = (link, 0, frame.len());
        while let Ok(Some(Found { content: Content::Packet(inner), .. })) =
            self.in_frame(link, &frame[at..end])
        {
            (link, end) = (inner.link_type, at + inner.end as usize);
            at += inner.at as usize;
        }
        loop {
            let part = &frame[at..end];
            let walk = Walk::new(link, part);
            let payload = walk.payload(part);
            let carried = match self.step(&walk, part) {
                Step::IpInIp if headers::is_ip(payload) => Some((LinkType::RAW, 0)),
                Step::Labels => mpls::carried(payload).map(|c| (c.link_type, c.at)),
                _ => None,
            };
            let Some((inner, passed)) = carried else {
                return (link, at..end);
            };
            (link, end) = (inner, at + walk.end as usize);
            at += walk.payload_at as usize + passed;
        }
    }

    #[inline]
    fn step(&self, walk: &Walk, part: &[u8]) -> Step {
        if walk.is_fragment() {
            return Step::End;
        }
        match walk.stop.why {
            Why::UnknownProtocol(gre::IP_PROTOCOL) => Step::Ip(Kind::Gre),
            Why::UnknownProtocol(l2tp::IP_PROTOCOL) => Step::Ip(Kind::L2tp),
            Why::UnknownProtocol(protocol::IPV4 | protocol::IPV6) => Step::IpInIp,
            Why::UnknownProtocol(protocol::MPLS) => Step::Labels,
            Why::UnknownEtherType(MPLS | MPLS_MULTICAST) => Step::Labels,
            Why::Complete => self.at_ports(walk, part),
            _ => Step::End,
        }
    }

    // An L2TPv3 server answers from its port to whichever one the NAT in between has chosen.
    #[inline]
    fn at_ports(&self, walk: &Walk, part: &[u8]) -> Step {
        let udp = walk.transport.is_some_and(|t| t.kind == TransportKind::Udp);
        let Some((src, dst)) = walk.ports(part).filter(|_| udp) else {
            return Step::End;
        };
        match self.kind_at(dst).or(self.kind_at(src).filter(|&kind| kind == Kind::L2tp)) {
            Some(kind) => Step::Udp(kind),
            None if dst == MPLS_PORT => Step::Labels,
            None => Step::End,
        }
    }

    fn kind_at(&self, port: u16) -> Option<Kind> {
        self.ports.iter().find(|(at, _)| *at == port).map(|&(_, kind)| kind)
    }
}

// How a walk goes on where it stopped.
enum Step {
    Udp(Kind),
    Ip(Kind),
    IpInIp,
    Labels,
    End,
}

// MPLS labels by EtherType, and over UDP (RFC 7510).
const MPLS: u32 = mpls::ETHERTYPE as u32;
const MPLS_MULTICAST: u32 = mpls::ETHERTYPE_MULTICAST as u32;
const MPLS_PORT: u16 = 6635;

mod protocol {
    pub const IPV4: u8 = 4;
    pub const IPV6: u8 = 41;
    pub const MPLS: u8 = 137;
}

/// A tunnel packet that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The tunnel.
    pub tunnel: Tunnel,
    /// Who sent the packet; `None` where no IP header was looked at.
    pub source: Option<IpAddr>,
    /// Who it was sent to, likewise.
    pub destination: Option<IpAddr>,
    /// What it holds.
    pub content: Content,
}

/// What a tunnel packet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A packet.
    Packet(Inner),
    /// A payload without a link type of its own.
    Opaque(Opaque),
    /// A message between the endpoints: GENEVE with the O flag, L2TPv3 control.
    Control,
    /// A message of a tap: how far its lane has come.
    Progress {
        /// The lane.
        lane: Lane,
        /// The number that its next packet will have.
        next: u32,
    },
}

/// Where the packet of a tunnel stands, and what is told about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// Offset of its first byte.
    pub at: u32,
    /// Offset of the byte behind its last one.
    pub end: u32,
    /// What its first byte is.
    pub link_type: LinkType,
    /// Its length as the headers in front of it have it, bytes: more than is there if the outer
    /// packet was cut.
    pub outer_len: u32,
    /// What else is told.
    pub told: Told,
}

/// What a tunnel tells about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// Its length on the wire, bytes.
    pub origlen: Option<u32>,
    /// When it was captured, ns since 1970.
    pub ts_ns: Option<u64>,
    /// Which way it went.
    pub direction: Direction,
    /// Its number: in the lane if there is one, else in the tunnel.
    pub sequence: Option<u32>,
    /// The lane of the tap that sent it.
    pub lane: Option<Lane>,
}

/// A payload without a link type of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opaque {
    /// A protocol of GRE or GENEVE.
    Protocol(u16),
    /// A frame type of ERSPAN III.
    FrameType(u8),
    /// A network service header, RFC 8300.
    Nsh,
}

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Opaque::Protocol(n) => write!(f, "protocol 0x{n:04x}"),
            Opaque::FrameType(n) => write!(f, "ERSPAN frame type {n}"),
            Opaque::Nsh => f.write_str("NSH"),
        }
    }
}

impl Found {
    // Of an answer about the payload of `walk`, whose frame `part` begins at `base`, makes one about
    // the whole frame.
    #[inline]
    fn at(mut self, base: usize, walk: &Walk, part: &[u8]) -> Found {
        let tuple = walk.five_tuple(part);
        self.source = tuple.map(|tuple| tuple.src);
        self.destination = tuple.map(|tuple| tuple.dst);
        if let Content::Packet(inner) = &mut self.content {
            let shift = base as u32 + walk.payload_at;
            (inner.at, inner.end) = (inner.at + shift, inner.end + shift);
            if walk.end as usize == part.len() {
                let cut = walk.wire_len().unwrap_or(0).saturating_sub(part.len());
                inner.outer_len = inner.outer_len.saturating_add(cut as u32);
            }
        }
        self
    }
}

impl Inner {
    /// The length that the packet had on the wire, bytes: what is told, else the longest of what is
    /// there, what the headers in front of it say and what its own IP header declares. `packet` is
    /// the packet.
    #[inline]
    pub fn origlen(&self, packet: &[u8]) -> u32 {
        let declared = || Walk::new(self.link_type, packet).wire_len().unwrap_or(0);
        let longest = || u32::try_from(packet.len().max(declared())).unwrap_or(u32::MAX);
        self.told.origlen.unwrap_or_else(|| longest().max(self.outer_len))
    }
}
