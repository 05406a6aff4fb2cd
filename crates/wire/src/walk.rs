//! Frame walk: finds the headers of a frame and says where, and why, it stopped.
//!
//! ```text
//! Ethernet · SLL · SLL2 · NULL/LOOP · RAW
//!   └ VLAN tags 8100 88a8 9100, any number
//!       ├ ARP
//!       ├ IPv4 + options ──────────────────┐
//!       └ IPv6 + extension headers ────────┴─ TCP · UDP · ICMP · ICMPv6
//! ```
//!
//! Sources: IEEE 802.3 and 802.1Q, RFC 826, RFC 791, RFC 8200 section 4, RFC 2675 (jumbograms),
//! RFC 4302 (AH), RFC 9293, RFC 768, RFC 792, RFC 4443; the pcap link types NULL, LOOP, RAW,
//! LINUX_SLL and LINUX_SLL2.
//!
//! The walk is liberal because a tap must not lose what it does not understand: it never fails.
//! A length field may shorten what follows (padding is no header) but is never believed beyond
//! the buffer. Checksums are not looked at. A declared length of 0 is that of a super-packet
//! that the kernel has not cut yet. What was found before the stop stays valid.
//!
//! Why not on top of etherparse's lax slices, which judge this module in its tests: callers need
//! offsets into the frame and not borrowed slices, tags at any depth, the fields of headers that
//! are cut off half-way, and a few tens of nanoseconds a frame.
//!
//! Work is linear in the bytes of the headers: each step moves on by four bytes or more.

mod ip;
mod link;
#[cfg(test)]
mod tests;

use crate::{Layer, LinkType};
use core::net::IpAddr;

/// How many VLAN tags a [`Walk`] keeps; all are counted.
pub const VLANS_KEPT: usize = 4;

/// EtherTypes the walk follows.
pub mod ethertype {
    /// RFC 791.
    pub const IPV4: u16 = 0x0800;
    /// RFC 826.
    pub const ARP: u16 = 0x0806;
    /// RFC 8200.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service tag.
    pub const QINQ: u16 = 0x88a8;
    /// Service tag from before 802.1ad.
    pub const QINQ_OLD: u16 = 0x9100;
    /// Values below are 802.3 lengths.
    pub const MIN: u16 = 0x0600;
}

/// IP protocol and IPv6 next-header numbers the walk follows.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Encapsulating security payload.
    pub const ESP: u8 = 50;
    /// Authentication header.
    pub const AH: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 "no next header".
    pub const NO_NEXT: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION: u8 = 60;
}

/// One VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VlanTag {
    /// The EtherType that announced it: 0x8100, 0x88a8 or 0x9100.
    pub tpid: u16,
    /// Priority, drop eligibility and VLAN id, as on the wire.
    pub tci: u16,
}

impl VlanTag {
    /// Priority code point, 0 to 7.
    pub const fn pcp(self) -> u8 {
        (self.tci >> 13) as u8
    }

    /// Drop eligible indicator.
    pub const fn dei(self) -> bool {
        self.tci & 0x1000 != 0
    }

    /// VLAN id, 0 to 4095.
    pub const fn vid(self) -> u16 {
        self.tci & 0x0fff
    }
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpVersion {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

/// A part of an IP packet that was sent in several. An IPv6 fragment header with offset 0 and
/// nothing more to come (RFC 6946) makes no fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Offset in the original packet's payload, bytes; 0 in the first.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// Identification: the same in all fragments of a packet. 16 bits in IPv4.
    pub id: u32,
}

/// The IP header. The fixed part (20 or 40 bytes) is in the frame; the rest may be cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Version.
    pub version: IpVersion,
    /// Offset of the header in the frame.
    pub at: u32,
    /// Length of the header with options, and of the IPv6 extension headers walked, bytes.
    pub header_len: u32,
    /// Length of the whole packet as declared (IPv6: 40 + payload length, or the jumbo option's),
    /// bytes. `None` if the field is 0 and no option replaces it: a super-packet.
    pub declared_len: Option<u32>,
    /// Upper-layer protocol; in a fragment, the one that all its fragments name (in IPv6 the
    /// fragment header's next header).
    pub protocol: u8,
    /// Set if this is a fragment, the first included.
    pub fragment: Option<Fragment>,
    /// An IPv6 routing header with segments left: the address in the header is not the final one.
    pub rerouted: bool,
}

