//! `diag traffic` lists the servers that connections are opened to, on any interface, and each
//! connection once.

mod over_links;

use over_links::{BINARY, SOON, Scene, text};
use rig::{Generator, Running, root_or_skip, wait_until};
use rustix::process::Signal;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Begins to listen on a host, and waits until it does.
fn start(scene: &Scene, host: &str, words: &[&str]) -> Running {
    let mut command = scene.host(host).netns.command(BINARY);
    let running = Running::start(command.args(["diag", "traffic"]).args(words));
    running.wait_for("listening on", SOON);
    running
}

/// Waits for its end; gives the lines that it printed.
fn lines(running: Running) -> Vec<String> {
    let finished = running.finish(SOON);
    assert!(finished.status.success(), "{}", finished.stderr);
    assert!(finished.stderr.contains(", 0 unaccounted"), "{}", finished.stderr);
    let text = String::from_utf8(finished.stdout).expect("it prints text");
    text.lines().map(String::from).collect()
}

/// Opens connections from the client to the tapped host, one after the other.
fn connect(scene: &Scene, to: SocketAddr, count: usize) {
    let bind = || TcpListener::bind(to).expect("nobody else is in the namespace");
    let server = scene.host("tapped").netns.run(bind).expect("it can be entered");
    for _ in 0..count {
        let connect = || TcpStream::connect_timeout(&to, SOON).expect("the server listens");
        let client = scene.host("client").netns.run(connect).expect("it can be entered");
        let (accepted, _) = server.accept().expect("it has been connected");
        // The client closes first, so that the server's address is free again.
        drop((client, accepted));
    }
}

#[test]
fn servers_are_listed_with_their_connections_on_one_interface_and_on_all() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("diag-traffic");
    let host = scene.host("tapped");
    let (v4, v6) = (IpAddr::from(host.v4("client")), IpAddr::from(host.v6("client")));
    // Of each connection a SYN and a SYN-ACK are seen, and no other segment counts.
    let packets = 2 * (5 + 3 + 1);
    let count = packets.to_string();
    let (one, all) = (["-i", "client", "--packets", &count], ["--packets", &count]);
    let (one, all) = (start(&scene, "tapped", &one), start(&scene, "tapped", &all));
    let json = start(&scene, "client", &["-i", "tapped", "--packets", &count, "--format", "json"]);
    connect(&scene, (v4, 80).into(), 5);
    connect(&scene, (v6, 443).into(), 3);
    connect(&scene, (v4, 22).into(), 1);

    let listed = [
        "[info] Server-IP Port Connections".to_owned(),
        format!("[info] {v4} 80 5"),
        format!("[info] {v6} 443 3"),
        format!("[info] {v4} 22 1"),
    ];
    for (running, interface) in [(one, "client"), (all, "any")] {
        let lines = lines(running);
        let head = format!(
            "[info] Detecting server IPs and ports on interface '{interface}', capture time: 30s, \
             max packets: {packets}"
        );
        assert_eq!((&lines[0], &lines[1..]), (&head, &listed[..]));
    }
    let first = format!(r#"{{"ip":"{v4}","port":80,"connections":5}}"#);
    let json = lines(json);
    assert_eq!((json.len(), &json[0]), (3, &first));
}

#[test]
fn the_time_and_a_signal_end_it_with_what_there_is() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("diag-traffic-end");
    let timed = start(&scene, "tapped", &["-i", "client", "--time", "100ms"]);
    let timed = lines(timed);
    assert_eq!(timed[1..], ["[info] Server-IP Port Connections"]);

    let ledger = scene.path("ledger.json");
    let words = ["-i", "client", "--time", "1h", "--stats-json", text(&ledger)];
    let running = start(&scene, "tapped", &words);
    let to = SocketAddr::from((scene.host("tapped").v4("client"), 80));
    connect(&scene, to, 2);
    wait_until("the segments have come", SOON, || running.ledger(&ledger, SOON).matched >= 4);
    running.signal(Signal::INT);
    let finished = running.finish(SOON);
    assert!(finished.stderr.contains(", filter in the kernel"), "{}", finished.stderr);
    let printed = String::from_utf8(finished.stdout).expect("it prints text");
    assert!(printed.ends_with(&format!("Connections\n[info] {} 80 2\n", to.ip())), "{printed}");
}

