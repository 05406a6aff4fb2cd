//! A table that the kernel forwards by: what is left to do for user space, and its counters as a
//! forwarder's.

use super::report::{Counts, ForwardReport, OtherReport, RuleReport, SideReport};
use super::sessions::{Session, State};
use super::table::Table;
use super::{Change, SESSIONS_SHOWN_MAX, Shared, lock};
use crate::batch::Batch;
use crate::clock::Now;
use crate::device::{Arrival, Source, wait};
use crate::error::Error;
use crate::inline::{InlineCopies, InlineCounters, InlineStart, KernelInline, PINS, View};
use crate::packet::{Direction, Packet};
use crate::pool::Pool;
use crate::trouble::Trouble;
use crate::waker::Wakeup;
use api::{DropReason, Drops, InlineRule, InlineView, RingSize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use wire::translate::End;

/// How often the kernel's tables are looked after at least.
const IDLE: Duration = Duration::from_millis(100);
/// How often a report is published without being asked for.
const LOOK_NS: u64 = 1_000_000_000;
/// How long the ring must have been empty at the end: some hand-overs of it. And how long what it holds
/// then may take.
const DRY: Duration = Duration::from_millis(50);
const DRY_MAX: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);
/// How long a change may wait for copies of rules that it takes away.
const CHANGE_MAX: Duration = Duration::from_millis(500);
/// Memory for the views' copies that wait.
const POOL_CHUNKS: usize = 64;
const POOL_CHUNK_BYTES: usize = 1 << 20;

pub(super) struct InKernel {
    kernel: KernelInline,
    copies: InlineCopies,
    table: Table,
    /// The programs' numbers of the rules, in their order.
    numbers: Vec<u32>,
    by_number: HashMap<u32, usize>,
    /// What rules had counted that are gone, by name; one that comes back goes on with it.
    gone: BTreeMap<String, RuleReport>,
    /// What had been left to an earlier process that the table was taken over from, by the rule's number,
    /// there and back.
    left_before: HashMap<u32, [u64; 2]>,
    pool: Pool,
    /// While a table takes another's place, the one before and its numbers: copies are on their way.
    before: Option<(Table, HashMap<u32, usize>)>,
    /// Copies that came when their rule was gone.
    homeless: u64,
    /// Whether all has come that will.
    is_dry: bool,
    shared: Arc<Shared>,
    wakeup: Wakeup,
    looked_ns: u64,
    trouble: Trouble,
}

