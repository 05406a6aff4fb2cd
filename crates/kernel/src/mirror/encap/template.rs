//! The outer headers of an endpoint, as far as they are the same for all of its packets.

use super::super::layout::{Shape, ShapeKind};
use std::net::IpAddr;
use wire::encap::{Fit, Told};
use wire::metadata::Lane;
use wire::tunnel::{Carrier, Encap};
use wire::walk::ethertype;
use wire::{Direction, gre, udp};

const DONT_FRAGMENT: u16 = 0x4000;

/// What the headers in front of a tunnel's are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// The next hop's MAC address.
    pub destination_mac: [u8; 6],
    /// The interface's own.
    pub source_mac: [u8; 6],
    /// The source address.
    pub source: IpAddr,
    /// The far end, of the same version.
    pub destination: IpAddr,
    /// Differentiated services code point, 0 to 63.
    pub dscp: u8,
    /// TTL, or hop limit.
    pub hop_limit: u8,
    /// Whether routers may not fragment it; only in IPv4.
    pub dont_fragment: bool,
}

impl Shape {
    /// The shape of a tunnel to an address of a version; `None` if no program writes its headers.
    pub fn of(is_v6: bool, carrier: Carrier, encap: &Encap) -> Option<Shape> {
        let kind = match (encap, carrier) {
            (Encap::Vxlan { .. }, Carrier::Udp { .. }) => ShapeKind::Vxlan,
            (Encap::Geneve { metadata: false, .. }, Carrier::Udp { .. }) => ShapeKind::Geneve,
            (Encap::Geneve { metadata: true, .. }, Carrier::Udp { .. }) => {
                ShapeKind::GeneveMetadata
            }
            (Encap::Gre(gre), Carrier::Ip { .. }) if !gre.checksum && !gre.sequence => {
                ShapeKind::Gre { key: gre.key.is_some() }
            }
            (Encap::Gretap(gre), Carrier::Ip { .. }) if !gre.checksum && !gre.sequence => {
                ShapeKind::Gretap { key: gre.key.is_some() }
            }
            _ => return None,
        };
        Some(Shape { is_v6, kind })
    }
}

impl Outer {
    /// Writes the headers for [`Member::header`](super::super::layout::Member::header). The lane's last
    /// number is that of the first CPU; a program adds its CPU's number. `None` if no program writes such
    /// headers, or the addresses are of two versions.
    pub fn template(
        &self,
        carrier: Carrier,
        encap: &Encap,
        lane: Lane,
    ) -> Option<(Shape, Vec<u8>)> {
        let is_v6 = self.destination.is_ipv6();
        let shape = Shape::of(is_v6, carrier, encap)?;
        let mut header = vec![0; shape.header_len()];
        header[..6].copy_from_slice(&self.destination_mac);
        header[6..12].copy_from_slice(&self.source_mac);
        let (ethernet, ip) = header.split_at_mut(14);
        let (ip, tunnel) = ip.split_at_mut(shape.ip_len());
        let protocol = if shape.is_udp() { udp::PROTOCOL } else { gre::IP_PROTOCOL };
        let kind = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let flags = if self.dont_fragment { DONT_FRAGMENT } else { 0 };
                ip[..2].copy_from_slice(&[0x45, self.dscp << 2]);
                ip[6..8].copy_from_slice(&flags.to_be_bytes());
                ip[8..10].copy_from_slice(&[self.hop_limit, protocol]);
                ip[12..16].copy_from_slice(&source.octets());
                ip[16..].copy_from_slice(&destination.octets());
                ethertype::IPV4
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                ip[..2].copy_from_slice(&[0x60 | self.dscp >> 2, self.dscp << 6]);
                ip[6..8].copy_from_slice(&[protocol, self.hop_limit]);
                ip[8..24].copy_from_slice(&source.octets());
                ip[24..].copy_from_slice(&destination.octets());
                ethertype::IPV6
            }
            _ => return None,
        };
        ethernet[12..].copy_from_slice(&kind.to_be_bytes());
        let tunnel = match carrier {
            Carrier::Udp { port } => {
                tunnel[2..4].copy_from_slice(&port.to_be_bytes());
                &mut tunnel[udp::HEADER_LEN..]
            }
            Carrier::Ip { .. } => tunnel,
        };
        let protocol = match shape.kind {
            ShapeKind::Gre { .. } => 0,
            _ => gre::protocol::ETHERNET,
        };
        let fit = Fit { at: 0, end: 0, protocol };
        let told = Told { origlen: 0, ts_ns: 0, direction: Direction::Unknown, lane };
        encap.emit(tunnel, carrier, &fit, &[], &told, 0);
        Some((shape, header))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::layout::{Member, WayState, member};
    use super::*;
    use wire::Vni;
    use wire::tunnel::Gre;

    const LANE: Lane = Lane { epoch: 0x0102_0304, tap: 5, target: 6, lane: 7 };

    fn outer(is_v6: bool) -> Outer {
        let (source, destination) = if is_v6 {
            ("fd00::1".parse(), "fd00::2".parse())
        } else {
            ("10.0.0.1".parse(), "10.0.0.2".parse())
        };
        Outer {
            destination_mac: [2, 0, 0, 0, 0, 2],
            source_mac: [2, 0, 0, 0, 0, 1],
            source: source.unwrap(),
            destination: destination.unwrap(),
            dscp: 46,
            hop_limit: 64,
            dont_fragment: true,
        }
    }

    #[test]
    fn a_template_is_as_long_as_its_shape_and_makes_a_member() {
        let vni = Vni::new(77).unwrap();
        let udp = Carrier::Udp { port: 4789 };
        let ip = Carrier::Ip { protocol: 47 };
        let gre = |key| Gre { key, checksum: false, sequence: false };
        for is_v6 in [false, true] {
            for (carrier, encap) in [
                (udp, Encap::Vxlan { vni }),
                (udp, Encap::Geneve { vni, metadata: false }),
                (udp, Encap::Geneve { vni, metadata: true }),
                (ip, Encap::Gre(gre(None))),
                (ip, Encap::Gre(gre(Some(9)))),
                (ip, Encap::Gretap(gre(None))),
                (ip, Encap::Gretap(gre(Some(9)))),
            ] {
                let (shape, header) = outer(is_v6).template(carrier, &encap, LANE).unwrap();
                let member = Member {
                    state: WayState::Known,
                    interface: 3,
                    shape,
                    mtu: 1500,
                    header: header.clone(),
                };
                assert_eq!(member.bytes()[member::HEADER..][..header.len()], header);
            }
        }
    }

    #[test]
    fn what_no_program_writes_has_no_template() {
        let numbered = Encap::Gre(Gre { key: None, checksum: false, sequence: true });
        let carrier = Carrier::Ip { protocol: 47 };
        assert_eq!(outer(false).template(carrier, &numbered, LANE), None);
        let vxlan = Encap::Vxlan { vni: Vni::new(1).unwrap() };
        let mixed = Outer { source: "fd00::1".parse().unwrap(), ..outer(false) };
        assert_eq!(mixed.template(Carrier::Udp { port: 4789 }, &vxlan, LANE), None);
    }
}
