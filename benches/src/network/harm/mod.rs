//! What a tap does to the host that is tapped: how fast a stream gets, and how long requests take.
//!
//! Ends are on different cores, the program of a tap on that of the tapped end.

mod http;

use super::Stage;
use super::source::{KERNEL, RING, network, scene};
use super::tcp::{Stream, WRITE_BYTES};
use super::trial::Subject;
use crate::row::{Row, Unit};
use crate::timing::median;
use anyhow::Context;
use rig::Topology;
use std::net::SocketAddr;

pub const BENCH: &str = "harm";
const PORT: u16 = 80;
const LIST: u8 = 10;
/// Writes of a stream for each packet of a run: a run of 500,000 is of 2 GB.
const PACKETS_OF_WRITE: u64 = 16;
/// Packets of a run for each request.
const PACKETS_OF_REQUEST: u64 = 100;

/// What is measured, with the unit.
type Measure<'a> = (&'a str, Unit, &'a dyn Fn(SocketAddr) -> anyhow::Result<f64>);

pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let net = network()?;
    let (client, server) = (net.host("left"), net.host("tap"));
    let writes = (stage.effort.packets / PACKETS_OF_WRITE).max(1) as usize;
    let stream = Stream { bytes: writes * WRITE_BYTES, writes_per_s: 0 };
    let throughput = |to| {
        let sent = stream.send(&client.netns, &server.netns, to)?;
        anyhow::Ok(stream.bytes as f64 / 1e6 / sent.elapsed.as_secs_f64())
    };
    let requests = (stage.effort.packets / PACKETS_OF_REQUEST).max(100);
    let latency = |to| http::ask(&client.netns, &server.netns, to, requests);
    let p99 = |to| latency(to).map(|times| times.p99_us);
    let p50 = |to| latency(to).map(|times| times.p50_us);
    let mut rows = Vec::new();
    for measure in [
        ("TCP throughput", Unit::MegaBytes, &throughput as &dyn Fn(_) -> _),
        ("HTTP request, p50", Unit::Microseconds, &p50),
        ("HTTP request, p99", Unit::Microseconds, &p99),
    ] {
        rows.extend(compare(stage, &net, measure)?);
    }
    Ok(rows)
}

fn compare(stage: &Stage<'_>, net: &Topology, measure: Measure<'_>) -> anyhow::Result<Vec<Row>> {
    let (case, unit, measure) = measure;
    eprintln!("bench: {BENCH}, {case}");
    let tap = net.host("tap");
    let to = SocketAddr::new(tap.v4("left").into(), PORT);
    let scene = scene(stage, tap, (to, LIST, 1))?;
    let nothing = Subject { name: "(no tap)".into(), ..Subject::nothing(to) };
    let subjects = [nothing, scene.ours(KERNEL)?, scene.tc()?, scene.nft(), scene.ours(RING)?];
    let mut values = vec![Vec::new(); subjects.len()];
    for _ in 0..stage.effort.runs {
        for (subject, values) in subjects.iter().zip(&mut values) {
            if subject.absent.is_none() {
                let what = || format!("{BENCH}, {case}: {}", subject.name);
                let measured = subject.while_it_runs(|_| measure(subject.to));
                values.push(measured.with_context(what)?);
            }
        }
    }
    let without = median(&values[0]);
    Ok(subjects
        .iter()
        .zip(values)
        .map(|(subject, each)| {
            let best = match unit {
                Unit::MegaBytes => each.iter().copied().reduce(f64::max),
                _ => each.iter().copied().reduce(f64::min),
            };
            let median = median(&each);
            let to_peer = median.zip(without).map(|(own, without)| own / without);
            let skipped = Row::skipped(BENCH, case, &subject.name, unit, subject.absent.clone());
            Row { median, best, each, to_peer, ..skipped }
        })
        .collect())
}
