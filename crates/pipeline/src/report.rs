//! What a worker counted, at the boundary between two batches.

use api::{Drops, SourceStats, TapStats, TargetStats};

/// The ledger of one tap. Taken between batches, so that it balances also while the tap runs.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The tap's name.
    pub name: String,
    /// What came in, by input.
    pub inputs: Vec<InputReport>,
    /// Packets that the filter rejected.
    pub filtered: u64,
    /// Packets that the filter kept.
    pub matched: u64,
    /// Packets that the tap itself dropped before the match.
    pub drops: Drops,
    /// One line per target.
    pub targets: Vec<TargetStats>,
    /// What the sinks say of their sources.
    pub sources: Vec<SourceStats>,
}

/// What came in from one source.
#[derive(Debug, Clone, Default)]
pub struct InputReport {
    /// The interface, file or listening endpoint.
    pub name: String,
    /// Packets that the source delivered.
    pub delivered: u64,
    /// Packets that it had to give up.
    pub drops: Drops,
    /// Packets that the kernel counted and that never came.
    pub missing: u64,
}

impl Report {
    /// Packets that passed the tap, those lost before the filter included.
    pub fn seen(&self) -> u64 {
        self.inputs.iter().map(|i| i.delivered + i.drops.total() + i.missing).sum()
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
        TapStats::new(self.name.clone(), self.seen(), self.filtered, self.matched, drops)
    }
}
