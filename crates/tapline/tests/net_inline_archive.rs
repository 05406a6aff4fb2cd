//! Views of a forwarding table in an archive: each is a source of its own with an interface block of its
//! own, those of added rules too, and a search finds what the files beside have.

mod over_links;

use over_links::bump::{echo, frames_by_interface};
use over_links::*;
use rig::{Running, root_or_skip, stats};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::{Command, Stdio};

/// What the program prints for an archive.
fn archive(scene: &Scene, words: &[&str]) -> String {
    let mut command = Command::new(BINARY);
    command.args(words).arg("--archive").arg(scene.path("archive")).stdin(Stdio::null());
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn views_are_recorded_into_an_archive_and_found_there() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("inline-archive");
    let (client, sink) = (scene.host("client"), scene.host("sink"));
    let (ours, source) = (IpAddr::from([10, 71, 0, 100]), "10.71.1.100");
    let next: IpAddr = sink.v4("tapped").into();
    let (root, file) = (scene.path("archive"), scene.path("views.pcapng"));
    let web = format!("tcp://{ours}:80={next},source={source}");
    let tapline = || {
        let mut command = scene.host("tapped").netns.command(BINARY);
        command.arg("inline").env("TAPLINE_RUN_DIR", scene.path("run"));
        command
    };
    let mut command = tapline();
    command.args(["--datapath", "ring", "--in", "client", "--out", "sink", "--forward", &web]);
    command.args(["--view", "ingress,egress,inline", "-w", text(&file)]);
    command.arg("--archive").arg(&root).arg("--stats-json").arg(scene.path("ledger.json"));
    let running = Running::start(&mut command);
    running.wait_for("rules from client to sink", STARTED);
    echo(client, (ours, 80).into(), sink, (next, 80).into(), 300_000);
    let ssh = format!("tcp://{ours}:22={next},source={source}");
    let mut add = tapline();
    let added = add.args(["add", &ssh, "--name", "ssh", "--view", "inline"]).output();
    let added = added.expect("the program runs");
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    echo(client, (ours, 22).into(), sink, (next, 22).into(), 1000);
    let finished = running.stop(SOON);
    assert!(finished.status.success(), "{}", finished.stderr);
    let ledger = stats(scene.path("ledger.json"));
    assert_eq!((ledger.unaccounted, ledger.drops.total()), (0, 0), "{ledger}");
    let shipped = ledger.archive.clone().expect("there is an archive");
    assert_eq!((shipped.spool_segments, shipped.shipped_segments), (0, 4), "{ledger}");

    // Each view is a source, whose segments have its interface block.
    let web = format!("tcp---{ours}-80");
    let listed = archive(&scene, &["archive", "ls", "--format", "json"]);
    let of = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
        line["source"].as_str().map(str::to_owned)
    };
    let sources: BTreeSet<String> = listed.lines().filter_map(of).collect();
    let wanted = ["egress", "ingress", "inline"].map(|view| format!("{web}-{view}"));
    assert_eq!(sources, wanted.into_iter().chain(["ssh-inline".into()]).collect(), "{listed}");
    archive(&scene, &["archive", "verify", "--deep"]);

    let found = scene.path("found.pcapng");
    archive(&scene, &["search", "-w", text(&found)]);
    let sorted = |path| {
        let mut frames = frames_by_interface(path);
        frames.values_mut().for_each(|frames| frames.sort());
        frames
    };
    let (written, mut found) = (sorted(&file), sorted(&found));
    assert!(written.values().map(Vec::len).sum::<usize>() as u64 == shipped.shipped_packets);
    assert_eq!(written.len(), 4, "{:?}", written.keys());
    assert!(found == written, "{:?}, {:?}", found.keys(), written.keys());
    // By what nothing in between would have shown.
    let between = scene.path("between.pcapng");
    let (address, view) = (client.v4("tapped").to_string(), format!("tcp://{ours}:80 inline"));
    let query = ["host", &address, "and", "host", &next.to_string(), "and", "port", "80"].join(" ");
    archive(&scene, &["search", "-w", text(&between), &query]);
    let mut between = sorted(&between);
    assert!(between.remove(&view) == found.remove(&view), "{:?}", between.keys());
    assert!(between.is_empty(), "{:?}", between.keys());
}
