//! What is known of the disk while it refuses something, and when to try again.

use crate::archiver::Full;
use crate::layout::Layout;
use api::DropReason;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// Room that must be there before a disk that was full is said to be free, bytes: a few packets may
/// still find a place in the last page of one that is full.
const ROOM_BYTES: usize = 64 << 10;

/// What the disk refused, until it no longer does.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// No file is opened until then, for this reason.
    open: Option<(u64, DropReason)>,
    /// No room is made until then, as none could be, although so many bytes had to fit; and within
    /// which bound.
    remove: Option<(u64, u64, Full)>,
    /// Why packets were lost, until room is found.
    latch: Option<DropReason>,
    /// When to look again whether there is room.
    look_ns: u64,
}

/// What a look for room found.
#[derive(Debug)]
pub(crate) enum Room {
    /// There is some.
    Found,
    /// There is none, or nothing can be written for another reason.
    None(std::io::Error),
    /// Only writing can tell: a file may be writable in a folder that is not.
    Unknown,
}

impl Disk {
    /// Whether it is worth to try to open a file; else why not.
    pub(crate) fn may_open(&self, now_ns: u64) -> Result<(), DropReason> {
        match self.open {
            Some((until_ns, reason)) if now_ns < until_ns => Err(reason),
            _ => Ok(()),
        }
    }

    /// A file was opened, or could be.
    pub(crate) fn opened(&mut self) {
        if self.open.take().is_some() {
            tracing::info!("capture files can be written again");
        }
    }

    /// A file could not be opened.
    pub(crate) fn cannot_open(
        &mut self,
        until_ns: u64,
        reason: DropReason,
        error: &dyn std::fmt::Display,
    ) {
        if self.open.is_none() {
            tracing::error!("{error}; packets are dropped and counted until it can be written");
        }
        self.open = Some((until_ns, reason));
    }

    /// A file was closed that could or could not be written to: the next one may be tried at once,
    /// but until then this is what is known.
    pub(crate) fn closed(&mut self, trouble: Option<DropReason>) {
        if let (None, Some(reason)) = (self.open, trouble) {
            self.open = Some((0, reason));
        }
    }

    /// Whether it is worth to try to remove a segment; else why there is no room.
    pub(crate) fn may_remove(&self, now_ns: u64) -> Result<(), DropReason> {
        match self.remove {
            Some((until_ns, _, full)) if now_ns < until_ns => Err(reason_of(full)),
            _ => Ok(()),
        }
    }

    /// Bytes that had to fit within the bound and did not; 0 if there is room.
    pub(crate) fn wanted_bytes(&self) -> u64 {
        self.remove.map_or(0, |(_, bytes, _)| bytes)
    }

    /// There is room within the bound.
    pub(crate) fn removed(&mut self) {
        if self.remove.take().is_some() {
            tracing::info!("there is room within the bound again");
        }
    }

    /// No room for so many bytes can be made within the bound. Gives the reason for the packets that it costs.
    pub(crate) fn cannot_remove(&mut self, until_ns: u64, bytes: u64, full: Full) -> DropReason {
        if self.remove.is_none() {
            let what = match full {
                Full::Spool => "the spool is full of segments that the store has not taken",
                Full::Archive => "the archive is at its bound and nothing can be removed",
            };
            tracing::error!("{what}; packets are dropped and counted until there is room");
        }
        self.remove = Some((until_ns, bytes, full));
        reason_of(full)
    }

    /// Why packets are being lost, if they are.
    pub(crate) fn trouble(&self) -> Option<DropReason> {
        self.open.map(|(_, reason)| reason).or(self.remove.map(|(_, _, full)| reason_of(full)))
    }

    /// Why packets are being lost, `in_file` being what an open file says; once they are, until room
    /// was found.
    pub(crate) fn latched(&mut self, in_file: Option<DropReason>) -> Option<DropReason> {
        self.latch = in_file.or_else(|| self.trouble()).or(self.latch);
        self.latch
    }

    /// Forgets what was, if nothing is wrong now.
    pub(crate) fn unlatch(&mut self) {
        self.latch = None;
    }

    /// Whether it is time to look for room; `is_waited_for` says that something else needs it, too.
    pub(crate) fn is_due(&mut self, is_waited_for: bool, now_ns: u64, period_ns: u64) -> bool {
        if !is_waited_for && self.latch.is_none() {
            // From the first failure on it takes a period until it is looked at again.
            self.look_ns = now_ns + period_ns;
            return false;
        }
        let is_due = now_ns >= self.look_ns;
        if is_due {
            self.look_ns = now_ns + period_ns;
        }
        is_due
    }
}

const fn reason_of(full: Full) -> DropReason {
    match full {
        Full::Spool => DropReason::SpoolFull,
        Full::Archive => DropReason::DiskFull,
    }
}

/// Where files are written.
pub(crate) fn folder(layout: &Layout) -> PathBuf {
    match layout {
        Layout::Spool(spool) => spool.clone(),
        Layout::File(path) => path.parent().unwrap_or(Path::new("")).join(""),
    }
}

/// Finds out whether there is room where files are written, by taking some for a moment in a file
/// that has no name.
pub(crate) fn probe(layout: &Layout) -> Room {
    // The folder may be one where others leave links, such as /tmp: only a new file will do.
    let path = folder(layout).join(format!(".room-{}", Ulid::new()));
    let file = File::options().write(true).create_new(true).open(&path);
    let taken = file.and_then(|mut file| {
        fs::remove_file(&path)?;
        file.write_all(&vec![0; ROOM_BYTES])
    });
    match (taken, layout) {
        (Ok(()), _) => Room::Found,
        (Err(error), Layout::File(_)) if error.kind() == ErrorKind::PermissionDenied => {
            Room::Unknown
        }
        (Err(error), _) => Room::None(error),
    }
}
