//! The bounded queue before a sink.

use api::{Overflow, QueueConfig, QueueSize};
use io::{HEADROOM, Packet, Pool};
use std::collections::{TryReserveError, VecDeque};

/// Memory that a waiting packet takes beside its bytes.
const BOOKKEEPING: u64 = (HEADROOM + size_of::<Packet>()) as u64;
/// The pool's chunks: between these, an eighth of the queue.
const CHUNK_BYTES_MIN: u64 = 128 << 10;
const CHUNK_BYTES_MAX: u64 = 1 << 20;
/// Of a queue that is bounded in packets: memory for each of them, so that its pool has a bound too.
const PACKET_BYTES: u64 = 2048;

/// Copies of packets that wait, in order.
///
/// Its memory comes untouched from the kernel, whatever its size, and is used from the beginning
/// again when nothing waits: a queue of 1 GB costs what has waited in it.
pub struct Queue {
    packets: VecDeque<Packet>,
    pool: Pool,
    bytes: u64,
    bytes_max: u64,
    packets_max: usize,
    overflow: Overflow,
}

/// Makes sure that this host gives the memory of a queue: `Queue::new` ends the process where it does
/// not.
///
/// # Errors
/// If it does not.
pub fn check_queue_memory(size: QueueSize) -> Result<(), TryReserveError> {
    let (bytes_max, packets_max) = bounds(size);
    Vec::<Packet>::new().try_reserve_exact(packets_max)?;
    Vec::<u8>::new().try_reserve_exact(usize::try_from(bytes_max).unwrap_or(usize::MAX))
}

/// The bytes and the packets that a queue may hold.
fn bounds(size: QueueSize) -> (u64, usize) {
    let (bytes_max, packets_max) = match size {
        QueueSize::Bytes(bytes) => (bytes.max(1), bytes / BOOKKEEPING + 1),
        QueueSize::Packets(packets) => {
            (packets.saturating_mul(PACKET_BYTES + BOOKKEEPING), packets)
        }
    };
    (bytes_max, usize::try_from(packets_max.max(1)).unwrap_or(usize::MAX))
}

impl Queue {
    /// An empty queue.
    pub fn new(config: QueueConfig) -> Queue {
        let (bytes_max, packets_max) = bounds(config.size);
        let chunk = (bytes_max / 8).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        // One chunk is being filled while the first one still holds a packet.
        let chunks = bytes_max.div_ceil(chunk) + 1;
        Queue {
            packets: VecDeque::with_capacity(packets_max),
            pool: Pool::new(chunks as usize, chunk as usize),
            bytes: 0,
            bytes_max,
            packets_max,
            overflow: config.overflow,
        }
    }

    /// Copies a packet to the end; returns how many packets were dropped for it: it alone, or the
    /// oldest ones. A packet alone may be larger than the bound, if it fits a chunk.
    pub fn push(&mut self, packet: &Packet) -> u64 {
        let cost = packet.caplen() as u64 + BOOKKEEPING;
        if packet.caplen() > self.pool.packet_bytes_max() {
            return 1;
        }
        let mut dropped = 0;
        loop {
            let has_room = self.packets.is_empty()
                || (self.bytes + cost <= self.bytes_max && self.packets.len() < self.packets_max);
            if has_room && let Some(copy) = packet.copy_into(&mut self.pool) {
                self.bytes += cost;
                self.packets.push_back(copy);
                return dropped;
            }
            if self.overflow == Overflow::DropNewest || self.pop() == 0 {
                return dropped + 1;
            }
            dropped += 1;
        }
    }

    /// Removes the first packet; returns how many that were.
    fn pop(&mut self) -> usize {
        let Some(packet) = self.packets.pop_front() else {
            return 0;
        };
        self.bytes -= packet.caplen() as u64 + BOOKKEEPING;
        1
    }

    /// Hands packets from the front to `take` in runs of up to `run`, until one is not taken whole.
    pub fn drain(&mut self, run: usize, mut take: impl FnMut(&[Packet]) -> usize) {
        while !self.packets.is_empty() {
            let (front, _) = self.packets.as_slices();
            let offered = front.len().min(run);
            let taken = take(&front[..offered]);
            (0..taken).for_each(|_| {
                self.pop();
            });
            if taken < offered {
                return;
            }
        }
        // From the beginning of its memory again.
        self.packets.clear();
        self.pool.rewind();
    }

    /// What waits, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Packet> {
        self.packets.iter()
    }

    /// Gives up what waits; returns how many that were.
    pub fn clear(&mut self) -> u64 {
        let waiting = self.packets.len() as u64;
        self.packets.clear();
        self.bytes = 0;
        waiting
    }

    /// Packets that wait.
    pub fn waiting(&self) -> u64 {
        self.packets.len() as u64
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Memory that the waiting packets take, and its bound.
    pub fn fill(&self) -> (u64, u64) {
        (self.bytes, self.bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_no_host_has_is_refused_and_does_not_end_the_process() {
        for size in [QueueSize::Bytes(u64::MAX), QueueSize::Packets(u64::MAX)] {
            assert!(check_queue_memory(size).is_err(), "{size:?}");
        }
        for size in [QueueSize::Bytes(1), QueueSize::Packets(1), QueueSize::Bytes(1 << 20)] {
            check_queue_memory(size).unwrap();
        }
    }
}
