//! A broker beside the kernel's own mirroring: how much it carries without a loss, what it costs,
//! and how long a packet takes. `replicate` sends what comes in at one NIC to others, `aggregate`
//! what comes in at several to one.

mod far;
mod scene;
mod stream;

use super::Stage;
use crate::row::{Row, Traffic, Unit, compare, median_count};
use crate::timing::median;
use far::Far;
use scene::{Run, Scene, Subject, Way};
use stream::Stream;

pub const BENCH: &str = "broker";
/// Beyond what the generator reaches on one core.
const PPS_MAX: u64 = 1_600_000;
/// The rate is found to one part in so many of it.
const STEPS: u64 = 64;
/// What a rate of next to nothing is.
const PPS_LOW: u64 = 1_000;
/// The longest run at that rate, packets.
const LOW_PACKETS_MAX: u64 = 3_000;
/// Both do the work.
const SUBJECTS: [Subject; 2] = [Subject::Tapline, Subject::Kernel];

pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    if let Some(why) = super::why_not("ethtool") {
        return Ok(vec![Row::skipped(BENCH, "", "tapline", Unit::KiloPackets, Some(why))]);
    }
    let scene = Scene::build(stage.tapline)?;
    let why_not = scene.why_not(Subject::Kernel);
    let subjects = if why_not.is_none() { &SUBJECTS[..] } else { &SUBJECTS[..1] };
    let mut rows = Vec::new();
    for way in Way::ALL {
        for frame_bytes in sizes(&stage.effort.sizes) {
            let case = Case { stage, scene: &scene, way, frame_bytes, subjects };
            let highest = case.highest()?;
            let half = highest.first().and_then(|row| row.median).unwrap_or(0.0) * 1000.0 / 2.0;
            let mut of_case = vec![highest, case.added_cpu()?];
            of_case.extend(case.latency(PPS_LOW)?);
            of_case.extend(case.latency(half as u64)?);
            for mut of_measure in of_case {
                compare(&mut of_measure);
                if let (Some(why), Some(first)) = (&why_not, of_measure.first()) {
                    let (case, peer) = (first.case.clone(), Subject::Kernel.name());
                    let why = Some(why.clone());
                    of_measure.push(Row::skipped(BENCH, &case, peer, first.unit, why));
                }
                rows.extend(of_measure);
            }
        }
    }
    Ok(rows)
}

/// The shortest and the longest frames.
fn sizes(of: &[usize]) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        of.iter().min().into_iter().chain(of.iter().max()).copied().collect();
    sizes.dedup();
    sizes
}

/// One way for packets of one length.
struct Case<'a> {
    stage: &'a Stage<'a>,
    scene: &'a Scene<'a>,
    way: Way,
    frame_bytes: usize,
    subjects: &'a [Subject],
}

