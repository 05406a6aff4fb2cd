//! How a broker's settings are written, in files and on the command line.

use super::{Overflow, Pace, QueueSize, Start};
use crate::parse_size;
use std::fmt;
use std::str::FromStr;

/// Memory that a queue, or a map's history, may have, bytes.
pub const QUEUE_BYTES_MAX: u64 = 64 << 30;
/// Packets that a queue may have.
const QUEUE_PACKETS_MAX: u64 = 1 << 24;
/// How much faster or slower than it was recorded a file may be played.
const TIMES_MAX: f64 = 1e6;

impl FromStr for QueueSize {
    type Err = String;

    /// Reads `64MiB`, `1GB`, or `1000 packets`, with the space or without.
    fn from_str(text: &str) -> Result<QueueSize, String> {
        let mend = "write a size such as 16MiB, or a count such as 1000packets";
        let packets = text.strip_suffix("packets").or_else(|| text.strip_suffix("packet"));
        let (size, max) = match packets {
            Some(count) => match count.trim_end().parse() {
                Ok(count) => (QueueSize::Packets(count), QUEUE_PACKETS_MAX),
                Err(_) => return Err(format!("`{text}` is no count; {mend}")),
            },
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(format!("`{text}` has no unit; {mend}"));
            }
            None => match parse_size(text) {
                Ok(bytes) => (QueueSize::Bytes(bytes), QUEUE_BYTES_MAX),
                Err(error) => return Err(format!("{error}; or a count such as 1000packets")),
            },
        };
        let (QueueSize::Bytes(amount) | QueueSize::Packets(amount)) = size;
        match amount {
            0 => Err(format!("`{text}`: a queue of nothing holds no packet; {mend}")),
            amount if amount > max => Err(format!(
                "`{text}` is more than a queue may have, 64GiB or {QUEUE_PACKETS_MAX} packets; {mend}"
            )),
            _ => Ok(size),
        }
    }
}

impl fmt::Display for QueueSize {
    /// The bytes in the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 6] = [
            (1 << 30, "GiB"),
            (1_000_000_000, "GB"),
            (1 << 20, "MiB"),
            (1_000_000, "MB"),
            (1 << 10, "KiB"),
            (1_000, "kB"),
        ];
        match *self {
            QueueSize::Packets(1) => f.write_str("1 packet"),
            QueueSize::Packets(count) => write!(f, "{count} packets"),
            QueueSize::Bytes(bytes) => {
                let unit = UNITS.iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
                match unit {
                    Some((unit, name)) => write!(f, "{}{name}", bytes / unit),
                    None => write!(f, "{bytes}B"),
                }
            }
        }
    }
}

impl Overflow {
    /// Every choice, with its name.
    pub const NAMES: [(&str, Overflow); 2] =
        [("drop_oldest", Overflow::DropOldest), ("drop_newest", Overflow::DropNewest)];
}

impl FromStr for Overflow {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Overflow, &'static str> {
        let known = Overflow::NAMES.iter().find(|(name, _)| *name == text);
        known.map(|(_, overflow)| *overflow).ok_or("write drop_oldest or drop_newest")
    }
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Overflow::NAMES.iter().find(|(_, overflow)| overflow == self);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}

impl Start {
    /// Every choice, with its name.
    pub const NAMES: [(&str, Start); 2] = [("now", Start::Now), ("oldest", Start::Oldest)];
}

impl Pace {
    /// So many times as fast as recorded: more than 0, at most a million.
    pub fn times(times: f64) -> Option<Pace> {
        (times > 0.0 && times <= TIMES_MAX).then_some(Pace::Times(times))
    }
}

impl FromStr for Pace {
    type Err = String;

    /// Reads `original`, `max`, `x2`, `x0.5` or `2.5`.
    fn from_str(text: &str) -> Result<Pace, String> {
        match text {
            "original" => return Ok(Pace::Times(1.0)),
            "max" => return Ok(Pace::Max),
            _ => {}
        }
        let times = text.strip_prefix('x').unwrap_or(text).parse().ok().and_then(Pace::times);
        times.ok_or_else(|| {
            format!(
                "`{text}` is no speed; write original, max, or how many times as fast (x2, x0.5), \
                 more than 0 and at most 1000000"
            )
        })
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pace::Max => f.write_str("max"),
            Pace::Times(1.0) => f.write_str("original"),
            Pace::Times(times) => write!(f, "x{times}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_have_bytes_or_packets() {
        for (text, size, shown) in [
            ("64MB", QueueSize::Bytes(64_000_000), "64MB"),
            ("16MiB", QueueSize::Bytes(16 << 20), "16MiB"),
            ("1536KiB", QueueSize::Bytes(1536 << 10), "1536KiB"),
            ("1500B", QueueSize::Bytes(1500), "1500B"),
            ("1000 packets", QueueSize::Packets(1000), "1000 packets"),
            ("1packet", QueueSize::Packets(1), "1 packet"),
        ] {
            assert_eq!(text.parse(), Ok(size), "{text}");
            assert_eq!(size.to_string(), shown);
        }
        for (text, part) in [
            ("0MB", "holds no packet"),
            ("0packets", "holds no packet"),
            ("64", "no unit"),
            ("", "no unit"),
            ("packets", "no count"),
            ("-1 packets", "no count"),
            ("1.5MB", "size"),
            ("20000GB", "more than a queue may have"),
            ("65GiB", "more than a queue may have"),
            ("16777217packets", "more than a queue may have"),
            ("99999999999packets", "more than a queue may have"),
        ] {
            let said = text.parse::<QueueSize>().unwrap_err();
            assert!(said.contains(part) && said.contains("1000packets"), "{text}: {said}");
        }
    }

    #[test]
    fn files_have_a_pace() {
        for (text, pace) in [
            ("original", Pace::Times(1.0)),
            ("max", Pace::Max),
            ("x2", Pace::Times(2.0)),
            ("0.25", Pace::Times(0.25)),
        ] {
            assert_eq!(text.parse(), Ok(pace));
            assert_eq!(pace.to_string().parse(), Ok(pace));
        }
        for text in ["0", "x-1", "xNaN", "inf", "fast", "", "1e7"] {
            assert!(text.parse::<Pace>().unwrap_err().contains("x0.5"), "{text}");
        }
    }

    #[test]
    fn words_are_read_as_they_are_shown() {
        for (name, overflow) in Overflow::NAMES {
            assert_eq!((name.parse(), overflow.to_string()), (Ok(overflow), name.to_owned()));
        }
        assert!("drop".parse::<Overflow>().is_err());
    }
}
