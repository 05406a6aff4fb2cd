//! What a search prints, writes and says; where it finds what there is; how it ends.

mod over_archive;
mod over_files;

use archive::manifest::{Event, Removal};
use over_archive::traffic::{Kept, packets};
use over_archive::{Archive, Stage, kept, search};
use over_files::frame::{ethernet, ipv4_between, tcp, udp};
use over_files::{stderr, stdout};
use rig::rules::Random;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// 2026-11-27T12:00:00Z.
const NOON_NS: u64 = 1_795_780_800_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// A TCP packet from 10.0.0.`host` to port 80 of 10.0.0.9, so many seconds past noon.
fn web(host: u8, seconds: u64) -> Kept {
    let packet = ipv4_between([10, 0, 0, host], [10, 0, 0, 9], 6, 0, &tcp(50_000, 80, 2, b"GET"));
    let bytes = ethernet(0x0800, &packet);
    Kept { ts_ns: NOON_NS + seconds * SECOND_NS, origlen: bytes.len() as u32, bytes }
}

/// Two sources of two segments each, whose packets interleave; one more is being written.
fn archive(test: &str) -> Archive {
    let mut archive = Archive::new(test);
    archive.add("vxlan-71-10.71.2.2", &[web(1, 0), web(1, 20)], Stage::Stored);
    archive.add("vxlan-71-10.71.2.2", &[web(1, 40)], Stage::Sealed);
    archive.add("eth0", &[web(2, 10), web(2, 30)], Stage::Stored);
    archive.add("eth0", &[web(2, 50)], Stage::Open);
    archive
}

fn seconds(packets: &[Kept]) -> Vec<u64> {
    packets.iter().map(|packet| (packet.ts_ns - NOON_NS) / SECOND_NS).collect()
}