impl Case<'_> {
    fn name(&self, measure: &str) -> String {
        format!("{}, {} B, {measure}", self.way.name(), self.frame_bytes)
    }

    fn stream(&self, pps: u64, count: u64) -> Stream {
        Stream { frame_bytes: self.frame_bytes, pps, count }
    }

    /// Runs everyone in turn, as often as asked for.
    fn turns<T>(
        &self,
        subjects: &[Subject],
        run: impl Fn(Subject) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<Vec<T>>> {
        let mut results: Vec<Vec<T>> = subjects.iter().map(|_| Vec::new()).collect();
        for _ in 0..self.stage.effort.runs {
            for (&subject, results) in subjects.iter().zip(&mut results) {
                results.push(run(subject)?);
            }
        }
        Ok(results)
    }

    /// The highest rate without a loss.
    fn highest(&self) -> anyhow::Result<Vec<Row>> {
        let case = self.name("highest rate without loss");
        let found = self.turns(self.subjects, |subject| self.search(subject))?;
        let rows = self.subjects.iter().zip(&found).map(|(subject, found)| {
            let rates: Vec<f64> = found.iter().map(|found| found.pps as f64 / 1000.0).collect();
            let at_limit = found.iter().any(|found| found.is_generators_limit);
            Row {
                note: at_limit.then(|| "the generator could not send faster".into()),
                ..measured(&case, *subject, Unit::KiloPackets, rates, f64::max)
            }
        });
        Ok(rows.collect())
    }

    /// Halves the range of rates until the border between no loss and some is known.
    fn search(&self, subject: Subject) -> anyhow::Result<Highest> {
        let (mut none_lost, mut some_lost) = (0, STEPS + 1);
        let mut highest = Highest { pps: 0, is_generators_limit: false };
        while some_lost - none_lost > 1 {
            let step = (none_lost + some_lost) / 2;
            let wanted = PPS_MAX * step / STEPS;
            let stream = self.stream(wanted, self.stage.effort.packets * 2);
            let run = self.scene.run((self.way, subject), stream, false)?;
            if run.arrived < run.offered {
                some_lost = step;
                continue;
            }
            none_lost = step;
            let is_generators_limit = run.pps < wanted * 97 / 100;
            highest = Highest { pps: run.pps.max(highest.pps), is_generators_limit };
            if is_generators_limit {
                break;
            }
        }
        Ok(highest)
    }

    /// CPU time of the program, and what sending costs more than into nothing.
    fn added_cpu(&self) -> anyhow::Result<Vec<Row>> {
        let pace = self.stage.effort.pace;
        let case = self.name(&format!("{} kpps, added CPU", pace / 1000));
        let stream = self.stream(pace, self.stage.effort.packets / 2);
        let all = [self.subjects, &[Subject::Nobody]].concat();
        let runs =
            self.turns(&all, |subject| self.scene.run((self.way, subject), stream, false))?;
        let sender_ns = |runs: &[Run]| runs.iter().map(|run| run.sender_ns).collect::<Vec<_>>();
        let alone = runs.last().and_then(|runs| median(&sender_ns(runs))).unwrap_or(0.0);
        let rows = self.subjects.iter().zip(&runs).map(|(subject, runs)| {
            let cost = |run: &Run| run.program_ns + run.sender_ns - alone;
            let program: Vec<f64> = runs.iter().map(|run| run.program_ns).collect();
            let in_program = median(&program).unwrap_or(0.0);
            Row {
                traffic: Some(traffic(runs)),
                note: Some(format!("{in_program:.0} of it in the program")),
                ..measured(
                    &case,
                    *subject,
                    Unit::NsPerPacket,
                    runs.iter().map(cost).collect(),
                    f64::min,
                )
            }
        });
        Ok(rows.collect())
    }

    /// How long packets take at a rate: half of them, and 99 of 100.
    fn latency(&self, pps: u64) -> anyhow::Result<[Vec<Row>; 2]> {
        let wanted = if pps == PPS_LOW { LOW_PACKETS_MAX } else { pps / 2 };
        let count = wanted.min(self.stage.effort.packets).min(Far::room(self.frame_bytes));
        let stream = self.stream(pps.max(1), count);
        let runs =
            self.turns(self.subjects, |subject| self.scene.run((self.way, subject), stream, true))?;
        Ok([50, 99].map(|percent| {
            let case = self.name(&format!("{} kpps, latency p{percent}", pps / 1000));
            let rows = self.subjects.iter().zip(&runs).map(|(subject, runs)| {
                // Of two far ends, the later one.
                let latest = |run: &Run| {
                    let of_ends = run.far.iter().filter_map(|far| far.percentile_us(percent));
                    of_ends.reduce(f64::max)
                };
                let latencies = runs.iter().filter_map(latest).collect();
                Row {
                    traffic: Some(traffic(runs)),
                    note: wrong(runs),
                    ..measured(&case, *subject, Unit::Microseconds, latencies, f64::min)
                }
            });
            rows.collect()
        }))
    }
}

/// What a search found.
#[derive(Debug, Clone, Copy)]
struct Highest {
    /// Packets a second.
    pps: u64,
    /// Whether the generator could not send faster.
    is_generators_limit: bool,
}

fn measured(
    case: &str,
    subject: Subject,
    unit: Unit,
    each: Vec<f64>,
    better: fn(f64, f64) -> f64,
) -> Row {
    Row {
        median: median(&each),
        best: each.iter().copied().reduce(better),
        each,
        ..Row::skipped(BENCH, case, subject.name(), unit, None)
    }
}

fn traffic(runs: &[Run]) -> Traffic {
    let dropped = |run: &Run| run.offered.saturating_sub(run.arrived);
    let sender_ns: Vec<f64> = runs.iter().map(|run| run.sender_ns).collect();
    Traffic {
        offered: median_count(runs.iter().map(|run| run.offered)),
        captured: median_count(runs.iter().map(|run| run.arrived)),
        dropped: median_count(runs.iter().map(dropped)),
        dropped_worst: runs.iter().map(dropped).max().unwrap_or(0),
        sender_ns: median(&sender_ns).unwrap_or(0.0),
        pps: median_count(runs.iter().map(|run| run.pps)),
    }
}

/// What is wrong with the numbers at the far ends, in the worst run.
fn wrong(runs: &[Run]) -> Option<String> {
    let ends = || runs.iter().flat_map(|run| &run.far);
    let twice = ends().map(|far| far.duplicates).max().unwrap_or(0);
    let late = ends().map(|far| far.reordered).max().unwrap_or(0);
    let lost = runs
        .iter()
        .flat_map(|run| run.far.iter().map(|far| run.offered.saturating_sub(far.packets)));
    let lost = lost.max().unwrap_or(0);
    Some(format!("{lost} lost, {twice} twice, {late} out of order"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extremes_of_the_sizes_are_measured() {
        assert_eq!(sizes(&[512, 64, 1500]), [64, 1500]);
        assert_eq!(sizes(&[512]), [512]);
    }
}
