//! The origins of a file's packets, and what became of the packets of each.

use crate::device::SinkCounters;
use crate::packet::{InterfaceId, Outer};
use api::DropReason;
use std::collections::HashMap;

/// What has an interface block of its own: where a packet was captured, and the tunnel that it came
/// out of.
pub type Origin = (InterfaceId, Option<Outer>);

/// The packets of one origin: how many came, and what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OriginCounters {
    /// Packets that came.
    pub received: u64,
    /// What became of them.
    pub fate: SinkCounters,
}

impl OriginCounters {
    /// Adds the packets of another file.
    pub fn merge(&mut self, other: &OriginCounters) {
        self.received += other.received;
        self.fate.merge(&other.fate);
    }

    /// Counts a packet that came and went no further.
    pub fn lost(&mut self, reason: DropReason) {
        self.received += 1;
        self.fate.drops.add(reason);
    }
}

/// The earliest and the latest of some times, nanoseconds since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub first_ns: u64,
    pub last_ns: u64,
}

impl Span {
    const EMPTY: Span = Span { first_ns: u64::MAX, last_ns: 0 };

    fn join(self, other: Span) -> Span {
        Span {
            first_ns: self.first_ns.min(other.first_ns),
            last_ns: self.last_ns.max(other.last_ns),
        }
    }

    /// As a pair, if there is any time in it.
    pub fn pair(self) -> Option<(u64, u64)> {
        (self.first_ns <= self.last_ns).then_some((self.first_ns, self.last_ns))
    }
}

/// Buffers whose packets are counted apart: the one that is being filled, and those on their way.
pub(super) const LOADS: usize = 4;

/// The packets of one interface in one buffer.
#[derive(Clone, Copy)]
struct Load {
    packets: u64,
    bytes: u64,
    span: Span,
}

impl Load {
    const EMPTY: Load = Load { packets: 0, bytes: 0, span: Span::EMPTY };
}

/// One interface of the file.
pub(super) struct Written {
    pub origin: Origin,
    pub packets: OriginCounters,
    /// The times of the packets in the file.
    pub span: Span,
    loads: [Load; LOADS],
}

/// The origins of a file's packets, by their interface's number in the file.
#[derive(Default)]
pub(super) struct Origins {
    list: Vec<Written>,
    places: HashMap<Origin, usize>,
    /// Most packets are of the same origin as the one before.
    last: usize,
}

impl Origins {
    /// The place of an origin that is known.
    #[inline]
    pub fn find(&mut self, origin: Origin) -> Option<usize> {
        if self.list.get(self.last).is_none_or(|written| written.origin != origin) {
            self.last = *self.places.get(&origin)?;
        }
        Some(self.last)
    }

    /// Adds an origin; gives its place.
    pub fn add(&mut self, origin: Origin) -> usize {
        let packets = OriginCounters::default();
        let loads = [Load::EMPTY; LOADS];
        self.list.push(Written { origin, packets, span: Span::EMPTY, loads });
        self.last = self.list.len() - 1;
        self.places.insert(origin, self.last);
        self.last
    }

    /// Counts a packet that came.
    #[inline]
    pub fn received(&mut self, place: usize) {
        self.list[place].packets.received += 1;
    }

    /// Counts a packet of so many bytes that went into a buffer.
    #[inline]
    pub fn held(&mut self, place: usize, load: usize, ts_ns: u64, bytes: usize) {
        let written = &mut self.list[place];
        written.packets.fate.held += 1;
        let load = &mut written.loads[load];
        load.packets += 1;
        load.bytes += bytes as u64;
        load.span = load.span.join(Span { first_ns: ts_ns, last_ns: ts_ns });
    }

    /// Counts a packet that was given up.
    pub fn dropped(&mut self, place: usize, reason: DropReason) {
        self.list[place].packets.fate.drops.add(reason);
    }

    /// Counts one packet of a buffer as brought into the file, before the others are settled.
    pub fn kept(&mut self, place: usize, load: usize, ts_ns: u64, bytes: u32) {
        let written = &mut self.list[place];
        written.loads[load].packets -= 1;
        written.loads[load].bytes -= u64::from(bytes);
        written.packets.fate.held -= 1;
        written.packets.fate.sent += 1;
        written.packets.fate.sent_bytes += u64::from(bytes);
        written.span = written.span.join(Span { first_ns: ts_ns, last_ns: ts_ns });
    }

    /// Counts what was in a buffer: as brought into the file, or as lost for this reason.
    pub fn settle(&mut self, load: usize, lost: Option<DropReason>) {
        for written in &mut self.list {
            let counters = &mut written.packets.fate;
            let load = std::mem::replace(&mut written.loads[load], Load::EMPTY);
            counters.held -= load.packets;
            match lost {
                None => {
                    counters.sent += load.packets;
                    counters.sent_bytes += load.bytes;
                    written.span = written.span.join(load.span);
                }
                Some(reason) => counters.drops.add_many(reason, load.packets),
            }
        }
    }

    /// Counts what was brought into the file as dropped.
    pub fn give_up(&mut self, reason: DropReason) {
        for Written { packets, .. } in &mut self.list {
            let sent = std::mem::take(&mut packets.fate.sent);
            packets.fate.sent_bytes = 0;
            packets.fate.drops.add_many(reason, sent);
        }
    }

    /// The times of the packets in the file.
    pub fn span(&self) -> Span {
        self.list.iter().fold(Span::EMPTY, |span, written| span.join(written.span))
    }

    /// The origins in the order of their interfaces.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Written> {
        self.list.iter()
    }
}
