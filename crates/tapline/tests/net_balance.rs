//! A group of sinks whose health is checked: when one dies, only its flows move, and they come back
//! with it. Judged by what stands in the sinks' files.
//!
//! ```text
//! client ──────── tapped ──┬── sink 0     tapline receive --health
//!   1,000 flows,  mirror,  ├── sink 1     killed, and started again
//!   both ways     broker   └── sink 2
//! ```

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_links;

use io::netns::Netns;
use over_links::*;
use rig::{MAGIC, Scratch, Topology, numbers_in, root_or_skip, wait_until};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const FLOWS: u64 = 1000;
const SINKS: usize = 3;
const VICTIM: usize = 1;
/// Detection takes two tries: some 200 ms here.
const CHECK: &str = "health=sink:8080&interval=100ms&timeout=5s";

/// Conversations of the client with the tapped host: a socket for each.
struct Traffic {
    clients: Vec<UdpSocket>,
    server: UdpSocket,
    rounds: AtomicU64,
}

impl Traffic {
    fn new(net: &Topology) -> Traffic {
        let (client, tapped) = (net.host("client"), net.host("tapped"));
        let server = tapped.netns.run(|| UdpSocket::bind(("0.0.0.0", PORT)).unwrap()).unwrap();
        let to = (tapped.v4("client"), PORT);
        let socket = |_| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(SOON)).unwrap();
            socket
        };
        let clients = client.netns.run(|| (0..FLOWS).map(socket).collect()).unwrap();
        server.set_read_timeout(Some(SOON)).unwrap();
        Traffic { clients, server, rounds: AtomicU64::new(0) }
    }

    /// One packet of each flow and its answer; each has a number of its own. Gives the round.
    fn round(&self) -> u64 {
        let round = self.rounds.load(Ordering::Relaxed);
        let packet = |number: u64| [MAGIC, number.to_be_bytes()].concat();
        let mut buffer = [0; 64];
        for (flow, client) in (0..).zip(&self.clients) {
            let there = number(round, flow);
            client.send(&packet(there)).unwrap();
            let (_, from) = self.server.recv_from(&mut buffer).unwrap();
            self.server.send_to(&packet(there + 1), from).unwrap();
            client.recv(&mut buffer).unwrap();
        }
        self.rounds.store(round + 1, Ordering::Relaxed);
        round
    }

    /// Goes on while something is done; gives the rounds that began before it ended.
    fn while_doing(&self, act: impl FnOnce()) -> std::ops::Range<u64> {
        let first = self.rounds.load(Ordering::Relaxed);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    self.round();
                }
            });
            // A panic must not leave the thread at work.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            done.store(true, Ordering::Relaxed);
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        first..self.rounds.load(Ordering::Relaxed)
    }
}

/// The number of a flow's packet in a round; its answer has the next one.
fn number(round: u64, flow: u64) -> u64 {
    (round * FLOWS + flow) * 2
}

struct Sink {
    netns: Netns,
    place: usize,
    scratch: PathBuf,
    /// How often it was started.
    starts: usize,
    process: Option<Tapline>,
}

impl Sink {
    /// Joins a sink to the tapped host.
    fn new(net: &Topology, scratch: &Scratch, place: usize) -> Sink {
        let (netns, tapped) = (Netns::new().unwrap(), net.host("tapped"));
        tapped.netns.join(&format!("sink{place}"), &netns, "tapped").unwrap();
        tapped.ip(&format!("addr add 10.72.{place}.1/24 dev sink{place}"));
        netns.ip(&format!("addr add 10.72.{place}.2/24 dev tapped")).unwrap();
        let scratch = scratch.folder().to_path_buf();
        let mut sink = Sink { netns, place, scratch, starts: 0, process: None };
        sink.start();
        sink
    }

    fn start(&mut self) {
        self.starts += 1;
        let ledger = self.scratch.join(format!("sink{}-{}.json", self.place, self.starts));
        let file = self.file(self.starts);
        let words = [
            "receive",
            "--listen",
            "vxlan://0.0.0.0",
            "--health",
            "0.0.0.0:8080",
            "-U",
            "-w",
            text(&file),
        ];
        let process = Tapline::start_as(self.netns.command(BINARY), ledger, &words);
        process.wait_for("0.0.0.0:8080: open");
        self.process = Some(process);
    }

    fn file(&self, start: usize) -> PathBuf {
        self.scratch.join(format!("sink{}-{start}.pcapng", self.place))
    }

    fn received(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| process.ledger().received)
    }

    fn endpoint(&self) -> String {
        format!("vxlan://10.72.{}.2?vni=1&{CHECK}", self.place)
    }

    /// The numbers in its files, of all starts.
    fn numbers(&self) -> BTreeSet<u64> {
        (1..=self.starts).flat_map(|start| numbers_in(self.file(start))).collect()
    }
}

