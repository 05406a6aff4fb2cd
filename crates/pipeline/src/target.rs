//! A target: a sink with a bounded queue before it.

use api::{DropReason, Drops, TargetStats};
use io::{Now, Packet, Pool, Selection, Sink, SinkCounters, Upstream};
use std::collections::VecDeque;

/// Packets that may wait for one target.
pub const QUEUE_PACKETS: usize = 8192;
/// Memory that they may take.
pub const QUEUE_BYTES: usize = 16 << 20;

const QUEUE_CHUNK_BYTES: usize = 1 << 20;

/// A sink, what waits for it, and its side of the ledger.
pub struct Target {
    endpoint: String,
    sink: Box<dyn Sink>,
    queue: VecDeque<Packet>,
    /// Memory of the queue: a waiting packet holds no ring block.
    pool: Pool,
    /// 0, 1, 2, …: selects the queue's packets in order.
    positions: Vec<u32>,
    /// Packets meant for this target.
    matched: u64,
    /// Packets dropped before the sink took them.
    drops: Drops,
}

impl Target {
    /// A target with an empty queue; `endpoint` is its name in the ledger.
    pub fn new(endpoint: String, sink: Box<dyn Sink>) -> Target {
        Target {
            endpoint,
            sink,
            queue: VecDeque::with_capacity(QUEUE_PACKETS),
            pool: Pool::new(QUEUE_BYTES / QUEUE_CHUNK_BYTES, QUEUE_CHUNK_BYTES),
            positions: (0..QUEUE_PACKETS as u32).collect(),
            matched: 0,
            drops: Drops::default(),
        }
    }

    /// Hands packets to the sink; what it cannot take now waits, and what does not fit the queue
    /// is dropped and counted.
    pub fn offer(&mut self, packets: Selection<'_>) {
        self.matched += packets.len() as u64;
        self.drain();
        let taken = if self.queue.is_empty() { self.sink.send(packets) } else { 0 };
        for packet in packets.skip(taken).iter() {
            self.enqueue(packet);
        }
    }

    fn enqueue(&mut self, packet: &Packet) {
        if self.sink.is_closed() {
            self.drops.add(DropReason::Stopped);
            return;
        }
        let room = self.queue.len() < QUEUE_PACKETS;
        match packet.copy_into(&mut self.pool).filter(|_| room) {
            Some(copy) => self.queue.push_back(copy),
            None => self.drops.add(DropReason::QueueFull),
        }
    }

    /// Offers the sink what waits; returns whether nothing is left.
    pub fn drain(&mut self) -> bool {
        if !self.queue.is_empty() {
            let waiting = self.queue.make_contiguous();
            let chosen = &self.positions[..waiting.len()];
            let taken = self.sink.send(Selection::new(waiting, chosen));
            self.queue.drain(..taken);
        }
        self.queue.is_empty()
    }

    /// Does what is due by the clock.
    pub fn tick(&mut self, now: Now) {
        self.drain();
        self.sink.tick(now);
    }

    /// Gives up what still waits, and completes the sink.
    ///
    /// # Errors
    /// As [`Sink::finish`].
    pub fn finish(&mut self, upstream: &Upstream) -> Result<(), io::Error> {
        self.drops.add_many(DropReason::Stopped, self.queue.len() as u64);
        self.queue.clear();
        self.sink.finish(upstream)
    }

    /// Whether its sink can take no more, ever.
    pub fn is_closed(&self) -> bool {
        self.sink.is_closed()
    }

    /// Its name in the ledger.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The sink.
    pub fn sink(&self) -> &dyn Sink {
        &*self.sink
    }

    /// The target's line of the ledger; `lost` packets that matched in the kernel, and were meant
    /// for it, never left the kernel's ring.
    pub(crate) fn stats(&self, lost: u64) -> TargetStats {
        let SinkCounters { sent, held, mut drops, cut, fragmented } = self.sink.counters();
        drops.merge(&self.drops);
        drops.add_many(DropReason::KernelRing, lost);
        let queued = held + self.queue.len() as u64;
        let endpoint = self.endpoint.clone();
        let stats = TargetStats::new(endpoint, self.matched + lost, sent, queued, drops);
        TargetStats { cut, fragmented, ..stats }
    }
}
