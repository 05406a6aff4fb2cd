//! Taps that the kernel carries: the same packets and the same ledger as a ring's.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_links;

use api::DropReason;
use over_links::*;
use rig::{
    Generator, MAGIC, duplicates, exchange, frames_in, missing, numbers_in, reordered,
    root_or_skip, wait_until_still,
};
use rustix::process::Signal;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const DATAPATHS: [&str; 2] = ["ring", "kernel"];

fn write(path: &Path, content: &str) {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, content).unwrap();
    std::fs::rename(&partial, path).unwrap();
}

#[test]
fn both_datapaths_give_the_same_packets_and_the_same_ledger() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("kernel-alike");
    let sink = scene.host("sink").v4("tapped");
    let rules = scene.path("rules.toml");
    write(
        &rules,
        "[[rule]]\nrule_action = \"EXCLUDE\"\nprotocol = \"udp\"\n\
         udp_options.source_port_range = { min = 1, max = 2 }\n\
         [[rule]]\nrule_action = \"INCLUDE\"\nprotocol = \"udp\"\n\
         udp_options.destination_port_range = { min = 9, max = 9 }\n",
    );
    for (kind, snaplen) in
        [("vxlan", "0"), ("vxlan", "96"), ("geneve", "96"), ("gretap", "0"), ("gre", "60")]
    {
        let mut seen = Vec::new();
        for datapath in DATAPATHS {
            let id = if kind.starts_with("gre") { "key" } else { "vni" };
            let endpoint = format!("{kind}://{sink}?{id}=71");
            let file = scene.path(&format!("{kind}-{snaplen}-{datapath}.pcapng"));
            let words = ["receive", "-U", "--listen", &endpoint, "-w", text(&file)];
            let receive = scene.start("sink", &words);
            let words = ["mirror", "-i", "client", "--datapath", datapath, "-s", snaplen];
            let words = [&words[..], &["--to", &endpoint, "--rules", text(&rules)]].concat();
            let mirror = scene.start("tapped", &words);
            let sent = scene.send(&Generator::new(20_000, 2_000).flows(8).payload_bytes(300));
            receive.wait_for_received(sent);
            let ledger = mirror.stop();
            let received = receive.stop();
            let [tap] = &ledger.taps[..] else { panic!("{ledger}") };
            assert_eq!((tap.matched, ledger.sent), (sent, sent), "{ledger}");
            assert_eq!(tap.rules.iter().map(|r| r.hits).collect::<Vec<_>>(), [0, sent]);
            assert_eq!(received.written, sent, "{received}");
            let numbers = numbers_in(&file);
            assert_eq!((missing(&numbers, sent), reordered(&numbers)), (vec![], vec![]));
            let mut frames: Vec<_> =
                frames_in(&file).into_iter().map(|frame| (frame.origlen, frame.bytes)).collect();
            frames.sort();
            // Names, endpoints and counters; what else passed by is not the same.
            let target = &ledger.targets[0];
            let line = (tap.name.clone(), target.endpoint.clone(), target.sent_bytes);
            seen.push((frames, line, tap.matched_bytes));
        }
        // Ports differ between two runs.
        let lengths = |at: usize| -> Vec<(u32, usize)> {
            seen[at].0.iter().map(|(origlen, bytes)| (*origlen, bytes.len())).collect()
        };
        assert_eq!(lengths(0), lengths(1), "{kind}, {snaplen}");
        assert_eq!((&seen[0].1, seen[0].2), (&seen[1].1, seen[1].2), "{kind}, {snaplen}");
    }
}

