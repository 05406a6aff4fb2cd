//! How many packets a tap may match before it ends: a number that its workers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Packets that may still match. Cloning shares the number.
#[derive(Debug, Clone)]
pub struct Limit(Arc<AtomicU64>);

impl Limit {
    /// Lets so many packets match.
    pub fn new(packets: u64) -> Limit {
        Limit(Arc::new(AtomicU64::new(packets)))
    }

    /// Takes one of them; returns whether there was one left.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        // Nothing is ordered by the number but itself.
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    /// Whether none is left.
    #[inline]
    pub(crate) fn is_reached(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharers_take_so_many_and_no_more() {
        let limit = Limit::new(1000);
        let taken: u64 = std::thread::scope(|scope| {
            let take = || scope.spawn(|| (0..600).filter(|_| limit.clone().take()).count() as u64);
            [take(), take(), take()].into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(taken, 1000);
        assert!(limit.is_reached() && !limit.take());
        assert!(Limit::new(0).is_reached());
    }
}
