//! What a worker counted, at the boundary between two batches.

use api::{
    DropReason, Drops, NetworkStats, RuleStats, SourceStats, StageStats, Stats, TapStats,
    TargetStats,
};
use io::{Outer, Screened, Screening};
use wire::sequence::Counts;

/// The ledger of one worker. Taken between batches, so that it balances also while it runs.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The name of the first map: the tap's.
    pub name: String,
    /// What came in, by input.
    pub inputs: Vec<InputReport>,
    /// Packets that the maps' filters rejected, in the kernel or here.
    pub filtered: u64,
    /// Packets that they kept, those lost after the kernel kept them included.
    pub matched: u64,
    /// How often each rule of the first map decided, in the order of the rules; none for an expression.
    pub rule_hits: Vec<u64>,
    /// Packets that the worker itself dropped before the match.
    pub drops: Drops,
    /// One line per target, by outlet.
    pub targets: Vec<TargetStats>,
    /// What the sinks say of their sources, by target.
    pub sources: Vec<Vec<SourceStats>>,
    /// What the maps did, whose sums stand above.
    pub maps: Vec<MapReport>,
    /// What the outlets did before their targets.
    pub outlets: Vec<OutletReport>,
}

/// What came in from one source.
#[derive(Debug, Clone, Default)]
pub struct InputReport {
    /// The interface, file or listening endpoint.
    pub name: String,
    /// Packets that the source delivered.
    pub delivered: u64,
    /// Their bytes on the wire, without those that its inlet rejected.
    pub bytes: u64,
    /// Packets that its inlet's own filter rejected.
    pub filtered: u64,
    /// Packets that went on to the maps.
    pub carried: u64,
    /// Packets that matched; one that two maps matched counts twice.
    pub matched: u64,
    /// Packets that the source had to give up.
    pub drops: Drops,
    /// Packets that were dropped between the source and the maps.
    pub own_drops: Drops,
    /// Packets that the kernel counted and that never came.
    pub missing: u64,
    /// What became, on the way here, of the packets that senders have numbered, by source.
    pub streams: Vec<(Outer, Counts)>,
    /// What a filter in the kernel did before it.
    pub screening: Screening,
    /// What its stages did.
    pub stages: Vec<StageStats>,
}

/// What one map did.
#[derive(Debug, Clone, Default)]
pub struct MapReport {
    /// Its name.
    pub name: String,
    /// Packets that came to it.
    pub seen: u64,
    /// Packets that its filter rejected.
    pub filtered: u64,
    /// Packets that went on to its outlets.
    pub matched: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Packets that it dropped.
    pub drops: Drops,
    /// How often each rule decided.
    pub rule_hits: Vec<u64>,
    /// What its stages did.
    pub stages: Vec<StageStats>,
}

/// What one outlet did before its targets.
#[derive(Debug, Clone, Default)]
pub struct OutletReport {
    /// Its name; `None` for those of a tap.
    pub name: Option<String>,
    /// Whether it has a filter or stages of its own.
    pub chooses: bool,
    /// Packets that came to it.
    pub seen: u64,
    /// Packets that its filter rejected.
    pub filtered: u64,
    /// Packets that went on to its targets.
    pub matched: u64,
    /// Packets that it dropped.
    pub drops: Drops,
    /// How many of the targets' lines are its.
    pub targets: usize,
    /// What its stages did.
    pub stages: Vec<StageStats>,
}

impl InputReport {
    /// Packets that a filter in the kernel rejected or kept, and that were not delivered.
    pub(crate) fn screened(&self) -> Screened {
        match &self.screening {
            Screening::Counted(screened) => screened.clone(),
            Screening::Absent | Screening::Hidden => Screened::default(),
        }
    }

    /// Packets that passed this input's tap.
    fn seen(&self) -> u64 {
        let Screened { filtered, lost, .. } = self.screened();
        filtered + lost + self.delivered + self.drops.total() + self.missing
    }
}

impl Report {
    /// Packets that passed the tap, those lost before the filter included.
    pub fn seen(&self) -> u64 {
        self.inputs.iter().map(InputReport::seen).sum()
    }

    /// Packets dropped before the match, by reason.
    pub fn drops_before_match(&self) -> Drops {
        let mut drops = self.drops;
        self.inputs.iter().for_each(|input| drops.merge(&input.drops));
        drops
    }

    /// The tap's line of the ledger.
    pub fn tap(&self) -> TapStats {
        let drops = self.drops_before_match();
        let mut stats =
            TapStats::new(self.name.clone(), self.seen(), self.filtered, self.matched, drops);
        let screening = |wanted: fn(&Screening) -> bool| {
            self.inputs.iter().any(|input| wanted(&input.screening))
        };
        stats.losses_in_frames = drops.get(DropReason::KernelRing) > 0
            && screening(|s| !matches!(s, Screening::Counted(_)));
        if screening(|s| *s == Screening::Hidden) {
            (stats.seen, stats.filtered) = (None, None);
        }
        stats.matched_bytes = self.maps.iter().map(|map| map.bytes).sum();
        stats.rules = rules(&self.rule_hits);
        stats
    }

    /// Fills in what sums up the maps and inputs.
    pub(crate) fn sum_up(&mut self) {
        let first = self.maps.first().cloned().unwrap_or_default();
        (self.name, self.rule_hits) = (first.name, first.rule_hits);
        self.filtered = self.maps.iter().map(|map| map.filtered).sum();
        self.matched = self.maps.iter().map(|map| map.matched).sum();
        self.drops = Drops::default();
        self.maps.iter().for_each(|map| self.drops.merge(&map.drops));
        self.inputs.iter().for_each(|input| self.drops.merge(&input.own_drops));
    }

