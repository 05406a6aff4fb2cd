//! Recognises tapline's own tunnel packets, so that taps on the interfaces that they leave through do
//! not mirror the mirror without end: this tap's by their far end, another tap's by their look.
//!
//! The look: VXLAN whose outer source port is the one that the flow hash of the inner frame gives.
//! A stranger's VXLAN packet looks so once in 16,384. What was sliced before its ports keeps the
//! hash of the whole frame, so another tap's is then not recognised.

use io::{Direction, Packet};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use wire::flow::{self, flow_hash};
use wire::walk::Walk;
use wire::{LinkType, udp, vxlan};

/// The lowest port that [`flow::source_port`] gives.
const SOURCE_PORT_MIN: u16 = flow::source_port(0);

/// Datagrams whose later fragments are still recognised: they follow each other closely.
const FRAGMENTED: usize = 64;

/// What the fragments of a datagram have in common: source, destination and identification.
type Datagram = (IpAddr, IpAddr, u32);

/// The far ends that a tap sends to.
#[derive(Debug, Clone, Default)]
pub struct OwnTunnels {
    remotes: Vec<SocketAddr>,
    /// On loopback what was sent comes in again.
    any_direction: bool,
    /// The last datagrams recognised by their first fragment.
    fragmented: VecDeque<Datagram>,
}

impl OwnTunnels {
    /// Recognises packets to these far ends, and those of other taps: sent ones, or of any direction.
    pub fn new(remotes: Vec<SocketAddr>, any_direction: bool) -> OwnTunnels {
        let fragmented = VecDeque::with_capacity(FRAGMENTED);
        OwnTunnels { remotes, any_direction, fragmented }
    }

    /// Whether a packet is one that this tap sent, or another tap of this host.
    #[inline]
    pub fn contains(&mut self, packet: &Packet) -> bool {
        let may_be = packet.meta.direction == Direction::Out || self.any_direction;
        may_be && !self.remotes.is_empty() && self.is_tunnel_packet(packet)
    }

    fn is_tunnel_packet(&mut self, packet: &Packet) -> bool {
        let frame = &*packet.data;
        let walk = Walk::new(packet.meta.link_type, frame);
        let Some(tuple) = walk.five_tuple(frame).filter(|t| t.protocol == udp::PROTOCOL) else {
            return false;
        };
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
            && (self.is_remote(tuple.dst, header.dst_port())
                || looks_like_ours(header.src_port(), header.payload()));
        if let Some(datagram) = datagram.filter(|_| is_ours) {
            if self.fragmented.len() == FRAGMENTED {
                self.fragmented.pop_front();
            }
            self.fragmented.push_back(datagram);
        }
        is_ours
    }

    /// Whether it is a far end's address and port. The scope of a link-local one is not in packets.
    fn is_remote(&self, address: IpAddr, port: u16) -> bool {
        self.remotes.iter().any(|remote| remote.ip() == address && remote.port() == port)
    }
}

/// Whether a UDP payload is VXLAN as tapline sends it, from the port that its inner flow gives.
fn looks_like_ours(source_port: u16, payload: &[u8]) -> bool {
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
