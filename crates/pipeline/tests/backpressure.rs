//! Sinks that take nothing, or nothing more: what waits is bounded, what is lost is counted, and
//! nobody else pays for it.

mod taps;

use api::{DropReason, Overflow, QUEUE_BYTES, QueueConfig, QueueSize};
use io::memory::MemorySink;
use io::{Error, Faults, Faulty, Now, Selection, Sink, SinkCounters, Upstream};
use pipeline::{Target, TargetGroup, Worker};
use std::time::{Duration, Instant};
use taps::*;

/// Takes `room` packets; then none, as one that is slow or, if `closes`, as one that is gone.
struct Narrow {
    room: u64,
    closes: bool,
    counters: SinkCounters,
}

impl Narrow {
    fn new(room: u64, closes: bool) -> Narrow {
        Narrow { room, closes, counters: SinkCounters::default() }
    }
}

impl Sink for Narrow {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        let taken = (packets.len() as u64).min(self.room - self.counters.sent);
        self.counters.sent += taken;
        taken as usize
    }

    fn counters(&self) -> SinkCounters {
        self.counters
    }

    fn is_closed(&self) -> bool {
        self.closes && self.counters.sent == self.room
    }

    fn tick(&mut self, _now: Now) {}

    fn finish(&mut self, _upstream: &Upstream) -> Result<(), Error> {
        Ok(())
    }
}

/// A group of one with a queue of one's choice.
fn queued(sink: impl Sink + 'static, size: QueueSize, overflow: Overflow) -> TargetGroup {
    let target = Target::queued("queued".into(), Box::new(sink), QueueConfig { size, overflow });
    TargetGroup::new(vec![target], &[1])
}

#[test]
fn a_stuck_sink_has_a_bounded_queue_and_the_other_gets_everything() {
    let (room, count) = (8192, 8192 + 5000);
    let good = MemorySink::default();
    let size = QueueSize::Packets(room);
    let stuck = queued(Narrow::new(10, false), size, Overflow::DropNewest);
    let report = run(tap(live(packets(count)), vec![stuck, only("good", good.clone())]));
    let stuck = &report.targets[0];
    assert_eq!((stuck.matched, stuck.sent), (count, 10));
    assert_eq!(stuck.drops.get(DropReason::Stopped), room);
    assert_eq!(stuck.drops.get(DropReason::QueueFull), count - 10 - room);
    assert_eq!(report.targets[1].sent, count);
    assert_eq!(numbers(&good), (0..count).collect::<Vec<u64>>());
}

/// Takes nothing before `shut` packets have been offered to others; then everything.
struct Late {
    sink: MemorySink,
    offered: u64,
    shut: u64,
}

impl Sink for Late {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        // What waits is offered again: only calls are counted here.
        self.offered += 1;
        if self.offered > self.shut { self.sink.send(packets) } else { 0 }
    }

    fn counters(&self) -> SinkCounters {
        self.sink.counters()
    }
}

#[test]
fn a_full_queue_keeps_the_newest_or_the_oldest_as_asked_for() {
    for (overflow, size) in [
        (Overflow::DropOldest, QueueSize::Packets(1000)),
        (Overflow::DropOldest, QueueSize::Bytes(100_000)),
        (Overflow::DropNewest, QueueSize::Packets(1000)),
        (Overflow::DropNewest, QueueSize::Bytes(100_000)),
        (Overflow::DropOldest, QueueSize::Packets(1)),
        (Overflow::DropOldest, QueueSize::Bytes(1)),
    ] {
        let sink = MemorySink::default();
        // Shut for the whole of the source; it opens when the tap lets the queues run dry.
        let late = Late { sink: sink.clone(), offered: 0, shut: 400 };
        let report = run(tap(live(packets(20_000)), vec![queued(late, size, overflow)]));
        let line = &report.targets[0];
        let lost = line.drops.get(DropReason::QueueFull);
        assert_eq!((line.matched, line.sent + lost), (20_000, 20_000), "{line}");
        let arrived = numbers(&sink);
        assert_eq!(arrived.len() as u64, line.sent);
        assert!(!arrived.is_empty() && lost > 0);
        match overflow {
            Overflow::DropOldest => assert_eq!(arrived, (lost..20_000).collect::<Vec<u64>>()),
            Overflow::DropNewest => assert_eq!(arrived, (0..line.sent).collect::<Vec<u64>>()),
        }
        if let QueueSize::Packets(most) = size {
            assert_eq!(line.sent, most);
        }
    }
}

