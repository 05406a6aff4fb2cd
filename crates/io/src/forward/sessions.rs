//! Sessions: who of both sides speaks to whom, so that a reply finds its way back.
//!
//! ```text
//! client A:a ──► U:u (ours) │ E:e (source) ──► B:b (next)
//! key of a packet from the client     protocol, A:a, U:u
//! key of a packet from the next host  protocol, B:b, E:e
//! ```
//! e is the client's own port unless another session has it at B:b; then some others are tried, by a
//! hash. An ICMP id stands for both ports of a side. There is no clock here: the time is an argument.

use api::InlineTimeouts;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use wire::translate::{End, Mapping};
use wire::walk::protocol;

/// How many other ports are tried.
const TRIES: u32 = 8;
/// Ports below belong to services.
const PORT_MIN: u16 = 1024;
/// Sessions that are looked at, whether they have expired, before a new one is refused.
const SEARCHED_MAX: usize = 64;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// What one side's packets have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// An IP header's number.
    pub protocol: u8,
    /// The client, or the next host.
    pub remote: End,
    /// Our address that it speaks to.
    pub local: End,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Only the client has sent.
    Opening,
    /// Both sides have sent.
    Established,
    /// TCP: reset, or both sides have said that they will send no more.
    Closing,
}

/// A session.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// The place of its rule in the table.
    pub rule: u32,
    /// An IP header's number.
    pub protocol: u8,
    /// Who began it.
    pub client: End,
    /// What the client speaks to.
    pub ours: End,
    /// What the next host sees.
    pub source: End,
    /// Who answers.
    pub next: End,
    /// The link address that brought the client's last packet; replies go there.
    pub client_mac: [u8; 6],
    /// How far it has come.
    pub state: State,
    /// When its last packet came: a monotonic clock's nanoseconds.
    pub last_ns: u64,
    /// Packets from the client, and to it; both 0 where the kernel forwards.
    pub packets: [u64; 2],
    /// Who has sent a FIN: the client, the next host.
    fins: [bool; 2],
}

impl Session {
    /// One that the kernel keeps: rule, protocol, state and time of the last packet; client, our end, our
    /// end towards the next host, the next host. Its packets are not counted.
    pub(super) fn seen(
        (rule, protocol, state, last_ns): (u32, u8, State, u64),
        client: End,
        ours: End,
        source: End,
        next: End,
    ) -> Session {
        let (client_mac, packets, fins) = ([0; 6], [0; 2], [false; 2]);
        Session {
            rule,
            protocol,
            client,
            ours,
            source,
            next,
            client_mac,
            state,
            last_ns,
            packets,
            fins,
        }
    }

    /// What a packet of the client becomes.
    pub fn there(&self) -> Mapping {
        Mapping { source: self.source, destination: self.next }
    }

    /// What a packet of the next host becomes.
    pub fn back(&self) -> Mapping {
        Mapping { source: self.ours, destination: self.client }
    }

    /// What a packet of the client would be if nothing stood in between.
    pub fn inline(&self) -> Mapping {
        // An id is the client's on both sides.
        let next = match self.protocol {
            protocol::ICMP | protocol::ICMPV6 => End { port: self.client.port, ..self.next },
            _ => self.next,
        };
        Mapping { source: self.client, destination: next }
    }

    fn timeout_ns(&self, timeouts: &InlineTimeouts) -> u64 {
        let timeout = match (self.protocol, self.state) {
            (protocol::TCP, State::Opening) => timeouts.tcp_opening,
            (protocol::TCP, State::Established) => timeouts.tcp_established,
            (protocol::TCP, State::Closing) => timeouts.tcp_closing,
            (protocol::ICMP | protocol::ICMPV6, _) => timeouts.icmp,
            _ => timeouts.udp,
        };
        u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)
    }

    fn has_expired(&self, timeouts: &InlineTimeouts, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.last_ns) > self.timeout_ns(timeouts)
    }

    /// What the client's packets have in common.
    pub(super) fn key(&self) -> Key {
        Key { protocol: self.protocol, remote: self.client, local: self.ours }
    }

    /// What the next host's packets have in common.
    pub(super) fn reply_key(&self) -> Key {
        Key { protocol: self.protocol, remote: self.next, local: self.source }
    }

    /// Takes notice of a packet; `side` is 0 for the client's, `flags` those of TCP.
    fn touch(&mut self, side: usize, flags: Option<u8>, now_ns: u64) {
        self.last_ns = now_ns;
        self.packets[side] += 1;
        if side == 1 && self.state == State::Opening {
            self.state = State::Established;
        }
        let Some(flags) = flags else { return };
        self.fins[side] |= flags & FIN != 0;
        if flags & RST != 0 || self.fins == [true; 2] {
            self.state = State::Closing;
        }
        if side == 0 && flags & (SYN | ACK | RST) == SYN && self.state == State::Closing {
            // The client uses its port again.
            (self.state, self.fins) = (State::Opening, [false; 2]);
        }
    }
}

