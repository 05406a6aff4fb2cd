//! The way through a frame's headers, on which addresses are changed and checksums mended.
//!
//! Each step returns by how much it changed the sum of the frame's bytes: that is what the checksum of a
//! header around them is mended by (RFC 1624). So no payload is read, what is cut off does not matter, and a
//! checksum that was wrong stays wrong. A transport checksum covers a pseudo-header, too: for IPv6 with
//! segments left, its destination is the last one of the route (RFC 8200 section 8.1).

use super::address_map::AddressMap;
use api::AnonymizeKey;
use std::ops::Range;
use wire::checksum::Change;
use wire::decap::{Content, Rules};
use wire::tunnel::Kind;
use wire::walk::{IpVersion, Network, Transport, TransportKind, Walk, Why, protocol};
use wire::{Layer, LinkType, gre, l2tp, mpls};

/// Packets inside of each other that are looked at.
const DEPTH_MAX: u8 = 16;

const ETHERTYPE_MPLS: u32 = mpls::ETHERTYPE as u32;
const ETHERTYPE_MPLS_MULTICAST: u32 = mpls::ETHERTYPE_MULTICAST as u32;
const ETHERTYPE_RARP: u32 = 0x8035;
/// RFC 2516: a header of 6 bytes, then PPP.
const ETHERTYPE_PPPOE: u32 = 0x8864;
const PPPOE_LEN: usize = 6;
const PPP_IPV4: [u8; 2] = [0x00, 0x21];
const PPP_IPV6: [u8; 2] = [0x00, 0x57];

const PROTOCOL_IPV4: u8 = 4;
const PROTOCOL_IPV6: u8 = 41;
const PROTOCOL_MPLS: u8 = 137;
/// MPLS over UDP, RFC 7510.
const PORT_MPLS: u16 = 6635;

const ICMP_HEADER_LEN: usize = 8;
const ICMP_REDIRECT: u8 = 5;
const CHECKSUM_LEN: usize = 2;
const GRE_CHECKSUM_FLAG: u8 = 0x80;
const GRE_CHECKSUM_AT: usize = 4;
/// IPv6 routing type of segment routing, RFC 8754, whose list stands in reverse order.
const ROUTING_SEGMENTS: u8 = 4;

/// Changes the addresses in frames.
pub(super) struct Rewriter {
    pub map: AddressMap,
    rules: Rules,
    found: bool,
}

impl Rewriter {
    /// By the map of this key; tunnels are known by their assigned ports.
    pub(super) fn new(key: &AnonymizeKey) -> Rewriter {
        Rewriter { map: AddressMap::new(key), rules: Rules::default(), found: false }
    }

    /// Changes all addresses that are found; returns whether there were any.
    pub(super) fn rewrite(&mut self, link: LinkType, frame: &mut [u8]) -> bool {
        self.found = false;
        self.frame(link, frame, DEPTH_MAX);
        self.found
    }

    fn frame(&mut self, link: LinkType, frame: &mut [u8], depth: u8) -> Change {
        let walk = Walk::new(link, frame);
        if let Some(network) = &walk.network {
            return self.ip(&walk, network, frame, depth);
        }
        let (stop_at, at) = (walk.stop.at as usize, walk.payload_at as usize);
        match (walk.stop.layer, walk.stop.why) {
            (Layer::Ipv4, Why::Truncated { .. }) => {
                self.v4(frame, stop_at + 12).and(self.v4(frame, stop_at + 16))
            }
            (Layer::Ipv6, Why::Truncated { .. }) => {
                self.v6(frame, stop_at + 8).and(self.v6(frame, stop_at + 24))
            }
            (Layer::Arp, _) => self.arp(frame, stop_at),
            (_, Why::UnknownEtherType(ETHERTYPE_RARP)) => self.arp(frame, at),
            (_, Why::UnknownEtherType(ETHERTYPE_MPLS | ETHERTYPE_MPLS_MULTICAST)) => {
                self.labelled(frame, at..walk.end as usize, depth)
            }
            (_, Why::UnknownEtherType(ETHERTYPE_PPPOE)) => {
                let at = at + PPPOE_LEN;
                match frame.get(at..).and_then(<[u8]>::first_chunk) {
                    Some(&(PPP_IPV4 | PPP_IPV6)) => {
                        self.inside(frame, at + 2..walk.end as usize, LinkType::RAW, depth)
                    }
                    _ => Change::NONE,
                }
            }
            _ => Change::NONE,
        }
    }

