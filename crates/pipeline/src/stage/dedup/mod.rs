//! Deduplication: a packet that was seen at two places of the network goes on once.
//!
//! Two packets are the same if their fingerprints are, and their own timestamps are no more than
//! the window apart, whichever of them came first: so files and live packets are judged alike, and
//! clocks of two taps may differ, or step back, by less than the window. The window counts from the
//! copy that went on: of packets that repeat for ever, one in each window still does.
//!
//! The payload is compared, so packets with equal headers, such as those of a stream of RTP, are
//! not merged; nor are TCP segments that were sent again, as these have another IP identification,
//! or another TCP timestamp. Where a stack sets neither (IPv6, or an identification of 0, without
//! the timestamp option) a segment sent again is the same to the last bit, and only time tells it
//! from a copy: it comes a retransmission timeout later (200 ms or more in Linux; RFC 6298 says
//! 1 s), or a round trip later if the receiver asked for it. So the window should be no longer than
//! the way between the two places takes.
//!
//! A copy that was cut is compared as it is: it is the same as one that was cut alike, and no
//! other. A stage that cuts belongs behind this one, as what it takes off is not compared.
//!
//! Memory is bounded. Packets twice as old as the window, by their own time and by the host's, are
//! forgotten as others come; when even the rest is too much, the oldest is forgotten early, and
//! counted so ([`Stage::forgotten`]). Its copy, should one come, goes on: no packet is lost by it.

mod fingerprint;
#[cfg(test)]
mod tests;

use super::recent::Recent;
use super::{Stage, Work};
use api::{Action, DedupIgnore, DropReason};
use fingerprint::Fingerprints;
use io::Packet;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Finds packets that have come before, and drops them as `duplicate` or counts them.
pub struct Dedup {
    fingerprints: Fingerprints,
    window_ns: u64,
    action: Action,
    seen: Recent<u128, Seen>,
    duplicates: u64,
    forgotten: u64,
}

/// When a packet that went on was seen: by its own time, and by the host's.
#[derive(Clone, Copy)]
struct Seen {
    ts_ns: u64,
    arrived_ns: u64,
}

impl Dedup {
    /// Compares packets whose timestamps are at most `window` apart.
    pub fn new(window: Duration, ignore: DedupIgnore, action: Action) -> Dedup {
        Dedup::remembering(Dedup::packets_max(window), window, ignore, action)
    }

    /// Packets that are remembered: what comes in the window at 2 million a second, but at least
    /// 2^14 and at most 2^20. Each takes 52 bytes.
    pub fn packets_max(window: Duration) -> usize {
        let packets = window.as_micros().saturating_mul(2).clamp(1 << 14, 1 << 20);
        (packets as usize).next_power_of_two()
    }

    fn remembering(
        packets_max: usize,
        window: Duration,
        ignore: DedupIgnore,
        action: Action,
    ) -> Dedup {
        // The one source of randomness that the standard library has.
        let seed = std::array::from_fn(|index| RandomState::new().hash_one(index));
        Dedup {
            fingerprints: Fingerprints::new(ignore, seed),
            window_ns: u64::try_from(window.as_nanos()).unwrap_or(u64::MAX),
            action,
            seen: Recent::new(packets_max),
            duplicates: 0,
            forgotten: 0,
        }
    }

    /// Whether a packet is one that has come before.
    #[inline]
    fn knows(&mut self, packet: &Packet, arrived_ns: u64) -> bool {
        let seen = Seen { ts_ns: packet.meta.ts_ns, arrived_ns };
        let fingerprint = self.fingerprints.of(packet);
        let hash = fingerprint as u64;
        if let Some(place) = self.seen.find(hash, &fingerprint) {
            let before = *self.seen.value(place);
            if self.in_window(before.ts_ns, seen.ts_ns) {
                return true;
            }
            *self.seen.value(place) = seen;
            self.seen.renew(place);
            return false;
        }
        self.forget_old(seen);
        if let Some(oldest) = self.seen.add(hash, fingerprint, seen)
            && self.in_window(oldest.ts_ns, seen.ts_ns)
        {
            self.forgotten += 1;
        }
        false
    }

    #[inline]
    fn in_window(&self, a_ns: u64, b_ns: u64) -> bool {
        a_ns.abs_diff(b_ns) <= self.window_ns
    }

    // At most two for each that is added, so that no packet has to wait for many. Both clocks must
    // say so: the packets' own may be those of several hosts, and the host's does not know how fast
    // a file is played.
    #[inline]
    fn forget_old(&mut self, now: Seen) {
        let old_ns = self.window_ns.saturating_mul(2);
        for _ in 0..2 {
            let is_old = |seen: &Seen| {
                now.ts_ns.abs_diff(seen.ts_ns) > old_ns
                    && now.arrived_ns.saturating_sub(seen.arrived_ns) > old_ns
            };
            if !self.seen.oldest().is_some_and(is_old) {
                break;
            }
            self.seen.remove_oldest();
        }
    }
}

impl Stage for Dedup {
    fn apply(&mut self, work: &mut Work<'_>) {
        let arrived_ns = work.now.monotonic_ns;
        work.each(|packet, _| {
            if !self.knows(packet, arrived_ns) {
                return Ok(());
            }
            self.duplicates += 1;
            match self.action {
                Action::Drop => Err(DropReason::Duplicate),
                Action::Count => Ok(()),
            }
        });
    }

    fn changes(&self) -> bool {
        false
    }

    fn touched(&self) -> u64 {
        self.duplicates
    }

    fn forgotten(&self) -> u64 {
        self.forgotten
    }
}
