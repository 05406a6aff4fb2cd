//! `diag taps` beside running taps and programs of others: it lists them, and changes nothing.

mod over_links;

use over_links::*;
use rig::root_or_skip;
use serde_json::Value;
use std::path::Path;

fn diag(scene: &Scene, run: &Path, words: &[&str]) -> String {
    let mut command = scene.host("tapped").netns.command(BINARY);
    command.env("TAPLINE_RUN_DIR", run).args(["diag", "taps"]).args(words);
    let output = command.output().expect("it can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is UTF-8")
}

fn lines(scene: &Scene, run: &Path, words: &[&str]) -> Vec<Value> {
    let said = diag(scene, run, &[words, &["--format", "json"]].concat());
    said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The lines of a kind at an interface.
fn of<'a>(lines: &'a [Value], kind: &str, interface: &str) -> Vec<&'a Value> {
    let is = |line: &&Value| line["kind"] == kind && line["interface"] == interface;
    lines.iter().filter(is).collect()
}

/// The processes that hold what a line is about.
fn pids(line: &Value) -> Vec<u64> {
    let processes = line["processes"].as_array().expect("processes");
    processes.iter().filter_map(|process| process["pid"].as_u64()).collect()
}

#[test]
fn a_tap_by_ring_is_a_socket_with_counters() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("diag-taps");
    let run = scene.path("run");
    let nothing = diag(&scene, &run, &[]);
    // Other tests may tap elsewhere.
    let is_nothing = nothing.starts_with("no tap of tapline is on this host's interfaces\n");
    assert!(is_nothing || nothing.starts_with("in other network namespaces\n"), "{nothing}");
    let mut command = scene.host("tapped").netns.command(BINARY);
    command.env("TAPLINE_RUN_DIR", &run);
    let words = ["mirror", "-i", "client", "--to", "null:", "--name", "west", "--datapath", "ring"];
    let mirror =
        Tapline::start_as(command, scene.path("ledger.json"), &[&words[..], &[NUMBERED]].concat());
    let sent = scene.send(&rig::Generator::new(2_000, 1_000));
    mirror.wait_for_matched(sent);
    let found = lines(&scene, &run, &[]);
    let sockets = of(&found, "socket", "client");
    assert_eq!(sockets.len(), 1, "{found:?}");
    assert_eq!((&sockets[0]["ours"], &sockets[0]["protocol"]), (&true.into(), &3.into()));
    let counted: Vec<&Value> = found.iter().filter(|line| line["kind"] == "process").collect();
    assert_eq!(counted.len(), 1, "{found:?}");
    assert_eq!((&counted[0]["command"], &counted[0]["name"]), (&"mirror".into(), &"west".into()));
    assert_eq!(pids(sockets[0]), [counted[0]["pid"].as_u64().expect("a number")]);
    assert_eq!(counted[0]["taps"][0]["matched"], sent);
    assert_eq!(counted[0]["targets"][0]["sent"], sent);
    // An interface without anything of ours is told of only if it is named.
    assert!(!found.iter().any(|line| line["interface"] == "sink"));
    let text = diag(&scene, &run, &["-i", "client", "-i", "sink"]);
    assert!(text.contains("client\n  packet socket, every packet  by tapline ("), "{text}");
    assert!(text.contains("\nsink\n") && text.contains(&format!("matched {sent}, ")), "{text}");
    mirror.stop();
    assert!(of(&lines(&scene, &run, &[]), "socket", "client").is_empty());
}

#[test]
fn filters_of_others_are_told_beside_ours() {
    if !root_or_skip() || !rig::tool_or_skip("tc") {
        return;
    }
    let scene = Scene::new("diag-taps-foreign");
    let run = scene.path("run");
    let tapped = scene.host("tapped");
    let program = "filter add dev client egress bpf da bytecode 1,6_0_0_0";
    for words in ["qdisc add dev client clsact", program] {
        let words = words.split(' ').map(|word| word.replace('_', " "));
        let output = tapped.netns.command("tc").args(words).output().expect("tc runs");
        assert!(output.status.success(), "{output:?}");
    }
    assert!(of(&lines(&scene, &run, &[]), "program", "client").is_empty());
    let found = lines(&scene, &run, &["-i", "client"]);
    let programs = of(&found, "program", "client");
    assert_eq!(programs.len(), 1, "{found:?}");
    let told = ["way", "hook", "name"].map(|key| programs[0][key].as_str().expect("text"));
    assert_eq!(told, ["egress", "clsact", "bpf"]);
    assert_eq!(programs[0]["ours"], false);
    let unknown = tapped.netns.command(BINARY).args(["diag", "taps", "-i", "nowhere"]).output();
    let unknown = unknown.expect("it can be started");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there are: "));
}
