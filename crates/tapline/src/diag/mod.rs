//! `tapline diag`: what of a host or a network bears on a tap.

mod known;
mod monitor;
mod offload;
mod tally;
mod taps;
mod traffic;
mod tunnels;

pub use known::{Effect, KNOWN};

use crate::cli::{DiagCommand, Verbosity};
use crate::failure::Failure;

pub fn run(command: DiagCommand, verbosity: &Verbosity) -> Result<(), Failure> {
    match command {
        DiagCommand::Offload(options) => offload::run(&options),
        DiagCommand::Taps(options) => taps::run(&options),
        DiagCommand::Traffic(options) => traffic::run(&options, verbosity),
        DiagCommand::Tunnels(options) => tunnels::run(&options),
        DiagCommand::Monitor(options) => monitor::run(&options, verbosity),
    }
}
