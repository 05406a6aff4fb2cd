//! A packet: its bytes and what is known about it.

use crate::pool::{Data, Pool};
use std::net::{IpAddr, Ipv4Addr};
use wire::LinkType;
use wire::decap::{Found, Inner, Told};
use wire::flow::flow_hash;
use wire::segment::Gso;
use wire::tunnel::Tunnel;
use wire::walk::Walk;

/// Whether the tapped host received or sent a packet.
pub use capfile::Direction;

/// An interface of a source, by its place in [`crate::Interfaces`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u32);

/// The tunnel that a packet came out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outer {
    /// The kind of tunnel and its id.
    pub tunnel: Tunnel,
    /// The address that sent the outer packet.
    pub source: IpAddr,
}

impl Outer {
    /// The tunnel of a packet that was found.
    pub fn of(found: &Found) -> Outer {
        let source = found.source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Outer { tunnel: found.tunnel, source }
    }
}

impl std::fmt::Display for Outer {
    /// The name of a series: `<kind>-<id>-<outer source>`, `:` written `-`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let source = self.source.to_string().replace(':', "-");
        write!(f, "{}-{source}", self.tunnel)
    }
}

/// What is known about a packet beside its bytes.
#[derive(Debug, Clone)]
pub struct Meta {
    /// When the source saw it: nanoseconds since 1970-01-01 UTC.
    pub ts_ns: u64,
    /// Bytes it had on the wire. Set once, by the source.
    pub origlen: u32,
    /// What its first byte is.
    pub link_type: LinkType,
    /// Where it was captured.
    pub interface: InterfaceId,
    /// Which way it went.
    pub direction: Direction,
    /// The tunnel that it came out of.
    pub outer: Option<Outer>,
    /// A number that tells it from every other packet of its interface, if it came with one
    /// (`epb_packetid`).
    pub packet_id: Option<u64>,
    /// Set if it is a super-packet that could not be cut into the wire's packets.
    pub gso: Option<Gso>,
    /// Whether the capture filter in the kernel has kept it, so that none here needs to look.
    pub decided: bool,
    /// [`wire::flow::flow_hash`] of the frame, once a stage needed it.
    pub flow_hash: Option<u32>,
}

impl Meta {
    /// Takes over what a tunnel tells of the packet that came out of it.
    #[inline]
    pub(crate) fn tell(&mut self, inner: &Inner, packet: &[u8]) {
        let Told { ts_ns, direction, sequence, lane, .. } = inner.told;
        self.origlen = inner.origlen(packet);
        self.link_type = inner.link_type;
        self.direction = direction;
        self.ts_ns = ts_ns.unwrap_or(self.ts_ns);
        // Numbers begin anew with each epoch.
        let epoch = lane.map_or(0, |lane| u64::from(lane.epoch));
        self.packet_id = sequence.map(|sequence| epoch << 32 | u64::from(sequence));
    }
}

/// A packet. The bytes present are `caplen`; what the wire carried is `meta.origlen`.
#[derive(Debug)]
pub struct Packet {
    /// The bytes present.
    pub data: Data,
    /// What is known beside them.
    pub meta: Meta,
}

impl Packet {
    /// Bytes present. May exceed `origlen`, as some sources say so and are believed.
    pub fn caplen(&self) -> usize {
        self.data.len()
    }

    /// Computes [`wire::flow::flow_hash`] of the frame.
    pub fn compute_flow_hash(&self) -> u32 {
        flow_hash(&Walk::new(self.meta.link_type, &self.data), &self.data)
    }

    /// Moves the packet's ends inwards, to the packet that a tunnel holds, and takes over what is told of
    /// it. `inner` was found in this packet, `outer` is the tunnel. What the tunnel does not tell stays; with
    /// `keeps_direction` a direction that is known stays in any case. The interface stays, too.
    #[inline]
    pub fn open(&mut self, outer: Outer, inner: &Inner, keeps_direction: bool) {
        let Packet { data, meta } = self;
        data.truncate(inner.end as usize);
        data.trim_front(inner.at as usize);
        let (own, id) = (meta.direction, meta.packet_id);
        meta.tell(inner, data);
        meta.packet_id = meta.packet_id.or(id);
        let stands = keeps_direction && own != Direction::Unknown;
        if stands || meta.direction == Direction::Unknown {
            meta.direction = own;
        }
        meta.outer = Some(outer);
        (meta.gso, meta.flow_hash) = (None, None);
    }

    /// Copies the packet into memory of its own. Allocates: not for the steady state.
    pub fn copy(&self) -> Packet {
        Packet { data: Data::copy_of(&self.data), meta: self.meta.clone() }
    }

    /// Copies the packet into a pool, so that it holds no ring block. `None` at the pool's bound.
    pub fn copy_into(&self, pool: &mut Pool) -> Option<Packet> {
        Some(Packet { data: pool.copy(&self.data)?, meta: self.meta.clone() })
    }
}
