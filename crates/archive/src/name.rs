//! What a segment is called: in an archive, and while it is in the spool.
//!
//! ```text
//! data     date=2026-11-27/hour=13/source=vxlan-71-10.71.2.2/<first>-<last>-<ulid>.pcapng.zst
//! index    …/<first>-<last>-<ulid>.index.parquet
//! plain    …/<first>-<last>-<ulid>.pcapng              of archives from before segments were sealed
//!
//! spool    <source>-<ulid>.pcapng.open                 being written, locked (flock) by its writer
//!          <source>-<first>-<last>-<ulid>.pcapng.closed
//!          <source>-<first>-<last>-<ulid>.index.parquet.sealed     renamed before …
//!          <source>-<first>-<last>-<ulid>.pcapng.zst.sealed        … its data
//!          <source>-<first>-<last>-<ulid>.pcapng.zst.uploaded      the store has confirmed all of it
//!          *.part                                      half written: removed at the next start
//! ```
//! `<first>` and `<last>` are the times of the earliest and of the latest packet,
//! `20261127T131415.123456789Z`. Date and hour are theirs, in UTC: no segment crosses an hour.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;
use ulid::Ulid;

const HOUR_NS: u64 = 3_600_000_000_000;

/// Names a segment for good: its id is in no other name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// Time of the earliest packet, nanoseconds since 1970.
    pub first_ns: u64,
    /// Time of the latest packet, nanoseconds since 1970.
    pub last_ns: u64,
    /// When it was begun, and what makes it unique.
    pub id: Ulid,
    /// The source of its packets: letters, digits, `.`, `_` and `-`.
    pub source: String,
}

/// What an object of a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The packets, in seekable zstd.
    Data,
    /// The flows.
    Index,
    /// The packets, as they are: of archives from before segments were sealed.
    Plain,
}

impl Part {
    /// All parts.
    pub const ALL: [Part; 3] = [Part::Data, Part::Index, Part::Plain];

    const fn ending(self) -> &'static str {
        match self {
            Part::Data => ".pcapng.zst",
            Part::Index => ".index.parquet",
            Part::Plain => ".pcapng",
        }
    }
}

/// What was done to a segment in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpoolState {
    /// Complete, as pcapng.
    Closed,
    /// Compressed and indexed; the index has this state before the data.
    Sealed,
    /// Confirmed by the store.
    Uploaded,
}

impl SpoolState {
    /// All states.
    pub const ALL: [SpoolState; 3] = [SpoolState::Closed, SpoolState::Sealed, SpoolState::Uploaded];

    /// The name in file names and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            SpoolState::Closed => "closed",
            SpoolState::Sealed => "sealed",
            SpoolState::Uploaded => "uploaded",
        }
    }
}

impl SegmentName {
    /// The key of one of its objects, below the archive's root.
    pub fn key(&self, part: Part) -> String {
        let first = timestamp(self.first_ns).to_zoned(TimeZone::UTC);
        let partition = first.strftime("date=%Y-%m-%d/hour=%H");
        format!("{partition}/source={}/{self}{}", self.source, part.ending())
    }

    /// Reads a key. `None` if it is no segment's.
    pub fn parse_key(key: &str) -> Option<(SegmentName, Part)> {
        let (folders, file) = key.rsplit_once('/')?;
        let (_, source) = folders.rsplit_once("/source=")?;
        let part = Part::ALL.into_iter().find(|part| file.ends_with(part.ending()))?;
        let (span_ns, id) = parse_stem(file.strip_suffix(part.ending())?)?;
        let name =
            SegmentName { first_ns: span_ns.0, last_ns: span_ns.1, id, source: source.into() };
        (name.key(part) == key).then_some((name, part))
    }

    /// The name of one of its files in the spool.
    pub fn spool_file(&self, part: Part, state: SpoolState) -> String {
        format!("{}-{self}{}.{}", self.source, part.ending(), state.name())
    }

    /// Reads the name of a file in the spool. `None` if it is none of a segment that is closed.
    pub fn parse_spool_file(name: &str) -> Option<(SegmentName, Part, SpoolState)> {
        let (rest, state) = name.rsplit_once('.')?;
        let state = SpoolState::ALL.into_iter().find(|known| known.name() == state)?;
        let part = Part::ALL.into_iter().find(|part| rest.ends_with(part.ending()))?;
        let stem = rest.strip_suffix(part.ending())?;
        let mut parts = stem.rsplitn(4, '-');
        let (id, last, first) = (parts.next()?, parts.next()?, parts.next()?);
        let (span_ns, id) = parse_stem(&format!("{first}-{last}-{id}"))?;
        let source = parts.next()?.into();
        Some((SegmentName { first_ns: span_ns.0, last_ns: span_ns.1, id, source }, part, state))
    }
}

