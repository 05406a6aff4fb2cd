//! Stages that cut packets at their end. The original length stays: that the rest was there is known
//! behind them, too.

use super::anchor::Anchored;
use super::{Stage, Work};
use api::Anchor;
use io::Packet;

/// Keeps the begin of packets.
pub(super) struct Slice {
    bytes: usize,
    after: Option<Anchored>,
    touched: u64,
}

impl Slice {
    /// Keeps `bytes`, from the begin on or from the end of a header. A packet without that header is
    /// kept whole.
    pub(super) fn new(bytes: u32, after: Option<Anchor>) -> Slice {
        Slice { bytes: bytes as usize, after: after.map(Anchored::new), touched: 0 }
    }

    #[inline]
    fn kept(&self, packet: &Packet) -> usize {
        let Some(after) = &self.after else {
            return self.bytes;
        };
        let header = after.find(packet.meta.link_type, &packet.data);
        header.map_or(usize::MAX, |header| header.end.saturating_add(self.bytes))
    }
}

impl Stage for Slice {
    fn apply(&mut self, work: &mut Work<'_>) {
        work.each(|packet, _| {
            self.touched += u64::from(cut(packet, self.kept(packet)));
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

/// Takes bytes off the end that packets had on the wire. Of one that was cut before, only what is left of
/// those bytes goes.
pub(super) struct Trim {
    bytes: usize,
    touched: u64,
}

impl Trim {
    /// Takes `bytes` off.
    pub(super) fn new(bytes: u32) -> Trim {
        Trim { bytes: bytes as usize, touched: 0 }
    }
}

impl Stage for Trim {
    fn apply(&mut self, work: &mut Work<'_>) {
        work.each(|packet, _| {
            let wire_len = packet.caplen().max(packet.meta.origlen as usize);
            let kept = wire_len.saturating_sub(self.bytes);
            self.touched += u64::from(cut(packet, kept));
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

// Keeps the first `len` bytes; returns whether there were more. The flow is told by the ports, which
// may be cut off.
fn cut(packet: &mut Packet, len: usize) -> bool {
    let is_longer = packet.caplen() > len;
    if is_longer {
        packet.meta.flow_hash = packet.meta.flow_hash.or_else(|| Some(packet.compute_flow_hash()));
        packet.data.truncate(len);
    }
    is_longer
}
