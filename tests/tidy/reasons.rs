//! Every drop reason has a row in `docs/drop-reasons.md`, and every row is a reason.

use crate::assert_none;
use crate::tree::root;
use api::DropReason;

const PAGE: &str = "docs/drop-reasons.md";

/// Columns of a row: name, unit, where it is counted, what it means, what to do.
const COLUMNS: usize = 5;

#[test]
fn every_drop_reason_is_documented_and_no_other() {
    let page = std::fs::read_to_string(root().join(PAGE)).unwrap();
    let names: Vec<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    assert_none(&findings(&page, &names));
}

fn findings(page: &str, names: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut seen = Vec::new();
    for (number, line) in (1..).zip(page.lines()) {
        let Some(cells) = line.strip_prefix("| `").and_then(|_| line.strip_suffix('|')) else {
            continue;
        };
        let cells: Vec<&str> = cells[1..].split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`');
        if !names.contains(&name) {
            findings.push(format!(
                "{PAGE}:{number}: `{name}` is no DropReason; remove the row, or add the variant in \
                 crates/api/src/drops.rs"
            ));
        }
        if cells.len() != COLUMNS || cells.iter().any(|cell| cell.is_empty()) {
            findings.push(format!("{PAGE}:{number}: not {COLUMNS} filled cells; fill the row"));
        }
        seen.push(name);
    }
    for name in names {
        let rows = seen.iter().filter(|seen| *seen == name).count();
        if rows != 1 {
            findings.push(format!(
                "{PAGE}:1: drop reason `{name}` has {rows} rows; write one: name, unit, where \
                 counted, meaning, what to do"
            ));
        }
    }
    findings
}

#[test]
fn a_missing_a_strange_a_double_and_a_thin_row_are_found() {
    let page = "| Name | Unit |\n|---|---|\n| `a` | p | w | m | d |\n| `z` | p | w | m | d |\n\
                | `b` | p | w |  | d |\n| `c` | p | w | m | d |\n| `c` | p | w | m | d |\n";
    let found = findings(page, &["a", "b", "c", "d"]).join("\n");
    assert_eq!(found.lines().count(), 4, "{found}");
    for part in [":4: `z` is no", ":5: not 5", "`c` has 2 rows", "`d` has 0 rows"] {
        assert!(found.contains(part), "{part} is not in\n{found}");
    }
}
