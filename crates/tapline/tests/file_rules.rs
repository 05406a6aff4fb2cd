//! `--rules FILE`: which packets are kept, what the ledger says of each rule, and what a mistake in
//! the file is told.

mod over_files;

use filter::{Direction, Rules};
use over_files::frame::*;
use over_files::*;
use rig::Scratch;
use rig::rules::{Random, verdict};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Output;
use wire::LinkType;

/// DNS is left out, other UDP and all TCP from 10.0.0.1 kept; no ICMP comes.
const TOML: &str = r#"
[[rule]]
rule_action = "EXCLUDE"
protocol = "udp"
udp_options.destination_port_range = { min = 53, max = 53 }

[[rule]]
rule_action = "INCLUDE"
protocol = "icmp"

[[rule]]
rule_action = "INCLUDE"
protocol = 17

[[rule]]
rule_action = "INCLUDE"
source_cidr = "10.0.0.1/32"
protocol = "tcp"
"#;

/// The same as the cloud's resource.
const JSON: &str = r#"{"displayName": "web", "filterType": "VTAP", "vtapCaptureFilterRules": [
  {"ruleAction": "EXCLUDE", "protocol": "17", "udpOptions": {"destinationPortRange": {"min": 53, "max": 53}}},
  {"ruleAction": "INCLUDE", "protocol": "1", "icmpOptions": null},
  {"ruleAction": "INCLUDE", "protocol": "17"},
  {"ruleAction": "INCLUDE", "protocol": "6", "sourceCidr": "10.0.0.1/32"}
]}"#;

struct Scene {
    scratch: Scratch,
    capture: PathBuf,
    rules: PathBuf,
}

impl Scene {
    /// 7 DNS queries, 5 other UDP packets, 3 TCP packets of the client, 2 of the server, 1 ARP.
    fn new(rules: impl AsRef<[u8]>) -> Scene {
        let scratch = Scratch::new("rules");
        let mut frames = vec![arp()];
        frames.extend((0..7).map(|_| ethernet(0x0800, &ipv4(17, &udp(1000, 53, b"?")))));
        frames.extend(
            (0..5).map(|_| tagged(&ethernet(0x0800, &ipv4(17, &udp(1000, 54, b"!"))), &[7])),
        );
        frames.extend((0..3).map(|_| ethernet(0x0800, &ipv4(6, &tcp(1000, 80, 2, b"")))));
        let back = ipv4_between([10, 0, 0, 2], [10, 0, 0, 1], 6, 0, &tcp(80, 1000, 2, b""));
        frames.extend((0..2).map(|_| ethernet(0x0800, &back)));
        let (capture, path) = (scratch.path("x.pcap"), scratch.path("rules"));
        fs::write(&capture, pcap(1, frames)).expect("the folder can be written to");
        fs::write(&path, rules).expect("the folder can be written to");
        Scene { scratch, capture, rules: path }
    }

    /// Runs a command line in which X is the capture, R the rules, O and S files to be written.
    fn run(&self, line: &str) -> Output {
        let words = line.split(' ').map(|word| match word {
            "X" => self.capture.clone(),
            "R" => self.rules.clone(),
            "O" => self.scratch.path("out.pcapng"),
            "S" => self.scratch.path("stats.json"),
            word => word.into(),
        });
        tapline(words)
    }

    fn stats(&self) -> Value {
        let text =
            fs::read_to_string(self.scratch.path("stats.json")).expect("the ledger was written");
        serde_json::from_str(&text).expect("JSON")
    }
}

#[test]
fn both_formats_keep_the_same_packets_and_count_each_rule() {
    for rules in [TOML, JSON] {
        for command in ["capture -r X --rules R -w O", "mirror -r X --rules R --to null:"] {
            let scene = Scene::new(rules);
            let output = scene.run(&format!("{command} --stats-json S"));
            assert_done(&output);
            assert_says_ledger(&output, 2);
            assert!(!stderr(&output).contains("rule 1 "), "only with -v: {}", stderr(&output));
            let stats = scene.stats();
            let tap = &stats["taps"][0];
            let counts = ["seen", "filtered", "matched"].map(|name| tap[name].as_u64());
            assert_eq!(counts, [Some(18), Some(10), Some(8)], "{command}");
            let hits = serde_json::json!([
                {"index": 1, "hits": 7}, {"index": 2, "hits": 0},
                {"index": 3, "hits": 5}, {"index": 4, "hits": 3}
            ]);
            assert_eq!(tap["rules"], hits, "{command}");
            if command.starts_with("capture") {
                assert_eq!(packets_in(&scene.scratch.path("out.pcapng")).len(), 8);
            }
        }
    }
}

