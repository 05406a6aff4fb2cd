//! `tapline inline`.

use super::values::{archive_bound, mirror_snapshot, places_of_another, ring_size};
use super::{Archiving, Format, Report, SendingOptions};
use api::{Datapath, Group, INLINE_SESSIONS_MAX, INLINE_TABLE, InlineRule, InlineView, RingSize};
use archive::Location;
use clap::{Args, Subcommand, ValueEnum, value_parser};
use std::path::PathBuf;

/// What a file says of a table and its rules.
const OPTIONS_OF_A_TABLE: [&str; 9] =
    ["ingress", "egress", "forward", "view", "to", "snapshot_length", "table", "fail", "sessions"];

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(group(clap::ArgGroup::new("inline").required(true).args(["config", "ingress"])))]
pub struct Inline {
    #[command(subcommand)]
    pub command: Option<InlineCommand>,
    /// TOML file of the table: in, out, and each `[[rule]]`; SIGHUP has it read again. Paths are relative
    /// to it
    #[arg(short, long, value_name = "FILE", conflicts_with_all = OPTIONS_OF_A_TABLE)]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub short: InlineShort,
    /// File of all rules' views, pcapng, with an interface for each; - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Record all rules' views, each as a source of its own called RULE-VIEW, and ship them, compressed and
    /// indexed, into this archive: a folder, or s3://, az:// or gs://BUCKET/PREFIX. Segments are closed at
    /// 100 MB and after 60 s
    #[arg(long, value_name = "DIR|URL")]
    pub archive: Option<Location>,
    /// Keep the archive within SIZE (10MB, 2GiB): the oldest segments are removed, which are closed at an
    /// eighth of it then. In a bucket it is looked at each 5 minutes
    #[arg(long, value_name = "SIZE", value_parser = archive_bound, requires = "archive")]
    pub max_bytes: Option<u64>,
    #[command(flatten)]
    pub archiving: Archiving,
    /// What forwards: the kernel, or this process between two rings
    #[arg(long, value_name = "auto|kernel|ring", default_value = "auto")]
    pub datapath: Datapath,
    #[command(flatten)]
    pub sending: SendingOptions,
    /// Size of the kernel's rings; a bare number means KiB. auto: 100 ms of the link at its full rate
    #[arg(short = 'B', long, value_parser = ring_size, value_name = "SIZE|auto", default_value = "auto")]
    pub buffer_size: RingSize,
    #[command(flatten)]
    pub report: Report,
}

/// A table without a file.
#[derive(Debug, Args)]
pub struct InlineShort {
    /// Interface at which clients arrive
    #[arg(long = "in", id = "ingress", value_name = "IF", requires_all = ["egress", "forward"])]
    pub ingress: Option<String>,
    /// Interface behind which the next hosts are; may be the same
    #[arg(long = "out", id = "egress", value_name = "IF", requires = "ingress")]
    pub egress: Option<String>,
    /// A rule: what is sent to one of our addresses goes to a next host, such as
    /// tcp://192.0.2.10:443=10.0.0.5:8443. source=ADDRESS is what the next host sees. May be given more
    /// than once; the rule that says most decides
    #[arg(
        long,
        value_name = "[PROTOCOL://]ADDRESS[:PORT]=NEXT_HOST[:PORT][,source=ADDRESS]",
        requires = "ingress"
    )]
    pub forward: Vec<InlineRule>,
    /// What is captured of each packet: as received, as sent, or as if nothing stood in between
    #[arg(
        long,
        value_name = "ingress,egress,inline",
        value_delimiter = ',',
        default_value = "inline"
    )]
    pub view: Vec<InlineView>,
    /// Where the views go, beside -w and --archive: as --to of mirror
    #[arg(long, value_name = "ENDPOINT[,ENDPOINT...]", requires = "ingress")]
    pub to: Vec<Group>,
    /// Capture the first N bytes of each packet; 0 captures all
    #[arg(short, long, value_name = "N", default_value_t = 0, value_parser = mirror_snapshot)]
    pub snapshot_length: u32,
    /// The table's name, by which it is stopped
    #[arg(long, value_name = "NAME", default_value = INLINE_TABLE, value_parser = api::parse_inline_name)]
    pub table: String,
    /// What becomes of the rules' traffic when tapline ends without being asked to: in the kernel it goes
    /// on (open), or stops (closed)
    #[arg(long, value_enum, default_value_t)]
    pub fail: Fail,
    /// Sessions at most
    #[arg(long, value_name = "N", default_value_t = api::INLINE_SESSIONS, value_parser = value_parser!(u32).range(1..=i64::from(INLINE_SESSIONS_MAX)))]
    pub sessions: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Fail {
    /// It goes on
    #[default]
    Open,
    /// It stops
    Closed,
}

#[derive(Debug, Subcommand)]
pub enum InlineCommand {
    /// Take one more rule into a running table, at once, and print what is in force then. It stays until it
    /// is removed or the process ends: a reload of the file does not touch it
    Add(InlineAdd),
    /// Take rules out of a running table, at once, and print what is in force then. A reload brings one back
    /// that its file has
    Remove(InlineRemove),
    /// Print the rules in force, and where each comes from
    List(InlineList),
    /// Have a running table read its file again, and say what has changed. A file with a mistake changes
    /// nothing; sessions of rules that stay go on
    Reload(RunningInline),
    /// Show the rules of a running table, what they forwarded, and its sessions
    Show(RunningInline),
    /// End a table's forwarding: the process that runs it, and what it left in the kernel
    Stop(InlineStop),
}

/// A table that runs on this host.
#[derive(Debug, Args)]
pub struct RunningInline {
    /// Its process id or its name (--name); needed only where more than one runs
    #[arg(value_name = "PID|NAME")]
    pub of: Option<String>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Which running table is meant, and how its answer is printed.
#[derive(Debug, Args)]
pub struct InlineOf {
    /// The table's name; needed only where more than one runs
    #[arg(long, value_name = "NAME", value_parser = api::parse_inline_name)]
    pub table: Option<String>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct InlineAdd {
    /// The rule, as --forward has it
    #[arg(value_name = "[PROTOCOL://]ADDRESS[:PORT]=NEXT_HOST[:PORT][,source=ADDRESS]")]
    pub forward: InlineRule,
    /// What the rule is called; without it what it matches
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// What is captured of each packet, into --to and into what the table's -w and --archive say; without
    /// it nothing is, or with --to the inline view
    #[arg(long, value_name = "ingress,egress,inline", value_delimiter = ',')]
    pub view: Vec<InlineView>,
    /// Where its views go, as --to of mirror. A relative path is one of the folder that this is called in
    #[arg(long, value_name = "ENDPOINT[,ENDPOINT...]", value_parser = places_of_another)]
    pub to: Vec<String>,
    /// Capture the first N bytes of each packet; 0 captures all
    #[arg(short, long, value_name = "N", default_value_t = 0, value_parser = mirror_snapshot)]
    pub snapshot_length: u32,
    #[command(flatten)]
    pub of: InlineOf,
}

#[derive(Debug, Args)]
pub struct InlineRemove {
    /// The names of the rules
    #[arg(value_name = "RULE", required = true)]
    pub rules: Vec<String>,
    #[command(flatten)]
    pub of: InlineOf,
}

#[derive(Debug, Args)]
pub struct InlineList {
    #[command(flatten)]
    pub of: InlineOf,
}

#[derive(Debug, Args)]
pub struct InlineStop {
    /// The table's name
    #[arg(long, value_name = "NAME", default_value = INLINE_TABLE, value_parser = api::parse_inline_name)]
    pub table: String,
}
