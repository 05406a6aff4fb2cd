//! What the kernel hands up: packets that it cannot put into a tunnel itself, for the sinks of user
//! space.
//!
//! They come by a ring of records, one for each target: a program copies a packet there while it runs, so
//! that neither an interface nor a queue of the host is between, and counts at its endpoint what the
//! ring has no room for. How long the reader may stay away depends on the ring's bytes alone.

use crate::batch::Batch;
use crate::bpf::RecordRing;
use crate::device::{Arrival, Source};
use crate::error::Error;
use crate::packet::{InterfaceId, Meta, Packet};
use crate::pool::{Data, Pool};
use api::RingSize;
use kernel::handup::{PREFIX_LEN, Prefix};
use kernel::mirror::layout::RECORD_BYTES;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};
use wire::LinkType;

/// Bytes of a ring for which nobody has said how many.
const RING_BYTES: usize = 16 << 20;
/// At least one record of any length fits.
const RING_BYTES_MIN: usize = RECORD_BYTES[RECORD_BYTES.len() - 1].next_power_of_two();

/// Memory for the packets of a batch; more is allocated, which only very long ones need.
const CHUNKS: usize = 2;
const CHUNK_BYTES: usize = 1 << 20;

/// How long it is worth to wait for more, so that not every packet wakes the reader. The smallest ring
/// bridges four times as much at 1 Gb/s.
const GATHER: Duration = Duration::from_micros(500);
/// How long after the stop a record that another core was writing then is surely there.
const SETTLE: Duration = Duration::from_millis(10);

/// The packets that are handed up for one target. Each was filtered, counts as one that the tap has
/// matched, and is whole: what the target keeps of it is still to be cut.
pub struct HandUp {
    ring: RecordRing,
    pool: Pool,
    /// Where the packets were captured.
    interface: InterfaceId,
    /// Since when nothing more is expected.
    stopped: Option<Instant>,
}

/// Makes the ring; one of automatic size is halved until the kernel has the memory.
pub(super) fn ring(size: RingSize) -> Result<RecordRing, Error> {
    let mut bytes = match size {
        RingSize::Auto => RING_BYTES,
        RingSize::Bytes(bytes) => bytes.max(RING_BYTES_MIN),
    };
    loop {
        match RecordRing::new(bytes) {
            Err(Error::System { source, .. })
                if size == RingSize::Auto
                    && bytes > RING_BYTES_MIN
                    && source.raw_os_error() == Some(libc::ENOMEM) =>
            {
                tracing::warn!("no memory for a ring of {} KiB; trying half of it", bytes >> 10);
                bytes /= 2;
            }
            result => return result,
        }
    }
}

impl HandUp {
    pub(super) fn new(ring: RecordRing, interface: InterfaceId) -> HandUp {
        HandUp { ring, pool: Pool::new(CHUNKS, CHUNK_BYTES), interface, stopped: None }
    }

    /// Bytes of the ring.
    pub fn ring_bytes(&self) -> usize {
        self.ring.bytes()
    }
}

/// What a record says of a packet, and the packet.
fn read(record: &[u8], interface: InterfaceId) -> Option<(Meta, &[u8])> {
    let prefix = Prefix::parse(record)?;
    let frame = record.get(PREFIX_LEN..)?.get(..prefix.number as usize)?;
    let meta = Meta {
        ts_ns: prefix.ts_ns,
        origlen: prefix.origlen,
        link_type: LinkType::ETHERNET,
        interface,
        direction: prefix.direction,
        outer: None,
        packet_id: None,
        gso: None,
        decided: false,
        // A program that does not know it says 0.
        flow_hash: (prefix.flow_hash != 0).then_some(prefix.flow_hash),
    };
    Some((meta, frame))
}

impl Source for HandUp {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        let HandUp { ring, pool, interface, .. } = self;
        let before = batch.len();
        while batch.room() > 0 {
            let Some(record) = ring.receive() else { break };
            let (meta, frame) = read(record, *interface).expect("programs write prefix and frame");
            let data = pool.copy(frame).unwrap_or_else(|| Data::copy_of(frame));
            batch.push(Packet { data, meta });
        }
        if batch.len() > before || batch.room() == 0 {
            return Ok(Arrival::Packets);
        }
        match self.stopped.is_some_and(|since| since.elapsed() >= SETTLE) {
            true => Ok(Arrival::End),
            false => Ok(Arrival::Idle),
        }
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ring.as_fd())
    }

    fn gather(&self) -> Duration {
        GATHER
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.stopped.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn is_live(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Direction;

    #[test]
    fn a_prefix_becomes_what_is_known_of_the_packet() {
        let prefix = Prefix {
            slot: 3,
            direction: Direction::Out,
            origlen: 9014,
            number: 60,
            ts_ns: 77,
            flow_hash: 0xdead_beef,
        };
        let record = |prefix: Prefix| [&prefix.emit()[..], &[0x5a; 60], &[0; 100]].concat();
        let bytes = record(prefix);
        let (meta, frame) = read(&bytes, InterfaceId(2)).expect("a packet");
        assert_eq!(frame, [0x5a; 60]);
        assert_eq!((meta.ts_ns, meta.origlen, meta.interface), (77, 9014, InterfaceId(2)));
        assert_eq!((meta.direction, meta.flow_hash), (Direction::Out, Some(0xdead_beef)));

        let bytes = record(Prefix { flow_hash: 0, number: 160, ..prefix });
        assert_eq!(read(&bytes, InterfaceId(2)).expect("a packet").0.flow_hash, None);
        let bytes = record(Prefix { number: 161, ..prefix });
        assert!(read(&bytes, InterfaceId(2)).is_none(), "longer than the record");
        assert!(read(&[0x5a; 300], InterfaceId(2)).is_none());
    }

    #[test]
    fn a_ring_holds_any_record() {
        assert!(RECORD_BYTES.iter().all(|bytes| bytes + 8 <= RING_BYTES_MIN));
    }
}
