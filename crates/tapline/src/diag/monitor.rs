//! `tapline diag monitor`: the tunnels that arrive here, of every kind.
//!
//! A tunnel is told by its kind, both ends and its id. The id of an L2TPv3 tunnel is by default the
//! address of who sends, as that host knows it: where packets come from another address, there is a
//! NAT in between. Ids of other kinds are no addresses, so nothing can be said of them.

use super::tally::{Heard, Subject, Tally, listen};
use crate::cli::{DiagMonitor, Format, Verbosity};
use crate::completions::print;
use crate::failure::Failure;
use api::{DirectionChoice, FilterConfig};
use filter::{Action, PortRange, Rule, Rules, Transport};
use io::Packet;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use wire::LinkType;
use wire::decap::{self, Content, Found};
use wire::tunnel::{Kind, Tunnel};
use wire::walk::{IpVersion, Walk, protocol};

/// Tunnels that are listed at most; the packets of further ones are only counted.
const TUNNELS_MAX: usize = 65_536;

/// Protocols that tunnels have, or that may lead to one: IP in IP, MPLS.
const PROTOCOLS: [u8; 5] = [4, 41, 47, 115, 137];
/// UDP ports of tunnels, of VXLAN-GPE and of MPLS.
const PORTS: [u16; 6] = [4789, 4790, 6081, 1701, 4754, 6635];

/// What tells tunnels apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ends {
    kind: Kind,
    destination: IpAddr,
    source: IpAddr,
    id: Option<u32>,
}

/// What came in by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    packets: u64,
    /// Of the packets carried, as they were on the wire.
    bytes: u64,
}

/// The tunnels seen.
#[derive(Debug)]
struct Tunnels {
    rules: decap::Rules,
    found: BTreeMap<Ends, Counts>,
    /// Packets of tunnels beyond [`TUNNELS_MAX`].
    beyond: u64,
    /// Times of the first and of the latest packet, ns.
    span: Option<(u64, u64)>,
    /// A first fragment, made a packet.
    unfragmented: Vec<u8>,
}

/// One tunnel of the answer.
#[derive(Debug, PartialEq, Serialize)]
struct Line {
    #[serde(rename = "type", serialize_with = "name")]
    kind: Kind,
    destination: IpAddr,
    source: IpAddr,
    /// null: its packets carry none.
    id: Option<u32>,
    /// The id read as an address; null: it is none.
    id_address: Option<Ipv4Addr>,
    /// Whether there is a NAT in between; null: it cannot be told.
    nat: Option<bool>,
    packets: u64,
    bytes: u64,
    packets_per_second: f64,
    bits_per_second: f64,
}

pub fn run(options: &DiagMonitor, verbosity: &Verbosity) -> Result<(), Failure> {
    if options.format == Format::Text {
        print(format!("[info] Detecting tunnels {}\n", options.listening).as_bytes())?;
    }
    let wanted = FilterConfig::Rules(filter_rules(&options.decap_port)?);
    let subject = Subject {
        name: "tunnels",
        wanted: (&wanted).into(),
        direction: DirectionChoice::In,
        promiscuous: false,
        packets_max: None,
    };
    let ports = options.decap_port.iter();
    let rules =
        ports.fold(decap::Rules::default(), |rules, &(kind, port)| rules.with_port(kind, port));
    let Heard { tally, elapsed, result } =
        listen(&options.listening, &subject, Tunnels::new(rules), &options.report, verbosity)?;
    if tally.beyond > 0 {
        tracing::warn!(
            "{} packets of more tunnels than the {TUNNELS_MAX} listed; name an interface with -i",
            tally.beyond
        );
    }
    let span = if options.listening.read.is_some() { tally.span() } else { elapsed };
    print(answer(&tally.list(span), options.format)?.as_bytes())?;
    result
}

/// Which packets may be of a tunnel.
fn filter_rules(ports: &[(Kind, u16)]) -> Result<Rules, Failure> {
    let include = Rule::new(Action::Include);
    let ip = PROTOCOLS.into_iter().map(|number| Rule { protocol: Some(number), ..include });
    let udp = |source, destination| Rule {
        protocol: Some(protocol::UDP),
        transport: Transport::Ports { source, destination },
        ..include
    };
    let one = PortRange::one;
    let ports = PORTS.into_iter().chain(ports.iter().map(|&(_, port)| port));
    // An L2TPv3 server answers from its port, wherever to.
    let from = [udp(Some(one(Kind::L2tp.port())), None)];
    let to = ports.map(|port| udp(None, Some(one(port))));
    let rules = Rules::new(ip.chain(to).chain(from).collect());
    rules.map_err(|error| Failure::CouldNot(error.to_string()))
}

