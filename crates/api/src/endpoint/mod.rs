//! Endpoints: where packets come from or go to, as written on the command line and in files.
//!
//! `SCHEME://HOST[:PORT]?KEY=VALUE&…` for tunnels ([`TunnelEndpoint`]) · `nic:IF` · `tap:NAME` ·
//! `pcap:PATH` · `null:`; members of a group are joined by commas, and say their part in it by keys
//! ([`Membership`]). An IPv6 address stands in brackets. Listening endpoints take a local address,
//! and their id may be absent: every id is taken.

mod member;
mod tunnel;

pub use member::Membership;
pub use tunnel::{ErspanType, Scheme, TunnelEndpoint, parse_keep_alive};

use crate::{Balance, Error, Health};
use member::{Place, Reader};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Longest interface name (`IFNAMSIZ` less the NUL).
const INTERFACE_NAME_BYTES_MAX: usize = 15;
/// The largest MTU of a TAP device that tapline makes, and the one it has unless the user says so.
pub const TAP_MTU_MAX: u32 = 64_000;
/// The least MTU of a TAP device: what IPv4 asks of a link.
pub const TAP_MTU_MIN: u32 = 68;

/// Where packets come from or go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A tunnel over IP.
    Tunnel(TunnelEndpoint),
    /// A network interface: whole frames are sent out through it.
    Nic {
        /// Its name.
        interface: String,
        /// Its part in a group.
        membership: Membership,
    },
    /// A TAP device of this host: packets come in through it, for whatever listens on it.
    Tap {
        /// Its name.
        name: String,
        /// The largest packet behind the Ethernet header, bytes; `None`: what the device has, and
        /// [`TAP_MTU_MAX`] for a new one.
        mtu: Option<u32>,
        /// Its part in a group.
        membership: Membership,
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
        if let Endpoint::Tunnel(tunnel) = &endpoint {
            tunnel.check_target(text)?;
        }
        Ok(endpoint)
    }

    /// Reads an endpoint that packets are received on.
    ///
    /// # Errors
    /// As [`Endpoint::from_str`]; and if one cannot listen on it.
    pub fn listener(text: &str) -> Result<Endpoint, Error> {
        let endpoint: Endpoint = text.parse()?;
        match endpoint {
            Endpoint::Tunnel(tunnel) if tunnel.membership.health.is_some() => {
                Err(fail(text, "a listener has no health to be checked: leave `health` out"))
            }
            Endpoint::Tunnel(tunnel) if tunnel.source.is_some() || tunnel.keep_alive.is_some() => {
                Err(fail(text, "a listener sends nothing: leave `source` and `keepalive` out"))
            }
            Endpoint::Tunnel(_) => Ok(endpoint),
            _ => Err(fail(
                text,
                "one cannot listen on it; write a tunnel, such as `vxlan://ADDRESS[:PORT][?vni=N]`",
            )),
        }
    }

    /// The share of a group's load, relative to the other members.
    pub fn weight(&self) -> u16 {
        self.membership().weight
    }

    /// Its part in a group.
    pub fn membership(&self) -> &Membership {
        static USUAL: Membership =
            Membership { weight: 1, health: None, hash: None, fail_open: None };
        match self {
            Endpoint::Tunnel(tunnel) => &tunnel.membership,
            Endpoint::Nic { membership, .. } | Endpoint::Tap { membership, .. } => membership,
            Endpoint::Pcap { .. } | Endpoint::Null => &USUAL,
        }
    }

    /// Has its health checked in this way unless it says another.
    ///
    /// # Errors
    /// If there is no such check for it.
    pub fn check_by_default(&mut self, health: &Health) -> Result<(), Error> {
        let text = self.canonical();
        let (place, membership) = match self {
            Endpoint::Tunnel(tunnel) => (Place::Host, &mut tunnel.membership),
            Endpoint::Nic { membership, .. } => (Place::Interface, membership),
            Endpoint::Tap { membership, .. } => (Place::Device, membership),
            Endpoint::Pcap { .. } | Endpoint::Null => {
                return Err(fail(&text, "its health cannot be checked: leave `health` out"));
            }
        };
        if membership.health.is_none() {
            place.admit(&text, &health.check)?;
            membership.health = Some(health.clone());
        }
        Ok(())
    }

    /// The tunnel, if it is one.
    pub fn tunnel(&self) -> Option<&TunnelEndpoint> {
        match self {
            Endpoint::Tunnel(tunnel) => Some(tunnel),
            _ => None,
        }
    }

    /// The endpoint without what does not identify it (its weight, its health): the key of a group's member.
    pub fn canonical(&self) -> String {
        match self {
            Endpoint::Tunnel(tunnel) => tunnel.canonical(),
            Endpoint::Nic { interface, .. } => format!("nic:{interface}"),
            Endpoint::Tap { name, .. } => format!("tap:{name}"),
            Endpoint::Pcap { path } => format!("pcap:{}", path.display()),
            Endpoint::Null => "null:".into(),
        }
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
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        match (scheme, rest) {
            ("null", "") => return Ok(Endpoint::Null),
            ("pcap", "") => return Err(fail(text, "the file is missing: write `pcap:PATH`")),
            ("pcap", path) => return Ok(Endpoint::Pcap { path: path.into() }),
            ("nic", rest) => return nic(text, rest),
            ("tap", rest) => return tap(text, rest),
            _ => {}
        }
        let tunnel = Scheme::ALL.into_iter().find(|known| known.name() == scheme);
        match (tunnel, rest.strip_prefix("//")) {
            (Some(tunnel), Some(rest)) => {
                TunnelEndpoint::parse(text, tunnel, rest).map(Endpoint::Tunnel)
            }
            (Some(_), None) => Err(fail(text, &format!("write `{scheme}://HOST`"))),
            _ => Err(fail(
                text,
                &format!(
                    "it begins with no known scheme; write {}, as in `vxlan://HOST[:PORT]?vni=N`, \
                     or `nic:IF`, `tap:NAME`, `pcap:PATH`, `null:`",
                    Scheme::ALL.map(Scheme::name).join(", ")
                ),
            )),
        }
    }
}

