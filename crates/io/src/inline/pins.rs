//! What of a table is pinned, and whether it can be taken over.

use super::attach::LINKS;
use super::maps::Maps;
use super::sys;
use crate::bpf::{Link, pinned};
use crate::error::Error;
use kernel::inline::layout::{InlineMap, Settings};
use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where tables are pinned: a folder for each.
pub const PINS: &str = "/sys/fs/bpf/tapline/inline";

/// Where the BPF file system is on every host that has one.
const ROOT: &CStr = c"/sys/fs/bpf";

/// The folder of a table in a BPF file system.
#[derive(Debug)]
pub(super) struct Pins {
    folder: PathBuf,
}

/// What was pinned.
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A table that goes on.
    Maps(Maps),
    /// One that cannot, for this reason.
    Unfit(String),
}

impl Pins {
    /// Makes the folder of a table, unless it is there.
    pub(super) fn open(pins: &Path, table: &str) -> Result<Pins, Error> {
        let folder = pins.join(table);
        if ROOT.to_str().is_ok_and(|root| pins.starts_with(root)) {
            provide_root();
        }
        fs::create_dir_all(&folder).map_err(|source| Error::System {
            what: format!("make the folder {}", folder.display()),
            mend: match source.kind() {
                ErrorKind::PermissionDenied | ErrorKind::NotFound => {
                    "; a table that fails open needs a BPF file system: mount -t bpf bpf /sys/fs/bpf"
                }
                _ => "",
            },
            source,
        })?;
        Ok(Pins { folder })
    }

    /// The folder of a table, if it is there.
    pub(super) fn existing(pins: &Path, table: &str) -> Option<Pins> {
        let folder = pins.join(table);
        folder.is_dir().then_some(Pins { folder })
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Looks what there is.
    pub(super) fn find(&self, wanted: &Settings) -> Result<Found, Error> {
        if self.names()?.is_empty() {
            return Ok(Found::Nothing);
        }
        let maps = match Maps::pinned(&self.folder, wanted.sessions)? {
            Ok(maps) => maps,
            Err(why) => return Ok(Found::Unfit(why)),
        };
        let settings = maps.of(InlineMap::Settings).get(&0u32.to_ne_bytes())?;
        let Some(settings) = settings.and_then(|value| Settings::parse(&value)) else {
            return Ok(Found::Unfit("it was of another version of tapline".into()));
        };
        if settings.netns != wanted.netns {
            return Err(Error::System {
                what: format!("take over the table in {}", self.folder.display()),
                source: io::Error::other("it is of another network namespace"),
                mend: "; stop it there, or choose another name",
            });
        }
        if settings.interfaces != wanted.interfaces {
            return Ok(Found::Unfit("it was of other interfaces".into()));
        }
        Ok(Found::Maps(maps))
    }

    /// Opens a link.
    pub(super) fn link(&self, name: &str) -> Result<Option<Link>, Error> {
        Ok(pinned(&self.folder.join(name))?.map(Link::of))
    }

    /// Removes a name, if it is there; what had it is gone with its last descriptor.
    pub(super) fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::system(format!("remove {}", path.display()), error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the links.
    pub(super) fn clear_links(&self) -> Result<(), Error> {
        LINKS.into_iter().try_for_each(|name| self.remove(name))
    }

    /// Removes everything; links first, so that no program runs without its maps' names.
    pub(super) fn clear(&self) -> Result<(), Error> {
        self.clear_links()?;
        self.names()?.iter().try_for_each(|name| self.remove(name))?;
        Ok(())
    }

    /// The same, and the folder with it.
    pub(super) fn clear_away(&self) -> Result<(), Error> {
        self.clear()?;
        let removed = fs::remove_dir(&self.folder);
        removed.map_err(|e| Error::system(format!("remove {}", self.folder.display()), e))
    }

    /// Removes the folder if nothing is in it.
    pub(super) fn remove_if_empty(&self) {
        // One that is not empty is not removed, which is an error then.
        if let Err(error) = fs::remove_dir(&self.folder) {
            tracing::debug!("{} stays: {error}", self.folder.display());
        }
    }

    /// Whether programs of the table may run.
    pub(super) fn has_links(&self) -> bool {
        LINKS.into_iter().any(|name| self.folder.join(name).exists())
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let failed = |e| Error::system(format!("list {}", self.folder.display()), e);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }
}

/// Mounts a BPF file system where it is missing, as bpftool does. If that is not possible the folder cannot
/// be made, which is then told.
fn provide_root() {
    let root = ROOT.to_string_lossy();
    // Two tables that start at once would mount one over the other, and what the first has pinned would be
    // hidden.
    let alone = File::open(root.as_ref()).and_then(|folder| folder.lock().map(|()| folder));
    let _alone = match alone {
        Ok(folder) => folder,
        Err(error) => return tracing::debug!("{root}: {error}"),
    };
    match sys::is_bpf_fs(ROOT) {
        Ok(false) => {}
        Ok(true) => return,
        Err(error) => return tracing::debug!("{root}: {error}"),
    }
    if let Err(error) = sys::mount_bpf_fs(ROOT) {
        return tracing::debug!("mount a BPF file system on {root}: {error}");
    }
    tracing::info!("mounted a BPF file system on {root}");
    let namespace =
        |process: &str| fs::metadata(format!("/proc/{process}/ns/mnt")).map(|it| it.ino());
    if let (Ok(ours), Ok(first)) = (namespace("self"), namespace("1"))
        && ours != first
    {
        tracing::warn!(
            "the BPF file system on {root} is in a mount namespace of its own, as under `ip netns exec`: what is \
             pinned there ends with the last process in it"
        );
    }
}

/// The number of the calling thread's network namespace.
pub(super) fn netns_number() -> Result<u64, Error> {
    const PATH: &str = "/proc/thread-self/ns/net";
    fs::metadata(PATH).map(|it| it.ino()).map_err(|e| Error::system(PATH, e))
}
