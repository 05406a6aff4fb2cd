//! A broker without a file: `--in SOURCE` and `--out ENDPOINT[,ENDPOINT…]`.
//!
//! ```text
//! nic:IF[,name=…][,vlan=N][,direction=both|in|out][,promiscuous=on|off][,buffer_size=SIZE]
//! pcap:FILE[,name=…][,vlan=N][,speed=original|max|xN]
//! vxlan://ADDRESS[:PORT][?vni=N][,name=…][,vlan=N][,decap=0|N|all][,buffer_size=SIZE]
//! ```

use super::parts::{LISTEN_BUFFER_BYTES, cut, tag};
use super::stage::VID_MAX;
use crate::broker::{
    BrokerConfig, BrokerMistake, MapConfig, Origin, Pace, QueueConfig, SourceConfig, Start,
    TargetConfig,
};
use crate::file::{Spelling, nearest};
use crate::{
    DirectionChoice, Endpoint, Error, FilterConfig, Group, RingSize, Sending, parse_buffer_size,
};

/// The name of the one map.
const MAP: &str = "all";

/// What all targets of a broker without a file have alike.
#[derive(Debug, Clone)]
pub struct EveryTarget {
    /// What may wait for each.
    pub queue: QueueConfig,
    /// How packets go into tunnels.
    pub sending: Sending,
    /// Bytes kept of each packet; 0: all.
    pub snapshot_length: u32,
}

impl BrokerConfig {
    /// Every packet of the sources that the filter keeps, to each of the targets.
    ///
    /// # Errors
    /// As [`BrokerConfig::check`].
    pub fn of_all(
        sources: Vec<SourceConfig>,
        targets: Vec<Group>,
        every: &EveryTarget,
        filter: FilterConfig,
    ) -> Result<BrokerConfig, BrokerMistake> {
        let target = |(name, to): (String, Group)| TargetConfig {
            name,
            balance: to.balance(),
            to,
            filter: FilterConfig::All,
            stages: Some(every.snapshot_length).filter(|&n| n > 0).map(cut).into_iter().collect(),
            queue: every.queue,
            sending: every.sending,
            start: Start::Now,
        };
        let names = names(&targets);
        let targets: Vec<TargetConfig> = names.into_iter().zip(targets).map(target).collect();
        let mut sources = sources;
        let to: Vec<String> = targets.iter().map(|target| target.name.clone()).collect();
        let map = |name: &str, from, stages| MapConfig {
            name: name.into(),
            from,
            filter: filter.clone(),
            stages,
            to: to.clone(),
            history: 0,
        };
        // The filter is for packets as they come, so tags are put on behind it: that takes a map for
        // each source.
        let maps = match sources.iter().all(|source| source.stages.is_empty()) {
            true => {
                let from = sources.iter().map(|source| source.name.clone()).collect();
                vec![map(MAP, from, Vec::new())]
            }
            false => {
                let of = |source: &mut SourceConfig| {
                    let stages = std::mem::take(&mut source.stages);
                    map(&source.name, vec![source.name.clone()], stages)
                };
                sources.iter_mut().map(of).collect()
            }
        };
        let broker = BrokerConfig { sources, maps, targets };
        broker.check()?;
        Ok(broker)
    }
}

/// What the targets are called: `null:` may be there more than once.
fn names(targets: &[Group]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for Group(members) in targets {
        let members: Vec<String> = members.iter().map(Endpoint::canonical).collect();
        let name = members.join(",");
        let so_far = names.iter().filter(|other| other.split(' ').next() == Some(&name)).count();
        names.push(if so_far == 0 { name } else { format!("{name} {}", so_far + 1) });
    }
    names
}

