//! A graph at work: the state of its thread.

mod lane;
mod outlet;
mod way;

use crate::graph::{Change, Graph, NewSteps, Part, Way};
use crate::report::Report;
use crate::side_by_side::side_by_side;
use crate::stage::Step;
use crate::steer::TargetGroup;
use crate::target::Target;
use api::{DropReason, StageStats, Start};
use io::{Arrival, Batch, Now, Pool, Upstream, Wakeup, wait};
use lane::Lane;
use outlet::Open;
use std::convert::Infallible;
use std::time::{Duration, Instant};
use way::Path;

/// How long a worker sleeps at most when nothing comes: the clock's work is due at times.
const IDLE: Duration = Duration::from_millis(200);
/// How long it sleeps at most while sources run dry.
const STOPPING: Duration = Duration::from_millis(5);
/// How long it sleeps while packets wait for a target.
const BACKLOG: Duration = Duration::from_micros(1000);
/// How often the kernel's counters are read at least.
const COUNTERS_NS: u64 = 1_000_000_000;
/// How long sources and targets may take to run dry when they stop.
pub(crate) const DRAIN: Duration = Duration::from_secs(2);

/// Memory for packets that are changed where ways part, or that grow: of a batch at a time.
const POOL_CHUNKS: usize = 32;
const POOL_CHUNK_BYTES: usize = 1 << 20;

/// A graph at work.
pub(crate) struct Running {
    lanes: Vec<Lane>,
    paths: Vec<Path>,
    outlets: Vec<Open>,
    scratch: Scratch,
    batch: Batch,
    counters_read_ns: u64,
    /// When sources must have run dry, once everything stops.
    deadline: Option<Instant>,
    /// A change that waits for the sources that it removes.
    change: Option<(Change, Instant)>,
    failure: Option<io::Error>,
    /// Ends its sleep.
    wakeup: Wakeup,
}

/// What a batch needs on its way, used again for each.
struct Scratch {
    pool: Pool,
    /// Packets of the batch that its source's filter and steps let go on.
    taken: Vec<u32>,
    /// Those of them that a map takes, and copies of them where it changes them.
    matched: Vec<u32>,
    copies: Batch,
    /// Those of them that an outlet takes, and copies of those.
    wanted: Vec<u32>,
    changed: Batch,
}

impl Scratch {
    fn new() -> Scratch {
        let positions = || Vec::with_capacity(4 * io::BATCH_PACKETS);
        Scratch {
            pool: Pool::new(POOL_CHUNKS, POOL_CHUNK_BYTES),
            taken: positions(),
            matched: positions(),
            copies: Batch::new(),
            wanted: positions(),
            changed: Batch::new(),
        }
    }
}

/// What a change has removed, to be completed by who asked for it, away from the data path.
pub struct Removed {
    /// The ledger of what was removed, up to now.
    pub report: Report,
    /// Its targets. What waits for them is still theirs.
    pub outlets: Vec<RemovedOutlet>,
    /// Sources and maps, to be freed away from the data path: closing a ring waits for the kernel.
    _freed: (Vec<Lane>, Vec<Path>),
}

/// Targets that get no more packets.
pub struct RemovedOutlet {
    outlet: Open,
}

impl RemovedOutlet {
    /// As [`Self::finish`], of all at once: one that is stuck does not keep the others waiting.
    pub fn finish_all(outlets: Vec<RemovedOutlet>) -> Vec<(Report, Result<(), io::Error>)> {
        side_by_side(outlets, RemovedOutlet::finish)
    }

    /// Brings out what waits, for at most 2 s, and completes the sinks; gives the last ledger. May
    /// block as long as its sinks do.
    ///
    /// # Errors
    /// As [`io::Sink::finish`].
    pub fn finish(mut self) -> (Report, Result<(), io::Error>) {
        let deadline = Instant::now() + DRAIN;
        let mut result = Ok(());
        while !self.outlet.drain() && Instant::now() < deadline {
            std::thread::sleep(BACKLOG);
        }
        for finished in finish(self.outlet.group_mut().targets_mut().iter_mut(), <_>::default()) {
            result = result.and(finished);
        }
        let mut report = Report::default();
        self.outlet.report(0, &mut report);
        for line in &mut report.targets {
            // What is gone has no state: neither a queue nor a health.
            (line.queue_bytes, line.queue_bytes_max, line.healthy) = (0, 0, None);
        }
        (report, result)
    }
}

