//! What the programs of a mirror and user space have in common: maps, their keys and their values.
//!
//! Numbers are in the host's order unless said otherwise.
//!
//! | map | kind | entry |
//! |---|---|---|
//! | [`MirrorMap::Slots`] | array, 4 B → [`SLOT_BYTES`] | a target of a tap: [`Slot`] |
//! | [`MirrorMap::Groups`] | array, 4 B → [`GROUP_BYTES`] | a group table: the member of each of 16,384 slots |
//! | [`MirrorMap::Members`] | array, 4 B → [`MEMBER_BYTES`] | an endpoint of a target: [`Member`] |
//! | [`MirrorMap::MemberCounters`] | per-CPU array, 4 B → [`COUNTER_WORDS`] × 8 B | [`MemberCounter`] |
//! | [`MirrorMap::SlotCounters`] | per-CPU array, 4 B → [`COUNTER_WORDS`] × 8 B | [`SlotCounter`] |
//! | [`MirrorMap::Scratch`] | per-CPU array, 4 B → [`SCRATCH_BYTES`] | memory while a program runs |
//! | [`MirrorMap::Clock`] | array, 4 B → 8 B | ns to take off `CLOCK_TAI` for UTC |
//! | [`MirrorMap::FarEnds`] | hash, [`FAR_END_BYTES`] → 4 B | where tunnels of this process lead: [`far_end_keys`] |
//! | [`MirrorMap::Buckets`] | array, 4 B → [`BUCKET_BYTES`] | the ceiling of a tap: [`Bucket`] |
//! | [`MirrorMap::HandUp`] | array of rings, 4 B → a ring | where packets for user space go, by half the slot's number: [`handup`](crate::handup) |
//! | [`MirrorMap::Tap`] (n) | per-CPU array, 4 B → 512 × 8 B | what the n-th tap of a program counts: [`TapCounter`], then its rules |
//!
//! `tc_index` of a clone is its slot's number, shifted left by one, and 1 in the lowest bit if the
//! packet was sent; 0 is no slot. One that goes through the interfaces that cut and complete packets has
//! [`TC_INDEX_FINISHED`] beside. A clone that is under way to its sink has [`TC_INDEX_SENT`].

pub use super::bucket::{BUCKET_BYTES, Bucket, Leaving};
use filter::ebpf::{CounterLayout, MapRef};
use std::net::IpAddr;
use wire::flow::SLOTS;

/// The maps of a mirror's programs, as their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorMap {
    /// Targets of taps.
    Slots,
    /// Group tables.
    Groups,
    /// Endpoints.
    Members,
    /// What endpoints count.
    MemberCounters,
    /// What targets count.
    SlotCounters,
    /// Memory while a program runs.
    Scratch,
    /// The offset of UTC.
    Clock,
    /// Where tunnels lead.
    FarEnds,
    /// Ceilings.
    Buckets,
    /// Rings of what goes to user space.
    HandUp,
    /// What the n-th tap of a dispatcher counts.
    Tap(usize),
}

impl MirrorMap {
    /// Maps that every program has, in this order.
    pub const COMMON: usize = 10;

    /// Its number in a program.
    pub const fn map(self) -> MapRef {
        MapRef(match self {
            MirrorMap::Slots => 0,
            MirrorMap::Groups => 1,
            MirrorMap::Members => 2,
            MirrorMap::MemberCounters => 3,
            MirrorMap::SlotCounters => 4,
            MirrorMap::Scratch => 5,
            MirrorMap::Clock => 6,
            MirrorMap::FarEnds => 7,
            MirrorMap::Buckets => 8,
            MirrorMap::HandUp => 9,
            MirrorMap::Tap(n) => MirrorMap::COMMON + n,
        })
    }
}

