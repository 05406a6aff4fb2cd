//! Rings of records: what programs write for this process to read, in order, without an interface or a
//! socket between (`BPF_MAP_TYPE_RINGBUF`, Linux 5.8).

mod sys;

use super::{NAME, NEEDS_RIGHT, sys as bpf};
use crate::error::Error;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use sys::Memory;

/// A ring, and the place in it up to which this process has read. A program finds no room in it while
/// what is not read fills it.
#[derive(Debug)]
pub struct RecordRing {
    map: OwnedFd,
    memory: Memory,
    bytes: usize,
    /// Of the next record.
    position: usize,
}

/// Rings by their place: a map that programs look them up in.
#[derive(Debug)]
pub struct RecordRings {
    map: OwnedFd,
}

impl RecordRing {
    /// Makes a ring of at least so many bytes: a power of two, a page at least, and 1 GiB at
    /// most.
    ///
    /// # Errors
    /// [`Error::System`] where the right or the memory is missing.
    pub fn new(bytes: usize) -> Result<RecordRing, Error> {
        let bytes = bytes.clamp(sys::page_bytes(), 1 << 30).next_power_of_two();
        let refused = |source: std::io::Error| Error::System {
            what: format!("make an eBPF ring of {} KiB", bytes >> 10),
            mend: match source.raw_os_error() {
                Some(libc::EPERM) => NEEDS_RIGHT,
                Some(libc::ENOMEM) => "; give a smaller one (-B SIZE, buffer_size)",
                _ => "",
            },
            source,
        };
        let map = bpf::create_any_map(bpf::MapType::Records, NAME, 0, 0, bytes as u32);
        let map = map.map_err(refused)?;
        let memory = Memory::map(map.as_fd(), bytes).map_err(refused)?;
        Ok(RecordRing { map, memory, bytes, position: 0 })
    }

    /// Bytes for records, 8 of each and up to 7 between two included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next record, if one is there. The room of the one before is given back.
    pub fn receive(&mut self) -> Option<&[u8]> {
        loop {
            self.memory.release(self.position);
            let record = self.memory.at(self.position)?;
            let (next, is_kept) = (record.next, record.bytes.is_some());
            let position = std::mem::replace(&mut self.position, next);
            if is_kept {
                return self.memory.at(position).and_then(|record| record.bytes);
            }
        }
    }
}

impl AsFd for RecordRing {
    /// Readable while there are records.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

impl RecordRings {
    /// Makes room for so many rings; none is there.
    ///
    /// # Errors
    /// [`Error::System`] where the right or the memory is missing.
    pub fn new(places: u32) -> Result<RecordRings, Error> {
        // What rings have in common is taken from one, and their size is not.
        let sample = RecordRing::new(0)?;
        let map = bpf::create_map_of_maps(NAME, sample.map.as_fd(), places);
        let map =
            map.map_err(|e| Error::system(format!("make room for {places} eBPF rings"), e))?;
        Ok(RecordRings { map })
    }

    /// Has programs find a ring at a place. They keep it until it is taken away.
    ///
    /// # Errors
    /// [`Error::System`] if there is no such place.
    pub fn put(&self, place: u32, ring: &RecordRing) -> Result<(), Error> {
        let descriptor = ring.map.as_raw_fd().to_ne_bytes();
        bpf::put_of(self.map.as_fd(), &place.to_ne_bytes(), &descriptor)
            .map_err(|e| Error::system("show an eBPF ring to programs", e))
    }

    /// Takes a ring away. No program is at work with it any more when the call returns.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn remove(&self, place: u32) -> Result<(), Error> {
        bpf::delete_of(self.map.as_fd(), &place.to_ne_bytes())
            .map(drop)
            .map_err(|e| Error::system("take an eBPF ring from programs", e))
    }
}

impl AsFd for RecordRings {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}