    /// A packet inside of the frame.
    fn inside(
        &mut self,
        frame: &mut [u8],
        range: Range<usize>,
        link: LinkType,
        depth: u8,
    ) -> Change {
        let at = range.start;
        match frame.get_mut(range) {
            Some(part) if depth > 0 => self.frame(link, part, depth - 1).moved(at),
            _ => Change::NONE,
        }
    }

    fn labelled(&mut self, frame: &mut [u8], range: Range<usize>, depth: u8) -> Change {
        let carried = frame.get(range.clone()).and_then(mpls::carried);
        carried.map_or(Change::NONE, |carried| {
            self.inside(frame, range.start + carried.at..range.end, carried.link_type, depth)
        })
    }

    // ARP for IPv4 over hardware addresses of any length (RFC 826); as much as is there.
    fn arp(&mut self, frame: &mut [u8], at: usize) -> Change {
        let Some(&[_, _, 0x08, 0x00, hardware_len, 4, ..]) =
            frame.get(at..).and_then(<[u8]>::first_chunk::<8>)
        else {
            return Change::NONE;
        };
        let (sender, hardware_len) = (at + 8, usize::from(hardware_len));
        self.v4(frame, sender + hardware_len).and(self.v4(frame, sender + 2 * hardware_len + 4))
    }

    fn ip(&mut self, walk: &Walk, network: &Network, frame: &mut [u8], depth: u8) -> Change {
        let at = network.at as usize;
        let (header, pseudo) = match network.version {
            IpVersion::V4 => {
                let addresses = self.v4(frame, at + 12).and(self.v4(frame, at + 16));
                (addresses.and(mend(frame, at, at + 10, addresses)), addresses)
            }
            IpVersion::V6 => {
                let (src, dst) = (self.v6(frame, at + 8), self.v6(frame, at + 24));
                let (route, last) = self.route(network, frame);
                let pseudo = src.and(if network.rerouted { last } else { dst });
                (src.and(dst).and(route), pseudo)
            }
        };
        let payload = self.payload(walk, network, frame, depth);
        let Some(transport) = &walk.transport else {
            return header.and(payload);
        };
        header.and(payload).and(mend_transport(walk, transport, frame, pseudo, payload))
    }

    // The addresses in an IPv6 routing header of a type that has whole ones: 0 and 2 (RFC 5095 and 6275) and
    // 4. Gives also the change of the last one on the way.
    fn route(&mut self, network: &Network, frame: &mut [u8]) -> (Change, Change) {
        let begin = network.at as usize;
        let (mut at, mut number) = (begin + 40, frame[begin + 6]);
        let (mut all, mut last) = (Change::NONE, Change::NONE);
        while let Some(extension) = Extension::at(network, frame, number, at) {
            let Extension { units, kind, last_entry, .. } = extension;
            if number == protocol::ROUTING && matches!(kind, 0 | 2 | ROUTING_SEGMENTS) {
                let in_reverse = kind == ROUTING_SEGMENTS;
                let room = usize::from(units) / 2;
                let count = if in_reverse { room.min(usize::from(last_entry) + 1) } else { room };
                for index in 0..count {
                    let change = self.v6(frame, at + 8 + 16 * index);
                    all = all.and(change);
                    if index == if in_reverse { 0 } else { count - 1 } {
                        last = change;
                    }
                }
            }
            (at, number) = (extension.end, extension.next);
        }
        (all, last)
    }