#[test]
fn packets_are_printed_as_capture_prints_them_in_the_order_of_time() {
    let archive = archive("search-text");
    let output = archive.search(["tcp", "port", "80"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert_eq!(lines.len(), 6);
    assert!(
        lines[0].starts_with(
            "2026-11-27T12:00:00.000000000Z vxlan-71-10.71.2.2 in 10.0.0.1.50000 > 10.0.0.9.80: tcp"
        ),
        "{}",
        lines[0]
    );
    assert!(lines.is_sorted());
    let said = stderr(&output);
    assert!(said.contains("4 of 4 segments"), "{said}");
    assert!(said.contains("found 6 packets"), "{said}");
    assert!(said.contains("range reads"), "{said}");

    let output = archive.search(["-q", "--format", "json", "host", "10.0.0.2"]);
    let first: serde_json::Value =
        serde_json::from_str(stdout(&output).lines().next().unwrap()).unwrap();
    assert_eq!((&first["source"], &first["dst_port"]), (&"eth0".into(), &80.into()));
    assert_eq!(stdout(&output).lines().count(), 3);
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_file_keeps_the_interfaces_and_says_what_was_asked() {
    let archive = archive("search-file");
    let path = archive.beside("found.pcapng");
    let output = archive.search(["-w", path.to_str().unwrap(), "--after", "2026-11-27", "tcp"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let found = over_files::packets_in(&path);
    let names: Vec<_> =
        found.iter().map(|packet| packet.interface.name.as_deref().unwrap()).collect();
    assert_eq!(names[..3], ["vxlan-71-10.71.2.2", "eth0", "vxlan-71-10.71.2.2"]);
    assert_eq!(found[1].interface.description.as_deref(), Some("packets of eth0"));
    assert!(found.iter().all(|packet| packet.direction == capfile::Direction::In));
    assert_eq!(found.iter().map(|packet| packet.interface_number).max(), Some(1));
    let bytes = fs::read(&path).unwrap();
    let query = b"--after 2026-11-27T00:00:00.000000000Z tcp";
    assert!(bytes.windows(query.len()).any(|window| window == query));
}

#[test]
fn windows_are_half_open_and_counts_take_the_earliest() {
    let archive = archive("search-window");
    let find = |arguments: &str| seconds(&archive.find(arguments.split(' ')));
    let (after, before) = ("--after 2026-11-27T12:00:10Z", "--before 1795780830");
    assert_eq!(find(&format!("-q {after}")), [10, 20, 30, 40, 50]);
    assert_eq!(find(&format!("-q {after} {before}")), [10, 20]);
    assert_eq!(find(&format!("-q {after} --before 1795780830.000000001")), [10, 20, 30]);
    assert_eq!(find("-q -c 3"), [0, 10, 20]);
    assert_eq!(find("-q --before 2026-11-27"), [0; 0]);
}

#[test]
fn terms_find_sources_tunnels_and_flows() {
    let mut archive = archive("search-terms");
    let inner =
        ethernet(0x0800, &ipv4_between([1, 1, 1, 1], [2, 2, 2, 2], 17, 0, &udp(5, 6, b"x")));
    let vxlan = udp(9, 4789, &[&[8, 0, 0, 0, 0, 0, 99, 0][..], &inner].concat());
    let bytes = ethernet(0x0800, &ipv4_between([10, 0, 0, 5], [10, 0, 0, 6], 17, 0, &vxlan));
    let tunnelled = Kept { ts_ns: NOON_NS + 60 * SECOND_NS, origlen: bytes.len() as u32, bytes };
    archive.add("eth0", &[tunnelled], Stage::Stored);
    let find = |query: &str| seconds(&archive.find(["-q", "--", query]));
    assert_eq!(find("source eth0"), [10, 30, 50, 60]);
    assert_eq!(find("source vxlan-*"), [0, 20, 40]);
    assert_eq!(find("source vxlan-* or source eth0"), [0, 10, 20, 30, 40, 50, 60]);
    assert_eq!(find("vni 71"), [0, 20, 40]);
    assert_eq!(find("vni 99"), [60]);
    assert_eq!(find("vni 71 or vni 99 and udp"), [60]);
    assert_eq!(find("source eth0 vni 71"), [0; 0]);
    // The flow of the packets of 10.0.0.2, by what is printed of it.
    let output = archive.search(["-q", "--format", "flows", "host", "10.0.0.2"]);
    let flow: serde_json::Value = serde_json::from_str(stdout(&output).trim()).unwrap();
    assert_eq!((&flow["ip_lo"], &flow["packets"]), (&"10.0.0.2".into(), &3.into()));
    assert_eq!(find(&format!("flow {}", flow["community_id"].as_str().unwrap())), [10, 30, 50]);
}

#[test]
fn flows_are_sums_of_what_was_found() {
    let archive = archive("search-flows");
    let output = archive.search(["-q", "--format", "flows", "--after", "1795780810"]);
    let lines: Vec<serde_json::Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = |line: &serde_json::Value| (line["source"].clone(), line["packets"].clone());
    assert_eq!(
        lines.iter().map(told).collect::<Vec<_>>(),
        [("eth0".into(), 3.into()), ("vxlan-71-10.71.2.2".into(), 2.into())]
    );
    assert_eq!(lines[1]["tunnel"], "vxlan");
    assert_eq!(lines[0]["first"], "2026-11-27T12:00:10.000000000Z");
    assert_eq!(lines[0]["last"], "2026-11-27T12:00:50.000000000Z");
    assert_eq!((&lines[0]["packets_fwd"], &lines[0]["tcp_flags"]), (&3.into(), &"S".into()));
}

#[test]
fn mistakes_are_told_with_the_mend() {
    let archive = archive("search-mistakes");
    let refused = |arguments: &[&str]| {
        let output = archive.search(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        stderr(&output).to_owned()
    };
    assert!(refused(&["tcp adn udp"]).contains("column 5"));
    assert!(refused(&["tcp and vni 7"]).contains("stand in front"));
    assert!(refused(&["vni", "x"]).contains("such as `vni 71`"));
    assert!(refused(&["--after", "now", "--before", "1h ago"]).contains("exchange"));
    assert!(refused(&["--after", "2026-11-27T12:00:00"]).contains("add Z"));
    let output = search(archive.beside("nowhere"), ["tcp"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no archive at"), "{}", stderr(&output));
    assert!(!archive.beside("nowhere").exists());
}

#[test]
fn what_is_damaged_missing_or_expired_is_named_and_the_rest_is_found() {
    let mut archive = archive("search-troubles");
    let damaged =
        archive.add("eth1", &packets(&mut Random::new(1), 50, NOON_NS, SECOND_NS), Stage::Stored);
    let mut bytes = fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0x55);
    fs::write(&damaged, bytes).unwrap();
    let output = archive.search(["tcp port 80 and host 10.0.0.9"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let name = damaged.file_name().unwrap().to_str().unwrap();
    assert!(stderr(&output).contains(name), "{}", stderr(&output));
    assert!(stderr(&output).contains("incomplete"), "{}", stderr(&output));
    assert!(stdout(&output).lines().count() >= 6);

    // Removed, and the manifest does not know of it.
    fs::remove_file(&damaged).unwrap();
    let output = archive.search(["host 10.0.0.9"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("missing"), "{}", stderr(&output));
    assert!(stderr(&output).contains(name), "{}", stderr(&output));

    // Removed as it had expired.
    let object = damaged.strip_prefix(archive.root()).unwrap().to_str().unwrap().to_owned();
    archive.note(Event::Removed { object, reason: Removal::Age, packets: None, bytes: 1 });
    let output = archive.search(["host 10.0.0.9"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("has expired: 1 segments"), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 6);
}

/// How often a thread of a process has slept.
fn sleeps(process: u32, thread: &str) -> Option<u64> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let statuses =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let of_thread = |text: &String| text.lines().next().is_some_and(|line| line.ends_with(thread));
    let text = { statuses }.find(of_thread)?;
    text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok())
}

#[test]
fn an_interrupted_search_leaves_a_valid_file_and_says_so() {
    let mut archive = Archive::new("search-interrupted");
    // Much more than a pipe and the buffers hold.
    let bytes = ethernet(
        0x0800,
        &ipv4_between([10, 0, 0, 1], [10, 0, 0, 9], 17, 0, &udp(1, 2, &[7; 1400])),
    );
    let many: Vec<Kept> = (0..5_000)
        .map(|n| Kept { ts_ns: NOON_NS + n, origlen: bytes.len() as u32, bytes: bytes.clone() })
        .collect();
    archive.add("eth0", &many, Stage::Stored);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
    command.args(["search", "-w", "-", "--archive"]).arg(archive.root());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut file = vec![0; 1000];
    out.read_exact(&mut file).unwrap();
    // It waits for its reader now, and takes signals on a thread of its own.
    let before = sleeps(child.id(), "signals").unwrap();
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    rig::wait_until("the signal is taken", PATIENCE, || {
        sleeps(child.id(), "signals").is_some_and(|now| now > before)
    });
    out.read_to_end(&mut file).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("incomplete: it was stopped"), "{}", stderr(&output));
    let found = kept(&file);
    assert!(!found.is_empty() && found.len() < many.len(), "{} packets", found.len());
    assert!(many.starts_with(&found));
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let archive = archive("search-reader");
    let root = archive.root();
    let root = root.to_str().unwrap();
    let output = over_files::tapline_read_for(10, &["search", "-q", "--archive", root]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}

#[test]
fn a_bucket_is_searched_as_a_folder_is() {
    let mut archive = Archive::new("search-bucket");
    let of_segment = packets(&mut Random::new(3), 200, NOON_NS, 3_000 * SECOND_NS);
    archive.add("eth0", &of_segment, Stage::Stored);
    archive.add("eth1", &of_segment[..50], Stage::Plain);
    let wanted = archive.find(["-q", "udp or arp"]);
    assert!(!wanted.is_empty());
    let buckets = archive.beside("buckets");
    fs::create_dir_all(buckets.join("taps")).unwrap();
    fs::rename(archive.root(), buckets.join("taps/dc1")).unwrap();
    fs::remove_dir(buckets.join("taps/dc1/.spool")).unwrap();
    let server = s3_server::Server::start(&buckets, "127.0.0.1:0").unwrap();
    let output = in_bucket(&server, "s3://taps/dc1", s3_server::SECRET_KEY);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut found = kept(&output.stdout);
    let mut wanted = wanted;
    // Segments of the same span have no order in two archives.
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    let output = in_bucket(&server, "s3://taps/dc1", "another-secret");
    assert_eq!(output.status.code(), Some(1));
    assert!(!stderr(&output).contains("another-secret"), "{}", stderr(&output));
}

fn in_bucket(server: &s3_server::Server, place: &str, secret: &str) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
    command.env("AWS_ENDPOINT_URL", format!("http://{}", server.address()));
    command.env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", s3_server::ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", secret);
    command.args(["search", "--archive", place, "-w", "-", "udp or arp"]).stdin(Stdio::null());
    command.output().expect("the program that was just built can be started")
}

#[test]
fn a_configuration_file_says_how_a_store_is_reached() {
    let archive = archive("search-config");
    let config = archive.beside("store.toml");
    fs::write(&config, "endpont = \"http://127.0.0.1\"\n").unwrap();
    let words = ["--store-config", config.to_str().unwrap(), "tcp"];
    let output = search(Path::new("s3://b"), words);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("endpoint"), "{}", stderr(&output));
}
