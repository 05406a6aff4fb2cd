//! The file of `tapline mirror -c`: several taps, each with what the command line's options say of
//! one.
//!
//! ```toml
//! [[tap]]
//! name = "web"                                # default: the interface or the file
//! interface = "eth0"                          # or read = "in.pcapng"
//! to = ["vxlan://10.0.0.2?vni=71,vxlan://10.0.0.3?vni=71", "pcap:copy.pcapng"]
//! direction = "both"                          # in, out
//! snapshot_length = 0                         # bytes kept of each packet; 0: all
//! oversize = "auto"                           # fragment, cut, drop
//! dscp = 0                                    # of the tunnel's packets, 0 to 63
//! promiscuous = false
//! buffer_size = "auto"                        # or 64MiB
//! workers = 1                                 # threads that share the interface; or "auto"
//! datapath = "auto"                           # kernel, ring
//! ceiling = "500Mbit"                         # of what leaves; default: by traffic_mode
//! traffic_mode = "default"                    # priority
//! netns = "web"                               # where the interface is: a name, a process id, a path
//! expression = "tcp port 80"                  # or rules = "web.toml", or [[tap.rule]] as there
//! ```
//!
//! Only the source and `to` must be there. Paths are relative to the file's folder.

use crate::file::{self, Fault, Node, Spelling, Table, Value};
use crate::keys::{Keys, Wrong};
use crate::{
    Datapath, DirectionChoice, FileError, Group, Rate, RingSize, RuleFile, Sending, TrafficMode,
    Workers,
};
use filter::Rules;
use std::path::{Path, PathBuf};

/// Fewest bytes that a slice may leave of a packet that goes into a tunnel: the far end reads an
/// Ethernet header.
pub const SNAPSHOT_LENGTH_MIN: u32 = 14;

/// Bytes that a file of taps may have.
const BYTES_MAX: u64 = 64 << 20;

const FILE: [&str; 1] = ["tap"];
const TAP: [&str; 18] = [
    "name",
    "interface",
    "read",
    "to",
    "direction",
    "snapshot_length",
    "oversize",
    "dscp",
    "promiscuous",
    "buffer_size",
    "workers",
    "datapath",
    "ceiling",
    "traffic_mode",
    "netns",
    "expression",
    "rules",
    "rule",
];
/// What a file that is read has not.
const OF_INTERFACES: [&str; 7] =
    ["promiscuous", "buffer_size", "workers", "datapath", "ceiling", "traffic_mode", "netns"];

/// One tap: what `mirror`'s options say, and what a `[[tap]]` of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapConfig {
    /// Its name in the ledger.
    pub name: String,
    /// Where its packets come from.
    pub source: TapSource,
    /// Where they go: each group gets every packet.
    pub to: Vec<Group>,
    /// Which of the source's packets: received, sent, or both.
    pub direction: DirectionChoice,
    /// Bytes kept of each packet; 0: all. Else at least [`SNAPSHOT_LENGTH_MIN`].
    pub snapshot_length: u32,
    /// How its packets go into tunnels.
    pub sending: Sending,
    /// Whether the interface takes frames for other hosts too.
    pub promiscuous: bool,
    /// The kernel's ring.
    pub buffer_size: RingSize,
    /// How many threads share an interface.
    pub workers: Workers,
    /// What copies an interface's packets; `None`: what the command line says.
    pub datapath: Option<Datapath>,
    /// The most that is mirrored; `None`: by the traffic mode.
    pub ceiling: Option<Rate>,
    /// Who goes first, where there is no ceiling.
    pub traffic_mode: TrafficMode,
    /// The network namespace of the interface: a name, a process id, or a path; `None`: ours.
    pub netns: Option<String>,
    /// Which packets are kept.
    pub filter: FilterConfig,
}

/// Where a tap's packets come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TapSource {
    /// A network interface.
    Interface(String),
    /// A capture file; `-` is standard input.
    File(PathBuf),
}

/// Which packets a tap keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterConfig {
    /// All.
    All,
    /// What a pcap-filter expression matches.
    Expression(String),
    /// What rules include.
    Rules(Rules),
}

impl FilterConfig {
    /// An expression; a blank one keeps every packet.
    pub fn expression(text: &str) -> FilterConfig {
        match text.trim() {
            "" => FilterConfig::All,
            _ => FilterConfig::Expression(text.into()),
        }
    }

    /// What a file of rules includes.
    ///
    /// # Errors
    /// As [`RuleFile::open`].
    pub fn rules(path: &Path) -> Result<FilterConfig, FileError> {
        Ok(FilterConfig::Rules(RuleFile::open(path)?.rules))
    }
}

