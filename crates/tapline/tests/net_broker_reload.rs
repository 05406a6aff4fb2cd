//! A broker that is changed while packets pass: what has not changed loses and doubles nothing.

mod over_links;

use api::DropReason;
use over_links::*;
use rig::{
    Generator, Tcpdump, duplicates, missing, numbers_in, reordered, root_or_skip, tool_or_skip,
    wait_until,
};
use rustix::process::Signal;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

const RELOADS: usize = 1000;

/// From `client` to `out` always; in every other file to one more target, through stages, and with
/// another filter there.
fn file(round: usize) -> String {
    let always = "
        [[source]]
        name = \"client\"
        interface = \"client\"
        direction = \"in\"
        [[target]]
        name = \"always\"
        to = \"nic:out\"
        [[map]]
        name = \"always\"
        from = [\"client\"]
        to = [\"always\"]
        expression = \"udp port 9\"
    ";
    let port = 1000 + round;
    let sometimes = format!(
        "
        [[target]]
        name = \"sometimes\"
        to = \"vxlan://10.71.1.2?vni=7\"
        [[stage]]
        name = \"tag\"
        type = \"vlan_push\"
        vid = {}
        [[map]]
        name = \"sometimes\"
        from = [\"client\"]
        to = [\"sometimes\"]
        stages = [\"tag\"]
        expression = \"udp port 9 or udp port {port}\"
        ",
        round % 4000
    );
    match round % 3 {
        0 => always.into(),
        _ => format!("{always}{sometimes}"),
    }
}

/// Gives the tapped host a link of its own, from `out` to `in`.
fn link(scene: &Scene) {
    for words in ["link add out type veth peer name in", "link set out up", "link set in up"] {
        scene.host("tapped").ip(words);
    }
}

/// Replaces the file at once.
fn write(path: &Path, content: &str) {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, content).expect("the folder is there");
    std::fs::rename(&partial, path).expect("it is on the same file system");
}

#[test]
fn a_thousand_reloads_under_load_lose_and_double_nothing() {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::alone("broker-reloads");
    link(&scene);
    let (config, seen) = (scene.path("broker.toml"), scene.path("seen.pcap"));
    write(&config, &file(0));
    let broker = scene.start("tapped", &["broker", "-c", text(&config)]);
    let tcpdump = Tcpdump::start(scene.host("tapped"), "in", &seen, NUMBERED);
    let is_done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let load = scope.spawn(|| {
            // As long as it takes: rounds of one series of numbers are not to be told apart.
            let generator = Generator::new(5000, 600_000).flows(8);
            generator.run_while(&scene.host("client").netns, scene.numbered_to(), || {
                !is_done.load(Ordering::Relaxed)
            })
        });
        for round in 1..=RELOADS {
            write(&config, &file(round));
            broker.signal(Signal::HUP);
            broker.wait_for("reloaded");
        }
        is_done.store(true, Ordering::Relaxed);
        load.join().expect("it sends")
    });
    broker.wait_for_seen(sent.accepted);
    tcpdump.stop();
    let ledger = broker.stop();
    let numbers = numbers_in(&seen);
    assert_eq!(missing(&numbers, sent.accepted), [0; 0], "{ledger}");
    assert_eq!((duplicates(&numbers), reordered(&numbers)), (vec![], vec![]), "{ledger}");
    let line = &ledger.targets[0];
    assert_eq!((line.name.as_deref(), line.sent), (Some("always"), sent.accepted), "{ledger}");
    let sometimes = ledger.targets.iter().find(|line| line.name.as_deref() == Some("sometimes"));
    assert!(sometimes.is_some_and(|line| line.sent > 0), "its ledger outlives it: {ledger}");
}

#[test]
fn what_strangers_send_to_a_target_that_is_gone_is_traffic_again() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("broker-strangers");
    let (config, far_end) = (scene.path("broker.toml"), scene.host("sink").v4("tapped"));
    let always = "
        [[source]]
        name = \"sink\"
        interface = \"sink\"
        direction = \"out\"
        [[target]]
        name = \"always\"
        to = \"null:\"
        [[map]]
        name = \"always\"
        from = [\"sink\"]
        to = [\"always\"]
        expression = \"udp port 4789\"
    ";
    let tunnel = format!(
        "
        [[target]]
        name = \"tunnel\"
        to = \"vxlan://{far_end}?vni=7\"
        [[map]]
        name = \"tunnel\"
        from = [\"sink\"]
        to = [\"tunnel\"]
        expression = \"icmp\"
        "
    );
    write(&config, &format!("{always}{tunnel}"));
    let broker = scene.start("tapped", &["broker", "-c", text(&config)]);
    // By a port as the own ones are, with a content that is not.
    let send = || {
        let netns = &scene.host("tapped").netns;
        let sent = netns.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:50000").expect("nobody else is here");
            (0..10).all(|_| socket.send_to(&[0; 4], (far_end, 4789)).is_ok())
        });
        assert!(sent.expect("a namespace that was made can be entered"));
    };
    let line = || {
        let ledger = broker.ledger();
        let line = ledger.taps.iter().find(|line| line.name == "map always").cloned();
        line.map_or((0, 0), |line| (line.drops.get(DropReason::OwnTunnel), line.matched))
    };
    send();
    wait_until("they are taken for own ones", SOON, || line() == (10, 0));
    write(&config, always);
    broker.signal(Signal::HUP);
    broker.wait_for("reloaded");
    send();
    wait_until("they are traffic", SOON, || line() == (10, 10));
    broker.stop();
}

#[test]
fn a_bad_file_changes_nothing_and_is_told_with_its_place() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("broker-bad");
    link(&scene);
    let config = scene.path("broker.toml");
    write(&config, &file(1));
    let broker = scene.start("tapped", &["broker", "-c", text(&config)]);
    for (bad, told) in [
        (file(1).replace("vlan_push", "vlan_psh"), "vlan_push"),
        (file(1).replace("nic:out", "nic:nowhere"), "nowhere"),
        (file(1).replace("udp port 9 or", "udp prt 9 or"), "broker.toml:27:22: map sometimes: bad"),
        (file(1).replace("interface = \"client\"", "interface = \"absent\""), "absent"),
    ] {
        write(&config, &bad);
        broker.signal(Signal::HUP);
        broker.wait_for(told);
    }
    let sent = scene.send(&Generator::new(10_000, 500));
    broker.wait_for_seen(sent);
    write(&config, &file(1));
    broker.signal(Signal::HUP);
    broker.wait_for("nothing has changed");
    let ledger = broker.stop();
    assert_eq!(ledger.targets[0].matched, sent, "{ledger}");
}

#[test]
fn queues_of_any_size_start_at_once_and_carry_a_load() {
    if !root_or_skip() {
        return;
    }
    for size in ["1MB", "64MB", "1GB", "1 packets"] {
        let scene = Scene::new("broker-queue");
        link(&scene);
        let words = ["broker", "--in", "nic:client,direction=in", "--out", "nic:out"];
        let begun = Instant::now();
        let broker = scene.start("tapped", &[&words[..], &["--queue", size]].concat());
        println!("{size}: started in {:?}", begun.elapsed());
        let sent = scene.send(&Generator::new(0, 200_000));
        wait_until("all are seen", SOON, || broker.ledger().seen >= Some(sent));
        let ledger = broker.stop();
        assert_eq!(ledger.received, ledger.matched + ledger.sources[0].drops.total(), "{ledger}");
        assert_eq!(ledger.targets[0].sent + ledger.targets[0].drops.total(), ledger.matched);
    }
}
