//! Files of capture filter rules: TOML of our own, or the JSON of Oracle Cloud's API.
//!
//! ```toml
//! [[rule]]
//! traffic_direction = "INGRESS"        # or "EGRESS"; left out: both
//! rule_action = "INCLUDE"              # or "EXCLUDE"
//! source_cidr = "10.0.0.0/8"
//! destination_cidr = "10.1.2.3/32"
//! protocol = "tcp"                     # udp, icmp, icmpv6, or a number
//! tcp_options.destination_port_range = { min = 80, max = 80 }
//! ```
//!
//! In JSON the same names are written in camelCase: a bare array of rules, a `CaptureFilter`
//! resource with its `vtapCaptureFilterRules`, or the `{"data": …}` in kebab-case that oci-cli
//! prints. Both are read into one tree that knows where each value stands, and one reader makes
//! rules of it, so that every mistake is shown in its place.

mod reader;

use crate::file::{self, FileError, Spelling};
use filter::Rules;
pub(crate) use reader::read_list;

/// Bytes that a file of rules may have.
pub const RULE_FILE_BYTES_MAX: u64 = 64 << 20;

/// What a file of rules holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFile {
    /// The name that the file gives the filter.
    pub display_name: Option<String>,
    /// The rules in the file's order.
    pub rules: Rules,
}

impl RuleFile {
    /// Reads a file's content; `name` stands for it in errors. Which of the formats it is, its first
    /// characters tell.
    ///
    /// # Errors
    /// The first mistake, with its place, the value and the mend.
    pub fn parse(name: &str, content: &[u8]) -> Result<RuleFile, FileError> {
        let read = || {
            let text = file::text(content, "rules are TOML or JSON")?;
            if is_json(text) {
                let root = file::from_json(text)?;
                reader::read(&root, Spelling::Camel)
            } else {
                let root = file::from_toml(text)?;
                reader::read(&root, Spelling::Snake)
            }
        };
        read().map_err(|fault| fault.of(name, content))
    }

    /// Opens and reads a file.
    ///
    /// # Errors
    /// It cannot be read, is too large, or as [`Self::parse`].
    pub fn open(path: &std::path::Path) -> Result<RuleFile, FileError> {
        let name = path.display().to_string();
        let content = file::read(path, RULE_FILE_BYTES_MAX, "write fewer rules")?;
        RuleFile::parse(&name, &content)
    }
}

/// JSON begins with an object or an array; a `[` in TOML is followed by a name or another `[`.
fn is_json(text: &str) -> bool {
    let text = text.trim_start();
    match text.strip_prefix('[') {
        Some(rest) => matches!(rest.trim_start().chars().next(), None | Some('{' | ']' | '"')),
        None => text.starts_with('{'),
    }
}

#[cfg(test)]
mod tests;
