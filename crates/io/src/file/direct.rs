//! Direct writes (`O_DIRECT`) that nobody waits for.
//!
//! A buffer of 1 MiB that is full is given to the kernel, which brings it to the disk past the page
//! cache while the next one is filled. That saves the copy into the page cache, and what the kernel
//! does to write it back. A file's writes are on their way one by one, in order, so that what is in
//! the file has no gap at any time. Each ends with a whole block, behind which padding
//! ([`capfile::pcapng_layout`]) brings it to a multiple of what the disk takes: so a reader never finds half
//! a packet at the end.
//!
//! The memory is bounded: [`LANES_MAX`] files have direct writes at a time, those that first had much
//! to write. A file that has little for a while makes room for others.

use super::gathered::Gathered;
use super::origins::LOADS;
use super::sys::{PAGE, Ring, direct_alignment, open_direct};
use capfile::pcapng_layout::BLOCK_LEN_MIN;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes gathered for a direct write.
pub(super) const DIRECT_BYTES: usize = 1 << 20;
/// Room behind those: for the packet that goes over, and for padding. A longer packet has the buffer
/// grow.
const SLACK_BYTES: usize = (256 << 10) + 3 * PAGE;
/// Bytes of a buffer.
const BUFFER_BYTES: usize = PAGE + DIRECT_BYTES + SLACK_BYTES;
/// Files with direct writes at a time.
pub(super) const LANES_MAX: usize = 8;
/// The largest block of a disk that is padded to, bytes.
const ALIGN_MAX: usize = 64 << 10;

/// What the files of a recorder share: rings and buffers for as many of them as may write directly.
/// Clones are the same.
#[derive(Clone, Default)]
pub struct Lanes(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    idle: Vec<Lane>,
    /// Lanes that there are, idle or not.
    made: usize,
    /// The kernel has no io_uring for this process.
    refused: bool,
}

/// A ring, and the buffers of it that nobody fills.
struct Lane {
    ring: Ring,
    free: Vec<Vec<u8>>,
}

impl Lanes {
    /// Takes a lane, if there is one for another file.
    fn take(&self) -> Option<Lane> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = shared.idle.pop() {
            return Some(lane);
        }
        if shared.refused || shared.made >= LANES_MAX {
            return None;
        }
        match Ring::new() {
            Ok(ring) => {
                shared.made += 1;
                Some(Lane { ring, free: Vec::new() })
            }
            Err(error) => {
                tracing::debug!("no io_uring: {error}; files are written through the page cache");
                shared.refused = true;
                None
            }
        }
    }

    fn give_back(&self, lane: Lane) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).idle.push(lane);
    }
}

/// The direct writes of one file.
pub(super) struct Direct {
    file: File,
    align: usize,
    lanes: Lanes,
    /// There until it is given back.
    lane: Option<Lane>,
    /// Buffers that were given away, in order. While the ring is busy the first is on its way, and its
    /// bytes are the ring's.
    waiting: VecDeque<Gathered>,
    waiting_bytes: u64,
}

/// A write that has ended.
pub(super) struct Ended {
    pub gathered: Gathered,
    /// Whether all of it was written.
    pub result: io::Result<()>,
}

impl Direct {
    /// Direct writes for a file, if its file system has them and there is a lane for it.
    pub fn begin(file: &File, lanes: &Lanes) -> Option<Direct> {
        let align = direct_alignment(file)?.max(PAGE);
        if align > ALIGN_MAX || !align.is_power_of_two() {
            return None;
        }
        match open_direct(file) {
            Ok(file) => Direct::over(file, align, lanes),
            Err(error) => {
                tracing::debug!("no direct writes: {error}");
                None
            }
        }
    }

    /// Direct writes through a descriptor that takes multiples of `align` bytes, if there is a lane.
    pub fn over(file: File, align: usize, lanes: &Lanes) -> Option<Direct> {
        let lane = Some(lanes.take()?);
        let (lanes, waiting) = (lanes.clone(), VecDeque::with_capacity(LOADS));
        Some(Direct { file, align, lanes, lane, waiting, waiting_bytes: 0 })
    }

    /// Bytes that are padded to a multiple of what the disk takes: as many as are missing behind an
    /// offset, or as much more as makes a block of them.
    pub fn missing(&self, offset: u64) -> usize {
        let over = (offset % self.align as u64) as usize;
        match (self.align - over) % self.align {
            len @ 1..BLOCK_LEN_MIN => len + self.align,
            len => len,
        }
    }

    /// An empty buffer, and how many bytes at its front align what follows.
    pub fn buffer(&mut self) -> (Vec<u8>, usize) {
        let free = self.lane.as_mut().and_then(|lane| lane.free.pop());
        let mut buffer = free.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
        buffer.clear();
        let lead = buffer.as_ptr().align_offset(PAGE).min(PAGE);
        buffer.resize(lead, 0);
        (buffer, lead)
    }

    /// Whether a buffer is where the kernel can take it from: one that had to grow may not be.
    pub fn takes(&self, gathered: &Gathered) -> bool {
        let bytes = gathered.bytes();
        bytes.as_ptr().align_offset(PAGE) == 0 && bytes.len().is_multiple_of(self.align)
    }

    /// Whether no write is on its way.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether another buffer would have to wait for the first to end.
    pub fn is_full(&self) -> bool {
        self.waiting.len() + 1 >= LOADS
    }

    /// Bytes that are on their way, or wait for it.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// Takes a buffer that is to be written behind those that wait.
    pub fn push(&mut self, gathered: Gathered) {
        self.waiting_bytes += gathered.bytes().len() as u64;
        self.waiting.push_back(gathered);
    }

    /// Has the first buffer written at `end`, where the file ends, if none is on its way.
    ///
    /// # Errors
    /// If the kernel does not take it: it waits on.
    pub fn start(&mut self, end: u64) -> io::Result<()> {
        let (Some(lane), Some(first)) = (&mut self.lane, self.waiting.front_mut()) else {
            return Ok(());
        };
        if lane.ring.is_busy() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut first.buffer);
        let part = first.lead..buffer.len();
        lane.ring.begin(&self.file, buffer, part, end).map_err(|(error, buffer)| {
            first.buffer = buffer;
            error
        })
    }

    /// The write that has ended, if one has; waits for it if asked to. The next one is not begun yet.
    pub fn ended(&mut self, wait: bool) -> Option<Ended> {
        let ring = &mut self.lane.as_mut()?.ring;
        let (buffer, result) = if wait { ring.wait()? } else { ring.ended()? };
        let mut gathered = self.waiting.pop_front()?;
        gathered.buffer = buffer;
        let len = gathered.bytes().len();
        self.waiting_bytes -= len as u64;
        let result = match result {
            Ok(written) if written == len => Ok(()),
            Ok(_) => Err(io::ErrorKind::WriteZero.into()),
            Err(error) => Err(error),
        };
        Some(Ended { gathered, result })
    }

    /// Takes a buffer back that is no longer needed.
    pub fn recycle(&mut self, gathered: Gathered) {
        if let Some(lane) = &mut self.lane
            && lane.free.len() < LOADS
            && gathered.buffer.capacity() == BUFFER_BYTES
        {
            lane.free.push(gathered.buffer);
        }
    }

    /// Gives up what waits, in order; none may be on its way.
    pub fn take_waiting(&mut self) -> VecDeque<Gathered> {
        self.waiting_bytes = 0;
        std::mem::take(&mut self.waiting)
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        if let Some(mut lane) = self.lane.take() {
            lane.ring.wait();
            self.lanes.give_back(lane);
        }
    }
}
