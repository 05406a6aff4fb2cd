//! `tapline broker`.

use super::values::mirror_snapshot;
use super::{Format, Report, SendingOptions};
use api::{Group, Overflow, QueueSize, SourceConfig};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(group(clap::ArgGroup::new("broker").required(true).args(["config", "sources"])))]
pub struct Broker {
    #[command(subcommand)]
    pub command: Option<BrokerCommand>,
    /// TOML file of sources, stages, maps and targets; SIGHUP has it read again
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["snapshot_length", "oversize", "dscp"])]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub short: BrokerShort,
    #[command(flatten)]
    pub report: Report,
}

#[derive(Debug, Subcommand)]
pub enum BrokerCommand {
    /// Have a running broker read its file again, and say what has changed. A file with a mistake
    /// changes nothing
    Reload(RunningBroker),
    /// Show what a running broker's file wants, what there is, and what a reload would change
    Show(RunningBroker),
}

/// A broker that runs on this host.
#[derive(Debug, Args)]
pub struct RunningBroker {
    /// Its process id or its name (--name); needed only where more than one broker runs
    #[arg(value_name = "PID|NAME")]
    pub of: Option<String>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// A broker without a file: every packet of all sources, to each of the targets.
#[derive(Debug, Args)]
pub struct BrokerShort {
    /// Where packets come from: nic:IF, pcap:FILE, or where to listen, such as vxlan://0.0.0.0?vni=N;
    /// behind a comma name=, vlan=N (a tag for each packet), of an interface direction=, promiscuous=
    /// and buffer_size=, of a file speed=original|max|xN, of tunnels decap= and buffer_size=. May be
    /// given more than once
    #[arg(long = "in", value_name = "SOURCE[,KEY=VALUE...]", value_parser = api::parse_source, requires = "out")]
    pub sources: Vec<SourceConfig>,
    /// Where to, as --to of mirror. Each --out gets every packet; endpoints joined by commas share
    /// them by flow
    #[arg(long = "out", id = "out", value_name = "ENDPOINT[,ENDPOINT...]", requires = "sources")]
    pub targets: Vec<Group>,
    /// What may wait for each target's endpoint: a size (16MiB) or a count (1000packets); 16MiB unless
    /// set
    #[arg(long, value_name = "SIZE", requires = "sources")]
    pub queue: Option<QueueSize>,
    /// What is dropped where that is full; drop_oldest unless set
    #[arg(long, value_name = "drop_oldest|drop_newest", requires = "sources")]
    pub overflow: Option<Overflow>,
    #[command(flatten)]
    pub sending: SendingOptions,
    /// Send the first N bytes of each packet; 0 sends all
    #[arg(short, long, value_name = "N", default_value_t = 0, value_parser = mirror_snapshot)]
    pub snapshot_length: u32,
    /// File of capture filter rules, TOML or the JSON of Oracle Cloud: which packets go on, instead of
    /// EXPR
    #[arg(long, value_name = "FILE", requires = "sources", conflicts_with = "expression")]
    pub rules: Option<PathBuf>,
    /// pcap-filter expression: which packets go on
    #[arg(value_name = "EXPR", trailing_var_arg = true, requires = "sources")]
    pub expression: Vec<String>,
}
