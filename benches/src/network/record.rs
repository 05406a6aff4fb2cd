//! Recording to a real disk beside tcpdump, dumpcap and netsniff-ng, all with a ring of 64 MiB: CPU time for
//! each packet, and the highest rate without a loss.

use super::contest::Contest;
use super::filtered::{PORT, absent, capturers};
use super::generator::Load;
use super::{Stage, lossless, to_nobody};
use crate::row::{Row, Unit};
use rig::Topology;

pub const BENCH: &str = "record to disk";
pub const BENCH_RATE: &str = "highest rate to disk without loss";

pub fn rates(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    lossless::rates(BENCH_RATE, stage, stage.folder)
}

pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let net = Topology::line(["left", "right"]).build();
    let (left, right) = (net.host("left"), net.host("right"));
    let to = to_nobody(left, "right", "10.71.0.9", PORT)?;
    let filter = format!("udp port {PORT}");
    let contestants = capturers(stage.tapline, right, "left", to, &filter);
    let mut rows = Vec::new();
    for &frame_bytes in &stage.effort.sizes {
        for &pps in &stage.effort.paces {
            let pace = pps.map_or("unpaced".into(), |pps| format!("{} kpps", pps / 1000));
            let case = format!("{frame_bytes} B, {pace}");
            let load = Load {
                frame_bytes,
                pps,
                count: stage.effort.packets,
                tunnel: None,
                ports: 1,
                in_segments: false,
            };
            let contest = Contest {
                bench: BENCH,
                case: case.clone(),
                load,
                runs: stage.effort.runs,
                sender: (left, "right"),
                contestants: &contestants,
                with_sender: false,
                folder: stage.folder,
            };
            rows.extend(contest.run()?);
            rows.extend(absent(BENCH, &case, Unit::NsPerPacket));
        }
    }
    Ok(rows)
}
