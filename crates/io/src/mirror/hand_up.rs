//! What the kernel hands up: packets that it cannot put into a tunnel itself, for the sinks of user
//! space.

use super::hold::Hold;
use super::private::Pair;
use crate::batch::Batch;
use crate::device::{Arrival, Screening, Source};
use crate::error::Error;
use crate::packet::{InterfaceId, Packet};
use crate::ring::RingSource;
use api::Drops;
use kernel::handup::{PREFIX_LEN, Prefix};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// The packets that are handed up for one target. Each was filtered, counts as one that the tap has
/// matched, and is whole: what the target keeps of it is still to be cut.
pub struct HandUp {
    ring: RingSource,
    /// Where the packets were captured.
    interface: InterfaceId,
    /// Keeps the frames from the private namespace's own stack.
    _stop: Hold,
    /// The interfaces that they come by, shared with the target.
    _pair: Arc<Pair>,
}

impl HandUp {
    pub(super) fn new(
        ring: RingSource,
        interface: InterfaceId,
        stop: Hold,
        pair: Arc<Pair>,
    ) -> HandUp {
        HandUp { ring, interface, _stop: stop, _pair: pair }
    }
}

/// Takes over what the program tells of a packet. One without a prefix is a packet that had no room
/// for it.
fn read_prefix(packet: &mut Packet, interface: InterfaceId) {
    packet.meta.interface = interface;
    packet.meta.direction = wire::Direction::Unknown;
    let Some(prefix) = Prefix::parse(&packet.data) else {
        return;
    };
    packet.data.trim_front(PREFIX_LEN);
    let meta = &mut packet.meta;
    (meta.ts_ns, meta.origlen) = (prefix.ts_ns, prefix.origlen);
    meta.direction = prefix.direction;
    // A program that does not know it says 0.
    meta.flow_hash = (prefix.flow_hash != 0).then_some(prefix.flow_hash);
}

impl Source for HandUp {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        let before = batch.len();
        let arrival = self.ring.receive(batch)?;
        for packet in &mut batch.packets_mut()[before..] {
            read_prefix(packet, self.interface);
        }
        Ok(arrival)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.ring.readiness()
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.ring.stop()
    }

    fn drops(&mut self) -> Drops {
        self.ring.drops()
    }

    fn missing(&self) -> u64 {
        self.ring.missing()
    }

    fn screening(&mut self) -> Screening {
        self.ring.screening()
    }

    fn is_live(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Meta;
    use crate::pool::Pool;
    use wire::{Direction, LinkType};

    fn packet(bytes: &[u8]) -> Packet {
        let meta = Meta {
            ts_ns: 1,
            origlen: bytes.len() as u32,
            link_type: LinkType::ETHERNET,
            interface: InterfaceId(9),
            direction: Direction::In,
            outer: None,
            packet_id: None,
            gso: None,
            decided: false,
            flow_hash: None,
        };
        Packet { data: Pool::new(1, 4096).copy(bytes).unwrap(), meta }
    }

    #[test]
    fn a_prefix_becomes_what_is_known_of_the_packet() {
        let prefix = Prefix {
            slot: 3,
            direction: Direction::Out,
            origlen: 9014,
            number: 0,
            ts_ns: 77,
            flow_hash: 0xdead_beef,
        };
        let mut handed = packet(&[&prefix.emit()[..], &[0x5a; 60]].concat());
        read_prefix(&mut handed, InterfaceId(2));
        assert_eq!(handed.data[..], [0x5a; 60]);
        let meta = &handed.meta;
        assert_eq!((meta.ts_ns, meta.origlen, meta.interface), (77, 9014, InterfaceId(2)));
        assert_eq!((meta.direction, meta.flow_hash), (Direction::Out, Some(0xdead_beef)));

        let mut bare = packet(&[0x5a; 60]);
        read_prefix(&mut bare, InterfaceId(2));
        assert_eq!((bare.data.len(), bare.meta.origlen), (60, 60));
        assert_eq!((bare.meta.direction, bare.meta.flow_hash), (Direction::Unknown, None));
    }
}
