//! The numbers that senders give their packets, followed so that what the network lost shows.
//!
//! Each lane of a sender is followed for itself ([`wire::sequence`]), and the lanes of a source, which
//! is a tunnel and who sends into it, are added up. A sender that begins anew has new lanes, so that
//! its start is no gap. Memory is bounded: of more lanes than [`LANES`] the quarter that has been
//! silent for longest is given up, with its counts kept; of more sources than [`SOURCES`] the first are
//! followed.

use crate::packet::Outer;
use std::collections::HashMap;
use wire::decap::Content;
use wire::metadata::Lane;
use wire::sequence::{Counts, Tracker};

/// Lanes that are followed at once.
const LANES: usize = 4096;
/// Sources that are told apart, as many as a recorder tells apart.
const SOURCES: usize = 4096;

/// The numbered packets of all senders of a listener.
#[derive(Debug, Default)]
pub struct Streams {
    /// Where each lane stands.
    places: HashMap<(Outer, Lane), usize>,
    lanes: Vec<Followed>,
    /// The lane that was used last: packets of one come in a row.
    last: usize,
    /// Of each source what became of the packets of lanes that were given up.
    given_up: HashMap<Outer, Counts>,
    /// Counts what was noted.
    clock: u64,
}

#[derive(Debug)]
struct Followed {
    outer: Outer,
    lane: Lane,
    tracker: Tracker,
    /// The clock when it was used last.
    used: u64,
}

impl Streams {
    /// Takes note of what a tunnel packet holds, if it is numbered in a lane.
    #[inline]
    pub fn note(&mut self, outer: Outer, content: &Content) {
        match content {
            Content::Packet(inner) => {
                if let (Some(lane), Some(sequence)) = (inner.told.lane, inner.told.sequence)
                    && let Some(tracker) = self.tracker(outer, lane)
                {
                    tracker.packet(sequence);
                }
            }
            Content::Progress { lane, next } => {
                if let Some(tracker) = self.tracker(outer, *lane) {
                    tracker.progress(*next);
                }
            }
            Content::Control | Content::Opaque(_) => {}
        }
    }

    /// What became of the packets of each source, in the order of the sources.
    pub fn counts(&self) -> Vec<(Outer, Counts)> {
        let mut sums = self.given_up.clone();
        for Followed { outer, tracker, .. } in &self.lanes {
            *sums.entry(*outer).or_default() += tracker.counts();
        }
        let mut counts: Vec<_> = sums.into_iter().collect();
        counts.sort_unstable_by_key(|(outer, _)| *outer);
        counts
    }

    #[inline]
    fn tracker(&mut self, outer: Outer, lane: Lane) -> Option<&mut Tracker> {
        let is_last = |last: &Followed| last.outer == outer && last.lane == lane;
        if !self.lanes.get(self.last).is_some_and(is_last) {
            self.last = match self.places.get(&(outer, lane)) {
                Some(place) => *place,
                None => self.follow(outer, lane)?,
            };
        }
        self.clock += 1;
        let followed = &mut self.lanes[self.last];
        followed.used = self.clock;
        Some(&mut followed.tracker)
    }

    /// Follows a new lane; `None` if its source is one too many.
    fn follow(&mut self, outer: Outer, lane: Lane) -> Option<usize> {
        if !self.given_up.contains_key(&outer) {
            if self.given_up.len() >= SOURCES {
                return None;
            }
            self.given_up.insert(outer, Counts::default());
        }
        if self.lanes.len() >= LANES {
            self.give_up_some();
        }
        let place = self.lanes.len();
        self.lanes.push(Followed { outer, lane, tracker: Tracker::new(), used: 0 });
        self.places.insert((outer, lane), place);
        Some(place)
    }

    /// Gives a quarter of the lanes up: seldom, so that a flood of new ones costs little.
    fn give_up_some(&mut self) {
        self.lanes.sort_unstable_by_key(|followed| followed.used);
        for Followed { outer, tracker, .. } in self.lanes.drain(..LANES / 4) {
            *self.given_up.entry(outer).or_default() += tracker.counts();
        }
        let keys = self.lanes.iter().map(|followed| (followed.outer, followed.lane));
        self.places = keys.enumerate().map(|(place, key)| (key, place)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::tunnel::{Kind, Tunnel};

    fn outer(id: u32) -> Outer {
        let tunnel = Tunnel { kind: Kind::Geneve, id: Some(id) };
        Outer { tunnel, source: [10, 0, 0, 1].into() }
    }

    fn lane(epoch: u32, target: u8) -> Lane {
        Lane { epoch, tap: 1, target, lane: 0 }
    }

    fn packet(streams: &mut Streams, outer: Outer, lane: Lane, sequence: u32) {
        if let Some(tracker) = streams.tracker(outer, lane) {
            tracker.packet(sequence);
        }
    }

    #[test]
    fn lanes_of_a_source_are_followed_apart_and_added_up() {
        let mut streams = Streams::default();
        // Two workers, of which one begins anew: its start is no gap.
        for number in 0..2000 {
            packet(&mut streams, outer(7), lane(1, 0), number);
            if number % 100 != 7 {
                packet(&mut streams, outer(7), lane(1, 1), number);
            }
        }
        (0..10).for_each(|number| packet(&mut streams, outer(7), lane(2, 0), number));
        packet(&mut streams, outer(6), lane(1, 0), 3);
        streams.note(outer(6), &Content::Progress { lane: lane(1, 0), next: 9 });
        // Of this one nothing came but word of how far it is.
        streams.note(outer(8), &Content::Progress { lane: lane(1, 0), next: 1000 });
        let counts = streams.counts();
        let lost: Vec<_> = counts.iter().map(|(outer, c)| (outer.tunnel.id, c.lost)).collect();
        assert_eq!(lost, [(Some(6), 3 + 5), (Some(7), 20), (Some(8), 1000)]);
        assert_eq!((counts[1].1.received, counts[2].1.received), (3990, 0));
    }

    #[test]
    fn memory_is_bounded_and_no_count_is_lost() {
        let mut streams = Streams::default();
        let epochs = 3 * LANES as u32;
        for epoch in 0..epochs {
            packet(&mut streams, outer(7), lane(epoch, 0), 2);
            packet(&mut streams, outer(7), lane(0, 9), epoch);
        }
        assert!(streams.lanes.len() <= LANES && streams.places.len() == streams.lanes.len());
        let (_, counts) = streams.counts()[0];
        assert_eq!(counts.received, 2 * u64::from(epochs));
        // Two for each of the others; the one that was always in use had no gap.
        assert_eq!(counts.lost, 2 * u64::from(epochs));

        (0..2 * SOURCES as u32).for_each(|id| packet(&mut streams, outer(id), lane(0, 0), 0));
        assert_eq!(streams.counts().len(), SOURCES);
    }
}
