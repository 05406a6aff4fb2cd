//! Where files stand and what they are called.
//!
//! ```text
//! archive   DIR/date=2026-11-27/hour=13/source=vxlan-71-10.71.2.2/<first>-<last>-<ulid>.pcapng
//!           DIR/.spool/<source>-<ulid>.pcapng.open       while it is written, locked (flock) by who
//!                                                        writes it
//!           DIR/.spool/damaged/…                         left behind open, and not readable
//! -C        FILE, FILE1, FILE2 …;  with -W N a ring FILE0 … FILE<N-1>, the oldest replaced
//! -G        FILE with strftime's % fields filled in (UTC), else FILE, FILE1 …; -W N ends after N;
//!           a name that would come twice in a row gets a number too, and so does each one after
//!           the clock was set back, until it is where it was
//! ```
//! `<first>` and `<last>` are the times of the earliest and the latest packet,
//! `20261127T131415.123456789Z`. Hours are those of the packets, in UTC.

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ulid::Ulid;

/// How the name of an open segment ends.
const OPEN: &str = ".pcapng.open";
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

/// What came before the next file of a series.
#[derive(Debug, Default)]
pub(crate) struct Previous {
    /// Files begun so far.
    pub files: u64,
    /// The name of the last one, which is not used twice in a row.
    pub path: Option<PathBuf>,
    /// The latest time at which one was begun, nanoseconds since 1970: what the clock shows before
    /// that was in a name already.
    pub latest_ns: u64,
}

impl Previous {
    /// Notes a file that was begun.
    pub fn add(&mut self, path: Option<&Path>, utc_ns: u64) {
        self.files += 1;
        self.path = path.map(Path::to_path_buf);
        self.latest_ns = self.latest_ns.max(utc_ns);
    }

    /// Whether the last file has this name, or this name and a number.
    fn is_of_the_same_time(&self, base: &str) -> bool {
        self.path
            .as_deref()
            .and_then(|path| path.to_str()?.strip_prefix(base))
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

/// The name of the next file of a series, begun at `utc_ns`.
pub(crate) fn numbered(
    path: &Path,
    rotation: &Rotation,
    previous: &Previous,
    utc_ns: u64,
) -> PathBuf {
    let number = previous.files;
    let name = path.to_string_lossy();
    let timed = rotation.time.is_some() && name.contains('%');
    let base = if timed { filled_in(&name, utc_ns) } else { name.into_owned() };
    match (rotation.bytes, rotation.files) {
        (Some(_), Some(files)) if rotation.time.is_none() => {
            let width = files.to_string().len();
            format!("{base}{:0width$}", number % u64::from(files)).into()
        }
        _ if number == 0 => base.into(),
        (None, _)
            if timed && utc_ns >= previous.latest_ns && !previous.is_of_the_same_time(&base) =>
        {
            base.into()
        }
        _ => format!("{base}{number}").into(),
    }
}

/// Fills in strftime's fields. A name that they make no sense in stays as it is.
fn filled_in(name: &str, utc_ns: u64) -> String {
    let time = timestamp(utc_ns).to_zoned(TimeZone::UTC);
    strtime::format(name.as_bytes(), &time).unwrap_or_else(|_| name.into())
}

/// The folder of an archive's open segments.
pub(crate) fn spool(archive: &Path) -> PathBuf {
    archive.join(".spool")
}

/// The folder of segments that were left behind open and cannot be read.
pub(crate) fn damaged(archive: &Path) -> PathBuf {
    spool(archive).join("damaged")
}

/// A segment while it is written.
pub(crate) fn open_segment(archive: &Path, source: &str, id: Ulid) -> PathBuf {
    spool(archive).join(format!("{source}-{id}{OPEN}"))
}

/// The source and the id that the name of an open segment tells.
pub(crate) fn parse_open_segment(name: &str) -> Option<(&str, Ulid)> {
    let (source, id) = name.strip_suffix(OPEN)?.rsplit_once('-')?;
    Some((source, Ulid::from_string(id).ok()?))
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

/// The time of the latest packet and the id that the name of a closed segment tells.
pub(crate) fn parse_closed_segment(name: &str) -> Option<(u64, Ulid)> {
    let mut parts = name.strip_suffix(".pcapng")?.split('-');
    let (first, last, id) = (parts.next()?, parts.next()?, parts.next()?);
    parse_compact(first)?;
    Some((parse_compact(last)?, Ulid::from_string(id).ok().filter(|_| parts.next().is_none())?))
}

fn parse_compact(text: &str) -> Option<u64> {
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S%.9fZ", text).ok()?;
    time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_nanosecond().try_into().ok()
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
        names_at(name, rotation, &[T, T, T])
    }

    fn names_at(name: &str, rotation: Rotation, times: &[u64]) -> Vec<String> {
        let mut previous = Previous::default();
        let next = |&utc_ns: &u64| {
            let path = numbered(Path::new(name), &rotation, &previous, utc_ns);
            previous.add(Some(&path), utc_ns);
            path.display().to_string()
        };
        times.iter().map(next).collect()
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
        let (second, before) = (1_000_000_000, "a-20261127-131414");
        assert_eq!(names_at("a-%Y%m%d-%H%M%S", by_time, &[T - second, T]), [before, at]);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_name_twice() {
        let by_time = Rotation { time: Some(Duration::from_secs(1)), ..Rotation::default() };
        let minute = 60_000_000_000;
        let times = [T, T + minute, T, T + minute - 1, T + minute, T + 2 * minute];
        assert_eq!(
            names_at("a-%H%M", by_time, &times),
            ["a-1314", "a-1315", "a-13142", "a-13153", "a-13154", "a-1316"]
        );
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

    #[test]
    fn the_names_of_segments_are_understood_and_no_others() {
        let id = Ulid::new();
        for last_ns in [T, 0, T - T % 1_000_000_000, u64::MAX] {
            let path = closed_segment(Path::new("d"), "vxlan-71-fd00--2", id, (0, last_ns));
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            assert_eq!(parse_closed_segment(name), Some((last_ns, id)), "{name}");
            let longer = name.replace(".pcapng", "-x.pcapng");
            assert_eq!(parse_closed_segment(&longer), None);
            assert_eq!(parse_closed_segment(&name[1..]), None);
        }
        let path = open_segment(Path::new("d"), "vxlan-71-fd00--2", id);
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        assert_eq!(parse_open_segment(name), Some(("vxlan-71-fd00--2", id)));
        for name in ["x.pcapng.open", "x-y.pcapng.open", "x", "-.pcapng", "a-b-c.pcapng"] {
            assert_eq!((parse_open_segment(name), parse_closed_segment(name)), (None, None));
        }
    }
}
