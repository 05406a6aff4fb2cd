//! A filter in the kernel judges super-packets, and counts them in the packets that the wire carries.
//!
//! The witnesses are tcpdump on a link without offloads, where the kernel itself has cut, and the
//! known number of segments of what was written into a TAP device.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod balance;
mod over_links;
mod over_wire;

use api::{DropReason, RuleFile, Stats};
use balance::*;
use filter::{Action, Direction, Rules};
use io::tun::Tap;
use over_links::{Tapline, alone, text};
use over_wire::{FRAME_BYTES_MAX, Scene, can_run};
use rig::{Frame, Tcpdump, exchange, frames_in, link_or_skip, rules::verdict};
use rustix::process::Signal;
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;
use wire::LinkType;
use wire::checksum::Sum;
use wire::segment::{Gso, GsoKind};

const BYTES_EACH_WAY: usize = 2 << 20;
const RULES: &str = r#"
[[rule]]
rule_action = "EXCLUDE"
traffic_direction = "INGRESS"
protocol = "tcp"
source_cidr = "10.72.0.0/24"

[[rule]]
rule_action = "INCLUDE"
protocol = "tcp"
tcp_options.destination_port_range = { min = 80, max = 80 }

[[rule]]
rule_action = "INCLUDE"
protocol = "udp"
"#;

/// A capture of a port of a host, with its file.
fn capture(scene: &Scene, place: (&str, &str), name: &str, words: &[&str]) -> (Tapline, PathBuf) {
    let file = scene.scratch.path(&format!("{name}.pcapng"));
    let capture = ["capture", "-i", place.1, "-w", text(&file)];
    let ledger = scene.scratch.path(&format!("{name}.json"));
    (Tapline::start(scene.host(place.0), ledger, &[&capture, words].concat()), file)
}

/// What the link between the bridges carries, in a file that stays.
fn wire(scene: &Scene) -> (Tcpdump, PathBuf) {
    scene.settle();
    let path = scene.scratch.path("wire.pcap");
    (Tcpdump::start(scene.host("west"), "east", &path, ""), path)
}

/// What the client's stack shows.
fn inside(scene: &Scene) -> Tcpdump {
    Tcpdump::start(scene.host("client"), "west", &scene.scratch.path("inside.pcap"), "")
}

fn super_packets_of(tcpdump: Tcpdump) -> usize {
    tcpdump.stop().iter().filter(|frame| frame.bytes.len() > FRAME_BYTES_MAX).count()
}

fn exchange_both(scene: &Scene) {
    for address in scene.server_addresses() {
        let (client, server) = (&scene.host("client").netns, &scene.host("server").netns);
        exchange(client, server, (address, 80).into(), BYTES_EACH_WAY);
    }
}

/// Of frames that passed a host, those that rules include, and how often each rule decided.
fn selected_by_rules(
    frames: &[Frame],
    rules: &Rules,
    sent_from: [u8; 6],
) -> (Vec<Frame>, Vec<u64>) {
    let mut hits = vec![0; rules.as_slice().len()];
    let included = frames.iter().filter(|frame| {
        let is_sent = frame.bytes[6..12] == sent_from;
        let direction = if is_sent { Direction::Out } else { Direction::In };
        match verdict(rules, LinkType::ETHERNET, direction, &frame.bytes) as usize {
            0 => false,
            number => {
                hits[number - 1] += 1;
                rules.as_slice()[number - 1].action == Action::Include
            }
        }
    });
    (included.cloned().collect(), hits)
}