#[test]
fn frames_that_are_not_ip_and_ipv6_go_through() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("kernel-frames");
    let file = scene.path("frames.pcapng");
    let sink = scene.host("sink").v6("tapped");
    let endpoint = format!("vxlan://[{sink}]?vni=71");
    let receive = scene.start("sink", &["receive", "-U", "--listen", &endpoint, "-w", text(&file)]);
    let words = ["mirror", "-i", "client", "--datapath", "kernel", "-Q", "in", "--to", &endpoint];
    let mirror = scene.start("tapped", &words);
    let mac = [2, 0x71, 0, 0, 0, 9];
    let frame = |ethertype: u16, to: [u8; 6], payload: &[u8]| {
        [&to[..], &mac, &ethertype.to_be_bytes(), payload].concat()
    };
    let everyone = [0xff; 6];
    let arp = frame(0x0806, everyone, &[&[0, 1, 8, 0, 6, 4, 0, 1][..], &[7; 20]].concat());
    let lldp = frame(0x88cc, [1, 0x80, 0xc2, 0, 0, 0xe], &[2, 7, 4, 1, 2, 3, 4, 5, 6, 0, 0]);
    // An 802.3 length, LLC 42 42 03, a BPDU.
    let stp = frame(38, [1, 0x80, 0xc2, 0, 0, 0], &[&[0x42, 0x42, 3][..], &[0; 35]].concat());
    let tagged = frame(0x8100, everyone, &[&[0, 5, 0x08, 0x06][..], &[9; 46]].concat());
    let frames = [arp, lldp, stp, tagged];
    for frame in &frames {
        scene.send_frame("client", "tapped", frame);
    }
    let (client, tapped) = (scene.host("client"), scene.host("tapped"));
    let v6 = IpAddr::from(tapped.v6("client"));
    exchange(&client.netns, &tapped.netns, (v6, 80).into(), 100_000);
    mirror.wait_for_matched(frames.len() as u64 + 10);
    wait_until_still(&file);
    let ledger = mirror.stop();
    assert_eq!(ledger.drops.total(), 0, "{ledger}");
    receive.wait_for_received(ledger.sent);
    receive.stop();
    let got = frames_in(&file);
    for frame in &frames {
        let same = |of: &&rig::Frame| of.bytes.starts_with(frame);
        assert_eq!(got.iter().filter(same).count(), 1, "{frame:02x?}");
    }
    assert!(got.iter().filter(|of| of.bytes[12..14] == [0x86, 0xdd]).count() > 10);
}

#[test]
fn what_is_too_large_is_sent_in_fragments_cut_or_dropped() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("kernel-oversize");
    let sink = scene.host("sink").v4("tapped");
    let endpoint = format!("vxlan://{sink}?vni=71");
    const PACKETS: u64 = 500;
    for (oversize, arrives) in [("fragment", true), ("cut", true), ("drop", false)] {
        let file = scene.path(&format!("{oversize}.pcapng"));
        let words = ["receive", "-U", "--listen", &endpoint, "-w", text(&file)];
        let receive = scene.start("sink", &words);
        let words = ["mirror", "-i", "client", "--datapath", "kernel", "--to", &endpoint];
        let words = [&words[..], &["--oversize", oversize, NUMBERED]].concat();
        let mirror = scene.start("tapped", &words);
        let sent = scene.send(&Generator::new(5_000, PACKETS).payload_bytes(1472));
        mirror.wait_for_matched(sent);
        if arrives {
            receive.wait_for_received(sent);
        }
        let ledger = mirror.stop();
        let [target] = &ledger.targets[..] else { panic!("{ledger}") };
        let got = (target.sent, target.fragmented, target.cut, target.drops.total());
        let expected = match oversize {
            "fragment" => (sent, sent, 0, 0),
            "cut" => (sent, 0, sent, 0),
            _ => (0, 0, 0, sent),
        };
        assert_eq!(got, expected, "{oversize}: {ledger}");
        receive.stop();
        if arrives {
            let numbers = numbers_in(&file);
            assert_eq!((missing(&numbers, sent), duplicates(&numbers)), (vec![], vec![]));
        }
    }
}

#[test]
fn what_waits_for_a_process_that_stands_still_fits_its_ring_or_is_counted() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("kernel-still");
    let endpoint = format!("vxlan://{}?vni=71", scene.host("sink").v4("tapped"));
    let file = scene.path("fragments.pcapng");
    let receive = scene.start("sink", &["receive", "-U", "--listen", &endpoint, "-w", text(&file)]);
    let words = ["mirror", "-i", "client", "--datapath", "kernel", "--to", &endpoint];
    let words = [&words[..], &["--oversize", "fragment", "-B", "256KiB", NUMBERED]].concat();
    let mirror = scene.start("tapped", &words);
    mirror.signal(Signal::STOP);
    let sent = scene.send(&Generator::new(5_000, 500).payload_bytes(1472));
    mirror.signal(Signal::CONT);
    mirror.wait_for_matched(sent);
    // Frames of 1514 bytes, each in a record of 1608.
    let room = (256 << 10) / 1608;
    receive.wait_for_received(room);
    let ledger = mirror.stop();
    receive.stop();
    let [target] = &ledger.targets[..] else { panic!("{ledger}") };
    let got = (target.sent, target.fragmented, target.drops.get(DropReason::KernelRing));
    assert_eq!(got, (room, room, sent - room), "{ledger}");
    let numbers = numbers_in(&file);
    assert_eq!(numbers, (0..room).collect::<Vec<_>>(), "the first, in order");
}

