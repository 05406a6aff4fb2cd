//! The thread that seals.

use super::plain::Plain;
use super::resume::resume;
use super::spool::{self, Files, Listing, remove};
use super::status::{Work, hold};
use super::{LOOK, RECORDS_MAX, Shared, Step, Stop, be_nice, shipper, utc_ns};
use crate::adopt::mend;
use crate::error::Error;
use crate::manifest::SegmentRecord;
use crate::name::{Part, SegmentName, SpoolState};
use crate::seal::{Sealed, seal};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use ulid::Ulid;

/// The next look at a spool comes after this many times what the last one took.
const LOOK_SHARE: u32 = 20;
/// How long a segment is left alone that could not be sealed.
const RETRY: Duration = Duration::from_secs(10);

/// Takes the spool in charge, then seals, with the shipper beside it, until the end.
pub(super) fn run(shared: &Arc<Shared>) {
    if !take_charge(shared) {
        return;
    }
    let of_thread = Arc::clone(shared);
    let shipper = std::thread::Builder::new().name("shipper".into()).spawn(move || {
        be_nice();
        shipper::run(&of_thread);
    });
    match &shipper {
        Ok(_) => {
            let plain = shared.store.root().map(Plain::find).unwrap_or_default();
            if plain.len() > 0 {
                tracing::info!("{} segments are plain; they are sealed by and by", plain.len());
            }
            Sealer { plain, failed: HashMap::new(), has_told: false }.run(shared);
        }
        Err(error) => tracing::error!("cannot start the shipper's thread: {error}"),
    }
    shared.is_sealing_over.store(true, Relaxed);
    shared.wakeup.wake_shipper();
    // It does not panic; if it did, what it did not ship is in the spool.
    let _ = shipper.map(std::thread::JoinHandle::join);
}

/// Waits until the spool is ours and what was cut short is cleaned up. False if the end comes first.
fn take_charge(shared: &Shared) -> bool {
    let mut has_told = false;
    loop {
        let taken = shared.try_to_take_charge().and_then(|is_ours| {
            if is_ours {
                shared.spool.remove_parts()?;
                shared.budget.count()?;
            }
            Ok(is_ours)
        });
        match taken {
            Ok(true) => return true,
            Ok(false) if !has_told => {
                has_told = true;
                tracing::info!(
                    "another process ships what is in {}; it goes on here when that one ends",
                    shared.spool.folder().display()
                );
            }
            Ok(false) => {}
            Err(error) => {
                shared.status.set_trouble(Work::Sealing, Some(error.to_string()), utc_ns())
            }
        }
        // At the end it is enough if the other one ships what is there.
        let is_ending = shared.wakeup.deadline().is_some();
        if shared.is_over() || (is_ending && !is_anything_left(shared)) {
            return false;
        }
        shared.wakeup.wait(if is_ending { LOOK / 20 } else { LOOK });
    }
}

/// Whether the spool has anything that is not stored.
fn is_anything_left(shared: &Shared) -> bool {
    let listed = shared.spool.list().map(|listing| spool::sum(&listing));
    listed.is_ok_and(|listed| listed.closed.segments + listed.sealed.segments > 0)
}

/// What a sealer remembers from look to look.
struct Sealer {
    plain: Plain,
    /// Segments that could not be sealed, and when they are tried again.
    failed: HashMap<Ulid, Instant>,
    has_told: bool,
}

