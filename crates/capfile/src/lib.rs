//! pcap and pcapng files, read and written as streams.
//!
//! [`Reader`] takes any [`std::io::Read`], finds out which of the two formats it is, and gives one
//! [`Record`] after the other out of one buffer that it reuses. [`PcapngWriter`] and [`PcapWriter`]
//! put records on any [`std::io::Write`]. Nothing here seeks, so pipes serve as well as files.
//!
//! Sources: [draft-ietf-opsawg-pcapng](https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/)
//! and [draft-ietf-opsawg-pcap](https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/). The
//! blocks are drawn, with offsets, in [`pcapng_layout`] and [`pcap_layout`].
//!
//! ```
//! use capfile::{Direction, Interface, PcapngWriter, Reader, SectionInfo};
//!
//! let mut writer = PcapngWriter::new(Vec::new(), &SectionInfo::default())?;
//! let eth = writer.add_interface(&Interface::new(capfile::LINKTYPE_ETHERNET))?;
//! writer.write(eth, 1_700_000_000_000_000_001, 1514, Direction::In, &[0xff; 60], None)?;
//! let file = writer.into_inner();
//!
//! let mut reader = Reader::new(&file[..])?;
//! while let Some(record) = reader.next()? {
//!     assert_eq!((record.caplen(), record.origlen), (60, 1514));
//! }
//! assert!(reader.warning().is_none());
//! # Ok::<(), capfile::Error>(())
//! ```
//!
//! What holds everywhere:
//! - `caplen` (bytes present) and `origlen` (bytes on the wire) are two numbers; neither is
//!   corrected by the other, and caplen > origlen passes unchanged.
//! - Times are `u64` nanoseconds since 1970 UTC; what does not fit is clamped, not wrapped.
//! - Memory is bounded by [`BLOCK_LEN_MAX`], [`INTERFACES_MAX`] and [`KEPT_OPTIONS_MAX`] whatever
//!   the input claims, and no input panics.
//! - Link types are plain LINKTYPE_ numbers; this crate does not look into packets.

mod endian;
mod error;
mod input;
mod interface;
mod option;
pub mod pcap_layout;
mod pcap_reader;
mod pcap_writer;
pub mod pcapng_layout;
mod pcapng_reader;
mod pcapng_writer;
mod reader;
mod record;
mod section;
pub mod seekable;

pub use endian::Endian;
pub use error::{Error, Warning};
pub use interface::{Interface, TsResolution};
pub use option::{Options, RawOption};
pub use pcap_writer::{PcapResolution, PcapWriter};
pub use pcapng_writer::PcapngWriter;
pub use reader::{Block, Format, Reader};
pub use record::{Marks, Record};
pub use section::{SectionInfo, Statistics};
pub use wire::Direction;

/// LINKTYPE_ETHERNET.
pub const LINKTYPE_ETHERNET: u16 = 1;

/// Longest block or record that is read or written, bytes, headers and padding included.
///
/// 16 MiB of packet and 128 KiB for header and options. A length field above it is taken for
/// damage, so that a broken file cannot make a reader fill the memory.
pub const BLOCK_LEN_MAX: usize = (16 << 20) + (128 << 10);

/// Most interfaces a [`Reader`] keeps for one file, all sections together.
pub const INTERFACES_MAX: usize = 1 << 18;

/// Most memory a [`Reader`] keeps for the options of interfaces and statistics, bytes (each option
/// counts its value and 64 bytes).
pub const KEPT_OPTIONS_MAX: usize = 64 << 20;
