//! What was taken out of tunnels: notes beside the ledger, which they do not change.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What came out of tunnels and what did not. Units: packets, but for those of [`FragmentStats`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecapStats {
    /// Packets that came out of a tunnel.
    pub decapsulated: u64,
    /// Tunnel headers that were taken off them.
    pub layers: u64,
    /// Packets that stay encapsulated as they have no link type of their own.
    pub left: u64,
    /// Messages between the ends of a tunnel.
    pub control: u64,
    /// Tunnel packets that go on as they came: their headers are cut off or contradict themselves.
    pub malformed: u64,
    /// Fragments of other traffic, which a receiver leaves alone.
    pub strangers: u64,
    /// Fragments of tunnel packets.
    pub fragments: FragmentStats,
}

/// Fragments of tunnel packets, and what became of them. Units: fragments, but for `whole`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FragmentStats {
    /// Packets that became whole.
    pub whole: u64,
    /// Fragments that they were made of, repeated ones included.
    pub joined: u64,
    /// Others did not come in time, or before the source ended.
    pub incomplete: u64,
    /// There was no room for more.
    pub no_room: u64,
    /// They overlap.
    pub overlapping: u64,
    /// One cannot be a fragment: no bytes, odd bytes, bytes beyond the longest packet or its end.
    pub malformed: u64,
    /// The capture has cut one short.
    pub cut: u64,
}

impl DecapStats {
    /// Adds another worker's.
    pub fn merge(&mut self, other: &DecapStats) {
        let mut sum = self.to_array();
        sum.iter_mut().zip(other.to_array()).for_each(|(sum, more)| *sum += more);
        *self = DecapStats::of_array(sum);
    }

    /// The counters one behind the other, in the order of the fields.
    pub fn to_array(self) -> [u64; DecapStats::COUNTERS] {
        let FragmentStats { whole, joined, incomplete, no_room, overlapping, malformed, cut } =
            self.fragments;
        let fragments = [whole, joined, incomplete, no_room, overlapping, malformed, cut];
        let DecapStats { decapsulated, layers, left, control, malformed, strangers, .. } = self;
        let mut counters = [0; DecapStats::COUNTERS];
        let (first, last) = counters.split_at_mut(6);
        first.copy_from_slice(&[decapsulated, layers, left, control, malformed, strangers]);
        last.copy_from_slice(&fragments);
        counters
    }

    /// The inverse of [`Self::to_array`].
    pub fn of_array(counters: [u64; DecapStats::COUNTERS]) -> DecapStats {
        let [decapsulated, layers, left, control, malformed, strangers, fragments @ ..] = counters;
        let [whole, joined, incomplete, no_room, overlapping, broken, cut] = fragments;
        let fragments = FragmentStats {
            whole,
            joined,
            incomplete,
            no_room,
            overlapping,
            malformed: broken,
            cut,
        };
        DecapStats { decapsulated, layers, left, control, malformed, strangers, fragments }
    }

    /// How many counters there are.
    pub const COUNTERS: usize = 13;
}

impl FragmentStats {
    /// Fragments that were given up.
    pub fn given_up(&self) -> u64 {
        self.incomplete + self.no_room + self.overlapping + self.malformed + self.cut
    }
}

impl fmt::Display for DecapStats {
    /// One line; a second one if there were fragments.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DecapStats { decapsulated, layers, left, control, malformed, strangers, fragments } =
            *self;
        writeln!(
            f,
            "decap: {decapsulated} packets came out of {layers} tunnel headers, {left} stay \
             encapsulated, {malformed} malformed, {control} messages"
        )?;
        if fragments.joined + fragments.given_up() + strangers == 0 {
            return Ok(());
        }
        let FragmentStats { whole, joined, incomplete, no_room, overlapping, malformed, cut } =
            fragments;
        writeln!(
            f,
            "decap: {joined} fragments became {whole} packets, {incomplete} were incomplete, \
             {overlapping} overlap, {malformed} malformed, {cut} cut short, {no_room} without room, \
             {strangers} of other traffic"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_has_its_place() {
        let counters = std::array::from_fn(|n| n as u64 + 1);
        let mut stats = DecapStats::of_array(counters);
        assert_eq!(stats.to_array(), counters);
        assert_eq!((stats.decapsulated, stats.malformed, stats.fragments.malformed), (1, 5, 12));
        stats.merge(&stats.clone());
        assert_eq!((stats.decapsulated, stats.fragments.cut), (2, 26));
        let json = serde_json::to_string(&stats).unwrap();
        assert_eq!(serde_json::from_str::<DecapStats>(&json).unwrap(), stats);
    }

    #[test]
    fn the_text_speaks_of_fragments_if_there_were_some() {
        let mut stats = DecapStats { decapsulated: 3, layers: 4, ..DecapStats::default() };
        assert_eq!(stats.to_string().lines().count(), 1);
        stats.fragments.joined = 2;
        assert!(stats.to_string().contains("2 fragments became 0 packets"), "{stats}");
    }
}
