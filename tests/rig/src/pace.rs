//! The schedule of a sender.

use std::time::{Duration, Instant};

/// Ahead of its schedule by less than this, a sender spins instead of sleeping.
const SPIN_MAX: Duration = Duration::from_micros(100);

/// Waits until a packet's turn, counted from 0, at a pace in packets a second; at pace 0 it is at
/// once. The schedule is absolute: who falls behind catches up, so that the mean holds.
pub fn wait_for_turn(start: Instant, number: u64, pps: u64) {
    if pps == 0 {
        return;
    }
    let due_ns = u128::from(number) * 1_000_000_000 / u128::from(pps);
    let due = start + Duration::from_nanos(u64::try_from(due_ns).unwrap_or(u64::MAX));
    loop {
        let ahead = due.saturating_duration_since(Instant::now());
        match ahead {
            Duration::ZERO => return,
            // The kernel wakes a sleeper some 50 µs late.
            _ if ahead > SPIN_MAX => std::thread::sleep(ahead - SPIN_MAX / 2),
            _ => std::hint::spin_loop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_comes_when_it_is_due_and_at_once_if_it_is_late() {
        let start = Instant::now();
        wait_for_turn(start, 30, 1_000);
        assert!(start.elapsed() >= Duration::from_millis(30));
        let late = Instant::now();
        wait_for_turn(start, 29, 1_000);
        wait_for_turn(start, u64::MAX, 0);
        assert!(late.elapsed() < Duration::from_secs(1));
    }
}
