//! `tapline l2tp`: tunnels over IP 115 into one TAP device, each counted, known by its id alone.
//!
//! ```text
//! client ──────── tapped ──────────────── sink
//!   numbered      transmitter, mirror     l2tp receive ─► mtun ─► tcpdump
//! ```

mod over_links;

use api::{DropReason, L2tpId, Stats, TunnelStats, TunnelStatus};
use capfile::{Direction, Interface, PcapngWriter, SectionInfo};
use over_links::*;
use rig::{
    Frame, Generator, Running, Tcpdump, Topology, duplicates, missing, numbers_in, root_or_skip,
    rows, tool_or_skip, wait_until,
};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;

/// The sink, and the tapped host on the same link.
const SINK: &str = "10.71.1.2";
const TAPPED: &str = "10.71.1.1";

/// Starts `tapline l2tp` with a file of tunnels.
fn l2tp(scene: &Scene, host: &str, file: (&str, &str), words: &[&str]) -> Tapline {
    let (name, content) = file;
    let path = scene.path(name);
    std::fs::write(&path, content).expect("the folder is there");
    let mut command = command(scene, host);
    command.arg("l2tp");
    let with_file = [&words[..1], &["-c", text(&path)], &words[1..]].concat();
    Tapline::start_as(command, path.with_extension("json"), &with_file)
}

/// A tapline on a host, which shares its local sockets with those of the same host alone.
fn command(scene: &Scene, host: &str) -> Command {
    let mut command = scene.host(host).netns.command(BINARY);
    command.env("TAPLINE_RUN_DIR", scene.path(&format!("run-{host}")));
    command
}

/// Runs a tapline to its end; gives what it printed and said.
fn run(scene: &Scene, host: &str, words: &[&str], code: i32) -> (String, String) {
    let output = command(scene, host).args(words).output().expect("it was just built");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
    (printed, said)
}

fn config(scene: &Scene, host: &str, way: &str, file: &Path, what: &str) -> String {
    run(scene, host, &["l2tp", "config", way, "-c", text(file), what], 0).1
}

fn tunnel<'a>(ledger: &'a Stats, interface: &str) -> &'a TunnelStats {
    let found = ledger.tunnels.iter().find(|tunnel| tunnel.interface == interface);
    found.unwrap_or_else(|| panic!("no {interface} in {:?}", ledger.tunnels))
}

#[test]
fn a_receiver_counts_each_tunnel_and_shows_their_traffic_alone() {
    if !root_or_skip() || !tool_or_skip("tcpdump") || !tool_or_skip("tshark") {
        return;
    }
    let scene = Scene::new("l2tp-receive");
    let lines = format!("{SINK} {TAPPED} - -\n{SINK} 192.168.9.9 – 77\n");
    let receive = l2tp(&scene, "sink", ("receive.conf", &lines), &["receive"]);
    let on_device = Tcpdump::start(scene.host("sink"), "mtun", &scene.path("mtun.pcap"), "");
    let on_wire =
        Tcpdump::start(scene.host("sink"), "tapped", &scene.path("wire.pcap"), "ip proto 115");
    let mirrors = [TAPPED, "77", "78"].map(|id| {
        let to = format!("l2tp://{SINK}?id={id}&keepalive=250ms&source={TAPPED}");
        scene.start("tapped", &["mirror", "-i", "client", "--to", &to, NUMBERED])
    });
    let sent = scene.send(&Generator::new(5_000, 2_000));
    for mirror in mirrors {
        mirror.wait_for_matched(sent);
        assert_eq!(mirror.stop().sent, sent, "signs of life are no packets");
    }
    wait_until("all has come", SOON, || {
        let ledger = receive.ledger();
        ledger.tunnels.iter().all(|tunnel| tunnel.packets == sent)
            && ledger.drops.get(DropReason::ForeignId) > sent
    });
    let outer = on_wire.stop();
    let frames = on_device.stop();
    let ledger = receive.stop();

    assert_eq!(frames.len() as u64, 2 * sent, "and no sign of life");
    let numbers = numbers_in(scene.path("mtun.pcap"));
    assert_eq!(missing(&numbers, sent), [0; 0]);
    assert_eq!(duplicates(&numbers).len() as u64, sent, "each came by two tunnels");
    let (one, other) = (tunnel(&ledger, "mtun-00000"), tunnel(&ledger, "mtun-00001"));
    assert_eq!((one.errors, one.status, one.nat), (0, TunnelStatus::Ok, Some(false)));
    assert_eq!((other.errors, other.status, other.nat), (0, TunnelStatus::Ok, None));
    assert_eq!(one.bytes, frames.iter().map(|frame| u64::from(frame.origlen)).sum::<u64>() / 2);
    assert_eq!((one.source, other.source), (TAPPED.parse().ok(), TAPPED.parse().ok()));
    // All that was on the wire is a packet, a sign of life or a stranger's.
    let keep_alives = one.keep_alives.unwrap() + other.keep_alives.unwrap();
    let foreign = ledger.drops.get(DropReason::ForeignId);
    assert_eq!(outer.len() as u64, 2 * sent + keep_alives + foreign, "{ledger}");
    assert!(one.keep_alives >= Some(1) && other.keep_alives >= Some(1), "{keep_alives}");
    assert!(foreign > sent, "the third tunnel's signs of life are a stranger's too");
    check_keep_alives(&scene, &outer, keep_alives + foreign - sent);
}

