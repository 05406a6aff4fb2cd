//! A bounded pool of chunks: memory for packets that do not live in a ring.
//!
//! Packets are laid one behind the other into a chunk; when it is full the pool goes on to the next
//! one whose packets are all gone. Nothing is allocated after [`Pool::new`].

pub(crate) mod sys;

use sys::Bump;
pub use sys::Data;

/// Free bytes in front of every packet of a pool: room for outer headers and tags.
pub const HEADROOM: usize = 128;

/// A bounded supply of packet memory, used by one thread.
pub struct Pool {
    chunks: Vec<Bump>,
    current: usize,
}

impl Pool {
    /// Allocates `chunks` chunks of `chunk_bytes` each.
    ///
    /// # Panics
    /// If either is zero.
    pub fn new(chunks: usize, chunk_bytes: usize) -> Pool {
        assert!(chunks > 0 && chunk_bytes > 0, "a pool needs memory");
        Pool { chunks: (0..chunks).map(|_| Bump::new(chunk_bytes)).collect(), current: 0 }
    }

    /// Bytes of the largest packet that fits.
    pub fn packet_bytes_max(&self) -> usize {
        self.chunks[0].len().saturating_sub(HEADROOM)
    }

    /// Takes memory for a packet of `len` bytes; its content is left over from earlier packets.
    ///
    /// Returns `None` at the pool's bound: the next chunk still holds live packets, or `len` is
    /// larger than [`Self::packet_bytes_max`].
    pub fn take(&mut self, len: usize) -> Option<Data> {
        if let Some(data) = self.chunks[self.current].take(len, HEADROOM) {
            return Some(data);
        }
        let next = (self.current + 1) % self.chunks.len();
        if len > self.packet_bytes_max() || !self.chunks[next].reset() {
            return None;
        }
        self.current = next;
        self.chunks[next].take(len, HEADROOM)
    }

    /// Uses the chunk at hand from its beginning again if none of its packets is left.
    pub fn rewind(&mut self) {
        self.chunks[self.current].reset();
    }

    /// Copies a packet's bytes into the pool.
    pub fn copy(&mut self, bytes: &[u8]) -> Option<Data> {
        let mut data = self.take(bytes.len())?;
        data.copy_from_slice(bytes);
        Some(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_keep_their_bytes_until_dropped() {
        let mut pool = Pool::new(2, 1024);
        let mut live = Vec::new();
        for n in 0u8..6 {
            live.push(pool.copy(&[n; 100]).unwrap());
        }
        for (n, data) in live.iter().enumerate() {
            assert_eq!(**data, [n as u8; 100]);
            assert_eq!(data.headroom(), HEADROOM);
        }
    }

    #[test]
    fn a_full_pool_refuses_and_recovers() {
        let mut pool = Pool::new(2, 1024);
        let mut live: Vec<Data> = std::iter::from_fn(|| pool.take(300)).collect();
        assert_eq!(live.len(), 4);
        live.drain(..1);
        assert!(pool.take(300).is_none(), "the first chunk still holds a packet");
        live.drain(..1);
        assert!(pool.take(300).is_some());
        assert!(pool.take(1024).is_none(), "larger than a chunk");
        assert!(pool.take(usize::MAX).is_none());
    }

    #[test]
    fn the_ends_move_inside_the_range() {
        let mut pool = Pool::new(1, 1024);
        let mut data = pool.copy(b"outer inner").unwrap();
        data.trim_front(6);
        data.truncate(100);
        assert_eq!(&*data, b"inner");
        assert!(data.grow_front(6));
        assert_eq!(&*data, b"outer inner");
        assert!(!data.grow_front(HEADROOM + 1));
        assert!(data.grow_front(HEADROOM));
        data.truncate(0);
        assert!(data.is_empty());
    }

    #[test]
    fn ranges_outlive_their_pool() {
        let mut pool = Pool::new(1, 1024);
        let data = pool.copy(b"kept").unwrap();
        drop(pool);
        assert_eq!(&*data, b"kept");
        assert_eq!(&*Data::copy_of(b"own"), b"own");
        assert!(Data::copy_of(b"").is_empty());
    }
}
