//! The offloads that make a host's frames differ from the wire's packets, and what tapline does.

use io::offloads::Offloads;
use serde::Serialize;

/// What tapline does about an offload that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Super-packets are cut into the packets of the wire.
    Cut,
    /// Checksums are computed.
    Completed,
    /// Tags are put back.
    Restored,
    /// Nothing needs to be done.
    Unaffected,
    /// Frames stay as they are, which is not as the wire has them.
    NotUndone,
    /// Packets do not reach the tap.
    Unseen,
}

/// An offload, which may be several features of the kernel.
pub struct Offload {
    /// Its name in JSON.
    pub name: &'static str,
    /// Its name for readers.
    pub title: &'static str,
    /// The kernel's names; it is on if one of them is.
    pub features: &'static [&'static str],
    /// What is done where it is on.
    pub effect: Effect,
    /// The same in words.
    pub note: &'static str,
}

const fn offload(
    name: &'static str,
    title: &'static str,
    features: &'static [&'static str],
    effect: Effect,
    note: &'static str,
) -> Offload {
    Offload { name, title, features, effect, note }
}

/// All of them, in the order in which they are said.
pub const KNOWN: [Offload; 16] = [
    offload(
        "tso",
        "TCP segmentation by the NIC (TSO)",
        &["tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-tcp-ecn-segmentation"],
        Effect::Cut,
        "super-packets are cut into the wire's packets",
    ),
    offload(
        "gso",
        "segmentation by the kernel (GSO)",
        &["tx-generic-segmentation"],
        Effect::Cut,
        "super-packets are cut into the wire's packets",
    ),
    offload(
        "uso",
        "UDP segmentation (USO)",
        &["tx-udp-segmentation"],
        Effect::Cut,
        "super-packets are cut into the wire's datagrams",
    ),
    offload(
        "tunnel_segmentation",
        "segmentation inside tunnels",
        &[
            "tx-udp_tnl-segmentation",
            "tx-udp_tnl-csum-segmentation",
            "tx-gre-segmentation",
            "tx-ipxip4-segmentation",
            "tx-ipxip6-segmentation",
        ],
        Effect::Cut,
        "super-packets are cut inside, outer headers mended",
    ),
    offload(
        "gre_checksum_segmentation",
        "segmentation inside GRE with checksums",
        &["tx-gre-csum-segmentation"],
        Effect::NotUndone,
        "super-packets in GRE with checksums stay whole",
    ),
    offload(
        "gro",
        "joining by the kernel (GRO)",
        &["rx-gro"],
        Effect::Cut,
        "joined packets are cut apart; IP ids then count up, but for 0 with DF",
    ),
    offload(
        "gro_hw",
        "joining by the NIC (GRO-HW)",
        &["rx-gro-hw"],
        Effect::Cut,
        "joined packets are cut apart, as with GRO",
    ),
    offload(
        "udp_gro",
        "joining of forwarded packets",
        &["rx-udp-gro-forwarding", "rx-gro-list"],
        Effect::Cut,
        "joined packets are cut apart, as with GRO",
    ),
    offload(
        "lro",
        "joining by the NIC (LRO)",
        &["rx-lro"],
        Effect::NotUndone,
        "cannot be undone, the packets' headers are gone; ethtool -K IF lro off",
    ),
    offload(
        "tx_checksum",
        "checksums by the NIC, sent",
        &["tx-checksum-ipv4", "tx-checksum-ipv6", "tx-checksum-ip-generic", "tx-checksum-sctp"],
        Effect::Completed,
        "checksums are completed",
    ),
    offload(
        "rx_checksum",
        "checksums by the NIC, received",
        &["rx-checksum"],
        Effect::Unaffected,
        "frames hold the wire's checksums",
    ),
    offload(
        "tx_vlan",
        "VLAN tags by the NIC, sent",
        &["tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"],
        Effect::Restored,
        "tags are put into the frame",
    ),
    offload(
        "rx_vlan",
        "VLAN tags by the NIC, received",
        &["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"],
        Effect::Restored,
        "tags are put back into the frame",
    ),
    offload(
        "sctp_segmentation",
        "SCTP segmentation",
        &["tx-sctp-segmentation"],
        Effect::Unseen,
        "no ring is shown such super-packets; they are counted as kernel_ring",
    ),
    offload(
        "encryption",
        "encryption by the NIC",
        &["esp-hw-offload", "tls-hw-tx-offload", "tls-hw-rx-offload", "macsec-hw-offload"],
        Effect::NotUndone,
        "packets are seen in the clear, as the wire does not have them",
    ),
    offload(
        "forwarding",
        "forwarding by the NIC",
        &["hw-tc-offload"],
        Effect::Unseen,
        "what the NIC forwards by itself reaches no tap",
    ),
];

/// Longer than this, a super-packet's length does not fit its 16-bit field: BIG TCP.
pub const BIG_TCP_BYTES: u32 = 65_536;

impl Offload {
    /// Whether it is on; `None` if the kernel knows none of its features.
    pub fn is_on(&self, of: &Offloads) -> Option<bool> {
        self.features
            .iter()
            .filter_map(|feature| of.is_on(feature))
            .reduce(|one, other| one | other)
    }
}

/// The largest super-packet of an interface, sent or joined, bytes; `None` if the kernel does not
/// tell.
pub fn longest(of: &Offloads) -> Option<u32> {
    [of.sent.v6, of.sent.v4, of.joined.v6, of.joined.v4].into_iter().flatten().max()
}
