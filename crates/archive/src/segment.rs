//! One open file of a series, from its creation to the name that it keeps.

use crate::layout::{Layout, Previous, Rotation, closed_segment, numbered, open_segment};
use api::DropReason;
use io::file::{FileFormat, FileWriter, Origin, OriginCounters};
use io::{Error, InterfaceId, Interfaces, Now, Packet, Upstream};
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// What all files of a recorder have in common.
pub(crate) struct Plan {
    pub layout: Layout,
    pub rotation: Rotation,
    pub format: FileFormat,
    pub interfaces: Interfaces,
    /// The interface that a file names before its first packet.
    pub first: Option<InterfaceId>,
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
}

impl Segment {
    /// Begins a file, whose first packet is of `ts_ns`.
    pub(crate) fn open(
        plan: &Plan,
        source: String,
        previous: &Previous,
        ts_ns: u64,
        now: Now,
    ) -> Result<Segment, Error> {
        let id = Ulid::new();
        let path = match &plan.layout {
            Layout::File(path) if path == Path::new("-") => None,
            Layout::File(path) => Some(numbered(path, &plan.rotation, previous, now.utc_ns)),
            Layout::Archive(archive) => Some(open_segment(archive, &source, id)),
        };
        let writer = match &path {
            None => {
                let stream = Box::new(std::io::stdout());
                FileWriter::stream(stream, plan.format, &plan.interfaces, plan.first)?
            }
            Some(path) => FileWriter::create(path, plan.format, &plan.interfaces, plan.first)
                .inspect_err(|_| {
                    if let Layout::Archive(_) = plan.layout {
                        // Without room for its header it is no capture, and nobody would close it.
                        let _ = std::fs::remove_file(path);
                    }
                })?,
        };
        let hour = plan.layout.hour(ts_ns);
        let [opened_ns, used_ns, flushed_ns] = [now.monotonic_ns; 3];
        let written_to = false;
        Ok(Segment { writer, path, source, id, hour, opened_ns, used_ns, written_to, flushed_ns })
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
    pub(crate) fn is_old(&self, plan: &Plan, monotonic_ns: u64) -> bool {
        let age = u128::from(monotonic_ns.saturating_sub(self.opened_ns));
        plan.rotation.time.is_some_and(|time| age >= time.as_nanos())
    }

    /// Brings what is held into the file if it has waited for `after_ns`.
    pub(crate) fn flush(&mut self, monotonic_ns: u64, after_ns: u64) {
        if std::mem::take(&mut self.written_to) {
            self.used_ns = monotonic_ns;
        }
        if monotonic_ns.saturating_sub(self.flushed_ns) >= after_ns {
            self.writer.flush();
            self.flushed_ns = monotonic_ns;
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.writer.is_closed()
    }

    pub(crate) fn counters(&self) -> impl Iterator<Item = (Origin, &OriginCounters)> {
        self.writer.counters()
    }

    /// Completes the file; a segment of an archive gets its name and its place.
    ///
    /// Closing twice is harmless. The counters stay to be read whatever happens.
    pub(crate) fn close(&mut self, plan: &Plan, upstream: Option<&Upstream>) -> Result<(), Error> {
        let finished = self.writer.finish(upstream);
        let (Layout::Archive(archive), Some(path)) = (&plan.layout, self.path.take()) else {
            return finished;
        };
        let Some(span) = self.writer.span_ns() else {
            // Nothing was brought into it: its packets are counted as dropped.
            return std::fs::remove_file(&path)
                .map_err(|e| system(format!("remove the empty {}", path.display()), e))
                .and(finished);
        };
        let target = closed_segment(archive, &self.source, self.id, span);
        let place = target.parent().unwrap_or(archive);
        let moved = std::fs::create_dir_all(place)
            .map_err(|e| system(format!("make the folder {}", place.display()), e))
            .and_then(|()| {
                std::fs::rename(&path, &target)
                    .map_err(|e| system(format!("move a segment to {}", target.display()), e))
            });
        if moved.is_err() && !path.exists() {
            self.writer.give_up(DropReason::WriteError);
        }
        moved.and(finished)
    }
}

fn system(what: String, source: std::io::Error) -> Error {
    Error::System { what, source, mend: "; check the folder's rights and the room on its disk" }
}
