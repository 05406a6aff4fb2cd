//! A sink on a thread of its own, for one that may have to wait: for a disk, or for the reader of a pipe.
//!
//! ```text
//! worker ─ copies ─► parcels of ≤ 256 packets, a bounded number ─► thread ─► sink
//!        ◄───────────────────── empty parcels ─────────────────────
//! ```
//! The worker never waits: what finds no room is left with it, as any sink may do. What was handed over
//! counts as held until the sink says what became of it, so that the ledger balances at every moment.

use crate::batch::{BATCH_PACKETS, Selection};
use crate::clock::Now;
use crate::device::{Sink, SinkCounters, Upstream};
use crate::error::Error;
use crate::packet::Packet;
use crate::pool::Pool;
use api::{DropReason, SourceStats};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Packets that may stand between a worker and a sink's thread.
pub const PACKETS_MAX: usize = PARCELS * BATCH_PACKETS;
/// Memory for them, unless the caller says otherwise: what a pipe's reader at 4 GB/s takes while a
/// worker sleeps for 1 ms.
pub const BYTES: usize = 4 << 20;

const PARCELS: usize = 32;
/// Packets are copied into chunks of this size, in which any packet has room.
const CHUNK_BYTES: usize = 512 << 10;
/// One is filled while another is emptied.
const CHUNKS_MIN: usize = 2;

/// How often the thread does the sink's work that is due by the clock, if nothing comes.
const IDLE: Duration = Duration::from_millis(100);
/// How often it does so, and tells what became of packets, while packets come.
const TELL: Duration = Duration::from_millis(10);
/// Telling takes at most this part of the thread's time.
const TELL_PART: u32 = 20;
/// How long it waits for a sink that takes nothing now.
const FULL: Duration = Duration::from_millis(1);

/// How long the end waits for a sink that gets on with nothing, and for one that does.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_MAX: Duration = Duration::from_secs(10);
/// How often the end looks whether the sink gets on.
const LOOK: Duration = Duration::from_millis(50);

/// Packets on their way to the thread.
type Parcel = Vec<Packet>;

/// A sink that stands on a thread of its own.
///
/// At the end it is waited for while it gets on, for 10 s at most. One that is stuck for 2 s is left
/// behind with its thread, and what it has not brought out counts as [`DropReason::Stopped`]: the
/// process can end.
pub struct Apart {
    pool: Pool,
    /// What is filled now: handed over when it is full, and at each tick.
    parcel: Parcel,
    full: Option<SyncSender<Parcel>>,
    empty: Receiver<Parcel>,
    result: Receiver<Result<(), Error>>,
    /// Packets taken so far.
    taken: u64,
    shared: Arc<Shared>,
    /// What the thread had told when it was left behind.
    left: Option<Told>,
}

/// What the worker and the thread both see.
#[derive(Default)]
struct Shared {
    told: Mutex<Told>,
    closed: AtomicBool,
    /// Packets that the sink has taken from the thread.
    carried: AtomicU64,
    /// Set before the last parcel is handed over, if the sink is to be completed.
    upstream: Mutex<Option<Upstream>>,
}

/// What became of packets, as far as the thread has told.
#[derive(Default, Clone)]
struct Told {
    counters: SinkCounters,
    sources: Vec<SourceStats>,
}

impl Apart {
    /// Puts a sink on a thread. `name` is the thread's; `bytes` is the memory for packets that are on
    /// their way to it, see [`BYTES`].
    ///
    /// # Errors
    /// [`Error::System`] if the system has no thread left.
    pub fn new(sink: Box<dyn Sink>, name: &str, bytes: usize) -> Result<Apart, Error> {
        let (full, parcels) = sync_channel(PARCELS);
        let (give_back, empty) = sync_channel(PARCELS);
        let (tell_result, result) = sync_channel(1);
        for _ in 1..PARCELS {
            // There is room for all of them.
            let _ = give_back.try_send(Parcel::with_capacity(BATCH_PACKETS));
        }
        let shared = Arc::new(Shared::default());
        let carrier = Carrier {
            sink,
            parcels,
            give_back,
            shared: Arc::clone(&shared),
            abandoned: 0,
            tell_again: Duration::ZERO,
            told: Instant::now(),
        };
        let thread = std::thread::Builder::new().name(name.into());
        let run = move || {
            // Nobody listens if the thread was left behind.
            let _ = tell_result.send(carrier.run());
        };
        thread.spawn(run).map_err(|e| Error::system(format!("a thread for {name}"), e))?;
        Ok(Apart {
            pool: Pool::new((bytes / CHUNK_BYTES).max(CHUNKS_MIN), CHUNK_BYTES),
            parcel: Parcel::with_capacity(BATCH_PACKETS),
            full: Some(full),
            empty,
            result,
            taken: 0,
            shared,
            left: None,
        })
    }