fn mac(text: &str) -> [u8; 6] {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
    bytes.collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn tcp_is_selected_and_counted_as_the_wire_carries_it() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let scene = Scene::new("balance-tcp");
    let rules = write_rules(scene.scratch.path("rules.toml"), RULES);
    let of_rules = ["--filter-in", "kernel", "--rules", text(&rules)];
    let (tcpdump, wire) = wire(&scene);
    let client = ("client", "west");
    let in_kernel = ["--filter-in", "kernel"];
    let expressions = [
        "tcp port 80",
        "tcp port 81",
        "ip6 and tcp src port 80",
        // Decided in the kernel, but not for super-packets: each segment has its own.
        "ip and tcp[13] & 8 != 0",
        "ip[2:2] < 1000",
        "greater 1000",
    ];
    let captures: Vec<_> = (0..)
        .zip(expressions)
        .map(|(n, expression)| {
            let words = [&in_kernel[..], &[expression]].concat();
            (capture(&scene, client, &format!("{n}"), &words), expression)
        })
        .collect();
    // Reads what the NIC has yet to fill in: in user space.
    let of_checksums = "tcp[16:2] & 1 = 0";
    let checksums = capture(&scene, client, "checksums", &[of_checksums]);
    let by_rules = [("client", "west"), ("server", "east")]
        .map(|place| (capture(&scene, place, &format!("rules-{}", place.0), &of_rules), place));
    let inside = inside(&scene);
    exchange_both(&scene);
    let frames = tcpdump.stop();
    let supers = super_packets_of(inside);
    assert!(supers > 0, "no super-packets at the client: the test proves nothing");
    let seen = frames.len() as u64;
    eprintln!("{seen} packets on the wire, {supers} super-packets at the client");
    assert!(frames.iter().all(|frame| frame.bytes.len() <= FRAME_BYTES_MAX));

    let check = |(capture, file): (Tapline, PathBuf), expression: &str, in_kernel: bool| {
        let done = end(capture);
        eprintln!("{expression}: {}", done.0.taps[0]);
        let expected = selected_by_tcpdump(&wire, expression);
        let matched = expected.len() as u64;
        assert_tap(&done, seen, seen - matched, matched);
        assert_eq!(done.0.drops.total(), 0, "{}", done.1);
        assert_file(&file, &done, &expected);
        assert_eq!(done.1.contains("filter in the kernel"), in_kernel, "{}", done.1);
        matched
    };
    for (capture, expression) in captures {
        let matched = check(capture, expression, true);
        assert_eq!(matched == 0, expression == "tcp port 81", "{expression}: {matched}");
    }
    assert!(check(checksums, of_checksums, false) > 0);
    let rules = RuleFile::open(&rules).unwrap().rules;
    for ((capture, file), (host, port)) in by_rules {
        let done = end(capture);
        let (expected, expected_hits) =
            selected_by_rules(&frames, &rules, mac(&scene.host(host).mac(port)));
        let matched = expected.len() as u64;
        assert_tap(&done, seen, seen - matched, matched);
        assert_file(&file, &done, &expected);
        assert_eq!(hits(&done), expected_hits, "{}", done.1);
        assert!(matched > 0 && matched < seen && expected_hits[0] > 0, "{}", done.1);
    }
}

#[test]
fn super_packets_inside_a_tunnel_are_counted_as_the_wire_carries_them() {
    if !can_run() || !link_or_skip("type vxlan id 1 dstport 4789") {
        return;
    }
    let _alone = alone();
    let scene = Scene::new("balance-tunnel");
    let ends = [("client", "west", 1, 2), ("server", "east", 2, 1)];
    for (host, port, own, other) in ends {
        let host = scene.host(host);
        host.ip(&format!(
            "link add overlay type vxlan id 5 dstport 4789 dev {port} \
             local 10.72.0.{own} remote 10.72.0.{other}"
        ));
        host.ip(&format!("link set overlay address 02:99:00:00:00:0{own}"));
        host.ip("link set overlay up");
        host.ip(&format!("addr add 10.99.0.{own}/24 dev overlay"));
        let peer = format!("lladdr 02:99:00:00:00:0{other} dev overlay nud permanent");
        host.ip(&format!("neigh replace 10.99.0.{other} {peer}"));
    }
    let (tcpdump, wire) = wire(&scene);
    let expressions = ["udp port 4789", "tcp", "udp[12:2] = 0 and udp port 4789", ""];
    let captures: Vec<_> = (0..)
        .zip(expressions)
        .flat_map(|(n, expression)| ends.map(|(host, port, ..)| (n, expression, host, port)))
        .map(|(n, expression, host, port)| {
            let words = ["--filter-in", "auto", expression];
            (capture(&scene, (host, port), &format!("{host}-{n}"), &words), expression, host)
        })
        .collect();
    let (client, server) = (&scene.host("client").netns, &scene.host("server").netns);
    let inside = inside(&scene);
    exchange(client, server, ([10, 99, 0, 2], 80).into(), BYTES_EACH_WAY);
    let frames = tcpdump.stop();
    assert!(super_packets_of(inside) > 0, "no super-packets: the test proves nothing");
    let seen = frames.len() as u64;
    let whole = frames.iter().filter(|frame| frame.bytes.len() > 1400).count();
    assert!(whole > BYTES_EACH_WAY / 1500, "{whole} whole packets of {seen}");
    for ((capture, file), expression, host) in captures {
        capture.wait_for_seen(seen);
        let done = end(capture);
        eprintln!("{host}, {expression}: {}", done.0.taps[0]);
        let expected = selected_by_tcpdump(&wire, expression);
        let matched = expected.len() as u64;
        assert_tap(&done, seen, seen - matched, matched);
        assert_file(&file, &done, &expected);
    }
}

