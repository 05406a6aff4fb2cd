//! From a recorded frame to the flow that it belongs to.

use super::address_set::AddressSet;
use super::community_id::community_id;
use super::ends::{Ends, mapped};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::decap::{Content, Found, Rules};
use wire::tunnel::{Kind, Tunnel};
use wire::walk::{IpVersion, TransportKind, VLANS_KEPT, Walk, Why, ethertype};
use wire::{LinkType, mpls};

const RARP: u16 = 0x8035;
const PPPOE_SESSION: u16 = 0x8864;
const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;

/// What all packets of a row have in common, unless flows were collapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlowKey {
    /// The innermost flow; none when not IP.
    pub flow: Option<Ends>,
    /// The outermost flow, if it is another one.
    pub outer: Option<Ends>,
    pub tunnel: Option<Tunnel>,
    pub ethertype: u16,
    vlan_count: u8,
    vlans: [u16; VLANS_KEPT],
    pub macs: Option<([u8; 6], [u8; 6])>,
}

// All of a key, in few pieces: a packet's is hashed once, and a stranger chose it.
impl Hash for FlowKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        for ends in [&self.flow, &self.outer].into_iter().flatten() {
            state.write_u128(ends.hi.into());
            state.write_u128(ends.lo.into());
            let icmp = ends.icmp.map_or([0; 3], |icmp| [icmp.lo, icmp.hi, icmp.high_first.into()]);
            let [a, b] = [ends.port_lo, ends.port_hi].map(|port| port.unwrap_or(0).to_be_bytes());
            state.write(&[a[0], a[1], b[0], b[1], ends.proto, icmp[0], icmp[1], icmp[2]]);
        }
        if let Some((lo, hi)) = self.macs {
            state.write(&lo);
            state.write(&hi);
        }
        let [a, b, c, d] = self.vlans.map(u64::from);
        state.write_u64(a << 48 | b << 32 | c << 16 | d);
        let (kind, id) =
            self.tunnel.map_or((0, 0), |tunnel| (1 + tunnel.kind as u64, tunnel.id.unwrap_or(0)));
        state.write_u64(u64::from(self.ethertype) << 48 | kind << 32 | u64::from(id));
    }
}

/// A packet as the index sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub key: FlowKey,
    /// It goes from the lower end to the higher one.
    pub forward: bool,
    pub tcp_flags: Option<u8>,
}

impl FlowKey {
    /// Ids of its VLAN tags, at most [`VLANS_KEPT`], outermost first.
    pub(crate) fn vlans(&self) -> &[u16] {
        &self.vlans[..usize::from(self.vlan_count)]
    }
}

/// Reads frames.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frames {
    tunnels: Rules,
}

impl Frames {
    /// Finds the flow of a frame that came in the tunnel `carrier`.
    pub(crate) fn see(&self, link: LinkType, frame: &[u8], carrier: Option<Tunnel>) -> Seen {
        let walk = Walk::new(link, frame);
        let mut key = FlowKey {
            flow: None,
            outer: None,
            tunnel: carrier,
            ethertype: walk.ethertype.unwrap_or(0),
            vlan_count: walk.vlans().len() as u8,
            vlans: [0; VLANS_KEPT],
            macs: None,
        };
        for (id, tag) in key.vlans.iter_mut().zip(walk.vlans()) {
            *id = tag.vid();
        }
        let inner = may_hold_more(&walk).then(|| self.tunnels.innermost(link, frame));
        let Some((inner_link, at)) = inner.filter(|(_, at)| *at != (0..frame.len())) else {
            return seen(key, &walk, frame, link);
        };
        let inner = &frame[at];
        let inner_walk = Walk::new(inner_link, inner);
        key.tunnel = self.innermost_tunnel(link, frame).or(carrier);
        key.outer = outermost(&walk, frame);
        let mut seen = seen(key, &inner_walk, inner, inner_link);
        if seen.key.outer.is_some() {
            // These are the recorded frame's, which is IP.
            seen.key.macs = None;
            seen.forward |= seen.key.flow.is_none();
        }
        if seen.key.flow == seen.key.outer {
            seen.key.outer = None;
        }
        seen
    }

    /// The community ids of a frame's innermost and of its outermost flow.
    pub(crate) fn community_ids(&self, link: LinkType, frame: &[u8]) -> [Option<String>; 2] {
        let key = self.see(link, frame, None).key;
        [key.flow, key.outer].map(|ends| ends.map(|ends| community_id(&ends)))
    }

    /// Adds all addresses of a frame by which a capture filter may find it.
    pub(crate) fn addresses(&self, link: LinkType, frame: &[u8], set: &mut AddressSet) {
        let (mut link, mut part) = (link, frame);
        loop {
            let walk = Walk::new(link, part);
            of_layer(&walk, part, set);
            if !may_hold_more(&walk) {
                return;
            }
            let found = self.tunnels.in_frame(link, part);
            if let Ok(Some(Found {
                content: Content::Packet(inner), source, destination, ..
            })) = found
            {
                source.into_iter().chain(destination).for_each(|ip| set.insert(mapped(ip)));
                (link, part) = (inner.link_type, &part[inner.at as usize..inner.end as usize]);
                continue;
            }
            // IP in IP, and what stands behind labels.
            let (last, at) = self.tunnels.innermost(link, part);
            if at == (0..part.len()) {
                return;
            }
            (link, part) = (last, &part[at]);
        }
    }

