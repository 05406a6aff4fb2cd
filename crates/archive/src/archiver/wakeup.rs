//! How an archiver's threads are woken, and told to end.

use super::status::hold;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Wakes an archiver that has nothing to do.
#[derive(Debug, Default)]
pub(super) struct Wakeup {
    state: Mutex<State>,
    changed: Condvar,
    shipper: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    has_work: bool,
    /// When everything must have ended.
    deadline: Option<Instant>,
}

impl Wakeup {
    /// There is something new in the spool.
    pub fn wake(&self) {
        hold(&self.state).has_work = true;
        self.changed.notify_all();
    }

    /// Something is ready to be shipped.
    pub fn wake_shipper(&self) {
        self.shipper.notify_one();
    }

    /// Everything must have ended by then; an earlier deadline stays.
    pub fn end_by(&self, deadline: Instant) {
        let mut state = hold(&self.state);
        state.has_work = true;
        state.deadline = Some(state.deadline.map_or(deadline, |before| before.min(deadline)));
        drop(state);
        self.changed.notify_all();
        self.shipper.notify_one();
    }

    /// When everything must have ended, if that is asked for.
    pub fn deadline(&self) -> Option<Instant> {
        hold(&self.state).deadline
    }

    /// Whether the deadline is over.
    pub fn is_over(&self) -> bool {
        self.deadline().is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Waits for work, or for the wish to end, at most so long.
    pub fn wait(&self, at_most: Duration) {
        let state = hold(&self.state);
        let waited = self.changed.wait_timeout_while(state, at_most, |state| !state.has_work);
        // A thread that died holding the lock left the state whole.
        waited.unwrap_or_else(PoisonError::into_inner).0.has_work = false;
    }

    /// Waits for something to ship, or for the wish to end, at most so long.
    pub async fn wait_to_ship(&self, at_most: Duration) {
        // Nothing is lost if the time is over first: a notice that comes meanwhile stays.
        let _ = tokio::time::timeout(at_most, self.shipper.notified()).await;
    }
}
