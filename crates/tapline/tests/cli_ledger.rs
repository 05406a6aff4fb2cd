//! The ledger that every command ends with: its text, its JSON, its exit code; and the files that
//! `-C` and `-W` name.

mod over_files;

use over_files::frame::*;
use over_files::*;
use rig::Scratch;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A capture of 600 packets in 30 flows, of which each has both directions; 200 are UDP.
fn capture(scratch: &Scratch) -> PathBuf {
    let frames = (0..600u16).map(|number| {
        let (flow, back) = (number % 30, number / 30 % 2 == 1);
        let ports = if back { (80, 1000 + flow) } else { (1000 + flow, 80) };
        let hosts = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let (src, dst) = if back { (hosts.1, hosts.0) } else { hosts };
        let (protocol, body) = match flow % 3 {
            0 => (17, udp(ports.0, ports.1, &[1; 100])),
            _ => (6, tcp(ports.0, ports.1, 0x10, &[1; 100])),
        };
        ethernet(0x0800, &ipv4_between(src, dst, protocol, 0, &body))
    });
    let path = scratch.path("x.pcap");
    fs::write(&path, pcap(1, frames)).expect("the folder can be written to");
    path
}

/// Runs a command line of words, in which X is the capture and D the folder, with `--stats-json`;
/// gives the ledger as JSON, and what the program said.
fn ledger(scratch: &Scratch, line: &str) -> (Value, Output) {
    let (capture, stats) = (capture(scratch), scratch.path("stats.json"));
    let folder = scratch.folder().display().to_string();
    let words = line.replace('X', &capture.display().to_string()).replace('D', &folder);
    // What stands behind the first word of an expression belongs to it.
    let (command, rest) = words.split_once(' ').expect("a command and its arguments");
    let stats_path = stats.display().to_string();
    let words = [command, "--stats-json", &stats_path].into_iter().chain(rest.split(' '));
    let output = tapline(words);
    assert_done(&output);
    let json = fs::read_to_string(&stats).expect("the ledger was written");
    (serde_json::from_str(&json).expect("JSON"), output)
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn assert_contract(stats: &Value) {
    let names = |line: &'static str| line.split(' ').collect::<BTreeSet<&str>>();
    let top = "version seen filtered matched sent received written drops unaccounted taps sources \
               targets";
    assert_eq!(keys(stats), names(top));
    assert_eq!((&stats["version"], &stats["unaccounted"]), (&Value::from(1), &Value::from(0)));
    for (list, wanted) in [
        ("taps", "name seen filtered matched drops rules unaccounted"),
        ("sources", "name received written drops unaccounted"),
        ("targets", "endpoint matched sent drops unaccounted"),
    ] {
        for line in stats[list].as_array().expect("a list") {
            let mut found = keys(line);
            // Left out where they are 0.
            for bytes in ["matched_bytes", "received_bytes", "sent_bytes", "queue_bytes_max"] {
                found.remove(bytes);
            }
            assert_eq!(found, names(wanted), "{list}");
            assert!(line["drops"].is_object());
            assert_eq!(line["unaccounted"], 0, "{list}: {line}");
        }
    }
    let sent: u64 =
        stats["targets"].as_array().expect("a list").iter().map(|t| n(&t["sent"])).sum();
    assert_eq!(n(&stats["sent"]), sent, "the sum over targets");
}

fn n(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

#[test]
fn capture_tells_what_it_saw_filtered_and_wrote() {
    let scratch = Scratch::new("ledger-capture");
    let (stats, output) = ledger(&scratch, "capture -r X -w D/y.pcapng udp");
    assert_contract(&stats);
    assert_says_ledger(&output, 2);
    let counts = ["seen", "filtered", "matched", "sent", "received", "written"];
    let counts = counts.map(|name| n(&stats[name]));
    assert_eq!(counts, [600, 400, 200, 200, 200, 200]);
    assert_eq!(packets_in(&scratch.path("y.pcapng")).len(), 200);
    let text = stderr(&output);
    assert!(text.contains(": seen 600, filtered 400, matched 200, dropped 0, 0 un"), "{text}");
}

#[test]
fn mirror_tells_each_target() {
    let scratch = Scratch::new("ledger-mirror");
    let (stats, output) =
        ledger(&scratch, "mirror -r X --to null: --to pcap:D/a.pcapng,pcap:D/b.pcapng tcp");
    assert_contract(&stats);
    assert_says_ledger(&output, 4);
    assert_eq!((n(&stats["matched"]), n(&stats["sent"])), (400, 800));
    let of = |end: &str| {
        let targets = stats["targets"].as_array().unwrap();
        let found = targets.iter().find(|t| t["endpoint"].as_str().unwrap().ends_with(end));
        n(&found.expect("a line for each target")["sent"])
    };
    let files = [packets_in(&scratch.path("a.pcapng")), packets_in(&scratch.path("b.pcapng"))];
    assert_eq!(of("null:"), 400);
    assert_eq!([of("a.pcapng"), of("b.pcapng")], files.each_ref().map(|f| f.len() as u64));

    // The group has each packet once, and both directions of a flow in one file.
    let mut file_of = BTreeMap::new();
    let mut times = BTreeSet::new();
    for (file, packets) in files.iter().enumerate() {
        assert!(!packets.is_empty(), "each member has a share");
        for packet in packets {
            let ports = [&packet.bytes[34..36], &packet.bytes[36..38]];
            let client = ports.into_iter().find(|port| *port != [0, 80]).unwrap().to_vec();
            assert_eq!(*file_of.entry(client).or_insert(file), file, "a flow stays together");
            assert!(times.insert(packet.ts_ns), "a packet went twice");
        }
    }
    assert_eq!((file_of.len(), times.len()), (20, 400));
}

#[test]
fn a_limit_is_exact() {
    let scratch = Scratch::new("ledger-limit");
    for limit in [1, 77, 256, 600, 1000] {
        let (stats, _) = ledger(&scratch, &format!("capture -r X -w D/y -c {limit}"));
        assert_contract(&stats);
        assert_eq!(n(&stats["matched"]), limit.min(600));
        assert_eq!(packets_in(&scratch.path("y")).len() as u64, limit.min(600));
    }
}

#[test]
fn a_slice_keeps_the_original_length() {
    let scratch = Scratch::new("ledger-slice");
    for command in ["capture -r X -w D/y -s 60", "mirror -r X --to pcap:D/y -s 60"] {
        let (stats, _) = ledger(&scratch, command);
        assert_contract(&stats);
        let (whole, cut) = (packets_in(&scratch.path("x.pcap")), packets_in(&scratch.path("y")));
        assert_eq!(cut.len(), whole.len());
        for (cut, whole) in cut.iter().zip(&whole) {
            assert_eq!(cut.origlen, whole.bytes.len() as u32);
            assert_eq!(cut.bytes, whole.bytes[..60]);
        }
    }
}

#[test]
fn the_word_stands_in_no_help() {
    for arguments in
        [&["--help"][..], &["capture", "--help"], &["mirror", "-h"], &["receive", "-h"]]
    {
        let output = tapline(arguments);
        assert_done(&output);
        assert!(stdout(&output).contains("Usage"));
        assert!(!stdout(&output).contains("unaccounted") && stderr(&output).is_empty());
    }
}

#[test]
fn the_ledger_goes_where_a_path_leads_and_leaves_links_alone() {
    let scratch = Scratch::new("ledger-paths");
    let capture = capture(&scratch);
    let run = |stats: &Path, stdout: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
        command.args(["mirror", "-q", "--to", "null:", "-r"]).arg(&capture);
        command.arg("--stats-json").arg(stats).stdout(stdout);
        let output = command.output().unwrap();
        assert_done(&output);
        output
    };
    let is_ledger =
        |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).is_ok_and(|v| v["seen"] == 600);
    // Standard output, be it a pipe or a file.
    let piped = run(Path::new("/dev/stdout"), Stdio::piped());
    assert!(is_ledger(&piped.stdout));
    let path = scratch.path("stdout");
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(b"before\n").unwrap();
    run(Path::new("/dev/stdout"), file.try_clone().unwrap().into());
    file.write_all(b"after\n").unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let ledger = text.strip_prefix("before\n").and_then(|rest| rest.strip_suffix("after\n"));
    assert!(ledger.is_some_and(|ledger| is_ledger(ledger.as_bytes())), "{text}");
    assert!(Path::new("/dev/stdout").is_symlink());
    // A link of the user's own.
    let (link, real) = (scratch.path("latest.json"), scratch.path("real.json"));
    fs::write(&real, "an earlier and much longer ledger ".repeat(100)).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    run(&link, Stdio::null());
    assert!(link.is_symlink() && is_ledger(&fs::read(&real).unwrap()));
}

