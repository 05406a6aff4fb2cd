//! A filter in the kernel counts what it rejects, and what the ring loses behind it, to the packet.
//!
//! The witnesses are numbered packets, the links' own counters, and `tcpdump -r` over a capture that
//! no filter had to do with.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod balance;
mod over_links;

use api::{DropReason, Stats};
use balance::*;
use io::tun::{Tap, Tun};
use over_links::*;
use rig::{
    Generator, Running, duplicates, frames_in, missing, numbers_in, root_or_skip, tool_or_skip,
    wait_until,
};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use wire::segment::{Gso, GsoKind};

const IN_KERNEL: &[&str] = &["--filter-in", "kernel"];
const IN_USER: &[&str] = &["--filter-in", "user"];
/// Numbered packets are the first rule's, and left out.
const EXCLUDING: &str = r#"
[[rule]]
rule_action = "EXCLUDE"
protocol = "udp"
udp_options.destination_port_range = { min = 9, max = 9 }

[[rule]]
rule_action = "INCLUDE"
"#;
/// The same the other way round.
const INCLUDING: &str = r#"
[[rule]]
rule_action = "EXCLUDE"
protocol = "tcp"

[[rule]]
rule_action = "INCLUDE"
protocol = "udp"
udp_options.destination_port_range = { min = 9, max = 9 }
"#;

/// Starts a capture of the client's link; gives its file too.
fn capture(scene: &Scene, name: &str, words: &[&str]) -> (Tapline, PathBuf) {
    let file = scene.path(&format!("{name}.pcapng"));
    let capture = ["capture", "-i", "client", "-B", "4MiB", "-w", text(&file)];
    (scene.start("tapped", &[&capture, words].concat()), file)
}

#[test]
fn what_is_rejected_is_seen_and_filtered_to_the_packet_wherever_the_filter_is() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("balance-reject");
    let rules = write_rules(scene.path("rules.toml"), EXCLUDING);
    let of_rules = ["--rules", text(&rules)];
    let start = |name: &str, words: &[&[&str]]| capture(&scene, name, &words.concat());
    let captures = [
        start("kernel", &[IN_KERNEL, &["udp port 10"]]),
        start("user", &[IN_USER, &["udp port 10"]]),
        start("kernel-rules", &[IN_KERNEL, &of_rules]),
        start("user-rules", &[IN_USER, &of_rules]),
    ];
    let (prefilter, prefiltered) = start("prefilter", &[&["--prefilter", "udp port 10"]]);
    assert_eq!(scene.send(&Generator::new(20_000, 499)), 499);
    captures.iter().for_each(|(capture, _)| capture.wait_for_seen(499));
    for (at, (capture, file)) in captures.into_iter().enumerate() {
        let done = end(capture);
        assert_tap(&done, 499, 499, 0);
        assert_eq!(frames_in(&file).len(), 0);
        assert_eq!(hits(&done), if at < 2 { vec![] } else { vec![499, 0] }, "{}", done.1);
    }

    let path = prefilter.ledger_file().to_path_buf();
    let (ledger, said) = end(prefilter);
    assert_eq!((ledger.seen, ledger.filtered, ledger.matched), (None, None, 0), "{said}");
    assert!(
        said.contains("tap client: seen n/a, filtered n/a, matched 0, dropped 0, 0 "),
        "{said}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for of in [&json, &json["taps"][0]] {
        assert!(of["seen"].is_null() && of["filtered"].is_null(), "{json}");
        assert!(of.get("seen").is_some() && of.get("filtered").is_some(), "{json}");
    }
    assert_eq!(frames_in(prefiltered).len(), 0);
}

