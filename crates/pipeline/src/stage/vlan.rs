//! Stages that push, replace and pop VLAN tags. All bits of a tag are kept that are not asked to change.
//!
//! Only Ethernet has such tags: packets of other link types, and what ends before a tag's place, go on
//! as they are. The flow hash stands, as no tag is part of it.

use super::{Stage, Work, edit};
use api::{DropReason, Tags, Tpid};
use io::{Packet, Pool};
use wire::LinkType;
use wire::vlan::{self, TAG_LEN};
use wire::walk::{VlanTag, ethertype};

/// The fields of a tag that are given; the others come from the tag that is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    pub vid: Option<u16>,
    pub pcp: Option<u8>,
    pub dei: Option<bool>,
    pub tpid: Option<Tpid>,
}

impl Fields {
    fn over(&self, tag: VlanTag) -> VlanTag {
        let tpid = self.tpid.map_or(tag.tpid, |tpid| match tpid {
            Tpid::Dot1Q => ethertype::VLAN,
            Tpid::Dot1Ad => ethertype::QINQ,
        });
        let (pcp, dei) = (self.pcp.unwrap_or(tag.pcp()), self.dei.unwrap_or(tag.dei()));
        VlanTag::new(tpid, pcp & 7, dei, self.vid.unwrap_or(tag.vid()) & 0x0fff)
    }
}

/// The tag that an untagged packet would have.
const NO_TAG: VlanTag = VlanTag { tpid: ethertype::VLAN, tci: 0 };

// An Ethernet frame whose MAC addresses and EtherType are there.
fn is_ethernet(packet: &Packet) -> bool {
    packet.meta.link_type == LinkType::ETHERNET && packet.data.len() >= vlan::AT + 2
}

fn push(packet: &mut Packet, tag: VlanTag, pool: &mut Pool) -> Result<(), DropReason> {
    edit::insert(packet, vlan::AT, &tag.to_bytes(), pool)
}

/// Puts a tag in front of those that are there.
pub(super) struct VlanPush {
    fields: Fields,
    touched: u64,
}

impl VlanPush {
    /// Without a TPID it is 802.1ad in front of another tag, else 802.1Q; other fields that are not
    /// given are those of the outermost tag, else 0.
    pub(super) fn new(fields: Fields) -> VlanPush {
        VlanPush { fields, touched: 0 }
    }
}

impl Stage for VlanPush {
    fn apply(&mut self, work: &mut Work<'_>) {
        work.each(|packet, pool| {
            if !is_ethernet(packet) {
                return Ok(());
            }
            let tag = vlan::outermost(&packet.data)
                .map_or(NO_TAG, |tag| VlanTag { tpid: ethertype::QINQ, ..tag });
            push(packet, self.fields.over(tag), pool)?;
            self.touched += 1;
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

/// Changes the outermost tag.
pub(super) struct VlanReplace {
    fields: Fields,
    or_push: bool,
    touched: u64,
}

impl VlanReplace {
    /// Fields that are not given stay. With `or_push` an untagged packet gets the tag, with 0 in their
    /// place.
    pub(super) fn new(fields: Fields, or_push: bool) -> VlanReplace {
        VlanReplace { fields, or_push, touched: 0 }
    }
}

impl Stage for VlanReplace {
    fn apply(&mut self, work: &mut Work<'_>) {
        work.each(|packet, pool| {
            if !is_ethernet(packet) {
                return Ok(());
            }
            match vlan::outermost(&packet.data) {
                Some(tag) => {
                    let bytes = self.fields.over(tag).to_bytes();
                    packet.data[vlan::AT..vlan::AT + TAG_LEN].copy_from_slice(&bytes);
                }
                None if self.or_push && !is_cut_tag(packet) => {
                    push(packet, self.fields.over(NO_TAG), pool)?;
                }
                None => return Ok(()),
            }
            self.touched += 1;
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

// A tag of which only the TPID is there: not to be taken for an untagged packet.
fn is_cut_tag(packet: &Packet) -> bool {
    let cut = packet.data.len() < vlan::AT + TAG_LEN;
    let tpid = u16::from_be_bytes([packet.data[vlan::AT], packet.data[vlan::AT + 1]]);
    cut && matches!(tpid, ethertype::VLAN | ethertype::QINQ | ethertype::QINQ_OLD)
}

/// Takes tags off, from the outermost on.
pub(super) struct VlanPop {
    tags_max: usize,
    touched: u64,
}

impl VlanPop {
    /// A packet with fewer tags loses those that it has.
    pub(super) fn new(tags: Tags) -> VlanPop {
        let tags_max = match tags {
            Tags::Count(tags) => tags.into(),
            Tags::All => usize::MAX,
        };
        VlanPop { tags_max, touched: 0 }
    }
}

impl Stage for VlanPop {
    fn apply(&mut self, work: &mut Work<'_>) {
        work.each(|packet, _| {
            if packet.meta.link_type != LinkType::ETHERNET {
                return Ok(());
            }
            let tags = vlan::count(&packet.data).min(self.tags_max);
            if tags > 0 {
                edit::remove(packet, vlan::AT, tags * TAG_LEN);
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
