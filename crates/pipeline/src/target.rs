//! A target: a sink with a bounded queue before it.

use crate::queue::Queue;
use api::{DropReason, Drops, Overflow, QUEUE_BYTES, QueueConfig, QueueSize, TargetStats};
use io::{Now, Selection, Sink, SinkCounters, Upstream};

/// The queue of a tap's targets: a recording has no holes before the overload.
const OF_TAPS: QueueConfig =
    QueueConfig { size: QueueSize::Bytes(QUEUE_BYTES), overflow: Overflow::DropNewest };

/// Packets of a queue that are offered to the sink at once.
const RUN: usize = 1024;

/// 0, 1, 2, …: selects the queue's packets in order.
const POSITIONS: [u32; RUN] = {
    let mut positions = [0; RUN];
    let mut place = 0;
    while place < RUN {
        positions[place] = place as u32;
        place += 1;
    }
    positions
};

/// A sink, what waits for it, and its side of the ledger.
pub struct Target {
    endpoint: String,
    sink: Box<dyn Sink>,
    queue: Queue,
    /// Packets meant for this target.
    matched: u64,
    /// Packets dropped before the sink took them.
    drops: Drops,
}

impl Target {
    /// A target with the queue that those of taps have; `endpoint` is its name in the ledger.
    pub fn new(endpoint: String, sink: Box<dyn Sink>) -> Target {
        Target::queued(endpoint, sink, OF_TAPS)
    }

    /// A target with a queue of one's choice.
    pub fn queued(endpoint: String, sink: Box<dyn Sink>, queue: QueueConfig) -> Target {
        let (queue, drops) = (Queue::new(queue), Drops::default());
        Target { endpoint, sink, queue, matched: 0, drops }
    }

    /// Hands packets to the sink; what it cannot take now waits, and what does not fit the queue
    /// is dropped and counted.
    pub fn offer(&mut self, packets: Selection<'_>) {
        self.matched += packets.len() as u64;
        let taken = if self.drain() { self.sink.send(packets) } else { 0 };
        let rest = packets.skip(taken);
        if self.sink.is_closed() {
            return self.drops.add_many(DropReason::Stopped, rest.len() as u64);
        }
        for packet in rest.iter() {
            self.drops.add_many(DropReason::QueueFull, self.queue.push(packet));
        }
    }

    /// Drops packets that were meant for this target before they come to its queue.
    pub fn refuse(&mut self, packets: u64, reason: DropReason) {
        self.matched += packets;
        self.drops.add_many(reason, packets);
    }

    /// Offers the sink what waits; returns whether nothing is left.
    pub fn drain(&mut self) -> bool {
        if !self.queue.is_empty() {
            let sink = &mut self.sink;
            let take =
                |waiting: &[_]| sink.send(Selection::new(waiting, &POSITIONS[..waiting.len()]));
            self.queue.drain(RUN, take);
        }
        self.queue.is_empty()
    }

    /// Does what is due by the clock.
    pub fn tick(&mut self, now: Now) {
        self.drain();
        self.sink.tick(now);
    }

    /// Tells the sink what came before it so far.
    pub fn hear(&mut self, upstream: &Upstream) {
        self.sink.hear(upstream);
    }

    /// Gives up what still waits, and completes the sink.
    ///
    /// # Errors
    /// As [`Sink::finish`].
    pub fn finish(&mut self, upstream: &Upstream) -> Result<(), io::Error> {
        self.drops.add_many(DropReason::Stopped, self.queue.clear());
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
        let SinkCounters { sent, sent_bytes, held, mut drops, cut, fragmented } =
            self.sink.counters();
        drops.merge(&self.drops);
        drops.add_many(DropReason::KernelRing, lost);
        let queued = held + self.queue.waiting();
        let endpoint = self.endpoint.clone();
        let (queue_bytes, queue_bytes_max) = self.queue.fill();
        let stats = TargetStats::new(endpoint, self.matched + lost, sent, queued, drops);
        TargetStats { sent_bytes, cut, fragmented, queue_bytes, queue_bytes_max, ..stats }
    }
}
