//! The last packets of a map, for outlets that begin with the oldest ones.

use crate::queue::Queue;
use api::{Overflow, QueueConfig, QueueSize};
use io::Packet;

/// Copies of the last packets, within a bound.
pub struct History(Queue);

impl History {
    /// Keeps packets in so many bytes of memory, their bookkeeping included.
    pub fn new(bytes: u64) -> History {
        let size = QueueSize::Bytes(bytes);
        History(Queue::new(QueueConfig { size, overflow: Overflow::DropOldest }))
    }

    /// Keeps a copy of a packet; the oldest ones make room for it.
    pub(crate) fn keep(&mut self, packet: &Packet) {
        self.0.push(packet);
    }

    /// The packets, the oldest first.
    pub(crate) fn packets(&self) -> impl Iterator<Item = &Packet> {
        self.0.iter()
    }
}
