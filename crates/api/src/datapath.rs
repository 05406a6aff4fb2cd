//! What carries a tap's packets, and how much it may take of the host.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// What copies a tap's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    /// The kernel where it can carry what is asked for, a mirror's tap in the order of its packets; else
    /// a ring.
    #[default]
    Auto,
    /// The kernel itself, or nothing.
    Kernel,
    /// A ring that the process reads.
    Ring,
}

impl Datapath {
    /// Every choice, with its name.
    pub const NAMES: [(&str, Datapath); 3] =
        [("auto", Datapath::Auto), ("kernel", Datapath::Kernel), ("ring", Datapath::Ring)];
}

impl FromStr for Datapath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Datapath, &'static str> {
        let known = Datapath::NAMES.iter().find(|(name, _)| *name == text);
        known.map(|(_, datapath)| *datapath).ok_or("write auto, kernel or ring")
    }
}

/// Who goes first where the mirror and the host's own traffic share a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrafficMode {
    /// The host: taps take at most half of the link that their tunnels leave by, all together.
    #[default]
    Default,
    /// The mirror: no ceiling but the one that is given.
    Priority,
}

impl TrafficMode {
    /// Every choice, with its name.
    pub const NAMES: [(&str, TrafficMode); 2] =
        [("default", TrafficMode::Default), ("priority", TrafficMode::Priority)];
}

impl FromStr for TrafficMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<TrafficMode, &'static str> {
        let known = TrafficMode::NAMES.iter().find(|(name, _)| *name == text);
        known.map(|(_, mode)| *mode).ok_or("write default or priority")
    }
}

/// A rate in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(NonZeroU64);

const UNITS: [(&str, u64); 4] =
    [("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];

impl Rate {
    /// A rate; `None` for 0.
    pub const fn new(bits_per_second: u64) -> Option<Rate> {
        match NonZeroU64::new(bits_per_second) {
            Some(bits) => Some(Rate(bits)),
            None => None,
        }
    }

    /// Bits per second, at least 1.
    pub const fn bits_per_second(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for Rate {
    type Err = Error;

    /// `500Mbit`, `2Gbit`, `64kbit`, `9600bit`: powers of 1000, per second.
    fn from_str(text: &str) -> Result<Rate, Error> {
        let fail =
            |reason: &str| Error::Unit { what: "rate", text: text.into(), reason: reason.into() };
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let known = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let (_, factor) = known.ok_or_else(|| {
            fail("write a whole number with bit, kbit, Mbit or Gbit, such as 500Mbit")
        })?;
        let number: u64 =
            number.parse().map_err(|_| fail("it must begin with a whole number below 2^64"))?;
        let bits = number.checked_mul(*factor).ok_or_else(|| fail("the number is too large"))?;
        Rate::new(bits).ok_or_else(|| fail("nothing would be mirrored: write more than 0"))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.bits_per_second();
        let unit = UNITS.iter().find(|(_, factor)| bits.is_multiple_of(*factor));
        let (name, factor) = unit.unwrap_or(&("bit", 1));
        write!(f, "{}{name}", bits / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_and_written_alike() {
        for (text, bits) in [
            ("500Mbit", 500_000_000),
            ("2Gbit", 2_000_000_000),
            ("1500kbit", 1_500_000),
            ("9601bit", 9601),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.bits_per_second(), rate.to_string()), (bits, text.to_owned()));
        }
        assert_eq!("7mbit".parse(), "7Mbit".parse::<Rate>());
        for bad in ["", "500", "Mbit", "0Mbit", "1.5Gbit", "-1bit", "500MB", "99999999999Gbit"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_choice_is_read_by_its_name() {
        for (name, datapath) in Datapath::NAMES {
            assert_eq!(name.parse(), Ok(datapath));
        }
        for (name, mode) in TrafficMode::NAMES {
            assert_eq!(name.parse(), Ok(mode));
        }
        assert!("xdp".parse::<Datapath>().is_err() && "".parse::<TrafficMode>().is_err());
    }
}
