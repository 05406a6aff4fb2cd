//! What it takes to make one broker of another: a difference by name.

use api::{BrokerConfig, MapConfig, SourceConfig, TargetConfig};

/// What becomes of each part of the wanted broker, in its order, and what goes of the old one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The sources.
    pub sources: Vec<Fate>,
    /// The maps.
    pub maps: Vec<Fate>,
    /// The targets.
    pub targets: Vec<Fate>,
    /// One line for each thing that is added, changed or removed.
    pub changes: Vec<String>,
}

/// What becomes of a part; positions are those of the old broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on as it is.
    Keep(usize),
    /// It goes on, with another filter or other stages.
    Renew(usize),
    /// It is opened, as it is new or another one.
    Open,
}

/// How far two parts of one name are the same.
enum Likeness {
    Same,
    /// But for their filters and stages.
    Core,
    Other,
}

impl Plan {
    /// From a broker to another one.
    pub fn new(old: &BrokerConfig, new: &BrokerConfig) -> Plan {
        let mut changes = Vec::new();
        let sources =
            fates("source", &old.sources, &new.sources, |s| &s.name, source, &mut changes);
        let targets =
            fates("target", &old.targets, &new.targets, |t| &t.name, target, &mut changes);
        let maps = fates("map", &old.maps, &new.maps, |m| &m.name, map, &mut changes);
        for (map, fate) in new.maps.iter().zip(&maps) {
            if let Fate::Keep(place) = fate {
                let before = &old.maps[*place];
                if (&before.from, &before.to) != (&map.from, &map.to) {
                    let (from, to) = (map.from.join(", "), map.to.join(", "));
                    changes.push(format!("map {}: now from {from} to {to}", map.name));
                }
            }
        }
        Plan { sources, maps, targets, changes }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

fn fates<T>(
    kind: &str,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &String,
    likeness: impl Fn(&T, &T) -> Likeness,
    changes: &mut Vec<String>,
) -> Vec<Fate> {
    let fate = |part: &T| {
        let Some(place) = old.iter().position(|before| name(before) == name(part)) else {
            changes.push(format!("{kind} {}: added", name(part)));
            return Fate::Open;
        };
        match likeness(&old[place], part) {
            Likeness::Same => Fate::Keep(place),
            Likeness::Core => {
                changes.push(format!("{kind} {}: other filter or stages", name(part)));
                Fate::Renew(place)
            }
            Likeness::Other => {
                changes.push(format!("{kind} {}: opened anew", name(part)));
                Fate::Open
            }
        }
    };
    let fates = new.iter().map(fate).collect();
    for gone in old.iter().filter(|part| !new.iter().any(|kept| name(kept) == name(part))) {
        changes.push(format!("{kind} {}: removed", name(gone)));
    }
    fates
}

fn source(old: &SourceConfig, new: &SourceConfig) -> Likeness {
    match (old.origin == new.origin, old.stages == new.stages) {
        (true, true) => Likeness::Same,
        (true, false) => Likeness::Core,
        (false, _) => Likeness::Other,
    }
}

fn map(old: &MapConfig, new: &MapConfig) -> Likeness {
    let front = old.filter == new.filter && old.stages == new.stages;
    match (old.history == new.history, front) {
        (true, true) => Likeness::Same,
        (true, false) => Likeness::Core,
        (false, _) => Likeness::Other,
    }
}

fn target(old: &TargetConfig, new: &TargetConfig) -> Likeness {
    let core = (&old.to, old.queue, old.sending, old.balance)
        == (&new.to, new.queue, new.sending, new.balance);
    // With which packet it begins is of no matter once it has begun.
    match (core, old.filter == new.filter && old.stages == new.stages) {
        (true, true) => Likeness::Same,
        (true, false) => Likeness::Core,
        (false, _) => Likeness::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{
        Balance, FilterConfig, Origin, Pace, QueueConfig, QueueSize, Sending, StageConfig,
        StageKind, Start,
    };

    fn broker() -> BrokerConfig {
        let source = |name: &str| SourceConfig {
            name: name.into(),
            origin: Origin::File { path: name.into(), pace: Pace::Max },
            stages: Vec::new(),
        };
        let target = |name: &str| TargetConfig {
            name: name.into(),
            to: "null:".parse().unwrap(),
            filter: FilterConfig::All,
            stages: Vec::new(),
            queue: QueueConfig::default(),
            sending: Sending::default(),
            balance: Balance::default(),
            start: Start::Now,
        };
        let map = |name: &str| MapConfig {
            name: name.into(),
            from: vec!["a".into(), "b".into()],
            filter: FilterConfig::All,
            stages: Vec::new(),
            to: vec!["x".into()],
            history: 0,
        };
        BrokerConfig {
            sources: vec![source("a"), source("b")],
            maps: vec![map("m"), map("n")],
            targets: vec![target("x"), target("y")],
        }
    }

    #[test]
    fn what_is_alike_is_kept_wherever_it_stands() {
        let (old, mut new) = (broker(), broker());
        assert!(Plan::new(&old, &new).is_empty());
        new.sources.reverse();
        new.targets.reverse();
        new.targets[0].start = Start::Oldest;
        let plan = Plan::new(&old, &new);
        assert!(plan.is_empty(), "{:?}", plan.changes);
        assert_eq!(plan.sources, [Fate::Keep(1), Fate::Keep(0)]);
        assert_eq!(plan.targets, [Fate::Keep(1), Fate::Keep(0)]);
    }

    #[test]
    fn a_change_touches_as_little_as_it_can() {
        let (old, mut new) = (broker(), broker());
        let stage =
            StageConfig { name: "cut".into(), kind: StageKind::Slice { bytes: 64, after: None } };
        new.sources[0].stages.push(stage.clone());
        new.maps[0].filter = FilterConfig::Expression("tcp".into());
        new.maps[1].to = vec!["y".into()];
        new.targets[0].stages.push(stage);
        new.targets[1].queue.size = QueueSize::Packets(7);
        let plan = Plan::new(&old, &new);
        assert_eq!(plan.sources, [Fate::Renew(0), Fate::Keep(1)]);
        assert_eq!(plan.maps, [Fate::Renew(0), Fate::Keep(1)]);
        assert_eq!(plan.targets, [Fate::Renew(0), Fate::Open]);
        let expected = [
            "source a: other filter or stages",
            "target x: other filter or stages",
            "target y: opened anew",
            "map m: other filter or stages",
            "map n: now from a, b to y",
        ];
        assert_eq!(plan.changes, expected);
    }

    #[test]
    fn what_comes_and_goes_is_told() {
        let (old, mut new) = (broker(), broker());
        new.sources[1].name = "c".into();
        new.maps.pop();
        let plan = Plan::new(&old, &new);
        assert_eq!(plan.sources, [Fate::Keep(0), Fate::Open]);
        assert_eq!(plan.changes, ["source c: added", "source b: removed", "map n: removed"]);
        let all = Plan::new(&BrokerConfig::default(), &old);
        assert_eq!(all.changes.len(), 6);
        assert!(all.sources.iter().all(|fate| *fate == Fate::Open));
    }
}
