//! Reads either format as a stream, one record at a time.

use crate::input::Input;
use crate::pcap_layout::{FILE_HEADER_LEN, RECORD_HEADER_LEN};
use crate::pcap_reader::Pcap;
use crate::pcapng_layout::{BLOCK_LEN_MIN, block_type};
use crate::pcapng_reader::{self, Pcapng};
use crate::{Endian, Error, Interface, Marks, Options, Record, SectionInfo, Statistics};
use crate::{TsResolution, Warning};
use std::io::Read;
use std::ops::Range;

/// Which format a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// pcap with microseconds.
    PcapMicro,
    /// pcap with nanoseconds.
    PcapNano,
    /// pcapng.
    Pcapng,
}

/// A block of a pcapng file or a record of a pcap file, as it stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// Its type in pcapng ([`crate::pcapng_layout::block_type`]); none in pcap.
    pub kind: Option<u32>,
    /// All of its bytes, header and padding included.
    pub bytes: &'a [u8],
}

/// A packet within its block.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) interface: u32,
    pub(crate) ts_ns: u64,
    pub(crate) origlen: u32,
    pub(crate) marks: Marks,
    pub(crate) data: Range<usize>,
    pub(crate) options: Range<usize>,
}

/// What the blocks read so far have told.
#[derive(Debug)]
enum State {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

/// A capture file that is being read, pcap or pcapng.
///
/// Reads in pieces of up to 512 KiB into a buffer of its own, so a plain [`std::fs::File`] needs no
/// `BufReader`. Allocates nothing per packet once the buffer has the size of the longest block.
#[derive(Debug)]
pub struct Reader<R> {
    input: Input<R>,
    state: State,
    /// The packet of the block read last, if it holds one, and the length of that block, which is
    /// right behind the input.
    current: Option<(Option<Found>, usize)>,
    warning: Option<Warning>,
}

impl<R: Read> Reader<R> {
    /// Reads the file header or the first section header; blocks until it is there.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::HeaderCut`], [`Error::NotACapture`] and [`Error::Version`] for
    /// what cannot be read at all; [`Error::Malformed`] for a broken section header;
    /// [`Error::Io`] if the stream fails.
    pub fn new(stream: R) -> Result<Self, Error> {
        let mut input = Input::new(stream);
        if !input.fill(4)? {
            let got = input.ahead().len() as u64;
            return Err(match got {
                0 => Error::Empty,
                _ => Error::HeaderCut { format: "capture", needed: FILE_HEADER_LEN as u64, got },
            });
        }
        let magic: [u8; 4] = input.ahead()[..4].try_into().expect("4 bytes were read");
        let (state, len) = if let Some((endian, ts_resolution)) = Pcap::recognise(magic) {
            whole_header(&mut input, "pcap", FILE_HEADER_LEN)?;
            let header = &input.ahead()[..FILE_HEADER_LEN];
            (State::Pcap(Pcap::new(header, endian, ts_resolution)?), FILE_HEADER_LEN)
        } else if Endian::Little.u32(&magic, 0) == block_type::SECTION_HEADER {
            whole_header(&mut input, "pcapng", BLOCK_LEN_MIN)?;
            // The block is a section header, which states its own byte order.
            let len = pcapng_reader::block_len(input.ahead(), Endian::Little, 0)?;
            whole_header(&mut input, "pcapng", len)?;
            (State::Pcapng(Pcapng::new(&input.ahead()[..len])?), len)
        } else {
            return Err(not_a_capture(magic));
        };
        input.consume(len);
        Ok(Reader { input, state, current: Some((None, len)), warning: None })
    }

