//! Segments of a folder's archive from before they were sealed: they go back into the spool.

use super::spool::Spool;
use crate::error::Error;
use crate::name::{Part, SegmentName, SpoolState};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The folders that a segment stands in below its archive.
const FOLDERS: [&str; 3] = ["date=", "hour=", "source="];

/// Plain segments that were found and wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Plain {
    found: VecDeque<(SegmentName, PathBuf)>,
}

impl Plain {
    /// Looks for plain segments in an archive's folder. What cannot be read is said and passed over.
    pub fn find(root: &Path) -> Plain {
        let mut plain = Plain::default();
        plain.look_into(root, root, 0);
        plain.found.make_contiguous().sort();
        plain
    }

    fn look_into(&mut self, root: &Path, folder: &Path, depth: usize) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => {
                return tracing::warn!(
                    "cannot list {}: {error}; segments in it that are not sealed stay as they are",
                    folder.display()
                );
            }
        };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let (Ok(kind), Some(name)) = (entry.file_type(), name.to_str()) else { continue };
            match FOLDERS.get(depth) {
                Some(begin) if kind.is_dir() && name.starts_with(begin) => {
                    self.look_into(root, &path, depth + 1);
                }
                None if kind.is_file() => {
                    let key = path.strip_prefix(root).ok().and_then(Path::to_str);
                    if let Some((name, Part::Plain)) = key.and_then(SegmentName::parse_key) {
                        self.found.push_back((name, path));
                    }
                }
                _ => {}
            }
        }
    }

    /// Segments that wait.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Moves the oldest one into the spool, if `has_room` for its bytes. Gives its place there and its
    /// length; nothing, if there is none, or no room.
    ///
    /// # Errors
    /// [`Error::System`] if it cannot be moved; it stays and is not tried again by this process.
    pub fn take_in(
        &mut self,
        spool: &Spool,
        has_room: impl Fn(u64) -> bool,
    ) -> Result<Option<(PathBuf, u64)>, Error> {
        let Some((name, path)) = self.found.front() else { return Ok(None) };
        let bytes = path.symlink_metadata().map_or(0, |of| of.len());
        if !has_room(bytes) {
            return Ok(None);
        }
        let target = spool.path(name, Part::Plain, SpoolState::Closed);
        let path = path.clone();
        self.found.pop_front();
        match carry(&path, &target) {
            // Somebody removed it.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some((target, 0))),
            moved => moved
                .map_err(|e| Error::system(format!("move {} into the spool", path.display()), e))?,
        }
        // Folders that have become empty go, up to the archive's own.
        for folder in path.ancestors().skip(1).take(FOLDERS.len()) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(Some((target, bytes)))
    }
}

/// Moves a file, to another file system too; it is at one of the two places whole at any time.
fn carry(from: &Path, to: &Path) -> std::io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {}
        result => return result,
    }
    let part = to.with_extension("closed.part");
    let copied = fs::copy(from, &part).and_then(|_| {
        File::open(&part)?.sync_all()?;
        fs::rename(&part, to)?;
        File::open(to.parent().unwrap_or(to))?.sync_all()
    });
    if let Err(error) = copied {
        // What is left of it is removed at the next start, too.
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    fs::remove_file(from)
}
