//! What a program puts in front of a packet that it hands up to user space.
//!
//! The packet goes, with this prefix, into a record of an eBPF ring, or through a private interface to an
//! AF_PACKET ring. The prefix
//! looks like an Ethernet header of a local experimental EtherType (IEEE 802), so that nothing on the
//! way takes the packet for anything else, or its tag for the frame's. A packet without it, because it
//! had no room for more bytes, is whole, and its direction unknown.
//!
//! ```text
//! offset 0      2    3     4        8        12        14         16       24       28    32
//!        ┌──────┬────┬─────┬────────┬────────┬─────────┬──────────┬────────┬────────┬─────┬──────
//!        │ slot │ 0  │ way │ origlen│ number │ 0x88b5  │ 0        │ time   │ hash   │ 0   │ frame
//!        └──────┴────┴─────┴────────┴────────┴─────────┴──────────┴────────┴────────┴─────┴──────
//!         2      1    1     4        4        2         2          8        4        4
//! ```
//!
//! Numbers are in the host's order, but for the EtherType. *slot*: which target it is for. *way*: 0
//! unknown, 1 received, 2 sent. *origlen*: bytes on the wire. *number*: what the program likes to tell
//! beside. *time*: ns since 1970 in UTC. *hash*: of the flow; 0 where the program does not know it.

use std::ops::Range;
use wire::Direction;

/// Bytes of the prefix.
pub const PREFIX_LEN: usize = 32;

/// The EtherType of a prefix, local experimental 1.
pub const ETHERTYPE: u16 = 0x88b5;

/// What is 0 in a prefix: a frame that has the EtherType for itself, and no prefix, is not taken for one.
const ZEROS: [Range<usize>; 3] = [2..3, 14..16, 28..32];

/// Offsets of the fields.
pub mod field {
    #![expect(missing_docs, reason = "drawn above")]
    pub const SLOT: usize = 0;
    pub const WAY: usize = 3;
    pub const ORIGLEN: usize = 4;
    pub const NUMBER: usize = 8;
    pub const ETHERTYPE: usize = 12;
    pub const TIME: usize = 16;
    pub const HASH: usize = 24;
}

/// What a prefix says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Which target, or rule and view, the packet is for.
    pub slot: u16,
    /// Which way it passed the interface.
    pub direction: Direction,
    /// Bytes on the wire.
    pub origlen: u32,
    /// What the program tells beside.
    pub number: u32,
    /// When it passed, ns since 1970 in UTC.
    pub ts_ns: u64,
    /// The hash of its flow.
    pub flow_hash: u32,
}

impl Prefix {
    /// Reads the prefix of a frame; `None` if it has none.
    pub fn parse(frame: &[u8]) -> Option<Prefix> {
        let prefix: &[u8; PREFIX_LEN] = frame.first_chunk()?;
        let word = |at: usize| Some(u32::from_ne_bytes(*prefix.get(at..)?.first_chunk()?));
        let is_ours = prefix[field::ETHERTYPE..][..2] == ETHERTYPE.to_be_bytes()
            && ZEROS.iter().all(|zeros| prefix[zeros.clone()].iter().all(|byte| *byte == 0));
        if !is_ours {
            return None;
        }
        Some(Prefix {
            slot: u16::from_ne_bytes([prefix[field::SLOT], prefix[field::SLOT + 1]]),
            direction: match prefix[field::WAY] {
                1 => Direction::In,
                2 => Direction::Out,
                _ => Direction::Unknown,
            },
            origlen: word(field::ORIGLEN)?,
            number: word(field::NUMBER)?,
            ts_ns: u64::from_ne_bytes(*prefix.get(field::TIME..)?.first_chunk()?),
            flow_hash: word(field::HASH)?,
        })
    }

    /// Writes the prefix, as programs do.
    pub fn emit(&self) -> [u8; PREFIX_LEN] {
        let mut out = [0; PREFIX_LEN];
        out[field::SLOT..][..2].copy_from_slice(&self.slot.to_ne_bytes());
        out[field::WAY] = match self.direction {
            Direction::Unknown => 0,
            Direction::In => 1,
            Direction::Out => 2,
        };
        out[field::ORIGLEN..][..4].copy_from_slice(&self.origlen.to_ne_bytes());
        out[field::NUMBER..][..4].copy_from_slice(&self.number.to_ne_bytes());
        out[field::ETHERTYPE..][..2].copy_from_slice(&ETHERTYPE.to_be_bytes());
        out[field::TIME..][..8].copy_from_slice(&self.ts_ns.to_ne_bytes());
        out[field::HASH..][..4].copy_from_slice(&self.flow_hash.to_ne_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_comes_back_and_nothing_else_is_one() {
        let prefix = Prefix {
            slot: 0x1234,
            direction: Direction::Out,
            origlen: 9014,
            number: 7,
            ts_ns: 0x1122_3344_5566_7788,
            flow_hash: 0xdead_beef,
        };
        let bytes = prefix.emit();
        assert_eq!(Prefix::parse(&bytes), Some(prefix));
        assert!((0..PREFIX_LEN).all(|len| Prefix::parse(&bytes[..len]).is_none()));
        assert_eq!(Prefix::parse(&[0x45; 64]), None);
        let mut other = bytes;
        other[30] = 1;
        assert_eq!(Prefix::parse(&other), None);
    }
}
