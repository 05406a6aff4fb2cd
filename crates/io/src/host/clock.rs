//! How far this host's clock can be believed.
//!
//! Source: adjtimex(2).

/// What the kernel knows of the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockState {
    /// Whether something keeps it right (`STA_UNSYNC` is not set).
    pub is_synchronized: bool,
    /// How far it may be off at most, microseconds.
    pub error_us_max: u64,
    /// International Atomic Time less UTC, seconds; 0 if nobody has told the kernel.
    pub tai_offset_s: i32,
}

impl ClockState {
    /// Asks the kernel; `None` if it does not answer.
    pub fn read() -> Option<ClockState> {
        let time = super::sys::clock_state().ok()?;
        Some(ClockState {
            is_synchronized: time.status & libc::STA_UNSYNC == 0,
            error_us_max: time.maxerror.try_into().unwrap_or(0),
            tai_offset_s: time.tai,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_read() {
        let state = ClockState::read().unwrap();
        // 37 s since 2017.
        assert!((0..60).contains(&state.tai_offset_s), "{state:?}");
    }
}
