//! `tapline archive ls`: which segments there are, and what has expired.

use super::{Opened, print_json, text};
use crate::cli::{ArchiveLs, ArchiveScope, Format};
use crate::completions::print;
use crate::failure::Failure;
use ::archive::catalog::{Place, Segment, State};
use ::archive::holds::Holds;
use ::archive::manifest::{Event, Manifest, Removal, SegmentRecord};
use ::archive::{Part, SegmentName, manifest};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write;

/// One line of JSON.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Segment(Listed),
    Hold(Held),
    Expired(Expired),
    Total(Total),
}

#[derive(Serialize)]
struct Listed {
    /// Key of its data, or its file in the spool.
    object: String,
    source: String,
    /// Times of its earliest and its latest packet; null while it is being written.
    first: Option<String>,
    last: Option<String>,
    /// `open`, `closed`, `sealed` (in the spool), `plain`, `stored`.
    state: &'static str,
    packets: Option<u64>,
    raw_bytes: Option<u64>,
    /// Bytes of its data.
    bytes: u64,
    index_bytes: Option<u64>,
    /// Packets that were lost before the segment.
    dropped: Option<u64>,
    held: Vec<String>,
}

/// A hold that there is.
#[derive(Serialize)]
struct Held {
    name: String,
    source: Option<String>,
    after: Option<String>,
    before: Option<String>,
    objects: Vec<String>,
    note: Option<String>,
    time: String,
    /// Segments of the list that it covers.
    segments: u64,
}

/// Segments that were removed, for one reason.
#[derive(Serialize)]
struct Expired {
    reason: Removal,
    segments: u64,
    packets: u64,
    bytes: u64,
    first: String,
    last: String,
}

#[derive(Serialize, Default)]
struct Total {
    segments: u64,
    sources: u64,
    /// Of the segments whose packets are known.
    packets: u64,
    raw_bytes: u64,
    /// Bytes of data and indexes.
    bytes: u64,
    in_spool: u64,
    held: u64,
}

pub fn run(options: &ArchiveLs) -> Result<(), Failure> {
    let archive = Opened::new(&options.place)?;
    let mut segments = archive.segments(options.scope.window())?;
    segments.retain(|of| options.scope.has_source(&of.name.source));
    let holds = archive.runtime.run(Holds::load(&archive.store))?;
    let manifest = archive.runtime.run(manifest::read(&archive.store))?;
    let records = manifest.segments();
    let listed: Vec<Listed> = segments
        .iter()
        .map(|of| Listed::new(of, records.get(of.name.key(Part::Data).as_str()).copied(), &holds))
        .collect();
    let held = holds.all().iter().map(|hold| Held {
        name: hold.name.clone(),
        source: hold.source.clone(),
        after: hold.after_ns.map(text::time),
        before: hold.before_ns.map(text::time),
        objects: hold.objects.clone(),
        note: hold.note.clone(),
        time: hold.time.clone(),
        segments: segments.iter().filter(|of| hold.covers(&of.name)).count() as u64,
    });
    let held: Vec<Held> = held.collect();
    let expired = expired(&manifest, &options.scope);
    let total = Total::of(&listed);
    match options.place.format {
        Format::Json => {
            let lines = listed.into_iter().map(Line::Segment);
            let lines = lines.chain(held.into_iter().map(Line::Hold));
            let lines = lines.chain(expired.into_iter().map(Line::Expired));
            print_json(&lines.chain([Line::Total(total)]).collect::<Vec<_>>())
        }
        Format::Text => print(to_text(&listed, &held, &expired, &total).as_bytes()),
    }
}

impl Listed {
    fn new(segment: &Segment, record: Option<&SegmentRecord>, holds: &Holds) -> Listed {
        let is_open = segment.state == State::Open;
        let time = |ts_ns| (!is_open).then(|| text::time(ts_ns));
        Listed {
            object: match &segment.data.0 {
                Place::Object(key) => key.clone(),
                Place::File(path) => path.display().to_string(),
            },
            source: segment.name.source.clone(),
            first: time(segment.name.first_ns),
            last: time(segment.name.last_ns),
            state: match segment.state {
                State::Open => "open",
                State::Closed => "closed",
                State::Sealed => "sealed",
                State::Plain => "plain",
                State::Stored => "stored",
            },
            packets: record.map(|record| record.packets),
            raw_bytes: record.map(|record| record.raw_bytes),
            bytes: segment.data.1,
            index_bytes: segment.index.as_ref().map(|(_, bytes)| *bytes),
            dropped: record.and_then(|record| record.dropped),
            held: holds.covering(&segment.name).map(str::to_owned).collect(),
        }
    }
}