    /// The ledger of a broker whose worker this is.
    pub fn broker(&self) -> Stats {
        let mut ledger = BrokerLedger::default();
        ledger.add(self);
        ledger.stats()
    }
}

/// The ledger of a broker: a line for each source, each map, each target that chooses, each of its
/// members, and each stage. What is named alike is one line: a change may have replaced it. So it has
/// as many lines as there were names, however often the broker has changed.
#[derive(Debug, Clone, Default)]
pub struct BrokerLedger {
    sources: Vec<SourceStats>,
    taps: Vec<TapStats>,
    targets: Vec<TargetStats>,
    stages: Vec<StageStats>,
    filtered: u64,
    matched: u64,
}

impl BrokerLedger {
    /// Adds what a worker counted, or what it removed. Differences add up, and never cancel.
    pub fn add(&mut self, report: &Report) {
        let outlets = report.outlets.iter().scan(&report.targets[..], |lines, outlet| {
            let (own, rest) = lines.split_at(outlet.targets.min(lines.len()));
            *lines = rest;
            Some(outlet.line(own))
        });
        let of_inputs = report.inputs.iter().flat_map(|input| &input.stages);
        let of_maps = report.maps.iter().flat_map(|map| &map.stages);
        let of_outlets = report.outlets.iter().flat_map(|outlet| &outlet.stages);
        self.merge(BrokerLedger {
            sources: report.inputs.iter().map(InputReport::line).collect(),
            taps: report.maps.iter().map(MapReport::line).chain(outlets.flatten()).collect(),
            targets: report.targets.clone(),
            stages: of_inputs.chain(of_maps).chain(of_outlets).cloned().collect(),
            filtered: report.maps.iter().map(|map| map.filtered).sum(),
            matched: report.maps.iter().map(|map| map.matched).sum(),
        });
    }

    /// Adds another part of the same broker's ledger.
    pub fn merge(&mut self, more: BrokerLedger) {
        let BrokerLedger { sources, taps, targets, stages, filtered, matched } = more;
        gather(&mut self.sources, sources, |a, b| a.name == b.name, SourceStats::merge);
        gather(&mut self.taps, taps, |a, b| a.name == b.name, TapStats::merge);
        let same =
            |a: &TargetStats, b: &TargetStats| (&a.name, &a.endpoint) == (&b.name, &b.endpoint);
        gather(&mut self.targets, targets, same, TargetStats::merge);
        let same = |a: &StageStats, b: &StageStats| (&a.of, &a.name) == (&b.of, &b.name);
        gather(&mut self.stages, stages, same, StageStats::merge);
        (self.filtered, self.matched) = (self.filtered + filtered, self.matched + matched);
    }

    /// The ledger, with its sums.
    pub fn stats(self) -> Stats {
        let BrokerLedger { sources, taps, targets, stages, filtered, matched } = self;
        let seen = sources.iter().map(|source| source.received).sum();
        let mut stats = Stats::new(taps, sources, targets);
        (stats.seen, stats.filtered, stats.matched) = (Some(seen), Some(filtered), matched);
        stats.stages = stages;
        stats
    }
}

/// Adds each line to the one that is the same, or behind the others if there is none.
fn gather<T>(
    all: &mut Vec<T>,
    more: Vec<T>,
    same: impl Fn(&T, &T) -> bool,
    merge: impl Fn(&mut T, &T),
) {
    for line in more {
        match all.iter_mut().find(|known| same(known, &line)) {
            Some(known) => merge(known, &line),
            None => all.push(line),
        }
    }
}

impl InputReport {
    /// The source's line of a broker's ledger.
    fn line(&self) -> SourceStats {
        let Screened { lost, .. } = self.screened();
        let mut drops = self.drops;
        drops.merge(&self.own_drops);
        drops.add_many(DropReason::KernelRing, lost);
        let received = self.delivered - self.filtered + self.drops.total() + lost + self.missing;
        let mut line = SourceStats::new(self.name.clone(), received, self.carried, 0, drops);
        line.received_bytes = self.bytes;
        for (_, counts) in &self.streams {
            let Counts { lost, duplicates, reordered, late, .. } = *counts;
            let more = NetworkStats { lost, duplicates, reordered, late };
            line.network.get_or_insert_default().merge(&more);
        }
        line
    }
}

impl MapReport {
    fn line(&self) -> TapStats {
        let name = format!("map {}", self.name);
        let mut line = TapStats::new(name, self.seen, self.filtered, self.matched, self.drops);
        (line.matched_bytes, line.rules) = (self.bytes, rules(&self.rule_hits));
        line
    }
}

impl OutletReport {
    /// Its line; none where it only hands on, and always has. `targets` are its targets' lines.
    fn line(&self, targets: &[TargetStats]) -> Option<TapStats> {
        let name = format!("target {}", self.name.as_deref().unwrap_or_default());
        let mut line = TapStats::new(name, self.seen, self.filtered, self.matched, self.drops);
        let given: u64 = targets.iter().map(|target| target.matched).sum();
        line.unaccounted += self.matched.abs_diff(given);
        let has_chosen = self.chooses || self.seen != self.matched;
        (has_chosen || line.unaccounted > 0).then_some(line)
    }
}

fn rules(hits: &[u64]) -> Vec<RuleStats> {
    (1..).zip(hits).map(|(index, &hits)| RuleStats { index, hits }).collect()
}
