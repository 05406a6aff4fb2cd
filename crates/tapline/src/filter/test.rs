//! `tapline filter test`: a filter over a capture file, without writing one.

use super::{Chosen, Programs};
use crate::cli::{FilterTest, Format};
use crate::completions::print;
use crate::failure::Failure;
use ::filter::Action;
use capfile::Reader;
use io::file::decompressed;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::path::Path;
use wire::LinkType;

/// Packets and their bytes on the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Count {
    packets: u64,
    bytes: u64,
}

/// What a filter did to a file.
#[derive(Serialize)]
struct Outcome {
    file: String,
    filter: String,
    total: Count,
    kept: Count,
    /// By rules that say EXCLUDE.
    excluded: Count,
    /// By no rule; or not by the expression.
    unmatched: Count,
    /// Of link types for which the filter has no program, among those that did not match.
    unreadable: Count,
    rules: Vec<RuleOutcome>,
}

#[derive(Serialize)]
struct RuleOutcome {
    index: u32,
    rule: String,
    #[serde(flatten)]
    hits: Count,
    /// Whether it can never decide, whatever comes.
    shadowed: bool,
    /// The rule that hides it alone; null: none, or several do.
    shadowed_by: Option<u32>,
}

pub fn run(options: &FilterTest) -> Result<(), Failure> {
    let chosen = Chosen::new(&options.choice)?;
    let outcome = Outcome::of(&chosen, &options.read)?;
    let text = match options.format {
        Format::Json => {
            serde_json::to_string(&outcome)
                .map_err(|error| Failure::CouldNot(format!("write JSON: {error}")))?
                + "\n"
        }
        Format::Text => outcome.to_text(),
    };
    print(text.as_bytes())
}

impl Count {
    fn add(&mut self, origlen: u32) {
        self.packets += 1;
        self.bytes += u64::from(origlen);
    }
}

impl Outcome {
    fn of(chosen: &Chosen, path: &Path) -> Result<Outcome, Failure> {
        let mut outcome = Outcome {
            file: path.display().to_string(),
            filter: chosen.name.clone(),
            total: Count::default(),
            kept: Count::default(),
            excluded: Count::default(),
            unmatched: Count::default(),
            unreadable: Count::default(),
            rules: rules(chosen),
        };
        let failed =
            |error: capfile::Error| Failure::CouldNot(format!("{}: {error}", path.display()));
        let mut reader = Reader::new(open(path)?).map_err(failed)?;
        let mut programs: BTreeMap<LinkType, Option<Programs>> = BTreeMap::new();
        while reader.advance().map_err(failed)? {
            let record = reader.record().expect("advance has said that there is one");
            let interface = &reader.interfaces()[record.interface as usize];
            let link_type = LinkType(interface.link_type);
            let programs = match programs.get(&link_type) {
                Some(programs) => programs,
                // The file's first link type must be one that the filter is for.
                None if programs.is_empty() => {
                    let compiled = chosen.programs(link_type)?;
                    programs.entry(link_type).or_insert(Some(compiled))
                }
                None => {
                    let compiled = chosen.programs(link_type);
                    if let Err(failure) = &compiled {
                        let message = failure.message().unwrap_or_default();
                        tracing::warn!("packets of link type {link_type} do not match: {message}");
                    }
                    programs.entry(link_type).or_insert(compiled.ok())
                }
            };
            outcome.add(chosen, programs.as_ref(), &record);
        }
        if let Some(warning) = reader.warning() {
            tracing::warn!("{}: {warning}", path.display());
        }
        Ok(outcome)
    }

    fn add(&mut self, chosen: &Chosen, programs: Option<&Programs>, record: &capfile::Record<'_>) {
        let (frame, origlen) = (record.data, record.origlen);
        self.total.add(origlen);
        let Some(programs) = programs else {
            self.unmatched.add(origlen);
            return self.unreadable.add(origlen);
        };
        let program = programs.of(record.direction);
        let action = match chosen.rules() {
            Some(rules) => {
                // Rules ask for the bytes that are there.
                let number = program.run(frame, record.caplen());
                if let Some(rule) = self.rules.get_mut((number as usize).wrapping_sub(1)) {
                    rule.hits.add(origlen);
                }
                rules.action(number)
            }
            None => program.matches(frame, origlen).then_some(Action::Include),
        };
        match action {
            Some(Action::Include) => self.kept.add(origlen),
            Some(Action::Exclude) => self.excluded.add(origlen),
            None => self.unmatched.add(origlen),
        }
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |what: std::fmt::Arguments<'_>| {
            text.write_fmt(what).expect("writing to memory cannot fail");
            text.push('\n');
        };
        let Outcome { total, kept, excluded, unmatched, unreadable, .. } = self;
        line(format_args!("{}: {} packets, {} bytes", self.file, total.packets, total.bytes));
        line(format_args!(
            "kept {} packets ({}), {} bytes ({})",
            kept.packets,
            share(kept.packets, total.packets),
            kept.bytes,
            share(kept.bytes, total.bytes)
        ));
        if !self.rules.is_empty() {
            line(format_args!("excluded {} packets, {} bytes", excluded.packets, excluded.bytes));
        }
        line(format_args!("unmatched {} packets, {} bytes", unmatched.packets, unmatched.bytes));
        if unreadable.packets > 0 {
            line(format_args!(
                "of them {} packets are of link types that the filter is not for",
                unreadable.packets
            ));
        }
        for RuleOutcome { index, rule, hits, shadowed, shadowed_by } in &self.rules {
            let hits = match (hits.packets, shadowed, shadowed_by) {
                (1.., ..) => format!("{} packets, {} bytes", hits.packets, hits.bytes),
                (0, false, _) => "no packets".to_owned(),
                (0, true, Some(by)) => format!("never, as rule {by} matches all of it"),
                (0, true, None) => "never, as rules before it match all of it".to_owned(),
            };
            line(format_args!("rule {index}: {hits}: {rule}"));
        }
        text
    }
}

/// The rules, without hits.
fn rules(chosen: &Chosen) -> Vec<RuleOutcome> {
    let Some(rules) = chosen.rules() else {
        return Vec::new();
    };
    let outcome = |(index, rule): (u32, &::filter::Rule)| RuleOutcome {
        index,
        rule: rule.to_string(),
        hits: Count::default(),
        shadowed: false,
        shadowed_by: None,
    };
    let mut outcomes: Vec<RuleOutcome> = (1..).zip(rules.as_slice()).map(outcome).collect();
    for shadow in rules.shadows() {
        let rule = &mut outcomes[shadow.number as usize - 1];
        (rule.shadowed, rule.shadowed_by) = (true, shadow.by);
    }
    outcomes
}

fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "0.0 %".to_owned(),
        whole => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}

/// A file, which may be compressed, or standard input.
fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let failed = |error| Failure::CouldNot(format!("{}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    let stream = decompressed(&path.display().to_string(), Box::new(file)).map_err(failed)?;
    Ok(stream)
}
