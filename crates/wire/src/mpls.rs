//! MPLS label stack, and what stands behind it, which no label says.
//!
//! Source: [RFC 3032 section 2.1](https://www.rfc-editor.org/rfc/rfc3032#section-2.1) for the stack,
//! [RFC 4448](https://www.rfc-editor.org/rfc/rfc4448) section 4.6 for Ethernet over MPLS and its
//! control word, [RFC 4385](https://www.rfc-editor.org/rfc/rfc4385) section 5 for messages in its place.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                 label                 |  TC |S|      TTL      |  each; S in the last one
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |0 0 0 0|       reserved        |        sequence number        |  control word, in some
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+  pseudowires
//! ```
//!
//! Whether IP, Ethernet or a control word and Ethernet follow is known to the routers alone, so it is
//! told by its look: a first nibble of 4 or 6 with a header that is one, else an Ethernet header with an
//! EtherType or a length that fits. An address that begins with 4 or 6, or with four zeros, is why all
//! of it is looked at (RFC 8469). What looks like none of them has no answer.

use crate::checksum;
use crate::walk::{IpVersion, Walk, Why, chunk};
use crate::{Layer, LinkType};

/// EtherType of a label stack.
pub const ETHERTYPE: u16 = 0x8847;
/// EtherType of a label stack in front of a multicast packet.
pub const ETHERTYPE_MULTICAST: u16 = 0x8848;

const LABEL_LEN: usize = 4;
const CONTROL_WORD_LEN: usize = 4;
const ETHERNET_LEN: usize = 14;
const ETHERNET_PAYLOAD_MIN: usize = 46;

/// What stands behind a label stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Offset behind the begin of the stack, bytes.
    pub at: usize,
    /// [`LinkType::RAW`] or [`LinkType::ETHERNET`].
    pub link_type: LinkType,
}

/// Length of the label stack at the begin of some bytes; `None` if it has no bottom.
pub fn stack_len(bytes: &[u8]) -> Option<usize> {
    let (labels, _) = bytes.as_chunks::<LABEL_LEN>();
    let bottom = labels.iter().position(|label| label[2] & 1 != 0)?;
    Some((bottom + 1) * LABEL_LEN)
}

/// Finds the packet behind the label stack at the begin of some bytes, which end where the frame does.
/// `None` if the stack has no bottom, or nothing behind it looks like IP or Ethernet.
pub fn carried(bytes: &[u8]) -> Option<Carried> {
    let at = stack_len(bytes)?;
    let behind = &bytes[at..];
    let first = behind.first()? >> 4;
    let ip = Carried { at, link_type: LinkType::RAW };
    if matches!(first, 4 | 6) {
        let (ip_look, ethernet_look) = (ip_look(behind), ethernet_look(behind));
        return match ip_look.max(ethernet_look) {
            Look::Unlike => None,
            _ if ip_look >= ethernet_look => Some(ip),
            _ => Some(Carried { at, link_type: LinkType::ETHERNET }),
        };
    }
    let worded = behind.get(CONTROL_WORD_LEN..).filter(|_| first == 0).unwrap_or_default();
    let (plain_look, worded_look) = (ethernet_look(behind), ethernet_look(worded));
    // The reserved bits are sent as zero, so an address seldom looks like a control word.
    let word_is_clean = behind.starts_with(&[0, 0]);
    let has_word = worded_look > plain_look || (worded_look == plain_look && word_is_clean);
    let at = at + if has_word { CONTROL_WORD_LEN } else { 0 };
    // With a 1, messages of the channel begin as well.
    let least = if first == 1 { Look::Likely } else { Look::Possible };
    (plain_look.max(worded_look) >= least).then_some(Carried { at, link_type: LinkType::ETHERNET })
}

/// How much bytes look like a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    /// They contradict it.
    Unlike,
    /// Nothing contradicts it.
    Possible,
    /// What follows fits, too.
    Likely,
    /// So does a VLAN tag in between.
    Tagged,
    /// A checksum or a length says so.
    Sure,
}

