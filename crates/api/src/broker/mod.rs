//! What a broker is made of: named sources, targets, and the maps that join them.
//!
//! ```text
//! source ─ its stages ─┬─ map: filter, stages ─┬─ target: filter, stages ─ queue ─ one of its members
//! source ─ its stages ─┘                       └─ target: …
//! ```
//! Passive data: two of them are compared by name, and what did not change keeps running.

mod balance;
mod mistake;
mod stage;
mod whole;
mod words;

pub use balance::{Balance, Check, FlowKey, Health};
pub use mistake::{BrokerMistake, Part};
pub use stage::{
    Action, Anchor, AnonymizeKey, AnonymizeKeyError, DedupIgnore, Layer, StageConfig, StageKind,
    Tags, Tpid,
};
pub(crate) use words::QUEUE_BYTES_MAX;

use crate::{DirectionChoice, FilterConfig, Group, RingSize, Sending, TunnelEndpoint};
use std::path::PathBuf;

/// The name of a broker's source, map, target or stage in the ledger, in files and on the screen.
pub type Name = String;

/// A broker.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BrokerConfig {
    /// Where packets come from.
    pub sources: Vec<SourceConfig>,
    /// Which of them go where.
    pub maps: Vec<MapConfig>,
    /// Where they go to.
    pub targets: Vec<TargetConfig>,
}

/// A source of a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// Its name, unlike that of any other source.
    pub name: Name,
    /// Where its packets come from.
    pub origin: Origin,
    /// What is done with each of its packets, before any map.
    pub stages: Vec<StageConfig>,
}

/// Where a source's packets come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// A network interface.
    Interface {
        /// Its name.
        interface: String,
        /// Which of its packets.
        direction: DirectionChoice,
        /// Whether it takes frames for other hosts too.
        promiscuous: bool,
        /// The kernel's ring.
        buffer_size: RingSize,
    },
    /// Tunnels that end at this host.
    Tunnels {
        /// Where it listens.
        listen: Vec<TunnelEndpoint>,
        /// Layers of tunnels that packets are taken out of; 0: none, [`u8::MAX`]: every one.
        layers: u8,
        /// The ring, or each socket's receive buffer, bytes.
        buffer_bytes: u64,
    },
    /// A capture file that is played.
    File {
        /// The file; `-` is standard input.
        path: PathBuf,
        /// How fast.
        pace: Pace,
    },
}

/// How fast a file is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as the targets take it: none of them loses anything.
    Max,
    /// So many times as fast as it was recorded; 1.0: at the original times.
    Times(f64),
}

/// Which packets go from where to where.
#[derive(Debug, Clone, PartialEq)]
pub struct MapConfig {
    /// Its name, unlike that of any other map.
    pub name: Name,
    /// The sources whose packets it takes. At least one.
    pub from: Vec<Name>,
    /// Which of their packets.
    pub filter: FilterConfig,
    /// What is done with those.
    pub stages: Vec<StageConfig>,
    /// The targets that get what is left; each gets all of it. At least one.
    pub to: Vec<Name>,
    /// Bytes of packets that are kept for targets that begin with the oldest ones ([`Start::Oldest`]);
    /// 0: none.
    pub history: u64,
}

/// A target of a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetConfig {
    /// Its name, unlike that of any other target.
    pub name: Name,
    /// Its members, which share the load.
    pub to: Group,
    /// Which packets it wants of those that maps send it.
    pub filter: FilterConfig,
    /// What is done with those.
    pub stages: Vec<StageConfig>,
    /// What may wait for each of its members.
    pub queue: QueueConfig,
    /// How its packets go into tunnels.
    pub sending: Sending,
    /// How its members share the load.
    pub balance: Balance,
    /// With which packet it begins when it is added to a running broker.
    pub start: Start,
}

/// The queue before a target: what it cannot take at once waits there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfig {
    /// Its bound.
    pub size: QueueSize,
    /// What is dropped at the bound.
    pub overflow: Overflow,
}

/// A bound of a queue. Not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueSize {
    /// Memory, packets' bookkeeping included.
    Bytes(u64),
    /// Packets of any size.
    Packets(u64),
}

/// What is dropped when a queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// What has waited longest: the target sees the present.
    DropOldest,
    /// What comes: the target sees everything up to the overload.
    DropNewest,
}

/// With which packet a new target begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With the next one.
    #[default]
    Now,
    /// With the oldest one that its maps have kept.
    Oldest,
}

/// Memory of a queue unless its size is set.
pub const QUEUE_BYTES: u64 = 16 << 20;

impl Default for QueueConfig {
    fn default() -> QueueConfig {
        QueueConfig { size: QueueSize::Bytes(QUEUE_BYTES), overflow: Overflow::DropOldest }
    }
}