fn wait_for_received(sinks: &[Sink], wanted: u64) {
    let all = || sinks.iter().map(Sink::received).sum::<u64>();
    wait_until(&format!("{wanted} packets at the sinks"), SOON, || all() >= wanted);
}

/// Which sink has a flow's packets of a round: both directions, at one sink.
fn owners(numbers: &[BTreeSet<u64>], round: u64) -> BTreeMap<u64, usize> {
    let owner = |number| numbers.iter().position(|of| of.contains(&number));
    let of = |flow| {
        let there = number(round, flow);
        let (there, back) = (owner(there), owner(there + 1));
        assert_eq!(there, back, "flow {flow} is torn in round {round}");
        (flow, there.unwrap_or_else(|| panic!("flow {flow} is lost in round {round}")))
    };
    (0..FLOWS).map(of).collect()
}

/// Kills one of three sinks at load, and starts it again.
fn kill_one(name: &str, start: impl FnOnce(&Topology, &Scratch, &str) -> Tapline) {
    let net = Topology::line(["client", "tapped"]).build();
    let scratch = Scratch::new(name);
    let mut sinks: Vec<Sink> = (0..SINKS).map(|place| Sink::new(&net, &scratch, place)).collect();
    let group = sinks.iter().map(Sink::endpoint).collect::<Vec<_>>().join(",");
    let tap = start(&net, &scratch, &group);
    let traffic = Traffic::new(&net);

    let before = traffic.round();
    wait_for_received(&sinks, 2 * FLOWS);

    let victim = sinks[VICTIM].process.take().unwrap();
    let outage = traffic.while_doing(|| {
        victim.signal(Signal::KILL);
        let said = tap.wait_for("its flows move to 2 others");
        assert!(said.contains("no answer to sink:8080 (connection refused), 2 tries"), "{said}");
    });
    victim.kill();
    let during = traffic.round();

    let return_ = traffic.while_doing(|| {
        sinks[VICTIM].start();
        tap.wait_for("sink:8080 answers again, 2 tries; its flows come back");
    });
    let after = traffic.round();
    let rounds = traffic.rounds.load(Ordering::Relaxed);
    tap.wait_for_matched(2 * FLOWS * rounds);
    let ledger = tap.stop();
    let processes = sinks.iter_mut().map(|sink| sink.process.take().unwrap());
    processes.for_each(|process| drop(process.stop()));

    // By the outside's count nothing was missed, and by the files nothing but the dead one's.
    assert_eq!(ledger.matched, 2 * FLOWS * rounds, "{ledger}");
    assert_eq!(ledger.targets.len(), SINKS, "{ledger}");
    assert!(ledger.targets.iter().all(|line| line.healthy == Some(true)), "{ledger}");
    let numbers: Vec<BTreeSet<u64>> = sinks.iter().map(Sink::numbers).collect();
    let at_first = owners(&numbers, before);
    for sink in 0..SINKS {
        let flows = at_first.values().filter(|&&of| of == sink).count();
        assert!((200..500).contains(&flows), "sink {sink} has {flows} of {FLOWS} flows");
    }
    let moved = owners(&numbers, during);
    let inherited: BTreeSet<usize> =
        moved.iter().filter(|(flow, _)| at_first[flow] == VICTIM).map(|(_, &to)| to).collect();
    assert_eq!(inherited, BTreeSet::from([0, 2]), "the dead one's flows are shared out");
    assert_eq!(owners(&numbers, after), at_first, "all are where they were");
    for round in 0..rounds {
        for (&flow, &owner) in at_first.iter().filter(|(_, owner)| **owner != VICTIM) {
            for number in [number(round, flow), number(round, flow) + 1] {
                let at: Vec<usize> =
                    (0..SINKS).filter(|&of| numbers[of].contains(&number)).collect();
                assert_eq!(at, [owner], "flow {flow} in round {round}: moved or lost");
            }
        }
    }
    // The dead one's packets are lost from its death to the last try, and not after.
    let lost: BTreeSet<u64> = (0..rounds)
        .filter(|&round| {
            let mut flows = at_first.iter().filter(|(_, owner)| **owner == VICTIM);
            flows.any(|(&flow, _)| !numbers.iter().any(|of| of.contains(&number(round, flow))))
        })
        .collect();
    assert!(lost.iter().all(|round| outage.contains(round)), "{lost:?}, {outage:?}, {return_:?}");
}