/// What a new session needs to be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The place of its rule.
    pub rule: u32,
    /// An IP header's number.
    pub protocol: u8,
    /// Who begins it.
    pub client: End,
    /// What the client speaks to.
    pub ours: End,
    /// Our address that the next host is to see.
    pub source: std::net::IpAddr,
    /// Who is to answer.
    pub next: End,
}

/// Why there is no new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There are as many as there may be.
    Full,
    /// No port is left of those tried.
    NoPort,
}

/// The sessions of a table. Allocates nothing after the start.
pub struct Sessions {
    sessions: Vec<Option<Session>>,
    free: Vec<u32>,
    by_client: HashMap<Key, u32>,
    by_next: HashMap<Key, u32>,
    hasher: RandomState,
    timeouts: InlineTimeouts,
    /// The next one to be looked at.
    cursor: usize,
}

impl Sessions {
    /// Room for so many.
    pub fn new(sessions: usize, timeouts: InlineTimeouts) -> Sessions {
        Sessions {
            sessions: vec![None; sessions],
            free: (0..sessions as u32).rev().collect(),
            by_client: HashMap::with_capacity(sessions),
            by_next: HashMap::with_capacity(sessions),
            hasher: RandomState::new(),
            timeouts,
            cursor: 0,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.len() - self.free.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().flatten()
    }

    /// Sets when sessions are forgotten.
    pub fn set_timeouts(&mut self, timeouts: InlineTimeouts) {
        self.timeouts = timeouts;
    }

    /// A session by its number, if it is still there.
    pub fn get(&self, number: u32) -> Option<&Session> {
        self.sessions.get(number as usize)?.as_ref()
    }

    /// Takes notice of a packet of a session; `is_reply`: from the next host; `flags` are TCP's.
    pub fn touch(&mut self, number: u32, is_reply: bool, flags: Option<u8>, now_ns: u64) {
        if let Some(Some(session)) = self.sessions.get_mut(number as usize) {
            session.touch(usize::from(is_reply), flags, now_ns);
        }
    }

    /// Notes which link address brought a client's packet.
    pub fn came_from(&mut self, number: u32, mac: [u8; 6]) {
        if let Some(Some(session)) = self.sessions.get_mut(number as usize) {
            session.client_mac = mac;
        }
    }

    /// The session of a client's packet, or of a next host's.
    pub fn find(&mut self, key: &Key, is_reply: bool, now_ns: u64) -> Option<u32> {
        let table = if is_reply { &self.by_next } else { &self.by_client };
        let number = *table.get(key)?;
        let session = self.sessions[number as usize].as_ref()?;
        if session.has_expired(&self.timeouts, now_ns) {
            self.remove(number);
            return None;
        }
        Some(number)
    }

    /// Begins a session, whose client has none with these ends.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn begin(&mut self, wanted: &Wanted, now_ns: u64) -> Result<u32, Refused> {
        if self.free.is_empty() {
            self.sweep(SEARCHED_MAX, now_ns);
        }
        let source = self.source_for(wanted, now_ns).ok_or(Refused::NoPort)?;
        let number = self.free.pop().ok_or(Refused::Full)?;
        let Wanted { rule, protocol, client, ours, next, .. } = *wanted;
        let next = match is_icmp(protocol) {
            true => End { port: source.port, ..next },
            false => next,
        };
        let session = Session {
            rule,
            protocol,
            client,
            ours,
            source,
            next,
            client_mac: [0; 6],
            state: State::Opening,
            last_ns: now_ns,
            packets: [0; 2],
            fins: [false; 2],
        };
        self.by_client.insert(session.key(), number);
        self.by_next.insert(session.reply_key(), number);
        self.sessions[number as usize] = Some(session);
        Ok(number)
    }

