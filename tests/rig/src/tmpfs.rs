//! A small disk that can be filled.

use crate::Scratch;
use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory that no other path leads to: gone with its descriptor, whatever becomes
/// of the test. Other processes reach it by [`Tmpfs::path`] too.
pub struct Tmpfs {
    root: File,
    _mounted_on: Scratch,
}

impl Tmpfs {
    /// A disk of so many bytes (whole pages), with further mount options; `None`, and a line that
    /// says why, where none can be mounted.
    ///
    /// # Panics
    /// If what was mounted cannot be unmounted.
    pub fn new(bytes: u64, options: &str) -> Option<Tmpfs> {
        let folder = Scratch::new("rig-tmpfs");
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).arg(folder.folder()).output();
            output.is_ok_and(|output| output.status.success())
        };
        if !run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes},{options}"), "none"]) {
            crate::skip::skip("no tmpfs can be mounted, which needs root");
            return None;
        }
        let root = File::open(folder.folder());
        assert!(run("umount", &["-l"]), "what was mounted is unmounted");
        Some(Tmpfs { root: root.expect("a folder"), _mounted_on: folder })
    }

    /// Its root folder.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.root.as_raw_fd()).into()
    }

    /// Makes it read-only (`ro`), or writable again (`rw`).
    ///
    /// # Panics
    /// If a file on it is open for writing.
    pub fn remount(&self, flag: &str) {
        // mount(2) knows only what a path of this namespace leads to.
        let disk = fspick(&self.root, "", FsPickFlags::FSPICK_EMPTY_PATH);
        let disk = disk.unwrap_or_else(|e| panic!("pick the disk: {e}"));
        let changed = fsconfig_set_flag(&disk, flag).and_then(|()| fsconfig_reconfigure(&disk));
        changed.unwrap_or_else(|e| panic!("remount the disk {flag}: {e}"));
    }

    /// Fills it up with a file of this name; gives the path.
    ///
    /// # Panics
    /// If there is no room for a name.
    pub fn fill(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fill(&path);
        path
    }
}

fn fill(path: &Path) {
    let mut filler = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    while filler.write_all(&[0; 4096]).is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_and_has_room_again() {
        let Some(disk) = Tmpfs::new(64 << 10, "") else { return };
        let filler = disk.fill("filler");
        assert!(filler.metadata().unwrap().len() <= 64 << 10);
        assert!(std::fs::write(disk.path().join("x"), [1; 4096]).is_err());
        std::fs::remove_file(filler).unwrap();
        std::fs::write(disk.path().join("x"), [1; 4096]).unwrap();
    }

    #[test]
    fn a_disk_is_read_only_and_writable_again() {
        let Some(disk) = Tmpfs::new(64 << 10, "") else { return };
        disk.remount("ro");
        let error = std::fs::write(disk.path().join("x"), [1]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        disk.remount("rw");
        std::fs::write(disk.path().join("x"), [1]).unwrap();
    }
}
