//! What a broker would do.

use super::{Findings, MistakeFinding, PartFinding, host, words};
use crate::broker::WantedBroker;
use api::{
    BrokerConfig, BrokerMistake, FilterConfig, Group, Health, MapConfig, Origin, Part,
    SourceConfig, StageConfig, StageKind, Start, TargetConfig,
};

/// Bytes of a VLAN tag.
const TAG_LEN: usize = 4;

/// Looks at all parts of a broker.
pub fn check(wanted: &WantedBroker) -> Findings {
    let broker = &wanted.config;
    let mut findings = Findings { kind: "broker", ..Findings::default() };
    let mut mistakes = Vec::new();
    let mut frames = Vec::new();
    for (n, source) in broker.sources.iter().enumerate() {
        match self::source(source, &mut findings) {
            Ok(longest) => frames.push(longest.map(|bytes| bytes + tags(&source.stages))),
            Err((key, reason)) => {
                frames.push(None);
                mistakes.push(BrokerMistake::new(broker, Part::Source(n), key, reason));
            }
        }
    }
    for map in &broker.maps {
        self::map(map, &mut findings);
    }
    for (n, target) in broker.targets.iter().enumerate() {
        let longest = longest(broker, target, &frames);
        for (item, reason) in self::target(target, longest, &mut findings) {
            mistakes.push(BrokerMistake::new(broker, Part::Target(n), "to", reason).at(item));
        }
    }
    findings.ways = ways(broker);
    findings.mistakes = mistakes.iter().map(|mistake| told(wanted, mistake)).collect();
    findings
}

fn told(wanted: &WantedBroker, mistake: &BrokerMistake) -> MistakeFinding {
    let place = wanted.place(mistake);
    let message = wanted.told(mistake).message().unwrap_or_default().to_owned();
    MistakeFinding { line: place.map(|(line, _)| line), column: place.map(|(_, c)| c), message }
}

/// Says what a source is; returns its longest frame, or which key is wrong and why.
fn source(
    source: &SourceConfig,
    findings: &mut Findings,
) -> Result<Option<usize>, (&'static str, String)> {
    let mut part = PartFinding::new("source", &source.name);
    part.set("from", words::origin(&source.origin));
    let result = match &source.origin {
        Origin::Interface { interface, .. } => {
            let found = host::tapped(interface, &mut findings.warnings);
            match found {
                Ok((state, longest)) => {
                    part.set("interface", state);
                    Ok(longest)
                }
                Err(reason) => Err(("interface", reason)),
            }
        }
        Origin::File { path, .. } if path.as_os_str() != "-" => match std::fs::File::open(path) {
            Ok(_) => Ok(None),
            Err(error) => Err(("read", format!("{}: {error}", path.display()))),
        },
        _ => Ok(None),
    };
    if !source.stages.is_empty() {
        part.set("stages", words::stages(&source.stages));
    }
    findings.parts.push(part);
    result
}

fn map(map: &MapConfig, findings: &mut Findings) {
    let mut part = PartFinding::new("map", &map.name);
    part.set("from", map.from.join(", "));
    part.set("keeps", words::filter(&map.filter));
    if !map.stages.is_empty() {
        part.set("stages", words::stages(&map.stages));
    }
    part.set("to", map.to.join(", "));
    if map.history > 0 {
        part.set(
            "history",
            format!("{} bytes for targets that begin with the oldest", map.history),
        );
    }
    findings.parts.push(part);
}

