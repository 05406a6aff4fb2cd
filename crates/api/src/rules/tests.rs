//! Files that are read, and mistakes with the place and the mend that are shown.

use super::*;
use filter::{Action, PortRange, Rule, TrafficDirection, Transport};

fn read(content: &str) -> RuleFile {
    RuleFile::parse("f", content.as_bytes()).unwrap()
}

fn refused(content: impl AsRef<[u8]>) -> String {
    RuleFile::parse("f", content.as_ref()).unwrap_err().to_string()
}

const ALL_FIELDS_TOML: &str = r#"
# Web servers.
display_name = "web"

[[rule]]
traffic_direction = "INGRESS"
rule_action = "INCLUDE"
source_cidr = "10.0.0.0/8"
destination_cidr = "10.1.2.3/32"
protocol = "tcp"
tcp_options = { source_port_range = { min = 1024, max = 65535 } }
tcp_options.destination_port_range = { min = 80, max = 80 }

[[rule]]
rule_action = "EXCLUDE"
protocol = 17
[rule.udp_options]
destination_port_range = { min = 53, max = 53 }

[[rule]]
traffic_direction = "EGRESS"
rule_action = "INCLUDE"
source_cidr = "2001:db8::/32"
protocol = "58"
icmp_options = { type = 128, code = 0 }
"#;

const ALL_FIELDS_JSON: &str = r#"[
  {"trafficDirection": "INGRESS", "ruleAction": "INCLUDE", "sourceCidr": "10.0.0.0/8",
   "destinationCidr": "10.1.2.3/32", "protocol": "6",
   "tcpOptions": {"sourcePortRange": {"min": 1024, "max": 65535},
                  "destinationPortRange": {"min": 80, "max": 80}}, "udpOptions": null},
  {"trafficDirection": null, "ruleAction": "EXCLUDE", "protocol": "17",
   "udpOptions": {"destinationPortRange": {"max": 53, "min": 53}, "sourcePortRange": null}},
  {"trafficDirection": "EGRESS", "ruleAction": "INCLUDE", "sourceCidr": "2001:db8::/32",
   "protocol": "58", "icmpOptions": {"type": 128, "code": 0}}
]"#;

fn all_fields() -> Vec<Rule> {
    let net = |text: &str| Some(text.parse().unwrap());
    vec![
        Rule {
            direction: Some(TrafficDirection::Ingress),
            source: net("10.0.0.0/8"),
            destination: net("10.1.2.3/32"),
            protocol: Some(6),
            transport: Transport::Ports {
                source: Some(PortRange { min: 1024, max: 65535 }),
                destination: Some(PortRange::one(80)),
            },
            ..Rule::new(Action::Include)
        },
        Rule {
            protocol: Some(17),
            transport: Transport::Ports { source: None, destination: Some(PortRange::one(53)) },
            ..Rule::new(Action::Exclude)
        },
        Rule {
            direction: Some(TrafficDirection::Egress),
            source: net("2001:db8::/32"),
            protocol: Some(58),
            transport: Transport::Icmp { kind: 128, code: Some(0) },
            ..Rule::new(Action::Include)
        },
    ]
}

/// The same in the spelling and the wrapping that oci-cli prints.
fn kebab(json: &str) -> String {
    let names = json.split('"').enumerate().map(|(index, part)| match index % 2 {
        0 => part.to_owned(),
        _ if part.starts_with(|c: char| c.is_ascii_lowercase()) => {
            let spell = |c: char| match c.is_ascii_uppercase() {
                true => format!("-{}", c.to_ascii_lowercase()),
                false => c.to_string(),
            };
            part.chars().map(spell).collect()
        }
        _ => part.to_owned(),
    });
    names.collect::<Vec<_>>().join("\"")
}

