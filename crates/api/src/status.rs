//! What a running command says of itself to who asks by its local socket.

use crate::Stats;
use serde::{Deserialize, Serialize};

/// A running command: who it is, and its ledger now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// What it does: `mirror`, `receive`, `capture`, `broker`, and so on.
    pub command: String,
    /// The name that the user gave it (`--name`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its process.
    pub pid: u32,
    /// When it began, seconds since 1970.
    pub since: u64,
    /// How long ago that was when the ledger was taken, milliseconds of a clock that nobody sets.
    /// Rates are differences of counters by differences of this.
    pub uptime_ms: u64,
    /// Its configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// The kernel's numbers of the interfaces that it takes packets from and gives packets to, without
    /// those that are not there.
    #[serde(default)]
    pub interfaces: Vec<InterfaceStats>,
    /// Its ledger.
    pub stats: Stats,
}

/// What the kernel counted at an interface since it came into being: the numbers of
/// `/sys/class/net/IF/statistics`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InterfaceStats {
    /// Its name.
    pub name: String,
    /// Whether it is up and has a carrier.
    pub is_up: bool,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes of those.
    pub rx_bytes: u64,
    /// Packets that came and were dropped.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes of those.
    pub tx_bytes: u64,
    /// Packets that were to be sent and were dropped.
    pub tx_dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let status = Status {
            version: "0.1.0".into(),
            command: "mirror".into(),
            name: None,
            pid: 7,
            since: 1_700_000_000,
            uptime_ms: 1500,
            config: Some("/etc/tapline/taps.toml".into()),
            interfaces: vec![InterfaceStats { name: "eth0".into(), ..Default::default() }],
            stats: Stats::new(Vec::new(), Vec::new(), Vec::new()),
        };
        let json = serde_json::to_string(&status).unwrap();
        assert!(json.starts_with(r#"{"version":"0.1.0","command":"mirror","pid":7,"#), "{json}");
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    }
}
