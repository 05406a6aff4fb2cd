//! Stages: steps that change packets, or choose among them.
//!
//! A stage sees the chosen packets of a batch at once, in order. It may change them, as nobody else
//! sees them (where ways part, packets are copied), and takes those that it drops out of the
//! choice, each with a reason. What the packet was on the wire stays: only a stage that adds or
//! removes headers moves `origlen`, by the bytes that it moved.

mod anchor;
mod anonymize;
mod build;
mod dedup;
mod edit;
mod first;
mod mask;
mod rate_limit;
mod recent;
mod sample;
mod slice;
mod strip;
#[cfg(test)]
mod trial;
mod vlan;

pub use build::build;
pub use dedup::Dedup;
pub use first::{FLOWS_MAX, First};
pub use rate_limit::RateLimit;
pub use sample::Sample;

use api::{DropReason, Drops, StageStats};
use io::{Now, Packet, Pool};

/// A step on a packet's way.
pub trait Stage: Send {
    /// Does its work on the chosen packets.
    fn apply(&mut self, work: &mut Work<'_>);

    /// Whether it changes packets, or only chooses among them.
    fn changes(&self) -> bool;

    /// Packets that it found to be what it looks for, or changed.
    fn touched(&self) -> u64 {
        0
    }

    /// Packets or flows that it had to forget too early, as its memory is bounded.
    fn forgotten(&self) -> u64 {
        0
    }
}

/// What a stage works on.
pub struct Work<'a> {
    /// The packets of the batch.
    pub packets: &'a mut [Packet],
    /// Positions of those that are on this way, in order. A stage takes out what it drops.
    pub chosen: &'a mut Vec<u32>,
    /// Memory for packets that grow.
    pub pool: &'a mut Pool,
    /// Where a dropped packet is counted.
    pub drops: &'a mut Drops,
    /// The time of this turn.
    pub now: Now,
}

impl Work<'_> {
    /// Calls `keep` for each chosen packet, in order; drops those for which it gives a reason.
    #[inline]
    pub fn each(&mut self, mut keep: impl FnMut(&mut Packet, &mut Pool) -> Result<(), DropReason>) {
        let Work { packets, chosen, pool, drops, .. } = self;
        chosen.retain(|&position| match keep(&mut packets[position as usize], pool) {
            Ok(()) => true,
            Err(reason) => {
                drops.add(reason);
                false
            }
        });
    }
}

/// A stage at its place, and what it did there.
pub struct Step {
    name: String,
    stage: Box<dyn Stage>,
    received: u64,
    passed: u64,
    drops: Drops,
}

impl Step {
    /// A stage under the name that it has in the ledger.
    pub fn new(name: String, stage: Box<dyn Stage>) -> Step {
        Step { name, stage, received: 0, passed: 0, drops: Drops::default() }
    }

    /// Whether it changes packets.
    pub fn changes(&self) -> bool {
        self.stage.changes()
    }

    /// Does its work; what it drops is counted here and in `work`.
    pub fn apply(&mut self, work: &mut Work<'_>) {
        self.received += work.chosen.len() as u64;
        let mut drops = Drops::default();
        self.stage.apply(&mut Work {
            packets: work.packets,
            chosen: work.chosen,
            pool: work.pool,
            drops: &mut drops,
            now: work.now,
        });
        self.passed += work.chosen.len() as u64;
        self.drops.merge(&drops);
        work.drops.merge(&drops);
    }

    /// What it did; `of` is what it belongs to.
    pub fn stats(&self, of: &str) -> StageStats {
        StageStats {
            of: of.into(),
            name: self.name.clone(),
            received: self.received,
            passed: self.passed,
            drops: self.drops,
            touched: self.stage.touched(),
            forgotten: self.stage.forgotten(),
        }
    }
}
