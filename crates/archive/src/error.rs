//! What can go wrong with an archive, where, and how to mend it.

use crate::store::StoreError;

/// Why something could not be done with an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something with a local file.
    #[error("{what}: {source}{mend}")]
    System {
        /// What was tried, on what.
        what: String,
        /// The system's answer.
        source: std::io::Error,
        /// "; " and the mend, or empty.
        mend: &'static str,
    },
    /// The store refused something, or could not be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A capture, in a segment or a file, cannot be read.
    #[error("{what}: {source}")]
    Capture {
        /// Which file or object.
        what: String,
        /// What is wrong with it.
        source: capfile::Error,
    },
    /// An object contradicts itself, or what is said of it elsewhere.
    #[error("{object}: {what}{mend}")]
    Damaged {
        /// The object's key.
        object: String,
        /// What is wrong with it, with numbers.
        what: String,
        /// "; " and the mend, or empty.
        mend: &'static str,
    },
    /// What the user wrote makes no sense here.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// Says of a system's error what was tried.
    pub(crate) fn system(what: impl Into<String>, source: std::io::Error) -> Error {
        let mend = match source.kind() {
            std::io::ErrorKind::StorageFull => "; make room on its disk",
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                "; choose a folder that you may write to"
            }
            _ => "",
        };
        Error::System { what: what.into(), source, mend }
    }

    /// Whether a file or an object is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        match self {
            Error::System { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Error::Store(error) => error.is_not_found(),
            _ => false,
        }
    }
}
