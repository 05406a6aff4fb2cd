//! A mistake in a broker, and which part of it is about.

use super::{BrokerConfig, Name};
use std::fmt;

/// A part of a broker, by its place in the list of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A source.
    Source(usize),
    /// A map.
    Map(usize),
    /// A target.
    Target(usize),
}

impl Part {
    /// What its kind is called in files and messages.
    pub const fn kind(self) -> &'static str {
        match self {
            Part::Source(_) => "source",
            Part::Map(_) => "map",
            Part::Target(_) => "target",
        }
    }
}

/// What is wrong with a broker whose parts are each well-formed: what they say of each other, or of the
/// host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerMistake {
    /// The part that is to be mended.
    pub part: Part,
    /// Its name.
    pub name: Name,
    /// The key of a file at which it is to be mended.
    pub key: &'static str,
    /// Which of the key's values, from 0, if it is a list.
    pub item: usize,
    /// What is wrong, with the mend.
    pub reason: String,
}

impl BrokerMistake {
    /// A mistake at a key of a part.
    pub fn new(
        broker: &BrokerConfig,
        part: Part,
        key: &'static str,
        reason: impl Into<String>,
    ) -> BrokerMistake {
        let name = match part {
            Part::Source(n) => broker.sources.get(n).map(|source| &source.name),
            Part::Map(n) => broker.maps.get(n).map(|map| &map.name),
            Part::Target(n) => broker.targets.get(n).map(|target| &target.name),
        };
        let name = name.cloned().unwrap_or_default();
        BrokerMistake { part, name, key, item: 0, reason: reason.into() }
    }

    /// The same at another value of the key's list.
    pub fn at(self, item: usize) -> BrokerMistake {
        BrokerMistake { item, ..self }
    }
}

impl fmt::Display for BrokerMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.part.kind(), self.name, self.reason)
    }
}

impl std::error::Error for BrokerMistake {}
