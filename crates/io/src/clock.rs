//! The system's clocks, read in one place.

use std::time::Duration;

/// Nanoseconds since 1970-01-01 UTC, by the system's clock, which may be set and so may step.
pub fn now_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

/// A moment by both clocks: what is due by a span of time goes by the one that never steps, what is
/// shown to people by the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Nanoseconds since some time before the start (`CLOCK_MONOTONIC`): never runs back.
    pub monotonic_ns: u64,
    /// Nanoseconds since 1970-01-01 UTC: steps when the clock is set.
    pub utc_ns: u64,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Now {
        Now { monotonic_ns: crate::sys::monotonic_ns(), utc_ns: now_ns() }
    }

    /// The moment after a span of time in which the clock was not set.
    pub fn after(self, span: Duration) -> Now {
        let span_ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Now {
            monotonic_ns: self.monotonic_ns.saturating_add(span_ns),
            utc_ns: self.utc_ns.saturating_add(span_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_go_on() {
        let before = Now::read();
        std::thread::sleep(Duration::from_millis(2));
        let after = Now::read();
        assert!(after.monotonic_ns >= before.monotonic_ns + 2_000_000, "{before:?} {after:?}");
        assert!(before.utc_ns > 1_700_000_000_000_000_000, "{before:?}");
    }
}
