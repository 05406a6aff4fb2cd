//! A target: a sink with a bounded queue before it, and groups of them that share the load.

use crate::group::{GroupTable, Member};
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

    /// The sink.
    pub fn sink(&self) -> &dyn Sink {
        &*self.sink
    }

    /// The target's line of the ledger; `lost` packets that matched in the kernel, and were meant
    /// for it, never left the kernel's ring.
    fn stats(&self, lost: u64) -> TargetStats {
        let SinkCounters { sent, held, mut drops, cut, fragmented } = self.sink.counters();
        drops.merge(&self.drops);
        drops.add_many(DropReason::KernelRing, lost);
        let queued = held + self.queue.len() as u64;
        let endpoint = self.endpoint.clone();
        let stats = TargetStats::new(endpoint, self.matched + lost, sent, queued, drops);
        TargetStats { cut, fragmented, ..stats }
    }
}

/// Targets of which each packet goes to one; a single target is a group of one.
pub struct TargetGroup {
    targets: Vec<Target>,
    table: GroupTable,
    /// Positions of the batch's packets, by target.
    chosen: Vec<Vec<u32>>,
}

impl TargetGroup {
    /// A group; `weights` are the targets' shares of the load, in their order.
    ///
    /// # Panics
    /// Without a target, or if there is not one weight for each.
    pub fn new(targets: Vec<Target>, weights: &[u16]) -> TargetGroup {
        assert_eq!(targets.len(), weights.len(), "each target has a weight");
        let members: Vec<Member> = targets
            .iter()
            .zip(weights)
            .map(|(target, &weight)| Member { key: target.endpoint.clone(), weight })
            .collect();
        let chosen = vec![Vec::with_capacity(4 * io::BATCH_PACKETS); targets.len()];
        TargetGroup { table: GroupTable::new(&members), targets, chosen }
    }

    /// Whether packets need their flow hash to be steered.
    pub(crate) fn balances(&self) -> bool {
        self.targets.len() > 1
    }

    /// Gives each packet to the target of its flow.
    pub(crate) fn steer(&mut self, packets: &[Packet], matched: &[u32]) {
        if let [only] = &mut self.targets[..] {
            return only.offer(Selection::new(packets, matched));
        }
        self.chosen.iter_mut().for_each(Vec::clear);
        for &position in matched {
            let packet = &packets[position as usize];
            let hash = packet.meta.flow_hash.unwrap_or_else(|| packet.compute_flow_hash());
            self.chosen[self.table.member(hash)].push(position);
        }
        for (target, chosen) in self.targets.iter_mut().zip(&self.chosen) {
            target.offer(Selection::new(packets, chosen));
        }
    }

    /// The lines of the ledger of the group's targets. Of `lost` packets nobody knows the flow:
    /// each target bears them by its share of the table, and the sum is exact.
    pub(crate) fn stats(&self, lost: u64) -> impl Iterator<Item = TargetStats> {
        let borne = self.table.share_out(lost, self.targets.len());
        self.targets.iter().zip(borne).map(|(target, lost)| target.stats(lost))
    }

    /// The group's targets.
    pub(crate) fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The group's targets.
    pub(crate) fn targets_mut(&mut self) -> &mut [Target] {
        &mut self.targets
    }
}
