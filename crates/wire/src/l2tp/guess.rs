//! The format of an L2TPv3 data packet, guessed from where an Ethernet frame makes sense.
//!
//! Cookies of 0, 4 and 8 bytes, each with the default sublayer and without: six places where the
//! frame can begin. The first in this order wins at which the sublayer's reserved bits are 0, the
//! source MAC is not that of a group, and the EtherType is a known one whose header fits: IP by its
//! version and lengths, ARP by its kind of address, 802.3 by its length and its LLC. If none fits, it
//! is what a Linux kernel sends.

use crate::tunnel::{Cookie, L2tpFormat};
use crate::walk::{Walk, Why, chunk, ethertype};
use crate::{Layer, LinkType};

const RESERVED: u8 = 0xbf;

/// Guesses the format of a data packet, which is given from its session id on. Looks at six places
/// and at headers only.
pub fn guess(packet: &[u8]) -> L2tpFormat {
    let cookies = [Cookie::None, Cookie::Short([0; 4]), Cookie::Long([0; 8])];
    let formats =
        cookies.map(|cookie| [true, false].map(|sublayer| L2tpFormat { cookie, sublayer }));
    formats.into_iter().flatten().find(|format| fits(packet, format)).unwrap_or_default()
}

fn fits(packet: &[u8], format: &L2tpFormat) -> bool {
    let at = format.header_len();
    let Some((header, frame)) = packet.split_at_checked(at) else {
        return false;
    };
    (!format.sublayer || header[at - 4] & RESERVED == 0) && is_frame(frame)
}

fn is_frame(frame: &[u8]) -> bool {
    let Some(header) = chunk::<14>(frame, 0) else {
        return false;
    };
    if header[6] & 1 != 0 {
        return false; // a group sends nothing
    }
    let walk = Walk::new(LinkType::ETHERNET, frame);
    if matches!(walk.stop.why, Why::Malformed(_)) {
        return false;
    }
    let at = walk.payload_at as usize;
    match walk.ethertype {
        Some(ethertype::IPV4 | ethertype::IPV6) => walk.network.is_some(),
        Some(ethertype::ARP) => arp_is_for_ethernet(&frame[..at]),
        Some(value) => KNOWN.contains(&value),
        None => walk.stop.layer == Layer::Llc && has_llc(frame, at),
    }
}

// Hardware Ethernet, protocol IPv4, lengths 6 and 4: 28 bytes, of which the first six tell.
fn arp_is_for_ethernet(walked: &[u8]) -> bool {
    let arp = walked.len().checked_sub(28).and_then(|at| chunk::<6>(walked, at));
    arp == Some(&[0, 1, 0x08, 0, 6, 4])
}

// The length in front of the LLC header, which is one of those seen: SNAP, spanning tree, OSI, IPX
// and NetBIOS.
fn has_llc(frame: &[u8], at: usize) -> bool {
    let Some(&[high, low, dsap, ssap]) = at.checked_sub(2).and_then(|at| chunk::<4>(frame, at))
    else {
        return false;
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    let rest = frame.len() - at;
    let padding_max = 46;
    let fits = len >= 3 && len <= rest && rest - len < padding_max;
    fits && dsap == ssap && matches!(dsap, 0xaa | 0x42 | 0xfe | 0xe0 | 0xf0)
}

/// EtherTypes that are no IP and met in networks, by number.
const KNOWN: [u16; 14] = [
    0x8035, // RARP
    0x8808, // pause
    0x8809, // slow protocols, LACP
    0x8847, // MPLS
    0x8848, // MPLS multicast
    0x8863, // PPPoE discovery
    0x8864, // PPPoE session
    0x888e, // EAPOL
    0x88a2, // ATA over Ethernet
    0x88cc, // LLDP
    0x88e5, // MACsec
    0x88f7, // PTP
    0x8902, // CFM
    0x9000, // loopback
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l2tp::Repr;
    use proptest::prelude::*;

    const MACS: [u8; 12] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1];

    fn frames() -> Vec<Vec<u8>> {
        let ipv4 = [0x45, 0, 0, 24, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let mut ipv6 = vec![0x60, 0, 0, 0, 0, 4, 59, 64];
        ipv6.extend([0xfd; 32]);
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
        arp.extend([7; 20]);
        let parts: [&[&[u8]]; 7] = [
            &[&[8, 0], &ipv4, &[0; 4]],
            &[&[0x81, 0, 0, 5, 8, 0], &ipv4, &[0; 4]],
            &[&[0x86, 0xdd], &ipv6, &[0; 4]],
            &[&[8, 6], &arp, &[0; 18]],
            &[&[0, 38, 0x42, 0x42, 3], &[0; 43]],
            &[&[0x88, 0xcc], &[2, 7, 4, 1, 2, 3, 4, 5, 6]],
            &[&[0x90, 0], &[0; 46]],
        ];
        parts.iter().map(|parts| [&MACS[..], &parts.concat()].concat()).collect()
    }

    proptest! {
        #[test]
        fn what_was_sent_is_found(
            session in 1..=u32::MAX,
            cookie in prop_oneof![
                Just(Cookie::None),
                any::<[u8; 4]>().prop_map(Cookie::Short),
                any::<[u8; 8]>().prop_map(Cookie::Long),
            ],
            sublayer: bool,
            sequence in prop::option::of(0..1_u32 << 24),
        ) {
            for frame in frames() {
                let repr = Repr { session, format: L2tpFormat { cookie, sublayer }, sequence };
                let mut packet = vec![0; repr.header_len()];
                repr.emit(&mut packet);
                packet.extend(&frame);
                let found = guess(&packet);
                prop_assert_eq!(found.header_len(), repr.header_len(), "{:02x?}", packet);
            }
        }

        #[test]
        fn anything_may_be_looked_at(packet in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(guess(&packet).header_len() <= crate::l2tp::HEADER_LEN_MAX);
        }
    }

    #[test]
    fn the_kernel_is_believed_where_nothing_fits() {
        assert_eq!(guess(&[0x55; 64]), L2tpFormat::default());
        assert_eq!(guess(&[]), L2tpFormat::default());
    }
}
