//! Options that several commands take.

use api::{DSCP_MAX, Oversize, Sending};
use clap::{Args, ValueEnum, value_parser};
use std::path::PathBuf;
use std::time::Duration;

/// How packets go into tunnels.
#[derive(Debug, Clone, Copy, Args)]
pub struct SendingOptions {
    /// What becomes of packets too large for the path once they are encapsulated; auto: cut where the
    /// tunnel carries the original length, else fragment
    #[arg(long, value_name = "auto|fragment|cut|drop", default_value = "auto")]
    pub oversize: Oversize,
    /// Class of the tunnels' packets on the way (DSCP), 0 to 63
    #[arg(long, value_name = "N", default_value_t, value_parser = value_parser!(u8).range(0..=DSCP_MAX.into()))]
    pub dscp: u8,
}

impl From<SendingOptions> for Sending {
    fn from(SendingOptions { oversize, dscp }: SendingOptions) -> Sending {
        Sending { oversize, dscp }
    }
}

/// When a file is closed and the next one begun: whichever comes first.
#[derive(Debug, Args)]
pub struct Rotation {
    /// Begin a new file after SIZE: millions of bytes, or a number with kB, MB, GB, KiB, MiB, GiB
    #[arg(short = 'C', long, value_name = "SIZE", value_parser = api::parse_size_tcpdump)]
    pub file_size: Option<u64>,
    /// Begin a new file after SEC seconds (or 250ms, 5m, 1h); % fields of strftime in the name are
    /// filled in, in UTC
    #[arg(short = 'G', long, value_name = "SEC", value_parser = api::parse_duration)]
    pub rotate_seconds: Option<Duration>,
    /// With -G: begin a new file also when the clock shows a multiple of it, in UTC; with -G 1h on
    /// the hour
    #[arg(long, requires = "rotate_seconds")]
    pub align: bool,
    /// With -C: keep N files, the oldest replaced. With -G: end after N files
    #[arg(short = 'W', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub file_count: Option<u32>,
}

/// Who the process is, and whose its files are.
#[derive(Debug, Clone, Default, Args)]
pub struct Identity {
    /// Become this user at once, when started as root: of root's rights only those stay that capturing
    /// needs (CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF). Files are that user's
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Have files belong to this group, whose members may read them; without it the user's own
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
}

/// Where an interface's packets are filtered.
#[derive(Debug, Clone, Copy, Args)]
pub struct FilterPlace {
    /// Where the filter of an interface runs. In the kernel (eBPF) it stops what is not wanted before
    /// it costs a copy, and counts in wire packets; auto falls back to user space, and says why
    #[arg(long, value_enum, default_value_t)]
    pub filter_in: FilterIn,
    /// For hosts that refuse eBPF: also stop packets by a classic filter in the kernel, which cannot
    /// count. What was seen and filtered is then not known (n/a)
    #[arg(long, conflicts_with = "filter_in", requires = "interface")]
    pub prefilter: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum FilterIn {
    /// In the kernel where it can be
    #[default]
    Auto,
    /// In the kernel, or not at all
    Kernel,
    /// In this process
    User,
}

#[derive(Debug, Args)]
pub struct Report {
    /// Write the ledger as JSON at the end, and on SIGUSR1
    #[arg(long, value_name = "FILE")]
    pub stats_json: Option<PathBuf>,
    /// Exit with 3 if any packet was lost that was wanted
    #[arg(long)]
    pub fail_on_drop: bool,
    /// What this process is called by `tapline top` and those who ask for it, beside its process id
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// One line a packet
    #[default]
    Text,
    /// One JSON object a line
    Json,
}
