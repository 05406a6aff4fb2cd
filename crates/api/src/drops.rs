//! Why a packet went no further: a closed list, and an array of counters that it indexes.

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::BTreeMap;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet went no further. Closed: a new reason is a variant with a line of
        /// documentation, a row in `docs/drop-reasons.md` and a test.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// Every reason, in the order of its counter.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)+];

            /// The name in JSON, metrics and documentation.
            pub const fn name(self) -> &'static str {
                match self {
                    $(DropReason::$variant => $name,)+
                }
            }
        }
    };
}

drop_reasons! {
    /// The AF_PACKET ring was full when the frame came (`PACKET_STATISTICS`).
    KernelRing = "kernel_ring",
    /// The receiving socket's buffer was full (`SO_MEMINFO`).
    KernelSocket = "kernel_socket",
    /// It was lost in the kernel between the interface and the tunnel's headers, such as for want of
    /// memory for a copy; only where programs of the kernel copy it.
    KernelQueue = "kernel_queue",
    /// The frame came through an interface of a hardware type that is not read yet.
    HardwareType = "hardware_type",
    /// The packet was one that this tap itself had sent through the tapped interface.
    OwnTunnel = "own_tunnel",
    /// The tunnel packet was shorter than its own headers.
    TooShort = "too_short",
    /// The tunnel header contradicts itself or its RFC, so that what follows has no meaning.
    Malformed = "malformed",
    /// The tunnel packet came in fragments that could not be put together.
    Reassembly = "reassembly",
    /// The packet's tunnel id was not the one asked for.
    ForeignId = "foreign_id",
    /// No memory was left for the packet in a bounded pool.
    PoolExhausted = "pool_exhausted",
    /// A deduplicating stage had seen the packet before.
    Duplicate = "duplicate",
    /// A sampling stage chose other packets.
    Sampled = "sampled",
    /// A rate limit had no token left for the packet.
    RateLimited = "rate_limited",
    /// The packet came behind the first ones of its flow, which alone were wanted.
    FlowLimit = "flow_limit",
    /// No member of the target's group was healthy, and the group is not to fail open.
    Unhealthy = "unhealthy",
    /// The target's bounded queue was full.
    QueueFull = "queue_full",
    /// The packet does not begin with what the tunnel or the file carries (an Ethernet header).
    LinkType = "link_type",
    /// The encapsulated packet is larger than the path takes, and the policy says drop.
    Oversize = "oversize",
    /// The network device's own queue was full (`ENOBUFS`).
    DeviceQueue = "device_queue",
    /// No route, no neighbour or no link to the target.
    Unreachable = "unreachable",
    /// The kernel refused the packet for another reason.
    SendError = "send_error",
    /// The forwarding table had no room for another session.
    SessionTable = "session_table",
    /// No port was left at the address that the next host sees.
    NoPort = "no_port",
    /// The packet belongs to no session of the forwarding table.
    NoSession = "no_session",
    /// The packet's time to live or hop limit ended here.
    TtlExceeded = "ttl_exceeded",
    /// A fragment whose first one, which has the ports, did not come before it.
    Fragment = "fragment",
    /// More sources (tunnel id and sender) came than the recorder keeps apart.
    TooManySources = "too_many_sources",
    /// The file system had no room for the packet.
    DiskFull = "disk_full",
    /// The spool was full of segments that the archive's store had not taken.
    SpoolFull = "spool_full",
    /// The file could not be written for another reason.
    WriteError = "write_error",
    /// The packet was still in a ring or a queue when the tap stopped.
    Stopped = "stopped",
    /// A fault injector took the packet (tests only).
    Injected = "injected",
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One counter per [`DropReason`]. Unit: packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    /// Counts one packet.
    #[inline]
    pub fn add(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    /// Counts `packets` at once.
    #[inline]
    pub fn add_many(&mut self, reason: DropReason, packets: u64) {
        self.0[reason as usize] += packets;
    }

    /// Adds another set of counters to this one.
    pub fn merge(&mut self, other: &Drops) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// What was counted since an earlier look.
    pub fn since(&self, earlier: &Drops) -> Drops {
        let mut since = *self;
        for (mine, theirs) in since.0.iter_mut().zip(earlier.0) {
            *mine = mine.saturating_sub(theirs);
        }
        since
    }

    /// Packets counted under one reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Packets counted under any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons that counted anything, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&r| (r, self.get(r))).filter(|&(_, n)| n > 0)
    }
}

impl Serialize for Drops {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (reason, packets) in self.iter() {
            map.serialize_entry(reason.name(), &packets)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Drops {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut drops = Drops::default();
        for (name, packets) in BTreeMap::<String, u64>::deserialize(deserializer)? {
            let reason = DropReason::ALL.iter().find(|r| r.name() == name);
            let reason =
                reason.ok_or_else(|| D::Error::custom(format!("unknown drop reason `{name}`")))?;
            drops.add_many(*reason, packets);
        }
        Ok(drops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_index_the_array() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::ALL.len());
        for (index, &reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }

    #[test]
    fn only_counted_reasons_are_written_and_read_back() {
        let mut drops = Drops::default();
        drops.add(DropReason::Oversize);
        drops.add_many(DropReason::KernelRing, 3);
        let json = serde_json::to_string(&drops).unwrap();
        assert_eq!(json, r#"{"kernel_ring":3,"oversize":1}"#);
        assert_eq!(serde_json::from_str::<Drops>(&json).unwrap(), drops);
        assert!(serde_json::from_str::<Drops>(r#"{"lost":1}"#).is_err());
    }
}