/// Lets a program stand still for a while, again and again, until something is done.
fn stutter<R: Send>(program: &Tapline, work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let working = scope.spawn(work);
        while !working.is_finished() {
            program.signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(150));
            program.signal(Signal::CONT);
            assert_eq!(program.ledger().unaccounted, 0);
            std::thread::sleep(Duration::from_millis(5));
        }
        working.join().unwrap()
    })
}

fn lost_by_ring(stats: &Stats) -> u64 {
    stats.targets[0].drops.get(DropReason::KernelRing)
}

#[test]
fn super_packets_that_a_small_ring_loses_are_known_in_packets_of_the_wire() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let scene = Scene::new("balance-tcp-ring");
    for (expression, name) in [("tcp port 80", "all"), ("tcp src port 80", "one-way")] {
        let (tcpdump, wire) = wire(&scene);
        let words = ["-B", "64", "--filter-in", "kernel", expression];
        let (capture, file) = capture(&scene, ("client", "west"), name, &words);
        stutter(&capture, || exchange_both(&scene));
        let seen = tcpdump.stop().len() as u64;
        let done = end(capture);
        let matched = selected_by_tcpdump(&wire, expression).len() as u64;
        assert_tap(&done, seen, seen - matched, matched);
        let lost = lost_by_ring(&done.0);
        assert!(lost > 0, "nothing was lost: {}", done.1);
        let found = frames_in(&file);
        assert_eq!(found.len() as u64 + lost, matched, "{}", done.1);
        assert_eq!(done.0.drops.total(), lost, "{}", done.1);
    }
}

/// A super-packet to be written into a TAP device.
#[derive(Debug, Clone)]
struct SuperPacket {
    kind: GsoKind,
    /// Tags in band: TPID and TCI.
    tags: &'static [[u16; 2]],
    ip_options: usize,
    tcp_options: usize,
    size: usize,
    payload: usize,
}

impl SuperPacket {
    const fn new(kind: GsoKind, size: usize, payload: usize) -> SuperPacket {
        SuperPacket { kind, tags: &[], ip_options: 0, tcp_options: 0, size, payload }
    }

    const fn segments(&self) -> usize {
        self.payload.div_ceil(self.size)
    }

