//! Link types: what the first byte of a captured frame is.
//!
//! Numbers are those of the [pcap link-layer header types](https://www.tcpdump.org/linktypes.html),
//! the same in pcap and pcapng files and in capture filters.

/// A link-layer header type (`LINKTYPE_…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: a 4-byte address family in the byte order of the host that captured.
    pub const NULL: LinkType = LinkType(0);
    /// Ethernet II and IEEE 802.3.
    pub const ETHERNET: LinkType = LinkType(1);
    /// IPv4 or IPv6, told apart by the version nibble.
    pub const RAW: LinkType = LinkType(101);
    /// OpenBSD loopback: a 4-byte address family, big endian.
    pub const LOOP: LinkType = LinkType(108);
    /// Linux "cooked" capture, version 1.
    pub const LINUX_SLL: LinkType = LinkType(113);
    /// IPv4 only.
    pub const IPV4: LinkType = LinkType(228);
    /// IPv6 only.
    pub const IPV6: LinkType = LinkType(229);
    /// Linux "cooked" capture, version 2.
    pub const LINUX_SLL2: LinkType = LinkType(276);
}

impl core::fmt::Display for LinkType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::NULL => f.write_str("NULL"),
            Self::ETHERNET => f.write_str("EN10MB"),
            Self::RAW => f.write_str("RAW"),
            Self::LOOP => f.write_str("LOOP"),
            Self::LINUX_SLL => f.write_str("LINUX_SLL"),
            Self::IPV4 => f.write_str("IPV4"),
            Self::IPV6 => f.write_str("IPV6"),
            Self::LINUX_SLL2 => f.write_str("LINUX_SLL2"),
            LinkType(n) => write!(f, "LINKTYPE {n}"),
        }
    }
}
