//! Internet checksum: the 16-bit ones' complement sum of IPv4, TCP, UDP and ICMP.
//!
//! Source: [RFC 1071](https://www.rfc-editor.org/rfc/rfc1071) for the sum and its tricks,
//! [RFC 1624](https://www.rfc-editor.org/rfc/rfc1624) equation 3 for updating one in place,
//! RFC 9293 section 3.1 and RFC 8200 section 8.1 for the pseudo-headers.
//!
//! ```text
//! IPv4: source 4 · destination 4 · zero 1 · protocol 1 · length 2
//! IPv6: source 16 · destination 16 · length 4 · zero 3 · next header 1
//! ```
//!
//! The ones' complement sum does not care in which byte order it is taken, so the bulk is read as
//! 32-bit words of the host's order into 64-bit lanes, where no carry is lost below 2^32 words,
//! and swapped once at the end.

/// A running ones' complement sum. Slices of any length may follow each other.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    // 16-bit big-endian words, carries not yet folded.
    words: u64,
    // An odd number of bytes went in: the next byte is the low half of a word.
    odd: bool,
}

impl Sum {
    /// An empty sum.
    pub const fn new() -> Sum {
        Sum { words: 0, odd: false }
    }

    /// The sum of an IPv4 pseudo-header; `len` is that of transport header and payload.
    #[inline]
    pub fn pseudo_v4(src: [u8; 4], dst: [u8; 4], protocol: u8, len: u32) -> Sum {
        let (src, dst) = (u32::from_be_bytes(src), u32::from_be_bytes(dst));
        let words = halves(src) + halves(dst) + u64::from(protocol) + halves(len);
        Sum { words, odd: false }
    }

    /// The sum of an IPv6 pseudo-header; `dst` is the final destination.
    #[inline]
    pub fn pseudo_v6(src: [u8; 16], dst: [u8; 16], next_header: u8, len: u32) -> Sum {
        let mut sum = Sum { words: u64::from(next_header) + halves(len), odd: false };
        sum.add_bytes(&src);
        sum.add_bytes(&dst);
        sum
    }

    /// Adds bytes, as if they stood directly behind those added before.
    #[inline]
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        let part = sum_of(bytes);
        // RFC 1071 (2)(B): a sum taken one byte out of step is the swapped sum.
        self.words += u64::from(if self.odd { part.swap_bytes() } else { part });
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// Adds a 16-bit word; only where an even number of bytes went before.
    #[inline]
    pub fn add_u16(&mut self, word: u16) {
        debug_assert!(!self.odd, "a word cannot start inside a word");
        self.words += u64::from(word);
    }

    /// Adds another sum that began at an even offset of the same data.
    #[inline]
    pub fn add_sum(&mut self, other: Sum) {
        self.words += u64::from(other.fold());
    }

    /// The sum in 16 bits, not complemented: what a NIC expects in the checksum field.
    #[inline]
    pub fn fold(self) -> u16 {
        fold(self.words)
    }

    /// The checksum: the complement of [`Self::fold`]. Zero stays zero, as TCP has it.
    #[inline]
    pub fn finish(self) -> u16 {
        !self.fold()
    }

    /// The checksum with 0 written `ffff`, as UDP has it, where 0 means "not computed".
    #[inline]
    pub fn finish_nonzero(self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            n => n,
        }
    }
}

/// The checksum of some bytes by themselves, such as an IPv4 header with its field zeroed.
#[inline]
pub fn of(bytes: &[u8]) -> u16 {
    !sum_of(bytes)
}

/// The checksum after one aligned 16-bit word under it changed (RFC 1624 equation 3).
#[inline]
pub fn update_u16(check: u16, old: u16, new: u16) -> u16 {
    !fold(u64::from(!check) + u64::from(!old) + u64::from(new))
}

/// The checksum after an aligned 32-bit word under it changed, such as an IPv4 address.
#[inline]
pub fn update_u32(check: u16, old: u32, new: u32) -> u16 {
    !fold(u64::from(!check) + halves(!old) + halves(new))
}

/// What a sum changes by when bytes under it do: a ones' complement number of 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change(u16);

impl Change {
    /// No change.
    pub const NONE: Change = Change(0);

    /// From some bytes to others of the same length, which stand at offset `at`.
    #[inline]
    pub fn between(old: &[u8], new: &[u8], at: usize) -> Change {
        debug_assert_eq!(old.len(), new.len(), "bytes take the place of as many");
        let sum = u64::from(!sum_of(old)) + u64::from(sum_of(new));
        Change(fold(sum)).moved(at)
    }

    /// Both changes.
    #[inline]
    pub fn and(self, other: Change) -> Change {
        Change(fold(u64::from(self.0) + u64::from(other.0)))
    }

    /// The same change where the begin of the data stands at offset `at` of other data.
    #[inline]
    pub const fn moved(self, at: usize) -> Change {
        Change(if at % 2 == 1 { self.0.swap_bytes() } else { self.0 })
    }

