//! The stage that changes IP addresses, so that who talks to whom cannot be told without the key, while
//! flows, subnets and checksums stay what they are.
//!
//! Every address goes that the frame walk finds: in IP headers and IPv6 routing headers, also inside of
//! tunnels, MPLS and PPPoE, in ARP, in packets that ICMP errors quote, in redirects, neighbour discovery
//! and listener reports of IPv6. MAC addresses stay, and whatever a payload says.

mod address_map;
mod rewriter;

use super::{Stage, Work};
use api::AnonymizeKey;
use rewriter::Rewriter;
use std::net::IpAddr;

/// Changes IP addresses.
pub(super) struct Anonymize {
    rewriter: Rewriter,
    touched: u64,
}

impl Anonymize {
    /// By the map of this key. Stages with the same key change an address alike.
    pub(super) fn new(key: &AnonymizeKey) -> Anonymize {
        Anonymize { rewriter: Rewriter::new(key), touched: 0 }
    }
}

impl Stage for Anonymize {
    fn apply(&mut self, work: &mut Work<'_>) {
        let rewriter = &mut self.rewriter;
        work.each(|packet, _| {
            let meta = &mut packet.meta;
            let mut touched = rewriter.rewrite(meta.link_type, &mut packet.data);
            if let Some(outer) = &mut meta.outer {
                outer.source = match outer.source {
                    IpAddr::V4(address) => rewriter.map.v4(address.octets()).into(),
                    IpAddr::V6(address) => rewriter.map.v6(address.octets()).into(),
                };
                touched = true;
            }
            if touched {
                // It would tell the addresses: it becomes a tunnel's source port.
                meta.flow_hash = None;
                self.touched += 1;
            }
            Ok(())
        });
    }

    fn changes(&self) -> bool {
        true
    }

    fn touched(&self) -> u64 {
        self.touched
    }
}
