//! Packets from and to memory: for tests, and the sink that only counts.

use crate::batch::{Batch, Selection};
use crate::device::{Arrival, Sink, SinkCounters, Source};
use crate::error::Error;
use crate::packet::Packet;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// A source of packets that are given beforehand.
pub struct MemorySource {
    packets: VecDeque<Packet>,
    live: bool,
}

impl MemorySource {
    /// Delivers the packets in order, as fast as they are taken. A live source does not wait for
    /// slow targets.
    pub fn new(packets: impl IntoIterator<Item = Packet>, live: bool) -> MemorySource {
        MemorySource { packets: packets.into_iter().collect(), live }
    }
}

impl Source for MemorySource {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        while batch.room() > 0 {
            match self.packets.pop_front() {
                Some(packet) => batch.push(packet),
                None => return Ok(Arrival::End),
            }
        }
        Ok(Arrival::Packets)
    }

    fn stop(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn is_live(&self) -> bool {
        self.live
    }
}

/// A sink that keeps copies of the packets where its maker can look at them.
#[derive(Clone, Default)]
pub struct MemorySink {
    packets: Arc<Mutex<Vec<Packet>>>,
    counters: SinkCounters,
}

impl MemorySink {
    /// Takes out what has arrived so far, in order. Clones of a sink share what arrived.
    pub fn take(&self) -> Vec<Packet> {
        std::mem::take(&mut *self.packets.lock().expect("no holder of the lock panics"))
    }
}

impl Sink for MemorySink {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        let mut kept = self.packets.lock().expect("no holder of the lock panics");
        for packet in packets.iter() {
            kept.push(packet.copy());
        }
        self.counters.add_sent(packets);
        packets.len()
    }

    fn counters(&self) -> SinkCounters {
        self.counters
    }
}

/// A sink that counts packets as sent and forgets them.
#[derive(Debug, Default)]
pub struct NullSink {
    counters: SinkCounters,
}

impl Sink for NullSink {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        self.counters.add_sent(packets);
        packets.len()
    }

    fn counters(&self) -> SinkCounters {
        self.counters
    }
}
