//! A map of the kernel's from address prefixes to bits: the longest prefix of an address decides.
//!
//! Source: Linux `kernel/bpf/lpm_trie.c`. A key is `{ length u32, host order | address }`.

use super::{NAME, NEEDS_RIGHT, sys};
use crate::error::Error;
use filter::ebpf::IpVersion;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Prefixes that it holds at most.
pub const PREFIXES_MAX: usize = 4096;
const LENGTH_BYTES: usize = 4;
const KEY_BYTES_MAX: usize = LENGTH_BYTES + 16;

/// The addresses that share so many first bits with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// One of them.
    pub address: IpAddr,
    /// How many bits.
    pub len: u8,
}

impl Prefix {
    /// One address alone.
    pub fn of(address: IpAddr) -> Prefix {
        Prefix { address, len: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether an address is among them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let first = |bits: u32, value: u128| match u32::from(self.len) {
            0 => 0,
            len => value >> bits.saturating_sub(len),
        };
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                first(32, own.to_bits().into()) == first(32, other.to_bits().into())
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                first(128, own.to_bits()) == first(128, other.to_bits())
            }
            _ => false,
        }
    }
}

/// The map, of one version of IP, and what is in it.
#[derive(Debug)]
pub struct PrefixMap {
    map: OwnedFd,
    version: IpVersion,
    entries: BTreeMap<Prefix, u64>,
}

impl PrefixMap {
    /// Makes an empty map.
    ///
    /// # Errors
    /// [`Error::System`] where the right is missing.
    pub fn new(version: IpVersion) -> Result<PrefixMap, Error> {
        let key_bytes = LENGTH_BYTES + version.address_len();
        let map = sys::create_prefix_map(NAME, key_bytes as u32, PREFIXES_MAX as u32);
        let map = map.map_err(|source| Error::System {
            what: format!("make an eBPF map of {PREFIXES_MAX} prefixes"),
            mend: match source.raw_os_error() {
                Some(libc::EPERM) => NEEDS_RIGHT,
                _ => "",
            },
            source,
        })?;
        Ok(PrefixMap { map, version, entries: BTreeMap::new() })
    }

    /// Brings the map to these entries: new ones come first, so that what stays is never missing.
    /// Entries of the other version are passed over.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses one; the others are there.
    pub fn set(&mut self, wanted: &BTreeMap<Prefix, u64>) -> Result<(), Error> {
        let is_own = |prefix: &Prefix| prefix.address.is_ipv4() == (self.version == IpVersion::V4);
        let mut refused = None;
        for (prefix, bits) in wanted.iter().filter(|(prefix, _)| is_own(prefix)) {
            if self.entries.get(prefix) == Some(bits) {
                continue;
            }
            match sys::put_bits(self.map.as_fd(), &key(prefix), *bits) {
                Ok(()) => {
                    self.entries.insert(*prefix, *bits);
                }
                Err(error) => refused = Some((*prefix, error)),
            }
        }
        let map = self.map.as_fd();
        self.entries.retain(|prefix, _| {
            wanted.contains_key(prefix) || sys::remove(map, &key(prefix)).is_err()
        });
        match refused {
            None => Ok(()),
            Some((Prefix { address, len }, error)) => {
                Err(Error::system(format!("note {address}/{len} in an eBPF map"), error))
            }
        }
    }

    /// The map itself, for a program that reads it.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

/// A key as the kernel has it; a shorter one takes the first bytes.
fn key(prefix: &Prefix) -> [u8; KEY_BYTES_MAX] {
    let mut key = [0; KEY_BYTES_MAX];
    key[..LENGTH_BYTES].copy_from_slice(&u32::from(prefix.len).to_ne_bytes());
    match prefix.address {
        IpAddr::V4(address) => key[LENGTH_BYTES..][..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => key[LENGTH_BYTES..].copy_from_slice(&address.octets()),
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(address: &str, len: u8) -> Prefix {
        Prefix { address: address.parse().unwrap(), len }
    }

    #[test]
    fn a_prefix_contains_what_begins_alike() {
        let cases = [
            ("127.0.0.0", 8, "127.9.9.9", true),
            ("127.0.0.0", 8, "128.0.0.1", false),
            ("10.0.0.1", 32, "10.0.0.1", true),
            ("10.0.0.1", 32, "10.0.0.0", false),
            ("0.0.0.0", 0, "10.0.0.0", true),
            ("0.0.0.0", 0, "::1", false),
            ("::", 0, "fd00::1", true),
            ("fd00::", 64, "fd00::1", true),
            ("fd00::", 64, "fd00:0:0:1::1", false),
            ("::1", 128, "::1", true),
        ];
        for (own, len, other, is_in) in cases {
            let contains = prefix(own, len).contains(other.parse().unwrap());
            assert_eq!(contains, is_in, "{own}/{len} {other}");
        }
    }

    #[test]
    fn keys_are_the_kernels() {
        let v4 = key(&prefix("10.0.0.1", 32));
        assert_eq!(v4[..8], [32u32.to_ne_bytes(), [10, 0, 0, 1]].concat());
        assert_eq!(key(&prefix("fd00::1", 128))[4..6], [0xfd, 0]);
    }

    #[test]
    fn the_map_follows_what_is_wanted() {
        if !rig::root_or_skip() {
            return;
        }
        let mut map = PrefixMap::new(IpVersion::V4).unwrap();
        let wanted = |entries: &[(&str, u8, u64)]| {
            entries.iter().map(|&(a, len, bits)| (prefix(a, len), bits)).collect()
        };
        let first: BTreeMap<Prefix, u64> =
            wanted(&[("127.0.0.0", 8, 1), ("10.0.0.1", 32, 3), ("::1", 128, 1)]);
        map.set(&first).unwrap();
        assert_eq!(map.entries.len(), 2);
        let second = wanted(&[("10.0.0.1", 32, 1), ("10.0.0.2", 32, 1)]);
        map.set(&second).unwrap();
        assert_eq!(map.entries, second);
        // Full: what has room is there.
        let many: BTreeMap<Prefix, u64> = (0..PREFIXES_MAX as u32 + 10)
            .map(|n| (Prefix::of(IpAddr::V4((0x0a00_0000 + n).into())), 1))
            .collect();
        let error = map.set(&many).unwrap_err().to_string();
        assert!(error.contains("/32 in an eBPF map"), "{error}");
        assert!(map.entries.len() > PREFIXES_MAX - 3, "{}", map.entries.len());
    }
}
