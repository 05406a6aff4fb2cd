//! Which way a packet went.

/// Which way a packet went, seen from the interface it was captured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Not recorded.
    #[default]
    Unknown,
    /// Received by the interface.
    In,
    /// Sent by the interface.
    Out,
}
