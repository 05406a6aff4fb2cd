//! The bound on a spool's bytes: the oldest closed segments are removed to make room.
//!
//! Counted are the lengths of files: closed segments by their names, open ones by what their writers
//! put into them, those of other recorders and damaged ones as found at the start. Age is the time of
//! a segment's last packet. What is no segment is not touched, nor is what a link leads to: that may
//! be outside of the spool.

use crate::layout::damaged;
use crate::name::{Part, SegmentName, SpoolState};
use crate::segment::Closed;
use api::Removed;
use capfile::{Interface, PcapngWriter, Reader, SectionInfo};
use io::Error;
use std::collections::BTreeMap;
use std::fs::{self, DirEntry, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// Longest block that is taken for the statistics at a segment's end.
const STATISTICS_BYTES_MAX: u32 = 4096;

/// The closed segments of a spool, and how many bytes they may take with the open ones.
pub(crate) struct Retention {
    spool: PathBuf,
    bytes_max: u64,
    /// By the time of the last packet, then by id and place.
    closed: BTreeMap<(u64, Ulid, PathBuf), Kept>,
    closed_bytes: u64,
    /// What is there and cannot be removed.
    fixed_bytes: u64,
    /// Bytes that may be written before it is counted again. Kept so that a packet costs no more than
    /// a subtraction.
    allowance: u64,
    pub(crate) removed: Removed,
}

struct Kept {
    bytes: u64,
    /// Known of those that this process closed.
    packets: Option<u64>,
}

impl Retention {
    /// Counts what is there.
    ///
    /// # Errors
    /// [`Error::System`] if the spool cannot be listed.
    pub(crate) fn load(spool: &Path, bytes_max: u64) -> Result<Retention, Error> {
        let mut retention = Retention {
            spool: spool.into(),
            bytes_max,
            closed: BTreeMap::new(),
            closed_bytes: 0,
            fixed_bytes: 0,
            allowance: 0,
            removed: Removed::default(),
        };
        retention.find().map_err(|source| Error::System {
            what: format!("count the segments in {}", spool.display()),
            source,
            mend: "; a bounded spool must be readable",
        })?;
        Ok(retention)
    }

    fn find(&mut self) -> std::io::Result<()> {
        for entry in list(&damaged(&self.spool))? {
            self.fixed_bytes += file_bytes(&entry);
        }
        for entry in list(&self.spool)? {
            let name = entry.file_name();
            let name = name.to_str().and_then(SegmentName::parse_spool_file);
            let bytes = file_bytes(&entry);
            match name {
                Some((name, Part::Plain, SpoolState::Closed))
                    if entry.file_type().is_ok_and(|kind| kind.is_file()) =>
                {
                    self.closed_bytes += bytes;
                    let kept = Kept { bytes, packets: None };
                    self.closed.insert((name.last_ns, name.id, entry.path()), kept);
                }
                _ => self.fixed_bytes += bytes,
            }
        }
        Ok(())
    }

    /// Bytes that were there at the start and cannot be removed: damaged segments, and what other
    /// recorders had open.
    pub(crate) fn fixed_bytes(&self) -> u64 {
        self.fixed_bytes
    }

    /// Notes a segment that was closed.
    pub(crate) fn add(&mut self, segment: &Closed) {
        let &Closed { ref name, bytes, packets, .. } = segment;
        self.closed_bytes += bytes;
        let kept = Kept { bytes, packets: Some(packets) };
        self.closed.insert((name.last_ns, name.id, segment.path.clone()), kept);
    }

    /// Notes a file that stays where it is.
    pub(crate) fn add_fixed(&mut self, bytes: u64) {
        self.fixed_bytes += bytes;
    }

    /// Takes from what may be written; false if it must be counted again first.
    #[inline]
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let is_enough = self.allowance >= bytes;
        self.allowance -= if is_enough { bytes } else { 0 };
        is_enough
    }

    /// Removes the oldest closed segments until the `open` bytes of open ones and `bytes` more fit
    /// beside the rest. Returns whether they do: else no closed one is left.
    ///
    /// # Errors
    /// If one cannot be removed; it is still there and still counted.
    pub(crate) fn make_room(&mut self, open: u64, bytes: u64) -> std::io::Result<bool> {
        let wanted = open + bytes + self.fixed_bytes;
        while self.closed_bytes + wanted > self.bytes_max {
            let Some(oldest) = self.closed.first_entry() else {
                self.allowance = 0;
                return Ok(false);
            };
            let ((_, _, path), Kept { bytes, packets }) = (oldest.key(), oldest.get());
            let packets = packets.or_else(|| count(path)).unwrap_or(0);
            let is_gone = remove(path).map_err(|error| {
                self.allowance = 0;
                let what = format!("remove {}: {error}", path.display());
                std::io::Error::new(error.kind(), what)
            })?;
            self.closed_bytes -= bytes;
            if is_gone {
                self.removed.segments += 1;
                self.removed.packets += packets;
                self.removed.bytes += bytes;
            }
            oldest.remove();
        }
        self.allowance = self.bytes_max - self.closed_bytes - wanted;
        Ok(true)
    }
}

fn list(folder: &Path) -> std::io::Result<Vec<DirEntry>> {
    match fs::read_dir(folder) {
        // Another recorder may remove an empty folder meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.collect(),
    }
}

/// The length of a file; 0 for what is none.
fn file_bytes(entry: &DirEntry) -> u64 {
    let metadata = entry.metadata().ok();
    metadata.filter(|of| of.is_file()).map_or(0, |of| of.len())
}

/// Removes a segment. False if it is not in the spool any more: somebody removed it, or moved it
/// elsewhere and left a link.
fn remove(path: &Path) -> std::io::Result<bool> {
    if path.is_symlink() {
        return Ok(false);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        result => {
            tracing::debug!("removed the oldest segment, {}", path.display());
            result.map(|()| true)
        }
    }
}

/// Packets in a segment that an earlier process closed: its last block tells, or else all are
/// counted.
fn count(path: &Path) -> Option<u64> {
    // Opening a pipe would wait for who writes to it.
    let is_file = path.symlink_metadata().ok()?.is_file();
    let mut file = is_file.then(|| File::open(path).ok())??;
    if let Some(packets) = told_at_the_end(&mut file) {
        return Some(packets);
    }
    file.rewind().ok()?;
    let mut reader = Reader::new(file).ok()?;
    let mut packets = 0;
    while let Ok(true) = reader.advance() {
        packets += 1;
    }
    Some(packets)
}

/// Reads the statistics of a segment's only interface, without what stands before them.
fn told_at_the_end(file: &mut File) -> Option<u64> {
    let mut len = [0; 4];
    file.seek(SeekFrom::End(-4)).ok()?;
    file.read_exact(&mut len).ok()?;
    let len = u32::from_le_bytes(len);
    if len > STATISTICS_BYTES_MAX {
        return None;
    }
    file.seek(SeekFrom::End(-i64::from(len))).ok()?;
    let mut writer = PcapngWriter::new(Vec::new(), &SectionInfo::default()).ok()?;
    writer.add_interface(&Interface::new(capfile::LINKTYPE_ETHERNET)).ok()?;
    let mut bytes = writer.into_inner();
    file.read_to_end(&mut bytes).ok()?;
    let mut reader = Reader::new(&bytes[..]).ok()?;
    match reader.advance() {
        Ok(false) => reader.statistics(0)?.delivered,
        _ => None,
    }
}
