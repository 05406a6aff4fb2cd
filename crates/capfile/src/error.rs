//! What can go wrong with a capture file, where, and how to mend it.

use std::fmt;
use std::io;

/// Why a capture could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The underlying stream failed. Reading may be tried again; after a failed write the file may
    /// end inside a block.
    #[error("cannot {action} the capture at byte {offset}: {source}")]
    Io {
        /// `read`, `write` or `flush`.
        action: &'static str,
        /// Bytes of the file that were read or written before.
        offset: u64,
        /// The stream's own error.
        source: io::Error,
    },
    /// There is not one byte.
    #[error(
        "the capture is empty: 0 bytes, and even a file without packets has a header; \
         check that its writer ran and flushed"
    )]
    Empty,
    /// The file ends inside its first header, so nothing in it can be read.
    #[error(
        "the capture ends inside its {format} header: {needed} bytes needed, {got} there; \
         no packet can be saved from it, copy the file again"
    )]
    HeaderCut {
        /// What the first bytes look like.
        format: &'static str,
        /// Length of the header, bytes.
        needed: u64,
        /// Length of the file, bytes.
        got: u64,
    },
    /// The first bytes belong to no capture format that can be read here.
    #[error(
        "not a pcap or pcapng file: it starts with {:02x} {:02x} {:02x} {:02x} ({format}); {mend}",
        magic[0], magic[1], magic[2], magic[3]
    )]
    NotACapture {
        /// The first four bytes.
        magic: [u8; 4],
        /// The likely format.
        format: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// A pcap file or a pcapng section of a version whose layout is not known.
    #[error(
        "{format} version {major}.{minor} at byte {offset} is not known; \
         rewrite the file with the editcap of a program that reads it"
    )]
    Version {
        /// Where the header starts.
        offset: u64,
        /// `pcap` or `pcapng`.
        format: &'static str,
        /// Major version in the header.
        major: u16,
        /// Minor version in the header.
        minor: u16,
    },
    /// A block or record contradicts itself. All records before it were delivered.
    #[error(
        "the capture is damaged at byte {offset}: {what}; \
         `head -c {offset}` of the file keeps everything before"
    )]
    Malformed {
        /// Where the block or record starts: the length of the good part.
        offset: u64,
        /// What contradicts what, with the numbers.
        what: String,
    },
    /// A seekable zstd file contradicts itself.
    #[error("{what}; restore the file from another copy, or decompress what can be with `zstd -d`")]
    Seekable {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A writer was given an interface that it did not hand out.
    #[error(
        "interface {interface} was not added to this capture, which has {known}; \
         call add_interface first"
    )]
    UnknownInterface {
        /// The index given.
        interface: u32,
        /// Number of interfaces added so far.
        known: u32,
    },
    /// A writer was given more bytes than the format's field or a reader's bound can hold.
    #[error("{what} has {len} bytes, at most {max} can be written; cut it first")]
    TooLong {
        /// The packet or the option.
        what: &'static str,
        /// Its length, bytes.
        len: usize,
        /// The bound, bytes.
        max: usize,
    },
    /// pcap has 32 bits for the seconds: nothing after 2106-02-07 can be written.
    #[error("time {ts_ns} ns since 1970 does not fit pcap's 32-bit seconds; write pcapng")]
    TimeOutOfRange {
        /// The time given, nanoseconds since 1970.
        ts_ns: u64,
    },
}

impl Error {
    #[cold]
    pub(crate) fn malformed(offset: u64, what: impl Into<String>) -> Self {
        Error::Malformed { offset, what: what.into() }
    }
}

/// The file ends inside a record: it was cut, or its writer is still at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warning {
    /// Length of the file, bytes.
    pub cut_at: u64,
    /// End of the last whole block or record, bytes from the start of the file.
    pub good_offset: u64,
    /// Bytes the last record needs; at least, if the cut is in its header.
    pub needed: u64,
    /// Bytes of it that are there.
    pub left: u64,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Warning { cut_at, good_offset, needed, left } = self;
        write!(
            f,
            "the capture is cut at byte {cut_at}: its last record needs {needed} bytes, {left} are \
             left; every packet before byte {good_offset} is whole, \
             `head -c {good_offset}` of the file keeps them"
        )
    }
}