#[test]
fn many_taps_share_an_interface_and_a_ceiling_bounds_one() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("kernel-many");
    let sink = scene.host("sink").v4("tapped");
    let config = scene.path("taps.toml");
    const TAPS: u64 = 12;
    let tap = |n: u64| {
        let more = match n {
            0 => "ceiling = \"1Mbit\"".to_owned(),
            1 => "direction = \"out\"".to_owned(),
            n if n % 2 == 0 => format!("expression = \"udp dst port {PORT}\""),
            n => format!("snapshot_length = {}", 40 + n),
        };
        format!(
            "[[tap]]\nname = \"t{n}\"\ninterface = \"client\"\n\
             to = [\"vxlan://{sink}?vni={}\"]\n{more}\n",
            100 + n
        )
    };
    write(&config, &(0..TAPS).map(tap).collect::<String>());
    let file = scene.path("all.pcapng");
    let listen = format!("vxlan://{sink}");
    let receive = scene.start("sink", &["receive", "--listen", &listen, "-w", text(&file)]);
    let mirror = scene.start("tapped", &["mirror", "-c", text(&config), "--datapath", "kernel"]);
    let sent = scene.send(&Generator::new(5_000, 2_000).payload_bytes(200));
    mirror.wait_for_matched((TAPS - 2) * sent);
    let ledger = mirror.stop();
    let tap = |n: usize| &ledger.taps[n];
    assert_eq!(ledger.taps.len() as u64, TAPS);
    let limited = tap(0).drops.get(api::DropReason::RateLimited);
    // 242 bytes each at 125 kB/s for 0.4 s, and 50 ms ahead.
    assert!((100..600).contains(&tap(0).matched), "{ledger}");
    assert!(limited + tap(0).matched >= sent, "{ledger}");
    assert!(tap(1).filtered >= Some(sent) && tap(1).matched < 100, "{ledger}");
    for n in 2..TAPS as usize {
        assert!((sent..sent + 100).contains(&tap(n).matched), "{ledger}");
        if n % 2 == 0 {
            assert_eq!(tap(n).matched, sent);
        }
    }
    receive.wait_for_received(ledger.sent);
    assert_eq!(receive.stop().written, ledger.sent);
}

#[test]
fn each_packet_of_loopback_comes_once() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("kernel-loopback");
    let sink = scene.host("sink").v4("tapped");
    let endpoint = format!("vxlan://{sink}?vni=71");
    let words = ["mirror", "-i", "lo", "--datapath", "kernel", "--to", &endpoint, "udp port 7777"];
    let mirror = scene.start("tapped", &words);
    let to: SocketAddr = ([127, 0, 0, 1], 7777).into();
    let netns = &scene.host("tapped").netns;
    let listener = netns.run(|| UdpSocket::bind(to).unwrap()).unwrap();
    let sent = Generator::new(2_000, 300).run_in(netns, to).accepted;
    mirror.wait_for_matched(sent);
    drop(listener);
    let ledger = mirror.stop();
    assert_eq!((ledger.matched, ledger.sent), (sent, sent), "{ledger}");
}

#[test]
fn own_tunnels_on_the_tapped_interface_are_left_out() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("kernel-own");
    let sink = scene.host("sink").v4("tapped");
    let config = scene.path("taps.toml");
    // Taps the very interface that both tunnels leave by; one tap is a ring's.
    write(
        &config,
        &format!(
            "[[tap]]\nname = \"front\"\ninterface = \"client\"\nto = [\"vxlan://{sink}?vni=1\"]\n\
             expression = \"{NUMBERED}\"\n\
             [[tap]]\nname = \"ring\"\ninterface = \"client\"\nto = [\"gre://{sink}?key=3\"]\n\
             datapath = \"ring\"\nexpression = \"{NUMBERED}\"\n\
             [[tap]]\nname = \"back\"\ninterface = \"sink\"\nto = [\"vxlan://{sink}?vni=2\"]\n"
        ),
    );
    let mirror = scene.start("tapped", &["mirror", "-c", text(&config)]);
    let sent = scene.send(&Generator::new(5_000, 1_000));
    mirror.wait_for_matched(2 * sent);
    let ledger = mirror.stop();
    let [front, ring, back] = &ledger.taps[..] else { panic!("{ledger}") };
    assert_eq!((front.matched, ring.matched), (sent, sent), "{ledger}");
    assert!(back.matched < 50, "{ledger}");
    let own = back.drops.get(api::DropReason::OwnTunnel);
    assert!(own >= 2 * sent, "{ledger}");
}

