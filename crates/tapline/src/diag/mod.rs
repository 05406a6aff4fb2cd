//! `tapline diag`: what of a host or a network bears on a tap.

mod known;
mod offload;

use crate::cli::DiagCommand;
use crate::failure::Failure;

pub fn run(command: DiagCommand) -> Result<(), Failure> {
    match command {
        DiagCommand::Offload(options) => offload::run(&options),
    }
}
