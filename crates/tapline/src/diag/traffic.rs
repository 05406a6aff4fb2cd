//! `tapline diag traffic`: which servers TCP connections are opened to, and how many to each.
//!
//! A SYN names the server as its destination, a SYN-ACK as its source. A connection is told by its
//! ends and by the client's initial sequence number, which a SYN carries and a SYN-ACK acknowledges
//! (RFC 9293 section 3.5): so both are of one connection, and so are those sent again; a port used
//! again is another one.

use super::tally::{Heard, Subject, Tally, listen};
use crate::cli::{DiagTraffic, Format, Verbosity};
use crate::completions::print;
use crate::failure::Failure;
use crate::opened::Wanted;
use api::DirectionChoice;
use io::Packet;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use wire::walk::{TransportKind, Walk};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Address and port.
type End = (IpAddr, u16);

/// What tells connections apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Connection {
    server: End,
    client: End,
    /// The client's initial sequence number.
    begin: u32,
}

/// The servers seen. Each packet adds at most one connection, so the number of packets bounds it.
#[derive(Debug, Default)]
struct Servers {
    connections: HashSet<Connection>,
}

/// One server of the answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Server {
    ip: IpAddr,
    port: u16,
    connections: u64,
}

pub fn run(options: &DiagTraffic, verbosity: &Verbosity) -> Result<(), Failure> {
    let packets_max = options.packets();
    if options.format == Format::Text {
        let unit = if options.listening.read.is_some() { "" } else { "s" };
        let head = format!(
            "[info] Detecting server IPs and ports {}{unit}, max packets: {packets_max}\n",
            options.listening
        );
        print(head.as_bytes())?;
    }
    let subject = Subject {
        name: "servers",
        wanted: Wanted::Syn,
        direction: DirectionChoice::Both,
        promiscuous: true,
        packets_max: Some(packets_max),
    };
    let Heard { tally, result, .. } =
        listen(&options.listening, &subject, Servers::default(), &options.report, verbosity)?;
    print(answer(&tally.list(), options.format)?.as_bytes())?;
    result
}

fn answer(servers: &[Server], format: Format) -> Result<String, Failure> {
    let mut text = String::new();
    match format {
        Format::Json => {
            for server in servers {
                text += &serde_json::to_string(server)
                    .map_err(|e| Failure::CouldNot(format!("write JSON: {e}")))?;
                text.push('\n');
            }
        }
        Format::Text => {
            text += "[info] Server-IP Port Connections\n";
            for Server { ip, port, connections } in servers {
                let _ = writeln!(text, "[info] {ip} {port} {connections}");
            }
        }
    }
    Ok(text)
}

impl Tally for Servers {
    fn take(&mut self, packet: &Packet) {
        let walk = Walk::new(packet.meta.link_type, &packet.data);
        self.connections.extend(connection(&walk, &packet.data));
    }
}

impl Servers {
    /// The servers with the most connections first; those with as many by address and port.
    fn list(&self) -> Vec<Server> {
        let mut counts: HashMap<End, u64> = HashMap::new();
        self.connections.iter().for_each(|of| *counts.entry(of.server).or_default() += 1);
        let server = |((ip, port), connections)| Server { ip, port, connections };
        let mut servers: Vec<Server> = counts.into_iter().map(server).collect();
        servers.sort_by_key(|of| (std::cmp::Reverse(of.connections), of.ip, of.port));
        servers
    }
}

/// The connection that a segment opens; `None` if it opens none, or is cut before its flags.
fn connection(walk: &Walk, frame: &[u8]) -> Option<Connection> {
    let transport = walk.transport.filter(|transport| transport.kind == TransportKind::Tcp)?;
    let header: &[u8; 14] = frame.get(transport.at as usize..)?.first_chunk()?;
    let tuple = walk.five_tuple(frame)?;
    let (src_port, dst_port) = tuple.ports?;
    let (src, dst) = ((tuple.src, src_port), (tuple.dst, dst_port));
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    match header[13] & (SYN | ACK) {
        SYN => Some(Connection { server: dst, client: src, begin: word(4) }),
        flags if flags == SYN | ACK => {
            Some(Connection { server: src, client: dst, begin: word(8).wrapping_sub(1) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::LinkType;

    /// An IPv4 packet with a TCP header between hosts 10.0.0.n.
    fn segment(from: (u8, u16), to: (u8, u16), flags: u8, seq: u32, ack: u32) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
        packet.extend([10, 0, 0, from.0, 10, 0, 0, to.0]);
        packet.extend([from.1.to_be_bytes(), to.1.to_be_bytes()].concat());
        packet.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
        packet.extend([0x50, flags, 2, 0, 0, 0, 0, 0]);
        packet
    }

    fn servers(segments: &[Vec<u8>]) -> Vec<Server> {
        let mut servers = Servers::default();
        for segment in segments {
            let walk = Walk::new(LinkType::RAW, segment);
            servers.connections.extend(connection(&walk, segment));
        }
        servers.list()
    }

    fn server(host: u8, port: u16, connections: u64) -> Server {
        Server { ip: [10, 0, 0, host].into(), port, connections }
    }

    #[test]
    fn a_connection_counts_once_by_whichever_of_its_segments_is_seen() {
        let (client, web) = ((1, 50_000), (2, 80));
        let syn = segment(client, web, SYN, 7, 0);
        let syn_ack = segment(web, client, SYN | ACK, 99, 8);
        for seen in [
            &[syn.clone()][..],
            std::slice::from_ref(&syn_ack),
            &[syn.clone(), syn_ack.clone()],
            &[syn.clone(), syn.clone(), syn_ack.clone(), syn_ack.clone()],
        ] {
            assert_eq!(servers(seen), [server(2, 80, 1)]);
        }
        // The same port again is another connection.
        let again = segment(client, web, SYN, u32::MAX, 0);
        let its_answer = segment(web, client, SYN | ACK, 5, 0);
        assert_eq!(servers(&[syn, syn_ack, again, its_answer]), [server(2, 80, 2)]);
    }

    #[test]
    fn servers_stand_in_the_order_of_their_connections() {
        let syn = |port, to| segment((1, port), to, SYN, 1, 0);
        let found =
            servers(&[syn(5, (9, 22)), syn(6, (9, 443)), syn(7, (9, 443)), syn(8, (3, 22))]);
        assert_eq!(found, [server(9, 443, 2), server(3, 22, 1), server(9, 22, 1)]);
        let text = answer(&found, Format::Text).unwrap();
        assert!(text.starts_with("[info] Server-IP Port Connections\n[info] 10.0.0.9 443 2\n"));
        let json = answer(&found, Format::Json).unwrap();
        let first = r#"{"ip":"10.0.0.9","port":443,"connections":2}"#;
        assert_eq!(json.lines().next(), Some(first));
    }

    #[test]
    fn what_opens_nothing_is_nothing() {
        let data = segment((1, 5), (2, 80), ACK, 1, 1);
        let cut = segment((1, 5), (2, 80), SYN, 1, 0)[..33].to_vec();
        assert_eq!(servers(&[data, cut, vec![]]), []);
    }
}
