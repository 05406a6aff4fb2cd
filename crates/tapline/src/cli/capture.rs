//! `tapline capture`.

use super::values::{decap_port, direction, layers, ring_size};
use super::{FilterPlace, Format, Identity, Report, Rotation};
use api::{DirectionChoice, RingSize, Workers};
use clap::{ArgAction, Args};
use std::path::PathBuf;
use wire::tunnel::Kind;

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["interface", "read"])))]
pub struct Capture {
    /// Interface to capture on; any: all of them, each packet with its own
    #[arg(short, long, value_name = "IF")]
    pub interface: Option<String>,
    /// Capture file to read, pcap or pcapng; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub read: Option<PathBuf>,
    /// Write packets to a file instead of printing them: pcapng, or pcap if its name ends in .pcap,
    /// either by gzip if .gz follows; {tap}, {source} and {vni} in the name are filled in, and each
    /// source has files of its own then; - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Keep the first N bytes of each packet; 0 keeps all. The original length is recorded
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    pub snapshot_length: u32,
    /// Stop after N packets
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    #[command(flatten)]
    pub rotation: Rotation,
    /// Write each packet at once rather than when a buffer is full
    #[arg(short = 'U', long)]
    pub packet_buffered: bool,
    /// Which packets: received, sent, or both
    #[arg(short = 'Q', long, value_parser = direction, value_name = "both|in|out", default_value = "both")]
    pub direction: DirectionChoice,
    /// Do not have the interface take frames for other hosts
    #[arg(short = 'p', long)]
    pub no_promiscuous_mode: bool,
    /// Size of the kernel's ring; a bare number means KiB. auto: 100 ms of the link at its full rate
    #[arg(short = 'B', long, value_parser = ring_size, value_name = "SIZE|auto", default_value = "auto")]
    pub buffer_size: RingSize,
    /// Threads that share the interface's packets by flow, each on a core of its own; auto: one for
    /// each core
    #[arg(long, value_name = "N|auto", default_value_t, conflicts_with = "read")]
    pub workers: Workers,
    /// Cut the super-packets of a file, which TSO, GSO and GRO had made, into the packets that the
    /// wire carried. An interface's packets are so without it
    #[arg(long)]
    pub wire_true: bool,
    /// MTU of the link, for connections whose beginning the file does not hold; the packets they are
    /// cut into are marked as estimated
    #[arg(long, value_name = "N", default_value_t = 1500, requires = "wire_true", conflicts_with = "interface", value_parser = clap::value_parser!(u16).range(576..))]
    pub mtu: u16,
    /// Take packets out of up to N tunnels, one inside the other; all: of every one. VXLAN, GENEVE, GRE,
    /// GRETAP, ERSPAN and L2TPv3, at the ports assigned to them. EXPR, --rules and -s are about what
    /// comes out. What is no tunnel goes on as it came
    #[arg(long, value_name = "N|all", value_parser = layers)]
    pub decap: Option<u8>,
    /// A UDP port at which there is a tunnel too: vxlan, geneve, gre or l2tp; may be given more than
    /// once
    #[arg(long, value_name = "KIND=PORT", value_parser = decap_port, requires = "decap")]
    pub decap_port: Vec<(Kind, u16)>,
    /// Names are never looked up; taken for those whose fingers type it
    #[arg(short = 'n', action = ArgAction::Count, hide = true)]
    pub numeric: u8,
    #[command(flatten)]
    pub filter_place: FilterPlace,
    #[command(flatten)]
    pub identity: Identity,
    #[command(flatten)]
    pub report: Report,
    /// How packets are printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// File of capture filter rules, TOML or the JSON of Oracle Cloud: which packets to keep,
    /// instead of EXPR. Hits are counted for each rule
    #[arg(long, value_name = "FILE", conflicts_with = "expression")]
    pub rules: Option<PathBuf>,
    /// pcap-filter expression: which packets to keep
    #[arg(value_name = "EXPR", trailing_var_arg = true)]
    pub expression: Vec<String>,
}
