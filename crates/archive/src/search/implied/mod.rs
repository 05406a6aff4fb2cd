//! What a pcap-filter expression implies: what a packet must be like to match it.
//!
//! The expression becomes a [`Tree`] whose leaves are what can be told of flows: addresses, ports,
//! protocols. It answers one question about what is known of some packets: may one of them match? **No**
//! is only said if the exact filter rejects them all. So a leaf that is not understood may match, and
//! whatever stands below a `not` may match, too: of what is known it cannot be said that a packet
//! surely has it (a tag, a cut, a fragment may hide it from the filter).
//!
//! Why leaves may be read off rows, though a filter reads bytes at fixed places: where a filter finds
//! an IPv4 header, behind as many tags as it was told to pass, the frame walk finds the same one. It
//! passes more tags, it follows extension headers, and it believes length fields; then the row has
//! something that no filter sees, or lacks it, and such leaves may match.

mod facts;
mod parse;
mod services;
mod token;

pub(super) use facts::{AddressFacts, RowFacts};

use std::net::{Ipv4Addr, Ipv6Addr};
use wire::walk::IpVersion;

/// An expression, as far as it is understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Tree {
    /// What may match anything.
    #[default]
    Maybe,
    Leaf(Leaf),
    And(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
}

/// What is asked of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    /// A VLAN tag, which what stands behind it is looked for behind.
    Tagged,
    EtherType(u16),
    Protocol {
        version: Option<IpVersion>,
        number: u8,
    },
    /// A port in a range, of this protocol or of any that has ports.
    Port {
        low: u16,
        high: u16,
        protocol: Option<u8>,
    },
    Address {
        net: Net,
        place: AddressPlace,
    },
}

/// Where an address stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressPlace {
    Ip,
    Arp,
    /// In the IP header or, of IPv4, in ARP and RARP.
    Any,
}

/// Addresses with a common prefix, IPv4 as mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Net {
    address: u128,
    prefix_bits: u32,
}

impl Net {
    pub(super) fn v4(address: Ipv4Addr, prefix_bits: u32) -> Net {
        Net { address: address.to_ipv6_mapped().to_bits(), prefix_bits: 96 + prefix_bits.min(32) }
    }

    pub(super) fn v6(address: Ipv6Addr, prefix_bits: u32) -> Net {
        Net { address: address.to_bits(), prefix_bits: prefix_bits.min(128) }
    }

    fn contains(&self, address: Ipv6Addr) -> bool {
        let differ = address.to_bits() ^ self.address;
        differ.leading_zeros() >= self.prefix_bits
    }

    /// The address, if it is one.
    fn single(&self) -> Option<Ipv6Addr> {
        (self.prefix_bits == 128).then(|| Ipv6Addr::from_bits(self.address))
    }
}

/// What is known of some packets.
pub(super) trait Facts {
    /// Whether one of them may be what a leaf asks for.
    fn may(&self, leaf: &Leaf) -> bool;
}

impl Tree {
    /// Reads an expression that libpcap takes.
    pub(super) fn of(expression: &str) -> Tree {
        parse::parse(expression).unwrap_or_default()
    }

    /// Addresses that a packet must have, each in its IP header, or in ARP.
    pub(super) fn addresses(&self) -> Vec<Ipv6Addr> {
        match self {
            Tree::Leaf(Leaf::Address { net, .. }) => net.single().into_iter().collect(),
            Tree::And(a, b) => [a.addresses(), b.addresses()].concat(),
            Tree::Maybe | Tree::Leaf(_) | Tree::Or(..) => Vec::new(),
        }
    }

    /// Whether a packet of which this is known may match.
    pub(super) fn may(&self, facts: &impl Facts) -> bool {
        match self {
            Tree::Maybe => true,
            Tree::Leaf(leaf) => facts.may(leaf),
            Tree::And(a, b) => a.may(facts) && b.may(facts),
            Tree::Or(a, b) => a.may(facts) || b.may(facts),
        }
    }
}

#[cfg(test)]
mod tests;
