//! Reassembly: the fragments of IP packets that are tunnels become one packet again.
//!
//! ```text
//!            ┌ not of a tunnel ──────────────────────────► passes at once
//! fragment ──┼ the first has not come ─┐
//!            └ of a tunnel ────────────┴► held ─┬ all there ► one packet, in the last one's place
//!                                               └ 30 s, overlap, no room ► given up, as they came
//! ```
//!
//! Sources: RFC 791 and RFC 815 (IPv4), RFC 8200 section 4.5 (IPv6), RFC 5722 (overlaps).
//!
//! A packet whose fragments overlap is given up, in IPv4 too: nobody knows which of the bytes its
//! receiver believed. A fragment that repeats another to the byte is left out. What overlaps after
//! more than a second is of a later packet with the same id, as ids come round fast.
//!
//! Bounds: [`DATAGRAMS`] packets, [`DATAGRAM_BYTES`] for the fragments of each, 30 s. At the first
//! bound the oldest packet is given up. Held fragments are copies: no block of a ring waits for them.

mod key;
#[cfg(test)]
mod tests;

use super::part::Part;
use super::settled::Settled;
use crate::packet::{Meta, Packet};
use crate::pool::{Data, Pool};
use api::FragmentStats;
pub(super) use key::Key;
pub use key::Scope;
use std::collections::{HashMap, VecDeque};
use wire::LinkType;
use wire::walk::Walk;

/// Packets whose fragments are held at a time.
const DATAGRAMS: usize = 256;
/// Memory for the fragments of one, [`crate::HEADROOM`] for each included.
const DATAGRAM_BYTES: usize = 128 << 10;
/// For how long fragments are held.
pub(super) const TIMEOUT_NS: u64 = 30_000_000_000;
/// After so long what overlaps is another packet with the same id.
const ID_REUSE_NS: u64 = 1_000_000_000;
/// Memory for whole packets of a batch.
const WHOLE_CHUNKS: usize = 16;
const WHOLE_CHUNK_BYTES: usize = 1 << 20;

/// What came of a fragment.
#[derive(Debug)]
pub enum Added {
    /// It waits for the others.
    Held,
    /// It was the last: this is the packet.
    Whole(Packet),
    /// It goes on as it came, for this reason.
    Alone(Packet, Verdict),
}

/// Why fragments do not become one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are of no tunnel.
    NoTunnel,
    /// They were given up.
    GivenUp(Fault),
}

/// Why fragments of a tunnel are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Others did not come in time, or before the source ended.
    Incomplete,
    /// There was no room for more.
    NoRoom,
    /// They overlap.
    Overlapping,
    /// One cannot be a fragment: no bytes, odd bytes, bytes beyond the longest packet or its end.
    Malformed,
    /// The capture has cut one short.
    Cut,
}

/// The fragments that are held.
pub struct Fragments {
    scope: Scope,
    datagrams: Vec<Datagram>,
    places: HashMap<Key, usize>,
    /// Places in use, the oldest first.
    ages: VecDeque<usize>,
    /// Places not in use; that which was left first is taken first, as its packets are gone.
    free: VecDeque<usize>,
    settled: Settled,
    wholes: Pool,
    /// A first fragment, as if it were whole.
    pretended: Vec<u8>,
    /// What was let go, in order, until it is taken.
    released: VecDeque<(Packet, Verdict)>,
    held: u64,
    counters: FragmentStats,
}

impl Fragments {
    /// Holds nothing yet. Takes its memory now, untouched.
    pub fn new(scope: Scope) -> Fragments {
        Fragments {
            scope,
            datagrams: std::iter::repeat_with(Datagram::new).take(DATAGRAMS).collect(),
            places: HashMap::with_capacity(2 * DATAGRAMS),
            ages: VecDeque::with_capacity(DATAGRAMS),
            free: (0..DATAGRAMS).collect(),
            settled: Settled::new(),
            wholes: Pool::new(WHOLE_CHUNKS, WHOLE_CHUNK_BYTES),
            pretended: Vec::new(),
            released: VecDeque::new(),
            held: 0,
            counters: FragmentStats::default(),
        }
    }

    /// Fragments that are held, and those let go that were not taken yet.
    pub fn held(&self) -> u64 {
        self.held + self.released.len() as u64
    }

    /// What was done so far.
    pub fn counters(&self) -> FragmentStats {
        self.counters
    }