/// `tc_index` of a clone that is under way to its sink: it is not mirrored again.
pub const TC_INDEX_SENT: u16 = 0xffff;
/// Bit of `tc_index`: the clone is cut and complete where it is to be encapsulated.
pub const TC_INDEX_FINISHED: u16 = 0x8000;
/// Slots that there can be; slot 0 is none.
pub const SLOTS_MAX: u32 = 0x3ffe;
/// Words in an entry of counters.
pub const COUNTER_WORDS: usize = 16;
/// Bytes of memory while a program runs: a frame's begin, and words. A program that sends a clone finds
/// them changed: the interface that it goes to may run programs of the mirror, too.
pub const SCRATCH_BYTES: usize = 1024;
/// Where the memory begins that neither dispatchers nor [`late_judge`](super::late_judge) use.
pub const SCRATCH_FREE: usize = filter::ebpf::restored::RESTORED_BYTES;
/// Offset of `tc_index` in `struct __sk_buff`.
pub const SKB_TC_INDEX: i16 = 44;
/// Bytes of a group table: a `u16` for each slot of the flow hash, the number of a member.
pub const GROUP_BYTES: usize = 2 * SLOTS;
/// Bytes of an entry of [`MirrorMap::Slots`].
pub const SLOT_BYTES: usize = 32;
/// Bytes of an entry of [`MirrorMap::Members`].
pub const MEMBER_BYTES: usize = 192;
/// Bytes of outer headers that a member has room for.
pub const HEADER_BYTES_MAX: usize = MEMBER_BYTES - member::HEADER;
/// Bytes of a key of [`MirrorMap::FarEnds`].
pub const FAR_END_BYTES: usize = 20;

/// Offsets in an entry of [`MirrorMap::Slots`].
pub mod slot {
    #![expect(missing_docs, reason = "as the fields of `Slot`")]
    pub const SNAPLEN: usize = 0;
    pub const GROUP: usize = 4;
    pub const MEMBER: usize = 8;
    pub const OVERSIZE: usize = 12;
    pub const FLAGS: usize = 16;
}

/// Bytes of records of what goes to user space: the first that a packet fits with its prefix is taken.
/// The last holds whatever an interface can carry.
pub const RECORD_BYTES: [usize; 4] = [256, 1600, 9280, 65_632];

/// What becomes of a packet that does not fit the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum TooBig {
    /// It is dropped.
    Drop = 0,
    /// It is cut.
    Cut = 1,
    /// User space gets it.
    HandUp = 2,
}

/// A target of a tap: one endpoint, or a group that shares the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Bytes kept of each packet; 0: all.
    pub snaplen: u32,
    /// Its table in [`MirrorMap::Groups`]; `None`: one endpoint.
    pub group: Option<u32>,
    /// The only, or first, endpoint's number in [`MirrorMap::Members`].
    pub member: u32,
    /// What becomes of a packet that does not fit.
    pub too_big: TooBig,
    /// Whether no member of the group is to get anything, as none is healthy. The table still says at which
    /// one a packet counts.
    pub is_unhealthy: bool,
}

/// Bits of [`slot::FLAGS`].
pub const SLOT_UNHEALTHY: u32 = 1;

/// [`slot::GROUP`] of a target that is one endpoint.
pub const NO_GROUP: u32 = u32::MAX;

impl Slot {
    /// The entry's bytes.
    pub fn bytes(&self) -> [u8; SLOT_BYTES] {
        let mut out = [0; SLOT_BYTES];
        put(&mut out, slot::SNAPLEN, self.snaplen);
        put(&mut out, slot::GROUP, self.group.unwrap_or(NO_GROUP));
        put(&mut out, slot::MEMBER, self.member);
        put(&mut out, slot::OVERSIZE, self.too_big as u32);
        put(&mut out, slot::FLAGS, if self.is_unhealthy { SLOT_UNHEALTHY } else { 0 });
        out
    }
}

/// Offsets in an entry of [`MirrorMap::Members`].
pub mod member {
    #![expect(missing_docs, reason = "as the fields of `Member`")]
    pub const STATE: usize = 0;
    pub const INTERFACE: usize = 4;
    pub const SHAPE: usize = 8;
    pub const MTU: usize = 12;
    pub const HEADER_LEN: usize = 16;
    pub const IP_SUM: usize = 20;
    pub const UDP_SUM: usize = 24;
    pub const HEADER: usize = 64;
}

/// How far the way to an endpoint is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum WayState {
    /// No route, no link, or no neighbour that answers: packets are dropped and counted.
    Unreachable = 0,
    /// The headers stand in the entry.
    Known = 1,
    /// User space gets the packets: it knows more ways than a frame to a neighbour.
    HandUp = 2,
}

