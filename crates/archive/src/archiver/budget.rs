//! The bound on a spool's bytes, shared by who writes segments and who ships them.
//!
//! Counted are the lengths of the segments in the spool, damaged ones too, and what recorders of this
//! process have taken for open ones. Room for one more segment is kept aside, for what is sealed beside
//! what it is made from.
//!
//! An archive in a folder may have a bound, too, on the segments in its spool and in itself together.
//! Nothing is refused because of that one as long as there is something older to remove: the oldest
//! stored segments go first, ahead of need ([`super::keep`]), because the manifest has to say so before;
//! where that comes too late, the oldest of those that are closed and not sealed.

use super::spool::{Spool, remove};
use super::status::hold;
use crate::error::Error;
use crate::holds::Holds;
use crate::name::{Part, SegmentName, SpoolState};
use crate::retention::count_packets;
use api::Removed;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What is done when the spool is full, as the store does not take what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpoolPolicy {
    /// Local copies of segments that the store has are kept until their room is needed; when none is
    /// left, new packets are refused.
    DropOldestUploaded,
    /// Local copies go as soon as the store has confirmed them; new packets are refused.
    #[default]
    DropNew,
}

/// Beside a segment's own bytes, what its index may take.
const INDEX_BYTES: u64 = 16 << 10;
/// Segments for which room is made in an archive before it is needed.
const AHEAD: u64 = 2;
/// Most bytes that a recorder takes at once.
const SHARE_BYTES_MAX: u64 = 1 << 20;

/// What there is no room within.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The spool's bound: the store does not take what is in it.
    Spool,
    /// The archive's bound, and nothing that is older can be removed at once.
    Archive,
}

/// The bytes that a spool has and may have.
#[derive(Debug)]
pub struct SpoolBudget {
    spool: Spool,
    bytes_max: u64,
    /// Of the spool and the archive that it is in.
    archive_bytes_max: Option<u64>,
    segment_bytes: u64,
    policy: SpoolPolicy,
    held: Mutex<Held>,
    is_full: AtomicBool,
}

/// Closed segments that must not be removed.
#[derive(Debug)]
enum Kept {
    /// All: what is held is not known.
    All,
    /// Those that are held.
    Held(Holds),
}

impl Default for Kept {
    fn default() -> Kept {
        Kept::Held(Holds::default())
    }
}

impl Kept {
    fn covers(&self, name: &SegmentName) -> bool {
        match self {
            Kept::All => true,
            Kept::Held(holds) => holds.covers(name),
        }
    }
}

#[derive(Debug, Default)]
struct Held {
    /// Lengths of the files in the spool, by name.
    files: HashMap<String, u64>,
    files_bytes: u64,
    /// Taken by recorders for what they have open.
    open_bytes: u64,
    /// Length of the largest segment so far.
    largest_bytes: u64,
    uploaded: BTreeMap<SegmentName, u64>,
    /// Of the segments in the archive's folder.
    stored_bytes: u64,
    /// The closed file that is being sealed.
    sealing: Option<String>,
    /// What must not be removed.
    kept: Kept,
    removed: Removed,
}

impl SpoolBudget {
    /// Counts what is in a spool that may have `bytes_max`, if that is bounded, and whose segments are
    /// closed at about `segment_bytes`.
    ///
    /// # Errors
    /// [`Error::System`] if the spool cannot be listed.
    pub fn new(
        spool: &Path,
        bytes_max: Option<u64>,
        policy: SpoolPolicy,
        segment_bytes: u64,
    ) -> Result<SpoolBudget, Error> {
        let spool = Spool::new(spool);
        let mut held = Held { largest_bytes: segment_bytes, ..Held::default() };
        for (file, bytes) in spool.files()? {
            held.set(&file, bytes);
            if let Some((name, Part::Data, SpoolState::Uploaded)) =
                SegmentName::parse_spool_file(&file)
            {
                held.uploaded.insert(name, bytes);
            }
        }
        let bytes_max = bytes_max.unwrap_or(u64::MAX);
        let is_full = AtomicBool::new(false);
        let held = Mutex::new(held);
        let archive_bytes_max = None;
        Ok(SpoolBudget {
            spool,
            bytes_max,
            archive_bytes_max,
            segment_bytes,
            policy,
            held,
            is_full,
        })
    }

    /// The same with a bound on the archive, whose folder the spool is in, and on the spool together;
    /// `stored_bytes` is what the archive's segments have now.
    #[must_use]
    pub fn within(self, archive_bytes_max: u64, stored_bytes: u64) -> SpoolBudget {
        self.set_stored(stored_bytes);
        SpoolBudget { archive_bytes_max: Some(archive_bytes_max), ..self }
    }

