//! The segments of a spool, read to their end.

use super::shallow::files;
use super::{Finding, Kind, Report};
use crate::error::Error;
use crate::layout::parse_open_segment;
use crate::name::{Part, SegmentName, SpoolState};
use crate::seal::reindex_segment;
use std::fs::File;
use std::path::Path;

/// Reads what is in a spool and not confirmed by the store.
pub(super) fn read(
    spool: &Path,
    report: &mut Report,
    progress: &mut impl FnMut(u64, u64, &str),
) -> Result<(), Error> {
    let files = files(spool)?;
    for (path, done) in files.iter().zip(0..) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let shown = path.display().to_string();
        let what = match SegmentName::parse_spool_file(name) {
            Some((_, Part::Plain, SpoolState::Closed)) => {
                progress(done, files.len() as u64, &shown);
                capture(path, true)
            }
            Some((name, Part::Data, SpoolState::Sealed)) => {
                progress(done, files.len() as u64, &shown);
                reindex_segment(path, &name).map(drop).map_err(|error| error.to_string())
            }
            // Its end may be half a block.
            None if parse_open_segment(name).is_some() => capture(path, false),
            _ => continue,
        };
        // One that is gone by now was moved on.
        if let Err(what) = what
            && path.exists()
        {
            report.findings.push(Finding::new(Kind::Damaged, shown, what));
        }
        report.read_bytes += path.metadata().map_or(0, |of| of.len());
    }
    Ok(())
}

/// Reads a capture to its end.
fn capture(path: &Path, is_complete: bool) -> Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut reader = match capfile::Reader::new(file) {
        Err(capfile::Error::Empty | capfile::Error::HeaderCut { .. }) if !is_complete => {
            return Ok(());
        }
        reader => reader.map_err(|error| error.to_string())?,
    };
    while reader.advance().map_err(|error| error.to_string())? {}
    match reader.warning() {
        Some(warning) if is_complete => Err(warning.to_string()),
        _ => Ok(()),
    }
}
