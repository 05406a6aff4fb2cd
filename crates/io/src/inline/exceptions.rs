//! Packets that the programs leave to user space: it answers as a router does, or cuts them.
//!
//! | packet | what becomes of it |
//! |---|---|
//! | its time to live is over | ICMP time exceeded |
//! | too large for the path, and not to be cut | ICMP fragmentation needed, or packet too big |
//! | no way to the next hop | ICMP host unreachable |
//! | too large for the path, and may be cut | it is translated, cut, and sent |
//! | the last, short one of a super-packet that is too large | it is translated, and sent |
//!
//! They leave by raw sockets, from our own addresses, by the kernel's routes. RFC 1812 section 4.3.2.8:
//! errors are bounded.

use super::maps::Maps;
use super::sys::RawSocket;
use crate::clock::Now;
use crate::error::Error;
use kernel::inline::layout::{InlineMap, Leg, Session, Tuple, View, hop, hop_place, tuple};
use std::net::IpAddr;
use wire::LinkType;
use wire::translate::{
    ANSWER_LEN_MAX, Answer, End, Fragments, Hops, Kind, Mapping, Reading, answer, translate,
};

/// Answers in a second, and at once: as many as Linux sends by default.
const ANSWERS_PER_S: u64 = 1000;
const ANSWERS_BURST: u64 = 50;
const S_NS: u64 = 1_000_000_000;
const ETHERNET_LEN: usize = 14;
const MACS_LEN: usize = 12;
const IPV4_ID_AT: usize = 4;

/// What became of packets that were handed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExceptionCounters {
    /// Their time to live was over; they are lost.
    pub time_to_live: u64,
    /// Too large for the path and not to be cut; they are lost.
    pub oversize: u64,
    /// There was no way to the next hop; they are lost.
    pub unreachable: u64,
    /// Cut, and sent.
    pub fragmented: u64,
    /// In so many fragments.
    pub fragments: u64,
    /// Sent as they are: they fit, unlike others of the super-packet that they came in.
    pub whole: u64,
    /// Neither: no session was found, or a socket took nothing. They are lost.
    pub lost: u64,
    /// Answers that were sent about those that are lost.
    pub answers: u64,
}

impl ExceptionCounters {
    /// Packets that were dealt with.
    pub fn packets(&self) -> u64 {
        self.time_to_live
            + self.oversize
            + self.unreachable
            + self.fragmented
            + self.whole
            + self.lost
    }
}

/// What answers.
#[derive(Debug)]
pub(super) struct Exceptions {
    v4: RawSocket,
    v6: Option<RawSocket>,
    tokens: u64,
    filled_ns: u64,
    /// Identifier of the last packet that had none.
    last_id: u16,
}

impl Exceptions {
    /// Opens its sockets in the calling thread's network namespace.
    pub(super) fn open() -> Result<Exceptions, Error> {
        let v4 = RawSocket::open(false).map_err(|e| Error::system("open a raw socket", e))?;
        let v6 = RawSocket::open(true).inspect_err(|e| tracing::debug!("no IPv6: {e}")).ok();
        Ok(Exceptions { v4, v6, tokens: ANSWERS_BURST, filled_ns: 0, last_id: 0 })
    }

