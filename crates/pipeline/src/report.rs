//! What a worker counted, at the boundary between two batches.

use api::{DropReason, Drops, RuleStats, SourceStats, TapStats, TargetStats};
use io::{Outer, Screened, Screening};
use wire::sequence::Counts;

/// The ledger of one tap. Taken between batches, so that it balances also while the tap runs.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The tap's name.
    pub name: String,
    /// What came in, by input.
    pub inputs: Vec<InputReport>,
    /// Packets that the filter rejected, in the kernel or here.
    pub filtered: u64,
    /// Packets that the filter kept, those lost after the kernel kept them included.
    pub matched: u64,
    /// How often each rule decided, in the order of the rules; none for an expression.
    pub rule_hits: Vec<u64>,
    /// Packets that the tap itself dropped before the match.
    pub drops: Drops,
    /// One line per target.
    pub targets: Vec<TargetStats>,
    /// What the sinks say of their sources, by target.
    pub sources: Vec<Vec<SourceStats>>,
}

/// What came in from one source.
#[derive(Debug, Clone, Default)]
pub struct InputReport {
    /// The interface, file or listening endpoint.
    pub name: String,
    /// Packets that the source delivered.
    pub delivered: u64,
    /// Those of them that matched.
    pub matched: u64,
    /// Packets that it had to give up.
    pub drops: Drops,
    /// Packets that the kernel counted and that never came.
    pub missing: u64,
    /// What became, on the way here, of the packets that senders have numbered, by source.
    pub streams: Vec<(Outer, Counts)>,
    /// What a filter in the kernel did before it.
    pub screening: Screening,
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
        let rules = (1..).zip(&self.rule_hits);
        stats.rules = rules.map(|(index, &hits)| RuleStats { index, hits }).collect();
        stats
    }
}
