//! Graphs of several maps: what each target gets, that no way changes another's packets, and that a
//! change of the graph loses and doubles nothing of what stays.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod taps;

use api::{DirectionChoice, DropReason, Start, Stats};
use io::memory::MemorySink;
use io::{Selection, Sink, SinkCounters, Upstream};
use pipeline::stage::{Stage, Step, Work};
use pipeline::{
    BrokerLedger, CaptureFilter, Change, FarEnd, Graph, History, Inlet, Map, Outlet, OwnTunnels,
    Part, RemovedOutlet, Renewal, Report, Way, Worker,
};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use taps::*;
use wire::tunnel::Carrier;

/// Writes a byte over the first one of each packet.
struct Paint(u8);

impl Stage for Paint {
    fn apply(&mut self, work: &mut Work<'_>) {
        work.each(|packet, _| {
            packet.data[0] = self.0;
            Ok(())
        });
    }

    fn changes(&self) -> bool {
        true
    }
}

/// Drops all but every nth packet.
struct Every(u64);

impl Stage for Every {
    fn apply(&mut self, work: &mut Work<'_>) {
        work.each(|packet, _| match packet.meta.ts_ns % self.0 {
            0 => Ok(()),
            _ => Err(DropReason::Sampled),
        });
    }

    fn changes(&self) -> bool {
        false
    }
}

fn paint(byte: u8) -> Step {
    Step::new(format!("paint {byte}"), Box::new(Paint(byte)))
}

fn every(n: u64) -> Step {
    Step::new(format!("every {n}"), Box::new(Every(n)))
}

fn inlet(name: &str, source: impl io::Source + 'static) -> Inlet {
    Inlet::new(input(name, source))
}

fn outlet(name: &str, sink: &MemorySink) -> Outlet {
    Outlet::new(Some(name.into()), only(name, sink.clone()))
}

fn map(name: &str, from: &[usize], to: &[usize]) -> Way {
    Way { map: Map::new(name.into()), from: from.into(), to: to.into() }
}

/// The first bytes that arrived at a sink, and the numbers.
fn painted(sink: &MemorySink) -> (Vec<u8>, Vec<u64>) {
    sink.take().iter().map(|packet| (packet.data[0], packet.meta.ts_ns)).unzip()
}

fn finished(graph: Graph) -> Report {
    let (report, result) = Worker::start(graph).unwrap().join();
    result.unwrap();
    balanced(&report);
    report
}

fn balanced(report: &Report) {
    let stats = report.broker();
    assert_eq!(stats.unaccounted, 0, "{stats}");
}

/// The ledger of what ran to the end, and of what went before.
fn ledger(report: &Report, gone: BrokerLedger) -> Stats {
    let mut ledger = BrokerLedger::default();
    ledger.add(report);
    ledger.merge(gone);
    ledger.stats()
}

#[test]
fn what_one_way_changes_no_other_way_sees() {
    let sinks: Vec<MemorySink> = (0..5).map(|_| MemorySink::default()).collect();
    let mut red = map("red", &[0], &[0, 1]);
    red.map.steps.push(paint(1));
    let plain = map("plain", &[0], &[2, 3]);
    let mut blue = map("blue", &[0], &[4]);
    blue.map.steps.push(paint(2));
    let mut outlets: Vec<Outlet> =
        sinks.iter().enumerate().map(|(n, sink)| outlet(&n.to_string(), sink)).collect();
    // Before an outlet that sees the map's packets, and behind one.
    outlets[0].steps.push(paint(3));
    outlets[3].steps.push(paint(4));
    let first = flow_frame(0)[0];
    let graph = Graph {
        inlets: vec![inlet("in", live(packets(1000)))],
        ways: vec![red, plain, blue],
        outlets,
    };
    finished(graph);
    let all: Vec<u64> = (0..1000).collect();
    for (sink, byte) in sinks.iter().zip([3, 1, first, 4, 2]) {
        assert_eq!(painted(sink), (vec![byte; 1000], all.clone()));
    }
}