fn nic(text: &str, rest: &str) -> Result<Endpoint, Error> {
    let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
    let interface = interface_name(text, name)?;
    let mut member = Reader::default();
    for (key, value) in pairs(text, query)? {
        if !member.take(text, key, value)? {
            let keys = member::KEYS;
            return Err(fail(text, &format!("`{key}` is no key of nic; it has {keys}")));
        }
    }
    Ok(Endpoint::Nic { interface, membership: member.finish(text, Place::Interface)? })
}

fn tap(text: &str, rest: &str) -> Result<Endpoint, Error> {
    let (name, query) = rest.split_once('?').unwrap_or((rest, ""));
    let name = interface_name(text, name)?;
    let mut member = Reader::default();
    let mut mtu = None;
    for (key, value) in pairs(text, query)? {
        if member.take(text, key, value)? {
            continue;
        }
        if key != "mtu" {
            let keys = member::KEYS;
            return Err(fail(text, &format!("`{key}` is no key of tap; it has mtu, {keys}")));
        }
        let number = value.parse().ok().filter(|mtu| (TAP_MTU_MIN..=TAP_MTU_MAX).contains(mtu));
        let wanted = format!("a number from {TAP_MTU_MIN} to {TAP_MTU_MAX}");
        mtu = Some(number.ok_or_else(|| fail(text, &format!("mtu `{value}` is not {wanted}")))?);
    }
    Ok(Endpoint::Tap { name, mtu, membership: member.finish(text, Place::Device)? })
}

/// The keys and values of a query; no key stands there twice.
fn pairs<'a>(text: &str, query: &'a str) -> Result<Vec<(&'a str, &'a str)>, Error> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if pairs.iter().any(|(seen, _)| *seen == key) {
            return Err(fail(text, &format!("`{key}` is given twice")));
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

fn interface_name(text: &str, name: &str) -> Result<String, Error> {
    let is_name = (1..=INTERFACE_NAME_BYTES_MAX).contains(&name.len())
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
        && !matches!(name, "." | "..");
    match is_name {
        true => Ok(name.into()),
        false => Err(fail(
            text,
            &format!(
                "`{name}` is no name of an interface: 1 to {INTERFACE_NAME_BYTES_MAX} characters, \
                 no space, `/` or `:`"
            ),
        )),
    }
}

/// Endpoints that share the load: each packet goes to one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(pub Vec<Endpoint>);

impl Group {
    /// Joins targets to a group; a single one is a group of one.
    ///
    /// # Errors
    /// If an endpoint stands there twice, or if members contradict each other.
    pub fn new(members: Vec<Endpoint>) -> Result<Group, Error> {
        let text: Vec<String> = members.iter().map(Endpoint::canonical).collect();
        Group::checked(&text.join(","), members)
    }

    /// How the members share the load, as far as they say it themselves.
    pub fn balance(&self) -> Balance {
        let Group(members) = self;
        let (mut memberships, usual) =
            (members.iter().map(Endpoint::membership), Balance::default());
        let key = memberships.clone().find_map(|of| of.hash);
        let fail_open = memberships.find_map(|of| of.fail_open);
        Balance { key: key.unwrap_or(usual.key), fail_open: fail_open.unwrap_or(usual.fail_open) }
    }

    fn checked(text: &str, members: Vec<Endpoint>) -> Result<Group, Error> {
        let mut keys: Vec<String> = members.iter().map(Endpoint::canonical).collect();
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            let mend =
                format!("`{}` is named twice; use `weight=N` to give it a larger share", pair[0]);
            return Err(fail(text, &mend));
        }
        let said = |say: fn(&Membership) -> Option<String>| {
            let mut said: Vec<String> =
                members.iter().filter_map(|m| say(m.membership())).collect();
            said.dedup();
            match &said[..] {
                [one, other, ..] => {
                    let mend = format!("its members say {one} and {other}; let one of them say it");
                    Err(fail(text, &mend))
                }
                said => Ok(!said.is_empty()),
            }
        };
        said(|of| of.hash.map(|key| format!("hash={}", key.name())))?;
        let says_fail_open = said(|of| {
            of.fail_open.map(|open| if open { "fail_open=on" } else { "fail_open=off" }.into())
        })?;
        if says_fail_open && members.iter().all(|member| member.membership().health.is_none()) {
            let mend = "no member has a health check: add `health=…`, or leave `fail_open` out";
            return Err(fail(text, mend));
        }
        Ok(Group(members))
    }
}

