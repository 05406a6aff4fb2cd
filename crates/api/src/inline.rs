//! What `tapline inline` forwards: a table of rules between two interfaces.
//!
//! ```text
//! client A ──► U on `in` │ tapline │ E on `out` ──► next host B
//!   A:a → U:u            │  rule   │   E:a' → B:b
//! ```
//! A rule has the address U that clients speak to and the next host B that answers. E is the address
//! that B sees. The views of a rule are A:a → U:u (ingress), E:a' → B:b (egress) and A:a → B:b (inline).

use crate::file::Fault;
use crate::keys::name_mistake;
use crate::{Error, Group};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// Rules of a table at most.
pub const INLINE_RULES_MAX: usize = 4096;
/// Sessions of a table at most, and where nothing is said.
pub const INLINE_SESSIONS_MAX: u32 = 1 << 22;
/// The same where nothing is said.
pub const INLINE_SESSIONS: u32 = 65_536;
/// The name of a table that has none.
pub const INLINE_TABLE: &str = "inline";
/// Characters of a table's name at most: it is the name of a folder.
pub const INLINE_NAME_MAX: usize = 32;

/// A forwarding table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineConfig {
    /// Its name, by which it is stopped and taken over: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The interface at which clients arrive.
    pub ingress: String,
    /// The interface behind which the next hosts are; may be the same.
    pub egress: String,
    /// What becomes of the rules' traffic while tapline is not there.
    pub fail: InlineFail,
    /// Sessions at most, of all rules together: 1 to [`INLINE_SESSIONS_MAX`].
    pub sessions: u32,
    /// When a session that says nothing is forgotten.
    pub timeouts: InlineTimeouts,
    /// The rules, in the order of the file. No two have the same [`InlineRule::key`].
    pub rules: Vec<InlineRule>,
}

/// What becomes of the rules' traffic when tapline ends without being asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InlineFail {
    /// It goes on: the programs in the kernel stay until `inline stop`.
    #[default]
    Open,
    /// It stops.
    Closed,
}

/// How long a session is kept without a packet: RFC 5382, RFC 4787 and RFC 5508 say no less than two
/// hours and four minutes, two minutes, and one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InlineTimeouts {
    /// TCP, once both sides have sent.
    pub tcp_established: Duration,
    /// TCP until then.
    pub tcp_opening: Duration,
    /// TCP behind a reset, or the FINs of both sides.
    pub tcp_closing: Duration,
    /// UDP, and protocols that are forwarded by their addresses alone.
    pub udp: Duration,
    /// Echo requests of ICMP and ICMPv6.
    pub icmp: Duration,
}

impl Default for InlineTimeouts {
    fn default() -> InlineTimeouts {
        InlineTimeouts {
            tcp_established: Duration::from_secs(7440),
            tcp_opening: Duration::from_secs(120),
            tcp_closing: Duration::from_secs(30),
            udp: Duration::from_secs(120),
            icmp: Duration::from_secs(60),
        }
    }
}

/// A protocol that a rule may be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InlineProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP, or ICMPv6 where the rule's address is IPv6: echo requests. Errors follow the sessions that
    /// they are about, whatever their rule.
    Icmp,
}

