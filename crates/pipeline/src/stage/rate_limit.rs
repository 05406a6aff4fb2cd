//! Rate limit: token buckets, in packets and in bits.
//!
//! A bucket holds what the rate gives in the time of the burst, is full at first, and fills at the
//! rate (as in RFC 2697, with one colour). A packet goes on if each of the buckets holds what it
//! takes, and takes that; one that is larger than the whole bucket goes on when the bucket is full,
//! and leaves it in debt, so that no size is shut out for good. So within any time t at most
//! `burst + rate · t` goes on, and at most one packet more.
//!
//! Time is the host's, not the packets' own: what is limited is what a target has to take. A file
//! that is played as fast as possible is therefore cut to the rate too; play it at its original
//! pace to have it limited as it was recorded. Packets of one batch come at one time.

use super::{Stage, Work};
use api::DropReason;
use std::time::Duration;

/// Lets go on what its buckets hold tokens for, and drops the rest as `rate_limited`.
pub struct RateLimit {
    packets: Option<Bucket>,
    bits: Option<Bucket>,
}

impl RateLimit {
    /// At most `pps` packets and `bps` bits a second, and at once what they give in `burst`. Bits
    /// are those of the packets' original lengths.
    pub fn new(pps: Option<u64>, bps: Option<u64>, burst: Duration) -> RateLimit {
        let bucket = |rate| Bucket::new(rate, burst);
        RateLimit { packets: pps.map(bucket), bits: bps.map(bucket) }
    }
}

impl Stage for RateLimit {
    fn apply(&mut self, work: &mut Work<'_>) {
        let now_ns = work.now.monotonic_ns;
        for bucket in self.packets.iter_mut().chain(&mut self.bits) {
            bucket.fill(now_ns);
        }
        let RateLimit { packets, bits } = self;
        work.each(|packet, _| {
            let packet_bits = u64::from(packet.meta.origlen) * 8;
            let holds = |bucket: &Option<Bucket>, n| bucket.as_ref().is_none_or(|b| b.holds(n));
            if !holds(packets, 1) || !holds(bits, packet_bits) {
                return Err(DropReason::RateLimited);
            }
            packets.iter_mut().for_each(|bucket| bucket.take(1));
            bits.iter_mut().for_each(|bucket| bucket.take(packet_bits));
            Ok(())
        });
    }

    fn changes(&self) -> bool {
        false
    }
}

/// Tokens, in billionths: a rate of 1/s gives one such part each nanosecond, so none is rounded
/// away.
struct Bucket {
    rate: u64,
    tokens: i128,
    tokens_max: i128,
    filled_ns: Option<u64>,
}

const TOKEN: i128 = 1_000_000_000;

impl Bucket {
    fn new(rate: u64, burst: Duration) -> Bucket {
        let burst_ns = u64::try_from(burst.as_nanos()).unwrap_or(u64::MAX);
        let tokens_max = product(rate, burst_ns);
        Bucket { rate, tokens: tokens_max, tokens_max, filled_ns: None }
    }

    fn fill(&mut self, now_ns: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.filled_ns.unwrap_or(now_ns));
        self.tokens = (self.tokens + product(self.rate, elapsed_ns)).min(self.tokens_max);
        self.filled_ns = Some(now_ns.max(self.filled_ns.unwrap_or(0)));
    }

    #[inline]
    fn holds(&self, tokens: u64) -> bool {
        self.tokens >= (i128::from(tokens) * TOKEN).min(self.tokens_max)
    }

    #[inline]
    fn take(&mut self, tokens: u64) {
        self.tokens -= i128::from(tokens) * TOKEN;
    }
}