    /// Takes a fragment that came out of so many tunnels; `walk` is of it. `is_tunnel` judges a packet by its first fragment, which it
    /// is shown as if it were the whole. What is [released](Self::released) by it stands before it.
    pub fn add(
        &mut self,
        layers: u8,
        walk: &Walk,
        packet: Packet,
        is_tunnel: impl FnOnce(LinkType, &[u8]) -> bool,
    ) -> Added {
        let Some(part) = Part::of(walk, &packet.data).filter(Part::may_be_tunnel) else {
            return Added::Alone(packet, Verdict::NoTunnel);
        };
        let key = Key::new(self.scope, layers, &part, walk, &packet);
        let known = self.places.get(&key).copied();
        if part.begin == 0 {
            self.settled.forget(&key);
            if !self.is_tunnel(&part, &packet, is_tunnel) {
                if let Some(place) = known {
                    self.release(place, Verdict::NoTunnel);
                }
                self.settled.remember(key, packet.meta.ts_ns, Verdict::NoTunnel);
                return Added::Alone(packet, Verdict::NoTunnel);
            }
        } else if known.is_none()
            && let Some(verdict) = self.settled.find(&key, packet.meta.ts_ns)
        {
            if let Verdict::GivenUp(fault) = verdict {
                self.count(fault, 1);
            }
            return Added::Alone(packet, verdict);
        }
        match part.fault() {
            Some(fault) => self.refuse(key, packet, fault),
            None => self.hold(key, known, part, packet),
        }
    }

    /// Gives up what has been held for too long. Times are those of packets.
    pub fn expire(&mut self, now_ns: u64) {
        while let Some(&place) = self.ages.front()
            && now_ns.saturating_sub(self.datagrams[place].begun_ns) >= TIMEOUT_NS
        {
            self.give_up(place, Fault::Incomplete);
        }
    }

    /// Gives up all that is held: no more will come.
    pub fn finish(&mut self) {
        while let Some(&place) = self.ages.front() {
            self.give_up(place, Fault::Incomplete);
        }
    }

    /// The next fragment that was let go, as it came, and why.
    pub fn released(&mut self) -> Option<(Packet, Verdict)> {
        self.released.pop_front()
    }

    fn is_tunnel(
        &mut self,
        part: &Part,
        first: &Packet,
        is_tunnel: impl FnOnce(LinkType, &[u8]) -> bool,
    ) -> bool {
        let there = first.data.get(part.at..).unwrap_or_default();
        let payload = &there[..there.len().min(part.end - part.begin)];
        if !part.fits(payload.len()) {
            return false;
        }
        self.pretended.clear();
        self.pretended.resize(part.head_len(), 0);
        part.write_head(&first.data, payload.len(), &mut self.pretended);
        self.pretended.extend_from_slice(payload);
        is_tunnel(first.meta.link_type, &self.pretended)
    }

    fn hold(&mut self, key: Key, mut known: Option<usize>, part: Part, packet: Packet) -> Added {
        let ts_ns = packet.meta.ts_ns;
        let mut fit = Fit::Adds;
        if let Some(place) = known {
            let datagram = &self.datagrams[place];
            fit = datagram.fit(&part, &packet);
            let is_old = ts_ns.saturating_sub(datagram.begun_ns) > ID_REUSE_NS;
            if is_old && matches!(fit, Fit::Not(_)) {
                self.give_up(place, Fault::Incomplete);
                (known, fit) = (None, Fit::Adds);
            }
        }
        let adds = match fit {
            Fit::Adds => part.end - part.begin,
            Fit::Repeats => 0,
            Fit::Not(fault) => return self.refuse(key, packet, fault),
        };
        let place = known.unwrap_or_else(|| self.begin(key.clone(), ts_ns));
        let datagram = &mut self.datagrams[place];
        if datagram.end_with(&part) == Some(datagram.payload_bytes + adds) {
            return self.complete(key, place, part, packet);
        }
        match packet.copy_into(&mut datagram.pool) {
            None => self.refuse(key, packet, Fault::NoRoom),
            Some(copy) => {
                datagram.end = datagram.end_with(&part);
                datagram.payload_bytes += adds;
                datagram.parts.push((part, copy));
                self.held += 1;
                Added::Held
            }
        }
    }

    /// Makes the packet, now that its last fragment has come.
    fn complete(&mut self, key: Key, place: usize, part: Part, last: Packet) -> Added {
        let datagram = &self.datagrams[place];
        let held = datagram.parts.len() as u64;
        match datagram.join(&part, &last.data, &mut self.wholes) {
            Err(fault) => self.refuse(key, last, fault),
            Ok(data) => {
                self.counters.whole += 1;
                self.counters.joined += held + 1;
                self.held -= held;
                self.datagrams[place].parts.clear();
                self.leave(place);
                let origlen = data.len() as u32;
                Added::Whole(Packet { data, meta: Meta { origlen, ..last.meta } })
            }
        }
    }