impl Running {
    pub(crate) fn new(graph: Graph, wakeup: Wakeup) -> Running {
        let Graph { inlets, ways, outlets } = graph;
        let mut running = Running {
            lanes: inlets.into_iter().map(Lane::new).collect(),
            paths: ways.into_iter().map(Path::new).collect(),
            outlets: outlets.into_iter().map(Open::new).collect(),
            scratch: Scratch::new(),
            batch: Batch::new(),
            counters_read_ns: 0,
            deadline: None,
            change: None,
            failure: None,
            wakeup,
        };
        running.join();
        running
    }

    /// Tells each lane which paths begin at it.
    fn join(&mut self) {
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            let leads = |(_, path): &(usize, &Path)| path.from.contains(&place);
            lane.paths =
                self.paths.iter().enumerate().filter(leads).map(|(path, _)| path).collect();
        }
    }

    /// Carries what is ready once through the graph; returns whether it goes on.
    pub(crate) fn turn(&mut self, stop: bool) -> bool {
        if stop || self.is_complete() {
            self.begin_to_stop();
        }
        let now = Now::read();
        let mut idle = true;
        for place in 0..self.lanes.len() {
            idle &= !self.receive(place, now);
        }
        let now = Now::read();
        let mut backlog = false;
        for target in self.targets() {
            target.tick(now);
            backlog |= !target.drain();
        }
        for outlet in &mut self.outlets {
            outlet.group_mut().tick();
        }
        if (self.change.is_none() && self.lanes.iter().all(|lane| lane.ended))
            || self.deadline.is_some_and(|deadline| Instant::now() > deadline)
        {
            return false;
        }
        if now.monotonic_ns.saturating_sub(self.counters_read_ns) >= COUNTERS_NS {
            // The kernel's counters have 32 bits: read before they can come round.
            let upstream = self.upstream();
            self.targets().for_each(|target| target.hear(&upstream));
            self.counters_read_ns = now.monotonic_ns;
        }
        if idle {
            self.sleep(backlog);
        }
        true
    }

    /// Takes one batch from an inlet, if it has one; returns whether it had.
    fn receive(&mut self, place: usize, now: Now) -> bool {
        let lane = &self.lanes[place];
        if lane.ended {
            return false;
        }
        let is_live = lane.input.source.is_live();
        // A source that can wait does so, rather than that a full queue loses its packets.
        if !is_live && !self.drain_targets_of(place) {
            return false;
        }
        let lane = &mut self.lanes[place];
        let arrival = lane.input.source.receive(&mut self.batch);
        let received = self.batch.len() as u64;
        if received > 0 {
            self.carry(place, is_live, now);
        }
        let lane = &mut self.lanes[place];
        match arrival {
            Ok(Arrival::End) => lane.ended = true,
            Ok(Arrival::Packets | Arrival::Idle) => {}
            Err(error) => {
                lane.ended = true;
                note(&mut self.failure, error);
            }
        }
        received > 0
    }

    /// Brings a lane's batch to every outlet that is meant: it is empty afterwards, and each of its
    /// packets counted.
    fn carry(&mut self, place: usize, is_live: bool, now: Now) {
        let Running { lanes, paths, outlets, scratch, batch, .. } = self;
        // Those of a source with several inlets are with the first of them.
        let owner = place.saturating_sub(lanes[place].steps_back);
        let mut steps = std::mem::take(&mut lanes[owner].steps);
        lanes[place].take(batch.packets_mut(), &mut steps, scratch, now);
        lanes[owner].steps = steps;
        let lane = &mut lanes[place];
        let last = lane.paths.len().wrapping_sub(1);
        for (nth, &path) in lane.paths.iter().enumerate() {
            let passage = way::Passage { lane: &mut lane.side, is_live, is_last: nth == last, now };
            paths[path].carry(passage, batch.packets_mut(), outlets, scratch);
        }
        batch.clear();
        scratch.pool.rewind();
    }

    /// Whether all that was asked for is done, or nobody takes packets any more.
    fn is_complete(&self) -> bool {
        let full = self.paths.iter().any(Path::is_full);
        let mut targets = self.outlets.iter().flat_map(Open::targets).peekable();
        full || (targets.peek().is_some() && targets.all(Target::is_closed))
    }

    fn begin_to_stop(&mut self) {
        if self.deadline.is_some() {
            return;
        }
        self.deadline = Some(Instant::now() + DRAIN);
        for lane in &mut self.lanes {
            if let Err(error) = lane.input.source.stop() {
                note(&mut self.failure, error);
            }
        }
    }

    /// Waits for packets, or for a target to take some.
    fn sleep(&mut self, backlog: bool) {
        let lanes = self.lanes.iter().filter(|lane| !lane.ended);
        let sources = lanes.map(|lane| &*lane.input.source);
        let waiting = sources.filter(|source| !backlog || source.is_live());
        let timeout = match backlog {
            true => BACKLOG,
            false if self.deadline.is_some() || self.change.is_some() => STOPPING,
            false => IDLE,
        };
        if waiting.clone().next().is_none() {
            std::thread::sleep(timeout);
        } else if let Err(error) = wait(waiting.clone(), Some(&self.wakeup), timeout) {
            // It may fail again at every turn.
            if self.failure.is_none() {
                note(&mut self.failure, error);
            }
            std::thread::sleep(timeout);
        } else {
            let gather = waiting.map(|source| source.gather()).max();
            std::thread::sleep(gather.unwrap_or_default());
        }
    }

    /// Lets the queues run dry that a lane's packets may come to; returns whether they are.
    fn drain_targets_of(&mut self, place: usize) -> bool {
        let mut empty = true;
        for &path in &self.lanes[place].paths {
            for &outlet in &self.paths[path].to {
                empty &= self.outlets[outlet].drain();
            }
        }
        empty
    }

    fn drain_targets(&mut self) -> bool {
        let mut empty = true;
        for outlet in &mut self.outlets {
            empty &= outlet.drain();
        }
        empty
    }

    fn targets(&mut self) -> impl Iterator<Item = &mut Target> {
        self.outlets.iter_mut().map(Open::group_mut).flat_map(TargetGroup::targets_mut)
    }

    /// Begins to change the graph: what is removed stops. [`Self::changed`] gives what was removed
    /// once that is done. A position that there is not, or is kept twice, is a fault of the caller's:
    /// the change is not made, and given back.
    pub(crate) fn begin_to_change(&mut self, change: Change) -> Result<(), Change> {
        let is_sound = fits(&change.inlets, self.lanes.len())
            && fits(&change.outlets, self.outlets.len())
            && fits(change.ways.iter().map(|way| &way.map), self.paths.len())
            && change.ways.iter().all(|way| {
                way.from.iter().all(|&inlet| inlet < change.inlets.len())
                    && way.to.iter().all(|&outlet| outlet < change.outlets.len())
            })
            && self.steps_fit(&change);
        if !is_sound || self.deadline.is_some() || self.change.is_some() {
            return Err(change);
        }
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            if !is_kept(&change.inlets, place)
                && let Err(error) = lane.input.source.stop()
            {
                tracing::warn!("{}: {error}", lane.input.name);
            }
        }
        self.change = Some((change, Instant::now() + DRAIN));
        Ok(())
    }

    /// Whether the steps that renewed parts keep are there, each once. The parts are.
    fn steps_fit(&self, change: &Change) -> bool {
        let inlets = change.inlets.iter().all(|part| match part {
            Part::Renewed(place, steps) => fits(steps, self.lanes[*place].steps.len()),
            Part::Kept(_) | Part::New(_) => true,
        });
        let ways = change.ways.iter().all(|way| match &way.map {
            Part::Renewed(place, new) => fits(&new.steps, self.paths[*place].map.steps.len()),
            Part::Kept(_) | Part::New(_) => true,
        });
        let outlets = change.outlets.iter().all(|part| match part {
            Part::Renewed(place, new) => fits(&new.steps, self.outlets[*place].steps().len()),
            Part::Kept(_) | Part::New(_) => true,
        });
        inlets && ways && outlets
    }

    /// Changes the graph as soon as the sources that go have run dry; gives what was removed.
    pub(crate) fn changed(&mut self) -> Option<Removed> {
        let (change, deadline) = self.change.as_ref()?;
        let leaving =
            |(place, lane): (usize, &Lane)| !is_kept(&change.inlets, place) && !lane.ended;
        let waits = self.lanes.iter().enumerate().any(leaving);
        if self.deadline.is_some() || (waits && Instant::now() < *deadline) {
            return None;
        }
        let (change, _) = self.change.take()?;
        Some(self.rebuild(change))
    }

    fn rebuild(&mut self, change: Change) -> Removed {
        let Change { inlets, ways, outlets, own } = change;
        let mut report = Report::default();
        let mut old = slots(std::mem::take(&mut self.lanes));
        let renew = |lane: &mut Lane, steps| report.inputs.push(lane.renew(steps));
        self.lanes = placed(inlets, &mut old, Lane::new, renew);
        for (lane, own) in self.lanes.iter_mut().zip(own) {
            lane.side.own = own;
        }
        let mut lanes: Vec<Lane> = old.into_iter().flatten().collect();
        for lane in &mut lanes {
            lane.give_up_rest(&mut self.batch);
            report.inputs.push(lane.report());
        }
        let mut old = slots(std::mem::take(&mut self.outlets));
        let is_new = |part: &Part<_, _>| matches!(part, Part::New(_));
        let new: Vec<bool> = outlets.iter().map(is_new).collect();
        let renew = |open: &mut Open, front| report.outlets.push(open.renew(front));
        self.outlets = placed(outlets, &mut old, Open::new, renew);
        let outlets: Vec<RemovedOutlet> =
            old.into_iter().flatten().map(|outlet| RemovedOutlet { outlet }).collect();
        let mut old = slots(std::mem::take(&mut self.paths));
        for Way { map, from, to } in ways {
            let mut kept = |place: usize| old[place].take();
            self.paths.extend(match map {
                Part::New(map) => Some(Path::new(Way { map, from, to })),
                Part::Kept(place) => kept(place).map(|path| path.between(from, to)),
                Part::Renewed(place, front) => kept(place).map(|mut path| {
                    report.maps.push(path.renew(front));
                    path.between(from, to)
                }),
            });
        }
        let paths: Vec<Path> = old.into_iter().flatten().collect();
        report.maps.extend(paths.iter().map(|path| path.report(0)));
        self.join();
        let freed = (lanes, paths);
        let Running { paths, outlets: open, scratch, .. } = self;
        for path in paths.iter() {
            for &outlet in path.to.iter().filter(|&&outlet| new[outlet]) {
                if open[outlet].start() == Start::Oldest {
                    path.replay(&mut open[outlet], scratch);
                }
            }
        }
        Removed { report, outlets, _freed: freed }
    }

    /// Lets the queues run dry and completes the sinks.
    pub(crate) fn finish(&mut self) -> Result<(), io::Error> {
        let deadline = self.deadline.unwrap_or_else(|| Instant::now() + DRAIN);
        while !self.drain_targets() && Instant::now() < deadline {
            std::thread::sleep(BACKLOG);
        }
        for lane in &mut self.lanes {
            lane.give_up_rest(&mut self.batch);
        }
        let upstream = self.upstream();
        let mut failure = self.failure.take();
        for result in finish(self.targets(), upstream) {
            result.unwrap_or_else(|error| note(&mut failure, error));
        }
        failure.map_or(Ok(()), Err)
    }

    /// What came before the targets so far. Reads the kernel's counters.
    fn upstream(&mut self) -> Upstream {
        let report = self.report();
        Upstream {
            seen: report.seen(),
            matched: report.matched,
            drops: report.drops_before_match(),
        }
    }

    /// The ledger now. Reads the kernel's counters.
    pub(crate) fn report(&mut self) -> Report {
        let mut report = Report::default();
        report.inputs = self.lanes.iter_mut().map(Lane::report).collect();
        let lost_of = |path: &Path| -> u64 {
            let lost = |&place: &usize| report.inputs[place].screened().lost;
            if path.map.is_filtered_in_kernel { path.from.iter().map(lost).sum() } else { 0 }
        };
        let lost: Vec<u64> = self.paths.iter().map(lost_of).collect();
        for (path, &lost) in self.paths.iter().zip(&lost) {
            let mut map = path.report(lost);
            if path.map.is_filtered_in_kernel {
                for screened in path.from.iter().map(|&place| report.inputs[place].screened()) {
                    map.filtered += screened.filtered;
                    add_each(&mut map.rule_hits, &screened.rule_hits);
                }
            }
            report.maps.push(map);
        }
        for (place, outlet) in self.outlets.iter().enumerate() {
            let leads = |(path, _): &(&Path, _)| path.to.contains(&place);
            let lost = self.paths.iter().zip(&lost).filter(leads).map(|(_, lost)| lost).sum();
            outlet.report(lost, &mut report);
        }
        report.sum_up();
        report
    }
}

