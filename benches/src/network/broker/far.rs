//! What arrives at a far end: numbers and times, read out of a ring that holds all of them.
//!
//! The ring is not read before all is sent, so that reading costs none of what is measured. A
//! frame's time is the kernel's, of when it reached the ring.

use super::stream::{Stream, read};
use io::ring::{Handover, KernelFilter, RingOptions, RingSize, RingSource};
use io::{Arrival, Batch, Interfaces, Source};
use rig::Host;
use std::time::{Duration, Instant};

/// Bytes of the ring.
const RING_BYTES: usize = 256 << 20;
/// What the kernel needs for a frame beside its bytes, in the ring; with some to spare.
const FRAME_OVERHEAD_BYTES: usize = 160;
/// How long a ring may take to run dry.
const DRY: Duration = Duration::from_secs(20);

/// A ring at a far end.
pub struct Far(RingSource);

/// What arrived there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Packets with different numbers.
    pub packets: u64,
    /// Packets whose number had come before.
    pub duplicates: u64,
    /// Packets behind one of a greater number that went by the same link.
    pub reordered: u64,
    /// From being sent to arriving, ns, ascending.
    pub latencies_ns: Vec<u64>,
}

impl Far {
    /// Frames of a length that surely fit.
    pub const fn room(frame_bytes: usize) -> u64 {
        (RING_BYTES / (frame_bytes + FRAME_OVERHEAD_BYTES)) as u64
    }

    /// Begins to take what arrives at an interface.
    ///
    /// # Errors
    /// If there is no such interface, or no memory.
    pub fn open(host: &Host, interface: &str) -> anyhow::Result<Far> {
        let options = RingOptions {
            interface: interface.into(),
            netns: None,
            promiscuous: false,
            ring_size: RingSize::Bytes(RING_BYTES),
            handover: Handover::Relaxed,
            snaplen: 0,
            filter: KernelFilter::Absent,
        };
        Ok(Far(host.netns.run(|| RingSource::open(&options, &Interfaces::default()))??))
    }

    /// Lets nothing more in, and reads what has arrived of a stream that went by so many links.
    ///
    /// # Errors
    /// If the ring cannot be read, or has lost some: it was to hold them all.
    pub fn read(mut self, stream: &Stream, links: usize) -> anyhow::Result<Arrived> {
        self.0.stop()?;
        let mut tally = Tally::new(stream.count, links);
        let (mut batch, end) = (Batch::new(), Instant::now() + DRY);
        loop {
            let arrival = self.0.receive(&mut batch)?;
            for packet in batch.packets() {
                if let Some((number, late_ns)) = read(&packet.data, packet.meta.ts_ns) {
                    tally.take(number, stream.link_of(number, links), late_ns);
                }
            }
            batch.clear();
            match arrival {
                Arrival::End => break,
                Arrival::Idle => std::thread::sleep(Duration::from_millis(1)),
                Arrival::Packets => {}
            }
            anyhow::ensure!(Instant::now() < end, "a far end's ring does not run dry");
        }
        let lost = self.0.drops().total();
        anyhow::ensure!(lost == 0, "a far end's ring lost {lost} frames");
        tally.arrived.latencies_ns.sort_unstable();
        Ok(tally.arrived)
    }
}

struct Tally {
    arrived: Arrived,
    /// Which numbers have come.
    seen: Vec<bool>,
    /// The greatest number, by link.
    greatest: Vec<u64>,
}

impl Tally {
    fn new(count: u64, links: usize) -> Tally {
        let arrived = Arrived::default();
        Tally { arrived, seen: vec![false; count as usize], greatest: vec![0; links] }
    }

    fn take(&mut self, number: u64, link: usize, late_ns: u64) {
        let Some(seen) = self.seen.get_mut(number as usize) else { return };
        if std::mem::replace(seen, true) {
            self.arrived.duplicates += 1;
            return;
        }
        self.arrived.packets += 1;
        let greatest = &mut self.greatest[link];
        self.arrived.reordered += u64::from(number < *greatest);
        *greatest = number.max(*greatest);
        self.arrived.latencies_ns.push(late_ns);
    }
}

impl Arrived {
    /// The latency that so many of a hundred packets do not exceed, µs; `None` if none has arrived.
    pub fn percentile_us(&self, percent: usize) -> Option<f64> {
        let last = self.latencies_ns.len().checked_sub(1)?;
        Some(self.latencies_ns[last * percent / 100] as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_numbers_is_counted() {
        let mut tally = Tally::new(6, 2);
        for (number, link) in [(0, 0), (2, 0), (1, 0), (2, 0), (5, 0), (4, 1), (9, 1)] {
            tally.take(number, link, number * 1000);
        }
        let Arrived { packets, duplicates, reordered, latencies_ns } = &tally.arrived;
        assert_eq!((*packets, *duplicates, *reordered, latencies_ns.len()), (5, 1, 1, 5));
    }

    #[test]
    fn percentiles_are_of_those_that_arrived() {
        let latencies_ns = (1..=101).map(|n| n * 1000).collect();
        let arrived = Arrived { latencies_ns, ..Arrived::default() };
        assert_eq!(
            (arrived.percentile_us(50), arrived.percentile_us(99)),
            (Some(51.0), Some(100.0))
        );
        assert_eq!(Arrived::default().percentile_us(50), None);
    }
}
