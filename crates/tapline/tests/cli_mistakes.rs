//! Exit codes, and what a mistake is told: what is wrong, where, and the mend.

mod over_files;

use over_files::frame::*;
use over_files::*;
use rig::Scratch;
use std::ffi::OsStr;
use std::fs;

/// Runs a command line of words, in which X is a small capture; gives exit code and message.
fn told(line: &str) -> (i32, String) {
    let scratch = Scratch::new("mistakes");
    let capture = scratch.path("x.pcap");
    fs::write(&capture, pcap(1, [ethernet(0x0800, &ipv4(17, &udp(1, 2, b"hello")))]))
        .expect("the folder can be written to");
    let words = line.split(' ').map(|word| match word {
        "X" => capture.as_os_str().to_owned(),
        word => word.into(),
    });
    let output = tapline(words);
    let code = output.status.code().expect("no signal ended it");
    assert!(!stderr(&output).contains("panicked"), "{line}: {}", stderr(&output));
    (code, stderr(&output).into())
}

/// Asserts the exit code of a command line, and that its message has all these parts.
fn assert_told(line: &str, code: i32, parts: &[&str]) {
    let (got, message) = told(line);
    assert_eq!(got, code, "{line}: {message}");
    for part in parts {
        assert!(message.contains(part), "{line}: `{part}` is missing in: {message}");
    }
    // Who mistyped sees no ledger of what was never begun.
    assert!(code != 2 || !message.contains("unaccounted"), "{line}: {message}");
}

#[test]
fn what_is_done_exits_with_0() {
    for line in [
        "capture -r X",
        "capture -r X -c 1 udp",
        "capture -r X tcp",
        "mirror -r X --to null: --fail-on-drop",
        "--help",
        "--version",
        "capture --help",
        "mirror --help",
        "receive --help",
    ] {
        assert_told(line, 0, &[]);
    }
}

#[test]
fn what_cannot_be_done_exits_with_1() {
    for (line, parts) in [
        ("capture -r /nonexistent/x.pcap", &["/nonexistent/x.pcap", "No such file"][..]),
        ("capture -r X -w /nonexistent/y", &["/nonexistent/y", "choose a folder"]),
        ("mirror -r X --to pcap:/nonexistent/y", &["/nonexistent/y", "choose a folder"]),
        ("capture -r X -w /", &["write /", "choose"]),
        ("capture -i nonesuch0", &["no interface `nonesuch0`", "there are: ", "lo"]),
        ("mirror -i nonesuch0 --to null:", &["no interface `nonesuch0`", "lo"]),
        ("mirror -r X --to null: --datapath kernel", &["not", "ring or auto"]),
        ("mirror -i lo --to null: --datapath kernel", &["not", "ring or auto"]),
        ("mirror -r X --to vxlan://no.such.host.invalid?vni=1", &["resolve", "write an address"]),
        ("receive --listen vxlan://127.0.0.1:4799 --archive /proc/none", &["/proc/none", "choose"]),
        ("receive --listen vxlan://203.0.113.1:4799 -w /dev/null", &["203.0.113.1"]),
        ("capture -q -r X --stats-json /nonexistent/s.json", &["/nonexistent/s.json"]),
    ] {
        assert_told(line, 1, parts);
    }
}

