//! `tapline receive`.

use super::values::{archive_bound, health_address, kib, receive_layers};
use super::{Identity, Report, Rotation, SendingOptions};
use api::{Endpoint, Group};
use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

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
    /// Write a series of segments for each VNI and sender below this folder. They are closed at
    /// 100 MB and after 60 s unless -C and -G say otherwise
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// Keep the archive within SIZE (10MB, 2GiB): the oldest closed segments are removed to make
    /// room. At least two segments must fit; without -C they are closed at an eighth of it
    #[arg(long, value_name = "SIZE", value_parser = archive_bound, conflicts_with = "write")]
    pub max_bytes: Option<u64>,
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