    /// Whether no stored segment has to go before more can be written.
    pub fn has_room_ahead(&self) -> bool {
        self.excess() == 0
    }

    /// The bound that is reached first, if there is any.
    pub(crate) fn bound(&self) -> Option<u64> {
        let spool = (self.bytes_max < u64::MAX).then_some(self.bytes_max);
        spool.into_iter().chain(self.archive_bytes_max).min()
    }

    /// The least bound under which it can be recorded: for a segment that is open, one that is closed,
    /// what that is sealed into, and what is damaged; and the bytes of that last one alone.
    pub(crate) fn least(&self) -> (u64, u64) {
        let held = hold(&self.held);
        let is_segment = |file: &str| SegmentName::parse_spool_file(file).is_some();
        let damaged = held.files.iter().filter(|(file, _)| !is_segment(file));
        let damaged: u64 = damaged.map(|(_, bytes)| bytes).sum();
        let sealed = sealed_bytes_max(self.segment_bytes) + INDEX_BYTES;
        (2 * self.segment_bytes + sealed + damaged, damaged)
    }

    /// What a recorder takes at once, so that it seldom has to.
    pub(crate) fn share_bytes(&self) -> u64 {
        self.bound().map_or(SHARE_BYTES_MAX, |bytes| (bytes / 128).clamp(1, SHARE_BYTES_MAX))
    }

    /// Takes room for bytes of an open segment; the oldest local copies of segments that the store has
    /// make room for it, and within an archive's bound the oldest closed segments. Takes a lock and may
    /// remove files: ask for many packets at once.
    ///
    /// # Errors
    /// [`Full`] if there is none: then nothing is taken.
    pub fn take(&self, bytes: u64) -> Result<(), Full> {
        let mut held = hold(&self.held);
        let result = self.make_room(&mut held, bytes);
        held.open_bytes += if result.is_ok() { bytes } else { 0 };
        self.is_full.store(result == Err(Full::Spool), Relaxed);
        result
    }

    fn make_room(&self, held: &mut Held, bytes: u64) -> Result<(), Full> {
        loop {
            let full = match () {
                () if held.wanted(bytes) > self.bytes_max => Full::Spool,
                () if self.excess_of(held, bytes) > 0 => Full::Archive,
                () => return Ok(()),
            };
            let is_made = held.remove_a_copy(&self.spool)
                || (full == Full::Archive && held.remove_closed(&self.spool));
            if !is_made {
                return Err(full);
            }
        }
    }

    /// Bytes above the archive's bound, with so many more.
    fn excess_of(&self, held: &Held, bytes: u64) -> u64 {
        let wanted = held.wanted(bytes).saturating_add(held.stored_bytes + INDEX_BYTES);
        self.archive_bytes_max.map_or(0, |bytes_max| wanted.saturating_sub(bytes_max))
    }

    /// Bytes of stored segments that should go, so that there is room before it is needed.
    pub(super) fn excess(&self) -> u64 {
        let held = hold(&self.held);
        self.excess_of(&held, AHEAD * self.segment_bytes).min(held.stored_bytes)
    }

    /// Whether the archive has a bound of its own.
    pub(super) fn is_archive_bounded(&self) -> bool {
        self.archive_bytes_max.is_some()
    }

    /// What must not be removed; `None` if that is not known: then nothing is that is not in the store.
    pub(super) fn set_holds(&self, holds: Option<Holds>) {
        hold(&self.held).kept = holds.map_or(Kept::All, Kept::Held);
    }

    /// Segments of the archive's folder have so many bytes now.
    pub(super) fn set_stored(&self, bytes: u64) {
        hold(&self.held).stored_bytes = bytes;
    }

    /// A segment with these bytes is in the archive's folder, from now on.
    pub(super) fn stored(&self, bytes: u64) {
        hold(&self.held).stored_bytes += bytes;
    }

    /// A segment with these bytes was removed from the archive's folder.
    pub(super) fn unstored(&self, bytes: u64, packets: u64) {
        let mut held = hold(&self.held);
        held.stored_bytes = held.stored_bytes.saturating_sub(bytes);
        held.note_removed(bytes, packets);
    }

    /// This closed file is being sealed, or none is. False if it is not there any more.
    pub(super) fn set_sealing(&self, file: Option<&Path>) -> bool {
        let mut held = hold(&self.held);
        let name = file.and_then(Path::file_name);
        held.sealing = name.map(|name| name.to_string_lossy().into_owned());
        file.is_none_or(Path::exists)
    }

    /// What was removed so that the archive stays within its bound, and by its rules.
    pub fn removed(&self) -> Removed {
        hold(&self.held).removed
    }

