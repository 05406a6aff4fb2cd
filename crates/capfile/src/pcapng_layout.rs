//! The pcapng blocks on disk.
//!
//! Source: [draft-ietf-opsawg-pcapng](https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/).
//! A file is a chain of sections, each a Section Header Block and the blocks behind it, with its
//! own byte order and its own numbering of interfaces. Every block is:
//!
//! ```text
//! offset
//!   0    u32  type
//!   4    u32  total length T, a multiple of 4, these 12 bytes included
//!   8    body
//!   T-4  u32  T again, to read backwards
//! ```
//!
//! Bodies, with offsets from the start of the block. "options" may be empty; each is
//! `u16 code, u16 length, value, padding to 4`, and code 0 ends them:
//!
//! ```text
//! SHB 0x0A0D0D0A section header        IDB 1 interface description   SPB 3 simple packet
//!   8  u32 magic 0x1A2B3C4D              8  u16 link type              8  u32 origlen
//!  12  u16 major: 1                     10  u16 reserved              12  packet, padded to 4
//!  14  u16 minor: 0                     12  u32 snaplen, 0 = none         (interface 0, no time)
//!  16  i64 section length or -1         16  options
//!  24  options
//!
//! EPB 6 enhanced packet                PB 2 packet, obsolete         ISB 5 interface statistics
//!   8  u32 interface                     8  u16 interface              8  u32 interface
//!  12  u32 ticks, high half             10  u16 drops                 12  u32 ticks, high half
//!  16  u32 ticks, low half              12  u32 ticks, high half      16  u32 ticks, low half
//!  20  u32 caplen                       16  u32 ticks, low half       20  options
//!  24  u32 origlen                      20  u32 caplen
//!  28  packet, padded to 4, options     24  u32 origlen
//!                                       28  packet, padded to 4, options
//!
//! PAD 0x80746170 padding, in the range for local use
//!   8  zeros, which say nothing: they bring a file to a multiple of a disk's blocks
//! ```
//!
//! All other blocks (name resolution 4, decryption secrets 10, custom 0xBAD and 0x40000BAD, and
//! those of others) are stepped over.
//!
//! What the writer writes: little-endian, one section of unknown length, `if_tsresol` 9 on every
//! interface, `epb_flags` only where the direction is known, `epb_packetid` (5, eight bytes) behind it
//! only where there is one, zeros for padding:
//!
//! ```text
//! EPB as written, caplen 5, direction in, no comment
//!   0  06 00 00 00 | 34 00 00 00            type, T = 52
//!   8  interface | ticks high | ticks low   ticks are nanoseconds since 1970
//!  20  05 00 00 00 | origlen
//!  28  5 bytes, 3 zeros
//!  36  02 00 04 00 | 01 00 00 00            epb_flags, inbound
//!  44  00 00 00 00                          opt_endofopt
//!  48  34 00 00 00                          T again; comments would stand in front of epb_flags
//! ```

/// Block types.
pub mod block_type {
    /// Section Header Block; the same in both byte orders.
    pub const SECTION_HEADER: u32 = 0x0A0D_0D0A;
    /// Interface Description Block.
    pub const INTERFACE_DESCRIPTION: u32 = 1;
    /// Packet Block, obsolete: replaced by the Enhanced Packet Block.
    pub const PACKET: u32 = 2;
    /// Simple Packet Block.
    pub const SIMPLE_PACKET: u32 = 3;
    /// Interface Statistics Block.
    pub const INTERFACE_STATISTICS: u32 = 5;
    /// Enhanced Packet Block.
    pub const ENHANCED_PACKET: u32 = 6;
    /// Padding: of the range that the draft leaves to local use, so that readers step over it.
    pub const PADDING: u32 = 0x8074_6170;
}

/// Byte-order magic of a section header, as its own byte order reads it.
pub const BYTE_ORDER_MAGIC: u32 = 0x1A2B_3C4D;

/// Option codes. Those above [`option_code::COMMENT`] mean different things in each block.
pub mod option_code {
    /// `opt_endofopt`.
    pub const END: u16 = 0;
    /// `opt_comment`, in any block.
    pub const COMMENT: u16 = 1;
    /// `shb_hardware`.
    pub const SHB_HARDWARE: u16 = 2;
    /// `shb_os`.
    pub const SHB_OS: u16 = 3;
    /// `shb_userappl`.
    pub const SHB_USERAPPL: u16 = 4;
    /// `if_name`.
    pub const IF_NAME: u16 = 2;
    /// `if_description`.
    pub const IF_DESCRIPTION: u16 = 3;
    /// `if_speed`, u64.
    pub const IF_SPEED: u16 = 8;
    /// `if_tsresol`, u8.
    pub const IF_TSRESOL: u16 = 9;
    /// `if_tzone`, u32.
    pub const IF_TZONE: u16 = 10;
    /// `if_filter`: a byte that is 0 for text, then the filter.
    pub const IF_FILTER: u16 = 11;
    /// `if_os`.
    pub const IF_OS: u16 = 12;
    /// `if_tsoffset`, i64.
    pub const IF_TSOFFSET: u16 = 14;
    /// `if_txspeed`, u64.
    pub const IF_TXSPEED: u16 = 16;
    /// `if_rxspeed`, u64.
    pub const IF_RXSPEED: u16 = 17;
    /// `epb_flags` and `pack_flags`, u32.
    pub const PACKET_FLAGS: u16 = 2;
    /// `epb_packetid`, u64.
    pub const PACKET_ID: u16 = 5;
    /// `isb_starttime`, ticks.
    pub const ISB_STARTTIME: u16 = 2;
    /// `isb_endtime`, ticks.
    pub const ISB_ENDTIME: u16 = 3;
    /// `isb_ifrecv`, u64.
    pub const ISB_IFRECV: u16 = 4;
    /// `isb_ifdrop`, u64.
    pub const ISB_IFDROP: u16 = 5;
    /// `isb_filteraccept`, u64.
    pub const ISB_FILTERACCEPT: u16 = 6;
    /// `isb_osdrop`, u64.
    pub const ISB_OSDROP: u16 = 7;
    /// `isb_usrdeliv`, u64.
    pub const ISB_USRDELIV: u16 = 8;
    /// Custom options, whose value starts with a 32-bit enterprise number.
    pub const CUSTOM: [u16; 4] = [2988, 2989, 19372, 19373];
}

/// Shortest block: type and both total lengths, bytes.
pub const BLOCK_LEN_MIN: usize = 12;
/// Offset of the options in a section header, bytes.
pub const SECTION_HEADER_LEN: usize = 24;
/// Offset of the options in an interface description, bytes.
pub const INTERFACE_HEADER_LEN: usize = 16;
/// Offset of the options in interface statistics, bytes.
pub const STATISTICS_HEADER_LEN: usize = 20;
/// Offset of the packet in an enhanced or obsolete packet block, bytes.
pub const PACKET_HEADER_LEN: usize = 28;
/// Offset of the packet in a simple packet block, bytes.
pub const SIMPLE_HEADER_LEN: usize = 12;

/// `len` with the padding to a multiple of 4. For lengths far below `usize::MAX`.
#[inline]
pub(crate) const fn padded(len: usize) -> usize {
    (len + 3) & !3
}