    /// Gives up a packet with the fragment that has come now.
    fn refuse(&mut self, key: Key, packet: Packet, fault: Fault) -> Added {
        self.count(fault, 1);
        if let Some(&place) = self.places.get(&key) {
            self.give_up(place, fault);
        }
        let verdict = Verdict::GivenUp(fault);
        self.settled.remember(key, packet.meta.ts_ns, verdict);
        Added::Alone(packet, verdict)
    }

    /// Takes a place for a packet that has begun; the oldest gives way.
    fn begin(&mut self, key: Key, ts_ns: u64) -> usize {
        if self.free.is_empty()
            && let Some(&oldest) = self.ages.front()
        {
            self.give_up(oldest, Fault::NoRoom);
        }
        let place = self.free.pop_front().expect("each place is in use or free");
        self.datagrams[place].begin(key.clone(), ts_ns);
        self.places.insert(key, place);
        self.ages.push_back(place);
        place
    }

    fn give_up(&mut self, place: usize, fault: Fault) {
        self.count(fault, self.datagrams[place].parts.len() as u64);
        self.release(place, Verdict::GivenUp(fault));
    }

    fn release(&mut self, place: usize, verdict: Verdict) {
        let parts = &mut self.datagrams[place].parts;
        self.held -= parts.len() as u64;
        self.released.extend(parts.drain(..).map(|(_, packet)| (packet, verdict)));
        self.leave(place);
    }

    fn count(&mut self, fault: Fault, fragments: u64) {
        *match fault {
            Fault::Incomplete => &mut self.counters.incomplete,
            Fault::NoRoom => &mut self.counters.no_room,
            Fault::Overlapping => &mut self.counters.overlapping,
            Fault::Malformed => &mut self.counters.malformed,
            Fault::Cut => &mut self.counters.cut,
        } += fragments;
    }

    fn leave(&mut self, place: usize) {
        if let Some(key) = self.datagrams[place].key.take() {
            self.places.remove(&key);
        }
        self.ages.retain(|&used| used != place);
        self.free.push_back(place);
    }
}

/// A packet of which fragments are held.
struct Datagram {
    key: Option<Key>,
    begun_ns: u64,
    /// In the order in which they came. Those that overlap are the same.
    parts: Vec<(Part, Packet)>,
    /// Bytes that are there, and how many there will be.
    payload_bytes: usize,
    end: Option<usize>,
    pool: Pool,
}

/// What a part means to the datagram that it belongs to.
enum Fit {
    Adds,
    Repeats,
    Not(Fault),
}

impl Datagram {
    fn new() -> Datagram {
        Datagram {
            key: None,
            begun_ns: 0,
            parts: Vec::new(),
            payload_bytes: 0,
            end: None,
            pool: Pool::new(1, DATAGRAM_BYTES),
        }
    }

    fn begin(&mut self, key: Key, ts_ns: u64) {
        self.key = Some(key);
        self.begun_ns = ts_ns;
        (self.payload_bytes, self.end) = (0, None);
        self.pool.rewind();
    }

    /// Where the payload ends, once this part is there too.
    fn end_with(&self, part: &Part) -> Option<usize> {
        if part.more { self.end } else { Some(part.end) }
    }

    fn fit(&self, part: &Part, packet: &Packet) -> Fit {
        for (held, frame) in &self.parts {
            let is_same = (held.begin, held.end, held.more) == (part.begin, part.end, part.more);
            if is_same && held.payload(&frame.data) == part.payload(&packet.data) {
                return Fit::Repeats;
            }
            if part.begin < held.end && held.begin < part.end {
                return Fit::Not(Fault::Overlapping);
            }
            if !part.more && held.end > part.end {
                return Fit::Not(Fault::Malformed);
            }
        }
        match self.end {
            Some(end) if part.end > end || !part.more => Fit::Not(Fault::Malformed),
            _ => Fit::Adds,
        }
    }

    /// The packet, made of the parts that are there and the last one to come.
    fn join(&self, last: &Part, last_frame: &[u8], wholes: &mut Pool) -> Result<Data, Fault> {
        let held = || self.parts.iter().map(|(part, packet)| (part, &*packet.data));
        let all = || held().chain(std::iter::once((last, last_frame)));
        let payload_bytes = self.end_with(last).unwrap_or(last.end);
        // Without a first part the sum of the bytes would not have been right.
        let (first, frame) = all().find(|(part, _)| part.begin == 0).ok_or(Fault::Malformed)?;
        if !first.fits(payload_bytes) {
            return Err(Fault::Malformed);
        }
        let head_len = first.head_len();
        let mut whole = wholes.take(head_len + payload_bytes).ok_or(Fault::NoRoom)?;
        first.write_head(frame, payload_bytes, &mut whole[..head_len]);
        for (part, frame) in all() {
            whole[head_len + part.begin..head_len + part.end].copy_from_slice(part.payload(frame));
        }
        Ok(whole)
    }
}
