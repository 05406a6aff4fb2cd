//! io_uring for one write at a time, and what a file system says of direct writes.
//!
//! Source: io_uring(7), io_uring_enter(2), open(2) `O_DIRECT`, statx(2) `STATX_DIOALIGN`.

#![allow(unsafe_code)]

use io_uring::{IoUring, opcode, squeue, types};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// A ring through which a single write at a time is on its way. It owns the bytes meanwhile.
pub(super) struct Ring {
    ring: IoUring,
    flying: Option<Vec<u8>>,
}

impl Ring {
    /// A ring of its own.
    ///
    /// # Errors
    /// If the kernel has no io_uring, or refuses it to this process.
    pub fn new() -> io::Result<Ring> {
        Ok(Ring { ring: IoUring::new(2)?, flying: None })
    }

    /// Whether a write is on its way.
    pub fn is_busy(&self) -> bool {
        self.flying.is_some()
    }

    /// Begins to write a part of some bytes at an offset. Nothing else may be on its way.
    ///
    /// # Errors
    /// If the kernel does not take it; the bytes come back.
    ///
    /// # Panics
    /// If a write is on its way, or the part is none of the bytes.
    pub fn begin(
        &mut self,
        file: &File,
        bytes: Vec<u8>,
        part: Range<usize>,
        offset: u64,
    ) -> Result<(), (io::Error, Vec<u8>)> {
        assert!(self.flying.is_none(), "one write at a time");
        let slice = &bytes[part];
        // The first try of the kernel would be in vain: a write that makes a file longer may wait.
        let entry =
            opcode::Write::new(types::Fd(file.as_raw_fd()), slice.as_ptr(), slice.len() as u32)
                .offset(offset)
                .build()
                .flags(squeue::Flags::ASYNC);
        // SAFETY: the bytes are kept in `flying`, untouched and in place, until the write is known
        // to have ended; where that cannot be known they are leaked. The file is the kernel's as
        // soon as the entry is submitted.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            return Err((io::ErrorKind::WouldBlock.into(), bytes));
        }
        loop {
            match self.ring.submit() {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // The entry stands in the ring and may be taken later: its bytes must stay.
                    let copy = bytes.clone();
                    std::mem::forget(bytes);
                    return Err((error, copy));
                }
            }
        }
        self.flying = Some(bytes);
        Ok(())
    }

    /// What became of the write, if it has ended: its bytes, and how many of them were written.
    pub fn ended(&mut self) -> Option<(Vec<u8>, io::Result<usize>)> {
        let result = self.ring.completion().next()?.result();
        let bytes = self.flying.take()?;
        let written = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        Some((bytes, written))
    }

    /// Waits until the write has ended; `None` if none is on its way.
    pub fn wait(&mut self) -> Option<(Vec<u8>, io::Result<usize>)> {
        while self.flying.is_some() {
            if let Some(ended) = self.ended() {
                return Some(ended);
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    let bytes = self.flying.take()?;
                    let copy = bytes.clone();
                    std::mem::forget(bytes);
                    return Some((copy, Err(error)));
                }
                _ => {}
            }
        }
        None
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.wait();
    }
}

/// Opens a file once more, for direct writes.
///
/// # Errors
/// If its file system has no direct writes, or the file may not be opened again.
pub(super) fn open_direct(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)
}

/// What offsets and lengths of direct writes must be multiples of, bytes; `None` where there are no
/// direct writes, or where they are no more than a name for others.
pub(super) fn direct_alignment(file: &File) -> Option<usize> {
    // SAFETY: an all-zero statx is valid.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is empty and ends in a NUL; the kernel writes inside `found`.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            &mut found,
        )
    };
    if result == 0 && found.stx_mask & libc::STATX_DIOALIGN != 0 {
        return usize::try_from(found.stx_dio_offset_align).ok().filter(|&align| align > 0);
    }
    // Kernels before 6.1 do not tell: take the file systems that are known for it.
    // SAFETY: an all-zero statfs is valid.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes inside `found`.
    let result = unsafe { libc::fstatfs(file.as_raw_fd(), &mut found) };
    let is_known = [libc::EXT4_SUPER_MAGIC, libc::XFS_SUPER_MAGIC].contains(&found.f_type);
    (result == 0 && is_known).then_some(PAGE)
}

/// Bytes that memory for direct writes is aligned to.
pub(super) const PAGE: usize = 4096;
