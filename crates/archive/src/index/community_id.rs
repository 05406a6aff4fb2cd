//! Community id: one name for a flow, the same in every tool that knows it.
//!
//! ```text
//! "1:" base64(SHA-1(seed 2 · address 4 or 16 · address 4 or 16 · protocol 1 · 0 1 [· port 2 · port 2]))
//! ```
//! All big endian, the seed is 0, the lower end (address, then port) first. Protocols without ports,
//! and fragments, have no ports in it. ICMP has its type in place of the first port; in place of the
//! second the type that answers it, or, where none does, its code. Then the ends are not sorted, as
//! nothing ever flows back. Source: <https://github.com/corelight/community-id-spec>.

use super::ends::{Ends, IcmpPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use std::net::Ipv6Addr;

/// The community id of a flow, version 1 with seed 0.
pub(crate) fn community_id(ends: &Ends) -> String {
    let (mut low, mut high) = (ends.lo, ends.hi);
    let ports = match ends.icmp {
        None => ends.port_lo.zip(ends.port_hi),
        Some(IcmpPair { lo, hi, high_first }) => {
            if high_first {
                (low, high) = (high, low);
            }
            Some((lo.into(), hi.into()))
        }
    };
    let mut hash = Sha1::new();
    hash.update([0, 0]);
    for address in [low, high] {
        match address.to_ipv4_mapped() {
            Some(address) => hash.update(address.octets()),
            None => hash.update(address.octets()),
        }
    }
    hash.update([ends.proto, 0]);
    if let Some((first, second)) = ports {
        hash.update(first.to_be_bytes());
        hash.update(second.to_be_bytes());
    }
    format!("1:{}", STANDARD.encode(hash.finalize()))
}

/// An ICMP message from `src` to `dst` as a pair of types, sorted as its ends are.
pub(crate) fn icmp_pair(is_v6: bool, kind: u8, code: u8, src: Ipv6Addr, dst: Ipv6Addr) -> IcmpPair {
    match answers(is_v6, kind) {
        Some(other) if (src, kind) <= (dst, other) => {
            IcmpPair { lo: kind, hi: other, high_first: false }
        }
        Some(other) => IcmpPair { lo: other, hi: kind, high_first: false },
        None => IcmpPair { lo: kind, hi: code, high_first: src > dst },
    }
}

/// The type of message that answers one, or that it answers.
fn answers(is_v6: bool, kind: u8) -> Option<u8> {
    let pairs: &[(u8, u8)] = match is_v6 {
        // Echo, router, timestamp, information, mask.
        false => &[(8, 0), (10, 9), (13, 14), (15, 16), (17, 18)],
        // Echo, MLD, router, neighbour, node information, home agent discovery.
        true => &[(128, 129), (130, 131), (133, 134), (135, 136), (139, 140), (144, 145)],
    };
    pairs.iter().find_map(|&(a, b)| match kind {
        _ if kind == a => Some(b),
        _ if kind == b => Some(a),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn id(proto: u8, src: &str, dst: &str, ports: Option<(u16, u16)>) -> String {
        let [src, dst] = [src, dst].map(|text| text.parse::<IpAddr>().unwrap());
        let pair = ports.filter(|_| matches!(proto, 1 | 58)).map(|(kind, other)| {
            let [src, dst] = [src, dst].map(super::super::ends::mapped);
            icmp_pair(proto == 58, kind as u8, other as u8, src, dst)
        });
        community_id(&Ends::new(src, dst, proto, ports.filter(|_| pair.is_none()), pair).0)
    }

    // The values that the specification's repository publishes for its captures.
    #[test]
    fn the_published_values() {
        let (a, b) = ("128.232.110.120", "66.35.250.204");
        let (e, f) = ("fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea");
        for (proto, src, dst, ports, want) in [
            (6, a, b, Some((34855, 80)), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            (6, b, a, Some((80, 34855)), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            (17, "192.168.1.52", "8.8.8.8", Some((54585, 53)), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            (
                132,
                "192.168.170.8",
                "192.168.170.56",
                Some((7, 7)),
                "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=",
            ),
            (1, "192.168.0.89", "192.168.0.1", Some((8, 0)), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            (1, "192.168.0.1", "192.168.0.89", Some((0, 0)), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            (1, "10.0.0.1", "10.0.0.2", Some((11, 0)), "1:YHxtAirCG//0OzkcVAukqKQN9xM="),
            (58, e, f, Some((135, 0)), "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
            (58, f, e, Some((136, 0)), "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
            (58, f, e, Some((135, 0)), "1:zavyT/cezQr1fmImYCwYnMXbgck="),
            (58, e, f, Some((136, 0)), "1:zavyT/cezQr1fmImYCwYnMXbgck="),
            (
                58,
                "3ffe:501:1800:2345::2",
                "3ffe:507:0:1:200:86ff:fe05:80da",
                Some((3, 0)),
                "1:2ObVBgIn28oZvibYZhZMBgh7WdQ=",
            ),
            (
                58,
                "3ffe:501:410:0:2c0:dfff:fe47:33e",
                "3ffe:507:0:1:200:86ff:fe05:80da",
                Some((1, 4)),
                "1:hLZd0XGWojozrvxqE0dWB1iM6R0=",
            ),
            (
                6,
                "2607:f8b0:400c:c03::1a",
                "2001:470:e5bf:dead:4957:2174:e82c:4887",
                Some((25, 63943)),
                "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
            ),
            (46, "10.1.12.1", "10.1.12.2", None, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
            (46, "10.1.12.2", "10.1.12.1", None, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
        ] {
            assert_eq!(id(proto, src, dst, ports), want, "{proto} {src} {dst} {ports:?}");
        }
    }
}
