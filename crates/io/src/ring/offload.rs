//! Undoing the host's offloads: from a frame as the ring shows it to the packets that the wire carries.

use super::sys::Frame;
use crate::batch::Batch;
use crate::packet::{Meta, Packet};
use crate::pool::Pool;
use api::{DropReason, Drops};
use wire::LinkType;
use wire::segment::{Gso, GsoKind, Plan, complete_checksum};

/// Memory for the packets that super-packets are cut into: some batches' worth.
const SEGMENT_CHUNKS: usize = 8;
const SEGMENT_CHUNK_BYTES: usize = 1 << 20;

/// `virtio_net_hdr` flag: the checksum is to be completed.
const NEEDS_CSUM: u8 = 1;
/// `virtio_net_hdr` GSO types (`include/uapi/linux/virtio_net.h`).
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Set beside the type where a TCP super-packet carries CWR.
const GSO_ECN: u8 = 0x80;

const ETHERTYPE_VLAN: u16 = 0x8100;
const MACS_LEN: usize = 12;
const TAG_LEN: usize = 4;

/// What a frame became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undone {
    /// Packets that were made of it, those included that found no memory, or no room in the ring.
    pub packets: u64,
    /// Whether a filter before the ring counts as many.
    pub tally: Tally,
}

/// How the packets of a frame compare with those that a filter before the ring counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tally {
    /// They are as many.
    Exact,
    /// They may be fewer: the filter does not look into tunnels, nor tell what cannot be cut.
    Estimated,
    /// They are fewer: the ring had room for a part of the super-packet only.
    CutShort,
}

impl Undone {
    /// A frame that stays as it came out of the ring.
    pub fn left_whole(frame: &Frame) -> Undone {
        let tally = match frame.vnet.gso_size {
            0 => Tally::Exact,
            _ if is_whole(frame) => Tally::Estimated,
            _ => Tally::CutShort,
        };
        Undone { packets: 1, tally }
    }
}

/// Makes wire packets of frames.
pub(super) struct Offloads {
    segments: Pool,
}

impl Offloads {
    pub fn new() -> Offloads {
        Offloads { segments: Pool::new(SEGMENT_CHUNKS, SEGMENT_CHUNK_BYTES) }
    }

    /// Adds to a batch the packets that the wire carries for a frame; `meta` is what they share.
    pub fn undo(
        &mut self,
        mut frame: Frame,
        mut meta: Meta,
        drops: &mut Drops,
        batch: &mut Batch,
    ) -> Undone {
        let whole = is_whole(&frame);
        let left_whole = Undone::left_whole(&frame);
        let tag_len = if restore_tag(&mut frame, meta.link_type) { TAG_LEN } else { 0 };
        meta.origlen = frame.len + tag_len as u32;
        let csum_start = usize::from(frame.vnet.csum_start) + tag_len;
        if let Some(kind) = gso_kind(frame.vnet.gso_type) {
            let gso = Gso {
                kind,
                size: frame.vnet.gso_size,
                csum_start: csum_start as u16,
                csum_offset: frame.vnet.csum_offset,
            };
            // One longer than a block of the ring has lost its last segments. It is as long as it was
            // for the plan, which counts them; so long a frame is rare enough for memory of its own.
            let padded;
            let bytes = if whole {
                &frame.data[..]
            } else {
                let mut longer = frame.data.to_vec();
                longer.resize(meta.origlen as usize, 0);
                padded = longer;
                &padded[..]
            };
            match Plan::new(meta.link_type, bytes, &gso) {
                Ok(plan) => {
                    return self.cut(bytes, frame.data.len(), &plan, &meta, drops, batch);
                }
                Err(_) => meta.gso = Some(gso),
            }
        } else if whole && frame.vnet.flags & NEEDS_CSUM != 0 {
            // Fails only where the header's offsets lie beyond the frame: then the frame stays as
            // it is, as the NIC would have left it.
            let offset = usize::from(frame.vnet.csum_offset);
            let _ = complete_checksum(&mut frame.data, csum_start, offset);
        }
        batch.push(Packet { data: frame.data, meta });
        left_whole
    }

    /// Cuts a super-packet, of which so many bytes are present, into the wire's packets.
    fn cut(
        &mut self,
        frame: &[u8],
        present_bytes: usize,
        plan: &Plan,
        meta: &Meta,
        drops: &mut Drops,
        batch: &mut Batch,
    ) -> Undone {
        for index in 0..plan.count() {
            if plan.segment_end(index) > present_bytes {
                drops.add(DropReason::KernelRing);
                continue;
            }
            let len = plan.segment_len(index);
            let Some(mut data) = self.segments.take(len) else {
                drops.add(DropReason::PoolExhausted);
                continue;
            };
            plan.emit(frame, index, &mut data);
            batch.push(Packet { data, meta: Meta { origlen: len as u32, ..meta.clone() } });
        }
        let tally = if plan.is_in_tunnel() { Tally::Estimated } else { Tally::Exact };
        Undone { packets: plan.count() as u64, tally }
    }
}

/// Whether all bytes of a frame are there.
fn is_whole(frame: &Frame) -> bool {
    frame.data.len() as u64 == u64::from(frame.len)
}

/// Puts a tag that the kernel keeps beside the frame back between the MACs and the EtherType.
fn restore_tag(frame: &mut Frame, link_type: LinkType) -> bool {
    if frame.status & libc::TP_STATUS_VLAN_VALID == 0
        || link_type != LinkType::ETHERNET
        || frame.data.len() < MACS_LEN
        || !frame.data.grow_front(TAG_LEN)
    {
        return false;
    }
    let tpid = match frame.status & libc::TP_STATUS_VLAN_TPID_VALID {
        0 => ETHERTYPE_VLAN,
        _ => frame.vlan_tpid,
    };
    frame.data.copy_within(TAG_LEN..TAG_LEN + MACS_LEN, 0);
    frame.data[MACS_LEN..MACS_LEN + 2].copy_from_slice(&tpid.to_be_bytes());
    frame.data[MACS_LEN + 2..MACS_LEN + 4].copy_from_slice(&frame.vlan_tci.to_be_bytes());
    true
}

fn gso_kind(gso_type: u8) -> Option<GsoKind> {
    match gso_type & !GSO_ECN {
        GSO_TCPV4 => Some(GsoKind::TcpV4),
        GSO_TCPV6 => Some(GsoKind::TcpV6),
        GSO_UDP_L4 => Some(GsoKind::UdpL4),
        _ => None,
    }
}