#[test]
fn what_passes_is_written_and_counted_to_the_packet_wherever_the_filter_is() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("balance-pass");
    let rules = write_rules(scene.path("rules.toml"), INCLUDING);
    let of_rules = ["--rules", text(&rules)];
    let start = |name: &str, words: &[&[&str]]| capture(&scene, name, &words.concat());
    let captures = [
        start("kernel", &[IN_KERNEL, &[NUMBERED]]),
        start("user", &[IN_USER, &[NUMBERED]]),
        start("kernel-rules", &[IN_KERNEL, &of_rules]),
        start("all", &[IN_KERNEL]),
        start("kernel-in", &[IN_KERNEL, &["-Q", "in", NUMBERED]]),
    ];
    let out = start("kernel-out", &[IN_KERNEL, &["-Q", "out"]]);
    let prefilter = start("prefilter", &[&["--prefilter", NUMBERED]]);
    assert_eq!(scene.send(&Generator::new(20_000, 499)), 499);
    captures.iter().for_each(|(capture, _)| capture.wait_for_seen(499));
    for (at, (capture, file)) in captures.into_iter().enumerate() {
        let done = end(capture);
        assert_tap(&done, 499, 0, 499);
        assert_eq!((numbers_in(&file).len(), done.0.written), (499, 499));
        assert_eq!(hits(&done), if at == 2 { vec![0, 499] } else { vec![] }, "{}", done.1);
    }
    let done = end(out.0);
    assert_tap(&done, 499, 499, 0);
    let (ledger, said) = end(prefilter.0);
    assert_eq!((ledger.seen, ledger.filtered, ledger.matched), (None, None, 499), "{said}");
    assert_eq!(numbers_in(prefilter.1).len(), 499);
}

#[test]
fn each_packet_of_loopback_is_filtered_once_and_taken_once() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("balance-loopback");
    let capture = |name: &str, words: &[&str]| {
        let file = scene.path(name);
        let capture = ["capture", "-i", "lo", "-B", "4MiB", "-w", text(&file)];
        let capture = scene.start("tapped", &[&capture, IN_KERNEL, words].concat());
        (capture, file)
    };
    let captures = [
        (capture("one", &[NUMBERED]), 499),
        (capture("in", &["-Q", "in", NUMBERED]), 499),
        (capture("out", &["-Q", "out", NUMBERED]), 499),
        (capture("none", &["udp port 10"]), 0),
    ];
    // The scene's listener takes them.
    let to: SocketAddr = ([127, 0, 0, 1], PORT).into();
    Generator::new(20_000, 499).run_in(&scene.host("tapped").netns, to);
    for ((capture, file), matched) in captures {
        capture.wait_for_seen(2 * 499);
        // Sent, and received again.
        assert_tap(&end(capture), 2 * 499, 2 * 499 - matched, matched);
        assert_eq!(numbers_in(file).len() as u64, matched);
    }
}

/// Sends a second of numbered packets while a program stands still for a part of it, and asks it for
/// its ledger before and after that. Gives how many were sent, and the ledgers.
fn send_and_pause(scene: &Scene, program: &Tapline) -> (u64, Vec<Stats>) {
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| scene.send(&Generator::new(40_000, 40_000).flows(16)));
        let mut ledgers = vec![program.ledger()];
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(100));
            program.signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(250));
            program.signal(Signal::CONT);
            ledgers.extend((0..4).map(|_| program.ledger()));
        }
        while !sending.is_finished() {
            ledgers.push(program.ledger());
        }
        ledgers.push(program.ledger());
        (sending.join().unwrap(), ledgers)
    })
}

/// Nothing that a ledger counts is taken back by a later one.
fn assert_grows(ledgers: &[Stats]) {
    for pair in ledgers.windows(2) {
        let counts = |stats: &Stats| {
            let tap = &stats.taps[0];
            let mut counts =
                vec![tap.seen.unwrap(), tap.filtered.unwrap(), tap.matched, stats.written];
            counts.push(tap.drops.total());
            for target in &stats.targets {
                counts.extend([target.matched, target.sent, target.drops.total()]);
            }
            counts.extend(stats.sources.iter().map(|source| source.drops.total()));
            counts
        };
        let (before, after) = (counts(&pair[0]), counts(&pair[1]));
        let grows = before.iter().zip(&after).all(|(before, after)| before <= after);
        assert!(grows, "{before:?} {after:?}\n{}{}", pair[0], pair[1]);
    }
}