/// Reads the taps of a file, and the files of rules that it names.
///
/// # Errors
/// A file cannot be read, or the first mistake in one, with its place.
pub fn read_mirror_file(path: &Path) -> Result<Vec<TapConfig>, FileError> {
    let content =
        file::read(path, BYTES_MAX, "write fewer taps, or rules into files of their own")?;
    parse_mirror_file(path, &content)
}

/// Reads the taps of a file's content; `path` is what messages call it, and its folder what paths
/// in it are relative to.
///
/// # Errors
/// As [`read_mirror_file`].
pub fn parse_mirror_file(path: &Path, content: &[u8]) -> Result<Vec<TapConfig>, FileError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    taps(content, folder).map_err(|wrong| wrong.of(&path.display().to_string(), content))
}

fn taps(content: &[u8], folder: &Path) -> Result<Vec<TapConfig>, Wrong> {
    let root = file::from_toml(file::text(content, "taps are TOML")?)?;
    let mut taps: Vec<TapConfig> = Vec::new();
    for table in tables(&root)? {
        let keys = Keys::new(table, "tap", &TAP, folder)?;
        let tap = tap(&keys)?;
        if taps.iter().any(|other| other.name == tap.name) {
            let reason =
                format!("a tap before is called `{}` too: give each a `name` of its own", tap.name);
            return Err(Fault::new(keys.place_of("name"), reason).into());
        }
        taps.push(tap);
    }
    Ok(taps)
}

/// The tables of the taps.
fn tables(root: &Node) -> Result<&[Node], Fault> {
    let file = Table::new(root, "the file", &FILE, Spelling::Snake)?;
    match file.get("tap") {
        None => Err(Fault { at: None, reason: "it has no tap; begin one with [[tap]]".into() }),
        Some((_, Node { value: Value::Array(taps), .. })) if !taps.is_empty() => Ok(taps),
        Some((at, node)) => {
            let kind = node.value.kind();
            Err(Fault::new(at, format!("tap is {kind}; write [[tap]], once for each")))
        }
    }
}

fn tap(keys: &Keys<'_>) -> Result<TapConfig, Wrong> {
    let source = source(keys)?;
    Ok(TapConfig {
        name: match (keys.name()?, &source) {
            (Some(name), _) => name,
            (None, TapSource::Interface(interface)) => interface.clone(),
            (None, TapSource::File(path)) => path.display().to_string(),
        },
        source,
        to: targets(keys)?,
        direction: keys.direction()?,
        snapshot_length: keys.snapshot_length()?,
        sending: keys.sending()?,
        promiscuous: keys.flag("promiscuous", false)?,
        workers: keys.get("workers").map_or(Ok(Workers::default()), workers)?,
        datapath: keys.word("datapath", &Datapath::NAMES)?,
        ceiling: keys.get("ceiling").map(ceiling).transpose()?,
        traffic_mode: keys.word("traffic_mode", &TrafficMode::NAMES)?.unwrap_or_default(),
        netns: keys.get("netns").map(netns).transpose()?,
        buffer_size: keys.ring_size()?,
        filter: keys.filter()?,
    })
}

fn source(keys: &Keys<'_>) -> Result<TapSource, Fault> {
    let source = match (keys.text("interface")?, keys.text("read")?) {
        (Some(_), Some(_)) => {
            let reason = "a tap has one source; leave `interface` or `read` out";
            return Err(Fault::new(keys.place_of("read"), reason));
        }
        (None, None) => {
            let reason = "the tap has no source; add `interface = \"…\"` or `read = \"…\"`";
            return Err(Fault::new(keys.at, reason));
        }
        (Some(interface), None) => TapSource::Interface(interface),
        (None, Some(path)) => TapSource::File(keys.beside(path)),
    };
    let foreign = OF_INTERFACES.iter().find(|name| keys.get(name).is_some());
    match (&source, foreign) {
        (TapSource::File(_), Some(name)) => {
            let reason = format!("a file that is read has no {name}; leave it out");
            Err(Fault::new(keys.place_of(name), reason))
        }
        _ => Ok(source),
    }
}

fn targets(keys: &Keys<'_>) -> Result<Vec<Group>, Fault> {
    let mend = "write `to = [\"ENDPOINT\"]`";
    match keys.get("to") {
        None => Err(Fault::new(keys.at, format!("the tap goes nowhere; {mend}"))),
        Some(Node { value: Value::Array(groups), .. }) if !groups.is_empty() => {
            groups.iter().map(|group| keys.group(group)).collect()
        }
        Some(Node { at, .. }) => {
            Err(Fault::new(*at, format!("`to` is a list of endpoints; {mend}")))
        }
    }
}