#[test]
fn lost_packets_are_an_exit_code_of_their_own_if_asked() {
    let scratch = Scratch::new("ledger-lost");
    // A pcap file takes one link type: packets of the second are refused and counted.
    let mut input = over_files::by_hand::File::new(capfile::Endian::Little);
    input.section(capfile::Endian::Little, u64::MAX, &[]);
    input.interface(1, 0, &[]).interface(101, 0, &[]);
    for number in 0..10 {
        input.packet(number % 2, u64::from(number), 42, &arp(), &[]);
    }
    let to = scratch.path("y.pcap").display().to_string();
    for (more, code) in [(&[][..], 0), (&["--fail-on-drop"][..], 3)] {
        let arguments = [&["capture", "-r", "-", "-w", &to], more].concat();
        let output = tapline_reading(&input.bytes, &arguments);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let text = stderr(&output);
        assert!(text.contains("matched 10, sent 5, dropped 5 (link_type 5), 0 un"), "{text}");
        assert!(text.contains("write pcapng"), "says the mend: {text}");
        assert_eq!(packets_in(Path::new(&to)).len(), 5);
    }
}

#[test]
fn files_by_size_are_numbered_and_a_ring_keeps_the_newest() {
    let scratch = Scratch::new("rotation");
    let names = |prefix: &str| {
        let entries = fs::read_dir(scratch.folder()).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort_by_key(|name| (name.len(), name.clone()));
        names
    };
    let (stats, _) = ledger(&scratch, "capture -r X -w D/y.pcap -C 20kB");
    assert_contract(&stats);
    let series = names("y");
    assert_eq!(series[..3], ["y.pcap", "y.pcap1", "y.pcap2"]);
    let whole = packets_in(&scratch.path("x.pcap"));
    let together: Vec<u64> = series
        .iter()
        .flat_map(|name| packets_in(&scratch.path(name)))
        .map(|packet| packet.ts_ns)
        .collect();
    assert_eq!(together, whole.iter().map(|packet| packet.ts_ns).collect::<Vec<u64>>());
    for name in &series {
        let bytes = fs::metadata(scratch.path(name)).unwrap().len();
        assert!(bytes < 20_000 + 200, "{name} has {bytes} bytes");
    }

    let (stats, _) = ledger(&scratch, "capture -r X -w D/z -C 20kB -W 3");
    assert_eq!((n(&stats["written"]), names("z").len()), (600, 3));
    assert_eq!(names("z"), ["z0", "z1", "z2"]);
    let mut kept: Vec<u64> =
        names("z").iter().flat_map(|f| packets_in(&scratch.path(f))).map(|p| p.ts_ns).collect();
    kept.sort_unstable();
    assert_eq!(kept, together[together.len() - kept.len()..], "the newest");
}