    /// Our end towards the next host: with the client's own port, if that is free there.
    fn source_for(&mut self, wanted: &Wanted, now_ns: u64) -> Option<End> {
        let own = wanted.client.port;
        let has_ports =
            is_icmp(wanted.protocol) || matches!(wanted.protocol, protocol::TCP | protocol::UDP);
        let tries = if has_ports { TRIES } else { 0 };
        let at = |port: u16| End { address: wanted.source, port };
        if self.is_free(wanted, at(own), now_ns) {
            return Some(at(own));
        }
        let hash = self.hasher.hash_one((wanted.client, wanted.ours, wanted.protocol));
        let mut others = (0..tries).map(|n| at(other_port(hash, n)));
        others.find(|&source| self.is_free(wanted, source, now_ns))
    }

    /// Whether no session has an end towards the next host. One that has expired makes room.
    fn is_free(&mut self, wanted: &Wanted, source: End, now_ns: u64) -> bool {
        let next = match is_icmp(wanted.protocol) {
            true => End { port: source.port, ..wanted.next },
            false => wanted.next,
        };
        let key = Key { protocol: wanted.protocol, remote: next, local: source };
        self.find(&key, true, now_ns).is_none()
    }

    /// Looks at some of them, and forgets those that have said nothing for too long.
    pub fn sweep(&mut self, count: usize, now_ns: u64) {
        for _ in 0..count.min(self.sessions.len()) {
            let number = self.cursor;
            self.cursor = (number + 1) % self.sessions.len();
            let has_expired = self.sessions[number]
                .as_ref()
                .is_some_and(|session| session.has_expired(&self.timeouts, now_ns));
            if has_expired {
                self.remove(number as u32);
            }
        }
    }

    /// Gives each session the place that its rule has now; forgets those for which `place` knows none.
    pub fn replace(&mut self, place: impl Fn(&Session) -> Option<u32>) {
        for number in 0..self.sessions.len() {
            let Some(session) = &mut self.sessions[number] else { continue };
            match place(session) {
                Some(rule) => session.rule = rule,
                None => self.remove(number as u32),
            }
        }
    }

    fn remove(&mut self, number: u32) {
        if let Some(session) = self.sessions[number as usize].take() {
            self.by_client.remove(&session.key());
            self.by_next.remove(&session.reply_key());
            self.free.push(number);
        }
    }
}

fn is_icmp(kind: u8) -> bool {
    matches!(kind, protocol::ICMP | protocol::ICMPV6)
}

