//! `tapline diag`.

use super::values::{decap_port, tunnel_target};
use super::{Format, Report};
use api::Endpoint;
use clap::{Args, Subcommand, value_parser};
use std::path::PathBuf;
use std::time::Duration;
use wire::tunnel::Kind;

#[derive(Debug, Subcommand)]
pub enum DiagCommand {
    /// List the offloads of interfaces and what is done about each, so that packets are the wire's;
    /// with --to also what fits the way to a tunnel's far end. Nothing is changed
    Offload(DiagOffload),
    /// List what takes packets of this host's interfaces: programs and sockets of tapline and, on the same
    /// interfaces, of others; who holds them, the counters of the taplines that run, and what was left
    /// behind. Nothing is changed
    Taps(DiagTaps),
    /// List the servers that TCP connections are opened to, by address and port, with the number of
    /// connections: from SYN and SYN-ACK, for a time or so many of them
    Traffic(DiagTraffic),
    /// List the tunnels of the L2TP taps that run here: packets, errors, and whether each is OK, has
    /// failed (FAIL: errors were counted) or is SILENT
    Tunnels(DiagTunnels),
    /// Listen for tunnels that arrive here and list them: type, ends, id, whether there is a NAT in
    /// between; in JSON packets, bytes and rates too
    Monitor(DiagMonitor),
}

#[derive(Debug, Args)]
pub struct DiagOffload {
    /// Interface to look at; may be given more than once. Without it all are listed
    #[arg(short, long, value_name = "IF")]
    pub interface: Vec<String>,
    /// Tunnel to look up the way to: route, path MTU, headers, and a warning if the interfaces'
    /// frames do not fit
    #[arg(long, value_name = "ENDPOINT", value_parser = tunnel_target)]
    pub to: Vec<Endpoint>,
    /// How the answer is printed; json: one object a line for each interface, then for each tunnel
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct DiagTaps {
    /// Interface to look at; may be given more than once. Without it those are listed that have
    /// something of tapline
    #[arg(short, long, value_name = "IF")]
    pub interface: Vec<String>,
    /// How the answer is printed; json: one object a line
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct DiagTunnels {
    /// How the answer is printed; json: one object a line for each tunnel, with bytes, signs of life,
    /// outer source and NAT
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Most segments that `diag traffic` takes: what bounds its tables.
const PACKETS_MAX: u64 = 1_000_000;

/// What is listened to, and for how long.
#[derive(Debug, Args)]
pub struct Listening {
    /// Interface to listen on; any: all of them
    #[arg(short, long, value_name = "IF", default_value = "any", conflicts_with = "read")]
    pub interface: String,
    /// Capture file to read instead, pcap or pcapng; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub read: Option<PathBuf>,
    /// How long to listen: seconds, or 250ms, 5m, 1h. SIGINT ends it too
    #[arg(long, value_name = "TIME", value_parser = api::parse_duration, default_value = "30s", conflicts_with = "read")]
    pub time: Duration,
}

#[derive(Debug, Args)]
pub struct DiagTraffic {
    #[command(flatten)]
    pub listening: Listening,
    /// Stop after N packets that open a connection, SYN and SYN-ACK (default 1000; for a file
    /// 1000000)
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=PACKETS_MAX))]
    pub packets: Option<u64>,
    /// How the servers are listed; json: one object a line
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub report: Report,
}

impl DiagTraffic {
    /// After how many packets it stops.
    pub fn packets(&self) -> u64 {
        const DEFAULT: u64 = 1000;
        let unsaid = if self.listening.read.is_some() { PACKETS_MAX } else { DEFAULT };
        self.packets.unwrap_or(unsaid)
    }
}

#[derive(Debug, Args)]
pub struct DiagMonitor {
    #[command(flatten)]
    pub listening: Listening,
    /// A UDP port at which there is a tunnel too: vxlan, geneve, gre or l2tp; may be given more than
    /// once
    #[arg(long, value_name = "KIND=PORT", value_parser = decap_port)]
    pub decap_port: Vec<(Kind, u16)>,
    /// How the tunnels are listed; json: one object a line
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub report: Report,
}
