//! The highest rate that `capture -w` takes without a loss, beside its peers: a closed loop, in
//! which each run's loss sets the next run's rate.
//!
//! The generator's device has no offloads: the kernel cuts each burst into its packets, and that is
//! fast enough to lose some. A run is much longer than a ring holds, so that the reader's speed decides.

use super::contest::{Contest, Contestant};
use super::filtered::{PORT, absent, capturers};
use super::generator::Load;
use super::{Stage, to_nobody};
use crate::row::{Row, Unit, compare};
use crate::timing::median;
use rig::Topology;
use std::path::Path;

pub const BENCH: &str = "highest rate without loss";
/// The rate is found to one part in so many of the greatest one.
const STEPS: u64 = 32;
/// Beyond what the generator reaches on one core.
const PPS_MAX: u64 = 3_200_000;

pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    rates(BENCH, stage, stage.memory.as_deref().unwrap_or(stage.folder))
}

/// The highest rates with files in a folder.
pub fn rates(bench: &'static str, stage: &Stage<'_>, folder: &Path) -> anyhow::Result<Vec<Row>> {
    if let Some(why) = super::why_not("ethtool") {
        return Ok(vec![Row::skipped(bench, "", "tapline", Unit::KiloPackets, Some(why))]);
    }
    let net = Topology::line(["left", "right"]).offloads_off("left", "right").build();
    let (left, right) = (net.host("left"), net.host("right"));
    let to = to_nobody(left, "right", "10.71.0.9", PORT)?;
    let filter = format!("udp port {PORT}");
    let contestants = capturers(stage.tapline, right, "left", to, &filter);
    let mut rows = Vec::new();
    for &frame_bytes in &stage.effort.sizes {
        let case = format!("{frame_bytes} B");
        let mut found = vec![Vec::new(); contestants.len()];
        for _ in 0..stage.effort.runs {
            for (contestant, found) in contestants.iter().zip(&mut found) {
                let contest = |pps| Contest {
                    bench,
                    case: case.clone(),
                    load: Load {
                        frame_bytes,
                        pps: Some(pps),
                        count: stage.effort.packets * 2,
                        tunnel: None,
                        ports: 1,
                        in_segments: true,
                    },
                    runs: 1,
                    sender: (left, "right"),
                    contestants: &contestants,
                    with_sender: false,
                    folder,
                };
                found.push(highest(contestant, contest)?);
            }
        }
        let mut of_case: Vec<Row> = contestants
            .iter()
            .zip(&found)
            .map(|(contestant, found)| row(bench, &case, contestant.subject, found))
            .collect();
        compare(&mut of_case);
        rows.extend(of_case);
        rows.extend(absent(bench, &case, Unit::KiloPackets));
    }
    Ok(rows)
}

/// What a search found.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// The highest rate without a loss, packets a second.
    pps: u64,
    /// Whether the generator could not send faster.
    is_generators_limit: bool,
}

/// Halves the range of rates until the border between no loss and some is known.
fn highest<'a>(
    contestant: &Contestant<'_>,
    contest: impl Fn(u64) -> Contest<'a>,
) -> anyhow::Result<Found> {
    let (mut none_lost, mut some_lost) = (0, STEPS + 1);
    let mut best = Found { pps: 0, is_generators_limit: false };
    while some_lost - none_lost > 1 {
        let step = (none_lost + some_lost) / 2;
        let wanted = PPS_MAX * step / STEPS;
        let run = contest(wanted).run_one(contestant)?;
        if run.captured < run.offered {
            some_lost = step;
            continue;
        }
        none_lost = step;
        let is_generators_limit = run.pps < wanted * 97 / 100;
        best = Found { pps: run.pps.max(best.pps), is_generators_limit };
        if is_generators_limit {
            break;
        }
    }
    Ok(best)
}

fn row(bench: &str, case: &str, subject: &str, found: &[Found]) -> Row {
    let rates: Vec<f64> = found.iter().map(|found| found.pps as f64 / 1000.0).collect();
    let note = found
        .iter()
        .any(|found| found.is_generators_limit)
        .then(|| "the generator could not send faster".into());
    Row {
        median: median(&rates),
        best: rates.iter().copied().reduce(f64::max),
        each: rates,
        note,
        ..Row::skipped(bench, case, subject, Unit::KiloPackets, None)
    }
}