/// Says what a target is; returns which of its endpoints cannot be, and why.
fn target(
    target: &TargetConfig,
    longest: Option<(&str, usize)>,
    findings: &mut Findings,
) -> Vec<(usize, String)> {
    let mut part = PartFinding::new("target", &target.name);
    let mut mistakes = Vec::new();
    let Group(members) = &target.to;
    for (item, member) in members.iter().enumerate() {
        match host::target(member, target.sending, longest, &mut findings.warnings) {
            Ok(state) => part.set("to", state + &health(member.membership().health.as_ref())),
            Err(reason) => {
                part.set("to", member.to_string());
                mistakes.push((item, reason));
            }
        }
    }
    if members.len() > 1 {
        let key = target.balance.key.name();
        let none = if target.balance.fail_open { "all are used" } else { "packets are dropped" };
        part.set("balance", format!("by {key}; if none is healthy, {none}"));
    }
    if target.filter != FilterConfig::All {
        part.set("keeps", words::filter(&target.filter));
    }
    if !target.stages.is_empty() {
        part.set("stages", words::stages(&target.stages));
    }
    part.set("queue", words::queue(&target.queue));
    if members.iter().any(|member| member.tunnel().is_some()) {
        part.set("tunnels", words::sending(&target.sending));
    }
    if target.start == Start::Oldest {
        part.set("begins", "with the oldest packet that its maps have kept");
    }
    findings.parts.push(part);
    mistakes
}

fn health(health: Option<&Health>) -> String {
    let Some(health) = health else {
        return String::new();
    };
    format!(", health {} every {} ms", health.check, health.interval.as_millis())
}

/// Bytes that stages add to each packet at most.
fn tags(stages: &[StageConfig]) -> usize {
    let pushes = |stage: &&StageConfig| {
        matches!(
            stage.kind,
            StageKind::VlanPush { .. } | StageKind::VlanReplace { or_push: true, .. }
        )
    };
    stages.iter().filter(pushes).count() * TAG_LEN
}

/// What stages leave of the longest packet.
fn left(bytes: usize, stages: &[StageConfig]) -> usize {
    let sliced = stages.iter().filter_map(|stage| match stage.kind {
        StageKind::Slice { bytes, after: None } => Some(bytes as usize),
        _ => None,
    });
    sliced.min().map_or(bytes, |least| bytes.min(least))
}

/// The longest frame that may come to a target, and from which source.
fn longest<'a>(
    broker: &'a BrokerConfig,
    target: &TargetConfig,
    frames: &[Option<usize>],
) -> Option<(&'a str, usize)> {
    let mut longest: Option<(&str, usize)> = None;
    for map in broker.maps.iter().filter(|map| map.to.contains(&target.name)) {
        for (source, bytes) in broker.sources.iter().zip(frames) {
            let Some(bytes) = bytes.filter(|_| map.from.contains(&source.name)) else {
                continue;
            };
            let bytes = bytes + tags(&map.stages) + tags(&target.stages);
            let bytes = left(left(left(bytes, &source.stages), &map.stages), &target.stages);
            if longest.is_none_or(|(_, most)| bytes > most) {
                longest = Some((&source.name, bytes));
            }
        }
    }
    longest
}

/// Each way that packets take.
fn ways(broker: &BrokerConfig) -> Vec<Vec<String>> {
    let mut ways = Vec::new();
    for map in &broker.maps {
        for source in broker.sources.iter().filter(|source| map.from.contains(&source.name)) {
            for target in broker.targets.iter().filter(|target| map.to.contains(&target.name)) {
                let mut way = vec![format!("source {}", source.name)];
                way.extend(names(&source.stages));
                way.push(format!("map {}{}", map.name, kept(&map.filter)));
                way.extend(names(&map.stages));
                way.push(format!("target {}{}", target.name, kept(&target.filter)));
                way.extend(names(&target.stages));
                let Group(members) = &target.to;
                let members: Vec<String> = members.iter().map(ToString::to_string).collect();
                way.push(match members.len() {
                    1 => members.concat(),
                    _ => format!("one of {}", members.join(", ")),
                });
                ways.push(way);
            }
        }
    }
    ways
}

fn names(stages: &[StageConfig]) -> impl Iterator<Item = String> + '_ {
    stages.iter().map(|stage| stage.name.clone())
}

fn kept(filter: &FilterConfig) -> String {
    match filter {
        FilterConfig::All => String::new(),
        filter => format!(" ({})", words::filter(filter)),
    }
}