    /// Hands the parcel over, if an empty one is there to take its place; returns whether there is
    /// room in the one at hand now.
    fn hand_over(&mut self) -> bool {
        if self.parcel.is_empty() {
            return true;
        }
        let (Some(full), Ok(empty)) = (&self.full, self.empty.try_recv()) else {
            return self.parcel.len() < BATCH_PACKETS;
        };
        // There is room for every parcel that there is. If the thread is gone, by a panic, what is in
        // it stays held.
        let _ = full.try_send(std::mem::replace(&mut self.parcel, empty));
        true
    }

    fn told(&self) -> Told {
        self.left.clone().unwrap_or_else(|| lock(&self.shared.told).clone())
    }

    /// Waits for the thread's end as long as the sink gets on; `None` if it is stuck.
    fn wait_for_end(&self) -> Option<Result<(), Error>> {
        let begun = Instant::now();
        let (mut carried, mut since) = (0, begun);
        while since.elapsed() < PATIENCE && begun.elapsed() < PATIENCE_MAX {
            match self.result.recv_timeout(LOOK) {
                Ok(result) => return Some(result),
                Err(RecvTimeoutError::Disconnected) => return Some(Err(panicked())),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = self.shared.carried.load(Ordering::Relaxed);
            if now != carried {
                (carried, since) = (now, Instant::now());
            }
        }
        None
    }
}

impl Sink for Apart {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        if self.full.is_none() || self.is_closed() {
            return 0;
        }
        let mut taken = 0;
        for packet in packets.iter() {
            if self.parcel.len() == BATCH_PACKETS && !self.hand_over() {
                break;
            }
            let Some(copy) = packet.copy_into(&mut self.pool) else {
                break;
            };
            self.parcel.push(copy);
            taken += 1;
        }
        self.taken += taken as u64;
        taken
    }

    fn counters(&self) -> SinkCounters {
        let mut counters = match &self.left {
            Some(told) => told.counters,
            None => lock(&self.shared.told).counters,
        };
        counters.held = 0;
        let rest = self.taken.saturating_sub(counters.taken());
        match self.left {
            Some(_) => counters.drops.add_many(DropReason::Stopped, rest),
            None => counters.held = rest,
        }
        counters
    }

    fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }

    fn tick(&mut self, _now: Now) {
        self.hand_over();
    }

    fn finish(&mut self, upstream: &Upstream) -> Result<(), Error> {
        let begun = Instant::now();
        let mut is_stuck = false;
        while !self.parcel.is_empty() && !is_stuck && !self.is_closed() {
            let before = self.parcel.len();
            self.hand_over();
            if self.parcel.len() == before {
                is_stuck = begun.elapsed() >= PATIENCE;
                std::thread::sleep(FULL);
            }
        }
        *lock(&self.shared.upstream) = Some(*upstream);
        self.full = None;
        let result = if is_stuck { None } else { self.wait_for_end() };
        // From now on nothing changes any more, whatever a thread that was left behind still does.
        self.left = Some(lock(&self.shared.told).clone());
        self.parcel.clear();
        result.unwrap_or_else(|| {
            tracing::warn!("a sink takes nothing any more: what waits for it is given up");
            Ok(())
        })
    }

    fn sources(&self) -> Vec<SourceStats> {
        let Told { mut sources, .. } = self.told();
        if sources.is_empty() {
            return sources;
        }
        // What was handed over and is not told apart by source yet.
        let rest = self.taken.saturating_sub(sources.iter().map(|source| source.received).sum());
        if rest > 0 {
            let mut line =
                SourceStats::new("not yet written".into(), rest, 0, rest, <_>::default());
            if self.left.is_some() {
                line.queued = 0;
                line.drops.add_many(DropReason::Stopped, rest);
            }
            sources.push(line);
        }
        sources
    }
}

