//! What the kernel answers about a route, an interface, a neighbour and IPsec policies.
//!
//! Source: Linux `include/uapi/linux/rtnetlink.h`, `if_link.h`, `neighbour.h`, `xfrm.h`.
//!
//! ```text
//! route      rtmsg (12 B): family, lengths 2, tos, table, protocol, scope, type (7), flags 4 | RTA_…
//! interface  ifinfomsg (16 B): family, pad, ARPHRD 2 (2), index 4 (4), flags 4 (8), … | IFLA_…
//! neighbour  ndmsg (12 B): family, pad 3, index 4, state 2 (8), flags, type | NDA_…
//! policies   flags 4 | XFRMA_SPD_INFO: counts 4 each of in, out (4), forward, and of sockets
//! ```

use crate::netlink::{attributes, half, word};
use std::net::IpAddr;

const RTMSG_LEN: usize = 12;
const IFINFOMSG_LEN: usize = 16;
const NDMSG_LEN: usize = 12;

const RTA_VIA: u16 = 18;
const RTA_ENCAP: u16 = 22;

/// Asks how many IPsec policies there are; the answer has them in attribute 1.
pub(super) const XFRM_MSG_GETSPDINFO: u16 = 0x25;
const XFRMA_SPD_INFO: u16 = 1;

/// States in which a neighbour's MAC is used, beside `NUD_STALE`.
const CONFIRMED: u16 =
    libc::NUD_REACHABLE | libc::NUD_DELAY | libc::NUD_PROBE | libc::NUD_NOARP | libc::NUD_PERMANENT;

/// Where a route leads to first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hop {
    pub interface: i32,
    /// The next router; none if the far end is on the link.
    pub gateway: Option<IpAddr>,
    /// It is no plain route: to this host itself, to many, or through an encapsulation.
    pub is_special: bool,
}

impl Hop {
    pub fn parse(body: &[u8]) -> Option<Hop> {
        let kind = *body.get(7)?;
        let mut hop = Hop { interface: 0, gateway: None, is_special: kind != libc::RTN_UNICAST };
        for (kind, value) in attributes(body.get(RTMSG_LEN..)?) {
            match kind {
                libc::RTA_OIF => hop.interface = word(value, 0)?.cast_signed(),
                libc::RTA_GATEWAY => hop.gateway = Some(address(value)?),
                // The family, 2 bytes, stands in front: a gateway of the other family.
                RTA_VIA => hop.gateway = Some(address(value.get(2..)?)?),
                RTA_ENCAP => hop.is_special = true,
                _ => {}
            }
        }
        (hop.interface != 0).then_some(hop)
    }
}

/// What an interface is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interface {
    pub is_ethernet: bool,
    pub is_up: bool,
    pub mtu: usize,
    /// All zero if it has none.
    pub mac: [u8; 6],
}

impl Interface {
    pub fn parse(body: &[u8]) -> Option<Interface> {
        let flags = word(body, 8)?;
        let needed = (libc::IFF_UP | libc::IFF_LOWER_UP) as u32;
        let mut interface = Interface {
            is_ethernet: half(body, 2)? == libc::ARPHRD_ETHER,
            is_up: flags & needed == needed,
            mtu: usize::MAX,
            mac: [0; 6],
        };
        for (kind, value) in attributes(body.get(IFINFOMSG_LEN..)?) {
            match kind {
                libc::IFLA_MTU => interface.mtu = word(value, 0)? as usize,
                libc::IFLA_ADDRESS if interface.is_ethernet => {
                    interface.mac = value.try_into().ok()?;
                }
                _ => {}
            }
        }
        Some(interface)
    }
}

/// A neighbour whose MAC is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub mac: [u8; 6],
    /// It was not confirmed lately.
    pub is_stale: bool,
}

