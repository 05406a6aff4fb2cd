//! How far an archive's segments have come, in the ledger and for health checks.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What this process brought into an archive, and what waits in its spool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ArchiveStats {
    /// Whether the store took what it was given last.
    pub store: StoreState,
    /// Segments that are complete and that the store does not have.
    pub spool_segments: u64,
    /// Bytes of all files of segments in the spool, open ones and copies of what is stored included.
    pub spool_bytes: u64,
    /// Age of the oldest segment that the store does not have, since it was begun, seconds.
    pub backlog_s: u64,
    /// Segments that the store has confirmed.
    pub shipped_segments: u64,
    /// Packets in them.
    pub shipped_packets: u64,
    /// Bytes of their objects.
    pub shipped_bytes: u64,
    /// Tries that failed and were, or will be, repeated.
    pub retries: u64,
    /// What went wrong last and still does: what was tried, the answer, and the mend.
    pub last_error: Option<String>,
}

/// Whether a store can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreState {
    /// As far as is known.
    #[default]
    Up,
    /// It refuses, or cannot be reached: segments wait in the spool.
    Down,
}

impl fmt::Display for ArchiveStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ArchiveStats { shipped_segments, shipped_packets, shipped_bytes, .. } = self;
        write!(
            f,
            "archive: stored {shipped_segments} segments ({shipped_packets} packets, \
             {shipped_bytes} bytes), {} wait in the spool",
            self.spool_segments
        )?;
        self.last_error.iter().try_for_each(|error| write!(f, ": {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_waits_and_why() {
        let mut stats =
            ArchiveStats { shipped_segments: 2, shipped_packets: 7, ..Default::default() };
        let said = "archive: stored 2 segments (7 packets, 0 bytes), 0 wait in the spool";
        assert_eq!(stats.to_string(), said);
        stats.last_error = Some("s3://b: refused".into());
        assert_eq!(stats.to_string(), format!("{said}: s3://b: refused"));
        let json = serde_json::to_string(&stats).unwrap();
        assert!(json.starts_with(r#"{"store":"up","spool_segments":0,"#), "{json}");
        assert_eq!(serde_json::from_str::<ArchiveStats>(&json).unwrap(), stats);
    }
}
