//! The system's clock, read in one place.

/// Nanoseconds since 1970-01-01 UTC, by the system's clock.
pub fn now_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}
