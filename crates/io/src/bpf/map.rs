//! Maps of bytes: what programs and this process tell each other.

use super::{NAME, NEEDS_RIGHT, possible_cpus, sys};
use crate::error::Error;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How a map finds its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapKind {
    /// By their place, a `u32` in the host's order; all are there, at first as zeros.
    Array,
    /// The same, with a value for each CPU.
    PerCpuArray,
    /// By a key; at first none.
    Hash,
    /// By a key; when it is full, one that was not used for long makes room.
    LruHash,
}

impl MapKind {
    const fn map_type(self) -> sys::MapType {
        match self {
            MapKind::Array => sys::MapType::Array,
            MapKind::PerCpuArray => sys::MapType::PerCpuArray,
            MapKind::Hash => sys::MapType::Hash,
            MapKind::LruHash => sys::MapType::LruHash,
        }
    }
}

/// A map in the kernel. Gone with the last descriptor, those of programs that use it included.
#[derive(Debug)]
pub struct Map {
    map: OwnedFd,
    kind: MapKind,
    key_bytes: usize,
    value_bytes: usize,
    entries: u32,
    /// Copies of a value.
    cpus: usize,
}

impl Map {
    /// Makes a map. Keys of arrays have 4 bytes; values of a per-CPU map a multiple of 8.
    ///
    /// # Errors
    /// [`Error::System`] where the right or the memory is missing.
    ///
    /// # Panics
    /// If the sizes are not as said.
    pub fn new(
        kind: MapKind,
        key_bytes: usize,
        value_bytes: usize,
        entries: u32,
    ) -> Result<Map, Error> {
        let map = sys::create_any_map(
            kind.map_type(),
            NAME,
            key_bytes as u32,
            value_bytes as u32,
            entries,
        );
        let map = map.map_err(|source| Error::System {
            what: format!("make an eBPF map of {entries} × {value_bytes} bytes"),
            mend: match source.raw_os_error() {
                Some(libc::EPERM) => NEEDS_RIGHT,
                _ => "",
            },
            source,
        })?;
        Map::of(map, kind, key_bytes, value_bytes, entries)
    }

    /// A map that exists, such as one that was pinned; the caller knows what it is.
    ///
    /// # Errors
    /// [`Error::System`] if the number of CPUs is not to be had.
    ///
    /// # Panics
    /// If the sizes are not as for [`Self::new`].
    pub fn of(
        map: OwnedFd,
        kind: MapKind,
        key_bytes: usize,
        value_bytes: usize,
        entries: u32,
    ) -> Result<Map, Error> {
        let (is_array, is_per_cpu) = match kind {
            MapKind::Array => (true, false),
            MapKind::PerCpuArray => (true, true),
            MapKind::Hash | MapKind::LruHash => (false, false),
        };
        assert!(!is_array || key_bytes == 4, "the key of an array is a u32");
        assert!(!is_per_cpu || value_bytes.is_multiple_of(8), "a per-CPU value is of words");
        let cpus = if is_per_cpu { possible_cpus()? } else { 1 };
        Ok(Map { map, kind, key_bytes, value_bytes, entries, cpus })
    }

    /// A map that was pinned, if it is what is expected; `None` if it is another.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses to say what it is.
    ///
    /// # Panics
    /// If the sizes are not as for [`Self::new`].
    pub fn of_pinned(
        map: OwnedFd,
        kind: MapKind,
        key_bytes: usize,
        value_bytes: usize,
        entries: u32,
    ) -> Result<Option<Map>, Error> {
        let is = sys::describe_map(map.as_fd());
        let is = is.map_err(|e| Error::system("ask what a pinned eBPF map is", e))?;
        if is != [kind.map_type() as u32, key_bytes as u32, value_bytes as u32, entries] {
            return Ok(None);
        }
        Map::of(map, kind, key_bytes, value_bytes, entries).map(Some)
    }

    /// How many values it has room for.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// How it finds its values.
    pub fn kind(&self) -> MapKind {
        self.kind
    }

    /// Reads a value; of a per-CPU map the values of all CPUs, one behind the other.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    ///
    /// # Panics
    /// If the key is of another length.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        assert_eq!(key.len(), self.key_bytes, "bytes of the key");
        let mut value = vec![0; self.value_bytes * self.cpus];
        let found = sys::get_of(self.map.as_fd(), key, &mut value);
        let found = found.map_err(|e| Error::system("read an eBPF map", e))?;
        Ok(found.then_some(value))
    }

    /// Writes a value; of a per-CPU map the values of all CPUs.
    ///
    /// # Errors
    /// [`Error::System`] if the map is full or the kernel refuses.
    ///
    /// # Panics
    /// If key or value are of another length.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        assert_eq!(key.len(), self.key_bytes, "bytes of the key");
        assert_eq!(value.len(), self.value_bytes * self.cpus, "bytes of the value");
        sys::put_of(self.map.as_fd(), key, value).map_err(|e| Error::system("write an eBPF map", e))
    }

    /// Removes a value of a hash map; whether there was one.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    ///
    /// # Panics
    /// If the key is of another length.
    pub fn remove(&self, key: &[u8]) -> Result<bool, Error> {
        assert_eq!(key.len(), self.key_bytes, "bytes of the key");
        sys::delete_of(self.map.as_fd(), key)
            .map_err(|e| Error::system("remove from an eBPF map", e))
    }

    /// The keys of a hash map. One that comes or goes meanwhile may be missed or met twice; at most
    /// twice as many as it has room for are listed.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    pub fn keys(&self) -> Result<Vec<Vec<u8>>, Error> {
        let (mut keys, mut next) = (Vec::new(), vec![0; self.key_bytes]);
        let mut last: Option<Vec<u8>> = None;
        while keys.len() < 2 * self.entries as usize {
            let found = sys::next_key_of(self.map.as_fd(), last.as_deref(), &mut next);
            if !found.map_err(|e| Error::system("list an eBPF map", e))? {
                break;
            }
            keys.push(next.clone());
            last = Some(next.clone());
        }
        Ok(keys)
    }

    /// The key behind one of a hash map's, or the first; `None` behind the last. Behind a key that is
    /// gone it is the first again.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses.
    ///
    /// # Panics
    /// If the key is of another length.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, Error> {
        assert!(key.is_none_or(|key| key.len() == self.key_bytes), "bytes of the key");
        let mut next = vec![0; self.key_bytes];
        let found = sys::next_key_of(self.map.as_fd(), key, &mut next);
        let found = found.map_err(|e| Error::system("list an eBPF map", e))?;
        Ok(found.then_some(next))
    }

    /// Reads the value at a place of an array as words; of a per-CPU map their sums over all CPUs.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses, or there is no such place.
    ///
    /// # Panics
    /// If the value is not of words.
    pub fn words(&self, place: u32) -> Result<Vec<u64>, Error> {
        assert!(self.value_bytes.is_multiple_of(8), "a value of words");
        let value = self.get(&place.to_ne_bytes())?.ok_or_else(|| {
            let source = io::Error::from_raw_os_error(libc::ENOENT);
            Error::system(format!("read place {place} of an eBPF map"), source)
        })?;
        let mut sums = vec![0u64; self.value_bytes / 8];
        for copy in value.chunks_exact(self.value_bytes) {
            for (sum, word) in sums.iter_mut().zip(copy.as_chunks::<8>().0) {
                *sum = sum.wrapping_add(u64::from_ne_bytes(*word));
            }
        }
        Ok(sums)
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}
