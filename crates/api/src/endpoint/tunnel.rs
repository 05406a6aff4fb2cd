//! Tunnel endpoints: `SCHEME://HOST[:PORT][?KEY=VALUE&…]`.
//!
//! | scheme | id | other keys |
//! |---|---|---|
//! | `vxlan` | `vni` | |
//! | `geneve` | `vni` | `metadata=on\|off` |
//! | `gre`, `gretap`, and with `+udp` | `key` | `csum=on\|off`, `seq=on\|off` |
//! | `erspan` | `session` | `type=1\|2\|3`, `index`, `hwid`, `time=utc\|coarse` |
//! | `l2tp`, `l2tp+udp` | `id` | `cookie=HEX`, `sublayer=default\|none`, `seq=on\|off`, `keepalive=20s` |
//!
//! All take `source=ADDRESS`, from which to send, and the keys of a group's member. Ids are numbers or
//! dotted quads.

use super::member::{self, Membership, Place, Reader};
use super::{fail, pairs};
use crate::{Error, parse_duration};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;
use wire::Vni;
use wire::tunnel::{Carrier, Cookie, Encap, Erspan, Gre, Kind, L2tp, L2tpFormat, Tunnel};

/// Sessions of ERSPAN have 10 bits, indices of ports 20, and ids of engines 6.
const ERSPAN_SESSION_MAX: u32 = 0x3ff;
const ERSPAN_INDEX_MAX: u32 = 0xf_ffff;
const ERSPAN_HARDWARE_MAX: u32 = 0x3f;

/// Bounds of the time between signs of life.
const KEEP_ALIVE_MIN: Duration = Duration::from_millis(100);
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(3600);

/// The far end of a tunnel, or where one listens for tunnels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelEndpoint {
    /// What it is called in front of `://`.
    pub scheme: Scheme,
    /// Name or address of the far end, or the local address to listen on.
    pub host: String,
    /// The UDP port, or the IP protocol.
    pub carrier: Carrier,
    /// VNI, key or session: what is sent, or a restriction for receiving.
    pub id: Option<u32>,
    /// Whether packets carry tapline's metadata (GENEVE).
    pub metadata: bool,
    /// Whether packets are covered by a checksum (GRE).
    pub checksum: bool,
    /// Whether packets are numbered (GRE, L2TPv3).
    pub sequence: bool,
    /// The type of ERSPAN; the listening side takes all.
    pub erspan: ErspanType,
    /// What stands between session and frame (L2TPv3).
    pub l2tp: L2tpFormat,
    /// The address of this host that packets are sent from; `None`: the route's.
    pub source: Option<IpAddr>,
    /// The time between signs of life that are sent (L2TPv3): 100 ms to 1 h; `None`: none are sent.
    pub keep_alive: Option<Duration>,
    /// Its part in a group.
    pub membership: Membership,
}

/// The types of ERSPAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErspanType {
    /// Type I.
    I,
    /// Type II, with the index of the port.
    II {
        /// Index of the port, 20 bits.
        index: u32,
    },
    /// Type III.
    III {
        /// Id of the engine that sends, 6 bits.
        hardware: u8,
        /// Whether the seconds of the time are sent too.
        seconds: bool,
    },
}

/// What stands in front of `://`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    /// The kind of tunnel.
    pub kind: Kind,
    /// Whether it runs over UDP.
    pub udp: bool,
}

impl Scheme {
    /// Every scheme of a tunnel.
    pub const ALL: [Scheme; 9] = [
        Scheme { kind: Kind::Vxlan, udp: true },
        Scheme { kind: Kind::Geneve, udp: true },
        Scheme { kind: Kind::Gre, udp: false },
        Scheme { kind: Kind::Gretap, udp: false },
        Scheme { kind: Kind::Erspan, udp: false },
        Scheme { kind: Kind::L2tp, udp: false },
        Scheme { kind: Kind::L2tp, udp: true },
        Scheme { kind: Kind::Gre, udp: true },
        Scheme { kind: Kind::Gretap, udp: true },
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match (self.kind, self.udp) {
            (Kind::Gre, true) => "gre+udp",
            (Kind::Gretap, true) => "gretap+udp",
            (Kind::L2tp, true) => "l2tp+udp",
            (kind, _) => kind.name(),
        }
    }

