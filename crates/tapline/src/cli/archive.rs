//! `tapline archive`.

use super::Format;
use super::values::age;
use crate::times;
use archive::{Location, Window};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub enum ArchiveCommand {
    /// List segments, with their sources, times, packets and bytes, and say what has expired
    Ls(ArchiveLs),
    /// Compare what is there with what the manifest says there must be; exit with 1 if anything is
    /// missing, altered, left over or broken
    Verify(ArchiveVerify),
    /// Mend what can be mended without losing anything: indexes, manifest entries, interrupted
    /// deletions. What is damaged is named and stays
    Repair(ArchiveRepair),
    /// Have nobody remove segments: of a source, of a time, or named ones, until the hold is released
    Hold(ArchiveHold),
    /// End a hold
    Release(ArchiveRelease),
    /// Remove the segments that are older than is kept, or the oldest ones above a size
    Expire(ArchiveExpire),
    /// Write the packets of whole segments as one pcapng
    Cat(ArchiveCat),
    /// Bring capture files into the archive: pcap or pcapng, also compressed with gzip or zstd
    Import(ArchiveImport),
    /// Make the indexes of segments anew from their data
    Reindex(ArchiveReindex),
}

/// An archive, and how its answers are printed.
#[derive(Debug, Args)]
pub struct ArchivePlace {
    /// The archive: a folder, or s3://BUCKET/PREFIX, az://CONTAINER/PREFIX, gs://BUCKET/PREFIX
    #[arg(long, value_name = "DIR|URL")]
    pub archive: Location,
    /// Folder of segments that are on their way into the archive; of an archive in a folder
    /// DIR/.spool without it
    #[arg(long, value_name = "DIR")]
    pub spool: Option<PathBuf>,
    /// File with the endpoint, credentials and so on of a bucket (TOML), before what the environment
    /// says
    #[arg(long, value_name = "FILE")]
    pub store_config: Option<PathBuf>,
    /// How the answer is printed: for people, or one JSON object a line
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Segments by source and time.
#[derive(Debug, Args)]
pub struct ArchiveScope {
    /// Of this source only; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub source: Vec<String>,
    /// With packets from this time on only: 2026-11-27T14:30:00Z, 2026-11-27, seconds since 1970, or
    /// '3h ago'
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    pub after: Option<u64>,
    /// With packets before this time only
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    pub before: Option<u64>,
}

impl ArchiveScope {
    pub fn window(&self) -> Window {
        Window { after_ns: self.after.unwrap_or(0), before_ns: self.before }
    }

    pub fn has_source(&self, source: &str) -> bool {
        self.source.is_empty() || self.source.iter().any(|wanted| wanted == source)
    }
}

#[derive(Debug, Args)]
pub struct ArchiveLs {
    #[command(flatten)]
    pub place: ArchivePlace,
    #[command(flatten)]
    pub scope: ArchiveScope,
}

#[derive(Debug, Args)]
pub struct ArchiveVerify {
    #[command(flatten)]
    pub place: ArchivePlace,
    /// Read every object: compare hashes, decompress all frames, count packets and compare them with
    /// the index and the manifest
    #[arg(long)]
    pub deep: bool,
}

#[derive(Debug, Args)]
pub struct ArchiveRepair {
    #[command(flatten)]
    pub place: ArchivePlace,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct ArchiveHold {
    /// What the hold is called: letters, digits, `.`, `_` and `-`
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub place: ArchivePlace,
    /// Segments of this source only
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Segments with packets from this time on only
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    pub after: Option<u64>,
    /// Segments with packets before this time only
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    pub before: Option<u64>,
    /// This segment, by the key of its data as `ls` prints it; may be given more than once. Without
    /// a source and a time only these are held
    #[arg(long, value_name = "KEY")]
    pub object: Vec<String>,
    /// Why they are held
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

#[derive(Debug, Args)]
pub struct ArchiveRelease {
    /// What the hold is called
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub place: ArchivePlace,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("rule").required(true).multiple(true).args(["older_than", "max_bytes", "keep_per_source"])))]
pub struct ArchiveExpire {
    #[command(flatten)]
    pub place: ArchivePlace,
    /// Remove segments whose last packet is older than this: 36h, 30d
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub older_than: Option<Duration>,
    /// Remove the oldest segments until the rest has no more than SIZE: 500MB, 10GB, 2000GiB
    #[arg(long, value_name = "SIZE", value_parser = api::parse_size)]
    pub max_bytes: Option<u64>,
    /// Remove the oldest segments of each source until the rest has no more than SIZE
    #[arg(long, value_name = "SIZE", value_parser = api::parse_size)]
    pub keep_per_source: Option<u64>,
    /// Look at this source only; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub source: Vec<String>,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct ArchiveCat {
    /// Segments, by the keys of their data as `ls` prints them, or by the ids in those; without any,
    /// all that the other options let through
    #[arg(value_name = "SEGMENT")]
    pub segments: Vec<String>,
    #[command(flatten)]
    pub place: ArchivePlace,
    #[command(flatten)]
    pub scope: ArchiveScope,
    /// Write to a file; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub write: PathBuf,
}

#[derive(Debug, Args)]
pub struct ArchiveImport {
    /// Capture files
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub place: ArchivePlace,
    /// The source of all packets; without it the interface that a file names, else the file's name
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
}

#[derive(Debug, Args)]
pub struct ArchiveReindex {
    /// Segments, by the keys of their data as `ls` prints them, or by the ids in those; without any,
    /// all that the other options let through
    #[arg(value_name = "SEGMENT")]
    pub segments: Vec<String>,
    #[command(flatten)]
    pub place: ArchivePlace,
    #[command(flatten)]
    pub scope: ArchiveScope,
}
