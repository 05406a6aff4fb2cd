//! `tapline archive verify` and `repair`: whether an archive is what it was, and what can be mended.

use super::progress::Progress;
use super::{Opened, now_ns, print_json, text};
use crate::cli::{ArchiveRepair, ArchiveVerify, Format, Verbosity};
use crate::completions::print;
use crate::failure::Failure;
use ::archive::repair::{self, Action, Mended};
use ::archive::seal::SealOptions;
use ::archive::verify::{self, Finding, Report};
use serde::Serialize;
use std::fmt::Write;

/// One line of JSON.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Finding(&'a Finding),
    Mended(&'a Mended),
    Total(Total<'a>),
    RepairTotal {
        /// Whether nothing was done.
        dry_run: bool,
        mended: u64,
        /// Faults that stay.
        faults: u64,
    },
}

#[derive(Serialize)]
struct Total<'a> {
    deep: bool,
    faults: u64,
    #[serde(flatten)]
    report: &'a Report,
}

pub fn run(options: &ArchiveVerify, verbosity: &Verbosity) -> Result<(), Failure> {
    let archive = Opened::new(&options.place)?;
    let wanted = verify::Options {
        spool: archive.spool.clone(),
        deep: options.deep,
        indexes: options.deep,
        scratch: std::env::temp_dir(),
    };
    let bar = Progress::of_objects(verbosity);
    let show = |done, all, key: &str| bar.show(done, all, key);
    let report = archive.runtime.run(verify::verify(&archive.store, &wanted, show))?;
    drop(bar);
    match options.place.format {
        Format::Json => {
            let total = Total { deep: options.deep, faults: report.faults(), report: &report };
            let lines = report.findings.iter().map(Line::Finding).chain([Line::Total(total)]);
            print_json(&lines.collect::<Vec<_>>())?;
        }
        Format::Text => print(to_text(&report, options.deep).as_bytes())?,
    }
    if report.faults() == 0 { Ok(()) } else { Err(Failure::Told) }
}

fn to_text(report: &Report, deep: bool) -> String {
    let mut text = findings(&report.findings);
    let _ = write!(
        text,
        "{} with {}, {} removed; {} in {}, {}",
        text::count(report.segments, "segment"),
        text::count(report.packets, "packet"),
        report.removed,
        text::count(report.entries, "entry").replace("entrys", "entries"),
        text::count(report.chains, "chain"),
        text::count(report.holds, "hold")
    );
    if report.in_spool > 0 {
        let _ = write!(text, "; {} in the spool", report.in_spool);
    }
    if deep {
        let _ = write!(text, "; {} read", text::bytes(report.read_bytes));
    }
    let _ = writeln!(text, ": {}", faults(report.faults()));
    text
}

fn findings(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { object, fault, what, .. } in findings {
        let word = if *fault { "fault" } else { "note" };
        let _ = writeln!(text, "{word}: {}: {what}", object.escape_debug());
    }
    text
}

fn faults(number: u64) -> String {
    if number == 0 { "no fault".into() } else { text::count(number, "fault") }
}

pub fn mend(options: &ArchiveRepair, verbosity: &Verbosity) -> Result<(), Failure> {
    let archive = Opened::new(&options.place)?;
    let dry_run = options.dry_run;
    let wanted = repair::Options {
        spool: archive.spool.clone(),
        scratch: std::env::temp_dir(),
        dry_run,
        seal: SealOptions::default(),
    };
    let bar = Progress::of_objects(verbosity);
    let show = |done, all, key: &str| bar.show(done, all, key);
    let repaired = archive.runtime.run(repair::repair(&archive.store, &wanted, now_ns, show))?;
    drop(bar);
    let left = repaired.left.iter().filter(|of| of.fault).count() as u64;
    let mended = repaired.mended.len() as u64;
    match options.place.format {
        Format::Json => {
            let lines = repaired.mended.iter().map(Line::Mended);
            let lines = lines.chain(repaired.left.iter().map(Line::Finding));
            let total = Line::RepairTotal { dry_run, mended, faults: left };
            print_json(&lines.chain([total]).collect::<Vec<_>>())?;
        }
        Format::Text => {
            let mut text = String::new();
            for Mended { object, action } in &repaired.mended {
                let would = if dry_run { "would be " } else { "" };
                let done = match action {
                    Action::Reindexed => "made anew from the data",
                    Action::Recorded => "entered into the manifest, with its index",
                    Action::Removed => "removed, as the manifest says",
                    Action::HoldRecorded => "entered into the manifest",
                    Action::Sealed => "sealed and stored",
                    Action::Cleared => "deleted, as nobody goes on with it",
                };
                let _ = writeln!(text, "{}: {would}{done}", object.escape_debug());
            }
            text += &findings(&repaired.left);
            let what = if dry_run { "to be mended" } else { "mended" };
            let _ = writeln!(text, "{mended} {what}, {} left", faults(left));
            print(text.as_bytes())?;
        }
    }
    if left == 0 { Ok(()) } else { Err(Failure::Told) }
}
