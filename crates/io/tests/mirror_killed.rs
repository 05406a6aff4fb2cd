//! A process that mirrors is killed: nothing of it is left within a second.

mod mirror;

use io::Now;
use io::mirror::{AttachBy, KernelMirror, MirrorOptions};
use mirror::{mirror as mirror_of, vxlan};
use rig::{Generator, Host, Topology};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Says to which far end the test's second process mirrors; the test alone sets it.
const FAR_END: &str = "TAPLINE_TEST_FAR_END";
/// Set if it is to use clsact.
const BY_CLSACT: &str = "TAPLINE_TEST_CLSACT";
const IS_UP: &str = "the mirror is up";
const KILLS: usize = 5;

/// What the killed process is; by itself it does nothing.
#[test]
fn a_process_that_mirrors() {
    let Ok(far_end) = std::env::var(FAR_END) else { return };
    let host = io::netns::Netns::current().expect("a namespace");
    let member = vxlan(far_end.parse().expect("an address"), 1);
    let mut mirror = host
        .run(|| {
            let attach_by = match std::env::var(BY_CLSACT) {
                Ok(_) => AttachBy::Clsact,
                Err(_) => AttachBy::Auto,
            };
            let options = MirrorOptions { attach_by, ..MirrorOptions::default() };
            KernelMirror::open(options).expect("a mirror")
        })
        .expect("the namespace is there");
    let target = mirror.add_target(&mirror::one(member)).expect("a target");
    let mut handed = mirror
        .hand_up(target, io::ring::RingSize::Bytes(1 << 20), io::InterfaceId(0))
        .expect("a ring");
    let id = mirror.add_tap(0, None).expect("a tap");
    mirror.set_taps("client", vec![mirror::tap(id, &[target])]).expect("taps");
    println!("{IS_UP}");
    let (begun, mut batch) = (Instant::now(), io::Batch::new());
    while begun.elapsed() < Duration::from_secs(60) {
        mirror.tick(Now::read());
        io::Source::receive(&mut handed, &mut batch).expect("a ring");
        batch.clear();
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts a process that mirrors on a host, and waits until it does.
fn start(host: &Host, far_end: &Host, by_clsact: bool) -> Child {
    let mut command = host.netns.command(std::env::current_exe().expect("this test has a path"));
    command.args(["--exact", "a_process_that_mirrors", "--nocapture"]);
    command.env(FAR_END, far_end.v4("tapped").to_string());
    if by_clsact {
        command.env(BY_CLSACT, "1");
    }
    let mut process = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    let is_up = lines.any(|line| line.expect("text").contains(IS_UP));
    assert!(is_up, "the process did not come so far");
    process
}

/// The programs, maps and links of a process: kind and id.
fn held_by(process: u32) -> Vec<(&'static str, String)> {
    let mut held = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{process}/fdinfo")).expect("it runs") {
        let info = std::fs::read_to_string(entry.expect("an entry").path()).unwrap_or_default();
        for line in info.lines() {
            for (key, kind) in [("prog_id:", "prog"), ("map_id:", "map"), ("link_id:", "link")] {
                if let Some(id) = line.strip_prefix(key) {
                    held.push((kind, id.trim().to_owned()));
                }
            }
        }
    }
    held.sort_unstable();
    held.dedup();
    held
}

fn is_in_the_kernel(kind: &str, id: &str) -> bool {
    let shown = Command::new("bpftool").args([kind, "show", "id", id]).output();
    shown.expect("bpftool runs").status.success()
}

#[test]
fn nothing_is_left_of_a_killed_mirror_and_the_host_loses_nothing() {
    if !rig::root_or_skip() || !rig::tool_or_skip("bpftool") {
        return;
    }
    let net = Topology::line(["client", "tapped", "sink"]).mtu(9000).build();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let links = |text: String| text.matches("tapline").count();
    for _ in 0..KILLS {
        let mut process = start(tapped, sink, false);
        let id = process.id();
        let held = held_by(id);
        assert!(held.len() >= 15, "{held:?}");
        assert!(held.iter().all(|(kind, id)| is_in_the_kernel(kind, id)), "{held:?}");
        assert_eq!(links(tapped.ip("link show")), 2, "{}", tapped.ip("link show"));

        let to = (tapped.v4("client"), 9).into();
        let received = tapped.counter("client", "rx", "packets");
        let (sent, gone_after) = std::thread::scope(|scope| {
            let sending = scope.spawn(|| Generator::new(20_000, 4000).run_in(&client.netns, to));
            std::thread::sleep(Duration::from_millis(50));
            process.kill().expect("it runs");
            let killed = Instant::now();
            process.wait().expect("it ends");
            rig::wait_until("nothing is left", Duration::from_secs(1), || {
                links(tapped.ip("link show")) == 0
                    && !held.iter().any(|(kind, id)| is_in_the_kernel(kind, id))
            });
            (sending.join().expect("it sends"), killed.elapsed())
        });
        assert!(gone_after < Duration::from_secs(1), "{gone_after:?}");
        assert!(!Path::new(&format!("/proc/{id}")).exists());
        let received = tapped.counter("client", "rx", "packets") - received;
        assert!(received >= sent.accepted, "{received} of {}", sent.accepted);
        let shown = tapped.netns.command("bpftool").args(["net", "show"]).output();
        let shown = String::from_utf8_lossy(&shown.expect("bpftool runs").stdout).into_owned();
        assert!(!shown.contains("tapline"), "{shown}");
    }
}

#[test]
fn a_mirror_that_ends_takes_all_along() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["client", "tapped", "sink"]).build();
    let (tapped, sink) = (net.host("tapped"), net.host("sink"));
    let before = tapped.ip("link show");
    let (mut mirror, _, _) = mirror_of(tapped, "client", vxlan(sink.v4("tapped").into(), 1));
    assert!(tapped.ip("link show").contains("tapline0"));
    mirror.stop();
    drop(mirror);
    assert_eq!(tapped.ip("link show"), before);
}

#[test]
fn filters_that_a_killed_mirror_has_left_are_removed_by_the_next() {
    if !rig::root_or_skip() || !rig::tool_or_skip("tc") {
        return;
    }
    let net = Topology::line(["client", "tapped", "sink"]).mtu(9000).build();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let mut process = start(tapped, sink, true);
    process.kill().expect("it runs");
    process.wait().expect("it ends");
    let filters = || {
        let tc = tapped
            .netns
            .command("tc")
            .args(["filter", "show", "dev", "client", "ingress"])
            .output();
        String::from_utf8_lossy(&tc.expect("tc runs").stdout).into_owned()
    };
    let left = filters();
    assert!(left.contains(&format!("tapline-{}-", process.id())), "{left}");
    // They harm nobody.
    let received = tapped.counter("client", "rx", "packets");
    let sent = Generator::new(10_000, 200).run_in(&client.netns, (tapped.v4("client"), 9).into());
    assert!(tapped.counter("client", "rx", "packets") - received >= sent.accepted);

    let (mut mirror, id, _) = mirror_of(tapped, "client", vxlan(sink.v4("tapped").into(), 1));
    assert_eq!(filters(), "");
    Generator::new(10_000, 200).run_in(&client.netns, (tapped.v4("client"), 9).into());
    mirror.stop();
    assert!(mirror.tap_counters(id).expect("counters").matched >= 200);
}
