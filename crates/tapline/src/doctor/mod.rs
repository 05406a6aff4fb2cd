//! `tapline doctor`: whether this host can tap, what would get in the way, and how to mend it.
//!
//! Each check is a line. Nothing of the host is changed: what has to be tried is tried in a network
//! namespace that is gone afterwards.

mod finding;
mod host;
mod kernel;
mod network;
mod plan;
mod rights;

use crate::cli::{Doctor, Format};
use crate::completions::print;
use crate::failure::Failure;
use finding::{State, text};

pub fn run(options: &Doctor) -> Result<(), Failure> {
    let mut findings = rights::check();
    findings.extend(kernel::check());
    findings.extend(network::check());
    findings.extend(host::check());
    findings.extend(plan::check(&options.interface, &options.to)?);
    let said = match options.format {
        Format::Text => text(&findings),
        Format::Json => {
            let lines = findings.iter().map(|finding| Ok(serde_json::to_string(finding)? + "\n"));
            let lines: serde_json::Result<String> = lines.collect();
            lines.map_err(|e| Failure::CouldNot(format!("write JSON: {e}")))?
        }
    };
    print(said.as_bytes())?;
    match findings.iter().any(|finding| finding.state == State::Fault) {
        true => Err(Failure::Told),
        false => Ok(()),
    }
}
