//! Which packets a transmitting line mirrors: `i80,o443`, or `all`.

use crate::FilterConfig;
use crate::file::shown;
use filter::{Action, PortRange, Rule, Rules, TrafficDirection, Transport};
use std::fmt;
use std::str::FromStr;
use wire::walk::protocol;

/// The word for every packet.
const ALL: &str = "all";

/// Which packets of an interface are mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorPorts {
    /// All of them, whatever their protocol.
    All,
    /// TCP and UDP packets of these ports of the host. At least one, each once.
    Some(Vec<MirrorPort>),
}

/// A port of the host, and one way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MirrorPort {
    /// Received: packets to the port (`i80`). Sent: packets from it (`o80`).
    pub direction: TrafficDirection,
    /// 1 to 65535.
    pub port: u16,
}

impl MirrorPorts {
    /// The capture filter that keeps these packets: of TCP and UDP, IPv4 and IPv6, behind VLAN tags
    /// or without.
    pub fn filter(&self) -> FilterConfig {
        let MirrorPorts::Some(ports) = self else {
            return FilterConfig::All;
        };
        let transports = [protocol::TCP, protocol::UDP];
        let rules = ports.iter().flat_map(|port| transports.map(|transport| port.rule(transport)));
        let rules = Rules::new(rules.collect());
        FilterConfig::Rules(rules.expect("there is a port, and each rule of one is sound"))
    }
}

impl MirrorPort {
    fn rule(&self, transport: u8) -> Rule {
        let port = Some(PortRange::one(self.port));
        let (source, destination) = match self.direction {
            TrafficDirection::Ingress => (None, port),
            TrafficDirection::Egress => (port, None),
        };
        Rule {
            direction: Some(self.direction),
            protocol: Some(transport),
            transport: Transport::Ports { source, destination },
            ..Rule::new(Action::Include)
        }
    }
}

impl FromStr for MirrorPorts {
    type Err = String;

    fn from_str(text: &str) -> Result<MirrorPorts, String> {
        let mut ports: Vec<MirrorPort> = Vec::new();
        let mut all = false;
        for item in text.split(',') {
            if item == ALL {
                all = true;
                continue;
            }
            let port: MirrorPort = item.parse()?;
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        Ok(if all { MirrorPorts::All } else { MirrorPorts::Some(ports) })
    }
}

impl FromStr for MirrorPort {
    type Err = String;

    fn from_str(text: &str) -> Result<MirrorPort, String> {
        let direction =
            MirrorPort::LETTERS.into_iter().find(|(letter, _)| text.starts_with(*letter));
        let port = direction.and_then(|(letter, direction)| {
            let digits = text.strip_prefix(letter)?;
            // No sign, which a number could have.
            let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
            let port = digits.parse().ok().filter(|port| is_number && *port != 0)?;
            Some(MirrorPort { direction, port })
        });
        port.ok_or_else(|| {
            format!(
                "`{}` is no port: write i80 for what is received at port 80, o80 for what is sent \
                 from it, several joined by commas without spaces, or {ALL}; ports are 1 to 65535",
                shown(text)
            )
        })
    }
}

impl fmt::Display for MirrorPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MirrorPorts::Some(ports) = self else {
            return f.write_str(ALL);
        };
        for (place, port) in ports.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { "," })?;
            port.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for MirrorPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = MirrorPort::LETTERS.iter().find(|(_, direction)| *direction == self.direction);
        let letter = named.map_or('?', |(letter, _)| *letter);
        write!(f, "{letter}{}", self.port)
    }
}
