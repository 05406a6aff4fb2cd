//! The ledger balances whatever the sources and sinks do, and a count from outside agrees with it.

mod taps;

use api::DropReason;
use io::memory::MemorySink;
use io::{Arrival, Batch, Error, Faults, Faulty, Source};
use pipeline::{Report, TargetGroup, Worker};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};
use taps::*;

/// What arrived at the targets of a group, with the report's lines for them.
fn of_group<'a>(
    report: &'a Report,
    prefix: &str,
    sinks: &[MemorySink],
) -> (Vec<Vec<u64>>, Vec<&'a api::TargetStats>) {
    let lines = report.targets.iter().filter(|line| line.endpoint.starts_with(prefix)).collect();
    (sinks.iter().map(numbers).collect(), lines)
}

fn faults(stall_max: u16) -> impl Strategy<Value = Faults> {
    (0..200u16, 0..200u16, 0..200u16, 0..stall_max, any::<u64>()).prop_map(
        |(drop, truncate, corrupt, stall, seed)| Faults { drop, truncate, corrupt, stall, seed },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn faults_on_every_side_leave_nothing_unaccounted(
        count in 0..4000u64,
        of_source in faults(300),
        of_sinks in prop::collection::vec(faults(900), 3),
        is_live in any::<bool>(),
        snaplen in prop::option::of(0..100usize),
        limit in prop::option::of(1..4000u64),
    ) {
        let alone = [MemorySink::default()];
        let shared = [MemorySink::default(), MemorySink::default()];
        let faulty = |sink: &MemorySink, n: usize| Faulty::new(sink.clone(), of_sinks[n]);
        let groups = vec![
            only("alone", faulty(&alone[0], 0)),
            TargetGroup::new(
                vec![
                    target("shared-0", faulty(&shared[0], 1)),
                    target("shared-1", faulty(&shared[1], 2)),
                ],
                &[1, 2],
            ),
        ];
        // A source that waits sleeps when it is not ready: those faults are for live ones.
        let stall = if is_live { of_source.stall } else { 0 };
        let source = io::memory::MemorySource::new(packets(count), is_live);
        let mut tap = tap(Faulty::new(source, Faults { stall, ..of_source }), groups);
        (tap.snaplen, tap.limit) = (snaplen, limit.map(pipeline::Limit::new));
        let report = run(tap);

        let before = report.drops_before_match();
        prop_assert_eq!(report.filtered, 0);
        prop_assert!(limit.is_none_or(|limit| report.matched <= limit));
        if limit.is_none_or(|limit| report.matched < limit) {
            prop_assert_eq!(report.seen(), count);
            prop_assert_eq!(report.matched + before.get(DropReason::Injected), count);
        }
        for (prefix, sinks) in [("alone", &alone[..]), ("shared", &shared[..])] {
            let (arrived, lines) = of_group(&report, prefix, sinks);
            let mut meant = 0;
            for (numbers, line) in arrived.iter().zip(&lines) {
                prop_assert_eq!(numbers.len() as u64, line.sent, "{}", line);
                prop_assert_eq!(line.sent + line.drops.total(), line.matched, "{}", line);
                prop_assert!(numbers.is_sorted(), "a target keeps the order");
                meant += line.matched;
            }
            prop_assert_eq!(meant, report.matched, "a group gets each packet once");
            let all: Vec<u64> = arrived.concat();
            let distinct: BTreeSet<u64> = all.iter().copied().collect();
            prop_assert_eq!(distinct.len(), all.len(), "nothing arrives twice");
        }
    }
}

#[test]
fn two_sources_are_carried_and_counted_apart() {
    let sink = MemorySink::default();
    let mut tap = tap(file(packets(1000)), vec![only("sink", sink.clone())]);
    tap.inputs.push(input("second", Faulty::new(file(packets(3000)), drop_each_tenth())));
    let report = run(tap);
    let delivered: Vec<u64> = report.inputs.iter().map(|input| input.delivered).collect();
    let lost = report.inputs[1].drops.get(DropReason::Injected);
    assert_eq!(delivered, [1000, 3000 - lost]);
    assert!((200..400).contains(&lost), "{lost} of 3000");
    assert_eq!(report.seen(), 4000);
    assert_eq!(numbers(&sink).len() as u64, 4000 - lost);
}

fn drop_each_tenth() -> Faults {
    Faults { drop: 100, seed: 1, ..Faults::default() }
}

#[test]
fn a_snapshot_balances_at_any_moment() {
    let sinks = [MemorySink::default(), MemorySink::default()];
    let slow = Faults { stall: 990, drop: 10, seed: 3, ..Faults::default() };
    let groups =
        vec![only("quick", sinks[0].clone()), only("slow", Faulty::new(sinks[1].clone(), slow))];
    let worker = Worker::start(tap(Endless::default(), groups)).unwrap();
    let (mut before, mut was_queued) = (0, false);
    for _ in 0..200 {
        let report = worker.snapshot().unwrap();
        assert_balances(&report);
        assert!(report.matched >= before, "counters only grow");
        before = report.matched;
        was_queued |= report.targets[1].queued > 0;
    }
    assert!(before > 0, "the tap was running");
    assert!(was_queued, "a part of what the slow target was given was waiting");
    worker.stop();
    let (report, result) = worker.join();
    result.unwrap();
    assert_balances(&report);
    assert_eq!(numbers(&sinks[0]).len() as u64, report.matched);
    assert_eq!(numbers(&sinks[1]).len() as u64, report.targets[1].sent);
}

#[test]
fn a_worker_that_is_asked_answers_while_nobody_waits() {
    let worker = Worker::start(tap(
        Endless::default(),
        vec![only("sink", Faulty::new(MemorySink::default(), drop_each_tenth()))],
    ))
    .unwrap();
    for _ in 0..20 {
        let (before, _) = worker.published();
        worker.ask();
        let deadline = Instant::now() + Duration::from_secs(5);
        while worker.published().0 == before {
            assert!(Instant::now() < deadline, "it does not answer");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_balances(&worker.published().1);
    }
    let (before, _) = worker.published();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(worker.published().0, before, "nobody asked");
    worker.stop();
    worker.join().1.unwrap();
}

/// Delivers some packets, then fails.
struct Broken(io::memory::MemorySource);

impl Source for Broken {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        match self.0.receive(batch)? {
            Arrival::End => Err(Error::System {
                what: "read the wire".into(),
                source: std::io::Error::other("it is cut"),
                mend: "",
            }),
            other => Ok(other),
        }
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.0.readiness()
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.0.stop()
    }

    fn drops(&mut self) -> api::Drops {
        self.0.drops()
    }

    fn is_live(&self) -> bool {
        self.0.is_live()
    }
}

#[test]
fn what_a_source_delivered_before_it_failed_is_carried_to_its_end() {
    for is_live in [true, false] {
        let sink = MemorySink::default();
        let source = Broken(io::memory::MemorySource::new(packets(700), is_live));
        let worker = Worker::start(tap(source, vec![only("sink", sink.clone())])).unwrap();
        let (report, result) = worker.join();
        assert!(result.unwrap_err().to_string().contains("it is cut"));
        assert_balances(&report);
        assert_eq!(numbers(&sink), (0..700).collect::<Vec<u64>>());
    }
}
