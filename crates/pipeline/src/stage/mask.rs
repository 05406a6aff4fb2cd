//! The stage that overwrites bytes at a place of each packet, such as what must not be seen.

use super::anchor::Anchored;
use super::{Stage, Work};
use api::Anchor;

/// Overwrites bytes.
pub(super) struct Mask {
    offset: usize,
    bytes: usize,
    from: Option<Anchored>,
    value: u8,
    touched: u64,
}

impl Mask {
    /// Sets `bytes` (`None`: all up to the end) to `value`, from `offset` on, which counts from the
    /// begin of a header or of the packet. Of a packet that ends before, what is there is overwritten; one
    /// without the header goes on as it is.
    pub(super) fn new(offset: u32, bytes: Option<u32>, from: Option<Anchor>, value: u8) -> Mask {
        let bytes = bytes.map_or(usize::MAX, |bytes| bytes as usize);
        let from = from.map(Anchored::new);
        Mask { offset: offset as usize, bytes, from, value, touched: 0 }
    }
}

impl Stage for Mask {
    fn apply(&mut self, work: &mut Work<'_>) {
        work.each(|packet, _| {
            let header = match &self.from {
                Some(from) => from.find(packet.meta.link_type, &packet.data).map(|h| h.start),
                None => Some(0),
            };
            let Some(begin) = header.map(|at| at + self.offset).filter(|&at| at < packet.caplen())
            else {
                return Ok(());
            };
            // What is masked may be what tells the flow.
            let hash = packet.meta.flow_hash.unwrap_or_else(|| packet.compute_flow_hash());
            packet.meta.flow_hash = Some(hash);
            let end = begin.saturating_add(self.bytes).min(packet.caplen());
            packet.data[begin..end].fill(self.value);
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
