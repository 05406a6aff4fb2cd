//! `tapline filter check`, `explain` and `test`: what is said of filters in both languages.

mod over_files;

use over_files::frame::*;
use over_files::*;
use rig::Scratch;
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Output};

/// Rule 3 is hidden by rule 1, rule 4 by rules 1 and 2 together.
const RULES: &str = r#"
[[rule]]
rule_action = "EXCLUDE"
protocol = "udp"
udp_options.destination_port_range = { min = 0, max = 100 }
[[rule]]
rule_action = "INCLUDE"
protocol = "udp"
udp_options.destination_port_range = { min = 101, max = 65535 }
[[rule]]
rule_action = "INCLUDE"
protocol = "udp"
udp_options.destination_port_range = { min = 53, max = 53 }
[[rule]]
rule_action = "INCLUDE"
protocol = "udp"
udp_options.destination_port_range = { min = 80, max = 443 }
[[rule]]
rule_action = "INCLUDE"
protocol = "icmp"
[[rule]]
traffic_direction = "EGRESS"
rule_action = "INCLUDE"
protocol = "tcp"
"#;

/// Runs a command line in which R is the file of rules and X a capture of 2 UDP packets to port 53,
/// 1 to port 200, 4 TCP packets and 1 ARP frame; expressions come last, in one word.
fn run(scratch: &Scratch, line: &str, expression: Option<&str>) -> Output {
    let ip = |protocol, body: &[u8]| ethernet(0x0800, &ipv4(protocol, body));
    let mut frames = vec![ip(17, &udp(1000, 53, b"?")); 2];
    frames.push(ip(17, &udp(1000, 200, b"hello")));
    frames.extend(vec![ip(6, &tcp(1, 2, 2, b"")); 4]);
    frames.push(arp());
    let (capture, rules) = (scratch.path("x.pcap"), scratch.path("r.toml"));
    let mut bytes = pcap(1, frames);
    bytes[16..20].copy_from_slice(&262_144u32.to_le_bytes()); // the snap length that tcpdump sets
    fs::write(&capture, bytes).expect("the folder can be written to");
    fs::write(&rules, RULES).expect("the folder can be written to");
    let words = line.split(' ').map(|word| match word {
        "R" => rules.display().to_string(),
        "X" => capture.display().to_string(),
        word => word.to_owned(),
    });
    tapline(words.chain(expression.map(str::to_owned)))
}

fn text_of(line: &str, expression: Option<&str>) -> String {
    let output = run(&Scratch::new("filter"), line, expression);
    assert_done(&output);
    stdout(&output).to_owned()
}

fn json_of(line: &str, expression: Option<&str>) -> Value {
    serde_json::from_str(&text_of(line, expression)).expect("JSON")
}

