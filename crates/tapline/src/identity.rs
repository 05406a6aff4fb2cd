//! `--user` and `--group`: who the process is, and whose its files are.
//!
//! The user changes first of all, before a thread is started or a file is made: what is opened is
//! opened with that user's rights and with the capabilities that capturing needs, as a service
//! manager's unit would have it. Only folders that are not there yet are made before, by root, and
//! given to the user.

use crate::cli::Identity;
use crate::failure::Failure;
use nix::unistd::{Gid, Group, Uid, User, initgroups, setgid, setgroups, setresuid};
use rustix::fs::Mode;
use rustix::process::umask;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities,
};
use std::ffi::CString;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;

/// What captures must not grant: writing to the group, anything to others.
const HIDDEN: Mode = Mode::from_raw_mode(0o027);
/// Of a folder that captures are kept in.
const FOLDER_MODE: u32 = 0o750;

/// What is kept of root's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// What it takes to open rings and sockets, and to open them again.
    Capturing,
    /// Nothing.
    Nothing,
}

/// Who the process will be.
#[derive(Debug, Clone, Default)]
pub struct Becoming {
    user: Option<User>,
    group: Option<Gid>,
}

impl Becoming {
    /// Looks the names up.
    pub fn new(options: &Identity) -> Result<Becoming, Failure> {
        let failed = |option: &str, name: &str, why: &str| {
            Failure::CouldNot(format!("{option} {name}: {why}"))
        };
        let user = options.user.as_deref().map(|name| match User::from_name(name) {
            Ok(Some(user)) => Ok(user),
            Ok(None) => Err(failed(
                "--user",
                name,
                "there is no such user; `getent passwd` shows who there is",
            )),
            Err(error) => Err(failed("--user", name, error.desc())),
        });
        let group = options.group.as_deref().map(|name| match Group::from_name(name) {
            Ok(Some(group)) => Ok(group.gid),
            Ok(None) => Err(failed(
                "--group",
                name,
                "there is no such group; `getent group` shows which there are",
            )),
            Err(error) => Err(failed("--group", name, error.desc())),
        });
        let becoming = Becoming { user: user.transpose()?, group: group.transpose()? };
        if becoming.changes() && !Uid::effective().is_root() {
            return Err(Failure::CouldNot(
                "--user and --group: only root may become somebody else; start it as root, or leave \
                 them out"
                    .into(),
            ));
        }
        Ok(becoming)
    }

    /// Whether the process is not that already.
    fn changes(&self) -> bool {
        self.user.as_ref().is_some_and(|user| user.uid != Uid::effective())
            || self.gid().is_some_and(|gid| gid != Gid::effective())
    }

    fn gid(&self) -> Option<Gid> {
        self.group.or(self.user.as_ref().map(|user| user.gid))
    }

    /// Makes a folder and those above it that are not there, for whom the process will be.
    ///
    /// A folder that is there stays as it is; one that cannot be made is told of by who writes to it.
    pub fn make_folder(&self, folder: &Path) {
        let missing: Vec<&Path> = folder
            .ancestors()
            .take_while(|folder| {
                let there = folder.symlink_metadata();
                there.is_err_and(|error| error.kind() == ErrorKind::NotFound)
            })
            .filter(|folder| !folder.as_os_str().is_empty())
            .collect();
        let uid = self.user.as_ref().map(|user| user.uid.as_raw());
        let gid = self.gid().map(Gid::as_raw);
        for folder in missing.into_iter().rev() {
            let made = DirBuilder::new().mode(FOLDER_MODE).create(folder);
            if let Err(error) = made.and_then(|()| chown(folder, uid, gid)) {
                tracing::debug!("make {}: {error}", folder.display());
            }
        }
    }

    /// Becomes that user and group. Files made from now on are readable by the group at most.
    ///
    /// No thread may have been started: rights are each thread's own.
    pub fn become_it(&self, keeps: Keeps) -> Result<(), Failure> {
        hide_from_others();
        if let Some(gid) = self.gid().filter(|_| self.changes()) {
            self.change(gid, keeps)
                .map_err(|error| Failure::CouldNot(format!("--user, --group: {error}")))?;
        }
        Ok(())
    }

    fn change(&self, gid: Gid, keeps: Keeps) -> std::io::Result<()> {
        match &self.user {
            Some(user) => initgroups(&CString::new(user.name.as_str())?, gid)?,
            None => setgroups(&[gid])?,
        }
        setgid(gid)?;
        let Some(user) = &self.user else { return Ok(()) };
        set_keep_capabilities(true)?;
        setresuid(user.uid, user.uid, user.uid)?;
        set_keep_capabilities(false)?;
        keep(match keeps {
            Keeps::Capturing => opening().union(CapabilitySet::NET_BIND_SERVICE),
            Keeps::Nothing => CapabilitySet::empty(),
        })
    }

    /// Gives up what only opening took. No thread may have been started.
    pub fn settle(&self) -> Result<(), Failure> {
        if self.user.is_none() {
            return Ok(());
        }
        keep(opening())
            .map_err(|error| Failure::CouldNot(format!("--user: give up rights: {error}")))
    }
}

/// Rings, the programs before them, and where these are attached.
fn opening() -> CapabilitySet {
    CapabilitySet::NET_RAW | CapabilitySet::NET_ADMIN | CapabilitySet::BPF
}

/// Keeps those of the rights that there are.
fn keep(wanted: CapabilitySet) -> std::io::Result<()> {
    let kept = capabilities(None)?.permitted & wanted;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })?;
    Ok(())
}

/// Has files that are made from now on readable by user and group at most: captures hold what was on
/// the wire.
pub fn hide_from_others() {
    let before = umask(HIDDEN);
    umask(before | HIDDEN);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_has_are_refused() {
        for (user, group, wanted) in [
            (Some("no such user"), None, "--user no such user: there is no such user; `getent"),
            (None, Some("no such group"), "--group no such group: there is no such group; `getent"),
        ] {
            let (user, group) = (user.map(String::from), group.map(String::from));
            let refused = Becoming::new(&Identity { user, group }).unwrap_err();
            let message = refused.message().unwrap().to_string();
            assert!(message.starts_with(wanted), "{message}");
        }
        let nobody = Becoming::new(&Identity::default()).unwrap();
        assert!(!nobody.changes());
    }
}
