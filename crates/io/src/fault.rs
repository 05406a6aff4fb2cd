//! A fault injector: a source or a sink that misbehaves as told, by a seeded generator, so that a
//! test can ask whether the ledger still balances.

use crate::batch::{Batch, Selection};
use crate::clock::Now;
use crate::device::{Arrival, Sink, SinkCounters, Source, Upstream};
use crate::error::Error;
use crate::packet::Outer;
use api::{DropReason, Drops, SourceStats};
use std::os::fd::BorrowedFd;
use wire::sequence::Counts;

/// How often what goes wrong: chances in 1000.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A packet is taken and counted as `injected`.
    pub drop: u16,
    /// A packet loses its tail, at a random place.
    pub truncate: u16,
    /// One bit of a packet is flipped.
    pub corrupt: u16,
    /// The device is not ready: a source is idle, a sink takes a part of what it is offered.
    pub stall: u16,
    /// Start of the generator: the same seed gives the same faults.
    pub seed: u64,
}

/// A source or a sink, with faults.
pub struct Faulty<T> {
    inner: T,
    faults: Faults,
    state: u64,
    drops: Drops,
}

impl<T> Faulty<T> {
    /// Adds faults to a source or a sink.
    pub fn new(inner: T, faults: Faults) -> Faulty<T> {
        Faulty { inner, faults, state: faults.seed, drops: Drops::default() }
    }

    /// SplitMix64 (Steele, Lea, Flood, 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn happens(&mut self, chance: u16) -> bool {
        chance > 0 && self.random() % 1000 < u64::from(chance)
    }
}

impl<T: Source> Source for Faulty<T> {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        if self.happens(self.faults.stall) {
            return Ok(Arrival::Idle);
        }
        let mut fresh = Batch::new();
        let arrival = self.inner.receive(&mut fresh)?;
        for mut packet in fresh.drain() {
            if self.happens(self.faults.drop) {
                self.drops.add(DropReason::Injected);
                continue;
            }
            if self.happens(self.faults.truncate) {
                let keep = self.random() as usize % (packet.data.len() + 1);
                packet.data.truncate(keep);
            }
            if self.happens(self.faults.corrupt) && !packet.data.is_empty() {
                let bit = self.random() as usize % (packet.data.len() * 8);
                packet.data[bit / 8] ^= 1 << (bit % 8);
            }
            batch.push(packet);
        }
        Ok(arrival)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.inner.readiness()
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.inner.stop()
    }

    fn drops(&mut self) -> Drops {
        let mut drops = self.inner.drops();
        drops.merge(&self.drops);
        drops
    }

    fn missing(&self) -> u64 {
        self.inner.missing()
    }

    fn streams(&self) -> Vec<(Outer, Counts)> {
        self.inner.streams()
    }

    fn is_live(&self) -> bool {
        self.inner.is_live()
    }
}

impl<T: Sink> Sink for Faulty<T> {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        if packets.is_empty() {
            return 0;
        }
        if self.happens(self.faults.stall) {
            let some = self.random() as usize % packets.len();
            return self.inner.send(packets.first(some));
        }
        let mut taken = 0;
        while taken < packets.len() {
            if self.happens(self.faults.drop) {
                self.drops.add(DropReason::Injected);
                taken += 1;
            } else if self.inner.send(packets.skip(taken).first(1)) == 1 {
                taken += 1;
            } else {
                break;
            }
        }
        taken
    }

    fn counters(&self) -> SinkCounters {
        let mut counters = self.inner.counters();
        counters.drops.merge(&self.drops);
        counters
    }

    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    fn tick(&mut self, now: Now) {
        self.inner.tick(now);
    }

    fn finish(&mut self, upstream: &Upstream) -> Result<(), Error> {
        self.inner.finish(upstream)
    }

    fn sources(&self) -> Vec<SourceStats> {
        self.inner.sources()
    }
}
