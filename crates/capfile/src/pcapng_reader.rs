//! Reads pcapng blocks out of memory; [`crate::Reader`] puts the bytes there.
//!
//! Liberal: the section length is not looked at (a section ends where the next begins), minor
//! versions, reserved fields and padding bytes are ignored, and statistics of an interface that
//! does not exist are stepped over. Strict: lengths that contradict each other, and packets of an
//! interface that does not exist, since their link type and time could only be guessed.

use crate::option::text;
use crate::pcapng_layout::*;
use crate::reader::Found;
use crate::record::direction_from_flags;
use crate::{
    BLOCK_LEN_MAX, Direction, Endian, Error, INTERFACES_MAX, Interface, KEPT_OPTIONS_MAX, Marks,
    Options, RawOption, SectionInfo, Statistics, TsResolution,
};

/// What an option costs beside its value, for [`KEPT_OPTIONS_MAX`].
const OPTION_OVERHEAD: usize = 64;

/// A pcapng file behind its first section header.
#[derive(Debug)]
pub(crate) struct Pcapng {
    pub(crate) endian: Endian,
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) section: SectionInfo,
    /// As long as `interfaces`.
    statistics: Vec<Option<Statistics>>,
    /// Index of the section's interface 0.
    first_interface: usize,
    /// Memory held for options, bytes.
    kept: usize,
}

/// Length of the block whose first [`BLOCK_LEN_MIN`] bytes are `head`, in a section of byte order
/// `endian`.
#[inline]
pub(crate) fn block_len(head: &[u8], endian: Endian, offset: u64) -> Result<usize, Error> {
    let kind = endian.u32(head, 0);
    let endian =
        if kind == block_type::SECTION_HEADER { byte_order(head, offset)? } else { endian };
    let len = endian.u32(head, 4) as usize;
    if !(BLOCK_LEN_MIN..=BLOCK_LEN_MAX).contains(&len) || !len.is_multiple_of(4) {
        return Err(bad_length(kind, len, offset));
    }
    Ok(len)
}

/// Byte order that a section header states.
fn byte_order(head: &[u8], offset: u64) -> Result<Endian, Error> {
    [Endian::Little, Endian::Big]
        .into_iter()
        .find(|endian| endian.u32(head, 8) == BYTE_ORDER_MAGIC)
        .ok_or_else(|| {
            let magic = Endian::Big.u32(head, 8);
            let what = format!(
                "a section header has byte-order magic {magic:#010x}, neither {:#010x} nor {:#010x}",
                BYTE_ORDER_MAGIC,
                BYTE_ORDER_MAGIC.swap_bytes()
            );
            Error::malformed(offset, what)
        })
}

impl Pcapng {
    /// Takes the first block of the file, whole.
    pub(crate) fn new(block: &[u8]) -> Result<Self, Error> {
        let mut pcapng = Pcapng {
            endian: byte_order(block, 0)?,
            interfaces: Vec::new(),
            section: SectionInfo::default(),
            statistics: Vec::new(),
            first_interface: 0,
            kept: 0,
        };
        pcapng.block(block, 0)?;
        Ok(pcapng)
    }

    /// The last statistics of an interface.
    pub(crate) fn statistics(&self, interface: usize) -> Option<&Statistics> {
        self.statistics.get(interface)?.as_ref()
    }

    /// Takes a whole block, whose length [`block_len`] gave, at `offset` of the file.
    #[inline]
    pub(crate) fn block(&mut self, block: &[u8], offset: u64) -> Result<Option<Found>, Error> {
        let kind = self.endian.u32(block, 0);
        if kind == block_type::SECTION_HEADER {
            self.endian = byte_order(block, offset)?;
        }
        let trailer = self.endian.u32(block, block.len() - 4) as usize;
        if trailer != block.len() {
            return Err(bad_trailer(kind, block.len(), trailer, offset));
        }
        match kind {
            block_type::ENHANCED_PACKET => self.packet(block, offset).map(Some),
            block_type::PACKET => self.packet(block, offset).map(Some),
            block_type::SIMPLE_PACKET => self.simple_packet(block, offset).map(Some),
            block_type::SECTION_HEADER => self.section_header(block, offset).map(|()| None),
            block_type::INTERFACE_DESCRIPTION => {
                self.interface_description(block, offset).map(|()| None)
            }
            block_type::INTERFACE_STATISTICS => {
                self.interface_statistics(block, offset).map(|()| None)
            }
            _ => Ok(None),
        }
    }

