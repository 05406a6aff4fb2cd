//! Choices that a tap makes: which directions, what becomes of large packets, how much memory, how
//! many threads.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Which packets of an interface a tap takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectionChoice {
    /// Received and sent ones.
    #[default]
    Both,
    /// Received ones.
    In,
    /// Sent ones.
    Out,
}

/// What becomes of a packet that does not fit the path once it is encapsulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Oversize {
    /// The outer packet is fragmented by the sending host.
    #[default]
    Fragment,
    /// It is dropped and counted as `oversize`.
    Drop,
}

/// How large the ring of a tap is. The rings of several workers share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingSize {
    /// By the link's speed and the memory there is; less if the kernel refuses that much.
    Auto,
    /// So many bytes, rounded up to whole blocks, or an error.
    Bytes(usize),
}

/// How many workers share a tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// One for each core that the process may use.
    Auto,
    /// So many: 1 to [`Workers::MAX`].
    Count(usize),
}

impl Workers {
    /// Workers that a tap may have.
    pub const MAX: usize = 64;
}

impl Default for Workers {
    fn default() -> Workers {
        Workers::Count(1)
    }
}

impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> Result<Workers, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Workers::Auto),
            (_, Ok(count @ 1..=Workers::MAX)) => Ok(Workers::Count(count)),
            _ => Err(format!("write 1 to {}, or auto: one for each core", Workers::MAX)),
        }
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Workers::Auto => f.write_str("auto"),
            Workers::Count(count) => write!(f, "{count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_workers_are_understood() {
        assert_eq!("auto".parse(), Ok(Workers::Auto));
        assert_eq!("4".parse(), Ok(Workers::Count(4)));
        for text in ["0", "65", "-1", "many", ""] {
            let said = text.parse::<Workers>().unwrap_err();
            assert!(said.contains("1 to 64, or auto"), "{said}");
        }
    }
}
