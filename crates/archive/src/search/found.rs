//! A packet that was found.

use capfile::{Interface, Marks, Record};
use std::sync::Arc;

/// Where a packet was captured: what its interface block says, in the series of which source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) source: String,
    /// Times are nanoseconds by now.
    pub(super) interface: Interface,
}

/// Its place in the order of all that is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Place {
    pub(super) ts_ns: u64,
    /// Number of the segment in the plan.
    pub(super) segment: u32,
    /// Number of the frame, or of the part that was read at a time.
    pub(super) part: u32,
    /// Number in there.
    pub(super) at: u32,
}

/// A packet that matches, and waits for its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) origin: u32,
    pub(super) origlen: u32,
    pub(super) marks: Marks,
    pub(super) comment: Option<Box<str>>,
    pub(super) data: Box<[u8]>,
}

impl Found {
    pub(super) fn new(place: Place, origin: u32, record: &Record<'_>) -> Found {
        Found {
            place,
            origin,
            origlen: record.origlen,
            marks: Marks { direction: record.direction, packet_id: record.packet_id },
            comment: record.comments().next().map(Box::from),
            data: record.data.into(),
        }
    }

    /// Memory that it takes, bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Found>() + self.data.len() + self.comment.as_ref().map_or(0, |text| text.len())
    }
}

/// A packet that was found, as it is in its segment.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Nanoseconds since 1970 UTC.
    pub ts_ns: u64,
    /// Bytes on the wire.
    pub origlen: u32,
    /// Its direction and its number, if they are known.
    pub marks: Marks,
    /// Its first comment.
    pub comment: Option<&'a str>,
    /// The bytes present.
    pub data: &'a [u8],
    /// The source of its segment.
    pub source: &'a str,
    /// Number of its interface in this search. Blocks that say the same, of segments of one source, are
    /// one interface; those without packets have numbers, too.
    pub origin: u32,
    /// What its interface's block says; times are nanoseconds by now.
    pub interface: &'a Interface,
}

/// All origins so far.
#[derive(Debug, Default)]
pub(super) struct Origins(Vec<Arc<Origin>>);

impl Origins {
    /// The number of an origin, a new one if it is one.
    pub(super) fn number(&mut self, source: &str, interface: &Interface) -> u32 {
        let interface = Interface {
            ts_resolution: capfile::TsResolution::NANO,
            ts_offset_s: 0,
            ..interface.clone()
        };
        let origin = Origin { source: source.into(), interface };
        let known = self.0.iter().rposition(|known| **known == origin);
        let number = known.unwrap_or_else(|| {
            self.0.push(Arc::new(origin));
            self.0.len() - 1
        });
        u32::try_from(number).expect("memory ends before 2^32 interfaces")
    }

    /// Those from a number on.
    pub(super) fn from(&self, number: usize) -> &[Arc<Origin>] {
        &self.0[number..]
    }
}

impl Found {
    pub(super) fn packet<'a>(&'a self, origin: &'a Origin) -> Packet<'a> {
        Packet {
            ts_ns: self.place.ts_ns,
            origlen: self.origlen,
            marks: self.marks,
            comment: self.comment.as_deref(),
            data: &self.data,
            source: &origin.source,
            origin: self.origin,
            interface: &origin.interface,
        }
    }
}