    /// Enhanced Packet Block, and the obsolete Packet Block, which differs in the interface field.
    #[inline]
    fn packet(&self, block: &[u8], offset: u64) -> Result<Found, Error> {
        needs(block, PACKET_HEADER_LEN, "a packet", offset)?;
        let is_enhanced = self.endian.u32(block, 0) == block_type::ENHANCED_PACKET;
        let id = if is_enhanced {
            self.endian.u32(block, 8)
        } else {
            u32::from(self.endian.u16(block, 8))
        };
        let (index, interface) = self.interface(id, offset)?;
        let caplen = self.endian.u32(block, 20) as usize;
        let room = block.len() - 4 - PACKET_HEADER_LEN;
        if caplen > room {
            return Err(bad_caplen(caplen, room, offset));
        }
        // The room is a multiple of 4, so the padding fits where the packet does.
        let mut options = PACKET_HEADER_LEN + padded(caplen)..block.len() - 4;
        let mut marks = Marks::default();
        if !options.is_empty() {
            // Options that contradict themselves cost themselves, not the packet.
            match Options::check(&block[options.clone()], self.endian) {
                Ok(options) => {
                    let flags = options
                        .get(option_code::PACKET_FLAGS)
                        .and_then(|v| number32(v, self.endian));
                    marks.direction = flags.map_or(Direction::Unknown, direction_from_flags);
                    // The obsolete block gives this code no meaning.
                    let id = options.get(option_code::PACKET_ID).filter(|v| v.len() == 8);
                    marks.packet_id = id.filter(|_| is_enhanced).map(|v| self.endian.u64(v, 0));
                }
                Err(_) => options.end = options.start,
            }
        }
        Ok(Found {
            interface: index,
            ts_ns: interface.ns(self.endian.ticks(block, 12)),
            origlen: self.endian.u32(block, 24),
            marks,
            data: PACKET_HEADER_LEN..PACKET_HEADER_LEN + caplen,
            options,
        })
    }

    /// Simple Packet Block: as many bytes as the block, the snap length and origlen allow.
    fn simple_packet(&self, block: &[u8], offset: u64) -> Result<Found, Error> {
        needs(block, SIMPLE_HEADER_LEN, "a simple packet", offset)?;
        let (index, interface) = self.interface(0, offset)?;
        let origlen = self.endian.u32(block, 8);
        let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
        let room = block.len() - 4 - SIMPLE_HEADER_LEN;
        let caplen = room.min(origlen.min(snaplen) as usize);
        Ok(Found {
            interface: index,
            ts_ns: 0,
            origlen,
            marks: Marks::default(),
            data: SIMPLE_HEADER_LEN..SIMPLE_HEADER_LEN + caplen,
            options: 0..0,
        })
    }

    /// Interface `id` of this section, and its index over the whole file.
    #[inline]
    fn interface(&self, id: u32, offset: u64) -> Result<(u32, &Interface), Error> {
        let index = self.first_interface.saturating_add(id as usize);
        match self.interfaces.get(index) {
            // INTERFACES_MAX bounds the index.
            Some(interface) => Ok((index as u32, interface)),
            None => {
                Err(unknown_interface(id, self.interfaces.len() - self.first_interface, offset))
            }
        }
    }

    fn section_header(&mut self, block: &[u8], offset: u64) -> Result<(), Error> {
        needs(block, SECTION_HEADER_LEN, "a section header", offset)?;
        let (major, minor) = (self.endian.u16(block, 12), self.endian.u16(block, 14));
        if major != 1 {
            return Err(Error::Version { offset, format: "pcapng", major, minor });
        }
        let options = checked(&block[SECTION_HEADER_LEN..block.len() - 4], self.endian, offset)?;
        let get = |code| options.get(code).map(text);
        self.section = SectionInfo {
            hardware: get(option_code::SHB_HARDWARE),
            os: get(option_code::SHB_OS),
            application: get(option_code::SHB_USERAPPL),
            comment: get(option_code::COMMENT),
        };
        self.first_interface = self.interfaces.len();
        Ok(())
    }

    fn interface_description(&mut self, block: &[u8], offset: u64) -> Result<(), Error> {
        needs(block, INTERFACE_HEADER_LEN, "an interface description", offset)?;
        if self.interfaces.len() == INTERFACES_MAX {
            let what = format!("more than {INTERFACES_MAX} interfaces");
            return Err(Error::malformed(offset, what));
        }
        let options = checked(&block[INTERFACE_HEADER_LEN..block.len() - 4], self.endian, offset)?;
        let cost = options.iter().map(|(_, value)| value.len() + OPTION_OVERHEAD).sum();
        self.keep(cost, 0, offset)?;
        let mut interface = Interface {
            snaplen: self.endian.u32(block, 12),
            ..Interface::new(self.endian.u16(block, 8))
        };
        for (code, value) in options.iter() {
            interface_option(&mut interface, code, value, self.endian);
        }
        self.interfaces.push(interface);
        self.statistics.push(None);
        Ok(())
    }

