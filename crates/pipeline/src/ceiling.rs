//! The ceiling of a tap: so much may match, so that the mirror does not starve the host's own traffic.
//!
//! A token bucket, kept as the time at which what has passed will have been paid for (the generic
//! cell rate algorithm, ITU-T I.371): a packet passes if that time is at most the burst ahead of now.
//! In the kernel the same is done by `kernel::mirror::layout::Bucket`.

use api::Rate;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A ceiling that a tap's workers share: cloning shares it.
#[derive(Debug, Clone)]
pub struct Ceiling {
    paid_at_ns: Arc<AtomicU64>,
    /// ns that a byte costs, times 2^20.
    cost: u64,
    burst_ns: u64,
}

impl Ceiling {
    /// How much may come at once, as the time that the rate takes for it.
    pub const BURST: Duration = Duration::from_millis(50);

    /// A ceiling with a burst of [`Self::BURST`].
    pub fn new(rate: Rate) -> Ceiling {
        let burst_ns = Ceiling::BURST.as_nanos() as u64;
        let cost = (8_000_000_000 << 20) / rate.bits_per_second();
        Ceiling { paid_at_ns: Arc::default(), cost, burst_ns }
    }

    /// Takes the room for so many bytes; returns whether there was any.
    #[inline]
    pub(crate) fn take(&self, bytes: u32, now_ns: u64) -> bool {
        let cost_ns = (u128::from(bytes) * u128::from(self.cost)) >> 20;
        let cost_ns = u64::try_from(cost_ns).unwrap_or(u64::MAX);
        let pay = |paid_at_ns: u64| {
            let from_ns = paid_at_ns.max(now_ns);
            (from_ns - now_ns <= self.burst_ns).then(|| from_ns.saturating_add(cost_ns))
        };
        // Nothing is ordered by it but itself.
        self.paid_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let ceiling = Ceiling::new(Rate::new(8_000_000).unwrap());
        // 1 MB/s: 50 kB at once, and the packet that goes beyond.
        let at = |now_ns: u64| (0..1000).filter(|_| ceiling.take(1000, now_ns)).count();
        assert_eq!(at(1_000_000_000), 51);
        assert_eq!(at(1_000_000_000), 0);
        assert_eq!(at(1_010_000_000), 10);
        assert_eq!(at(9_000_000_000), 51, "no more is saved up than the burst");
    }

    #[test]
    fn the_largest_packet_passes_the_lowest_ceiling_and_is_paid_for() {
        let ceiling = Ceiling::new(Rate::new(1).unwrap());
        assert!(ceiling.take(u32::MAX, 0) && !ceiling.take(1, u64::from(u32::MAX)));
        assert!(ceiling.clone().take(1, u64::MAX));
    }

    #[test]
    fn workers_share_it() {
        let ceiling = Ceiling::new(Rate::new(8_000_000).unwrap());
        let taken: usize = std::thread::scope(|scope| {
            let take =
                || scope.spawn(|| (0..100).filter(|_| ceiling.clone().take(1000, 1)).count());
            [take(), take(), take()].into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(taken, 51);
    }
}
