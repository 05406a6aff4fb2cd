//! What became of the tunnels of an L2TP tap, one by one.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// One tunnel of `tapline l2tp`, and what came through it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelStats {
    /// What it is called: `mtun-00000` where it is received, `tun1` where it is transmitted.
    pub interface: String,
    /// Which of its ends this is.
    pub end: TunnelEnd,
    /// This host's address.
    pub local: IpAddr,
    /// The other end's address, as the configuration has it.
    pub remote: IpAddr,
    /// The session id.
    pub id: u32,
    /// Packets that came through it, without signs of life.
    pub packets: u64,
    /// Bytes of those, as they were on the tapped wire.
    pub bytes: u64,
    /// Packets of it that could not be carried on.
    pub errors: u64,
    /// Signs of life that were understood; `None` where none are received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alives: Option<u64>,
    /// The outer source address of the last packet; `None` where none came yet, or is received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Whether that differs from the id read as an address: address translation is on the way. `None`
    /// where the id is no address, and over IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<bool>,
    /// Milliseconds since the last packet of any kind, or since the tunnel was added if none came;
    /// `None` where none are received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_ms: Option<u64>,
    /// How it goes.
    pub status: TunnelStatus,
}

/// The ends of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelEnd {
    /// Packets are sent into it here.
    Transmit,
    /// Packets come out of it here.
    Receive,
}

/// How a tunnel goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TunnelStatus {
    /// No errors, whether packets came or not.
    Ok,
    /// Errors were counted.
    Fail,
    /// No errors, but no sign of life either, for so long that the far end must be taken for dead.
    Silent,
}

impl TunnelStatus {
    /// By the errors counted, and whether it has been quiet for too long.
    pub const fn of(errors: u64, is_silent: bool) -> TunnelStatus {
        match (errors, is_silent) {
            (1.., _) => TunnelStatus::Fail,
            (0, true) => TunnelStatus::Silent,
            (0, false) => TunnelStatus::Ok,
        }
    }
}

impl fmt::Display for TunnelStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TunnelStatus::Ok => "OK",
            TunnelStatus::Fail => "FAIL",
            TunnelStatus::Silent => "SILENT",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_worse_than_silence() {
        assert_eq!(TunnelStatus::of(0, false), TunnelStatus::Ok);
        assert_eq!(TunnelStatus::of(0, true), TunnelStatus::Silent);
        assert_eq!(TunnelStatus::of(1, true), TunnelStatus::Fail);
        for status in [TunnelStatus::Ok, TunnelStatus::Fail, TunnelStatus::Silent] {
            assert_eq!(serde_json::to_value(status).unwrap(), status.to_string());
        }
    }
}