    /// Deals with a frame that came from a client, or from a next host, and whose way takes `mtu` bytes,
    /// or is lost. What is forwarded is shown, as the programs show what they forward.
    pub(super) fn handle(
        &mut self,
        frame: &[u8],
        (leg, mtu, is_lost): (Leg, u32, bool),
        maps: &Maps,
        counters: &mut ExceptionCounters,
        now: Now,
        show: &mut dyn FnMut(View, &[u8]),
    ) -> Result<(), Error> {
        let Some(reading) = Reading::of(LinkType::ETHERNET, frame) else {
            counters.lost += 1;
            return Ok(());
        };
        if reading.hops <= 1 {
            counters.time_to_live += 1;
            self.tell(frame, &reading, Answer::TimeExceeded, counters, now);
            return Ok(());
        }
        let fits = reading.ip_len() <= mtu as usize;
        if fits && is_lost {
            counters.unreachable += 1;
            self.tell(frame, &reading, Answer::Unreachable, counters, now);
            return Ok(());
        }
        if !fits && !reading.may_fragment {
            counters.oversize += 1;
            let why = Answer::TooBig(u16::try_from(mtu).unwrap_or(u16::MAX));
            self.tell(frame, &reading, why, counters, now);
            return Ok(());
        }
        match self.send_translated(frame, &reading, (leg, mtu as usize), maps, show)? {
            Some(_) if fits => counters.whole += 1,
            Some(fragments) => {
                counters.fragmented += 1;
                counters.fragments += fragments;
            }
            None => counters.lost += 1,
        }
        Ok(())
    }

    fn tell(
        &mut self,
        frame: &[u8],
        reading: &Reading,
        why: Answer,
        counters: &mut ExceptionCounters,
        now: Now,
    ) {
        let past_ns = now.monotonic_ns.saturating_sub(self.filled_ns);
        let gained = past_ns.saturating_mul(ANSWERS_PER_S) / S_NS;
        if gained > 0 {
            self.tokens = self.tokens.saturating_add(gained).min(ANSWERS_BURST);
            self.filled_ns = now.monotonic_ns;
        }
        if self.tokens == 0 {
            return;
        }
        self.tokens -= 1;
        let mut out = [0; ETHERNET_LEN + ANSWER_LEN_MAX];
        let from = reading.destination.address;
        if let Some(len) = answer(frame, reading, why, from, &mut out)
            && self.send(&out[reading.ip_at as usize..len], reading.source.address)
        {
            counters.answers += 1;
        }
    }

    /// Sends a packet, cut if it does not fit. How many pieces were sent; `None`: it is lost.
    fn send_translated(
        &mut self,
        frame: &[u8],
        reading: &Reading,
        (leg, mtu): (Leg, usize),
        maps: &Maps,
        show: &mut dyn FnMut(View, &[u8]),
    ) -> Result<Option<u64>, Error> {
        let Some(Way { mapping, hop }) = way(reading, leg, maps)? else { return Ok(None) };
        let mut sent_frame = frame.to_vec();
        translate(&mut sent_frame, reading, &mapping, Hops::Lower);
        let id_at = reading.ip_at as usize + IPV4_ID_AT;
        let has_id = reading.source.address.is_ipv4() && reading.may_fragment;
        if has_id && reading.fragment.is_none() && sent_frame[id_at..][..2] == [0, 0] {
            // The socket would give each fragment an identifier of its own.
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            sent_frame[id_at..][..2].copy_from_slice(&self.last_id.to_be_bytes());
        }
        if let Some(macs) = macs(hop, maps)? {
            sent_frame[..MACS_LEN].copy_from_slice(&macs);
        }
        let Some(cut) = self.cut(reading, sent_frame, mtu) else { return Ok(None) };
        let (ip_at, to) = (reading.ip_at as usize, mapping.destination.address);
        if cut.iter().filter(|piece| self.send(&piece[ip_at..], to)).count() != cut.len() {
            return Ok(None);
        }
        show(View::Ingress, frame);
        let mut between = frame.to_vec();
        translate(&mut between, reading, &inline(reading, leg, &mapping), Hops::Keep);
        show(View::Inline, &between);
        cut.iter().for_each(|piece| show(View::Egress, piece));
        Ok(Some(cut.len() as u64))
    }

    /// The pieces of a frame, or the frame itself if it fits.
    fn cut(&self, reading: &Reading, frame: Vec<u8>, mtu: usize) -> Option<Vec<Vec<u8>>> {
        if reading.ip_len() <= mtu {
            let end = reading.end as usize;
            return frame.get(..end).map(|whole| vec![whole.to_vec()]);
        }
        let cut = Fragments::new(reading, &frame, mtu)?;
        let piece = |number| {
            let mut piece = vec![0; cut.len(number)];
            cut.emit(&frame, number, &mut piece);
            piece
        };
        Some((0..cut.count()).map(piece).collect())
    }

