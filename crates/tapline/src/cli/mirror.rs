//! `tapline mirror`.

use super::values::{direction, mirror_snapshot, ring_size};
use super::{FilterPlace, Report, SendingOptions};
use api::{Datapath, DirectionChoice, Group, Rate, RingSize, TrafficMode, Workers};
use clap::Args;
use std::path::PathBuf;

/// What a file of taps says for each of them.
const OPTIONS_OF_ONE_TAP: [&str; 13] = [
    "to",
    "direction",
    "snapshot_length",
    "oversize",
    "dscp",
    "promiscuous",
    "buffer_size",
    "workers",
    "ceiling",
    "traffic_mode",
    "netns",
    "rules",
    "expression",
];

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["interface", "read", "config"])))]
pub struct Mirror {
    /// TOML file of several taps, each `[[tap]]` with what the options say of one: interface or read,
    /// to, direction, snapshot_length and so on; paths are relative to it
    #[arg(short, long, value_name = "FILE", conflicts_with_all = OPTIONS_OF_ONE_TAP)]
    pub config: Option<PathBuf>,
    /// Interface to tap; may be given more than once. any: all of them
    #[arg(short, long, value_name = "IF")]
    pub interface: Vec<String>,
    /// Capture file to send, as fast as the targets take it; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub read: Option<PathBuf>,
    /// Where to: a tunnel, such as vxlan://HOST:PORT?vni=N; nic:IF, tap:NAME, pcap:PATH, null:. Each
    /// --to gets every packet; endpoints joined by commas share them by flow
    #[arg(long, value_name = "ENDPOINT[,ENDPOINT...]", required_unless_present = "config")]
    pub to: Vec<Group>,
    /// Which packets: received, sent, or both
    #[arg(short = 'Q', long, value_parser = direction, value_name = "both|in|out", default_value = "both")]
    pub direction: DirectionChoice,
    /// Send the first N bytes of each packet; 0 sends all
    #[arg(short, long, value_name = "N", default_value_t = 0, value_parser = mirror_snapshot)]
    pub snapshot_length: u32,
    /// What copies the packets: the kernel itself, or a ring read by this process. auto: the kernel
    /// where it can carry the tap as truly, and says why where it does not
    #[arg(long, value_name = "auto|kernel|ring", default_value = "auto")]
    pub datapath: Datapath,
    /// Say what would run where, and why, and end
    #[arg(long)]
    pub explain: bool,
    /// Mirror at most so much, such as 500Mbit, of what leaves, tunnel headers included and for all targets
    /// together; what exceeds it is dropped as rate_limited
    #[arg(long, value_name = "RATE")]
    pub ceiling: Option<Rate>,
    /// default: without --ceiling, mirror at most half of what the interface carries that the tunnels
    /// leave by, where its speed is known; several taps share that half. priority: no ceiling
    #[arg(long, value_name = "default|priority", default_value = "default")]
    pub traffic_mode: TrafficMode,
    /// Network namespace of the interface: a name of `ip netns`, the id of a process in it, or a path.
    /// Tunnels leave from ours
    #[arg(long, value_name = "NAME|PID|PATH", requires = "interface")]
    pub netns: Option<String>,
    #[command(flatten)]
    pub sending: SendingOptions,
    /// Have the interface take frames for other hosts too
    #[arg(long)]
    pub promiscuous: bool,
    /// Size of the kernel's ring; a bare number means KiB. auto: 100 ms of the link at its full rate
    #[arg(short = 'B', long, value_parser = ring_size, value_name = "SIZE|auto", default_value = "auto")]
    pub buffer_size: RingSize,
    /// Threads that share the interface's packets by flow, each on a core of its own; auto: one for
    /// each core
    #[arg(long, value_name = "N|auto", default_value_t, conflicts_with = "read")]
    pub workers: Workers,
    #[command(flatten)]
    pub filter_place: FilterPlace,
    #[command(flatten)]
    pub report: Report,
    /// File of capture filter rules, TOML or the JSON of Oracle Cloud: which packets to mirror,
    /// instead of EXPR. Hits are counted for each rule
    #[arg(long, value_name = "FILE", conflicts_with = "expression")]
    pub rules: Option<PathBuf>,
    /// pcap-filter expression: which packets to mirror
    #[arg(value_name = "EXPR", trailing_var_arg = true)]
    pub expression: Vec<String>,
}