/// Which headers an endpoint's packets have. A program knows those that its endpoints have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape {
    /// The outer IP's version.
    pub is_v6: bool,
    /// The tunnel.
    pub kind: ShapeKind,
}

/// A tunnel, as far as its headers differ in what a program writes into them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShapeKind {
    /// VXLAN.
    Vxlan,
    /// GENEVE without options.
    Geneve,
    /// GENEVE with our metadata.
    GeneveMetadata,
    /// GRE around IP, without and with a key.
    Gre {
        /// Whether it has a key.
        key: bool,
    },
    /// GRE around Ethernet, without and with a key.
    Gretap {
        /// Whether it has a key.
        key: bool,
    },
}

impl Shape {
    /// Every shape.
    pub fn all() -> impl Iterator<Item = Shape> {
        use ShapeKind::{Geneve, GeneveMetadata, Gre, Gretap, Vxlan};
        let kinds = [
            Vxlan,
            Geneve,
            GeneveMetadata,
            Gre { key: false },
            Gre { key: true },
            Gretap { key: false },
            Gretap { key: true },
        ];
        [false, true].into_iter().flat_map(move |is_v6| kinds.map(|kind| Shape { is_v6, kind }))
    }

    /// Its number in [`member::SHAPE`].
    pub fn number(self) -> u32 {
        Shape::all().position(|shape| shape == self).map_or(u32::MAX, |at| at as u32)
    }

    /// Bytes of its IP header.
    pub const fn ip_len(self) -> usize {
        if self.is_v6 { 40 } else { 20 }
    }

    /// Bytes behind the IP header, in front of what is carried.
    pub const fn tunnel_len(self) -> usize {
        match self.kind {
            ShapeKind::Vxlan | ShapeKind::Geneve => 8 + 8,
            ShapeKind::GeneveMetadata => 8 + 8 + wire::metadata::OPTION_LEN,
            ShapeKind::Gre { key } | ShapeKind::Gretap { key } => {
                if key {
                    8
                } else {
                    4
                }
            }
        }
    }

    /// Bytes of all outer headers, Ethernet's included.
    pub const fn header_len(self) -> usize {
        14 + self.ip_len() + self.tunnel_len()
    }

    /// Whether it goes over UDP.
    pub const fn is_udp(self) -> bool {
        matches!(self.kind, ShapeKind::Vxlan | ShapeKind::Geneve | ShapeKind::GeneveMetadata)
    }
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// How far the way is known.
    pub state: WayState,
    /// The interface that its packets leave by.
    pub interface: u32,
    /// Which headers they have.
    pub shape: Shape,
    /// Bytes of the largest IP packet that the path takes.
    pub mtu: u32,
    /// The headers, as many bytes as the shape has, for a packet of no bytes: lengths, checksums, the
    /// UDP source port, GRE's protocol, and all of the metadata but its lane are filled in by the
    /// program.
    pub header: Vec<u8>,
}

impl Member {
    /// The entry's bytes.
    ///
    /// # Panics
    /// If the headers are not as long as their shape.
    pub fn bytes(&self) -> [u8; MEMBER_BYTES] {
        let mut out = [0; MEMBER_BYTES];
        put(&mut out, member::STATE, self.state as u32);
        put(&mut out, member::INTERFACE, self.interface);
        put(&mut out, member::SHAPE, self.shape.number());
        put(&mut out, member::MTU, self.mtu);
        put(&mut out, member::HEADER_LEN, self.header.len() as u32);
        if self.state == WayState::Known {
            assert_eq!(self.header.len(), self.shape.header_len(), "{:?}", self.shape);
            let ip = &self.header[14..][..self.shape.ip_len()];
            put(&mut out, member::IP_SUM, if self.shape.is_v6 { 0 } else { sum(ip) });
            put(&mut out, member::UDP_SUM, self.udp_sum());
        }
        out[member::HEADER..][..self.header.len()].copy_from_slice(&self.header);
        out
    }

