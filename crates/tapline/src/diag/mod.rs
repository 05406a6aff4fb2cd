//! `tapline diag`: what of a host or a network bears on a tap.

mod known;
mod monitor;
mod offload;
mod tally;
mod traffic;
mod tunnels;

use crate::cli::{DiagCommand, Verbosity};
use crate::failure::Failure;

pub fn run(command: DiagCommand, verbosity: &Verbosity) -> Result<(), Failure> {
    match command {
        DiagCommand::Offload(options) => offload::run(&options),
        DiagCommand::Traffic(options) => traffic::run(&options, verbosity),
        DiagCommand::Tunnels(options) => tunnels::run(&options),
        DiagCommand::Monitor(options) => monitor::run(&options, verbosity),
    }
}
