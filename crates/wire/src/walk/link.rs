//! The walk below IP: link headers, VLAN tags, ARP.
//!
//! ```text
//! Ethernet  destination 6 · source 6 · EtherType or 802.3 length 2
//! tag       PCP 3 bits · DEI 1 bit · VLAN id 12 bits · EtherType 2
//! SLL       packet type 2 · ARPHRD 2 · address length 2 · address 8 · protocol 2
//! SLL2      protocol 2 · zero 2 · interface 4 · ARPHRD 2 · packet type 1 · length 1 · address 8
//! NULL/LOOP address family 4
//! ARP       hardware 2 · protocol 2 · lengths 1+1 · operation 2 · two pairs of addresses
//! ```
//!
//! Liberal: the byte order of NULL and LOOP is not trusted, since files say one and hold the
//! other; address families of all BSDs and Linux are known.

use super::{Stop, VLANS_KEPT, VlanTag, Walk, Why, be16, chunk, ethertype, stop, truncated};
use crate::{Layer, LinkType};

impl Walk {
    #[inline]
    pub(super) fn link(&mut self, frame: &[u8]) -> Stop {
        match self.link {
            LinkType::ETHERNET => match chunk::<14>(frame, 0) {
                Some(h) => self.ethertype(frame, Layer::Ethernet, be16(h, 12), 12),
                None => truncated(Layer::Ethernet, frame, 0, 14),
            },
            LinkType::LINUX_SLL => match chunk::<16>(frame, 0) {
                Some(h) => self.ethertype(frame, Layer::Sll, be16(h, 14), 14),
                None => truncated(Layer::Sll, frame, 0, 16),
            },
            LinkType::LINUX_SLL2 => match chunk::<20>(frame, 0) {
                Some(h) => self.sll2(frame, be16(h, 0)),
                None => truncated(Layer::Sll2, frame, 0, 20),
            },
            LinkType::NULL | LinkType::LOOP => match chunk::<4>(frame, 0) {
                Some(h) => self.family(frame, u32::from_be_bytes(*h)),
                None => truncated(Layer::Null, frame, 0, 4),
            },
            LinkType::IPV4 => self.implied(frame, 0, ethertype::IPV4),
            LinkType::IPV6 => self.implied(frame, 0, ethertype::IPV6),
            LinkType::RAW => match frame.first().map(|b| b >> 4) {
                Some(4) => self.implied(frame, 0, ethertype::IPV4),
                Some(6) => self.implied(frame, 0, ethertype::IPV6),
                Some(_) => stop(Layer::Link, 0, Why::Malformed("version is neither 4 nor 6")),
                None => truncated(Layer::Link, frame, 0, 1),
            },
            _ => stop(Layer::Link, 0, Why::UnknownLink),
        }
    }

    // The protocol stands first in SLL2, so it is not the two bytes in front of what follows.
    fn sll2(&mut self, frame: &[u8], value: u16) -> Stop {
        self.payload_at = 20;
        self.follow(frame, Layer::Sll2, value, 0, 20)
    }

    fn family(&mut self, frame: &[u8], family: u32) -> Stop {
        let known = |f: u32| match f {
            2 => Some(ethertype::IPV4),
            10 | 24 | 28 | 30 => Some(ethertype::IPV6),
            _ => None,
        };
        match known(family).or(known(family.swap_bytes())) {
            Some(value) => self.implied(frame, 4, value),
            None => {
                self.payload_at = 4;
                stop(Layer::Null, 0, Why::UnknownEtherType(family))
            }
        }
    }

    fn implied(&mut self, frame: &[u8], at: usize, value: u16) -> Stop {
        self.ethertype = Some(value);
        if value == ethertype::IPV4 { self.ipv4(frame, at) } else { self.ipv6(frame, at) }
    }

    #[inline]
    fn ethertype(&mut self, frame: &[u8], layer: Layer, value: u16, at: usize) -> Stop {
        self.follow(frame, layer, value, at, at + 2)
    }

    // `value` was read at `value_at` in `layer`; what it announces begins at `at`.
    #[inline]
    fn follow(
        &mut self,
        frame: &[u8],
        mut layer: Layer,
        mut value: u16,
        mut value_at: usize,
        mut at: usize,
    ) -> Stop {
        while matches!(value, ethertype::VLAN | ethertype::QINQ | ethertype::QINQ_OLD) {
            self.note(value, value_at, at);
            let Some(tag) = chunk::<4>(frame, at) else {
                return truncated(Layer::Vlan, frame, at, 4);
            };
            if let Some(kept) = self.vlans.get_mut(usize::from(self.vlan_count).min(VLANS_KEPT)) {
                *kept = VlanTag { tpid: value, tci: be16(tag, 0) };
            }
            self.vlan_count = self.vlan_count.saturating_add(1);
            (layer, value, value_at, at) = (Layer::Vlan, be16(tag, 2), at + 2, at + 4);
        }
        self.note(value, value_at, at);
        match value {
            ethertype::IPV4 => self.ipv4(frame, at),
            ethertype::IPV6 => self.ipv6(frame, at),
            ethertype::ARP => self.arp(frame, at),
            ethertype::MIN.. => stop(layer, value_at, Why::UnknownEtherType(value.into())),
            _ => {
                self.ethertype = None;
                stop(Layer::Llc, at, Why::Complete)
            }
        }
    }

    #[inline]
    fn note(&mut self, value: u16, value_at: usize, at: usize) {
        self.ethertype = Some(value);
        self.ethertype_at = Some(value_at as u32);
        self.payload_at = at as u32;
    }

    fn arp(&mut self, frame: &[u8], at: usize) -> Stop {
        let Some(h) = chunk::<8>(frame, at) else {
            return truncated(Layer::Arp, frame, at, 8);
        };
        let needed = 8 + 2 * (usize::from(h[4]) + usize::from(h[5]));
        if frame.len() - at < needed {
            return truncated(Layer::Arp, frame, at, needed);
        }
        self.payload_at = (at + needed) as u32;
        self.end = self.payload_at; // what follows is padding
        stop(Layer::Arp, at, Why::Complete)
    }
}
