//! Stages: steps that change packets, or choose among them.

use super::Name;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One step on a packet's way.
#[derive(Debug, Clone, PartialEq)]
pub struct StageConfig {
    /// Its name in the ledger. Where two ways name one stage, each has its own state.
    pub name: Name,
    /// What it does.
    pub kind: StageKind,
}

/// What a stage does.
#[derive(Debug, Clone, PartialEq)]
pub enum StageKind {
    /// Puts a VLAN tag in front of those that are there.
    VlanPush {
        /// The VLAN, 0 to 4095 as on the wire; 0: priority only.
        vid: u16,
        /// Priority, 0 to 7; `None`: that of the outermost tag, else 0.
        pcp: Option<u8>,
        /// Drop eligible; `None`: as that of the outermost tag, else false.
        dei: Option<bool>,
        /// The tag's EtherType; `None`: 802.1ad before another tag, else 802.1Q.
        tpid: Option<Tpid>,
    },
    /// Changes the outermost tag; what is `None` stays. An untagged packet gets a tag if `or_push`.
    VlanReplace {
        /// The VLAN.
        vid: Option<u16>,
        /// Priority.
        pcp: Option<u8>,
        /// Drop eligible.
        dei: Option<bool>,
        /// The tag's EtherType.
        tpid: Option<Tpid>,
        /// Whether an untagged packet gets the tag too.
        or_push: bool,
    },
    /// Takes tags off, from the outermost on.
    VlanPop {
        /// How many.
        tags: Tags,
    },
    /// Keeps the first `bytes`, from the packet's begin or from the end of a header. A packet without
    /// that header is kept whole. The original length stays.
    Slice {
        /// Bytes kept.
        bytes: u32,
        /// The header behind which they are counted.
        after: Option<Anchor>,
    },
    /// Takes bytes off the packet's end, such as a capture's frame check sequence or a time stamp that
    /// a switch put there.
    Trim {
        /// How many.
        bytes: u32,
    },
    /// Takes headers off: whatever of these stands outermost, again and again.
    Strip {
        /// Which.
        layers: Vec<Layer>,
    },
    /// Lets one of `n` packets go on: every nth of all, or all of every nth flow.
    Sample {
        /// At least 1.
        n: u32,
        /// Whether whole flows are chosen, by their hash.
        by_flow: bool,
    },
    /// Lets go on what a token bucket has tokens for. At least one of the rates is set.
    RateLimit {
        /// Packets a second.
        pps: Option<u64>,
        /// Bits a second, of the packets' original lengths.
        bps: Option<u64>,
        /// How much of the rates may come at once.
        burst: Duration,
    },
    /// Finds packets that have come before.
    Dedup {
        /// How long ago a packet may have come to be the same.
        window: Duration,
        /// What may differ.
        ignore: DedupIgnore,
        /// What becomes of one that has come before.
        action: Action,
    },
    /// Overwrites bytes.
    Mask {
        /// The first, counted from the anchor; from the packet's begin without one.
        offset: u32,
        /// How many; `None`: up to the packet's end.
        bytes: Option<u32>,
        /// The header from whose begin the offset is counted.
        from: Option<Anchor>,
        /// What they become.
        value: u8,
    },
    /// Changes IP addresses by a keyed map that keeps prefixes: two addresses that share n bits share
    /// n bits afterwards. Checksums are mended.
    Anonymize {
        /// The key: whoever has it can tell the addresses.
        key: AnonymizeKey,
    },
    /// Lets the first packets of each flow go on, or those that begin within its first bytes. At least
    /// one of the bounds is set.
    First {
        /// Packets of each flow.
        packets: Option<u64>,
        /// Bytes of each flow, of the packets' original lengths.
        bytes: Option<u64>,
        /// A flow that was silent so long begins anew.
        idle: Duration,
    },
}

/// The key of [`StageKind::Anonymize`]: 32 bytes, written as 64 hexadecimal digits. It is never
/// printed.
#[derive(Clone, PartialEq, Eq)]
pub struct AnonymizeKey(pub [u8; 32]);

impl fmt::Debug for AnonymizeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnonymizeKey(…)")
    }
}

impl FromStr for AnonymizeKey {
    type Err = AnonymizeKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(digit) = text.chars().find(|c| !c.is_ascii_hexdigit()) {
            return Err(AnonymizeKeyError::Digit(digit));
        }
        let mut key = [0; 32];
        if text.len() != 2 * key.len() {
            return Err(AnonymizeKeyError::Length(text.len()));
        }
        let digit = |c: u8| (c as char).to_digit(16).unwrap_or(0) as u8;
        for (byte, digits) in key.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
            *byte = digit(digits[0]) << 4 | digit(digits[1]);
        }
        Ok(AnonymizeKey(key))
    }
}

/// Why a text is no [`AnonymizeKey`]. Says nothing of the digits that are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnonymizeKeyError {
    /// A character that is none of 0–9, a–f, A–F.
    #[error("`{0}` is no hexadecimal digit; `openssl rand -hex 32` writes a key")]
    Digit(char),
    /// Another number of digits than 64.
    #[error("{0} digits instead of 64; `openssl rand -hex 32` writes a key")]
    Length(usize),
}

/// The EtherType of a VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tpid {
    /// 0x8100, a customer's tag.
    Dot1Q,
    /// 0x88a8, a provider's tag.
    Dot1Ad,
}

/// How many VLAN tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tags {
    /// So many, or as many as there are.
    Count(u8),
    /// All.
    All,
}

/// A header of a packet: the outermost one of its kind. It has to be there whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Ethernet, with its VLAN tags.
    Ethernet,
    /// IPv4 or IPv6, with options and extension headers.
    Ip,
    /// TCP with its options, UDP, SCTP or ICMP. Only the first fragment of a packet has it.
    Transport,
    /// [`Anchor::Ip`] of the packet inside of all tunnels; of a packet in none, its own.
    InnerIp,
    /// [`Anchor::Transport`] of the packet inside of all tunnels; of a packet in none, its own.
    InnerTransport,
}

/// A header that can be taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// 802.1Q and 802.1ad tags.
    Vlan,
    /// MPLS labels, with the control word of a pseudowire if Ethernet is behind it.
    Mpls,
    /// VXLAN, with UDP, IP and Ethernet before it.
    Vxlan,
    /// GRE and GRETAP, with what is before it.
    Gre,
    /// ERSPAN, with what is before it.
    Erspan,
    /// GENEVE, with what is before it.
    Geneve,
}

/// What may differ between a packet and its duplicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DedupIgnore {
    /// TTL and hop limit, as one was seen before a router and the other behind it.
    pub ttl: bool,
    /// MAC addresses.
    pub mac: bool,
    /// VLAN tags.
    pub vlan: bool,
    /// IP and transport checksums.
    pub checksum: bool,
}

/// What becomes of a duplicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// It is dropped, as `duplicate`.
    #[default]
    Drop,
    /// It is counted and goes on.
    Count,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_64_digits_and_stays_secret() {
        let text = "00ff".repeat(16);
        let key: AnonymizeKey = text.parse().unwrap();
        assert_eq!((key.0[0], key.0[31]), (0, 255));
        assert_eq!(format!("{key:?}"), "AnonymizeKey(…)");
        assert_eq!("00".parse::<AnonymizeKey>(), Err(AnonymizeKeyError::Length(2)));
        assert_eq!("g".repeat(64).parse::<AnonymizeKey>(), Err(AnonymizeKeyError::Digit('g')));
        assert_eq!("é".repeat(32).parse::<AnonymizeKey>(), Err(AnonymizeKeyError::Digit('é')));
    }
}