    /// The checksum after the change (RFC 1624 equation 3). One that was wrong is wrong by as much
    /// as before.
    #[inline]
    pub fn mend(self, check: u16) -> u16 {
        !fold(u64::from(!check) + u64::from(self.0))
    }
}

#[inline]
const fn halves(n: u32) -> u64 {
    (n >> 16) as u64 + (n & 0xffff) as u64
}

#[inline]
const fn fold(mut n: u64) -> u16 {
    n = (n >> 32) + (n & 0xffff_ffff);
    n = (n >> 32) + (n & 0xffff_ffff);
    n = (n >> 16) + (n & 0xffff);
    n = (n >> 16) + (n & 0xffff);
    n as u16
}

// The folded sum of `bytes` as big-endian words, a last odd byte padded with zero.
#[inline]
fn sum_of(bytes: &[u8]) -> u16 {
    const LANES: usize = 8;
    let (blocks, rest) = bytes.as_chunks::<{ LANES * 4 }>();
    let mut sum: u64 = 0;
    if !blocks.is_empty() {
        let mut lanes = [0u64; LANES];
        for block in blocks {
            for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<4>().0) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        for lane in lanes {
            sum += (lane >> 32) + (lane & 0xffff_ffff);
        }
    }
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from; // a copy of unknown length would be a call
        }
        sum += u64::from(u32::from_ne_bytes(last));
    }
    u16::from_be(fold(sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::checksum::Sum16BitWords;
    use proptest::prelude::*;

    // The worked example of RFC 1071 section 3: sum ddf2.
    #[test]
    fn rfc_1071_example() {
        let mut sum = Sum::new();
        sum.add_bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!((sum.fold(), sum.finish()), (0xddf2, 0x220d));
    }

    // The example of RFC 1624 section 4: the case where the older equation gives ffff.
    #[test]
    fn rfc_1624_example() {
        assert_eq!(update_u16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn zero_has_two_faces() {
        let mut sum = Sum::new();
        sum.add_u16(0xffff);
        assert_eq!((sum.finish(), sum.finish_nonzero()), (0, 0xffff));
        assert_eq!(of(&[]), 0xffff);
    }

    proptest! {
        #[test]
        fn agrees_with_etherparse(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let judge = Sum16BitWords::new().add_slice(&bytes).ones_complement();
            prop_assert_eq!(of(&bytes), u16::from_be(judge));
        }

        #[test]
        fn any_cut_gives_the_same_sum(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), a in 0..200usize, b in 0..200usize
        ) {
            let (a, b) = (a.min(b).min(bytes.len()), a.max(b).min(bytes.len()));
            let mut sum = Sum::new();
            for part in [&bytes[..a], &bytes[a..b], &bytes[b..]] {
                sum.add_bytes(part);
            }
            prop_assert_eq!(sum.finish(), of(&bytes));
        }

        #[test]
        fn pseudo_headers_are_their_bytes(
            src in any::<[u8; 16]>(), dst in any::<[u8; 16]>(), protocol: u8, len in 0..=0xffffu32
        ) {
            let v6 = [&src[..], &dst[..], &len.to_be_bytes(), &[0, 0, 0, protocol]].concat();
            prop_assert_eq!(Sum::pseudo_v6(src, dst, protocol, len).finish(), of(&v6));
            let (src, dst) = ([1, 2, 3, src[0]], [10, 0, 0, dst[0]]);
            let v4 = [&src[..], &dst[..], &[0, protocol], &(len as u16).to_be_bytes()].concat();
            prop_assert_eq!(Sum::pseudo_v4(src, dst, protocol, len).finish(), of(&v4));
        }

        #[test]
        fn a_change_mends_as_recomputing_does(
            mut bytes in any::<[u8; 40]>(), new in proptest::collection::vec(any::<u8>(), 1..16),
            at in 1..24usize
        ) {
            bytes[0] = 0x45;
            let (old, range) = (of(&bytes), at..at + new.len());
            let change = Change::between(&bytes[range.clone()], &new, at);
            bytes[range].copy_from_slice(&new);
            prop_assert_eq!(change.mend(old), of(&bytes));
            prop_assert_eq!(change.and(Change::NONE).mend(old), of(&bytes));
            let shifted = [&[0x45][..], &bytes].concat();
            prop_assert_eq!(change.moved(1).moved(1).mend(old), of(&shifted[1..]));
        }

        // A header that is not all zero has one checksum, so updating must give that one.
        #[test]
        fn update_equals_recompute(mut bytes in any::<[u8; 20]>(), new16: u16, new32: u32) {
            bytes[0] = 0x45;
            let old = of(&bytes);
            let old16 = u16::from_be_bytes([bytes[8], bytes[9]]);
            bytes[8..10].copy_from_slice(&new16.to_be_bytes());
            prop_assert_eq!(update_u16(old, old16, new16), of(&bytes));
            let old = of(&bytes);
            let old32 = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
            bytes[12..16].copy_from_slice(&new32.to_be_bytes());
            prop_assert_eq!(update_u32(old, old32, new32), of(&bytes));
        }
    }
}
