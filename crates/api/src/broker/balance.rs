//! How the members of a group share the load, and how it is known that one of them is alive.

use crate::Error;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// How a group's members share the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// What makes two packets ones of a flow, which stay together.
    pub key: FlowKey,
    /// Whether all members are used when none of them is healthy; else the packets are dropped.
    pub fail_open: bool,
}

impl Default for Balance {
    fn default() -> Balance {
        Balance { key: FlowKey::FiveTuple, fail_open: true }
    }
}

/// What makes two packets ones of a flow. Both directions are one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlowKey {
    /// Addresses, ports and protocol (`wire::flow::flow_hash`).
    #[default]
    FiveTuple,
    /// Addresses and protocol.
    ThreeTuple,
    /// Addresses.
    TwoTuple,
    /// The id of the tunnel that the packet came out of: VNI, key, session. Packets of none, or of
    /// one without an id: as [`FlowKey::FiveTuple`].
    TunnelId,
    /// Addresses, ports and protocol of the innermost packet, of tunnels that are left on.
    Inner,
}

impl FlowKey {
    /// Every key, by its name in endpoints and files.
    pub const NAMES: [(&'static str, FlowKey); 5] = [
        ("5-tuple", FlowKey::FiveTuple),
        ("3-tuple", FlowKey::ThreeTuple),
        ("2-tuple", FlowKey::TwoTuple),
        ("tunnel_id", FlowKey::TunnelId),
        ("inner", FlowKey::Inner),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let named = FlowKey::NAMES.iter().find(|(_, key)| *key == self);
        named.expect("each has a name").0
    }
}

impl FromStr for FlowKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<FlowKey, Error> {
        let named = FlowKey::NAMES.iter().find(|(name, _)| *name == text);
        named.map(|(_, key)| *key).ok_or_else(|| {
            let names = FlowKey::NAMES.map(|(name, _)| name).join(", ");
            fail("flow key", text, &format!("write one of {names}"))
        })
    }
}

/// How it is known that a member of a group is alive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Health {
    /// What is tried.
    pub check: Check,
    /// Time from the beginning of one try to that of the next.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// So many good ones in a row make a dead member alive.
    pub rise: u32,
    /// So many bad ones in a row make it dead.
    pub fall: u32,
}

impl Health {
    /// Time between two tries unless it is set, and how long one may take.
    pub const INTERVAL: Duration = Duration::from_millis(500);
    /// Good tries in a row that make a member alive unless set.
    pub const RISE: u32 = 2;
    /// Bad tries in a row that make it dead unless set.
    pub const FALL: u32 = 2;

    /// A check at the usual times.
    pub fn of(check: Check) -> Health {
        let (interval, timeout) = (Health::INTERVAL, Health::INTERVAL);
        Health { check, interval, timeout, rise: Health::RISE, fall: Health::FALL }
    }
}

impl FromStr for Health {
    type Err = Error;

    /// Reads what is tried, as [`Check`]; it is tried at the usual times.
    fn from_str(text: &str) -> Result<Health, Error> {
        text.parse().map(Health::of)
    }
}

/// What is tried to see whether a member is alive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Check {
    /// A TCP connection to a port of the tunnel's far end (`tcp:PORT`).
    Tcp {
        /// The port.
        port: u16,
    },
    /// An answer 2xx to GET (`http:PORT/PATH`).
    Http {
        /// The port.
        port: u16,
        /// The path, with its slash.
        path: String,
    },
    /// What `tapline receive --health` says of itself (`sink:PORT`).
    Sink {
        /// Its port.
        port: u16,
    },
    /// The link of a NIC: up, with a carrier (`link`).
    Link,
    /// An answer to ARP or neighbour solicitation through a NIC (`neighbour:ADDRESS`).
    Neighbour {
        /// Whose.
        address: IpAddr,
    },
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Tcp { port } => write!(f, "tcp:{port}"),
            Check::Http { port, path } => write!(f, "http:{port}{path}"),
            Check::Sink { port } => write!(f, "sink:{port}"),
            Check::Link => f.write_str("link"),
            Check::Neighbour { address } => write!(f, "neighbour:{address}"),
        }
    }
}

impl FromStr for Check {
    type Err = Error;

    fn from_str(text: &str) -> Result<Check, Error> {
        let fail = |mend: &str| fail("health check", text, mend);
        let port = |port: &str| {
            let number = port.parse().ok().filter(|&port| port != 0);
            number.ok_or_else(|| fail(&format!("port `{port}` is not a number from 1 to 65535")))
        };
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "tcp" => Ok(Check::Tcp { port: port(rest)? }),
            "sink" => Ok(Check::Sink { port: port(rest)? }),
            "http" => {
                let (number, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(fail("a path has visible ASCII characters only: escape others"));
                }
                let path = if path.is_empty() { "/" } else { path };
                Ok(Check::Http { port: port(number)?, path: path.into() })
            }
            "link" if rest.is_empty() => Ok(Check::Link),
            "neighbour" => {
                let bare = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                let address = bare.unwrap_or(rest).parse();
                address
                    .map(|address| Check::Neighbour { address })
                    .map_err(|_| fail(&format!("`{rest}` is no IP address")))
            }
            _ => Err(fail(
                "write tcp:PORT, http:PORT/PATH or sink:PORT for a tunnel, link or \
                 neighbour:ADDRESS for an interface",
            )),
        }
    }
}

fn fail(what: &'static str, text: &str, reason: &str) -> Error {
    Error::Unit { what, text: text.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_written_as_they_are_read() {
        for (text, written) in [
            ("tcp:80", "tcp:80"),
            ("sink:65535", "sink:65535"),
            ("http:8080", "http:8080/"),
            ("http:8080/a/b?c", "http:8080/a/b?c"),
            ("link", "link"),
            ("neighbour:10.0.0.1", "neighbour:10.0.0.1"),
            ("neighbour:[fd00::1]", "neighbour:fd00::1"),
        ] {
            let check: Check = text.parse().unwrap();
            assert_eq!(check.to_string(), written);
            assert_eq!(check.to_string().parse::<Check>().unwrap(), check);
        }
    }

    #[test]
    fn each_mistake_says_its_mend() {
        for (text, mend) in [
            ("", "write tcp:PORT"),
            ("ping", "write tcp:PORT"),
            ("link:eth0", "write tcp:PORT"),
            ("tcp", "1 to 65535"),
            ("tcp:0", "1 to 65535"),
            ("sink:65536", "1 to 65535"),
            ("http:/x", "1 to 65535"),
            ("http:80/a b", "visible ASCII"),
            ("neighbour:eth0", "no IP address"),
        ] {
            let error = text.parse::<Health>().unwrap_err().to_string();
            assert!(error.contains(mend), "{text}: {error}");
        }
    }

    #[test]
    fn keys_are_known_by_their_names() {
        for (name, key) in FlowKey::NAMES {
            assert_eq!((name.parse::<FlowKey>().unwrap(), key.name()), (key, name));
        }
        let error = "5tuple".parse::<FlowKey>().unwrap_err().to_string();
        assert!(error.contains("5-tuple, 3-tuple"), "{error}");
    }
}
