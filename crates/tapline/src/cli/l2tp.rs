//! `tapline l2tp`.

use super::values::{keep_alive, kib, ring_size, tap_name};
use super::{ReceiveDatapath, Report, SendingOptions};
use api::RingSize;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Default of `l2tp receive -B`.
const LISTEN_BUFFER_SIZE: &str = "64MiB";

#[derive(Debug, Subcommand)]
pub enum L2tpCommand {
    /// Mirror ports of network interfaces into L2TPv3 tunnels, one for each line of the file
    Transmit(L2tpTransmit),
    /// Receive the tunnels of the file into one TAP device, from which analysers take the packets
    Receive(L2tpReceive),
    /// Change the file, and have who runs it take the change over: no other tunnel is disturbed
    #[command(subcommand)]
    Config(L2tpConfig),
}

#[derive(Debug, Args)]
pub struct L2tpTransmit {
    /// File of the tunnels, a line each: receiving-side-ip transmit-side-ip mirror-if mirror-ports, such
    /// as 10.10.10.10 10.10.10.11 ens3 i80,o443. SIGHUP has it read again
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Time between the signs of life that are sent through each tunnel
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = keep_alive)]
    pub keep_alive: Duration,
    #[command(flatten)]
    pub sending: SendingOptions,
    /// Have the interfaces take frames for other hosts too
    #[arg(long)]
    pub promiscuous: bool,
    /// Size of the kernel's ring of each interface; a bare number means KiB. auto: 100 ms of the link
    /// at its full rate
    #[arg(short = 'B', long, value_parser = ring_size, value_name = "SIZE|auto", default_value = "auto")]
    pub buffer_size: RingSize,
    #[command(flatten)]
    pub report: Report,
}

#[derive(Debug, Args)]
pub struct L2tpReceive {
    /// File of the tunnels, a line each: receiving-ip transmit-ip - -, or an id instead of the last -.
    /// SIGHUP has it read again
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Name of the TAP device that all tunnels feed, and begin of the tunnels' own names
    #[arg(long, value_name = "NAME", default_value = "mtun", value_parser = tap_name)]
    pub device: String,
    /// After how long without any packet a tunnel is said to be silent
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = api::parse_duration)]
    pub silent_after: Duration,
    /// How packets are received: from a ring, which costs least and needs CAP_NET_RAW and CAP_BPF, or
    /// from sockets; auto takes the ring where it may
    #[arg(long, value_enum, default_value_t)]
    pub datapath: ReceiveDatapath,
    /// Size of the ring, or of each socket's receive buffer; a bare number means KiB
    #[arg(short = 'B', long, value_parser = kib, value_name = "SIZE", default_value = LISTEN_BUFFER_SIZE)]
    pub buffer_size: u64,
    #[command(flatten)]
    pub report: Report,
}

#[derive(Debug, Subcommand)]
pub enum L2tpConfig {
    /// Add lines to the file
    Add(L2tpConfigAdd),
    /// Take tunnels out of the file; its other lines and its comments stay
    Remove(L2tpConfigRemove),
}

#[derive(Debug, Args)]
pub struct L2tpConfigAdd {
    /// The file; it is made if there is none
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// A line, in quotes, such as "10.10.10.10 10.10.10.11 - -"
    #[arg(value_name = "LINE", required = true)]
    pub lines: Vec<String>,
}

#[derive(Debug, Args)]
pub struct L2tpConfigRemove {
    /// The file
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// A tunnel: its id, as a number or a dotted quad, or its whole line in quotes
    #[arg(value_name = "ID|LINE", required = true)]
    pub tunnels: Vec<String>,
}