#[test]
fn an_interface_of_another_namespace_is_tapped_by_each_datapath() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("kernel-netns");
    let sink = scene.host("sink").v4("tapped");
    let tapped = scene.host("tapped");
    // A container behind the tapped host, with a link to itself.
    let container = io::netns::Netns::new().unwrap();
    let inside = io::netns::Netns::new().unwrap();
    container.join("eth0", &inside, "eth0").unwrap();
    for (netns, end) in [(&container, 1), (&inside, 2)] {
        netns.ip(&format!("addr add 10.99.0.{end}/24 dev eth0")).unwrap();
    }
    let mut process = container.command("sleep").arg("300").spawn().unwrap();
    let pid = process.id().to_string();
    let listener = inside.run(|| UdpSocket::bind("10.99.0.2:9").unwrap()).unwrap();
    for datapath in DATAPATHS {
        let endpoint = format!("vxlan://{sink}?vni=71");
        let file = scene.path(&format!("{datapath}.pcapng"));
        let words = ["receive", "-U", "--listen", &endpoint, "-w", text(&file)];
        let receive = scene.start("sink", &words);
        let words = ["mirror", "-i", "eth0", "--netns", &pid, "--datapath", datapath];
        let words = [&words[..], &["--to", &endpoint, NUMBERED]].concat();
        let mirror = scene.start("tapped", &words);
        let generator = Generator::new(5_000, 1_000).payload_bytes(400);
        let sent = generator.run_in(&container, ([10, 99, 0, 2], 9).into()).accepted;
        receive.wait_for_received(sent);
        let ledger = mirror.stop();
        assert_eq!((ledger.matched, ledger.sent), (sent, sent), "{datapath}: {ledger}");
        receive.stop();
        let numbers = numbers_in(&file);
        assert_eq!((missing(&numbers, sent), duplicates(&numbers)), (vec![], vec![]));
    }
    drop(listener);
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(tapped.ip("-o link").lines().all(|line| !line.contains("tapline")));
}

#[test]
fn changes_under_load_lose_and_double_nothing_at_the_host_and_apply_at_once() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("kernel-live");
    let sink = scene.host("sink").v4("tapped");
    let config = scene.path("taps.toml");
    let content = |round: usize| {
        let filter = match round % 3 {
            0 => NUMBERED.to_owned(),
            1 => format!("udp dst port {PORT} and greater 20"),
            _ => format!("ip and udp port {PORT}"),
        };
        format!(
            "[[tap]]\nname = \"t\"\ninterface = \"client\"\ndirection = \"in\"\n\
             to = [\"vxlan://{sink}?vni={}\"]\nsnapshot_length = {}\nexpression = \"{filter}\"\n",
            70 + round % 4,
            100 + round % 5
        )
    };
    write(&config, &content(0));
    let file = scene.path("live.pcapng");
    let listen = format!("vxlan://{sink}");
    let receive = scene.start("sink", &["receive", "--listen", &listen, "-w", text(&file)]);
    let mirror = scene.start("tapped", &["mirror", "-c", text(&config), "--datapath", "kernel"]);
    let is_done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let generator = Generator::new(3_000, 600_000).flows(8);
            generator.run_while(&scene.host("client").netns, scene.numbered_to(), || {
                !is_done.load(Ordering::Relaxed)
            })
        });
        for round in 1..=8 {
            write(&config, &content(round));
            mirror.signal(Signal::HUP);
            mirror.wait_for("reloaded: tap t");
        }
        // A mistake changes nothing.
        write(&config, "[[tap]]\nname = \"t\"\ninterface = \"no-such\"\nto = [\"gre://::1\"]\n");
        mirror.signal(Signal::HUP);
        mirror.wait_for("not reloaded");
        is_done.store(true, Ordering::Relaxed);
        load.join().unwrap().accepted
    });
    receive.wait_for_received(sent);
    let ledger = mirror.stop();
    assert_eq!(receive.stop().written, sent);
    let numbers = numbers_in(&file);
    assert_eq!((missing(&numbers, sent), duplicates(&numbers)), (vec![], vec![]));
    let [tap] = &ledger.taps[..] else { panic!("{ledger}") };
    assert_eq!((tap.matched, ledger.sent), (sent, sent), "{ledger}");
}