/// Packets that the link into the tapped host lost.
fn lost_before_tap(scene: &Scene) -> u64 {
    scene.host("client").counter("tapped", "tx", "dropped")
}

#[test]
fn what_a_small_ring_loses_behind_the_filter_is_known_to_the_packet() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("balance-ring");
    let rules = write_rules(scene.path("rules.toml"), INCLUDING);
    let mut sent_before = 0;
    for (name, words) in
        [("expression", &[NUMBERED][..]), ("rules", &["--rules", text(&rules)]), ("all", &[])]
    {
        let file = scene.path(name);
        let capture = ["capture", "-i", "client", "-B", "64", "-w", text(&file)];
        let capture = scene.start("tapped", &[&capture, IN_KERNEL, words].concat());
        let (sent, ledgers) = send_and_pause(&scene, &capture);
        let (ledger, said) = end(capture);
        assert_grows(&[&ledgers[..], std::slice::from_ref(&ledger)].concat());
        let reached = sent - (lost_before_tap(&scene) - sent_before);
        sent_before = lost_before_tap(&scene);
        let numbers = numbers_in(&file);
        let lost = ledger.targets[0].drops.get(DropReason::KernelRing);
        assert!(lost > 0, "nothing was lost: {said}");
        assert_tap(&(ledger.clone(), said.clone()), reached, 0, reached);
        assert_eq!(duplicates(&numbers), [0; 0]);
        assert_eq!(numbers.len() as u64 + missing(&numbers, sent).len() as u64, sent);
        assert_eq!(numbers.len() as u64 + lost, reached, "{said}");
        assert_eq!(ledger.drops.total(), lost, "{said}");
    }
}

#[test]
fn what_a_mirror_s_ring_loses_stands_at_each_target_and_is_shared_in_a_group() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("balance-mirror");
    let (file, received) = (scene.path("all.pcapng"), scene.path("received.pcapng"));
    let listen = ["receive", "--listen", "vxlan://10.71.1.2", "--listen", "vxlan://10.71.1.2:4790"];
    let receive = scene.start("sink", &[&listen[..], &["-w", text(&received)]].concat());
    let to_file = format!("pcap:{}", file.display());
    let group = "vxlan://10.71.1.2?vni=1,vxlan://10.71.1.2:4790?vni=1";
    let mirror = ["mirror", "-i", "client", "-B", "64", "--to", &to_file, "--to", group];
    let mirror = scene.start("tapped", &[&mirror, IN_KERNEL, &[NUMBERED]].concat());
    let (sent, ledgers) = send_and_pause(&scene, &mirror);
    let done = end(mirror);
    assert_grows(&[&ledgers[..], std::slice::from_ref(&done.0)].concat());
    let reached = sent - lost_before_tap(&scene);
    assert_tap(&done, reached, 0, reached);
    let (mirrored, said) = done;
    let [all, first, second] = &mirrored.targets[..] else { panic!("{said}") };
    let lost = all.drops.get(DropReason::KernelRing);
    assert!(lost > 0, "nothing was lost: {said}");
    let in_file = numbers_in(&file).len() as u64;
    assert_eq!((all.matched, in_file + lost), (reached, reached), "{said}");
    let in_group = |count: fn(&api::TargetStats) -> u64| count(first) + count(second);
    assert_eq!(in_group(|of| of.matched), reached, "{said}");
    assert_eq!(in_group(|of| of.drops.get(DropReason::KernelRing)), lost, "{said}");
    let sent_on = in_group(|of| of.sent);
    assert_eq!(sent_on + in_group(|of| of.drops.total()), reached, "{said}");
    let behind = scene.host("tapped").counter("sink", "tx", "dropped");
    rig::wait_until("what was sent is received", SOON, || {
        receive.ledger().received + behind >= sent_on
    });
    let received_in_all = receive.stop();
    assert_eq!(received_in_all.received + behind, sent_on, "{said}{received_in_all}");
    assert_eq!(numbers_in(&received).len() as u64, received_in_all.written);
}

