//! An archiver that ends at any step, as if it had been killed, loses nothing, and the next one ships
//! each segment once.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod shipping;

use archive::archiver::{SpoolPolicy, Step, Steps, drain};
use archive::{Archiver, SegmentName};
use shipping::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Ends it all when a step was taken so many times; with no step, after so many of any.
struct Killer {
    step: Option<Step>,
    left: AtomicU64,
}

impl Killer {
    fn new(step: Option<Step>, times: u64) -> Arc<Killer> {
        Arc::new(Killer { step, left: AtomicU64::new(times) })
    }

    fn has_struck(&self) -> bool {
        self.left.load(Relaxed) == 0
    }
}

impl Steps for Killer {
    fn taken(&self, step: Step, _: &SegmentName) -> bool {
        if self.step.is_some_and(|of| of != step) {
            return !self.has_struck();
        }
        let before = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        before.is_ok_and(|before| before > 1)
    }
}

fn ship_until_killed(bench: &Bench, policy: SpoolPolicy, killer: &Arc<Killer>) {
    let options = bench.options_with(Some(1 << 30), policy, killer.clone());
    let archiver = Archiver::start(options).unwrap();
    wait_for("the kill", || killer.has_struck());
    archiver.finish(PATIENCE).unwrap();
}

fn ship_the_rest(bench: &Bench, policy: SpoolPolicy) {
    let options = bench.options_with(Some(1 << 30), policy, Arc::new(archive::archiver::Onward));
    let left = drain(options, PATIENCE).unwrap();
    assert_eq!(left, Default::default());
}

#[test]
fn killed_at_any_step_nothing_is_lost_and_nothing_doubled() {
    for step in Step::ALL {
        for times in [1, 3] {
            for policy in [SpoolPolicy::DropNew, SpoolPolicy::DropOldestUploaded] {
                if (policy, step) == (SpoolPolicy::DropOldestUploaded, Step::DataRemoved) {
                    continue;
                }
                let mut bench = Bench::new();
                (1..=3).for_each(|packets| drop(bench.close(packets)));
                ship_until_killed(&bench, policy, &Killer::new(Some(step), times));
                bench.assert_nothing_lost();
                ship_the_rest(&bench, policy);
                assert_eq!(bench.assert_stored_once(6), 3, "{step:?} {times} {policy:?}");
                let kept = bench.in_spool();
                match policy {
                    SpoolPolicy::DropNew => assert_eq!(kept, [""; 0]),
                    SpoolPolicy::DropOldestUploaded => {
                        assert!(kept.len() == 3 && kept.iter().all(|f| f.ends_with(".uploaded")));
                    }
                }
            }
        }
    }
}

#[test]
fn killed_again_and_again_while_segments_come_each_is_stored_once() {
    let mut bench = Bench::new();
    for round in 0..40_u64 {
        bench.close(1 + round % 4);
        // Each round ends at another step, in the middle of what the one before has left.
        let times = 1 + round * 7 % 11;
        let killer = Killer::new(None, times);
        let options = bench.options_with(None, SpoolPolicy::DropNew, killer.clone());
        let archiver = Archiver::start(options).unwrap();
        let status = archiver.status();
        wait_for("the kill, or the end", || {
            let progress = status.progress(0);
            killer.has_struck() || (progress.is_in_charge && bench.in_spool().is_empty())
        });
        archiver.finish(PATIENCE).unwrap();
        bench.assert_nothing_lost();
    }
    ship_the_rest(&bench, SpoolPolicy::DropNew);
    bench.assert_stored_once(bench.recorded());
}

#[test]
fn the_order_of_steps_is_that_of_safety() {
    struct Seen(std::sync::Mutex<Vec<Step>>);
    impl Steps for Seen {
        fn taken(&self, step: Step, _: &SegmentName) -> bool {
            self.0.lock().unwrap().push(step);
            true
        }
    }
    let mut bench = Bench::new();
    bench.close(1);
    let seen = Arc::new(Seen(Default::default()));
    let left = drain(bench.options_with(None, SpoolPolicy::DropNew, seen.clone()), PATIENCE);
    assert_eq!(left.unwrap(), Default::default());
    assert_eq!(*seen.0.lock().unwrap(), Step::ALL);
    // A second one finds nothing to do.
    drain(bench.options(), Duration::from_secs(60)).unwrap();
    bench.assert_stored_once(1);
}