impl Sealer {
    fn run(&mut self, shared: &Shared) {
        loop {
            let begun = Instant::now();
            let listing = match shared.spool.list() {
                Ok(listing) => listing,
                Err(error) => {
                    self.tell(shared, &error);
                    Listing::new()
                }
            };
            shared.status.listed(spool::sum(&listing));
            let look = LOOK.max(begun.elapsed() * LOOK_SHARE);
            let is_ending = shared.wakeup.deadline().is_some();
            match self.pass(shared, &listing) {
                // There may be more by now.
                Ok(true) => {}
                Ok(false) if is_ending && !self.is_needed(shared, &listing) => return,
                Ok(false) if !is_ending && self.take_in_plain(shared) => {}
                Ok(false) => shared.wakeup.wait(look),
                Err(Stop::Dead) => return,
                Err(Stop::Failed(error)) => {
                    self.tell(shared, &error);
                    shared.wakeup.wait(LOOK);
                }
            }
            if shared.is_over() {
                return;
            }
            if let Err(error) = shared.budget.count() {
                self.tell(shared, &error);
            }
        }
    }

    /// Seals what is closed, and takes up what was sealed before. Whether there was anything to do.
    fn pass(&mut self, shared: &Shared, listing: &Listing) -> Result<bool, Stop> {
        let mut has_worked = false;
        let until = Instant::now() + LOOK;
        for (name, files) in listing {
            if shared.is_over() || (has_worked && Instant::now() >= until) {
                return Ok(has_worked);
            }
            if self.failed.get(&name.id).is_some_and(|&until| Instant::now() < until) {
                continue;
            }
            let done = match files {
                Files { closed: Some(_), .. } => seal_one(shared, name),
                Files { sealed: Some(_), index, .. } => take_up(shared, name, index.is_some()),
                Files { uploaded: Some(bytes), .. } => tidy_up(shared, name, *bytes),
                _ => remove_index(shared, name).map(|()| false),
            };
            match done {
                Ok(done) => {
                    has_worked |= done;
                    self.failed.remove(&name.id);
                }
                Err(Stop::Dead) => return Err(Stop::Dead),
                Err(Stop::Failed(error)) => {
                    // Copies of what is stored make room; it is tried again at once then.
                    if is_for_want_of_room(&error) && shared.budget.remove_a_copy() {
                        has_worked = true;
                        continue;
                    }
                    self.failed.insert(name.id, Instant::now() + RETRY);
                    shared.status.retried();
                    self.tell(shared, &error);
                }
            }
        }
        if self.failed.is_empty() {
            self.has_told = false;
            shared.status.set_trouble(Work::Sealing, None, utc_ns());
        }
        Ok(has_worked)
    }

    /// Moves a segment from before they were sealed into the spool. Whether there was one, and room.
    fn take_in_plain(&mut self, shared: &Shared) -> bool {
        let budget = &shared.budget;
        match self.plain.take_in(&shared.spool, |bytes| budget.has_room(bytes)) {
            Ok(Some((path, bytes))) => {
                budget.set(&path, bytes);
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.tell(shared, &error);
                true
            }
        }
    }

    /// Whether segments wait for their records, of which there are too many.
    fn is_needed(&self, shared: &Shared, listing: &Listing) -> bool {
        let records = hold(&shared.records);
        listing.iter().any(|(name, files)| {
            let is_sealed = matches!(files, Files { sealed: Some(_), closed: None, .. });
            is_sealed && !records.contains_key(&name.id) && !self.failed.contains_key(&name.id)
        })
    }

    fn tell(&mut self, shared: &Shared, error: &Error) {
        if !std::mem::replace(&mut self.has_told, true) {
            tracing::error!("{error}; it is tried again, nothing is lost");
        }
        shared.status.set_trouble(Work::Sealing, Some(error.to_string()), utc_ns());
    }
}

/// Seals a closed segment.
fn seal_one(shared: &Shared, name: &SegmentName) -> Result<bool, Stop> {
    let closed = shared.spool.path(name, Part::Plain, SpoolState::Closed);
    if !shared.budget.set_sealing(Some(&closed)) {
        // It had to make room since the spool was listed.
        return Ok(true);
    }
    let sealed = seal(&closed, name, shared.spool.folder(), &shared.seal);
    let done = was_sealed(shared, name, &closed, sealed);
    shared.budget.set_sealing(None);
    done
}

