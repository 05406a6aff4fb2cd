//! A tap: where packets come from, which of them are kept, and where they go.

use crate::filter::CaptureFilter;
use crate::limit::Limit;
use crate::own::OwnTunnels;
use crate::report::{InputReport, Report};
use crate::steer::TargetGroup;
use crate::target::Target;
use api::{DirectionChoice, DropReason, Drops};
use io::{Arrival, Batch, Now, Source, Upstream, Wakeup, wait};
use std::time::{Duration, Instant};

/// How long a tap sleeps at most when nothing comes: the clock's work is due at times.
const IDLE: Duration = Duration::from_millis(200);
/// How long it sleeps at most while its sources run dry.
const STOPPING: Duration = Duration::from_millis(5);
/// How long it sleeps while packets wait for a target.
const BACKLOG: Duration = Duration::from_micros(1000);
/// How often the kernel's counters are read at least.
const COUNTERS_NS: u64 = 1_000_000_000;
/// How long sources and targets may take to run dry when the tap stops.
const DRAIN: Duration = Duration::from_secs(2);

/// A named source.
pub struct Input {
    /// The interface, file or listening endpoint.
    pub name: String,
    /// Where its packets come from.
    pub source: Box<dyn Source>,
}

/// A tap, before it runs.
pub struct Tap {
    /// Its name in the ledger.
    pub name: String,
    /// Its sources, served in turn.
    pub inputs: Vec<Input>,
    /// The tunnels whose packets are the tap's own.
    pub own: OwnTunnels,
    /// Which packets are kept.
    pub filter: CaptureFilter,
    /// Bytes kept of each packet; `None`: all.
    pub snaplen: Option<usize>,
    /// The tap ends after so many packets have matched.
    pub limit: Option<Limit>,
    /// Whether the sinks use the flow hash, beside groups of more than one.
    pub needs_flow_hash: bool,
    /// Each gets every matched packet; the members of a group share them.
    pub groups: Vec<TargetGroup>,
}

impl Tap {
    /// A tap that carries every packet whole from its sources to every group.
    pub fn new(name: String, inputs: Vec<Input>, groups: Vec<TargetGroup>) -> Tap {
        Tap {
            name,
            inputs,
            own: OwnTunnels::default(),
            filter: CaptureFilter::all(DirectionChoice::Both),
            snaplen: None,
            limit: None,
            needs_flow_hash: false,
            groups,
        }
    }
}

/// A source at work.
struct Lane {
    input: Input,
    /// Packets that it delivered, and those of them that matched.
    delivered: u64,
    matched: u64,
    ended: bool,
}

/// A tap at work: the state of its thread.
pub(crate) struct Running {
    /// The tap, but for its inputs.
    tap: Tap,
    lanes: Vec<Lane>,
    batch: Batch,
    /// Positions of the batch's packets that matched.
    matched_positions: Vec<u32>,
    filtered: u64,
    matched: u64,
    drops: Drops,
    counters_read_ns: u64,
    /// When sources must have run dry, once the tap stops.
    deadline: Option<Instant>,
    failure: Option<io::Error>,
    /// Ends its sleep.
    wakeup: Wakeup,
}

impl Running {
    pub(crate) fn new(mut tap: Tap, wakeup: Wakeup) -> Running {
        tap.needs_flow_hash |= tap.groups.iter().any(TargetGroup::balances);
        let lane = |input| Lane { input, delivered: 0, matched: 0, ended: false };
        Running {
            lanes: std::mem::take(&mut tap.inputs).into_iter().map(lane).collect(),
            tap,
            batch: Batch::new(),
            matched_positions: Vec::with_capacity(4 * io::BATCH_PACKETS),
            filtered: 0,
            matched: 0,
            drops: Drops::default(),
            counters_read_ns: 0,
            deadline: None,
            failure: None,
            wakeup,
        }
    }