    fn innermost_tunnel(&self, link: LinkType, frame: &[u8]) -> Option<Tunnel> {
        let (mut link, mut part, mut tunnel) = (link, frame, None);
        while let Ok(Some(Found { tunnel: found, content: Content::Packet(inner), .. })) =
            self.tunnels.in_frame(link, part)
        {
            tunnel = Some(found);
            (link, part) = (inner.link_type, &part[inner.at as usize..inner.end as usize]);
        }
        tunnel
    }
}

/// The tunnel that a source's name tells of: `<kind>-<id>-<sender>`.
pub(crate) fn carrier(source: &str) -> Option<Tunnel> {
    let mut parts = source.splitn(3, '-');
    let (kind, id, sender) = (parts.next()?, parts.next()?, parts.next()?);
    let kind = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
    let id = match id {
        "none" => None,
        id => Some(id.parse().ok()?),
    };
    // What is written `-` in a name is a `:` of the address.
    sender.replace('-', ":").parse::<IpAddr>().ok()?;
    Some(Tunnel { kind, id })
}

// Completes a key by the packet in which the flow is.
fn seen(mut key: FlowKey, walk: &Walk, frame: &[u8], link: LinkType) -> Seen {
    if let Some((ends, forward)) = Ends::of(walk, frame) {
        key.flow = Some(ends);
        return Seen { key, forward, tcp_flags: tcp_flags(walk, frame) };
    }
    let macs = frame.first_chunk::<12>().filter(|_| link == LinkType::ETHERNET);
    let mut forward = true;
    if let Some(&[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]) = macs {
        let (src, dst) = ([s0, s1, s2, s3, s4, s5], [d0, d1, d2, d3, d4, d5]);
        forward = src <= dst;
        key.macs = Some((src.min(dst), src.max(dst)));
    }
    Seen { key, forward, tcp_flags: None }
}

fn tcp_flags(walk: &Walk, frame: &[u8]) -> Option<u8> {
    let tcp = walk.transport.filter(|transport| transport.kind == TransportKind::Tcp)?;
    // A header that is cut off has flags nobody saw.
    let at = tcp.at as usize + 13;
    Some(frame.get(at).copied().filter(|_| at < walk.end as usize).unwrap_or(0))
}

#[inline]
fn may_hold_more(walk: &Walk) -> bool {
    match walk.stop.why {
        Why::Complete => walk.transport.is_some_and(|t| t.kind == TransportKind::Udp),
        Why::UnknownProtocol(_) => true,
        Why::UnknownEtherType(kind) => is_mpls(kind),
        _ => false,
    }
}

fn is_mpls(ethertype: u32) -> bool {
    [mpls::ETHERTYPE, mpls::ETHERTYPE_MULTICAST].map(u32::from).contains(&ethertype)
}

// The first IP header of a frame, behind labels too.
fn outermost(walk: &Walk, frame: &[u8]) -> Option<Ends> {
    if let Some((ends, _)) = Ends::of(walk, frame) {
        return Some(ends);
    }
    let payload = walk.payload(frame);
    let behind = mpls::carried(payload)
        .filter(|_| matches!(walk.stop.why, Why::UnknownEtherType(kind) if is_mpls(kind)))?;
    let part = &payload[behind.at..];
    Ends::of(&Walk::new(behind.link_type, part), part).map(|(ends, _)| ends)
}

// Capture filters read addresses at their offsets, whatever the header around them says. A link that
// the walk does not know may hold any address.
fn of_layer(walk: &Walk, part: &[u8], set: &mut AddressSet) {
    match (walk.network, walk.ethertype) {
        (Some(network), _) => match network.version {
            IpVersion::V4 => ipv4(part, network.at as usize, set),
            IpVersion::V6 => ipv6(part, network.at as usize, set),
        },
        (None, Some(ethertype::IPV4)) => ipv4(part, walk.stop.at as usize, set),
        (None, Some(ethertype::IPV6)) => ipv6(part, walk.stop.at as usize, set),
        (None, Some(ethertype::ARP)) => arp(part, walk.stop.at as usize, set),
        (None, Some(RARP)) => arp(part, walk.payload_at as usize, set),
        (None, Some(PPPOE_SESSION)) => {
            let at = walk.payload_at as usize + 6;
            match part.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]])) {
                Some(PPP_IPV4) => ipv4(part, at + 2, set),
                Some(PPP_IPV6) => ipv6(part, at + 2, set),
                _ => {}
            }
        }
        (None, None) if walk.stop.why == Why::UnknownLink => *set = AddressSet::all(),
        _ => {}
    }
}

fn ipv4(part: &[u8], at: usize, set: &mut AddressSet) {
    [at + 12, at + 16].into_iter().for_each(|at| v4_at(part, at, set));
}

fn arp(part: &[u8], at: usize, set: &mut AddressSet) {
    [at + 14, at + 24].into_iter().for_each(|at| v4_at(part, at, set));
}

fn v4_at(part: &[u8], at: usize, set: &mut AddressSet) {
    if let Some(&address) = part.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        set.insert(Ipv4Addr::from(address).to_ipv6_mapped());
    }
}

fn ipv6(part: &[u8], at: usize, set: &mut AddressSet) {
    for at in [at + 8, at + 24] {
        if let Some(&address) = part.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
            set.insert(Ipv6Addr::from(address));
        }
    }
}
