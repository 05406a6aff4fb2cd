//! A folder for a test's files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// An empty folder of its own. Dropped, it is removed with all that is in it, unless the test
/// failed: then its files are what there is to look at.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes the folder, below the system's one for temporary files.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(test: &str) -> Scratch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tapline-{test}-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        Scratch(folder)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_is_its_own_and_goes_with_its_value() {
        let (one, other) = (Scratch::new("twin"), Scratch::new("twin"));
        assert_ne!(one.folder(), other.folder());
        fs::write(one.path("a"), "x").unwrap();
        let folder = one.folder().to_path_buf();
        assert!(folder.join("a").is_file());
        drop(one);
        assert!(!folder.exists());
    }
}