/// Which transport was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 792, in IPv4.
    Icmp,
    /// RFC 4443, in IPv6.
    Icmpv6,
}

/// The transport header. It begins in the frame (or at its end) and may be cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    /// Which one.
    pub kind: TransportKind,
    /// Offset of the header in the frame.
    pub at: u32,
    /// Length with options, bytes; 0 if the header is cut off or malformed.
    pub header_len: u16,
}

/// Why a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// All headers that the walk knows were there.
    Complete,
    /// The frame, or the packet inside it, ends in the header.
    Truncated {
        /// Bytes the header needs.
        needed: u32,
        /// Bytes that are there.
        got: u32,
    },
    /// The header cannot be what it was announced as.
    Malformed(&'static str),
    /// A link type that is not walked.
    UnknownLink,
    /// An EtherType, or a BSD address family, that is not walked.
    UnknownEtherType(u32),
    /// An IP protocol that is not walked, such as a tunnel.
    UnknownProtocol(u8),
    /// A fragment that does not hold the start of its packet.
    Fragment,
    /// ESP: the rest cannot be read.
    Encrypted,
    /// IPv6 says that nothing follows.
    NoNextHeader,
}

/// Where and why a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The layer that the walk was in.
    pub layer: Layer,
    /// Offset in the frame of that layer's header.
    pub at: u32,
    /// The reason.
    pub why: Why,
}

/// Source and destination of an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FiveTuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source and destination port of TCP and UDP; `None` in any fragment, and if cut off.
    pub ports: Option<(u16, u16)>,
    /// IP protocol number.
    pub protocol: u8,
}

/// What a walk found, as offsets into the frame it was given. Frames are looked at up to 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// The link type walked.
    pub link: LinkType,
    /// EtherType behind the last tag; implied in link types that carry none. An 802.3 length is
    /// none.
    pub ethertype: Option<u16>,
    /// Offset of that EtherType, where the frame has one.
    pub ethertype_at: Option<u32>,
    vlans: [VlanTag; VLANS_KEPT],
    /// How many tags there are, kept or not; stays at 65535 beyond.
    pub vlan_count: u16,
    /// The IP header.
    pub network: Option<Network>,
    /// The transport header.
    pub transport: Option<Transport>,
    /// Offset of the first byte behind all headers understood.
    pub payload_at: u32,
    /// Offset of the end of the payload: where the packet or the frame ends, padding left out.
    pub end: u32,
    /// Where and why the walk ended.
    pub stop: Stop,
}

impl Walk {
    /// Walks a frame. Never fails and never panics; reads header bytes only.
    #[inline]
    pub fn new(link: LinkType, frame: &[u8]) -> Walk {
        let frame = &frame[..frame.len().min(u32::MAX as usize)];
        let mut walk = Walk::empty(link, frame.len());
        walk.stop = walk.link(frame);
        walk
    }

    /// Walks the IP packet that an ICMP error at the end of this walk quotes.
    pub(crate) fn quoted(&self, frame: &[u8], version: IpVersion) -> Walk {
        let end = frame.len().min(self.end as usize);
        let mut walk = Walk::empty(LinkType::RAW, end);
        let at = self.payload_at as usize;
        walk.stop = match version {
            IpVersion::V4 => walk.ipv4(&frame[..end], at),
            IpVersion::V6 => walk.ipv6(&frame[..end], at),
        };
        walk
    }