/// A capture of numbered packets by one that has only these rights, in words of setpriv.
fn capture_with(scene: &Scene, rights: &str, name: &str, words: &[&str]) -> (Command, Vec<String>) {
    let mut setpriv = scene.host("tapped").netns.command("setpriv");
    let only = format!("-all,{rights}");
    setpriv.args(["--bounding-set", &only, "--inh-caps", "-all", BINARY]);
    let file = scene.path(name);
    let capture = ["capture", "-i", "client", "-B", "4MiB", "-w", text(&file)];
    (setpriv, capture.iter().chain(words).map(|word| word.to_string()).collect())
}

#[test]
fn without_the_right_to_load_programs_the_filter_falls_back_and_says_why() {
    if !root_or_skip() || !tool_or_skip("setpriv") {
        return;
    }
    let unprivileged = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    if unprivileged.is_ok_and(|value| value.trim() == "0") {
        // Here everyone may, so there is nothing to fall back from.
        return;
    }
    let scene = Scene::alone("balance-rights");
    let start = |rights: &str, name: &str, words: &[&str]| {
        let (program, words) = capture_with(&scene, rights, name, words);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Tapline::start_as(program, scene.path(&format!("{name}.json")), &words)
    };
    let captures = [
        start("+net_raw", "raw", &["udp port 9"]),
        start("+net_raw", "raw-reject", &["udp port 10"]),
        start("+net_raw,+net_admin", "admin", &["udp port 9"]),
        start("+net_raw,+bpf", "bpf", &["--filter-in", "kernel", "udp port 9"]),
        // Nothing is asked for, so there is nothing to warn of.
        start("+net_raw", "all", &[]),
    ];
    let prefilter = start("+net_raw", "prefilter", &["--prefilter", "udp port 9"]);
    scene.send(&Generator::new(20_000, 499));
    captures.iter().for_each(|capture| capture.wait_for_seen(499));
    for (capture, name) in captures.into_iter().zip(["raw", "raw-reject", "admin", "bpf", "all"]) {
        let done = end(capture);
        let matched = if name == "raw-reject" { 0 } else { 499 };
        assert_tap(&done, 499, 499 - matched, matched);
        assert_eq!(numbers_in(scene.path(name)).len() as u64, matched);
        let warns = done.1.contains("the filter runs in user space, not in the kernel: ");
        assert_eq!(warns, !["bpf", "all"].contains(&name), "{}", done.1);
        assert_eq!(warns, done.1.contains("it needs CAP_BPF, or root: setcap "), "{}", done.1);
    }
    let (ledger, said) = end(prefilter);
    assert_eq!((ledger.seen, ledger.filtered, ledger.matched), (None, None, 499), "{said}");
    assert_eq!(numbers_in(scene.path("prefilter")).len(), 499);

    let words = ["--filter-in", "kernel", "udp port 9"];
    let (mut program, words) = capture_with(&scene, "+net_raw", "refused", &words);
    let refused = Running::start(program.args(&words)).finish(SOON);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.stderr);
    for part in ["client: no filter in the kernel: ", "it needs CAP_BPF", "leave --filter-in out"] {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    assert!(!scene.path("refused").exists(), "a file that nothing was written to");
}

