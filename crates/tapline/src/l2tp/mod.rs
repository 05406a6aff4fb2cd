//! `tapline l2tp`: an L2TP tap without a kernel's L2TP.
//!
//! ```text
//! transmit: ring of ens3 ─┬─ ports of line 1 ─► l2tp://10.10.10.10?id=…  + a sign of life every 20 s
//!                         └─ ports of line 2 ─► …
//! receive:  IP 115 ─► decap ─► Sessions: which tunnel? ─► tap:mtun
//!                                └─ counters: mtun-00000, mtun-00001, …
//! ```

mod config;
mod receive;
mod sessions;
mod transmit;
mod tunnels;

use crate::cli::{L2tpCommand, Verbosity};
use crate::failure::Failure;

pub fn run(command: L2tpCommand, verbosity: &Verbosity) -> Result<(), Failure> {
    match command {
        L2tpCommand::Transmit(options) => transmit::run(&options, verbosity),
        L2tpCommand::Receive(options) => receive::run(&options, verbosity),
        L2tpCommand::Config(command) => config::run(&command, verbosity),
    }
}
