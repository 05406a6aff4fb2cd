//! Reads pcap records out of memory; [`crate::Reader`] puts the bytes there.

use crate::Marks;
use crate::pcap_layout::*;
use crate::reader::Found;
use crate::{BLOCK_LEN_MAX, Endian, Error, Interface, TsResolution};

/// A pcap file behind its header.
#[derive(Debug)]
pub(crate) struct Pcap {
    pub(crate) endian: Endian,
    pub(crate) interfaces: Vec<Interface>,
    ns_per_tick: u64,
}

impl Pcap {
    /// Byte order and tick of a file that starts with these four bytes, if it is pcap.
    pub(crate) fn recognise(magic: [u8; 4]) -> Option<(Endian, TsResolution)> {
        [Endian::Little, Endian::Big].into_iter().find_map(|endian| match endian.u32(&magic, 0) {
            MAGIC_MICRO => Some((endian, TsResolution::MICRO)),
            MAGIC_NANO => Some((endian, TsResolution::NANO)),
            _ => None,
        })
    }

    /// Takes the file header, [`FILE_HEADER_LEN`] bytes.
    pub(crate) fn new(
        header: &[u8],
        endian: Endian,
        ts_resolution: TsResolution,
    ) -> Result<Self, Error> {
        let major = endian.u16(header, file_field::MAJOR);
        let minor = endian.u16(header, file_field::MINOR);
        if major != VERSION.0 || minor < VERSION.1 {
            return Err(Error::Version { offset: 0, format: "pcap", major, minor });
        }
        // The upper half of the field tells the FCS length and is no part of the link type.
        let link_type = endian.u32(header, file_field::LINK_TYPE) as u16;
        let interface = Interface {
            snaplen: endian.u32(header, file_field::SNAPLEN),
            ts_resolution,
            ..Interface::new(link_type)
        };
        let ns_per_tick = if ts_resolution == TsResolution::NANO { 1 } else { 1000 };
        Ok(Pcap { endian, interfaces: vec![interface], ns_per_tick })
    }

    /// Length of the record whose header is `head`.
    #[inline]
    pub(crate) fn record_len(&self, head: &[u8], offset: u64) -> Result<usize, Error> {
        let caplen = self.endian.u32(head, record_field::CAPLEN) as usize;
        if caplen > BLOCK_LEN_MAX - RECORD_HEADER_LEN {
            return Err(too_long(caplen, offset));
        }
        Ok(RECORD_HEADER_LEN + caplen)
    }

    /// Takes a whole record.
    #[inline]
    pub(crate) fn record(&self, record: &[u8]) -> Found {
        let seconds = u64::from(self.endian.u32(record, record_field::SECONDS));
        let fraction = u64::from(self.endian.u32(record, record_field::FRACTION));
        Found {
            interface: 0,
            // At most 2^32 × (10^9 + 10^3): no overflow.
            ts_ns: seconds * 1_000_000_000 + fraction * self.ns_per_tick,
            origlen: self.endian.u32(record, record_field::ORIGLEN),
            marks: Marks::default(),
            data: RECORD_HEADER_LEN..record.len(),
            options: 0..0,
        }
    }
}

#[cold]
fn too_long(caplen: usize, offset: u64) -> Error {
    Error::malformed(
        offset,
        format!("a record claims {caplen} bytes of packet, no more than {BLOCK_LEN_MAX} are read"),
    )
}