#[test]
fn hits_are_told_with_v() {
    let output = Scene::new(TOML).run("-v capture -r X --rules R -w O");
    assert_done(&output);
    let text = stderr(&output);
    for line in
        ["rule 1 decided for 7\n", "rule 3 decided for 5\n", "1 of 4 rules decided for none\n"]
    {
        assert!(text.contains(line), "{text}");
    }
    assert_says_ledger(&output, 2);
}

#[test]
fn rules_and_an_expression_exclude_each_other() {
    for command in ["capture -r X --rules R -w O tcp", "mirror -r X --rules R --to null: tcp"] {
        let output = Scene::new(TOML).run(command);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("cannot be used with"), "{}", stderr(&output));
    }
}

#[test]
fn a_mistake_in_the_file_is_shown_in_its_place_and_nothing_is_written() {
    for (rules, code, parts) in [
        (
            "[[rule]]\nrule_action = \"INCLUDE\"\nprotocol = \"tpc\"\n",
            2,
            ["rules:3:12: rule 1: protocol \"tpc\"", "             ^"],
        ),
        ("[]", 2, ["rules:1:1: no rule at all", "^"]),
        ("\u{1f}", 2, ["rules:1:2: not TOML", "^"]),
    ] {
        let scene = Scene::new(rules);
        let output = scene.run("capture -r X --rules R -w O --stats-json S");
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        for part in parts {
            assert!(stderr(&output).contains(part), "{}", stderr(&output));
        }
        assert!(!scene.scratch.path("out.pcapng").exists());
    }
    let scene = Scene::new(TOML);
    let output = scene.run("capture -r X --rules /does/not/exist -w O");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/does/not/exist: cannot be read"), "{}", stderr(&output));
    let output = scene.run("capture -r X --rules X -w O");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("is a pcap capture file; rules are TOML or JSON"));
}

/// Rules in the file's form.
fn toml_of(rules: &Rules) -> String {
    let mut text = String::new();
    for rule in rules.as_slice() {
        text += "[[rule]]\n";
        text += &format!("rule_action = \"{}\"\n", format!("{:?}", rule.action).to_uppercase());
        if let Some(direction) = rule.direction {
            text +=
                &format!("traffic_direction = \"{}\"\n", format!("{direction:?}").to_uppercase());
        }
        for (name, net) in [("source", rule.source), ("destination", rule.destination)] {
            text += &net.map_or(String::new(), |net| format!("{name}_cidr = \"{net}\"\n"));
        }
        text += &rule.protocol.map_or(String::new(), |number| format!("protocol = {number}\n"));
        match rule.transport {
            filter::Transport::Any => {}
            filter::Transport::Ports { source, destination } => {
                let options = if rule.protocol == Some(6) { "tcp" } else { "udp" };
                for (name, range) in [("source", source), ("destination", destination)] {
                    if let Some(range) = range {
                        let (min, max) = (range.min, range.max);
                        text += &format!(
                            "{options}_options.{name}_port_range = {{ min = {min}, max = {max} }}\n"
                        );
                    }
                }
            }
            filter::Transport::Icmp { kind, code } => {
                text += &format!("icmp_options.type = {kind}\n");
                text += &code.map_or(String::new(), |code| format!("icmp_options.code = {code}\n"));
            }
        }
    }
    text
}

#[test]
fn random_rules_over_a_random_capture_count_as_the_reference_does() {
    let mut random = Random::new(7);
    for _ in 0..5 {
        let rules = random.rules(30);
        // Empty frames have no place in a capture file; and ports that are not asked for need not
        // be there in a file, whose options are left out then.
        let frames: Vec<Vec<u8>> = std::iter::repeat_with(|| random.frame(LinkType::ETHERNET))
            .filter(|frame| !frame.is_empty())
            .take(2000)
            .collect();
        let scene = Scene::new(toml_of(&rules));
        fs::write(&scene.capture, pcap(1, &frames)).expect("the folder can be written to");
        assert_done(&scene.run("mirror -r X --rules R --to null: --stats-json S"));
        let read = api::RuleFile::open(&scene.rules).expect("a file of rules").rules;
        let mut hits = vec![0u64; read.as_slice().len()];
        for frame in &frames {
            let number = verdict(&read, LinkType::ETHERNET, Direction::Unknown, frame) as usize;
            if number > 0 {
                hits[number - 1] += 1;
            }
        }
        let stats = scene.stats();
        let told = stats["taps"][0]["rules"].as_array().expect("a list");
        let told: Vec<u64> =
            told.iter().map(|rule| rule["hits"].as_u64().expect("a count")).collect();
        assert_eq!(told, hits);
        assert!(hits.iter().filter(|&&hits| hits > 0).count() > 2, "{hits:?}");
    }
}
