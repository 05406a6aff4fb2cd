//! `tapline diag`.

use super::Format;
use super::values::tunnel_target;
use api::Endpoint;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum DiagCommand {
    /// List the offloads of interfaces and what is done about each, so that packets are the wire's;
    /// with --to also what fits the way to a tunnel's far end. Nothing is changed
    Offload(DiagOffload),
}

#[derive(Debug, Args)]
pub struct DiagOffload {
    /// Interface to look at; may be given more than once. Without it all are listed
    #[arg(short, long, value_name = "IF")]
    pub interface: Vec<String>,
    /// Tunnel to look up the way to: route, path MTU, headers, and a warning if the interfaces'
    /// frames do not fit
    #[arg(long, value_name = "ENDPOINT", value_parser = tunnel_target)]
    pub to: Vec<Endpoint>,
    /// How the answer is printed; json: one object a line for each interface, then for each tunnel
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}
