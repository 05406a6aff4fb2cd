//! What a file of an L2TP tap would do: a tunnel a line, to transmit or to receive.

use super::{Findings, MistakeFinding, PartFinding, host};
use crate::loops::is_of_this_host;
use api::{FileError, L2tpId, parse_l2tp_receive, parse_l2tp_transmit};
use std::net::IpAddr;
use std::path::Path;

/// The columns of the first line that holds some.
fn columns(content: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(content);
    let mut lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let first = lines.find(|line| !line.is_empty()).unwrap_or_default();
    first.split_whitespace().map(str::to_owned).collect()
}

/// Whether a file's content is one of tunnels, as its first line shows; mistakes aside.
pub fn is_meant(content: &[u8]) -> bool {
    columns(content).first().is_some_and(|first| first.parse::<IpAddr>().is_ok())
}

/// Looks at all tunnels.
///
/// # Errors
/// The first mistake in the file, with its place.
pub fn check(path: &Path, content: &[u8]) -> Result<Findings, FileError> {
    match columns(content).get(2).map(String::as_str) {
        Some("-" | "–") => received(path, content),
        _ => transmitted(path, content),
    }
}

fn transmitted(path: &Path, content: &[u8]) -> Result<Findings, FileError> {
    let mut findings = Findings { kind: "l2tp transmit", ..Findings::default() };
    for tunnel in parse_l2tp_transmit(path, content)? {
        let mut part = PartFinding::new("tunnel", &tunnel.id.to_string());
        let (interface, ports) = (&tunnel.interface, tunnel.ports.to_string());
        match host::tapped(interface, &mut findings.warnings) {
            Ok((state, _)) => part.set("from", format!("{interface} ({state})")),
            Err(reason) => {
                part.set("from", interface.clone());
                findings.mistakes.push(lacking(path, tunnel.line, &reason));
            }
        }
        part.set("keeps", ports.clone());
        part.set("to", format!("{} as {}", tunnel.receiver, tunnel.transmitter));
        findings.parts.push(part);
        is_here(tunnel.transmitter, path, tunnel.line, &mut findings);
        findings.ways.push(way([
            format!("interface {interface}"),
            ports,
            tunnel_name(tunnel.receiver, tunnel.id),
        ]));
    }
    Ok(findings)
}

fn received(path: &Path, content: &[u8]) -> Result<Findings, FileError> {
    let mut findings = Findings { kind: "l2tp receive", ..Findings::default() };
    for tunnel in parse_l2tp_receive(path, content)? {
        let mut part = PartFinding::new("tunnel", &tunnel.id.to_string());
        part.set("from", format!("{}, or an address that stands for it", tunnel.transmitter));
        part.set("to", tunnel.receiver.to_string());
        findings.parts.push(part);
        is_here(tunnel.receiver, path, tunnel.line, &mut findings);
        findings.ways.push(way([
            tunnel_name(tunnel.receiver, tunnel.id),
            "the TAP device of all tunnels".into(),
        ]));
    }
    Ok(findings)
}

fn way<const N: usize>(steps: [String; N]) -> Vec<String> {
    steps.into()
}

fn tunnel_name(receiver: IpAddr, id: L2tpId) -> String {
    match receiver {
        IpAddr::V4(address) => format!("l2tp://{address}?id={}", id.address()),
        IpAddr::V6(address) => format!("l2tp://[{address}]?id={}", id.address()),
    }
}

/// Says so if an address is not of this host.
fn is_here(address: IpAddr, path: &Path, line: usize, findings: &mut Findings) {
    if !is_of_this_host(address) {
        let reason = format!("{address} is no address of this host now");
        findings.warnings.push(format!("{}:{line}: {reason}", path.display()));
    }
}

fn lacking(path: &Path, line: usize, reason: &str) -> MistakeFinding {
    let message = format!("{}:{line}: {reason}", path.display());
    MistakeFinding { line: Some(line), column: None, message }
}