/// Goes on behind the sealing of a segment.
fn was_sealed(
    shared: &Shared,
    name: &SegmentName,
    closed: &Path,
    sealed: Result<Sealed, Error>,
) -> Result<bool, Stop> {
    match sealed {
        Ok(sealed) => {
            shared.step(Step::Sealed, name)?;
            if let Some(cut) = sealed.cut {
                tracing::warn!("{}: {cut}; what stood before is kept", closed.display());
            }
            keep(shared, name, sealed.record);
            remove(closed)?;
            shared.budget.set(closed, 0);
            shared.step(Step::ClosedRemoved, name)?;
            shared.wakeup.wake_shipper();
            Ok(true)
        }
        // Somebody removed it since the spool was listed.
        Err(_) if !closed.exists() => Ok(true),
        Err(error) => set_aside(shared, closed, error),
    }
}

/// Makes the record anew of a segment that was sealed and of which no record is at hand, or no index
/// is there.
fn take_up(shared: &Shared, name: &SegmentName, has_index: bool) -> Result<bool, Stop> {
    {
        let records = hold(&shared.records);
        if has_index && (records.len() >= RECORDS_MAX || records.contains_key(&name.id)) {
            return Ok(false);
        }
    }
    let data = shared.spool.path(name, Part::Data, SpoolState::Sealed);
    match resume(shared, name) {
        Ok(record) => {
            keep(shared, name, record);
            shared.wakeup.wake_shipper();
            Ok(true)
        }
        // It may have been shipped since the spool was listed.
        Err(_) if !data.exists() => Ok(true),
        Err(error) => set_aside(shared, &data, error),
    }
}

/// Goes on with a segment that the store has confirmed.
fn tidy_up(shared: &Shared, name: &SegmentName, bytes: u64) -> Result<bool, Stop> {
    remove_index(shared, name)?;
    if shared.budget.keeps_uploaded() {
        shared.budget.uploaded(name, bytes);
    } else {
        let data = shared.spool.path(name, Part::Data, SpoolState::Uploaded);
        remove(&data)?;
        shared.budget.set(&data, 0);
    }
    Ok(false)
}

/// Removes an index whose data are not there, or are stored: it would be made anew.
fn remove_index(shared: &Shared, name: &SegmentName) -> Result<(), Stop> {
    let index = shared.spool.path(name, Part::Index, SpoolState::Sealed);
    remove(&index)?;
    shared.budget.set(&index, 0);
    Ok(())
}

/// Keeps what the manifest is told of a segment that is sealed now.
fn keep(shared: &Shared, name: &SegmentName, record: SegmentRecord) {
    let path = |part| shared.spool.path(name, part, SpoolState::Sealed);
    shared.budget.set(&path(Part::Data), record.bytes);
    shared.budget.set(&path(Part::Index), record.index_bytes);
    let mut records = hold(&shared.records);
    if records.len() < RECORDS_MAX {
        records.insert(name.id, record);
    }
}

fn is_for_want_of_room(error: &Error) -> bool {
    matches!(error, Error::System { source, .. } if source.kind() == ErrorKind::StorageFull)
}

/// Mends a segment, or moves it aside if it cannot be read; another error is given back.
fn set_aside(shared: &Shared, path: &Path, error: Error) -> Result<bool, Stop> {
    if !matches!(error, Error::Capture { .. } | Error::Damaged { .. }) {
        return Err(error.into());
    }
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some((name, Part::Plain, _)) = SegmentName::parse_spool_file(file)
        && mend(shared.spool.folder(), path, &name).unwrap_or(false)
    {
        tracing::warn!("{error}; what stood before is kept");
        return Ok(true);
    }
    let place = shared.spool.move_aside(path)?;
    shared.budget.set(path, 0);
    shared.budget.set(&place, place.metadata().map_or(0, |of| of.len()));
    shared.status.found_damaged();
    tracing::error!("{error}; it is now {}", place.display());
    Ok(true)
}