#[test]
fn a_bad_endpoint_is_told_with_the_mend() {
    for (endpoint, parts) in [
        ("vxlan://10.0.0.1", &["?vni=N"][..]),
        ("vxlan://10.0.0.1?vni=16777216", &["16777216", "0 to 16777215"]),
        ("vxlan://10.0.0.1?vni=x", &["`x`", "0 to 16777215"]),
        ("vxlan://10.0.0.1:0?vni=1", &["port `0`", "1 to 65535"]),
        ("vxlan://10.0.0.1:65536?vni=1", &["port `65536`", "1 to 65535"]),
        ("vxlan://fd00::1?vni=1", &["brackets", "vxlan://[ADDRESS]"]),
        ("vxlan://[fd00::1?vni=1", &["`]`", "missing"]),
        ("vxlan://[fd00::x]?vni=1", &["fd00::x", "not an IPv6 address"]),
        ("vxlan://?vni=1", &["host is missing"]),
        ("vxlan://h?vni=1&weight=0", &["weight `0`", "1 to 1000"]),
        ("vxlan://h?vni=1&health=ping", &["`ping`", "tcp:PORT"]),
        ("vxlan://h?vin=1", &["`vin`", "it has vni, source, weight"]),
        ("geneve://h?key=1", &["`key`", "vni, metadata, source"]),
        ("gre://h:47", &["protocol 47", "leave `:47` out"]),
        ("udp://h", &["no known scheme", "vxlan://HOST"]),
        ("10.0.0.1", &["no known scheme", "vxlan://HOST"]),
        ("pcap:", &["file is missing", "pcap:PATH"]),
        ("null:,null:", &["`null:` is named twice", "weight=N"]),
        ("null:,", &["no known scheme"]),
    ] {
        assert_told(&format!("mirror -r X --to {endpoint}"), 2, parts);
    }
    for (endpoint, parts) in [
        ("null:", &["cannot listen", "vxlan://ADDRESS"][..]),
        ("vxlan://0.0.0.0?vni=-1", &["`-1`", "0 to 16777215"]),
    ] {
        assert_told(&format!("receive -w /dev/null --listen {endpoint}"), 2, parts);
    }
}

#[test]
fn a_bad_number_is_told_with_the_mend() {
    for (arguments, parts) in [
        ("-C 1.5MB", &["1.5MB", "kB, MB"][..]),
        ("-C 0", &["`0`", "1 or more"]),
        ("-C x", &["`x`", "kB, MB"]),
        ("-C MB", &["`MB`", "whole number"]),
        ("-C 99999999999999999999", &["too large"]),
        ("-G 0", &["`0`", "longer than zero"]),
        ("-G 5d", &["`5d`", "ms, s, m or h"]),
        ("-W 0", &["0", "1"]),
        ("-c 0", &["0", "1"]),
        ("-c many", &["many"]),
        ("-s -1", &["-1"]),
        ("-B 1", &["64KiB to 4GiB"]),
        ("-Q sideways", &["both, in or out"]),
        ("--format xml", &["text, json"]),
    ] {
        assert_told(&format!("capture -r X {arguments}"), 2, parts);
    }
    assert_told("mirror -r X --to null: -s 13", 2, &["14 or more"]);
    assert_told("mirror -r X --to null: --oversize x", 2, &["auto, fragment, cut or drop"]);
    assert_told("mirror -r X --to null: --datapath fast", 2, &["auto, kernel or ring"]);
}

#[test]
fn a_missing_or_doubled_argument_is_named() {
    for (line, parts) in [
        ("capture", &["--interface", "--read"][..]),
        ("capture -r X -i lo", &["cannot be used with"]),
        ("mirror -r X", &["--to"]),
        ("mirror --to null:", &["--interface", "--read"]),
        ("receive -w /dev/null", &["--listen"]),
        ("receive --listen vxlan://127.0.0.1", &["--write", "--archive"]),
        ("receive --listen vxlan://127.0.0.1 --archive /tmp/none -W 3", &["leave -W out"]),
        ("mirror -i lo -i lo --to pcap:/tmp/none", &["two interfaces", "one mirror for each"]),
        ("capturex", &["capture"]),
        ("capture -r X --to null:", &["--to"]),
    ] {
        assert_told(line, 2, parts);
    }
}

#[test]
fn a_bad_expression_shows_its_column() {
    for (expression, column, mend) in
        [("tcp prot 80", 5, "did you mean `port`?"), ("udp and (port 53", 17, "too early")]
    {
        for command in ["capture -r X", "mirror -r X --to null:"] {
            let (code, message) = told(&format!("{command} {expression}"));
            assert_eq!(code, 2, "{message}");
            let lines: Vec<&str> = message.lines().collect();
            let at = lines.iter().position(|line| line.contains("bad filter expression"));
            let at = at.unwrap_or_else(|| panic!("{message}"));
            assert!(lines[at].contains(&format!("at column {column}: ")), "{message}");
            assert_eq!(lines[at + 1], format!("  {expression}"), "{message}");
            assert_eq!(lines[at + 2].find('^'), Some(column + 1), "{message}");
            assert!(lines[at + 3].contains(mend), "{message}");
        }
    }
}

