//! The steps of a segment's way out of the spool.

use crate::name::SegmentName;

/// What has just been done to a segment, so that it is true whatever happens next. Listed in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Its data and its index are in the spool, beside what they were made from.
    Sealed,
    /// What they were made from is gone.
    ClosedRemoved,
    /// The store has confirmed the data.
    DataStored,
    /// The store has confirmed the index.
    IndexStored,
    /// The store has confirmed the entry in the manifest.
    Entered,
    /// Its data are marked as stored.
    Marked,
    /// Its index is gone from the spool.
    IndexRemoved,
    /// Its data are gone from the spool.
    DataRemoved,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Step; 8] = [
        Step::Sealed,
        Step::ClosedRemoved,
        Step::DataStored,
        Step::IndexStored,
        Step::Entered,
        Step::Marked,
        Step::IndexRemoved,
        Step::DataRemoved,
    ];
}

/// Looks on as segments go their way; what a test of crashes holds on to.
pub trait Steps: Send + Sync {
    /// A segment took a step. If this is false, the archiver ends here and cleans nothing up, as if the
    /// process had been killed.
    fn taken(&self, step: Step, segment: &SegmentName) -> bool;
}

/// Lets everything go on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Onward;

impl Steps for Onward {
    fn taken(&self, _: Step, _: &SegmentName) -> bool {
        true
    }
}
