//! The manifest: what was stored and what was removed, in chains of entries that show it if one is
//! altered or missing.
//!
//! ```text
//! manifest/<writer>/<number>.jsonl     writer: a ULID; number: 12 digits, from 0 up
//! ```
//! A line is an [`Entry`] in JSON, with the first half of its own SHA-256 as its last key, `check`, so that
//! a last line, which no other one follows, shows too that it was altered. An object has [`ENTRIES_MAX`]
//! of them, the last one of a chain fewer.
//! Each entry holds the SHA-256 of the line before it, so a chain is as good as its last line; the first
//! entry of a chain holds the hashes of the last lines of the others, so none can vanish whole.
//!
//! Who writes has an id of its own and is alone in writing its chain, so that no conditional put is
//! needed: the object with the newest entries is replaced by one with an entry more.
//!
//! What no chain can show is that its very last entries were cut off: until another chain begins, or
//! the objects that they name are looked for ([`Manifest`] against the catalog).

mod chain;
mod entry;
mod reading;

pub use chain::Chain;
pub use entry::{Entry, Event, Removal, SegmentRecord};
pub use reading::{Break, Manifest, read};

use sha2::{Digest, Sha256};
use ulid::Ulid;

/// Entries of one object of a chain.
pub const ENTRIES_MAX: usize = 64;

/// The hash in front of a chain's first entry.
pub const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The folder of all chains.
pub const FOLDER: &str = "manifest";

/// The key of an object of a chain.
fn key(writer: Ulid, number: u64) -> String {
    format!("{FOLDER}/{writer}/{number:012}.jsonl")
}

/// The writer and the number in the key of an object of a chain.
pub(crate) fn parse_key(text: &str) -> Option<(Ulid, u64)> {
    let (writer, file) = text.strip_prefix(FOLDER)?.strip_prefix('/')?.split_once('/')?;
    let writer = Ulid::from_string(writer).ok()?;
    let number = file.strip_suffix(".jsonl")?.parse().ok()?;
    (key(writer, number) == text).then_some((writer, number))
}

/// Whether a key is that of an object of a chain.
pub(crate) fn is_key(text: &str) -> bool {
    parse_key(text).is_some()
}

/// SHA-256 of a line without its end, in hexadecimal digits.
fn hash(line: &str) -> String {
    Sha256::digest(line.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A line: the JSON of an entry, and its check.
fn line(json: &str) -> String {
    let open = json.strip_suffix('}').unwrap_or(json);
    format!("{open}{CHECK}{}\"}}", &hash(json)[..32])
}

/// Whether a line is as it was written, as far as its check tells.
fn is_intact(text: &str) -> bool {
    let json = text.rfind(CHECK).map(|at| format!("{}}}", &text[..at]));
    json.is_some_and(|json| line(&json) == text)
}

/// What stands before the digits of a check.
const CHECK: &str = ",\"check\":\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_knows_itself() {
        let good = line(r#"{"a":1}"#);
        assert!(good.starts_with(r#"{"a":1,"check":""#) && good.ends_with("\"}"), "{good}");
        assert!(is_intact(&good));
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] ^= 1;
            assert!(!is_intact(&String::from_utf8_lossy(&bad)), "{at}");
        }
        assert!(!is_intact("") && !is_intact(r#"{"a":1}"#) && !is_intact(CHECK));
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        let writer = Ulid::from_parts(1, 2);
        let text = key(writer, 7);
        assert_eq!(text, format!("manifest/{writer}/000000000007.jsonl"));
        assert_eq!(parse_key(&text), Some((writer, 7)));
        for other in ["manifest/x/000000000007.jsonl", &text[1..], &text.replace("0007", "007")] {
            assert_eq!(parse_key(other), None, "{other}");
        }
    }

    #[test]
    fn hashes_are_sha_256() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(NO_HASH.len(), 64);
    }
}