/// So many rules that do not match, and one that includes numbered packets.
fn many_rules(count: usize) -> String {
    let mut rules = String::new();
    for number in 0..count {
        let [_, a, b, c] = (number as u32).to_be_bytes();
        rules += "[[rule]]\nrule_action = \"EXCLUDE\"\nprotocol = \"udp\"\n";
        rules += &format!("source_cidr = \"11.{a}.{b}.{c}/32\"\n");
        rules += "udp_options.destination_port_range = { min = 1, max = 500 }\n";
    }
    rules
        + "[[rule]]\nrule_action = \"INCLUDE\"\nprotocol = \"udp\"\n\
             udp_options.destination_port_range = { min = 9, max = 9 }\n"
}

#[test]
fn ten_thousand_rules_filter_in_the_kernel() {
    if !root_or_skip() {
        return;
    }
    const COUNT: usize = 10_000;
    let scene = Scene::alone("balance-rules");
    let rules = write_rules(scene.path("rules.toml"), &many_rules(COUNT));
    let (capture, file) =
        capture(&scene, "file", &[IN_KERNEL, &["--rules", text(&rules)]].concat());
    assert_eq!(scene.send(&Generator::new(2_000, 499)), 499);
    capture.wait_for_seen(499);
    let done = end(capture);
    assert_tap(&done, 499, 0, 499);
    let hits = hits(&done);
    assert_eq!((hits.len(), hits[COUNT], hits.iter().sum::<u64>()), (COUNT + 1, 499, 499));
    assert_eq!(numbers_in(&file).len(), 499);
}

#[test]
fn an_interface_that_returns_is_filtered_as_before_and_as_another_kind_in_user_space() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("balance-return");
    let rules = write_rules(scene.path("rules.toml"), INCLUDING);
    let of_rules = ["--rules", text(&rules)];
    let tapped = scene.host("tapped");
    let captures = [
        capture(&scene, "expression", &[IN_KERNEL, &[NUMBERED]].concat()),
        capture(&scene, "rules", &[IN_KERNEL, &of_rules].concat()),
        capture(&scene, "reject", &[IN_KERNEL, &["udp port 10"]].concat()),
    ];
    let prefilter = capture(&scene, "prefilter", &["--prefilter", NUMBERED]);
    let wait_for = |text: &str| {
        for (capture, _) in captures.iter().chain([&prefilter]) {
            capture.wait_for(text);
        }
    };
    for life in 1..=3 {
        if life > 1 {
            scene.rejoin();
            wait_for("client is back");
        }
        scene.send(&Generator::new(10_000, 499));
        // Deleted while the last of them may still stand in the ring.
        tapped.ip("link del client");
        wait_for("client is gone");
        captures.iter().for_each(|(capture, _)| capture.wait_for_seen(life * 499));
    }
    let tun = |life: u64| {
        let device = tapped.netns.run(|| Tun::new("client", None).unwrap()).unwrap();
        wait_for("client is back");
        tapped.ip("link set client up");
        tapped.ip("addr add 10.81.0.1/24 dev client");
        let to = |port: u16| SocketAddr::from(([10, 81, 0, 2], port));
        Generator::new(10_000, 200).run_in(&tapped.netns, to(9));
        Generator::new(10_000, 100).run_in(&tapped.netns, to(11));
        captures.iter().for_each(|(capture, _)| capture.wait_for_seen(3 * 499 + life * 300));
        drop(device);
        wait_for("client is gone");
    };
    // Twice: what was taken away once is not there to be taken away.
    tun(1);
    tun(2);
    // And as it was, to be filtered in user space still.
    scene.rejoin();
    wait_for("client is back");
    scene.send(&Generator::new(10_000, 499));
    let (numbered, others) = (4 * 499 + 2 * 200, 2 * 100);
    captures.iter().for_each(|(capture, _)| capture.wait_for_seen(numbered + others));
    let what = "which the filter before the ring was not made for";
    for (at, (capture, file)) in captures.into_iter().enumerate() {
        let done = end(capture);
        let matched = if at < 2 { numbered } else { 0 };
        assert_tap(&done, numbered + others, numbered + others - matched, matched);
        assert_eq!(done.0.drops.total(), 0, "{}", done.1);
        assert_eq!(numbers_in(&file).len() as u64, matched);
        assert_eq!(hits(&done), if at == 1 { vec![0, numbered] } else { vec![] }, "{}", done.1);
        assert_eq!(done.1.matches(what).count(), 1, "{}", done.1);
    }
    let (ledger, said) = end(prefilter.0);
    assert_eq!((ledger.seen, ledger.filtered, ledger.matched), (None, None, numbered), "{said}");
    assert_eq!(numbers_in(prefilter.1).len() as u64, numbered);
}

