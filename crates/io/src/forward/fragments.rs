//! Which session the later fragments of a packet belong to: the first one, which has the ports, says it.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use wire::translate::Reading;

/// Packets in pieces that are remembered.
const PACKETS_MAX: usize = 4096;
/// How long fragments may come: RFC 791 has receivers give up after less.
const KEPT_NS: u64 = 30_000_000_000;

/// What the fragments of a packet have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    id: u32,
}

impl Key {
    fn of(reading: &Reading) -> Option<Key> {
        let fragment = reading.fragment?;
        let (source, destination) = (reading.source.address, reading.destination.address);
        Some(Key { source, destination, protocol: reading.protocol, id: fragment.id })
    }
}

/// Packets in pieces, the oldest first.
pub(super) struct Fragments {
    known: HashMap<Key, (u32, u64)>,
    order: VecDeque<Key>,
}

impl Fragments {
    pub fn new() -> Fragments {
        Fragments {
            known: HashMap::with_capacity(PACKETS_MAX),
            order: VecDeque::with_capacity(PACKETS_MAX + 1),
        }
    }

    /// Notes whose a first fragment is. The oldest makes room.
    pub fn note(&mut self, reading: &Reading, session: u32, now_ns: u64) {
        let Some(key) = Key::of(reading) else { return };
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

    /// The session of a later one.
    pub fn find(&self, reading: &Reading, now_ns: u64) -> Option<u32> {
        let (session, at_ns) = *self.known.get(&Key::of(reading)?)?;
        (now_ns.saturating_sub(at_ns) <= KEPT_NS).then_some(session)
    }

    /// Forgets all: the numbers of sessions may mean others.
    pub fn clear(&mut self) {
        self.known.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::LinkType;

    fn reading(id: u16) -> Reading {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0, 0, 28]);
        frame.extend(id.to_be_bytes());
        frame.extend([0, 1, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8]);
        Reading::of(LinkType::ETHERNET, &frame).unwrap()
    }

    #[test]
    fn fragments_are_known_for_a_while_and_up_to_a_bound() {
        let mut all = Fragments::new();
        all.note(&reading(1), 7, 0);
        assert_eq!(all.find(&reading(1), KEPT_NS), Some(7));
        assert_eq!(all.find(&reading(1), KEPT_NS + 1), None);
        assert_eq!(all.find(&reading(2), 0), None);
        for id in 2..=PACKETS_MAX as u16 + 1 {
            all.note(&reading(id), u32::from(id), 0);
        }
        assert_eq!((all.find(&reading(1), 0), all.find(&reading(2), 0)), (None, Some(2)));
        assert_eq!(all.known.len(), PACKETS_MAX);
        all.clear();
        assert_eq!(all.find(&reading(2), 0), None);
    }
}
