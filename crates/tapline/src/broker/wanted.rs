//! Which broker a command line wants: that of a file, or what the line itself says.

use crate::cli::BrokerShort;
use crate::failure::Failure;
use crate::loops;
use crate::opened::filter_config;
use api::{BrokerConfig, BrokerFile, BrokerMistake, EveryTarget, QueueConfig};
use std::path::Path;

/// A broker that is wanted, and where it is written.
#[derive(Debug)]
pub struct WantedBroker {
    pub config: BrokerConfig,
    file: Option<BrokerFile>,
}

impl WantedBroker {
    /// Reads a broker, from a file or from what stands in its place, and makes sure that none of its
    /// targets feeds one of its sources.
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
        loops::of_broker(&wanted.config).map_err(|mistake| wanted.told(&mistake))?;
        Ok(wanted)
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
