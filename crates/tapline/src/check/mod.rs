//! `tapline check`: what a configuration would do, and what is wrong with it. Interfaces and routes are
//! looked at; nothing is opened or changed.

mod broker;
mod host;
mod l2tp;
mod taps;
pub mod words;

use crate::broker::WantedBroker;
use crate::cli::{Check, Format};
use crate::completions::print;
use crate::failure::Failure;
use api::{BrokerFile, FileError};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// What is said of a configuration.
#[derive(Debug, Default, Serialize)]
struct Findings {
    /// The file; null: the command line itself.
    file: Option<String>,
    /// `broker`, `mirror`, `l2tp transmit` or `l2tp receive`.
    kind: &'static str,
    parts: Vec<PartFinding>,
    /// Each way that packets take, from a source to an endpoint.
    ways: Vec<Vec<String>>,
    /// What will work, but not as one may think.
    warnings: Vec<String>,
    /// What this host lacks for it.
    mistakes: Vec<MistakeFinding>,
}

/// A part: a source, a map, a target, a tap, a tunnel.
#[derive(Debug, Serialize)]
struct PartFinding {
    kind: &'static str,
    name: String,
    /// What it is set to, with what was not said filled in.
    settings: Vec<(&'static str, String)>,
}

#[derive(Debug, Serialize)]
struct MistakeFinding {
    /// From 1; null: it has no place in a file.
    line: Option<usize>,
    column: Option<usize>,
    message: String,
}

impl PartFinding {
    fn new(kind: &'static str, name: &str) -> PartFinding {
        PartFinding { kind, name: name.into(), settings: Vec::new() }
    }

    fn set(&mut self, key: &'static str, value: impl Into<String>) {
        self.settings.push((key, value.into()));
    }
}

pub fn run(options: &Check) -> Result<(), Failure> {
    let findings = match &options.config {
        Some(path) => of_file(path, options)?,
        None => broker::check(&WantedBroker::read(None, &options.short)?),
    };
    let text = match options.format {
        Format::Text => text(&findings),
        Format::Json => {
            let json = serde_json::to_string(&findings);
            json.map_err(|e| Failure::CouldNot(format!("write JSON: {e}")))? + "\n"
        }
    };
    print(text.as_bytes())?;
    match findings.mistakes.is_empty() {
        true => Ok(()),
        false => Err(Failure::Told),
    }
}

fn of_file(path: &Path, options: &Check) -> Result<Findings, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::CouldNot(format!("{}: cannot be read: {error}", path.display()))
    };
    let content = std::fs::read(path).map_err(unreadable)?;
    let findings = if BrokerFile::is_meant(&content) {
        broker::check(&WantedBroker::read(Some(path), &options.short)?)
    } else if l2tp::is_meant(&content) {
        l2tp::check(path, &content)?
    } else {
        taps::check(&api::parse_mirror_file(path, &content).map_err(no_file)?)?
    };
    Ok(Findings { file: Some(path.display().to_string()), ..findings })
}

/// A file that has no tables of ours at all may be meant for another command.
fn no_file(error: FileError) -> Failure {
    let has_no_tap = error.place.is_none() && error.reason.starts_with("it has no tap");
    match has_no_tap {
        true => Failure::Usage(format!(
            "{}: it has neither taps nor a broker's parts nor L2TP tunnels; begin with [[tap]], with \
             [[source]], [[target]] and [[map]], or with a line of four columns",
            error.file
        )),
        false => error.into(),
    }
}

fn text(findings: &Findings) -> String {
    let mut text = String::new();
    let count = |kind: &str| findings.parts.iter().filter(|part| part.kind == kind).count();
    let counts = ["tap", "source", "map", "target", "tunnel"].into_iter().filter_map(|kind| {
        let count = count(kind);
        let plural = if count == 1 { "" } else { "s" };
        (count > 0).then(|| format!("{count} {kind}{plural}"))
    });
    let counts: Vec<String> = counts.collect();
    let file = findings.file.as_deref().unwrap_or("the command line");
    let _ = writeln!(text, "{file}: {}, {}", findings.kind, counts.join(", "));
    for PartFinding { kind, name, settings } in &findings.parts {
        let _ = writeln!(text, "{kind} {name}");
        for (key, value) in settings {
            let _ = writeln!(text, "  {key:<9} {value}");
        }
    }
    if !findings.ways.is_empty() {
        text += "ways\n";
    }
    for way in &findings.ways {
        let _ = writeln!(text, "  {}", way.join(" → "));
    }
    for warning in &findings.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    for mistake in &findings.mistakes {
        let _ = writeln!(text, "error: {}", mistake.message);
    }
    text
}
