//! The command line: one declaration, from which help comes too. A family of commands is a file;
//! what several of them take is in [`options`], and how values are read is in [`values`].

mod archive;
mod broker;
mod capture;
mod check;
mod diag;
mod doctor;
mod filter;
mod inline;
mod l2tp;
mod mirror;
mod options;
mod receive;
mod search;
#[cfg(test)]
mod tests;
mod top;
mod values;

pub use archive::{
    ArchiveCat, ArchiveCommand, ArchiveExpire, ArchiveHold, ArchiveImport, ArchiveLs, ArchivePlace,
    ArchiveReindex, ArchiveRelease, ArchiveRepair, ArchiveScope, ArchiveVerify,
};
pub use broker::{Broker, BrokerCommand, BrokerShort, RunningBroker};
pub use capture::Capture;
pub use check::Check;
pub use diag::{
    DiagCommand, DiagMonitor, DiagOffload, DiagTaps, DiagTraffic, DiagTunnels, Listening,
};
pub use doctor::Doctor;
pub use filter::{FilterCheck, FilterChoice, FilterCommand, FilterExplain, FilterTest};
pub use inline::{
    Fail, Inline, InlineAdd, InlineCommand, InlineOf, InlineRemove, InlineShort, InlineStop,
    RunningInline,
};
pub use l2tp::{L2tpCommand, L2tpConfig, L2tpReceive, L2tpTransmit};
pub use mirror::Mirror;
pub use options::{FilterIn, FilterPlace, Format, Identity, Report, Rotation, SendingOptions};
pub use receive::{Archiving, Receive, ReceiveDatapath};
pub use search::Search;
pub use top::Top;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// A virtual network TAP: copies traffic at a NIC, carries it over IP, records it, and never loses
/// a packet without saying so.
#[derive(Debug, Parser)]
#[command(name = "tapline", version, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub verbosity: Verbosity,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Verbosity {
    /// Say only what went wrong: no start line, no ledger
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Capture packets of an interface or a file: print them, or write them to a file
    Capture(Capture),
    /// Copy packets of an interface or a file to one or more targets
    Mirror(Mirror),
    /// Take packets out of tunnels and record them
    Receive(Receive),
    /// Find packets in an archive, by time, source, tunnel, flow and expression
    Search(Search),
    /// Carry packets of many sources to many targets: replicate, aggregate, tag, filter, balance
    Broker(Box<Broker>),
    /// Forward what is sent to one of our addresses to a next host, replies back, and capture both: a bump
    /// in the wire
    Inline(Box<Inline>),
    /// Mirror chosen ports through L2TPv3 tunnels over IP, and receive many such tunnels into one device
    #[command(subcommand)]
    L2tp(L2tpCommand),
    /// Check a capture filter, show the program that it becomes, and try it on a capture file
    #[command(subcommand)]
    Filter(FilterCommand),
    /// Say what is in an archive and whether it is whole; mend it, hold, expire, read out, import
    #[command(subcommand)]
    Archive(Box<ArchiveCommand>),
    /// Say what a configuration file would do, and what is wrong with it: a broker's, or one of taps or
    /// of L2TP tunnels. Nothing is opened or changed
    Check(Check),
    /// Say what of this host or its network bears on a tap
    #[command(subcommand)]
    Diag(DiagCommand),
    /// Check whether this host can tap: kernel, rights, limits, network, clock; with -i and --to also
    /// what is to be tapped and the way to a far end. Says why each finding matters and how to mend it.
    /// Nothing is changed; exit code 1 if there is a fault
    Doctor(Doctor),
    /// Show what goes through every tapline of this host: sources, maps, stages and targets with their
    /// rates, drops and queues; a table on a terminal (q ends it, arrows scroll), else lines
    Top(Top),
    /// Show the whole line on one machine: HTTP traffic between network namespaces is mirrored,
    /// recorded and checked. DEMO_SECONDS (20) and DEMO_DIR in the environment. Needs root
    Demo,
    /// Write the manual pages, which are made from the same declaration as --help
    Man(Man),
    /// Print the completions of a shell on standard output
    Completions(Completions),
}

#[derive(Debug, Args)]
pub struct Man {
    /// Folder for tapline.1 and a page for each command; without it tapline.1 is printed
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell that they are for
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: CompletingShell,
}

/// The shells whose completions are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompletingShell {
    Bash,
    Zsh,
    Fish,
}
