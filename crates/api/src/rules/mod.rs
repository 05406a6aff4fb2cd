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

mod error;
mod node;
mod reader;

pub use error::RuleFileError;

use filter::Rules;
use node::Spelling;

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
    pub fn parse(name: &str, content: &[u8]) -> Result<RuleFile, RuleFileError> {
        let failed =
            |(at, reason): (Option<usize>, String)| RuleFileError::new(name, content, at, reason);
        let text = text(content).map_err(failed)?;
        let read = || {
            if is_json(text) {
                let root = node::from_json(text)?;
                reader::read(&root, Spelling::Camel)
            } else {
                let root = node::from_toml(text)?;
                reader::read(&root, Spelling::Snake)
            }
        };
        read().map_err(|fault: node::Fault| failed((fault.at, fault.reason)))
    }

    /// Opens and reads a file.
    ///
    /// # Errors
    /// It cannot be read, is too large, or as [`Self::parse`].
    pub fn open(path: &std::path::Path) -> Result<RuleFile, RuleFileError> {
        use std::io::Read;
        let name = path.display().to_string();
        let mut content = Vec::new();
        let outcome = std::fs::File::open(path)
            .and_then(|file| file.take(RULE_FILE_BYTES_MAX + 1).read_to_end(&mut content));
        if let Err(error) = outcome {
            return Err(RuleFileError::new(&name, b"", None, format!("cannot be read: {error}")));
        }
        if content.len() as u64 > RULE_FILE_BYTES_MAX {
            let reason = format!("more than {} MiB; write fewer rules", RULE_FILE_BYTES_MAX >> 20);
            return Err(RuleFileError::new(&name, b"", None, reason));
        }
        RuleFile::parse(&name, &content)
    }
}

/// The content as text, without a byte order mark.
fn text(content: &[u8]) -> Result<&str, (Option<usize>, String)> {
    const OTHER: [(&[u8], &str); 7] = [
        (&[0xd4, 0xc3, 0xb2, 0xa1], "a pcap capture file"),
        (&[0xa1, 0xb2, 0xc3, 0xd4], "a pcap capture file"),
        (&[0x4d, 0x3c, 0xb2, 0xa1], "a pcap capture file"),
        (&[0xa1, 0xb2, 0x3c, 0x4d], "a pcap capture file"),
        (&[0x0a, 0x0d, 0x0d, 0x0a], "a pcapng capture file"),
        (&[0x1f, 0x8b], "compressed by gzip"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "compressed by zstd"),
    ];
    if let Some((_, what)) = OTHER.iter().find(|(magic, _)| content.starts_with(magic)) {
        return Err((None, format!("is {what}; rules are TOML or JSON")));
    }
    let content = content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(content);
    std::str::from_utf8(content).map_err(|error| {
        let at = error.valid_up_to();
        let byte = content.get(at).copied().unwrap_or_default();
        (Some(at), format!("byte {byte:#04x} is not UTF-8; rules are TOML or JSON in UTF-8"))
    })
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
