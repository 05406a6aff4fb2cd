//! Which broker a command line wants: that of a file, or what the line itself says.

use crate::cli::BrokerShort;
use crate::failure::Failure;
use crate::loops;
use crate::opened::{compiles, filter_config};
use api::{
    BrokerConfig, BrokerFile, BrokerMistake, Endpoint, EveryTarget, Origin, Part, QueueConfig,
};
use io::offloads::Offloads;
use io::ring::ANY;
use std::path::Path;

/// A broker that is wanted, and where it is written.
#[derive(Debug)]
pub struct WantedBroker {
    pub config: BrokerConfig,
    file: Option<BrokerFile>,
}

impl WantedBroker {
    /// Reads a broker, from a file or from what stands in its place, and makes sure that its expressions
    /// make sense and none of its targets feeds one of its sources.
    ///
    /// # Errors
    /// The file cannot be read, or the first mistake, with its place in the file.
    pub fn read(file: Option<&Path>, short: &BrokerShort) -> Result<WantedBroker, Failure> {
        let wanted = match file {
            Some(path) => {
                let file = BrokerFile::open(path)?;
                WantedBroker { config: file.config.clone(), file: Some(file) }
            }
            None => WantedBroker { config: of_short(short)?, file: None },
        };
        filters_make_sense(&wanted.config).map_err(|mistake| wanted.told(&mistake))?;
        loops::of_broker(&wanted.config).map_err(|mistake| wanted.told(&mistake))?;
        Ok(wanted)
    }

    /// Makes sure that all interfaces are there, for a broker that begins: one that runs waits for those
    /// that have gone.
    ///
    /// # Errors
    /// One is not, with its place in the file and those that are.
    pub fn interfaces_are_there(&self) -> Result<(), Failure> {
        let sources = self.config.sources.iter().enumerate();
        let tapped = sources.filter_map(|(n, source)| match &source.origin {
            Origin::Interface { interface, .. } if interface != ANY => {
                Some((Part::Source(n), "interface", 0, interface))
            }
            _ => None,
        });
        let targets = self.config.targets.iter().enumerate();
        let members = targets.flat_map(|(n, target)| {
            target.to.0.iter().enumerate().map(move |(item, member)| (n, item, member))
        });
        let fed = members.filter_map(|(n, item, member)| match member {
            Endpoint::Nic { interface, .. } => Some((Part::Target(n), "to", item, interface)),
            _ => None,
        });
        for (part, key, item, interface) in tapped.chain(fed) {
            if let Err(error) = Offloads::read(interface) {
                let mistake = BrokerMistake::new(&self.config, part, key, error.to_string());
                let told = self.told(&mistake.at(item));
                return Err(Failure::CouldNot(told.message().unwrap_or_default().into()));
            }
        }
        Ok(())
    }

    /// A mistake with its place, if it has one.
    pub fn told(&self, mistake: &BrokerMistake) -> Failure {
        match &self.file {
            Some(file) => Failure::Usage(file.told(mistake).to_string()),
            None => Failure::Usage(mistake.to_string()),
        }
    }

    /// The line and the column of a mistake, from 1.
    pub fn place(&self, mistake: &BrokerMistake) -> Option<(usize, usize)> {
        self.file.as_ref()?.told(mistake).place
    }
}

fn of_short(short: &BrokerShort) -> Result<BrokerConfig, Failure> {
    let default = QueueConfig::default();
    let every = EveryTarget {
        queue: QueueConfig {
            size: short.queue.unwrap_or(default.size),
            overflow: short.overflow.unwrap_or(default.overflow),
        },
        sending: short.sending.into(),
        snapshot_length: short.snapshot_length,
    };
    let filter = filter_config(short.rules.as_deref(), &short.expression)?;
    BrokerConfig::of_all(short.sources.clone(), short.targets.clone(), &every, filter)
        .map_err(|mistake| Failure::Usage(mistake.to_string()))
}

/// The first expression that makes no sense.
fn filters_make_sense(broker: &BrokerConfig) -> Result<(), BrokerMistake> {
    let maps = broker.maps.iter().enumerate().map(|(n, map)| (Part::Map(n), &map.filter));
    let targets = broker.targets.iter().enumerate();
    let targets = targets.map(|(n, target)| (Part::Target(n), &target.filter));
    for (part, filter) in maps.chain(targets) {
        let told = |reason| BrokerMistake::new(broker, part, "expression", reason);
        compiles(filter).map_err(told)?;
    }
    Ok(())
}
