//! The maps that a mirror's programs share, and which of their places are taken.

use crate::bpf::{Map, MapKind, RecordRings};
use crate::error::Error;
use crate::sys::tai_offset_ns;
use kernel::mirror::layout::{
    BUCKET_BYTES, COUNTER_WORDS, FAR_END_BYTES, GROUP_BYTES, MEMBER_BYTES, MirrorMap,
    SCRATCH_BYTES, SLOT_BYTES,
};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

/// Slots of the targets of all taps of a mirror, two for each; the first two are none.
pub(super) const SLOTS: u32 = 2048;
/// Endpoints of all targets.
pub(super) const MEMBERS: u32 = 4096;
/// Tables of groups, 32 KiB each; while one changes it has two.
pub(super) const GROUPS: u32 = 256;
/// Ceilings, one for each tap that has one.
pub(super) const BUCKETS: u32 = 256;
/// Far ends of all taps of the process.
const FAR_ENDS: u32 = 8192;
/// For how long a place that was given back is not used again, so that no packet that is under way finds
/// another's, ns.
const REST_NS: u64 = 2_000_000_000;

/// The maps, by their numbers in [`MirrorMap`].
#[derive(Debug)]
pub(super) struct Tables {
    maps: Vec<Map>,
    /// [`MirrorMap::HandUp`].
    rings: RecordRings,
}

impl Tables {
    /// Makes them.
    pub fn new() -> Result<Tables, Error> {
        let counters = COUNTER_WORDS * 8;
        // In the order of their numbers.
        let maps = [
            (MapKind::Array, 4, SLOT_BYTES, SLOTS),
            (MapKind::Array, 4, GROUP_BYTES, GROUPS),
            (MapKind::Array, 4, MEMBER_BYTES, MEMBERS),
            (MapKind::PerCpuArray, 4, counters, MEMBERS),
            (MapKind::PerCpuArray, 4, counters, SLOTS),
            (MapKind::PerCpuArray, 4, SCRATCH_BYTES, 1),
            (MapKind::Array, 4, 8, 1),
            (MapKind::Hash, FAR_END_BYTES, 4, FAR_ENDS),
            (MapKind::Array, 4, BUCKET_BYTES, BUCKETS),
        ];
        let make = |(kind, key, value, entries)| Map::new(kind, key, value, entries);
        let maps = maps.into_iter().map(make).collect::<Result<_, _>>()?;
        let tables = Tables { maps, rings: RecordRings::new(SLOTS / 2)? };
        tables.set_clock()?;
        Ok(tables)
    }

    /// One of them.
    pub fn map(&self, map: MirrorMap) -> &Map {
        &self.maps[map.map().0]
    }

    /// Their descriptors, as programs number them.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.maps.iter().map(Map::as_fd).chain([self.rings.as_fd()])
    }

    /// The rings of what goes to user space, two slots have one.
    pub fn rings(&self) -> &RecordRings {
        &self.rings
    }

    /// Writes the place of an array.
    pub fn put(&self, map: MirrorMap, place: u32, value: &[u8]) -> Result<(), Error> {
        self.map(map).put(&place.to_ne_bytes(), value)
    }

    /// The sums of a place's counters over all CPUs.
    pub fn words(&self, map: MirrorMap, place: u32) -> Result<Vec<u64>, Error> {
        self.map(map).words(place)
    }

    /// Sets a place's counters to 0.
    pub fn clear(&self, map: MirrorMap, place: u32) -> Result<(), Error> {
        let now = self.map(map).get(&place.to_ne_bytes())?.unwrap_or_default();
        self.put(map, place, &vec![0; now.len()])
    }

    /// Tells the programs what UTC is.
    pub fn set_clock(&self) -> Result<(), Error> {
        self.put(MirrorMap::Clock, 0, &tai_offset_ns().to_ne_bytes())
    }
}

/// Places of a map, each given out once at a time.
#[derive(Debug)]
pub(super) struct Places {
    what: &'static str,
    next: u32,
    end: u32,
    /// Given back, and when.
    resting: VecDeque<(u32, u64)>,
}

impl Places {
    /// Places from `first` on, before `end`.
    pub fn new(what: &'static str, first: u32, end: u32) -> Places {
        Places { what, next: first, end, resting: VecDeque::new() }
    }

    /// Takes one; none is taken again within two seconds.
    pub fn take(&mut self, now_ns: u64) -> Result<u32, Error> {
        if let Some(&(place, since_ns)) = self.resting.front()
            && now_ns >= since_ns.saturating_add(REST_NS)
        {
            self.resting.pop_front();
            return Ok(place);
        }
        if self.next == self.end {
            let source = std::io::Error::other(format!("all {} are taken", self.end));
            let mend = "; use fewer taps or targets, or mirror in user space (--datapath ring)";
            return Err(Error::System { what: format!("mirror: {}", self.what), source, mend });
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Gives one back.
    pub fn give(&mut self, place: u32, now_ns: u64) {
        self.resting.push_back((place, now_ns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_rests_before_it_is_used_again() {
        let mut places = Places::new("slots", 1, 4);
        assert_eq!([1, 2, 3].map(|_| places.take(0).unwrap()), [1, 2, 3]);
        assert!(places.take(0).unwrap_err().to_string().contains("--datapath ring"));
        places.give(2, 10);
        assert!(places.take(10 + REST_NS - 1).is_err());
        assert_eq!(places.take(10 + REST_NS).unwrap(), 2);
        assert!(places.take(u64::MAX).is_err());
    }
}
