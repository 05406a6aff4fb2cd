//! How the members of a group share the load, and how it is known that one of them is alive.

use std::net::IpAddr;
use std::time::Duration;

/// How a group's members share the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// What makes two packets ones of a flow, which stay together.
    pub key: FlowKey,
    /// Whether all members are used when none of them is healthy; else the packets are dropped.
    pub fail_open: bool,
}

impl Default for Balance {
    fn default() -> Balance {
        Balance { key: FlowKey::FiveTuple, fail_open: true }
    }
}

/// What makes two packets ones of a flow. Both directions are one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlowKey {
    /// Addresses, ports and protocol (`wire::flow::flow_hash`).
    #[default]
    FiveTuple,
    /// Addresses and protocol.
    ThreeTuple,
    /// Addresses.
    TwoTuple,
    /// The id of the tunnel that the packet came out of: VNI, key, session.
    TunnelId,
    /// Addresses, ports and protocol of the innermost packet, of tunnels that are left on.
    Inner,
}

/// How it is known that a member of a group is alive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Health {
    /// What is tried.
    pub check: Check,
    /// Time from one try to the next.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// So many good ones in a row make a dead member alive.
    pub rise: u32,
    /// So many bad ones in a row make it dead.
    pub fall: u32,
}

impl Health {
    /// Time between two tries unless it is set, and how long one may take.
    pub const INTERVAL: Duration = Duration::from_millis(500);
    /// Good tries in a row that make a member alive unless set.
    pub const RISE: u32 = 2;
    /// Bad tries in a row that make it dead unless set.
    pub const FALL: u32 = 2;

    /// A check at the usual times.
    pub fn of(check: Check) -> Health {
        let (interval, timeout) = (Health::INTERVAL, Health::INTERVAL);
        Health { check, interval, timeout, rise: Health::RISE, fall: Health::FALL }
    }
}

/// What is tried to see whether a member is alive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Check {
    /// A TCP connection to a port of the tunnel's far end (`tcp:PORT`).
    Tcp {
        /// The port.
        port: u16,
    },
    /// An answer 2xx to GET (`http:PORT/PATH`).
    Http {
        /// The port.
        port: u16,
        /// The path, with its slash.
        path: String,
    },
    /// What `tapline receive --health` says of itself (`sink:PORT`).
    Sink {
        /// Its port.
        port: u16,
    },
    /// The link of a NIC: up, with a carrier (`link`).
    Link,
    /// An answer to ARP or neighbour solicitation through a NIC (`neighbour:ADDRESS`).
    Neighbour {
        /// Whose.
        address: IpAddr,
    },
}