    fn empty(link: LinkType, len: usize) -> Walk {
        Walk {
            link,
            ethertype: None,
            ethertype_at: None,
            vlans: [VlanTag::default(); VLANS_KEPT],
            vlan_count: 0,
            network: None,
            transport: None,
            payload_at: 0,
            end: len as u32,
            stop: stop(Layer::Link, 0, Why::UnknownLink),
        }
    }

    /// The outermost tags, at most [`VLANS_KEPT`].
    pub fn vlans(&self) -> &[VlanTag] {
        &self.vlans[..usize::from(self.vlan_count).min(VLANS_KEPT)]
    }

    /// Whether this is an IP fragment, the first included.
    pub fn is_fragment(&self) -> bool {
        self.network.is_some_and(|n| n.fragment.is_some())
    }

    /// The bytes behind all headers understood, padding left out. `frame` is the frame walked.
    pub fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(self.payload_at as usize..self.end as usize).unwrap_or_default()
    }

    /// Addresses, ports and protocol, or `None` without an IP header. `frame` is the frame walked.
    #[inline]
    pub fn five_tuple(&self, frame: &[u8]) -> Option<FiveTuple> {
        let network = self.network?;
        let (src, dst) = match network.version {
            IpVersion::V4 => {
                let (src, dst) = v4_addresses(frame, network.at)?;
                (IpAddr::from(src), IpAddr::from(dst))
            }
            IpVersion::V6 => {
                let (src, dst) = v6_addresses(frame, network.at)?;
                (IpAddr::from(src), IpAddr::from(dst))
            }
        };
        Some(FiveTuple { src, dst, ports: self.ports(frame), protocol: network.protocol })
    }

    /// Source and destination port of TCP and UDP; `None` in any fragment, and if cut off.
    #[inline]
    pub fn ports(&self, frame: &[u8]) -> Option<(u16, u16)> {
        let transport = self.transport?;
        if self.is_fragment()
            || !matches!(transport.kind, TransportKind::Tcp | TransportKind::Udp)
            || self.end.saturating_sub(transport.at) < 4
        {
            return None;
        }
        let b = chunk::<4>(frame, transport.at as usize)?;
        Some((u16::from_be_bytes([b[0], b[1]]), u16::from_be_bytes([b[2], b[3]])))
    }

    /// The length this frame had on the wire, padding left out: link header with tags, and the
    /// packet's declared length. `None` if it is not IP or declares 0. Use it to repair the
    /// original length of a frame that something cut without saying so.
    #[inline]
    pub fn wire_len(&self) -> Option<usize> {
        let network = self.network?;
        Some(network.at as usize + network.declared_len? as usize)
    }
}

pub(crate) fn v4_addresses(frame: &[u8], at: u32) -> Option<([u8; 4], [u8; 4])> {
    let b = chunk::<8>(frame, at as usize + 12)?;
    Some(([b[0], b[1], b[2], b[3]], [b[4], b[5], b[6], b[7]]))
}

pub(crate) fn v6_addresses(frame: &[u8], at: u32) -> Option<([u8; 16], [u8; 16])> {
    let at = at as usize;
    Some((*chunk::<16>(frame, at + 8)?, *chunk::<16>(frame, at + 24)?))
}

/// `N` bytes at an offset.
#[inline]
pub(crate) fn chunk<const N: usize>(frame: &[u8], at: usize) -> Option<&[u8; N]> {
    frame.get(at..)?.first_chunk()
}

#[inline]
fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

#[inline]
fn stop(layer: Layer, at: usize, why: Why) -> Stop {
    Stop { layer, at: at as u32, why }
}

#[inline]
fn truncated(layer: Layer, frame: &[u8], at: usize, needed: usize) -> Stop {
    let got = frame.len().saturating_sub(at) as u32;
    stop(layer, at, Why::Truncated { needed: needed as u32, got })
}
