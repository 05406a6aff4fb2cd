//! A file that is played at the times of its packets, or so many times as fast.
//!
//! ```text
//! due = start + (time of the packet − time of the first) / speed
//! ```
//! A packet that is late, as after a pause of the process, goes at once: what follows catches up, in the
//! order of the file. Where the file's time runs back, as behind the join of two captures, the packet goes
//! with the one before it, and the times of those that follow count from there.

use crate::batch::{BATCH_PACKETS, Batch};
use crate::clock::Now;
use crate::device::{Arrival, Screening, Source};
use crate::error::Error;
use crate::packet::{Outer, Packet};
use crate::sys::Timer;
use api::Drops;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use wire::sequence::Counts;

/// The shortest time that is waited for: packets closer than that go together, so that a high rate does
/// not cost a wake-up for each.
const WAIT_MIN_NS: u64 = 50_000;

/// When each packet is due.
#[derive(Debug)]
struct Schedule {
    /// Times as fast as recorded.
    speed: f64,
    /// A packet's time and when it was due, from which the next ones count; none before the first.
    base: Option<(u64, u64)>,
    /// The last packet's time and when it was due.
    last: (u64, u64),
}

impl Schedule {
    fn new(speed: f64) -> Schedule {
        Schedule { speed, base: None, last: (0, 0) }
    }

    /// When the next packet of the file is due, by the clock that tells `now_ns`.
    fn due_ns(&mut self, ts_ns: u64, now_ns: u64) -> u64 {
        let (base_ts_ns, base_due_ns) = match self.base {
            None => (ts_ns, now_ns),
            Some(_) if ts_ns < self.last.0 => (ts_ns, self.last.1),
            Some(base) => base,
        };
        self.base = Some((base_ts_ns, base_due_ns));
        // A sum of more than the clock can tell is as good as never.
        let after_ns = (ts_ns - base_ts_ns) as f64 / self.speed;
        let due_ns = base_due_ns.saturating_add(after_ns as u64);
        self.last = (ts_ns, due_ns);
        due_ns
    }
}

/// Plays another source, which waits for nothing, at the pace of its packets' times. These stay as they
/// are.
///
/// It is live: packets do not wait for slow targets.
pub struct PacedSource {
    inner: Box<dyn Source>,
    schedule: Schedule,
    /// Read ahead and not due yet, with the time at which each is.
    ahead: VecDeque<(u64, Packet)>,
    batch: Batch,
    /// Nothing follows what was read ahead.
    ended: bool,
    /// What the inner source failed with, told behind the packets before it.
    failure: Option<Error>,
    /// The inner source waits for its writer: so must who waits for this one.
    inner_waits: bool,
    timer: Timer,
    stopped: bool,
}

impl PacedSource {
    /// Plays a source `speed` times as fast as it was recorded, from its first packet on, which goes at
    /// once.
    ///
    /// # Errors
    /// [`Error::System`] if the process has no descriptor left, or if `speed` is no number above 0.
    pub fn new(inner: Box<dyn Source>, speed: f64) -> Result<PacedSource, Error> {
        let failed = |source, mend| Error::System { what: "play a capture".into(), source, mend };
        if !(speed.is_finite() && speed > 0.0) {
            let source = std::io::Error::other(format!("{speed} times its speed is no pace"));
            return Err(failed(source, "; give a number above 0, for example 1 or 0.5"));
        }
        Ok(PacedSource {
            inner,
            schedule: Schedule::new(speed),
            ahead: VecDeque::with_capacity(4 * BATCH_PACKETS),
            batch: Batch::new(),
            ended: false,
            failure: None,
            inner_waits: false,
            timer: Timer::new().map_err(|source| failed(source, ""))?,
            stopped: false,
        })
    }

    /// Reads ahead, if nothing is left of what was read before.
    fn read_ahead(&mut self, now_ns: u64) {
        if !self.ahead.is_empty() || self.ended {
            return;
        }
        self.inner_waits = false;
        match self.inner.receive(&mut self.batch) {
            Ok(Arrival::Packets) => {}
            Ok(Arrival::Idle) => self.inner_waits = true,
            Ok(Arrival::End) => self.ended = true,
            Err(error) => {
                self.ended = true;
                self.failure = Some(error);
            }
        }
        for packet in self.batch.drain() {
            self.ahead.push_back((self.schedule.due_ns(packet.meta.ts_ns, now_ns), packet));
        }
    }
}

