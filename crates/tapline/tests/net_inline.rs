//! A bump in the wire, in user space: what a client sends to our address reaches the next host, the
//! replies come back, a router's answers too, and the views are what they say.
//!
//! ```text
//! client ────────── tapped ────────── sink
//!   10.71.0.1   10.71.0.100 │ 10.71.1.100   10.71.1.2
//!   fd71::1      fd71::100  │ fd71:0:0:1::100   fd71:0:0:1::2
//! ```
//! Nobody has the addresses that end in 100 but the forwarder.

mod over_links;

use over_links::bump::{self, PATIENCE, assert_clean, ping};
use over_links::*;
use rig::{Running, Tcpdump, root_or_skip, rows, stats, tool_or_skip, wait_until};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// Our address, the source that the next host sees, and the next host.
fn ends(scene: &Scene, is_v6: bool) -> [IpAddr; 3] {
    let sink = scene.host("sink");
    match is_v6 {
        false => ["10.71.0.100", "10.71.1.100", &sink.v4("tapped").to_string()]
            .map(|text| text.parse().expect("the scene is up")),
        true => ["fd71::100", "fd71:0:0:1::100", &sink.v6("tapped").to_string()]
            .map(|text| text.parse().expect("the scene is up")),
    }
}

fn forward(scene: &Scene, is_v6: bool) -> String {
    let [ours, source, next] = ends(scene, is_v6);
    format!("{ours}={next},source={source}")
}

/// Starts a table from `client` to `sink`, and waits until it forwards.
fn start(scene: &Scene, words: &[&str]) -> Running {
    let mut command = scene.host("tapped").netns.command(BINARY);
    command.arg("inline").args(["--in", "client", "--out", "sink"]).args(words);
    command.args(["--datapath", "ring", "--stats-json"]).arg(scene.path("ledger.json"));
    command.env("TAPLINE_RUN_DIR", scene.path("run"));
    let running = Running::start(&mut command);
    running.wait_for("table inline:", SOON);
    running
}

/// Sends bytes to a port of our address, which the sink sends back.
fn echo(scene: &Scene, ours: SocketAddr, next: SocketAddr, bytes: usize) -> SocketAddr {
    bump::echo(scene.host("client"), ours, scene.host("sink"), next, bytes)
}

#[test]
fn tcp_udp_and_pings_pass_both_ways_and_three_views_tell_of_them() {
    if !root_or_skip() || !tool_or_skip("tshark") || !tool_or_skip("ping") {
        return;
    }
    let scene = Scene::new("inline-views");
    for is_v6 in [false, true] {
        let file = scene.path(&format!("views-{is_v6}.pcapng"));
        let rule = forward(&scene, is_v6);
        let views = "--view=ingress,egress,inline";
        let running = start(&scene, &["--forward", &rule, views, "-w", text(&file)]);
        let [ours, source, next] = ends(&scene, is_v6);
        let client: IpAddr = match is_v6 {
            false => scene.host("client").v4("tapped").into(),
            true => scene.host("client").v6("tapped").into(),
        };

        let seen = echo(
            &scene,
            (ours, 80).into(),
            (next, 80).into(),
            if is_v6 { 2_000_000 } else { 5_000_000 },
        );
        assert_eq!(seen.ip(), source);
        let udp = |address: IpAddr, port| move || UdpSocket::bind((address, port)).unwrap();
        let near = scene.host("client").netns.run(udp(client, 4000)).unwrap();
        let far = scene.host("sink").netns.run(udp(next, 7777)).unwrap();
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        near.send_to(b"question", (ours, 7777)).unwrap();
        let mut buffer = [0; 100];
        let (len, from) = far.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from), (&b"question"[..], (source, 4000).into()));
        far.send_to(b"answer", from).unwrap();
        let (len, from) = near.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from), (&b"answer"[..], (ours, 7777).into()));
        // Nobody listens there: the next host's ICMP error comes back as ours.
        near.connect((ours, 7778)).unwrap();
        near.send(b"nobody").unwrap();
        let error = near.recv(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        let said = ping(&scene, &["-c", "3", "-i", "0.2", "-W", "5", &ours.to_string()]);
        assert!(said.contains("3 received"), "{said}");

        let ledger = bump::stop(&scene, running);
        let line = ledger.taps.iter().find(|tap| tap.name == ours.to_string()).unwrap();
        assert_eq!(line.drops.total(), 0, "{ledger}");
        let views = ledger.taps.iter().find(|tap| tap.name.starts_with("views of")).unwrap();
        assert_eq!(views.matched, 3 * line.matched, "{ledger}");
        assert_clean(&file);
        let fields = ["frame.interface_name", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst"];
        let all = rows(&file, &["-Y", "!icmp.type == 3 && !icmpv6.type == 1"], &fields);
        let of = |view: &str, from: IpAddr, to: IpAddr| {
            let (view, from, to) = (format!("{ours} {view}"), from.to_string(), to.to_string());
            let is_one = |row: &&Vec<String>| {
                row[0] == view
                    && (row[1] == from || row[3] == from)
                    && (row[2] == to || row[4] == to)
            };
            all.iter().filter(is_one).count()
        };
        let there = of("ingress", client, ours);
        assert!(there > 1000, "{there}");
        assert_eq!(of("egress", source, next), there);
        assert_eq!(of("inline", client, next), there);
        let back = of("ingress", next, source);
        assert_eq!((of("egress", ours, client), of("inline", next, client)), (back, back));
        // Beside the error, whose views are three more.
        assert_eq!(all.len() as u64 + 3, views.matched);
        assert_eq!(all.len(), 3 * (there + back));
    }
}

