//! What a search looks for, as far as an index can tell.

use super::row::{Flow, Row};
use crate::Window;
use std::net::Ipv6Addr;
use wire::mpls;
use wire::walk::ethertype;

const RARP: u16 = 0x8035;
const PPPOE_SESSION: u16 = 0x8864;

/// EtherTypes of frames without a flow in which a capture filter may still find an address: those whose
/// IP header the index could not read, and those that carry addresses of their own. 0 is a link or an
/// 802.3 frame that says none.
const WITH_ADDRESSES: [u16; 8] = [
    0,
    ethertype::IPV4,
    ethertype::IPV6,
    ethertype::ARP,
    RARP,
    PPPOE_SESSION,
    mpls::ETHERTYPE,
    mpls::ETHERTYPE_MULTICAST,
];

/// What all of must hold for a packet; the default is any packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Addresses, IPv4 as mapped: each is an end of the packet's innermost or outermost flow.
    pub addresses: Vec<Ipv6Addr>,
    /// The community id of either flow.
    pub community_id: Option<String>,
    /// When it was captured.
    pub window: Window,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted { addresses: Vec::new(), community_id: None, window: Window::ALL }
    }
}

impl Wanted {
    /// Whether a packet of a row may be wanted. It is always true if one is.
    pub fn may_be_in(&self, row: &Row) -> bool {
        self.window.overlaps(row.span_ns)
            && self.addresses.iter().all(|address| may_have_address(row, address))
            && self.community_id.as_deref().is_none_or(|id| may_have_id(row, id))
    }
}

fn may_have_address(row: &Row, address: &Ipv6Addr) -> bool {
    let in_flow = |flow: &Flow| {
        flow.ip_lo.as_ref().is_none_or(|ip| ip == address)
            || flow.ip_hi.as_ref().is_none_or(|ip| ip == address)
    };
    match (&row.flow, &row.outer) {
        (Some(flow), Some(outer)) => in_flow(flow) || in_flow(outer),
        (Some(flow), None) => in_flow(flow),
        (None, _) => {
            row.flows > 1 || row.outer.is_some() || WITH_ADDRESSES.contains(&row.ethertype)
        }
    }
}

fn may_have_id(row: &Row, id: &str) -> bool {
    let in_flow = |flow: &Flow| flow.community_id.as_ref().is_none_or(|known| known == id);
    row.flows > 1 || [&row.flow, &row.outer].into_iter().flatten().any(in_flow)
}
