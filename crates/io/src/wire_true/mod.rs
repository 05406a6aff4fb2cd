//! Wire truth for files: cuts the super-packets of a capture back into the packets of the wire.
//!
//! ```text
//!             a SYN, or any other packet  ───────────────────────────────────►  as it is
//! FileSource                                 MSS of the SYNs less options  ──►  cut
//!             TCP longer than a segment  ─┬─►
//!                                         └─ none seen: an MTU  ─────────────►  cut, estimated
//! ```
//! What the ring of an interface does by the kernel's word ([`crate::ring`]) has to be told from the
//! packets here. A frame is a super-packet if it holds TCP (in tunnels too) and
//!
//! - its payload is longer than the segments that its flow's SYNs allow; or
//! - there was no SYN, and its outermost IP packet is longer than the MTU; or
//! - a length field in it is 0 or replaced by a jumbo option: the kernel had yet to fill it in.
//!
//! The segments' size, where no SYN was seen, fills the MTU and is an estimate: such packets get an
//! interface of their own in the file, whose description says so. A large UDP datagram may be what
//! the sender meant and is left. So is a lone packet's checksum: nothing tells one that was left to
//! the NIC from a wrong one. The segments' own checksums are computed.
//!
//! A super-packet of which the file holds only the first bytes (a snap length) becomes as many
//! packets, of true lengths; each has the headers and as much of its payload as there is. The
//! checksum of one whose payload is not whole is 0. No more of the headers is shown than the file holds.

mod flows;
#[cfg(test)]
mod tests;

