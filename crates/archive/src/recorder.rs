//! The recorder: a sink that writes each series into files of its own.

use crate::layout::{Layout, Previous, Rotation};
use crate::segment::{Plan, Segment};
use api::{DropReason, SourceStats};
use io::file::{FileFormat, Origin, OriginCounters, reason};
use io::{Error, InterfaceId, Interfaces, Now, Packet, Selection, Sink, SinkCounters, Upstream};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// Files open at once. When one more is needed, the one unused for longest is closed.
const OPEN_MAX: usize = 512;
/// Sources kept apart: strangers may make up as many tunnel ids as they like.
const SOURCES_MAX: usize = 4096;
/// Files that may be begun at once, and one more each `FILE_NS`: what bounds the work that sources
/// beyond [`OPEN_MAX`] make by taking turns.
const FILES_BURST: u64 = 4096;
const FILE_NS: u64 = 1_000_000;
/// What a killed process may lose: what came since the last flush.
const FLUSH_NS: u64 = 500_000_000;
/// How long a file that could not be opened is left alone.
const RETRY_NS: u64 = 1_000_000_000;

/// How packets are recorded.
#[derive(Debug, Clone)]
pub struct RecorderOptions {
    /// Where files stand and what they are called.
    pub layout: Layout,
    /// When the next file is begun.
    pub rotation: Rotation,
    /// Write every batch through at once (`-U`).
    pub unbuffered: bool,
    /// The interface that a file names before its first packet.
    pub first: Option<InterfaceId>,
}

/// Writes packets into capture files.
pub struct Recorder {
    plan: Plan,
    unbuffered: bool,
    /// Open files, by series: of an archive one for each origin, else a single one.
    open: Vec<(Option<Origin>, Segment)>,
    /// The origin of the last packet and the place of its file; none after a file was closed, as
    /// places move then.
    current: Option<(Origin, usize)>,
    /// What became of the packets of closed files and of those that no file took.
    past: BTreeMap<Origin, OriginCounters>,
    /// The sources kept apart so far, and what came from others.
    known: HashSet<Origin>,
    others: OriginCounters,
    /// The moment of the last tick.
    now: Now,
    previous: Previous,
    files: FileBudget,
    /// Until then no file is opened, for this reason.
    retry: (u64, DropReason),
    complete: bool,
    failure: Option<Error>,
}

impl Recorder {
    /// Makes the folders and, for a single series, the first file: a mistake shows at the start,
    /// which is `now`.
    ///
    /// # Errors
    /// [`Error::System`] if the place cannot be written to.
    pub fn new(
        options: RecorderOptions,
        interfaces: &Interfaces,
        now: Now,
    ) -> Result<Recorder, Error> {
        let RecorderOptions { layout, rotation, unbuffered, first } = options;
        let format = match &layout {
            Layout::File(path) => FileFormat::of_path(path),
            Layout::Archive(_) => FileFormat::Pcapng,
        };
        let first = first.filter(|_| matches!(layout, Layout::File(_)));
        let plan = Plan { layout, rotation, format, interfaces: interfaces.clone(), first };
        let mut recorder = Recorder {
            plan,
            unbuffered,
            open: Vec::new(),
            current: None,
            past: BTreeMap::new(),
            known: HashSet::new(),
            others: OriginCounters::default(),
            now,
            previous: Previous::default(),
            files: FileBudget { files: FILES_BURST, since_ns: now.monotonic_ns },
            retry: (0, DropReason::WriteError),
            complete: false,
            failure: None,
        };
        match &recorder.plan.layout {
            Layout::Archive(archive) => make_spool(archive)?,
            Layout::File(_) => {
                let segment = recorder.begin(String::new(), now.utc_ns)?;
                recorder.open.push((None, segment));
            }
        }
        Ok(recorder)
    }

    fn begin(&mut self, source: String, ts_ns: u64) -> Result<Segment, Error> {
        let segment = Segment::open(&self.plan, source, &self.previous, ts_ns, self.now)?;
        self.previous.add(segment.path(), self.now.utc_ns);
        Ok(segment)
    }

    /// Most packets are of the origin of the one before, and go to the same file.
    #[inline]
    fn write(&mut self, packet: &Packet) {
        let origin = (packet.meta.interface, packet.meta.outer);
        if let Some((of, place)) = self.current
            && of == origin
            && !self.open[place].1.is_over(&self.plan, packet.meta.ts_ns)
        {
            return self.open[place].1.write(packet);
        }
        self.write_elsewhere(origin, packet);
    }

    /// Writes a packet of another origin than the one before, or the first of the next file.
    fn write_elsewhere(&mut self, origin: Origin, packet: &Packet) {
        if !self.knows(origin) {
            return self.others.lost(DropReason::TooManySources);
        }
        let series = self.series_of(origin);
        let mut place = self.open.iter().position(|(of, _)| *of == series);
        if let Some(full) = place
            && self.open[full].1.is_over(&self.plan, packet.meta.ts_ns)
        {
            self.close(full, None);
            place = None;
        }
        match place.map_or_else(|| self.open_series(origin, packet.meta.ts_ns), Ok) {
            Ok(place) => {
                self.current = Some((origin, place));
                self.open[place].1.write(packet);
            }
            Err(reason) => self.past.entry(origin).or_default().lost(reason),
        }
    }

