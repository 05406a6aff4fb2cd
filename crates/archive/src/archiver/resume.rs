//! Segments that an earlier process sealed: what the manifest is told of them is found out again.

use super::Shared;
use crate::error::Error;
use crate::manifest::SegmentRecord;
use crate::name::{Part, SegmentName, SpoolState};
use crate::seal::{Reindexed, reindex_segment};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

/// Makes a segment's index anew from its data, and the record with it.
///
/// # Errors
/// As [`reindex_segment`]; [`Error::System`] if the index cannot be written.
pub(super) fn resume(shared: &Shared, name: &SegmentName) -> Result<SegmentRecord, Error> {
    let [data, index] =
        [Part::Data, Part::Index].map(|part| shared.spool.path(name, part, SpoolState::Sealed));
    let Reindexed { index: bytes, rows, packets, raw_bytes, addresses, dropped } =
        reindex_segment(&data, name)?;
    replace(&index, &bytes)
        .map_err(|e| Error::system(format!("write the index {}", index.display()), e))?;
    shared.spool.sync()?;
    let (data_bytes, sha256) =
        hash(&data).map_err(|e| Error::system(format!("read {}", data.display()), e))?;
    Ok(SegmentRecord {
        object: name.key(Part::Data),
        bytes: data_bytes,
        sha256,
        raw_bytes,
        packets,
        index_bytes: bytes.len() as u64,
        index_sha256: hex(&Sha256::digest(&bytes)),
        index_rows: rows,
        addresses,
        dropped,
    })
}

/// Writes a file that is whole, and on the disk, as soon as it has its name.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(super::spool::PART);
    let mut file = File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)
}

/// The length and the SHA-256 of a file.
fn hash(path: &Path) -> std::io::Result<(u64, String)> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let (mut sha256, mut len) = (Sha256::new(), 0);
    loop {
        let read = reader.fill_buf()?;
        if read.is_empty() {
            return Ok((len, hex(&sha256.finalize())));
        }
        sha256.update(read);
        let read_bytes = read.len();
        len += read_bytes as u64;
        reader.consume(read_bytes);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
