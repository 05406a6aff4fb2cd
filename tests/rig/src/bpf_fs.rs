//! A BPF file system of a test's own.

use rustix::fd::OwnedFd;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// A file system for pins that no other path leads to. What is pinned there is gone with its
/// descriptor, whatever becomes of the test.
pub struct BpfFs {
    root: OwnedFd,
}

impl BpfFs {
    /// Makes one; `None`, and a line that says why, where none can be mounted.
    pub fn new() -> Option<BpfFs> {
        let mounted = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC).and_then(|disk| {
            fsconfig_create(&disk)?;
            fsmount(&disk, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        });
        match mounted {
            Ok(root) => Some(BpfFs { root }),
            Err(error) => {
                crate::skip::skip(&format!("no BPF file system, which needs root: {error}"));
                None
            }
        }
    }

    /// Its root folder, for this process and others.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.root.as_raw_fd()).into()
    }
}
