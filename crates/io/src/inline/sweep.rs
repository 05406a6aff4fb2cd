//! Sessions that nobody uses, or that no rule leads where they go, are removed, a bounded number of
//! entries at a time.

use super::maps::Maps;
use crate::error::Error;
use api::InlineTimeouts;
use kernel::inline::layout::{InlineMap, Leg, Session, Tuple, session};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Entries that are looked at in one go.
const ENTRIES_MAX: usize = 8192;
const TCP: u8 = 6;
const ICMP: [u8; 2] = [1, 58];
const FIN: u8 = 1;
const RST: u8 = 4;

/// The rule that leads a client's packets where a session has them go; `None` if there is none.
pub(super) type Leading<'a> = dyn Fn(&Tuple, &Tuple) -> Option<Led> + 'a;

/// Whose a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Led {
    /// The rule's number.
    pub rule: u32,
    /// Its way, if it is known.
    pub hop: Option<u32>,
}

/// Where the last go ended, and what it has found.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    next: Option<Vec<u8>>,
    /// Answers' entries without the other direction: if they are met again, they are removed. One
    /// whose session is being made may be seen before the other.
    alone: HashSet<Vec<u8>>,
    counting: HashMap<u32, u64>,
    sessions: HashMap<u32, u64>,
}

/// A session, both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InlineSession {
    /// The client's packets as they arrive.
    pub client: Tuple,
    /// The same as they are sent on.
    pub forwarded: Tuple,
    /// The rule's number.
    pub rule: u32,
    /// When the last packet passed, `CLOCK_MONOTONIC`, some 0.25 s late.
    pub seen_ns: u64,
    /// Whether the next host has answered.
    pub is_answered: bool,
    /// Whether it has come to its end.
    pub is_closing: bool,
}

impl InlineSession {
    fn of(client: Tuple, forward: &Session, reply: Option<&Session>) -> InlineSession {
        let flags = |session: &Session| session.tcp_flags;
        let (there, back) = (flags(forward), reply.map_or(0, flags));
        InlineSession {
            client,
            forwarded: forward.becomes,
            rule: forward.rule,
            seen_ns: forward.seen_ns.max(reply.map_or(0, |reply| reply.seen_ns)),
            is_answered: reply.is_some_and(|reply| reply.seen_ns != 0),
            is_closing: (there | back) & RST != 0 || there & back & FIN != 0,
        }
    }

    /// How long it may say nothing.
    fn timeout(&self, timeouts: &InlineTimeouts) -> Duration {
        match self.client.protocol {
            TCP if self.is_closing => timeouts.tcp_closing,
            TCP if self.is_answered => timeouts.tcp_established,
            TCP => timeouts.tcp_opening,
            protocol if ICMP.contains(&protocol) => timeouts.icmp,
            _ => timeouts.udp,
        }
    }
}

impl Sweep {
    /// How many sessions of each rule the last whole round has met.
    pub(super) fn sessions(&self) -> &HashMap<u32, u64> {
        &self.sessions
    }

