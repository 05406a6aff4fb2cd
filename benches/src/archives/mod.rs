//! What needs a large archive, which is generated: how fast packets are found in it.

mod generated;
mod seal;
mod search;

use crate::row::Row;
use std::path::{Path, PathBuf};

/// What the benchmarks stand on.
pub struct Stage<'a> {
    /// The binary that is measured.
    pub tapline: &'a Path,
    /// Where files are written.
    pub folder: &'a Path,
    /// An archive that was generated before, or is to be kept.
    pub kept: Option<PathBuf>,
    /// Bytes of pcapng in the archive before they are sealed.
    pub raw_bytes: u64,
    /// Runs of each subject in each case.
    pub runs: usize,
}

/// Runs a benchmark.
type Run = fn(&Stage<'_>) -> anyhow::Result<Vec<Row>>;

/// The benchmarks by name.
pub const ALL: [(&str, Run); 2] = [(seal::BENCH, seal::run), (search::BENCH, search::run)];
