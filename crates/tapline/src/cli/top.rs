//! `tapline top`.

use super::Format;
use super::values::interval;
use clap::{Args, value_parser};
use std::time::Duration;

#[derive(Debug, Args)]
pub struct Top {
    /// Process id or name (--name) of a tapline to watch; may be given more than once. Without it all of
    /// this host are watched
    #[arg(value_name = "PID|NAME")]
    pub of: Vec<String>,
    /// Time from one look to the next: seconds, or 250ms, 5m
    #[arg(short = 'd', long, value_name = "TIME", value_parser = interval, default_value = "1s")]
    pub interval: Duration,
    /// End after N intervals
    #[arg(short = 'n', long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// How rates are printed where standard output is no terminal; json: one object a line for each
    /// tapline and interval, also on a terminal
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}