    fn send(&self, packet: &[u8], to: IpAddr) -> bool {
        let socket = if to.is_ipv6() { self.v6.as_ref() } else { Some(&self.v4) };
        socket.is_some_and(|socket| {
            let sent = socket.send(packet, to);
            sent.inspect_err(|e| tracing::debug!("send a packet to {to}: {e}")).is_ok()
        })
    }
}

/// What a packet would be if nothing stood in between client and next host.
fn inline(reading: &Reading, leg: Leg, mapping: &Mapping) -> Mapping {
    let port = match (reading.kind, leg) {
        // An identifier is the client's on both sides.
        (Kind::Query { .. }, Leg::Forward) => reading.source.port,
        _ => mapping.destination.port,
    };
    let destination = End { port, ..mapping.destination };
    let source = match (reading.kind, leg) {
        (Kind::Query { .. }, Leg::Reply) => End { port, ..reading.source },
        _ => reading.source,
    };
    Mapping { source, destination }
}

/// The next hop's MAC, and our interface's, where they are known.
fn macs(number: u32, maps: &Maps) -> Result<Option<[u8; MACS_LEN]>, Error> {
    let entry = maps.of(InlineMap::Hops).get(&hop_place(number).to_ne_bytes())?;
    let macs = entry.and_then(|entry| {
        let whose = u32::from_ne_bytes(*entry.get(hop::WHOSE..)?.first_chunk()?);
        let macs = *entry.get(hop::MACS..)?.first_chunk()?;
        (whose == number && macs != [0; MACS_LEN]).then_some(macs)
    });
    Ok(macs)
}

/// What a packet becomes, and its way: [`hop()`](kernel::inline::layout::hop()).
struct Way {
    mapping: Mapping,
    hop: u32,
}

/// The way of a packet, by its session.
fn way(reading: &Reading, leg: Leg, maps: &Maps) -> Result<Option<Way>, Error> {
    let (source_port, destination_port) = match (reading.kind, leg) {
        (Kind::Ports, _) => (reading.source.port, reading.destination.port),
        (Kind::Query { .. }, Leg::Forward) => (reading.source.port, 0),
        (Kind::Query { .. }, Leg::Reply) => (0, reading.destination.port),
        (Kind::Plain | Kind::Later, _) => (0, 0),
        // Errors are short.
        _ => return Ok(None),
    };
    let tuple = Tuple {
        source: reading.source.address,
        destination: reading.destination.address,
        source_port,
        destination_port,
        protocol: reading.protocol,
    };
    let mut key = tuple.bytes().to_vec();
    if let (Kind::Later, Some(fragment)) = (reading.kind, reading.fragment) {
        // As the programs have it: the field of an IPv4 header, read as it stands there.
        let id = u16::from_ne_bytes((fragment.id as u16).to_be_bytes());
        key[tuple::PORTS..][..4].copy_from_slice(&u32::from(id).to_ne_bytes());
        match maps.of(InlineMap::Fragments).get(&key)? {
            Some(first) => key = first,
            None => return Ok(None),
        }
    }
    let entry = maps.of(InlineMap::Sessions).get(&key)?;
    Ok(entry.and_then(|entry| Session::parse(&entry, tuple.protocol)).map(|session| {
        let Tuple { source, destination, source_port, destination_port, .. } = session.becomes;
        // An identifier belongs to both ends.
        let id = source_port | destination_port;
        let (from, to) = match reading.kind {
            Kind::Query { .. } => (id, id),
            _ => (source_port, destination_port),
        };
        let mapping = Mapping {
            source: End { address: source, port: from },
            destination: End { address: destination, port: to },
        };
        Way { mapping, hop: session.hop }
    }))
}
