//! Flows as JSON lines, with the columns of an index.

use crate::print;
use archive::index::{Flow, Row};
use serde::Serialize;
use std::net::{IpAddr, Ipv6Addr};

/// A line. What a flow does not have is left out.
#[derive(Serialize)]
struct Line<'a> {
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tunnel_id: Option<u64>,
    #[serde(skip_serializing_if = "<[u16]>::is_empty")]
    vlan: &'a [u16],
    ethertype: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac_lo: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac_hi: Option<String>,
    #[serde(flatten)]
    flow: Option<Ends<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outer: Option<Ends<'a>>,
    /// RFC 3339, UTC, nanoseconds.
    first: String,
    last: String,
    packets: u64,
    packets_fwd: u64,
    packets_rev: u64,
    bytes: u64,
    bytes_fwd: u64,
    bytes_rev: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp_flags: Option<String>,
    truncated: bool,
}

#[derive(Serialize)]
struct Ends<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_lo: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_hi: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port_lo: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port_hi: Option<u16>,
    proto: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    community_id: Option<&'a str>,
}

impl<'a> Ends<'a> {
    fn of(flow: &'a Flow) -> Ends<'a> {
        let Flow { ip_lo, ip_hi, port_lo, port_hi, proto, community_id } = flow;
        Ends {
            ip_lo: ip_lo.map(address),
            ip_hi: ip_hi.map(address),
            port_lo: *port_lo,
            port_hi: *port_hi,
            proto: *proto,
            community_id: community_id.as_deref(),
        }
    }
}

/// An address as people write it: IPv4 is mapped in a row.
fn address(address: Ipv6Addr) -> IpAddr {
    IpAddr::V6(address).to_canonical()
}

/// Appends a line.
pub fn print(row: &Row, lines: &mut String) -> std::io::Result<()> {
    let mac = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    let tunnel = row.tunnel.as_ref();
    let line = Line {
        source: &row.source,
        tunnel: tunnel.map(|tunnel| &*tunnel.kind),
        tunnel_id: tunnel.and_then(|tunnel| tunnel.id),
        vlan: &row.vlan,
        ethertype: row.ethertype,
        mac_lo: row.macs.map(|(lo, _)| mac(lo)),
        mac_hi: row.macs.map(|(_, hi)| mac(hi)),
        flow: row.flow.as_ref().map(Ends::of),
        outer: row.outer.as_ref().map(Ends::of),
        first: print::time(row.span_ns.0),
        last: print::time(row.span_ns.1),
        packets: row.packets.0 + row.packets.1,
        packets_fwd: row.packets.0,
        packets_rev: row.packets.1,
        bytes: row.bytes.0 + row.bytes.1,
        bytes_fwd: row.bytes.0,
        bytes_rev: row.bytes.1,
        tcp_flags: row.tcp_flags.map(print::flags),
        truncated: row.truncated,
    };
    *lines += &serde_json::to_string(&line)?;
    lines.push('\n');
    Ok(())
}
