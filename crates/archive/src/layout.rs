//! Where files stand and what they are called.
//!
//! ```text
//! archive   DIR/date=2026-11-27/hour=13/source=vxlan-71-10.71.2.2/<first>-<last>-<ulid>.pcapng
//!           DIR/.spool/<source>-<ulid>.pcapng.open                          while it is written
//! -C        FILE, FILE1, FILE2 …;  with -W N a ring FILE0 … FILE<N-1>, the oldest replaced
//! -G        FILE with strftime's % fields filled in (UTC), else FILE, FILE1 …; -W N ends after N;
//!           a name that would come twice in a row gets a number too
//! ```
//! `<first>` and `<last>` are the times of the earliest and the latest packet,
//! `20261127T131415.123456789Z`. Hours are those of the packets, in UTC.

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ulid::Ulid;

/// Nanoseconds of an hour.
const HOUR_NS: u64 = 3_600_000_000_000;

/// When a file is closed and the next one begun: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rotation {
    /// After so many bytes.
    pub bytes: Option<u64>,
    /// After so much time.
    pub time: Option<Duration>,
    /// How many files: a ring of them by size, the end of the recording by time.
    pub files: Option<u32>,
}

/// Where files stand and what they are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// One series of files, the first of which has this name; `-` is standard output.
    File(PathBuf),
    /// Segments of an archive, one series per source.
    Archive(PathBuf),
}

impl Layout {
    /// The hour that a packet's segment must be of; files that are no segments have none.
    pub(crate) fn hour(&self, ts_ns: u64) -> u64 {
        match self {
            Layout::File(_) => 0,
            Layout::Archive(_) => ts_ns / HOUR_NS,
        }
    }
}

/// The name of the `number`th file of a series (from 0) that is begun at `now_ns`; `previous` is the
/// name of the one before, which is not used twice in a row.
pub(crate) fn numbered(
    path: &Path,
    rotation: &Rotation,
    number: u64,
    now_ns: u64,
    previous: Option<&Path>,
) -> PathBuf {
    let name = path.to_string_lossy();
    let timed = rotation.time.is_some() && name.contains('%');
    let base = if timed { filled_in(&name, now_ns) } else { name.into_owned() };
    match (rotation.bytes, rotation.files) {
        (Some(_), Some(files)) if rotation.time.is_none() => {
            let width = files.to_string().len();
            format!("{base}{:0width$}", number % u64::from(files)).into()
        }
        _ if number == 0 => base.into(),
        (None, _) if timed && !of_the_same_time(previous, &base) => base.into(),
        _ => format!("{base}{number}").into(),
    }
}

/// Whether the file before has this name, or this name and a number.
fn of_the_same_time(previous: Option<&Path>, base: &str) -> bool {
    previous
        .and_then(|previous| previous.to_str()?.strip_prefix(base))
        .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Fills in strftime's fields. A name that they make no sense in stays as it is.
fn filled_in(name: &str, now_ns: u64) -> String {
    let time = timestamp(now_ns).to_zoned(TimeZone::UTC);
    strtime::format(name.as_bytes(), &time).unwrap_or_else(|_| name.into())
}

/// A segment while it is written.
pub(crate) fn open_segment(archive: &Path, source: &str, id: Ulid) -> PathBuf {
    archive.join(".spool").join(format!("{source}-{id}.pcapng.open"))
}

/// A closed segment; the span is that of its packets, nanoseconds since 1970.
pub(crate) fn closed_segment(
    archive: &Path,
    source: &str,
    id: Ulid,
    (first_ns, last_ns): (u64, u64),
) -> PathBuf {
    let first = timestamp(first_ns).to_zoned(TimeZone::UTC);
    archive
        .join(format!("date={}", first.strftime("%Y-%m-%d")))
        .join(format!("hour={}", first.strftime("%H")))
        .join(format!("source={source}"))
        .join(format!("{}-{}-{id}.pcapng", compact(first_ns), compact(last_ns)))
}

fn compact(ts_ns: u64) -> String {
    let time = timestamp(ts_ns).to_zoned(TimeZone::UTC);
    format!("{}.{:09}Z", time.strftime("%Y%m%dT%H%M%S"), ts_ns % 1_000_000_000)
}

fn timestamp(ts_ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(ts_ns)).expect("64 bits of nanoseconds end in 2554")
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 1_795_785_255_123_456_789; // 2026-11-27 13:14:15.123456789 UTC

    fn names(name: &str, rotation: Rotation) -> Vec<String> {
        let mut names: Vec<PathBuf> = Vec::new();
        for number in 0..3 {
            let previous = names.last().cloned();
            names.push(numbered(Path::new(name), &rotation, number, T, previous.as_deref()));
        }
        names.iter().map(|name| name.display().to_string()).collect()
    }

    #[test]
    fn names_are_tcpdump_s() {
        let (bytes, time) = (Some(1), Some(Duration::from_secs(1)));
        let by_size = Rotation { bytes, ..Rotation::default() };
        assert_eq!(names("a.pcapng", by_size), ["a.pcapng", "a.pcapng1", "a.pcapng2"]);
        let ring = Rotation { files: Some(10), ..by_size };
        assert_eq!(names("a", ring), ["a00", "a01", "a02"]);
        let ring = Rotation { files: Some(2), ..by_size };
        assert_eq!(names("a", ring), ["a0", "a1", "a0"]);
        let by_time = Rotation { time, ..Rotation::default() };
        assert_eq!(names("a", by_time), ["a", "a1", "a2"]);
        let at = "a-20261127-131415";
        let in_one_second = [at.to_string(), format!("{at}1"), format!("{at}2")];
        assert_eq!(names("a-%Y%m%d-%H%M%S", by_time), in_one_second);
        let both = Rotation { bytes, time, files: None };
        assert_eq!(names("a-%Y%m%d-%H%M%S", both), in_one_second);
        let before = Some(Path::new("a-20261127-131414"));
        let name = numbered(Path::new("a-%Y%m%d-%H%M%S"), &by_time, 7, T, before);
        assert_eq!(name.display().to_string(), at);
    }

    #[test]
    fn segments_name_date_hour_source_and_span() {
        let id = Ulid::from_parts(0, 0);
        let source = "vxlan-71-10.71.2.2";
        let path = closed_segment(Path::new("d"), source, id, (T, T + 1));
        assert_eq!(
            path.display().to_string(),
            "d/date=2026-11-27/hour=13/source=vxlan-71-10.71.2.2/\
             20261127T131415.123456789Z-20261127T131415.123456790Z-00000000000000000000000000.pcapng"
        );
        let last = closed_segment(Path::new("d"), source, id, (u64::MAX, u64::MAX));
        assert!(last.display().to_string().contains("date=2554-07-21"));
    }
}
