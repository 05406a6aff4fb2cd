//! Which fragments belong together.

use crate::decap::part::Part;
use crate::packet::{Direction, InterfaceId, Outer, Packet};
use std::net::IpAddr;
use wire::LinkType;
use wire::walk::{VLANS_KEPT, Walk};

/// Which fragments can be of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of one sight of the packet: of one interface, one direction, one VLAN and one pair of
    /// Ethernet addresses. A packet may be seen more than once, before and behind a router.
    Sight,
    /// Those that reached the host, however they came: no packet is seen twice.
    Host,
}

/// What fragments of one packet have in common. In IPv6 the protocol is not a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    protocol: Option<u8>,
    layers: u8,
    outer: Option<Outer>,
    sight: Option<Sight>,
}

/// What one sight of a packet has in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Sight {
    interface: InterfaceId,
    direction: Direction,
    vids: [u16; VLANS_KEPT],
    addresses: [u8; 12],
}

impl Key {
    /// The key of a fragment that came out of so many tunnels; `walk` is of its frame.
    pub(super) fn new(scope: Scope, layers: u8, part: &Part, walk: &Walk, packet: &Packet) -> Key {
        Key {
            src: part.src,
            dst: part.dst,
            id: part.id,
            protocol: part.src.is_ipv4().then_some(part.protocol),
            layers,
            outer: packet.meta.outer,
            sight: (scope == Scope::Sight).then(|| Sight::new(walk, packet)),
        }
    }
}

impl Sight {
    fn new(walk: &Walk, packet: &Packet) -> Sight {
        let mut vids = [0; VLANS_KEPT];
        for (vid, tag) in vids.iter_mut().zip(walk.vlans()) {
            *vid = tag.vid();
        }
        let addresses = match packet.meta.link_type {
            LinkType::ETHERNET => packet.data.first_chunk().copied(),
            _ => None,
        };
        Sight {
            interface: packet.meta.interface,
            direction: packet.meta.direction,
            vids,
            addresses: addresses.unwrap_or_default(),
        }
    }
}