#[test]
fn check_says_what_rules_are_and_which_never_decide() {
    let text = text_of("filter check --rules R", None);
    for part in [
        "r.toml: 6 rules, 5 include, 1 exclude\n",
        "program for EN10MB, received packets: ",
        "program for EN10MB, sent packets: ",
        "kernel: ",
        "rule 3 never decides, as rule 1 matches all of it: INCLUDE udp to port 53\n",
        "rule 4 never decides, as rules before it match all of it: INCLUDE udp to ports 80-443\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("rule 5"), "{text}");
    let json = json_of("filter check --format json --rules R", None);
    assert_eq!((&json["rules"], &json["include"]), (&json!(6), &json!(5)));
    assert_eq!(json["shadowed"][0]["by"], 1);
    assert_eq!(json["shadowed"][1]["by"], Value::Null);
    assert_eq!(json["kernel"]["decides"], "everything");
    assert!(json["kernel"]["ebpf_instructions"].as_u64() > Some(100));
}

#[test]
fn check_says_whether_the_kernel_takes_it() {
    if !rig::root_or_skip() {
        return;
    }
    for (expression, decides, loads) in [
        ("tcp port 80", "everything", true),
        ("tcp[tcpflags] & tcp-syn != 0", "whole_frames", true),
        ("udp[100] = 7", "nothing", false),
    ] {
        let json = json_of("filter check --format json", Some(expression));
        assert_eq!((&json["language"], &json["rules"]), (&json!("expression"), &Value::Null));
        assert_eq!(json["kernel"]["decides"], decides, "{expression}: {json}");
        assert_eq!(json["kernel"]["loads"], loads, "{expression}: {json}");
    }
    let text = text_of("filter check --rules R", None);
    assert!(text.contains("kernel: takes it, "), "{text}");
    assert_eq!(json_of("filter check --format json --rules R", None)["kernel"]["loads"], true);
    let text = text_of("filter check", Some("udp[100] = 7"));
    assert!(text.contains("kernel: does not take it: "), "{text}");
    assert!(text.contains("runs in user space"), "{text}");
}

#[test]
fn a_mistake_is_shown_with_its_place() {
    let scratch = Scratch::new("filter");
    for (command, expression, message) in [
        ("filter check", "tcp prot 80", "at column 5: syntax error\n  tcp prot 80\n      ^\n"),
        ("filter explain", "tcp port http and", "the expression stops too early"),
        ("filter test -r X", "port 99999", "port"),
        ("filter check --link-type 127 --rules R", "", "rules cannot read frames of link type"),
    ] {
        let expression = Some(expression).filter(|expression| !expression.is_empty());
        let output = run(&scratch, command, expression);
        assert_eq!(output.status.code(), Some(2), "{command}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{command}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
    let bad = scratch.path("bad.toml");
    fs::write(&bad, "[[rule]]\nrule_action = \"PERMIT\"\n").unwrap();
    let output = tapline(["filter", "check", "--rules", &bad.display().to_string()]);
    assert_eq!(output.status.code(), Some(2));
    let message = "bad.toml:2:15: rule 1: rule_action \"PERMIT\" is unknown; write \"INCLUDE\" or \
                   \"EXCLUDE\"\n  rule_action = \"PERMIT\"\n                ^\n";
    assert!(stderr(&output).contains(message), "{}", stderr(&output));
}

#[test]
fn explain_prints_what_tcpdump_prints() {
    if !rig::tool_or_skip("tcpdump") {
        return;
    }
    let scratch = Scratch::new("filter");
    for expression in ["tcp port 80", "vlan and ip6", "host 10.0.0.1 and not udp", "less 100"] {
        for (ours, theirs) in [("filter explain", "-d"), ("filter explain --ddd", "-ddd")] {
            let ours = run(&scratch, ours, Some(expression));
            assert_done(&ours);
            let capture = scratch.path("x.pcap");
            let theirs =
                Command::new("tcpdump").arg("-r").arg(&capture).args([theirs, expression]).output();
            assert_eq!(stdout(&ours), stdout(&theirs.unwrap()), "{expression}");
        }
    }
}

#[test]
fn explain_prints_a_program_for_each_direction_where_they_differ() {
    let text = text_of("filter explain --rules R", None);
    assert!(text.starts_with("received packets:\n(000) ld       #pktlen"), "{text}");
    assert!(text.contains("\nsent packets:\n(000) "), "{text}");
    let sent = text_of("filter explain -Q out --rules R", None);
    assert!(text.ends_with(&sent) && sent.contains("ret      #6"), "{sent}");
    let received = text_of("filter explain -Q in --rules R", None);
    assert!(!received.contains("ret      #6"), "{received}");
    let decimal = text_of("filter explain -Q in --ddd --rules R", None);
    let instructions = decimal.lines().next().and_then(|first| first.parse::<usize>().ok());
    assert_eq!(instructions, Some(decimal.lines().count() - 1));
    let output = run(&Scratch::new("filter"), "filter explain --ddd --rules R", None);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("-Q in or -Q out"), "{}", stderr(&output));

    let json = json_of("filter explain --format json --rules R", None);
    let directions: Vec<&Value> =
        json["programs"].as_array().unwrap().iter().map(|program| &program["direction"]).collect();
    assert_eq!(directions, ["in", "out"]);
    assert_eq!(
        json["programs"][0]["instructions"].as_array().unwrap().len(),
        instructions.unwrap()
    );
}

#[test]
fn explain_prints_the_kernel_s_program() {
    let text = text_of("filter explain --ebpf --rules R", None);
    assert!(text.contains("call bpf_map_lookup_elem"), "{text}");
    let json = json_of("filter explain --ebpf --format json", Some("tcp"));
    assert!(json["ebpf_instructions"].as_u64() > Some(50), "{json}");
    let output = run(&Scratch::new("filter"), "filter explain --ebpf", Some("udp[100] = 7"));
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("runs in user space"), "{}", stderr(&output));
}

#[test]
fn test_counts_what_rules_do_to_a_file() {
    let scratch = Scratch::new("filter");
    let output = run(&scratch, "filter test -r X --rules R", None);
    assert_done(&output);
    let text = stdout(&output);
    for part in [
        "x.pcap: 8 packets, 391 bytes\n",
        // The direction is not known, so the TCP packets may have been sent.
        "kept 5 packets (62.5 %), 263 bytes (67.3 %)\n",
        "excluded 2 packets, 86 bytes\n",
        "unmatched 1 packets, 42 bytes\n",
        "rule 1: 2 packets, 86 bytes: EXCLUDE udp to ports 0-100\n",
        "rule 2: 1 packets, 47 bytes: INCLUDE udp to ports 101-65535\n",
        "rule 3: never, as rule 1 matches all of it: ",
        "rule 4: never, as rules before it match all of it: ",
        "rule 5: no packets: INCLUDE icmp\n",
        "rule 6: 4 packets, 216 bytes: INCLUDE sent tcp\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let json = json_of("filter test -r X --format json --rules R", None);
    assert_eq!(json["total"], json!({"packets": 8, "bytes": 391}));
    assert_eq!(json["kept"]["packets"], 5);
    assert_eq!(
        json["rules"][2],
        json!({"index": 3, "rule": "INCLUDE udp to port 53", "packets": 0, "bytes": 0,
               "shadowed": true, "shadowed_by": 1})
    );
    let sum = |name: &str| json[name]["packets"].as_u64().unwrap();
    assert_eq!(sum("kept") + sum("excluded") + sum("unmatched"), sum("total"));
}

#[test]
fn test_counts_what_an_expression_does_to_a_file() {
    let text = text_of("filter test -r X", Some("udp port 53"));
    assert!(text.contains("kept 2 packets (25.0 %), 86 bytes (22.0 %)\n"), "{text}");
    assert!(text.contains("unmatched 6 packets, 305 bytes\n"), "{text}");
    assert!(!text.contains("rule") && !text.contains("excluded"), "{text}");
    let capture = pcap(1, [arp()]);
    let output = tapline_reading(&capture, &["filter", "test", "-r", "-", "arp"]);
    assert_done(&output);
    assert!(stdout(&output).contains("kept 1 packets (100.0 %)"), "{}", stdout(&output));
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let scratch = Scratch::new("filter");
    for (line, message) in [
        ("filter test -r /does/not/exist --rules R", "/does/not/exist: "),
        ("filter test -r R --rules R", "r.toml: "),
        ("filter test -r X --rules /does/not/exist", "/does/not/exist: cannot be read"),
    ] {
        let output = run(&scratch, line, None);
        assert_eq!(output.status.code(), Some(1), "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(message), "{line}: {}", stderr(&output));
    }
}
