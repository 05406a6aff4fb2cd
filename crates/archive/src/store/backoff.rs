//! How long to wait before something is tried again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

/// Waits that double with each failure, up to a bound, each cut short at random, so that many who
/// failed together do not come back together. Time and randomness are given: it asks for neither.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    ready_at: Option<Instant>,
}

impl Backoff {
    /// The first wait is at most `first`, any is at most `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest, failures: 0, ready_at: None }
    }

    /// Takes a failure up, and gives the wait: from a tenth of its bound to all of it.
    pub fn failed(&mut self, now: Instant, random: u64) -> Duration {
        let doubled = 2_u32.saturating_pow(self.failures.min(31));
        let bound = self.first.saturating_mul(doubled).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let wait = bound.mul_f64(0.1 + 0.9 * share);
        self.ready_at = now.checked_add(wait);
        wait
    }

    /// Forgets the failures.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.ready_at = None;
    }

    /// Failures since the last success.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// What is left of the wait; nothing, if it is over.
    pub fn left(&self, now: Instant) -> Duration {
        self.ready_at.map_or(Duration::ZERO, |ready_at| ready_at.saturating_duration_since(now))
    }
}

impl Default for Backoff {
    /// For a store: from 1 s to 60 s.
    fn default() -> Backoff {
        Backoff::new(Duration::from_secs(1), Duration::from_secs(60))
    }
}

/// A number that is another one each time, good enough to spread waits.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_are_spread() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        let longest: Vec<u64> =
            (0..8).map(|_| backoff.failed(now, u64::MAX).as_secs_f64().round() as u64).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.failed(now, 0), Duration::from_secs(6));
        assert_eq!(backoff.left(now), Duration::from_secs(6));
        assert_eq!(backoff.left(now + Duration::from_secs(7)), Duration::ZERO);
        assert_eq!(backoff.failures(), 9);
        backoff.succeeded();
        assert_eq!(backoff.left(now), Duration::ZERO);
        assert_eq!(backoff.failed(now, 0), Duration::from_millis(100));
        for _ in 0..100 {
            backoff.failed(now, random());
        }
        assert!(backoff.left(now) <= Duration::from_secs(60));
    }
}
