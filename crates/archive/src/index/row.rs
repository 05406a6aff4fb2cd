//! One row of an index: what a flow did in a segment.

use std::net::Ipv6Addr;
use std::sync::Arc;

/// What one flow did in one segment.
///
/// | column | Arrow type | null when |
/// |---|---|---|
/// | object, source | Utf8 (dictionary) | never |
/// | tunnel, tunnel_id | Utf8 (dictionary), UInt64 | not tunnelled |
/// | vlan | `List<UInt16>` | untagged: empty |
/// | ip_lo, ip_hi | FixedSizeBinary(16), IPv4 mapped, lower one first; of several flows ip_lo is the shared one | not IP, or several (`flows` > 1) |
/// | port_lo, port_hi | UInt16, of ip_lo's and of ip_hi's side | no ports, a fragment, or several |
/// | proto | UInt8 | not IP |
/// | ethertype, mac_lo, mac_hi | UInt16, FixedSizeBinary(6) | ethertype never; MACs when IP, or several |
/// | community_id | Utf8 | not IP, or several |
/// | outer_ip_lo … outer_community_id | as above | no tunnel inside of the frame |
/// | first_ns, last_ns | Int64, UTC | never |
/// | packets, packets_fwd, packets_rev, bytes, bytes_fwd, bytes_rev | UInt64; forward is lo → hi; bytes are origlen | never |
/// | tcp_flags | UInt8, OR of all | not TCP |
/// | truncated | Boolean | never |
/// | flows | UInt32: 1, or more where flows were collapsed into one row | never |
/// | frames | `List<UInt32>`, numbers of zstd frames, ascending | never |
///
/// Of a packet that holds a tunnel (one that was not taken off before it was recorded) the flow is the
/// innermost one and `outer` the outermost, as a capture filter reads the frame. What stands behind MPLS
/// labels is no tunnel. Where the innermost packet is not IP there is no flow, only an outer one.
///
/// **A row of several flows** (`flows` > 1) is what scans and floods become: flows that share tunnel, tags,
/// EtherType and protocol, and mostly an address. What they do not share is null there and may be
/// anything; so may be all of a row with neither flow nor EtherType. `flows` is then at most so many: one
/// that pauses may count twice.
///
/// **No row excludes a packet that it holds**, but this is to be known: a packet's ports are null in
/// fragments (first ones, too) and where they are cut off; an IPv6 protocol is the one behind all
/// extension headers; only four VLAN ids are told; a frame whose IP header contradicts itself, or stands
/// behind PPPoE, has no flow; of three tunnels in each other the middle one is not told.
/// [`crate::index::Wanted`] takes all of it into account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The source of the segment.
    pub source: Arc<str>,
    /// The tunnel that the flow came in: the innermost one.
    pub tunnel: Option<Tunnelled>,
    /// VLAN ids of the recorded frame, outermost first.
    pub vlan: Vec<u16>,
    /// EtherType of the recorded frame, behind its tags.
    pub ethertype: u16,
    /// MACs of the recorded frame, the lower one first; none when IP.
    pub macs: Option<([u8; 6], [u8; 6])>,
    /// The innermost flow; none when not IP.
    pub flow: Option<Flow>,
    /// The outermost flow, if it is another one.
    pub outer: Option<Flow>,
    /// Times of its earliest and its latest packet, nanoseconds since 1970.
    pub span_ns: (u64, u64),
    /// Packets from lo to hi, and back.
    pub packets: (u64, u64),
    /// Bytes on the wire from lo to hi, and back.
    pub bytes: (u64, u64),
    /// All flags of its TCP segments; none when not TCP.
    pub tcp_flags: Option<u8>,
    /// Whether any packet was cut.
    pub truncated: bool,
    /// Flows in this row: more than 1 if those of few packets were collapsed, then at most so many.
    pub flows: u32,
    /// Numbers of the zstd frames with its packets, ascending.
    pub frames: Vec<u32>,
}

/// The tunnel that a flow came in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tunnelled {
    /// Its kind, such as `vxlan`.
    pub kind: Arc<str>,
    /// VNI, key or session.
    pub id: Option<u64>,
}

/// Who speaks with whom. In a row of several flows what they do not share is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// The lower address, IPv4 as mapped; in a row of several flows the one that they share.
    pub ip_lo: Option<Ipv6Addr>,
    /// The higher address.
    pub ip_hi: Option<Ipv6Addr>,
    /// Port on the side of `ip_lo`; none without ports, or of a fragment.
    pub port_lo: Option<u16>,
    /// Port on the side of `ip_hi`.
    pub port_hi: Option<u16>,
    /// The IP protocol.
    pub proto: u8,
    /// Community id, version 1 with seed 0.
    pub community_id: Option<String>,
}