// Up to a quarter of the range, so that sums of two stay in it.
fn product(rate: u64, ns: u64) -> i128 {
    (u128::from(rate) * u128::from(ns)).min(i128::MAX as u128 / 4) as i128
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::trial::{Trial, packet};
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_burst_comes_at_once_and_the_rest_at_the_rate() {
        let mut trial = Trial::new(RateLimit::new(Some(1000), None, Duration::from_millis(10)));
        let hundred = || (0..100).map(|i| packet(i, &[0; 60]));
        assert_eq!(trial.run(hundred()).len(), 10, "the burst");
        trial.now.monotonic_ns += 5 * MS;
        assert_eq!(trial.run(hundred()).len(), 5);
        trial.now.monotonic_ns += MS / 2;
        assert_eq!(trial.run(hundred()).len(), 0, "half a packet");
        trial.now.monotonic_ns += MS / 2;
        assert_eq!(trial.run(hundred()).len(), 1, "the other half");
        trial.now.monotonic_ns += 3_600_000 * MS;
        assert_eq!(trial.run(hundred()).len(), 10, "the burst again, after a long silence");
        assert_eq!(trial.drops().get(DropReason::RateLimited), 500 - 26);
    }

    #[test]
    fn bits_are_those_of_the_wire_and_both_rates_bind() {
        let mut cut = packet(0, &[0; 60]);
        cut.meta.origlen = 1000;
        let mut trial = Trial::new(RateLimit::new(None, Some(80_000), Duration::from_millis(300)));
        assert_eq!(trial.run((0..9).map(|_| cut.copy())).len(), 3, "24,000 bits");

        // What the packets' bucket refuses takes nothing out of the bits' one.
        let limit = RateLimit::new(Some(10), Some(80_000), Duration::from_millis(200));
        let mut trial = Trial::new(limit);
        assert_eq!(trial.run((0..9).map(|i| packet(i, &[0; 60]))).len(), 2, "2 packets");
        trial.now.monotonic_ns += 200 * MS;
        assert_eq!(trial.run((0..9).map(|_| cut.copy())).len(), 2);
    }

    #[test]
    fn a_packet_larger_than_the_bucket_waits_for_a_full_one_and_is_paid_for() {
        // The bucket holds 1,000 bits; the packet takes 8,000.
        let mut trial = Trial::new(RateLimit::new(None, Some(100_000), Duration::from_millis(10)));
        let mut passed = 0;
        for _ in 0..1000 {
            passed += trial.run([packet(0, &[0; 1000])]).len();
            trial.now.monotonic_ns += MS;
        }
        assert!((12..=13).contains(&passed), "100,000 bits of 1 s hold 12.5 of 8,000: {passed}");
        let mut trial = Trial::new(RateLimit::new(Some(100), None, Duration::ZERO));
        assert_eq!(trial.run((0..5).map(|i| packet(i, &[0; 60]))).len(), 1, "no burst: one");
    }

    #[test]
    fn extreme_rates_and_times_do_no_harm() {
        for burst in [Duration::ZERO, Duration::MAX] {
            for rate in [0, 1, u64::MAX] {
                let mut trial = Trial::new(RateLimit::new(Some(rate), Some(rate), burst));
                for now in [0, u64::MAX, 5, u64::MAX - 1] {
                    trial.now.monotonic_ns = now;
                    trial.run((0..3).map(|i| packet(i, &[0; 60])));
                }
            }
        }
    }

    proptest! {
        // Over every span of time, whatever comes when.
        #[test]
        fn never_more_than_the_burst_and_the_rate_give(
            pps in 1u64..5000,
            bps in 1u64..10_000_000,
            burst_ms in 0u64..200,
            arrivals in proptest::collection::vec((0u64..20_000_000, 1usize..1500), 1..200),
        ) {
            let limit = RateLimit::new(Some(pps), Some(bps), Duration::from_millis(burst_ms));
            let mut trial = Trial::new(limit);
            let mut passed: Vec<(u64, u64)> = Vec::new();
            for (gap_ns, bytes) in arrivals {
                trial.now.monotonic_ns += gap_ns;
                if !trial.run([packet(0, &vec![0; bytes])]).is_empty() {
                    passed.push((trial.now.monotonic_ns, bytes as u64 * 8));
                }
            }
            for first in 0..passed.len() {
                let mut bits = 0;
                for last in first..passed.len() {
                    let ns = u128::from(passed[last].0 - passed[first].0 + burst_ms * MS);
                    bits += passed[last].1;
                    // One packet more than the bucket gives at most.
                    let packets = (last - first) as u128;
                    prop_assert!(packets * 1_000_000_000 <= u128::from(pps) * ns);
                    let before = u128::from(bits - passed[last].1);
                    prop_assert!(before * 1_000_000_000 <= u128::from(bps) * ns);
                }
            }
        }
    }
}
