//! Plain text: no path of somebody's own machine, no space at the end of a line.

use crate::assert_none;
use crate::tree::text_files;

/// A folder that only one machine has; put together so that this file passes its own rule.
const OWN_FOLDER: &str = concat!("/wo", "rk/");

#[test]
fn text_names_no_folder_of_one_machine_and_ends_its_lines_cleanly() {
    let files = text_files();
    let findings: Vec<_> = files.iter().flat_map(|f| findings(&f.path, &f.text)).collect();
    assert_none(&findings);
}

fn findings(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        if line.contains(OWN_FOLDER) {
            findings.push(format!(
                "{path}:{number}: names {OWN_FOLDER}, which only one machine has; say it from the \
                 root of the tree"
            ));
        }
        if line.ends_with([' ', '\t', '\r']) {
            findings.push(format!("{path}:{number}: space at the end of the line; remove it"));
        }
    }
    findings
}

#[test]
fn both_rules_find_what_they_should() {
    let text = format!("clean\nin {OWN_FOLDER}x\ndirty \nwindows\r\n");
    let findings = findings("a.md", &text);
    assert_eq!(findings.len(), 3, "{findings:?}");
    assert!(findings[0].starts_with("a.md:2: names") && findings[2].starts_with("a.md:4: space"));
}
