//! A batch: the packets that one turn of a worker carries.

use crate::packet::Packet;

/// Packets that a source aims to deliver at once: enough to spread the cost of a call, few enough
/// to stay in the cache.
pub const BATCH_PACKETS: usize = 256;

/// Packets in order of arrival. A super-packet may take it beyond [`BATCH_PACKETS`].
#[derive(Debug)]
pub struct Batch {
    packets: Vec<Packet>,
}

impl Batch {
    /// An empty batch with room for a super-packet beyond its aim.
    pub fn new() -> Batch {
        Batch { packets: Vec::with_capacity(4 * BATCH_PACKETS) }
    }

    /// Packets that a source should still add.
    #[inline]
    pub fn room(&self) -> usize {
        BATCH_PACKETS.saturating_sub(self.packets.len())
    }

    /// Adds a packet at the end.
    #[inline]
    pub fn push(&mut self, packet: Packet) {
        self.packets.push(packet);
    }

    /// The packets.
    #[inline]
    pub fn packets(&self) -> &[Packet] {
        &self.packets
    }

    /// The packets, to be changed in place.
    #[inline]
    pub fn packets_mut(&mut self) -> &mut [Packet] {
        &mut self.packets
    }

    /// Packets in the batch.
    #[inline]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether no packet is in the batch.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Takes the packets out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Packet> + '_ {
        self.packets.drain(..)
    }

    /// Drops the packets, which gives their memory back.
    pub fn clear(&mut self) {
        self.packets.clear();
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

/// Some packets of a batch, in order: what a stage kept, or what one member of a group gets.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    packets: &'a [Packet],
    chosen: &'a [u32],
}

impl<'a> Selection<'a> {
    /// Selects packets by their positions.
    pub fn new(packets: &'a [Packet], chosen: &'a [u32]) -> Selection<'a> {
        Selection { packets, chosen }
    }

    /// Packets selected.
    #[inline]
    pub fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Whether nothing is selected.
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// The selected packets in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a Packet> + use<'a> {
        let packets = self.packets;
        self.chosen.iter().map(move |&position| &packets[position as usize])
    }

    /// The first `n` selected packets.
    ///
    /// # Panics
    /// If fewer are selected.
    pub fn first(&self, n: usize) -> Selection<'a> {
        Selection { packets: self.packets, chosen: &self.chosen[..n] }
    }

    /// All but the first `n` selected packets.
    ///
    /// # Panics
    /// If fewer are selected.
    pub fn skip(&self, n: usize) -> Selection<'a> {
        Selection { packets: self.packets, chosen: &self.chosen[n..] }
    }
}
