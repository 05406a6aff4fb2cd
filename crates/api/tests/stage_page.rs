//! `docs/stages.md`: what it shows is understood.

use api::BrokerFile;
use std::fs;
use std::path::Path;

const REST: &str = "[[source]]\nname = \"in\"\nread = \"in.pcap\"\n[[target]]\nname = \"out\"\n\
                    to = [\"null:\"]\n[[map]]\nfrom = [\"in\"]\nto = [\"out\"]\n";

#[test]
fn every_stage_that_is_shown_is_understood() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/stages.md");
    let text = fs::read_to_string(&page).expect("the page is there");
    let mut shown = 0;
    for section in text.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap_or_default();
        for example in section.split("```toml\n").skip(1) {
            let example = example.split("```").next().unwrap_or_default();
            // The key's file is not there.
            let lines = example.lines().map(|line| match line.starts_with("key_file = ") {
                true => format!("key = \"{}\"", "07".repeat(32)),
                false => line.to_owned(),
            });
            let example = lines.collect::<Vec<_>>().join("\n");
            let kinds: Vec<_> =
                example.lines().filter_map(|line| line.strip_prefix("type = ")).collect();
            assert!(!kinds.is_empty(), "{title}: no stage in {example}");
            let names = example.lines().filter_map(|line| line.strip_prefix("name = "));
            let stages = names.collect::<Vec<_>>().join(", ");
            let file = format!("{REST}stages = [{stages}]\n{example}");
            let config = BrokerFile::parse(&page, file.as_bytes());
            let config = config.unwrap_or_else(|e| panic!("{title}: {e}")).config;
            assert_eq!(config.maps[0].stages.len(), kinds.len(), "{title}");
            shown += kinds.len();
        }
    }
    assert!(shown >= 12, "{shown} stages are shown");
}
