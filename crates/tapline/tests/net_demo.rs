//! The demo shows what it says: its ledgers balance, its files open elsewhere and hold both directions
//! of each connection, a sink's outage is accounted for, and nothing of it is left when it ends.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_links;

use over_links::{BINARY, alone, assert_is_whole};
use rig::{Finished, Running, Scratch, root_or_skip, rows, tool_or_skip, wait_until};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const SERVER: &str = "10.71.1.10";
/// Sinks, and the sources that each of them must have heard.
const SINKS: [&str; 2] = ["sink-a", "sink-b"];
const SOURCES: [(&str, &str); 3] = [
    ("vxlan-71-10.71.2.1", "10.71.1.1"),
    ("vxlan-72-10.71.2.2", "10.71.1.2"),
    ("vxlan-73-10.71.2.3", "10.71.1.3"),
];

#[test]
fn its_ledgers_balance_and_its_files_hold_whole_connections() {
    if !root_or_skip() || !tool_or_skip("tshark") || !tool_or_skip("capinfos") {
        return;
    }
    let _alone = alone();
    let scratch = Scratch::new("demo");
    let demo = demo(&scratch, "6");
    let what = "demo, three taps, two sinks and a store run";
    wait_until(what, SOON, || processes_of(scratch.folder()).len() == 7);
    let Finished { status, stdout, stderr } = demo.finish(SOON);
    let said = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{said}{stderr}");
    assert_eq!(processes_of(scratch.folder()), [0; 0]);
    ledgers_balance(&said);
    rules_hit(&said);
    proposals_work(&said);
    loss_is_named(&said);
    a_connection_was_found(&said);

    let folder = only_folder(scratch.folder());
    let mut connections = BTreeMap::new();
    for sink in SINKS {
        let mut sources = BTreeSet::new();
        for file in shipped(&folder, sink) {
            sources.insert(judge(&file, sink, &mut connections));
        }
        let spool = std::fs::read_dir(folder.join(sink)).unwrap();
        let left: Vec<_> = spool.map(|entry| entry.unwrap().file_name()).collect();
        let is_capture = |name: &OsString| name.to_string_lossy().contains("pcapng");
        assert!(!left.iter().any(is_capture), "segments of {sink} were not shipped: {left:?}");
        assert_eq!(sources.into_iter().collect::<Vec<_>>(), SOURCES.map(|(name, _)| name));
    }

    // Tshark's count of whole connections is the demo's.
    let mut whole = [0; 2];
    for ((client, port), found) in &connections {
        let Found { sinks, requests, answers, begun, ended, cut } = found;
        assert_eq!(sinks.len(), 1, "{client}:{port} is on several sinks: {sinks:?}");
        let complete = *begun == [true; 2] && *ended == [true; 2] && !cut;
        if complete {
            assert!(*requests > 0 && requests == answers, "{client}:{port}: {found:?}");
        } else {
            assert!(sinks.contains("sink-b"), "{client}:{port} is not whole: {found:?}");
        }
        whole[usize::from(sinks.contains("sink-b"))] += u64::from(complete);
    }
    for (sink, whole) in SINKS.iter().zip(whole) {
        assert!(whole > 0, "no connection is whole on {sink}");
        let wanted = format!(" {whole} whole on {sink}");
        assert!(said.contains(&wanted), "tshark counts{wanted}: {connections:#?} {said}");
    }
}

/// The segments that a sink has shipped: the chain of its writer names them.
fn shipped(folder: &Path, sink: &str) -> Vec<PathBuf> {
    let objects = folder.join("store/captures");
    let writer = std::fs::read_to_string(folder.join(sink).join("writer")).unwrap();
    let chain = objects.join("manifest").join(writer.trim());
    let mut shipped = Vec::new();
    for entry in std::fs::read_dir(chain).unwrap() {
        for line in std::fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            shipped.push(objects.join(entry["object"].as_str().unwrap()));
        }
    }
    shipped
}

