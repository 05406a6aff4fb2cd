//! The forwarder at work: the state of its thread.

mod packet;
mod ways;

use super::fragments::Fragments;
use super::report::{ForwardReport, OtherReport, RuleReport};
use super::sessions::Sessions;
use super::side::Side;
use super::table::Table;
use super::views::ViewSender;
use super::{Change, SESSIONS_SHOWN_MAX, Shared, lock};
use crate::batch::Batch;
use crate::clock::Now;
use crate::device::{Arrival, Source, wait};
use crate::error::Error;
use crate::packet::Direction;
use crate::pool::Pool;
use crate::waker::Wakeup;
use api::{DropReason, RingSize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use ways::Ways;

/// How long it sleeps at most when nothing comes.
const IDLE: Duration = Duration::from_millis(50);
/// How long rings may take to run dry when it stops.
const DRAIN: Duration = Duration::from_secs(1);
/// How often the kernel's tables and counters are read.
const LOOK_NS: u64 = 1_000_000_000;
/// Sessions looked at in each turn, whether they have expired: all of 65,536 in some seconds.
const SWEPT: usize = 512;

/// Memory for the views' copies that wait, and for fragments.
const POOL_CHUNKS: usize = 64;
const POOL_CHUNK_BYTES: usize = 1 << 20;

pub(super) struct Running {
    table: Table,
    sessions: Sessions,
    fragments: Fragments,
    ways: Ways,
    /// `in`, then `out`; one if they are the same.
    sides: Vec<Side>,
    rules: Vec<RuleReport>,
    gone: BTreeMap<String, RuleReport>,
    other: OtherReport,
    pool: Pool,
    shared: Arc<Shared>,
    wakeup: Wakeup,
    looked_ns: u64,
    failure: Option<String>,
}

impl Running {
    pub fn new(
        table: Table,
        ring_size: RingSize,
        shared: Arc<Shared>,
        wakeup: Wakeup,
    ) -> Result<Running, Error> {
        let config = &table.config;
        let mut names = vec![&config.ingress];
        if config.egress != config.ingress {
            names.push(&config.egress);
        }
        let sides = names.iter().map(|name| Side::open(name, ring_size));
        let sides = sides.collect::<Result<Vec<Side>, Error>>()?;
        let sessions = Sessions::new(config.sessions as usize, config.timeouts);
        let mut running = Running {
            rules: lines(&table),
            table,
            sessions,
            fragments: Fragments::new(),
            ways: Ways::default(),
            sides,
            gone: BTreeMap::new(),
            other: OtherReport::default(),
            pool: Pool::new(POOL_CHUNKS, POOL_CHUNK_BYTES),
            shared,
            wakeup,
            looked_ns: 0,
            failure: None,
        };
        running.ways.want(&running.table.config, Now::read())?;
        Ok(running)
    }

    /// Forwards until it is stopped, or an interface fails; gives the last report.
    pub fn run(mut self) -> ForwardReport {
        let mut batch = Batch::new();
        let mut deadline = None;
        loop {
            let now = Now::read();
            if deadline.is_none() && self.shared.stop.load(Ordering::Acquire) {
                deadline = Some(Instant::now() + DRAIN);
                for side in &mut self.sides {
                    if let Err(error) = side.source.stop() {
                        tracing::warn!("{}: {error}", side.name);
                    }
                }
            }
            self.take_table(now);
            let (mut is_busy, mut ended) = (false, 0);
            for side in 0..self.sides.len() {
                match self.sides[side].source.receive(&mut batch) {
                    Ok(Arrival::Packets) => is_busy = true,
                    Ok(Arrival::Idle) => {}
                    Ok(Arrival::End) => ended += 1,
                    Err(error) => {
                        tracing::error!("{}: {error}", self.sides[side].name);
                        self.failure.get_or_insert(error.to_string());
                    }
                }
                for packet in batch.drain() {
                    self.handle(packet, side, now);
                }
                self.sides.iter_mut().for_each(Side::flush);
            }
            if is_busy {
                self.wake_recorders();
            }
            self.tick(now);
            let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if ended == self.sides.len() || is_over || self.failure.is_some() {
                break;
            }
            if !is_busy {
                let sources = self.sides.iter().map(|side| &side.source as &dyn Source);
                if let Err(error) = wait(sources, Some(&self.wakeup), IDLE) {
                    tracing::error!("{error}");
                    self.failure.get_or_insert(error.to_string());
                }
            }
        }
        self.report()
    }

    fn wake_recorders(&self) {
        let captures = self.table.captures.iter().flatten();
        captures.map(|capture| &capture.sender).for_each(ViewSender::wake);
    }

    /// Takes the table that waits, if one does.
    fn take_table(&mut self, now: Now) {
        let Some(Change { table, told }) = self.shared.take_change() else { return };
        // Who asked may have given up.
        let _ = told.try_send(self.change_to(table, now));
    }

    fn change_to(&mut self, table: Table, now: Now) -> Result<(), Error> {
        self.ways.want(&table.config, now)?;
        let mut lines = lines(&table);
        for old in std::mem::take(&mut self.rules) {
            let same = lines.iter_mut().find(|line| line.name == old.name);
            let line = match same {
                Some(line) => line,
                None => self.gone.entry(old.name.clone()).or_default(),
            };
            line.name.clone_from(&old.name);
            line.there.merge(&old.there);
            line.back.merge(&old.back);
        }
        for line in &mut lines {
            // One that comes back goes on with what it had counted.
            if let Some(gone) = self.gone.remove(&line.name) {
                line.there.merge(&gone.there);
                line.back.merge(&gone.back);
            }
        }
        self.rules = lines;
        self.sessions.set_timeouts(table.config.timeouts);
        self.sessions.replace(|session| table.place_of(session));
        self.table = table;
        Ok(())
    }

    /// Does what is due by the clock.
    fn tick(&mut self, now: Now) {
        self.ways.look(now);
        self.sides.iter_mut().for_each(|side| side.tick(now));
        self.sessions.sweep(SWEPT, now.monotonic_ns);
        let is_due = now.monotonic_ns >= self.looked_ns.saturating_add(LOOK_NS);
        if is_due {
            self.looked_ns = now.monotonic_ns;
            self.sides.iter_mut().for_each(Side::look);
        }
        if self.shared.asked.swap(false, Ordering::Acquire) || is_due {
            let report = self.report();
            *lock(&self.shared.report) = report;
            self.shared.published.fetch_add(1, Ordering::Release);
        }
    }

    fn report(&mut self) -> ForwardReport {
        let mut other = self.other;
        for side in &mut self.sides {
            let (drops, missing) = side.lost();
            other.seen += drops.total();
            other.drops.merge(&drops);
            other.missing += missing;
        }
        let mut rules = self.rules.clone();
        for session in self.sessions.iter() {
            if let Some(rule) = rules.get_mut(session.rule as usize) {
                rule.sessions += 1;
            }
        }
        ForwardReport {
            rules,
            gone: self.gone.values().cloned().collect(),
            other,
            sides: self.sides.iter().map(Side::report).collect(),
            sessions: self.sessions.len() as u64,
            shown: self.sessions.iter().take(SESSIONS_SHOWN_MAX).copied().collect(),
            failure: self.failure.clone(),
        }
    }

    /// Counts a packet of a rule that went no further.
    fn lose(&mut self, rule: u32, is_reply: bool, reason: DropReason) {
        let line = &mut self.rules[rule as usize];
        let counts = if is_reply { &mut line.back } else { &mut line.there };
        counts.seen += 1;
        counts.drops.add(reason);
    }

    /// Counts a packet for one of our addresses that is of no rule or session.
    fn lose_other(&mut self, reason: DropReason) {
        self.other.drops.add(reason);
    }

    /// Whether packets that come in there may be clients', and whether they may be next hosts'.
    fn roles(&self, side: usize) -> (bool, bool) {
        (side == 0, side + 1 == self.sides.len())
    }

    /// Whether an address is one that is asked for at an interface.
    fn is_answered(&self, side: usize, address: IpAddr) -> bool {
        let (has_clients, has_next_hosts) = self.roles(side);
        (has_clients && self.table.is_ours(address))
            || (has_next_hosts && self.table.is_source(address))
    }

    /// Whether a frame came in, instead of being sent by this host.
    fn came_in(direction: Direction) -> bool {
        direction != Direction::Out
    }
}

/// A line for each rule of a table.
fn lines(table: &Table) -> Vec<RuleReport> {
    let name = |rule: &api::InlineRule| RuleReport { name: rule.name.clone(), ..<_>::default() };
    table.config.rules.iter().map(name).collect()
}