/// Checks how many bytes are to be kept of each packet that goes into a tunnel.
///
/// # Errors
/// So few would be left that the far end cannot read the Ethernet header.
pub fn snapshot_length(bytes: u32) -> Result<u32, &'static str> {
    match bytes {
        1..SNAPSHOT_LENGTH_MIN => {
            Err("write 0 for all, or 14 or more: the Ethernet header must be left")
        }
        bytes => Ok(bytes),
    }
}

fn workers(node: &Node) -> Result<Workers, Fault> {
    let fault = |mend: String| Fault::new(node.at, format!("workers: {mend}"));
    match &node.value {
        Value::Text(text) => text.parse().map_err(fault),
        Value::Number(number) => number.to_string().parse().map_err(fault),
        value => {
            let kind = value.kind();
            Err(Fault::new(node.at, format!("workers is {kind}; write a number, or \"auto\"")))
        }
    }
}

fn ceiling(node: &Node) -> Result<Rate, Fault> {
    match &node.value {
        Value::Text(text) => {
            text.parse().map_err(|error| Fault::new(node.at, format!("ceiling: {error}")))
        }
        value => {
            let kind = value.kind();
            let mend = "write a rate in quotes, such as \"500Mbit\"";
            Err(Fault::new(node.at, format!("ceiling is {kind}; {mend}")))
        }
    }
}

