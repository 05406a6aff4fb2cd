//! Packets given to tools that know interfaces and pipes only: out of a NIC, into a TAP device, to
//! standard output; from a tap, and from a receiver that also records.

mod over_links;

use api::Stats;
use over_links::*;
use rig::{Finished, Frame, Generator, Running, Tcpdump, frames_in, root_or_skip, tool_or_skip};
use std::process::{Command, Stdio};

fn bytes(frames: &[Frame]) -> Vec<&[u8]> {
    frames.iter().map(|frame| &frame.bytes[..]).collect()
}

/// Asserts that each target got all of so many packets.
fn assert_all_sent(ledger: &Stats, endpoints: &[&str], count: u64) {
    let lines: Vec<_> = ledger.targets.iter().map(|t| (&*t.endpoint, t.matched, t.sent)).collect();
    let wanted: Vec<_> = endpoints.iter().map(|&endpoint| (endpoint, count, count)).collect();
    assert_eq!(lines, wanted, "{ledger}");
}

/// Gives the sink a link of its own, from `out` to `in`, and what captures there and on `watch`.
fn watch(scene: &Scene, devices: [&str; 2]) -> [Tcpdump; 2] {
    devices.map(|device| {
        let path = scene.path(&format!("{device}.pcap"));
        Tcpdump::start(scene.host("sink"), device, &path, NUMBERED)
    })
}

#[test]
fn what_is_received_is_recorded_and_shown_to_tools_alike() {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::new("devices");
    scene.host("sink").ip("link add out type veth peer name in");
    scene.host("sink").ip("link set out up");
    scene.host("sink").ip("link set in up");
    let all = scene.path("all.pcapng");
    let words = ["receive", "--listen", "vxlan://0.0.0.0", "-w", text(&all)];
    let to = ["--to", "nic:out", "--to", "tap:watch?mtu=1500", "--to", "null:"];
    let receive = scene.start("sink", &[&words[..], &to].concat());
    let tcpdumps = watch(&scene, ["in", "watch"]);
    let words = ["mirror", "-i", "client", "--to", "vxlan://10.71.1.2?vni=7", NUMBERED];
    let mirror = scene.start("tapped", &words);
    let sent = scene.send(&Generator::new(20_000, 3000));
    mirror.wait_for_matched(sent);
    assert_eq!(mirror.stop().sent, sent);
    receive.wait_for_received(sent);

    let seen = tcpdumps.map(Tcpdump::stop);
    let ledger = receive.stop();
    assert_eq!((ledger.received, ledger.written, ledger.sent), (sent, sent, 3 * sent), "{ledger}");
    assert_all_sent(&ledger, &["nic:out", "tap:watch", "null:"], sent);
    assert_eq!(ledger.sources.len(), 1, "{ledger}");
    assert_eq!(ledger.sources[0].name, "vxlan-7-10.71.1.1");
    let recorded = frames_in(&all);
    assert_eq!(recorded.len() as u64, sent);
    for frames in &seen {
        assert!(bytes(frames) == bytes(&recorded), "{} of {sent} frames", frames.len());
    }
    assert!(!scene.host("sink").ip("link").contains("watch"), "it is gone with the receiver");
}

#[test]
fn a_receiver_need_not_record() {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::new("relay");
    let receive = ["receive", "--listen", "vxlan://0.0.0.0"];
    let last = scene.path("last.pcapng");
    let write = ["receive", "--listen", "vxlan://0.0.0.0", "-w", text(&last)];
    // A chain of three: the middle one hands on what it gets.
    let sink = scene.start("sink", &write);
    let relay = [&receive[..], &["--to", "vxlan://10.71.1.2?vni=8"]].concat();
    let relay = scene.start("tapped", &relay);
    let words = ["mirror", "-i", "tapped", "--to", "vxlan://10.71.0.2?vni=7", NUMBERED];
    let mirror = scene.start("client", &words);
    let sent = scene.send(&Generator::new(20_000, 2000));
    mirror.wait_for_matched(sent);
    assert_eq!(mirror.stop().sent, sent);
    relay.wait_for_received(sent);
    let ledger = relay.stop();
    assert_eq!((ledger.received, ledger.written, ledger.sent), (sent, sent, sent), "{ledger}");
    assert_all_sent(&ledger, &["vxlan://10.71.1.2:4789?vni=8"], sent);
    assert_eq!(ledger.sources[0].name, "vxlan://0.0.0.0:4789");
    sink.wait_for_received(sent);
    let ledger = sink.stop();
    assert_eq!(ledger.sources[0].name, "vxlan-8-10.71.1.1", "{ledger}");
    assert_eq!(frames_in(&last).len() as u64, sent);
}

