//! `[[source]]`, `[[map]]` and `[[target]]`.

use super::stage::vid;
use crate::broker::{
    Balance, FlowKey, MapConfig, Origin, Overflow, Pace, QUEUE_BYTES_MAX, QueueConfig,
    SourceConfig, StageConfig, StageKind, Start, TargetConfig,
};
use crate::file::{Fault, Node, Spelling, Value, nearest, shown};
use crate::keys::{Keys, Wrong};
use crate::{Endpoint, Group, Health, RingSize, TunnelEndpoint};
use std::path::Path;

/// Memory of a ring or a socket that tunnels arrive at, unless the file says so.
pub(super) const LISTEN_BUFFER_BYTES: u64 = 64 << 20;

const SOURCE: [&str; 11] = [
    "name",
    "interface",
    "listen",
    "read",
    "direction",
    "promiscuous",
    "buffer_size",
    "decap",
    "speed",
    "vlan",
    "stages",
];
const MAP: [&str; 8] = ["name", "from", "to", "expression", "rules", "rule", "stages", "history"];
const TARGET: [&str; 15] = [
    "name",
    "to",
    "expression",
    "rules",
    "rule",
    "stages",
    "queue",
    "overflow",
    "oversize",
    "dscp",
    "snapshot_length",
    "balance",
    "fail_open",
    "health",
    "from",
];

/// The stages of a file, by their names.
#[derive(Default)]
pub(super) struct Stages {
    known: Vec<Known>,
}

struct Known {
    at: usize,
    stage: StageConfig,
    is_used: bool,
}

impl Stages {
    pub(super) fn add(&mut self, at: usize, stage: StageConfig) -> Result<(), Fault> {
        if self.known.iter().any(|other| other.stage.name == stage.name) {
            let name = &stage.name;
            let reason =
                format!("a stage before is called `{name}` too: give each a `name` of its own");
            return Err(Fault::new(at, reason));
        }
        self.known.push(Known { at, stage, is_used: false });
        Ok(())
    }

    /// Those that a part calls by their names.
    fn called(&mut self, keys: &Keys<'_>) -> Result<Vec<StageConfig>, Fault> {
        let mut stages: Vec<StageConfig> = Vec::new();
        for (node, name) in keys.texts("stages")? {
            let Some(known) = self.known.iter_mut().find(|known| known.stage.name == name) else {
                let names: Vec<&str> =
                    self.known.iter().map(|known| known.stage.name.as_str()).collect();
                let mend = match names.is_empty() {
                    true => "there is none; begin one with [[stage]]".to_owned(),
                    false => {
                        nearest(name, &names, Spelling::Snake).replace("it may have", "there are")
                    }
                };
                let reason = format!("there is no stage `{}`; {mend}", shown(name));
                return Err(Fault::new(node.at, reason));
            };
            if stages.contains(&known.stage) {
                return Err(Fault::new(
                    node.at,
                    format!("stage `{name}` is named twice; leave one"),
                ));
            }
            known.is_used = true;
            stages.push(known.stage.clone());
        }
        Ok(stages)
    }

    pub(super) fn all_are_used(&self) -> Result<(), Fault> {
        match self.known.iter().find(|known| !known.is_used) {
            None => Ok(()),
            Some(Known { at, stage, .. }) => Err(Fault::new(
                *at,
                format!(
                    "nothing uses stage `{}`; name it in the `stages` of a source, map or target, \
                     or leave it out",
                    stage.name
                ),
            )),
        }
    }
}

/// Every packet gets a tag.
pub(super) fn tag(vid: u16) -> StageConfig {
    let kind = StageKind::VlanPush { vid, pcp: None, dei: None, tpid: None };
    StageConfig { name: format!("vlan {vid}"), kind }
}

/// Every packet is cut.
pub(super) fn cut(bytes: u32) -> StageConfig {
    StageConfig { name: format!("slice {bytes}"), kind: StageKind::Slice { bytes, after: None } }
}

pub(super) fn source(
    node: &Node,
    folder: &Path,
    stages: &mut Stages,
) -> Result<SourceConfig, Wrong> {
    let keys = Keys::new(node, "source", &SOURCE, folder)?;
    let origin = origin(&keys)?;
    // Its own stages see the packets as they came; the tag is for those who get them.
    let mut stages = stages.called(&keys)?;
    stages.extend(vid(&keys, "vlan")?.map(tag));
    let name = named(&keys, &["interface", "listen", "read"])?;
    Ok(SourceConfig { name, origin, stages })
}

