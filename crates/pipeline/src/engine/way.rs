//! A map at work.

use super::lane::Side;
use super::outlet::Open;
use super::{Scratch, beyond, exchange, stages};
use crate::graph::{Map, Renewal, Way};
use crate::limit::Limit;
use crate::report::MapReport;
use crate::stage::{Step, Work};
use api::{DropReason, Drops};
use io::{Batch, Now, Packet, Pool};

/// A map at its place, and what it counts.
pub(super) struct Path {
    pub map: Map,
    pub from: Vec<usize>,
    pub to: Vec<usize>,
    seen: u64,
    filtered: u64,
    matched: u64,
    bytes: u64,
    drops: Drops,
}

/// A batch on its way from a lane through a path.
pub(super) struct Passage<'a> {
    pub lane: &'a mut Side,
    pub is_live: bool,
    /// Whether nobody else sees the batch afterwards.
    pub is_last: bool,
    pub now: Now,
}

impl Path {
    pub fn new(way: Way) -> Path {
        let Way { map, from, to } = way;
        let (seen, filtered, matched, bytes, drops) = (0, 0, 0, 0, Drops::default());
        Path { map, from, to, seen, filtered, matched, bytes, drops }
    }

    /// The same, with all that it has counted, between other inlets and outlets.
    pub fn between(self, from: Vec<usize>, to: Vec<usize>) -> Path {
        Path { from, to, ..self }
    }

    /// Gives it another filter and other steps; what the steps did that go is the rest of a ledger.
    pub fn renew(&mut self, renewal: Renewal) -> MapReport {
        let Renewal { filter, steps } = renewal;
        if let Some(filter) = filter {
            self.map.filter = filter;
        }
        let gone = exchange(&mut self.map.steps, steps);
        let stages = stages(&gone, &self.of());
        MapReport { name: self.map.name.clone(), stages, ..MapReport::default() }
    }

    /// What its steps belong to.
    fn of(&self) -> String {
        format!("map {}", self.map.name)
    }

    /// Whether as many packets have matched as were asked for.
    pub fn is_full(&self) -> bool {
        self.map.limit.as_ref().is_some_and(Limit::is_reached)
    }

    /// Filter, steps, and on to each outlet. `scratch.taken` are the packets that the lane gives.
    pub fn carry(
        &mut self,
        passage: Passage<'_>,
        packets: &mut [Packet],
        outlets: &mut [Open],
        scratch: &mut Scratch,
    ) {
        let Passage { lane, is_live, mut is_last, now } = passage;
        let Scratch { taken, matched, copies, pool, wanted, changed } = scratch;
        self.seen += taken.len() as u64;
        matched.clear();
        let rest = self.choose(lane, packets, taken, matched, now.monotonic_ns);
        if rest > 0 {
            beyond(&mut lane.drops, &mut lane.delivered, is_live, rest);
            lane.carried -= rest;
            self.seen -= rest;
        }
        let changes = self.map.snaplen.is_some() || self.map.steps.iter().any(Step::changes);
        let mut packets = packets;
        if changes && !is_last {
            copy(packets, matched, copies, pool, &mut self.drops);
            (packets, is_last) = (copies.packets_mut(), true);
        }
        if let Some(snaplen) = self.map.snaplen {
            let needs_hash = self.to.iter().any(|&outlet| outlets[outlet].needs_flow_hash());
            for &position in matched.iter() {
                let packet = &mut packets[position as usize];
                if needs_hash && packet.meta.flow_hash.is_none() {
                    // Before the cut, which may take the ports off.
                    packet.meta.flow_hash = Some(packet.compute_flow_hash());
                }
                packet.data.truncate(snaplen);
            }
        }
        for step in &mut self.map.steps {
            let drops = &mut self.drops;
            step.apply(&mut Work { packets, chosen: matched, pool, drops, now });
        }
        self.matched += matched.len() as u64;
        lane.matched += matched.len() as u64;
        for &position in matched.iter() {
            self.bytes += u64::from(packets[position as usize].meta.origlen);
        }
        if let Some(history) = &mut self.map.history {
            matched.iter().for_each(|&position| history.keep(&packets[position as usize]));
        }
        let last = self.to.len().wrapping_sub(1);
        for (nth, &outlet) in self.to.iter().enumerate() {
            let is_last = is_last && nth == last;
            let work = Work { packets, chosen: wanted, pool, drops: &mut Drops::default(), now };
            outlets[outlet].give(work, matched, is_last, changed);
        }
        copies.clear();
    }

    /// Chooses the packets that match; returns how many came beyond the limit.
    fn choose(
        &mut self,
        lane: &mut Side,
        packets: &[Packet],
        taken: &[u32],
        matched: &mut Vec<u32>,
        now_ns: u64,
    ) -> u64 {
        let Path { map, filtered, drops, .. } = self;
        let mut rest = 0;
        let takes_all = map.filter.takes_all();
        for &position in taken {
            let packet = &packets[position as usize];
            let is_decided = takes_all || (map.is_filtered_in_kernel && packet.meta.decided);
            if map.limit.as_ref().is_some_and(Limit::is_reached) {
                rest += 1;
            } else if !is_decided && !map.filter.keeps(packet) {
                *filtered += 1;
            } else if lane.own.contains(packet) {
                drops.add(DropReason::OwnTunnel);
            } else if !map.ceiling.as_ref().is_none_or(|c| c.take(packet.meta.origlen, now_ns)) {
                drops.add(DropReason::RateLimited);
            } else if !map.limit.as_ref().is_none_or(Limit::take) {
                // Another worker took the last one meanwhile.
                rest += 1;
            } else {
                matched.push(position);
            }
        }
        rest
    }

    /// Gives an outlet the packets that are kept for it.
    pub fn replay(&self, outlet: &mut Open, scratch: &mut Scratch) {
        let Some(history) = &self.map.history else { return };
        let Scratch { pool, matched, copies, wanted, changed, .. } = scratch;
        let now = Now::read();
        let mut kept = history.packets();
        loop {
            matched.clear();
            while copies.room() > 0
                && let Some(packet) = kept.next()
            {
                match packet.copy_into(pool) {
                    Some(packet) => copies.push(packet),
                    None => outlet.refuse(1, DropReason::PoolExhausted),
                }
            }
            if copies.is_empty() {
                return;
            }
            matched.extend(0..copies.len() as u32);
            let drops = &mut Drops::default();
            let work = Work { packets: copies.packets_mut(), chosen: wanted, pool, drops, now };
            outlet.give(work, matched, true, changed);
            copies.clear();
            pool.rewind();
        }
    }

    /// Its ledger now; `lost` packets that it would have matched never left the kernel's ring.
    pub fn report(&self, lost: u64) -> MapReport {
        MapReport {
            name: self.map.name.clone(),
            seen: self.seen,
            filtered: self.filtered,
            matched: self.matched + lost,
            bytes: self.bytes,
            drops: self.drops,
            rule_hits: self.map.filter.rule_hits().to_vec(),
            stages: stages(&self.map.steps, &self.of()),
        }
    }
}

/// Copies the chosen packets into a batch of their own, so that they may be changed; the choice is all
/// of that batch then.
pub(super) fn copy(
    packets: &[Packet],
    chosen: &mut Vec<u32>,
    copies: &mut Batch,
    pool: &mut Pool,
    drops: &mut Drops,
) {
    copies.clear();
    for &position in chosen.iter() {
        match packets[position as usize].copy_into(pool) {
            Some(packet) => copies.push(packet),
            None => drops.add(DropReason::PoolExhausted),
        }
    }
    chosen.clear();
    chosen.extend(0..copies.len() as u32);
}
