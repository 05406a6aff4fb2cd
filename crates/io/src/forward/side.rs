//! One of the two interfaces: its ring, its socket, and what is known of it.

use super::report::SideReport;
use crate::batch::{Batch, Selection};
use crate::clock::Now;
use crate::device::{Sink, Source};
use crate::error::Error;
use crate::interface::Interfaces;
use crate::nic::NicSink;
use crate::packet::Packet;
use crate::pool::Pool;
use crate::probe::find_link;
use crate::ring::{Handover, KernelFilter, RingOptions, RingSource};
use api::{DropReason, Drops, RingSize};

/// Answers to senders in a second, and at once: as many as Linux sends by default.
const ANSWERS_PER_S: u64 = 1000;
const ANSWERS_BURST: u64 = 50;
const S_NS: u64 = 1_000_000_000;

pub(super) struct Side {
    pub name: String,
    pub source: RingSource,
    sink: NicSink,
    /// A socket of its own, so that answers stay out of the ledger of what is forwarded.
    answers: NicSink,
    pub mac: [u8; 6],
    pub mtu: usize,
    pub index: i32,
    outgoing: Batch,
    positions: Vec<u32>,
    offered: u64,
    refused: Drops,
    pub fragmented: u64,
    pub fragments: u64,
    answered: u64,
    tokens: u64,
    filled_ns: u64,
}

impl Side {
    pub fn open(name: &str, ring_size: RingSize) -> Result<Side, Error> {
        let options = RingOptions {
            interface: name.into(),
            netns: None,
            // Questions for our IPv6 addresses go to groups that the NIC knows nothing of.
            promiscuous: true,
            ring_size,
            handover: Handover::Immediate,
            snaplen: 0,
            filter: KernelFilter::Absent,
        };
        let source = RingSource::open(&options, &Interfaces::default())?;
        let mut side = Side {
            source,
            sink: NicSink::open(name)?,
            answers: NicSink::open(name)?,
            mac: [0; 6],
            mtu: 0,
            index: 0,
            outgoing: Batch::new(),
            positions: Vec::new(),
            offered: 0,
            refused: Drops::default(),
            fragmented: 0,
            fragments: 0,
            answered: 0,
            tokens: ANSWERS_BURST,
            filled_ns: 0,
            name: name.into(),
        };
        side.look();
        Ok(side)
    }

    /// Asks the kernel for the MAC and the MTU; what they were stays if it is down.
    pub fn look(&mut self) {
        match find_link(&self.name) {
            Ok((index, of)) => {
                (self.index, self.mac) = (index, of.mac);
                self.mtu = of.mtu.min(usize::from(u16::MAX));
            }
            Err(why) => tracing::debug!("{}: {why}", self.name),
        }
    }

    /// Takes a packet that is to be sent with the others of its batch.
    pub fn push(&mut self, packet: Packet) {
        self.outgoing.push(packet);
    }

    /// Sends what was taken. A device that takes no more loses the rest, as a router's does.
    pub fn flush(&mut self) {
        let count = self.outgoing.len();
        if count == 0 {
            return;
        }
        while self.positions.len() < count {
            self.positions.push(self.positions.len() as u32);
        }
        let taken =
            self.sink.send(Selection::new(self.outgoing.packets(), &self.positions[..count]));
        self.offered += count as u64;
        self.refused.add_many(DropReason::DeviceQueue, (count - taken) as u64);
        self.outgoing.clear();
    }

    /// Counts a frame that was meant for it and could not be made.
    pub fn lose(&mut self, reason: DropReason) {
        self.offered += 1;
        self.refused.add(reason);
    }

    /// Whether one more answer about a packet may be sent now.
    pub fn may_answer(&mut self, now_ns: u64) -> bool {
        let gained = now_ns.saturating_sub(self.filled_ns).saturating_mul(ANSWERS_PER_S) / S_NS;
        if gained > 0 {
            self.tokens = self.tokens.saturating_add(gained).min(ANSWERS_BURST);
            self.filled_ns = now_ns;
        }
        let may = self.tokens > 0;
        self.tokens -= u64::from(may);
        may
    }

    /// Sends a frame beside what is forwarded.
    pub fn answer(&mut self, like: &Packet, frame: &[u8], pool: &mut Pool) {
        let Some(data) = pool.copy(frame) else { return };
        let packet = Packet { data, meta: like.meta.clone() };
        self.answered += self.answers.send(Selection::new(&[packet], &[0])) as u64;
    }

    pub fn tick(&mut self, now: Now) {
        self.sink.tick(now);
        self.answers.tick(now);
    }

    pub fn report(&self) -> SideReport {
        let mut sink = self.sink.counters();
        sink.drops.merge(&self.refused);
        SideReport {
            name: self.name.clone(),
            offered: self.offered,
            sink,
            fragmented: self.fragmented,
            fragments: self.fragments,
            answers: self.answered,
        }
    }

    /// What the ring lost, and what never came out of it.
    pub fn lost(&mut self) -> (Drops, u64) {
        (self.source.drops(), self.source.missing())
    }
}
