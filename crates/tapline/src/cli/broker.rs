//! `tapline broker`.

use super::options::{Format, Report, SendingOptions};
use crate::failure::Failure;
use api::{
    BrokerConfig, EveryTarget, Group, Overflow, QueueConfig, QueueSize, SourceConfig, parse_source,
};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(group(clap::ArgGroup::new("broker").required(true).args(["config", "input"])))]
pub struct Broker {
    #[command(subcommand)]
    pub command: Option<BrokerCommand>,
    /// TOML file of sources, stages, maps and targets; SIGHUP has it read again
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["input", "output", "queue", "overflow", "snapshot_length", "oversize", "dscp", "rules", "expression"])]
    pub config: Option<PathBuf>,
    /// Where packets come from: nic:IF, pcap:FILE, or a tunnel to listen on, such as
    /// vxlan://ADDRESS?vni=N; with ,vlan=N each gets that tag. May be given more than once
    #[arg(long = "in", value_name = "SOURCE[,KEY=VALUE...]", value_parser = parse_source, requires = "output")]
    pub input: Vec<SourceConfig>,
    /// Where they go to: nic:IF, tap:NAME, pcap:PATH, null:, or a tunnel. Each --out gets every packet;
    /// endpoints joined by commas share them by flow
    #[arg(long = "out", value_name = "ENDPOINT[,ENDPOINT...]")]
    pub output: Vec<Group>,
    /// What may wait for each target: memory, or "N packets"
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    pub queue: QueueSize,
    /// What is dropped when a target's queue is full
    #[arg(long, value_name = "drop_oldest|drop_newest", default_value = "drop_oldest")]
    pub overflow: Overflow,
    /// Send the first N bytes of each packet; 0 sends all
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    pub snapshot_length: u32,
    #[command(flatten)]
    pub sending: SendingOptions,
    #[command(flatten)]
    pub report: Report,
    /// File of capture filter rules, TOML or the JSON of Oracle Cloud: which packets to carry, instead
    /// of EXPR
    #[arg(long, value_name = "FILE", conflicts_with = "expression")]
    pub rules: Option<PathBuf>,
    /// pcap-filter expression: which packets to carry
    #[arg(value_name = "EXPR", trailing_var_arg = true)]
    pub expression: Vec<String>,
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

impl Broker {
    /// The broker that the options say without a file.
    pub fn short(&self) -> Result<BrokerConfig, Failure> {
        let filter = crate::opened::filter_config(self.rules.as_deref(), &self.expression)?;
        let every = EveryTarget {
            queue: QueueConfig { size: self.queue, overflow: self.overflow },
            sending: self.sending.into(),
            snapshot_length: self.snapshot_length,
        };
        BrokerConfig::of_all(self.input.clone(), self.output.clone(), &every, filter)
            .map_err(|mistake| Failure::Usage(mistake.to_string()))
    }
}
