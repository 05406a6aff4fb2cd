//! Flow hash: 32 bits that are the same for both directions of a flow, on every host.
//!
//! A kernel program and user space must choose the same group member and the same outer source
//! port, so the hash is written down here to the last bit and uses only what a BPF program has:
//! 64-bit xor, multiplication, shifts and unsigned comparison. There is no per-boot seed. VLAN
//! tags and outer tunnels stay out.
//!
//! # 1. The key
//!
//! Numbers are read big endian from the wire. An *end* is an address and a port; `low` and `high`
//! are the two ends in ascending order, compared by address first, then by port.
//!
//! | packet | ends | last field |
//! |---|---|---|
//! | TCP or UDP | (address, port) each | protocol |
//! | ICMP echo request or reply (v4 types 8, 0; v6 128, 129) | (address, identifier) each | protocol |
//! | ICMP error (v4 3, 4, 5, 11, 12; v6 1 to 4) | those of the packet it quotes | that one's |
//! | any fragment, the first included | (address, 0) each | protocol |
//! | other IP, and the above where bytes are missing | (address, 0) each | protocol |
//! | no IP header | Ethernet addresses, 48 bits | EtherType |
//!
//! *Protocol* is the upper-layer protocol behind all extension headers (hop-by-hop, routing,
//! destination, fragment, AH; AH in IPv4 too); in an IPv6 fragment, the fragment header's next
//! header. An IPv6 fragment header with offset 0 and no more to come makes no fragment.
//! Ports are *missing* unless their four bytes, the identifier unless the eight bytes of its
//! header, lie inside both the frame and the packet's declared length (0 declares nothing; a jumbo
//! option counts). The same holds for an extension header: where one is cut off, its own number
//! is the protocol. An IP header is one with its fixed 20 or 40 bytes, the right version, and for
//! IPv4 a header length of 20 or more; if total length is less than header length, ports are
//! missing.
//! A quoted packet must be of the error's own IP version and is looked at once: if it is itself an
//! error, its key is (address, 0); if its IP header is missing, the key is that of the error's own
//! addresses and protocol, ports 0.
//! Without IP: addresses are bytes 0–5 and 6–11 of an Ethernet frame of 14 bytes or more, zero
//! in others; EtherType is the one behind the last tag (or the tag's own if the frame ends
//! there), or the one that a link type without it implies; 0 for an 802.3 length and for none.
//!
//! # 2. The words
//!
//! ```text
//! IPv4   w0 = low.address << 16 | low.port          48 bits
//!        w1 = high.address << 16 | high.port
//!        w2 = 4 << 32 | protocol
//! IPv6   w0, w1 = low.address, upper and lower 64 bits
//!        w2, w3 = high.address, upper and lower 64 bits
//!        w4 = low.port << 48 | high.port << 32 | 6 << 8 | protocol
//! other  w0 = low.address                            48 bits
//!        w1 = high.address
//!        w2 = 1 << 32 | EtherType
//! ```
//!
//! # 3. The mix
//!
//! All arithmetic is on 64 bits and wraps.
//!
//! ```text
//! h = 0x7461706c696e6531                            "tapline1" in ASCII
//! for each word w:  h = (h ^ w) * 0x9e3779b97f4a7c15
//!                   h = h ^ (h >> 32)
//! h = h * 0xbf58476d1ce4e5b9
//! hash = (h ^ (h >> 32)) & 0xffffffff
//! ```
//!
//! The multipliers are odd: 2^64 divided by the golden ratio, and a constant of the SplitMix64
//! finaliser. Vectors are in this module's tests.
//!
//! # 4. Its use
//!
//! The low 14 bits choose a slot of the group table, the top 14 bits an outer UDP source port in
//! 49152–65535 (RFC 7348 section 5 and RFC 6335 ask for that range). The two are independent, so
//! that a balancer behind a balancer does not see one member's flows all alike.
//!
//! # 5. Wider flows
//!
//! A group of sinks may be asked to keep more together than a five-tuple:
//!
//! | flow | its key |
//! |---|---|
//! | addresses and protocol ([`FlowKey::three_tuple`]) | as in section 1, both ports 0 |
//! | addresses ([`FlowKey::two_tuple`]) | as in section 1, ports, protocol and EtherType 0 |
//! | tunnel ([`tunnel_hash`]) | words w0 = id, w1 = 2 << 32 |
//! | innermost packet ([`inner_hash`]) | that of section 1, of the packet inside all tunnels |
//!
//! So an ICMP error still goes where the packet goes that it quotes, and a fragment where its packet
//! goes: without ports they are alike. Inside a fragment no tunnel is looked for.

