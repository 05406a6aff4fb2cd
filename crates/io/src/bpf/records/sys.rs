//! The mapped memory of a ring of records.
//!
//! Source: Linux `Documentation/bpf/ringbuf.rst`, `kernel/bpf/ringbuf.c`.
//!
//! ```text
//! page 0: our position      page 1: the kernel's position      from page 2 on: records, mapped twice
//! record: u32, its length and two bits | u32 | bytes, up to a multiple of 8
//! ```
//! Positions count bytes and never go back. A record between the two positions is the kernel's while
//! its first bit is set, and then ours, until our position is behind it. As the memory is mapped twice in a
//! row, a record that begins near its end lies in one piece all the same.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Bytes of a record's header.
const HEADER_LEN: usize = 8;
/// The record is still being written.
const BUSY: u32 = 1 << 31;
/// The record was given up.
const DISCARDED: u32 = 1 << 30;

/// The mapping of a ring's three parts.
#[derive(Debug)]
pub(super) struct Memory {
    ours: Mapping,
    theirs: Mapping,
    /// Bytes of a page, in which the kernel's position stands.
    page: usize,
    /// Bytes for records, a power of two.
    bytes: usize,
}

#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: only an address and a length; the memory is there until the value is dropped.
unsafe impl Send for Mapping {}

/// What stands at a position.
pub(super) struct Record<'a> {
    /// Its bytes; `None` if it was given up.
    pub bytes: Option<&'a [u8]>,
    /// The position behind it.
    pub next: usize,
}

/// Bytes of a page.
pub(super) fn page_bytes() -> usize {
    // SAFETY: plain call.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

impl Memory {
    /// Maps a ring with so many bytes for records.
    pub fn map(ring: BorrowedFd<'_>, bytes: usize) -> io::Result<Memory> {
        let page = page_bytes();
        let ours = Mapping::new(ring, 0, page, libc::PROT_READ | libc::PROT_WRITE)?;
        let theirs = Mapping::new(ring, page, page + 2 * bytes, libc::PROT_READ)?;
        Ok(Memory { ours, theirs, page, bytes })
    }

    /// Says that all before a position may be used again.
    pub fn release(&mut self, position: usize) {
        // SAFETY: the first page is mapped for as long as `self`, aligned, and written by us alone,
        // by this word, which the kernel reads atomically.
        let ours = unsafe { AtomicUsize::from_ptr(self.ours.base.as_ptr().cast()) };
        ours.store(position, Ordering::Release);
    }

    /// The record at a position that was not released, if there is one and it is written.
    pub fn at(&self, position: usize) -> Option<Record<'_>> {
        // SAFETY: the second page is mapped for as long as `self` and aligned; the kernel writes
        // this word atomically, and here it is only loaded.
        let theirs = unsafe { AtomicUsize::from_ptr(self.theirs.base.as_ptr().cast()) };
        if theirs.load(Ordering::Acquire) == position {
            return None;
        }
        let offset = position & (self.bytes - 1);
        // SAFETY: the offset is below `bytes`, so that the pointer is inside the mapping, which has
        // a page and twice as many.
        let header = unsafe { self.theirs.base.add(self.page + offset) };
        // SAFETY: records begin at multiples of 8; the kernel writes this word atomically.
        let word = unsafe { AtomicU32::from_ptr(header.as_ptr().cast()) }.load(Ordering::Acquire);
        if word & BUSY != 0 {
            return None;
        }
        let len = (word & !DISCARDED) as usize;
        assert!(len <= self.bytes - HEADER_LEN, "the kernel's record of {len} bytes fits the ring");
        let next = position.wrapping_add((HEADER_LEN + len).next_multiple_of(8));
        let bytes = (word & DISCARDED == 0).then(|| {
            // SAFETY: header and bytes begin below `bytes` and are no longer than it, so that they
            // lie inside the mapping, which has it twice. The kernel does not write there before
            // `release` was called with a position behind, for which `self` may not be borrowed.
            unsafe { std::slice::from_raw_parts(header.add(HEADER_LEN).as_ptr(), len) }
        });
        Some(Record { bytes, next })
    }
}

impl Mapping {
    fn new(ring: BorrowedFd<'_>, from: usize, len: usize, access: i32) -> io::Result<Mapping> {
        let from = libc::off_t::try_from(from).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, ring.as_raw_fd(), from)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>()).expect("mmap does not map address 0");
        Ok(Mapping { base, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; no reference into it outlives the value.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