#[test]
fn connections_inside_of_tunnels_are_seen_on_the_aggregate_and_tagged_ones_anywhere() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("diag-traffic-aggregate");
    let to = ["receive", "--listen", "vxlan://0.0.0.0", "--to", "tap:mtun"];
    let receive = scene.start("sink", &to);
    let aggregate = start(&scene, "sink", &["-i", "mtun", "--packets", "6"]);
    let to = "vxlan://10.71.1.2?vni=7";
    let mirror = scene.start("tapped", &["mirror", "-i", "client", "--to", to, "tcp"]);
    let v4 = scene.host("tapped").v4("client");
    connect(&scene, (v4, 8080).into(), 3);
    let lines_of = lines(aggregate);
    assert_eq!(lines_of[2..], [format!("[info] {v4} 8080 3")]);
    drop((receive, mirror));

    // Tagged frames, which a tap has as the wire had them.
    let tagged = scene.path("tagged.pcap");
    std::fs::write(&tagged, tagged_syns()).expect("the folder is there");
    let one = start(&scene, "tapped", &["-i", "client", "--packets", "3"]);
    let words = ["mirror", "-r", text(&tagged), "--to", "nic:tapped"];
    let mut command = scene.host("client").netns.command(BINARY);
    let replay = Running::start(command.args(words));
    assert!(replay.finish(SOON).status.success());
    assert_eq!(lines(one)[2..], ["[info] 10.9.9.9 80 2", "[info] fd09::9 443 1"]);
}

/// A capture file with SYNs behind no tag, one and two: to two servers of IPv4 and one of IPv6.
fn tagged_syns() -> Vec<u8> {
    let syn = |port: u16, to: u16| {
        let (from, to) = (port.to_be_bytes(), to.to_be_bytes());
        [&from[..], &to, &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 2, 0, 0, 0, 0, 0]].concat()
    };
    let v4 = |port| {
        let head = [0x45, 0, 0, 40, 0, 7, 0x40, 0, 64, 6, 0, 0, 10, 9, 9, 1, 10, 9, 9, 9];
        [&[8, 0][..], &head, &syn(port, 80)].concat()
    };
    let v6 = |port| {
        let address = |last| [&[0xfd, 9][..], &[0; 13], &[last]].concat();
        let head = [0x60, 0, 0, 0, 0, 20, 6, 64];
        let addresses = [address(1), address(9)].concat();
        [&[0x86, 0xdd][..], &head, &addresses, &syn(port, 443)].concat()
    };
    let macs = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    let tag = |tpid: u16, vid: u16| [tpid.to_be_bytes(), vid.to_be_bytes()].concat();
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([0, 0, 4, 0, 1, 0, 0, 0]);
    for frame in [
        [&macs[..], &tag(0x8100, 5), &v4(1025)].concat(),
        [&macs[..], &tag(0x88a8, 5), &tag(0x8100, 6), &v4(1026)].concat(),
        [&macs[..], &tag(0x8100, 0), &v6(1027)].concat(),
    ] {
        let len = (frame.len() as u32).to_le_bytes();
        file.extend([&[0; 8][..], &len, &len, &frame].concat());
    }
    file
}

#[test]
fn packets_that_open_nothing_stay_in_the_kernel() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("diag-traffic-other");
    let ledger = scene.path("ledger.json");
    let words = ["-i", "client", "--stats-json", text(&ledger)];
    let running = start(&scene, "tapped", &words);
    let sent = scene.send(&Generator::new(20_000, 2_000));
    let seen = || running.ledger(&ledger, SOON).filtered >= Some(sent);
    wait_until("all are filtered", Duration::from_secs(10), seen);
    running.signal(Signal::INT);
    let lines = lines(running);
    assert_eq!(lines[1..], ["[info] Server-IP Port Connections"]);
}
