//! What a router does besides, by both datapaths: packets that are cut are in the views, as they are on the
//! wire; whose an address is, routes say; and views that a tunnel loses are counted.

mod over_links;

use api::DropReason;
use over_links::bump::{self, ends, ping};
use over_links::*;
use rig::{Running, Tcpdump, root_or_skip, tool_or_skip};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Our address, what the next host sees, the next host, and a rule of all three.
fn ends_of(scene: &Scene, datapath: &str) -> ([IpAddr; 3], String) {
    let (tapped, next) = (scene.host("tapped"), scene.host("sink").v4("tapped").into());
    match datapath {
        "kernel" => {
            let (ours, source) = (tapped.v4("client").into(), tapped.v4("sink").into());
            ([ours, source, next], format!("{ours}={next}"))
        }
        _ => {
            let (ours, source) = ([10, 71, 0, 100].into(), [10, 71, 1, 100].into());
            ([ours, source, next], format!("{ours}={next},source={source}"))
        }
    }
}

fn start(scene: &Scene, datapath: &str, words: &[&str]) -> Running {
    let mut command = scene.host("tapped").netns.command(BINARY);
    command.args(["inline", "--datapath", datapath, "--fail", "closed"]);
    command.args(["--in", "client", "--out", "sink"]).args(words);
    command.arg("--stats-json").arg(scene.path("ledger.json"));
    command.env("TAPLINE_RUN_DIR", scene.path("run"));
    let running = Running::start(&mut command);
    running.wait_for("rules from client to sink", STARTED);
    running
}

/// The frames of a capture from one address to another, of the interfaces whose name ends so.
fn frames(path: &Path, interface: &str, from: IpAddr, to: IpAddr) -> Vec<Vec<u8>> {
    let file = std::fs::File::open(path).expect("it was written");
    let mut reader = capfile::Reader::new(file).expect("it is a capture");
    let mut frames = Vec::new();
    while reader.advance().expect("it is whole") {
        let record = reader.record().expect("there is one");
        let name = reader.interfaces()[record.interface as usize].name.clone().unwrap_or_default();
        let is_of = name.ends_with(interface) && ends(&record.data[12..]) == Some((from, to));
        frames.extend(is_of.then(|| record.data.to_vec()));
    }
    frames
}

/// The payload of an IPv4 packet in a frame.
fn payload(frame: &[u8]) -> &[u8] {
    &frame[14 + usize::from(frame[14] & 0x0f) * 4..]
}

fn what_is_cut_is_shown_by(datapath: &str) {
    let scene = Scene::new(&format!("inline-cut-{datapath}"));
    // The way to the next host takes less than the way here.
    scene.host("tapped").ip("link set sink mtu 1400");
    scene.host("sink").ip("link set tapped mtu 1400");
    let ([ours, source, next], rule) = ends_of(&scene, datapath);
    let (file, wire) = (scene.path("views.pcapng"), scene.path("wire.pcap"));
    let views = ["--view", "ingress,egress,inline", "-w", text(&file)];
    let running = start(&scene, datapath, &[&["--forward", &rule][..], &views].concat());
    let seen = format!("src {source}");
    let dump = Tcpdump::start_in(&scene.host("sink").netns, "tapped", &wire, &seen);
    let ours_text = ours.to_string();
    let words = ["-c", "3", "-i", "0.2", "-M", "dont", "-s", "1450", "-W", "5", &ours_text];
    let said = ping(&scene, &words);
    assert!(said.contains("3 received"), "{said}");
    dump.stop();
    let ledger = bump::stop(&scene, running);
    assert_eq!(ledger.drops.total(), 0, "{ledger}");

    let client: IpAddr = scene.host("client").v4("tapped").into();
    let received = frames(&file, " ingress", client, ours);
    let between = frames(&file, " inline", client, next);
    let sent = frames(&file, " egress", source, next);
    assert_eq!([received.len(), between.len(), sent.len()], [3, 3, 6], "{ledger}");
    assert_eq!(sent, frames(&wire, "", source, next), "the view is what the wire has");
    for (whole, pieces) in between.iter().zip(sent.chunks(2)) {
        assert_eq!(whole.len(), 14 + 1478);
        let joined = [payload(&pieces[0]), payload(&pieces[1])].concat();
        assert_eq!(payload(whole), joined);
    }
    let all = ledger.taps.iter().find(|tap| tap.name.starts_with("views of")).expect("it is there");
    // Replies come in two pieces each, which are shown as three views of two.
    assert_eq!(all.matched, 3 + 3 + 6 + 3 * 6, "{ledger}");
}

