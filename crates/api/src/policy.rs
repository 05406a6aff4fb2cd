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
    /// It is cut where the tunnel carries its original length, else fragmented.
    #[default]
    Auto,
    /// The outer packet is fragmented by the sending host.
    Fragment,
    /// The packet is cut so that the outer one fits.
    Cut,
    /// It is dropped and counted as `oversize`.
    Drop,
}

impl Oversize {
    /// Every choice, with its name.
    pub const NAMES: [(&str, Oversize); 4] = [
        ("auto", Oversize::Auto),
        ("fragment", Oversize::Fragment),
        ("cut", Oversize::Cut),
        ("drop", Oversize::Drop),
    ];

    /// What `Auto` means for a tunnel that carries the original length, or does not.
    pub const fn settled(self, carries_length: bool) -> Oversize {
        match self {
            Oversize::Auto if carries_length => Oversize::Cut,
            Oversize::Auto => Oversize::Fragment,
            chosen => chosen,
        }
    }
}

impl FromStr for Oversize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Oversize, &'static str> {
        let known = Oversize::NAMES.iter().find(|(name, _)| *name == text);
        known.map(|(_, policy)| *policy).ok_or("write auto, fragment, cut or drop")
    }
}

/// The largest DSCP, the class of an IP packet (RFC 2474).
pub const DSCP_MAX: u8 = 63;

/// How packets go into tunnels, whatever the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sending {
    /// What becomes of packets that do not fit the path.
    pub oversize: Oversize,
    /// The DSCP of the outer packets, 0 to [`DSCP_MAX`].
    pub dscp: u8,
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
    fn what_is_too_large_is_cut_where_its_length_is_told() {
        for (name, policy) in Oversize::NAMES {
            assert_eq!(name.parse(), Ok(policy));
        }
        assert!("CUT".parse::<Oversize>().is_err());
        assert_eq!(Oversize::default().settled(true), Oversize::Cut);
        assert_eq!(Oversize::default().settled(false), Oversize::Fragment);
        assert_eq!(Oversize::Drop.settled(true), Oversize::Drop);
    }

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