/// One connection was looked for in the archive, and found.
fn a_connection_was_found(said: &str) {
    let (_, found) =
        said.split_once("\nOne of them, looked for in the archive\n").expect("a search");
    let lines: Vec<&str> = found.lines().take_while(|line| !line.is_empty()).collect();
    assert!(
        lines[0].starts_with("  tapline search --archive s3://captures 'host 10.71.1."),
        "{found}"
    );
    let last = lines.last().unwrap();
    assert!(last.ends_with(" packets: the connection, whole, both directions"), "{found}");
}

/// Each tap, target and source has a line, which says that it balances.
fn ledgers_balance(said: &str) {
    let (_, ledger) = said.split_once("\nLedger\n").expect("the demo prints its ledgers");
    let lines = ["tap ", "target ", "source "].map(|kind| {
        let of_kind = || ledger.lines().filter(move |line| line.starts_with(kind));
        assert!(of_kind().all(|line| line.ends_with(", 0 unaccounted")), "{ledger}");
        of_kind().count()
    });
    // The sink that was started again has heard some of the clients, or all.
    let [taps, targets, sources] = lines;
    assert!((taps, targets) == (3, 6) && (4..=6).contains(&sources), "{ledger}");
    // The word stands on these lines and nowhere else.
    assert_eq!(said.matches("unaccounted").count(), taps + targets + sources, "{said}");
}

/// What the demo proposes to do next can be done.
fn proposals_work(said: &str) {
    let (_, next) = said.split_once("\nTry next\n").expect("the demo proposes something");
    let lines: Vec<&str> = next.lines().take_while(|line| !line.is_empty()).collect();
    let script = lines.join("\n");
    let output = Command::new("sh").args(["-e", "-c", &script]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    // What was mirrored by the rules is kept by them.
    for part in ["GET /file-", "(100.0 %)", "unmatched 0 packets"] {
        assert!(stdout.contains(part), "no `{part}`: {script}\n{stdout}{stderr}");
    }
}

/// Each rule has decided something on each client.
fn rules_hit(said: &str) {
    let (_, rules) = said.split_once("\nRules, and").expect("the demo prints its rules");
    let lines: Vec<&str> = rules.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 4, "{rules}");
    for line in lines {
        let (_, hits) = line.split_once(" port 80").unwrap();
        let hits: Vec<&str> = hits.split_whitespace().collect();
        assert!(hits.len() == 3 && !hits.contains(&"0"), "{rules}");
    }
}

/// The parts of the killed sink's loss make up the whole.
fn loss_is_named(said: &str) {
    let number = |before: &str, after: &str| {
        let line = said.lines().find(|line| line.contains(before) && line.contains(after));
        let line = line.unwrap_or_else(|| panic!("no line `{before} N {after}`: {said}"));
        let (_, rest) = line.split_once(before).unwrap();
        let (number, _) = rest.split_once(after).unwrap();
        number.replace(',', "").parse::<u64>().unwrap_or_else(|e| panic!("{e}: {line}"))
    };
    let sent = number("sink-b: sent ", ", left in files");
    let found = number("killed process ", ", received by");
    let received = number("received by the next one ", ": ");
    let lost = number(&format!("{}: ", grouped(received)), " lost");
    assert_eq!(sent, found + received + lost, "{said}");
    let while_down = number(" s: ", " packets sent to it were lost");
    let none = "every packet that the killed process had received stands in its files";
    let unflushed = if said.contains(none) { 0 } else { number("    ", " packets had come") };
    assert_eq!(lost, while_down + unflushed, "{said}");
    assert!(while_down > 0 && found > 0 && received > 0, "{said}");
}

fn grouped(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1000), number % 1000),
    }
}

/// What tshark found of a connection.
#[derive(Debug, Default)]
struct Found {
    sinks: BTreeSet<&'static str>,
    requests: u64,
    answers: u64,
    /// A SYN from the client, and from the server.
    begun: [bool; 2],
    /// A FIN likewise.
    ended: [bool; 2],
    /// Something before a packet is missing.
    cut: bool,
}