#[test]
fn every_line_of_a_broker_s_ledger_balances() {
    let sinks: Vec<MemorySink> = (0..2).map(|_| MemorySink::default()).collect();
    let mut inlets = vec![inlet("left", live(packets(900))), inlet("right", file(packets(600)))];
    inlets[0].steps.push(every(3));
    let mut both = map("both", &[0, 1], &[0, 1]);
    both.map.steps.push(every(2));
    let mut left = map("left only", &[0], &[1]);
    left.map.filter = CaptureFilter::all(DirectionChoice::Both);
    let mut outlets = vec![outlet("all", &sinks[0]), outlet("some", &sinks[1])];
    outlets[1].steps.push(every(5));
    let report = finished(Graph { inlets, ways: vec![both, left], outlets });
    let stats = report.broker();
    let source = |place: usize| {
        let line = &stats.sources[place];
        (line.received, line.written, line.drops.get(DropReason::Sampled))
    };
    assert_eq!(source(0), (900, 300, 600));
    assert_eq!(source(1), (600, 600, 0));
    let tap = |name: &str| {
        let line = stats.taps.iter().find(|line| line.name == name).unwrap();
        (line.seen.unwrap(), line.matched, line.drops.get(DropReason::Sampled))
    };
    assert_eq!(tap("map both"), (900, 450, 450));
    assert_eq!(tap("map left only"), (300, 300, 0));
    // 0, 30, 60 … of both's left part, 0, 10 … of its right one, 0, 15 … of left alone.
    assert_eq!(tap("target some"), (750, 30 + 60 + 60, 600));
    let line = &stats.targets[0];
    assert_eq!((line.name.as_deref(), line.sent), (Some("all"), 450));
    assert_eq!(stats.stages.len(), 3);
    assert_eq!((stats.seen, stats.sent), (Some(1500), 600));
    assert_eq!(numbers(&sinks[0]).len(), 450);
    assert_eq!(numbers(&sinks[1]).len(), 150);
}

/// Waits until a worker has carried so many packets more.
fn carry_more(worker: &Worker, packets: u64) {
    let matched = |worker: &Worker| worker.snapshot().unwrap().matched;
    let (begin, deadline) = (matched(worker), Instant::now() + Duration::from_secs(10));
    while matched(worker) < begin + packets {
        assert!(Instant::now() < deadline && !worker.is_finished(), "packets come");
    }
}

#[test]
fn a_thousand_changes_lose_and_double_nothing_of_what_stays() {
    let stays = MemorySink::default();
    let graph = Graph {
        inlets: vec![inlet("in", Endless::default())],
        ways: vec![map("stays", &[0], &[0])],
        outlets: vec![outlet("stays", &stays)],
    };
    let worker = Worker::start(graph).unwrap();
    let mut gone = BrokerLedger::default();
    let mut arrived = 0;
    for round in 0..1000 {
        // There is a second map and target in every other round.
        let mut change = Change {
            inlets: vec![Part::Kept(0)],
            ways: vec![Way { map: Part::Kept(0), from: vec![0], to: vec![0] }],
            outlets: vec![Part::Kept(0)],
            ..Change::default()
        };
        let comes = MemorySink::default();
        if round % 2 == 0 {
            change.outlets.push(Part::New(outlet("comes and goes", &comes)));
            let map = Part::New(Map::new("comes and goes".into()));
            change.ways.push(Way { map, from: vec![0], to: vec![1] });
        }
        let removed = worker.change(change).unwrap();
        gone.add(&removed.report);
        for outlet in removed.outlets {
            let (report, result) = outlet.finish();
            result.unwrap();
            gone.add(&report);
        }
        arrived += comes.take().len();
    }
    carry_more(&worker, 100);
    worker.stop();
    let (report, result) = worker.join();
    result.unwrap();
    let carried = report.maps[0].matched;
    assert_eq!(numbers(&stays), (0..carried).collect::<Vec<u64>>());
    let stats = ledger(&report, gone);
    assert_eq!(stats.unaccounted, 0, "{stats}");
    assert_eq!(stats.targets.len(), 2, "{stats}");
    assert!(stats.targets[1].sent >= arrived as u64);
    assert_eq!(stats.targets[1].sent, stats.taps[1].matched);
}

