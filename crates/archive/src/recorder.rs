//! The recorder: a sink that writes each series into files of its own.

use crate::archiver::{Full, SpoolBudget, Waker};
use crate::disk::{self, Disk, folder, probe};
use crate::layout::{Layout, Previous, Rotation};
use crate::name::source_name;
use crate::retention::Room;
use crate::segment::{Plan, Segment};
use crate::status::RecorderStatus;
use api::{DropReason, SourceStats};
use io::file::{FileFormat, Lanes, Origin, OriginCounters, reason};
use io::{Error, InterfaceId, Interfaces, Now, Packet, Selection, Sink, SinkCounters, Upstream};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

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
/// How long what failed (a file to open, to remove, to rename) is left alone.
const RETRY_NS: u64 = 1_000_000_000;
/// Complete segments that may wait for being renamed. One more stays open, to be adopted.
const UNPLACED_MAX: usize = 64;
/// More than a packet's block has beside its bytes.
const BLOCK_BYTES: u64 = 64;
/// A packet's share of what pads direct writes is less than that part of its bytes and what
/// `BLOCK_BYTES` has too many: two paddings of at most 4,107 bytes for 256 KiB of blocks.
const PADDING_PART: u64 = 16;
/// More than a segment has beside its packets, and of that more than is written when it is closed.
const SEGMENT_BYTES: u64 = 4096;
const STATISTICS_BYTES: u64 = 1024;

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
    /// The bound on a spool, if it has one.
    pub budget: Option<Arc<SpoolBudget>>,
    /// Whom to wake when a segment was closed.
    pub waker: Option<Waker>,
}

/// Writes packets into capture files.
pub struct Recorder {
    plan: Plan,
    unbuffered: bool,
    /// Open files, by series: of a spool one for each origin, else a single one.
    open: Vec<(Option<Origin>, Segment)>,
    /// Complete segments that could not be renamed yet.
    unplaced: Vec<Segment>,
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
    /// What came before each series' next file.
    previous: HashMap<Option<Origin>, Previous>,
    /// What came before the recorder, as it was told last.
    upstream: Option<Upstream>,
    files: FileBudget,
    room: Option<Room>,
    disk: Disk,
    status: Arc<RecorderStatus>,
    complete: bool,
    failure: Option<Error>,
}

impl Recorder {
    /// Makes the folders and, for a single series, the first file: a mistake shows at the start,
    /// which is `now`.
    ///
    /// # Errors
    /// [`Error::System`] if the place cannot be written to, or the bound leaves no room for two
    /// segments.
    pub fn new(
        options: RecorderOptions,
        interfaces: &Interfaces,
        now: Now,
    ) -> Result<Recorder, Error> {
        let RecorderOptions { layout, rotation, unbuffered, first, budget, waker } = options;
        let format = match &layout {
            Layout::File(path) => FileFormat::of_path(path),
            Layout::Spool(_) => FileFormat::Pcapng,
        };
        let first = first.filter(|_| !layout.is_by_source());
        let lanes = (!unbuffered).then(Lanes::default);
        let plan = Plan { layout, rotation, format, interfaces: interfaces.clone(), first, lanes };
        let mut recorder = Recorder {
            plan,
            unbuffered,
            open: Vec::new(),
            unplaced: Vec::new(),
            current: None,
            past: BTreeMap::new(),
            known: HashSet::new(),
            others: OriginCounters::default(),
            now,
            previous: HashMap::new(),
            upstream: None,
            files: FileBudget { files: FILES_BURST, since_ns: now.monotonic_ns },
            room: None,
            disk: Disk::default(),
            status: Arc::default(),
            complete: false,
            failure: None,
        };
        match &recorder.plan.layout {
            Layout::Spool(spool) => {
                make_spool(spool)?;
                if let Some(budget) = budget {
                    must_fit(spool, &budget)?;
                    recorder.room = Some(Room::new(budget, waker));
                    // What is there may be more than the bound, if that was another.
                    let _ = recorder.make_room(0);
                }
                recorder.look_at_the_disk()?;
            }
            layout if layout.is_by_source() => recorder.look_at_the_disk()?,
            Layout::File(_) => {
                let segment = recorder.begin(None, String::new(), now.utc_ns)?;
                recorder.open.push((None, segment));
            }
        }
        Ok(recorder)
    }

    /// Finds out at the start what no file tells that is not there yet. A disk that is only full is
    /// waited for.
    fn look_at_the_disk(&mut self) -> Result<(), Error> {
        let disk::Room::None(source) = probe(&self.plan.layout) else { return Ok(()) };
        let reason = reason(&source);
        let what = format!("write in {}", folder(&self.plan.layout).display());
        let mend = match reason {
            DropReason::DiskFull => "; make room on its disk",
            _ => "; choose a folder that you may write to",
        };
        let error = Error::System { what, source, mend };
        if reason != DropReason::DiskFull {
            return Err(error);
        }
        self.disk.cannot_open(self.now.monotonic_ns + RETRY_NS, reason, &error);
        self.status.set_trouble(Some(reason));
        Ok(())
    }

