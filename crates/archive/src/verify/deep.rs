//! The second look: what is in the objects.

use super::shallow::Look;
use super::{Finding, Kind, Options};
use crate::catalog::Place;
use crate::error::Error;
use crate::holds::{hex, sha256};
use crate::index;
use crate::local::LocalFile;
use crate::manifest::SegmentRecord;
use crate::name::{Part, SegmentName};
use crate::seal::reindex_segment;
use crate::store::Store;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Reads all segments, or all indexes.
pub(super) async fn read(
    store: &Store,
    options: &Options,
    look: &mut Look,
    progress: &mut impl FnMut(u64, u64, &str),
) -> Result<(), Error> {
    let keys: Vec<String> = look.objects.keys().cloned().collect();
    let keys: Vec<(String, SegmentName, Part)> = keys
        .into_iter()
        .filter_map(|key| SegmentName::parse_key(&key).map(|(name, part)| (key, name, part)))
        .filter(|(_, _, part)| options.deep || *part == Part::Index)
        .collect();
    for ((key, name, part), done) in keys.iter().zip(0..) {
        progress(done, keys.len() as u64, key);
        let bytes = look.objects.get(key).copied().unwrap_or(0);
        let record = look.records.get(&name.key(Part::Data));
        let found = match part {
            Part::Index => index_of(store, key, record).await,
            Part::Data | Part::Plain => {
                let place = Place::Object(key.clone());
                match LocalFile::get(store, &place, bytes, &options.scratch).await {
                    Ok(local) if *part == Part::Plain => plain(local.path()),
                    Ok(local) => data(local.path(), name, record),
                    Err(error) => Err(error),
                }
            }
        };
        look.report.read_bytes += bytes;
        let kind = if *part == Part::Index { Kind::IndexAltered } else { Kind::Damaged };
        match found {
            Ok(None) => {}
            Ok(Some((kind, what))) => look.report.findings.push(Finding::new(kind, key, what)),
            // Removed while it was being read.
            Err(error) if error.is_not_found() => {}
            Err(error @ Error::Store(_)) => return Err(error),
            Err(error) => look.report.findings.push(Finding::new(kind, key, error.to_string())),
        }
    }
    Ok(())
}

/// What is wrong with something, if anything.
type Found = Result<Option<(Kind, String)>, Error>;

/// Data is what was stored, to the byte, and can be read.
fn data(path: &Path, name: &SegmentName, record: Option<&SegmentRecord>) -> Found {
    let hash = file_sha256(path)?;
    if let Some(record) = record.filter(|record| record.sha256 != hash) {
        let what = format!("its SHA-256 is {hash}, stored was {}", record.sha256);
        return Ok(Some((Kind::Altered, what)));
    }
    let read = reindex_segment(path, name)?;
    let Some(record) = record else { return Ok(None) };
    let counts = [
        ("packets", read.packets, record.packets),
        ("bytes before compression", read.raw_bytes, record.raw_bytes),
    ];
    let wrong = counts.into_iter().find(|(_, is, stored)| is != stored);
    Ok(wrong.map(|(what, is, stored)| {
        (Kind::Damaged, format!("it has {is} {what}, the manifest says {stored}"))
    }))
}

/// A plain segment can be read.
fn plain(path: &Path) -> Found {
    let shown = path.display().to_string();
    let failed = |source| Error::Capture { what: shown.clone(), source };
    let file = File::open(path).map_err(|e| Error::system(format!("open {shown}"), e))?;
    let mut reader = capfile::Reader::new(file).map_err(failed)?;
    while reader.advance().map_err(failed)? {}
    Ok(reader.warning().map(|warning| (Kind::Damaged, warning.to_string())))
}

/// An index is what was stored, and its rows have all packets.
async fn index_of(store: &Store, key: &str, record: Option<&SegmentRecord>) -> Found {
    let bytes = store.get(key).await?;
    let hash = sha256(&bytes);
    if let Some(record) = record.filter(|record| record.index_sha256 != hash) {
        let what = format!("its SHA-256 is {hash}, stored was {}", record.index_sha256);
        return Ok(Some((Kind::IndexAltered, what)));
    }
    Ok(rows(bytes, record).err().map(|what| (Kind::IndexAltered, what)))
}

/// The rows of an index have as many packets as the segment.
fn rows(bytes: Bytes, record: Option<&SegmentRecord>) -> Result<(), String> {
    let rows = index::rows_of(bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    let Some(record) = record else { return Ok(()) };
    let packets: u64 = rows.iter().map(|row| row.packets.0 + row.packets.1).sum();
    match packets == record.packets {
        true => Ok(()),
        false => Err(format!("its rows have {packets} packets, the segment {}", record.packets)),
    }
}

/// SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// [`Error::System`] if it cannot be read.
pub(crate) fn file_sha256(path: &Path) -> Result<String, Error> {
    let failed = |e| Error::system(format!("read {}", path.display()), e);
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(len) => hash.update(&buffer[..len]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
}