/// Has Wireshark read a segment: it is whole, holds nothing but its source's HTTP with the server,
/// and each connection's packets are noted down. Gives its source.
fn judge(
    file: &Path,
    sink: &'static str,
    connections: &mut BTreeMap<(String, String), Found>,
) -> &'static str {
    let path = file.to_string_lossy();
    let (source, client) = *SOURCES.iter().find(|(name, _)| path.contains(name)).unwrap();
    let fields = [
        "ip.src",
        "ip.dst",
        "tcp.srcport",
        "tcp.dstport",
        "tcp.flags.syn",
        "tcp.flags.fin",
        "http.request",
        "http.response",
        "tcp.analysis.lost_segment",
        "tcp.analysis.ack_lost_segment",
    ];
    assert_is_whole(file);
    for row in rows(file, &[], &fields) {
        let is = |field: usize, value: &str| row[field] == value;
        let up = is(1, SERVER) && is(3, "80") && is(0, client);
        let down = is(0, SERVER) && is(2, "80") && is(1, client);
        assert!(up || down, "{path}: not HTTP between {client} and the server: {row:?}");
        let port = row[if up { 2 } else { 3 }].clone();
        let found = connections.entry((client.into(), port)).or_default();
        found.sinks.insert(sink);
        let set = |field: usize| is(field, "1") || is(field, "True");
        found.begun[usize::from(down)] |= set(4);
        found.ended[usize::from(down)] |= set(5);
        found.requests += u64::from(!row[6].is_empty());
        found.answers += u64::from(!row[7].is_empty());
        found.cut |= !row[8].is_empty() || !row[9].is_empty();
    }
    source
}

#[test]
fn interrupted_at_any_moment_it_leaves_no_process_and_no_namespace() {
    if !root_or_skip() {
        return;
    }
    let _alone = alone();
    // Before it takes the signal, while it makes hosts, starts processes, at work, while a sink is
    // down (from about 2.1 to 2.9 s with the time that all takes to start), and after that.
    let moments_ms = [0, 5, 20, 60, 120, 250, 500, 900, 2400, 2400, 2400, 3400];
    for (number, after_ms) in moments_ms.into_iter().enumerate() {
        let scratch = Scratch::new("demo-interrupted");
        let demo = demo(&scratch, "4");
        std::thread::sleep(Duration::from_millis(after_ms));
        // The terminal sends SIGINT; a service manager SIGTERM; and the worst is SIGKILL.
        demo.signal([Signal::INT, Signal::TERM, Signal::KILL][number % 3]);
        let Finished { status, stdout, stderr } = demo.finish(SOON);
        let said =
            format!("after {after_ms} ms: {status}\n{}{stderr}", String::from_utf8_lossy(&stdout));
        assert!(!said.contains("panicked"), "{said}");
        // A signal that came before it was taken, or SIGKILL, ends it as such.
        assert!(status.success() || status.code().is_none(), "{said}");
        let what = format!("its processes end, {said}");
        wait_until(&what, SOON, || processes_of(scratch.folder()).is_empty());
    }
}

fn demo(scratch: &Scratch, seconds: &str) -> Running {
    let mut command = Command::new(BINARY);
    Running::start(
        command.arg("demo").env("DEMO_SECONDS", seconds).env("DEMO_DIR", scratch.folder()),
    )
}

/// The folder of the one run.
fn only_folder(base: &Path) -> PathBuf {
    let folders: Vec<PathBuf> =
        std::fs::read_dir(base).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders[0].clone()
}

/// The processes whose environment names a folder: the demo and all that it started. A namespace
/// without a name lives no longer than they do.
fn processes_of(folder: &Path) -> Vec<u32> {
    let wanted = format!("DEMO_DIR={}\0", folder.display());
    let is_of = |process: &PathBuf| {
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        environment.windows(wanted.len()).any(|window| window == wanted.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let processes = processes.filter(is_of);
    processes.filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect()
}