    /// Gives the next packet, or `None` behind the last one; then [`Self::warning`] tells whether
    /// the file ended inside a record. Blocks as long as the stream does. The record borrows the
    /// reader; where [`Self::interfaces`] is wanted beside it, use [`Self::advance`] and
    /// [`Self::record`].
    ///
    /// After an error the same call gives the same error: the reader stays at the broken block.
    ///
    /// # Errors
    /// [`Error::Malformed`] and [`Error::Version`] for a block that cannot be read, at
    /// [`Self::good_offset`]; [`Error::Io`] if the stream fails, and then the call may be repeated.
    #[expect(clippy::should_implement_trait, reason = "an Iterator cannot lend its buffer")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, Error> {
        self.advance()?;
        Ok(self.record())
    }

    /// Reads up to and including the next packet, which [`Self::record`] then gives; false behind
    /// the last one.
    ///
    /// # Errors
    /// Like [`Self::next`].
    #[inline]
    pub fn advance(&mut self) -> Result<bool, Error> {
        loop {
            if !self.advance_block()? {
                return Ok(false);
            }
            if let Some((Some(_), _)) = self.current {
                return Ok(true);
            }
        }
    }

    /// Reads the next block of whatever type, which [`Self::block`] then gives, and
    /// [`Self::record`] if it holds a packet; false behind the last one.
    ///
    /// # Errors
    /// Like [`Self::next`].
    #[inline]
    pub fn advance_block(&mut self) -> Result<bool, Error> {
        self.current = None; // the buffer may move
        let offset = self.input.offset();
        let head_len = match self.state {
            State::Pcap(_) => RECORD_HEADER_LEN,
            State::Pcapng(_) => BLOCK_LEN_MIN,
        };
        if !self.input.fill(head_len)? {
            self.end(head_len);
            return Ok(false);
        }
        let head = self.input.ahead();
        let len = match &self.state {
            State::Pcap(pcap) => pcap.record_len(head, offset)?,
            State::Pcapng(pcapng) => pcapng_reader::block_len(head, pcapng.endian, offset)?,
        };
        if !self.input.fill(len)? {
            self.end(len);
            return Ok(false);
        }
        let block = &self.input.ahead()[..len];
        let found = match &mut self.state {
            State::Pcap(pcap) => Some(pcap.record(block)),
            State::Pcapng(pcapng) => pcapng.block(block, offset)?,
        };
        self.input.consume(len);
        self.current = Some((found, len));
        Ok(true)
    }

    /// Notes how the file ended, `needed` bytes not being there.
    #[cold]
    fn end(&mut self, needed: usize) {
        let left = self.input.ahead().len() as u64;
        let good_offset = self.input.offset();
        self.warning = (left > 0).then_some(Warning {
            cut_at: good_offset + left,
            good_offset,
            needed: needed as u64,
            left,
        });
    }
}

impl<R> Reader<R> {
    /// The packet that [`Self::advance`] or [`Self::next`] read last; `None` before the first,
    /// behind the last, and after an error.
    #[inline]
    pub fn record(&self) -> Option<Record<'_>> {
        let (found, len) = self.current.as_ref()?;
        let found = found.as_ref()?;
        let block = self.input.behind(*len);
        let endian = self.endian();
        Some(Record {
            interface: found.interface,
            ts_ns: found.ts_ns,
            origlen: found.origlen,
            direction: found.marks.direction,
            packet_id: found.marks.packet_id,
            data: &block[found.data.clone()],
            options: Options::new(&block[found.options.clone()], endian),
        })
    }

    /// The block or record that was read last, whole; right after [`Self::new`] it is the section
    /// header, or pcap's file header. `None` behind the last one, and after an error.
    pub fn block(&self) -> Option<Block<'_>> {
        let (_, len) = self.current.as_ref()?;
        let bytes = self.input.behind(*len);
        let kind = match &self.state {
            State::Pcap(_) => None,
            State::Pcapng(pcapng) => Some(pcapng.endian.u32(bytes, 0)),
        };
        Some(Block { kind, bytes })
    }

    fn endian(&self) -> Endian {
        match &self.state {
            State::Pcap(pcap) => pcap.endian,
            State::Pcapng(pcapng) => pcapng.endian,
        }
    }

    /// The interfaces described so far, over all sections; a pcap file has exactly one.
    pub fn interfaces(&self) -> &[Interface] {
        match &self.state {
            State::Pcap(pcap) => &pcap.interfaces,
            State::Pcapng(pcapng) => &pcapng.interfaces,
        }
    }

    /// The last statistics read for an interface of [`Self::interfaces`].
    pub fn statistics(&self, interface: u32) -> Option<&Statistics> {
        match &self.state {
            State::Pcap(_) => None,
            State::Pcapng(pcapng) => pcapng.statistics(interface as usize),
        }
    }

    /// What the header of the current section says; `None` in pcap.
    pub fn section(&self) -> Option<&SectionInfo> {
        match &self.state {
            State::Pcap(_) => None,
            State::Pcapng(pcapng) => Some(&pcapng.section),
        }
    }

    /// The file's format.
    pub fn format(&self) -> Format {
        match &self.state {
            State::Pcap(pcap) if pcap.interfaces[0].ts_resolution == TsResolution::NANO => {
                Format::PcapNano
            }
            State::Pcap(_) => Format::PcapMicro,
            State::Pcapng(_) => Format::Pcapng,
        }
    }

    /// Offset just behind the last whole block or record, bytes from where the stream began.
    /// A file cut there is whole.
    pub fn good_offset(&self) -> u64 {
        self.input.offset()
    }

    /// Set when the file has ended inside a record.
    pub fn warning(&self) -> Option<&Warning> {
        self.warning.as_ref()
    }
}

