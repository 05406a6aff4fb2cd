//! `capture -w` beside `tcpdump -B 65536 -w`, at the far end of a veth pair.

use super::contest::{Contest, Contestant, Counted};
use super::generator::Load;
use super::{Stage, tcpdump, to_nobody, why_not};
use crate::row::{Row, Unit};
use rig::Topology;
use std::path::Path;

pub const BENCH: &str = "capture -w";
const PORT: u16 = 9;

pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let net = Topology::line(["left", "right"]).build();
    let (left, right) = (net.host("left"), net.host("right"));
    let to = to_nobody(left, "right", "10.71.0.9", PORT)?;
    let why_no_tcpdump = why_not("tcpdump");
    let filter = format!("udp port {PORT}");

    let contest = |size: usize, pps: Option<u64>, filter: &str, folder: &Path, more: &str| {
        let tapline = |file: &Path| {
            let mut command = right.netns.command(stage.tapline);
            command.args(["capture", "-i", "left", "-w"]).arg(file);
            command.args(filter.split_whitespace());
            command
        };
        let tcpdump = |file: &Path| {
            let mut command = tcpdump(right, "left", file);
            command.args(filter.split_whitespace());
            command
        };
        let mut contestants = vec![Contestant::new("tapline", to, Counted::File).running(tapline)];
        if why_no_tcpdump.is_none() {
            contestants.push(Contestant::new("tcpdump", to, Counted::File).running(tcpdump));
        }
        let pace = pps.map_or("unpaced".into(), |pps| format!("{} kpps", pps / 1000));
        let case = format!("{size} B, {pace}{more}");
        let contest = Contest {
            bench: BENCH,
            case: case.clone(),
            load: Load {
                frame_bytes: size,
                pps,
                count: stage.effort.packets,
                tunnel: None,
                ports: 1,
                in_segments: false,
            },
            runs: stage.effort.runs,
            sender: (left, "right"),
            contestants: &contestants,
            with_sender: false,
            folder,
        };
        let mut rows = contest.run()?;
        if let why @ Some(_) = why_no_tcpdump.clone() {
            rows.push(Row::skipped(BENCH, &case, "tcpdump", Unit::NsPerPacket, why));
        }
        anyhow::Ok(rows)
    };

    let mut rows = Vec::new();
    for &size in &stage.effort.sizes {
        for &pps in &stage.effort.paces {
            rows.extend(contest(size, pps, "", stage.folder, "")?);
        }
        let pace = Some(stage.effort.pace);
        rows.extend(contest(
            size,
            pace,
            &filter,
            stage.folder,
            &format!(", `{filter}` keeps all"),
        )?);
        if let Some(memory) = &stage.memory {
            rows.extend(contest(size, None, "", memory, ", file in memory")?);
        }
    }
    Ok(rows)
}
