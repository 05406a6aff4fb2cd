//! Sizes and times as people write them.

use crate::Error;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Parses a size in bytes: `1500`, `10kB`, `10MB` (powers of 1000), `10MiB` (powers of 1024).
///
/// # Errors
/// [`Error::Unit`] on anything else, and on a size beyond 2⁶⁴ − 1.
pub fn parse_size(text: &str) -> Result<u64, Error> {
    let (number, unit) = split(text);
    let factor = match unit {
        "" | "B" => 1,
        "kB" | "KB" | "k" => 1_000,
        "MB" | "M" => 1_000_000,
        "GB" | "G" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => {
            return Err(size_error(
                text,
                "write bytes, or a number with kB, MB, GB, KiB, MiB, GiB",
            ));
        }
    };
    scaled("size", text, number, factor)
}

/// Parses `-C`: as [`parse_size`], but a bare number means millions of bytes, as in tcpdump.
///
/// # Errors
/// As [`parse_size`]; and on 0, which would never let a file grow.
pub fn parse_size_tcpdump(text: &str) -> Result<u64, Error> {
    let bytes = match split(text) {
        (number, "") => scaled("size", text, number, 1_000_000)?,
        _ => parse_size(text)?,
    };
    match bytes {
        0 => Err(size_error(text, "a file needs room: write 1 or more")),
        bytes => Ok(bytes),
    }
}

/// Bytes that a ring or a socket's buffer may have.
const BUFFER_BYTES: RangeInclusive<u64> = 64 << 10..=4 << 30;

/// Parses the size of a ring or of a socket's buffer: as [`parse_size`], 64 KiB to 4 GiB.
///
/// # Errors
/// As [`parse_size`]; and on a size outside the range.
pub fn parse_buffer_size(text: &str) -> Result<u64, Error> {
    let bytes = parse_size(text)?;
    match BUFFER_BYTES.contains(&bytes) {
        true => Ok(bytes),
        false => Err(size_error(text, "a buffer has 64KiB to 4GiB")),
    }
}

/// Parses a duration: `60` and `60s` are seconds; `250ms`, `5m`, `1h` also work.
///
/// # Errors
/// [`Error::Unit`] on anything else, and on zero.
pub fn parse_duration(text: &str) -> Result<Duration, Error> {
    let (number, unit) = split(text);
    let factor_ms = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(time_error(text, "write seconds, or a number with ms, s, m or h")),
    };
    match scaled("duration", text, number, factor_ms)? {
        0 => Err(time_error(text, "it must be longer than zero")),
        ms => Ok(Duration::from_millis(ms)),
    }
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn scaled(what: &'static str, text: &str, number: &str, factor: u64) -> Result<u64, Error> {
    let fail = |reason: &str| Error::Unit { what, text: text.into(), reason: reason.into() };
    if number.is_empty() {
        return Err(fail("it must begin with a whole number"));
    }
    let number: u64 = number.parse().map_err(|_| fail("the number is too large"))?;
    number.checked_mul(factor).ok_or_else(|| fail("the number is too large"))
}

fn size_error(text: &str, reason: &str) -> Error {
    Error::Unit { what: "size", text: text.into(), reason: reason.into() }
}

fn time_error(text: &str, reason: &str) -> Error {
    Error::Unit { what: "duration", text: text.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("1500"), Ok(1500));
        assert_eq!(parse_size("10MB"), Ok(10_000_000));
        assert_eq!(parse_size("10MiB"), Ok(10 << 20));
        assert_eq!(parse_size_tcpdump("2"), Ok(2_000_000));
        assert_eq!(parse_size_tcpdump("64KiB"), Ok(65_536));
        for bad in
            ["", "MB", "-1", "10TB", "1.5MB", "99999999999999999999", "18446744073709551615k"]
        {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert!(parse_size_tcpdump("0").is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("60"), Ok(Duration::from_secs(60)));
        assert_eq!(parse_duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "0", "s", "5d", "1 s", "-3"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
