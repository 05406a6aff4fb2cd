//! A crew: the workers that share one tap, each with a source and targets of its own.

use crate::graph::{Change, Part, Way};
use crate::own::OwnTunnels;
use crate::report::Report;
use crate::tap::Tap;
use crate::worker::{ChangeRefused, Worker};
use api::{TapStats, TargetStats};
use rustix::thread::{CpuSet, sched_getaffinity};

/// Workers that run as one: when one of them ends, so do the others.
pub struct Crew {
    workers: Vec<Worker>,
    /// Sources and groups of each worker's tap.
    shapes: Vec<(usize, usize)>,
}

/// The ledger of a crew: a report of each of its workers.
pub type CrewReport = Vec<Report>;

impl Crew {
    /// Starts a worker for each of the taps, which are shares of one. Where there is more than one,
    /// each is kept on a core of its own, of those that the process may use, as far as they go.
    ///
    /// # Errors
    /// If the system has no thread left; those that were started are stopped.
    pub fn start(taps: Vec<Tap>) -> std::io::Result<Crew> {
        let cores = if taps.len() > 1 { cores() } else { Vec::new() };
        let shapes = taps.iter().map(|tap| (tap.inputs.len(), tap.groups.len())).collect();
        let mut crew = Crew { workers: Vec::new(), shapes };
        for (place, tap) in taps.into_iter().enumerate() {
            let core = cores.get(place % cores.len().max(1)).copied();
            match Worker::start_on(tap.into(), core) {
                Ok(worker) => crew.workers.push(worker),
                Err(error) => {
                    crew.stop();
                    return Err(error);
                }
            }
        }
        Ok(crew)
    }

    /// Asks all to stop: nothing more comes in, what has come in is carried to its end.
    pub fn stop(&self) {
        self.workers.iter().for_each(Worker::stop);
    }

    /// Whether all have come to their end. When the first does, the others are asked to stop.
    pub fn is_finished(&self) -> bool {
        let finished = self.workers.iter().filter(|worker| worker.is_finished()).count();
        if finished > 0 && finished < self.workers.len() {
            self.stop();
        }
        finished == self.workers.len()
    }

    /// Has a running tap recognise other tunnel packets as those of this process; all else goes on
    /// undisturbed.
    ///
    /// # Errors
    /// [`ChangeRefused`] if a worker is ending, or does not come to the end of its batch.
    pub fn recognise(&self, own: &OwnTunnels) -> Result<(), ChangeRefused> {
        for (worker, &(inlets, outlets)) in self.workers.iter().zip(&self.shapes) {
            let way =
                Way { map: Part::Kept(0), from: (0..inlets).collect(), to: (0..outlets).collect() };
            worker.change(Change {
                inlets: (0..inlets).map(Part::Kept).collect(),
                ways: vec![way],
                outlets: (0..outlets).map(Part::Kept).collect(),
                own: vec![own.clone(); inlets],
            })?;
        }
        Ok(())
    }

    /// The ledger, each worker's between two of its batches. `None` as [`Worker::snapshot`].
    pub fn snapshot(&self) -> Option<CrewReport> {
        let (before, _) = self.published();
        // Asked together, so that they wait together.
        self.ask();
        self.workers.iter().zip(before).map(|(worker, before)| worker.answer(before)).collect()
    }

    /// Asks for a ledger without waiting for it: [`Self::published`] has it once the batches are
    /// through.
    pub fn ask(&self) {
        self.workers.iter().for_each(Worker::ask);
    }

    /// The ledger of each worker that was published last, and how many it has published so far.
    pub fn published(&self) -> (Vec<u64>, CrewReport) {
        self.workers.iter().map(Worker::published).unzip()
    }

    /// Waits for the end of all; gives their last ledgers, and what went wrong first if anything did.
    pub fn join(self) -> (CrewReport, Result<(), io::Error>) {
        // Sources and sinks are given up together, at the very end: the kernel shares frames out among
        // the rings that are open.
        let ended: Vec<_> = self.workers.into_iter().map(Worker::end).collect();
        let (reports, results): (Vec<_>, Vec<_>) =
            ended.into_iter().map(|ended| (ended.report, ended.result)).unzip();
        (reports, results.into_iter().collect())
    }
}

/// The tap's line of the ledger: its workers' lines, summed up.
pub fn tap_line(reports: &[Report]) -> Option<TapStats> {
    let lines = reports.iter().map(Report::tap);
    lines.reduce(|mut sum, line| {
        sum.merge(&line);
        sum
    })
}

/// The targets' lines: those of the same target of each worker, summed up.
pub fn target_lines(reports: &[Report]) -> Vec<TargetStats> {
    let mut sums: Vec<TargetStats> = Vec::new();
    for report in reports {
        for (place, line) in report.targets.iter().enumerate() {
            match sums.get_mut(place) {
                Some(sum) => sum.merge(line),
                None => sums.push(line.clone()),
            }
        }
    }
    sums
}

/// The cores that this process may use; at least one.
pub fn cores() -> Vec<usize> {
    // Fails only for a kernel of more cores than the set has room for.
    let set = sched_getaffinity(None).unwrap_or_default();
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
    if cores.is_empty() { vec![0] } else { cores }
}