    /// Its bytes, from the west bridge to the server; `number` tells it from others.
    fn frame(&self, number: u16, to: [u8; 6]) -> (Vec<u8>, Gso) {
        let mut frame = to.to_vec();
        frame.extend([2, 0, 0, 0, 0, 9]);
        self.tags.iter().flatten().for_each(|word| frame.extend(word.to_be_bytes()));
        let v6 = self.kind == GsoKind::TcpV6;
        let is_tcp = self.kind != GsoKind::UdpL4;
        let protocol = if is_tcp { 6 } else { 17 };
        let transport = if is_tcp { 20 + self.tcp_options } else { 8 };
        let rest = (transport + self.payload) as u16;
        let mut sum = if v6 {
            let addresses = [9u8, 10].map(|last| {
                let mut address = [0; 16];
                (address[0], address[1], address[15]) = (0xfd, 0x99, last);
                address
            });
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(rest.to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(addresses.concat());
            Sum::pseudo_v6(addresses[0], addresses[1], protocol, rest.into())
        } else {
            let header = 20 + self.ip_options;
            let mut ip = vec![0x40 + (header / 4) as u8, 0];
            ip.extend((header as u16 + rest).to_be_bytes());
            ip.extend(number.to_be_bytes());
            ip.extend([0, 0, 64, protocol, 0, 0, 10, 99, 0, 9, 10, 99, 0, 10]);
            ip.extend(vec![1; self.ip_options]);
            let check = wire::checksum::of(&ip);
            ip[10..12].copy_from_slice(&check.to_be_bytes());
            frame.extend([8, 0]);
            frame.extend(ip);
            Sum::pseudo_v4([10, 99, 0, 9], [10, 99, 0, 10], protocol, rest.into())
        };
        let csum_start = frame.len() as u16;
        frame.extend([3, 233, 0, 80]); // from port 1001 to 80
        // Of a checksum that is left to the NIC the pseudo-header's part is there.
        let pseudo = std::mem::take(&mut sum).fold().to_be_bytes();
        let csum_offset = if is_tcp {
            frame.extend([0, 0, number.to_be_bytes()[0], number.to_be_bytes()[1], 0, 0, 0, 1]);
            frame.extend([(transport as u8 / 4) << 4, 0x18, 16, 0]);
            frame.extend(pseudo);
            frame.extend([0, 0]);
            frame.extend(vec![1; self.tcp_options]);
            16
        } else {
            frame.extend(rest.to_be_bytes());
            frame.extend(pseudo);
            6
        };
        frame.extend((0..self.payload).map(|n| (n ^ (n >> 8) ^ usize::from(number)) as u8));
        (frame, Gso { kind: self.kind, size: self.size as u16, csum_start, csum_offset })
    }
}

/// Sizes at the edges: whole segments, a byte more, one less; options; tags.
fn super_packets() -> Vec<SuperPacket> {
    use GsoKind::{TcpV4, TcpV6, UdpL4};
    let mut packets = Vec::new();
    for kind in [TcpV4, TcpV6, UdpL4] {
        for payload in [4000, 4001, 3999, 1001, 60_000] {
            packets.push(SuperPacket::new(kind, 1000, payload));
        }
        packets.push(SuperPacket::new(kind, 1400, 50_000));
        for tags in [&[[0x8100, 7]][..], &[[0x88a8, 100], [0x8100, 7]]] {
            packets.push(SuperPacket { tags, ..SuperPacket::new(kind, 500, 9001) });
        }
    }
    for kind in [TcpV4, TcpV6] {
        for payload in [1001, 14_000] {
            let plain = SuperPacket::new(kind, 1000, payload);
            packets.push(SuperPacket { tcp_options: 12, ..plain });
        }
    }
    packets.push(SuperPacket { ip_options: 8, ..SuperPacket::new(TcpV4, 700, 7000) });
    packets.push(SuperPacket { ip_options: 40, ..SuperPacket::new(UdpL4, 700, 7001) });
    let plain = SuperPacket::new(TcpV4, 700, 7001);
    packets.push(SuperPacket { ip_options: 20, tcp_options: 40, tags: &[[0x8100, 9]], ..plain });
    packets
}

/// Super-packets of one segment: with the options they are too long for the kernel to see that, until
/// it fails to cut them.
fn lone_segments() -> Vec<SuperPacket> {
    let mut packets = Vec::new();
    for kind in [GsoKind::TcpV4, GsoKind::TcpV6] {
        for payload in [1000, 999] {
            let plain = SuperPacket::new(kind, 1000, payload);
            packets.push(SuperPacket { tcp_options: 12, ..plain });
        }
    }
    packets
}

fn segments(packets: &[SuperPacket]) -> u64 {
    packets.iter().map(SuperPacket::segments).sum::<usize>() as u64
}

/// Writes super-packets, which the host would carry on to a MAC.
fn send(vm: &Tap, packets: &[SuperPacket], to: [u8; 6]) {
    for (number, packet) in (1000..).step_by(100).zip(packets) {
        let (frame, gso) = packet.frame(number, to);
        vm.send(&frame, Some(&gso)).unwrap_or_else(|e| panic!("{gso:?}: {e}"));
        // The link's queue holds a thousand packets.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A TAP device at a port of the west bridge, over which a virtual machine would be connected.
fn tap(scene: &Scene) -> Tap {
    let west = scene.host("west");
    let tap = west.netns.run(|| Tap::new("vm").unwrap()).unwrap();
    west.ip("link set vm master bridge");
    west.ip("link set vm up");
    scene.settle();
    tap
}

#[test]
fn super_packets_of_a_virtual_machine_are_counted_in_packets_of_the_wire() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let scene = Scene::new("balance-vm");
    let vm = tap(&scene);
    let (tcpdump, wire) = wire(&scene);
    let place = ("west", "vm");
    let rules = write_rules(scene.scratch.path("rules.toml"), RULES);
    let of_rules = ["--filter-in", "kernel", "--rules", text(&rules)];
    let expressions = [
        "",
        "tcp port 80",
        "udp port 81",
        "udp port 80 or ip6",
        "vlan 7 and tcp",
        "vlan 7 and udp",
        "vlan and vlan and vlan",
        "vlan 0",
        "vlan 100 and vlan 7",
        "not vlan",
        "ip[6:2] & 0x1fff = 0 and tcp[13] & 8 != 0",
        "ip[4:2] & 1 = 0",
    ];
    let captures: Vec<_> = (0..)
        .zip(expressions)
        .map(|(n, expression)| {
            let words = ["--filter-in", "kernel", expression];
            (capture(&scene, place, &format!("{n}"), &words), expression)
        })
        .collect();
    let by_rules = capture(&scene, place, "rules", &of_rules);
    let to = mac(&scene.host("server").mac("east"));
    let packets = super_packets();
    send(&vm, &packets, to);
    // And some that are none, with tags of all kinds: a priority without a VLAN, too.
    let mut singles = 0;
    for tags in [
        &[][..],
        &[[0x8100, 7]],
        &[[0x8100, 0xe000]],
        &[[0x88a8, 7]],
        &[[0x88a8, 100], [0x8100, 7]],
        &[[0x8100, 7], [0x8100, 8], [0x8100, 9]],
    ] {
        for kind in [GsoKind::UdpL4, GsoKind::TcpV6] {
            let (frame, _) = SuperPacket { tags, ..SuperPacket::new(kind, 100, 100) }.frame(9, to);
            vm.send(&frame, None).unwrap();
            singles += 1;
        }
    }
    let frames = tcpdump.stop();
    let seen = segments(&packets) + singles;
    assert_eq!(frames.len() as u64, seen, "what the kernel made of it");
    for ((capture, file), expression) in captures {
        capture.wait_for_seen(seen);
        let done = end(capture);
        eprintln!("{expression}: {}", done.0.taps[0]);
        let expected = selected_by_tcpdump(&wire, expression);
        let matched = expected.len() as u64;
        assert_tap(&done, seen, seen - matched, matched);
        assert_eq!(done.0.drops.total(), 0, "{}", done.1);
        assert_file(&file, &done, &expected);
        assert_eq!(matched == 0, expression == "udp port 81", "{expression}");
    }
    let done = end(by_rules.0);
    let rules = RuleFile::open(&rules).unwrap().rules;
    let (expected, expected_hits) = selected_by_rules(&frames, &rules, [0; 6]);
    assert_tap(&done, seen, seen - expected.len() as u64, expected.len() as u64);
    assert_file(&by_rules.1, &done, &expected);
    assert_eq!(hits(&done), expected_hits);
}

#[test]
fn what_a_virtual_machine_sends_is_counted_whatever_becomes_of_it() {
    if !can_run() {
        return;
    }
    let _alone = alone();
    let scene = Scene::new("balance-vm-ring");
    let vm = tap(&scene);
    let start = |name: &str, words: &[&str]| {
        let words = [&["--filter-in", "kernel"], words].concat();
        capture(&scene, ("west", "vm"), name, &words)
    };
    let (small, file) = start("small", &["-B", "64", "ip or ip6"]);
    let whole = start("whole", &[]);
    let rejecting = start("rejecting", &["port 81"]);
    let tagless = start("tagless", &["not vlan"]);
    let packets = [super_packets(), lone_segments()].concat();
    // To nobody: what the host would do with them is not looked at here.
    let rounds = 6;
    stutter(&small, || (0..rounds).for_each(|_| send(&vm, &packets, [2, 0, 0, 0, 0, 7])));
    let seen = rounds * segments(&packets);
    let tagged = packets.iter().filter(|packet| !packet.tags.is_empty()).cloned();
    let tagged = rounds * segments(&tagged.collect::<Vec<_>>());
    let done = end(small);
    // Tags in metadata are user space's to decide: what is lost of them, is lost before the match.
    let (tap, lost) = (&done.0.taps[0], lost_by_ring(&done.0));
    assert!(lost > 0 && tap.drops.total() > 0, "nothing was lost: {}", done.1);
    assert_eq!((tap.seen, tap.matched), (Some(seen), seen - tagged), "{}", done.1);
    let lost_undecided = tap.drops.get(DropReason::KernelRing);
    assert_eq!(tap.filtered.unwrap() + lost_undecided, tagged, "{}", done.1);
    assert_eq!(lost + lost_undecided, done.0.drops.total(), "{}", done.1);
    let found = frames_in(&file);
    assert_eq!(found.len() as u64 + lost, seen - tagged, "{}", done.1);
    assert!(!done.1.contains(" frames"), "exact, no lower bound: {}", done.1);
    for ((capture, file), matched) in [(whole, seen), (rejecting, 0), (tagless, seen - tagged)] {
        let done = end(capture);
        assert_tap(&done, seen, seen - matched, matched);
        assert_eq!(frames_in(&file).len() as u64, matched, "{}", done.1);
    }
}

#[test]
fn super_packets_longer_than_a_block_of_the_ring_lose_only_their_ends() {
    // BIG TCP, up to 512 kB.
    if !can_run() || !link_or_skip("gso_max_size 500000 type veth") {
        return;
    }
    let _alone = alone();
    // How long TCP's frames grow is TCP's own affair; mostly they do at once.
    assert!((0..8).any(|_| lose_ends()), "no frame was longer than a block of the ring");
}

/// Exchanges frames over four captures and compares; false if none was longer than a block.
fn lose_ends() -> bool {
    let scene = Scene::new("balance-big");
    let widen = || {
        for key in ["tcp_rmem", "tcp_wmem"] {
            let path = format!("/proc/sys/net/ipv4/{key}");
            std::fs::write(path, "4096 6553600 6553600").unwrap();
        }
    };
    for (host, port) in [("client", "west"), ("server", "east")] {
        let host = scene.host(host);
        host.ip(&format!("link set {port} gso_max_size 500000 gro_max_size 500000"));
        host.netns.run(widen).unwrap();
    }
    let (tcpdump, _) = wire(&scene);
    let inside = inside(&scene);
    let start = |name: &str, words: &[&str]| capture(&scene, ("client", "west"), name, words);
    // Blocks of 1 MiB, and of 256 KiB.
    let captures = [
        start("large", &["-B", "64MiB", "--filter-in", "kernel", "tcp port 80"]),
        start("kernel", &["-B", "16MiB", "--filter-in", "kernel", "tcp port 80"]),
        start("user", &["-B", "16MiB", "--filter-in", "user", "tcp port 80"]),
        start("all", &["-B", "16MiB", "--filter-in", "kernel"]),
    ];
    let (client, server) = (&scene.host("client").netns, &scene.host("server").netns);
    exchange(client, server, (scene.server_addresses()[1], 80).into(), 2 * BYTES_EACH_WAY);
    let longest = inside.stop().iter().map(|frame| frame.origlen).max();
    let frames = tcpdump.stop();
    if longest <= Some(256 << 10) {
        return false;
    }
    let seen = frames.len() as u64;
    for (at, (capture, file)) in captures.into_iter().enumerate() {
        let done = end(capture);
        let lost = done.0.drops.get(DropReason::KernelRing);
        let tap_lost = done.0.taps[0].drops.total();
        assert_eq!(lost > 0, at > 0, "{}", done.1);
        assert_tap(&done, seen, 0, seen - tap_lost);
        let found = frames_in(&file);
        assert!(found.iter().all(|frame| frame.bytes.len() <= FRAME_BYTES_MAX));
        assert_eq!(found.len() as u64 + lost, seen, "{}", done.1);
        assert_eq!(done.0.drops.total(), lost, "{}", done.1);
        let there: HashSet<&[u8]> = frames.iter().map(|frame| &frame.bytes[..]).collect();
        assert!(found.iter().all(|frame| there.contains(&frame.bytes[..])), "{}", done.1);
    }
    true
}
