//! The bound on a spool's bytes, shared by who writes segments and who ships them.
//!
//! Counted are the lengths of the segments in the spool, damaged ones too, and what recorders of this
//! process have taken for open ones. Room for one more segment is kept aside, for what is sealed beside what it is made from.

use super::spool::{Spool, remove};
use super::status::hold;
use crate::error::Error;
use crate::name::{Part, SegmentName, SpoolState};
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

/// The bytes that a spool has and may have.
#[derive(Debug)]
pub struct SpoolBudget {
    spool: Spool,
    bytes_max: u64,
    policy: SpoolPolicy,
    held: Mutex<Held>,
    is_full: AtomicBool,
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
        Ok(SpoolBudget { spool, bytes_max, policy, held: Mutex::new(held), is_full })
    }

    /// Takes room for bytes of an open segment; the oldest local copies of segments that the store has
    /// make room for it. False if there is none: then nothing is taken. Takes a lock and may remove
    /// files: ask for many packets at once.
    pub fn take(&self, bytes: u64) -> bool {
        let mut held = hold(&self.held);
        while held.wanted(bytes) > self.bytes_max {
            if !held.remove_a_copy(&self.spool) {
                self.is_full.store(true, Relaxed);
                return false;
            }
        }
        held.open_bytes += bytes;
        self.is_full.store(false, Relaxed);
        true
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

impl Held {
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
        let sealed_bytes_max = self.largest_bytes + self.largest_bytes / 16;
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
    fn room_is_taken_up_to_the_bound_and_one_segment_is_kept_aside() {
        let folder = Folder::new("bound");
        folder.add(1, Part::Plain, SpoolState::Closed, 100);
        fs::create_dir(folder.0.join("damaged")).unwrap();
        fs::write(folder.0.join("damaged/x"), [0; 30]).unwrap();
        fs::write(folder.0.join("notes"), [0; 1000]).unwrap();
        let budget = folder.budget(1000, SpoolPolicy::DropNew);
        assert_eq!(budget.bytes(), 130);
        // 170 are kept aside.
        assert!(!budget.take(701));
        assert!(budget.is_full());
        assert!(budget.take(700));
        assert!(!budget.is_full() && !budget.take(1));
        budget.give_back(200);
        assert!(budget.take(200));
    }

    #[test]
    fn what_is_closed_counts_as_the_file_that_it_is() {
        let folder = Folder::new("closed");
        let budget = folder.budget(1000, SpoolPolicy::DropNew);
        assert!(budget.take(500));
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
        assert!(budget.keeps_uploaded() && budget.take(430));
        assert!(first.exists());
        assert!(budget.take(150));
        assert!(!first.exists() && !second.exists() && third.exists());
        assert!(!budget.take(1000));
        assert!(!third.exists() && closed.exists());
    }
}
