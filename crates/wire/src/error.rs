//! The crate's one error, and the names of the layers it can be about.

use core::fmt;

/// A protocol layer, as named in errors and in the walk's [`Stop`](crate::walk::Stop).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layer {
    /// The outermost layer of a link type that this crate does not know.
    Link,
    /// BSD loopback header (`LINKTYPE_NULL`, `LINKTYPE_LOOP`).
    Null,
    /// Linux cooked capture, version 1.
    Sll,
    /// Linux cooked capture, version 2.
    Sll2,
    /// Ethernet II or IEEE 802.3.
    Ethernet,
    /// IEEE 802.1Q or 802.1ad tag.
    Vlan,
    /// IEEE 802.2 logical link control, behind an 802.3 length.
    Llc,
    /// Address resolution, RFC 826.
    Arp,
    /// RFC 791.
    Ipv4,
    /// RFC 8200.
    Ipv6,
    /// An IPv6 extension header, RFC 8200 section 4.
    Ipv6Extension,
    /// Authentication header, RFC 4302.
    Ah,
    /// Encapsulating security payload, RFC 4303.
    Esp,
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 792.
    Icmp,
    /// RFC 4443.
    Icmpv6,
    /// RFC 7348.
    Vxlan,
    /// RFC 8926.
    Geneve,
    /// RFC 2784 and RFC 2890.
    Gre,
    /// draft-foschiano-erspan.
    Erspan,
    /// RFC 3931.
    L2tp,
    /// RFC 3032.
    Mpls,
    /// tapline's own option block in GENEVE.
    Metadata,
    /// Segmentation or checksum offload: what the kernel said about a frame beside its bytes.
    Offload,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "link",
            Self::Null => "BSD loopback",
            Self::Sll => "SLL",
            Self::Sll2 => "SLL2",
            Self::Ethernet => "Ethernet",
            Self::Vlan => "VLAN",
            Self::Llc => "LLC",
            Self::Arp => "ARP",
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
            Self::Ipv6Extension => "IPv6 extension",
            Self::Ah => "AH",
            Self::Esp => "ESP",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
            Self::Icmpv6 => "ICMPv6",
            Self::Vxlan => "VXLAN",
            Self::Geneve => "GENEVE",
            Self::Gre => "GRE",
            Self::Erspan => "ERSPAN",
            Self::L2tp => "L2TPv3",
            Self::Mpls => "MPLS",
            Self::Metadata => "tapline metadata",
            Self::Offload => "offload",
        })
    }
}

/// Why bytes could not be read as the layer that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The buffer ends inside the layer.
    #[error("{layer}: {needed} bytes needed, {got} present (cut by a snap length?)")]
    Truncated {
        /// The layer that does not fit.
        layer: Layer,
        /// Bytes it needs, counted from its own start.
        needed: usize,
        /// Bytes that are there.
        got: usize,
    },
    /// The bytes are there and cannot be this layer.
    #[error("{layer}: {what}")]
    Malformed {
        /// The layer that was expected.
        layer: Layer,
        /// What is wrong with it.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_layer_and_numbers() {
        let e = Error::Truncated { layer: Layer::Vxlan, needed: 8, got: 3 };
        assert_eq!(e.to_string(), "VXLAN: 8 bytes needed, 3 present (cut by a snap length?)");
        let e = Error::Malformed { layer: Layer::Ipv6Extension, what: "x" };
        assert_eq!(e.to_string(), "IPv6 extension: x");
    }
}
