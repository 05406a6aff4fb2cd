//! `tapline top` beside a running mirror: its numbers are the generator's and the kernel's.

mod over_links;

use over_links::*;
use rig::{Generator, Running, root_or_skip};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Packets a second that the generator sends, for how long, and their frames' bytes.
const PPS: u64 = 5_000;
const PACKETS: u64 = 20_000;
const FRAME_BYTES: u64 = 14 + 20 + 8 + 458;

fn top(run: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.env("TAPLINE_RUN_DIR", run).arg("top").args(words);
    command
}

/// A line of the table, by its kind and name.
fn row<'a>(process: &'a Value, kind: &str, name: &str) -> &'a Value {
    let rows = process["rows"].as_array().expect("rows");
    let found = rows.iter().find(|row| row["kind"] == kind && row["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}: {process}"))
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("no {key}: {row}"))
}

#[test]
fn rates_are_those_of_the_generator_and_of_the_kernel() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("top");
    let run = scene.path("run");
    let tapped = scene.host("tapped");
    let mut command = tapped.netns.command(BINARY);
    command.env("TAPLINE_RUN_DIR", &run);
    let words = ["mirror", "-i", "client", "--to", "null:", "--name", "west"];
    let mirror = Tapline::start_as(
        command,
        scene.path("ledger.json"),
        &[&words[..], &["udp", "port", "9"]].concat(),
    );
    let before =
        (tapped.counter("client", "rx", "packets"), tapped.counter("client", "rx", "bytes"));
    let output = std::thread::scope(|scope| {
        // It looks at the mirror from another namespace than the mirror's.
        let top = scope.spawn(|| {
            let words = ["west", "--interval", "500ms", "--count", "20", "--format", "json"];
            top(&run, &words).output().expect("it can be started")
        });
        let sent = scene.send(&Generator::new(PPS, PACKETS).payload_bytes(458));
        assert_eq!(sent, PACKETS);
        mirror.wait_for_matched(sent);
        top.join().expect("it does not panic")
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let looks: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(looks.len(), 20);
    // What rates and times say went through, summed up, is what was sent: no packet is in two
    // intervals or in none. The first look may have come behind the first packets.
    let total = |kind: &str, name: &str, key: &str| -> f64 {
        let of = |look| number(row(look, kind, name), key) * number(look, "elapsed_ms") / 1e3;
        looks.iter().map(of).sum()
    };
    let last = looks.last().expect("20 looks");
    assert_eq!((&last["command"], &last["name"]), (&"mirror".into(), &"west".into()));
    let tap = row(last, "tap", "client");
    assert_eq!(tap["packets_out"], PACKETS, "{tap}");
    let first = &looks[0];
    let seen_before = |row: &Value, packets: &str, pps: &str| {
        number(row, packets) - number(row, pps) * number(first, "elapsed_ms") / 1e3
    };
    let missed = seen_before(row(first, "tap", "client"), "packets_out", "pps_out");
    let through = total("tap", "client", "pps_out");
    assert!((through + missed - PACKETS as f64).abs() < 1.0, "{through} and {missed}");
    // The kernel's counters, as `ip -s link` shows them, which are those of /sys.
    let nic = row(last, "interface", "client");
    let (packets, bytes) =
        (tapped.counter("client", "rx", "packets"), tapped.counter("client", "rx", "bytes"));
    assert_eq!((&nic["packets_in"], &nic["healthy"]), (&packets.into(), &true.into()), "{nic}");
    assert!(packets - before.0 >= PACKETS && bytes - before.1 >= PACKETS * FRAME_BYTES);
    let of_kernel = seen_before(row(first, "interface", "client"), "packets_in", "pps_in");
    let through = total("interface", "client", "pps_in");
    assert!((through + of_kernel - packets as f64).abs() < 1.0, "{through} and {of_kernel}");
    // Packets on this link are the generator's, but for what the kernel sends by itself.
    let bits = total("interface", "client", "bps_in");
    let of_packets = 8.0 * FRAME_BYTES as f64 * through;
    assert!((bits / of_packets - 1.0).abs() < 0.01, "{bits} bits of {through} packets");
    mirror.stop();
}

#[test]
fn lines_of_text_come_once_an_interval_and_end_with_the_reader() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("top-text");
    let run = scene.path("run");
    let nobody = top(&run, &["-n", "1", "-d", "100ms"]).output().expect("it can be started");
    assert!(nobody.status.success());
    assert_eq!(nobody.stdout, b"no tapline runs on this host\n\n");
    let missing = top(&run, &["4711", "-n", "1"]).output().expect("it can be started");
    let said = String::from_utf8_lossy(&missing.stderr);
    assert!(missing.status.code() == Some(1) && said.contains("4711: no tapline"), "{said}");

    let mut command = scene.host("tapped").netns.command(BINARY);
    command.env("TAPLINE_RUN_DIR", &run);
    let words = ["mirror", "-i", "client", "--to", "null:"];
    let mirror = Tapline::start_as(command, scene.path("ledger.json"), &words);
    let pid = mirror.id().to_string();
    let output = top(&run, &[&pid, "-n", "2", "-d", "100ms"]).output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.matches(&format!("mirror {pid}  up ")).count(), 2, "{said}");
    for wanted in ["  tap     client ", "  target  null: ", "  nic     client "] {
        assert_eq!(said.matches(wanted).count(), 2, "{wanted}: {said}");
    }
    // Without an end of its own it ends with its reader.
    let mut command = Command::new("sh");
    let line = format!("'{BINARY}' top -d 100ms | head -n 1");
    command.env("TAPLINE_RUN_DIR", &run).args(["-c", &line]);
    let head = Running::start(&mut command).finish(Duration::from_secs(10));
    assert!(String::from_utf8_lossy(&head.stdout).starts_with("mirror "), "{}", head.stderr);
    mirror.stop();
}