fn whole_header<R: Read>(
    input: &mut Input<R>,
    format: &'static str,
    needed: usize,
) -> Result<(), Error> {
    if input.fill(needed)? {
        return Ok(());
    }
    let got = input.ahead().len() as u64;
    Err(Error::HeaderCut { format, needed: needed as u64, got })
}

/// Names the format that starts with these bytes.
fn not_a_capture(magic: [u8; 4]) -> Error {
    const DECOMPRESS: &str = "decompress it first";
    const CONVERT: &str = "convert it with `editcap -F pcapng IN OUT`";
    let (format, mend) = match magic {
        [0x1f, 0x8b, ..] => ("gzip", "decompress it first, with `gzip -d`"),
        [0x28, 0xb5, 0x2f, 0xfd] => ("zstd", "decompress it first, with `zstd -d`"),
        [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            ("zstd or lz4, skippable frame", "decompress it first, with `zstd -d` or `lz4 -d`")
        }
        [0x04, 0x22, 0x4d, 0x18] => ("lz4", "decompress it first, with `lz4 -d`"),
        [0xfd, b'7', b'z', b'X'] => ("xz", "decompress it first, with `xz -d`"),
        [b'B', b'Z', b'h', _] => ("bzip2", "decompress it first, with `bzip2 -d`"),
        [b'P', b'K', 3, 4] => ("zip", DECOMPRESS),
        [0xa1, 0xb2, 0xcd, 0x34] | [0x34, 0xcd, 0xb2, 0xa1] => {
            ("modified pcap of Kuznetzov's patched libpcap", CONVERT)
        }
        [0x1c, 0x00, 0x01, 0xab | 0xac] | [0xab | 0xac, 0x01, 0x00, 0x1c] => {
            ("pcap as IXIA writes it", CONVERT)
        }
        [0xa1, 0xe2, 0xcb, 0x12] | [0x12, 0xcb, 0xe2, 0xa1] => ("pcap of old Navtel", CONVERT),
        [b's', b'n', b'o', b'o'] => ("snoop", CONVERT),
        [b'G', b'M', b'B', b'U'] | [b'R', b'T', b'S', b'S'] => ("Microsoft NetMon", CONVERT),
        [b'T', b'R', b'S', b'N'] => ("Sniffer", CONVERT),
        [b'P', b'A', b'R', b'1'] => ("Parquet", "give the capture, not its index"),
        _ => ("no format known here", "check the path, or convert it with `editcap -F pcapng`"),
    };
    Error::NotACapture { magic, format, mend }
}