impl Source for PacedSource {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        if self.stopped {
            return Ok(Arrival::End);
        }
        let now_ns = Now::read().monotonic_ns;
        let before = batch.len();
        while batch.room() > 0 {
            self.read_ahead(now_ns);
            match self.ahead.front() {
                Some((due_ns, _)) if *due_ns <= now_ns => {
                    let (_, packet) = self.ahead.pop_front().expect("it is at the front");
                    batch.push(packet);
                }
                Some(_) => break,
                None if self.ended => {
                    let failure = self.failure.take();
                    return failure.map_or(Ok(Arrival::End), Err);
                }
                None if self.inner_waits => break,
                None => {}
            }
        }
        if let Some((due_ns, _)) = self.ahead.front() {
            let wake_ns = (*due_ns).max(now_ns + WAIT_MIN_NS);
            self.timer.set(wake_ns).map_err(|e| Error::system("set a timer", e))?;
        }
        Ok(if batch.len() > before { Arrival::Packets } else { Arrival::Idle })
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        match self.ahead.is_empty() && self.inner_waits {
            true => self.inner.readiness(),
            false => Some(self.timer.as_fd()),
        }
    }

    fn stop(&mut self) -> Result<(), Error> {
        // What was read ahead was not seen.
        self.stopped = true;
        self.ahead.clear();
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

    fn streams(&self) -> Vec<(Outer, Counts)> {
        self.inner.streams()
    }

    fn is_live(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::wait;
    use crate::memory::MemorySource;
    use crate::packet::{Direction, InterfaceId, Meta};
    use crate::pool::Data;
    use std::time::{Duration, Instant};
    use wire::LinkType;

    const MS: u64 = 1_000_000;
    const DAY: u64 = 86_400_000 * MS;

    fn due(speed: f64, times: &[u64]) -> Vec<u64> {
        let mut schedule = Schedule::new(speed);
        // The clock goes on meanwhile: only the first reading counts.
        times.iter().zip(5_000..).map(|(&ts, now)| schedule.due_ns(ts, now) - 5_000).collect()
    }

    #[test]
    fn packets_are_due_at_their_distances() {
        let times = [7 * DAY, 7 * DAY + 1, 7 * DAY + MS, 8 * DAY + MS];
        assert_eq!(due(1.0, &times), [0, 1, MS, DAY + MS]);
        assert_eq!(due(10.0, &times), [0, 0, MS / 10, (DAY + MS) / 10]);
        assert_eq!(due(0.5, &times), [0, 2, 2 * MS, 2 * (DAY + MS)]);
        // What takes longer than the clock can count is not played early.
        assert!(due(1e-12, &[0, DAY])[1] > u64::MAX - DAY);
    }

    #[test]
    fn a_step_back_begins_anew_with_the_packet_before() {
        let times = [100 * MS, 103 * MS, 50 * MS, 51 * MS, 50 * MS, 60 * MS, 60 * MS];
        assert_eq!(due(1.0, &times), [0, 3, 3, 4, 4, 14, 14].map(|ms| ms * MS));
        assert_eq!(due(2.0, &[9 * MS, 0, 4 * MS]), [0, 0, 2 * MS]);
    }

    fn packet(ts_ns: u64) -> Packet {
        let meta = Meta {
            ts_ns,
            origlen: 60,
            link_type: LinkType::ETHERNET,
            interface: InterfaceId(0),
            direction: Direction::Unknown,
            outer: None,
            packet_id: None,
            gso: None,
            decided: false,
            flow_hash: None,
        };
        Packet { data: Data::copy_of(&[0; 60]), meta }
    }

    fn play(times: impl Iterator<Item = u64>, speed: f64) -> PacedSource {
        let source = MemorySource::new(times.map(packet), false);
        PacedSource::new(Box::new(source), speed).unwrap()
    }

    /// Plays to the end; gives each packet's own time, and when it came after the start.
    fn played(source: &mut PacedSource) -> Vec<(u64, Duration)> {
        let (mut batch, mut came, start) = (Batch::new(), Vec::new(), Instant::now());
        loop {
            let arrival = source.receive(&mut batch).unwrap();
            let after = start.elapsed();
            came.extend(batch.drain().map(|packet| (packet.meta.ts_ns, after)));
            match arrival {
                Arrival::End => return came,
                Arrival::Packets => {}
                Arrival::Idle => {
                    let all = [&*source as &dyn Source].into_iter();
                    wait(all, None, Duration::from_secs(10)).unwrap();
                }
            }
        }
    }

    #[test]
    fn no_packet_comes_early_and_their_order_and_times_stay() {
        let start = 1_600_000_000_000 * MS;
        let times: Vec<u64> = (0..600).map(|n| start + n * MS).chain([start]).collect();
        let mut source = play(times.iter().copied(), 2.0);
        assert!(source.is_live());
        let came = played(&mut source);
        assert_eq!(came.iter().map(|(ts, _)| *ts).collect::<Vec<_>>(), times);
        for (n, (_, after)) in came[..600].iter().enumerate() {
            let due = Duration::from_micros(500) * n as u32;
            assert!(*after >= due, "packet {n} came after {after:?}");
        }
        assert!(came[600].1 >= Duration::from_micros(500 * 599));
    }

    #[test]
    fn after_a_pause_what_is_due_comes_at_once() {
        let mut source = play((0..1000).map(|n| n * MS / 100).chain([DAY]), 1.0);
        let mut batch = Batch::new();
        assert_eq!(source.receive(&mut batch).unwrap(), Arrival::Packets);
        std::thread::sleep(Duration::from_millis(20));
        let mut count = batch.drain().count();
        while source.receive(&mut batch).unwrap() == Arrival::Packets {
            count += batch.drain().count();
        }
        assert_eq!(count, 1000);
        let begun = Instant::now();
        let all = [&source as &dyn Source].into_iter();
        wait(all, None, Duration::from_millis(30)).unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(30), "nothing is due before a day");
        source.stop().unwrap();
        assert_eq!(source.receive(&mut batch).unwrap(), Arrival::End);
        assert!(batch.is_empty());
    }

    #[test]
    fn a_speed_that_is_none_is_refused() {
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let source = MemorySource::new([], false);
            let error = PacedSource::new(Box::new(source), speed).err().unwrap().to_string();
            assert!(error.contains("a number above 0"), "{error}");
        }
    }
}
