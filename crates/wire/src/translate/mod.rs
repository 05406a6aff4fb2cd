//! Translation: gives a packet other addresses and ports, in place, with right checksums.
//!
//! ```text
//! client A:a ──► U:u │ here │ E:e ──► B:b next host
//! ```
//! | packet | mapping: source, destination |
//! |---|---|
//! | from the client | E:e, B:b |
//! | from the next host | U:u, A:a |
//!
//! Sources: RFC 3022 section 4 and RFC 7857 (what of a packet changes), RFC 5508 and RFC 7915 section
//! 4.3 (errors with a packet in them), RFC 1624 (checksums), RFC 1812 section 5.2.4.1 and RFC 8200
//! section 3 (time to live, hop limit).
//!
//! | part | what becomes of it |
//! |---|---|
//! | addresses | those of the mapping |
//! | TCP, UDP ports | those of the mapping, also in a first fragment; a later one has none |
//! | id of an ICMP or ICMPv6 query | the mapping's, which has it as the port of both ends |
//! | packet in an ICMP error | the mapping turned round, as it went the other way |
//! | time to live, hop limit | one less, or as it was |
//! | checksums of IPv4, TCP, UDP, ICMP, ICMPv6, also of a packet in an error | mended: right if and only if they were; a UDP checksum of 0 stays 0 |
//!
//! Liberal: the packet in an error may be cut off anywhere behind its ports. Refused ([`Kind::Foreign`])
//! is what translation would break or cannot find the session of: authenticated packets (AH), a
//! source route that is not used up, ICMP that is neither query nor error.

mod answer;
mod fragment;
mod reading;
mod rewrite;
#[cfg(test)]
mod tests;

pub use answer::{ANSWER_LEN_MAX, Answer, answer};
pub use fragment::Fragments;
pub use reading::{About, Kind, Reading};
pub use rewrite::{Hops, translate, translate_from};

use core::net::IpAddr;

/// One end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct End {
    /// Its address.
    pub address: IpAddr,
    /// The port of TCP and UDP, the id of an ICMP query; else 0.
    pub port: u16,
}

/// What a packet becomes: both addresses of one version of IP, that of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// Where it comes from.
    pub source: End,
    /// Where it goes.
    pub destination: End,
}

impl Mapping {
    /// The mapping of a packet that goes the other way.
    pub const fn turned(self) -> Mapping {
        Mapping { source: self.destination, destination: self.source }
    }
}
