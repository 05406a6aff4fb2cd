//! Several workers share a tap: each flow stays with one of them, in both directions, and the ledger is
//! that of all.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_links;

use api::DropReason;
use over_links::*;
use rig::{
    Generator, Running, duplicates, frames_in, missing, numbers_in, root_or_skip, wait_until,
};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;
use wire::LinkType;
use wire::flow::flow_hash;
use wire::walk::Walk;

const WORKERS: usize = 4;
/// Flows of each kind.
const FLOWS: usize = 40;
/// Larger than the link's MTU.
const FRAGMENTED: usize = 4000;

#[test]
fn both_directions_of_a_flow_go_to_one_worker() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("workers-flows");
    let (client, tapped) = (scene.host("client"), scene.host("tapped"));
    // Only one end labels its flows, which must not part the two directions.
    let no_labels = || std::fs::write("/proc/sys/net/ipv6/auto_flowlabels", "0").unwrap();
    tapped.netns.run(no_labels).unwrap();
    let capture = start_capture(&scene, "flows.pcapng", &["udp or tcp"]);
    for address in [IpAddr::from(tapped.v4("client")), tapped.v6("client").into()] {
        let listen = || (TcpListener::bind((address, 0)), UdpSocket::bind((address, 0)));
        let (listener, socket) = tapped.netns.run(listen).unwrap();
        answer(listener.as_ref().unwrap(), socket.as_ref().unwrap(), || {
            let tcp = listener.as_ref().unwrap().local_addr().unwrap();
            let udp = socket.as_ref().unwrap().local_addr().unwrap();
            client.netns.run(|| ask(tcp, udp)).unwrap();
        });
    }
    let ledger = capture.stop();
    let mut workers_of: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
    let mut packets = [0; WORKERS];
    let mut directions: BTreeMap<u32, BTreeSet<[u8; 6]>> = BTreeMap::new();
    for (worker, file) in files(&scene, "flows").iter().enumerate() {
        for frame in frames_in(file) {
            let flow = flow_hash(&Walk::new(LinkType::ETHERNET, &frame.bytes), &frame.bytes);
            workers_of.entry(flow).or_default().insert(worker);
            directions.entry(flow).or_default().insert(*frame.bytes[6..].first_chunk().unwrap());
            packets[worker] += 1;
        }
        assert_is_whole(file);
    }
    // For each IP version: the flows of TCP, those of UDP, and one of all fragments.
    assert_eq!(workers_of.len(), 2 * (2 * FLOWS + 1));
    assert!(directions.values().all(|senders| senders.len() == 2), "a flow went one way");
    let torn: Vec<_> = workers_of.iter().filter(|(_, workers)| workers.len() > 1).collect();
    assert!(torn.is_empty(), "{} of {} flows are torn", torn.len(), workers_of.len());
    for worker in 0..WORKERS {
        let flows = workers_of.values().filter(|workers| workers.contains(&worker)).count();
        assert!(flows > FLOWS / 2, "worker {worker} has {flows} of {} flows", workers_of.len());
    }
    assert_eq!(packets.iter().sum::<u64>(), ledger.written, "{ledger}");
    assert_eq!((ledger.taps.len(), ledger.targets.len()), (1, 1), "{ledger}");
}

#[test]
fn what_small_rings_lose_is_counted_to_the_packet() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("workers-loss");
    for life in 0..2 {
        let name = format!("loss-{life}.pcapng");
        let capture = start_capture(&scene, &name, &["-B", "2MiB", NUMBERED]);
        let before = lost_before_tap(&scene);
        let sent = std::thread::scope(|scope| {
            let load = || scene.send(&Generator::new(100_000, 150_000).flows(64));
            let sending = scope.spawn(load);
            std::thread::sleep(Duration::from_millis(100));
            capture.signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(500));
            capture.signal(Signal::CONT);
            if life == 1 {
                // Ends under load: what comes behind the end is no packet of the tap's.
                capture.signal(Signal::INT);
            }
            sending.join().unwrap()
        });
        if life == 0 {
            capture.signal(Signal::INT);
        }
        let (ledger, said) = capture.finish(0);
        let numbers = all_numbers(&scene, &format!("loss-{life}"));
        assert_eq!(duplicates(&numbers), [0; 0]);
        assert_eq!(numbers.len() as u64, ledger.written, "{said}");
        let lost = ledger.drops.get(DropReason::KernelRing);
        assert!(lost > 0, "{said}");
        let missing = missing(&numbers, sent).len() as u64;
        match life {
            0 => assert_eq!(lost + lost_before_tap(&scene) - before, missing, "{said}"),
            _ => assert!(ledger.drops.total() <= missing, "{said}"),
        }
    }
}