fn origin(keys: &Keys<'_>) -> Result<Origin, Fault> {
    let named = ["interface", "listen", "read"].into_iter();
    let mut named = named.filter(|name| keys.get(name).is_some());
    if let (Some(first), Some(second)) = (named.next(), named.next()) {
        let reason = format!("a source is one thing; leave `{first}` or `{second}` out");
        return Err(Fault::new(keys.place_of(second), reason));
    }
    if let Some(interface) = keys.text("interface")? {
        keys.refuse(&["decap", "speed"], "an interface has")?;
        return Ok(Origin::Interface {
            interface,
            direction: keys.direction()?,
            promiscuous: keys.flag("promiscuous", true)?,
            buffer_size: keys.ring_size()?,
        });
    }
    if let Some(path) = keys.text("read")? {
        let foreign = ["direction", "promiscuous", "buffer_size", "decap"];
        keys.refuse(&foreign, "a file that is read has")?;
        return Ok(Origin::File { path: keys.beside(path), pace: pace(keys)? });
    }
    let listen = listen(keys)?;
    if listen.is_empty() {
        let reason = "the source takes packets from nowhere; add `interface = \"…\"`, \
                      `listen = [\"…\"]` or `read = \"…\"`";
        return Err(Fault::new(keys.place_of("listen"), reason));
    }
    keys.refuse(&["direction", "promiscuous", "speed"], "tunnels have")?;
    Ok(Origin::Tunnels {
        listen,
        layers: layers(keys)?,
        buffer_bytes: match keys.ring_size()? {
            RingSize::Auto => LISTEN_BUFFER_BYTES,
            RingSize::Bytes(bytes) => bytes as u64,
        },
    })
}

/// A part's name; else what it is made of, as it is written there.
fn named(keys: &Keys<'_>, made_of: &[&str]) -> Result<String, Fault> {
    if let Some(name) = keys.name()? {
        return Ok(name);
    }
    let mut texts = Vec::new();
    for key in made_of {
        texts.extend(keys.texts(key)?.into_iter().map(|(_, text)| text));
    }
    Ok(texts.join(","))
}

fn listen(keys: &Keys<'_>) -> Result<Vec<TunnelEndpoint>, Fault> {
    let mut tunnels = Vec::new();
    for (node, text) in keys.texts("listen")? {
        match Endpoint::listener(text) {
            Ok(Endpoint::Tunnel(tunnel)) => tunnels.push(tunnel),
            Ok(other) => {
                return Err(Fault::new(node.at, format!("one cannot listen on {other}")));
            }
            Err(error) => return Err(Fault::new(node.at, error.to_string())),
        }
    }
    Ok(tunnels)
}

/// Layers of tunnels that packets are taken out of.
fn layers(keys: &Keys<'_>) -> Result<u8, Fault> {
    match keys.get("decap").map(|node| &node.value) {
        Some(Value::Text(_)) => Ok(keys.word("decap", &[("all", u8::MAX)])?.unwrap_or(u8::MAX)),
        _ => Ok(keys.integer("decap", 0, u8::MAX - 1)?.unwrap_or(1)),
    }
}

fn pace(keys: &Keys<'_>) -> Result<Pace, Fault> {
    let Some(node) = keys.get("speed") else {
        return Ok(Pace::Times(1.0));
    };
    let text = match &node.value {
        Value::Text(text) => shown(text).into_owned(),
        Value::Number(number) => number.to_string(),
        Value::Fraction(number) => number.to_string(),
        value => value.kind().to_owned(),
    };
    text.parse().map_err(|mend| Fault::new(node.at, format!("speed {mend}")))
}

pub(super) fn map(node: &Node, folder: &Path, stages: &mut Stages) -> Result<MapConfig, Wrong> {
    let keys = Keys::new(node, "map", &MAP, folder)?;
    let names = |key: &str, mend: &str| -> Result<Vec<String>, Fault> {
        let names = keys.texts(key)?;
        match names.is_empty() {
            true => Err(Fault::new(keys.place_of(key), mend)),
            false => Ok(names.into_iter().map(|(_, name)| name.to_owned()).collect()),
        }
    };
    let from = names("from", "the map comes from nowhere; add `from = [\"SOURCE\"]`")?;
    let to = names("to", "the map leads nowhere; add `to = [\"TARGET\"]`")?;
    Ok(MapConfig {
        name: match keys.name()? {
            Some(name) => name,
            None => format!("{} to {}", from.join(","), to.join(",")),
        },
        from,
        filter: keys.filter()?,
        stages: stages.called(&keys)?,
        to,
        history: history(&keys)?,
    })
}

