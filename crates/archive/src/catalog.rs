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
    let mut found = Found::default();
    // The spool before the store: what is moved on between the two looks is seen twice, not never. And
    // once more, as a file that is renamed while a folder is read may be in neither of its names.
    found.add_spool(spool)?;
    for object in store.list_window(window).await? {
        found.add_object(object.key, object.bytes);
    }
    found.add_spool(spool)?;
    Ok(found.segments(window))
}

/// Looks for one segment that was listed before and went on: in the spool, then in the store.
///
/// # Errors
/// As [`list`].
pub(crate) async fn find(
    store: &Store,
    spool: Option<&Path>,
    segment: &Segment,
) -> Result<Option<Segment>, Error> {
    let by_id = |found: Found| {
        let mut segments = found.segments(Window::ALL).into_iter();
        segments.find(|found| found.name.id == segment.name.id)
    };
    let mut found = Found::default();
    found.add_spool(spool)?;
    if let Some(segment) = by_id(found).filter(|found| found.data.0 != segment.data.0) {
        return Ok(Some(segment));
    }
    let window = match segment.state {
        State::Open => Window::ALL,
        _ => Window {
            after_ns: segment.name.first_ns,
            before_ns: segment.name.last_ns.checked_add(1),
        },
    };
    let mut found = Found::default();
    for object in store.list_window(window).await? {
        found.add_object(object.key, object.bytes);
    }
    Ok(by_id(found))
}

/// What was seen so far.
#[derive(Default)]
struct Found {
    segments: BTreeMap<Ulid, Segment>,
    indexes: BTreeMap<Ulid, (Place, u64)>,
}

impl Found {
    fn add_spool(&mut self, spool: Option<&Path>) -> Result<(), Error> {
        for (file, bytes) in spool.map_or(Ok(Vec::new()), list_files)? {
            let Some(text) = file.file_name().and_then(|name| name.to_str()) else { continue };
            if let Some((source, id)) = crate::layout::parse_open_segment(text) {
                let source = source.into();
                let name = SegmentName { first_ns: 0, last_ns: u64::MAX, id, source };
                self.add(name, State::Open, Place::File(file), bytes);
                continue;
            }
            let Some((name, part, state)) = SegmentName::parse_spool_file(text) else { continue };
            let place = Place::File(file);
            match (part, state) {
                // That of the store, if it is there, is as good.
                (Part::Index, _) => drop(self.indexes.entry(name.id).or_insert((place, bytes))),
                (_, SpoolState::Closed) => self.add(name, State::Closed, place, bytes),
                (_, _) => self.add(name, State::Sealed, place, bytes),
            }
        }
        Ok(())
    }

    fn add_object(&mut self, key: String, bytes: u64) {
        let Some((name, part)) = SegmentName::parse_key(&key) else { return };
        let place = Place::Object(key);
        match part {
            Part::Index => drop(self.indexes.insert(name.id, (place, bytes))),
            Part::Data => self.add(name, State::Stored, place, bytes),
            Part::Plain => self.add(name, State::Plain, place, bytes),
        }
    }

    fn add(&mut self, name: SegmentName, state: State, place: Place, bytes: u64) {
        let id = name.id;
        let segment = Segment { name, state, data: (place, bytes), index: None };
        let known = self.segments.entry(id).or_insert_with(|| segment.clone());
        if known.state < state {
            *known = segment;
        }
    }

    fn segments(mut self, window: Window) -> Vec<Segment> {
        let mut segments: Vec<Segment> = self
            .segments
            .into_values()
            .filter(|segment| window.overlaps((segment.name.first_ns, segment.name.last_ns)))
            .collect();
        for segment in &mut segments {
            if matches!(segment.state, State::Sealed | State::Stored) {
                segment.index = self.indexes.remove(&segment.name.id);
            }
        }
        segments.sort_by(|a, b| a.name.cmp(&b.name));
        segments
    }
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
