//! What can be wrong with a value that a user wrote.

/// A value that could not be understood: which one, why, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An endpoint that is not of any known form.
    #[error("endpoint `{text}`: {reason}")]
    Endpoint {
        /// The endpoint as written.
        text: String,
        /// What is wrong and the mend.
        reason: String,
    },
    /// A size or a duration that is not a number with a known unit; another word of a known set.
    #[error("{what} `{text}`: {reason}")]
    Unit {
        /// What it is to be: "size", "duration", "health check".
        what: &'static str,
        /// The value as written.
        text: String,
        /// What is wrong and the mend.
        reason: String,
    },
}