#[test]
fn a_hop_limit_that_ends_here_and_a_path_that_is_too_narrow_are_answered() {
    if !root_or_skip() || !tool_or_skip("ping") || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::new("inline-answers");
    // The way to the next host takes less than the way here.
    scene.host("tapped").ip("link set sink mtu 1400");
    scene.host("sink").ip("link set tapped mtu 1400");
    // Before the client learns how wide the path is: what may be cut is cut, and what comes in pieces
    // is put through in pieces.
    let running = start(&scene, &["--forward", &forward(&scene, false)]);
    let said = ping(
        &scene,
        &["-c", "2", "-i", "0.2", "-M", "dont", "-s", "1450", "-W", "5", "10.71.0.100"],
    );
    assert!(said.contains("2 received"), "{said}");
    let said = ping(
        &scene,
        &["-c", "2", "-i", "0.2", "-M", "dont", "-s", "4000", "-W", "5", "10.71.0.100"],
    );
    assert!(said.contains("2 received"), "{said}");
    let ledger = bump::stop(&scene, running);
    assert!(ledger.targets.iter().any(|target| target.fragmented >= 2), "{ledger}");
    for is_v6 in [false, true] {
        let running = start(&scene, &["--forward", &forward(&scene, is_v6)]);
        let [ours, ..] = ends(&scene, is_v6);
        let ours = ours.to_string();
        let said = ping(&scene, &["-c", "1", "-t", "1", "-W", "5", &ours]);
        let exceeded = if is_v6 { "Hop limit" } else { "Time to live exceeded" };
        assert!(said.contains(exceeded), "{said}");
        let said = ping(&scene, &["-c", "1", "-t", "2", "-W", "5", &ours]);
        assert!(said.contains("1 received"), "{said}");
        let said = ping(&scene, &["-c", "1", "-M", "do", "-s", "1450", "-W", "5", &ours]);
        assert!(said.contains("1400"), "{said}");
        let ledger = bump::stop(&scene, running);
        let line = ledger.taps.iter().find(|tap| tap.name == ours).unwrap();
        assert_eq!(line.drops.get(api::DropReason::TtlExceeded), 1, "{ledger}");
        assert_eq!(line.drops.get(api::DropReason::Oversize), 1, "{ledger}");
    }
}

