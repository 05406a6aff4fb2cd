//! Types shared by configuration, command line and machine-readable output.
//!
//! One set of types serves the command line, the files and the JSON, so that a name means the same
//! everywhere: [`Endpoint`] is where packets come from or go to, [`DropReason`] is why a packet
//! went no further, [`Stats`] is the ledger that `--stats-json` writes.

mod drops;
mod endpoint;
mod error;
mod ledger;
mod policy;
mod rules;
mod units;

pub use drops::{DropReason, Drops};
pub use endpoint::{Endpoint, Group, VXLAN_PORT};
pub use error::Error;
pub use ledger::{Removed, RuleStats, SourceStats, Stats, TapStats, TargetStats};
pub use policy::{DirectionChoice, Oversize};
pub use rules::{RULE_FILE_BYTES_MAX, RuleFile, RuleFileError};
pub use units::{parse_duration, parse_size, parse_size_tcpdump};