    /// Gives room back that was taken and is not needed.
    pub fn give_back(&self, bytes: u64) {
        let mut held = hold(&self.held);
        held.open_bytes = held.open_bytes.saturating_sub(bytes);
    }

    /// An open segment for which `taken` bytes were taken is closed: its file has this name and this
    /// length now.
    pub fn closed(&self, file: &str, bytes: u64, taken: u64) {
        let mut held = hold(&self.held);
        held.open_bytes = held.open_bytes.saturating_sub(taken);
        held.set(file, bytes);
        held.largest_bytes = held.largest_bytes.max(bytes);
    }

    /// Whether room was refused last.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Relaxed)
    }

    /// Bytes in the spool, with those that are taken for open segments.
    pub fn bytes(&self) -> u64 {
        let held = hold(&self.held);
        held.files_bytes + held.open_bytes
    }

    /// Whether local copies are kept of segments that the store has.
    pub(super) fn keeps_uploaded(&self) -> bool {
        self.policy == SpoolPolicy::DropOldestUploaded && self.bytes_max < u64::MAX
    }

    /// A file has this length now; 0 if it is gone.
    pub(super) fn set(&self, file: &Path, bytes: u64) {
        let name = file.strip_prefix(self.spool.folder()).unwrap_or(file);
        hold(&self.held).set(&name.to_string_lossy(), bytes);
    }

    /// The store has a segment whose local copy is kept.
    pub(super) fn uploaded(&self, name: &SegmentName, bytes: u64) {
        hold(&self.held).uploaded.insert(name.clone(), bytes);
    }

    /// Removes the oldest local copy of a segment that the store has. False if there is none.
    pub(super) fn remove_a_copy(&self) -> bool {
        hold(&self.held).remove_a_copy(&self.spool)
    }

    /// Whether so many bytes fit without refusing anything.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        hold(&self.held).wanted(bytes) <= self.bytes_max
    }

    /// Counts anew: other processes may have written and removed files.
    pub(super) fn count(&self) -> Result<(), Error> {
        let files: HashMap<String, u64> = self.spool.files()?.into_iter().collect();
        let is_there = |name: &str| self.spool.folder().join(name).symlink_metadata().is_ok();
        let mut held = hold(&self.held);
        // What was renamed while the folder was read may have been seen twice, or not at all.
        let unseen = held.files.keys().filter(|name| !files.contains_key(*name));
        let gone: Vec<String> = unseen.filter(|name| !is_there(name)).cloned().collect();
        gone.iter().for_each(|name| held.set(name, 0));
        for (name, bytes) in files {
            if !held.files.contains_key(&name) && is_there(&name) {
                held.set(&name, bytes);
            }
        }
        Ok(())
    }
}

/// What a segment of so many bytes may become.
const fn sealed_bytes_max(bytes: u64) -> u64 {
    bytes + bytes / 16
}

impl Held {
    fn note_removed(&mut self, bytes: u64, packets: u64) {
        self.removed.segments += 1;
        self.removed.packets += packets;
        self.removed.bytes += bytes;
    }

    /// Removes the oldest segment that is closed, not held and not being sealed. False if there is none, or it
    /// cannot be removed.
    fn remove_closed(&mut self, spool: &Spool) -> bool {
        let closed = self.files.keys().filter(|file| Some(*file) != self.sealing.as_ref());
        let closed = closed.filter_map(|file| match SegmentName::parse_spool_file(file)? {
            (name, Part::Plain, SpoolState::Closed) if !self.kept.covers(&name) => {
                Some((name.last_ns, name.id, file.clone()))
            }
            _ => None,
        });
        let Some((_, _, file)) = closed.min() else { return false };
        let path = spool.folder().join(&file);
        let is_there = path.symlink_metadata().is_ok_and(|of| of.is_file());
        let packets = count_packets(&path).unwrap_or(0);
        if let Err(error) = remove(&path) {
            tracing::debug!("{error}");
            return false;
        }
        tracing::debug!("removed the oldest segment, {}", path.display());
        let bytes = self.files.get(&file).copied().unwrap_or(0);
        self.set(&file, 0);
        if is_there {
            self.note_removed(bytes, packets);
        }
        true
    }

    fn set(&mut self, file: &str, bytes: u64) {
        let before = match bytes {
            0 => self.files.remove(file),
            _ => self.files.insert(file.into(), bytes),
        };
        self.files_bytes = self.files_bytes + bytes - before.unwrap_or(0);
    }

