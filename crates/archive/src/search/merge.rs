//! Brings what was found into the order of times.
//!
//! What a part of a segment gave is a run, in order; the next packet of all is the first one of some
//! run. When the runs take too much memory they become one in a file, which is read little by little.

use super::found::{Found, Place};
use super::waiting::{Waiting, write};
use crate::error::Error;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::PathBuf;

/// Files at a time. They become one before there are more.
const FILES_MAX: usize = 64;

/// What was found and waits for packets before it.
pub(super) struct Merge {
    /// The place of the next packet of each run.
    heads: BinaryHeap<Reverse<(Place, u64)>>,
    runs: BTreeMap<u64, Run>,
    next_run: u64,
    /// Memory of what waits, bytes, and the most that it may be.
    bytes: usize,
    bytes_max: usize,
    /// Where files are made.
    scratch: PathBuf,
}

enum Run {
    Memory(std::iter::Peekable<std::vec::IntoIter<Found>>),
    File(Waiting),
}

impl Merge {
    /// Keeps `bytes_max` in memory, and the rest in files below `scratch` that have no names.
    pub(super) fn new(bytes_max: usize, scratch: PathBuf) -> Merge {
        Merge {
            heads: BinaryHeap::new(),
            runs: BTreeMap::new(),
            next_run: 0,
            bytes: 0,
            bytes_max,
            scratch,
        }
    }

    /// Takes what a part of a segment gave.
    ///
    /// # Errors
    /// [`Error::System`] if a file is needed and cannot be written.
    pub(super) fn add(&mut self, found: Vec<Found>) -> Result<(), Error> {
        self.bytes += found.iter().map(Found::bytes).sum::<usize>();
        self.add_memory(found);
        if self.bytes > self.bytes_max { self.move_to_file() } else { Ok(()) }
    }

    /// The next packet, if it is before a time; or the next one at all.
    ///
    /// # Errors
    /// [`Error::System`] if a file cannot be read.
    pub(super) fn next_before(&mut self, before_ns: Option<u64>) -> Result<Option<Found>, Error> {
        let Some(&Reverse((place, number))) = self.heads.peek() else { return Ok(None) };
        if before_ns.is_some_and(|before_ns| place.ts_ns >= before_ns) {
            return Ok(None);
        }
        self.heads.pop();
        let Some(run) = self.runs.get_mut(&number) else { return Ok(None) };
        let (found, next) = match run {
            Run::Memory(run) => {
                let found = run.next();
                self.bytes -= found.as_ref().map_or(0, Found::bytes);
                (found, run.peek().map(|next| next.place))
            }
            Run::File(run) => (run.next()?, run.peek()),
        };
        match next {
            Some(next) => self.heads.push(Reverse((next, number))),
            None => drop(self.runs.remove(&number)),
        }
        Ok(found)
    }

    fn add_memory(&mut self, mut found: Vec<Found>) {
        if !found.is_sorted_by_key(|found| found.place) {
            found.sort_unstable_by_key(|found| found.place);
        }
        let mut run = found.into_iter().peekable();
        if let Some(first) = run.peek() {
            let place = first.place;
            self.push(place, Run::Memory(run));
        }
    }

    fn push(&mut self, place: Place, run: Run) {
        self.heads.push(Reverse((place, self.next_run)));
        self.runs.insert(self.next_run, run);
        self.next_run += 1;
    }

    /// Makes the runs in memory one in a file; all runs, if there are many files.
    fn move_to_file(&mut self) -> Result<(), Error> {
        let is_file = |run: &Run| matches!(run, Run::File(_));
        let files = self.runs.values().filter(|run| is_file(run)).count();
        let kept = match files < FILES_MAX {
            true => self.runs.extract_if(.., |_, run| is_file(run)).collect(),
            false => BTreeMap::new(),
        };
        self.heads.retain(|Reverse((_, number))| !kept.contains_key(number));
        let scratch = self.scratch.clone();
        let mut waiting = write(&scratch, || self.next_before(None))?;
        for (number, run) in kept {
            if let Run::File(file) = &run
                && let Some(place) = file.peek()
            {
                self.heads.push(Reverse((place, number)));
                self.runs.insert(number, run);
            }
        }
        if let Some(place) = waiting.begin()? {
            self.push(place, Run::File(waiting));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capfile::{Direction, Marks};

    fn found(n: u64) -> Found {
        let scrambled = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = Place { ts_ns: scrambled >> 50, segment: n as u32, part: 0, at: 1 };
        let marks = Marks {
            direction: [Direction::In, Direction::Out, Direction::Unknown][n as usize % 3],
            packet_id: n.is_multiple_of(2).then_some(n),
        };
        let comment = n.is_multiple_of(5).then(|| format!("number {n}").into());
        let data = vec![n as u8; n as usize % 300].into();
        Found { place, origin: n as u32 % 7, origlen: n as u32 + 1, marks, comment, data }
    }

    #[test]
    fn what_comes_out_is_in_order_whether_it_fits_or_not() {
        let mut expected: Vec<Found> = (0..20_000).map(found).collect();
        let parts: Vec<Vec<Found>> = expected.chunks(37).map(<[Found]>::to_vec).collect();
        expected.sort_by_key(|found| found.place);
        // All in memory; in some files; in more files than there may be.
        for bytes_max in [usize::MAX, 500_000, 20_000] {
            let mut merge = Merge::new(bytes_max, std::env::temp_dir());
            let mut got = Vec::new();
            for part in parts.clone() {
                merge.add(part).unwrap();
                assert!(merge.bytes <= bytes_max);
            }
            assert_eq!(merge.next_before(Some(expected[0].place.ts_ns)).unwrap(), None);
            let middle = expected[9_000].place.ts_ns;
            while let Some(found) = merge.next_before(Some(middle)).unwrap() {
                assert!(found.place.ts_ns < middle);
                got.push(found);
            }
            while let Some(found) = merge.next_before(None).unwrap() {
                got.push(found);
            }
            assert!(got == expected, "{bytes_max}");
            assert!(merge.runs.is_empty() && merge.bytes == 0);
        }
    }

    #[test]
    fn a_folder_that_takes_no_file_is_an_error() {
        let mut merge = Merge::new(0, "/nowhere".into());
        let error = merge.add(vec![found(1)]).unwrap_err().to_string();
        assert!(error.contains("/nowhere"), "{error}");
    }
}