impl InlineProtocol {
    /// Names in files and on the command line.
    pub const NAMES: [(&'static str, InlineProtocol); 3] = [
        ("tcp", InlineProtocol::Tcp),
        ("udp", InlineProtocol::Udp),
        ("icmp", InlineProtocol::Icmp),
    ];

    /// The number in an IP header of the version of an address.
    pub const fn number(self, is_ipv6: bool) -> u8 {
        match (self, is_ipv6) {
            (InlineProtocol::Tcp, _) => 6,
            (InlineProtocol::Udp, _) => 17,
            (InlineProtocol::Icmp, false) => 1,
            (InlineProtocol::Icmp, true) => 58,
        }
    }

    /// The name.
    pub fn name(self) -> &'static str {
        let mut names = InlineProtocol::NAMES.iter();
        names.find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

/// How a packet of a rule is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InlineView {
    /// As received: to our address, or from the next host to our source address.
    Ingress,
    /// As sent: from our source address, or from our address to the client.
    Egress,
    /// As if nothing stood in between: client and next host, with the ports of both.
    Inline,
}

impl InlineView {
    /// Names in files, on the command line, and of interface blocks.
    pub const NAMES: [(&'static str, InlineView); 3] = [
        ("ingress", InlineView::Ingress),
        ("egress", InlineView::Egress),
        ("inline", InlineView::Inline),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        InlineView::NAMES[self as usize].0
    }
}

impl FromStr for InlineView {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<InlineView, &'static str> {
        let mut names = InlineView::NAMES.iter();
        let known = names.find(|(name, _)| name.eq_ignore_ascii_case(text));
        known.map(|(_, view)| *view).ok_or("write ingress, egress or inline")
    }
}

/// A rule: what is sent to one of our addresses goes to a next host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineRule {
    /// Its name in the ledger; no two of a table are called alike.
    pub name: String,
    /// The address that clients speak to, of the same version of IP as the next host's.
    pub address: IpAddr,
    /// Only this protocol.
    pub protocol: Option<InlineProtocol>,
    /// Only this port, never 0; only with TCP and UDP.
    pub port: Option<u16>,
    /// Where its packets go.
    pub next_host: IpAddr,
    /// The port there, never 0; only with `port`. `None`: the same.
    pub next_port: Option<u16>,
    /// The address that the next host sees; `None`: the route's.
    pub source: Option<IpAddr>,
    /// What is captured of it, each view once and in this order; none: nothing.
    pub views: Vec<InlineView>,
    /// Bytes captured of each packet; 0: all. Else at least [`crate::SNAPSHOT_LENGTH_MIN`].
    pub snapshot_length: u32,
    /// Where its views go, beside what all rules' views are written to: each group gets every packet.
    /// Empty if `views` is.
    pub to: Vec<Group>,
}

/// What a rule matches.
pub type InlineKey = (IpAddr, Option<InlineProtocol>, Option<u16>);

impl InlineRule {
    /// A rule of a name that forwards all of an address, and captures nothing.
    pub fn new(name: String, address: IpAddr, next_host: IpAddr) -> InlineRule {
        InlineRule {
            name,
            address,
            protocol: None,
            port: None,
            next_host,
            next_port: None,
            source: None,
            views: Vec::new(),
            snapshot_length: 0,
            to: Vec::new(),
        }
    }

    /// The same under another name.
    ///
    /// # Errors
    /// The name is empty, or breaks the ledger's line.
    pub fn named(self, name: &str) -> Result<InlineRule, Error> {
        match name_mistake(name) {
            None => Ok(InlineRule { name: name.into(), ..self }),
            Some(reason) => {
                Err(Error::Unit { what: "rule", text: self.to_string(), reason: reason.into() })
            }
        }
    }

    /// What it matches. Of the rules that match a packet the one that says most decides: address,
    /// protocol and port before address and protocol before the address alone.
    pub fn key(&self) -> InlineKey {
        (self.address, self.protocol, self.port)
    }

    /// Whether a rule takes packets of a protocol (an IP header's number) to a port.
    pub fn takes(&self, address: IpAddr, protocol: u8, port: u16) -> bool {
        let is_ipv6 = address.is_ipv6();
        self.address == address
            && self.protocol.is_none_or(|own| own.number(is_ipv6) == protocol)
            && self.port.is_none_or(|own| own == port)
    }
}

impl fmt::Display for InlineRule {
    /// As `--forward` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(protocol) = self.protocol {
            write!(f, "{}://", protocol.name())?;
        }
        write!(f, "{}={}", End(self.address, self.port), End(self.next_host, self.next_port))?;
        self.source.iter().try_for_each(|source| write!(f, ",source={source}"))
    }
}

/// An address, and a port if there is one.
struct End(IpAddr, Option<u16>);

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End(IpAddr::V6(address), Some(port)) => write!(f, "[{address}]:{port}"),
            End(address, Some(port)) => write!(f, "{address}:{port}"),
            End(address, None) => write!(f, "{address}"),
        }
    }
}

