//! Where files stand and what they are called.
//!
//! ```text
//! spool     DIR/<source>-<ulid>.pcapng.open              while it is written, locked (flock) by who
//!                                                        writes it
//!           DIR/<source>-<first>-<last>-<ulid>.pcapng.closed     complete: SegmentName tells more
//!           DIR/damaged/…                                left behind open, and not readable
//! -C        FILE, FILE1, FILE2 …;  with -W N a ring FILE0 … FILE<N-1>, the oldest replaced
//! -G        FILE with strftime's % fields filled in (UTC), else FILE, FILE1 …; -W N ends after N;
//!           a name that would come twice in a row gets a number too, and so does each one after
//!           the clock was set back, until it is where it was
//! {source} {vni}  in any of these: the name of the source, and its tunnel's id; each source has a
//!           series of its own then
//! ```

use crate::name::timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ulid::Ulid;

/// How the name of an open segment ends.
const OPEN: &str = ".pcapng.open";
/// Nanoseconds of an hour.
const HOUR_NS: u64 = 3_600_000_000_000;

/// Stands for the name of the source in the name of a file: each source has files of its own then.
const SOURCE: &str = "{source}";
/// Stands for the id of its tunnel, likewise.
const VNI: &str = "{vni}";

/// When a file is closed and the next one begun: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rotation {
    /// After so many bytes.
    pub bytes: Option<u64>,
    /// After so much time.
    pub time: Option<Duration>,
    /// By time: also at each multiple of it on the clock that people see, in UTC.
    pub aligned: bool,
    /// How many files: a ring of them by size, the end of the recording by time.
    pub files: Option<u32>,
}

/// Where files stand and what they are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// A series of files, the first of which has this name; `-` is standard output. With `{source}`
    /// or `{vni}` in it there is a series for each source.
    File(PathBuf),
    /// Segments in the spool of an archive, one series per source; no segment crosses an hour of its
    /// packets' times, in UTC.
    Spool(PathBuf),
}

impl Layout {
    /// Whether each source has files of its own.
    pub(crate) fn is_by_source(&self) -> bool {
        match self {
            Layout::File(path) => is_of_source(&path.to_string_lossy()),
            Layout::Spool(_) => true,
        }
    }

    /// The hour that a packet's segment must be of; files that are no segments have none.
    pub(crate) fn hour(&self, ts_ns: u64) -> u64 {
        match self {
            Layout::File(_) => 0,
            Layout::Spool(_) => ts_ns / HOUR_NS,
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
    (source, vni): (&str, Option<u64>),
) -> PathBuf {
    let number = previous.files;
    let name = path.to_string_lossy().replace(SOURCE, source);
    let vni = vni.map_or_else(|| "none".into(), |vni| vni.to_string());
    let name = name.replace(VNI, &vni);
    let timed = rotation.time.is_some() && name.contains('%');
    let base = if timed { filled_in(&name, utc_ns) } else { name };
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

/// Whether a name is made anew each time, so that a file that has it already is somebody's. What is
/// named plainly is replaced, as tcpdump does; a ring replaces its own.
pub(crate) fn must_not_replace(path: &Path, rotation: &Rotation) -> bool {
    let name = path.to_string_lossy();
    let is_ring = rotation.files.is_some() && rotation.time.is_none();
    !is_ring && (is_of_source(&name) || (rotation.time.is_some() && name.contains('%')))
}

fn is_of_source(name: &str) -> bool {
    name.contains(SOURCE) || name.contains(VNI)
}

/// Fills in strftime's fields. A name that they make no sense in stays as it is.
fn filled_in(name: &str, utc_ns: u64) -> String {
    let time = timestamp(utc_ns).to_zoned(TimeZone::UTC);
    strtime::format(name.as_bytes(), &time).unwrap_or_else(|_| name.into())
}

/// The folder of segments that were left behind open and cannot be read.
pub(crate) fn damaged(spool: &Path) -> PathBuf {
    spool.join("damaged")
}

/// A segment while it is written.
pub(crate) fn open_segment(spool: &Path, source: &str, id: Ulid) -> PathBuf {
    spool.join(format!("{source}-{id}{OPEN}"))
}

/// The source and the id that the name of an open segment tells.
pub(crate) fn parse_open_segment(name: &str) -> Option<(&str, Ulid)> {
    let (source, id) = name.strip_suffix(OPEN)?.rsplit_once('-')?;
    Some((source, Ulid::from_string(id).ok()?))
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
            let path = numbered(Path::new(name), &rotation, &previous, utc_ns, ("", None));
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
        let both = Rotation { bytes, time, ..Rotation::default() };
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
    fn the_names_of_open_segments_are_understood_and_no_others() {
        let id = Ulid::new();
        let path = open_segment(Path::new("d"), "vxlan-71-fd00--2", id);
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        assert_eq!(parse_open_segment(name), Some(("vxlan-71-fd00--2", id)));
        for name in ["x.pcapng.open", "x-y.pcapng.open", "x", "-.pcapng", "a-b-c.pcapng"] {
            assert_eq!(parse_open_segment(name), None);
        }
    }
}
