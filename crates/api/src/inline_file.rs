//! The file of `tapline inline -c`: one forwarding table.
//!
//! ```toml
//! in = "eth0"                      # where clients arrive
//! out = "eth1"                     # where the next hosts are; may be the same
//! name = "inline"                  # of the table: letters, digits, - _ .
//! fail = "open"                    # or "closed": what happens while tapline is not there
//! sessions = 65536                 # at most
//! timeouts = { tcp_established = "7440s", tcp_opening = "120s", tcp_closing = "30s", udp = "120s", icmp = "60s" }
//!
//! [[rule]]
//! name = "web"                     # default: what it matches
//! address = "192.0.2.10"           # that clients speak to
//! protocol = "tcp"                 # or "udp", "icmp"; default: all
//! port = 443                       # default: all
//! next_host = "10.0.0.5"
//! next_port = 8443                 # default: the same
//! source = "10.0.0.1"              # that the next host sees; default: the route's
//! views = ["ingress", "egress", "inline"]
//! snapshot_length = 0              # bytes captured of each packet; 0: all
//! to = ["pcap:web.pcapng"]         # where the views go, beside -w
//! ```
//!
//! Only `in`, `out`, `address` and `next_host` must be there. Paths are relative to the file's folder.

use crate::file::{self, Fault, Node, Spelling, Table, Value, number};
use crate::inline::{
    INLINE_RULES_MAX, INLINE_SESSIONS, INLINE_SESSIONS_MAX, INLINE_TABLE, InlineConfig, InlineFail,
    InlineProtocol, InlineRule, InlineTimeouts, InlineView, parse_inline_name,
};
use crate::keys::{Keys, Wrong};
use crate::{FileError, Group, parse_duration};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Bytes that such a file may have.
const BYTES_MAX: u64 = 16 << 20;

const FILE: [&str; 7] = ["in", "out", "name", "fail", "sessions", "timeouts", "rule"];
const TIMEOUTS: [&str; 5] = ["tcp_established", "tcp_opening", "tcp_closing", "udp", "icmp"];
const RULE: [&str; 10] = [
    "name",
    "address",
    "protocol",
    "port",
    "next_host",
    "next_port",
    "source",
    "views",
    "snapshot_length",
    "to",
];

/// Longest name of an interface (`IFNAMSIZ` less the NUL).
const INTERFACE_NAME_BYTES_MAX: usize = 15;

/// Reads the table of a file.
///
/// # Errors
/// It cannot be read, or the first mistake in it, with its place.
pub fn read_inline_file(path: &Path) -> Result<InlineConfig, FileError> {
    parse_inline_file(path, &file::read(path, BYTES_MAX, "write fewer rules")?)
}

/// The same of a file's content; `path` is what messages call it, and its folder what paths in it are
/// relative to.
///
/// # Errors
/// As [`read_inline_file`].
pub fn parse_inline_file(path: &Path, content: &[u8]) -> Result<InlineConfig, FileError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    table(content, folder).map_err(|wrong| wrong.of(&path.display().to_string(), content))
}

fn table(content: &[u8], folder: &Path) -> Result<InlineConfig, Wrong> {
    let root = file::from_toml(file::text(content, "a forwarding table is TOML")?)?;
    let keys = Keys::new(&root, "forwarding table", &FILE, folder)?;
    let name = match keys.text("name")? {
        None => INLINE_TABLE.into(),
        Some(name) => parse_inline_name(&name).map_err(|reason| {
            Fault::new(keys.place_of("name"), format!("name `{name}`: {reason}"))
        })?,
    };
    let fail = [("open", InlineFail::Open), ("closed", InlineFail::Closed)];
    let mut config = InlineConfig {
        name,
        ingress: interface(&keys, "in")?,
        egress: interface(&keys, "out")?,
        fail: keys.word("fail", &fail)?.unwrap_or_default(),
        sessions: sessions(&keys)?,
        timeouts: keys.get("timeouts").map_or(Ok(InlineTimeouts::default()), timeouts)?,
        rules: Vec::new(),
    };
    let tables = tables(&keys)?;
    let mut all = Vec::with_capacity(tables.len());
    for node in tables {
        let keys = Keys::new(node, "rule", &RULE, folder)?;
        config.rules.push(rule(&keys)?);
        all.push(keys);
    }
    match config.mistake() {
        None => Ok(config),
        Some((place, key, reason)) => Err(Fault::new(all[place].place_of(key), reason).into()),
    }
}

fn interface(keys: &Keys<'_>, key: &str) -> Result<String, Fault> {
    let Some(name) = keys.text(key)? else {
        return Err(Fault {
            at: None,
            reason: format!("it has no `{key}`; add `{key} = \"eth0\"`"),
        });
    };
    match name.len() {
        1..=INTERFACE_NAME_BYTES_MAX => Ok(name),
        _ => Err(Fault::new(
            keys.place_of(key),
            format!("{key}: an interface's name has 1 to {INTERFACE_NAME_BYTES_MAX} bytes"),
        )),
    }
}

