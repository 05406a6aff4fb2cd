//! Chunks of memory, and the exclusive ranges of them that packets are.
//!
//! Soundness rests on one rule: every byte of a chunk belongs to exactly one of its *producer* (a
//! [`Bump`] or a ring, which hands out ranges) and the [`Data`] that covers it. A producer
//! takes a chunk back only when its `Arc` is unique, that is, when no `Data` of it is left.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// A run of memory that packets are ranges of: from the heap, or a part of a mapped ring.
pub(crate) struct Chunk {
    start: NonNull<u8>,
    len: usize,
    owner: Owner,
}

enum Owner {
    Heap(Layout),
    /// Kept for its `Drop`, which unmaps.
    Mapping(
        #[expect(dead_code, reason = "held so that the mapping outlives its chunks")]
        Arc<dyn Send + Sync>,
    ),
}

// SAFETY: a chunk is plain memory; who may touch which byte follows the module's rule, and ranges
// are disjoint, so no two threads touch one byte without a happens-before edge by the Arc.
unsafe impl Send for Chunk {}
// SAFETY: as above; a shared `&Chunk` gives access to no byte by itself.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// Allocates `len` zeroed bytes. Large ones come untouched from the kernel: they cost memory only
    /// where they are used.
    fn heap(len: usize) -> Chunk {
        let layout = Layout::array::<u8>(len.max(1)).expect("a length below isize::MAX");
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout));
        Chunk { start, len, owner: Owner::Heap(layout) }
    }

    /// Wraps `len` bytes of a mapping that lives as long as `mapping`.
    ///
    /// # Safety
    /// The bytes must be mapped readable and writable until `mapping` is dropped, belong to no
    /// other chunk, and be left alone by the kernel while any [`Data`] of the chunk lives.
    pub(crate) unsafe fn mapped(
        start: NonNull<u8>,
        len: usize,
        mapping: Arc<dyn Send + Sync>,
    ) -> Chunk {
        Chunk { start, len, owner: Owner::Mapping(mapping) }
    }

    /// Makes a range its own: `headroom` free bytes, then `len` bytes of packet from `start` on.
    ///
    /// # Safety
    /// The caller is the chunk's producer, and no `Data` covers any of
    /// `start - headroom .. start + len`.
    pub(crate) unsafe fn range(
        self: &Arc<Self>,
        start: usize,
        len: usize,
        headroom: usize,
    ) -> Data {
        assert!(start <= self.len && len <= self.len - start, "range outside of the chunk");
        assert!(headroom <= start, "headroom outside of the chunk");
        let narrow = |n: usize| u32::try_from(n).expect("a chunk is smaller than 4 GiB");
        Data {
            start: narrow(start),
            len: narrow(len),
            headroom: narrow(headroom),
            chunk: Arc::clone(self),
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Owner::Heap(layout) = self.owner {
            // SAFETY: allocated in `heap` with this very layout.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}

/// The producer of a heap chunk: hands out ranges one behind the other.
pub(super) struct Bump {
    chunk: Arc<Chunk>,
    used: usize,
}

impl Bump {
    pub(super) fn new(len: usize) -> Bump {
        Bump { chunk: Arc::new(Chunk::heap(len)), used: 0 }
    }

    /// Bytes of the chunk.
    pub(super) fn len(&self) -> usize {
        self.chunk.len
    }

    /// Takes the next `len` bytes behind `headroom`; `None` if they do not fit any more.
    pub(super) fn take(&mut self, len: usize, headroom: usize) -> Option<Data> {
        let needed = headroom.checked_add(len)?;
        if needed > self.chunk.len - self.used {
            return None;
        }
        let start = self.used + headroom;
        self.used += needed;
        // SAFETY: this is the chunk's only producer, and `used` only grows until `reset` has seen
        // that no range is left, so nothing covers these bytes.
        Some(unsafe { self.chunk.range(start, len, headroom) })
    }

    /// Starts anew if no range is left; returns whether it did.
    pub(super) fn reset(&mut self) -> bool {
        let free = Arc::get_mut(&mut self.chunk).is_some();
        if free {
            self.used = 0;
        }
        free
    }
}

/// The bytes of one packet: an exclusive range of a reference-counted chunk.
///
/// Dropping it gives the range back; the chunk is used again when its last range is gone.
pub struct Data {
    chunk: Arc<Chunk>,
    start: u32,
    len: u32,
    headroom: u32,
}

impl Data {
    /// Copies bytes into memory of their own. Allocates: not for the steady state.
    pub fn copy_of(bytes: &[u8]) -> Data {
        let mut data = Bump::new(bytes.len()).take(bytes.len(), 0).expect("made for this length");
        data.copy_from_slice(bytes);
        data
    }

    /// Free bytes in front of the packet.
    pub fn headroom(&self) -> usize {
        self.headroom as usize
    }

    /// Takes `len` bytes of headroom into the packet's front; their content is left over.
    ///
    /// Returns false, and changes nothing, if the headroom is shorter.
    #[must_use]
    pub fn grow_front(&mut self, len: usize) -> bool {
        if len > self.headroom() {
            return false;
        }
        self.headroom -= len as u32;
        self.start -= len as u32;
        self.len += len as u32;
        true
    }

    /// Cuts `len` bytes off the front; they become headroom.
    ///
    /// # Panics
    /// If the packet is shorter.
    pub fn trim_front(&mut self, len: usize) {
        assert!(len <= self.len as usize, "trim beyond the packet");
        self.headroom += len as u32;
        self.start += len as u32;
        self.len -= len as u32;
    }

    /// Keeps the first `len` bytes; does nothing if there are fewer.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u32::try_from(len).unwrap_or(u32::MAX));
    }
}

impl Deref for Data {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: inside the chunk since `range` checked it and the ends only move inwards or into
        // the checked headroom; the range is exclusive to this value, which is borrowed.
        unsafe {
            let start = self.chunk.start.as_ptr().add(self.start as usize);
            std::slice::from_raw_parts(start, self.len as usize)
        }
    }
}

impl DerefMut for Data {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and this value is borrowed mutably.
        unsafe {
            let start = self.chunk.start.as_ptr().add(self.start as usize);
            std::slice::from_raw_parts_mut(start, self.len as usize)
        }
    }
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Data({} bytes)", self.len)
    }
}