    /// The key that holds the tunnel's id.
    pub const fn id_key(self) -> &'static str {
        match self.kind {
            Kind::Vxlan | Kind::Geneve => "vni",
            Kind::Gre | Kind::Gretap => "key",
            Kind::Erspan => "session",
            Kind::L2tp => "id",
        }
    }

    /// Its keys, but for those of a group's member.
    const fn keys(self) -> &'static str {
        match self.kind {
            Kind::Vxlan => "vni, source",
            Kind::Geneve => "vni, metadata, source",
            Kind::Gre | Kind::Gretap => "key, csum, seq, source",
            Kind::Erspan => "type, session, index, hwid, time, source",
            Kind::L2tp => "id, cookie, sublayer, seq, keepalive, source",
        }
    }

    /// The least and the largest id.
    const fn id_range(self) -> (u32, u32) {
        match self.kind {
            Kind::Vxlan | Kind::Geneve => (0, Vni::MAX),
            Kind::Gre | Kind::Gretap => (0, u32::MAX),
            Kind::Erspan => (0, ERSPAN_SESSION_MAX),
            Kind::L2tp => (1, u32::MAX),
        }
    }

    fn carrier(self, port: Option<u16>) -> Carrier {
        match self.kind.protocol().filter(|_| !self.udp) {
            Some(protocol) => Carrier::Ip { protocol },
            None => Carrier::Udp { port: port.unwrap_or(self.kind.port()) },
        }
    }
}