#[test]
fn a_source_that_goes_is_carried_to_its_end_first() {
    let sink = MemorySink::default();
    let graph = Graph {
        inlets: vec![inlet("a", Endless::default()), inlet("b", Endless::default())],
        ways: vec![map("m", &[0, 1], &[0])],
        outlets: vec![outlet("t", &sink)],
    };
    let worker = Worker::start(graph).unwrap();
    carry_more(&worker, 1000);
    let change = Change {
        inlets: vec![Part::Kept(1), Part::New(inlet("c", Endless::default()))],
        ways: vec![Way { map: Part::Kept(0), from: vec![0, 1], to: vec![0] }],
        outlets: vec![Part::Kept(0)],
        ..Change::default()
    };
    let removed = worker.change(change).unwrap();
    let gone = &removed.report.inputs[0];
    assert_eq!((gone.name.as_str(), gone.delivered), ("a", gone.carried));
    carry_more(&worker, 1000);
    worker.stop();
    let (report, _) = worker.join();
    let names: Vec<&str> = report.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["b", "c"]);
    let mut gone = BrokerLedger::default();
    gone.add(&removed.report);
    let stats = ledger(&report, gone);
    assert_eq!(stats.unaccounted, 0, "{stats}");
    assert_eq!(numbers(&sink).len() as u64, report.maps[0].matched);
}

#[test]
fn an_impossible_change_is_refused_and_changes_nothing() {
    let sink = MemorySink::default();
    let graph = Graph {
        inlets: vec![inlet("a", Endless::default())],
        ways: vec![map("m", &[0], &[0])],
        outlets: vec![outlet("t", &sink)],
    };
    let worker = Worker::start(graph).unwrap();
    let kept = |inlet, outlet, to| Change {
        inlets: vec![Part::Kept(inlet)],
        ways: vec![Way { map: Part::Kept(0), from: vec![0], to: vec![to] }],
        outlets: vec![Part::Kept(outlet)],
        ..Change::default()
    };
    for change in [kept(1, 0, 0), kept(0, 1, 0), kept(0, 0, 1)] {
        assert!(worker.change(change).is_err());
    }
    // A step that there is not.
    let mut steps = [kept(0, 0, 0), kept(0, 0, 0), kept(0, 0, 0)];
    let renewal = || Renewal { filter: None, steps: vec![Part::Kept(0)] };
    steps[0].inlets = vec![Part::Renewed(0, vec![Part::Kept(0)])];
    steps[1].ways[0].map = Part::Renewed(0, renewal());
    steps[2].outlets = vec![Part::Renewed(0, renewal())];
    for change in steps {
        assert!(worker.change(change).is_err());
    }
    carry_more(&worker, 100);
    worker.stop();
    let (report, _) = worker.join();
    balanced(&report);
    assert_eq!(numbers(&sink).len() as u64, report.matched);
}

#[test]
fn a_new_target_begins_now_or_with_the_oldest_that_is_kept() {
    let old = MemorySink::default();
    let mut way = map("m", &[0], &[0]);
    way.map.history = Some(History::new(1 << 20));
    let graph = Graph {
        inlets: vec![inlet("a", Endless::default())],
        ways: vec![way],
        outlets: vec![outlet("old", &old)],
    };
    let worker = Worker::start(graph).unwrap();
    carry_more(&worker, 20_000);
    let (now, oldest) = (MemorySink::default(), MemorySink::default());
    let from_oldest = Outlet { start: Start::Oldest, ..outlet("oldest", &oldest) };
    let change = Change {
        inlets: vec![Part::Kept(0)],
        ways: vec![Way { map: Part::Kept(0), from: vec![0], to: vec![0, 1, 2] }],
        outlets: vec![Part::Kept(0), Part::New(outlet("now", &now)), Part::New(from_oldest)],
        ..Change::default()
    };
    worker.change(change).unwrap();
    carry_more(&worker, 100);
    worker.stop();
    let (report, _) = worker.join();
    balanced(&report);
    let (now, oldest) = (numbers(&now), numbers(&oldest));
    let end = report.matched;
    assert_eq!(now, (now[0]..end).collect::<Vec<u64>>());
    assert_eq!(oldest, (oldest[0]..end).collect::<Vec<u64>>());
    // 1 MiB holds some 3,000 of these packets and their bookkeeping.
    let kept = now[0] - oldest[0];
    assert!((1000..10_000).contains(&kept), "{kept} were kept");
}