    /// Looks at all entries, from the first one on.
    pub(super) fn whole(
        &mut self,
        maps: &Maps,
        timeouts: &InlineTimeouts,
        lead: &Leading,
        now_ns: u64,
    ) -> Result<(), Error> {
        self.next = None;
        self.counting.clear();
        // More only come while this goes on.
        for _ in 0..=maps.of(InlineMap::Sessions).entries() as usize / ENTRIES_MAX {
            self.go_on(maps, timeouts, lead, now_ns)?;
            if self.next.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Looks at the next entries, and removes sessions whose time is over, or that no rule leads where
    /// they go. What another rule leads there becomes that one's.
    pub(super) fn go_on(
        &mut self,
        maps: &Maps,
        timeouts: &InlineTimeouts,
        lead: &Leading,
        now_ns: u64,
    ) -> Result<(), Error> {
        let map = maps.of(InlineMap::Sessions);
        let mut next = match self.next.take() {
            Some(key) => Some(key),
            None => map.next_key(None)?,
        };
        for _ in 0..ENTRIES_MAX.min(2 * map.entries() as usize) {
            let Some(key) = next else { break };
            // Asked for before this one may be removed: behind one that is gone it is the first again.
            next = map.next_key(Some(&key))?;
            self.judge(maps, &key, timeouts, lead, now_ns)?;
        }
        if next.is_none() {
            self.sessions = std::mem::take(&mut self.counting);
        }
        self.next = next;
        Ok(())
    }

    fn judge(
        &mut self,
        maps: &Maps,
        key: &[u8],
        timeouts: &InlineTimeouts,
        lead: &Leading,
        now_ns: u64,
    ) -> Result<(), Error> {
        let map = maps.of(InlineMap::Sessions);
        let Some((tuple, session)) = read(maps, key)? else { return Ok(()) };
        let other = session.becomes.reversed().bytes();
        let partner = read(maps, &other)?;
        if session.leg == Leg::Reply {
            let is_whole = partner.is_some_and(|(_, there)| there.becomes.reversed() == tuple);
            if is_whole {
                self.alone.remove(key);
            } else if !self.alone.insert(key.to_vec()) {
                self.alone.remove(key);
                map.remove(key)?;
            }
            return Ok(());
        }
        let whole = InlineSession::of(tuple, &session, partner.as_ref().map(|(_, back)| back));
        let until_ns = whole.seen_ns.saturating_add(whole.timeout(timeouts).as_nanos() as u64);
        let partner = partner.filter(|(_, back)| back.becomes.reversed() == tuple);
        let rule = lead(&tuple, &session.becomes).filter(|_| until_ns >= now_ns);
        let Some(Led { rule, hop }) = rule else {
            map.remove(key)?;
            if partner.is_some() {
                map.remove(&other)?;
            }
            return Ok(());
        };
        if session.rule != rule || hop.is_some_and(|hop| hop != session.hop) {
            write(maps, key, rule, hop)?;
        }
        if partner.is_some_and(|(_, back)| back.rule != rule) {
            write(maps, &other, rule, None)?;
        }
        *self.counting.entry(rule).or_default() += 1;
        Ok(())
    }
}

/// Lists sessions, at most so many.
pub(super) fn list(maps: &Maps, sessions_max: usize) -> Result<Vec<InlineSession>, Error> {
    let map = maps.of(InlineMap::Sessions);
    let (mut sessions, mut last) = (Vec::new(), None);
    for _ in 0..2 * map.entries() {
        let Some(key) = map.next_key(last.as_deref())? else { break };
        if let Some((tuple, session)) = read(maps, &key)?
            && session.leg == Leg::Forward
        {
            let back = read(maps, &session.becomes.reversed().bytes())?;
            sessions.push(InlineSession::of(tuple, &session, back.as_ref().map(|(_, back)| back)));
            if sessions.len() >= sessions_max {
                break;
            }
        }
        last = Some(key);
    }
    Ok(sessions)
}

/// Makes an entry another rule's. What programs note at the same moment may be lost: a time that they
/// note again.
fn write(maps: &Maps, key: &[u8], rule: u32, hop: Option<u32>) -> Result<(), Error> {
    let map = maps.of(InlineMap::Sessions);
    let Some(mut value) = map.get(key)? else { return Ok(()) };
    value[session::RULE..][..4].copy_from_slice(&rule.to_ne_bytes());
    if let Some(hop) = hop {
        value[session::HOP..][..4].copy_from_slice(&hop.to_ne_bytes());
    }
    map.put(key, &value)
}

fn read(maps: &Maps, key: &[u8]) -> Result<Option<(Tuple, Session)>, Error> {
    let Some(tuple) = Tuple::parse(key) else { return Ok(None) };
    let value = maps.of(InlineMap::Sessions).get(key)?;
    Ok(value.and_then(|value| Some((tuple, Session::parse(&value, tuple.protocol)?))))
}
