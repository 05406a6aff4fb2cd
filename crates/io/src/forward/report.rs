//! What a forwarder counts.

use super::sessions::Session;
use crate::device::SinkCounters;
use api::Drops;

/// What became of the packets of a rule that went one way. Unit: wire packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Packets that the rule matched.
    pub seen: u64,
    /// Packets that were translated and handed to the interface.
    pub forwarded: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Packets that were not, by reason.
    pub drops: Drops,
}

impl Counts {
    /// Adds another rule's.
    pub fn merge(&mut self, other: &Counts) {
        self.seen += other.seen;
        self.forwarded += other.forwarded;
        self.bytes += other.bytes;
        self.drops.merge(&other.drops);
    }
}

/// A rule's line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleReport {
    /// Its name.
    pub name: String,
    /// From clients.
    pub there: Counts,
    /// To them.
    pub back: Counts,
    /// Sessions that it has now.
    pub sessions: u64,
}

/// Frames of both interfaces that no rule matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OtherReport {
    /// Frames that came in and are of no rule.
    pub seen: u64,
    /// Of those, frames that are not ours.
    pub filtered: u64,
    /// Of those, questions for our addresses that were answered.
    pub answered: u64,
    /// Frames that were lost before it was known whose they are, and those for our addresses that
    /// belong to no session.
    pub drops: Drops,
    /// Frames that the kernel says it delivered and that never came.
    pub missing: u64,
}

/// What was handed to an interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SideReport {
    /// The interface.
    pub name: String,
    /// Frames handed to it; a packet that was cut into fragments is as many.
    pub offered: u64,
    /// What became of them.
    pub sink: SinkCounters,
    /// Packets that were cut into fragments.
    pub fragmented: u64,
    /// The fragments.
    pub fragments: u64,
    /// What was answered to senders and to who asked for our addresses, beside all of those.
    pub answers: u64,
}

/// A forwarder's ledger.
#[derive(Debug, Clone, Default)]
pub struct ForwardReport {
    /// The rules in their order.
    pub rules: Vec<RuleReport>,
    /// Those that were taken out of the table.
    pub gone: Vec<RuleReport>,
    /// What no rule matched.
    pub other: OtherReport,
    /// The interfaces: `in`, then `out`; one if they are the same.
    pub sides: Vec<SideReport>,
    /// Sessions that there are.
    pub sessions: u64,
    /// Some of them.
    pub shown: Vec<Session>,
    /// Why it ended, if it was not asked to.
    pub failure: Option<String>,
}
