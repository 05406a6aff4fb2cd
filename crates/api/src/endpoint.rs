//! Endpoints: where packets come from or go to, as written on the command line and in files.
//!
//! `vxlan://HOST[:4789]?vni=N` · `pcap:PATH` · `null:`; members of a group are joined by commas.
//! An IPv6 address stands in brackets. Listening endpoints take a local address, and `vni` may be
//! absent there: every VNI is taken.

use crate::Error;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use wire::Vni;

/// The UDP port that IANA assigned to VXLAN.
pub const VXLAN_PORT: u16 = 4789;

/// Schemes that the design names and this version does not speak yet.
const LATER: [&str; 9] =
    ["geneve", "gre", "gretap", "erspan", "l2tp", "l2tp+udp", "nic", "tap", "https"];

/// Where packets come from or go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A VXLAN tunnel over UDP.
    Vxlan {
        /// Name or address of the far end, or the local address to listen on.
        host: String,
        /// UDP port.
        port: u16,
        /// The tunnel id; needed for sending, a restriction for receiving.
        vni: Option<Vni>,
        /// The share of a group's load, relative to the other members. 1 to 1000.
        weight: u16,
    },
    /// A capture file: pcapng, or pcap if the name ends in `.pcap`; `-` is standard output.
    Pcap {
        /// The file.
        path: PathBuf,
    },
    /// Packets are counted as sent and forgotten.
    Null,
}

impl Endpoint {
    /// Reads an endpoint that packets are sent to.
    ///
    /// # Errors
    /// As [`Endpoint::from_str`]; and if a tunnel's id is missing.
    pub fn target(text: &str) -> Result<Endpoint, Error> {
        let endpoint: Endpoint = text.parse()?;
        match endpoint {
            Endpoint::Vxlan { vni: None, .. } => {
                Err(fail(text, "the tunnel id is missing: add `?vni=N`"))
            }
            other => Ok(other),
        }
    }

    /// Reads an endpoint that packets are received on.
    ///
    /// # Errors
    /// As [`Endpoint::from_str`]; and if one cannot listen on it.
    pub fn listener(text: &str) -> Result<Endpoint, Error> {
        let endpoint: Endpoint = text.parse()?;
        match endpoint {
            Endpoint::Vxlan { .. } => Ok(endpoint),
            _ => Err(fail(text, "one cannot listen on it; write `vxlan://ADDRESS[:PORT][?vni=N]`")),
        }
    }

    /// The share of a group's load, relative to the other members.
    pub fn weight(&self) -> u16 {
        match self {
            Endpoint::Vxlan { weight, .. } => *weight,
            _ => 1,
        }
    }

    /// The endpoint without what does not identify it (its weight): the key of a group's member.
    pub fn canonical(&self) -> String {
        match self {
            Endpoint::Vxlan { host, port, vni, .. } => {
                let host = match host.parse() {
                    Ok(IpAddr::V6(address)) => format!("[{address}]"),
                    _ if host.contains(':') => format!("[{host}]"),
                    _ => host.clone(),
                };
                let id = vni.map(|v| format!("?vni={v}")).unwrap_or_default();
                format!("vxlan://{host}:{port}{id}")
            }
            Endpoint::Pcap { path } => format!("pcap:{}", path.display()),
            Endpoint::Null => "null:".into(),
        }
    }

    /// Resolves the host of a tunnel endpoint, by name service if it is no address.
    ///
    /// # Errors
    /// If the name is unknown, or the endpoint has no host.
    pub fn resolve(&self) -> Result<SocketAddr, Error> {
        let Endpoint::Vxlan { host, port, .. } = self else {
            return Err(fail(&self.canonical(), "it has no host"));
        };
        let mut found = (host.as_str(), *port).to_socket_addrs().map_err(|error| {
            fail(&self.canonical(), &format!("cannot resolve `{host}` ({error}); write an address"))
        })?;
        found.next().ok_or_else(|| fail(&self.canonical(), "the name has no address"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Endpoint, Error> {
        if text == "null:" {
            return Ok(Endpoint::Null);
        }
        if let Some(path) = text.strip_prefix("pcap:") {
            if path.is_empty() {
                return Err(fail(text, "the file is missing: write `pcap:PATH`"));
            }
            return Ok(Endpoint::Pcap { path: path.into() });
        }
        if let Some(rest) = text.strip_prefix("vxlan://") {
            return vxlan(text, rest);
        }
        let scheme = text.split(':').next().unwrap_or_default();
        if text.contains(':') && LATER.contains(&scheme) {
            return Err(fail(
                text,
                &format!(
                    "`{scheme}` is not supported yet; this version speaks vxlan://, pcap:, null:"
                ),
            ));
        }
        Err(fail(
            text,
            "it begins with no known scheme; write `vxlan://HOST[:PORT]?vni=N`, `pcap:PATH` or `null:`",
        ))
    }
}

/// Endpoints that share the load: each packet goes to one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(pub Vec<Endpoint>);

impl FromStr for Group {
    type Err = Error;

    /// Reads targets joined by commas; a single one is a group of one.
    fn from_str(text: &str) -> Result<Group, Error> {
        let members =
            text.split(',').map(Endpoint::target).collect::<Result<Vec<Endpoint>, Error>>()?;
        let mut keys: Vec<String> = members.iter().map(Endpoint::canonical).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(fail(
                text,
                &format!("`{}` is named twice; use `weight=N` to give it a larger share", pair[0]),
            )),
            None => Ok(Group(members)),
        }
    }
}

fn vxlan(text: &str, rest: &str) -> Result<Endpoint, Error> {
    let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, port) = host_and_port(text, authority)?;
    let (mut vni, mut weight) = (None, 1);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "vni" => {
                let number: Option<u32> = value.parse().ok();
                vni = Some(number.and_then(Vni::new).ok_or_else(|| {
                    fail(text, &format!("vni `{value}` is not a number from 0 to {}", Vni::MAX))
                })?);
            }
            "weight" => {
                weight =
                    value.parse().ok().filter(|w| (1..=1000).contains(w)).ok_or_else(|| {
                        fail(text, &format!("weight `{value}` is not a number from 1 to 1000"))
                    })?;
            }
            "health" => {
                return Err(fail(text, "`health` is not supported yet; leave it out"));
            }
            _ => {
                return Err(fail(
                    text,
                    &format!("`{key}` is no key of vxlan; it has vni and weight"),
                ));
            }
        }
    }
    Ok(Endpoint::Vxlan { host, port, vni, weight })
}

