//! What became of a lane's numbered packets: received, lost, duplicated, reordered.
//!
//! ```text
//!            begin         next − 1024                next
//! ───────────┼──────────────┼─────────────────────────┼──────────▶ numbers, modulo 2^32
//!  before it: lost or       │  window: a bit for each │ later ones open a gap: lost
//!  no loss    received,     │  number that was seen   │
//!             decided       │                         │
//! ```
//!
//! A number beyond `next` makes those in between lost. One in the window that was not seen takes
//! its loss back and is reordered; one that was seen is a duplicate. One older than the window is
//! *late*: whether it is a duplicate or has been counted as lost is not known any more, so it
//! changes neither.
//!
//! A lane counts from 0 on. A first number below 1,024 therefore means that those before it were
//! lost; a higher one, that the listener came later than the lane. What is older than `begin` is
//! no loss then, and reordered if it comes.
//!
//! Numbers are taken at their word: what is up to 2^31 ahead is ahead, all else is behind. Memory
//! is constant; work is constant for a packet, and for a gap at most that of a window.

use core::ops::AddAssign;

/// How far back a number is still told apart, and the last number at which a lane may be taken up
/// as if from its begin.
pub const WINDOW: u32 = 1024;

const WORD_BITS: u64 = u64::BITS as u64;
const WORDS: usize = (WINDOW / u64::BITS) as usize;

/// Follows the numbers of one lane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tracker {
    /// The first number that counts as lost if it does not come; `None` until something came.
    begin: Option<u64>,
    /// One more than the highest number known of, with the wraps in the upper half, from 1 on.
    next: u64,
    /// One bit for each of the last [`WINDOW`] numbers below `next`, at number modulo window.
    seen: [u64; WORDS],
    counts: Counts,
}

/// What became of packets. `received − duplicates − late + lost` is how many were sent, if none was
/// late; else it is that at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Packets that came, whatever else they are.
    pub received: u64,
    /// Numbers that did not come. One that comes within the window takes its loss back.
    pub lost: u64,
    /// Packets whose number had come before.
    pub duplicates: u64,
    /// Packets that came first after a higher number.
    pub reordered: u64,
    /// Packets older than the window.
    pub late: u64,
}

impl Tracker {
    /// A lane of which nothing is known.
    pub fn new() -> Tracker {
        Tracker::default()
    }

    /// Takes note of a packet.
    #[inline]
    pub fn packet(&mut self, sequence: u32) {
        let (begin, number) = self.place(sequence);
        self.counts.received += 1;
        if number >= self.next {
            self.lose_until(number);
            self.see(number);
            self.next = number + 1;
        } else if number + u64::from(WINDOW) < self.next {
            self.counts.late += 1;
        } else if self.has_seen(number) {
            self.counts.duplicates += 1;
        } else {
            self.see(number);
            self.counts.reordered += 1;
            if number >= begin {
                self.counts.lost -= 1;
            }
        }
    }

    /// Takes note that the sender is about to send the packet numbered `next`.
    pub fn progress(&mut self, next: u32) {
        let (_, number) = self.place(next);
        if number > self.next {
            self.lose_until(number);
            self.next = number;
        }
    }

    /// What became of the packets so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    // Where the lane began, and the number with its wraps.
    #[inline]
    fn place(&mut self, sequence: u32) -> (u64, u64) {
        const FIRST: u64 = 1 << u32::BITS;
        let begin = *self.begin.get_or_insert_with(|| {
            self.next = FIRST + if sequence < WINDOW { 0 } else { u64::from(sequence) };
            self.next
        });
        let ahead = sequence.wrapping_sub(self.next as u32).cast_signed();
        (begin, self.next.wrapping_add_signed(ahead.into()))
    }

    // All from `next` up to this number are lost until they come.
    #[inline]
    fn lose_until(&mut self, number: u64) {
        let gap = number - self.next;
        self.counts.lost += gap;
        if gap >= WINDOW.into() {
            self.seen = [0; WORDS];
            return;
        }
        for lost in self.next..number {
            let (word, bit) = slot(lost);
            self.seen[word] &= !bit;
        }
    }

    fn see(&mut self, number: u64) {
        let (word, bit) = slot(number);
        self.seen[word] |= bit;
    }

    fn has_seen(&self, number: u64) -> bool {
        let (word, bit) = slot(number);
        self.seen[word] & bit != 0
    }
}

