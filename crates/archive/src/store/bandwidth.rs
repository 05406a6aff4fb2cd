//! A bound on the bytes that are sent in a second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A token bucket that may go into debt: who takes more than there is waits until it is paid. It
/// holds the tokens of one second.
#[derive(Debug)]
pub(super) struct Bandwidth {
    bytes_per_s: f64,
    /// Tokens, and when they were counted.
    state: Mutex<(f64, Instant)>,
}

impl Bandwidth {
    pub(super) fn new(bytes_per_s: u64, now: Instant) -> Bandwidth {
        let bytes_per_s = bytes_per_s.max(1) as f64;
        Bandwidth { bytes_per_s, state: Mutex::new((bytes_per_s, now)) }
    }

    /// Takes tokens for these bytes, and says how long to wait before they are sent.
    pub(super) fn take(&self, bytes: u64, now: Instant) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, at) = *state;
        let gained = now.saturating_duration_since(at).as_secs_f64() * self.bytes_per_s;
        let left = (tokens + gained).min(self.bytes_per_s) - bytes as f64;
        *state = (left, now.max(at));
        Duration::from_secs_f64((-left).max(0.0) / self.bytes_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_waits() {
        let now = Instant::now();
        let bandwidth = Bandwidth::new(1000, now);
        assert_eq!(bandwidth.take(1000, now), Duration::ZERO);
        assert_eq!(bandwidth.take(500, now), Duration::from_millis(500));
        assert_eq!(bandwidth.take(500, now), Duration::from_secs(1));
        assert_eq!(bandwidth.take(0, now + Duration::from_secs(1)), Duration::ZERO);
        // An hour of silence saves up one second.
        let later = now + Duration::from_secs(3600);
        assert_eq!(bandwidth.take(3000, later), Duration::from_secs(2));
    }
}