impl InKernel {
    /// Puts the programs in place, or takes over those of an earlier process.
    pub fn open(
        table: Table,
        ring_size: RingSize,
        shared: Arc<Shared>,
        wakeup: Wakeup,
    ) -> Result<(InKernel, InlineStart), Error> {
        let now = Now::read();
        let (mut kernel, start) = KernelInline::open(&table.config, Path::new(PINS), now)?;
        let prepared = Self::prepare(&mut kernel, ring_size, now);
        let (copies, left_before) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                kernel.give_up(&start);
                return Err(error);
            }
        };
        let mut this = InKernel {
            kernel,
            copies,
            numbers: Vec::new(),
            by_number: HashMap::new(),
            gone: BTreeMap::new(),
            left_before,
            pool: Pool::new(POOL_CHUNKS, POOL_CHUNK_BYTES),
            before: None,
            homeless: 0,
            is_dry: false,
            shared,
            wakeup,
            looked_ns: 0,
            trouble: Trouble::default(),
            table,
        };
        this.number_rules(this.kernel.numbers_of_rules());
        Ok((this, start))
    }

    /// Where copies come, and what was left to an earlier process.
    fn prepare(
        kernel: &mut KernelInline,
        ring_size: RingSize,
        now: Now,
    ) -> Result<(InlineCopies, HashMap<u32, [u64; 2]>), Error> {
        let mut left_before = HashMap::new();
        for number in kernel.numbers_of_rules() {
            let left = kernel.counters(number)?.map(|counters| counters.handed_up);
            left_before.insert(number, left);
        }
        Ok((kernel.copies(ring_size, now)?, left_before))
    }

    fn number_rules(&mut self, numbers: Vec<u32>) {
        self.by_number = numbers.iter().copied().zip(0..).collect();
        self.numbers = numbers;
    }

    /// Looks after the table until it is stopped; gives the last report. A table that fails open goes
    /// on without it.
    pub fn run(mut self) -> ForwardReport {
        let mut batch = Batch::new();
        let mut failure = None;
        while !self.shared.stop.load(Ordering::Acquire) {
            let now = Now::read();
            self.take_table(&mut batch, now);
            if let Err(error) = self.kernel.tick(now) {
                let error = std::io::Error::other(error.to_string());
                self.trouble.tell(&self.table.config.name, &error, "it is tried again");
            }
            if let Err(error) = self.copies.receive(&mut batch) {
                tracing::error!("{error}");
                failure = Some(error.to_string());
                break;
            }
            let is_busy = !batch.is_empty();
            for packet in batch.drain() {
                self.take(&packet, now);
            }
            if is_busy {
                let captures = self.table.captures.iter().flatten();
                captures.for_each(|capture| capture.sender.wake());
            }
            self.publish(now);
            if is_busy {
                continue;
            }
            let source: &dyn Source = &self.copies;
            if let Err(error) = wait(std::iter::once(source), Some(&self.wakeup), IDLE) {
                tracing::error!("{error}");
                failure = Some(error.to_string());
                break;
            }
        }
        self.run_dry(&mut batch);
        ForwardReport { failure, ..self.report() }
    }

    /// Has the kernel show nothing more, and takes what is on its way.
    fn run_dry(&mut self, batch: &mut Batch) {
        let now = Now::read();
        if let Err(error) = self.kernel.show_no_more(now) {
            tracing::debug!("{error}");
        }
        self.take_what_waits(batch, u64::MAX, DRY_MAX, now);
        self.is_dry = true;
    }

    /// Takes copies until so many of views have come since the beginning, or no more come.
    fn take_what_waits(&mut self, batch: &mut Batch, until: u64, at_most: Duration, now: Now) {
        let begun = Instant::now();
        let mut came = begun;
        while came.elapsed() < DRY && begun.elapsed() < at_most && self.copies.arrived() < until {
            let arrival = self.copies.receive(batch);
            for packet in batch.drain() {
                self.take(&packet, now);
            }
            match arrival {
                Ok(Arrival::Packets) => {
                    came = Instant::now();
                    let before = self.before.iter().map(|(table, _)| table);
                    let tables = before.chain(std::iter::once(&self.table));
                    let captures = tables.flat_map(|table| table.captures.iter().flatten());
                    captures.for_each(|capture| capture.sender.wake());
                }
                Ok(Arrival::Idle) => std::thread::sleep(LOOK),
                Ok(Arrival::End) | Err(_) => break,
            }
        }
    }

    fn take_table(&mut self, batch: &mut Batch, now: Now) {
        let Some(Change { table, told }) = self.shared.take_change() else { return };
        // Who asked may have given up.
        let _ = told.try_send(self.change_to(table, batch, now));
    }

    fn change_to(&mut self, table: Table, batch: &mut Batch, now: Now) -> Result<(), Error> {
        let before = self.report().rules;
        let numbers = match self.kernel.set_rules(&table.config.rules, now) {
            Ok(numbers) => numbers,
            Err(error) => {
                // It may have been refused half way.
                match self.kernel.set_rules(&self.table.config.rules, now) {
                    Ok(numbers) => self.number_rules(numbers),
                    Err(why) => tracing::error!("put the rules back as they were: {why}"),
                }
                return Err(error);
            }
        };
        // The kernel has counted for what a rule matches, whatever it is called.
        let matched = |rule: &InlineRule| (rule.address, rule.protocol, rule.port);
        let kept: HashSet<_> = table.config.rules.iter().map(matched).collect();
        let rules = self.table.config.rules.iter().zip(&self.numbers);
        let rules = rules.zip(before).filter(|((rule, _), _)| !kept.contains(&matched(rule)));
        let gone: Vec<(InlineRule, u32, RuleReport)> =
            rules.map(|((rule, number), line)| (rule.clone(), *number, line)).collect();
        self.kernel.set_timeouts(table.config.timeouts);
        let by_number = std::mem::take(&mut self.by_number);
        self.before = Some((std::mem::replace(&mut self.table, table), by_number));
        self.number_rules(numbers);
        if !gone.is_empty() {
            let shown = self.kernel.shown().map_or(u64::MAX, |shown| shown.made);
            self.take_what_waits(batch, shown, CHANGE_MAX, now);
        }
        for (rule, number, before) in gone {
            // Where its number is another's already, what it had counted just before is all that is known.
            let is_free = !self.by_number.contains_key(&number);
            let line = if is_free { self.line(&rule, number) } else { before };
            self.left_before.remove(&number);
            self.gone.insert(line.name.clone(), line);
        }
        self.before = None;
        Ok(())
    }

    /// Deals with what came from the kernel: a copy for a view, or a packet that it left to us.
    fn take(&mut self, packet: &Packet, now: Now) {
        let Some((number, view)) = InlineCopies::origin(packet) else { return };
        let InKernel { kernel, by_number, table, pool, before, homeless, .. } = self;
        let now_at = by_number.get(&number).map(|place| (&*table, *place));
        let place = now_at.or_else(|| {
            let (table, by_number) = before.as_ref()?;
            Some((table, *by_number.get(&number)?))
        });
        *homeless += u64::from(place.is_none() && view != View::Exception);
        let mut show = |view: View, frame: &[u8]| {
            if let Some((table, place)) = place {
                give(table, place, pool, (view, frame), packet);
            }
        };
        if view != View::Exception {
            return show(view, &packet.data);
        }
        if let Err(error) = kernel.handle(packet, number, now, &mut show) {
            tracing::debug!("a packet that the kernel left to us: {error}");
        }
    }

    fn publish(&mut self, now: Now) {
        let is_due = now.monotonic_ns >= self.looked_ns.saturating_add(LOOK_NS);
        if self.shared.asked.swap(false, Ordering::Acquire) || is_due {
            self.looked_ns = now.monotonic_ns;
            let report = self.report();
            *lock(&self.shared.report) = report;
            self.shared.published.fetch_add(1, Ordering::Release);
        }
    }

    fn report(&mut self) -> ForwardReport {
        let sessions = self.kernel.sessions(SESSIONS_SHOWN_MAX).unwrap_or_default();
        let mut other = OtherReport::default();
        let shown = self.kernel.shown().unwrap_or_default();
        let never_came = shown.made.saturating_sub(self.copies.arrived());
        other.drops = lost_views(&self.copies.drops(), never_came, self.is_dry);
        other.drops.add_many(DropReason::KernelQueue, shown.lost + self.homeless);
        let mut rules = Vec::with_capacity(self.numbers.len());
        for (rule, &number) in self.table.config.rules.iter().zip(&self.numbers) {
            rules.push(self.line(rule, number));
        }
        let is_there = |gone: &&RuleReport| rules.iter().any(|line| line.name == gone.name);
        let gone: Vec<RuleReport> =
            self.gone.values().filter(|gone| !is_there(gone)).cloned().collect();
        other.seen = other.drops.total();
        let shown = sessions.iter().filter_map(|session| {
            let rule = *self.by_number.get(&session.rule)? as u32;
            let end = |address, port| End { address, port };
            let (client, sent) = (session.client, session.forwarded);
            let state = match (session.is_closing, session.is_answered) {
                (true, _) => State::Closing,
                (false, true) => State::Established,
                (false, false) => State::Opening,
            };
            Some(Session::seen(
                (rule, client.protocol, state, session.seen_ns),
                end(client.source, client.source_port),
                end(client.destination, client.destination_port),
                end(sent.source, sent.source_port),
                end(sent.destination, sent.destination_port),
            ))
        });
        ForwardReport {
            shown: shown.collect(),
            sides: self.sides(&rules, &gone),
            rules,
            gone,
            other,
            sessions: self.kernel.session_count().max(sessions.len()) as u64,
            failure: None,
        }
    }

    /// What a rule has counted.
    fn line(&self, rule: &InlineRule, number: u32) -> RuleReport {
        let [there, back] = self.kernel.counters(number).unwrap_or_default();
        let [by_us, back_by_us] = self.kernel.exceptions(number);
        let [left, back_left] = self.left_before.get(&number).copied().unwrap_or_default();
        let mut line = RuleReport {
            name: rule.name.clone(),
            there: counts(&there, left, &by_us),
            back: counts(&back, back_left, &back_by_us),
            sessions: self.kernel.session_counts().get(&number).copied().unwrap_or(0),
        };
        if let Some(before) = self.gone.get(&rule.name) {
            line.there.merge(&before.there);
            line.back.merge(&before.back);
        }
        line
    }

    /// What was handed to each interface: the kernel has taken it.
    fn sides(&self, rules: &[RuleReport], gone: &[RuleReport]) -> Vec<SideReport> {
        let config = &self.table.config;
        let lines = || rules.iter().chain(gone);
        let side = |name: &str, counts: Vec<Counts>| {
            let sent: u64 = counts.iter().map(|counts| counts.forwarded).sum();
            let mut side = SideReport { name: name.into(), offered: sent, ..SideReport::default() };
            side.sink.sent = sent;
            side.sink.sent_bytes = counts.iter().map(|counts| counts.bytes).sum();
            side
        };
        let there = || lines().map(|line| line.there);
        let back = || lines().map(|line| line.back);
        match config.ingress == config.egress {
            true => vec![side(&config.ingress, there().chain(back()).collect())],
            false => vec![
                side(&config.ingress, back().collect()),
                side(&config.egress, there().collect()),
            ],
        }
    }
}

