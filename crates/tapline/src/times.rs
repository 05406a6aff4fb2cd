//! Points in time as users write them, exact to the nanosecond.
//!
//! | form | such as | meaning |
//! |---|---|---|
//! | RFC 3339 | `2026-11-27T14:30:00.123456789+01:00` | that moment; `Z` is UTC, a space may stand for the `T` |
//! | a date | `2026-11-27` | its beginning, in UTC |
//! | seconds | `1795789800.000000001` | since 1970 in UTC, with up to nine digits behind the point |
//! | `now` | | when the command was started |
//! | DURATION `ago` | `3h ago`, `1d12h ago` | so long before that; units `s`, `m`, `h`, `d`, `w` |
//!
//! A time of day without a zone is refused: nobody could tell whose it is.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::time::{SystemTime, UNIX_EPOCH};

const NS_PER_S: u64 = 1_000_000_000;
/// What to write instead of what is no time.
const FORMS: &str = "write 2026-11-27T14:30:00Z, 2026-11-27, seconds since 1970, now, or `3h ago`";

/// Reads a time, as nanoseconds since 1970 in UTC; `now` is the host's clock.
///
/// # Errors
/// What is wrong with the text, and what to write.
pub fn parse(text: &str) -> Result<u64, String> {
    // A clock that stands before 1970 is wrong anyhow.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    parse_at(text, u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// Reads a time when it is `now_ns`.
///
/// # Errors
/// As [`parse`].
pub fn parse_at(text: &str, now_ns: u64) -> Result<u64, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(now_ns);
    }
    if let Some(duration) = text.strip_suffix("ago") {
        let ns = duration_ns(duration.trim_end())?;
        return now_ns.checked_sub(ns).ok_or_else(|| "that is before 1970".into());
    }
    if text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return seconds_ns(text);
    }
    let time = match text.parse::<Timestamp>() {
        Ok(time) => time,
        Err(error) => match text.parse::<Date>() {
            Ok(date) if text.len() == "2026-11-27".len() => {
                let zoned = date.to_zoned(TimeZone::UTC);
                zoned.map_err(|error| format!("{error}; {FORMS}"))?.timestamp()
            }
            Ok(_) => return Err("say in which zone: add Z for UTC, or an offset as +01:00".into()),
            Err(_) => return Err(format!("{error}; {FORMS}")),
        },
    };
    let ns = time.as_nanosecond();
    u64::try_from(ns).map_err(|_| match ns < 0 {
        true => "that is before 1970".into(),
        false => "that is after 2554, where 64 bits of nanoseconds end".into(),
    })
}

/// Seconds since 1970, with a fraction or without.
fn seconds_ns(text: &str) -> Result<u64, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return Err("write one to nine digits behind the point of the seconds".into());
    }
    let fraction: u64 = format!("{fraction:0<9}").parse().map_err(|_| FORMS.to_owned())?;
    let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(NS_PER_S));
    whole
        .and_then(|whole| whole.checked_add(fraction))
        .ok_or_else(|| "that is after 2554, where 64 bits of nanoseconds end".into())
}

/// Numbers with units, one behind the other.
fn duration_ns(text: &str) -> Result<u64, String> {
    let wanted = || "write a duration such as 90s, 15m, 3h, 1d12h or 2w before `ago`".to_owned();
    let (mut rest, mut sum) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wanted)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wanted())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let seconds = match &rest[..letters] {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return Err(wanted()),
        };
        rest = rest[letters..].trim_start();
        let ns = number.checked_mul(seconds * NS_PER_S).and_then(|ns| sum.checked_add(ns));
        sum = ns.ok_or_else(|| "that is before 1970".to_owned())?;
    }
    if text.is_empty() { Err(wanted()) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_785_255_123_456_789; // 2026-11-27T13:14:15.123456789Z
    const MIDNIGHT: u64 = 1_795_737_600 * NS_PER_S;

    fn read(text: &str) -> Result<u64, String> {
        parse_at(text, NOW)
    }

    #[test]
    fn every_form_is_read_to_the_nanosecond() {
        for (text, ns) in [
            ("2026-11-27T13:14:15.123456789Z", NOW),
            ("2026-11-27 13:14:15.123456789Z", NOW),
            ("2026-11-27t13:14:15.123456789z", NOW),
            ("2026-11-27T14:14:15.123456789+01:00", NOW),
            ("2026-11-27T07:44:15.123456789-05:30", NOW),
            ("2026-11-28T03:14:15.123456789+14:00", NOW),
            ("2026-11-27T13:14:15Z", NOW / NS_PER_S * NS_PER_S),
            ("2026-11-27T13:14:15.5Z", NOW / NS_PER_S * NS_PER_S + 500_000_000),
            ("2026-11-27", MIDNIGHT),
            ("1795785255.123456789", NOW),
            ("1795785255.1", NOW / NS_PER_S * NS_PER_S + 100_000_000),
            ("1795737600", MIDNIGHT),
            ("0", 0),
            ("0.000000001", 1),
            ("18446744073.709551615", u64::MAX),
            ("now", NOW),
            ("3h ago", NOW - 3 * 3_600 * NS_PER_S),
            ("1d12h ago", NOW - 36 * 3_600 * NS_PER_S),
            ("2w 1min 3 s ago", NOW - (1_209_600 + 63) * NS_PER_S),
            ("0s ago", NOW),
            ("1970-01-01T00:00:00.000000001Z", 1),
        ] {
            assert_eq!(read(text), Ok(ns), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_says_the_mend() {
        for (text, mend) in [
            ("", "2026-11-27T14:30:00Z"),
            ("yesterday", "3h ago"),
            ("2026-11-27T13:14:15", "add Z"),
            ("2026-11-27 13:14", "add Z"),
            ("2026-13-27", "2026-11-27"),
            ("2026-11-27T25:00:00Z", "2026-11-27"),
            ("1969-12-31T23:59:59Z", "before 1970"),
            ("2600-01-01", "after 2554"),
            ("18446744073.709551616", "after 2554"),
            ("1.0000000001", "nine digits"),
            ("1.", "nine digits"),
            ("1.2.3", "nine digits"),
            ("-5", "seconds since 1970"),
            ("ago", "before `ago`"),
            ("3 ago", "before `ago`"),
            ("3y ago", "before `ago`"),
            ("99999w ago", "before 1970"),
            ("99999999999999999999w ago", "before `ago`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(mend), "{text}: {error}");
        }
    }

    #[test]
    fn now_is_the_clock() {
        let (before, now, after) = (parse("now"), parse("0s ago"), parse("now"));
        assert!(before <= now && now <= after);
    }
}