fn answer(lines: &[Line], format: Format) -> Result<String, Failure> {
    let mut text = String::new();
    if format == Format::Json {
        for line in lines {
            text += &serde_json::to_string(line)
                .map_err(|e| Failure::CouldNot(format!("write JSON: {e}")))?;
            text.push('\n');
        }
        return Ok(text);
    }
    text += "[info] Type Dst-IP Src-IP Tunnel-ID NAT-Status\n";
    for line in lines {
        let kind = line.kind.name().to_uppercase();
        let id = match (line.id, line.id_address) {
            (Some(id), Some(address)) => format!("{address}({id})"),
            (Some(id), None) => id.to_string(),
            (None, _) => "-".into(),
        };
        let nat = match line.nat {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        let _ = writeln!(text, "[info] {kind} {} {} {id} {nat}", line.destination, line.source);
    }
    let _ = writeln!(text, "[info] Detected tunnels: {}", lines.len());
    Ok(text)
}

impl Tally for Tunnels {
    fn take(&mut self, packet: &Packet) {
        self.look(packet.meta.link_type, &packet.data, packet.meta.ts_ns);
    }
}

impl Tunnels {
    fn new(rules: decap::Rules) -> Tunnels {
        let (found, unfragmented) = (BTreeMap::new(), Vec::new());
        Tunnels { rules, found, beyond: 0, span: None, unfragmented }
    }

    fn look(&mut self, link: LinkType, frame: &[u8], ts_ns: u64) {
        let (first, last) = self.span.get_or_insert((ts_ns, ts_ns));
        (*first, *last) = (ts_ns.min(*first), ts_ns.max(*last));
        let frame = match unfragment(link, frame, &mut self.unfragmented) {
            true => &self.unfragmented,
            false => frame,
        };
        let Ok(Some(found)) = self.rules.in_frame(link, frame) else { return };
        let Some(ends) = ends(&found) else { return };
        let is_full = self.found.len() >= TUNNELS_MAX;
        let counts = match self.found.get_mut(&ends) {
            Some(counts) => counts,
            None if is_full => return self.beyond += 1,
            None => self.found.entry(ends).or_default(),
        };
        counts.packets += 1;
        if let Content::Packet(inner) = found.content {
            let packet = frame.get(inner.at as usize..inner.end as usize).unwrap_or_default();
            counts.bytes += u64::from(inner.origlen(packet));
        }
    }

    /// From the first packet to the latest.
    fn span(&self) -> Duration {
        self.span.map_or(Duration::ZERO, |(first, last)| Duration::from_nanos(last - first))
    }

    /// The tunnels, with their rates over a time.
    fn list(&self, time: Duration) -> Vec<Line> {
        let seconds = time.as_secs_f64();
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let line = |(&Ends { kind, destination, source, id }, counts): (&Ends, &Counts)| {
            let id_address = id.filter(|_| kind == Kind::L2tp).and_then(address);
            Line {
                kind,
                destination,
                source,
                id,
                id_address,
                nat: nat(id_address, source),
                packets: counts.packets,
                bytes: counts.bytes,
                packets_per_second: rate(counts.packets),
                bits_per_second: rate(counts.bytes * 8),
            }
        };
        self.found.iter().map(line).collect()
    }
}

/// The ends of a tunnel, if a packet tells which it is: L2TPv3's control messages do not.
fn ends(found: &Found) -> Option<Ends> {
    let Tunnel { kind, id } = found.tunnel;
    if kind == Kind::L2tp && id.is_none() {
        return None;
    }
    Some(Ends { kind, destination: found.destination?, source: found.source?, id })
}

/// A number as the address of a host, if it can be one: none below 1.0.0.0, none of loopback, none that
/// is multicast or above.
fn address(id: u32) -> Option<Ipv4Addr> {
    let first = (id >> 24) as u8;
    ((1..224).contains(&first) && first != 127).then(|| Ipv4Addr::from_bits(id))
}

/// Whether who sends has another address here than it has itself.
fn nat(id: Option<Ipv4Addr>, source: IpAddr) -> Option<bool> {
    match source {
        IpAddr::V4(source) => id.map(|id| id != source),
        IpAddr::V6(_) => None,
    }
}

/// Makes a packet of the first of several fragments, which holds the tunnel's header; returns whether
/// it is one.
fn unfragment(link: LinkType, frame: &[u8], packet: &mut Vec<u8>) -> bool {
    const MORE_V4: u8 = 0x20;
    const MORE_V6: u8 = 0x01;
    let walk = Walk::new(link, frame);
    let Some(network) = walk.network else { return false };
    if network.fragment.is_none_or(|fragment| fragment.offset > 0) {
        return false;
    }
    packet.clear();
    packet.extend_from_slice(frame);
    let at = network.at as usize;
    let (at, more) = match network.version {
        IpVersion::V4 => (at + 6, MORE_V4),
        // With other extension headers before it, it stays a fragment.
        IpVersion::V6 if frame.get(at + 6) == Some(&protocol::FRAGMENT) => (at + 43, MORE_V6),
        IpVersion::V6 => return false,
    };
    packet.get_mut(at).is_some_and(|byte| {
        *byte &= !more;
        true
    })
}

fn name<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVER: [u8; 4] = [10, 10, 10, 10];

    fn ipv4(src: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let len = (20 + payload.len() as u16).to_be_bytes();
        let fragment = fragment.to_be_bytes();
        let head = [0x45, 0, len[0], len[1], 0, 7, fragment[0], fragment[1], 64, protocol, 0, 0];
        [&head[..], &src, &RECEIVER, payload].concat()
    }

    fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
        let len = (8 + payload.len() as u16).to_be_bytes();
        [&50_000u16.to_be_bytes()[..], &port.to_be_bytes(), &len, &[0, 0], payload].concat()
    }

    /// L2TPv3 as Linux sends it, around a frame of 60 bytes.
    fn l2tp(session: [u8; 4]) -> Vec<u8> {
        [&session[..], &[0; 4], &[2; 12], &[0x88, 0xb5], &[0; 46]].concat()
    }

    fn list(packets: &[Vec<u8>]) -> Vec<Line> {
        let mut tunnels = Tunnels::new(decap::Rules::default());
        for (number, packet) in (0..).zip(packets) {
            tunnels.look(LinkType::RAW, packet, number * 500_000_000);
        }
        tunnels.list(tunnels.span())
    }

    #[test]
    fn the_text_is_the_one_that_users_know() {
        let packets = [
            ipv4([192, 168, 10, 11], 115, 0, &l2tp([10, 10, 10, 11])),
            ipv4([10, 10, 10, 12], 115, 0, &l2tp([10, 10, 10, 12])),
            ipv4([10, 10, 10, 12], 115, 0, &l2tp([10, 10, 10, 12])),
        ];
        let lines = list(&packets);
        assert_eq!(
            answer(&lines, Format::Text).unwrap(),
            "[info] Type Dst-IP Src-IP Tunnel-ID NAT-Status\n\
             [info] L2TP 10.10.10.10 10.10.10.12 10.10.10.12(168430092) no\n\
             [info] L2TP 10.10.10.10 192.168.10.11 10.10.10.11(168430091) yes\n\
             [info] Detected tunnels: 2\n"
        );
        assert_eq!((lines[0].packets, lines[0].bytes, lines[0].packets_per_second), (2, 120, 2.0));
        let json = answer(&lines, Format::Json).unwrap();
        let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!((&first["type"], &first["nat"]), (&"l2tp".into(), &false.into()));
        assert_eq!(first["id_address"], "10.10.10.12");
    }

    #[test]
    fn a_number_that_is_no_address_says_nothing_of_a_nat() {
        let small = ipv4([10, 0, 0, 1], 115, 0, &l2tp([0, 0, 0, 7]));
        let vxlan = ipv4([10, 0, 0, 1], 17, 0, &udp(4789, &[8, 0, 0, 0, 10, 0, 1, 0]));
        let gre = ipv4([10, 0, 0, 1], 47, 0, &[0, 0, 0x65, 0x58, 2, 2, 2, 2, 2, 2, 2, 2]);
        let text = answer(&list(&[small, vxlan, gre]), Format::Text).unwrap();
        assert!(text.contains("[info] L2TP 10.10.10.10 10.0.0.1 7 -\n"), "{text}");
        assert!(!text.contains("VXLAN"), "there is no frame in it: {text}");
        assert_eq!(
            (address(127 << 24), address(224 << 24), address(0xffff_ffff)),
            (None, None, None)
        );
        assert_eq!(nat(address(0x0a00_0001), "fd00::1".parse().unwrap()), None);
    }

    #[test]
    fn the_first_fragment_shows_the_tunnel_and_control_messages_do_not() {
        let whole = l2tp([10, 0, 0, 1]);
        let first = ipv4([10, 0, 0, 1], 115, 0x2000, &whole);
        let later = ipv4([10, 0, 0, 1], 115, 9, &whole);
        let control = ipv4([10, 0, 0, 1], 115, 0, &[0; 16]);
        let lines = list(&[first, later, control]);
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].packets, lines[0].id), (1, Some(0x0a00_0001)));
        let mut v6 = vec![0x60, 0, 0, 0, 0, 76, 44, 64];
        v6.extend([[0xfd; 16], [0xfc; 16]].concat());
        v6.extend([115, 0, 0, 1, 0, 0, 0, 1]);
        v6.extend(whole);
        let lines = list(&[v6]);
        assert_eq!((lines.len(), lines[0].nat), (1, None));
    }
}