/// What of the ring's losses were copies for views, of which so many have not come: what else was lost
/// there had been left to us, and is in its rule's line. At the end what has not come, and was not
/// counted by the ring, is lost, too.
fn lost_views(by_ring: &Drops, not_come: u64, is_end: bool) -> Drops {
    let mut drops = Drops::default();
    let mut rest = not_come;
    for (reason, packets) in by_ring.iter() {
        let of_views = packets.min(rest);
        drops.add_many(reason, of_views);
        rest -= of_views;
    }
    if is_end {
        drops.add_many(DropReason::KernelQueue, rest);
    }
    drops
}

/// Gives who records a view of a rule a frame of it, which is of a packet that came from the kernel.
fn give(table: &Table, place: usize, pool: &mut Pool, (view, frame): (View, &[u8]), of: &Packet) {
    let (view, direction) = match view {
        View::Ingress => (InlineView::Ingress, Direction::In),
        View::Egress => (InlineView::Egress, Direction::Out),
        View::Inline => (InlineView::Inline, Direction::Unknown),
        View::Exception => return,
    };
    let Some(Some(capture)) = table.captures.get(place) else { return };
    let Some(interface) = capture.interface(view) else { return };
    let snaplen = table.config.rules[place].snapshot_length as usize;
    let copy = pool.copy(frame).map(|data| {
        let mut copy = Packet { data, meta: of.meta.clone() };
        (copy.meta.interface, copy.meta.direction) = (interface, direction);
        if frame.len() != of.data.len() {
            copy.meta.origlen = frame.len() as u32;
        }
        if (1..copy.data.len()).contains(&snaplen) {
            // The ports may be cut off.
            copy.meta.flow_hash = Some(copy.compute_flow_hash());
            copy.data.truncate(snaplen);
        }
        copy
    });
    capture.sender.give(copy);
}

