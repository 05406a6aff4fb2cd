//! What the tests of filters in the kernel share: the exact lines of a ledger, and judges of a
//! selection that are not ours.

#![allow(dead_code, reason = "each test uses its part")]

use crate::over_links::{Tapline, text};
use api::Stats;
use rig::{Frame, assert_same_packets, frames_in};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Interrupts a tapline, which must end with success and a balance; gives its ledger, and what it
/// said.
pub fn end(tapline: Tapline) -> (Stats, String) {
    tapline.signal(Signal::INT);
    tapline.finish(0)
}

/// Asserts what the ledger says of its one tap: in its values, and as a line of the text. What the
/// tap itself dropped is the rest.
pub fn assert_tap((ledger, said): &(Stats, String), seen: u64, filtered: u64, matched: u64) {
    let tap = only_tap(ledger, said);
    assert_eq!(
        (tap.seen, tap.filtered, tap.matched),
        (Some(seen), Some(filtered), matched),
        "{said}"
    );
    assert_eq!((ledger.seen, ledger.filtered), (Some(seen), Some(filtered)), "{said}");
    assert_eq!(tap.drops.total(), seen - filtered - matched, "{said}");
    let line = format!("tap {}: seen {seen}, filtered {filtered}, matched {matched}, ", tap.name);
    assert!(said.contains(&line), "no `{line}` in: {said}");
}

/// Hits of the one tap's rules, in their order.
pub fn hits((ledger, said): &(Stats, String)) -> Vec<u64> {
    only_tap(ledger, said).rules.iter().map(|rule| rule.hits).collect()
}

fn only_tap<'a>(ledger: &'a Stats, said: &str) -> &'a api::TapStats {
    let [tap] = &ledger.taps[..] else { panic!("not one tap: {said}") };
    tap
}

/// What tcpdump selects from a capture file.
pub fn selected_by_tcpdump(file: &Path, expression: &str) -> Vec<Frame> {
    let selected = file.with_extension("selected");
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-Z", "root", "-r", text(file), "-w", text(&selected), expression]);
    let output = tcpdump.output().expect("it is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tcpdump -r {} '{expression}': {said}", file.display());
    frames_in(&selected)
}

/// Asserts that a capture file has exactly these packets, and that as many were written.
pub fn assert_file(path: &Path, (ledger, said): &(Stats, String), expected: &[Frame]) {
    let found = frames_in(path);
    assert_eq!(ledger.written, found.len() as u64, "{said}");
    assert_eq!(found.len(), expected.len(), "{}: {said}", path.display());
    assert_same_packets(&found, expected);
}

/// Writes a file of rules.
pub fn write_rules(path: PathBuf, rules: &str) -> PathBuf {
    std::fs::write(&path, rules).expect("the folder can be written to");
    path
}