#[test]
fn what_user_space_cuts_is_shown() {
    if root_or_skip() && tool_or_skip("ping") && tool_or_skip("tcpdump") {
        what_is_cut_is_shown_by("ring");
    }
}

#[test]
fn what_the_kernel_leaves_to_be_cut_is_shown() {
    if root_or_skip() && tool_or_skip("ping") && tool_or_skip("tcpdump") {
        what_is_cut_is_shown_by("kernel");
    }
}

#[test]
fn an_address_that_can_be_bound_to_need_not_be_ours() {
    if !root_or_skip() || !tool_or_skip("ping") {
        return;
    }
    let scene = Scene::new("inline-nonlocal");
    let nonlocal = || {
        for version in ["ipv4", "ipv6"] {
            std::fs::write(format!("/proc/sys/net/{version}/ip_nonlocal_bind"), "1")
                .expect("it is ours");
        }
    };
    scene.host("tapped").netns.run(nonlocal).expect("the namespace is there");
    let ([ours, ..], rule) = ends_of(&scene, "ring");
    let running = start(&scene, "ring", &["--forward", &rule]);
    let said = ping(&scene, &["-c", "1", "-W", "5", &ours.to_string()]);
    assert!(said.contains("1 received"), "{said}");
    bump::stop(&scene, running);
    let refused = |rule: &str, datapath: &str| {
        let mut command = scene.host("tapped").netns.command(BINARY);
        command.args(["inline", "--datapath", datapath, "--in", "client", "--out", "sink"]);
        command.args(["--fail", "closed", "--forward", rule]);
        let output = command.output().expect("the program runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused("10.71.0.2=10.71.1.2,source=10.71.1.100", "ring");
    assert!(said.contains("10.71.0.2 is an address of this host"), "{said}");
    let said = refused("fd71::100=fd71:0:0:1::1,source=fd71:0:0:1::100", "ring");
    assert!(said.contains("is this host itself"), "{said}");
}

/// How soon a tunnel follows its route.
const FOLLOWED: Duration = Duration::from_secs(1);

fn what_a_tunnel_loses_is_counted_by(datapath: &str) {
    let scene = Scene::new(&format!("inline-lost-{datapath}"));
    let ([ours, _, next], rule) = ends_of(&scene, datapath);
    // The route to the first one goes; the second one is reached by a link that takes no more than the
    // packets themselves.
    let (nobody, narrow) = ("vxlan://192.0.2.9?vni=7", format!("vxlan://{next}?vni=8"));
    let words = ["--forward", &rule, "--to", nobody, "--to", &narrow, "--oversize", "drop"];
    let route = format!("192.0.2.0/24 via {next}");
    scene.host("tapped").ip(&format!("route add {route}"));
    let running = start(&scene, datapath, &words);
    scene.host("tapped").ip(&format!("route del {route}"));
    std::thread::sleep(FOLLOWED);
    let (client, sink) = (scene.host("client"), scene.host("sink"));
    bump::echo(client, (ours, 80).into(), sink, (next, 80).into(), 1_000_000);
    let ledger = bump::stop(&scene, running);
    let tap = |name: &str| {
        let line = ledger.taps.iter().find(|tap| tap.name.starts_with(name));
        line.unwrap_or_else(|| panic!("{name}: {ledger}"))
    };
    let (rule, views, table) = (tap(&ours.to_string()), tap("views of"), tap("table"));
    assert!(rule.matched > 500 && rule.drops.total() == 0, "{ledger}");
    // What came to nobody's ears was counted before.
    let copies = views.matched + views.drops.total() + table.drops.total();
    assert_eq!(copies, rule.matched, "{ledger}");
    for (id, reason) in [("vni=7", DropReason::Unreachable), ("vni=8", DropReason::Oversize)] {
        let line = ledger.targets.iter().find(|line| line.endpoint.ends_with(id));
        let line = line.unwrap_or_else(|| panic!("{id}: {ledger}"));
        assert_eq!(line.matched, views.matched, "{ledger}");
        assert_eq!(line.sent + line.drops.total(), line.matched, "{ledger}");
        assert!(line.drops.get(reason) > 100, "{id}: {ledger}");
    }
}

#[test]
fn what_a_tunnel_loses_of_user_space_s_views_is_counted() {
    if root_or_skip() {
        what_a_tunnel_loses_is_counted_by("ring");
    }
}

#[test]
fn what_a_tunnel_loses_of_the_kernel_s_views_is_counted() {
    if root_or_skip() {
        what_a_tunnel_loses_is_counted_by("kernel");
    }
}
