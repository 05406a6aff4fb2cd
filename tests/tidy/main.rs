//! Rules of the source tree that no compiler checks, as ordinary tests.
//!
//! A finding names the file, the line, the rule and the mend. The rules themselves are written at
//! the head of the file that checks them: [`manifests`] who may import whom, [`links`] that links
//! lead somewhere, [`rust`] what stands in Rust sources, [`reasons`] that each drop reason is
//! explained, [`text`] plain text.

mod code;
mod links;
mod manifests;
mod reasons;
mod rust;
mod text;
mod tree;

/// Fails with every finding, one a line.
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}
