//! Bytes put into a packet's front, and taken out of it.
//!
//! The front moves and the rest stays: headers are short. What the wire carried moves along, as what is
//! put in will be on the next wire, and what is taken out will not.

use api::DropReason;
use io::{Packet, Pool};

/// Puts bytes in at `at`. The packet is copied into the pool if it has no room in front.
///
/// # Errors
/// [`DropReason::PoolExhausted`] at the pool's bound; the packet is as it was.
///
/// # Panics
/// If the packet ends before `at`.
#[inline]
pub(super) fn insert(
    packet: &mut Packet,
    at: usize,
    bytes: &[u8],
    pool: &mut Pool,
) -> Result<(), DropReason> {
    let (data, len) = (&mut packet.data, bytes.len());
    if data.grow_front(len) {
        data.copy_within(len..len + at, 0);
    } else {
        let mut grown = pool.take(data.len() + len).ok_or(DropReason::PoolExhausted)?;
        grown[..at].copy_from_slice(&data[..at]);
        grown[at + len..].copy_from_slice(&data[at..]);
        *data = grown;
    }
    data[at..at + len].copy_from_slice(bytes);
    let meta = &mut packet.meta;
    meta.origlen = meta.origlen.saturating_add(len as u32);
    if let Some(gso) = meta.gso.as_mut().filter(|gso| gso.csum_start != 0) {
        gso.csum_start = gso.csum_start.saturating_add(len as u16);
    }
    Ok(())
}

/// Takes `len` bytes out at `at`.
///
/// # Panics
/// If the packet ends before `at + len`.
#[inline]
pub(super) fn remove(packet: &mut Packet, at: usize, len: usize) {
    packet.data.copy_within(..at, len);
    packet.data.trim_front(len);
    let meta = &mut packet.meta;
    meta.origlen = meta.origlen.saturating_sub(len as u32);
    if let Some(gso) = &mut meta.gso {
        gso.csum_start = gso.csum_start.saturating_sub(len as u16);
    }
}