fn host_and_port(text: &str, authority: &str) -> Result<(String, u16), Error> {
    let bad_port =
        |port: &str| fail(text, &format!("port `{port}` is not a number from 1 to 65535"));
    let port_of = |port: &str| port.parse().ok().filter(|&p| p != 0).ok_or_else(|| bad_port(port));
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) =
            rest.split_once(']').ok_or_else(|| fail(text, "a `]` is missing"))?;
        // A link-local address may name its interface: fe80::1%eth0.
        let bare = address.split('%').next().unwrap_or(address);
        bare.parse::<Ipv6Addr>()
            .map_err(|_| fail(text, &format!("`{address}` in brackets is not an IPv6 address")))?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((address.into(), port_of(port)?)),
            None if after.is_empty() => Ok((address.into(), VXLAN_PORT)),
            None => Err(fail(text, "only `:PORT` may follow the `]`")),
        };
    }
    if authority.matches(':').count() > 1 {
        return Err(fail(text, "an IPv6 address stands in brackets: `vxlan://[ADDRESS]`"));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, port_of(port)?),
        None => (authority, VXLAN_PORT),
    };
    if host.is_empty() || host.contains(['/', ' ']) {
        return Err(fail(text, "the host is missing or holds a character that no name has"));
    }
    Ok((host.into(), port))
}

fn fail(text: &str, reason: &str) -> Error {
    Error::Endpoint { text: text.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vxlan_forms() {
        let endpoint = Endpoint::target("vxlan://10.0.0.2?vni=71").unwrap();
        assert_eq!(endpoint.canonical(), "vxlan://10.0.0.2:4789?vni=71");
        let endpoint = Endpoint::target("vxlan://[fd00::2]:4000?vni=0&weight=3").unwrap();
        assert_eq!(endpoint.canonical(), "vxlan://[fd00::2]:4000?vni=0");
        assert_eq!(endpoint.weight(), 3);
        let same = Endpoint::target("vxlan://[fd00:0::0:2]:4000?vni=0").unwrap();
        assert_eq!(same.canonical(), endpoint.canonical());
        assert!(Endpoint::target("vxlan://[fe80::1%lo]?vni=1").is_ok());
        assert_eq!(endpoint.resolve().unwrap(), "[fd00::2]:4000".parse().unwrap());
        let listener = Endpoint::listener("vxlan://0.0.0.0").unwrap();
        assert_eq!(listener.canonical(), "vxlan://0.0.0.0:4789");
    }

    #[test]
    fn files_and_null() {
        assert_eq!(Endpoint::target("pcap:a b.pcapng").unwrap().canonical(), "pcap:a b.pcapng");
        assert_eq!(Endpoint::target("null:").unwrap(), Endpoint::Null);
        assert!(Endpoint::listener("null:").is_err());
    }

    #[test]
    fn each_mistake_says_its_mend() {
        for (text, mend) in [
            ("vxlan://10.0.0.2", "add `?vni=N`"),
            ("vxlan://10.0.0.2?vni=16777216", "0 to 16777215"),
            ("vxlan://10.0.0.2?vni=x", "0 to 16777215"),
            ("vxlan://10.0.0.2:0?vni=1", "1 to 65535"),
            ("vxlan://10.0.0.2:70000?vni=1", "1 to 65535"),
            ("vxlan://fd00::2?vni=1", "brackets"),
            ("vxlan://[fd00::2?vni=1", "`]`"),
            ("vxlan://[10.0.0.2]?vni=1", "not an IPv6"),
            ("vxlan://?vni=1", "host is missing"),
            ("vxlan://h?vni=1&colour=red", "vni and weight"),
            ("vxlan://h?vni=1&weight=0", "1 to 1000"),
            ("gre://10.0.0.2?key=1", "not supported yet"),
            ("10.0.0.2", "no known scheme"),
            ("pcap:", "pcap:PATH"),
        ] {
            let message = Endpoint::target(text).unwrap_err().to_string();
            assert!(message.contains(mend), "{text}: {message}");
            assert!(message.contains(text), "{text}: {message}");
        }
    }

    #[test]
    fn groups() {
        let Group(members) = "vxlan://a?vni=1,vxlan://b?vni=1&weight=2".parse().unwrap();
        assert_eq!(members.len(), 2);
        let twice = "vxlan://a?vni=1,vxlan://a?vni=1&weight=2".parse::<Group>().unwrap_err();
        assert!(twice.to_string().contains("named twice"), "{twice}");
    }
}
