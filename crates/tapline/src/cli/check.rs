//! `tapline check`.

use super::{BrokerShort, Format};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("checked").required(true).args(["config", "sources"])))]
pub struct Check {
    /// File to check: one of a broker (`[[source]]`, `[[map]]`, `[[target]]`), of taps (`[[tap]]`) or of L2TP
    /// tunnels; its content tells which
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["snapshot_length", "oversize", "dscp"])]
    pub config: Option<PathBuf>,
    /// How the answer is printed; json: one object
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    #[command(flatten)]
    pub short: BrokerShort,
}
