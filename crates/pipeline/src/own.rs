//! Recognises tapline's own tunnel packets, so that taps on the interfaces that they leave through do
//! not mirror the mirror without end: this tap's by their far end, another tap's by their look.
//!
//! The look: GENEVE with tapline's metadata; VXLAN whose outer source port is the one that the flow
//! hash of the inner frame gives. A stranger's VXLAN packet looks so once in 16,384. What was sliced
//! before its ports keeps the hash of the whole frame, so another tap's is then not recognised; nor
//! is one that uses a tunnel of another kind.

use io::{Direction, Packet};
use std::collections::VecDeque;
use std::net::IpAddr;
use wire::flow::{self, flow_hash};
use wire::tunnel::Carrier;
use wire::walk::Walk;
use wire::{LinkType, geneve, metadata, udp, vxlan};

/// The lowest port that [`flow::source_port`] gives.
const SOURCE_PORT_MIN: u16 = flow::source_port(0);

/// Datagrams whose later fragments are still recognised: they follow each other closely.
const FRAGMENTED: usize = 64;

/// What the fragments of a datagram have in common: source, destination and identification.
type Datagram = (IpAddr, IpAddr, u32);

/// A far end: where a tunnel leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FarEnd {
    /// Its address.
    pub address: IpAddr,
    /// How packets reach it.
    pub carrier: Carrier,
}

/// The far ends that a tap sends to.
#[derive(Debug, Clone, Default)]
pub struct OwnTunnels {
    far_ends: Vec<FarEnd>,
    /// On loopback what was sent comes in again.
    any_direction: bool,
    /// Whether those of other taps are recognised by their look.
    knows_others: bool,
    /// The last datagrams recognised by their first fragment.
    fragmented: VecDeque<Datagram>,
}

impl OwnTunnels {
    /// Recognises packets to these far ends, and those of other taps: sent ones, or of any direction.
    pub fn new(far_ends: Vec<FarEnd>, any_direction: bool) -> OwnTunnels {
        let fragmented = VecDeque::with_capacity(FRAGMENTED);
        OwnTunnels { far_ends, any_direction, knows_others: true, fragmented }
    }

    /// For a relay, whose packets came out of tunnels: recognises those to these far ends alone. Of
    /// which others a tap elsewhere has seen is no matter of this host.
    pub fn of_relay(far_ends: Vec<FarEnd>) -> OwnTunnels {
        OwnTunnels { knows_others: false, ..OwnTunnels::new(far_ends, true) }
    }

    /// Whether a packet is one that this tap sent, or another tap of this host.
    #[inline]
    pub fn contains(&mut self, packet: &Packet) -> bool {
        let may_be = packet.meta.direction == Direction::Out || self.any_direction;
        may_be && !self.far_ends.is_empty() && self.is_tunnel_packet(packet)
    }

    fn is_tunnel_packet(&mut self, packet: &Packet) -> bool {
        let frame = &*packet.data;
        let walk = Walk::new(packet.meta.link_type, frame);
        let Some(tuple) = walk.five_tuple(frame) else {
            return false;
        };
        if tuple.protocol != udp::PROTOCOL {
            return self.is_far_end(tuple.dst, Carrier::Ip { protocol: tuple.protocol });
        }
        let fragment = walk.network.and_then(|network| network.fragment);
        let datagram = fragment.map(|fragment| (tuple.src, tuple.dst, fragment.id));
        let Some(transport) = walk.transport else {
            // A later fragment: its first one has told.
            return datagram.is_some_and(|datagram| self.fragmented.contains(&datagram));
        };
        let Ok(header) = udp::Packet::new_checked(&frame[transport.at as usize..]) else {
            return false;
        };
        let is_ours = header.src_port() >= SOURCE_PORT_MIN
            && (self.is_far_end(tuple.dst, Carrier::Udp { port: header.dst_port() })
                || (self.knows_others && looks_like_ours(header.src_port(), header.payload())));
        if let Some(datagram) = datagram.filter(|_| is_ours) {
            if self.fragmented.len() == FRAGMENTED {
                self.fragmented.pop_front();
            }
            self.fragmented.push_back(datagram);
        }
        is_ours
    }

    /// Whether it is a far end's. The scope of a link-local address is not in packets.
    fn is_far_end(&self, address: IpAddr, carrier: Carrier) -> bool {
        self.far_ends.contains(&FarEnd { address, carrier })
    }
}

/// Whether a UDP payload looks as tapline sends it.
fn looks_like_ours(source_port: u16, payload: &[u8]) -> bool {
    is_geneve_with_metadata(payload) || is_vxlan_by_flow(source_port, payload)
}

fn is_geneve_with_metadata(payload: &[u8]) -> bool {
    geneve::Packet::new_checked(payload).is_ok_and(|header| {
        header.options().flatten().any(|option| option.class() == metadata::CLASS)
    })
}

/// Whether it is VXLAN from the port that its inner flow gives.
fn is_vxlan_by_flow(source_port: u16, payload: &[u8]) -> bool {
    let Ok(header) = vxlan::Packet::new_checked(payload) else {
        return false;
    };
    let Ok(repr) = vxlan::Repr::parse(&header) else {
        return false;
    };
    let mut emitted = [0; vxlan::HEADER_LEN];
    repr.emit(&mut emitted);
    let inner = header.payload();
    payload.starts_with(&emitted)
        && source_port == flow::source_port(flow_hash(&Walk::new(LinkType::ETHERNET, inner), inner))
}
