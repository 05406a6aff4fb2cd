//! Taps: their filters, their ceilings, and what they count.

use super::counters::TapCounters;
use super::tables::{BUCKETS, Places, Tables};
use super::targets::TargetId;
use crate::bpf::{Map, MapKind};
use crate::clock::Now;
use crate::error::Error;
use filter::ebpf::{COUNTERS_PER_ELEMENT, CounterLayout, Decides, Scope, Verdicts};
use filter::{Program, Rules};
use kernel::mirror::layout::{Bucket, Leaving, MirrorMap, rule_place};
use std::collections::BTreeMap;
use std::sync::Arc;
use wire::LinkType;

/// For how long the counters of an earlier filter are looked at: clones that it kept may be under way.
const PAST_NS: u64 = 2_000_000_000;

/// A tap of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TapId(u32);

/// How much a tap may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceiling {
    /// Bits per second of what leaves.
    pub bits_per_second: u64,
    /// How far ahead of that it may be for a moment, ns at this rate.
    pub burst_ns: u64,
    /// What of a packet leaves.
    pub leaving: Leaving,
}

/// A tap of an interface.
#[derive(Debug, Clone)]
pub struct Tap {
    /// Where it is counted.
    pub id: TapId,
    /// The filter for received packets; a constant 0 where they are not wanted.
    pub received: Program,
    /// The filter for sent packets.
    pub sent: Program,
    /// The rules that both were made of; `None`: an expression.
    pub rules: Option<Arc<Rules>>,
    /// Where its packets go. A target is of one tap alone.
    pub targets: Vec<TargetId>,
    /// Whether tunnels of the process, and those that look like ours, are left out.
    pub skips_own_tunnels: bool,
}

impl Tap {
    pub(super) fn verdicts(&self) -> Verdicts<'_> {
        self.rules.as_deref().map_or(Verdicts::Expression, Verdicts::Rules)
    }

    /// Whether it judges alike, and sends to the same targets.
    pub(super) fn judges_as(&self, other: &Tap) -> bool {
        let instructions =
            |tap: &Tap| [&tap.received, &tap.sent].map(|program| program.instructions().to_vec());
        self.id == other.id
            && self.targets == other.targets
            && self.rules == other.rules
            && instructions(self) == instructions(other)
    }

    /// What its filters judge before packets are cut and completed; `None`: nothing.
    pub(super) fn scope(&self) -> Option<Scope> {
        match self.verdicts().decides(&self.received, &self.sent, LinkType::ETHERNET) {
            Decides::Everything => Some(Scope::Everything),
            Decides::WholeFrames => Some(Scope::WholeFrames),
            Decides::Nothing(_) => None,
        }
    }

    /// Whether some of its packets are judged behind the private interface. Where there are super-packets
    /// longer than an IP packet can say, those are, unless the filters read nothing.
    pub(super) fn has_late(&self, has_jumbo: bool) -> bool {
        let reads = |program: &Program| program.instructions().len() > 1;
        let reads = reads(&self.received) || reads(&self.sent);
        reads && (has_jumbo || self.scope() != Some(Scope::Everything))
    }
}

/// The taps of a mirror.
#[derive(Debug)]
pub(super) struct Taps {
    taps: BTreeMap<TapId, Counted>,
    next: u32,
    buckets: Places,
}

#[derive(Debug)]
struct Counted {
    map: Map,
    renewals: u32,
    rules: usize,
    bucket: Option<u32>,
    /// What earlier filters counted, and those that may still count.
    past: TapCounters,
    past_maps: Vec<(Map, Option<u64>)>,
}

impl Default for Taps {
    fn default() -> Taps {
        Taps { taps: BTreeMap::new(), next: 0, buckets: Places::new("ceilings", 0, BUCKETS) }
    }
}

