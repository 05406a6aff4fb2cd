//! Recognises tapline's own tunnel packets, so that taps on the interfaces that they leave through do
//! not mirror the mirror without end: this tap's by their far end, another tap's by their look.
//!
//! The look: VXLAN whose outer source port is the one that the flow hash of the inner frame gives.
//! A stranger's VXLAN packet looks so once in 16,384. What was sliced before its ports keeps the
//! hash of the whole frame, so another tap's is then not recognised.

use io::{Direction, Packet};
use std::net::SocketAddr;
use wire::flow::{self, flow_hash};
use wire::walk::Walk;
use wire::{LinkType, vxlan};

/// The lowest port that [`flow::source_port`] gives.
const SOURCE_PORT_MIN: u16 = flow::source_port(0);

/// The far ends that a tap sends to.
#[derive(Debug, Clone, Default)]
pub struct OwnTunnels {
    remotes: Vec<SocketAddr>,
    /// On loopback what was sent comes in again.
    any_direction: bool,
}

impl OwnTunnels {
    /// Recognises packets to these far ends, and those of other taps: sent ones, or of any direction.
    pub fn new(remotes: Vec<SocketAddr>, any_direction: bool) -> OwnTunnels {
        OwnTunnels { remotes, any_direction }
    }

    /// Whether a packet is one that this tap sent, or another tap of this host.
    #[inline]
    pub fn contains(&self, packet: &Packet) -> bool {
        let may_be = packet.meta.direction == Direction::Out || self.any_direction;
        may_be && !self.remotes.is_empty() && self.is_tunnel_packet(packet)
    }

    fn is_tunnel_packet(&self, packet: &Packet) -> bool {
        let walk = Walk::new(packet.meta.link_type, &packet.data);
        let Some(tuple) = walk.five_tuple(&packet.data) else {
            return false;
        };
        if tuple.protocol != wire::udp::PROTOCOL {
            return false;
        }
        match tuple.ports {
            // A later fragment of such a packet.
            None => self.remotes.iter().any(|remote| tuple.dst == remote.ip()),
            Some((src, _)) if src < SOURCE_PORT_MIN => false,
            Some((src, dst)) => {
                self.remotes.contains(&SocketAddr::new(tuple.dst, dst))
                    || looks_like_ours(src, walk.payload(&packet.data))
            }
        }
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
