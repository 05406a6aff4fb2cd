//! Stages: steps that change packets, or choose among them.

use super::Name;
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
        /// The key: 32 bytes.
        key: [u8; 32],
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

/// A header of a packet: the outermost one of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Ethernet, with its VLAN tags.
    Ethernet,
    /// IPv4 or IPv6, with extension headers.
    Ip,
    /// TCP, UDP, SCTP or ICMP.
    Transport,
    /// The same of the packet inside of all tunnels.
    InnerIp,
    /// The same of the packet inside of all tunnels.
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
