//! `tapline search`.

use super::{Format, Identity};
use crate::times;
use archive::{Location, Window};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Search {
    /// The archive: a folder, or s3://BUCKET/PREFIX, az://CONTAINER/PREFIX, gs://BUCKET/PREFIX
    #[arg(long, value_name = "DIR|URL")]
    pub archive: Location,
    /// Folder of segments that are being written or are on their way into the archive; of an archive
    /// in a folder DIR/.spool without it
    #[arg(long, value_name = "DIR")]
    pub spool: Option<PathBuf>,
    /// Packets from this time on: 2026-11-27T14:30:00.5Z, 2026-11-27, seconds since 1970, now, or
    /// '3h ago'
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    pub after: Option<u64>,
    /// Packets before this time, it not included
    #[arg(long, value_name = "TIME", value_parser = times::parse)]
    pub before: Option<u64>,
    /// Write the packets to a pcapng file instead of printing them; - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// How what was found is printed
    #[arg(long, value_enum, default_value_t, conflicts_with = "write")]
    pub format: SearchFormat,
    /// End after N packets: the earliest ones
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// File that says how the store is reached: endpoint, region, credentials. It goes before the
    /// environment
    #[arg(long, value_name = "FILE")]
    pub store_config: Option<PathBuf>,
    #[command(flatten)]
    pub identity: Identity,
    /// What to look for: source NAME (`*` for any characters), vni ID or tunnel ID, flow COMMUNITY-ID,
    /// then a pcap-filter expression. Nothing: every packet. Options may stand behind it
    #[arg(value_name = "QUERY")]
    pub query: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SearchFormat {
    /// One line a packet
    #[default]
    Text,
    /// One JSON object a line for each packet
    Json,
    /// One JSON object a line for each flow, with the sums of its packets
    Flows,
}

impl SearchFormat {
    /// How packets are printed; `None`: flows are.
    pub fn of_packets(self) -> Option<Format> {
        match self {
            SearchFormat::Text => Some(Format::Text),
            SearchFormat::Json => Some(Format::Json),
            SearchFormat::Flows => None,
        }
    }
}

impl Search {
    /// The range of time.
    pub fn window(&self) -> Window {
        Window { after_ns: self.after.unwrap_or(0), before_ns: self.before }
    }
}
