//! Interfaces that come and go, and all of them at once: each packet stands in the file with the
//! interface that it passed, and the ledger balances.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_links;

use api::DropReason;
use capfile::{Direction, Reader};
use io::tun::Tun;
use over_links::*;
use rig::{Generator, Running, numbers_in, root_or_skip};
use rustix::process::Signal;
use std::collections::HashMap;
use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// `ARPHRD_NETLINK`, whose frames nobody reads here.
const ODD_HARDWARE: u16 = 824;
/// Packets that may stand between a link's two ends (`net.core.netdev_max_backlog`).
const BACKLOG: u64 = 1000;

#[test]
fn any_tells_interfaces_directions_and_link_types_apart() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("interfaces-any");
    let tapped = scene.host("tapped");
    let make = || (Tun::new("tun", None).unwrap(), Tun::new("odd", Some(ODD_HARDWARE)).unwrap());
    let _devices = tapped.netns.run(make).unwrap();
    for (device, network) in [("tun", 81), ("odd", 82)] {
        tapped.ip(&format!("link set {device} up"));
        tapped.ip(&format!("addr add 10.{network}.0.1/24 dev {device}"));
    }
    // The kernel's own first packets on a device that came up.
    std::thread::sleep(Duration::from_millis(200));
    let (pcapng, pcap) = (scene.path("any.pcapng"), scene.path("any.pcap"));
    let capture = |file| scene.start("tapped", &["capture", "-i", "any", "-w", file, NUMBERED]);
    let captures = [&pcapng, &pcap].map(|file| capture(text(file)));
    let from_tapped = |count, to: &str| {
        let to: SocketAddr = to.parse().unwrap();
        Generator::new(10_000, count).run_in(&tapped.netns, to);
    };
    scene.send(&Generator::new(10_000, 100));
    from_tapped(110, "10.71.1.2:9");
    from_tapped(120, "127.0.0.1:9");
    from_tapped(130, "10.81.0.2:9");
    from_tapped(140, "10.82.0.2:9");
    for capture in &captures {
        capture.wait_for_matched(460);
    }
    let [of_pcapng, of_pcap] = captures.map(Tapline::stop);
    assert_eq!((of_pcapng.matched, of_pcapng.written), (460, 460), "{of_pcapng}");
    assert_eq!(of_pcapng.drops.get(DropReason::HardwareType), 140, "{of_pcapng}");
    let found = interfaces_in(&pcapng);
    let expected = [
        (("client", 1, Direction::In), 100),
        (("lo", 1, Direction::In), 120),
        (("sink", 1, Direction::Out), 110),
        (("tun", 101, Direction::Out), 130),
    ];
    let expected = expected.map(|((name, link, way), n)| ((name.to_string(), link, way), n));
    assert_eq!(found, HashMap::from(expected));
    assert_is_whole(&pcapng);

    assert_eq!((of_pcap.matched, of_pcap.written), (460, 330), "{of_pcap}");
    assert_eq!(of_pcap.drops.get(DropReason::LinkType), 130, "{of_pcap}");
    assert_eq!(numbers_in(&pcap).len(), 330);
}

#[test]
fn any_mirrors_what_all_interfaces_carry_but_not_the_mirror() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("interfaces-mirror");
    let file = scene.path("in.pcapng");
    let receive =
        scene.start("sink", &["receive", "--listen", "vxlan://0.0.0.0", "-w", text(&file)]);
    let words = ["mirror", "-i", "any", "--promiscuous", "--to", "vxlan://10.71.1.2?vni=7", "udp"];
    let mirror = scene.start("tapped", &words);
    scene.send(&Generator::new(10_000, 1_000));
    Generator::new(10_000, 500).run_in(&scene.host("tapped").netns, "127.0.0.1:9".parse().unwrap());
    mirror.wait_for_matched(1_500);
    receive.wait_for_received(1_500);
    mirror.signal(Signal::INT);
    let (mirrored, said) = mirror.finish(0);
    assert!(said.contains("any: no interface is set to promiscuous mode"), "{said}");
    assert_eq!((mirrored.matched, mirrored.sent), (1_500, 1_500), "{said}");
    // Once as they leave through `sink`.
    assert_eq!(mirrored.drops.get(DropReason::OwnTunnel), 1_500, "{said}");
    assert_eq!(receive.stop().written, 1_500);
    assert_eq!(numbers_in(&file).len(), 1_500);
}