use crate::LinkType;
use crate::decap::Rules;
use crate::walk::{IpVersion, Network, TransportKind, Walk, chunk, v4_addresses, v6_addresses};

/// Slots in the group table.
pub const SLOTS: usize = 1 << 14;

const SEED: u64 = u64::from_be_bytes(*b"tapline1");
const WORD_MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const LAST_MULTIPLIER: u64 = 0xbf58_476d_1ce4_e5b9;

/// What two packets of one flow, in either direction, have in common. `low <= high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FlowKey {
    /// IPv4: (address, port or ICMP identifier or 0).
    Ipv4 {
        /// The lower end.
        low: (u32, u16),
        /// The higher end.
        high: (u32, u16),
        /// IP protocol.
        protocol: u8,
    },
    /// IPv6: (address, port or ICMPv6 identifier or 0).
    Ipv6 {
        /// The lower end.
        low: (u128, u16),
        /// The higher end.
        high: (u128, u16),
        /// Upper-layer protocol.
        protocol: u8,
    },
    /// Not IP: Ethernet addresses as 48-bit numbers, 0 where the link has none.
    Other {
        /// The lower address.
        low: u64,
        /// The higher address.
        high: u64,
        /// EtherType, 0 for none.
        ethertype: u16,
    },
}

impl FlowKey {
    /// The key of a walked frame. `frame` is the frame that was walked.
    #[inline]
    pub fn new(walk: &Walk, frame: &[u8]) -> FlowKey {
        let Some(network) = &walk.network else {
            return FlowKey::without_ip(walk, frame);
        };
        if let Some(header) = icmp_header(walk, frame)
            && is_error(network.version, header[0])
        {
            let quoted = walk.quoted(frame, network.version);
            if let Some(inner) = &quoted.network {
                let ports = ports(&quoted, frame, inner);
                return FlowKey::ip(&quoted, frame, inner, ports);
            }
        }
        FlowKey::ip(walk, frame, network, ports(walk, frame, network))
    }

    /// The hash of the key: section 3 of the module's text.
    #[inline]
    pub fn hash(&self) -> u32 {
        let h = match *self {
            FlowKey::Ipv4 { low, high, protocol } => {
                let end = |(address, port): (u32, u16)| u64::from(address) << 16 | u64::from(port);
                mix(mix(mix(SEED, end(low)), end(high)), 4 << 32 | u64::from(protocol))
            }
            FlowKey::Ipv6 { low, high, protocol } => {
                let mut h = SEED;
                for address in [low.0, high.0] {
                    h = mix(mix(h, (address >> 64) as u64), address as u64);
                }
                let ports = u64::from(low.1) << 48 | u64::from(high.1) << 32;
                mix(h, ports | 6 << 8 | u64::from(protocol))
            }
            FlowKey::Other { low, high, ethertype } => {
                mix(mix(mix(SEED, low), high), 1 << 32 | u64::from(ethertype))
            }
        };
        last(h)
    }

    /// The key without its ports: addresses and protocol.
    #[inline]
    pub fn three_tuple(self) -> FlowKey {
        match self {
            FlowKey::Ipv4 { low, high, protocol } => {
                FlowKey::Ipv4 { low: (low.0, 0), high: (high.0, 0), protocol }
            }
            FlowKey::Ipv6 { low, high, protocol } => {
                FlowKey::Ipv6 { low: (low.0, 0), high: (high.0, 0), protocol }
            }
            FlowKey::Other { .. } => self,
        }
    }

    /// The key's addresses alone.
    #[inline]
    pub fn two_tuple(self) -> FlowKey {
        match self.three_tuple() {
            FlowKey::Ipv4 { low, high, .. } => FlowKey::Ipv4 { low, high, protocol: 0 },
            FlowKey::Ipv6 { low, high, .. } => FlowKey::Ipv6 { low, high, protocol: 0 },
            FlowKey::Other { low, high, .. } => FlowKey::Other { low, high, ethertype: 0 },
        }
    }

