//! One flow, one host and one port, found in an archive, and by tcpdump in the same packets unsealed.

use super::Stage;
use super::generated::Generated;
use crate::row::{Row, Unit, compare};
use crate::timing::median;
use anyhow::{Context, ensure};
use capfile::Reader;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use wire::LinkType;
use wire::walk::Walk;

pub const BENCH: &str = "search";

/// A packet: time, and bytes.
type Found = (u64, Vec<u8>);

/// What is looked for.
struct Case {
    name: String,
    expression: String,
}

/// What a run of tapline was.
struct Ours {
    found: Vec<Found>,
    ms: f64,
    peak_kib: u64,
    /// The last line that it says.
    said: String,
}

pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let folder = stage.kept.clone().unwrap_or_else(|| stage.folder.join("generated"));
    let generated = Generated::in_folder(&folder, stage.raw_bytes)?;
    let gigabytes = generated.raw_bytes()? as f64 / 1e9;
    let mut rows = Vec::new();
    for Case { name, expression } in cases(&generated)? {
        let case = format!("{name} in {gigabytes:.1} GB, {} segments", generated.raw.len());
        eprintln!("bench: {case}: {expression}");
        let runs: Vec<Ours> = (0..=stage.runs)
            .map(|_| ours(stage.tapline, &generated.archive(), &expression))
            .collect::<anyhow::Result<_>>()?;
        // The first one warms the page cache.
        let times = runs[1..].iter().map(|run| run.ms).collect();
        let last = runs.last().context("a run")?;
        let peak_mib = runs.iter().map(|run| run.peak_kib).max().unwrap_or(0) / 1024;
        let said = last.said.rsplit_once("; ").map_or("", |(_, said)| said);
        let note = format!("{} packets; {said}; peak {peak_mib} MiB", last.found.len());
        let mut both = vec![row(&case, "tapline", times).note(&note)];
        let (mut times, mut found) = (Vec::new(), Vec::new());
        for run in 0..=stage.runs.min(2) {
            let begun = Instant::now();
            found = tcpdump(&generated, &expression)?;
            if run > 0 {
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
        }
        let mut wanted = found;
        wanted.sort();
        let mut own = last.found.clone();
        own.sort();
        ensure!(own == wanted, "{expression}: {} found, tcpdump has {}", own.len(), wanted.len());
        both.push(row(&case, "tcpdump -r, unsealed", times));
        compare(&mut both);
        rows.append(&mut both);
    }
    Ok(rows)
}

fn row(case: &str, subject: &str, each: Vec<f64>) -> Row {
    Row {
        median: median(&each),
        best: each.iter().copied().reduce(f64::min),
        each,
        ..Row::skipped(BENCH, case, subject, Unit::Milliseconds, None)
    }
}

/// A flow of some packets, one of its hosts, and a port that few use: of a segment in the middle.
fn cases(generated: &Generated) -> anyhow::Result<Vec<Case>> {
    let path = &generated.raw[generated.raw.len() / 2];
    let mut reader = Reader::new(BufReader::new(File::open(path)?))?;
    let mut flows: BTreeMap<(IpAddr, u16, IpAddr, u16), u64> = BTreeMap::new();
    while let Some(record) = reader.next()? {
        let walk = Walk::new(LinkType::ETHERNET, record.data);
        let Some(tuple) = walk.five_tuple(record.data).filter(|tuple| tuple.protocol == 6) else {
            continue;
        };
        let Some((from, to)) = tuple.ports else { continue };
        // From the client: its port is the higher one.
        if from > 32_768 && to < 32_768 {
            *flows.entry((tuple.src, from, tuple.dst, to)).or_default() += 1;
        }
    }
    // The one in the middle: its hosts are neither the busiest nor the quietest ones.
    let find = |is_it: &dyn Fn(u16, u64) -> bool| {
        let all = flows.iter().filter(|((_, _, _, port), count)| is_it(*port, **count));
        let all: Vec<_> = all.map(|(flow, _)| *flow).collect();
        all.get(all.len() / 2).copied().context("the segment has no such flow")
    };
    let (client, from, server, to) = find(&|port, count| port == 443 && (20..60).contains(&count))?;
    let (.., port) = find(&|port, _| port > 10_000)?;
    Ok(vec![
        Case {
            name: "one flow".into(),
            expression: format!(
                "tcp and host {client} and host {server} and port {from} and port {to}"
            ),
        },
        Case { name: "one host".into(), expression: format!("host {client}") },
        Case { name: "one port".into(), expression: format!("tcp port {port}") },
    ])
}

fn ours(tapline: &Path, archive: &Path, expression: &str) -> anyhow::Result<Ours> {
    let begun = Instant::now();
    let mut command = Command::new(tapline);
    command.args(["search", "-w", "-", "--archive"]).arg(archive).arg("--").arg(expression);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (mut stdout, mut stderr) = (Vec::new(), String::new());
    let mut out = child.stdout.take().context("piped")?;
    let mut err = child.stderr.take().context("piped")?;
    let reader = std::thread::spawn(move || out.read_to_end(&mut stdout).map(|_| stdout));
    let (peak_kib, ended) = watch(&mut child, begun)?;
    let stdout = reader.join().ok().context("the reader does not panic")??;
    err.read_to_string(&mut stderr)?;
    ensure!(child.wait()?.success(), "{stderr}");
    let said = stderr.lines().last().unwrap_or_default().to_owned();
    Ok(Ours { found: packets(&stdout)?, ms: ended.as_secs_f64() * 1e3, peak_kib, said })
}

/// Waits for the end; gives the most memory that was seen, and when it ended.
fn watch(child: &mut Child, begun: Instant) -> anyhow::Result<(u64, Duration)> {
    let path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        if child.try_wait()?.is_some() {
            return Ok((peak, begun.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// tcpdump over one file after the other.
fn tcpdump(generated: &Generated, expression: &str) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for path in &generated.raw {
        let mut command = Command::new("tcpdump");
        command.args(["--time-stamp-precision=nano", "-w", "-", "-r"]).arg(path);
        let output = command.arg("--").arg(expression).output().context("start tcpdump")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        found.append(&mut packets(&output.stdout)?);
    }
    Ok(found)
}

fn packets(capture: &[u8]) -> anyhow::Result<Vec<Found>> {
    let mut reader = Reader::new(capture)?;
    let mut packets = Vec::new();
    while let Some(record) = reader.next()? {
        packets.push((record.ts_ns, record.data.to_vec()));
    }
    Ok(packets)
}