#[test]
fn what_is_renewed_goes_on_with_its_source_and_its_counts() {
    let sink = MemorySink::default();
    let graph = Graph {
        inlets: vec![inlet("a", Endless::default())],
        ways: vec![map("m", &[0], &[0])],
        outlets: vec![outlet("t", &sink)],
    };
    let worker = Worker::start(graph).unwrap();
    carry_more(&worker, 1000);
    let renewal = |step| Renewal { filter: None, steps: vec![Part::New(step)] };
    let change = Change {
        inlets: vec![Part::Renewed(0, vec![Part::New(paint(1))])],
        ways: vec![Way { map: Part::Renewed(0, renewal(every(2))), from: vec![0], to: vec![0] }],
        outlets: vec![Part::Renewed(0, renewal(every(3)))],
        ..Change::default()
    };
    let removed = worker.change(change).unwrap();
    assert!(removed.outlets.is_empty());
    carry_more(&worker, 1000);
    worker.stop();
    let (report, _) = worker.join();
    let mut gone = BrokerLedger::default();
    gone.add(&removed.report);
    let stats = ledger(&report, gone);
    assert_eq!(stats.unaccounted, 0, "{stats}");
    let (bytes, arrived) = painted(&sink);
    let turn = bytes.iter().position(|&byte| byte == 1).unwrap();
    assert_eq!(arrived[..turn], (0..turn as u64).collect::<Vec<u64>>());
    let end = report.inputs[0].delivered;
    let sixth: Vec<u64> = (turn as u64..end).filter(|number| number % 6 == 0).collect();
    assert_eq!(arrived[turn..], sixth);
}

#[test]
fn a_step_that_stays_keeps_its_state() {
    let sink = MemorySink::default();
    let mut way = map("m", &[0], &[0]);
    way.map.steps = vec![paint(1), every(2)];
    let graph = Graph {
        inlets: vec![inlet("a", Endless::default())],
        ways: vec![way],
        outlets: vec![outlet("t", &sink)],
    };
    let worker = Worker::start(graph).unwrap();
    carry_more(&worker, 1000);
    let steps = vec![Part::Kept(1), Part::New(paint(2))];
    let change = Change {
        inlets: vec![Part::Kept(0)],
        ways: vec![Way {
            map: Part::Renewed(0, Renewal { filter: None, steps }),
            from: vec![0],
            to: vec![0],
        }],
        outlets: vec![Part::Kept(0)],
        ..Change::default()
    };
    let removed = worker.change(change).unwrap();
    carry_more(&worker, 1000);
    worker.stop();
    let (report, _) = worker.join();
    let stages: Vec<&str> = report.maps[0].stages.iter().map(|stage| &*stage.name).collect();
    assert_eq!(stages, ["every 2", "paint 2"]);
    assert_eq!(report.maps[0].stages[0].received, report.inputs[0].carried, "it has seen all");
    let mut gone = BrokerLedger::default();
    gone.add(&removed.report);
    let stats = ledger(&report, gone);
    assert_eq!(stats.unaccounted, 0, "{stats}");
    assert_eq!(stats.stages.len(), 3, "what paint 1 did is kept");
}

/// Takes the first 42 bytes off: Ethernet, IPv4 and UDP of a tunnel.
struct Open;

impl Stage for Open {
    fn apply(&mut self, work: &mut Work<'_>) {
        work.each(|packet, _| {
            packet.data.trim_front(42);
            Ok(())
        });
    }

    fn changes(&self) -> bool {
        true
    }
}

#[test]
fn own_tunnel_packets_are_known_before_a_source_s_stages_strip_them() {
    let far_end = FarEnd { address: [10, 9, 9, 9].into(), carrier: Carrier::Udp { port: 4789 } };
    let inner = flow_frame(0);
    let own = udp4(([10, 0, 0, 1], 0xc001), ([10, 9, 9, 9], 4789), &inner);
    let strange = udp4(([10, 0, 0, 1], 0xc001), ([10, 8, 8, 8], 4789), &inner);
    let frames = [&own, &strange, &own].map(|frame| frame.clone());
    let source = frames.iter().zip(0..).map(|(frame, number)| {
        let mut packet = packet(number, frame);
        packet.meta.direction = io::Direction::Out;
        packet
    });
    let sink = MemorySink::default();
    let mut inlet = inlet("in", live(source));
    inlet.own = OwnTunnels::new(vec![far_end], false);
    inlet.steps.push(Step::new("open".into(), Box::new(Open)));
    let graph = Graph {
        inlets: vec![inlet],
        ways: vec![map("m", &[0], &[0])],
        outlets: vec![outlet("t", &sink)],
    };
    let stats = finished(graph).broker();
    assert_eq!(numbers(&sink), [1]);
    let line = &stats.sources[0];
    assert_eq!((line.received, line.written), (3, 1), "{stats}");
    assert_eq!(line.drops.get(DropReason::OwnTunnel), 2, "{stats}");
}

