//! A folder for segments under way, which goes with who works in it.

use crate::error::Error;
use crate::lock;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// How such a folder is called.
const PREFIX: &str = "import-";
/// The file in it that its owner holds locked.
const LOCK: &str = "lock";

/// A folder of one's own. It is removed with this value, or, after a kill, by who works there next.
#[derive(Debug)]
pub(super) struct Work {
    folder: PathBuf,
    _lock: File,
}

impl Work {
    /// Makes a folder below `base`, which is made too.
    ///
    /// # Errors
    /// [`Error::System`] if it cannot be made.
    pub(super) fn new(base: &Path) -> Result<Work, Error> {
        let folder = base.join(format!("{PREFIX}{}", Ulid::new()));
        let failed = |e| Error::system(format!("make the folder {}", folder.display()), e);
        fs::create_dir_all(base).map_err(failed)?;
        remove_abandoned(base);
        fs::create_dir(&folder).map_err(failed)?;
        let path = folder.join(LOCK);
        let lock = File::create(&path).map_err(failed)?;
        if let Err(error) = lock::take(&lock, &path) {
            tracing::debug!("{} cannot be locked: {error}", path.display());
        }
        Ok(Work { folder, _lock: lock })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!("remove {}: {error}", self.folder.display());
        }
    }
}

/// Removes what killed processes left: their segments are made anew from the files they come from.
fn remove_abandoned(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let is_work = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let path = entry.path().join(LOCK);
        // One without a lock is just being made, or was left in that moment: it is empty.
        let Some(file) = is_work.then(|| File::open(&path).ok()).flatten() else { continue };
        if let Ok(true) = lock::take(&file, &path)
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!("remove {}: {error}", entry.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_go_with_their_owners_and_what_was_abandoned_goes_too() {
        let scratch = rig::Scratch::new("import-work");
        let abandoned = scratch.path("import-old");
        fs::create_dir(&abandoned).unwrap();
        fs::write(abandoned.join(LOCK), b"").unwrap();
        fs::write(abandoned.join("x"), b"x").unwrap();
        fs::create_dir(scratch.path("other")).unwrap();
        let first = Work::new(scratch.folder()).unwrap();
        let second = Work::new(scratch.folder()).unwrap();
        assert!(!abandoned.exists() && scratch.path("other").exists());
        assert!(first.folder().exists() && second.folder().exists());
        drop((first, second));
        assert_eq!(fs::read_dir(scratch.folder()).unwrap().count(), 1);
    }
}