#[test]
fn one_list_of_rules_in_every_form() {
    // `tcp_options` is written in two ways at once above, which TOML refuses; here in one.
    let toml = ALL_FIELDS_TOML.replace(
        "tcp_options = { source_port_range = { min = 1024, max = 65535 } }",
        "tcp_options.source_port_range = { min = 1024, max = 65535 }",
    );
    let resource = format!(
        r#"{{"displayName":"web","filterType":"VTAP","id":"ocid1.x","freeformTags":{{"a":"b"}},
            "timeCreated":"2026-01-01T00:00:00.000Z","vtapCaptureFilterRules":{ALL_FIELDS_JSON}}}"#
    );
    let printed = format!(r#"{{"data": {}, "etag": "x"}}"#, kebab(&resource));
    for (form, content, display_name) in [
        ("TOML", toml.clone(), Some("web")),
        ("TOML with a byte order mark", format!("\u{feff}{toml}"), Some("web")),
        ("a bare array", ALL_FIELDS_JSON.to_owned(), None),
        ("a bare array in kebab-case", kebab(ALL_FIELDS_JSON), None),
        ("a resource", resource.clone(), Some("web")),
        ("what oci-cli prints", printed, Some("web")),
    ] {
        let file =
            RuleFile::parse("f", content.as_bytes()).unwrap_or_else(|e| panic!("{form}: {e}"));
        assert_eq!(file.rules.as_slice(), all_fields(), "{form}");
        assert_eq!(file.display_name.as_deref(), display_name, "{form}");
    }
    assert!(refused(ALL_FIELDS_TOML).contains("f:12:"), "{}", refused(ALL_FIELDS_TOML));
}

#[test]
fn words_are_taken_in_any_case_and_protocols_by_name() {
    for (name, number) in
        [("\"tcp\"", 6), ("\"UDP\"", 17), ("\"icmp\"", 1), ("\"icmpv6\"", 58), ("89", 89)]
    {
        let file = read(&format!("[[rule]]\nrule_action = \"include\"\nprotocol = {name}\n"));
        assert_eq!(file.rules.as_slice()[0].protocol, Some(number));
    }
}

#[test]
fn empty_options_ask_for_nothing() {
    let file = read("[[rule]]\nrule_action = \"INCLUDE\"\nprotocol = 6\ntcp_options = {}\n");
    assert_eq!(file.rules.as_slice()[0].transport, Transport::Any);
}

#[test]
fn a_mistake_is_shown_in_its_line() {
    let toml = "[[rule]]\nrule_action = \"INCLUDE\"\nsource_cidr = \"10.0.0.1/8\"\n";
    assert_eq!(
        refused(toml),
        "f:3:15: rule 1: source_cidr \"10.0.0.1/8\" has bits set behind its prefix; write \"10.0.0.0/8\"\n  \
         source_cidr = \"10.0.0.1/8\"\n                \
         ^"
    );
    let json = "[\n  {\"ruleAction\": \"INCLUDE\", \"sourceCidr\": \"10.0.0.1/8\"}\n]";
    assert_eq!(
        refused(json),
        "f:2:43: rule 1: sourceCidr \"10.0.0.1/8\" has bits set behind its prefix; write \"10.0.0.0/8\"\n    \
         {\"ruleAction\": \"INCLUDE\", \"sourceCidr\": \"10.0.0.1/8\"}\n\
         \x20                                           ^"
    );
}

/// A rule with one more line, and the mistake that is said of it: column and the words' beginning.
const IN_RULE: &[(&str, usize, &str)] = &[
    ("source_cdir = \"::/0\"", 1, "a rule has no `source_cdir`; did you mean `source_cidr`?"),
    ("sourceCidr = \"::/0\"", 1, "a rule has no `sourceCidr`; did you mean `source_cidr`?"),
    ("colour = 1", 1, "a rule has no `colour`; it may have traffic_direction, rule_action, source"),
    (
        "traffic_direction = \"BOTH\"",
        21,
        "traffic_direction \"BOTH\" is unknown; write \"INGRESS\" or \"EGRESS\", or leave it out for both",
    ),
    (
        "source_cidr = \"10.0.0.0\"",
        15,
        "source_cidr \"10.0.0.0\" has no prefix length; write \"10.0.0.0/32\" for",
    ),
    (
        "source_cidr = \"10.0.0.0/33\"",
        15,
        "source_cidr \"10.0.0.0/33\": the prefix length is a number from 0 to 32",
    ),
    (
        "source_cidr = \"::/129\"",
        15,
        "source_cidr \"::/129\": the prefix length is a number from 0 to 128",
    ),
    ("source_cidr = \"::/+1\"", 15, "source_cidr \"::/+1\": the prefix length is a number"),
    (
        "source_cidr = \"10.0.0.256/8\"",
        15,
        "source_cidr \"10.0.0.256/8\": \"10.0.0.256\" is no IPv4 or IPv6 address",
    ),
    ("source_cidr = \"web\"", 15, "source_cidr \"web\" is no address with a prefix length"),
    ("source_cidr = 10", 15, "source_cidr is a number; write an address and a prefix length"),
    ("protocol = \"tpc\"", 12, "protocol \"tpc\" is unknown; write a number from 0 to 255, or tcp"),
    ("protocol = 256", 12, "protocol 256 is unknown; write a number from 0 to 255"),
    ("protocol = \"256\"", 12, "protocol \"256\" is unknown"),
    ("protocol = \"\"", 12, "protocol \"\" is unknown"),
    (
        "protocol = \"all\"",
        12,
        "protocol \"all\" is unknown; write a number from 0 to 255, or tcp, udp, icmp, icmpv6; leave it out for all",
    ),
    ("protocol = 1.5", 12, "protocol is a fraction; write a number"),
    (
        "tcp_options = {}",
        1,
        "tcp_options needs protocol 6 (tcp), and the rule has none; write that, or leave tcp_options out",
    ),
    (
        "icmp_options = { type = 8 }",
        1,
        "icmp_options needs protocol 1 (icmp) or 58 (icmpv6), and the rule has none",
    ),
];

