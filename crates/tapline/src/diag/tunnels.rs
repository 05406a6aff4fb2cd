//! `tapline diag tunnels`: how the tunnels of the L2TP taps go that run on this host.

use crate::cli::{DiagTunnels, Format};
use crate::failure::Failure;
use crate::local::instances;
use crate::session::say;
use api::{TunnelEnd, TunnelStats};
use std::fmt::Write as _;
use std::io::Write as _;

/// What the commands are called that have tunnels.
const COMMANDS: &str = "l2tp-";

pub fn run(options: &DiagTunnels) -> Result<(), Failure> {
    let found = instances().into_iter().filter(|instance| instance.command.starts_with(COMMANDS));
    let (mut tunnels, mut ends) = (Vec::new(), Vec::new());
    for instance in found {
        match instance.status() {
            Ok(status) => {
                ends.push(match instance.command.ends_with("transmit") {
                    true => TunnelEnd::Transmit,
                    false => TunnelEnd::Receive,
                });
                tunnels.extend(status.stats.tunnels);
            }
            Err(error) => {
                say(&format!("tapline: {} {}: {error}\n", instance.command, instance.pid));
            }
        }
    }
    if ends.is_empty() {
        return Err(Failure::CouldNot(
            "no tapline l2tp runs on this host that could be asked".into(),
        ));
    }
    let text = match options.format {
        Format::Text => table(&tunnels, &ends),
        Format::Json => lines(&tunnels)?,
    };
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Failure::CouldNot(format!("write to standard output: {error}")))
}

/// A table for each end that runs here, also if it has no tunnels yet.
fn table(tunnels: &[TunnelStats], ends: &[TunnelEnd]) -> String {
    let mut text = String::new();
    for (end, way) in [(TunnelEnd::Transmit, "Tx"), (TunnelEnd::Receive, "Rx")] {
        if !ends.contains(&end) {
            continue;
        }
        let _ = writeln!(
            text,
            "[info] Interface Local IP Remote IP {way}: packets {way}: errors Tunnel status"
        );
        for tunnel in tunnels.iter().filter(|tunnel| tunnel.end == end) {
            let TunnelStats { interface, local, remote, packets, errors, status, .. } = tunnel;
            let _ =
                writeln!(text, "[info] {interface} {local} {remote} {packets} {errors} {status}");
        }
    }
    text
}

/// An object a line.
fn lines(tunnels: &[TunnelStats]) -> Result<String, Failure> {
    let lines = tunnels.iter().map(|tunnel| serde_json::to_string(tunnel).map(|line| line + "\n"));
    let lines: Result<Vec<String>, _> = lines.collect();
    lines.map(|lines| lines.concat()).map_err(|error| Failure::CouldNot(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::TunnelStatus;

    fn tunnel(interface: &str, end: TunnelEnd, packets: u64, status: TunnelStatus) -> TunnelStats {
        TunnelStats {
            interface: interface.into(),
            end,
            local: "10.10.10.10".parse().unwrap(),
            remote: "10.10.10.11".parse().unwrap(),
            id: 168_430_091,
            packets,
            bytes: 0,
            errors: 0,
            keep_alives: None,
            source: None,
            nat: None,
            quiet_ms: None,
            status,
        }
    }

    #[test]
    fn the_columns_are_those_that_are_known() {
        let tunnels = [
            tunnel("mtun-00000", TunnelEnd::Receive, 180_144_698, TunnelStatus::Ok),
            tunnel("tun1", TunnelEnd::Transmit, 0, TunnelStatus::Ok),
            tunnel("mtun-00001", TunnelEnd::Receive, 5, TunnelStatus::Silent),
        ];
        let received = "[info] Interface Local IP Remote IP Rx: packets Rx: errors Tunnel status\n\
                        [info] mtun-00000 10.10.10.10 10.10.10.11 180144698 0 OK\n\
                        [info] mtun-00001 10.10.10.10 10.10.10.11 5 0 SILENT\n";
        assert_eq!(table(&tunnels, &[TunnelEnd::Receive]), received);
        let transmitted = "[info] Interface Local IP Remote IP Tx: packets Tx: errors Tunnel status\n\
                           [info] tun1 10.10.10.10 10.10.10.11 0 0 OK\n";
        let both = [TunnelEnd::Receive, TunnelEnd::Transmit];
        assert_eq!(table(&tunnels, &both), format!("{transmitted}{received}"));
        let json = lines(&tunnels[1..2]).unwrap();
        assert!(json.starts_with(r#"{"interface":"tun1","end":"transmit","local":"10.10.10.10","#));
        assert!(json.ends_with("\"status\":\"OK\"}\n"), "{json}");
    }
}