    /// What of the UDP checksum is the same for all packets: the addresses, the protocol, the
    /// destination port. Only over IPv6, where it must be there (RFC 8200 section 8.1).
    fn udp_sum(&self) -> u32 {
        if !self.shape.is_v6 || !self.shape.is_udp() {
            return 0;
        }
        let udp = &self.header[14 + self.shape.ip_len()..];
        sum(&self.header[14 + 8..][..32]) + sum(&udp[2..4]) + u32::from(wire::udp::PROTOCOL)
    }
}

/// The sum of 16-bit words in network order, not folded: RFC 1071.
fn sum(bytes: &[u8]) -> u32 {
    bytes.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum()
}

/// Places in an entry of [`MirrorMap::MemberCounters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberCounter {
    /// The number of the next packet of this CPU's lane.
    Sequence = 0,
    /// Packets that the group's table gave to this endpoint.
    Matched = 1,
    /// Packets that the underlay's interface took.
    Sent = 2,
    /// Their bytes, as they were carried.
    SentBytes = 3,
    /// Of those sent, packets that were cut to fit the path.
    Cut = 4,
    /// Packets handed up to user space; they are counted there again.
    HandedUp = 5,
    /// Dropped: larger than the path takes.
    Oversize = 6,
    /// Dropped: the device's queue was full.
    DeviceQueue = 7,
    /// Dropped: no way to the endpoint.
    Unreachable = 8,
    /// Dropped: the kernel refused for another reason.
    SendError = 9,
    /// Dropped: not what the tunnel carries.
    LinkType = 10,
    /// Dropped: no member of the group was healthy.
    Unhealthy = 11,
    /// Dropped: the ring of what goes to user space had no room for it, or there is none.
    HandUpLost = 12,
}

/// Places in an entry of [`MirrorMap::SlotCounters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotCounter {
    /// Wire packets that a dispatcher handed to the private interface.
    Handed = 0,
    /// Wire packets that it could not: there was no memory for a clone.
    NotHanded = 1,
    /// Packets that arrived where they are encapsulated. Those handed that do not were lost between, by
    /// the interfaces that cut and complete packets.
    Arrived = 2,
    /// Packets that arrived, and that a filter judged there and rejected.
    Filtered = 3,
}

/// Places in element 0 of [`MirrorMap::Tap`]; wire packets unless said otherwise. Each packet counts in
/// exactly one of the first five.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapCounter {
    /// The filter or the choice of direction rejected it.
    Filtered = 0,
    /// The filter kept it.
    Matched = 1,
    /// It was one of our own tunnels.
    OwnTunnel = 2,
    /// The ceiling had no room for it.
    RateLimited = 3,
    /// The filter is to judge what has been cut: it judges behind the private interface, and then counts
    /// in one of the above beside.
    Late = 4,
    /// Bytes of those matched.
    MatchedBytes = 5,
}

/// Where a tap's rules are counted, from word 16 on.
pub const fn rule_place(rules: usize, number: usize) -> (usize, usize) {
    CounterLayout { rules }.rule(number)
}

/// The key of a far end: its address, then the IP protocol, and the UDP port in network order.
///
/// ```text
/// offset 0         16         17   18     20
///        │ address │ protocol │ 0  │ port │      IPv4 addresses as ::ffff:a.b.c.d
/// ```
pub fn far_end_key(address: IpAddr, protocol: u8, port: u16) -> [u8; FAR_END_BYTES] {
    let mut key = [0; FAR_END_BYTES];
    let mapped = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    key[..16].copy_from_slice(&mapped.octets());
    key[16] = protocol;
    key[18..].copy_from_slice(&port.to_be_bytes());
    key
}

/// The keys by which a far end is known: its own, and that of later fragments, which have no port.
pub fn far_end_keys(address: IpAddr, protocol: u8, port: u16) -> [[u8; FAR_END_BYTES]; 2] {
    [port, 0].map(|port| far_end_key(address, protocol, port))
}

fn put(out: &mut [u8], at: usize, value: u32) {
    out[at..][..4].copy_from_slice(&value.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_a_number_and_room() {
        let all: Vec<Shape> = Shape::all().collect();
        assert_eq!(all.len(), 14);
        for (at, shape) in all.iter().enumerate() {
            assert_eq!(shape.number() as usize, at);
            assert!(shape.header_len() <= HEADER_BYTES_MAX, "{shape:?}");
        }
        assert!(GROUP_BYTES.is_multiple_of(8));
    }
}