use crate::batch::Batch;
use crate::device::{Arrival, Screening, Source};
use crate::error::Error;
use crate::interface::{Interface, Interfaces};
use crate::packet::{InterfaceId, Meta, Packet};
use crate::pool::{Data, Pool};
use api::{Drops, WireTrue};
use flows::Flows;
use std::collections::{HashMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wire::segment::{Plan, Tcp};
use wire::walk::Walk;

/// Memory for the segments of some super-packets; beyond it each gets memory of its own.
const CHUNKS: usize = 8;
const CHUNK_BYTES: usize = 1 << 20;

/// The longest frame that is looked at: the kernel's own bound (`GSO_MAX_SIZE`, 512 KiB) and room
/// for headers. What claims to be longer is no super-packet.
const FRAME_BYTES_MAX: u32 = 600_000;

/// What was done, for who made the source. Cloning shares the counters.
#[derive(Debug, Clone, Default)]
pub struct WireTrueCounters(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    super_packets: AtomicU64,
    segments: AtomicU64,
    estimated: AtomicU64,
    left: AtomicU64,
}

impl WireTrueCounters {
    /// The counts now.
    pub fn read(&self) -> WireTrue {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WireTrue {
            super_packets: read(&self.0.super_packets),
            segments: read(&self.0.segments),
            estimated: read(&self.0.estimated),
            left: read(&self.0.left),
        }
    }
}

/// A source of packets that may hold super-packets, cut into the packets of the wire.
pub struct WireTrueSource {
    inner: Box<dyn Source>,
    interfaces: Interfaces,
    mtu: u16,
    flows: Flows,
    /// What came from the inner source and was not looked at yet.
    fresh: Batch,
    pending: VecDeque<Packet>,
    /// How the inner source ended, once it has, until that is passed on.
    end: Option<Result<Arrival, Error>>,
    /// Stands for a frame that the file holds in part.
    padded: Vec<u8>,
    segment: Vec<u8>,
    pool: Pool,
    /// For an interface the one of its packets whose size is an estimate.
    estimates: HashMap<InterfaceId, InterfaceId>,
    counters: WireTrueCounters,
}

impl WireTrueSource {
    /// Cuts what a source delivers. `mtu` is that of the link on which flows without a SYN went,
    /// bytes. The counters count as the source goes on.
    pub fn new(
        inner: Box<dyn Source>,
        mtu: u16,
        interfaces: &Interfaces,
        counters: &WireTrueCounters,
    ) -> WireTrueSource {
        WireTrueSource {
            inner,
            interfaces: interfaces.clone(),
            mtu,
            flows: Flows::new(),
            fresh: Batch::new(),
            pending: VecDeque::new(),
            end: None,
            padded: Vec::new(),
            segment: Vec::new(),
            pool: Pool::new(CHUNKS, CHUNK_BYTES),
            estimates: HashMap::new(),
            counters: counters.clone(),
        }
    }

    /// Adds a packet to the batch, cut if it is a super-packet.
    fn undo(&mut self, packet: Packet, batch: &mut Batch) {
        match self.plan(&packet) {
            Verdict::WirePacket => batch.push(packet),
            Verdict::Left => {
                add(&self.counters.0.left, 1);
                batch.push(packet);
            }
            Verdict::Super { plan, estimated } => self.cut(&packet, &plan, estimated, batch),
        }
    }

    /// Looks at a packet: what it is, and what its flow announces in it.
    fn plan(&mut self, packet: &Packet) -> Verdict {
        let Meta { link_type, origlen, .. } = packet.meta;
        let frame = match packet.data.len() < origlen as usize {
            false => &packet.data[..],
            true if origlen > FRAME_BYTES_MAX => return Verdict::WirePacket,
            // So that what its headers declare is there; the bytes behind are never delivered.
            true => {
                self.padded.clear();
                self.padded.extend_from_slice(&packet.data);
                self.padded.resize(origlen as usize, 0);
                &self.padded[..]
            }
        };
        let Ok(tcp) = Tcp::find(link_type, frame) else {
            let ip_at = Walk::new(link_type, frame).network.map(|network| network.at as usize);
            let is_long = ip_at.is_some_and(|at| frame.len() - at > usize::from(self.mtu));
            return if is_long { Verdict::Left } else { Verdict::WirePacket };
        };
        if let Some(mss) = tcp.mss {
            self.flows.announced(tcp.flow, mss);
        }
        let known = self.flows.mss(tcp.flow).and_then(|mss| tcp.segment_bytes_of_mss(mss));
        let is_super = match known {
            Some(bytes) => tcp.payload_len() > usize::from(bytes),
            None => tcp.ip_len() > usize::from(self.mtu),
        };
        if !is_super && !tcp.is_undeclared() {
            return Verdict::WirePacket;
        }
        let bytes = known.or_else(|| tcp.segment_bytes_of_mtu(self.mtu));
        let plan = bytes.map(|bytes| Plan::new(link_type, frame, &tcp.gso(bytes)));
        match plan {
            Some(Ok(plan)) => Verdict::Super { plan, estimated: known.is_none() },
            _ => Verdict::Left,
        }
    }

    fn cut(&mut self, packet: &Packet, plan: &Plan, estimated: bool, batch: &mut Batch) {
        let present_bytes = packet.data.len();
        let is_whole = present_bytes >= packet.meta.origlen as usize;
        // One segment has the size it had, whatever the rule.
        let estimated = estimated && plan.count() > 1;
        let interface = match estimated {
            true => self.estimate_of(packet.meta.interface),
            false => packet.meta.interface,
        };
        // The id that the file gives it is not that of each of its segments.
        let packet_id = packet.meta.packet_id.filter(|_| plan.count() == 1);
        add(&self.counters.0.super_packets, 1);
        add(&self.counters.0.segments, plan.count() as u64);
        add(&self.counters.0.estimated, if estimated { plan.count() as u64 } else { 0 });
        let frame = if is_whole { &packet.data[..] } else { &self.padded[..] };
        for index in 0..plan.count() {
            let len = plan.segment_len(index);
            self.segment.resize(len, 0);
            plan.emit(frame, index, &mut self.segment);
            let missing = plan.segment_end(index).saturating_sub(present_bytes);
            if missing > 0 {
                let at = plan.checksum_at();
                self.segment[at..at + 2].fill(0);
                let header_len = plan.header_len().min(present_bytes);
                self.segment.truncate(header_len.max(len.saturating_sub(missing)));
            }
            // The pool is bounded; beyond it memory is taken, as a file can wait for no one.
            let data = self.pool.copy(&self.segment);
            let data = data.unwrap_or_else(|| Data::copy_of(&self.segment));
            let meta = Meta { origlen: len as u32, interface, packet_id, ..packet.meta.clone() };
            batch.push(Packet { data, meta });
        }
    }

    /// The interface for packets of another one whose size is an estimate.
    fn estimate_of(&mut self, id: InterfaceId) -> InterfaceId {
        let (interfaces, mtu) = (&self.interfaces, self.mtu);
        *self.estimates.entry(id).or_insert_with(|| {
            let of = interfaces.get(id);
            let estimate = format!("cut from super-packets, segment size estimated for MTU {mtu}");
            let description = match &of.description {
                Some(description) => format!("{description}; {estimate}"),
                None => estimate,
            };
            interfaces.add(Interface { description: Some(description), ..(*of).clone() })
        })
    }
}

/// What a packet is.
enum Verdict {
    /// As the wire carried it.
    WirePacket,
    /// Longer than the MTU, and it cannot be told how it was cut, or whether.
    Left,
    Super {
        plan: Plan,
        estimated: bool,
    },
}

impl Source for WireTrueSource {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        while batch.room() > 0 {
            if let Some(packet) = self.pending.pop_front() {
                self.undo(packet, batch);
                continue;
            }
            if let Some(end) = self.end.take() {
                return end;
            }
            let arrival = self.inner.receive(&mut self.fresh);
            self.pending.extend(self.fresh.drain());
            match arrival {
                Ok(Arrival::Packets) => {}
                Ok(Arrival::Idle) if self.pending.is_empty() => {
                    return Ok(if batch.is_empty() { Arrival::Idle } else { Arrival::Packets });
                }
                Ok(Arrival::Idle) => {}
                // What came with it goes first.
                end => self.end = Some(end),
            }
        }
        Ok(Arrival::Packets)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        // What was read ahead is ready.
        if self.pending.is_empty() { self.inner.readiness() } else { None }
    }

    fn gather(&self) -> Duration {
        self.inner.gather()
    }

    fn stop(&mut self) -> Result<(), Error> {
        // Nobody asked for what was read ahead.
        self.pending.clear();
        self.inner.stop()
    }

    fn drops(&mut self) -> Drops {
        self.inner.drops()
    }

    fn missing(&self) -> u64 {
        self.inner.missing()
    }

    fn screening(&mut self) -> Screening {
        self.inner.screening()
    }

    fn is_live(&self) -> bool {
        self.inner.is_live()
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
