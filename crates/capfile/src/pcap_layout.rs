//! The pcap file on disk.
//!
//! Source: [draft-ietf-opsawg-pcap](https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/).
//! All numbers are in the byte order of the machine that wrote the file; the magic tells it.
//!
//! ```text
//! file header, 24 bytes                        record, 16 bytes and the packet
//! offset                                       offset
//!   0  u32  magic: a1b2c3d4 µs, a1b23c4d ns      0  u32  seconds since 1970 UTC
//!   4  u16  version major: 2                     4  u32  micro- or nanoseconds
//!   6  u16  version minor: 4                     8  u32  caplen
//!   8  u32  zero (was: time zone)               12  u32  origlen
//!  12  u32  zero (was: accuracy)                16  caplen bytes, no padding
//!  16  u32  snaplen
//!  20  u32  link type in the low 16 bits; above: FCS length, ignored
//! ```
//!
//! Liberal: a fraction of a second or more (1,000,000 µs) is added as it is; caplen may exceed
//! snaplen and origlen. Refused: version 2.3 and older, which put origlen in front of caplen.

/// Length of the file header, bytes.
pub const FILE_HEADER_LEN: usize = 24;
/// Length of a record header, bytes.
pub const RECORD_HEADER_LEN: usize = 16;
/// Magic of a file with microseconds.
pub const MAGIC_MICRO: u32 = 0xa1b2_c3d4;
/// Magic of a file with nanoseconds.
pub const MAGIC_NANO: u32 = 0xa1b2_3c4d;
/// Version that is read and written: major, minor.
pub const VERSION: (u16, u16) = (2, 4);

pub(crate) mod file_field {
    pub const MAJOR: usize = 4;
    pub const MINOR: usize = 6;
    pub const SNAPLEN: usize = 16;
    pub const LINK_TYPE: usize = 20;
}

pub(crate) mod record_field {
    pub const SECONDS: usize = 0;
    pub const FRACTION: usize = 4;
    pub const CAPLEN: usize = 8;
    pub const ORIGLEN: usize = 12;
}
