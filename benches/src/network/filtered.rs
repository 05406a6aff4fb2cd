//! `capture -w` with a filter that keeps one packet in ten, beside tcpdump, dumpcap and netsniff-ng.
//!
//! A filter in the kernel is charged to the sender, so the cost shown is what the sender's system
//! calls and the program take together, above sending alone, for each packet sent.

use super::contest::{Contest, Contestant, Counted};
use super::generator::Load;
use super::{Stage, dumpcap, netsniff_ng, tcpdump, to_nobody, why_not};
use crate::row::{Row, Unit};
use rig::{Host, Topology};
use std::net::SocketAddr;
use std::path::Path;

pub const BENCH: &str = "capture -w, 1 in 10 kept";
pub const PORT: u16 = 9;
const PORTS: u16 = 10;
/// The programs that take part beside tapline.
const PEERS: [&str; 3] = ["tcpdump", "dumpcap", "netsniff-ng"];

pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let net = Topology::line(["left", "right"]).build();
    let (left, right) = (net.host("left"), net.host("right"));
    let to = to_nobody(left, "right", "10.71.0.9", PORT)?;
    let filter = format!("udp port {PORT}");
    let mut contestants = capturers(stage.tapline, right, "left", to, &filter);
    contestants.push(Contestant::new("(nothing)", to, Counted::No));
    let mut rows = Vec::new();
    for &frame_bytes in &stage.effort.sizes {
        for &pps in &stage.effort.paces {
            let pace = pps.map_or("unpaced".into(), |pps| format!("{} kpps", pps / 1000));
            let case = format!("{frame_bytes} B, {pace}, added CPU");
            let count = stage.effort.packets;
            let contest = Contest {
                bench: BENCH,
                case: case.clone(),
                load: Load {
                    frame_bytes,
                    pps,
                    count,
                    tunnel: None,
                    ports: PORTS,
                    in_segments: false,
                },
                runs: stage.effort.runs,
                sender: (left, "right"),
                contestants: &contestants,
                with_sender: true,
                folder: stage.folder,
            };
            rows.extend(contest.run()?);
            rows.extend(absent(BENCH, &case, Unit::NsPerPacket));
        }
    }
    Ok(rows)
}

/// tapline and its peers that are installed, all with a ring of 64 MiB.
pub fn capturers<'a>(
    tapline: &'a Path,
    host: &'a Host,
    interface: &'a str,
    to: SocketAddr,
    filter: &'a str,
) -> Vec<Contestant<'a>> {
    let contestant = |subject| Contestant::new(subject, to, Counted::File);
    let mut all = vec![contestant("tapline").running(move |file| {
        let mut command = host.netns.command(tapline);
        command.args(["capture", "-i", interface, "-B", "64MiB", "-w"]).arg(file);
        command.args(filter.split_whitespace());
        command
    })];
    for peer in PEERS.into_iter().filter(|peer| why_not(peer).is_none()) {
        all.push(match peer {
            "tcpdump" => contestant(peer).running(move |file| {
                let mut command = tcpdump(host, interface, file);
                command.args(filter.split_whitespace());
                command
            }),
            "dumpcap" => contestant(peer)
                .running(move |file| dumpcap(host, interface, file, filter))
                .ready_when_it_says("File:"),
            _ => contestant(peer)
                .running(move |file| netsniff_ng(host, interface, file, filter))
                .ready_when_it_says("Running!"),
        });
    }
    all
}

/// A row for each peer that cannot take part, and why.
pub fn absent(bench: &str, case: &str, unit: Unit) -> impl Iterator<Item = Row> {
    PEERS.into_iter().filter_map(move |peer| {
        why_not(peer).map(|why| Row::skipped(bench, case, peer, unit, Some(why)))
    })
}