fn panicked() -> Error {
    let source = std::io::Error::other("its thread panicked, which is a fault of tapline");
    Error::System { what: "a sink ended early".into(), source, mend: "" }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's side.
struct Carrier {
    sink: Box<dyn Sink>,
    parcels: Receiver<Parcel>,
    give_back: SyncSender<Parcel>,
    shared: Arc<Shared>,
    /// Packets that the sink took no more, as it was closed.
    abandoned: u64,
    /// How long after the last time it is told again, and when that was.
    tell_again: Duration,
    told: Instant,
}

impl Carrier {
    /// Carries parcels until there will be no more; then completes the sink, if that was asked for.
    fn run(mut self) -> Result<(), Error> {
        let mut is_told = true;
        self.tell();
        loop {
            let parcel = match self.parcels.try_recv() {
                Ok(parcel) => Some(parcel),
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    let wait = match is_told {
                        true => IDLE,
                        false => self.tell_again.saturating_sub(self.told.elapsed()),
                    };
                    match self.parcels.recv_timeout(wait) {
                        Ok(parcel) => Some(parcel),
                        Err(RecvTimeoutError::Timeout) => None,
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
            };
            let is_idle = parcel.is_none();
            if let Some(mut parcel) = parcel {
                self.carry(&parcel);
                parcel.clear();
                // If nobody takes it, the worker has ended.
                let _ = self.give_back.try_send(parcel);
                is_told = false;
            }
            if is_idle || self.told.elapsed() >= self.tell_again {
                self.sink.tick(Now::read());
                self.tell();
                is_told = true;
            }
        }
        let upstream = lock(&self.shared.upstream).take();
        let result = upstream.map_or(Ok(()), |upstream| self.sink.finish(&upstream));
        self.tell();
        result
    }

    fn carry(&mut self, parcel: &[Packet]) {
        let positions: [u32; BATCH_PACKETS] = std::array::from_fn(|place| place as u32);
        let mut rest = Selection::new(parcel, &positions[..parcel.len()]);
        while !rest.is_empty() {
            let taken = self.sink.send(rest);
            rest = rest.skip(taken);
            self.shared.carried.fetch_add(taken as u64, Ordering::Relaxed);
            if self.sink.is_closed() {
                self.shared.closed.store(true, Ordering::Relaxed);
                self.abandoned += rest.len() as u64;
                return;
            }
            if taken == 0 {
                std::thread::sleep(FULL);
                self.sink.tick(Now::read());
            }
        }
    }

    /// Tells what became of the packets.
    fn tell(&mut self) {
        let begun = Instant::now();
        let mut counters = self.sink.counters();
        counters.drops.add_many(DropReason::Stopped, self.abandoned);
        let told = Told { counters, sources: self.sink.sources() };
        self.shared.closed.store(self.sink.is_closed(), Ordering::Relaxed);
        *lock(&self.shared.told) = told;
        self.tell_again = TELL.max(begun.elapsed() * TELL_PART);
        self.told = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::device::Source;
    use crate::file::{FileFormat, FileSource, FileWriter};
    use crate::interface::{Interface, Interfaces};
    use crate::memory::MemorySink;
    use crate::packet::{Direction, InterfaceId, Meta};
    use crate::pool::Data;
    use std::io::Read;
    use wire::LinkType;

    const PATIENT: Duration = Duration::from_secs(30);

    fn packets(count: u32) -> Vec<Packet> {
        let packet = |number: u32| Packet {
            data: Data::copy_of(&[&number.to_be_bytes()[..], &[0; 96]].concat()),
            meta: Meta {
                ts_ns: u64::from(number),
                origlen: 100,
                link_type: LinkType::ETHERNET,
                interface: InterfaceId(0),
                direction: Direction::In,
                outer: None,
                packet_id: None,
                gso: None,
                decided: false,
                flow_hash: None,
            },
        };
        (0..count).map(packet).collect()
    }

    /// Offers packets once; returns how many were taken.
    fn offer(sink: &mut Apart, packets: &[Packet]) -> usize {
        let chosen: Vec<u32> = (0..packets.len() as u32).collect();
        let taken = sink.send(Selection::new(packets, &chosen));
        sink.tick(Now::read());
        taken
    }

    /// Offers packets until all are taken.
    fn send(sink: &mut Apart, packets: &[Packet]) {
        let (mut taken, begun) = (0, Instant::now());
        while taken < packets.len() {
            taken += offer(sink, &packets[taken..]);
            assert!(begun.elapsed() < PATIENT, "{taken} of {} are taken", packets.len());
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// A sink whose `send` waits as long as its gate is shut, or that is gone.
    struct Gated {
        gate: Arc<Mutex<()>>,
        inner: MemorySink,
        closes_after: u64,
    }

    impl Sink for Gated {
        fn send(&mut self, packets: Selection<'_>) -> usize {
            let _open = self.gate.lock().unwrap();
            let room = self.closes_after - self.inner.counters().sent;
            self.inner.send(packets.first(packets.len().min(room as usize)))
        }

        fn counters(&self) -> SinkCounters {
            self.inner.counters()
        }

        fn is_closed(&self) -> bool {
            self.inner.counters().sent == self.closes_after
        }
    }

    fn gated(closes_after: u64) -> (Arc<Mutex<()>>, MemorySink, Apart) {
        let (gate, inner) = (Arc::default(), MemorySink::default());
        let gated = Gated { gate: Arc::clone(&gate), inner: inner.clone(), closes_after };
        (gate, inner, Apart::new(Box::new(gated), "gated", BYTES).unwrap())
    }

    fn numbers(packets: &[Packet]) -> Vec<u64> {
        packets.iter().map(|packet| packet.meta.ts_ns).collect()
    }

    #[test]
    fn packets_come_in_order_and_are_counted_as_they_go() {
        let kept = MemorySink::default();
        let mut sink = Apart::new(Box::new(kept.clone()), "kept", BYTES).unwrap();
        let packets = packets(50_000);
        for part in packets.chunks(700) {
            send(&mut sink, part);
            let counters = sink.counters();
            assert_eq!(counters.taken(), sink.taken);
        }
        sink.finish(&Upstream::default()).unwrap();
        let SinkCounters { sent, sent_bytes, held, .. } = sink.counters();
        assert_eq!((sent, sent_bytes, held), (50_000, 5_000_000, 0));
        let came = kept.take();
        assert_eq!(numbers(&came), numbers(&packets));
        assert!(came.iter().zip(&packets).all(|(came, sent)| *came.data == *sent.data));
    }

    #[test]
    fn a_sink_that_waits_holds_nobody_up_and_what_it_took_counts_as_held() {
        let (gate, kept, mut sink) = gated(u64::MAX);
        let packets = packets(2 * PACKETS_MAX as u32);
        let shut = gate.lock().unwrap();
        let begun = Instant::now();
        let mut taken = 0;
        loop {
            match offer(&mut sink, &packets[taken..]) {
                0 => break,
                more => taken += more,
            }
        }
        assert!(begun.elapsed() < PATIENT);
        assert!((PACKETS_MAX / 2..=PACKETS_MAX).contains(&taken), "{taken}");
        let held = SinkCounters { held: taken as u64, ..SinkCounters::default() };
        assert_eq!(sink.counters(), held);
        drop(shut);
        send(&mut sink, &packets[taken..]);
        rig::wait_until("all is sent", PATIENT, || {
            sink.tick(Now::read());
            sink.counters().held == 0
        });
        assert_eq!(sink.counters().sent, packets.len() as u64);
        assert_eq!(numbers(&kept.take()), numbers(&packets));
    }

    #[test]
    fn memory_is_bounded_and_used_again() {
        let (gate, _, _) = gated(0);
        let kept = MemorySink::default();
        let gated = Gated { gate: Arc::clone(&gate), inner: kept.clone(), closes_after: u64::MAX };
        let mut sink = Apart::new(Box::new(gated), "small", 0).unwrap();
        let large: Vec<Packet> = (0..100)
            .map(|_| Packet { data: Data::copy_of(&[7; 60_000]), ..packets(1).remove(0) })
            .collect();
        let shut = gate.lock().unwrap();
        let taken = offer(&mut sink, &large);
        assert!((8..=17).contains(&taken), "{taken} packets of 60 kB in 1 MiB");
        drop(shut);
        send(&mut sink, &large[taken..]);
        sink.finish(&Upstream::default()).unwrap();
        assert_eq!(sink.counters().sent, 100);
    }

    #[test]
    fn a_sink_that_is_gone_is_closed_and_the_rest_is_counted() {
        let (_, _, mut sink) = gated(1000);
        let packets = packets(256);
        rig::wait_until("it is closed", PATIENT, || {
            offer(&mut sink, &packets);
            sink.is_closed()
        });
        assert_eq!(offer(&mut sink, &packets), 0);
        sink.finish(&Upstream::default()).unwrap();
        let counters = sink.counters();
        assert_eq!((counters.sent, counters.held), (1000, 0));
        assert_eq!(counters.drops.get(DropReason::Stopped), sink.taken - 1000);
    }

    #[test]
    fn the_end_does_not_wait_for_a_sink_that_is_stuck() {
        let (gate, _, mut sink) = gated(u64::MAX);
        let packets = packets(100);
        let shut = gate.lock().unwrap();
        assert_eq!(offer(&mut sink, &packets), 100);
        let begun = Instant::now();
        sink.finish(&Upstream::default()).unwrap();
        assert!(begun.elapsed() >= PATIENCE);
        let given_up = sink.counters();
        assert_eq!((given_up.sent, given_up.held), (0, 0));
        assert_eq!(given_up.drops.get(DropReason::Stopped), 100);
        // What it brings out after all changes no number that was told.
        drop(shut);
        rig::wait_until("it goes on", PATIENT, || sink.shared.carried.load(Ordering::Relaxed) > 0);
        assert_eq!(sink.counters(), given_up);
    }

    #[test]
    fn a_file_is_completed_with_what_came_before() {
        let interfaces = Interfaces::default();
        let first = interfaces.add(Interface::new(1));
        let (mut reader, writer) = std::io::pipe().unwrap();
        struct Writes(FileWriter);
        impl Sink for Writes {
            fn send(&mut self, packets: Selection<'_>) -> usize {
                packets.iter().for_each(|packet| self.0.write(packet));
                packets.len()
            }

            fn counters(&self) -> SinkCounters {
                self.0.counters().fold(SinkCounters::default(), |mut sum, (_, counters)| {
                    sum.merge(&counters.fate);
                    sum
                })
            }

            fn finish(&mut self, upstream: &Upstream) -> Result<(), Error> {
                self.0.finish(Some(upstream))
            }
        }
        let writer =
            FileWriter::stream(Box::new(writer), FileFormat::Pcapng, &interfaces, Some(first));
        let mut sink = Apart::new(Box::new(Writes(writer.unwrap())), "pipe", BYTES).unwrap();
        let read = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes).unwrap()
        });
        send(&mut sink, &packets(5_000));
        sink.finish(&Upstream { seen: 5_000, ..Upstream::default() }).unwrap();
        let stream = Box::new(std::io::Cursor::new(read.join().unwrap()));
        let mut source = FileSource::new("pipe", stream, &interfaces).unwrap();
        let (mut batch, mut count) = (Batch::new(), 0);
        while source.receive(&mut batch).unwrap() != crate::Arrival::End {
            count += batch.drain().count();
        }
        assert_eq!(count + batch.len(), 5_000);
    }
}