/// Completes targets, side by side.
fn finish<'a>(
    targets: impl Iterator<Item = &'a mut Target>,
    upstream: Upstream,
) -> Vec<Result<(), io::Error>> {
    side_by_side(targets.collect(), |target| target.finish(&upstream))
}

/// Logs what went wrong when it does, as the other sources and targets may go on for long; the first is
/// the worker's result.
fn note(failure: &mut Option<io::Error>, error: io::Error) {
    tracing::error!("{error}");
    failure.get_or_insert(error);
}

/// Whether the positions that parts keep are there, each once.
fn fits<'a, T: 'a, R: 'a>(parts: impl IntoIterator<Item = &'a Part<T, R>>, places: usize) -> bool {
    let mut kept: Vec<usize> = parts.into_iter().filter_map(Part::kept).collect();
    kept.sort_unstable();
    kept.windows(2).all(|pair| pair[0] != pair[1]) && kept.last().is_none_or(|&last| last < places)
}

fn is_kept<T, R>(parts: &[Part<T, R>], place: usize) -> bool {
    parts.iter().any(|part| part.kept() == Some(place))
}

/// Gives what is kept other steps; returns those that go.
fn exchange(steps: &mut Vec<Step>, new: NewSteps) -> Vec<Step> {
    let mut old = slots(std::mem::take(steps));
    let never = |_: &mut Step, how: Infallible| match how {};
    *steps = placed(new, &mut old, |step| step, never);
    old.into_iter().flatten().collect()
}

