//! Who writes an open segment: the one that holds its lock (flock(2)).
//!
//! The kernel gives the lock back when the process ends, however it ends. So a segment that can be
//! locked is nobody's, and one that cannot has a living writer.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Locks a file that was opened by its path. False if another process holds the lock, or did until
/// now and has moved or removed the file: then it is not ours.
pub(crate) fn take(file: &File, path: &Path) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let identity = |of: std::fs::Metadata| (of.dev(), of.ino());
    let ours = identity(file.metadata()?);
    Ok(path.symlink_metadata().is_ok_and(|there| identity(there) == ours))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn one_has_it_and_only_while_the_path_leads_there() {
        let path = std::env::temp_dir().join(format!("archive-lock-{}", std::process::id()));
        let first = File::create(&path).unwrap();
        let second = File::open(&path).unwrap();
        assert!(take(&first, &path).unwrap());
        assert!(!take(&second, &path).unwrap());
        drop(first);
        assert!(take(&second, &path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!take(&second, &path).unwrap(), "the file was removed");
        File::create(&path).unwrap();
        assert!(!take(&second, &path).unwrap(), "another file has its name");
        fs::remove_file(&path).unwrap();
    }
}
