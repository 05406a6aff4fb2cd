//! The room that a recorder has in its spool, out of a [`SpoolBudget`].
//!
//! A share of it is taken at once, so that a packet costs no more than a subtraction.

use crate::archiver::{Full, SpoolBudget, Waker};
use crate::segment::Closed;
use capfile::{Interface, PcapngWriter, Reader, SectionInfo};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

/// Longest block that is taken for the statistics at a segment's end.
const STATISTICS_BYTES_MAX: u32 = 4096;

/// Room that was taken.
pub(crate) struct Room {
    budget: Arc<SpoolBudget>,
    waker: Option<Waker>,
    /// Bytes taken out of the budget: those of open segments, and the allowance.
    held: u64,
    /// Bytes that may be written before it is counted again.
    allowance: u64,
}

impl Room {
    pub(crate) fn new(budget: Arc<SpoolBudget>, waker: Option<Waker>) -> Room {
        Room { budget, waker, held: 0, allowance: 0 }
    }

    /// Takes from what may be written; false if it must be counted again first.
    #[inline]
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let is_enough = self.allowance >= bytes;
        self.allowance -= if is_enough { bytes } else { 0 };
        is_enough
    }

    /// Takes out of the budget what is missing to have room for the `open` bytes of open segments, and
    /// for `bytes` more.
    ///
    /// # Errors
    /// [`Full`] if there is not as much.
    pub(crate) fn refill(&mut self, open: u64, bytes: u64) -> Result<(), Full> {
        let wanted = open + bytes;
        let share = self.budget.share_bytes();
        // The last bytes are worth to be taken one by one.
        let result = self.hold(wanted + share).or_else(|_| self.hold(wanted));
        self.allowance = self.held.saturating_sub(wanted);
        if result.is_err() {
            self.allowance = 0;
            self.wake();
        }
        result
    }

    fn hold(&mut self, bytes: u64) -> Result<(), Full> {
        match bytes.checked_sub(self.held) {
            Some(missing) => self.budget.take(missing)?,
            None => self.budget.give_back(self.held - bytes),
        }
        self.held = bytes;
        Ok(())
    }

    /// A segment for which so many bytes were held is closed.
    pub(crate) fn closed(&mut self, segment: &Closed, held: u64) {
        let held = held.min(self.held);
        self.held -= held;
        let file = segment.path.file_name().unwrap_or_default().to_string_lossy();
        self.budget.closed(&file, segment.bytes, held);
        self.wake();
    }

    fn wake(&self) {
        self.waker.iter().for_each(Waker::wake);
    }
}

/// Packets in a segment that an earlier process closed: its last block tells, or else all are
/// counted.
pub(crate) fn count_packets(path: &Path) -> Option<u64> {
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
