//! One check: the thread that tries, and whom it tells.

use super::group::Watched;
use super::judge::Judge;
use api::Health;
use io::probe::{Place, Probe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::Thread;
use std::time::Instant;

/// A check that runs until this value is gone.
pub(super) struct Checking {
    health: Health,
    place: Place,
    shared: Arc<Shared>,
    thread: Thread,
}

/// What the thread shares with others.
struct Shared {
    stop: AtomicBool,
    told: Mutex<Told>,
}

/// What is known, and who wants to know.
struct Told {
    is_up: bool,
    /// The groups, and which of their members it is.
    groups: Vec<(Weak<Watched>, usize)>,
}

impl Checking {
    /// Starts a thread that tries at once, and then again and again.
    pub fn start(
        health: &Health,
        place: &Place,
        probe: Box<dyn Probe>,
    ) -> std::io::Result<Checking> {
        let told = Mutex::new(Told { is_up: true, groups: Vec::new() });
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), told });
        let mut attempts = Attempts::new(health, probe, Arc::clone(&shared));
        let interval = health.interval;
        let run = move || {
            while !attempts.shared.stop.load(Ordering::Acquire) {
                let begun = Instant::now();
                attempts.turn();
                while let Some(left) = interval.checked_sub(begun.elapsed())
                    && !left.is_zero()
                    && !attempts.shared.stop.load(Ordering::Acquire)
                {
                    std::thread::park_timeout(left);
                }
            }
        };
        // It is not waited for: it may be in the middle of a try, and whoever lets go of a group may be
        // on the data path.
        let thread = std::thread::Builder::new().name("health-check".into()).spawn(run)?;
        let thread = thread.thread().clone();
        Ok(Checking { health: health.clone(), place: place.clone(), shared, thread })
    }

    /// Whether it is such a check of such a place.
    pub fn is(&self, health: &Health, place: &Place) -> bool {
        self.health == *health && self.place == *place
    }

    /// Tells a group of the state of one of its members, now and at every change.
    pub fn tell(&self, group: &Arc<Watched>, position: usize) {
        let mut told = self.shared.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.groups.retain(|(group, _)| group.strong_count() > 0);
        told.groups.push((Arc::downgrade(group), position));
        group.set(position, told.is_up);
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// The work of the thread, one try at a time.
struct Attempts {
    health: Health,
    probe: Box<dyn Probe>,
    judge: Judge,
    shared: Arc<Shared>,
}

impl Attempts {
    fn new(health: &Health, probe: Box<dyn Probe>, shared: Arc<Shared>) -> Attempts {
        Attempts { judge: Judge::new(health), health: health.clone(), probe, shared }
    }

    /// Tries once, and tells the groups if the state has changed.
    fn turn(&mut self) {
        let outcome = self.probe.attempt(self.health.timeout);
        let Some(tries) = self.judge.note(outcome.is_ok()) else { return };
        let mut told = self.shared.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.is_up = outcome.is_ok();
        let mut said: Vec<String> = Vec::new();
        for (group, position) in &told.groups {
            let Some(group) = group.upgrade() else { continue };
            let consequence = group.set(*position, outcome.is_ok());
            let member = group.member(*position);
            let (check, plural) = (&self.health.check, if tries == 1 { "try" } else { "tries" });
            said.push(match &outcome {
                Ok(()) => {
                    format!("{member}: {check} answers again, {tries} {plural}; {consequence}")
                }
                Err(reason) => {
                    format!(
                        "{member}: no answer to {check} ({reason}), {tries} {plural}; {consequence}"
                    )
                }
            });
        }
        drop(told);
        // Groups of several taps may be alike.
        said.sort_unstable();
        said.dedup();
        for line in said {
            match outcome {
                Ok(()) => tracing::info!("{line}"),
                Err(_) => tracing::warn!("{line}"),
            }
        }
    }
}
