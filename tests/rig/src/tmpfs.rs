//! A small disk that can be filled.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A file system in memory that no other path leads to: gone with its descriptor, whatever becomes
/// of the test. Other processes reach it by [`Tmpfs::path`] too.
///
/// No program is started to mount it: until that had replaced its copy of this process, it would
/// hold open whatever other tests have open, and so the room of files that they have removed.
pub struct Tmpfs {
    root: OwnedFd,
}

impl Tmpfs {
    /// A disk of so many bytes (whole pages), with a further mount flag unless that is empty; `None`,
    /// and a line that says why, where none can be mounted.
    pub fn new(bytes: u64, flag: &str) -> Option<Tmpfs> {
        match mounted(bytes, flag) {
            Ok(root) => Some(Tmpfs { root }),
            Err(error) => {
                crate::skip::skip(&format!("no tmpfs can be mounted, which needs root: {error}"));
                None
            }
        }
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

fn mounted(bytes: u64, flag: &str) -> Result<OwnedFd, Errno> {
    let disk = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&disk, "size", bytes.to_string())?;
    if !flag.is_empty() {
        fsconfig_set_flag(&disk, flag)?;
    }
    fsconfig_create(&disk)?;
    fsmount(&disk, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
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
