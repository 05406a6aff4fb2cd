//! One entry of a manifest.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One line of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of this form: 1.
    pub version: u32,
    /// Who writes the chain, a ULID.
    pub writer: String,
    /// Place in the chain, from 0 up.
    pub seq: u64,
    /// SHA-256 of the line before, in hexadecimal digits; of the first one [`super::NO_HASH`].
    pub prev: String,
    /// When it was written, RFC 3339 in UTC, with nine digits of the second: its order is that of text.
    pub time: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// In the first entry of a chain: the last line's hash of every other chain that there was, by
    /// writer, so that a chain cannot vanish whole.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub heads: BTreeMap<String, String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A segment was stored.
    Stored(SegmentRecord),
    /// The index of a segment was made anew.
    Reindexed(SegmentRecord),
    /// A segment is removed: its objects go after this was written.
    Removed {
        /// Key of the segment's data.
        object: String,
        /// Why.
        reason: Removal,
        /// Its packets, if they are known.
        packets: Option<u64>,
        /// Bytes of its objects.
        bytes: u64,
    },
    /// Nothing that a hold of this name covers is removed from now on.
    Held {
        /// The hold's name.
        hold: String,
        /// SHA-256 of the hold's object, in hexadecimal digits.
        sha256: String,
    },
    /// A hold ended.
    Released {
        /// The hold's name.
        hold: String,
    },
}

/// Why a segment was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removal {
    /// It was older than is kept.
    Age,
    /// The archive was larger than is kept.
    Bytes,
    /// Somebody asked for it.
    Asked,
    /// It is replaced by another one.
    Replaced,
}

/// What a segment was when it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// Key of its data: tells source, span and id.
    pub object: String,
    /// Length of its data.
    pub bytes: u64,
    /// SHA-256 of its data, in hexadecimal digits.
    pub sha256: String,
    /// Length before it was compressed.
    pub raw_bytes: u64,
    /// Packets in it.
    pub packets: u64,
    /// Length of its index.
    pub index_bytes: u64,
    /// SHA-256 of its index, in hexadecimal digits.
    pub index_sha256: String,
    /// Rows of its index.
    pub index_rows: u64,
    /// The addresses in its packets, as an `AddressSet` in base64: a search for
    /// another one need not look into the segment.
    pub addresses: String,
    /// Packets that were lost before the segment, by what its statistics say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
}
