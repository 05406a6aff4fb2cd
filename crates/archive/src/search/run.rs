//! Runs a plan: reads, judges, and gives the packets found in the order of their times.

use super::choose::choose;
use super::found::{Found, Origin, Packet};
use super::judge::Judge;
use super::merge::Merge;
use super::opened::{Examined, Group, Sealed, Stream, name};
use super::plan::Plan;
use super::{JOBS_MAX, WAITING_BYTES_MAX};
use crate::catalog::{self, Segment, State};
use crate::error::Error;
use crate::fetch::Fetch;
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How often it is looked whether the search is to end.
const LOOK_AT: Duration = Duration::from_millis(100);
/// Troubles that are kept; all are counted.
const TROUBLES_MAX: usize = 1000;

/// How far a search is.
#[derive(Debug)]
pub struct Progress {
    /// Segments that have to be read.
    pub segments: u64,
    segments_done: AtomicU64,
    packets: AtomicU64,
    fetch: Arc<Fetch>,
}

impl Progress {
    pub(super) fn new(fetch: &Arc<Fetch>, segments: u64) -> Progress {
        let fetch = Arc::clone(fetch);
        Progress { segments, segments_done: AtomicU64::new(0), packets: AtomicU64::new(0), fetch }
    }

    /// Segments that were read to their end, or need not be read any more.
    pub fn segments_done(&self) -> u64 {
        self.segments_done.load(Relaxed)
    }

    /// Packets that were given out.
    pub fn packets(&self) -> u64 {
        self.packets.load(Relaxed)
    }

    /// Ranges that were read: of manifest, indexes and segments.
    pub fn range_reads(&self) -> u64 {
        self.fetch.range_reads()
    }

    /// Bytes that were read: of manifest, indexes and segments.
    pub fn bytes(&self) -> u64 {
        self.fetch.bytes()
    }
}

/// Something that could not be searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The segment, as key or as path.
    pub segment: String,
    /// What of it, and why.
    pub what: String,
}

/// What became of a search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Packets that were given out.
    pub packets: u64,
    /// Segments of which data was read.
    pub segments_read: u64,
    /// Ranges that were read: of manifest, indexes and segments.
    pub range_reads: u64,
    /// Bytes that were read: of manifest, indexes and segments.
    pub bytes: u64,
    /// What could not be searched, a thousand at most.
    pub troubles: Vec<Trouble>,
    /// How many such there were.
    pub troubles_count: u64,
    /// Whether it ended early, as it was asked to.
    pub is_stopped: bool,
}

impl Outcome {
    /// Whether all that was planned was read.
    pub fn is_complete(&self) -> bool {
        self.troubles_count == 0 && !self.is_stopped
    }
}

impl Plan {
    /// Reads what was planned and gives each packet found to `each`, in order, as soon as no packet
    /// before it can come. Ends early when `each` breaks or `cancel` becomes true. What cannot be read is
    /// told in the outcome, and the rest is searched. Run it in [`crate::runtime`].
    ///
    /// # Errors
    /// [`Error::System`] if a file for waiting packets is needed, and cannot be written or read.
    pub async fn run(
        self,
        cancel: &AtomicBool,
        mut each: impl FnMut(&Packet<'_>) -> ControlFlow<()>,
    ) -> Result<Outcome, Error> {
        let mut run = Run {
            fetch: &self.fetch,
            spool: &self.spool,
            segments: &self.listed,
            plan: &self,
            queue: BinaryHeap::new(),
            merge: Merge::new(WAITING_BYTES_MAX, std::env::temp_dir()),
            origins: Vec::new(),
            is_read: vec![false; self.listed.len()],
            pending: vec![1; self.listed.len()],
            outcome: Outcome::default(),
        };
        for (number, segment) in (0..).zip(&self.listed) {
            let bound_ns = if segment.state == State::Open { 0 } else { segment.name.first_ns };
            run.queue.push(Reverse(Item { bound_ns, segment: number, part: 0, work: Work::Open }));
        }
        run.all(cancel, &mut each).await?;
        let mut outcome = run.outcome;
        outcome.packets = self.progress.packets();
        outcome.segments_read = run.is_read.iter().filter(|is_read| **is_read).count() as u64;
        outcome.range_reads = self.fetch.range_reads();
        outcome.bytes = self.fetch.bytes();
        Ok(outcome)
    }
}

/// What is to be done next.
enum Work {
    /// Find out what to read of a segment.
    Open,
    /// Read some frames of it.
    Group(Arc<Sealed>, Group),
    /// Read on.
    Stream(Box<Stream>),
}

/// Something to do that gives no packet before a time.
struct Item {
    bound_ns: u64,
    segment: u32,
    part: u32,
    work: Work,
}

impl Item {
    fn key(&self) -> (u64, u32, u32) {
        (self.bound_ns, self.segment, self.part)
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Item) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Item) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Item) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// What a job has found out.
#[derive(Default)]
struct Done {
    segment: u32,
    /// The bound of the item that it was.
    bound_ns: u64,
    examined: Examined,
    /// What is to be done of this segment now.
    next: Vec<Item>,
    is_data: bool,
}