    /// Whether a source is one of those kept apart; a new one is if there is room.
    fn knows(&mut self, origin: Origin) -> bool {
        // A file's interfaces were counted by its reader.
        let (_, Some(_)) = origin else {
            return true;
        };
        if self.known.len() >= SOURCES_MAX && !self.known.contains(&origin) {
            if self.others.received == 0 {
                tracing::warn!(
                    "more than {SOURCES_MAX} sources: packets of further ones are dropped and \
                     counted; ask for one tunnel id (vni=N) to keep strangers out"
                );
            }
            return false;
        }
        self.known.insert(origin);
        true
    }

    fn series_of(&self, origin: Origin) -> Option<Origin> {
        match self.plan.layout {
            Layout::File(_) => None,
            Layout::Archive(_) => Some(origin),
        }
    }

    /// Opens a file for the series of an origin; gives its place.
    #[cold]
    fn open_series(&mut self, origin: Origin, ts_ns: u64) -> Result<usize, DropReason> {
        let now_ns = self.now.monotonic_ns;
        if self.complete {
            return Err(DropReason::Stopped);
        }
        if now_ns < self.retry.0 {
            return Err(self.retry.1);
        }
        if !self.files.take(now_ns) {
            return Err(DropReason::TooManySources);
        }
        if self.open.len() >= OPEN_MAX {
            let unused = self.open.iter().enumerate().min_by_key(|(_, (_, s))| s.used_ns);
            if let Some((place, _)) = unused {
                self.close(place, None);
            }
        }
        match self.begin(self.name_of(origin), ts_ns) {
            Ok(segment) => {
                self.open.push((self.series_of(origin), segment));
                Ok(self.open.len() - 1)
            }
            Err(error) => {
                tracing::error!("{error}; packets are dropped and counted until it can be written");
                let reason = match &error {
                    Error::System { source, .. } => reason(source),
                    _ => DropReason::WriteError,
                };
                self.retry = (now_ns + RETRY_NS, reason);
                Err(reason)
            }
        }
    }

    /// The name of an origin, as a series and in the ledger.
    fn name_of(&self, origin: Origin) -> String {
        match origin {
            (_, Some(outer)) => outer.to_string(),
            (interface, None) => {
                let name = self.plan.interfaces.get(interface).name.clone();
                name.unwrap_or_else(|| format!("interface-{}", interface.0))
                    .replace([':', '/'], "-")
            }
        }
    }

    /// Closes an open file; its counters go over to the past.
    fn close(&mut self, place: usize, upstream: Option<&Upstream>) {
        self.current = None;
        let (_, mut segment) = self.open.swap_remove(place);
        if let Err(error) = segment.close(&self.plan, upstream) {
            match upstream {
                Some(_) => {} // told at the end
                None => tracing::error!("{error}"),
            }
            self.failure.get_or_insert(error);
        }
        for (origin, counters) in segment.counters() {
            self.past.entry(origin).or_default().merge(counters);
        }
        let Rotation { time, files, .. } = self.plan.rotation;
        self.complete |=
            time.is_some() && files.is_some_and(|n| self.previous.files >= u64::from(n));
    }

    /// What became of each origin's packets.
    fn by_origin(&self) -> BTreeMap<Origin, OriginCounters> {
        let mut all = self.past.clone();
        for (origin, counters) in self.open.iter().flat_map(|(_, segment)| segment.counters()) {
            all.entry(origin).or_default().merge(counters);
        }
        all
    }
}

/// How many files may be begun now: a bucket that fills by the clock.
struct FileBudget {
    files: u64,
    since_ns: u64,
}

impl FileBudget {
    fn take(&mut self, now_ns: u64) -> bool {
        let earned = now_ns.saturating_sub(self.since_ns) / FILE_NS;
        self.files = (self.files + earned).min(FILES_BURST);
        self.since_ns = if earned > 0 { now_ns } else { self.since_ns };
        let enough = self.files > 0;
        self.files -= u64::from(enough);
        enough
    }
}

fn make_spool(archive: &Path) -> Result<(), Error> {
    let spool = archive.join(".spool");
    std::fs::create_dir_all(&spool).map_err(|source| Error::System {
        what: format!("make the folder {}", spool.display()),
        source,
        mend: "; choose a folder that you may write to",
    })
}

impl Sink for Recorder {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        for packet in packets.iter() {
            self.write(packet);
        }
        packets.len()
    }

    fn counters(&self) -> SinkCounters {
        let mut sum = self.others.fate;
        self.by_origin().values().for_each(|of_origin| sum.merge(&of_origin.fate));
        sum
    }

    fn is_closed(&self) -> bool {
        self.complete || self.open.iter().any(|(_, segment)| segment.is_closed())
    }

    fn tick(&mut self, now: Now) {
        self.now = now;
        let now_ns = now.monotonic_ns;
        let mut place = 0;
        while let Some((_, segment)) = self.open.get_mut(place) {
            segment.flush(now_ns, if self.unbuffered { 0 } else { FLUSH_NS });
            if segment.is_old(&self.plan, now_ns) {
                self.close(place, None);
            } else {
                place += 1;
            }
        }
    }

    fn finish(&mut self, upstream: &Upstream) -> Result<(), Error> {
        while !self.open.is_empty() {
            self.close(0, Some(upstream));
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    fn sources(&self) -> Vec<SourceStats> {
        let line = |(origin, OriginCounters { received, fate })| {
            let SinkCounters { sent, held, drops } = fate;
            SourceStats::new(self.name_of(origin), received, sent, held, drops)
        };
        let mut lines: Vec<SourceStats> = self.by_origin().into_iter().map(line).collect();
        if self.others.received > 0 {
            let OriginCounters { received, fate } = self.others;
            lines.push(SourceStats::new("more sources".into(), received, 0, 0, fate.drops));
        }
        lines
    }
}
