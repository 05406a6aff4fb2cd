//! The lines of a tap in the ledger, whichever datapath carries it.

use api::{TapStats, TargetStats};
use pipeline::{CrewReport, tap_line, target_lines};

/// The lines of a tap in the ledger.
#[derive(Debug, Clone)]
pub struct Lines {
    pub tap: TapStats,
    pub targets: Vec<TargetStats>,
    pub received: u64,
    pub written: u64,
}

impl Lines {
    /// Those of a tap that workers carry.
    pub fn of(workers: &CrewReport) -> Option<Lines> {
        let tap = tap_line(workers)?;
        let targets = target_lines(workers);
        let mut lines = Lines { tap, targets, received: 0, written: 0 };
        for source in workers.iter().flat_map(|report| report.sources.iter().flatten()) {
            lines.received += source.received;
            lines.written += source.written;
        }
        Some(lines)
    }

    /// Those of a tap that is gone.
    pub fn gone(mut self) -> Lines {
        // The tap of this name may have other rules now, and queues of its own.
        self.tap.rules.clear();
        for line in &mut self.targets {
            (line.queue_bytes, line.queue_bytes_max, line.healthy) = (0, 0, None);
        }
        self
    }

    /// Adds what is gone to the lines of the tap of the same name; as new ones if there is none.
    pub fn add_to(self, all: &mut Vec<Lines>) {
        let Some(same) = all.iter_mut().find(|lines| lines.tap.name == self.tap.name) else {
            return all.push(self);
        };
        same.tap.merge(&self.tap);
        same.received += self.received;
        same.written += self.written;
        for target in self.targets {
            match same.targets.iter_mut().find(|known| known.endpoint == target.endpoint) {
                Some(known) => known.merge(&target),
                None => same.targets.push(target),
            }
        }
    }
}