struct Run<'a> {
    plan: &'a Plan,
    fetch: &'a Fetch,
    spool: &'a Option<PathBuf>,
    segments: &'a [Segment],
    /// The work with the lowest bound first.
    queue: BinaryHeap<Reverse<Item>>,
    merge: Merge,
    /// A copy of the interfaces, which threads add to.
    origins: Vec<Arc<Origin>>,
    is_read: Vec<bool>,
    /// Items of each segment that are not done.
    pending: Vec<u32>,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    async fn all(
        &mut self,
        cancel: &AtomicBool,
        each: &mut impl FnMut(&Packet<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut jobs: FuturesUnordered<LocalBoxFuture<'a, Done>> = FuturesUnordered::new();
        // What the jobs that run may still give.
        let mut bounds: Vec<(u64, u32)> = Vec::new();
        loop {
            while jobs.len() < JOBS_MAX
                && let Some(Reverse(item)) = self.queue.pop()
            {
                bounds.push((item.bound_ns, item.segment));
                jobs.push(Box::pin(self.job(item)));
            }
            let done = match tokio::time::timeout(LOOK_AT, jobs.next()).await {
                Ok(None) => break,
                Ok(Some(done)) => Some(done),
                Err(_) => None,
            };
            if cancel.load(Relaxed) {
                self.outcome.is_stopped = true;
                return Ok(());
            }
            let Some(done) = done else { continue };
            if let Some(at) = bounds.iter().position(|b| *b == (done.bound_ns, done.segment)) {
                bounds.swap_remove(at);
            }
            self.take(done)?;
            let queued = self.queue.peek().map(|Reverse(item)| item.bound_ns);
            let running = bounds.iter().map(|(bound_ns, _)| *bound_ns);
            if let Some(before_ns) = running.chain(queued).min()
                && self.give(Some(before_ns), cancel, each)?.is_break()
            {
                return Ok(());
            }
        }
        self.give(None, cancel, each).map(drop)
    }

    fn take(&mut self, done: Done) -> Result<(), Error> {
        let segment = done.segment as usize;
        self.is_read[segment] |= done.is_data;
        self.pending[segment] = self.pending[segment] - 1 + done.next.len() as u32;
        if self.pending[segment] == 0 {
            self.plan.progress.segments_done.fetch_add(1, Relaxed);
        }
        self.queue.extend(done.next.into_iter().map(Reverse));
        for what in done.examined.troubles {
            let trouble = Trouble { segment: name(&self.segments[segment]), what };
            self.outcome.troubles_count += 1;
            let troubles = &mut self.outcome.troubles;
            if troubles.len() < TROUBLES_MAX {
                troubles.push(trouble);
            }
        }
        self.merge.add(done.examined.found)
    }

    /// Gives out the packets before a time, or all.
    fn give(
        &mut self,
        before_ns: Option<u64>,
        cancel: &AtomicBool,
        each: &mut impl FnMut(&Packet<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        while let Some(found) = self.merge.next_before(before_ns)? {
            if cancel.load(Relaxed) {
                self.outcome.is_stopped = true;
                return Ok(ControlFlow::Break(()));
            }
            let origin = self.origin(&found);
            self.plan.progress.packets.fetch_add(1, Relaxed);
            if each(&found.packet(&origin)).is_break() {
                self.outcome.is_stopped = true;
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn origin(&mut self, found: &Found) -> Arc<Origin> {
        if found.origin as usize >= self.origins.len() {
            let origins = &self.plan.shared.origins;
            let origins = origins.lock().unwrap_or_else(PoisonError::into_inner);
            self.origins.extend_from_slice(origins.from(self.origins.len()));
        }
        Arc::clone(&self.origins[found.origin as usize])
    }

    /// Does an item; what goes wrong is a trouble of its segment.
    fn job(&self, item: Item) -> impl Future<Output = Done> + use<'a> {
        let (plan, fetch, spool) = (self.plan, self.fetch, self.spool.clone());
        let segment = self.segments[item.segment as usize].clone();
        async move {
            let (bound_ns, number) = (item.bound_ns, item.segment);
            let job = Job { plan, fetch, spool, segment, number };
            let done = match item.work {
                Work::Open => job.open().await,
                Work::Group(sealed, group) => job.group(sealed, group).await,
                Work::Stream(stream) => job.turn(stream, item.part).await,
            };
            let done = done.unwrap_or_else(|error| {
                let troubles = vec![error.to_string()];
                let examined = Examined { found: Vec::new(), troubles };
                Done { examined, ..Done::default() }
            });
            Done { segment: number, bound_ns, ..done }
        }
    }
}

/// Something that is done for one segment.
struct Job<'a> {
    plan: &'a Plan,
    fetch: &'a Fetch,
    spool: Option<PathBuf>,
    segment: Segment,
    number: u32,
}

impl Job<'_> {
    fn item(&self, bound_ns: u64, part: u32, work: Work) -> Item {
        Item { bound_ns, segment: self.number, part, work }
    }

    async fn open(mut self) -> Result<Done, Error> {
        loop {
            let error = match self.open_once().await {
                Err(error) if error.is_not_found() => error,
                done => return done,
            };
            // It went from the spool into the store, or was removed.
            let moved = self.found_again().await?;
            let Some(moved) = moved.filter(|moved| moved.data != self.segment.data) else {
                return Err(error);
            };
            self.segment = moved;
        }
    }

    async fn open_once(&self) -> Result<Done, Error> {
        let judge = Judge::new(&self.plan.shared, &self.segment.name.source);
        if !matches!(self.segment.state, State::Sealed | State::Stored) {
            let opened = Stream::open(self.fetch, &self.segment, self.number, judge).await?;
            let (stream, troubles) = opened;
            let next = stream
                .map(|(stream, first_ns)| self.item(first_ns, 0, Work::Stream(Box::new(stream))));
            let examined = Examined { found: Vec::new(), troubles };
            let next = next.into_iter().collect();
            return Ok(Done { examined, next, is_data: true, ..Done::default() });
        }
        let chosen = choose(self.fetch, &self.segment, &judge).await;
        if chosen.as_ref().is_some_and(BTreeMap::is_empty) {
            return Ok(Done::default());
        }
        let sealed = Arc::new(Sealed::open(self.fetch, &self.segment, judge).await?);
        // Nothing is found before the range.
        let first_ns = self.segment.name.first_ns.max(self.plan.query().window.after_ns);
        let groups = match &chosen {
            Some(chosen) => sealed.groups(chosen.keys().copied(), |frame| {
                chosen.get(&frame).map_or(first_ns, |row_ns| first_ns.max(*row_ns))
            }),
            None => sealed.groups(sealed.frames(), |_| first_ns),
        };
        let next = groups.into_iter().map(|group| {
            let part = group.frames.first().copied().unwrap_or_default();
            self.item(group.first_ns, part, Work::Group(Arc::clone(&sealed), group))
        });
        Ok(Done { next: next.collect(), ..Done::default() })
    }

    async fn group(&self, sealed: Arc<Sealed>, group: Group) -> Result<Done, Error> {
        let read = Arc::clone(&sealed).examine(self.fetch, group.clone(), self.number).await;
        let examined = match read {
            Err(error) if error.is_not_found() => {
                let moved = self.found_again().await?;
                let Some(moved) = moved.filter(|moved| moved.data.0 != sealed.place()) else {
                    return Err(error);
                };
                sealed.moved(moved.data.0);
                sealed.examine(self.fetch, group, self.number).await?
            }
            read => read?,
        };
        Ok(Done { examined, is_data: true, ..Done::default() })
    }

    async fn turn(&self, stream: Box<Stream>, part: u32) -> Result<Done, Error> {
        let (examined, stream) = stream.turn().await?;
        let next =
            stream.map(|(stream, bound_ns)| self.item(bound_ns, part + 1, Work::Stream(stream)));
        Ok(Done { examined, next: next.into_iter().collect(), ..Done::default() })
    }

    /// Where the segment is by now.
    async fn found_again(&self) -> Result<Option<Segment>, Error> {
        catalog::find(self.fetch.store(), self.spool.as_deref(), &self.segment).await
    }
}