    fn remove_a_copy(&mut self, spool: &Spool) -> bool {
        let Some((name, _)) = self.uploaded.pop_first() else { return false };
        let file = name.spool_file(Part::Data, SpoolState::Uploaded);
        match remove(&spool.folder().join(&file)) {
            Ok(()) => self.set(&file, 0),
            Err(error) => tracing::warn!("{error}; it stays"),
        }
        true
    }

    /// What the spool has with so many bytes more, and with room to seal a segment in.
    fn wanted(&self, bytes: u64) -> u64 {
        let sealed_bytes_max = sealed_bytes_max(self.largest_bytes);
        self.files_bytes
            .saturating_add(self.open_bytes)
            .saturating_add(sealed_bytes_max)
            .saturating_add(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;
    use ulid::Ulid;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("archive-budget-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        /// Writes a file of a segment.
        fn add(
            &self,
            n: u64,
            part: Part,
            state: SpoolState,
            bytes: usize,
        ) -> (SegmentName, PathBuf) {
            let id = Ulid::from_parts(n, 0);
            let name = SegmentName { first_ns: n, last_ns: n, id, source: "s".into() };
            let path = self.0.join(name.spool_file(part, state));
            fs::write(&path, vec![0; bytes]).unwrap();
            (name, path)
        }

        fn budget(&self, bytes_max: u64, policy: SpoolPolicy) -> SpoolBudget {
            SpoolBudget::new(&self.0, Some(bytes_max), policy, 160).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_held_is_not_removed_for_an_archive_s_bound() {
        let folder = Folder::new("held");
        let (_, path) = folder.add(1, Part::Plain, SpoolState::Closed, 2000);
        let budget = SpoolBudget::new(&folder.0, None, SpoolPolicy::DropNew, 0).unwrap();
        let budget = budget.within(INDEX_BYTES + 1000, 0);
        let everything = crate::holds::Hold::new("case-7", 0).unwrap();
        for holds in [None, Some(Holds::from_iter([everything]))] {
            budget.set_holds(holds);
            assert_eq!(budget.take(100), Err(Full::Archive));
            assert!(path.exists());
        }
        budget.set_holds(Some(Holds::default()));
        assert_eq!(budget.take(100), Ok(()));
        assert!(!path.exists());
    }

    #[test]
    fn room_is_taken_up_to_the_bound_and_one_segment_is_kept_aside() {
        let folder = Folder::new("bound");
        folder.add(1, Part::Plain, SpoolState::Closed, 100);
        fs::create_dir(folder.0.join("damaged")).unwrap();
        fs::write(folder.0.join("damaged/x"), [0; 30]).unwrap();
        fs::write(folder.0.join("notes"), [0; 1000]).unwrap();
        let budget = folder.budget(1000, SpoolPolicy::DropNew);
        assert_eq!(budget.bytes(), 130);
        // 170 are kept aside.
        assert_eq!(budget.take(701), Err(Full::Spool));
        assert!(budget.is_full());
        budget.take(700).unwrap();
        assert!(!budget.is_full() && budget.take(1).is_err());
        budget.give_back(200);
        budget.take(200).unwrap();
    }

    #[test]
    fn what_is_closed_counts_as_the_file_that_it_is() {
        let folder = Folder::new("closed");
        let budget = folder.budget(1000, SpoolPolicy::DropNew);
        budget.take(500).unwrap();
        let (name, path) = folder.add(1, Part::Plain, SpoolState::Closed, 400);
        // It was found before it was said.
        budget.count().unwrap();
        assert_eq!(budget.bytes(), 900);
        budget.closed(&name.spool_file(Part::Plain, SpoolState::Closed), 400, 500);
        assert_eq!(budget.bytes(), 400);
        budget.count().unwrap();
        assert_eq!(budget.bytes(), 400);
        // 425 are kept aside for the largest one now.
        assert!(budget.has_room(175) && !budget.has_room(176));
        fs::remove_file(path).unwrap();
        budget.count().unwrap();
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn the_oldest_copies_of_what_is_stored_make_room() {
        let folder = Folder::new("copies");
        let [(_, first), (_, second), (_, third)] =
            [1, 2, 3].map(|n| folder.add(n, Part::Data, SpoolState::Uploaded, 100));
        let (_, closed) = folder.add(0, Part::Plain, SpoolState::Closed, 100);
        let budget = folder.budget(1000, SpoolPolicy::DropOldestUploaded);
        assert!(budget.keeps_uploaded() && budget.take(430).is_ok());
        assert!(first.exists());
        budget.take(150).unwrap();
        assert!(!first.exists() && !second.exists() && third.exists());
        assert!(budget.take(1000).is_err());
        assert!(!third.exists() && closed.exists());
    }
}