#[test]
fn what_a_target_has_dropped_stays_in_the_ledger_when_it_chooses_no_more() {
    let sink = MemorySink::default();
    let mut choosy = outlet("t", &sink);
    choosy.steps.push(every(2));
    let graph = Graph {
        inlets: vec![inlet("a", Endless::default())],
        ways: vec![map("m", &[0], &[0])],
        outlets: vec![choosy],
    };
    let worker = Worker::start(graph).unwrap();
    carry_more(&worker, 1000);
    let sampled = |stats: &Stats| {
        let line = stats.taps.iter().find(|line| line.name == "target t");
        line.map(|line| line.drops.get(DropReason::Sampled))
    };
    let before = sampled(&worker.snapshot().unwrap().broker());
    let change = Change {
        inlets: vec![Part::Kept(0)],
        ways: vec![Way { map: Part::Kept(0), from: vec![0], to: vec![0] }],
        outlets: vec![Part::Renewed(0, Renewal { filter: None, steps: Vec::new() })],
        ..Change::default()
    };
    let removed = worker.change(change).unwrap();
    carry_more(&worker, 1000);
    worker.stop();
    let (report, _) = worker.join();
    let mut gone = BrokerLedger::default();
    gone.add(&removed.report);
    let stats = ledger(&report, gone);
    assert_eq!(stats.unaccounted, 0, "{stats}");
    assert!(before >= Some(500) && sampled(&stats) >= before, "{before:?}: {stats}");
}

/// A sink whose end waits until so many others come to theirs.
struct Meeting(Arc<Barrier>);

impl Sink for Meeting {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        packets.len()
    }

    fn counters(&self) -> SinkCounters {
        SinkCounters::default()
    }

    fn finish(&mut self, _upstream: &Upstream) -> Result<(), io::Error> {
        self.0.wait();
        Ok(())
    }
}

#[test]
fn targets_are_completed_side_by_side_at_a_change_and_at_the_end() {
    let meeting = || {
        let all = Arc::new(Barrier::new(3));
        [0, 1, 2].map(|_| Outlet::new(None, only("t", Meeting(Arc::clone(&all)))))
    };
    let [stay, go] = [meeting(), meeting()];
    let graph = Graph {
        inlets: vec![inlet("a", Endless::default())],
        ways: vec![map("m", &[0], &[0, 1, 2, 3, 4, 5])],
        outlets: stay.into_iter().chain(go).collect(),
    };
    let worker = Worker::start(graph).unwrap();
    let change = Change {
        inlets: vec![Part::Kept(0)],
        ways: vec![Way { map: Part::Kept(0), from: vec![0], to: vec![0, 1, 2] }],
        outlets: vec![Part::Kept(0), Part::Kept(1), Part::Kept(2)],
        ..Change::default()
    };
    let removed = worker.change(change).unwrap();
    assert_eq!(RemovedOutlet::finish_all(removed.outlets).len(), 3);
    worker.stop();
    worker.join().1.unwrap();
}

/// Lets so many packets go on.
struct AtMost(u64);

impl Stage for AtMost {
    fn apply(&mut self, work: &mut Work<'_>) {
        work.each(|_, _| {
            self.0 = self.0.checked_sub(1).ok_or(DropReason::RateLimited)?;
            Ok(())
        });
    }

    fn changes(&self) -> bool {
        false
    }
}

#[test]
fn inlets_of_one_source_have_one_state_of_their_steps() {
    let sink = MemorySink::default();
    let mut inlets: Vec<Inlet> = (0..3).map(|_| inlet("a", live(packets(600)))).collect();
    inlets[1].steps.push(Step::new("at most".into(), Box::new(AtMost(700))));
    inlets[2].steps_back = 1;
    let graph =
        Graph { inlets, ways: vec![map("m", &[0, 1, 2], &[0])], outlets: vec![outlet("t", &sink)] };
    let stats = finished(graph).broker();
    let line = &stats.sources[0];
    assert_eq!((line.received, line.written), (1800, 600 + 700), "{stats}");
    assert_eq!((stats.stages.len(), stats.stages[0].received), (1, 1200), "{stats}");
    assert_eq!(numbers(&sink).len(), 1300);
}