/// Signs of life, as tshark reads them once they are out of their tunnel: pings from one end to the
/// other, nothing wrong with them.
fn check_keep_alives(scene: &Scene, outer: &[Frame], count: u64) {
    const HEADERS: usize = 14 + 20 + 8;
    let path = scene.path("inner.pcapng");
    let file = File::create(&path).expect("the folder is there");
    let mut writer = PcapngWriter::new(file, &SectionInfo::default()).expect("it can be written");
    let interface = Interface::new(wire::LinkType::ETHERNET.0);
    let interface = writer.add_interface(&interface).expect("it can be written");
    for frame in outer {
        let inner = &frame.bytes[HEADERS..];
        let origlen = inner.len() as u32;
        writer.write(interface, 1, origlen, Direction::Unknown, inner, None).expect("likewise");
    }
    drop(writer);
    let options = ["-o", "ip.check_checksum:TRUE", "-Y", "icmp"];
    let fields = ["ip.src", "ip.dst", "icmp.type", "icmp.checksum.status", "ip.checksum.status"];
    let rows = rows(&path, &options, &fields);
    assert_eq!(rows.len() as u64, count);
    for row in rows {
        assert_eq!(row, [TAPPED, SINK, "8", "1", "1"]);
    }
}

#[test]
fn a_tunnel_without_a_sign_of_life_is_silent_until_there_is_one() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("l2tp-silent");
    let lines = format!("{SINK} {TAPPED} - -");
    let receive =
        l2tp(&scene, "sink", ("receive.conf", &lines), &["receive", "--silent-after", "1500ms"]);
    let status = || tunnel(&receive.ledger(), "mtun-00000").status;
    let to = format!("l2tp://{SINK}?id={TAPPED}&keepalive=100ms");
    for _ in 0..2 {
        wait_until("the tunnel is silent", SOON, || status() == TunnelStatus::Silent);
        let mirror = scene.start("tapped", &["mirror", "-i", "client", "--to", &to, NUMBERED]);
        wait_until("it lives", SOON, || status() == TunnelStatus::Ok);
        mirror.kill();
    }
    wait_until("it is silent again", SOON, || status() == TunnelStatus::Silent);
    let (printed, _) = run(&scene, "sink", &["diag", "tunnels"], 0);
    let columns = "[info] Interface Local IP Remote IP Rx: packets Rx: errors Tunnel status";
    assert_eq!(printed, format!("{columns}\n[info] mtun-00000 {SINK} {TAPPED} 0 0 SILENT\n"));
    let (printed, _) = run(&scene, "sink", &["diag", "tunnels", "--format", "json"], 0);
    let told: TunnelStats = serde_json::from_str(&printed).expect("a line is an object");
    assert_eq!((told.status, told.id), (TunnelStatus::Silent, 0x0a47_0101));
    let (_, said) = run(&scene, "tapped", &["diag", "tunnels"], 1);
    assert!(said.contains("no tapline l2tp runs on this host"), "{said}");
    let ledger = receive.stop();
    let tunnel = tunnel(&ledger, "mtun-00000");
    assert_eq!((tunnel.packets, ledger.received), (0, 0), "signs of life are no packets");
    assert!(tunnel.quiet_ms >= Some(1500), "{tunnel:?}");
}