#[test]
fn a_refused_command_leaves_no_file_behind() {
    let scratch = Scratch::new("refused");
    let (capture, to) = (scratch.path("x.pcap"), scratch.path("y.pcapng"));
    fs::write(&capture, pcap(1, [arp()])).unwrap();
    fs::write(&to, "kept").unwrap();
    let (capture, target) = (capture.display().to_string(), format!("pcap:{}", to.display()));
    let output = tapline(["mirror", "-r", &capture, "--to", &target, "tcp", "prot"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(fs::read(&to).unwrap(), b"kept", "a mistyped expression costs no earlier capture");
}

#[test]
fn a_capture_is_not_written_over_itself() {
    let scratch = Scratch::new("itself");
    let capture = scratch.path("x.pcap");
    let bytes = pcap(1, (0..2000).map(|_| arp()));
    fs::write(&capture, &bytes).unwrap();
    let output = copied(&capture, &capture);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("another"), "{}", stderr(&output));
    assert_eq!(fs::read(&capture).unwrap(), bytes);
}

#[test]
fn two_targets_do_not_write_one_file() {
    let scratch = Scratch::new("one-file");
    let capture = scratch.path("x.pcap");
    fs::write(&capture, pcap(1, [arp()])).unwrap();
    let folder = scratch.folder().display();
    let there = format!("{folder}/there");
    fs::write(&there, "kept").unwrap();
    std::os::unix::fs::symlink(&there, format!("{folder}/link")).unwrap();
    for (one, other, code) in [
        (format!("{folder}/y"), format!("{folder}/./y"), 2),
        (there.clone(), format!("{folder}/link"), 2),
        ("-".into(), "-".into(), 2),
        ("/dev/null".into(), "/dev/null".into(), 0),
        (format!("{folder}/y"), format!("{folder}/z"), 0),
    ] {
        let (one, other) = (format!("pcap:{one}"), format!("pcap:{other}"));
        let arguments = ["mirror", "--to", &one, "--to", &other, "-r"].map(OsStr::new);
        let output = tapline(arguments.into_iter().chain([capture.as_os_str()]));
        assert_eq!(output.status.code(), Some(code), "{one} {other}: {}", stderr(&output));
        assert!(code == 0 || stderr(&output).contains("give each its own"), "{}", stderr(&output));
    }
    assert_eq!(fs::read(&there).unwrap(), b"kept");
}

#[test]
fn a_mistake_costs_no_file_that_is_there() {
    let scratch = Scratch::new("mistakes-files");
    let (old, precious) = (scratch.path("old.pcapng"), b"what was recorded before");
    let capture = scratch.path("x.pcap");
    fs::write(&capture, pcap(1, [ethernet(0x0800, &ipv4(17, &udp(1, 2, b"hello")))]))
        .expect("the folder can be written to");
    for line in [
        "capture -r X -w OLD --stats-json /nonexistent/s.json",
        "mirror -r X --to pcap:OLD --stats-json /nonexistent/s.json",
        "receive --listen vxlan://127.0.0.1:4797 -w OLD --stats-json /nonexistent/s.json",
        "mirror -r X --to pcap:OLD --to vxlan://no.such.host.invalid?vni=1",
        "mirror -r X --to pcap:OLD,vxlan://no.such.host.invalid?vni=1",
        "mirror -r X --to pcap:OLD --to pcap:/nonexistent/y",
        "mirror -r X --to pcap:OLD --to pcap:/tmp",
    ] {
        fs::write(&old, precious).expect("the folder can be written to");
        let line = line.replace('X', &capture.display().to_string());
        let line = line.replace("OLD", &old.display().to_string());
        let output = tapline(line.split(' '));
        assert_eq!(output.status.code(), Some(1), "{line}: {}", stderr(&output));
        assert!(fs::read(&old).is_ok_and(|bytes| bytes == precious), "{line}: it is replaced");
    }
}
