//! The keyed map of addresses that keeps prefixes: Crypto-PAn.
//!
//! Source: J. Xu, J. Fan, M. Ammar, S. Moon, "Prefix-Preserving IP Address Anonymization:
//! Measurement-Based Security Evaluation and a New Cryptography-Based Scheme", ICNP 2002, section 3; the
//! [reference implementation](https://www.cc.gatech.edu/computing/Telecomm/projects/cryptopan/) for
//! how bits become a block. IPv6 addresses are mapped in the same way, over 128 bits, as yacryptopan does.
//!
//! ```text
//! key    = AES key, 16 bytes · seed, 16 bytes            pad = AES(seed)
//! bit i of the result = bit i of the address ⊕ first bit of AES(block i)
//! block i = the first i bits of the address · the pad from bit i on
//! ```
//!
//! So bit i depends on the key and on the bits up to i, which is what keeps prefixes, and for one key the
//! map is one-to-one. Addresses that were seen lately are kept in a table of fixed size, as an
//! address costs one AES block a bit.

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Block};
use api::AnonymizeKey;

const V4_KEPT_BITS: u32 = 14;
const V6_KEPT_BITS: u32 = 12;
/// 2^64 divided by the golden ratio: spreads neighbours over a table.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Maps addresses.
pub(super) struct AddressMap {
    cipher: Aes128,
    pad: [u8; 16],
    // An address and what it becomes, at a place that the address tells.
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl AddressMap {
    /// Takes the memory for the addresses that are kept: 256 kB.
    pub(super) fn new(key: &AnonymizeKey) -> AddressMap {
        let (key, seed) = key.0.split_at(16);
        let (key, seed): ([u8; 16], [u8; 16]) =
            (key.try_into().expect("16 of 32"), seed.try_into().expect("16 of 32"));
        let cipher = Aes128::new(&key.into());
        let mut pad = Block::from(seed);
        cipher.encrypt_block(&mut pad);
        let mut map =
            AddressMap { cipher, pad: pad.into(), v4: Box::default(), v6: Box::default() };
        // A place is never empty: it begins with what 0 becomes.
        map.v4 = vec![(0, map.compute_v4(0)); 1 << V4_KEPT_BITS].into();
        map.v6 = vec![(0, map.compute_v6(0)); 1 << V6_KEPT_BITS].into();
        map
    }

    /// What an IPv4 address becomes.
    #[inline]
    pub(super) fn v4(&mut self, address: [u8; 4]) -> [u8; 4] {
        let address = u32::from_be_bytes(address);
        let place = u64::from(address).wrapping_mul(SPREAD) >> (64 - V4_KEPT_BITS);
        let (known, becomes) = self.v4[place as usize];
        if known == address {
            return becomes.to_be_bytes();
        }
        let becomes = self.compute_v4(address);
        self.v4[place as usize] = (address, becomes);
        becomes.to_be_bytes()
    }

    /// What an IPv6 address becomes.
    #[inline]
    pub(super) fn v6(&mut self, address: [u8; 16]) -> [u8; 16] {
        let address = u128::from_be_bytes(address);
        let folded = (address >> 64) as u64 ^ (address as u64).rotate_left(32);
        let place = folded.wrapping_mul(SPREAD) >> (64 - V6_KEPT_BITS);
        let (known, becomes) = self.v6[place as usize];
        if known == address {
            return becomes.to_be_bytes();
        }
        let becomes = self.compute_v6(address);
        self.v6[place as usize] = (address, becomes);
        becomes.to_be_bytes()
    }

    fn compute_v4(&self, address: u32) -> u32 {
        address ^ (self.flips::<32>(u128::from(address) << 96) >> 96) as u32
    }

    fn compute_v6(&self, address: u128) -> u128 {
        address ^ self.flips::<128>(address)
    }

    // Which of the first `BITS` bits change, from the highest one on. The blocks of an address do not wait
    // for each other.
    fn flips<const BITS: usize>(&self, address: u128) -> u128 {
        let pad = u128::from_be_bytes(self.pad);
        let mut blocks: [Block; BITS] = std::array::from_fn(|bit| {
            let rest = u128::MAX.checked_shr(bit as u32).unwrap_or(0);
            ((address & !rest) | (pad & rest)).to_be_bytes().into()
        });
        self.cipher.encrypt_blocks(&mut blocks);
        let flips = blocks.iter().enumerate();
        flips.fold(0, |flips, (bit, block)| flips | u128::from(block[0] >> 7) << (127 - bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn map(key: &[u8; 32]) -> AddressMap {
        AddressMap::new(&AnonymizeKey(*key))
    }

    fn mapped(map: &mut AddressMap, address: &str) -> String {
        match address.parse().unwrap() {
            IpAddr::V4(v4) => Ipv4Addr::from(map.v4(v4.octets())).to_string(),
            IpAddr::V6(v6) => Ipv6Addr::from(map.v6(v6.octets())).to_string(),
        }
    }

    // The key and some lines of the sample trace of the reference implementation.
    #[test]
    fn the_reference_s_sample_trace() {
        let mut map = map(&[
            21, 34, 23, 141, 51, 164, 207, 128, 19, 10, 91, 22, 73, 144, 125, 16, 216, 152, 143,
            131, 121, 121, 101, 39, 98, 87, 76, 45, 42, 132, 34, 2,
        ]);
        for (address, becomes) in [
            ("128.11.68.132", "135.242.180.132"),
            ("129.118.74.4", "134.136.186.123"),
            ("130.132.252.244", "133.68.164.234"),
            ("141.223.7.43", "141.167.8.160"),
            ("141.233.145.108", "141.129.237.235"),
            ("152.163.225.39", "151.140.114.167"),
            ("156.29.3.236", "147.225.12.42"),
            ("165.247.96.84", "162.9.99.234"),
            ("166.107.77.190", "160.132.178.185"),
            ("192.102.249.13", "252.138.62.131"),
        ] {
            assert_eq!(mapped(&mut map, address), becomes, "{address}");
            assert_eq!(mapped(&mut map, address), becomes, "{address}, kept");
        }
    }

    // The examples of yacryptopan and of its test, the ones that other programs test with for IPv6.
    #[test]
    fn yacryptopan_s_examples() {
        let mut by_text = map(b"32-char-str-for-AES-key-and-pad.");
        assert_eq!(mapped(&mut by_text, "192.0.2.1"), "192.0.125.244");
        let v6 = "27fe:8bc7:fee:1e:1e1f:f0fe:f0e1:83fd";
        assert_eq!(mapped(&mut by_text, "2001:db8::1"), v6);
        let mut by_count = map(&std::array::from_fn(|n| n as u8));
        assert_eq!(mapped(&mut by_count, "192.0.2.1"), "2.90.93.17");
        let v6 = "dd92:2c44:3fc0:ff1e:7ff9:c7f0:8180:7e00";
        assert_eq!(mapped(&mut by_count, "2001:db8::1"), v6);
    }

    proptest! {
        #[test]
        fn as_many_bits_are_shared_afterwards(key: [u8; 32], a: u128, bit in 0..128u32, noise: u128) {
            let mut map = map(&key);
            // They share exactly `bit` bits.
            let b = a ^ (1 << (127 - bit)) ^ (noise & (u128::MAX >> bit >> 1));
            let [x, y] = [a, b].map(|address| u128::from_be_bytes(map.v6(address.to_be_bytes())));
            prop_assert_eq!((x ^ y).leading_zeros(), bit);
            let [a, b] = [a, b].map(|address| (address >> 96) as u32);
            let [x, y] = [a, b].map(|address| u32::from_be_bytes(map.v4(address.to_be_bytes())));
            prop_assert_eq!((x ^ y).leading_zeros(), (a ^ b).leading_zeros());
        }
    }

    #[test]
    fn what_is_forgotten_becomes_the_same_again() {
        let mut map = map(&[7; 32]);
        let places = 3 << V4_KEPT_BITS;
        let first: Vec<_> = (0..places as u32).map(|n| map.v4(n.to_be_bytes())).collect();
        for n in (0..places as u32).step_by(97) {
            assert_eq!(map.v4(n.to_be_bytes()), first[n as usize]);
            assert_eq!(map.v4(n.to_be_bytes()), map.compute_v4(n).to_be_bytes());
        }
    }
}
