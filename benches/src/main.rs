//! Measures what tapline costs, beside what its peers cost, and prints one table.
//!
//! `make bench`, or `cargo run --release -p bench -- --quick --only capture`. docs/benchmarks.md
//! says how it is measured.

mod archives;
mod micro;
#[allow(dead_code, reason = "one mix is searched, the others are there to be sealed")]
mod mixes;
mod network;
mod row;
mod timing;

use anyhow::Context;
use clap::Parser;
use network::{Effort, Stage};
use row::{Row, Unit};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where files are written to show what the disk costs.
const MEMORY: &str = "/dev/shm";

/// Measures tapline beside its peers and prints one table. Rows with real packets need root.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Options {
    /// Fewer and shorter runs: for a look, not for a claim
    #[arg(long)]
    quick: bool,
    /// Only benchmarks whose name contains this; may be given more than once
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Frame sizes of the benchmarks with packets, bytes (default 64, 512 and 1500)
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(58..=1500))]
    size: Vec<u16>,
    /// Packets of one run (default 500000, or 60000 with --quick)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    packets: Option<u64>,
    /// Runs of each subject in each case (default 3, or 1 with --quick)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=99))]
    runs: Option<u64>,
    /// Of `source` and `inline` only what contains this, such as `tapline, kernel`, beside nothing; may be
    /// given more than once
    #[arg(long, value_name = "NAME")]
    subject: Vec<String>,
    /// Of `source` and `inline` only cases that contain this; may be given more than once
    #[arg(long, value_name = "CASE")]
    case: Vec<String>,
    /// Write the rows as JSON lines too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write capture files below this folder (default: beside the build)
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Bytes of packets in the archive that is searched (default 10 GB, or 300 MB with --quick)
    #[arg(long, value_name = "SIZE", value_parser = api::parse_size)]
    archive_bytes: Option<u64>,
    /// Generate the archive there and leave it, or take what was left there
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let wanted = &|name: &str| {
        options.only.is_empty() || options.only.iter().any(|only| name.contains(only.as_str()))
    };
    let mut rows = Vec::new();
    let batch = Duration::from_millis(if options.quick { 2 } else { 20 });
    for (name, run) in micro::ALL.into_iter().filter(|(name, _)| wanted(name)) {
        eprintln!("bench: {name}");
        rows.extend(run(batch)?);
    }
    rows.extend(with_packets(&options, wanted)?);
    rows.extend(with_archives(&options, wanted)?);
    print!("{}", row::table(&rows));
    if let Some(path) = &options.json {
        let write = || row::json_lines(&rows, std::fs::File::create(path)?);
        write().with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn with_packets(options: &Options, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Row>> {
    let chosen: Vec<_> = network::ALL.into_iter().filter(|(name, _)| wanted(name)).collect();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    if !rustix::process::geteuid().is_root() {
        let skipped = |(name, _): (&str, _)| {
            let why = Some("needs root".into());
            Row::skipped(name, "", "tapline", Unit::NsPerPacket, why)
        };
        return Ok(chosen.into_iter().map(skipped).collect());
    }
    let tapline = network::tapline()?;
    let folder = Folder::below(&below(options)?)?;
    let memory = (!options.quick).then(|| Folder::below(Path::new(MEMORY)).ok()).flatten();
    let effort = effort(options);
    let stage = Stage {
        tapline: &tapline,
        folder: &folder.0,
        memory: memory.as_ref().map(|folder| folder.0.clone()),
        effort: &effort,
    };
    network::pin(network::CORE);
    let mut rows = Vec::new();
    for (name, run) in chosen {
        eprintln!("bench: {name}");
        rows.extend(run(&stage)?);
    }
    Ok(rows)
}

fn with_archives(options: &Options, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Row>> {
    let chosen: Vec<_> = archives::ALL.into_iter().filter(|(name, _)| wanted(name)).collect();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let tapline = network::tapline()?;
    let folder = Folder::below(&below(options)?)?;
    let (bytes, runs) = if options.quick { (300_000_000, 1) } else { (10_000_000_000, 3) };
    let stage = archives::Stage {
        tapline: &tapline,
        folder: &folder.0,
        kept: options.archive.clone(),
        raw_bytes: options.archive_bytes.unwrap_or(bytes),
        runs: options.runs.map_or(runs, |runs| runs as usize),
    };
    let mut rows = Vec::new();
    for (name, run) in chosen {
        eprintln!("bench: {name}");
        rows.extend(run(&stage)?);
    }
    Ok(rows)
}

/// Where files are written.
fn below(options: &Options) -> anyhow::Result<PathBuf> {
    Ok(match &options.dir {
        Some(dir) => dir.clone(),
        None => std::env::current_exe()?.parent().context("a program has a folder")?.into(),
    })
}

fn effort(options: &Options) -> Effort {
    let (packets, runs, paces) = match options.quick {
        true => (60_000, 1, vec![Some(100_000), None]),
        false => (500_000, 3, vec![Some(200_000), None]),
    };
    let sizes = options.size.iter().map(|&size| usize::from(size)).collect();
    Effort {
        sizes: if options.size.is_empty() { micro::SIZES.to_vec() } else { sizes },
        packets: options.packets.unwrap_or(packets),
        runs: options.runs.map_or(runs, |runs| runs as usize),
        paces,
        pace: 100_000,
        subjects: options.subject.clone(),
        cases: options.case.clone(),
    }
}

/// A folder of our own, removed with all in it when dropped.
struct Folder(PathBuf);

impl Folder {
    fn below(parent: &Path) -> anyhow::Result<Folder> {
        let path = parent.join(format!("tapline-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is in the build folder or in memory, and named after us.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
