//! Brings what was found into the order of times.

use super::found::{Found, Place};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// What was found and waits for packets before it. Comes in as runs, each in order; comes out in order.
#[derive(Debug, Default)]
pub(super) struct Merge {
    /// The place of the next packet of each run.
    heads: BinaryHeap<Reverse<(Place, u64)>>,
    runs: BTreeMap<u64, std::iter::Peekable<std::vec::IntoIter<Found>>>,
    next_run: u64,
    /// Memory of what waits, bytes.
    bytes: usize,
}

impl Merge {
    /// Takes what a part of a segment gave.
    pub(super) fn add(&mut self, mut found: Vec<Found>) {
        if !found.is_sorted_by_key(|found| found.place) {
            found.sort_unstable_by_key(|found| found.place);
        }
        self.bytes += found.iter().map(Found::bytes).sum::<usize>();
        let mut run = found.into_iter().peekable();
        let Some(first) = run.peek() else { return };
        self.heads.push(Reverse((first.place, self.next_run)));
        self.runs.insert(self.next_run, run);
        self.next_run += 1;
    }

    /// The next packet, if it is before a time; or the next one at all.
    pub(super) fn next_before(&mut self, before_ns: Option<u64>) -> Option<Found> {
        let Reverse((place, number)) = *self.heads.peek()?;
        if before_ns.is_some_and(|before_ns| place.ts_ns >= before_ns) {
            return None;
        }
        self.heads.pop();
        let run = self.runs.get_mut(&number)?;
        let found = run.next()?;
        self.bytes -= found.bytes();
        match run.peek() {
            Some(next) => self.heads.push(Reverse((next.place, number))),
            None => drop(self.runs.remove(&number)),
        }
        Some(found)
    }
}
