//! An inlet at work.

use super::{BACKLOG, DRAIN, Scratch, exchange, stages};
use crate::filter::CaptureFilter;
use crate::graph::{Inlet, Input, NewSteps};
use crate::own::OwnTunnels;
use crate::report::InputReport;
use crate::stage::{Step, Work};
use api::{DropReason, Drops};
use io::{Arrival, Batch, Now, Packet};
use std::time::Instant;

/// A source at work.
pub(super) struct Lane {
    pub input: Input,
    filter: CaptureFilter,
    pub steps: Vec<Step>,
    /// As [`Inlet::steps_back`].
    pub steps_back: usize,
    /// The paths that begin here, in order.
    pub paths: Vec<usize>,
    pub ended: bool,
    /// What the paths count of it.
    pub side: Side,
}

/// The part of a lane that its paths use.
pub(super) struct Side {
    pub own: OwnTunnels,
    /// Packets that the source delivered, and their bytes on the wire.
    pub delivered: u64,
    pub bytes: u64,
    /// Packets that the inlet's own filter rejected.
    filtered: u64,
    /// Packets that went on to the maps.
    pub carried: u64,
    /// Those that maps matched, a packet of two maps twice.
    pub matched: u64,
    /// Packets that it dropped before the maps.
    pub drops: Drops,
}

impl Lane {
    pub fn new(inlet: Inlet) -> Lane {
        let Inlet { input, filter, steps, steps_back, own } = inlet;
        let side = Side {
            own,
            delivered: 0,
            bytes: 0,
            filtered: 0,
            carried: 0,
            matched: 0,
            drops: Drops::default(),
        };
        Lane { input, filter, steps, steps_back, paths: Vec::new(), ended: false, side }
    }

    /// Chooses the packets of a batch that go on to the maps, by its filter and by steps.
    pub fn take(
        &mut self,
        packets: &mut [Packet],
        steps: &mut [Step],
        scratch: &mut Scratch,
        now: Now,
    ) {
        let Lane { filter, side, .. } = self;
        let Scratch { taken, pool, .. } = scratch;
        side.delivered += packets.len() as u64;
        taken.clear();
        let takes_all = filter.takes_all();
        for (position, packet) in packets.iter().enumerate() {
            if !takes_all && !packet.meta.decided && !filter.keeps(packet) {
                side.filtered += 1;
                continue;
            }
            side.bytes += u64::from(packet.meta.origlen);
            // Behind steps it may not be known any more: they strip tunnels and change addresses.
            if !steps.is_empty() && side.own.contains(packet) {
                side.drops.add(DropReason::OwnTunnel);
            } else {
                taken.push(position as u32);
            }
        }
        for step in steps {
            let drops = &mut side.drops;
            step.apply(&mut Work { packets, chosen: taken, pool, drops, now });
        }
        side.carried += taken.len() as u64;
    }

    /// Gives it other steps; what those did that go is the rest of a ledger.
    pub fn renew(&mut self, steps: NewSteps) -> InputReport {
        let gone = exchange(&mut self.steps, steps);
        let stages = stages(&gone, &self.of());
        InputReport { name: self.input.name.clone(), stages, ..InputReport::default() }
    }

    /// What its steps belong to.
    fn of(&self) -> String {
        format!("source {}", self.input.name)
    }

    /// Counts what still stands in the source's ring or socket when its time is over.
    pub fn give_up_rest(&mut self, batch: &mut Batch) {
        let Lane { input, side, ended, .. } = self;
        let deadline = Instant::now() + DRAIN;
        while input.source.is_live() && !*ended && Instant::now() < deadline {
            let arrival = input.source.receive(batch);
            let rest = batch.len() as u64;
            batch.clear();
            side.delivered += rest;
            side.drops.add_many(DropReason::Stopped, rest);
            match arrival {
                Ok(Arrival::Packets) => {}
                Ok(Arrival::Idle) => std::thread::sleep(BACKLOG),
                Ok(Arrival::End) | Err(_) => *ended = true,
            }
        }
        if !std::mem::replace(ended, true) {
            input.source.drops();
            side.drops.add_many(DropReason::Stopped, input.source.missing());
        }
    }

    /// Its ledger now. Reads the kernel's counters.
    pub fn report(&mut self) -> InputReport {
        let stages = stages(&self.steps, &self.of());
        let Lane { input, side, ended, .. } = self;
        InputReport {
            name: input.name.clone(),
            delivered: side.delivered,
            bytes: side.bytes,
            filtered: side.filtered,
            carried: side.carried,
            matched: side.matched,
            streams: input.source.streams(),
            drops: input.source.drops(),
            own_drops: side.drops,
            // While packets come, some stand in the ring, counted but not yet taken.
            missing: if *ended { input.source.missing() } else { 0 },
            screening: input.source.screening(),
            stages,
        }
    }
}
