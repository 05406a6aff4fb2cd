//! A packet as a capture file holds it.

use crate::Options;
use crate::pcapng_layout::option_code;
use wire::Direction;

/// Reads bits 0 and 1 of `epb_flags`; 3 is not assigned and counts as unknown.
pub(crate) fn direction_from_flags(flags: u32) -> Direction {
    match flags & 3 {
        1 => Direction::In,
        2 => Direction::Out,
        _ => Direction::Unknown,
    }
}

/// Bits 0 and 1 of `epb_flags`.
pub(crate) fn direction_flags(direction: Direction) -> u32 {
    match direction {
        Direction::Unknown => 0,
        Direction::In => 1,
        Direction::Out => 2,
    }
}

/// What a packet block may say of a packet beside its bytes, time and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// Which way it went.
    pub direction: Direction,
    /// `epb_packetid`.
    pub packet_id: Option<u64>,
}

impl From<Direction> for Marks {
    fn from(direction: Direction) -> Marks {
        Marks { direction, packet_id: None }
    }
}

/// One packet and what the file says about it. Borrows the reader's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Index into [`crate::Reader::interfaces`], counted over the whole file, sections included.
    pub interface: u32,
    /// Nanoseconds since 1970 UTC; 0 in a Simple Packet Block, which carries no time.
    pub ts_ns: u64,
    /// Bytes on the wire. May be less than [`Self::caplen`] if the file says so.
    pub origlen: u32,
    /// Which way it went; always unknown in pcap.
    pub direction: Direction,
    /// A number that tells it from every other packet of its interface, if it has one
    /// (`epb_packetid`).
    pub packet_id: Option<u64>,
    /// The bytes present.
    pub data: &'a [u8],
    /// The packet's options, undecoded; none in pcap.
    pub options: Options<'a>,
}

impl<'a> Record<'a> {
    /// Bytes present.
    #[inline]
    pub fn caplen(&self) -> u32 {
        // BLOCK_LEN_MAX bounds every record far below 4 GiB.
        self.data.len() as u32
    }

    /// Its comments in file order, those that are UTF-8.
    pub fn comments(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.options
            .iter()
            .filter(|&(code, _)| code == option_code::COMMENT)
            .filter_map(|(_, text)| str::from_utf8(text).ok())
    }
}