const FORWARD: &str = "write [tcp://|udp://|icmp://]ADDRESS[:PORT]=NEXT_HOST[:PORT][,source=ADDRESS], \
                       such as tcp://192.0.2.10:443=10.0.0.5:8443";

impl FromStr for InlineRule {
    type Err = Error;

    /// Reads a rule as `--forward` has it; what it matches is its name.
    fn from_str(text: &str) -> Result<InlineRule, Error> {
        let wrong = |reason: String| Error::Unit { what: "rule", text: text.into(), reason };
        let (rest, source) = match text.split_once(",source=") {
            Some((rest, source)) => (rest, Some(source)),
            None => (text, None),
        };
        let (matched, next) = rest.split_once('=').ok_or_else(|| wrong(FORWARD.into()))?;
        let (protocol, address) = match matched.split_once("://") {
            None => (None, matched),
            Some((name, address)) => {
                let mut names = InlineProtocol::NAMES.iter();
                let known = names.find(|(known, _)| known.eq_ignore_ascii_case(name));
                let (_, protocol) = known.ok_or_else(|| wrong(FORWARD.into()))?;
                (Some(*protocol), address)
            }
        };
        let end = |text: &str| end(text).ok_or_else(|| wrong(FORWARD.into()));
        let (address, port) = end(address)?;
        let (next_host, next_port) = end(next)?;
        let source = source.map(|text| end(text).map(|(address, _)| address)).transpose()?;
        let rule = InlineRule {
            protocol,
            port,
            next_port,
            source,
            ..InlineRule::new(matched.into(), address, next_host)
        };
        match rule.mistake() {
            None => Ok(rule),
            Some((_, reason)) => Err(wrong(reason)),
        }
    }
}

/// An address, and a port if there is one.
fn end(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse() {
        return Some((address, None));
    }
    if let Some(bare) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return bare.parse().ok().map(|address| (IpAddr::V6(address), None));
    }
    let end: std::net::SocketAddr = text.parse().ok()?;
    Some((end.ip(), Some(end.port())))
}

/// Whether an address can be that of one host which packets are forwarded to or from.
fn is_one_host(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_broadcast(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local() || address.to_ipv4_mapped().is_some()
        }
    };
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || is_link_local)
}

impl InlineRule {
    /// What is wrong with this rule by itself: the key that says it, and why.
    pub(crate) fn mistake(&self) -> Option<(&'static str, String)> {
        let ends = [("address", Some(self.address)), ("next_host", Some(self.next_host))];
        for (key, address) in ends.into_iter().chain([("source", self.source)]) {
            let Some(address) = address else { continue };
            if !is_one_host(address) {
                let mend = "write a routable address of one host";
                return Some((key, format!("{key} {address} cannot be forwarded to: {mend}")));
            }
            if address.is_ipv4() != self.address.is_ipv4() {
                let reason = format!(
                    "{key} {address} is not of the version of IP of address {}; write two IPv4 or two \
                     IPv6 addresses",
                    self.address
                );
                return Some((key, reason));
            }
        }
        let has_ports = matches!(self.protocol, Some(InlineProtocol::Tcp | InlineProtocol::Udp));
        for (key, port) in [("port", self.port), ("next_port", self.next_port)] {
            match port {
                Some(0) => return Some((key, format!("{key} 0 is none; write 1 to 65535"))),
                Some(_) if !has_ports => {
                    let mend = "say which of the two: protocol = \"tcp\" or \"udp\"";
                    return Some((key, format!("only TCP and UDP have ports; {mend}")));
                }
                _ => {}
            }
        }
        if self.next_port.is_some() && self.port.is_none() {
            let mend = "add `port`, as a reply's port tells which one it was";
            return Some(("next_port", format!("several ports would become one; {mend}")));
        }
        if self.source == Some(self.next_host) {
            let reason = format!(
                "{} would get packets from itself: source is an address of this host",
                self.next_host
            );
            return Some(("source", reason));
        }
        (self.next_host == self.address).then(|| {
            let reason = format!(
                "packets for {} would go round in a circle: the next host is another one",
                self.address
            );
            ("next_host", reason)
        })
    }
}

