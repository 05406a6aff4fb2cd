//! The ceiling of a tap: so much of it may leave, so that the mirror does not starve the host's own
//! traffic.
//!
//! A token bucket, kept as the time at which what has passed will have been paid for: the same
//! [`Bucket`] as in the kernel, so that both take the same packets of the same traffic.

use api::Rate;
use kernel::mirror::layout::{Bucket, Leaving};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A ceiling that a tap's workers share: cloning shares it.
#[derive(Debug, Clone)]
pub struct Ceiling {
    shared: Arc<Shared>,
    leaving: Leaving,
    /// Its cost is the shared one.
    bucket: Bucket,
}

#[derive(Debug, Default)]
struct Shared {
    paid_at_ns: AtomicU64,
    cost: AtomicU64,
}

impl Ceiling {
    /// How much may come at once, as the time that the rate takes for it.
    pub const BURST: Duration = Duration::from_millis(50);

    /// A ceiling with a burst of [`Self::BURST`] for what leaves of a tap's packets.
    pub fn new(rate: Rate, leaving: Leaving) -> Ceiling {
        let bucket = bucket(rate, leaving);
        let cost = AtomicU64::new(bucket.cost);
        let shared = Arc::new(Shared { paid_at_ns: AtomicU64::default(), cost });
        Ceiling { shared, leaving, bucket }
    }

    /// Gives it another rate, or none, for all who share it.
    pub fn set(&self, rate: Option<Rate>) {
        let bucket = rate.map_or(Bucket::UNLIMITED, |rate| bucket(rate, self.leaving));
        self.shared.cost.store(bucket.cost, Ordering::Relaxed);
    }

    /// Takes the room for a packet of so many bytes; returns whether there was any.
    #[inline]
    pub(crate) fn take(&self, bytes: u32, now_ns: u64) -> bool {
        let cost = self.shared.cost.load(Ordering::Relaxed);
        let bucket = Bucket { cost, ..self.bucket };
        if bucket.cost == 0 {
            return true;
        }
        let price_ns = bucket.price_ns(1, bytes);
        let pay = |paid_at_ns: u64| {
            let from_ns = paid_at_ns.max(now_ns);
            (from_ns - now_ns <= bucket.burst_ns).then(|| from_ns.saturating_add(price_ns))
        };
        // Nothing is ordered by it but itself.
        self.shared.paid_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_ok()
    }
}

fn bucket(rate: Rate, leaving: Leaving) -> Bucket {
    Bucket::new(rate.bits_per_second(), Ceiling::BURST.as_nanos() as u64, leaving)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let ceiling = Ceiling::new(Rate::new(8_000_000).unwrap(), Leaving::AS_IT_IS);
        // 1 MB/s: 50 kB at once, and the packet that goes beyond.
        let at = |now_ns: u64| (0..1000).filter(|_| ceiling.take(1000, now_ns)).count();
        assert_eq!(at(1_000_000_000), 51);
        assert_eq!(at(1_000_000_000), 0);
        assert_eq!(at(1_010_000_000), 10);
        assert_eq!(at(9_000_000_000), 51, "no more is saved up than the burst");
    }

    #[test]
    fn what_leaves_is_paid_for_and_not_what_comes() {
        // Two targets get 100 bytes each behind headers of 25: 250 bytes a packet.
        let leaving = Leaving { targets: 2, headers: 25, snaplen: 100 };
        let ceiling = Ceiling::new(Rate::new(8_000_000).unwrap(), leaving);
        let at = |now_ns: u64| (0..1000).filter(|_| ceiling.take(1500, now_ns)).count();
        assert_eq!(at(1_000_000_000), 201);
        ceiling.clone().set(Rate::new(16_000_000));
        assert_eq!(at(1_010_000_000), 79, "twice the rate, from one packet to the next");
        ceiling.set(None);
        assert_eq!(at(1_100_000_000), 1000);
    }

    #[test]
    fn the_largest_packet_passes_the_lowest_ceiling_and_is_paid_for() {
        let ceiling = Ceiling::new(Rate::new(1).unwrap(), Leaving::AS_IT_IS);
        assert!(ceiling.take(u32::MAX, 0) && !ceiling.take(1, u64::from(u32::MAX)));
        assert!(ceiling.clone().take(1, u64::MAX));
    }

    #[test]
    fn workers_share_it() {
        let ceiling = Ceiling::new(Rate::new(8_000_000).unwrap(), Leaving::AS_IT_IS);
        let taken: usize = std::thread::scope(|scope| {
            let take =
                || scope.spawn(|| (0..100).filter(|_| ceiling.clone().take(1000, 1)).count());
            [take(), take(), take()].into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(taken, 51);
    }
}
