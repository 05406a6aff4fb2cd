//! A table of bounded memory whose oldest entry makes room for a new one.
//!
//! ```text
//! heads    [bucket] ─► entry ─► entry        one chain per bucket
//! entries  oldest ◄─► entry ◄─► … ◄─► newest    one order for all
//! ```
//! Chains instead of open addressing: an entry can be taken out without leaving a mark behind, so
//! that no operation ever has to tidy up. All are O(1) as long as the hash is one that nobody can
//! foresee; nothing is allocated after [`Recent::new`]. A place that became free is the next to be
//! used, so that a table that holds little stays in the cache whatever it could hold.

/// No entry: positions are stored plus one, so that untouched memory holds none.
const NONE: u32 = 0;

/// Key → value, of the entries that were added or renewed last.
pub(super) struct Recent<K, V> {
    heads: Box<[u32]>,
    entries: Vec<Entry<K, V>>,
    len_max: usize,
    free: u32,
    oldest: u32,
    newest: u32,
}

/// Where an entry stands, until the next one is added or removed.
#[derive(Clone, Copy)]
pub(super) struct Place(u32);

struct Entry<K, V> {
    key: K,
    value: V,
    bucket: u32,
    // The next one of the bucket; of a free place, the next free one.
    chain: u32,
    older: u32,
    newer: u32,
}

impl<K: Copy + Eq, V: Copy> Recent<K, V> {
    /// A table of at most `len_max` entries, 1 to 2^30. Takes its memory now, untouched.
    pub(super) fn new(len_max: usize) -> Recent<K, V> {
        let len_max = len_max.clamp(1, 1 << 30);
        Recent {
            heads: vec![NONE; len_max.next_power_of_two()].into_boxed_slice(),
            entries: Vec::with_capacity(len_max),
            len_max,
            free: NONE,
            oldest: NONE,
            newest: NONE,
        }
    }

    /// The entry of a key. `hash` is the same whenever the key is.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: &K) -> Option<Place> {
        let mut at = self.heads[self.bucket(hash)];
        while at != NONE {
            let entry = self.entry(at);
            if entry.key == *key {
                return Some(Place(at));
            }
            at = entry.chain;
        }
        None
    }

    /// The value at a place.
    #[inline]
    pub(super) fn value(&mut self, place: Place) -> &mut V {
        &mut self.entry_mut(place.0).value
    }

    /// The value of the entry that was added or renewed longest ago.
    #[inline]
    pub(super) fn oldest(&self) -> Option<&V> {
        (self.oldest != NONE).then(|| &self.entry(self.oldest).value)
    }

    /// Makes an entry the newest one.
    #[inline]
    pub(super) fn renew(&mut self, place: Place) {
        if place.0 != self.newest {
            self.unlink(place.0);
            self.link(place.0);
        }
    }

    /// Adds an entry that is not there yet, as the newest one. Gives back the value of the oldest
    /// if that had to make room.
    #[inline]
    pub(super) fn add(&mut self, hash: u64, key: K, value: V) -> Option<V> {
        let full = self.free == NONE && self.entries.len() == self.len_max;
        let removed = if full { self.remove_oldest() } else { None };
        let bucket = self.bucket(hash);
        let chain = self.heads[bucket];
        let entry = Entry { key, value, bucket: bucket as u32, chain, older: NONE, newer: NONE };
        let at = if self.free == NONE {
            self.entries.push(entry);
            self.entries.len() as u32
        } else {
            let at = self.free;
            self.free = self.entry(at).chain;
            *self.entry_mut(at) = entry;
            at
        };
        self.heads[bucket] = at;
        self.link(at);
        removed
    }

    /// Takes the oldest entry out.
    #[inline]
    pub(super) fn remove_oldest(&mut self) -> Option<V> {
        let at = self.oldest;
        if at == NONE {
            return None;
        }
        self.unlink(at);
        let Entry { value, bucket, chain, .. } = *self.entry(at);
        let mut before = self.heads[bucket as usize];
        if before == at {
            self.heads[bucket as usize] = chain;
        } else {
            while self.entry(before).chain != at {
                before = self.entry(before).chain;
            }
            self.entry_mut(before).chain = chain;
        }
        self.entry_mut(at).chain = self.free;
        self.free = at;
        Some(value)
    }

    #[inline]
    fn bucket(&self, hash: u64) -> usize {
        hash as usize & (self.heads.len() - 1)
    }

    #[inline]
    fn entry(&self, at: u32) -> &Entry<K, V> {
        &self.entries[at as usize - 1]
    }

    #[inline]
    fn entry_mut(&mut self, at: u32) -> &mut Entry<K, V> {
        &mut self.entries[at as usize - 1]
    }

    // Puts an entry that stands nowhere in the order at its new end.
    #[inline]
    fn link(&mut self, at: u32) {
        let newest = self.newest;
        let entry = self.entry_mut(at);
        (entry.older, entry.newer) = (newest, NONE);
        if newest == NONE {
            self.oldest = at;
        } else {
            self.entry_mut(newest).newer = at;
        }
        self.newest = at;
    }

    // Takes an entry out of the order.
    #[inline]
    fn unlink(&mut self, at: u32) {
        let Entry { older, newer, .. } = *self.entry(at);
        if older == NONE {
            self.oldest = newer;
        } else {
            self.entry_mut(older).newer = newer;
        }
        if newer == NONE {
            self.newest = older;
        } else {
            self.entry_mut(newer).older = older;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Add(u8),
        Renew(u8),
        RemoveOldest,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any::<u8>().prop_map(Step::Add),
            2 => any::<u8>().prop_map(Step::Renew),
            1 => Just(Step::RemoveOldest),
        ]
    }

    proptest! {
        // Few hashes, so that chains are long.
        #[test]
        fn does_what_a_list_in_order_does(
            len_max in 1usize..20,
            hashes in 1u64..9,
            steps in proptest::collection::vec(step(), 0..400),
        ) {
            let mut table = Recent::new(len_max);
            let mut list: Vec<(u8, usize)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Add(key) => {
                        let hash = u64::from(key) % hashes;
                        let at = list.iter().position(|entry| entry.0 == key);
                        let place = table.find(hash, &key);
                        prop_assert_eq!(place.is_some(), at.is_some());
                        if let (Some(place), Some(at)) = (place, at) {
                            prop_assert_eq!(*table.value(place), list[at].1);
                            *table.value(place) = number;
                            list[at].1 = number;
                        } else {
                            let removed = (list.len() == len_max).then(|| list.remove(0).1);
                            list.push((key, number));
                            prop_assert_eq!(table.add(hash, key, number), removed);
                        }
                    }
                    Step::Renew(key) => {
                        if let Some(place) = table.find(u64::from(key) % hashes, &key) {
                            table.renew(place);
                            let at = list.iter().position(|entry| entry.0 == key).unwrap();
                            let entry = list.remove(at);
                            list.push(entry);
                        }
                    }
                    Step::RemoveOldest => {
                        let oldest = (!list.is_empty()).then(|| list.remove(0).1);
                        prop_assert_eq!(table.remove_oldest(), oldest);
                    }
                }
                prop_assert_eq!(table.oldest().copied(), list.first().map(|entry| entry.1));
            }
            prop_assert!(table.entries.len() <= len_max, "places are used again");
        }
    }
}
