//! What is known of packets: by a row of an index, and by the addresses of a segment.

use super::{AddressPlace, Facts, Leaf, Net};
use crate::index::{AddressSet, Flow, Row};
use wire::walk::{IpVersion, ethertype, protocol};

const RARP: u16 = 0x8035;
const SCTP: u8 = 132;

/// What a row tells of its packets.
pub(in crate::search) struct RowFacts<'a>(pub &'a Row);

impl Facts for RowFacts<'_> {
    fn may(&self, leaf: &Leaf) -> bool {
        let RowFacts(row) = self;
        // A filter reads the outermost header.
        match row.outer.as_ref().or(row.flow.as_ref()) {
            Some(flow) => may_in_flow(row, flow, leaf),
            None => may_without_flow(row, leaf),
        }
    }
}

fn may_in_flow(row: &Row, flow: &Flow, leaf: &Leaf) -> bool {
    match *leaf {
        Leaf::Tagged => true,
        Leaf::EtherType(number) => may_ethertype(row, number),
        Leaf::Protocol { version, number } => may_protocol(row, flow, version, number),
        Leaf::Port { low, high, protocol } => {
            let range = low..=high;
            let may = |port: Option<u16>| port.is_none_or(|port| range.contains(&port));
            may_have_ports(flow.proto, protocol) && (may(flow.port_lo) || may(flow.port_hi))
        }
        Leaf::Address { net, place } => {
            let may = |ip: Option<_>| ip.is_none_or(|ip| net.contains(ip));
            place != AddressPlace::Arp && (may(flow.ip_lo) || may(flow.ip_hi))
        }
    }
}

fn may_without_flow(row: &Row, leaf: &Leaf) -> bool {
    if says_nothing(row) {
        return true;
    }
    let is_ip = |version: Option<IpVersion>| match row.ethertype {
        // An IP header that could not be read, not wholly at least.
        ethertype::IPV4 => version != Some(IpVersion::V6),
        ethertype::IPV6 => version != Some(IpVersion::V4),
        _ => false,
    };
    match *leaf {
        Leaf::Tagged => true,
        Leaf::EtherType(number) => may_ethertype(row, number),
        Leaf::Protocol { version, .. } => is_ip(version),
        Leaf::Port { .. } => is_ip(None),
        Leaf::Address { place, .. } => {
            let is_arp = matches!(row.ethertype, ethertype::ARP | RARP);
            place != AddressPlace::Arp && is_ip(None) || place != AddressPlace::Ip && is_arp
        }
    }
}

fn may_ethertype(row: &Row, number: u16) -> bool {
    // Below are lengths, and what `ether proto` means by them; tags are passed by the row.
    let is_tag = [ethertype::VLAN, ethertype::QINQ, ethertype::QINQ_OLD].contains(&number);
    number < ethertype::MIN || is_tag || row.ethertype == number || says_nothing(row)
}

/// Whether a row may hold anything: packets of a link that the frame walk does not know, or flows that
/// share nothing. Ethernet frames of 802.3 have MACs.
fn says_nothing(row: &Row) -> bool {
    row.ethertype == 0 && row.macs.is_none()
}

fn may_protocol(row: &Row, flow: &Flow, version: Option<IpVersion>, number: u8) -> bool {
    let is_version = match row.ethertype {
        ethertype::IPV4 => version != Some(IpVersion::V6),
        ethertype::IPV6 => version != Some(IpVersion::V4),
        _ => true,
    };
    is_version && (flow.proto == number || is_passed(number) || is_passed(flow.proto))
}

/// Headers that the frame walk passes, to say what is behind them, and that a filter does not pass; the
/// row names one if it is cut off, where a filter may still read what is behind.
fn is_passed(number: u8) -> bool {
    matches!(
        number,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AH
            | protocol::DESTINATION
    )
}

fn may_have_ports(number: u8, wanted: Option<u8>) -> bool {
    let has_ports = matches!(number, protocol::TCP | protocol::UDP | SCTP);
    is_passed(number) || wanted.map_or(has_ports, |wanted| wanted == number)
}

/// Which addresses there are in the packets of a segment, wherever a filter may look for them.
pub(in crate::search) struct AddressFacts<'a>(pub &'a AddressSet);

impl Facts for AddressFacts<'_> {
    fn may(&self, leaf: &Leaf) -> bool {
        match leaf {
            Leaf::Address { net, .. } => Net::single(net).is_none_or(|ip| self.0.may_hold(&ip)),
            _ => true,
        }
    }
}
