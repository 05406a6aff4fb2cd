//! Which session the later fragments of a packet belong to: the first one, which has the ports, says it.

use super::sessions;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use wire::translate::Reading;

/// Packets in pieces that are remembered.
const PACKETS_MAX: usize = 4096;
/// How long fragments may come: RFC 791 has receivers give up after less.
const KEPT_NS: u64 = 30_000_000_000;

/// What the fragments of a packet have in common: RFC 791 section 3.2. The walk names one protocol for all
/// fragments of an IPv6 packet, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    id: u32,
    /// It comes from a next host: one address may be a client's and a next host's.
    is_reply: bool,
}

impl Key {
    fn of(reading: &Reading, is_reply: bool) -> Option<Key> {
        let fragment = reading.fragment?;
        let (source, destination) = (reading.source.address, reading.destination.address);
        let protocol = reading.protocol;
        Some(Key { source, destination, protocol, id: fragment.id, is_reply })
    }
}

/// Packets in pieces, the oldest first. Their sessions are known by their keys: a number may have become
/// another's.
pub(super) struct Fragments {
    known: HashMap<Key, (sessions::Key, u64)>,
    order: VecDeque<Key>,
}

impl Fragments {
    pub fn new() -> Fragments {
        Fragments {
            known: HashMap::with_capacity(PACKETS_MAX),
            order: VecDeque::with_capacity(PACKETS_MAX + 1),
        }
    }

    /// Notes whose a first fragment is, by the key that its direction has. The oldest makes room.
    pub fn note(&mut self, reading: &Reading, is_reply: bool, session: sessions::Key, now_ns: u64) {
        let Some(key) = Key::of(reading, is_reply) else { return };
        if self.known.insert(key, (session, now_ns)).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > PACKETS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// The key of a later one's session.
    pub fn find(&self, reading: &Reading, is_reply: bool, now_ns: u64) -> Option<sessions::Key> {
        let (session, at_ns) = *self.known.get(&Key::of(reading, is_reply)?)?;
        (now_ns.saturating_sub(at_ns) <= KEPT_NS).then_some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::LinkType;
    use wire::translate::End;

    fn reading(id: u16) -> Reading {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0, 0, 28]);
        frame.extend(id.to_be_bytes());
        frame.extend([0, 1, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8]);
        Reading::of(LinkType::ETHERNET, &frame).unwrap()
    }

    fn session(n: u16) -> sessions::Key {
        let end = |port| End { address: "10.0.0.1".parse().unwrap(), port };
        sessions::Key { protocol: 17, remote: end(n), local: end(53) }
    }

    #[test]
    fn fragments_are_known_for_a_while_and_up_to_a_bound() {
        let mut all = Fragments::new();
        let find = |all: &Fragments, id, now_ns| all.find(&reading(id), false, now_ns);
        all.note(&reading(1), false, session(7), 0);
        assert_eq!(find(&all, 1, KEPT_NS), Some(session(7)));
        assert_eq!(find(&all, 1, KEPT_NS + 1), None);
        assert_eq!(find(&all, 2, 0), None);
        for id in 2..=PACKETS_MAX as u16 + 1 {
            all.note(&reading(id), false, session(id), 0);
        }
        assert_eq!((find(&all, 1, 0), find(&all, 2, 0)), (None, Some(session(2))));
        assert_eq!(all.known.len(), PACKETS_MAX);
    }

    #[test]
    fn each_part_of_what_they_have_in_common_counts() {
        let mut all = Fragments::new();
        let first = reading(1);
        all.note(&first, false, session(7), 0);
        let find = |other: Reading, is_reply| all.find(&other, is_reply, 0);
        assert_eq!(find(first, false), Some(session(7)));
        assert_eq!(find(first, true), None, "the next host may have the client's address");
        let elsewhere = End { address: "10.0.0.3".parse().unwrap(), port: 0 };
        assert_eq!(find(Reading { source: elsewhere, ..first }, false), None);
        assert_eq!(find(Reading { destination: elsewhere, ..first }, false), None);
        assert_eq!(find(Reading { protocol: 6, ..first }, false), None);
        let known = first.fragment.unwrap();
        let other = Some(wire::walk::Fragment { id: 2, ..known });
        assert_eq!(find(Reading { fragment: other, ..first }, false), None);
    }
}