#[test]
fn a_deleted_interface_is_picked_up_again_when_it_is_back() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("interfaces-back");
    let file = scene.path("capture.pcapng");
    let capture = scene.start("tapped", &["capture", "-i", "client", "-w", text(&file), NUMBERED]);
    for life in 0..4 {
        if life > 0 {
            scene.rejoin();
            let said = capture.wait_for("client is back");
            assert!(said.contains("(index "), "{said}");
        }
        // Deleted while the last of them stand in a block that is not handed over yet.
        scene.send(&Generator::new(20_000, 1_000));
        scene.host("tapped").ip("link del client");
        capture.wait_for("client is gone; waiting for it to return");
        // The ledger is that of all its lives.
        let now = capture.ledger();
        assert!(now.matched >= 1_000 * life, "{now}");
    }
    capture.wait_for_matched(4_000);
    let before = cpu_time(capture.id());
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu_time(capture.id()) - before;
    assert!(used < Duration::from_millis(200), "waiting costs {used:?} in 2 s");
    let end = Instant::now();
    capture.signal(Signal::INT);
    let (ledger, said) = capture.finish(0);
    assert!(end.elapsed() < Duration::from_secs(1), "it took {:?} to end", end.elapsed());
    assert_eq!((ledger.written, ledger.drops.total()), (4_000, 0), "{said}");
    for (text, times) in [("client is gone", 4), ("client is back", 3), ("ERROR", 0)] {
        assert_eq!(said.matches(text).count(), times, "{said}");
    }
    let numbers: Vec<u64> = (0..4).flat_map(|_| 0..1_000).collect();
    assert_eq!(numbers_in(&file), numbers);
    let name = ("client".to_string(), 1, Direction::In);
    assert_eq!(interfaces_in(&file), HashMap::from([(name, 4_000)]));
    assert_eq!(descriptions_in(&file), 1);
    assert_is_whole(&file);
}

#[test]
fn an_interface_deleted_under_load_loses_only_what_its_link_held() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("interfaces-load");
    let file = scene.path("in.pcapng");
    let receive =
        scene.start("sink", &["receive", "--listen", "vxlan://0.0.0.0", "-w", text(&file)]);
    let words = ["mirror", "-i", "client", "--to", "vxlan://10.71.1.2?vni=7", NUMBERED];
    let mirror = scene.start("tapped", &words);
    let (mut sent_in_all, mut number) = (Vec::new(), 0);
    for life in 0..3 {
        if life > 0 {
            scene.rejoin();
            mirror.wait_for("client is back");
        }
        let gone = AtomicBool::new(false);
        let sent = std::thread::scope(|scope| {
            let sending = scope.spawn(|| send_until(&scene, number, &gone));
            std::thread::sleep(Duration::from_millis(300));
            scene.host("tapped").ip("link del client");
            gone.store(true, Ordering::Relaxed);
            sending.join().unwrap()
        });
        mirror.wait_for("client is gone");
        sent_in_all.push(number..number + sent);
        number += sent;
    }
    let mirrored = mirror.stop();
    receive.wait_for_received(mirrored.sent);
    let received = receive.stop();
    assert_eq!(mirrored.drops.total() + received.drops.total(), 0, "{mirrored}{received}");
    let numbers = numbers_in(&file);
    assert_eq!(numbers.len() as u64, mirrored.matched);
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "each once, and in order");
    for sent in sent_in_all {
        let found = numbers.iter().filter(|number| sent.contains(number)).count() as u64;
        let first = numbers.iter().find(|number| sent.contains(number)).unwrap();
        // Without a gap from the first packet on; the end is what was in the link's backlog.
        assert_eq!(*first, sent.start);
        assert!(numbers.contains(&(first + found - 1)), "a gap in {sent:?}");
        assert!(found + BACKLOG >= sent.end - sent.start, "{found} of {sent:?}");
    }
}

