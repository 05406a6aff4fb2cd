//! Whatever a file holds, reading it ends, and never in a panic.

use super::*;
use proptest::prelude::*;

/// A file with something of everything.
const WHOLE: &str = r#"
[[source]]
name = "left"
interface = "eth1"
vlan = 100
stages = ["d"]
[[source]]
listen = ["vxlan://0.0.0.0?vni=71"]
[[source]]
read = "in.pcapng"
speed = 2.5
[[stage]]
name = "d"
type = "dedup"
window = "20ms"
ignore = ["ttl"]
[[stage]]
name = "p"
type = "vlan_push"
vid = 7
tpid = 0x88a8
[[target]]
name = "ids"
to = ["nic:eth3,nic:eth4", "pcap:copy.pcapng"]
stages = ["p"]
queue = "1000 packets"
[[target.rule]]
rule_action = "INCLUDE"
[[map]]
from = ["left", "in.pcapng", "vxlan://0.0.0.0?vni=71"]
to = ["ids"]
expression = "port 80"
history = "16MB"
"#;

/// What takes the place of a part of it.
fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        any::<String>(),
        prop::sample::select(vec![
            "[[",
            "]]",
            "\"",
            "=",
            "\n",
            "-1",
            "99999999999999999999",
            "0x",
            "nan",
            "1e999",
            "[]",
            "{}",
            "true",
            "1979-05-27",
            "[[map]]",
            "[[stage]]\n",
            "type = \"mask\"\n",
            "ids",
            "é",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn no_content_panics(cuts in prop::collection::vec((0..WHOLE.len(), 0..40_usize, words()), 1..4)) {
        let mut text = WHOLE.to_owned();
        for (at, length, word) in cuts {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            if text.is_char_boundary(at) && text.is_char_boundary(end) {
                text.replace_range(at..end, &word);
            }
        }
        match parse(&text) {
            Ok(file) => prop_assert!(file.config.check().is_ok()),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn no_bytes_panic(content in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = BrokerFile::parse(Path::new("x"), &content);
    }

    #[test]
    fn no_short_form_panics(text in "(nic:|pcap:|vxlan://)?.{0,40}(,[a-z_]*=.{0,8})*") {
        let _ = crate::parse_source(&text);
    }
}

#[test]
fn what_is_mutated_is_read_as_it_is() {
    parse(WHOLE).unwrap_or_else(|error| panic!("{error}"));
}
