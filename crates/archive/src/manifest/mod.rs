//! The manifest: what was stored and what was removed, in chains of entries that show it if one is
//! altered or missing.
//!
//! ```text
//! manifest/<writer>/<number>.jsonl     number: 12 digits, from 0 up; at most ENTRIES_MAX entries
//! ```
//! A line is an [`Entry`] in JSON. Each entry holds the SHA-256 of the line before it (of the last line
//! of the object before, for the first one of an object), so a chain is as good as its last line. Who
//! writes has an id of its own and is alone in writing its chain: no conditional puts are needed. The
//! object with the newest entries is replaced with one entry more until it is full.

mod entry;

pub use entry::{Entry, Event, Removal, SegmentRecord};

/// Entries of one object of a chain.
pub const ENTRIES_MAX: usize = 64;

/// The hash in front of a chain's first entry.
pub const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The folder of all chains.
pub const FOLDER: &str = "manifest";