fn history(keys: &Keys<'_>) -> Result<u64, Fault> {
    let bytes = keys.size("history")?.unwrap_or(0);
    match keys.get("history").filter(|_| bytes > QUEUE_BYTES_MAX) {
        Some(node) => {
            let reason = "it is more than a map may keep; write 64GiB at most";
            Err(Fault::new(node.at, reason))
        }
        None => Ok(bytes),
    }
}

pub(super) fn target(
    node: &Node,
    folder: &Path,
    stages: &mut Stages,
) -> Result<TargetConfig, Wrong> {
    let keys = Keys::new(node, "target", &TARGET, folder)?;
    let to = group(&keys)?;
    let mut stages = stages.called(&keys)?;
    stages.extend(Some(keys.snapshot_length()?).filter(|&bytes| bytes > 0).map(cut));
    let default = QueueConfig::default();
    Ok(TargetConfig {
        name: named(&keys, &["to"])?,
        balance: balance(&keys, &to)?,
        to,
        filter: keys.filter()?,
        stages,
        queue: QueueConfig {
            size: match queue(&keys)? {
                Some(size) => size,
                None => default.size,
            },
            overflow: keys.word("overflow", &Overflow::NAMES)?.unwrap_or(default.overflow),
        },
        sending: keys.sending()?,
        start: keys.word("from", &Start::NAMES)?.unwrap_or_default(),
    })
}

/// A target's members, a list, or joined by commas; and how all of them are checked.
fn group(keys: &Keys<'_>) -> Result<Group, Fault> {
    let mend = "write `to = \"ENDPOINT\"`, or a list of those that share the load";
    let nodes = match keys.get("to") {
        None => return Err(Fault::new(keys.at, format!("the target leads nowhere; {mend}"))),
        Some(Node { value: Value::Array(nodes), at }) if nodes.is_empty() => {
            return Err(Fault::new(*at, format!("the target leads nowhere; {mend}")));
        }
        Some(Node { value: Value::Array(nodes), .. }) => nodes.as_slice(),
        Some(node) => std::slice::from_ref(node),
    };
    let mut members: Vec<Endpoint> = Vec::new();
    for node in nodes {
        for member in keys.members(node)? {
            if members.iter().any(|known| known.canonical() == member.canonical()) {
                let reason =
                    format!("`{member}` is named twice; use `weight=N` for a larger share");
                return Err(Fault::new(node.at, reason));
            }
            members.push(member);
        }
    }
    if let Some(text) = keys.text("health")? {
        let at = keys.get("health").map_or(keys.at, |node| node.at);
        let told = |error: crate::Error| Fault::new(at, error.to_string());
        let health: Health = text.parse().map_err(told)?;
        members.iter_mut().try_for_each(|member| member.check_by_default(&health)).map_err(told)?;
    }
    let at = keys.get("to").map_or(keys.at, |node| node.at);
    Group::new(members).map_err(|error| Fault::new(at, error.to_string()))
}

/// How the members share the load: they say it, or the target does.
fn balance(keys: &Keys<'_>, group: &Group) -> Result<Balance, Fault> {
    let Group(members) = group;
    let of_members = group.balance();
    let key = keys.word("balance", &FlowKey::NAMES)?;
    let told = |name: &str, reason: String| Err(Fault::new(keys.place_of(name), reason));
    let hash = members.iter().find_map(|member| member.membership().hash);
    if let (Some(key), Some(hash)) = (key, hash)
        && key != hash
    {
        let (key, hash) = (key.name(), hash.name());
        return told("balance", format!("balance is {key}, but `to` says hash={hash}; leave one"));
    }
    let fail_open = keys.flag("fail_open", of_members.fail_open)?;
    if keys.get("fail_open").is_some() {
        if members.iter().all(|member| member.membership().health.is_none()) {
            let reason = "no member has a health check: add `health`, or leave `fail_open` out";
            return told("fail_open", reason.into());
        }
        let of_member = members.iter().find_map(|member| member.membership().fail_open);
        if of_member.is_some_and(|of_member| of_member != fail_open) {
            return told("fail_open", "`to` says another `fail_open`; leave one".into());
        }
    }
    Ok(Balance { key: key.unwrap_or(of_members.key), fail_open })
}

fn queue(keys: &Keys<'_>) -> Result<Option<crate::QueueSize>, Fault> {
    match keys.get("queue") {
        None => Ok(None),
        Some(Node { at, value: Value::Text(text) }) => match text.parse() {
            Ok(size) => Ok(Some(size)),
            Err(mend) => Err(Fault::new(*at, format!("queue {mend}"))),
        },
        Some(Node { at, value }) => {
            let mend = "write a size or a count in quotes: \"16MiB\" or \"1000 packets\"";
            Err(Fault::new(*at, format!("queue is {}; {mend}", value.kind())))
        }
    }
}