    fn interface_statistics(&mut self, block: &[u8], offset: u64) -> Result<(), Error> {
        needs(block, STATISTICS_HEADER_LEN, "an interface statistics", offset)?;
        let options = checked(&block[STATISTICS_HEADER_LEN..block.len() - 4], self.endian, offset)?;
        let endian = self.endian;
        let Ok((index, interface)) = self.interface(endian.u32(block, 8), offset) else {
            return Ok(());
        };
        let value = |code| options.get(code);
        let time =
            |code| value(code).filter(|v| v.len() == 8).map(|v| interface.ns(endian.ticks(v, 0)));
        let count = |code| value(code).filter(|v| v.len() == 8).map(|v| endian.u64(v, 0));
        let statistics = Statistics {
            start_ns: time(option_code::ISB_STARTTIME),
            end_ns: time(option_code::ISB_ENDTIME),
            received: count(option_code::ISB_IFRECV),
            dropped: count(option_code::ISB_IFDROP),
            filter_accepted: count(option_code::ISB_FILTERACCEPT),
            os_drop: count(option_code::ISB_OSDROP),
            delivered: count(option_code::ISB_USRDELIV),
            comment: value(option_code::COMMENT).map(text),
        };
        let cost = |s: &Statistics| s.comment.as_ref().map_or(0, |c| c.len() + OPTION_OVERHEAD);
        let index = index as usize;
        let replaced = self.statistics[index].as_ref().map_or(0, cost);
        self.keep(cost(&statistics), replaced, offset)?;
        self.statistics[index] = Some(statistics);
        Ok(())
    }

    /// Counts what is kept from now on, and no longer, against [`KEPT_OPTIONS_MAX`].
    fn keep(&mut self, cost: usize, replaced: usize, offset: u64) -> Result<(), Error> {
        let kept = self.kept - replaced + cost;
        if kept > KEPT_OPTIONS_MAX {
            let what = format!("options of interfaces need more than {KEPT_OPTIONS_MAX} bytes");
            return Err(Error::malformed(offset, what));
        }
        self.kept = kept;
        Ok(())
    }
}

/// Puts one option of an interface description where it belongs. A value of the wrong length
/// stays with the raw ones.
fn interface_option(interface: &mut Interface, code: u16, value: &[u8], endian: Endian) {
    let slot = match code {
        option_code::IF_NAME => &mut interface.name,
        option_code::IF_DESCRIPTION => &mut interface.description,
        option_code::IF_OS => &mut interface.os,
        option_code::IF_FILTER if value.first() == Some(&0) => {
            interface.filter = Some(text(&value[1..]));
            return;
        }
        option_code::IF_TSRESOL if value.len() == 1 => {
            interface.ts_resolution = TsResolution(value[0]);
            return;
        }
        option_code::IF_TSOFFSET if value.len() == 8 => {
            interface.ts_offset_s = endian.u64(value, 0) as i64;
            return;
        }
        _ => {
            interface.other.push(RawOption { code, value: little_endian(code, value, endian) });
            return;
        }
    };
    *slot = Some(text(value));
}

/// The value with its numbers little-endian, so that it can be written to a section of ours.
fn little_endian(code: u16, value: &[u8], endian: Endian) -> Vec<u8> {
    let mut value = value.to_vec();
    if endian == Endian::Big {
        let number_len = match code {
            option_code::IF_SPEED | option_code::IF_TXSPEED | option_code::IF_RXSPEED => 8,
            option_code::IF_TZONE => 4,
            code if option_code::CUSTOM.contains(&code) => 4,
            _ => 0,
        };
        if let Some(number) = value.get_mut(..number_len) {
            number.reverse();
        }
    }
    value
}

/// Number in an option of 4 bytes.
fn number32(value: &[u8], endian: Endian) -> Option<u32> {
    (value.len() == 4).then(|| endian.u32(value, 0))
}

/// Options of a block, or what is wrong with them.
fn checked(bytes: &[u8], endian: Endian, offset: u64) -> Result<Options<'_>, Error> {
    Options::check(bytes, endian).map_err(|what| Error::malformed(offset, what))
}

/// Checks that a block has its fixed fields.
#[inline]
fn needs(block: &[u8], header_len: usize, name: &str, offset: u64) -> Result<(), Error> {
    if block.len() < header_len + 4 {
        Err(too_short(block, header_len, name, offset))
    } else {
        Ok(())
    }
}

#[cold]
fn too_short(block: &[u8], header_len: usize, name: &str, offset: u64) -> Error {
    let (len, needed) = (block.len(), header_len + 4);
    Error::malformed(offset, format!("{name} block has {len} bytes, it needs at least {needed}"))
}

#[cold]
fn bad_length(kind: u32, len: usize, offset: u64) -> Error {
    Error::malformed(
        offset,
        format!(
            "a block of type {kind:#x} claims {len} bytes, \
             not a multiple of 4 from {BLOCK_LEN_MIN} to {BLOCK_LEN_MAX}"
        ),
    )
}

#[cold]
fn bad_trailer(kind: u32, len: usize, trailer: usize, offset: u64) -> Error {
    Error::malformed(
        offset,
        format!("a block of type {kind:#x} claims {len} bytes at its start, {trailer} at its end"),
    )
}

#[cold]
fn bad_caplen(caplen: usize, room: usize, offset: u64) -> Error {
    Error::malformed(
        offset,
        format!("a packet claims {caplen} bytes present, its block has room for {room}"),
    )
}

#[cold]
fn unknown_interface(id: u32, known: usize, offset: u64) -> Error {
    Error::malformed(
        offset,
        format!("a packet belongs to interface {id}, its section has described {known}"),
    )
}
