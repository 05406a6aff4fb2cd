//! Recognises the tap's own tunnel packets, so that a tap on the interface that they leave through
//! does not mirror its own mirror without end.

use io::{Direction, Packet};
use std::net::SocketAddr;
use wire::walk::Walk;

/// The lowest port that [`wire::flow::source_port`] gives.
const SOURCE_PORT_MIN: u16 = wire::flow::source_port(0);

/// The far ends that a tap sends to.
#[derive(Debug, Clone, Default)]
pub struct OwnTunnels {
    remotes: Vec<SocketAddr>,
    /// On loopback what was sent comes in again.
    any_direction: bool,
}

impl OwnTunnels {
    /// Recognises packets to these far ends: sent ones, or of any direction.
    pub fn new(remotes: Vec<SocketAddr>, any_direction: bool) -> OwnTunnels {
        OwnTunnels { remotes, any_direction }
    }

    /// Whether a packet is one that the tap sent: UDP to a far end, from the range of source ports
    /// that flow hashes give, or a later fragment of such a packet.
    pub fn contains(&self, packet: &Packet) -> bool {
        if self.remotes.is_empty()
            || (packet.meta.direction != Direction::Out && !self.any_direction)
        {
            return false;
        }
        let walk = Walk::new(packet.meta.link_type, &packet.data);
        let Some(tuple) = walk.five_tuple(&packet.data) else {
            return false;
        };
        if tuple.protocol != wire::udp::PROTOCOL {
            return false;
        }
        self.remotes.iter().any(|remote| {
            tuple.dst == remote.ip()
                && tuple
                    .ports
                    .is_none_or(|(src, dst)| src >= SOURCE_PORT_MIN && dst == remote.port())
        })
    }
}
