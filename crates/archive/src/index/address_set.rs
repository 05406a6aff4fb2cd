//! Which addresses a segment holds, in so few bytes that a manifest can tell.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::Ipv6Addr;

/// Most bytes of a set.
pub const ADDRESS_SET_LEN_MAX: usize = 4096;

const LEN_MIN: usize = 8;
const HASHES: u32 = 4;
const BITS_MAX: u32 = ADDRESS_SET_LEN_MAX as u32 * 8;

/// A Bloom filter of addresses, IPv4 as mapped.
///
/// ```text
/// h    64 bits, wrapping: 0x7461706c696e6531; for the upper and for the lower half w of the address,
///      big endian: h = (h ^ w) * 0x9e3779b97f4a7c15, h = h ^ (h >> 32); then
///      h = h * 0xbf58476d1ce4e5b9, h = h ^ (h >> 32)
/// bits 4: the 16-bit quarters of h, modulo the number of bits; bit n is bit n % 8 of byte n / 8
/// ```
/// The length is a power of two from 8 to 4,096 bytes: the least at which at most half of the bits are
/// set. Where even the longest has more than three quarters set, the set holds every address, and has
/// no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressSet {
    /// Empty: every address.
    bits: Vec<u8>,
}

impl Default for AddressSet {
    fn default() -> AddressSet {
        AddressSet { bits: vec![0; ADDRESS_SET_LEN_MAX] }
    }
}

impl AddressSet {
    /// The set of every address.
    pub const fn all() -> AddressSet {
        AddressSet { bits: Vec::new() }
    }

    /// Adds an address.
    pub fn insert(&mut self, address: Ipv6Addr) {
        let len = self.bits.len() as u32 * 8;
        if len > 0 {
            for bit in bits(address) {
                self.bits[(bit % len / 8) as usize] |= 1 << (bit % 8);
            }
        }
    }

    /// Whether an address may be in the set. If it is, the answer is always true.
    pub fn may_hold(&self, address: &Ipv6Addr) -> bool {
        let len = self.bits.len() as u32 * 8;
        len == 0
            || bits(*address).all(|bit| self.bits[(bit % len / 8) as usize] & 1 << (bit % 8) != 0)
    }

    /// In base64, as short as it can be.
    pub fn encode(&self) -> String {
        let ones = |bits: &[u8]| bits.iter().map(|byte| byte.count_ones()).sum::<u32>();
        let mut folded = self.bits.clone();
        if ones(&folded) > BITS_MAX / 4 * 3 {
            return String::new();
        }
        while folded.len() > LEN_MIN {
            let (low, high) = folded.split_at(folded.len() / 2);
            let half: Vec<u8> = low.iter().zip(high).map(|(low, high)| low | high).collect();
            if ones(&half) > half.len() as u32 * 4 {
                break;
            }
            folded = half;
        }
        STANDARD.encode(folded)
    }

    /// Reads what [`Self::encode`] wrote. What is no set is one of every address: nothing must be
    /// passed over because of it.
    pub fn decode(text: &str) -> AddressSet {
        let bits = STANDARD.decode(text).unwrap_or_default();
        let is_one =
            bits.len().is_power_of_two() && (LEN_MIN..=ADDRESS_SET_LEN_MAX).contains(&bits.len());
        if is_one { AddressSet { bits } } else { AddressSet::all() }
    }
}

fn bits(address: Ipv6Addr) -> impl Iterator<Item = u32> {
    let address = u128::from(address);
    let mut h = u64::from_be_bytes(*b"tapline1");
    for word in [(address >> 64) as u64, address as u64] {
        h = (h ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h ^= h >> 32;
    }
    h = h.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h ^= h >> 32;
    (0..HASHES).map(move |n| (h >> (16 * n)) as u32 & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> Ipv6Addr {
        std::net::Ipv4Addr::from(n.wrapping_mul(2_654_435_761)).to_ipv6_mapped()
    }

    fn set(n: u32) -> AddressSet {
        let mut set = AddressSet::default();
        (0..n).for_each(|n| set.insert(address(n)));
        AddressSet::decode(&set.encode())
    }

    #[test]
    fn all_that_went_in_is_in_and_few_others() {
        for (n, bytes) in [(0, 8..=8), (1, 8..=8), (100, 64..=128), (3000, 2048..=4096)] {
            let set = set(n);
            assert!(bytes.contains(&set.bits.len()), "{n}: {}", set.bits.len());
            assert!((0..n).all(|n| set.may_hold(&address(n))), "{n}");
            let wrong = (100_000..200_000).filter(|&n| set.may_hold(&address(n))).count();
            assert!(wrong < 8_000, "{n}: {wrong} of 100000");
        }
        assert!(!set(1).may_hold(&address(2)));
    }

    #[test]
    fn a_flood_is_every_address() {
        let set = set(1_000_000);
        assert_eq!(set, AddressSet::all());
        assert!(set.may_hold(&address(7)) && set.encode().is_empty());
        for text in ["", "?", "AAAA"] {
            assert_eq!(AddressSet::decode(text), AddressSet::all());
        }
    }
}