impl TunnelEndpoint {
    /// Reads an endpoint whose scheme is known; `rest` is what follows `://`.
    pub(super) fn parse(text: &str, scheme: Scheme, rest: &str) -> Result<TunnelEndpoint, Error> {
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, port) = host_and_port(text, authority)?;
        if let (Carrier::Ip { protocol }, Some(port)) = (scheme.carrier(None), port) {
            return Err(fail(
                text,
                &format!(
                    "{} is carried by IP itself (protocol {protocol}) and has no port: leave \
                     `:{port}` out",
                    scheme.name()
                ),
            ));
        }
        let mut endpoint = TunnelEndpoint {
            scheme,
            host,
            carrier: scheme.carrier(port),
            id: None,
            metadata: true,
            checksum: false,
            sequence: false,
            erspan: ErspanType::II { index: 0 },
            l2tp: L2tpFormat::default(),
            source: None,
            keep_alive: None,
            membership: Membership::default(),
        };
        let mut pairs = pairs(text, query)?;
        // The type first: the other keys of ERSPAN depend on it.
        pairs.sort_by_key(|(key, _)| *key != "type");
        let mut member = Reader::default();
        for (key, value) in pairs {
            if !member.take(text, key, value)? {
                endpoint.set(text, key, value)?;
            }
        }
        endpoint.membership = member.finish(text, Place::Host)?;
        if endpoint.scheme.kind == Kind::Erspan
            && endpoint.erspan == ErspanType::I
            && endpoint.id.is_some()
        {
            return Err(fail(text, "ERSPAN type 1 carries no session: leave it out"));
        }
        Ok(endpoint)
    }

    fn set(&mut self, text: &str, key: &str, value: &str) -> Result<(), Error> {
        let bad = |wanted: &str| fail(text, &format!("{key} `{value}` is not {wanted}"));
        let number = |max: u32| {
            let number: Option<u32> = value.parse().ok();
            number.filter(|n| *n <= max).ok_or_else(|| bad(&format!("a number from 0 to {max}")))
        };
        let switch = || match value {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(bad("on or off")),
        };
        let kind = self.scheme.kind;
        match (key, kind) {
            (key, _) if key == self.scheme.id_key() => {
                let (min, max) = self.scheme.id_range();
                let id = id(value).filter(|id| (min..=max).contains(id));
                self.id = Some(id.ok_or_else(|| {
                    bad(&format!("a number from {min} to {max}, or such a number as a dotted quad"))
                })?);
            }
            ("metadata", Kind::Geneve) => self.metadata = switch()?,
            ("csum", Kind::Gre | Kind::Gretap) => self.checksum = switch()?,
            ("seq", Kind::Gre | Kind::Gretap | Kind::L2tp) => self.sequence = switch()?,
            ("type", Kind::Erspan) => {
                self.erspan = match value {
                    "1" => ErspanType::I,
                    "2" => ErspanType::II { index: 0 },
                    "3" => ErspanType::III { hardware: 0, seconds: true },
                    _ => return Err(bad("1, 2 or 3")),
                };
            }
            ("index", Kind::Erspan) => match &mut self.erspan {
                ErspanType::II { index } => *index = number(ERSPAN_INDEX_MAX)?,
                _ => return Err(fail(text, "only ERSPAN type 2 carries an index: leave it out")),
            },
            ("hwid", Kind::Erspan) => match &mut self.erspan {
                ErspanType::III { hardware, .. } => {
                    *hardware = number(ERSPAN_HARDWARE_MAX)? as u8;
                }
                _ => return Err(fail(text, "only ERSPAN type 3 carries a hwid: leave it out")),
            },
            ("time", Kind::Erspan) => match &mut self.erspan {
                ErspanType::III { seconds, .. } => {
                    *seconds = match value {
                        "utc" => true,
                        "coarse" => false,
                        _ => return Err(bad("utc or coarse")),
                    };
                }
                _ => return Err(fail(text, "only ERSPAN type 3 carries a time: leave it out")),
            },
            ("cookie", Kind::L2tp) => {
                self.l2tp.cookie =
                    cookie(value).ok_or_else(|| bad("8 or 16 hexadecimal digits"))?;
            }
            ("sublayer", Kind::L2tp) => {
                self.l2tp.sublayer = match value {
                    "default" => true,
                    "none" => false,
                    _ => return Err(bad("default or none")),
                };
            }
            ("source", _) => {
                let bare = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
                let source = bare.unwrap_or(value).parse();
                self.source = Some(source.map_err(|_| bad("an address of this host"))?);
            }
            ("keepalive", Kind::L2tp) => {
                self.keep_alive = Some(parse_keep_alive(value).map_err(bad)?);
            }
            _ => {
                let (name, own, of_members) =
                    (self.scheme.name(), self.scheme.keys(), member::KEYS);
                let mend = format!("`{key}` is no key of {name}; it has {own}, {of_members}");
                return Err(fail(text, &mend));
            }
        }
        Ok(())
    }

    /// Checks that it says all that is needed to send to it.
    pub(super) fn check_target(&self, text: &str) -> Result<(), Error> {
        let key = self.scheme.id_key();
        let needs_id = match self.scheme.kind {
            Kind::Vxlan | Kind::Geneve | Kind::L2tp => true,
            Kind::Gre | Kind::Gretap => false,
            Kind::Erspan => self.erspan != ErspanType::I,
        };
        if needs_id && self.id.is_none() {
            return Err(fail(text, &format!("the tunnel id is missing: add `?{key}=N`")));
        }
        if self.sequence && self.scheme.kind == Kind::L2tp && !self.l2tp.sublayer {
            return Err(fail(
                text,
                "the sequence of L2TPv3 stands in the sublayer: leave `sublayer=none` out",
            ));
        }
        Ok(())
    }

    /// How packets are put into the tunnel; `None` if the id that it needs is missing.
    pub fn encap(&self) -> Option<Encap> {
        let vni = || self.id.and_then(Vni::new);
        let gre = Gre { key: self.id, checksum: self.checksum, sequence: self.sequence };
        Some(match self.scheme.kind {
            Kind::Vxlan => Encap::Vxlan { vni: vni()? },
            Kind::Geneve => Encap::Geneve { vni: vni()?, metadata: self.metadata },
            Kind::Gre => Encap::Gre(gre),
            Kind::Gretap => Encap::Gretap(gre),
            Kind::Erspan => {
                let session = || self.id.and_then(|id| u16::try_from(id).ok());
                Encap::Erspan(match self.erspan {
                    ErspanType::I => Erspan::I,
                    ErspanType::II { index } => Erspan::II { session: session()?, index },
                    ErspanType::III { hardware, seconds } => {
                        Erspan::III { session: session()?, hardware, seconds }
                    }
                })
            }
            Kind::L2tp => {
                Encap::L2tp(L2tp { session: self.id?, format: self.l2tp, sequence: self.sequence })
            }
        })
    }

    /// Whether a tunnel is one that this listening endpoint takes.
    pub fn takes(&self, tunnel: Tunnel) -> bool {
        self.scheme.kind == tunnel.kind && self.id.is_none_or(|id| tunnel.id == Some(id))
    }

    /// Scheme, address, port and id: what identifies it.
    pub(super) fn canonical(&self) -> String {
        let host = match self.host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ if self.host.contains(':') => format!("[{}]", self.host),
            _ => self.host.clone(),
        };
        let port = match self.carrier {
            Carrier::Udp { port } => format!(":{port}"),
            Carrier::Ip { .. } => String::new(),
        };
        let id = self.id.map(|id| format!("?{}={id}", self.scheme.id_key())).unwrap_or_default();
        format!("{}://{host}{port}{id}", self.scheme.name())
    }

    /// Resolves the host, by name service if it is no address. The port is 0 if there is none.
    ///
    /// # Errors
    /// If the name is unknown.
    pub fn resolve(&self) -> Result<SocketAddr, Error> {
        let port = match self.carrier {
            Carrier::Udp { port } => port,
            Carrier::Ip { .. } => 0,
        };
        let mut found = (self.host.as_str(), port).to_socket_addrs().map_err(|error| {
            let host = &self.host;
            fail(&self.canonical(), &format!("cannot resolve `{host}` ({error}); write an address"))
        })?;
        found.next().ok_or_else(|| fail(&self.canonical(), "the name has no address"))
    }
}