#[test]
fn a_mirror_feeds_devices_and_each_worker_its_share() {
    if !root_or_skip() || !tool_or_skip("tcpdump") {
        return;
    }
    let scene = Scene::new("feeds");
    scene.host("sink").ip("link set tapped promisc on");
    let words = ["mirror", "-i", "client", "--workers", "2", "--to", "nic:sink", "--to"];
    let mirror = scene.start("tapped", &[&words[..], &["tap:watch", NUMBERED]].concat());
    let at_sink = Tcpdump::start(scene.host("sink"), "tapped", &scene.path("nic.pcap"), NUMBERED);
    let at_tap = Tcpdump::start(scene.host("tapped"), "watch", &scene.path("tap.pcap"), NUMBERED);
    let generator = Generator { flows: 50, ..Generator::new(20_000, 2000) };
    let sent = scene.send(&generator);
    mirror.wait_for_matched(sent);
    let frames = [at_sink, at_tap].map(Tcpdump::stop);
    assert_all_sent(&mirror.stop(), &["nic:sink", "tap:watch"], sent);
    for (frames, path) in frames.iter().zip(["nic.pcap", "tap.pcap"]) {
        assert_eq!(frames.len() as u64, sent);
        let numbers = rig::numbers_in(scene.path(path));
        assert_eq!(rig::missing(&numbers, sent), [0; 0]);
    }
}

#[test]
fn a_target_that_would_be_tapped_again_is_refused() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("loops");
    let tapped = scene.host("tapped");
    tapped.ip("link property add dev client altname uplink0");
    tapped.ip("tuntap add mode tap name mine");
    tapped.ip("link set mine up");
    let refused = |words: &[&str]| {
        let Finished { status, stderr, .. } =
            Running::start(tapped.netns.command(BINARY).args(words)).finish(SOON);
        assert_eq!(status.code(), Some(2), "{words:?}: {stderr}");
        stderr
    };
    for (tap, to) in [
        ("client", "nic:client"),
        ("client", "nic:uplink0"),
        ("any", "nic:sink"),
        ("any", "tap:new"),
        ("mine", "tap:mine"),
    ] {
        let said = refused(&["mirror", "-i", tap, "--to", to]);
        assert!(said.contains("without end; tap other interfaces"), "{said}");
    }
    // What is sent through one end of a veth pair is seen at the other.
    tapped.ip("link add near type veth peer name far");
    let said = refused(&["mirror", "-i", "far", "--to", "nic:near"]);
    assert!(said.contains("tap far → nic:near → far → tap far: it would take"), "{said}");
    // The tap of another interface of the same process counts, too.
    let said = refused(&["mirror", "-i", "client", "-i", "sink", "--to", "nic:sink"]);
    assert!(said.contains("tap client → nic:sink → tap sink: it would take"), "{said}");

    for (listen, to) in [
        ("vxlan://0.0.0.0", "vxlan://10.71.0.2?vni=3"),
        ("vxlan://10.71.0.2:4000?vni=3", "vxlan://10.71.0.2:4000?vni=3"),
        ("vxlan://[::]", "vxlan://[::1]?vni=1"),
    ] {
        let said = refused(&["receive", "--listen", listen, "--to", to]);
        assert!(said.contains("would come back, without end"), "{said}");
    }
    let file = scene.path("x.pcapng");
    let file_target = format!("pcap:{}", text(&file));
    let receive = ["receive", "--listen", "vxlan://0.0.0.0", "-w", text(&file)];
    let said = refused(&[&receive[..], &["--to", &file_target]].concat());
    assert!(said.contains("the file of another target too"), "{said}");
    let said = refused(&["receive", "--listen", "vxlan://0.0.0.0", "--to", "null:", "-G", "5"]);
    assert!(said.contains("add -w FILE"), "{said}");
}

#[test]
fn standard_output_is_a_pipe_to_other_tools() {
    if !tool_or_skip("tcpdump") || !tool_or_skip("tshark") {
        return;
    }
    let scratch = rig::Scratch::new("pipe");
    let file = scratch.path("in.pcap");
    let frame = [&[2; 12][..], &[0x88, 0xb5], &[0; 46]].concat();
    let words = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1];
    let mut capture: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    for n in 0..5000u32 {
        capture.extend([n, 0, 60, 60].map(u32::to_le_bytes).concat());
        capture.extend(&frame);
    }
    std::fs::write(&file, capture).expect("the folder is there");
    for reader in [["tcpdump", "-n", "-r", "-"], ["tshark", "-n", "-r", "-"]] {
        let mut mirror = Command::new(BINARY);
        mirror.args(["mirror", "-r", text(&file), "--to", "pcap:-"]);
        let mirror = mirror.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut mirror = mirror.expect("the program that was just built can be started");
        let stdout = mirror.stdout.take().expect("piped above");
        let read = Command::new(reader[0]).args(&reader[1..]).stdin(stdout).output();
        let read = read.expect("it is installed");
        let mirror = mirror.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&mirror.stderr);
        assert!(mirror.status.success(), "{said}");
        assert!(said.contains("target pcap:-: matched 5000, sent 5000, dropped 0"), "{said}");
        let text = String::from_utf8_lossy(&read.stdout);
        // tcpdump shows the bytes of what it does not know, each line behind a tab.
        let packets = text.lines().filter(|line| !line.starts_with('\t')).count();
        assert_eq!(packets, 5000, "{}", String::from_utf8_lossy(&read.stderr));
    }
}