impl InlineConfig {
    /// What is wrong with the rules together: the place of the rule, the key that says it, and why.
    pub(crate) fn mistake(&self) -> Option<(usize, &'static str, String)> {
        for (place, rule) in self.rules.iter().enumerate() {
            let before = &self.rules[..place];
            if let Some(other) = before.iter().find(|other| other.name == rule.name) {
                let reason = format!(
                    "a rule before, `{other}`, is called `{}` too; give it another name",
                    rule.name
                );
                return Some((place, "name", reason));
            }
            if let Some(other) = before.iter().find(|other| other.key() == rule.key()) {
                let reason = format!(
                    "rule `{}` matches the same as rule `{}` before, so that neither would be the \
                     right one; remove one, or have it match a protocol or a port",
                    rule.name, other.name
                );
                return Some((place, "address", reason));
            }
        }
        for (place, rule) in self.rules.iter().enumerate() {
            let Some((key, other)) = self.rules.iter().find_map(|other| match other {
                _ if rule.next_host == other.address => Some(("next_host", other)),
                _ if other.source == Some(rule.next_host) => Some(("next_host", other)),
                _ => None,
            }) else {
                continue;
            };
            let reason = format!(
                "next host {} is an address of this host by rule `{}`: packets would go round in a \
                 circle; write the host that answers",
                rule.next_host, other.name
            );
            return Some((place, key, reason));
        }
        None
    }

    /// Makes sure that the rules can stand together.
    ///
    /// # Errors
    /// Two match the same, are called alike, or would send packets round in a circle; or there are more
    /// than [`INLINE_RULES_MAX`].
    pub fn check(&self) -> Result<(), Error> {
        if let Some(one_more) = self.rules.get(INLINE_RULES_MAX) {
            let reason = format!("a table has {INLINE_RULES_MAX} rules at most; remove one");
            return Err(Error::Unit { what: "rule", text: one_more.to_string(), reason });
        }
        match self.mistake() {
            None => Ok(()),
            Some((place, _, reason)) => {
                let text = self.rules[place].to_string();
                Err(Error::Unit { what: "rule", text, reason })
            }
        }
    }

    /// The rule that decides about packets of a protocol (an IP header's number) to an address and a
    /// port: its place.
    pub fn rule_for(&self, address: IpAddr, protocol: u8, port: u16) -> Option<usize> {
        let taking = self.rules.iter().enumerate();
        let taking = taking.filter(|(_, rule)| rule.takes(address, protocol, port));
        let says = |(_, rule): &(usize, &InlineRule)| {
            (rule.protocol.is_some() as u8) + (rule.port.is_some() as u8)
        };
        taking.max_by_key(says).map(|(place, _)| place)
    }
}

/// Checks a table's name.
///
/// # Errors
/// It cannot be the name of a folder.
pub fn parse_inline_name(text: &str) -> Result<String, String> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = !text.is_empty()
        && text.len() <= INLINE_NAME_MAX
        && text.chars().all(is_known)
        && !text.starts_with('.');
    match is_name {
        true => Ok(text.into()),
        false => Err(format!(
            "a table's name is 1 to {INLINE_NAME_MAX} letters, digits, `-`, `_` and `.`"
        )),
    }
}