#[test]
fn mistakes_in_a_rule_have_place_and_mend() {
    for (line, column, words) in IN_RULE {
        let message = refused(format!("[[rule]]\nrule_action = \"INCLUDE\"\n{line}\n"));
        let expected = format!("f:3:{column}: rule 1: {words}");
        assert!(message.starts_with(&expected), "{message}\n{expected}");
    }
}

#[test]
fn contradictions_between_fields_are_shown_at_one_of_them() {
    for (lines, place, words) in [
        (
            "protocol = 17\ntcp_options = {}",
            "4:1",
            "tcp_options needs protocol 6 (tcp), and the rule has 17 (udp)",
        ),
        (
            "protocol = 6\ntcp_options.source_port_range = { min = 9, max = 8 }",
            "4:33",
            "source_port_range goes from 9 down to 8; exchange min and max",
        ),
        (
            "protocol = 6\ntcp_options.source_port_range = { min = 9 }",
            "4:33",
            "source_port_range.max is missing",
        ),
        (
            "protocol = 6\ntcp_options.source_port_range = { min = 9, max = 65536 }",
            "4:50",
            "source_port_range.max 65536 is not from 0 to 65535",
        ),
        (
            "protocol = 6\ntcp_options.source_port_range = 80",
            "4:33",
            "source_port_range is a number, not a table of min, max",
        ),
        (
            "source_cidr = \"10.0.0.0/8\"\ndestination_cidr = \"::/0\"",
            "4:20",
            "source CIDR 10.0.0.0/8 and destination CIDR ::/0 are of two IP versions",
        ),
        (
            "protocol = 1\nicmp_options.code = 0",
            "4:1",
            "icmp_options.type is missing; leave icmp_options out for every type",
        ),
        (
            "source_cidr = \"::/0\"\nprotocol = 1\nicmp_options.type = 8",
            "4:12",
            "ICMP (protocol 1) does not run between addresses such as ::/0; write protocol 58",
        ),
    ] {
        let message = refused(format!("[[rule]]\nrule_action = \"INCLUDE\"\n{lines}\n"));
        let expected = format!("f:{place}: rule 1: {words}");
        assert!(message.starts_with(&expected), "{message}\n{expected}");
    }
    let second = "[[rule]]\nrule_action = \"INCLUDE\"\n[[rule]]\nprotocol = 1\n";
    let expected = "f:3:1: rule 2: `rule_action` is missing: \"INCLUDE\" or \"EXCLUDE\"";
    assert!(refused(second).starts_with(expected), "{}", refused(second));
}