#[test]
fn two_clients_of_one_port_get_their_own_replies() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("inline-ports");
    let second: IpAddr = "10.71.0.3".parse().unwrap();
    scene.host("client").ip(&format!("addr add {second}/24 dev tapped"));
    let running = start(&scene, &["--forward", &forward(&scene, false)]);
    let [ours, source, next] = ends(&scene, false);
    let bind = |address: IpAddr, port| move || UdpSocket::bind((address, port)).unwrap();
    let far = scene.host("sink").netns.run(bind(next, 53)).unwrap();
    let first: IpAddr = scene.host("client").v4("tapped").into();
    let near = [first, second].map(|own| scene.host("client").netns.run(bind(own, 4000)).unwrap());
    let mut buffer = [0; 100];
    for socket in near.iter().chain([&far]) {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut ports = Vec::new();
    for (n, socket) in near.iter().enumerate() {
        socket.send_to(&[n as u8], (ours, 53)).unwrap();
        let (_, from) = far.recv_from(&mut buffer).unwrap();
        assert_eq!((from.ip(), usize::from(buffer[0])), (source, n));
        ports.push(from);
    }
    assert_eq!(ports[0].port(), 4000);
    assert_ne!(ports[1].port(), 4000);
    for (n, from) in ports.iter().enumerate() {
        far.send_to(&[n as u8 + 10], from).unwrap();
    }
    for (n, socket) in near.iter().enumerate() {
        let (_, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((from, usize::from(buffer[0])), ((ours, 53).into(), n + 10));
    }
    // A stranger's packet to our source is of no session.
    far.send_to(b"x", (source, 9999)).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let ledger = bump::stop(&scene, running);
    assert_eq!(ledger.drops.get(api::DropReason::NoSession), 1, "{ledger}");
}

#[test]
fn a_table_is_edited_while_a_connection_goes_on_and_is_shown_and_stopped() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("inline-reload");
    let [ours, source, next] = ends(&scene, false);
    let path = scene.path("table.toml");
    let rule = |name: &str, more: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\naddress = \"{ours}\"\nnext_host = \"{next}\"\n\
             source = \"{source}\"\n{more}\n"
        )
    };
    let head = "in = \"client\"\nout = \"sink\"\n";
    let http = "protocol = \"tcp\"\nport = 80\n";
    std::fs::write(&path, format!("{head}{}", rule("web", http))).unwrap();
    let mut command = scene.host("tapped").netns.command(BINARY);
    command.args(["inline", "--datapath", "ring", "-c"]).arg(&path).arg("--stats-json");
    command.arg(scene.path("ledger.json")).env("TAPLINE_RUN_DIR", scene.path("run"));
    let running = Running::start(&mut command);
    running.wait_for("table inline:", SOON);
    let ask = |words: &[&str]| {
        let mut command = scene.host("tapped").netns.command(BINARY);
        command.arg("inline").args(words).env("TAPLINE_RUN_DIR", scene.path("run"));
        let output = command.output().unwrap();
        let both = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&both).into_owned())
    };
    let listen = |port| move || TcpListener::bind((next, port)).unwrap();
    let listener = scene.host("sink").netns.run(listen(80)).unwrap();
    let connect = || TcpStream::connect_timeout(&(ours, 80).into(), PATIENCE).unwrap();
    let mut near = scene.host("client").netns.run(connect).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();

    let file = scene.path("ssh.pcapng");
    let ssh = format!(
        "protocol = \"tcp\"\nport = 22\nviews = [\"inline\"]\nto = [\"pcap:{}\"]\n",
        text(&file)
    );
    std::fs::write(&path, format!("{head}{}{}", rule("web", http), rule("ssh", &ssh))).unwrap();
    assert_eq!(ask(&["reload"]), (true, "rule ssh: added\n".into()));
    near.write_all(b"still here").unwrap();
    let mut buffer = [0; 10];
    far.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"still here");
    let seen = echo(&scene, (ours, 22).into(), (next, 22).into(), 100_000);
    assert_eq!(seen.ip(), source);
    let (is_ok, shown) = ask(&["show"]);
    assert!(is_ok && shown.contains("rule web: tcp://"), "{shown}");
    assert!(shown.contains("session ssh tcp: ") && shown.contains("established"), "{shown}");

    // A mistake changes nothing.
    std::fs::write(&path, format!("{head}{}{}", rule("web", http), rule("web2", http))).unwrap();
    let (is_ok, said) = ask(&["reload"]);
    assert!(!is_ok && said.contains("matches the same"), "{said}");
    std::fs::write(&path, format!("{head}{}", rule("ssh", &ssh))).unwrap();
    assert_eq!(ask(&["reload"]), (true, "rule web: removed\n".into()));
    assert!(!ask(&["show"]).1.contains("session web"));
    let (is_ok, said) = ask(&["stop"]);
    assert!(is_ok && said == "table inline: stopped\n", "{said}");
    let finished = running.finish(SOON);
    assert!(finished.status.success(), "{}", finished.stderr);
    let ledger = stats(scene.path("ledger.json"));
    assert_eq!(ledger.unaccounted, 0, "{ledger}");
    assert!(ledger.taps.iter().any(|tap| tap.name == "web" && tap.matched > 4), "{ledger}");
    assert!(file.metadata().is_ok_and(|of| of.len() > 100_000));
}