fn netns(node: &Node) -> Result<String, Fault> {
    match &node.value {
        Value::Text(text) if !text.is_empty() => Ok(text.clone()),
        Value::Number(number) if *number > 0 => Ok(number.to_string()),
        _ => {
            let reason = "netns names no network namespace; write its name, the id of a process in it, or a path";
            Err(Fault::new(node.at, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Oversize;

    fn parse(text: &str) -> Result<Vec<TapConfig>, FileError> {
        parse_mirror_file(Path::new("etc/taps.toml"), text.as_bytes())
    }

    /// Asserts where a mistake is said to be, and that its reason has a part.
    fn assert_told(text: &str, place: Option<(usize, usize)>, part: &str) {
        let error = parse(text).unwrap_err();
        assert_eq!(error.place, place, "{error}");
        assert!(error.reason.contains(part), "{part} is not in\n{error}");
        assert!(error.to_string().starts_with("etc/taps.toml:"), "{error}");
    }

    #[test]
    fn every_key_is_read() {
        let taps = parse(
            r#"
            [[tap]]
            name = "web"
            interface = "eth0"
            to = ["vxlan://10.0.0.2?vni=71,vxlan://10.0.0.3?vni=71", "pcap:copy.pcapng"]
            direction = "in"
            snapshot_length = 128
            oversize = "drop"
            dscp = 46
            promiscuous = true
            buffer_size = "16MiB"
            workers = 4
            datapath = "ring"
            ceiling = "500Mbit"
            traffic_mode = "priority"
            netns = 4711
            expression = "tcp port 80"

            [[tap]]
            read = "in.pcapng"
            to = ["null:"]
            "#,
        );
        let [web, file] = &taps.unwrap()[..] else { panic!("two taps") };
        let group = |text: &str| text.parse::<Group>().unwrap();
        let wanted = TapConfig {
            name: "web".into(),
            source: TapSource::Interface("eth0".into()),
            to: vec![
                group("vxlan://10.0.0.2?vni=71,vxlan://10.0.0.3?vni=71"),
                group("pcap:etc/copy.pcapng"),
            ],
            direction: DirectionChoice::In,
            snapshot_length: 128,
            sending: Sending { oversize: Oversize::Drop, dscp: 46 },
            promiscuous: true,
            buffer_size: RingSize::Bytes(16 << 20),
            workers: Workers::Count(4),
            datapath: Some(Datapath::Ring),
            ceiling: Rate::new(500_000_000),
            traffic_mode: TrafficMode::Priority,
            netns: Some("4711".into()),
            filter: FilterConfig::Expression("tcp port 80".into()),
        };
        assert_eq!(web, &wanted);
        let wanted = TapConfig {
            name: "etc/in.pcapng".into(),
            source: TapSource::File("etc/in.pcapng".into()),
            to: vec![group("null:")],
            direction: DirectionChoice::Both,
            snapshot_length: 0,
            sending: Sending::default(),
            promiscuous: false,
            buffer_size: RingSize::Auto,
            workers: Workers::Count(1),
            datapath: None,
            ceiling: None,
            traffic_mode: TrafficMode::Default,
            netns: None,
            filter: FilterConfig::All,
        };
        assert_eq!(file, &wanted);
    }

    #[test]
    fn absolute_paths_and_standard_streams_stay() {
        let taps = parse("[[tap]]\nread = \"-\"\nto = [\"pcap:/x\"]\nname = \"x\"\n").unwrap();
        assert_eq!(taps[0].source, TapSource::File("-".into()));
        assert_eq!(taps[0].to[0].0[0].canonical(), "pcap:/x");
    }

    #[test]
    fn rules_stand_in_a_file_of_their_own_or_with_the_tap() {
        let rule = "rule_action = \"INCLUDE\"\nprotocol = \"tcp\"\n";
        let inline = format!("{TAP}[[tap.rule]]\n{rule}[[tap.rule]]\n{rule}");
        let FilterConfig::Rules(rules) = &parse(&inline).unwrap()[0].filter else {
            panic!("rules")
        };
        assert_eq!(rules.as_slice().len(), 2);
        let wrong = format!("{TAP}[[tap.rule]]\nrule_action = \"ALLOW\"\n");
        assert_told(&wrong, Some((5, 15)), "rule 1: rule_action \"ALLOW\"");
        let both = format!("{TAP}rules = \"x.toml\"\n[[tap.rule]]\n{rule}");
        assert_told(&both, Some((5, 7)), "one filter; leave `rules` or `rule` out");
        let error = parse(&format!("{TAP}rules = \"nonexistent.toml\"\n")).unwrap_err();
        assert_eq!(error.file, "etc/nonexistent.toml");
    }

    const TAP: &str = "[[tap]]\ninterface = \"eth0\"\nto = [\"null:\"]\n";

    #[test]
    fn each_mistake_has_its_place_and_its_mend() {
        for (line, column, part) in [
            ("interfce = \"eth1\"", 1, "did you mean `interface`?"),
            ("to = [\"null:\"]", 1, "duplicate key"),
            ("direction = \"sideways\"", 13, "write \"both\", \"in\" or \"out\""),
            ("oversize = \"split\"", 12, "write \"auto\", \"fragment\", \"cut\" or \"drop\""),
            ("dscp = 64", 8, "not from 0 to 63"),
            ("snapshot_length = 13", 19, "14 or more"),
            ("snapshot_length = -1", 19, "not from 0 to 4294967295"),
            ("buffer_size = \"1kB\"", 15, "64KiB to 4GiB"),
            ("buffer_size = \"4096\"", 15, "no unit"),
            ("buffer_size = 64", 15, "in quotes"),
            ("promiscuous = \"yes\"", 15, "without quotes"),
            ("workers = 0", 11, "1 to 64, or auto"),
            ("workers = \"many\"", 11, "1 to 64, or auto"),
            ("workers = true", 11, "write a number"),
            ("datapath = \"xdp\"", 12, "write \"auto\", \"kernel\" or \"ring\""),
            ("ceiling = \"500\"", 11, "Mbit"),
            ("ceiling = 500", 11, "in quotes"),
            ("traffic_mode = \"fast\"", 16, "write \"default\" or \"priority\""),
            ("netns = true", 9, "names no network namespace"),
            ("read = \"x\"", 1, "one source"),
            ("name = \" \"", 1, "leave it out"),
            ("name = 3", 8, "write a string"),
            ("name = \"a\\nb\"", 1, "without control characters"),
            ("name = \"\\u001b[31m\"", 1, "without control characters"),
            ("expression =", 13, "not TOML"),
        ] {
            assert_told(&format!("{TAP}{line}\n"), Some((4, column)), part);
        }
        assert_told(&format!("{TAP}\n{TAP}"), Some((5, 1)), "a tap before is called `eth0`");
        assert_told("[[tap]]\nto = [\"null:\"]\n", Some((1, 1)), "no source");
        assert_told("[[tap]]\ninterface = \"a\"\n", Some((1, 1)), "the tap goes nowhere");
        assert_told("[[tap]]\ninterface = \"a\"\nto = []\n", Some((3, 6)), "list of endpoints");
        let vni = "[[tap]]\ninterface = \"a\"\nto = [\"null:\", \"vxlan://h\"]\n";
        assert_told(vni, Some((3, 16)), "?vni=N");
        let ring = "[[tap]]\nread = \"a\"\nbuffer_size = \"1MiB\"\nto = [\"null:\"]\n";
        assert_told(ring, Some((3, 1)), "no buffer_size");
        assert_told("[[tip]]\n", Some((1, 3)), "did you mean `tap`?");
        assert_told("[tap]\n", Some((1, 2)), "write [[tap]]");
        assert_told("", None, "[[tap]]");
        assert_told("x", Some((1, 2)), "not TOML");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let error = read_mirror_file(Path::new("/nonexistent/taps.toml")).unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
