//! What segments there are: in the store, and in the spool of a recorder.

use crate::error::Error;
use crate::name::{Part, SegmentName, SpoolState};
use crate::store::Store;
use crate::window::Window;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// Where a segment's data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A local file.
    File(PathBuf),
    /// An object of the store.
    Object(String),
}

/// How far a segment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// In the spool, being written or left behind: its span is not known, pcapng.
    Open,
    /// In the spool, complete, pcapng.
    Closed,
    /// In the spool, sealed.
    Sealed,
    /// In the store, pcapng: from before segments were sealed.
    Plain,
    /// In the store, sealed.
    Stored,
}

/// A segment that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its name; the span of an open one is all of time.
    pub name: SegmentName,
    /// How far it has come.
    pub state: State,
    /// Where its data is, and its length.
    pub data: (Place, u64),
    /// Where its index is, and its length, if it has one.
    pub index: Option<(Place, u64)>,
}

/// Lists the segments that overlap a range of time: those of the store, and those of a spool that have
/// not come so far. Ordered by time. What is no segment is passed over.
///
/// # Errors
/// [`Error`] if the store or the spool cannot be listed.
pub async fn list(
    store: &Store,
    spool: Option<&Path>,
    window: Window,
) -> Result<Vec<Segment>, Error> {
    let mut found: BTreeMap<Ulid, Segment> = BTreeMap::new();
    let mut indexes: BTreeMap<Ulid, (Place, u64)> = BTreeMap::new();
    let mut add = |name: SegmentName, state, place, bytes| {
        let id = name.id;
        let segment = Segment { name, state, data: (place, bytes), index: None };
        let known = found.entry(id).or_insert_with(|| segment.clone());
        if known.state < state {
            *known = segment;
        }
    };
    // The spool first: what is moved on between the two looks is then seen twice, not never.
    for (file, bytes) in spool.map_or(Ok(Vec::new()), list_files)? {
        let Some(text) = file.file_name().and_then(|name| name.to_str()) else { continue };
        if let Some((source, id)) = crate::layout::parse_open_segment(text) {
            let name = SegmentName { first_ns: 0, last_ns: u64::MAX, id, source: source.into() };
            add(name, State::Open, Place::File(file), bytes);
            continue;
        }
        let Some((name, part, state)) = SegmentName::parse_spool_file(text) else { continue };
        match (part, state) {
            (Part::Index, _) => drop(indexes.insert(name.id, (Place::File(file), bytes))),
            (_, SpoolState::Closed) => add(name, State::Closed, Place::File(file), bytes),
            (_, _) => add(name, State::Sealed, Place::File(file), bytes),
        }
    }
    for object in store.list_window(window).await? {
        let Some((name, part)) = SegmentName::parse_key(&object.key) else { continue };
        let place = Place::Object(object.key);
        match part {
            Part::Index => drop(indexes.insert(name.id, (place, object.bytes))),
            Part::Data => add(name, State::Stored, place, object.bytes),
            Part::Plain => add(name, State::Plain, place, object.bytes),
        }
    }
    let mut segments: Vec<Segment> = found
        .into_values()
        .filter(|segment| window.overlaps((segment.name.first_ns, segment.name.last_ns)))
        .collect();
    for segment in &mut segments {
        if matches!(segment.state, State::Sealed | State::Stored) {
            segment.index = indexes.remove(&segment.name.id);
        }
    }
    segments.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(segments)
}

fn list_files(folder: &Path) -> Result<Vec<(PathBuf, u64)>, Error> {
    let failed = |e| Error::system(format!("list {}", folder.display()), e);
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        // One that is gone by now was moved on.
        if let Some(metadata) = entry.metadata().ok().filter(|metadata| metadata.is_file()) {
            files.push((entry.path(), metadata.len()));
        }
    }
    Ok(files)
}
