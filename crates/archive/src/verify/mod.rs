//! Verification: what is there against what the manifest says there must be.
//!
//! Without [`Options::deep`] it takes lists and the chains: every segment of the manifest is there with
//! its length, and nothing else is. With it every object is read: hashes, frames, packets, rows.
//!
//! An archive is written to meanwhile: data comes before its index and its entry, an entry of a removal
//! before the objects go. So what is found is looked for a second time, and only what is found twice,
//! in two looks at everything, counts.

mod deep;
mod shallow;
mod spool;

pub(crate) use deep::file_sha256;

use crate::error::Error;
use crate::store::Store;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The spool of the archive, if it is on this host.
    pub spool: Option<PathBuf>,
    /// Read every object.
    pub deep: bool,
    /// Read every index, which [`Self::deep`] does too.
    pub indexes: bool,
    /// A folder for copies of objects of a bucket, one at a time.
    pub scratch: PathBuf,
}

/// What is wrong with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The manifest has a segment whose data is not there, and no entry says that it was removed.
    Missing,
    /// Data is not what was stored: another length or hash.
    Altered,
    /// Data cannot be read, or has other packets than it should.
    Damaged,
    /// A segment has no index.
    IndexMissing,
    /// An index is not what was stored, or not that of its data.
    IndexAltered,
    /// Data or an index that the manifest does not know.
    Orphan,
    /// An object that the manifest says was removed.
    Leftover,
    /// A chain of the manifest is not as it was written.
    Chain,
    /// A hold is not there and was not released.
    HoldMissing,
    /// A hold is not what was placed, or cannot be read.
    HoldAltered,
    /// A hold that the manifest does not know.
    HoldUnrecorded,
    /// A segment from before segments were sealed.
    Plain,
    /// A half-written file.
    HalfWritten,
    /// No object of an archive.
    Foreign,
}

impl Kind {
    /// Whether it is a fault; else it is only said.
    pub const fn is_fault(self) -> bool {
        !matches!(self, Kind::Plain | Kind::HalfWritten | Kind::Foreign)
    }
}

/// Something that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The object's key, or a file's path.
    pub object: String,
    /// What kind of thing.
    pub finding: Kind,
    /// Whether it is a fault; else it is only said.
    pub fault: bool,
    /// What it is, with numbers.
    pub what: String,
}

impl Finding {
    pub(crate) fn new(
        finding: Kind,
        object: impl Into<String>,
        what: impl Into<String>,
    ) -> Finding {
        Finding { object: object.into(), finding, fault: finding.is_fault(), what: what.into() }
    }
}

/// What was found, and how much was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What is wrong, by object.
    #[serde(skip)]
    pub findings: Vec<Finding>,
    /// Segments that the manifest says there are.
    pub segments: u64,
    /// Packets in them, by the manifest.
    pub packets: u64,
    /// Segments that the manifest says were removed.
    pub removed: u64,
    /// Chains of the manifest, and their entries.
    pub chains: u64,
    /// Entries of all chains.
    pub entries: u64,
    /// Holds in force.
    pub holds: u64,
    /// Objects that are there, and files of the spool.
    pub objects: u64,
    /// Segments of the spool that are not in the store yet.
    pub in_spool: u64,
    /// Bytes that were read, of data and indexes.
    pub read_bytes: u64,
}

impl Report {
    /// How many of the findings are faults.
    pub fn faults(&self) -> u64 {
        self.findings.iter().filter(|of| of.fault).count() as u64
    }
}

/// Verifies an archive. `progress` is told of each object before it is read: how many are done, how many
/// there are, and which one it is.
///
/// # Errors
/// [`Error`] if the archive cannot be read at all: what is wrong with single objects is a finding.
pub async fn verify(
    store: &Store,
    options: &Options,
    mut progress: impl FnMut(u64, u64, &str),
) -> Result<Report, Error> {
    let mut look = shallow::look(store, options.spool.as_deref()).await?;
    if look.report.findings.iter().any(|of| of.fault) {
        let again = shallow::look(store, options.spool.as_deref()).await?;
        let before = std::mem::take(&mut look.report.findings);
        look = again;
        let is_same = |of: &Finding| {
            before.iter().any(|b| (b.finding, &b.object) == (of.finding, &of.object))
        };
        look.report.findings.retain(|of| !of.fault || is_same(of));
    }
    if options.deep || options.indexes {
        deep::read(store, options, &mut look, &mut progress).await?;
    }
    if options.deep
        && let Some(spool) = &options.spool
    {
        spool::read(spool, &mut look.report, &mut progress)?;
    }
    let mut report = look.report;
    report.findings.sort();
    report.findings.dedup_by(|a, b| (a.finding, &a.object) == (b.finding, &b.object));
    Ok(report)
}

/// Whether a file of the spool's folder is a thing of the archive's own.
fn is_own_spool_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("archiver") || name == "writer"
}