impl Taps {
    pub fn add(
        &mut self,
        rules: usize,
        ceiling: Option<Ceiling>,
        tables: &Tables,
        now: Now,
    ) -> Result<TapId, Error> {
        let id = TapId(self.next);
        let (map, bucket) = (map_for(rules)?, None);
        let (past, past_maps) = (TapCounters::default(), Vec::new());
        self.taps.insert(id, Counted { map, renewals: 0, rules, bucket, past, past_maps });
        self.next += 1;
        if let Err(error) = self.set_ceiling(id, ceiling, tables, now) {
            self.taps.remove(&id);
            return Err(error);
        }
        Ok(id)
    }

    pub fn set_ceiling(
        &mut self,
        id: TapId,
        ceiling: Option<Ceiling>,
        tables: &Tables,
        now: Now,
    ) -> Result<(), Error> {
        let tap = self.taps.get_mut(&id).ok_or_else(gone)?;
        if tap.bucket.is_none() && ceiling.is_some() {
            tap.bucket = Some(self.buckets.take(now.monotonic_ns)?);
        }
        let Some(place) = tap.bucket else { return Ok(()) };
        let bucket = match ceiling {
            Some(Ceiling { bits_per_second, burst_ns, leaving }) => {
                Bucket::new(bits_per_second, burst_ns, leaving)
            }
            None => Bucket::UNLIMITED,
        };
        tables.put(MirrorMap::Buckets, place, &bucket.bytes())
    }

    pub fn renew(&mut self, id: TapId, rules: usize) -> Result<(), Error> {
        let tap = self.taps.get_mut(&id).ok_or_else(gone)?;
        let before = std::mem::replace(&mut tap.map, map_for(rules)?);
        tap.past_maps.push((before, None));
        tap.rules = rules;
        tap.renewals += 1;
        Ok(())
    }

    pub fn remove(&mut self, id: TapId, now: Now) -> Result<TapCounters, Error> {
        let counters = self.counters(id)?;
        let tap = self.taps.remove(&id);
        if let Some(place) = tap.and_then(|tap| tap.bucket) {
            self.buckets.give(place, now.monotonic_ns);
        }
        Ok(counters)
    }

    /// Adds up what earlier filters have counted, once nothing more comes of them.
    pub fn tick(&mut self, now: Now) -> Result<(), Error> {
        for tap in self.taps.values_mut() {
            for (_, since_ns) in &mut tap.past_maps {
                since_ns.get_or_insert(now.monotonic_ns);
            }
            while let Some((map, Some(since_ns))) = tap.past_maps.first()
                && now.monotonic_ns >= since_ns.saturating_add(PAST_NS)
            {
                tap.past.add(&map.words(0)?);
                tap.past_maps.remove(0);
            }
        }
        Ok(())
    }

    pub fn counters(&self, id: TapId) -> Result<TapCounters, Error> {
        let tap = self.taps.get(&id).ok_or_else(gone)?;
        let mut counters = tap.past.clone();
        for (map, _) in &tap.past_maps {
            counters.add(&map.words(0)?);
        }
        counters.add(&tap.map.words(0)?);
        let mut words = (usize::MAX, Vec::new());
        for number in 1..=tap.rules {
            let (element, place) = rule_place(tap.rules, number);
            if words.0 != element {
                words = (element, tap.map.words(element as u32)?);
            }
            counters.rule_hits.push(words.1[place]);
        }
        Ok(counters)
    }

    /// How often a tap's rules have been counted anew.
    pub fn renewals(&self, id: TapId) -> u32 {
        self.taps.get(&id).map_or(0, |tap| tap.renewals)
    }

    /// Where a tap counts now.
    pub fn map(&self, id: TapId) -> Result<&Map, Error> {
        self.taps.get(&id).map(|tap| &tap.map).ok_or_else(gone)
    }

    /// A tap's ceiling.
    pub fn bucket(&self, id: TapId) -> Option<u32> {
        self.taps.get(&id).and_then(|tap| tap.bucket)
    }
}

fn map_for(rules: usize) -> Result<Map, Error> {
    let elements = CounterLayout { rules }.elements() as u32;
    Map::new(MapKind::PerCpuArray, 4, COUNTERS_PER_ELEMENT * 8, elements)
}

fn gone() -> Error {
    Error::system("mirror: find a tap", std::io::Error::from_raw_os_error(libc::ENOENT))
}