/// Ends a program that the test gave up on.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only for a program that has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_slow_pipe_is_printed_as_it_comes_and_a_signal_ends_it() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
    command.args(["capture", "-q", "-r", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = Killed(command.spawn().unwrap());
    let mut stdin = child.0.stdin.take().unwrap();
    let stdout = std::io::BufReader::new(child.0.stdout.take().unwrap());
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let bytes = pcap(1, [arp(), arp(), arp()]);
    // Two packets and a part of the third; then nothing comes, and the pipe stays open.
    stdin.write_all(&bytes[..bytes.len() - 10]).unwrap();
    for _ in 0..2 {
        let line = lines.recv_timeout(Duration::from_secs(5)).expect("printed as it comes");
        assert!(line.ends_with("arp, length 42"), "{line}");
    }
    stdin.write_all(&bytes[bytes.len() - 10..]).unwrap();
    lines.recv_timeout(Duration::from_secs(5)).expect("the rest completes the third");
    let pid = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    let status = loop {
        match child.0.try_wait().unwrap() {
            Some(status) => break status,
            None => assert!(Instant::now() < end, "a signal ends it though the pipe is open"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0));
}

#[test]
fn messages_that_nobody_can_read_cost_no_packet() {
    let scratch = Scratch::new("ledger-unread");
    let (from, to, stats) = (capture(&scratch), scratch.path("y.pcapng"), scratch.path("s.json"));
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").expect("a device"));
    let unread = || Stdio::from(std::io::pipe().expect("a pipe").1);
    for said in [full(), unread()] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
        command.args(["capture", "-v", "-s", "60", "-r"]).arg(&from).arg("-w").arg(&to);
        command.arg("--stats-json").arg(&stats).stderr(said);
        assert_eq!(command.status().expect("it can be started").code(), Some(0));
        assert_eq!(packets_in(&to).len(), 600);
        let json = fs::read_to_string(&stats).expect("the ledger was written");
        assert!(json.contains("\"written\":600"), "{json}");
        fs::remove_file(&stats).expect("it was written");
    }
    // A mistake is told by the exit code alone.
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
    command.args(["capture", "-r", "/nonexistent/x.pcap"]).stderr(full());
    assert_eq!(command.status().expect("it can be started").code(), Some(1));
}