impl InlineRule {
    /// The same as a mistake at a place of a file.
    pub(crate) fn fault(&self, place_of: impl Fn(&str) -> usize) -> Result<(), Fault> {
        match self.mistake() {
            None => Ok(()),
            Some((key, reason)) => Err(Fault::new(place_of(key), reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> InlineRule {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn table(rules: &[&str]) -> InlineConfig {
        InlineConfig {
            name: INLINE_TABLE.into(),
            ingress: "eth0".into(),
            egress: "eth1".into(),
            fail: InlineFail::Open,
            sessions: INLINE_SESSIONS,
            timeouts: InlineTimeouts::default(),
            rules: rules.iter().map(|text| rule(text)).collect(),
        }
    }

    #[test]
    fn rules_are_written_as_they_are_read() {
        for text in [
            "192.0.2.10=10.0.0.5",
            "tcp://192.0.2.10:443=10.0.0.5:8443",
            "udp://192.0.2.10=10.0.0.5,source=10.0.0.1",
            "tcp://[2001:db8::10]:443=[2001:db8:1::5]:8443",
            "icmp://2001:db8::10=2001:db8:1::5,source=2001:db8:1::1",
        ] {
            let rule = rule(text);
            assert_eq!(rule.to_string(), text);
            assert_eq!(rule.name, text.split_once('=').unwrap().0);
        }
        assert_eq!(rule("[2001:db8::10]=[2001:db8::5]").to_string(), "2001:db8::10=2001:db8::5");
    }

    #[test]
    fn what_cannot_be_forwarded_is_told() {
        for (text, part) in [
            ("", "such as tcp://"),
            ("192.0.2.10", "such as tcp://"),
            ("sctp://192.0.2.10=10.0.0.5", "such as tcp://"),
            ("192.0.2.10=host", "such as tcp://"),
            ("192.0.2.10:80=10.0.0.5", "only TCP and UDP have ports"),
            ("icmp://192.0.2.10:80=10.0.0.5", "only TCP and UDP have ports"),
            ("tcp://192.0.2.10:0=10.0.0.5", "port 0 is none"),
            ("tcp://192.0.2.10=10.0.0.5:80", "several ports would become one"),
            ("192.0.2.10=2001:db8::5", "version of IP"),
            ("192.0.2.10=10.0.0.5,source=2001:db8::5", "version of IP"),
            ("192.0.2.10=192.0.2.10", "in a circle"),
            ("192.0.2.10=10.0.0.5,source=10.0.0.5", "from itself"),
            ("192.0.2.10=127.0.0.1", "cannot be forwarded to"),
            ("224.0.0.1=10.0.0.5", "cannot be forwarded to"),
            ("fe80::1=2001:db8::5", "cannot be forwarded to"),
            ("0.0.0.0=10.0.0.5", "cannot be forwarded to"),
        ] {
            let error = text.parse::<InlineRule>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn rules_that_cannot_stand_together_are_told() {
        for (rules, part) in [
            (&["192.0.2.1=10.0.0.5", "192.0.2.1=10.0.0.6"], "called"),
            (&["192.0.2.1=10.0.0.5", "192.0.2.2=192.0.2.1"], "in a circle"),
            (&["192.0.2.1=10.0.0.5,source=10.0.0.1", "192.0.2.2=10.0.0.1"], "in a circle"),
        ] {
            let error = table(rules).check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let mut same = table(&["192.0.2.1=10.0.0.5", "192.0.2.1=10.0.0.6"]);
        same.rules[1].name = "other".into();
        let error = same.check().unwrap_err().to_string();
        assert!(error.contains("matches the same"), "{error}");
        let inside =
            ["192.0.2.1=10.0.0.5", "tcp://192.0.2.1=10.0.0.6", "tcp://192.0.2.1:80=10.0.0.7"];
        assert_eq!(table(&inside).check(), Ok(()));
    }

    #[test]
    fn the_rule_that_says_most_decides() {
        let table = table(&[
            "192.0.2.1=10.0.0.5",
            "tcp://192.0.2.1:80=10.0.0.7",
            "tcp://192.0.2.1=10.0.0.6",
        ]);
        let of = |protocol, port| table.rule_for("192.0.2.1".parse().unwrap(), protocol, port);
        assert_eq!(of(6, 80), Some(1));
        assert_eq!(of(6, 81), Some(2));
        assert_eq!(of(17, 80), Some(0));
        assert_eq!(table.rule_for("192.0.2.2".parse().unwrap(), 6, 80), None);
    }

    #[test]
    fn a_table_s_name_is_that_of_a_folder() {
        assert_eq!(parse_inline_name("web-1.a").as_deref(), Ok("web-1.a"));
        for bad in ["", ".", "..", "a/b", "a b", &"x".repeat(33)] {
            assert!(parse_inline_name(bad).is_err(), "{bad}");
        }
    }
}
