//! `tapline filter`.

use super::Format;
use super::values::{direction, link_type};
use api::DirectionChoice;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use wire::LinkType;

#[derive(Debug, Subcommand)]
pub enum FilterCommand {
    /// Say what a filter is, which rules never decide, and whether the kernel takes it; or what is
    /// wrong with it, and where
    Check(FilterCheck),
    /// Print the program that a filter becomes, as tcpdump -d does. It returns the number of the
    /// rule that matched, from 1; rules look past VLAN tags and IPv6 extension headers
    Explain(FilterExplain),
    /// Run a filter over a capture file: how much it keeps, which rules decide, which never do
    Test(FilterTest),
}

/// A filter in one of the two languages.
#[derive(Debug, Args)]
#[group(id = "filter", required = true, multiple = false)]
pub struct FilterChoice {
    /// File of capture filter rules, TOML or the JSON of Oracle Cloud
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// pcap-filter expression
    #[arg(value_name = "EXPR", trailing_var_arg = true)]
    pub expression: Vec<String>,
}

#[derive(Debug, Args)]
pub struct FilterCheck {
    /// What the frames begin with: EN10MB (Ethernet), RAW, LINUX_SLL, LINUX_SLL2, NULL, LOOP, IPV4,
    /// IPV6, or the number of another link type
    #[arg(long, value_parser = link_type, value_name = "NAME", default_value = "EN10MB")]
    pub link_type: LinkType,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub choice: FilterChoice,
}

#[derive(Debug, Args)]
pub struct FilterExplain {
    /// Print numbers, as tcpdump -ddd does: for iptables, tc and programs of your own
    #[arg(long = "ddd", conflicts_with_all = ["ebpf", "format"])]
    pub decimal: bool,
    /// Print the eBPF program that the kernel runs on an interface's ring
    #[arg(long)]
    pub ebpf: bool,
    /// The program of which packets, where received and sent ones have programs of their own
    #[arg(short = 'Q', long, value_parser = direction, value_name = "both|in|out", default_value = "both", conflicts_with = "ebpf")]
    pub direction: DirectionChoice,
    /// What the frames begin with: EN10MB (Ethernet), RAW, LINUX_SLL, LINUX_SLL2, NULL, LOOP, IPV4,
    /// IPV6, or the number of another link type
    #[arg(long, value_parser = link_type, value_name = "NAME", default_value = "EN10MB")]
    pub link_type: LinkType,
    /// How the program is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub choice: FilterChoice,
}

#[derive(Debug, Args)]
pub struct FilterTest {
    /// Capture file to run the filter over, pcap or pcapng; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub read: PathBuf,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub choice: FilterChoice,
}