    /// Carries what is ready once through the tap; returns whether it goes on.
    pub(crate) fn turn(&mut self, stop: bool) -> bool {
        if stop || self.is_complete() {
            self.begin_to_stop();
        }
        let mut idle = true;
        for place in 0..self.lanes.len() {
            idle &= !self.receive(place);
        }
        let now = Now::read();
        let mut backlog = false;
        for target in self.targets() {
            target.tick(now);
            backlog |= !target.drain();
        }
        if self.lanes.iter().all(|lane| lane.ended)
            || self.deadline.is_some_and(|deadline| Instant::now() > deadline)
        {
            return false;
        }
        if now.monotonic_ns.saturating_sub(self.counters_read_ns) >= COUNTERS_NS {
            // The kernel's counters have 32 bits: read before they can come round.
            for lane in &mut self.lanes {
                lane.input.source.drops();
            }
            self.counters_read_ns = now.monotonic_ns;
        }
        if idle {
            self.sleep(backlog);
        }
        true
    }

    /// Takes one batch from an input, if it has one; returns whether it had.
    fn receive(&mut self, place: usize) -> bool {
        if self.lanes[place].ended {
            return false;
        }
        let is_live = self.lanes[place].input.source.is_live();
        // A source that can wait does so, rather than that a full queue loses its packets.
        if !is_live && !self.drain_targets() {
            return false;
        }
        let arrival = self.lanes[place].input.source.receive(&mut self.batch);
        let received = self.batch.len() as u64;
        let matched = self.matched;
        let beyond = self.process();
        let lane = &mut self.lanes[place];
        lane.matched += self.matched - matched;
        lane.delivered += received;
        if is_live {
            self.drops.add_many(DropReason::Stopped, beyond);
        } else {
            // Nobody asked for what follows in a file: it was read ahead, not seen.
            lane.delivered -= beyond;
        }
        match arrival {
            Ok(Arrival::End) => lane.ended = true,
            Ok(Arrival::Packets | Arrival::Idle) => {}
            Err(error) => {
                lane.ended = true;
                self.failure.get_or_insert(error);
            }
        }
        received > 0
    }

    /// Filter, slice, steer: the batch is empty afterwards, and each of its packets counted, but
    /// for those beyond the tap's limit, whose number is returned.
    fn process(&mut self) -> u64 {
        self.matched_positions.clear();
        let tap = &mut self.tap;
        let mut beyond = 0;
        let packets = self.batch.packets_mut();
        for (position, packet) in packets.iter_mut().enumerate() {
            if tap.limit.as_ref().is_some_and(Limit::is_reached) {
                beyond += 1;
            } else if !packet.meta.decided && !tap.filter.keeps(packet) {
                self.filtered += 1;
            } else if tap.own.contains(packet) {
                self.drops.add(DropReason::OwnTunnel);
            } else if !tap.limit.as_ref().is_none_or(Limit::take) {
                // Another worker took the last one meanwhile.
                beyond += 1;
            } else {
                if tap.needs_flow_hash {
                    // Before the slice, which may cut the ports off.
                    packet.meta.flow_hash = Some(packet.compute_flow_hash());
                }
                if let Some(snaplen) = tap.snaplen {
                    packet.data.truncate(snaplen);
                }
                self.matched_positions.push(position as u32);
            }
        }
        self.matched += self.matched_positions.len() as u64;
        for group in &mut tap.groups {
            group.steer(self.batch.packets(), &self.matched_positions);
        }
        self.batch.clear();
        beyond
    }

    /// Whether all that was asked for is done, or nobody takes packets any more.
    fn is_complete(&self) -> bool {
        let full = self.tap.limit.as_ref().is_some_and(Limit::is_reached);
        let mut targets = self.tap.groups.iter().flat_map(TargetGroup::targets).peekable();
        full || (targets.peek().is_some() && targets.all(Target::is_closed))
    }

