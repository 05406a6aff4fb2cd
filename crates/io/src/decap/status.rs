//! The counters of a source at work, for another thread.

use api::DecapStats;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was taken out of tunnels so far, as of the last batch.
#[derive(Debug, Default)]
pub struct DecapStatus([AtomicU64; DecapStats::COUNTERS]);

impl DecapStatus {
    /// Reads the counters.
    pub fn get(&self) -> DecapStats {
        DecapStats::of_array(self.0.each_ref().map(|counter| counter.load(Ordering::Relaxed)))
    }

    pub(crate) fn set(&self, stats: &DecapStats) {
        for (shared, counter) in self.0.iter().zip(stats.to_array()) {
            shared.store(counter, Ordering::Relaxed);
        }
    }
}
