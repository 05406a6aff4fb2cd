//! A dispatcher in the kernel, with maps of its own.

#![allow(dead_code, reason = "not each test needs all of it")]

use filter::ebpf::{COUNTERS_PER_ELEMENT, Code, CounterLayout, MapRef, Scope, Verdicts};
use filter::{Direction, Program, Rules};
use io::bpf::{Classifier, Map, MapKind};
use kernel::mirror::layout::{
    BUCKET_BYTES, COUNTER_WORDS, FAR_END_BYTES, GROUP_BYTES, MEMBER_BYTES, MirrorMap,
    SCRATCH_BYTES, SLOT_BYTES, SlotCounter, TapCounter, rule_place,
};
use kernel::mirror::{DispatcherOptions, DispatcherTap, Private};
use std::os::fd::AsFd;
use wire::LinkType;

/// Entries of each map by slot, member and bucket.
const ENTRIES: u32 = 128;

/// A tap of an expression that has no target.
pub fn expression(program: &Program) -> DispatcherTap<'_> {
    DispatcherTap {
        program,
        verdicts: Verdicts::Expression,
        scope: Some(Scope::Everything),
        tap: 0,
        slots: vec![],
        late_slots: vec![],
        bucket: None,
        skips_own_tunnels: true,
    }
}

/// A tap of rules that has no target.
pub fn ruled<'a>(program: &'a Program, rules: &'a Rules) -> DispatcherTap<'a> {
    DispatcherTap { verdicts: Verdicts::Rules(rules), ..expression(program) }
}

/// Taps in order, and an interface to clone to that is not there.
pub fn taps_of(direction: Direction, mut taps: Vec<DispatcherTap<'_>>) -> DispatcherOptions<'_> {
    for (n, tap) in taps.iter_mut().enumerate() {
        tap.tap = n;
    }
    DispatcherOptions {
        link_type: LinkType::ETHERNET,
        direction,
        is_loopback: false,
        private: Private { entry: i32::MAX as u32, near: None },
        taps,
    }
}

/// A program of the mirror, loaded.
pub struct Loaded {
    pub program: Classifier,
    maps: Vec<Map>,
    rules: Vec<usize>,
}

impl Loaded {
    /// Loads a program with maps for taps of so many rules each.
    pub fn new(code: &Code, rules: &[usize]) -> Loaded {
        let maps = maps(rules);
        let program = load(code, &maps).unwrap_or_else(|e| panic!("{e}"));
        Loaded { program, maps, rules: rules.to_vec() }
    }

    /// Loads a further program that uses the same maps.
    pub fn also(&self, code: &Code) -> Classifier {
        load(code, &self.maps).unwrap_or_else(|e| panic!("{e}"))
    }

    pub fn map(&self, map: MirrorMap) -> &Map {
        &self.maps[map.map().0]
    }

    pub fn counter(&self, tap: usize, counter: TapCounter) -> u64 {
        self.words(tap, 0)[counter as usize]
    }

    /// Filtered, matched, own tunnels, rate-limited, late.
    pub fn decided(&self, tap: usize) -> [u64; 5] {
        *self.words(tap, 0).first_chunk().expect("there are more")
    }

    /// What each rule of a tap decided.
    pub fn rule_hits(&self, tap: usize) -> Vec<u64> {
        let rules = self.rules[tap];
        let elements = CounterLayout { rules }.elements();
        let words: Vec<Vec<u64>> = (0..elements).map(|at| self.words(tap, at as u32)).collect();
        let hits = (1..=rules).map(|number| rule_place(rules, number));
        hits.map(|(element, place)| words[element][place]).collect()
    }

    pub fn slot(&self, slot: u32, counter: SlotCounter) -> u64 {
        let words = self.map(MirrorMap::SlotCounters).words(slot).expect("they are read");
        words[counter as usize]
    }

    fn words(&self, tap: usize, element: u32) -> Vec<u64> {
        self.map(MirrorMap::Tap(tap)).words(element).expect("they are read")
    }
}

fn load(code: &Code, maps: &[Map]) -> Result<Classifier, io::Error> {
    let maps: Vec<_> = maps.iter().map(AsFd::as_fd).collect();
    Classifier::load("of a test", code, &maps)
}

/// The maps of a mirror, in the order of their numbers.
pub fn maps(rules: &[usize]) -> Vec<Map> {
    use MapKind::{Array, Hash, PerCpuArray};
    let counters = COUNTER_WORDS * 8;
    let mut maps = vec![
        map(Array, 4, SLOT_BYTES, ENTRIES),
        map(Array, 4, GROUP_BYTES, 1),
        map(Array, 4, MEMBER_BYTES, ENTRIES),
        map(PerCpuArray, 4, counters, ENTRIES),
        map(PerCpuArray, 4, counters, ENTRIES),
        map(PerCpuArray, 4, SCRATCH_BYTES, 1),
        map(Array, 4, 8, 1),
        map(Hash, FAR_END_BYTES, 4, ENTRIES),
        map(Array, 4, BUCKET_BYTES, ENTRIES),
        // In the place of rings, which dispatchers do not name.
        map(Array, 4, 4, 1),
    ];
    assert_eq!(MirrorMap::Tap(0).map(), MapRef(maps.len()));
    for &rules in rules {
        let elements = CounterLayout { rules }.elements() as u32;
        maps.push(map(PerCpuArray, 4, COUNTERS_PER_ELEMENT * 8, elements));
    }
    maps
}

fn map(kind: MapKind, key: usize, value: usize, entries: u32) -> Map {
    Map::new(kind, key, value, entries).expect("it is made")
}