fn sessions(keys: &Keys<'_>) -> Result<u32, Fault> {
    let Some(node) = keys.get("sessions") else {
        return Ok(INLINE_SESSIONS);
    };
    match number(node, "sessions", INLINE_SESSIONS_MAX)? {
        sessions @ 1..=INLINE_SESSIONS_MAX => Ok(sessions),
        sessions => {
            let reason = format!("sessions {sessions} is not from 1 to {INLINE_SESSIONS_MAX}");
            Err(Fault::new(node.at, reason))
        }
    }
}

fn timeouts(node: &Node) -> Result<InlineTimeouts, Fault> {
    let table = Table::new(node, "timeouts", &TIMEOUTS, Spelling::Snake)?;
    let mut timeouts = InlineTimeouts::default();
    let fields: [&mut Duration; 5] = [
        &mut timeouts.tcp_established,
        &mut timeouts.tcp_opening,
        &mut timeouts.tcp_closing,
        &mut timeouts.udp,
        &mut timeouts.icmp,
    ];
    for (name, field) in TIMEOUTS.iter().zip(fields) {
        let Some(text) = table.text(name)? else { continue };
        let at = table.get(name).map_or(node.at, |(_, node)| node.at);
        let time =
            parse_duration(&text).map_err(|error| Fault::new(at, format!("{name}: {error}")))?;
        if time < Duration::from_secs(1) || time > Duration::from_secs(7 * 86_400) {
            return Err(Fault::new(at, format!("{name}: write from 1s to 168h")));
        }
        *field = time;
    }
    Ok(timeouts)
}

/// The tables of the rules.
fn tables<'a>(keys: &Keys<'a>) -> Result<&'a [Node], Fault> {
    match keys.get("rule") {
        None => Ok(&[]),
        Some(Node { value: Value::Array(rules), at }) => match rules.len() {
            0..=INLINE_RULES_MAX => Ok(rules),
            _ => Err(Fault::new(*at, format!("more than {INLINE_RULES_MAX} rules; write fewer"))),
        },
        Some(Node { value, at }) => {
            let kind = value.kind();
            Err(Fault::new(*at, format!("rule is {kind}; write [[rule]], once for each")))
        }
    }
}

fn rule(keys: &Keys<'_>) -> Result<InlineRule, Wrong> {
    let needed = |key: &str, text: &str| {
        let reason = format!("the rule has no {key}; add `{key} = \"{text}\"`");
        address(keys, key)?.ok_or_else(|| Fault::new(keys.at, reason))
    };
    let mut rule = InlineRule {
        protocol: keys.word("protocol", &InlineProtocol::NAMES)?,
        port: port(keys, "port")?,
        next_port: port(keys, "next_port")?,
        source: address(keys, "source")?,
        views: views(keys)?,
        snapshot_length: keys.snapshot_length()?,
        to: targets(keys)?,
        ..InlineRule::new(
            keys.name()?.unwrap_or_default(),
            needed("address", "192.0.2.10")?,
            needed("next_host", "10.0.0.5")?,
        )
    };
    rule.fault(|key| keys.place_of(key))?;
    if rule.name.is_empty() {
        let text = rule.to_string();
        rule.name = text.split_once('=').map_or(text.as_str(), |(matched, _)| matched).into();
    }
    match rule.views.is_empty() && !rule.to.is_empty() {
        true => {
            let reason = "no view goes there; add `views = [\"inline\"]`";
            Err(Fault::new(keys.place_of("to"), reason).into())
        }
        false => Ok(rule),
    }
}

fn address(keys: &Keys<'_>, key: &str) -> Result<Option<IpAddr>, Fault> {
    let Some(text) = keys.text(key)? else { return Ok(None) };
    let reason = format!("{key} `{}`: write an IPv4 or IPv6 address", file::shown(&text));
    text.parse().map(Some).map_err(|_| Fault::new(keys.place_of(key), reason))
}

fn port(keys: &Keys<'_>, key: &str) -> Result<Option<u16>, Fault> {
    keys.get(key).map(|node| number(node, key, u16::MAX)).transpose()
}

fn views(keys: &Keys<'_>) -> Result<Vec<InlineView>, Fault> {
    let mend = "write `views = [\"ingress\", \"egress\", \"inline\"]`, or some of them";
    let Some(node) = keys.get("views") else { return Ok(Vec::new()) };
    let Value::Array(items) = &node.value else {
        return Err(Fault::new(node.at, format!("views is a list; {mend}")));
    };
    let mut views = Vec::new();
    for item in items {
        views.push(file::word(item, "view", &InlineView::NAMES, mend)?);
    }
    views.sort_unstable();
    views.dedup();
    Ok(views)
}

