//! Choices that a tap makes about packets: which directions, and what becomes of large ones.

use serde::{Deserialize, Serialize};

/// Which packets of an interface a tap takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectionChoice {
    /// Received and sent ones.
    #[default]
    Both,
    /// Received ones.
    In,
    /// Sent ones.
    Out,
}

/// What becomes of a packet that does not fit the path once it is encapsulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Oversize {
    /// The outer packet is fragmented by the sending host.
    #[default]
    Fragment,
    /// It is dropped and counted as `oversize`.
    Drop,
}

/// How large the ring of a tap is. The rings of several workers share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingSize {
    /// By the link's speed and the memory there is; less if the kernel refuses that much.
    Auto,
    /// So many bytes, rounded up to whole blocks, or an error.
    Bytes(usize),
}