#[test]
fn address_translation_on_the_way_does_no_harm() {
    if !root_or_skip() || !tool_or_skip("tcpdump") || !tool_or_skip("nft") {
        return;
    }
    // tapped ──── nat ──── sink: what leaves to the sink has nat's address there.
    let line = Topology::line(["client", "tapped", "nat", "sink"]);
    let scene = Scene::over("l2tp-nat", &line);
    let (nat, sink) = (scene.host("nat"), scene.host("sink").v4("nat"));
    let (outside, inside) = (nat.v4("sink"), scene.host("tapped").v4("nat"));
    nat.netns
        .run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
        .expect("it can be entered")
        .expect("root may");
    scene.host("tapped").ip(&format!("route add {sink} via {}", nat.v4("tapped")));
    for words in [
        "add table ip nat",
        "add chain ip nat post { type nat hook postrouting priority 100 ; }",
        "add rule ip nat post oifname sink masquerade",
    ] {
        let done = nat.netns.command("nft").args(words.split(' ')).status();
        if !done.expect("it is installed").success() {
            rig::skip("this kernel translates no addresses");
            return;
        }
    }
    let lines = format!("{sink} {inside} - {inside}");
    let receive = l2tp(&scene, "sink", ("receive.conf", &lines), &["receive"]);
    let on_device = Tcpdump::start(scene.host("sink"), "mtun", &scene.path("mtun.pcap"), "");
    let mut monitor = command(&scene, "sink");
    monitor.args(["diag", "monitor", "--time", "1h", "-i", "nat", "--stats-json"]);
    let monitor = Running::start(monitor.arg(scene.path("monitor.json")));
    monitor.wait_for("listening on nat", SOON);
    let lines = format!("{sink} {inside} client i9");
    let words = ["transmit", "--keep-alive", "100ms"];
    let transmit = l2tp(&scene, "tapped", ("transmit.conf", &lines), &words);
    let sent = scene.send(&Generator::new(5_000, 1_000));
    transmit.wait_for_matched(sent);
    assert_eq!(transmit.stop().sent, sent);
    wait_until("all has come", SOON, || receive.ledger().tunnels[0].packets >= sent);
    assert_eq!(on_device.stop().len() as u64, sent);
    assert_eq!(missing(&numbers_in(scene.path("mtun.pcap")), sent), [0; 0]);
    let listed = String::from_utf8(monitor.stop(SOON).stdout).expect("text");
    let id = L2tpId::new(inside.to_bits()).expect("not 0");
    let line = format!("[info] L2TP {sink} {outside} {id} yes\n");
    assert!(listed.contains(&line), "{line}{listed}");
    let ledger = receive.stop();
    let tunnel = tunnel(&ledger, "mtun-00000");
    assert_eq!((tunnel.source, tunnel.nat), (Some(outside.into()), Some(true)));
    assert_eq!((tunnel.status, tunnel.errors), (TunnelStatus::Ok, 0));
}

#[test]
fn tunnels_that_come_and_go_disturb_no_other() {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::alone("l2tp-reload");
    let lines = format!("# those that stay\n{SINK} {TAPPED} - -\n");
    let receive = l2tp(&scene, "sink", ("receive.conf", &lines), &["receive"]);
    let on_device = Tcpdump::start(scene.host("sink"), "mtun", &scene.path("mtun.pcap"), "");
    let to = format!("l2tp://{SINK}?id={TAPPED}");
    let mirror = scene.start("tapped", &["mirror", "-i", "client", "--to", &to, NUMBERED]);
    let file = scene.path("receive.conf");
    let id = receive.id();
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| scene.send(&Generator::new(10_000, 40_000)));
        for number in 1..=50 {
            let line = format!("{SINK} 10.9.9.9 – {number}");
            let said = config(&scene, "sink", "add", &file, &line);
            let tunnel = format!("tapline: l2tp-receive {id}: tunnel 0.0.0.{number}({number}): ");
            let added = format!("{tunnel}added as mtun-00001, from 10.9.9.9 to {SINK}\n");
            assert_eq!(said, added);
            let said = config(&scene, "sink", "remove", &file, &number.to_string());
            assert_eq!(said, format!("{tunnel}removed, mtun-00001: 0 packets\n"));
        }
        sender.join().expect("the generator does not fail")
    });
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), lines);
    // A file with a mistake changes nothing, whoever made it.
    let words = ["l2tp", "config", "add", "-c", text(&file), "10.71.1.2 10.9.9.9 - 0"];
    let (_, said) = run(&scene, "sink", &words, 2);
    assert!(said.contains("receive.conf:3:22: id `0`: 0 is the id of control"), "{said}");
    std::fs::write(&file, format!("{lines}{SINK} 10.9.9.9 - 0\n")).expect("the folder is there");
    receive.signal(rustix::process::Signal::HUP);
    receive.wait_for("not reloaded, all goes on as before");
    mirror.wait_for_matched(sent);
    mirror.stop();
    wait_until("all has come", SOON, || receive.ledger().tunnels[0].packets >= sent);
    assert_eq!(on_device.stop().len() as u64, sent);
    let numbers = numbers_in(scene.path("mtun.pcap"));
    assert_eq!((missing(&numbers, sent), duplicates(&numbers)), (vec![], vec![]));
    let ledger = receive.stop();
    assert_eq!(ledger.tunnels.len(), 1);
    assert_eq!(tunnel(&ledger, "mtun-00000").packets, sent);
    assert_eq!(ledger.drops.total(), 0, "{ledger}");
}