fn ip_look(packet: &[u8]) -> Look {
    let walk = Walk::new(LinkType::RAW, packet);
    let Some(network) = walk.network else {
        return Look::Unlike;
    };
    let header = packet.get(..network.header_len as usize).unwrap_or_default();
    let is_sure = match network.version {
        IpVersion::V4 => !header.is_empty() && checksum::of(header) == 0,
        IpVersion::V6 => network.declared_len.is_some_and(|len| len as usize == packet.len()),
    };
    if is_sure { Look::Sure } else { Look::Possible }
}

fn ethernet_look(frame: &[u8]) -> Look {
    let Some(header) = chunk::<ETHERNET_LEN>(frame, 0) else {
        return Look::Unlike;
    };
    let walk = Walk::new(LinkType::ETHERNET, frame);
    let ethertype = u16::from_be_bytes([header[12], header[13]]);
    if ethertype < crate::walk::ethertype::MIN {
        let (len, got) = (usize::from(ethertype), frame.len() - ETHERNET_LEN);
        let fits = len >= 3 && len <= got && got - len < ETHERNET_PAYLOAD_MIN;
        return if fits { Look::Likely } else { Look::Unlike };
    }
    match (walk.network, walk.stop.layer, walk.stop.why) {
        (_, Layer::Ipv4 | Layer::Ipv6 | Layer::Arp, Why::Malformed(_)) => Look::Unlike,
        (Some(_), ..) | (None, Layer::Arp, Why::Complete) => match walk.vlan_count {
            0 => Look::Likely,
            _ => Look::Tagged,
        },
        _ => Look::Possible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LABELS: [u8; 8] = [0, 0x01, 0, 64, 0, 0x02, 0x01, 64];

    fn ipv4() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let check = checksum::of(&packet);
        packet[10..12].copy_from_slice(&check.to_be_bytes());
        packet.extend([0, 7, 0, 9, 0, 8, 0, 0]);
        packet
    }

    fn ethernet(mac: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
        [&mac[..], &[2, 0, 0, 0, 0, 1], &ethertype.to_be_bytes(), payload].concat()
    }

    fn found(behind: &[u8]) -> Option<(usize, LinkType)> {
        let carried = carried(&[&LABELS[..], behind].concat())?;
        Some((carried.at - LABELS.len(), carried.link_type))
    }

    #[test]
    fn ip_is_told_by_its_header() {
        assert_eq!(found(&ipv4()), Some((0, LinkType::RAW)));
        let v6 = [&[0x60, 0, 0, 0, 0, 1, 59, 64][..], &[0xfd; 32], &[7]].concat();
        assert_eq!(found(&v6), Some((0, LinkType::RAW)));
        assert_eq!(found(&[]), None);
        assert_eq!(carried(&[0, 1, 0, 64]), None, "no bottom");
    }

    #[test]
    fn ethernet_is_told_from_its_control_word() {
        let word = [0, 0, 0x12, 0x34];
        let macs: [[u8; 6]; 5] = [
            [2, 0, 0, 0, 0, 2],
            [0, 0, 0, 0, 0, 2],
            [0, 0x1b, 0x21, 1, 2, 3],
            [0x45, 0, 0, 28, 0, 1],
            [0x68, 5, 0xca, 1, 2, 3],
        ];
        for mac in macs {
            let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[9; 20]].concat();
            let frames = [
                ethernet(mac, 0x0800, &ipv4()),
                ethernet(mac, 0x8100, &[&[0, 5, 8, 0][..], &ipv4()].concat()),
                ethernet(mac, 0x0806, &arp),
                ethernet(mac, 39, &[&[0x42, 0x42, 3][..], &[7; 36], &[0; 7]].concat()),
            ];
            for frame in frames {
                assert_eq!(found(&frame), Some((0, LinkType::ETHERNET)), "{frame:02x?}");
                let worded = [&word[..], &frame].concat();
                assert_eq!(found(&worded), Some((4, LinkType::ETHERNET)), "{worded:02x?}");
            }
        }
    }

    #[test]
    fn a_channel_message_is_no_packet() {
        assert_eq!(found(&[0x10, 0, 0, 0x21, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn an_answer_lies_in_the_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(carried) = carried(&bytes) {
                prop_assert!(carried.at >= LABEL_LEN && carried.at <= bytes.len());
            }
        }
    }
}