/// The port of a try.
fn other_port(hash: u64, n: u32) -> u16 {
    let span = u64::from(u16::MAX - PORT_MIN) + 1;
    PORT_MIN + (hash.rotate_left(n * 8).wrapping_add(u64::from(n)) % span) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    const S: u64 = 1_000_000_000;

    fn end(text: &str, port: u16) -> End {
        End { address: text.parse::<IpAddr>().unwrap(), port }
    }

    fn wanted(protocol: u8, client: End) -> Wanted {
        let port = if protocol == 1 { client.port } else { 80 };
        Wanted {
            rule: 0,
            protocol,
            client,
            ours: end("192.0.2.10", port),
            source: "10.0.0.1".parse().unwrap(),
            next: end("10.0.0.5", port),
        }
    }

    fn sessions(room: usize) -> Sessions {
        Sessions::new(room, InlineTimeouts::default())
    }

    #[test]
    fn both_sides_find_their_session() {
        let mut all = sessions(4);
        let wanted = wanted(6, end("192.0.2.1", 4000));
        let number = all.begin(&wanted, 0).unwrap();
        let session = *all.get(number).unwrap();
        assert_eq!(session.source, end("10.0.0.1", 4000));
        let client = Key { protocol: 6, remote: wanted.client, local: wanted.ours };
        let next = Key { protocol: 6, remote: wanted.next, local: session.source };
        assert_eq!(all.find(&client, false, 1), Some(number));
        assert_eq!(all.find(&next, true, 1), Some(number));
        assert_eq!(all.find(&next, false, 1), None);
        assert_eq!(all.find(&Key { protocol: 17, ..client }, false, 1), None);
        assert_eq!(session.inline(), Mapping { source: wanted.client, destination: wanted.next });
    }

    #[test]
    fn a_port_that_is_taken_is_not_given_twice() {
        let mut all = sessions(1000);
        let mut sources = std::collections::HashSet::new();
        let mut refused = 0;
        for n in 1..=200u16 {
            let client = end(&format!("192.0.2.{}", n % 250), 4000 + n / 250);
            match all.begin(&wanted(17, client), 0) {
                Ok(number) => assert!(sources.insert(all.get(number).unwrap().source)),
                Err(refusal) => {
                    assert_eq!(refusal, Refused::NoPort);
                    refused += 1;
                }
            }
        }
        assert_eq!(refused, 0);
        assert!(sources.iter().skip(1).all(|source| source.port >= PORT_MIN));
        // Without ports there is nothing to tell two clients apart by.
        let plain = |n: u8| wanted(47, end(&format!("192.0.2.{n}"), 0));
        assert!(all.begin(&plain(1), 0).is_ok());
        assert_eq!(all.begin(&plain(2), 0), Err(Refused::NoPort));
    }

    #[test]
    fn an_id_is_changed_on_both_ends() {
        let mut all = sessions(4);
        all.begin(&wanted(1, end("192.0.2.1", 7)), 0).unwrap();
        let number = all.begin(&wanted(1, end("192.0.2.2", 7)), 0).unwrap();
        let session = *all.get(number).unwrap();
        assert_ne!(session.source.port, 7);
        assert_eq!(session.source.port, session.next.port);
        assert_eq!(session.inline().destination.port, 7);
        assert_eq!(session.back().destination.port, 7);
        let key = Key { protocol: 1, remote: session.next, local: session.source };
        assert_eq!(all.find(&key, true, 0), Some(number));
    }

    #[test]
    fn a_full_table_refuses_until_one_expires() {
        let mut all = sessions(2);
        for n in 1..=2 {
            all.begin(&wanted(17, end("192.0.2.1", n)), 0).unwrap();
        }
        let third = wanted(17, end("192.0.2.1", 3));
        assert_eq!(all.begin(&third, 119 * S), Err(Refused::Full));
        assert!(all.begin(&third, 121 * S).is_ok());
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn tcp_is_kept_by_its_state() {
        let mut all = sessions(4);
        let wanted = wanted(6, end("192.0.2.1", 4000));
        let key = Key { protocol: 6, remote: wanted.client, local: wanted.ours };
        let number = all.begin(&wanted, 0).unwrap();
        all.touch(number, false, Some(SYN), 0);
        assert_eq!(all.find(&key, false, 121 * S), None, "nobody answered");
        let number = all.begin(&wanted, 0).unwrap();
        all.touch(number, false, Some(SYN), 0);
        all.touch(number, true, Some(SYN | ACK), 0);
        assert_eq!(all.find(&key, false, 7000 * S), Some(number));
        all.touch(number, false, Some(FIN | ACK), 7000 * S);
        assert_eq!(all.get(number).unwrap().state, State::Established);
        all.touch(number, true, Some(FIN | ACK), 7000 * S);
        assert_eq!(all.get(number).unwrap().state, State::Closing);
        // The port is used again at once.
        all.touch(number, false, Some(SYN), 7001 * S);
        assert_eq!(all.get(number).unwrap().state, State::Opening);
        all.touch(number, true, Some(RST), 7001 * S);
        assert_eq!(all.get(number).unwrap().state, State::Closing);
        all.sweep(10, 7032 * S);
        assert_eq!(all.len(), 0);
    }

    #[test]
    fn sessions_of_a_rule_that_is_gone_are_forgotten() {
        let mut all = sessions(4);
        for n in 1..=3 {
            let rule = u32::from(n);
            all.begin(&Wanted { rule, ..wanted(17, end("192.0.2.1", n)) }, 0).unwrap();
        }
        all.replace(|session| (session.rule != 2).then_some(session.rule + 10));
        let mut rules: Vec<u32> = all.iter().map(|session| session.rule).collect();
        rules.sort_unstable();
        assert_eq!(rules, [11, 13]);
        assert_eq!(all.len(), 2);
    }
}