impl fmt::Display for TunnelEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

/// A number, or its four bytes as a dotted quad.
fn id(text: &str) -> Option<u32> {
    let quad = || text.parse::<Ipv4Addr>().ok().map(u32::from);
    text.parse().ok().or_else(quad)
}

/// Parses the time between signs of life: `20s`, from 100 ms to 1 h.
///
/// # Errors
/// On anything else, with what was expected.
pub fn parse_keep_alive(text: &str) -> Result<Duration, &'static str> {
    let times = KEEP_ALIVE_MIN..=KEEP_ALIVE_MAX;
    let time = parse_duration(text).ok().filter(|time| times.contains(time));
    time.ok_or("a time from 100ms to 1h")
}

fn cookie(text: &str) -> Option<Cookie> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    match digits.len() {
        8 => u32::from_str_radix(digits, 16).ok().map(|n| Cookie::Short(n.to_be_bytes())),
        16 => u64::from_str_radix(digits, 16).ok().map(|n| Cookie::Long(n.to_be_bytes())),
        _ => None,
    }
}

fn host_and_port(text: &str, authority: &str) -> Result<(String, Option<u16>), Error> {
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
            Some(port) => Ok((address.into(), Some(port_of(port)?))),
            None if after.is_empty() => Ok((address.into(), None)),
            None => Err(fail(text, "only `:PORT` may follow the `]`")),
        };
    }
    if authority.matches(':').count() > 1 {
        let scheme = text.split("://").next().unwrap_or_default();
        return Err(fail(
            text,
            &format!("an IPv6 address stands in brackets: `{scheme}://[ADDRESS]`"),
        ));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port_of(port)?)),
        None => (authority, None),
    };
    if host.is_empty() || host.contains(['/', ' ']) {
        return Err(fail(text, "the host is missing or holds a character that no name has"));
    }
    Ok((host.into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;

    fn target(text: &str) -> TunnelEndpoint {
        match Endpoint::target(text).unwrap() {
            Endpoint::Tunnel(tunnel) => tunnel,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_scheme_has_its_form() {
        for (text, canonical) in [
            ("vxlan://10.0.0.2?vni=71", "vxlan://10.0.0.2:4789?vni=71"),
            ("geneve://10.0.0.2?vni=71&metadata=off", "geneve://10.0.0.2:6081?vni=71"),
            ("gre://10.0.0.2", "gre://10.0.0.2"),
            ("gretap://[fd00::2]?key=10.10.10.11", "gretap://[fd00::2]?key=168430091"),
            ("gretap+udp://h?key=0&csum=on&seq=on", "gretap+udp://h:4754?key=0"),
            ("erspan://h?session=1023", "erspan://h?session=1023"),
            ("erspan://h?type=1", "erspan://h"),
            ("l2tp://h?id=10.10.10.11", "l2tp://h?id=168430091"),
            ("l2tp+udp://h:1702?id=5&cookie=1122334455667788", "l2tp+udp://h:1702?id=5"),
        ] {
            assert_eq!(target(text).canonical(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_sent_follows_from_the_keys() {
        let cookie = Cookie::Long(0x1122_3344_5566_7788_u64.to_be_bytes());
        let l2tp =
            L2tp { session: 5, format: L2tpFormat { cookie, sublayer: true }, sequence: true };
        assert_eq!(
            target("l2tp://h?id=5&cookie=1122334455667788&seq=on").encap(),
            Some(Encap::L2tp(l2tp))
        );
        let erspan = Erspan::III { session: 7, hardware: 3, seconds: false };
        assert_eq!(
            target("erspan://h?session=7&hwid=3&time=coarse&type=3").encap(),
            Some(Encap::Erspan(erspan))
        );
        let gre = Gre { key: Some(500), checksum: true, sequence: false };
        assert_eq!(target("gretap://h?key=500&csum=on").encap(), Some(Encap::Gretap(gre)));
        assert_eq!(
            target("geneve://h?vni=1").encap(),
            Some(Encap::Geneve { vni: Vni::new(1).unwrap(), metadata: true })
        );
    }

    #[test]
    fn who_sends_and_how_often_does_not_identify_a_tunnel() {
        let tunnel = target("l2tp://[fd00::2]?id=1&source=[fd00::1]&keepalive=250ms");
        assert_eq!(tunnel.source, "fd00::1".parse().ok());
        assert_eq!(tunnel.keep_alive, Some(Duration::from_millis(250)));
        assert_eq!(tunnel.canonical(), "l2tp://[fd00::2]?id=1");
        assert_eq!(target("gre://h?source=10.0.0.1").source, "10.0.0.1".parse().ok());
        for key in ["source=10.0.0.1", "keepalive=1s"] {
            let error = Endpoint::listener(&format!("l2tp://0.0.0.0?{key}")).unwrap_err();
            assert!(error.to_string().contains("a listener sends nothing"), "{error}");
        }
    }

    #[test]
    fn a_listener_takes_its_own() {
        let Endpoint::Tunnel(all) = Endpoint::listener("gretap://0.0.0.0").unwrap() else {
            panic!("a tunnel");
        };
        let Endpoint::Tunnel(one) = Endpoint::listener("gretap://0.0.0.0?key=5").unwrap() else {
            panic!("a tunnel");
        };
        let tunnel = |kind, id| Tunnel { kind, id };
        assert!(all.takes(tunnel(Kind::Gretap, None)) && !one.takes(tunnel(Kind::Gretap, None)));
        assert!(one.takes(tunnel(Kind::Gretap, Some(5))));
        assert!(!all.takes(tunnel(Kind::Gre, Some(5))));
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
            ("vxlan://h?vni=1&colour=red", "it has vni, source, weight"),
            ("vxlan://h?vni=1&vni=2", "given twice"),
            ("vxlan://h?vni=1&weight=0", "1 to 1000"),
            ("vxlan://h?vni=1&source=here", "an address of this host"),
            ("l2tp://h?id=1&keepalive=1ms", "a time from 100ms to 1h"),
            ("vxlan://h?vni=1&keepalive=1s", "no key of vxlan"),
            ("gre://h:47?key=1", "has no port"),
            ("gre://h?csum=yes", "on or off"),
            ("erspan://h", "add `?session=N`"),
            ("erspan://h?session=1024", "0 to 1023"),
            ("erspan://h?type=1&session=5", "carries no session"),
            ("erspan://h?type=3&session=5&index=1", "only ERSPAN type 2"),
            ("erspan://h?type=4&session=5", "1, 2 or 3"),
            ("l2tp://h?id=0", "1 to 4294967295"),
            ("l2tp://h?id=1&cookie=123", "8 or 16 hexadecimal"),
            ("l2tp://h?id=1&sublayer=none&seq=on", "stands in the sublayer"),
        ] {
            let message = Endpoint::target(text).unwrap_err().to_string();
            assert!(message.contains(mend), "{text}: {message}");
            assert!(message.contains(text), "{text}: {message}");
        }
    }
}