/// What stages did; `of` is what they belong to.
fn stages(steps: &[Step], of: &str) -> Vec<StageStats> {
    steps.iter().map(|step| step.stats(of)).collect()
}

fn slots<T>(parts: Vec<T>) -> Vec<Option<T>> {
    parts.into_iter().map(Some).collect()
}

/// The parts at their places: those kept out of `old`, which is sound.
fn placed<T, N, R>(
    parts: Vec<Part<N, R>>,
    old: &mut [Option<T>],
    new: impl Fn(N) -> T,
    mut renew: impl FnMut(&mut T, R),
) -> Vec<T> {
    let place = |part| match part {
        Part::New(part) => Some(new(part)),
        Part::Kept(place) => old[place].take(),
        Part::Renewed(place, how) => {
            let mut part = old[place].take()?;
            renew(&mut part, how);
            Some(part)
        }
    };
    parts.into_iter().filter_map(place).collect()
}

/// Adds counters that stand at the same places; the sum is as long as the longer list.
fn add_each(sum: &mut Vec<u64>, more: &[u64]) {
    sum.resize(sum.len().max(more.len()), 0);
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// Counts what came behind the end that was asked for: nobody asked for it, and what was read ahead
/// from a file was not even seen.
fn beyond(drops: &mut api::Drops, delivered: &mut u64, is_live: bool, packets: u64) {
    if is_live {
        drops.add_many(DropReason::Stopped, packets);
    } else {
        *delivered -= packets;
    }
}