fn targets(keys: &Keys<'_>) -> Result<Vec<Group>, Fault> {
    match keys.get("to") {
        None => Ok(Vec::new()),
        Some(Node { value: Value::Array(groups), .. }) => {
            groups.iter().map(|group| keys.group(group)).collect()
        }
        Some(Node { at, .. }) => {
            Err(Fault::new(*at, "`to` is a list of endpoints; write `to = [\"ENDPOINT\"]`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "in = \"eth0\"\nout = \"eth1\"\n";
    const RULE: &str = "[[rule]]\naddress = \"192.0.2.10\"\nnext_host = \"10.0.0.5\"\n";

    fn parse(text: &str) -> Result<InlineConfig, FileError> {
        parse_inline_file(Path::new("etc/inline.toml"), text.as_bytes())
    }

    fn assert_told(text: &str, place: Option<(usize, usize)>, part: &str) {
        let error = parse(text).unwrap_err();
        assert_eq!(error.place, place, "{error}");
        assert!(error.reason.contains(part), "{part} is not in\n{error}");
    }

    #[test]
    fn everything_that_can_be_said() {
        let text = "in = \"eth0\"\nout = \"eth1\"\nname = \"web\"\nfail = \"closed\"\nsessions = 10\n\
            timeouts = { tcp_established = \"1h\", udp = \"30s\" }\n\
            [[rule]]\nname = \"w\"\naddress = \"192.0.2.10\"\nprotocol = \"tcp\"\nport = 443\n\
            next_host = \"10.0.0.5\"\nnext_port = 8443\nsource = \"10.0.0.1\"\n\
            views = [\"inline\", \"ingress\"]\nsnapshot_length = 96\nto = [\"pcap:w.pcapng\"]\n";
        let table = parse(text).unwrap();
        assert_eq!((table.name.as_str(), table.fail), ("web", InlineFail::Closed));
        assert_eq!((table.ingress.as_str(), table.egress.as_str()), ("eth0", "eth1"));
        assert_eq!(table.sessions, 10);
        assert_eq!(table.timeouts.tcp_established, Duration::from_secs(3600));
        assert_eq!(table.timeouts.udp, Duration::from_secs(30));
        assert_eq!(table.timeouts.icmp, InlineTimeouts::default().icmp);
        let rule = &table.rules[0];
        let written = "tcp://192.0.2.10:443=10.0.0.5:8443,source=10.0.0.1";
        assert_eq!((rule.name.as_str(), rule.to_string().as_str()), ("w", written));
        assert_eq!(rule.views, [InlineView::Ingress, InlineView::Inline]);
        assert_eq!(rule.snapshot_length, 96);
        assert_eq!(rule.to, ["pcap:etc/w.pcapng".parse().unwrap()]);
    }

    #[test]
    fn little_needs_to_be_said() {
        let table = parse(&format!("{HEAD}{RULE}")).unwrap();
        assert_eq!((table.name.as_str(), table.fail), (INLINE_TABLE, InlineFail::Open));
        assert_eq!(table.sessions, INLINE_SESSIONS);
        assert_eq!(table.rules[0].name, "192.0.2.10");
        // A table that is filled later.
        assert!(parse(HEAD).unwrap().rules.is_empty());
    }

    #[test]
    fn mistakes_are_told_at_their_place() {
        let with = |line: &str| format!("{HEAD}{RULE}{line}\n");
        assert_told("out = \"a\"\n", None, "no `in`");
        assert_told("in = \"a-name-that-is-too-long\"\nout = \"a\"\n", Some((1, 1)), "1 to 15");
        assert_told(&format!("{HEAD}name = \"a/b\"\n"), Some((3, 1)), "letters, digits");
        assert_told(&format!("{HEAD}fail = \"half\"\n"), Some((3, 8)), "\"open\" or \"closed\"");
        assert_told(&format!("{HEAD}sessions = 0\n"), Some((3, 12)), "from 1 to");
        assert_told(&format!("{HEAD}timeouts = {{ udp = \"500ms\" }}\n"), Some((3, 20)), "from 1s");
        assert_told(&format!("{HEAD}timeouts = {{ sctp = \"1s\" }}\n"), Some((3, 14)), "no `sctp`");
        assert_told(&format!("{HEAD}rule = 3\n"), Some((3, 8)), "write [[rule]]");
        assert_told(&format!("{HEAD}[[rule]]\n"), Some((3, 1)), "no address");
        assert_told(&with("port = 80"), Some((6, 1)), "only TCP and UDP");
        assert_told(&with("port = 65536"), Some((6, 8)), "from 0 to 65535");
        assert_told(&with("protocol = \"sctp\""), Some((6, 12)), "\"icmp\"");
        assert_told(&with("source = \"x\""), Some((6, 1)), "IPv4 or IPv6");
        assert_told(&with("source = \"2001:db8::1\""), Some((6, 1)), "version of IP");
        assert_told(&with("to = [\"null:\"]"), Some((6, 1)), "no view goes there");
        assert_told(&with("views = [\"in\"]"), Some((6, 10)), "unknown");
        assert_told(&with(RULE), Some((6, 1)), "is called");
        let other = RULE.replace("[[rule]]", "[[rule]]\nname = \"b\"");
        assert_told(&with(&other), Some((8, 1)), "matches the same");
        let loops = "[[rule]]\naddress = \"192.0.2.11\"\nnext_host = \"192.0.2.10\"\n";
        assert_told(&with(loops), Some((8, 1)), "in a circle");
    }
}