#[test]
fn a_mirror_of_several_workers_sends_all_and_has_one_line_for_each_target() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("workers-mirror");
    let receivers = [4789, 4790].map(|port| {
        let file = scene.path(&format!("{port}.pcapng"));
        let listen = format!("vxlan://10.71.1.2:{port}");
        (scene.start("sink", &["receive", "--listen", &listen, "-w", text(&file)]), file)
    });
    let group = "vxlan://10.71.1.2?vni=1,vxlan://10.71.1.2:4790?vni=1";
    let all = format!("pcap:{}", scene.path("all.pcapng").display());
    let words = ["mirror", "-i", "client", "--workers", "4", "--to", group, "--to", &all, NUMBERED];
    let mirror = scene.start("tapped", &words);
    let to = scene.numbered_to();
    let send = move || Generator::new(30_000, 60_000).flows(48).run(to).accepted;
    let load = scene.host("client").netns.spawn(send).unwrap();
    let mut before = 0;
    while !load.is_finished() {
        // It balances while packets come.
        let now = mirror.ledger();
        assert!(now.seen.unwrap() >= before, "{now}");
        before = now.seen.unwrap();
    }
    let sent = load.join().unwrap();
    mirror.wait_for_matched(sent - lost_before_tap(&scene));
    let mirrored = mirror.stop();
    assert_eq!(mirrored.matched, sent - lost_before_tap(&scene), "{mirrored}");
    assert_eq!((mirrored.taps.len(), mirrored.targets.len()), (1, 3), "{mirrored}");
    assert_eq!(mirrored.drops.total(), 0, "{mirrored}");
    let mut ports_of = Vec::new();
    for ((receive, file), target) in receivers.into_iter().zip(&mirrored.targets) {
        receive.wait_for_received(target.sent - lost_behind_tap(&scene));
        receive.stop();
        let frames = frames_in(&file);
        let ports: BTreeSet<[u8; 2]> = frames.iter().map(|f| [f.bytes[34], f.bytes[35]]).collect();
        ports_of.push(ports);
    }
    // The group's table is that of one worker: each flow has one member.
    assert_eq!(ports_of[0].len() + ports_of[1].len(), 48, "{ports_of:?}");
    assert!(ports_of[0].is_disjoint(&ports_of[1]));
    assert_eq!(all_numbers(&scene, "all").len() as u64, mirrored.matched);
}

#[test]
fn workers_share_a_count_and_end_together_each_on_a_core() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("workers-count");
    let capture = start_capture(&scene, "count.pcapng", &["-c", "1000", NUMBERED]);
    let mut cores = Vec::new();
    wait_until("the workers run", SOON, || {
        cores = cores_of_workers(capture.id());
        cores.iter().filter(|list| list.parse::<usize>().is_ok()).count() == WORKERS
    });
    let distinct: BTreeSet<&String> = cores.iter().collect();
    assert_eq!(distinct.len(), pipeline::cores().len().min(WORKERS), "{cores:?}");
    scene.send(&Generator::new(20_000, 20_000).flows(64));
    let (ledger, said) = capture.finish(0);
    assert_eq!((ledger.matched, ledger.written), (1000, 1000), "{said}");
    let numbers = all_numbers(&scene, "count");
    assert_eq!((numbers.len(), duplicates(&numbers).len()), (1000, 0));
}