impl FromStr for Group {
    type Err = Error;

    /// Reads targets joined by commas; a single one is a group of one.
    fn from_str(text: &str) -> Result<Group, Error> {
        Group::checked(text, text.split(',').map(Endpoint::target).collect::<Result<_, _>>()?)
    }
}

fn fail(text: &str, reason: &str) -> Error {
    Error::Endpoint { text: text.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vxlan_forms() {
        let endpoint = Endpoint::target("vxlan://[fd00::2]:4000?vni=0&weight=3").unwrap();
        assert_eq!(endpoint.canonical(), "vxlan://[fd00::2]:4000?vni=0");
        assert_eq!(endpoint.weight(), 3);
        let same = Endpoint::target("vxlan://[fd00:0::0:2]:4000?vni=0").unwrap();
        assert_eq!(same.canonical(), endpoint.canonical());
        assert!(Endpoint::target("vxlan://[fe80::1%lo]?vni=1").is_ok());
        let address = endpoint.tunnel().unwrap().resolve().unwrap();
        assert_eq!(address, "[fd00::2]:4000".parse().unwrap());
        let listener = Endpoint::listener("vxlan://0.0.0.0").unwrap();
        assert_eq!(listener.canonical(), "vxlan://0.0.0.0:4789");
    }

    #[test]
    fn devices_files_and_null() {
        assert_eq!(Endpoint::target("pcap:a b.pcapng").unwrap().canonical(), "pcap:a b.pcapng");
        assert_eq!(Endpoint::target("null:").unwrap(), Endpoint::Null);
        assert_eq!(Endpoint::target("nic:eth1").unwrap().canonical(), "nic:eth1");
        let tap = Endpoint::target("tap:mtun?mtu=1500").unwrap();
        assert_eq!(
            tap,
            Endpoint::Tap {
                name: "mtun".into(),
                mtu: Some(1500),
                membership: Membership::default(),
            }
        );
        assert!(Endpoint::listener("null:").is_err());
    }

    #[test]
    fn each_mistake_says_its_mend() {
        for (text, mend) in [
            ("10.0.0.2", "no known scheme"),
            ("vxlan:h", "vxlan://HOST"),
            ("https://h", "gretap+udp, as in"),
            ("pcap:", "pcap:PATH"),
            ("nic:", "no name of an interface"),
            ("nic:abcdefghijklmnop", "1 to 15 characters"),
            ("tap:a?mtu=70000", "68 to 64000"),
            ("tap:a?colour=red", "it has mtu"),
        ] {
            let message = Endpoint::target(text).unwrap_err().to_string();
            assert!(message.contains(mend), "{text}: {message}");
            assert!(message.contains(text), "{text}: {message}");
        }
        assert!(Endpoint::listener("nic:eth0").unwrap_err().to_string().contains("listen"));
    }

    #[test]
    fn groups() {
        let Group(members) = "vxlan://a?vni=1,vxlan://b?vni=1&weight=2".parse().unwrap();
        assert_eq!(members.len(), 2);
        let twice = "vxlan://a?vni=1,vxlan://a?vni=1&weight=2".parse::<Group>().unwrap_err();
        assert!(twice.to_string().contains("named twice"), "{twice}");
    }
}