impl Total {
    fn of(listed: &[Listed]) -> Total {
        let sources: BTreeSet<&str> = listed.iter().map(|of| of.source.as_str()).collect();
        let mut total = Total { sources: sources.len() as u64, ..Total::default() };
        for of in listed {
            total.segments += 1;
            total.packets += of.packets.unwrap_or(0);
            total.raw_bytes += of.raw_bytes.unwrap_or(0);
            total.bytes += of.bytes + of.index_bytes.unwrap_or(0);
            total.in_spool += u64::from(matches!(of.state, "open" | "closed" | "sealed"));
            total.held += u64::from(!of.held.is_empty());
        }
        total
    }
}

/// What was removed of a range of time, by reason.
fn expired(manifest: &Manifest, scope: &ArchiveScope) -> Vec<Expired> {
    let mut all: Vec<(Expired, (u64, u64))> = Vec::new();
    for entry in manifest.removed().into_values() {
        let Event::Removed { object, reason, packets, bytes } = &entry.event else { continue };
        let Some((name, _)) = SegmentName::parse_key(object) else { continue };
        let span = (name.first_ns, name.last_ns);
        if !scope.has_source(&name.source) || !scope.window().overlaps(span) {
            continue;
        }
        let known = all.iter_mut().find(|(of, _)| of.reason == *reason);
        let (expired, whole) = match known {
            Some(known) => known,
            None => {
                let new = Expired {
                    reason: *reason,
                    segments: 0,
                    packets: 0,
                    bytes: 0,
                    first: String::new(),
                    last: String::new(),
                };
                all.push((new, span));
                all.last_mut().expect("it was pushed")
            }
        };
        expired.segments += 1;
        expired.packets += packets.unwrap_or(0);
        expired.bytes += bytes;
        *whole = (whole.0.min(span.0), whole.1.max(span.1));
    }
    all.into_iter()
        .map(|(of, (first, last))| Expired {
            first: text::time(first),
            last: text::time(last),
            ..of
        })
        .collect()
}

fn to_text(listed: &[Listed], held: &[Held], expired: &[Expired], total: &Total) -> String {
    let mut text = String::new();
    for of in listed {
        let _ = write!(text, "{} {}", of.object, of.state);
        if let Some(packets) = of.packets {
            let _ = write!(text, ", {}", text::count(packets, "packet"));
        }
        match of.raw_bytes {
            Some(raw) => {
                let stored = text::bytes(of.bytes + of.index_bytes.unwrap_or(0));
                let _ = write!(text, ", {} in {stored}", text::bytes(raw));
            }
            None => text += &format!(", {}", text::bytes(of.bytes)),
        }
        if let Some(dropped) = of.dropped.filter(|&dropped| dropped > 0) {
            let _ = write!(text, ", {dropped} lost before it");
        }
        if !of.held.is_empty() {
            let _ = write!(text, ", held by {}", of.held.join(", "));
        }
        text.push('\n');
    }
    for Held { name, note, segments, .. } in held {
        let note =
            note.as_ref().map_or(String::new(), |note| format!(" ({})", note.escape_debug()));
        let _ = writeln!(text, "hold {name}{note}: {}", text::count(*segments, "segment"));
    }
    for of in expired {
        let reason = match of.reason {
            Removal::Age => "expired by age",
            Removal::Bytes => "expired by size",
            Removal::Asked => "removed",
            Removal::Replaced => "replaced",
        };
        let _ = writeln!(
            text,
            "{reason}: {}, {}, {}, from {} to {}",
            text::count(of.segments, "segment"),
            text::count(of.packets, "packet"),
            text::bytes(of.bytes),
            of.first,
            of.last
        );
    }
    let _ = writeln!(
        text,
        "{} of {}, {}, {} in {}; {} in the spool, {} held",
        text::count(total.segments, "segment"),
        text::count(total.sources, "source"),
        text::count(total.packets, "packet"),
        text::bytes(total.raw_bytes),
        text::bytes(total.bytes),
        total.in_spool,
        total.held
    );
    text
}