#[test]
fn of_three_sinks_one_dies_and_only_its_flows_move() {
    if !root_or_skip() {
        return;
    }
    kill_one("balance-mirror", |net, scratch, group| {
        let ledger = scratch.path("mirror.json");
        // Two workers follow one check.
        let words = ["mirror", "-i", "client", "--workers", "2", "--to", group, NUMBERED];
        Tapline::start_as(net.host("tapped").netns.command(BINARY), ledger, &words)
    });
}

#[test]
fn a_broker_s_target_follows_its_sinks_alike() {
    if !root_or_skip() {
        return;
    }
    kill_one("balance-broker", |net, scratch, group| {
        let config = scratch.path("broker.toml");
        let file = format!(
            "[[source]]\ninterface = \"client\"\n\
             [[target]]\nname = \"sinks\"\nto = \"{group}\"\n\
             [[map]]\nname = \"all\"\nfrom = [\"client\"]\nto = [\"sinks\"]\n\
             expression = \"{NUMBERED}\"\n"
        );
        std::fs::write(&config, file).unwrap();
        let ledger = scratch.path("broker.json");
        let words = ["broker", "-c", text(&config)];
        Tapline::start_as(net.host("tapped").netns.command(BINARY), ledger, &words)
    });
}

/// A host behind a NIC of the tapped one, and a capture of what comes there.
struct Tool {
    netns: Netns,
    file: PathBuf,
    capture: Tapline,
}

impl Tool {
    fn new(net: &Topology, scratch: &Scratch, place: usize) -> Tool {
        let (netns, tapped) = (Netns::new().unwrap(), net.host("tapped"));
        tapped.netns.join(&format!("tool{place}"), &netns, "tapped").unwrap();
        netns.ip(&format!("addr add 10.73.{place}.2/24 dev tapped")).unwrap();
        let file = scratch.path(&format!("tool{place}.pcapng"));
        let ledger = scratch.path(&format!("tool{place}.json"));
        let words = ["capture", "-i", "tapped", "-U", "-w", text(&file), NUMBERED];
        let capture = Tapline::start_as(netns.command(BINARY), ledger, &words);
        Tool { netns, file, capture }
    }
}

#[test]
fn nics_are_judged_by_their_link_and_by_a_neighbour() {
    if !root_or_skip() {
        return;
    }
    let net = Topology::line(["client", "tapped"]).build();
    let scratch = Scratch::new("balance-nics");
    let tools = [0, 1].map(|place| Tool::new(&net, &scratch, place));
    let group = "nic:tool0?health=link&interval=50ms,\
                 nic:tool1?health=neighbour:10.73.1.2&interval=50ms&timeout=1s";
    let words = ["mirror", "-i", "client", "--to", group, NUMBERED];
    let mirror = net.host("tapped").netns.command(BINARY);
    let tap = Tapline::start_as(mirror, scratch.path("mirror.json"), &words);
    let traffic = Traffic::new(&net);
    let mut rounds = Vec::new();
    let mut round = |shares: &mut dyn FnMut()| {
        shares();
        rounds.push(traffic.round());
        tap.wait_for_matched(2 * FLOWS * rounds.len() as u64);
    };

    round(&mut || {});
    round(&mut || {
        tools[0].netns.ip("link set tapped down").unwrap();
        let said = tap.wait_for("its flows move to 1 other");
        assert!(said.contains("nic:tool0: no answer to link (its link is down)"), "{said}");
    });
    round(&mut || {
        tools[0].netns.ip("link set tapped up").unwrap();
        tap.wait_for("nic:tool0: link answers again");
    });
    round(&mut || {
        tools[1].netns.ip("addr del 10.73.1.2/24 dev tapped").unwrap();
        let said = tap.wait_for("its flows move to 1 other");
        assert!(said.contains("nic:tool1: no answer to neighbour:10.73.1.2"), "{said}");
        assert!(said.contains("(nobody answered)"), "{said}");
    });
    round(&mut || {
        tools[1].netns.ip("addr add 10.73.1.2/24 dev tapped").unwrap();
        tap.wait_for("nic:tool1: neighbour:10.73.1.2 answers again");
    });

    let ledger = tap.stop();
    assert_eq!(ledger.targets.iter().map(|line| line.sent).sum::<u64>(), ledger.matched);
    let numbers = tools.map(|Tool { file, capture, netns: _netns }| {
        capture.stop();
        numbers_in(&file).into_iter().collect::<BTreeSet<u64>>()
    });
    let [first, without_0, with_0, without_1, with_1] =
        [0, 1, 2, 3, 4].map(|round| owners(&numbers, round));
    let share = first.values().filter(|&&of| of == 0).count() as u64;
    assert!((300..700).contains(&share), "tool 0 has {share} of {FLOWS} flows");
    assert!(without_0.values().all(|&of| of == 1) && without_1.values().all(|&of| of == 0));
    assert!(with_0 == first && with_1 == first, "the flows come back");
}
