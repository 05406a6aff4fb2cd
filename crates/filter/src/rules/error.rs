//! What can be wrong with rules.

use super::compile::SUPPORTED_LINK_TYPES;
use super::{PortRange, Side};
use core::fmt;
use ipnet::IpNet;
use wire::LinkType;

/// Why a list of rules is none, or has no program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// No rule at all.
    #[error("no rule at all, so nothing would be mirrored; write one or more rules")]
    Empty,
    /// A rule that contradicts itself.
    #[error("rule {number}: {fault}")]
    Rule {
        /// The rule's number, from 1.
        number: usize,
        /// What is wrong with it.
        fault: RuleFault,
    },
    /// A link type whose frames rules cannot read.
    #[error("rules cannot read frames of link type {0}, only {known}; leave them out", known = KnownLinkTypes)]
    LinkType(LinkType),
    /// The program is too long.
    #[error("the rules make too long a program: {0}")]
    Program(#[from] crate::Error),
}

/// What is wrong with one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// A prefix with bits set behind its length.
    #[error("{side} CIDR {net} has bits set behind its prefix; write {mend}", mend = net.trunc())]
    HostBits {
        /// Source or destination.
        side: Side,
        /// The prefix.
        net: IpNet,
    },
    /// IPv4 on one side, IPv6 on the other.
    #[error(
        "source CIDR {from} and destination CIDR {to} are of two IP versions, which no packet is; \
         split the rule"
    )]
    MixedFamilies {
        /// The source.
        from: IpNet,
        /// The destination.
        to: IpNet,
    },
    /// Ports, and no protocol that has any.
    #[error("ports need protocol 6 (TCP) or 17 (UDP), this rule has {}", Protocol(*protocol))]
    PortsWithoutProtocol {
        /// The rule's protocol.
        protocol: Option<u8>,
    },
    /// A range that ends before it begins.
    #[error("{side} port range goes from {} down to {}; exchange min and max", range.min, range.max)]
    RangeUpsideDown {
        /// Source or destination.
        side: Side,
        /// The range.
        range: PortRange,
    },
    /// An ICMP type, and another protocol.
    #[error(
        "an ICMP type needs protocol 1 (ICMP) or 58 (ICMPv6), this rule has {}",
        Protocol(*protocol)
    )]
    IcmpWithoutProtocol {
        /// The rule's protocol.
        protocol: Option<u8>,
    },
    /// ICMP and addresses of the other IP version.
    #[error(
        "{} does not run between addresses such as {net}; write protocol {}",
        if *v4 { "ICMP (protocol 1)" } else { "ICMPv6 (protocol 58)" },
        if *v4 { "58 (ICMPv6)" } else { "1 (ICMP)" }
    )]
    IcmpFamily {
        /// Whether the rule's protocol is ICMP for IPv4.
        v4: bool,
        /// The rule's prefix.
        net: IpNet,
    },
}

struct Protocol(Option<u8>);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "protocol {number}"),
            None => f.write_str("no protocol"),
        }
    }
}

struct KnownLinkTypes;

impl fmt::Display for KnownLinkTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, link_type) in SUPPORTED_LINK_TYPES.iter().enumerate() {
            write!(f, "{}{link_type}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}
