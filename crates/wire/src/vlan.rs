//! VLAN tags of an Ethernet frame: 4 bytes each, between the MAC addresses and the EtherType.
//!
//! Source: IEEE 802.1Q-2022 section 9; 0x9100 is what provider bridges used before 802.1ad.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |    TPID: 8100, 88a8, 9100     | PCP |D|        VLAN id        |  outermost, at byte 12
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                   the next tag, or EtherType                  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Liberal: tags of any TPID at any depth; VLAN 0 (priority only) and 4095 (reserved) are tags as well.

use crate::walk::{VlanTag, chunk, ethertype};

/// Where the outermost tag of an Ethernet frame stands: behind the two MAC addresses.
pub const AT: usize = 12;
/// Length of a tag, bytes.
pub const TAG_LEN: usize = 4;

impl VlanTag {
    /// Puts a tag together from its fields.
    ///
    /// # Panics
    /// If `pcp` is above 7 or `vid` above 4095, in a build with debug assertions; their lower bits count.
    pub const fn new(tpid: u16, pcp: u8, dei: bool, vid: u16) -> VlanTag {
        debug_assert!(pcp < 8 && vid < 4096, "a field is wider than its bits");
        let pcp = (pcp & 7) as u16;
        VlanTag { tpid, tci: pcp << 13 | (dei as u16) << 12 | vid & 0x0fff }
    }

    /// Its bytes on the wire.
    pub const fn to_bytes(self) -> [u8; TAG_LEN] {
        let ([a, b], [c, d]) = (self.tpid.to_be_bytes(), self.tci.to_be_bytes());
        [a, b, c, d]
    }
}

/// The outermost tag of an Ethernet frame; `None` if it is untagged, or its tag is cut off.
#[inline]
pub fn outermost(frame: &[u8]) -> Option<VlanTag> {
    tag_at(frame, AT)
}

/// How many whole tags an Ethernet frame has, each with the EtherType of what follows it.
#[inline]
pub fn count(frame: &[u8]) -> usize {
    let tags = (0..).map(|n| AT + n * TAG_LEN);
    let is_whole = |&at: &usize| tag_at(frame, at).is_some() && frame.len() >= at + TAG_LEN + 2;
    tags.take_while(is_whole).count()
}

#[inline]
fn tag_at(frame: &[u8], at: usize) -> Option<VlanTag> {
    let b = chunk::<TAG_LEN>(frame, at)?;
    let tpid = u16::from_be_bytes([b[0], b[1]]);
    let is_tag = matches!(tpid, ethertype::VLAN | ethertype::QINQ | ethertype::QINQ_OLD);
    is_tag.then_some(VlanTag { tpid, tci: u16::from_be_bytes([b[2], b[3]]) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tags_are_counted_while_they_are_whole() {
        let mut frame = vec![2; AT];
        frame.extend([0x88, 0xa8, 0xf0, 0x00, 0x81, 0, 0, 7, 0x91, 0, 0, 1, 8, 0]);
        assert_eq!(outermost(&frame), Some(VlanTag::new(0x88a8, 7, true, 0)));
        let counts = [25, 22, 21, 18, 17, 16, 12, 0].map(|len| count(&frame[..len]));
        assert_eq!((count(&frame), counts), (3, [2, 2, 1, 1, 0, 0, 0, 0]));
        assert_eq!(outermost(&frame[..15]), None);
        assert_eq!(count(&[8; 60]), 0);
    }

    proptest! {
        #[test]
        fn fields_come_back(pcp in 0..8u8, dei: bool, vid in 0..4096u16, qinq: bool) {
            let tpid = if qinq { ethertype::QINQ } else { ethertype::VLAN };
            let tag = VlanTag::new(tpid, pcp, dei, vid);
            prop_assert_eq!((tag.pcp(), tag.dei(), tag.vid()), (pcp, dei, vid));
            let frame = [&[0; AT][..], &tag.to_bytes(), &[8, 0]].concat();
            prop_assert_eq!(outermost(&frame), Some(tag));
            prop_assert_eq!(count(&frame), 1);
        }
    }
}