/// One TCP connection, in which the client says something and the server answers.
fn talk(scene: &Scene, port: u16) {
    let (client, tapped) = (scene.host("client"), scene.host("tapped"));
    let to = (tapped.v4("client"), port);
    let listener = tapped.netns.run(|| TcpListener::bind(to)).expect("entered").expect("free");
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("one comes");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("it ends");
        stream.write_all(&said).expect("it is open");
    });
    let mut stream = client.netns.run(|| TcpStream::connect(to)).expect("entered").expect("heard");
    stream.write_all(b"hello").expect("it is open");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut answered = String::new();
    stream.read_to_string(&mut answered).expect("it ends");
    assert_eq!(answered, "hello");
    answer.join().expect("it does not fail");
}

/// Sends datagrams from a port of one host to a port of its neighbour, which has somebody there.
fn datagrams(scene: &Scene, from: (&str, u16), to: (&str, u16), count: usize) {
    let (sender, receiver) = (scene.host(from.0), scene.host(to.0));
    let pairs: [(IpAddr, IpAddr); 2] = [
        (sender.v4(to.0).into(), receiver.v4(from.0).into()),
        (sender.v6(to.0).into(), receiver.v6(from.0).into()),
    ];
    for (source, destination) in pairs {
        // Somebody may be there already.
        let _there = receiver.netns.run(|| UdpSocket::bind((destination, to.1)));
        let bound = sender.netns.run(|| UdpSocket::bind((source, from.1)));
        let socket = bound.expect("entered").expect("free");
        for _ in 0..count {
            socket.send_to(b"a datagram", (destination, to.1)).expect("there is a way");
        }
    }
}