/// `<first>-<last>-<ulid>`.
impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", compact(self.first_ns), compact(self.last_ns), self.id)
    }
}

/// Makes a source's name one that stands in paths and keys: what is no letter, digit, `.`, `_` or
/// `-` becomes `-`.
pub fn source_name(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = text.chars().map(|c| if plain(c) { c } else { '-' }).collect();
    // `.` and `..` are folders.
    if name.trim_matches('.').is_empty() { format!("source-{name}") } else { name }
}

fn parse_stem(stem: &str) -> Option<((u64, u64), Ulid)> {
    let mut parts = stem.split('-');
    let (first, last, id) = (parts.next()?, parts.next()?, parts.next()?);
    let id = Ulid::from_string(id).ok().filter(|_| parts.next().is_none())?;
    Some(((parse_compact(first)?, parse_compact(last)?), id))
}

/// The first and the last nanosecond of a `date=` folder.
pub(crate) fn parse_date(folder: &str) -> Option<(u64, u64)> {
    let date: jiff::civil::Date = folder.strip_prefix("date=")?.parse().ok()?;
    let first = date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_nanosecond();
    let first: u64 = first.try_into().ok()?;
    Some((first, first.saturating_add(24 * HOUR_NS - 1)))
}

/// The first and the last nanosecond of an `hour=` folder of a day.
pub(crate) fn parse_hour(folder: &str, day: (u64, u64)) -> Option<(u64, u64)> {
    let hour: u64 = folder.strip_prefix("hour=")?.parse().ok().filter(|hour| *hour < 24)?;
    let first = day.0.saturating_add(hour * HOUR_NS);
    Some((first, first.saturating_add(HOUR_NS - 1)))
}

pub(crate) fn parse_compact(text: &str) -> Option<u64> {
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S%.9fZ", text).ok()?;
    time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_nanosecond().try_into().ok()
}

pub(crate) fn compact(ts_ns: u64) -> String {
    let time = timestamp(ts_ns).to_zoned(TimeZone::UTC);
    format!("{}.{:09}Z", time.strftime("%Y%m%dT%H%M%S"), ts_ns % 1_000_000_000)
}

pub(crate) fn timestamp(ts_ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(ts_ns)).expect("64 bits of nanoseconds end in 2554")
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_795_785_255_123_456_789; // 2026-11-27 13:14:15.123456789 UTC

    fn name(source: &str) -> SegmentName {
        SegmentName {
            first_ns: T,
            last_ns: T + 1,
            id: Ulid::from_parts(0, 0),
            source: source.into(),
        }
    }

    #[test]
    fn keys_name_date_hour_source_and_span() {
        assert_eq!(
            name("vxlan-71-10.71.2.2").key(Part::Data),
            "date=2026-11-27/hour=13/source=vxlan-71-10.71.2.2/\
             20261127T131415.123456789Z-20261127T131415.123456790Z-00000000000000000000000000.pcapng.zst"
        );
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for source in ["vxlan-71-10.71.2.2", "eth0", "l2tp-1-fd00--2", "a-20261127T131415.1Z-b"] {
            let name = name(source);
            for part in Part::ALL {
                let key = name.key(part);
                assert_eq!(SegmentName::parse_key(&key), Some((name.clone(), part)), "{key}");
                assert_eq!(SegmentName::parse_key(&key.replace("hour=13", "hour=14")), None);
                assert_eq!(SegmentName::parse_key(&format!("{key}.part")), None);
                for state in SpoolState::ALL {
                    let file = name.spool_file(part, state);
                    let read = SegmentName::parse_spool_file(&file);
                    assert_eq!(read, Some((name.clone(), part, state)), "{file}");
                }
            }
        }
        for text in ["", "x", ".closed", "manifest/x/0.jsonl", "a-b-c-d.pcapng.closed"] {
            assert_eq!(SegmentName::parse_key(text), None);
            assert_eq!(SegmentName::parse_spool_file(text), None);
        }
    }

    #[test]
    fn sources_become_plain_names() {
        for (text, name) in [
            ("eth0", "eth0"),
            ("a:b/c", "a-b-c"),
            ("é\n", "--"),
            ("..", "source-.."),
            ("", "source-"),
        ] {
            assert_eq!(source_name(text), name);
        }
    }
}
