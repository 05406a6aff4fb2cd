//! Why a command did not do what was asked, as an exit code.

use std::process::ExitCode;

/// What ended a command.
#[derive(Debug)]
pub enum Failure {
    /// It could not do it.
    CouldNot(String),
    /// It could not do it, and has said so when it happened.
    Told,
    /// What was asked for has no meaning.
    Usage(String),
    /// Packets were lost, and the user wants to be told so by the exit code.
    Lost,
}

impl Failure {
    /// What to print, if the ledger does not say it already.
    pub fn message(&self) -> Option<&str> {
        match self {
            Failure::CouldNot(message) | Failure::Usage(message) => Some(message),
            Failure::Told | Failure::Lost => None,
        }
    }

    /// The same, with what it is about in front.
    pub fn of(self, what: &str) -> Failure {
        match self {
            Failure::CouldNot(message) => Failure::CouldNot(format!("{what}: {message}")),
            Failure::Usage(message) => Failure::Usage(format!("{what}: {message}")),
            other => other,
        }
    }

    /// The exit code of the contract.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::CouldNot(_) | Failure::Told => ExitCode::from(1),
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Lost => ExitCode::from(3),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::CouldNot(error.to_string())
    }
}

impl From<archive::Error> for Failure {
    fn from(error: archive::Error) -> Failure {
        match error {
            archive::Error::Usage(message) => Failure::Usage(message),
            error => Failure::CouldNot(error.to_string()),
        }
    }
}

impl From<api::Error> for Failure {
    fn from(error: api::Error) -> Failure {
        Failure::CouldNot(error.to_string())
    }
}

impl From<pipeline::HealthError> for Failure {
    fn from(error: pipeline::HealthError) -> Failure {
        Failure::CouldNot(error.to_string())
    }
}

impl From<api::FileError> for Failure {
    fn from(error: api::FileError) -> Failure {
        match error.is_unreadable {
            true => Failure::CouldNot(error.to_string()),
            false => Failure::Usage(error.to_string()),
        }
    }
}