fn slot(number: u64) -> (usize, u64) {
    let at = number % u64::from(WINDOW);
    ((at / WORD_BITS) as usize, 1 << (at % WORD_BITS))
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.received += other.received;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.late += other.late;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn counts(numbers: impl IntoIterator<Item = u32>) -> Counts {
        let mut tracker = Tracker::new();
        numbers.into_iter().for_each(|n| tracker.packet(n));
        tracker.counts()
    }

    const NONE: Counts = Counts { received: 0, lost: 0, duplicates: 0, reordered: 0, late: 0 };

    #[test]
    fn what_comes_in_order_is_received() {
        assert_eq!(counts(0..5000), Counts { received: 5000, ..NONE });
        let over_the_wrap = (0..100).map(|n| 0xffff_ffd0_u32.wrapping_add(n));
        assert_eq!(counts(over_the_wrap), Counts { received: 100, ..NONE });
    }

    #[test]
    fn a_late_joiner_has_lost_nothing_and_an_early_one_the_begin() {
        assert_eq!(counts([1024]), Counts { received: 1, ..NONE });
        assert_eq!(counts([1023]), Counts { received: 1, lost: 1023, ..NONE });
        // From before the begin: reordered, and whatever else is missing there is no loss.
        let expected = Counts { received: 4, reordered: 1, duplicates: 1, ..NONE };
        assert_eq!(counts([5000, 4990, 4990, 5001]), expected);
    }

    #[test]
    fn a_loss_is_taken_back_within_the_window_only() {
        let in_time = (0..1024).filter(|&n| n != 0).chain([0]);
        assert_eq!(counts(in_time), Counts { received: 1024, reordered: 1, ..NONE });
        let late = (0..1025).filter(|&n| n != 0).chain([0]);
        assert_eq!(counts(late), Counts { received: 1025, lost: 1, late: 1, ..NONE });
        let jump = Counts { received: 3, lost: 1_000_000, duplicates: 1, ..NONE };
        assert_eq!(counts([0, 1_000_001, 1_000_001]), jump);
    }

    #[test]
    fn progress_shows_a_loss_at_the_end_and_in_a_quiet_lane() {
        let mut tracker = Tracker::new();
        tracker.progress(0);
        assert_eq!(tracker.counts(), NONE);
        tracker.packet(0);
        tracker.progress(3);
        tracker.progress(3);
        tracker.progress(1);
        assert_eq!(tracker.counts(), Counts { received: 1, lost: 2, ..NONE });
        tracker.packet(2);
        tracker.packet(3);
        assert_eq!(tracker.counts(), Counts { received: 3, lost: 1, reordered: 1, ..NONE });
        let mut silent = Tracker::new();
        silent.progress(10);
        assert_eq!(silent.counts(), Counts { lost: 10, ..NONE });
        let mut joined = Tracker::new();
        joined.progress(9000);
        joined.packet(9000);
        assert_eq!(joined.counts(), Counts { received: 1, ..NONE });
    }

    #[test]
    fn counts_add_up() {
        let mut sum = counts([0, 2, 2]);
        sum += counts([1, 0]);
        assert_eq!(sum, Counts { received: 5, lost: 1, duplicates: 1, reordered: 1, late: 0 });
    }

    // A stream of `sent` numbers from `first` on: some are dropped, some come twice, and each may
    // be overtaken by those up to `delay_max` behind it.
    #[derive(Debug, Clone)]
    struct Stream {
        first: u32,
        arrivals: Vec<u32>,
        dropped: u64,
        sent: u64,
    }

    fn streams(delay_max: u32) -> impl Strategy<Value = Stream> {
        let first = prop_oneof![Just(0), 1024..=u32::MAX, (u32::MAX - 2000)..=u32::MAX];
        let fates = prop::collection::vec((0_u8..10, 0..=delay_max, 0..=delay_max), 1..4000);
        (first, fates).prop_map(|(first, fates)| {
            let mut arrivals = Vec::new();
            for (&(fate, delay, again), at) in fates.iter().zip(0_u32..) {
                // The first is there in time: it is what the lane is taken up by.
                match fate {
                    _ if at == 0 => arrivals.push((0, at)),
                    0 => {}
                    1 => arrivals.extend([(at + delay, at), (at + again, at)]),
                    2 => arrivals.push((at + delay, at)),
                    _ => arrivals.push((at, at)),
                }
            }
            arrivals.sort_by_key(|&(when, _)| when);
            let distinct: HashSet<_> = arrivals.iter().map(|&(_, at)| at).collect();
            let sent = fates.len() as u64;
            Stream {
                first,
                arrivals: arrivals.into_iter().map(|(_, at)| at).collect(),
                dropped: sent - distinct.len() as u64,
                sent,
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn within_the_window_every_count_is_exact(stream in streams(WINDOW - 1)) {
            let (mut tracker, mut seen) = (Tracker::new(), HashSet::new());
            let (mut reordered, mut duplicates, mut highest) = (0, 0, 0);
            for &at in &stream.arrivals {
                tracker.packet(stream.first.wrapping_add(at));
                match seen.insert(at) {
                    false => duplicates += 1,
                    true if at < highest => reordered += 1,
                    true => highest = at,
                }
            }
            tracker.progress(stream.first.wrapping_add(stream.sent as u32));
            let received = stream.arrivals.len() as u64;
            let lost = stream.dropped;
            let expected = Counts { received, lost, duplicates, reordered, late: 0 };
            prop_assert_eq!(tracker.counts(), expected);
        }

        #[test]
        fn beyond_the_window_the_sum_stays(stream in streams(4000)) {
            let mut tracker = Tracker::new();
            stream.arrivals.iter().for_each(|&at| tracker.packet(stream.first.wrapping_add(at)));
            tracker.progress(stream.first.wrapping_add(stream.sent as u32));
            let Counts { received, lost, duplicates, late, .. } = tracker.counts();
            prop_assert_eq!(received - duplicates - late + lost, stream.sent);
            prop_assert!(stream.dropped <= lost && lost <= stream.dropped + late);
        }

        #[test]
        fn any_numbers_are_survived(numbers in prop::collection::vec((any::<bool>(), any::<u32>()), 0..200)) {
            let mut tracker = Tracker::new();
            for (is_packet, number) in numbers {
                if is_packet { tracker.packet(number) } else { tracker.progress(number) }
            }
            let Counts { received, duplicates, reordered, late, .. } = tracker.counts();
            prop_assert!(duplicates + reordered + late <= received);
        }
    }
}
