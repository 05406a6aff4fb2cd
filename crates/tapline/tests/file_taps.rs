//! `mirror -c FILE` over capture files: several taps in one process, and mistakes with their place.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_files;

use over_files::frame::*;
use over_files::*;
use rig::Scratch;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A folder with a capture of three packets, to UDP ports 1, 2, 2, and a file of taps.
fn scene(taps: &str) -> (Scratch, PathBuf) {
    let scratch = Scratch::new("taps");
    let frame = |port| ethernet(0x0800, &ipv4(17, &udp(9, port, b"hello, world")));
    fs::write(scratch.path("in.pcap"), pcap(1, [frame(1), frame(2), frame(2)])).unwrap();
    let file = scratch.path("taps.toml");
    fs::write(&file, taps).unwrap();
    (scratch, file)
}

fn mirror(file: &Path, more: &[&str]) -> Output {
    let words = ["mirror", "-c"].iter().map(AsRef::as_ref).chain([file.as_os_str()]);
    tapline(words.chain(more.iter().map(AsRef::as_ref)))
}

#[test]
fn each_tap_has_its_filter_its_targets_and_its_line() {
    let (scratch, file) = scene(
        r#"
        [[tap]]
        name = "one"
        read = "in.pcap"
        to = ["pcap:one.pcapng", "null:"]
        snapshot_length = 40
        [[tap.rule]]
        rule_action = "INCLUDE"
        protocol = "udp"
        udp_options.destination_port_range = { min = 1, max = 1 }

        [[tap]]
        name = "two"
        read = "in.pcap"
        to = ["pcap:two.pcapng"]
        expression = "dst port 2"
        "#,
    );
    let stats = scratch.path("stats.json");
    let output = mirror(&file, &["--stats-json", stats.to_str().unwrap()]);
    assert_done(&output);
    assert_says_ledger(&output, 5);
    let said = stderr(&output);
    assert!(said.contains("tapline: tap one: reading "), "{said}");
    let ledger = rig::stats(&stats);
    let taps: Vec<_> = ledger.taps.iter().map(|tap| (tap.name.as_str(), tap.matched)).collect();
    assert_eq!(taps, [("one", 1), ("two", 2)]);
    assert_eq!(ledger.taps[0].rules[0].hits, 1);
    assert_eq!(ledger.sent, 4);
    let caplens = |name: &str| -> Vec<usize> {
        rig::frames_in(scratch.path(name)).iter().map(|frame| frame.bytes.len()).collect()
    };
    assert_eq!(caplens("one.pcapng"), [40]);
    assert_eq!(caplens("two.pcapng"), [54, 54]);
}

#[test]
fn a_file_says_what_the_options_say() {
    let (scratch, file) = scene(
        "[[tap]]\nread = \"in.pcap\"\nto = [\"pcap:file.pcapng\"]\nsnapshot_length = 50\n\
         expression = \"udp port 2\"\n",
    );
    assert_done(&mirror(&file, &[]));
    let options = scratch.path("options.pcapng");
    let to = format!("pcap:{}", options.display());
    let read = scratch.path("in.pcap");
    let words = ["-r", read.to_str().unwrap(), "--to", &to, "-s", "50", "udp port 2"];
    assert_done(&tapline(["mirror"].into_iter().chain(words)));
    let bytes = |path: &Path| fs::read(path).unwrap();
    assert_eq!(bytes(&scratch.path("file.pcapng")), bytes(&options));
}

#[test]
fn a_mistake_is_told_with_its_place_and_nothing_is_begun() {
    let tap = "[[tap]]\nread = \"in.pcap\"\nto = [\"pcap:out.pcapng\"]\n";
    for (more, parts) in [
        ("direktion = \"in\"", &["taps.toml:4:1:", "did you mean `direction`?", "\n  ^"][..]),
        ("expression = \"tcp prot 80\"", &["column 5", "did you mean `port`?"]),
        ("rules = \"in.pcap\"", &["in.pcap", "a pcap capture file"]),
        ("[[tap]]\nname = \"2\"\nread = \"x\"\nto = [\"pcap:out.pcapng\"]", &["give each its own"]),
        ("[[tap]]\nname = \"2\"\nread = \"x\"\nto = [\"pcap:in.pcap\"]", &["written over"]),
        (
            "[[tap]]\nname = \"2\"\nread = \"in.pcap\"\nto = [\"pcap:o-1.pcapng\"]\n\
             [[tap]]\ninterface = \"lo\"\nworkers = 2\nto = [\"pcap:o.pcapng\"]",
            &["o-1.pcapng is the file of another target"],
        ),
        (
            "[[tap]]\nread = \"-\"\nto=[\"null:\"]\n[[tap]]\nname = \"2\"\nread = \"-\"\nto=[\"null:\"]",
            &["standard input"],
        ),
        (
            "[[tap]]\nname = \"2\"\nread = \"in.pcap\"\nto=[\"null:\"]\nexpression = \"tcp prot 80\"",
            &["tap 2: bad filter expression", "column 5"],
        ),
    ] {
        let (scratch, file) = scene(&format!("{tap}{more}\n"));
        let output = mirror(&file, &[]);
        assert_eq!(output.status.code(), Some(2), "{more}: {}", stderr(&output));
        for part in parts {
            assert!(stderr(&output).contains(part), "{part} is missing in {}", stderr(&output));
        }
        assert!(!scratch.path("out.pcapng").exists(), "{more}");
    }
    let output = mirror(Path::new("/nonexistent/taps.toml"), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
}

#[test]
fn options_of_one_tap_do_not_go_with_a_file() {
    let (_scratch, file) = scene("");
    for more in [
        &["--to", "null:"][..],
        &["-i", "lo"],
        &["-s", "50"],
        &["--workers", "2"],
        &["--rules", "x"],
        &["tcp"],
    ] {
        let output = mirror(&file, more);
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(stderr(&output).contains("cannot be used with"), "{}", stderr(&output));
    }
}