#[test]
fn a_transmitter_mirrors_each_line_s_ports_by_their_direction_and_nothing_else() {
    if !root_or_skip() || !tool_or_skip("tcpdump") || !tool_or_skip("tshark") {
        return;
    }
    let scene = Scene::new("l2tp-transmit");
    let lines = format!("{SINK} {TAPPED} - -\n{SINK} {TAPPED} - 2\n{SINK} {TAPPED} - 3");
    let receive = l2tp(&scene, "sink", ("receive.conf", &lines), &["receive"]);
    let path = scene.path("mtun.pcap");
    let on_device = Tcpdump::start(scene.host("sink"), "mtun", &path, "");
    let judge = scene.path("judge.pcap");
    let on_wire = Tcpdump::start(scene.host("client"), "tapped", &judge, "tcp dst port 80");
    // The tunnels themselves leave by the interface of the second line.
    let lines = format!(
        "{SINK} {TAPPED} client i80,o443,i9\n{SINK} {TAPPED} sink all 2\n\
         {SINK} {TAPPED} client o4000 3"
    );
    let words = ["transmit", "--keep-alive", "200ms"];
    let transmit = l2tp(&scene, "tapped", ("transmit.conf", &lines), &words);

    let numbered = scene.send(&Generator::new(5_000, 500));
    talk(&scene, 80);
    talk(&scene, 81);
    datagrams(&scene, ("tapped", 443), ("client", 5000), 30);
    for (from, to) in [
        (("client", 5001), ("tapped", 443)),
        (("tapped", 5002), ("client", 9)),
        (("tapped", 80), ("client", 5003)),
        (("client", 443), ("tapped", 5004)),
        (("tapped", 5005), ("client", 80)),
    ] {
        datagrams(&scene, from, to, 40);
    }
    datagrams(&scene, ("tapped", 4000), ("client", 5006), 20);

    let to_web = on_wire.stop().len() as u64;
    assert!(to_web >= 4, "{to_web}");
    let wanted = numbered + to_web + 60;
    wait_until("all has come", SOON, || {
        let ledger = receive.ledger();
        ledger.tunnels[0].packets >= wanted && ledger.tunnels[2].packets >= 40
    });
    let (printed, _) = run(&scene, "tapped", &["diag", "tunnels"], 0);
    let expected = format!(
        "[info] Interface Local IP Remote IP Tx: packets Tx: errors Tunnel status\n\
         [info] tun-{SINK}-{TAPPED} {TAPPED} {SINK} {wanted} 0 OK\n\
         [info] tun-{SINK}-0.0.0.2 {TAPPED} {SINK} 0 0 OK\n\
         [info] tun-{SINK}-0.0.0.3 {TAPPED} {SINK} 40 0 OK\n"
    );
    assert_eq!(printed, expected);
    let sent = transmit.stop();
    assert_eq!(on_device.stop().len() as u64, wanted + 40);
    let received = receive.stop();
    let counts = |ledger: &Stats| -> Vec<(u64, u64)> {
        ledger.tunnels.iter().map(|tunnel| (tunnel.packets, tunnel.errors)).collect()
    };
    assert_eq!(counts(&sent), [(wanted, 0), (0, 0), (40, 0)]);
    assert_eq!(counts(&received), counts(&sent));
    assert!(received.tunnels.iter().all(|tunnel| tunnel.keep_alives > Some(0)));
    assert!(sent.drops.get(DropReason::OwnTunnel) >= wanted, "{sent}");

    let fields = ["ip.version", "udp.srcport", "udp.dstport", "tcp.dstport"];
    let mut kinds = std::collections::BTreeMap::new();
    for row in rows(&path, &["-Y", "not icmp and not icmpv6"], &fields) {
        let [version, source, destination, tcp] = &row[..] else { panic!("{row:?}") };
        let kind = match (&**source, &**destination, &**tcp) {
            (_, "9", "") => "i9",
            ("443", _, "") => "o443",
            ("4000", _, "") => "o4000",
            ("", "", "80") => "i80",
            _ => panic!("it was not asked for: {row:?}"),
        };
        *kinds.entry(format!("{kind} {version}")).or_insert(0) += 1;
    }
    let expected = [
        ("i80 4", to_web),
        ("i9 4", numbered),
        ("o4000 4", 20),
        ("o4000 6", 20),
        ("o443 4", 30),
        ("o443 6", 30),
    ];
    let expected = expected.map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_line_that_comes_or_goes_at_the_transmitter_disturbs_no_other() {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::alone("l2tp-transmit-reload");
    let lines = format!("{SINK} {TAPPED} - -\n{SINK} {TAPPED} - 7\n");
    let receive = l2tp(&scene, "sink", ("receive.conf", &lines), &["receive"]);
    let on_device = Tcpdump::start(scene.host("sink"), "mtun", &scene.path("mtun.pcap"), "");
    let lines = format!("# stays\n{SINK} {TAPPED} client i9\n");
    let transmit = l2tp(&scene, "tapped", ("transmit.conf", &lines), &["transmit"]);
    let file = scene.path("transmit.conf");
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| scene.send(&Generator::new(5_000, 20_000)));
        for interface in ["client", "sink"].into_iter().cycle().take(20) {
            let line = format!("{SINK} {TAPPED} {interface} i4711 7");
            let said = config(&scene, "tapped", "add", &file, &line);
            assert!(said.contains(&format!("target tun-{SINK}-0.0.0.7: added")), "{said}");
            let said = config(&scene, "tapped", "remove", &file, "7");
            assert!(said.contains(&format!("map tun-{SINK}-0.0.0.7: removed")), "{said}");
        }
        sender.join().expect("the generator does not fail")
    });
    // What the transmitter refuses is not left in the file.
    let line = format!("{SINK} {TAPPED} nowhere all 8");
    let words = ["l2tp", "config", "add", "-c", text(&file), &line];
    let (_, said) = run(&scene, "tapped", &words, 1);
    assert!(said.contains("is as it was: l2tp-transmit") && said.contains("nowhere"), "{said}");
    let words = ["l2tp", "config", "remove", "-c", text(&file), TAPPED];
    let (_, said) = run(&scene, "tapped", &words, 1);
    assert!(said.contains("no tunnel is left"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), lines);
    transmit.wait_for_matched(sent);
    let ledger = transmit.stop();
    wait_until("all has come", SOON, || receive.ledger().tunnels[0].packets >= sent);
    assert_eq!(on_device.stop().len() as u64, sent);
    let numbers = numbers_in(scene.path("mtun.pcap"));
    assert_eq!((missing(&numbers, sent), duplicates(&numbers)), (vec![], vec![]));
    assert_eq!((ledger.tunnels.len(), ledger.tunnels[0].packets), (1, sent));
    assert_eq!(receive.stop().tunnels[1].packets, 0);
}