#[test]
fn one_tap_too_many_is_named_and_changes_nothing() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("kernel-refused");
    let sink = scene.host("sink").v4("tapped");
    let config = scene.path("taps.toml");
    let taps = |count: u64, vni: u64| {
        let tap = |n: u64| {
            format!(
                "[[tap]]\nname = \"t{n}\"\ninterface = \"client\"\ndirection = \"in\"\n\
                 to = [\"vxlan://{sink}?vni={}\"]\nexpression = \"udp dst port {PORT}\"\n",
                vni + n
            )
        };
        (0..count).map(tap).collect::<String>()
    };
    write(&config, &taps(2, 100));
    let mirror = scene.start("tapped", &["mirror", "-c", text(&config), "--datapath", "kernel"]);
    // One more than a program has room for; and the two are others now, too.
    write(&config, &taps(kernel::mirror::TAPS_MAX as u64 + 1, 200));
    mirror.signal(Signal::HUP);
    let said = mirror.wait_long_for("not reloaded");
    let last = format!("tap t{}:", kernel::mirror::TAPS_MAX);
    assert!(said.contains(&last) && said.contains("one program has room for"), "{said}");
    let sent = scene.send(&Generator::new(2_000, 1_000).payload_bytes(200));
    mirror.wait_for_matched(2 * sent);
    let ledger = mirror.stop();
    let of = |name: &str| ledger.taps.iter().find(|tap| tap.name == name).map(|tap| tap.matched);
    assert_eq!([of("t0"), of("t1")], [Some(sent), Some(sent)], "{ledger}");
    let served = ledger.targets.iter().filter(|target| target.sent == sent);
    let served: Vec<&str> = served.map(|target| target.endpoint.as_str()).collect();
    let is_before = served.iter().all(|of| of.ends_with("vni=100") || of.ends_with("vni=101"));
    assert!(served.len() == 2 && is_before, "{ledger}");
}

#[test]
fn what_the_kernel_cannot_carry_is_told_and_a_ring_does() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("kernel-fallback");
    let tapped = scene.host("tapped");
    let run = |words: &[&str]| {
        let mut command: Command = tapped.netns.command(BINARY);
        let output = command.args(words).output().unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        (output.status.code(), said)
    };
    let sink = scene.host("sink").v4("tapped");
    let endpoint = format!("vxlan://{sink}?vni=1");
    let mirror = ["mirror", "-i", "client", "--datapath", "kernel", "--to"];
    for (more, parts) in [
        (vec!["null:", "--promiscuous"], vec!["null: is no tunnel", "promiscuous"]),
        (vec![&endpoint, "--filter-in", "user"], vec!["--filter-in user"]),
        (vec![&endpoint, "ip6 protochain 6"], vec!["protochain"]),
    ] {
        let (code, said) = run(&[&mirror[..], &more].concat());
        assert_eq!(code, Some(1), "{said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        let explained = run(&[&["mirror", "--explain"], &mirror[1..], &more[..]].concat());
        assert_eq!(explained.0, Some(0), "{}", explained.1);
        assert!(parts.iter().all(|part| explained.1.contains(part)), "{}", explained.1);
    }
    let (code, said) = run(&[&mirror[..], &[&endpoint, "--explain", "tcp"]].concat());
    assert_eq!(code, Some(0));
    for part in ["tap client: in the kernel", "tcx", "path MTU 1500", "ceiling: none"] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    // Unasked, the kernel is taken where packets arrive from it as truly, though it has to cut and to
    // complete.
    tapped.ip("link add wide type bridge");
    tapped.ip("addr add 10.99.0.1/24 dev wide");
    tapped.ip("link set wide up");
    tapped.ip(&format!("route add 192.0.2.0/24 via {sink}"));
    for (to, sending, part) in [
        ("vxlan://10.99.0.2?vni=1", &["-s", "128"][..], "tap client: in the kernel"),
        ("vxlan://10.99.0.2?vni=1", &["--oversize", "drop"], "tap client: in the kernel"),
        ("vxlan://10.99.0.2?vni=1", &["--oversize", "fragment"], "is sent in fragments"),
        ("vxlan://192.0.2.9?vni=1", &["-s", "128"], "a router is on the way to vxlan://192.0.2.9"),
        (&endpoint, &["-s", "128"], "is a veth (sink)"),
    ] {
        let words = ["mirror", "-i", "client", "--explain", "--to", to];
        let (code, said) = run(&[&words[..], sending, &["tcp"]].concat());
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let ledger = scene.path("x.json");
    let words = ["mirror", "-i", "client", "--to", "null:"];
    let mut program = tapped.netns.command(BINARY);
    program.args(["mirror", "--stats-json"]).arg(&ledger).args(&words[1..]);
    let running = rig::Running::start(&mut program);
    let line = running.wait_for("listening on", SOON);
    assert!(line.contains("not in the kernel: null: is no tunnel"), "{line}");
    running.stop(SOON);
    assert_eq!(MAGIC.len(), 8);
}