    /// What other threads may look at.
    pub fn status(&self) -> Arc<RecorderStatus> {
        Arc::clone(&self.status)
    }

    fn begin(
        &mut self,
        series: Option<Origin>,
        source: String,
        ts_ns: u64,
    ) -> Result<Segment, Error> {
        let previous = self.previous.entry(series).or_default();
        let lost = self.upstream.unwrap_or_default().drops;
        let vni = series.and_then(|(_, outer)| outer?.tunnel.id).map(u64::from);
        let segment = Segment::open(&self.plan, source, vni, previous, ts_ns, self.now, lost)?;
        previous.add(segment.path(), self.now.utc_ns);
        Ok(segment)
    }

    /// Most packets are of the origin of the one before, and go to the same file.
    #[inline]
    fn write(&mut self, packet: &Packet) {
        let origin = (packet.meta.interface, packet.meta.outer);
        if let Err(reason) = self.take_room(block_bytes(packet)) {
            return self.lose(origin, reason);
        }
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
        match place.map_or_else(|| self.open_series(origin, packet), Ok) {
            Ok(place) => {
                self.current = Some((origin, place));
                self.open[place].1.write(packet);
            }
            Err(reason) => self.past.entry(origin).or_default().lost(reason),
        }
    }

    /// Counts a packet that no file takes.
    #[cold]
    fn lose(&mut self, origin: Origin, reason: DropReason) {
        match self.knows(origin) {
            true => self.past.entry(origin).or_default().lost(reason),
            false => self.others.lost(DropReason::TooManySources),
        }
    }

    /// Takes room for so many bytes out of the spool's bound.
    #[inline]
    fn take_room(&mut self, bytes: u64) -> Result<(), DropReason> {
        match self.room.as_mut().is_none_or(|room| room.take(bytes)) {
            true => Ok(()),
            false => self.make_room(bytes),
        }
    }

    /// Removes the oldest segments until so many bytes fit into the spool's bound. Where no closed
    /// one is left, the open one that was unused for longest is closed.
    #[cold]
    fn make_room(&mut self, bytes: u64) -> Result<(), DropReason> {
        let now_ns = self.now.monotonic_ns;
        self.disk.may_remove(now_ns)?;
        loop {
            let segments = self.open.iter().map(|(_, segment)| segment).chain(&self.unplaced);
            let open = segments.map(|segment| segment.bytes() + STATISTICS_BYTES).sum();
            let Some(room) = &mut self.room else { return Ok(()) };
            match room.refill(open, bytes) {
                Ok(()) => {
                    self.disk.removed();
                    return Ok(());
                }
                Err(Full::Archive) if !self.open.is_empty() => self.close_unused(),
                Err(full) => {
                    let until_ns = now_ns + RETRY_NS;
                    return Err(self.disk.cannot_remove(until_ns, bytes, full));
                }
            }
        }
    }

