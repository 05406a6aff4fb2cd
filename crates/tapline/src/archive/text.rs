//! Numbers for people.

use jiff::Timestamp;

/// Bytes with a unit, three digits of it.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut amount, mut unit) = (bytes as f64 / 1000.0, 0);
    while amount >= 999.5 && unit + 1 < UNITS.len() {
        amount /= 1000.0;
        unit += 1;
    }
    let decimals = if amount >= 99.95 { 0 } else { 1 };
    format!("{amount:.decimals$} {}", UNITS[unit])
}

/// A number of things, with an s if they are several.
pub fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A time, RFC 3339 in UTC, with nanoseconds.
pub fn time(ts_ns: u64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(ts_ns));
    time.map_or_else(|_| ts_ns.to_string(), |time| format!("{time:.9}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits_at_most() {
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (12_345_678_901, "12.3 GB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        assert_eq!((count(1, "row"), count(0, "row")), ("1 row".into(), "0 rows".into()));
        assert_eq!(time(1_795_785_255_000_000_001), "2026-11-27T13:14:15.000000001Z");
    }
}
