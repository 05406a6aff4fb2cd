//! `tapline doctor`.

use super::Format;
use super::values::tunnel_target;
use api::Endpoint;
use clap::Args;

#[derive(Debug, Args)]
pub struct Doctor {
    /// Interface that is to be tapped; may be given more than once
    #[arg(short, long, value_name = "IF")]
    pub interface: Vec<String>,
    /// Tunnel that packets are to go to: whether there is a way, and whether the interfaces' frames fit
    #[arg(long, value_name = "ENDPOINT", value_parser = tunnel_target)]
    pub to: Vec<Endpoint>,
    /// How the findings are printed; json: one object a line
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}