#[test]
fn one_that_comes_back_as_another_kind_gets_an_interface_of_its_own() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("interfaces-kind");
    let (file, tapped) = (scene.path("capture.pcapng"), scene.host("tapped"));
    let capture = scene.start("tapped", &["capture", "-i", "client", "-w", text(&file), "udp"]);
    scene.send(&Generator::new(10_000, 100));
    capture.wait_for_matched(100);
    tapped.ip("link del client");
    capture.wait_for("client is gone");
    let odd = tapped.netns.run(|| Tun::new("odd", Some(ODD_HARDWARE)).unwrap()).unwrap();
    tapped.ip("link set odd name client");
    let said = capture.wait_for("hardware type 824");
    assert!(said.contains("cannot be tapped yet"), "{said}");
    drop(odd);
    let _tun = tapped.netns.run(|| Tun::new("client", None).unwrap()).unwrap();
    capture.wait_for("client is back");
    tapped.ip("link set client up");
    tapped.ip("addr add 10.81.0.1/24 dev client");
    Generator::new(10_000, 200).run_in(&tapped.netns, "10.81.0.2:9".parse().unwrap());
    capture.wait_for_matched(300);
    let ledger = capture.stop();
    assert_eq!((ledger.written, ledger.drops.total()), (300, 0), "{ledger}");
    let kinds = [((1, Direction::In), 100), ((101, Direction::Out), 200)];
    let kinds = kinds.map(|((link, way), n)| (("client".to_string(), link, way), n));
    assert_eq!(interfaces_in(&file), HashMap::from(kinds));
}

#[test]
fn the_ring_is_as_large_as_asked_for_or_as_the_link_is_fast() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("interfaces-ring");
    let tapped = scene.host("tapped");
    let kib = |words: &[&str]| {
        let mut command = tapped.netns.command(BINARY);
        let running = Running::start(command.arg("mirror").args(words).args(["--to", "null:"]));
        let said = running.wait_for("ring of ", SOON);
        assert!(running.stop(SOON).status.success());
        let (_, said) = said.rsplit_once("ring of ").unwrap();
        let (kib, _) = said.split_once(" KiB").unwrap();
        kib.parse::<u64>().unwrap()
    };
    assert_eq!(kib(&["-i", "client", "-B", "3MiB"]), 3 << 10);
    // A veth says 10 Gb/s; of all interfaces together nobody knows.
    assert_eq!(kib(&["-i", "any", "-B", "auto"]), 64 << 10);
    assert_eq!(kib(&["-i", "client"]), 120 << 10);

    let script =
        format!("ulimit -v 400000; exec {BINARY} capture -i client -B 512MiB -w /dev/null");
    let mut shell = tapped.netns.command("sh");
    let refused = Running::start(shell.args(["-c", &script])).finish(SOON);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("524288 KiB"), "{}", refused.stderr);
    assert!(refused.stderr.contains("-B SIZE"), "{}", refused.stderr);
}

/// Sends numbered packets from the client until the link is gone; gives how many.
fn send_until(scene: &Scene, first: u64, gone: &AtomicBool) -> u64 {
    let socket = || UdpSocket::bind("0.0.0.0:0").unwrap();
    let socket = scene.host("client").netns.run(socket).unwrap();
    let (start, to) = (Instant::now(), scene.numbered_to());
    for sent in 0.. {
        rig::wait_for_turn(start, sent, 20_000);
        let number = (first + sent).to_be_bytes();
        let payload = [&rig::MAGIC[..], &number, &[0; 32]].concat();
        if socket.send_to(&payload, to).is_err() || gone.load(Ordering::Relaxed) {
            return sent;
        }
    }
    unreachable!("it ends when the link is gone")
}

/// How many packets of each interface and direction a file has; an interface is its name and its
/// link type.
fn interfaces_in(file: &Path) -> HashMap<(String, u16, Direction), u64> {
    let mut reader = Reader::new(File::open(file).unwrap()).unwrap();
    let mut found = HashMap::new();
    while let Some(record) = reader.next().unwrap() {
        let (interface, direction) = (record.interface as usize, record.direction);
        let interface = &reader.interfaces()[interface];
        let name = interface.name.clone().unwrap();
        *found.entry((name, interface.link_type, direction)).or_default() += 1;
    }
    found
}

/// How many interfaces a file describes.
fn descriptions_in(file: &Path) -> usize {
    let mut reader = Reader::new(File::open(file).unwrap()).unwrap();
    while reader.next().unwrap().is_some() {}
    reader.interfaces().len()
}

/// Processor time that a process has used.
fn cpu_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // utime and stime, in ticks of 10 ms.
    fields[11..13]
        .iter()
        .map(|ticks| Duration::from_millis(10 * ticks.parse::<u64>().unwrap()))
        .sum()
}
