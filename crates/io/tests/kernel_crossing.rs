//! What waits to cross a mirror's private interface: it is bounded, and nothing overtakes it.

#[path = "kernel_encap/bench.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod bench;

use bench::{Bench, Case, tunnels};
use io::bpf::TestRunOptions;
use kernel::mirror::Entry;
use kernel::mirror::layout::{MirrorMap, SCRATCH_BYTES, SlotCounter, crossing};
use std::time::Duration;

const BOUND: u64 = 10;
/// `TCX_NEXT`: it crosses.
const CROSSES: i32 = -1;
/// `TCX_DROP`: it ends here, encapsulated or not.
const ENDS: i32 = 2;

impl Bench {
    fn set_crossing(&self, at: i16, word: u64) {
        let scratch = &self.maps[MirrorMap::Scratch.map().0];
        let mut value = scratch.get(&[0; 4]).expect("it reads").expect("it is there");
        for copy in value.chunks_exact_mut(SCRATCH_BYTES) {
            copy[at as usize..][..8].copy_from_slice(&word.to_ne_bytes());
        }
        scratch.put(&[0; 4], &value).expect("it writes");
    }

    fn under_way(&self) -> u64 {
        self.words(MirrorMap::Scratch, 0)[crossing::UNDER_WAY as usize / 8]
    }

    /// How many CPUs count for themselves.
    fn cpus(&self) -> u64 {
        let scratch = &self.maps[MirrorMap::Scratch.map().0];
        let value = scratch.get(&[0; 4]).expect("it reads").expect("it is there");
        (value.len() / SCRATCH_BYTES) as u64
    }

    fn arrived(&self) -> u64 {
        self.slot()[SlotCounter::Arrived as usize]
    }

    /// What becomes of a packet; of how many segments it is.
    fn pass(&self, gso_segs: u32) -> i32 {
        let gso_size = if gso_segs > 0 { 100 } else { 0 };
        let options = TestRunOptions { gso_size, gso_segs, ..TestRunOptions::default() };
        self.classifier.test_run(&[0x5a; 600], &options).expect("it runs").value
    }
}

#[test]
fn what_crosses_is_bounded_and_followed_in_order() {
    if !rig::root_or_skip() {
        return;
    }
    rig::on_one_cpu(|| {
        let (carrier, encap) = tunnels()[0];
        let bench = Bench::new(Entry::Egress);
        bench.set(&Case::new(false, carrier, encap, 0), 9000);
        bench.set_crossing(crossing::BOUND, BOUND);
        assert_eq!((bench.pass(0), bench.arrived()), (ENDS, 1));
        assert_eq!((bench.pass(4), bench.under_way()), (CROSSES, 4));
        assert_eq!((bench.pass(0), bench.under_way()), (CROSSES, 5));
        assert_eq!((bench.pass(4), bench.under_way()), (CROSSES, 9));
        // There is no room for four more, nor for two.
        assert_eq!((bench.pass(4), bench.under_way()), (ENDS, 9));
        assert_eq!((bench.pass(0), bench.under_way()), (CROSSES, 10));
        assert_eq!((bench.pass(0), bench.under_way()), (ENDS, 10));
        assert_eq!(bench.arrived(), 1);
        // What has not arrived by now never will.
        std::thread::sleep(Duration::from_millis(25));
        assert_eq!((bench.pass(0), bench.under_way(), bench.arrived()), (ENDS, 0, 2));
        assert_eq!((bench.pass(4), bench.under_way()), (CROSSES, 4));
        std::thread::sleep(Duration::from_millis(25));
        assert_eq!((bench.pass(9), bench.under_way()), (CROSSES, 9));
    });
}

#[test]
fn without_a_bound_all_cross() {
    if !rig::root_or_skip() {
        return;
    }
    let bench = Bench::new(Entry::Egress);
    for _ in 0..100 {
        assert_eq!((bench.pass(40), bench.under_way()), (CROSSES, 0));
    }
}

#[test]
fn what_has_crossed_makes_room() {
    if !rig::root_or_skip() {
        return;
    }
    rig::on_one_cpu(|| {
        let (carrier, encap) = tunnels()[0];
        let bench = Bench::new(Entry::Ingress);
        bench.set(&Case::new(false, carrier, encap, 0), 9000);
        let cpus = bench.cpus();
        bench.set_crossing(crossing::UNDER_WAY, 2);
        for (left, arrived) in [(1, 1), (0, 2), (0, 3)] {
            assert_eq!((bench.pass(0), bench.arrived()), (ENDS, arrived));
            // The other CPUs' stay as they were.
            assert_eq!(bench.under_way(), 2 * (cpus - 1) + left);
        }
    });
}
