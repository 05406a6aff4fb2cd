//! Packets whose fragments are held no more: what came of them is remembered for those that are
//! still to come.

use super::fragments::{Key, TIMEOUT_NS, Verdict};
use std::hash::{BuildHasher, RandomState};

/// Places; a packet has one, which it may lose to another.
const PLACES: usize = 4096;

/// What came of the packets of late. One that has lost its place is as if it had never been seen.
pub(super) struct Settled {
    hasher: RandomState,
    places: Vec<Option<Entry>>,
}

struct Entry {
    key: Key,
    ts_ns: u64,
    verdict: Verdict,
}

impl Settled {
    pub fn new() -> Settled {
        let places = std::iter::repeat_with(|| None).take(PLACES).collect();
        Settled { hasher: RandomState::new(), places }
    }

    /// What came of a packet in the time before `ts_ns` for which fragments are held.
    pub fn find(&self, key: &Key, ts_ns: u64) -> Option<Verdict> {
        let entry = self.places[self.place(key)].as_ref().filter(|entry| entry.key == *key)?;
        (entry.ts_ns.abs_diff(ts_ns) < TIMEOUT_NS).then_some(entry.verdict)
    }

    pub fn remember(&mut self, key: Key, ts_ns: u64, verdict: Verdict) {
        let place = self.place(&key);
        self.places[place] = Some(Entry { key, ts_ns, verdict });
    }

    pub fn forget(&mut self, key: &Key) {
        let place = self.place(key);
        self.places[place].take_if(|entry| entry.key == *key);
    }

    fn place(&self, key: &Key) -> usize {
        self.hasher.hash_one(key) as usize % PLACES
    }
}
