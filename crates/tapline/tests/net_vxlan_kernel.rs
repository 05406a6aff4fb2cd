//! Our VXLAN and the Linux kernel's understand each other, both ways, over IPv4 and IPv6.
//!
//! ```text
//! client ──────── tapped ──────── sink
//!   traffic       mirror          kernel vxlan device, the judge
//!                 kernel vxlan    receive
//! ```

mod over_links;

use api::{DropReason, Stats};
use capfile::{LINKTYPE_ETHERNET, PcapResolution, PcapWriter};
use over_links::*;
use rig::{
    Frame, Generator, Running, Tcpdump, assert_same_packets, capture_files, duplicates, exchange,
    frames_in, link_or_skip, missing, numbers_in, root_or_skip, tool_or_skip, wait_until,
    wait_until_still,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

/// Outer headers in front of a frame: IP, UDP, VXLAN.
const OUTER_V4_BYTES: usize = 20 + 8 + 8;
const OUTER_V6_BYTES: usize = 40 + 8 + 8;
/// Headers of a numbered packet: Ethernet, IPv4, UDP.
const HEADERS_BYTES: usize = 14 + 20 + 8;
const MTU: usize = 1500;

#[test]
fn the_kernel_takes_every_packet_out_of_our_tunnel() {
    if can_run() {
        check_that_the_kernel_takes_every_packet(MTU);
    }
}

#[test]
fn the_kernel_takes_every_jumbo_packet_out_of_our_tunnel() {
    if can_run() {
        check_that_the_kernel_takes_every_packet(9000);
    }
}

fn check_that_the_kernel_takes_every_packet(mtu: usize) {
    let scene = scene("out", mtu);
    for address in sink_addresses(&scene) {
        let device = kernel_receiver(&scene, address, 71);
        let sent = start_tcpdump(&scene, "client", "tapped", "sent.pcap");
        let decapsulated = start_tcpdump(&scene, "sink", &device, "decapsulated.pcap");
        let mirror = start_mirror(&scene, "client", &[&to(address, 71), NUMBERED]);
        scene.send(&Generator::new(20_000, 4_000).flows(4));
        // Packets of one flow follow each other: they leave as super-packets.
        scene.send(&Generator::new(20_000, 4_000));
        // As long as the link takes them, so that the outer packets are fragmented.
        let longest = mtu + 14 - HEADERS_BYTES;
        scene.send(&Generator::new(5_000, 1_000).payload_bytes(longest).flows(4));
        let (sent, decapsulated) = (sent.stop(), decapsulated.stop());
        assert_eq!(sent.len(), 9_000);
        assert_same_packets(&decapsulated, &sent);
        let ledger = mirror.stop();
        assert_eq!((ledger.sent, ledger.drops.total()), (9_000, 0), "{ledger}");
        let sink = scene.host("sink");
        assert_eq!(sink.counter(&device, "rx", "packets"), 9_000);
        assert_eq!(sink.counter(&device, "rx", "errors"), 0);
    }
}

#[test]
fn oversize_drop_drops_exactly_the_packets_that_do_not_fit() {
    if !can_run() {
        return;
    }
    let scene = scene("oversize", MTU);
    for address in sink_addresses(&scene) {
        let outer = if address.is_ipv4() { OUTER_V4_BYTES } else { OUTER_V6_BYTES };
        let longest = MTU - outer - HEADERS_BYTES;
        let device = kernel_receiver(&scene, address, 71);
        let decapsulated = start_tcpdump(&scene, "sink", &device, "fits.pcap");
        let mirror =
            start_mirror(&scene, "client", &[&to(address, 71), "--oversize", "drop", NUMBERED]);
        for (payload_bytes, count) in [(64, 50), (longest, 300), (longest + 1, 170), (1472, 30)] {
            scene.send(&Generator::new(5_000, count).payload_bytes(payload_bytes));
        }
        let lengths: Vec<usize> = decapsulated.stop().iter().map(|f| f.bytes.len()).collect();
        let ledger = mirror.stop();
        assert_eq!(ledger.drops.get(DropReason::Oversize), 200, "{ledger}");
        assert_eq!((ledger.drops.total(), ledger.sent), (200, 350), "{ledger}");
        let wanted = [vec![HEADERS_BYTES + 64; 50], vec![HEADERS_BYTES + longest; 300]].concat();
        assert_eq!(lengths, wanted);
    }
}

#[test]
fn we_take_every_packet_out_of_the_kernel_s_tunnel() {
    if !can_run() {
        return;
    }
    let scene = scene("in", MTU);
    let (tapped, sink) = (scene.host("tapped"), scene.host("sink"));
    let families: [(IpAddr, IpAddr); 2] = [
        (tapped.v4("sink").into(), sink.v4("tapped").into()),
        (tapped.v6("sink").into(), sink.v6("tapped").into()),
    ];
    for (from, address) in families {
        // Over IPv6 the kernel may also leave the outer checksum out.
        let extras = if from.is_ipv4() { &[""][..] } else { &["", "udp6zerocsumtx"] };
        for extra in extras {
            for vni in [71, 72] {
                kernel_sender(&scene, from, address, vni, extra);
            }
            let send = |vni: u8, count: u64| {
                let to = (IpAddr::from([10, 99, vni, 2]), PORT).into();
                Generator::new(10_000, count).flows(4).run_in(&tapped.netns, to);
            };
            let listen = format!("vxlan://{}", host_of(address));

            let archive = scene.path(&format!("archive-{}{extra}", from.is_ipv4()));
            let receive =
                scene.start("sink", &["receive", "--listen", &listen, "--archive", text(&archive)]);
            send(71, 3_000);
            send(72, 1_000);
            receive.wait_for_received(4_000);
            let ledger = receive.stop();
            assert_eq!((ledger.written, ledger.drops.total()), (4_000, 0), "{ledger}");
            for (vni, count) in [(71, 3_000), (72, 1_000)] {
                let source = format!("source=vxlan-{vni}-{}", from.to_string().replace(':', "-"));
                check_numbers(&archive, &source, count);
            }

            let file = scene.path("one.pcapng");
            let listen = format!("{listen}?vni=71");
            let receive = scene.start("sink", &["receive", "--listen", &listen, "-w", text(&file)]);
            send(71, 2_000);
            send(72, 500);
            receive.wait_for_received(2_500);
            let ledger = receive.stop();
            assert_eq!(ledger.drops.get(DropReason::ForeignId), 500, "{ledger}");
            assert_eq!((ledger.written, ledger.drops.total()), (2_000, 500), "{ledger}");
            let numbers = numbers_in(&file);
            assert_eq!((missing(&numbers, 2_000), numbers.len()), (vec![], 2_000));
        }
    }
}

#[test]
fn tags_that_the_kernel_keeps_beside_a_frame_are_restored() {
    if !can_run() {
        return;
    }
    let scene = scene("tags", MTU);
    let address = sink_addresses(&scene)[0];
    let device = kernel_receiver(&scene, address, 71);
    // TPID and TCI: priority 3, the DEI bit, VLAN 0, the last VLAN, a service tag alone, stacks.
    let tags: [&[(u16, u16)]; 8] = [
        &[(0x8100, 0x6005)],
        &[(0x8100, 0x1005)],
        &[(0x8100, 0xe000)],
        &[(0x8100, 0x0fff)],
        &[(0x88a8, 0x0005)],
        &[(0x88a8, 0x7064), (0x8100, 0x3005)],
        &[(0x8100, 0x0006), (0x8100, 0x0005)],
        &[],
    ];
    let frames: Vec<Vec<u8>> = (0..).zip(tags).map(|(n, tags)| tagged_frame(n, tags)).collect();
    let file = scene.path("tagged.pcap");
    let mut writer =
        PcapWriter::new(File::create(&file).unwrap(), LINKTYPE_ETHERNET, 0, PcapResolution::Nano)
            .unwrap();
    for frame in &frames {
        writer.write(1, frame.len() as u32, frame).unwrap();
    }
    drop(writer);

    let capture = |name: &str, expression: &[&str]| {
        let path = scene.path(name);
        let words = ["capture", "-U", "-i", &device, "-w", text(&path)];
        (scene.start("sink", &[&words, expression].concat()), path)
    };
    let (all, all_path) = capture("all.pcapng", &[]);
    let (some, some_path) = capture("some.pcapng", &["vlan 5"]);
    let mut mirror = scene.host("tapped").netns.command(BINARY);
    mirror.args(["mirror", "-r"]).arg(&file).args(["--to", &to(address, 71)[5..]]);
    let mirror = Running::start(&mut mirror).finish(SOON);
    assert!(mirror.status.success(), "{}", mirror.stderr);
    wait_until_still(&all_path);
    assert_eq!((all.stop().unaccounted, some.stop().unaccounted), (0, 0));

    let bytes = |path| frames_in(path).into_iter().map(|f: Frame| f.bytes).collect::<Vec<_>>();
    assert_eq!(bytes(&all_path), frames);
    assert!(frames_in(&all_path).iter().all(|f| f.origlen as usize == f.bytes.len()));
    // The outermost tag decides; whether its TPID is the customer's or the service's.
    assert_eq!(bytes(&some_path), [0, 1, 4].map(|n: usize| frames[n].clone()));
}

#[test]
fn both_directions_of_a_connection_leave_by_one_source_port() {
    if !can_run() {
        return;
    }
    let scene = scene("ports", MTU);
    let address = sink_addresses(&scene)[0];
    kernel_receiver(&scene, address, 71);
    let path = scene.path("outer.pcap");
    let outer = Tcpdump::start(scene.host("sink"), "tapped", &path, "udp dst port 4789");
    let mirror = start_mirror(&scene, "client", &[&to(address, 71), "tcp port 80"]);
    let (client, tapped) = (scene.host("client"), scene.host("tapped"));
    for _ in 0..16 {
        exchange(&client.netns, &tapped.netns, (tapped.v4("client"), 80).into(), 10_000);
    }
    let frames = outer.stop();
    assert_eq!(mirror.stop().drops.total(), 0);

    // By the client's port: the outer source ports, and which ways the packets went.
    let mut connections: BTreeMap<u16, (BTreeSet<u16>, BTreeSet<bool>)> = BTreeMap::new();
    for Frame { bytes, .. } in &frames {
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let inner = 14 + OUTER_V4_BYTES + 14 + 20;
        let (from, to) = (word(inner), word(inner + 2));
        let (ports, ways) = connections.entry(from.max(to)).or_default();
        ports.insert(word(14 + 20));
        ways.insert(to == 80);
    }
    assert_eq!(connections.len(), 16);
    for (client_port, (ports, ways)) in &connections {
        assert_eq!((ports.len(), ways.len()), (1, 2), "of port {client_port}: {ports:?} {ways:?}");
        assert!(ports.iter().all(|port| *port >= 0xc000), "{ports:?}");
    }
    let distinct: BTreeSet<u16> =
        connections.values().flat_map(|(ports, _)| ports.clone()).collect();
    assert!(distinct.len() > 8, "16 connections share {distinct:?}");
}

#[test]
fn a_tap_on_the_tunnel_s_own_interface_does_not_mirror_itself() {
    if !can_run() {
        return;
    }
    let scene = scene("own", MTU);
    let (tapped, sink) = (scene.host("tapped"), scene.host("sink"));
    for address in sink_addresses(&scene) {
        kernel_receiver(&scene, address, 71);
        let listener = sink.netns.run(|| UdpSocket::bind((address, PORT)).unwrap()).unwrap();
        let mirror = start_mirror(&scene, "sink", &[&to(address, 71)]);
        let send = |payload_bytes: usize| {
            let generator = Generator::new(2_000, 500).payload_bytes(payload_bytes);
            generator.run_in(&tapped.netns, listener.local_addr().unwrap());
        };
        send(64);
        // Their outer packets are two fragments each, of which the second has no ports.
        send(if address.is_ipv4() { 1472 } else { 1452 });
        // A stranger's packets to the same port are no packets of ours.
        let stranger = || {
            let any = if address.is_ipv4() { "0.0.0.0:5000" } else { "[::]:5000" };
            let socket = UdpSocket::bind(any).unwrap();
            (0..10).for_each(|_| _ = socket.send_to(b"no vxlan", (address, 4789)).unwrap());
        };
        tapped.netns.run(stranger).unwrap();
        let wanted = 1_010;
        let own = |ledger: &Stats| ledger.drops.get(DropReason::OwnTunnel);
        wait_until("the tap sees its own packets", SOON, || {
            let ledger = mirror.ledger();
            ledger.matched >= wanted && own(&ledger) >= 500 + 2 * 500 + 10
        });
        let ledger = mirror.stop();
        assert_eq!((ledger.matched, ledger.sent), (wanted, wanted), "{ledger}");
        assert_eq!(own(&ledger), 500 + 2 * 500 + 10, "{ledger}");
        assert_eq!(ledger.drops.total(), own(&ledger), "{ledger}");
    }
}

#[test]
fn two_interfaces_are_mirrored_by_one_process_and_one_of_them_carries_the_tunnel() {
    if !can_run() {
        return;
    }
    let scene = scene("two", MTU);
    let (tapped, sink) = (scene.host("tapped"), scene.host("sink"));
    let address = sink_addresses(&scene)[0];
    let device = kernel_receiver(&scene, address, 71);
    let listener = sink.netns.run(|| UdpSocket::bind((address, PORT)).unwrap()).unwrap();
    let decapsulated = start_tcpdump(&scene, "sink", &device, "both.pcap");
    let mirror = start_mirror(&scene, "client", &["-i", "sink", &to(address, 71)]);
    std::thread::scope(|scope| {
        scope.spawn(|| scene.send(&Generator::new(10_000, 5_000).payload_bytes(100)));
        let to = listener.local_addr().unwrap();
        Generator::new(6_000, 3_000).payload_bytes(200).run_in(&tapped.netns, to);
    });
    let decapsulated = decapsulated.stop();
    let ledger = mirror.stop();
    let of_length = |payload_bytes: usize| {
        decapsulated.iter().filter(|f| f.bytes.len() == HEADERS_BYTES + payload_bytes).count()
    };
    assert_eq!((of_length(100), of_length(200), decapsulated.len()), (5_000, 3_000, 8_000));
    let matched: Vec<u64> = ledger.taps.iter().map(|tap| tap.matched).collect();
    assert_eq!((matched, ledger.sent), (vec![5_000, 3_000], 8_000), "{ledger}");
    assert_eq!(ledger.taps[1].drops.get(DropReason::OwnTunnel), 8_000, "{ledger}");
    assert_eq!(ledger.drops.total(), 8_000, "{ledger}");
}

fn can_run() -> bool {
    root_or_skip() && tool_or_skip("tcpdump") && tool_or_skip("ethtool") && {
        link_or_skip("type vxlan id 1 dstport 4789 local 127.0.0.1")
    }
}

fn host_of(address: IpAddr) -> String {
    if address.is_ipv4() { address.to_string() } else { format!("[{address}]") }
}

fn to(address: IpAddr, vni: u32) -> String {
    format!("--to=vxlan://{}?vni={vni}", host_of(address))
}

/// A scene whose client sends without offloads: what tcpdump shows there is what the wire carries.
fn scene(name: &str, mtu: usize) -> Scene {
    let line = Scene::line().offloads_off("client", "tapped").mtu(mtu as u32);
    Scene::over(&format!("vxlan-{name}"), &line)
}

fn sink_addresses(scene: &Scene) -> [IpAddr; 2] {
    let sink = scene.host("sink");
    [sink.v4("tapped").into(), sink.v6("tapped").into()]
}

/// A kernel vxlan device at the sink; gives its name.
fn kernel_receiver(scene: &Scene, local: IpAddr, vni: u32) -> String {
    let device = if local.is_ipv4() { "vx4" } else { "vx6" };
    let sink = scene.host("sink");
    sink.ip(&format!("link add {device} type vxlan id {vni} dstport 4789 local {local}"));
    sink.ip(&format!("link set {device} up"));
    device.into()
}

/// A kernel vxlan device at the tapped host, replacing that of the same id. What is sent to
/// 10.99.VNI.2 goes into the tunnel.
fn kernel_sender(scene: &Scene, local: IpAddr, remote: IpAddr, vni: u32, extra: &str) {
    let (tapped, device) = (scene.host("tapped"), format!("vx{vni}"));
    // There may be none yet.
    let _ = tapped.netns.ip(&format!("link del {device}"));
    let ends = format!("local {local} remote {remote} dstport 4789 {extra}");
    tapped.ip(&format!("link add {device} type vxlan id {vni} {ends}"));
    tapped.ip(&format!("link set {device} up"));
    tapped.ip(&format!("addr add 10.99.{vni}.1/24 dev {device}"));
    tapped.ip(&format!(
        "neigh add 10.99.{vni}.2 lladdr 02:99:00:00:00:02 dev {device} nud permanent"
    ));
}

fn start_tcpdump(scene: &Scene, host: &str, interface: &str, file: &str) -> Tcpdump {
    Tcpdump::start(scene.host(host), interface, &scene.path(file), NUMBERED)
}

/// Mirrors an interface of the tapped host.
fn start_mirror(scene: &Scene, interface: &str, words: &[&str]) -> Tapline {
    scene.start("tapped", &[&["mirror", "-i", interface], words].concat())
}

/// The segments of one source in an archive hold each number once.
fn check_numbers(archive: &Path, source: &str, count: u64) {
    let files = capture_files(archive);
    let of_source: Vec<_> = files.iter().filter(|f| text(f).contains(source)).collect();
    assert!(!of_source.is_empty(), "{source} is not in {files:?}");
    let numbers: Vec<u64> = of_source.iter().flat_map(numbers_in).collect();
    assert_eq!((missing(&numbers, count), duplicates(&numbers)), (vec![], vec![]), "{source}");
}

/// A frame of 90 bytes and its tags, each of which is told from every other.
fn tagged_frame(number: u8, tags: &[(u16, u16)]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (tpid, tci) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    // EtherType 0x88b5 is for experiments (IEEE 802): no protocol touches it.
    frame.extend([0x88, 0xb5]);
    frame.extend((0..76).map(|at| number.wrapping_mul(16) ^ at));
    frame
}