    // What stands behind the IP header, but for the transport checksum.
    fn payload(&mut self, walk: &Walk, network: &Network, frame: &mut [u8], depth: u8) -> Change {
        let end = walk.end as usize;
        if let Some(transport) = &walk.transport {
            let at = transport.at as usize;
            return match transport.kind {
                TransportKind::Tcp => Change::NONE,
                TransportKind::Udp => self.tunnel(walk, network, frame, depth),
                TransportKind::Icmp | TransportKind::Icmpv6 if transport.header_len == 0 => {
                    Change::NONE
                }
                TransportKind::Icmp => self.icmp(frame, at..end, depth),
                TransportKind::Icmpv6 => self.icmpv6(frame, at..end, depth),
            };
        }
        let at = walk.payload_at as usize;
        match walk.stop.why {
            Why::UnknownProtocol(PROTOCOL_IPV4 | PROTOCOL_IPV6) => {
                self.inside(frame, at..end, LinkType::RAW, depth)
            }
            Why::UnknownProtocol(PROTOCOL_MPLS) => self.labelled(frame, at..end, depth),
            Why::UnknownProtocol(gre::IP_PROTOCOL | l2tp::IP_PROTOCOL) => {
                self.tunnel(walk, network, frame, depth)
            }
            _ => Change::NONE,
        }
    }

    fn tunnel(&mut self, walk: &Walk, network: &Network, frame: &mut [u8], depth: u8) -> Change {
        let (begin, end) = (network.at as usize, walk.end as usize);
        let header_at = walk.payload_at as usize;
        let more = network.fragment.and_then(|_| more_fragments(network, frame));
        if walk.transport.is_some() && walk.ports(frame).is_some_and(|(_, to)| to == PORT_MPLS) {
            return self.labelled(frame, header_at..end, depth);
        }
        // The tunnel's header stands in the first fragment, but only a whole packet is looked at.
        if let Some((at, bit)) = more {
            frame[at] &= !bit;
        }
        let found = self.rules.in_frame(LinkType::RAW, &frame[begin..end]);
        if let Some((at, bit)) = more {
            frame[at] |= bit;
        }
        let Ok(Some(found)) = found else {
            return Change::NONE;
        };
        let Content::Packet(inner) = found.content else {
            return Change::NONE;
        };
        let range = begin + inner.at as usize..begin + inner.end as usize;
        let change = self.inside(frame, range, inner.link_type, depth);
        let is_gre = matches!(found.tunnel.kind, Kind::Gre | Kind::Gretap | Kind::Erspan);
        if is_gre && frame[header_at] & GRE_CHECKSUM_FLAG != 0 {
            return change.and(mend(frame, header_at, header_at + GRE_CHECKSUM_AT, change));
        }
        change
    }

    fn icmp(&mut self, frame: &mut [u8], message: Range<usize>, depth: u8) -> Change {
        let at = message.start;
        let router = match frame[at] {
            ICMP_REDIRECT => self.v4(frame, at + 4),
            3 | 4 | 11 | 12 => Change::NONE,
            _ => return Change::NONE,
        };
        let quoted = at + ICMP_HEADER_LEN..message.end;
        router.and(self.inside(frame, quoted, LinkType::IPV4, depth))
    }

    fn icmpv6(&mut self, frame: &mut [u8], message: Range<usize>, depth: u8) -> Change {
        let at = message.start + ICMP_HEADER_LEN;
        match frame[message.start] {
            1..=4 => self.inside(frame, at..message.end, LinkType::IPV6, depth),
            // Listener query, report and done (RFC 2710); neighbour solicitation and advertisement, redirect
            // (RFC 4861).
            130..=132 | 135 | 136 => self.v6(frame, at),
            137 => self.v6(frame, at).and(self.v6(frame, at + 16)),
            _ => Change::NONE,
        }
    }

    /// Changes the address at an offset.
    fn v4(&mut self, frame: &mut [u8], at: usize) -> Change {
        self.address::<4>(frame, at, AddressMap::v4)
    }

    /// Changes the address at an offset.
    fn v6(&mut self, frame: &mut [u8], at: usize) -> Change {
        self.address::<16>(frame, at, AddressMap::v6)
    }