/// Reads a source as `--in` has it.
///
/// # Errors
/// [`Error::Endpoint`] with the mend.
pub fn parse_source(text: &str) -> Result<SourceConfig, Error> {
    let fail = |reason: String| Error::Endpoint { text: text.into(), reason };
    let (place, pairs) = parts(text);
    let mut origin = origin(place)?;
    let known: &[&str] = match origin {
        Origin::Interface { .. } => &["name", "vlan", "direction", "promiscuous", "buffer_size"],
        Origin::File { .. } => &["name", "vlan", "speed"],
        Origin::Tunnels { .. } => &["name", "vlan", "decap", "buffer_size"],
    };
    let (mut name, mut stages, mut seen) = (None, Vec::new(), Vec::new());
    for (key, value) in pairs {
        if !known.contains(&key) {
            let mend = nearest(key, known, Spelling::Snake);
            return Err(fail(format!("it has no `{key}`; {mend}")));
        }
        if seen.contains(&key) {
            return Err(fail(format!("`{key}` is given twice")));
        }
        seen.push(key);
        match key {
            "name" if value.trim().is_empty() || value.contains(char::is_control) => {
                return Err(fail("a name is some text without control characters".into()));
            }
            "name" => name = Some(value.to_owned()),
            "vlan" => {
                let vid = value.parse().ok().filter(|&vid: &u16| vid <= VID_MAX);
                let mend = || fail(format!("vlan `{value}` is no VLAN; write 0 to {VID_MAX}"));
                stages.push(tag(vid.ok_or_else(mend)?));
            }
            _ => set(&mut origin, key, value).map_err(fail)?,
        }
    }
    let name = name.unwrap_or_else(|| match &origin {
        Origin::Interface { interface, .. } => interface.clone(),
        Origin::File { path, .. } => path.display().to_string(),
        Origin::Tunnels { .. } => place.to_owned(),
    });
    Ok(SourceConfig { name, origin, stages })
}

/// The place, and what is set behind it: from the right as long as it has the form of a setting, as
/// files may have commas in their names.
fn parts(text: &str) -> (&str, Vec<(&str, &str)>) {
    let (mut place, mut pairs) = (text, Vec::new());
    while let Some((before, last)) = place.rsplit_once(',')
        && let Some((key, value)) = last.split_once('=')
        && !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    {
        pairs.push((key, value));
        place = before;
    }
    pairs.reverse();
    (place, pairs)
}

fn origin(place: &str) -> Result<Origin, Error> {
    let no_setting = |reason: &str| Error::Endpoint { text: place.into(), reason: reason.into() };
    Ok(match place.parse()? {
        Endpoint::Nic { interface, .. } if interface.contains(',') => {
            return Err(no_setting("behind a comma stands KEY=VALUE; write one --in for each"));
        }
        Endpoint::Nic { interface, .. } => Origin::Interface {
            interface,
            direction: DirectionChoice::Both,
            promiscuous: true,
            buffer_size: RingSize::Auto,
        },
        Endpoint::Pcap { path } => Origin::File { path, pace: Pace::Times(1.0) },
        Endpoint::Tunnel(tunnel) => {
            Origin::Tunnels { listen: vec![tunnel], layers: 1, buffer_bytes: LISTEN_BUFFER_BYTES }
        }
        Endpoint::Tap { .. } | Endpoint::Null => {
            return Err(no_setting(
                "no packets come from there; write nic:IF, pcap:FILE, or where to listen, such as \
                 vxlan://0.0.0.0?vni=N",
            ));
        }
    })
}

/// Sets what only some sources have; the key is one of them.
fn set(origin: &mut Origin, key: &str, value: &str) -> Result<(), String> {
    match (origin, key) {
        (Origin::File { pace, .. }, _) => *pace = value.parse()?,
        (Origin::Interface { direction, .. }, "direction") => {
            *direction = match value {
                "both" => DirectionChoice::Both,
                "in" => DirectionChoice::In,
                "out" => DirectionChoice::Out,
                _ => return Err(format!("direction `{value}`: write both, in or out")),
            };
        }
        (Origin::Interface { promiscuous, .. }, "promiscuous") => {
            *promiscuous = match value {
                "on" | "true" => true,
                "off" | "false" => false,
                _ => return Err(format!("promiscuous `{value}`: write on or off")),
            };
        }
        (Origin::Interface { buffer_size, .. }, _) => {
            *buffer_size = match value {
                "auto" => RingSize::Auto,
                _ => RingSize::Bytes(size(value)? as usize),
            };
        }
        (Origin::Tunnels { layers, .. }, "decap") => {
            *layers = match (value, value.parse()) {
                ("all", _) => u8::MAX,
                (_, Ok(layers)) if layers < u8::MAX => layers,
                _ => return Err(format!("decap `{value}`: write 0 to 254, or all")),
            };
        }
        (Origin::Tunnels { buffer_bytes, .. }, _) => *buffer_bytes = size(value)?,
    }
    Ok(())
}

fn size(value: &str) -> Result<u64, String> {
    parse_buffer_size(value).map_err(|error| error.to_string())
}
