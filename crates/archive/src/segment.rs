//! One open file of a series, from its creation to the name that it keeps.

use crate::layout::{Layout, Previous, Rotation, must_not_replace, numbered, open_segment};
use crate::lock;
use crate::name::{Part, SegmentName, SpoolState};
use api::{DropReason, Drops};
use io::file::{FileFormat, FileWriter, Lanes, Origin, OriginCounters};
use io::{Error, InterfaceId, Interfaces, Now, Packet, Upstream};
use std::fs::File;
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// How often another process may take a new file for one left behind before it has its lock.
const TRIES: u32 = 8;
/// Files of one name, which differ by a number.
const NAMES_MAX: u32 = 100_000;

/// What all files of a recorder have in common.
pub(crate) struct Plan {
    pub layout: Layout,
    pub rotation: Rotation,
    pub format: FileFormat,
    pub interfaces: Interfaces,
    /// The interface that a file names before its first packet.
    pub first: Option<InterfaceId>,
    /// By which files that have much to write do so directly.
    pub lanes: Option<Lanes>,
}

/// A file that packets are written to.
pub(crate) struct Segment {
    writer: FileWriter,
    /// Where it stands while it is written; `None` on standard output.
    path: Option<PathBuf>,
    source: String,
    id: Ulid,
    hour: u64,
    /// Times by the clock that never steps.
    opened_ns: u64,
    /// When a packet last came, as far as the clock's ticks tell.
    pub(crate) used_ns: u64,
    written_to: bool,
    flushed_ns: u64,
    is_complete: bool,
    /// When it was begun by the clock that people see.
    opened_utc_ns: u64,
    /// What had been lost before the recorder when it was begun.
    lost: Drops,
}

/// A segment that is complete, in the spool.
pub(crate) struct Closed {
    pub path: PathBuf,
    pub bytes: u64,
}

impl Segment {
    /// Begins a file, whose first packet is of `ts_ns`.
    pub(crate) fn open(
        plan: &Plan,
        source: String,
        vni: Option<u64>,
        previous: &Previous,
        ts_ns: u64,
        now: Now,
        lost: Drops,
    ) -> Result<Segment, Error> {
        let Plan { format, interfaces, first, .. } = plan;
        let mut id = Ulid::nil();
        let (mut writer, path) = match &plan.layout {
            Layout::File(path) if path == Path::new("-") => {
                let stream = Box::new(std::io::stdout());
                (FileWriter::stream(stream, *format, interfaces, *first)?, None)
            }
            Layout::File(path) => {
                let name = numbered(path, &plan.rotation, previous, now.utc_ns, (&source, vni));
                if !must_not_replace(path, &plan.rotation) {
                    (FileWriter::create(&name, *format, interfaces, *first)?, Some(name))
                } else {
                    let (file, name) = create_new(name)?;
                    (FileWriter::over(file, &name, *format, interfaces, *first)?, Some(name))
                }
            }
            Layout::Spool(spool) => {
                let (file, path);
                (id, path, file) = create_locked(spool, &source)?;
                (FileWriter::over(file, &path, *format, interfaces, *first)?, Some(path))
            }
        };
        plan.lanes.iter().for_each(|lanes| writer.use_lanes(lanes));
        let hour = plan.layout.hour(ts_ns);
        let [opened_ns, used_ns, flushed_ns] = [now.monotonic_ns; 3];
        Ok(Segment {
            writer,
            path,
            source,
            id,
            hour,
            opened_ns,
            used_ns,
            written_to: false,
            flushed_ns,
            is_complete: false,
            opened_utc_ns: now.utc_ns,
            lost,
        })
    }

    /// Where it stands while it is written.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    #[inline]
    pub(crate) fn write(&mut self, packet: &Packet) {
        self.written_to = true;
        self.writer.write(packet);
    }

    /// Whether the file must be closed before a packet of this time.
    #[inline]
    pub(crate) fn is_over(&self, plan: &Plan, ts_ns: u64) -> bool {
        plan.layout.hour(ts_ns) != self.hour
            || plan.rotation.bytes.is_some_and(|bytes| self.writer.bytes() >= bytes)
    }

    /// Whether the file must be closed by the clock.
    pub(crate) fn is_old(&self, plan: &Plan, now: Now) -> bool {
        let Some(time) = plan.rotation.time else { return false };
        let age = u128::from(now.monotonic_ns.saturating_sub(self.opened_ns));
        // A clock that is set back does not keep a file open for longer.
        let period = |utc_ns: u64| u128::from(utc_ns) / time.as_nanos().max(1);
        let is_over = plan.rotation.aligned && period(now.utc_ns) != period(self.opened_utc_ns);
        is_over || age >= time.as_nanos()
    }

