//! `tapline archive expire`: removes what is no longer kept.

use super::{Opened, now_ns, print_json, text};
use crate::cli::{ArchiveExpire, Format};
use crate::completions::print;
use crate::failure::Failure;
use ::archive::expire::{self, Plan, Removing, Rules};
use ::archive::holds::Holds;
use ::archive::manifest::{self, Chain, Removal};
use ::archive::{Window, catalog};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write;
use ulid::Ulid;

/// One line of JSON.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Segment { object: String, reason: Removal, packets: Option<u64>, bytes: u64, removed: bool },
    Held { object: String },
    Total(Total),
}

#[derive(Serialize)]
struct Total {
    /// Whether nothing was done.
    dry_run: bool,
    /// Removed, or to be removed.
    segments: u64,
    packets: u64,
    bytes: u64,
    kept_segments: u64,
    kept_bytes: u64,
    held_segments: u64,
    /// Bytes above a bound that stay, because holds cover them.
    excess_bytes: u64,
}

pub fn run(options: &ArchiveExpire) -> Result<(), Failure> {
    let rules = Rules {
        older_than: options.older_than,
        bytes_max: options.max_bytes,
        bytes_max_per_source: options.keep_per_source,
        sources: options.source.clone(),
    };
    let archive = Opened::new(&options.place)?;
    let manifest = archive.runtime.run(manifest::read(&archive.store))?;
    let segments = archive.runtime.run(catalog::list(&archive.store, None, Window::ALL))?;
    // Last of all, so that one that was placed meanwhile counts.
    let holds = archive.runtime.run(Holds::load(&archive.store))?;
    holds.complete(&manifest)?;
    let mut plan = expire::plan(&segments, &holds, &rules, now_ns());
    let records = manifest.segments();
    for of in &mut plan.remove {
        of.packets = records.get(of.object.as_str()).map(|record| record.packets);
    }
    let mut gone: Vec<Removing> = Vec::new();
    let result = match options.dry_run || plan.remove.is_empty() {
        true => Ok(()),
        false => archive.runtime.run(async {
            let mut chain = Chain::open(&archive.store, Ulid::new()).await?;
            let removed = |of: &Removing| gone.push(of.clone());
            expire::apply(
                &archive.store,
                &mut chain,
                &plan,
                &mut BTreeSet::new(),
                now_ns(),
                removed,
            )
            .await
        }),
    };
    let told = if options.dry_run { &plan.remove } else { &gone };
    match options.place.format {
        Format::Json => {
            let lines = told.iter().map(|of| Line::Segment {
                object: of.object.clone(),
                reason: of.reason,
                packets: of.packets,
                bytes: of.bytes,
                removed: !options.dry_run,
            });
            let held = plan.held.iter();
            let lines = lines
                .chain(held.map(|name| Line::Held { object: name.key(::archive::Part::Data) }))
                .chain([Line::Total(Total::new(&plan, told, options.dry_run))]);
            print_json(&lines.collect::<Vec<_>>())?;
        }
        Format::Text => print(to_text(&plan, told, options.dry_run).as_bytes())?,
    }
    result
}

impl Total {
    fn new(plan: &Plan, told: &[Removing], dry_run: bool) -> Total {
        Total {
            dry_run,
            segments: told.len() as u64,
            packets: told.iter().filter_map(|of| of.packets).sum(),
            bytes: told.iter().map(|of| of.bytes).sum(),
            kept_segments: plan.kept.0,
            kept_bytes: plan.kept.1,
            held_segments: plan.held.len() as u64,
            excess_bytes: plan.excess_bytes,
        }
    }
}

fn to_text(plan: &Plan, told: &[Removing], dry_run: bool) -> String {
    let mut text = String::new();
    let what = if dry_run { "would remove" } else { "removed" };
    for of in told {
        let why = match of.reason {
            Removal::Age => "age",
            _ => "size",
        };
        let _ = writeln!(text, "{what} {} ({why}, {})", of.object, text::bytes(of.bytes));
    }
    let total = Total::new(plan, told, dry_run);
    let _ = writeln!(
        text,
        "{what} {}, {}, {}; kept {}, {}; {} held",
        text::count(total.segments, "segment"),
        text::count(total.packets, "packet"),
        text::bytes(total.bytes),
        text::count(total.kept_segments, "segment"),
        text::bytes(total.kept_bytes),
        total.held_segments
    );
    if total.excess_bytes > 0 {
        let excess = text::bytes(total.excess_bytes);
        let _ = writeln!(text, "{excess} above the bound stay, because they are held");
    }
    text
}
