//! What became of packets that rules have judged.

use filter::Action;

/// Packets by what the rules have decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// By a rule that includes.
    pub included: u32,
    /// By a rule that excludes.
    pub excluded: u32,
    /// By none.
    pub unmatched: u32,
}

impl Tally {
    /// Counts a packet.
    pub fn count(&mut self, action: Option<Action>) {
        match action {
            Some(Action::Include) => self.included += 1,
            Some(Action::Exclude) => self.excluded += 1,
            None => self.unmatched += 1,
        }
    }

    /// All packets.
    pub fn all(&self) -> u32 {
        self.included + self.excluded + self.unmatched
    }

    /// The least of the three: whether there were enough of each.
    pub fn least(&self) -> u32 {
        self.included.min(self.excluded).min(self.unmatched)
    }
}