    /// Closes the file that was unused for longest.
    fn close_unused(&mut self) {
        let unused = self.open.iter().enumerate().min_by_key(|(_, (_, s))| s.used_ns);
        if let Some((place, _)) = unused {
            self.close(place, None);
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
        self.plan.layout.is_by_source().then_some(origin)
    }

    /// Opens a file for the series of an origin and its first packet; gives its place.
    #[cold]
    fn open_series(&mut self, origin: Origin, packet: &Packet) -> Result<usize, DropReason> {
        let now_ns = self.now.monotonic_ns;
        if self.complete {
            return Err(DropReason::Stopped);
        }
        self.disk.may_open(now_ns)?;
        if !self.files.take(now_ns) {
            return Err(DropReason::TooManySources);
        }
        if self.open.len() >= OPEN_MAX {
            self.close_unused();
        }
        // With the packet, whose room is forgotten where it is counted anew.
        self.take_room(SEGMENT_BYTES + block_bytes(packet))?;
        match self.begin(self.series_of(origin), self.name_of(origin), packet.meta.ts_ns) {
            Ok(segment) => {
                self.disk.opened();
                self.open.push((self.series_of(origin), segment));
                Ok(self.open.len() - 1)
            }
            Err(error) => {
                let reason = match &error {
                    Error::System { source, .. } => reason(source),
                    _ => DropReason::WriteError,
                };
                self.disk.cannot_open(now_ns + RETRY_NS, reason, &error);
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
                let name = name.unwrap_or_else(|| format!("interface-{}", interface.0));
                match self.plan.layout {
                    Layout::Spool(_) => source_name(&name),
                    Layout::File(_) => name.replace([':', '/'], "-"),
                }
            }
        }
    }

    /// Closes an open file and gives it its name.
    fn close(&mut self, place: usize, upstream: Option<&Upstream>) {
        self.current = None;
        let (series, mut segment) = self.open.swap_remove(place);
        let at_end = upstream.is_some();
        if let Err(error) = segment.complete(upstream.or(self.upstream.as_ref()), at_end) {
            self.fail(error, at_end);
        }
        self.disk.closed(segment.trouble());
        self.put_away(segment, at_end);
        let Rotation { time, files, .. } = self.plan.rotation;
        let begun = self.previous.get(&series).map_or(0, |previous| previous.files);
        self.complete |= time.is_some() && files.is_some_and(|n| begun >= u64::from(n));
    }

    /// Gives a complete file the name that it keeps; its counters go over to the past. What cannot be
    /// renamed now is tried again, and stays open at the end, to be adopted.
    fn put_away(&mut self, mut segment: Segment, at_end: bool) {
        match segment.place(&self.plan) {
            Ok(Some(closed)) => {
                let held = closed.bytes + STATISTICS_BYTES;
                self.room.iter_mut().for_each(|room| room.closed(&closed, held));
            }
            Ok(None) => {}
            Err(error) => {
                let is_there = segment.path().is_some();
                if is_there && !at_end && self.unplaced.len() < UNPLACED_MAX {
                    if self.unplaced.is_empty() {
                        tracing::warn!("{error}; it is tried again");
                    }
                    return self.unplaced.push(segment);
                }
                self.fail(error, at_end);
            }
        }
        for (origin, counters) in segment.counters() {
            self.past.entry(origin).or_default().merge(counters);
        }
    }

    /// Notes an error, which is told at the end; before that it is logged.
    fn fail(&mut self, error: Error, at_end: bool) {
        if !at_end {
            tracing::error!("{error}");
        }
        self.failure.get_or_insert(error);
    }

    /// Finds out, once a second while packets are being lost, whether they could be written again: it
    /// may be that none come any more because they are.
    fn look_for_room(&mut self) {
        let now_ns = self.now.monotonic_ns;
        let trouble = self.disk.latched(self.trouble_in_files());
        if self.disk.is_due(!self.unplaced.is_empty(), now_ns, RETRY_NS) {
            let wanted_bytes = self.disk.wanted_bytes();
            if wanted_bytes > 0 {
                // Whether it worked is what the disk's state says.
                let _ = self.make_room(wanted_bytes);
            }
            let room = probe(&self.plan.layout);
            if matches!(room, disk::Room::Found) {
                self.disk.opened();
                let segments = self.open.iter_mut().map(|(_, segment)| segment);
                segments.for_each(|segment| segment.recovered(now_ns, RETRY_NS));
            }
            if !matches!(room, disk::Room::None(_)) {
                self.disk.unlatch();
            }
            let unplaced = std::mem::take(&mut self.unplaced);
            unplaced.into_iter().for_each(|segment| self.put_away(segment, false));
            let trouble = self.disk.latched(self.trouble_in_files());
            return self.status.set_trouble(trouble);
        }
        self.status.set_trouble(trouble);
    }

    fn trouble_in_files(&self) -> Option<DropReason> {
        self.open.iter().find_map(|(_, segment)| segment.trouble())
    }

    /// What became of each origin's packets.
    fn by_origin(&self) -> BTreeMap<Origin, OriginCounters> {
        let mut all = self.past.clone();
        let segments = self.open.iter().map(|(_, segment)| segment).chain(&self.unplaced);
        for (origin, counters) in segments.flat_map(Segment::counters) {
            all.entry(origin).or_default().merge(counters);
        }
        all
    }
}

/// More than a packet takes in a file.
#[inline]
fn block_bytes(packet: &Packet) -> u64 {
    let bytes = packet.data.len() as u64;
    BLOCK_BYTES + bytes + bytes / PADDING_PART
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

/// Refuses a bound that leaves no room for two segments of the size at which they are closed.
fn must_fit(spool: &Path, budget: &SpoolBudget) -> Result<(), Error> {
    let (needed, damaged) = budget.least();
    let needed = needed + 2 * SEGMENT_BYTES;
    match budget.bound() {
        Some(bytes_max) if needed > bytes_max => Err(Error::System {
            what: format!("keep {} within {bytes_max} bytes", spool.display()),
            source: std::io::Error::other(format!(
                "two segments, the open one and one that is closed, and the sealed one that becomes \
                 of it need {needed}, of which {damaged} are damaged segments"
            )),
            mend: "; raise the bound, or lower the size of segments",
        }),
        _ => Ok(()),
    }
}

fn make_spool(spool: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(spool).map_err(|source| Error::System {
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
            if segment.is_old(&self.plan, now) {
                self.close(place, None);
            } else {
                place += 1;
            }
        }
        self.look_for_room();
    }

    fn hear(&mut self, upstream: &Upstream) {
        self.upstream = Some(*upstream);
    }

    fn finish(&mut self, upstream: &Upstream) -> Result<(), Error> {
        while !self.open.is_empty() {
            self.close(0, Some(upstream));
        }
        let unplaced = std::mem::take(&mut self.unplaced);
        unplaced.into_iter().for_each(|segment| self.put_away(segment, true));
        self.failure.take().map_or(Ok(()), Err)
    }

    fn sources(&self) -> Vec<SourceStats> {
        let line = |(origin, OriginCounters { received, fate })| {
            let SinkCounters { sent, held, drops, .. } = fate;
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