#[test]
fn what_this_host_would_answer_itself_is_refused() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("inline-refused");
    let refused = |rule: &str| {
        let mut command = scene.host("tapped").netns.command(BINARY);
        command.args(["inline", "--datapath", "ring", "--in", "client", "--out", "sink"]);
        command.args(["--forward", rule]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused("10.71.0.2=10.71.1.2,source=10.71.1.100");
    assert!(said.contains("10.71.0.2 is an address of this host"), "{said}");
    let said = refused("10.71.0.100=10.71.1.2");
    assert!(said.contains("add source=ADDRESS"), "{said}");
    let said = refused("10.71.0.100=10.71.1.1,source=10.71.1.100");
    assert!(said.contains("is this host itself"), "{said}");
    let start = |out: &str, rule: &str| {
        let mut command = scene.host("tapped").netns.command(BINARY);
        command.args(["inline", "--datapath", "ring", "--in", "client", "--out", out]);
        let output = command.args(["--forward", rule]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = start("nowhere0", "10.71.0.100=10.71.1.2,source=10.71.1.100");
    assert!(code == Some(1) && said.contains("nowhere0"), "{said}");
    // What comes to it could be a client's or a next host's.
    let (code, said) = start("client", "10.71.0.100=10.71.0.1,source=10.71.0.100");
    assert!(code == Some(2) && said.contains("is the address of a rule, too"), "{said}");
}

#[test]
fn a_next_host_is_found_by_its_address_and_an_absent_one_is_told_of() {
    if !root_or_skip() || !tool_or_skip("ping") || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::new("inline-neighbours");
    let tapped = scene.host("tapped");
    let next = scene.host("sink").v4("tapped");
    tapped.ip(&format!("neigh del {next} dev sink"));
    let file = scene.path("client.pcap");
    let rules =
        ["10.71.0.100=10.71.1.2,source=10.71.1.100", "10.71.0.101=10.71.1.9,source=10.71.1.101"];
    let running = start(&scene, &["--forward", rules[0], "--forward", rules[1]]);
    let reachable = || ping(&scene, &["-c", "1", "-W", "1", "10.71.0.100"]).contains("1 received");
    wait_until("the next host is found", PATIENCE, reachable);
    let dump = Tcpdump::start_in(&scene.host("client").netns, "tapped", &file, "icmp");
    let told = || {
        let said = ping(&scene, &["-c", "1", "-W", "1", "10.71.0.101"]);
        said.contains("Destination Host Unreachable")
    };
    wait_until("the client is told", PATIENCE, told);
    dump.stop();
    let ledger = bump::stop(&scene, running);
    let line = ledger.taps.iter().find(|tap| tap.name == "10.71.0.101").unwrap();
    assert!(line.drops.get(api::DropReason::Unreachable) > 0, "{ledger}");
}
