//! A segment sealed, beside `gzip -6` of the same file: CPU time, ratio, and what the index takes.

use super::Stage;
use crate::mixes::{Mix, Traffic};
use crate::row::{Row, Unit, compare};
use crate::timing::median;
use anyhow::Context;
use archive::SegmentName;
use archive::seal::{SealOptions, seal};
use capfile::{Direction, Interface, PcapngWriter, SectionInfo};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::Command;
use ulid::Ulid;

pub const BENCH: &str = "seal";
/// A segment as recorders close them.
const SEGMENT_BYTES: u64 = 100_000_000;
const LEVELS: [i32; 3] = [-1, 1, 3];
/// 2026-11-27T00:00:00Z.
const START_NS: u64 = 1_795_737_600_000_000_000;
/// Of a busy source: 100 MB are a few seconds.
const GAP_NS: u64 = 20_000;

pub fn run(stage: &Stage<'_>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for mix in Mix::ALL {
        let closed = stage.folder.join("closed.pcapng");
        let bytes = SEGMENT_BYTES.min(stage.raw_bytes);
        let name = segment(mix, &closed, bytes)?;
        let bytes = closed.metadata()?.len() as f64;
        let runs = || 0..stage.runs.max(1);
        let gzip: Vec<(f64, u64)> = runs().map(|_| gzip(&closed)).collect::<Result<_, _>>()?;
        let gzip_bytes = gzip.first().map_or(0, |&(_, len)| len) as f64;
        let peer = row(mix, "gzip -6", bytes, gzip.iter().map(|&(seconds, _)| seconds))
            .note(&format!("{:.3} to 1", bytes / gzip_bytes));
        for level in LEVELS {
            let options = SealOptions { level };
            let mut seconds = Vec::new();
            let mut note = String::new();
            for _ in runs() {
                let start = cpu_seconds();
                let sealed = seal(&closed, &name, stage.folder, &options)?;
                seconds.push(cpu_seconds() - start);
                let record = &sealed.record;
                note = format!(
                    "{:.3} to 1, {:.3} of gzip's; index {:.2} % of raw, {} rows",
                    bytes / record.bytes as f64,
                    gzip_bytes / record.bytes as f64,
                    record.index_bytes as f64 / bytes * 100.0,
                    record.index_rows
                );
                std::fs::remove_file(&sealed.data)?;
                std::fs::remove_file(&sealed.index)?;
            }
            let ours = row(mix, &format!("tapline, level {level}"), bytes, seconds.into_iter());
            let mut pair = [ours.note(&note), peer.clone()];
            compare(&mut pair);
            let [ours, _] = pair;
            rows.push(ours);
        }
        rows.push(peer);
        std::fs::remove_file(&closed)?;
    }
    Ok(rows)
}

fn row(mix: Mix, subject: &str, bytes: f64, seconds: impl Iterator<Item = f64>) -> Row {
    let each: Vec<f64> = seconds.map(|seconds| bytes / seconds / 1e6).collect();
    let case = format!("{}, CPU", mix.name());
    Row {
        median: median(&each),
        best: each.iter().copied().max_by(f64::total_cmp),
        each,
        ..Row::skipped(BENCH, &case, subject, Unit::MegaBytes, None)
    }
}

fn segment(mix: Mix, path: &Path, bytes: u64) -> anyhow::Result<SegmentName> {
    let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut writer = PcapngWriter::new(file, &SectionInfo::default())?;
    let interface = writer.add_interface(&Interface::new(capfile::LINKTYPE_ETHERNET))?;
    let mut traffic = Traffic::new(mix, 6, START_NS, GAP_NS);
    let mut span_ns = None;
    while writer.bytes_written() < bytes {
        let (ts_ns, frame) = traffic.next_packet();
        let len = frame.len() as u32;
        writer.write(interface, ts_ns, len, Direction::In, frame, None)?;
        span_ns = Some((span_ns.map_or(ts_ns, |(first_ns, _)| first_ns), ts_ns));
    }
    writer.flush()?;
    let (first_ns, last_ns) = span_ns.context("a segment has packets")?;
    Ok(SegmentName { first_ns, last_ns, id: Ulid::from_parts(1, 1), source: "eth0".into() })
}

/// CPU time of this thread, which does all of it.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU seconds of gzip, and how long its output is.
fn gzip(path: &Path) -> anyhow::Result<(f64, u64)> {
    let script = "TIMEFORMAT='%U %S'; time gzip -6 -c \"$0\" | wc -c";
    let output = Command::new("bash").args(["-c", script]).arg(path).output()?;
    let times = String::from_utf8(output.stderr)?;
    let seconds = times.split_whitespace().map(str::parse::<f64>).sum::<Result<f64, _>>();
    let len = String::from_utf8(output.stdout)?.trim().parse();
    Ok((seconds.with_context(|| times.clone())?, len.context("gzip gave nothing")?))
}
