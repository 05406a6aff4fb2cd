//! The ceiling of a tap in numbers: what a packet costs, and how much there is.

/// Bytes of an entry of [`MirrorMap::Buckets`](super::layout::MirrorMap::Buckets).
pub const BUCKET_BYTES: usize = 32;
/// Bytes that a packet counts with at most: more than a super-packet and its segments' headers have.
pub const BYTES_MAX: u64 = 1 << 20;
/// Bits behind the point of [`Bucket::cost`].
pub const COST_SHIFT: u32 = 20;
/// The lowest rate of a target, bits per second: what [`BYTES_MAX`] cost there fits 64 bits.
const RATE_MIN: u64 = 1000;

/// Offsets in an entry of [`MirrorMap::Buckets`](super::layout::MirrorMap::Buckets).
pub mod place {
    /// When what has passed will have been paid for, `CLOCK_MONOTONIC` ns.
    pub const FULL_AT: usize = 0;
    /// [`Bucket::cost`](super::Bucket::cost), 8 bytes.
    pub const COST: usize = 8;
    /// [`Bucket::burst_ns`](super::Bucket::burst_ns), 8 bytes.
    pub const BURST_NS: usize = 16;
    /// [`Leaving::snaplen`](super::Leaving::snaplen), 4 bytes.
    pub const SNAPLEN: usize = 24;
    /// [`Leaving::headers`](super::Leaving::headers), 4 bytes.
    pub const HEADERS: usize = 28;
}

/// What of a tap's packets leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaving {
    /// By how many targets, each of which gets every packet.
    pub targets: u32,
    /// Bytes that a target puts in front of each packet, on average.
    pub headers: u32,
    /// Bytes kept of each packet; 0: all.
    pub snaplen: u32,
}

impl Leaving {
    /// Packets as they are, once.
    pub const AS_IT_IS: Leaving = Leaving { targets: 1, headers: 0, snaplen: 0 };
}

/// The ceiling of a tap: a token bucket that all CPUs share, kept as the time at which what has passed
/// will have been paid for (the generic cell rate algorithm, ITU-T I.371). Packets pass if that time is at
/// most `burst_ns` ahead of now (`CLOCK_MONOTONIC`), and pay what leaves of them: [`Self::price_ns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// ns that a byte costs which leaves by every target, times 2^20; 0: no ceiling.
    pub cost: u64,
    /// How far ahead.
    pub burst_ns: u64,
    /// As in [`Leaving`].
    pub snaplen: u32,
    /// As in [`Leaving`].
    pub headers: u32,
}

impl Bucket {
    /// No ceiling.
    pub const UNLIMITED: Bucket = Bucket { cost: 0, burst_ns: 0, snaplen: 0, headers: 0 };

    /// A ceiling in bits per second, 1000 for each target at least.
    pub fn new(bits_per_second: u64, burst_ns: u64, leaving: Leaving) -> Bucket {
        let Leaving { targets, headers, snaplen } = leaving;
        let byte = 8_000_000_000u128 << COST_SHIFT;
        let cost = byte * u128::from(targets) / u128::from(bits_per_second.max(1));
        let cost = cost.clamp(1, byte / u128::from(RATE_MIN));
        let cost = u64::try_from(cost).expect("8 Gbit << 20 by 1000 is below 2^44");
        Bucket { cost, burst_ns, snaplen, headers }
    }

    /// What wire packets cost that come as one and have so many bytes together, ns.
    pub fn price_ns(&self, packets: u32, bytes: u32) -> u64 {
        let (packets, mut leaves) = (u64::from(packets), u64::from(bytes));
        if self.snaplen > 0 {
            leaves = leaves.min(packets * u64::from(self.snaplen));
        }
        leaves += packets * u64::from(self.headers);
        (leaves.min(BYTES_MAX) * self.cost) >> COST_SHIFT
    }

    /// The entry's bytes; the bucket is full of tokens.
    pub fn bytes(&self) -> [u8; BUCKET_BYTES] {
        let mut out = [0; BUCKET_BYTES];
        out[place::COST..][..8].copy_from_slice(&self.cost.to_ne_bytes());
        out[place::BURST_NS..][..8].copy_from_slice(&self.burst_ns.to_ne_bytes());
        out[place::SNAPLEN..][..4].copy_from_slice(&self.snaplen.to_ne_bytes());
        out[place::HEADERS..][..4].copy_from_slice(&self.headers.to_ne_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_costs_what_leaves_of_it() {
        let bucket = Bucket::new(1_000_000_000, 5, Leaving::AS_IT_IS);
        assert_eq!(bucket.price_ns(1, 1500), 12_000);
        assert_eq!(bucket.bytes()[place::BURST_NS], 5);
        // Two targets, of each 128 bytes behind 50 of headers.
        let leaving = Leaving { targets: 2, headers: 50, snaplen: 128 };
        let bucket = Bucket::new(1_000_000_000, 5, leaving);
        assert_eq!(bucket.price_ns(1, 1500), 2 * 178 * 8);
        assert_eq!(bucket.price_ns(1, 60), 2 * 110 * 8);
        assert_eq!(bucket.price_ns(10, 15_000), 10 * bucket.price_ns(1, 1500));
        assert_eq!(bucket.bytes()[place::SNAPLEN..], [128, 0, 0, 0, 50, 0, 0, 0]);
    }

    #[test]
    fn the_most_that_a_packet_costs_fits() {
        let leaving = Leaving { targets: 1000, headers: u32::MAX, snaplen: u32::MAX };
        for bits in [0, 1, 1_000_000] {
            let bucket = Bucket::new(bits, 5, leaving);
            assert_eq!(bucket.price_ns(u32::MAX, u32::MAX), 8_000_000 << 20);
        }
        assert!(Bucket::new(u64::MAX, 5, Leaving::AS_IT_IS).cost > 0, "it is no `no ceiling`");
    }
}