    #[inline]
    fn ip(walk: &Walk, frame: &[u8], network: &Network, (a, b): (u16, u16)) -> FlowKey {
        let protocol = network.protocol;
        match network.version {
            IpVersion::V4 => match v4_addresses(frame, network.at) {
                Some((src, dst)) => {
                    let (src, dst) = (u32::from_be_bytes(src), u32::from_be_bytes(dst));
                    let (low, high) = sort((src, a), (dst, b));
                    FlowKey::Ipv4 { low, high, protocol }
                }
                None => FlowKey::without_ip(walk, frame),
            },
            IpVersion::V6 => match v6_addresses(frame, network.at) {
                Some((src, dst)) => {
                    let (src, dst) = (u128::from_be_bytes(src), u128::from_be_bytes(dst));
                    let (low, high) = sort((src, a), (dst, b));
                    FlowKey::Ipv6 { low, high, protocol }
                }
                None => FlowKey::without_ip(walk, frame),
            },
        }
    }

    fn without_ip(walk: &Walk, frame: &[u8]) -> FlowKey {
        let ethertype = walk.ethertype.unwrap_or(0);
        let (low, high) = match chunk::<14>(frame, 0) {
            Some(h) if walk.link == LinkType::ETHERNET => {
                let mac = |b: &[u8]| b.iter().fold(0, |n, &b| n << 8 | u64::from(b));
                sort(mac(&h[..6]), mac(&h[6..12]))
            }
            _ => (0, 0),
        };
        FlowKey::Other { low, high, ethertype }
    }
}

/// The hash of a walked frame. `frame` is the frame that was walked.
#[inline]
pub fn flow_hash(walk: &Walk, frame: &[u8]) -> u32 {
    FlowKey::new(walk, frame).hash()
}

/// The hash of all packets of a tunnel, by its VNI, key or session: section 5 of the module's text.
#[inline]
pub fn tunnel_hash(id: u32) -> u32 {
    last(mix(mix(SEED, u64::from(id)), 2 << 32))
}

/// The hash of the packet inside all tunnels of a frame that `tunnels` knows.
#[inline]
pub fn inner_hash(tunnels: &Rules, link: LinkType, frame: &[u8]) -> u32 {
    let (link, at) = tunnels.innermost(link, frame);
    let packet = &frame[at];
    flow_hash(&Walk::new(link, packet), packet)
}

/// The group-table slot of a hash: its low 14 bits.
#[inline]
pub const fn slot(hash: u32) -> usize {
    hash as usize % SLOTS
}

/// The outer UDP source port of a hash: its top 14 bits, in 49152–65535.
#[inline]
pub const fn source_port(hash: u32) -> u16 {
    0xc000 | (hash >> 18) as u16
}

#[inline]
fn mix(h: u64, word: u64) -> u64 {
    let h = (h ^ word).wrapping_mul(WORD_MULTIPLIER);
    h ^ (h >> 32)
}

#[inline]
fn last(h: u64) -> u32 {
    let h = h.wrapping_mul(LAST_MULTIPLIER);
    (h ^ (h >> 32)) as u32
}

#[inline]
fn sort<T: Ord>(a: T, b: T) -> (T, T) {
    if a <= b { (a, b) } else { (b, a) }
}

// Ports, or an echo identifier for both, or zeros.
#[inline]
fn ports(walk: &Walk, frame: &[u8], network: &Network) -> (u16, u16) {
    match (walk.ports(frame), icmp_header(walk, frame)) {
        (Some(ports), _) => ports,
        (None, Some(h)) if is_echo(network.version, h[0]) => {
            let id = u16::from_be_bytes([h[4], h[5]]);
            (id, id)
        }
        _ => (0, 0),
    }
}

// The header of an ICMP message that is whole and stands in no fragment.
#[inline]
fn icmp_header<'a>(walk: &Walk, frame: &'a [u8]) -> Option<&'a [u8; 8]> {
    let transport = walk.transport?;
    let icmp = matches!(transport.kind, TransportKind::Icmp | TransportKind::Icmpv6);
    if !icmp || transport.header_len == 0 || walk.is_fragment() {
        return None;
    }
    chunk(frame, transport.at as usize)
}

const fn is_echo(version: IpVersion, kind: u8) -> bool {
    match version {
        IpVersion::V4 => matches!(kind, 0 | 8),
        IpVersion::V6 => matches!(kind, 128 | 129),
    }
}

const fn is_error(version: IpVersion, kind: u8) -> bool {
    match version {
        IpVersion::V4 => matches!(kind, 3 | 4 | 5 | 11 | 12),
        IpVersion::V6 => matches!(kind, 1..=4),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod wider_tests;