    // Of an address that is cut off, what is there becomes what it would become in a whole one.
    fn address<const N: usize>(
        &mut self,
        frame: &mut [u8],
        at: usize,
        map: fn(&mut AddressMap, [u8; N]) -> [u8; N],
    ) -> Change {
        let end = frame.len().min(at + N);
        let Some(bytes) = frame.get_mut(at..end).filter(|bytes| !bytes.is_empty()) else {
            return Change::NONE;
        };
        let mut old = [0; N];
        old[..bytes.len()].copy_from_slice(bytes);
        bytes.copy_from_slice(&map(&mut self.map, old)[..bytes.len()]);
        self.found = true;
        Change::between(&old[..bytes.len()], bytes, at)
    }
}

// An IPv6 extension header that the walk has passed.
struct Extension {
    next: u8,
    units: u8,
    kind: u8,
    last_entry: u8,
    end: usize,
}

impl Extension {
    fn at(network: &Network, frame: &[u8], number: u8, at: usize) -> Option<Extension> {
        let headers_end = frame.len().min((network.at + network.header_len) as usize);
        let &[next, units, kind, _, last_entry, ..] =
            frame.get(at..headers_end)?.first_chunk::<8>()?;
        let len = match number {
            protocol::FRAGMENT => 8,
            protocol::AH => (usize::from(units) + 2) * 4,
            _ => (usize::from(units) + 1) * 8,
        };
        Some(Extension { next, units, kind, last_entry, end: at + len })
    }
}

// Where the bit stands that says that more fragments follow, and the bit: in IPv4's flags, or in IPv6's
// fragment header.
fn more_fragments(network: &Network, frame: &[u8]) -> Option<(usize, u8)> {
    let begin = network.at as usize;
    if network.version == IpVersion::V4 {
        return Some((begin + 6, 0x20));
    }
    let (mut at, mut number) = (begin + 40, frame[begin + 6]);
    while let Some(extension) = Extension::at(network, frame, number, at) {
        if number == protocol::FRAGMENT {
            return Some((at + 3, 0x01));
        }
        (at, number) = (extension.end, extension.next);
    }
    None
}

// Mends a transport checksum after changes of the pseudo-header and of what follows the header.
fn mend_transport(
    walk: &Walk,
    transport: &Transport,
    frame: &mut [u8],
    pseudo: Change,
    payload: Change,
) -> Change {
    let at = transport.at as usize;
    let (offset, change) = match transport.kind {
        TransportKind::Tcp => (16, pseudo.and(payload)),
        TransportKind::Udp => (6, pseudo.and(payload)),
        TransportKind::Icmpv6 => (2, pseudo.and(payload)),
        TransportKind::Icmp => (2, payload),
    };
    let frame = &mut frame[..walk.end as usize];
    if transport.kind != TransportKind::Udp {
        return mend(frame, at, at + offset, change);
    }
    // In UDP 0 says that there is none, so one that comes out as 0 is written ffff (RFC 768).
    let check_at = at + offset;
    match frame.get(check_at..).and_then(<[u8]>::first_chunk) {
        None | Some(&[0, 0]) => Change::NONE,
        Some(_) => {
            let mended = mend(frame, at, check_at, change);
            match frame.get_mut(check_at..check_at + CHECKSUM_LEN) {
                Some(check) if *check == [0, 0] => {
                    check.fill(0xff);
                    mended.and(Change::between(&[0, 0], &[0xff, 0xff], check_at))
                }
                _ => mended,
            }
        }
    }
}

// Mends the checksum at `check_at`, if it is there, of data that begins at `at`. Gives the change that this
// is in turn.
fn mend(frame: &mut [u8], at: usize, check_at: usize, change: Change) -> Change {
    let Some(check) = frame.get_mut(check_at..).and_then(<[u8]>::first_chunk_mut::<2>) else {
        return Change::NONE;
    };
    let new = change.moved(at).mend(u16::from_be_bytes(*check)).to_be_bytes();
    let old = std::mem::replace(check, new);
    Change::between(&old, &new, check_at)
}