#[test]
fn workers_follow_an_interface_that_is_deleted_and_comes_back() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("workers-back");
    let capture = start_capture(&scene, "back.pcapng", &[NUMBERED]);
    for life in 1..=3 {
        scene.send(&Generator::new(20_000, 2_000).flows(64));
        if life == 3 {
            break;
        }
        scene.host("tapped").ip("link del client");
        capture.wait_for("client is gone");
        scene.rejoin();
        capture.wait_for("client is back");
        // The first to be back says so; the others follow at once.
        std::thread::sleep(Duration::from_millis(500));
    }
    capture.wait_for_matched(6_000);
    capture.signal(Signal::INT);
    let (ledger, said) = capture.finish(0);
    assert_eq!((ledger.written, ledger.drops.total()), (6_000, 0), "{said}");
    assert_eq!(said.matches("client is gone").count(), 2, "{said}");
    assert_eq!(said.matches("client is back").count(), 2, "{said}");
    let numbers = all_numbers(&scene, "back");
    for number in 0..2_000 {
        assert_eq!(numbers.iter().filter(|n| **n == number).count(), 3, "packet {number}");
    }
    let shares = files(&scene, "back").map(|file| numbers_in(file).len());
    assert!(shares.iter().all(|share| *share > 300), "{shares:?}");
}

#[test]
fn what_workers_cannot_share_is_a_mistake() {
    for words in [&["-w", "-"][..], &[]] {
        let words = [&["capture", "-i", "lo", "--workers", "2"], words].concat();
        let mut command = std::process::Command::new(BINARY);
        let finished = Running::start(command.args(&words)).finish(SOON);
        assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains("leave --workers out"), "{}", finished.stderr);
    }
    let words = ["mirror", "-i", "lo", "--workers", "2", "--to", "pcap:-"];
    let finished = Running::start(std::process::Command::new(BINARY).args(words)).finish(SOON);
    assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("standard output"), "{}", finished.stderr);
}

/// Captures into a file for each worker.
fn start_capture(scene: &Scene, file: &str, more: &[&str]) -> Tapline {
    let (file, workers) = (scene.path(file), WORKERS.to_string());
    let words = ["capture", "-i", "client", "--workers", &workers, "-w", text(&file)];
    scene.start("tapped", &[&words, more].concat())
}

/// The cores on which each worker of a process may run.
fn cores_of_workers(id: u32) -> Vec<String> {
    let mut cores = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{id}/task")).unwrap() {
        // It may have ended meanwhile.
        let status = std::fs::read_to_string(task.unwrap().path().join("status"));
        let status = status.unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        if field("Name:").is_some_and(|name| name.trim().starts_with("tap-")) {
            cores.extend(field("Cpus_allowed_list:").map(|list| list.trim().to_string()));
        }
    }
    cores
}

/// The files of the workers.
fn files(scene: &Scene, stem: &str) -> [PathBuf; WORKERS] {
    std::array::from_fn(|worker| scene.path(&format!("{stem}-{worker}.pcapng")))
}

fn all_numbers(scene: &Scene, stem: &str) -> Vec<u64> {
    files(scene, stem).iter().flat_map(numbers_in).collect()
}

fn lost_before_tap(scene: &Scene) -> u64 {
    scene.host("client").counter("tapped", "tx", "dropped")
}

fn lost_behind_tap(scene: &Scene) -> u64 {
    scene.host("tapped").counter("sink", "tx", "dropped")
}

/// Answers each connection and each datagram, while a function runs.
fn answer(listener: &TcpListener, socket: &UdpSocket, run: impl FnOnce()) {
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..FLOWS {
                let (mut stream, _) = listener.accept().unwrap();
                let mut said = [0; 100];
                stream.read_exact(&mut said).unwrap();
                stream.write_all(&said).unwrap();
            }
        });
        scope.spawn(|| {
            // Short ones, and for each flow one that is fragmented.
            let mut buffer = [0; 2 * FRAGMENTED];
            for _ in 0..2 * FLOWS {
                let (len, from) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(&buffer[..len], from).unwrap();
            }
        });
        run();
    });
}

/// Has every flow go both ways.
fn ask(tcp: SocketAddr, udp: SocketAddr) {
    for flow in 0..FLOWS {
        let mut stream = TcpStream::connect(tcp).unwrap();
        stream.write_all(&[flow as u8; 100]).unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
        let any = if udp.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.connect(udp).unwrap();
        for len in [100, FRAGMENTED] {
            socket.send(&vec![flow as u8; len]).unwrap();
            assert_eq!(socket.recv(&mut [0; 2 * FRAGMENTED]).unwrap(), len);
        }
    }
}