/// What the programs and [`KernelInline::handle`] have counted, together; an earlier process has dealt
/// with what was left to it.
fn counts(
    of: &InlineCounters,
    left_before: u64,
    by_us: &crate::inline::ExceptionCounters,
) -> Counts {
    let mut drops = Drops::default();
    for (reason, packets) in [
        (DropReason::SessionTable, of.table_full),
        (DropReason::NoPort, of.no_port),
        (DropReason::TtlExceeded, of.time_to_live + by_us.time_to_live),
        (DropReason::Oversize, of.oversize + by_us.oversize),
        (DropReason::Unreachable, of.unreachable + by_us.unreachable),
        (DropReason::Fragment, of.fragment),
        (DropReason::SendError, of.refused + by_us.lost),
        // Those on their way to us are counted so until they have come.
        (DropReason::KernelQueue, of.handed_up.saturating_sub(left_before + by_us.packets())),
    ] {
        drops.add_many(reason, packets);
    }
    let forwarded = of.forwarded + by_us.fragmented + by_us.whole;
    Counts { seen: forwarded + drops.total(), forwarded, bytes: of.forwarded_bytes, drops }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_ring_lost_is_counted_once() {
        let mut by_ring = Drops::default();
        by_ring.add_many(DropReason::KernelRing, 10);
        let lost = |not_come, is_end| {
            let drops = lost_views(&by_ring, not_come, is_end);
            [DropReason::KernelRing, DropReason::KernelQueue].map(|reason| drops.get(reason))
        };
        // Four were views' copies, six were left to us and are missing in their rules' lines.
        assert_eq!(lost(4, false), [4, 0]);
        // Three more are on their way, or, at the end, lost elsewhere.
        assert_eq!(lost(13, false), [10, 0]);
        assert_eq!(lost(13, true), [10, 3]);
    }
}
