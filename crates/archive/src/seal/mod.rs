//! Sealing: a closed segment becomes seekable zstd with an index, and both get their hashes.
//!
//! ```text
//! pcapng   section header, interfaces | packets … | packets … | … statistics
//!          └ frame 0 ───────────────┘ └ frame 1 ┘ └ frame 2 ┘
//! ```
//! Frame 0 holds what stands before the first packet: with it, any other frame can be read by itself.
//! The frames together are the closed file, byte for byte. Only where that has interfaces behind its
//! first packet, several sections, or is pcap, it is written anew with all interfaces in front.
//!
//! The file is read once; packets, hashes and frames go by in pieces of a frame, so memory does not
//! grow with the segment but by its flows, which have a bound ([`crate::index`]).

mod data;
mod out;

use crate::error::Error;
use crate::index::{self, Gathered};
use crate::manifest::SegmentRecord;
use crate::name::{Part, SegmentName, SpoolState};
use data::{Form, Packed};
use out::Out;
use std::fs::File;
use std::path::{Path, PathBuf};

/// How segments are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealOptions {
    /// zstd's level, from −7 to 22.
    pub level: i32,
}

impl Default for SealOptions {
    fn default() -> SealOptions {
        SealOptions { level: 3 }
    }
}

/// A segment that was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its name.
    pub name: SegmentName,
    /// What a manifest says of it.
    pub record: SegmentRecord,
    /// The file with its packets.
    pub data: PathBuf,
    /// The file with its index.
    pub index: PathBuf,
    /// Set if the closed file ended inside a block: what stood before it was sealed.
    pub cut: Option<capfile::Warning>,
}

/// Seals a closed segment: writes its index, then its data, into the folder `into`, by the names that
/// sealed files have in a spool. Each is complete and on the disk before it has its name. Nothing is
/// removed, and files of these names are replaced, so the call may be repeated.
///
/// # Errors
/// [`Error::Capture`] if the file is no capture or damaged before its end, [`Error::Damaged`] if it has
/// packets of times that its name excludes, [`Error::System`] if a file cannot be read or written. What
/// was half written is removed.
pub fn seal(
    closed: &Path,
    name: &SegmentName,
    into: &Path,
    options: &SealOptions,
) -> Result<Sealed, Error> {
    let data = into.join(name.spool_file(Part::Data, SpoolState::Sealed));
    let (mut out, packed) = pack(closed, name, &data, options)?;
    let Packed { gathered, raw_bytes, dropped, cut } = packed;
    check_span(closed, name, &gathered)?;
    let object = name.key(Part::Data);
    let index = into.join(name.spool_file(Part::Index, SpoolState::Sealed));
    let mut index_out = write_index(&gathered, &object, &index)?;
    let record = SegmentRecord {
        object,
        bytes: out.bytes(),
        sha256: out.sha256(),
        raw_bytes,
        packets: gathered.packets,
        index_bytes: index_out.bytes(),
        index_sha256: index_out.sha256(),
        index_rows: gathered.rows.len() as u64,
        addresses: gathered.addresses.encode(),
        dropped,
    };
    // Both are on the disk before either has its name, the index has it first.
    index_out.sync()?;
    out.sync()?;
    index_out.place()?;
    out.place()?;
    sync_folder(into)?;
    Ok(Sealed { name: name.clone(), record, data, index, cut })
}

fn pack(
    closed: &Path,
    name: &SegmentName,
    data: &Path,
    options: &SealOptions,
) -> Result<(Out, Packed), Error> {
    let mut out = Out::create(data)?;
    if let Some(packed) = data::pack(closed, name, &mut out, Form::AsItIs, options)? {
        return Ok((out, packed));
    }
    drop(out); // removes the file, so that it can be begun again
    let mut out = Out::create(data)?;
    let packed = data::pack(closed, name, &mut out, Form::Anew, options)?;
    Ok((out, packed.expect("a file that is written anew has its interfaces in front")))
}

/// What an index was made of anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reindexed {
    /// The index.
    pub index: Vec<u8>,
    /// Its rows.
    pub rows: u64,
    /// Packets in the data.
    pub packets: u64,
    /// Length of the data before it was compressed.
    pub raw_bytes: u64,
    /// The addresses in them, as [`SegmentRecord::addresses`].
    pub addresses: String,
    /// Packets that were lost before the segment, by what its statistics say.
    pub dropped: Option<u64>,
}

/// Makes the index of a sealed segment anew from its data, which is a local file. By the version that
/// sealed it, it is the same to the byte.
///
/// # Errors
/// [`Error::Capture`] if the data is damaged, [`Error::Damaged`] as [`seal`], [`Error::System`] if the
/// file cannot be read.
pub fn reindex_segment(data: &Path, name: &SegmentName) -> Result<Reindexed, Error> {
    let Packed { gathered, raw_bytes, dropped, cut: _ } = data::unpack(data, name)?;
    check_span(data, name, &gathered)?;
    let object = name.key(Part::Data);
    Ok(Reindexed {
        index: encode(&gathered, &object)?,
        rows: gathered.rows.len() as u64,
        packets: gathered.packets,
        raw_bytes,
        addresses: gathered.addresses.encode(),
        dropped,
    })
}

fn write_index(gathered: &Gathered, object: &str, path: &Path) -> Result<Out, Error> {
    let mut out = Out::create(path)?;
    out.write(&encode(gathered, object)?)?;
    Ok(out)
}

fn encode(gathered: &Gathered, object: &str) -> Result<Vec<u8>, Error> {
    index::write(&gathered.rows, object).map_err(|error| Error::Damaged {
        object: object.into(),
        what: format!("its index cannot be written: {error}"),
        mend: "",
    })
}

/// A name that excludes packets would hide them from every search.
fn check_span(path: &Path, name: &SegmentName, gathered: &Gathered) -> Result<(), Error> {
    let named = (name.first_ns, name.last_ns);
    match gathered.span_ns {
        Some((first_ns, last_ns)) if first_ns < named.0 || last_ns > named.1 => {
            Err(Error::Damaged {
                object: path.display().to_string(),
                what: format!(
                    "its packets are from {first_ns} to {last_ns} ns since 1970, its name says {} to {}",
                    named.0, named.1
                ),
                mend: "; import it with `tapline archive import`",
            })
        }
        _ => Ok(()),
    }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|e| Error::system(format!("bring {} onto the disk", folder.display()), e))
}
