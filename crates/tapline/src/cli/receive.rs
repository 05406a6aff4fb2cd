//! `tapline receive`.

use super::values::{archive_bound, health_address, kib, receive_layers};
use super::{Identity, Report, Rotation, SendingOptions};
use api::{Endpoint, Group};
use archive::Location;
use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Default of `receive -B`.
const LISTEN_BUFFER_SIZE: &str = "64MiB";

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("place").required(true).multiple(true).args(["write", "archive", "to"])))]
pub struct Receive {
    /// Where to listen: vxlan://ADDRESS:PORT?vni=N; without the port 4789, without vni every VNI
    #[arg(long, value_name = "ENDPOINT", required = true, value_parser = Endpoint::listener)]
    pub listen: Vec<Endpoint>,
    /// Write all packets to one series of files, or with {source} or {vni} in the name to one for each
    /// source; formats as with capture; - is standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "archive")]
    pub write: Option<PathBuf>,
    /// Record a series of segments for each VNI and sender, and ship them, compressed and indexed, into
    /// this archive: a folder, or s3://, az:// or gs://BUCKET/PREFIX. Segments are closed at 100 MB
    /// and after 60 s unless -C and -G say otherwise
    #[arg(long, value_name = "DIR|URL")]
    pub archive: Option<Location>,
    /// Keep the archive within SIZE (10MB, 2GiB): the oldest segments are removed. In a folder that is
    /// never exceeded, what waits in the spool included; segments are closed at an eighth of it unless
    /// -C says otherwise, and at least three must fit. In a bucket it is looked at each 5 minutes
    #[arg(long, value_name = "SIZE", value_parser = archive_bound, conflicts_with = "write")]
    pub max_bytes: Option<u64>,
    #[command(flatten)]
    pub archiving: Archiving,
    /// Listen for health checks there, by TCP or HTTP, only while packets are received and can be
    /// written
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = health_address)]
    pub health: Option<SocketAddr>,
    #[command(flatten)]
    pub rotation: Rotation,
    /// Write each packet at once rather than when a buffer is full
    #[arg(short = 'U', long)]
    pub packet_buffered: bool,
    /// Where else to, or instead of files: as --to of mirror
    #[arg(long, value_name = "ENDPOINT[,ENDPOINT...]")]
    pub to: Vec<Group>,
    #[command(flatten)]
    pub sending: SendingOptions,
    /// How packets are received: from a ring, which costs least and needs CAP_NET_RAW and CAP_BPF, or
    /// from sockets; auto takes the ring where it may
    #[arg(long, value_enum, default_value_t)]
    pub datapath: ReceiveDatapath,
    /// Take packets out of up to N tunnels, one inside the other; all: of every one; 0: of none, so that
    /// the tunnel packets are recorded as they came (from a ring only)
    #[arg(long, value_name = "0|N|all", value_parser = receive_layers, default_value = "1")]
    pub decap: u8,
    /// Size of the ring, or of each socket's receive buffer; a bare number means KiB
    #[arg(short = 'B', long, value_parser = kib, value_name = "SIZE", default_value = LISTEN_BUFFER_SIZE)]
    pub buffer_size: u64,
    #[command(flatten)]
    pub identity: Identity,
    #[command(flatten)]
    pub report: Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ReceiveDatapath {
    /// A ring where the process may, else sockets
    #[default]
    Auto,
    /// A ring for all endpoints. It sees packets before the firewall does
    Ring,
    /// A socket for each address and port, or protocol
    Socket,
}

/// How an archive is filled.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Archiving {
    /// Where segments wait until the archive's store has them; default: .spool in an archive's folder,
    /// else below /var/lib/tapline/spool
    #[arg(long, value_name = "DIR", requires = "archive")]
    pub spool: Option<PathBuf>,
    /// Bytes that may wait in the spool. When it is full, new packets are dropped and counted as
    /// spool_full
    #[arg(long, value_name = "SIZE", value_parser = archive_bound, requires = "archive")]
    pub spool_max: Option<u64>,
    /// What becomes of local copies of segments that the store has confirmed: they are kept until their
    /// room is needed, or removed at once
    #[arg(long, value_enum, default_value_t, requires = "archive")]
    pub spool_policy: SpoolPolicy,
    /// Send no more than SIZE bytes to the store in a second
    #[arg(long, value_name = "SIZE", value_parser = api::parse_size, requires = "archive")]
    pub bandwidth: Option<u64>,
    /// File with the store's endpoint, credentials and so on (TOML), instead of the environment
    #[arg(long, value_name = "FILE", requires = "archive")]
    pub store_config: Option<PathBuf>,
    /// How hard segments are compressed: zstd's level, from -7 to 22
    #[arg(long, value_name = "N", default_value_t = 3, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-7..=22), requires = "archive")]
    pub seal_level: i32,
    /// How long the end may take to ship what was recorded; the rest stays in the spool, for the next
    /// start
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = api::parse_duration, requires = "archive")]
    pub stop_within: Duration,
    /// Remove segments from the archive that are older than this (720h), unless they are held
    #[arg(long, value_name = "AGE", value_parser = api::parse_duration, requires = "archive")]
    pub expire_after: Option<Duration>,
}

/// What becomes of local copies of segments that the store has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SpoolPolicy {
    /// The oldest are removed when their room is needed
    DropOldestUploaded,
    /// They are removed at once
    #[default]
    DropNew,
}

impl From<SpoolPolicy> for archive::archiver::SpoolPolicy {
    fn from(policy: SpoolPolicy) -> archive::archiver::SpoolPolicy {
        match policy {
            SpoolPolicy::DropOldestUploaded => archive::archiver::SpoolPolicy::DropOldestUploaded,
            SpoolPolicy::DropNew => archive::archiver::SpoolPolicy::DropNew,
        }
    }
}
