//! The file of `tapline broker -c`: sources, stages, targets, and the maps that join them.
//!
//! ```toml
//! [[source]]
//! name = "left"                               # default: the interface, the file, or where it listens
//! interface = "eth1"                          # or listen = ["vxlan://0.0.0.0?vni=71"], or read = "in.pcapng"
//! vlan = 100                                  # every packet gets this tag
//!
//! [[stage]]
//! name = "dedup-10ms"
//! type = "dedup"
//! window = "10ms"
//!
//! [[target]]
//! name = "ids"                                # default: its endpoints
//! to = ["nic:eth3", "nic:eth4"]               # they share the load
//! expression = "tcp"                          # or rules = "ids.toml", or [[target.rule]]
//! queue = "64MB"                              # or "1000 packets"
//! overflow = "drop_oldest"                    # or "drop_newest"
//!
//! [[map]]
//! from = ["left"]
//! to = ["ids"]
//! stages = ["dedup-10ms"]
//! ```
//!
//! Paths are relative to the file's folder. All keys are in `docs/broker.md`.

mod parts;
mod short;
mod stage;
#[cfg(test)]
mod tests;
mod value;

pub use short::{EveryTarget, parse_source};

use crate::broker::{BrokerConfig, BrokerMistake, Part};
use crate::file::{self, Fault, FileError, Node, Spelling, Table, Value};
use crate::keys::Wrong;
use parts::Stages;
use std::path::Path;

/// Bytes that a broker's file may have.
const BYTES_MAX: u64 = 64 << 20;

const FILE: [&str; 4] = ["source", "stage", "target", "map"];

/// A broker as a file says it, and where in the file.
#[derive(Debug, Clone)]
pub struct BrokerFile {
    /// What it says.
    pub config: BrokerConfig,
    name: String,
    content: Vec<u8>,
    places: Vec<Place>,
}

/// Where a value of a part stands.
#[derive(Debug, Clone)]
struct Place {
    part: Part,
    /// Its key; empty for the part itself.
    key: String,
    /// Which value of a list, from 0.
    item: usize,
    at: usize,
}

impl BrokerFile {
    /// Reads a file, and the files of rules and keys that it names.
    ///
    /// # Errors
    /// A file cannot be read, or the first mistake in one, with its place.
    pub fn open(path: &Path) -> Result<BrokerFile, FileError> {
        let content = file::read(path, BYTES_MAX, "write rules into files of their own")?;
        BrokerFile::parse(path, &content)
    }

    /// Reads a file's content; `path` is what messages call it, and its folder what paths in it are
    /// relative to.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn parse(path: &Path, content: &[u8]) -> Result<BrokerFile, FileError> {
        let name = path.display().to_string();
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut places = Vec::new();
        let config =
            read(content, folder, &mut places).map_err(|wrong| wrong.of(&name, content))?;
        let file = BrokerFile { config, name, content: content.to_vec(), places };
        file.config.check().map_err(|mistake| file.told(&mistake))?;
        Ok(file)
    }

    /// A mistake with its place in this file.
    pub fn told(&self, mistake: &BrokerMistake) -> FileError {
        let of_part = |place: &&Place| place.part == mistake.part;
        let find = |key: &str, item| {
            let mut places = self.places.iter().filter(of_part);
            places.find(|place| place.key == key && place.item == item).map(|place| place.at)
        };
        let at = find(mistake.key, mistake.item)
            .or_else(|| find(mistake.key, 0))
            .or_else(|| find("", 0));
        let (kind, name) = (mistake.part.kind(), &mistake.name);
        FileError::new(&self.name, &self.content, at, format!("{kind} {name}: {}", mistake.reason))
    }

    /// Whether a file's content is one of a broker, by the names that its tables have; mistakes aside.
    pub fn is_meant(content: &[u8]) -> bool {
        let root = file::text(content, "").and_then(file::from_toml);
        let Ok(Node { value: Value::Table(entries), .. }) = root else {
            return false;
        };
        entries.iter().any(|(_, name, _)| FILE.contains(&name.as_str()))
    }
}

fn read(content: &[u8], folder: &Path, places: &mut Vec<Place>) -> Result<BrokerConfig, Wrong> {
    let root = file::from_toml(file::text(content, "a broker's file is TOML")?)?;
    let file = Table::new(&root, "the file", &FILE, Spelling::Snake)?;
    let tables = |kind| tables(&file, kind);
    let mut stages = Stages::default();
    for node in tables("stage")? {
        stages.add(node.at, stage::read(node, folder)?)?;
    }
    let mut broker = BrokerConfig::default();
    for (n, node) in tables("source")?.iter().enumerate() {
        broker.sources.push(parts::source(node, folder, &mut stages)?);
        places.extend(places_of(Part::Source(n), node));
    }
    for (n, node) in tables("map")?.iter().enumerate() {
        broker.maps.push(parts::map(node, folder, &mut stages)?);
        places.extend(places_of(Part::Map(n), node));
    }
    for (n, node) in tables("target")?.iter().enumerate() {
        broker.targets.push(parts::target(node, folder, &mut stages)?);
        places.extend(places_of(Part::Target(n), node));
    }
    for (kind, is_empty) in [
        ("source", broker.sources.is_empty()),
        ("target", broker.targets.is_empty()),
        ("map", broker.maps.is_empty()),
    ] {
        if is_empty {
            let reason = format!("it has no {kind}; begin one with [[{kind}]]");
            return Err(Fault { at: None, reason }.into());
        }
    }
    stages.all_are_used()?;
    Ok(broker)
}

/// The tables of a kind.
fn tables<'a>(file: &Table<'a>, kind: &'static str) -> Result<&'a [Node], Fault> {
    match file.get(kind) {
        None => Ok(&[]),
        Some((_, Node { value: Value::Array(tables), .. })) => Ok(tables),
        Some((at, node)) => {
            let value = node.value.kind();
            Err(Fault::new(at, format!("{kind} is {value}; write [[{kind}]], once for each")))
        }
    }
}

/// Where a part stands, its keys, and their values.
fn places_of(part: Part, node: &Node) -> Vec<Place> {
    let place = |key: &str, item, at| Place { part, key: key.to_owned(), item, at };
    let mut places = vec![place("", 0, node.at)];
    let Value::Table(entries) = &node.value else {
        return places;
    };
    for (_, key, node) in entries {
        match &node.value {
            Value::Array(items) if !items.is_empty() => {
                let items = items.iter().enumerate();
                places.extend(items.map(|(item, node)| place(key, item, node.at)));
            }
            _ => places.push(place(key, 0, node.at)),
        }
    }
    places
}
