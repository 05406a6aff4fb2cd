//! The kinds of tunnel, and what has to be known to put packets into one.
//!
//! ```text
//! IP ─ UDP 4789 ─ VXLAN ─────────────────────┐
//!    ├ UDP 6081 ─ GENEVE, options ───────────┤
//!    ├ UDP 1701 ─ L2TPv3 ────────────────────┤
//!    ├ 115 ────── L2TPv3, cookie, sublayer ──┼─ Ethernet
//!    ├ 47 ─┬ GRE 6558 ───────────────────────┤
//!    │     ├ GRE 88BE, 22EB ─ ERSPAN ────────┘
//!    │     └ GRE 0800, 86DD ─────────────────── IP
//!    └ UDP 4754 ─ GRE in UDP, as above
//! ```

use crate::Vni;
use core::fmt;

/// A kind of tunnel. Its name is the scheme of its endpoints and the begin of its series' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// RFC 7348. The id is the VNI.
    Vxlan,
    /// RFC 8926. The id is the VNI.
    Geneve,
    /// GRE that carries packets without an Ethernet header, RFC 2784. The id is the key, RFC 2890.
    Gre,
    /// GRE that carries Ethernet frames (protocol 0x6558). The id is the key.
    Gretap,
    /// ERSPAN. The id is the session, which type I does not carry.
    Erspan,
    /// L2TPv3, RFC 3931. The id is the session.
    L2tp,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 6] =
        [Kind::Vxlan, Kind::Geneve, Kind::Gre, Kind::Gretap, Kind::Erspan, Kind::L2tp];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Vxlan => "vxlan",
            Kind::Geneve => "geneve",
            Kind::Gre => "gre",
            Kind::Gretap => "gretap",
            Kind::Erspan => "erspan",
            Kind::L2tp => "l2tp",
        }
    }

    /// The UDP port that is assigned to it; in the case of GRE and what is built on it, to GRE in
    /// UDP (RFC 8086).
    pub const fn port(self) -> u16 {
        match self {
            Kind::Vxlan => 4789,
            Kind::Geneve => 6081,
            Kind::Gre | Kind::Gretap | Kind::Erspan => 4754,
            Kind::L2tp => 1701,
        }
    }

    /// The IP protocol that is assigned to it, if it needs no UDP.
    pub const fn protocol(self) -> Option<u8> {
        match self {
            Kind::Vxlan | Kind::Geneve => None,
            Kind::Gre | Kind::Gretap | Kind::Erspan => Some(47),
            Kind::L2tp => Some(115),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tunnel as its packets show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tunnel {
    /// Its kind.
    pub kind: Kind,
    /// Its id, if the packets carry one.
    pub id: Option<u32>,
}

impl fmt::Display for Tunnel {
    /// `<kind>-<id>`; without an id `<kind>-none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "{}-{id}", self.kind),
            None => write!(f, "{}-none", self.kind),
        }
    }
}

/// What stands between IP and the tunnel header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// Nothing: the tunnel has an IP protocol of its own.
    Ip {
        /// Its number.
        protocol: u8,
    },
    /// UDP to this port.
    Udp {
        /// The far end's port.
        port: u16,
    },
}

/// How packets are put into a tunnel, above IP and UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encap {
    /// RFC 7348.
    Vxlan {
        /// The segment.
        vni: Vni,
    },
    /// RFC 8926.
    Geneve {
        /// The segment.
        vni: Vni,
        /// Whether each packet carries tapline's option block: original length, time, direction,
        /// sequence.
        metadata: bool,
    },
    /// GRE around packets without an Ethernet header.
    Gre(Gre),
    /// GRE around Ethernet frames.
    Gretap(Gre),
    /// ERSPAN inside GRE.
    Erspan(Erspan),
    /// RFC 3931, Ethernet pseudowire (RFC 4719).
    L2tp(L2tp),
}

/// The optional fields of a GRE header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Gre {
    /// The key.
    pub key: Option<u32>,
    /// Whether the payload is covered by a checksum.
    pub checksum: bool,
    /// Whether packets are numbered.
    pub sequence: bool,
}

/// The types of ERSPAN, with what each carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Erspan {
    /// No header of its own.
    I,
    /// Session and index; GRE packets are numbered.
    II {
        /// Session, 10 bits.
        session: u16,
        /// Index of the port, 20 bits.
        index: u32,
    },
    /// Session, direction and time; GRE packets are numbered.
    III {
        /// Session, 10 bits.
        session: u16,
        /// Id of the engine that sends, 6 bits.
        hardware: u8,
        /// Whether the seconds of the time follow in a sub-header. Without it the time counts from
        /// nowhere (units of 100 µs), as Linux sends and expects it.
        seconds: bool,
    },
}

/// The form of L2TPv3 data packets. Both ends have to know it: packets do not show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct L2tp {
    /// Session, not 0.
    pub session: u32,
    /// What stands behind it.
    pub format: L2tpFormat,
    /// Whether packets are numbered, in the sublayer.
    pub sequence: bool,
}

/// What stands between the session id of L2TPv3 and the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct L2tpFormat {
    /// A number that a stranger does not guess.
    pub cookie: Cookie,
    /// Whether the default L2-specific sublayer (RFC 3931 section 4.6) follows.
    pub sublayer: bool,
}

impl Default for L2tpFormat {
    /// As a Linux kernel sends it: no cookie, the default sublayer.
    fn default() -> L2tpFormat {
        L2tpFormat { cookie: Cookie::None, sublayer: true }
    }
}

/// The cookie of L2TPv3: 0, 4 or 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Cookie {
    /// None.
    #[default]
    None,
    /// 32 bits.
    Short([u8; 4]),
    /// 64 bits.
    Long([u8; 8]),
}

impl Cookie {
    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Cookie::None => &[],
            Cookie::Short(bytes) => bytes,
            Cookie::Long(bytes) => bytes,
        }
    }
}

impl Encap {
    /// Whether the far end learns from the tunnel how long a packet was that is cut.
    pub const fn carries_length(&self) -> bool {
        matches!(self, Encap::Geneve { metadata: true, .. })
    }

    /// The kind and the id that the far end will see.
    pub const fn tunnel(&self) -> Tunnel {
        match *self {
            Encap::Vxlan { vni } => Tunnel { kind: Kind::Vxlan, id: Some(vni.get()) },
            Encap::Geneve { vni, .. } => Tunnel { kind: Kind::Geneve, id: Some(vni.get()) },
            Encap::Gre(gre) => Tunnel { kind: Kind::Gre, id: gre.key },
            Encap::Gretap(gre) => Tunnel { kind: Kind::Gretap, id: gre.key },
            Encap::Erspan(Erspan::I) => Tunnel { kind: Kind::Erspan, id: None },
            Encap::Erspan(Erspan::II { session, .. } | Erspan::III { session, .. }) => {
                Tunnel { kind: Kind::Erspan, id: Some(session as u32) }
            }
            Encap::L2tp(l2tp) => Tunnel { kind: Kind::L2tp, id: Some(l2tp.session) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_names_its_series() {
        let vni = Vni::new(71).unwrap();
        assert_eq!(Encap::Vxlan { vni }.tunnel().to_string(), "vxlan-71");
        assert_eq!(Encap::Erspan(Erspan::I).tunnel().to_string(), "erspan-none");
        assert!(Encap::Geneve { vni, metadata: true }.carries_length());
        assert!(!Encap::Geneve { vni, metadata: false }.carries_length());
        let gre = Gre { key: Some(0), ..Gre::default() };
        assert_eq!(Encap::Gretap(gre).tunnel().to_string(), "gretap-0");
    }
}