    fn begin_to_stop(&mut self) {
        if self.deadline.is_some() {
            return;
        }
        self.deadline = Some(Instant::now() + DRAIN);
        for lane in &mut self.lanes {
            if let Err(error) = lane.input.source.stop() {
                self.failure.get_or_insert(error);
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
            false if self.deadline.is_some() => STOPPING,
            false => IDLE,
        };
        if waiting.clone().next().is_none() {
            std::thread::sleep(timeout);
        } else if let Err(error) = wait(waiting.clone(), Some(&self.wakeup), timeout) {
            self.failure.get_or_insert(error);
            std::thread::sleep(timeout);
        } else {
            let gather = waiting.map(|source| source.gather()).max();
            std::thread::sleep(gather.unwrap_or_default());
        }
    }

    fn drain_targets(&mut self) -> bool {
        let mut empty = true;
        for target in self.targets() {
            empty &= target.drain();
        }
        empty
    }

    fn targets(&mut self) -> impl Iterator<Item = &mut Target> {
        self.tap.groups.iter_mut().flat_map(|group| group.targets_mut())
    }

    /// Lets the queues run dry and completes the sinks.
    pub(crate) fn finish(&mut self) -> Result<(), io::Error> {
        let deadline = self.deadline.unwrap_or_else(|| Instant::now() + DRAIN);
        while !self.drain_targets() && Instant::now() < deadline {
            std::thread::sleep(BACKLOG);
        }
        self.give_up_rest();
        let report = self.report();
        let upstream = Upstream {
            seen: report.seen(),
            matched: report.matched,
            drops: report.drops_before_match(),
        };
        let mut failure = self.failure.take();
        for target in self.targets() {
            if let Err(error) = target.finish(&upstream) {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Counts what still stands in the sources' rings and sockets when their time is over.
    fn give_up_rest(&mut self) {
        let deadline = Instant::now() + DRAIN;
        for Lane { input, delivered, ended, .. } in &mut self.lanes {
            while input.source.is_live() && !*ended && Instant::now() < deadline {
                let arrival = input.source.receive(&mut self.batch);
                let rest = self.batch.len() as u64;
                self.batch.clear();
                *delivered += rest;
                self.drops.add_many(DropReason::Stopped, rest);
                match arrival {
                    Ok(Arrival::Packets) => {}
                    Ok(Arrival::Idle) => std::thread::sleep(BACKLOG),
                    Ok(Arrival::End) | Err(_) => *ended = true,
                }
            }
            if !std::mem::replace(ended, true) {
                input.source.drops();
                self.drops.add_many(DropReason::Stopped, input.source.missing());
            }
        }
    }

    /// The ledger now. Reads the kernel's counters.
    pub(crate) fn report(&mut self) -> Report {
        let input = |lane: &mut Lane| InputReport {
            name: lane.input.name.clone(),
            delivered: lane.delivered,
            matched: lane.matched,
            streams: lane.input.source.streams(),
            drops: lane.input.source.drops(),
            // While packets come, some stand in the ring, counted but not yet taken.
            missing: if lane.ended { lane.input.source.missing() } else { 0 },
            screening: lane.input.source.screening(),
        };
        let inputs: Vec<InputReport> = self.lanes.iter_mut().map(input).collect();
        let (mut filtered, mut lost) = (self.filtered, 0);
        let mut rule_hits = self.tap.filter.rule_hits().to_vec();
        for screened in inputs.iter().map(InputReport::screened) {
            filtered += screened.filtered;
            lost += screened.lost;
            add_each(&mut rule_hits, &screened.rule_hits);
        }
        let targets = self.tap.groups.iter().flat_map(TargetGroup::targets);
        Report {
            name: self.tap.name.clone(),
            inputs,
            filtered,
            matched: self.matched + lost,
            rule_hits,
            drops: self.drops,
            targets: self.tap.groups.iter().flat_map(|group| group.stats(lost)).collect(),
            sources: targets.map(|target| target.sink().sources()).collect(),
        }
    }
}

/// Adds counters that stand at the same places; the sum is as long as the longer list.
fn add_each(sum: &mut Vec<u64>, more: &[u64]) {
    sum.resize(sum.len().max(more.len()), 0);
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}