#[test]
fn frames_of_a_kind_that_nobody_reads_are_dropped_behind_a_filter_in_the_kernel_too() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("balance-hardware");
    let tapped = scene.host("tapped");
    let device = tapped.netns.run(|| Tun::new("tun", None).unwrap()).unwrap();
    tapped.ip("addr add 10.81.0.1/24 dev tun");
    let file = scene.path("tun.pcapng");
    let words = ["capture", "-i", "tun", "-w", text(&file)];
    let capture = scene.start("tapped", &[&words, IN_KERNEL, &[NUMBERED]].concat());
    let send = |count| {
        tapped.ip("link set tun up");
        Generator::new(10_000, count).run_in(&tapped.netns, "10.81.0.2:9".parse().unwrap());
    };
    send(100);
    capture.wait_for_matched(100);
    tapped.ip("link set tun down");
    device.set_hardware(824).unwrap(); // ARPHRD_NETLINK
    send(200);
    wait_until("200 are dropped", SOON, || {
        capture.ledger().drops.get(DropReason::HardwareType) >= 200
    });
    let (ledger, said) = end(capture);
    assert_eq!((ledger.matched, ledger.written, ledger.drops.total()), (100, 100, 200), "{said}");
}

#[test]
fn what_a_filter_in_the_kernel_estimates_of_a_super_packet_in_a_tunnel_is_no_loss() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("balance-estimate");
    let tapped = scene.host("tapped");
    let vm = tapped.netns.run(|| Tap::new("vm").unwrap()).unwrap();
    tapped.ip("link set vm up");
    let file = scene.path("vm.pcapng");
    let words = ["capture", "-i", "vm", "-w", text(&file), "udp port 4789"];
    let capture = scene.start("tapped", &[&words[..5], IN_KERNEL, &words[5..]].concat());

    // Ethernet, IPv4 and UDP, 42 bytes; VXLAN, 8; Ethernet, IPv4 and TCP, 54: the five segments of
    // 100, 100, 100, 100 and 50 bytes look like six to who takes all behind UDP for the payload.
    let (inner_len, payload_len) = (54, 450);
    let ip = |protocol: u8, len: usize| {
        let mut header = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2];
        header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        header
    };
    let ethernet = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let udp_len = 8 + 8 + inner_len + payload_len;
    let [high, low] = (udp_len as u16).to_be_bytes();
    let mut frame = [&ethernet[..], &ip(17, 20 + udp_len)].concat();
    frame.extend([0xc0, 0, 0x12, 0xb5, high, low, 0, 0, 8, 0, 0, 0, 0, 0, 7, 0]);
    frame.extend([&ethernet[..], &ip(6, 40 + payload_len)].concat());
    let csum_start = frame.len() as u16;
    frame.extend([4, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0, 9, 0, 0, 0, 0]);
    frame.resize(frame.len() + payload_len, 7);
    let gso = Gso { kind: GsoKind::TcpV4, size: 100, csum_start, csum_offset: 16 };
    (0..10).for_each(|_| vm.send(&frame, Some(&gso)).unwrap());

    capture.wait_for_matched(50);
    let (ledger, said) = end(capture);
    assert_eq!((ledger.matched, ledger.written, ledger.drops.total()), (50, 50, 0), "{said}");
    assert!(frames_in(&file).iter().all(|frame| frame.bytes.len() <= 204), "they are cut");
}