#[test]
fn mistakes_in_the_file_s_form() {
    for (content, words) in [
        ("", "f: no rule; write one or more [[rule]]"),
        ("rule = []", "f:1:8: no rule at all"),
        ("[rule]\nrule_action = \"INCLUDE\"", "f:1:1: a table is no list of rules; write [[rule]]"),
        ("[[rules]]\n", "f:1:3: the file has no `rules`; did you mean `rule`?"),
        ("[[rule]]\nrule_action = INCLUDE\n", "f:2:15: not TOML: "),
        ("[[rule]\n", "f:1:"),
        ("[]", "f:1:1: no rule at all, so nothing would be mirrored; write one or more rules"),
        ("[3]", "f:1:2: the file has no `3`; it may have display_name, rule"),
        ("[{\"ruleAction\": \"INCLUDE\"},]", "f:1:28: not JSON: expected value"),
        ("[{\"ruleAction\": \"INCLUDE\"}] x", "f:1:29: not JSON: trailing characters"),
        ("{\"filterType\": \"FLOWLOG\"}", "f:1:16: filterType is not \"VTAP\""),
        ("{\"displayName\": \"x\"}", "f:1:1: `vtapCaptureFilterRules` is missing"),
        (
            "{\"vtapCaptureFilterRule\": []}",
            "f:1:2: a capture filter has no `vtapCaptureFilterRule`; did you mean `vtapCaptureFilterRules`?",
        ),
        ("{\"data\": []}", "f:1:10: `data` is a list of capture filters"),
        ("{\"data\": null}", "f:1:1: `data` is null"),
        (
            "[{\"ruleAction\": \"INCLUDE\", \"ruleAction\": \"EXCLUDE\"}]",
            "f:1:28: rule 1: `ruleAction` stands here a second time",
        ),
        (
            "[{\"ruleAction\": \"ALLOW\"}]",
            "f:1:17: rule 1: ruleAction \"ALLOW\" is unknown; write \"INCLUDE\" or \"EXCLUDE\"",
        ),
        (
            "[{\"rule-action\": \"INCLUDE\", \"source-port\": 1}]",
            "f:1:29: rule 1: a rule has no `source-port`; it may have",
        ),
    ] {
        let message = refused(content);
        assert!(message.starts_with(words), "{content}\n{message}");
    }
}

#[test]
fn other_files_are_named() {
    assert_eq!(
        refused(b"\xd4\xc3\xb2\xa1...."),
        "f: is a pcap capture file; rules are TOML or JSON"
    );
    assert_eq!(
        refused(b"\x0a\x0d\x0d\x0a...."),
        "f: is a pcapng capture file; rules are TOML or JSON"
    );
    assert_eq!(refused(b"\x1f\x8b\x08"), "f: is compressed by gzip; rules are TOML or JSON");
    let latin = refused(b"[[rule]]\n# caf\xe9\n");
    assert!(
        latin.starts_with("f:2:6: byte 0xe9 is not UTF-8; rules are TOML or JSON in UTF-8"),
        "{latin}"
    );
    let missing = RuleFile::open(std::path::Path::new("/does/not/exist")).unwrap_err().to_string();
    assert!(missing.starts_with("/does/not/exist: cannot be read: "), "{missing}");
    let deep = format!("{}1{}", "[{\"a\":".repeat(30), "}]".repeat(30));
    assert!(refused(deep).contains("more than 16 values within each other"));
    let deeper = "[{\"a\":".repeat(100_000);
    assert!(refused(deeper).contains("not JSON"));
}

#[test]
fn names_and_texts_of_any_length_are_refused_at_once_and_in_a_few_words() {
    let long = "x".repeat(4 << 20);
    for content in [
        format!("[[rule]]\n{long} = 1\n"),
        format!("[[rule]]\nrule_action = \"{long}\"\n"),
        format!("[[rule]]\nrule_action = \"INCLUDE\"\nsource_cidr = \"{long}\"\n"),
        format!("[[rule]]\nrule_action = \"INCLUDE\"\nsource_cidr = \"{long}/8\"\n"),
        format!("[[rule]]\nrule_action = \"INCLUDE\"\nsource_cidr = \"10.0.0.0/{long}\"\n"),
        format!("[[rule]]\nrule_action = \"INCLUDE\"\nprotocol = \"{long}\"\n"),
        format!("[{{\"ruleAction\": \"INCLUDE\", \"{long}\": 1}}]"),
    ] {
        let begun = std::time::Instant::now();
        let message = refused(content);
        assert!(message.len() < 700 && message.contains("xxx…"), "{} bytes", message.len());
        assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    }
}

#[test]
fn no_content_panics() {
    // Every prefix, and every single byte replaced.
    for whole in [ALL_FIELDS_TOML, ALL_FIELDS_JSON] {
        for end in 0..whole.len() {
            let _ = RuleFile::parse("f", &whole.as_bytes()[..end]).map_err(|e| e.to_string());
            for byte in [0, b'"', b'{', b']', b'9', 0xff] {
                let mut bytes = whole.as_bytes().to_vec();
                bytes[end] = byte;
                let _ = RuleFile::parse("f", &bytes).map_err(|e| e.to_string());
            }
        }
    }
}