    /// Brings what is held into the file if it has waited for `after_ns`.
    pub(crate) fn flush(&mut self, monotonic_ns: u64, after_ns: u64) {
        if std::mem::take(&mut self.written_to) {
            self.used_ns = monotonic_ns;
        }
        if monotonic_ns.saturating_sub(self.flushed_ns) >= after_ns {
            self.writer.flush();
            self.flushed_ns = monotonic_ns;
        } else {
            self.writer.poll();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.writer.is_closed()
    }

    pub(crate) fn counters(&self) -> impl Iterator<Item = (Origin, &OriginCounters)> {
        self.writer.counters()
    }

    /// Bytes in the file and in the buffer.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// Why packets are being lost, if the last write failed.
    pub(crate) fn trouble(&self) -> Option<DropReason> {
        self.writer.trouble()
    }

    /// Notes that there is room again, if nothing has come for so long that no write could show it.
    pub(crate) fn recovered(&mut self, monotonic_ns: u64, after_ns: u64) {
        if monotonic_ns.saturating_sub(self.used_ns) >= after_ns {
            self.writer.recovered();
        }
    }

    /// Completes the file, once. `upstream` is what came before the recorder so far, as far as that is
    /// known; it is all if this `is_last`.
    ///
    /// # Errors
    /// As [`FileWriter::finish`]. The counters stay to be read whatever happens.
    pub(crate) fn complete(
        &mut self,
        upstream: Option<&Upstream>,
        is_last: bool,
    ) -> Result<(), Error> {
        if std::mem::replace(&mut self.is_complete, true) {
            return Ok(());
        }
        let drops = |upstream: &Upstream| upstream.drops.since(&self.lost);
        let since = upstream.map(|upstream| Upstream { drops: drops(upstream), ..*upstream });
        match is_last {
            true => self.writer.finish(since.as_ref()),
            false => self.writer.finish_part(since.as_ref()),
        }
    }

    /// Gives a complete segment the name of one that is closed; one without a packet is removed.
    ///
    /// # Errors
    /// If it cannot be renamed. It still has its path, and the call may be repeated, unless somebody
    /// removed the file: then its packets are counted as dropped.
    pub(crate) fn place(&mut self, plan: &Plan) -> Result<Option<Closed>, Error> {
        let (Layout::Spool(spool), Some(path)) = (&plan.layout, &self.path) else {
            return Ok(None);
        };
        let Some((first_ns, last_ns)) = self.writer.span_ns() else {
            // Nothing was brought into it: its packets are counted as dropped.
            let removed = std::fs::remove_file(path)
                .map_err(|e| system(format!("remove the empty {}", path.display()), e));
            self.path = None;
            return removed.map(|()| None);
        };
        let name = SegmentName { first_ns, last_ns, id: self.id, source: self.source.clone() };
        let target = spool.join(name.spool_file(Part::Plain, SpoolState::Closed));
        if let Err(error) = std::fs::rename(path, &target) {
            if !path.exists() {
                self.writer.give_up(DropReason::WriteError);
                self.path = None;
            }
            return Err(system(format!("rename a segment to {}", target.display()), error));
        }
        self.path = None;
        Ok(Some(Closed { path: target, bytes: self.writer.bytes() }))
    }
}

/// Creates a file where there is none: if one has the name, a number follows.
fn create_new(name: PathBuf) -> Result<(File, PathBuf), Error> {
    let mut path = name.clone();
    for number in 1..=NAMES_MAX {
        match File::options().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let mut next = name.clone().into_os_string();
                next.push(format!(".{number}"));
                path = next.into();
            }
            Err(error) => return Err(system(format!("write {}", path.display()), error)),
        }
    }
    let error = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
    Err(system(format!("write {}", name.display()), error))
}

/// Creates the file of a new segment, and locks it before anybody takes it for one left behind.
fn create_locked(spool: &Path, source: &str) -> Result<(Ulid, PathBuf, File), Error> {
    for _ in 0..TRIES {
        let id = Ulid::new();
        let path = open_segment(spool, source, id);
        let failed = |error| system(format!("begin the segment {}", path.display()), error);
        let file = File::options().write(true).create_new(true).open(&path).map_err(failed)?;
        match lock::take(&file, &path) {
            Ok(true) => return Ok((id, path, file)),
            Ok(false) => {}
            Err(error) => {
                // A file system without locks: nobody can adopt from it while this one lives.
                tracing::debug!("{} cannot be locked: {error}", path.display());
                return Ok((id, path, file));
            }
        }
    }
    let error = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
    Err(system(format!("begin a segment in {}", spool.display()), error))
}

fn system(what: String, source: std::io::Error) -> Error {
    Error::System { what, source, mend: "; check the folder's rights and the room on its disk" }
}
