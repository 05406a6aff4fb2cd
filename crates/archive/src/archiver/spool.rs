//! The folder that segments wait in, as its archiver sees it.

use super::status::{Listed, Tally};
use crate::error::Error;
use crate::lock;
use crate::name::{Part, SegmentName, SpoolState};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// Held (flock) by the archiver of the spool.
const LOCK: &str = "archiver.lock";
/// Holds the id under which the spool's archiver writes its chain, in a line.
const WRITER: &str = "writer";
/// Holds what cannot be read.
const DAMAGED: &str = "damaged";
/// How the names of files end that are half written.
pub(super) const PART: &str = ".part";

/// A spool's folder.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    folder: PathBuf,
}

/// The files of one segment, with their lengths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub closed: Option<u64>,
    pub sealed: Option<u64>,
    pub index: Option<u64>,
    pub uploaded: Option<u64>,
}

/// All segments of a spool that are not open any more, oldest first.
pub(super) type Listing = BTreeMap<SegmentName, Files>;

impl Spool {
    pub fn new(folder: &Path) -> Spool {
        Spool { folder: folder.into() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn path(&self, name: &SegmentName, part: Part, state: SpoolState) -> PathBuf {
        self.folder.join(name.spool_file(part, state))
    }

    /// Lists the segments. What is none is passed over.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::new();
        for entry in self.entries()? {
            let Some((name, part, state)) =
                entry.file_name().to_str().and_then(SegmentName::parse_spool_file)
            else {
                continue;
            };
            // One that is gone by now was moved on; a link may lead anywhere.
            let Some(metadata) = entry.metadata().ok().filter(|of| of.is_file()) else { continue };
            let files = listing.entry(name).or_default();
            let place = match (part, state) {
                (Part::Index, _) => &mut files.index,
                (_, SpoolState::Closed) => &mut files.closed,
                (_, SpoolState::Sealed) => &mut files.sealed,
                (_, SpoolState::Uploaded) => &mut files.uploaded,
            };
            *place = Some(metadata.len());
        }
        Ok(listing)
    }

    /// The segments' files, damaged ones too, by their path below the folder, with their lengths.
    /// Neither those that are open nor those that are half written.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn files(&self) -> Result<Vec<(String, u64)>, Error> {
        let mut files = Vec::new();
        let damaged = Spool::new(&self.folder.join(DAMAGED));
        for (spool, is_damaged) in [(self, false), (&damaged, true)] {
            if is_damaged && !damaged.folder.exists() {
                break;
            }
            for entry in spool.entries()? {
                let name = entry.file_name();
                let Some(name) = name.to_str() else { continue };
                let Some(of) = entry.metadata().ok().filter(|of| of.is_file()) else { continue };
                if is_damaged {
                    files.push((format!("{DAMAGED}/{name}"), of.len()));
                } else if SegmentName::parse_spool_file(name).is_some() {
                    files.push((name.into(), of.len()));
                }
            }
        }
        Ok(files)
    }

    fn entries(&self) -> Result<Vec<fs::DirEntry>, Error> {
        let entries = fs::read_dir(&self.folder).and_then(Iterator::collect);
        entries.map_err(|e| Error::system(format!("list the spool {}", self.folder.display()), e))
    }

    /// Removes what a sealing that was cut short has left behind.
    pub fn remove_parts(&self) -> Result<(), Error> {
        for entry in self.entries()? {
            let name = entry.file_name();
            let whole = name.to_str().and_then(|name| name.strip_suffix(PART));
            if whole.and_then(SegmentName::parse_spool_file).is_some() {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Takes the spool in charge as long as the file is open; `None` if another process has it.
    ///
    /// # Errors
    /// If the lock's file cannot be made.
    pub fn take_charge(&self) -> Result<Option<File>, Error> {
        let path = self.folder.join(LOCK);
        let failed = |e| Error::system(format!("lock the spool with {}", path.display()), e);
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(failed)?;
        match lock::take(&file, &path) {
            Ok(is_ours) => Ok(is_ours.then_some(file)),
            Err(error) => {
                tracing::debug!("{} cannot be locked: {error}", path.display());
                Ok(Some(file))
            }
        }
    }

    /// The id of the chain that the spool's archiver writes; a new one at first, or if `is_new`.
    ///
    /// # Errors
    /// If it can be neither read nor written.
    pub fn writer(&self, is_new: bool) -> Result<Ulid, Error> {
        let path = self.folder.join(WRITER);
        match fs::read_to_string(&path) {
            Ok(text) if !is_new => {
                // What is no id was cut off by a loss of power before anything was written under it.
                if let Ok(id) = Ulid::from_string(text.trim()) {
                    return Ok(id);
                }
            }
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(Error::system(format!("read {}", path.display()), e));
            }
            _ => {}
        }
        let id = Ulid::new();
        let part = self.folder.join(format!("{WRITER}{PART}"));
        let written = File::create(&part).and_then(|mut file| {
            file.write_all(format!("{id}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&part, &path)
        });
        written.map_err(|e| Error::system(format!("write {}", path.display()), e))?;
        self.sync()?;
        Ok(id)
    }

    /// Brings the folder's names to the disk.
    pub fn sync(&self) -> Result<(), Error> {
        let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
        synced.map_err(|e| Error::system(format!("write {}", self.folder.display()), e))
    }

    /// Renames a file of a segment.
    pub fn rename(from: &Path, to: &Path) -> Result<(), Error> {
        let failed = |e| Error::system(format!("rename {} to {}", from.display(), to.display()), e);
        fs::rename(from, to).map_err(failed)
    }

    /// Moves a file that cannot be read aside, under a name that is free; gives its new place.
    pub fn move_aside(&self, path: &Path) -> Result<PathBuf, Error> {
        let folder = self.folder.join(DAMAGED);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let place = (0u32..)
            .map(|n| folder.join(if n == 0 { name.to_string() } else { format!("{name}.{n}") }))
            .find(|place| place.symlink_metadata().is_err())
            .expect("a folder has fewer files than there are numbers");
        let moved = fs::create_dir_all(&folder).and_then(|()| fs::rename(path, &place));
        moved.map_err(|e| Error::system(format!("move aside {}", path.display()), e))?;
        Ok(place)
    }
}

/// Removes a file; one that is not there is no error.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::system(format!("remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// Sums a listing up.
pub(super) fn sum(listing: &Listing) -> Listed {
    let mut listed = Listed::default();
    for (name, files) in listing {
        let tally: &mut Tally = match files {
            Files { closed: Some(_), .. } => &mut listed.closed,
            Files { sealed: Some(_), .. } => &mut listed.sealed,
            Files { uploaded: Some(_), .. } => &mut listed.uploaded,
            // An index alone is left of one that was stored.
            _ => continue,
        };
        let Files { closed, sealed, index, uploaded } = files;
        tally.add([closed, sealed, index, uploaded].into_iter().flatten().sum());
        if files.closed.or(files.sealed).is_some() {
            let begun_ns = name.id.timestamp_ms().saturating_mul(1_000_000);
            listed.oldest_ns = Some(listed.oldest_ns.map_or(begun_ns, |ns| ns.min(begun_ns)));
        }
    }
    listed
}