#[test]
fn queues_of_any_size_start_at_once() {
    let begun = Instant::now();
    for size in [1 << 20, 64 << 20, 1 << 30] {
        let queue = queued(Narrow::new(0, false), QueueSize::Bytes(size), Overflow::DropOldest);
        let worker = Worker::start(tap(live(packets(5000)), vec![queue])).unwrap();
        worker.stop();
        let (report, result) = worker.join();
        result.unwrap();
        assert_balances(&report);
        assert_eq!(report.targets[0].queue_bytes_max, size);
    }
    // Each waits 2 s for its stuck sink.
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
}

#[test]
fn a_queue_of_large_packets_is_bounded_in_bytes() {
    let large = udp4(([10, 0, 0, 1], 1), ([10, 0, 0, 2], 2), &[0; 8950]);
    let source = (0..2200).map(|number| packet(number, &large));
    let report = run(tap(live(source), vec![only("stuck", Narrow::new(0, false))]));
    let waited = report.targets[0].drops.get(DropReason::Stopped);
    let fits = QUEUE_BYTES / large.len() as u64;
    assert!(waited <= fits && waited > fits * 9 / 10, "{waited} of {fits} waited");
    assert_eq!(report.targets[0].drops.get(DropReason::QueueFull), 2200 - waited);
}

#[test]
fn a_packet_beyond_the_queue_s_memory_is_counted() {
    let huge = vec![0; 2 << 20];
    let report = run(tap(live([packet(0, &huge)]), vec![only("stuck", Narrow::new(0, false))]));
    assert_eq!(report.targets[0].drops.get(DropReason::QueueFull), 1);
}

#[test]
fn a_file_waits_for_a_slow_sink() {
    let count = 60_000;
    let slow = MemorySink::default();
    let faults = Faults { stall: 500, seed: 9, ..Faults::default() };
    let groups =
        vec![only("slow", Faulty::new(slow.clone(), faults)), only("quick", MemorySink::default())];
    let report = run(tap(file(packets(count)), groups));
    assert_eq!(report.targets[0].drops.total(), 0);
    assert_eq!(numbers(&slow), (0..count).collect::<Vec<u64>>());
}

#[test]
fn a_file_that_waits_for_a_stuck_sink_can_be_stopped() {
    let groups = vec![only("stuck", Narrow::new(300, false))];
    let worker = Worker::start(tap(file(packets(10_000)), groups)).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!worker.is_finished(), "it waits");
    assert_balances(&worker.snapshot().unwrap());
    let asked = Instant::now();
    worker.stop();
    let (report, result) = worker.join();
    result.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert_balances(&report);
    let line = &report.targets[0];
    assert_eq!((line.sent, line.queued), (300, 0));
    assert_eq!(line.drops.get(DropReason::Stopped), line.matched - 300);
    assert_eq!(line.drops.total(), line.drops.get(DropReason::Stopped));
}

#[test]
fn a_tap_whose_only_reader_is_gone_ends() {
    for room in [0, 100, 300] {
        let groups = vec![only("gone", Narrow::new(room, true))];
        let report = run(tap(live(packets(1000)), groups));
        let line = &report.targets[0];
        assert_eq!(line.sent, room);
        assert_eq!(line.drops.get(DropReason::Stopped), line.matched - room);
    }
}

#[test]
fn a_reader_that_is_gone_does_not_end_the_tap_for_the_others() {
    let good = MemorySink::default();
    let groups = vec![only("gone", Narrow::new(100, true)), only("good", good.clone())];
    let worker = Worker::start(tap(Endless::default(), groups)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while worker.snapshot().unwrap().matched < 5000 && !worker.is_finished() {
        assert!(Instant::now() < deadline, "5000 packets take no 5 s");
    }
    assert!(!worker.is_finished(), "the other target still takes packets");
    worker.stop();
    let (report, result) = worker.join();
    result.unwrap();
    assert_balances(&report);
    assert_eq!(numbers(&good), (0..report.matched).collect::<Vec<u64>>());
    let gone = &report.targets[0];
    assert_eq!(gone.sent, 100);
    assert_eq!(gone.drops.get(DropReason::Stopped), report.matched - 100);
}