impl Neighbour {
    pub fn parse(body: &[u8]) -> Option<Neighbour> {
        let state = half(body, 8)?;
        let is_stale = state & libc::NUD_STALE != 0;
        let is_known = is_stale || state & CONFIRMED != 0;
        let mut attributes = attributes(body.get(NDMSG_LEN..)?);
        let (_, mac) = attributes.find(|(kind, _)| *kind == libc::NDA_LLADDR)?;
        let mac = mac.try_into().ok().filter(|_| is_known)?;
        Some(Neighbour { mac, is_stale })
    }
}

/// How many IPsec policies there are for what this host receives, and for what it sends.
pub(super) fn ipsec_policies(body: &[u8]) -> Option<(u32, u32)> {
    let mut attributes = attributes(body.get(4..)?);
    let (_, counts) = attributes.find(|(kind, _)| *kind == XFRMA_SPD_INFO)?;
    Some((word(counts, 0)?, word(counts, 4)?))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn route(kind: u8, attributes: &[Vec<u8>]) -> Option<Hop> {
        let mut body = vec![0; RTMSG_LEN];
        body[7] = kind;
        body.extend(attributes.concat());
        Hop::parse(&body)
    }

    #[test]
    fn routes() {
        let out = attribute(libc::RTA_OIF, &7u32.to_ne_bytes());
        let hop = Hop { interface: 7, gateway: None, is_special: false };
        assert_eq!(route(libc::RTN_UNICAST, std::slice::from_ref(&out)), Some(hop));
        let special = Some(Hop { is_special: true, ..hop });
        assert_eq!(route(libc::RTN_LOCAL, std::slice::from_ref(&out)), special);
        let encap = attribute(RTA_ENCAP | 0x8000, &[0; 8]);
        assert_eq!(route(libc::RTN_UNICAST, &[out.clone(), encap]), special);
        let gateway = attribute(libc::RTA_GATEWAY, &[10, 0, 0, 1]);
        let with = |gateway: &str| Some(Hop { gateway: gateway.parse().ok(), ..hop });
        assert_eq!(route(libc::RTN_UNICAST, &[gateway, out.clone()]), with("10.0.0.1"));
        // IPv4 by way of an IPv6 router (RFC 5549).
        let mut via = vec![10, 0];
        via.extend("fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        let via = attribute(RTA_VIA, &via);
        assert_eq!(route(libc::RTN_UNICAST, &[out.clone(), via]), with("fe80::1"));
        assert_eq!(route(libc::RTN_UNICAST, &[]), None);
        let odd = attribute(libc::RTA_GATEWAY, &[10, 0, 0]);
        assert_eq!(route(libc::RTN_UNICAST, &[out, odd]), None);
    }

    #[test]
    fn a_neighbour_is_known_by_its_state() {
        let parse = |state: u16, mac: &[u8]| {
            let mut body = vec![0; NDMSG_LEN];
            body[8..10].copy_from_slice(&state.to_ne_bytes());
            body.extend(attribute(libc::NDA_LLADDR, mac));
            Neighbour::parse(&body)
        };
        let mac = [2, 0, 0, 0, 0, 1];
        for state in [libc::NUD_REACHABLE, libc::NUD_DELAY, libc::NUD_PROBE, libc::NUD_PERMANENT] {
            assert_eq!(parse(state, &mac), Some(Neighbour { mac, is_stale: false }), "{state:#x}");
        }
        assert_eq!(parse(libc::NUD_STALE, &mac), Some(Neighbour { mac, is_stale: true }));
        for state in [libc::NUD_NONE, libc::NUD_INCOMPLETE, libc::NUD_FAILED] {
            assert_eq!(parse(state, &mac), None, "{state:#x}");
        }
        assert_eq!(parse(libc::NUD_REACHABLE, &mac[..4]), None);
    }

    #[test]
    fn answers_that_are_cut_short_are_none() {
        for len in 0..16 {
            let body = vec![0xff; len];
            assert_eq!(Hop::parse(&body), None);
            assert_eq!(Interface::parse(&body), None);
            assert_eq!(Neighbour::parse(&body), None);
            assert_eq!(ipsec_policies(&body), None);
        }
    }
}
