//! What needs no root: functions in memory, on one thread, with data in cache.

mod capture_files;
mod filter;
mod parse;
mod rules;
mod segmentation;
mod stages;
mod tunnels;

use crate::row::Row;
use etherparse::PacketBuilder;
use std::time::Duration;

/// Frame sizes, bytes without the frame check sequence.
pub const SIZES: [usize; 3] = [64, 512, 1500];

/// Runs a benchmark; the time is what a batch fills.
type Run = fn(Duration) -> anyhow::Result<Vec<Row>>;

/// The benchmarks by name.
pub const ALL: [(&str, Run); 9] = [
    (parse::BENCH, parse::run),
    (capture_files::WRITE, capture_files::write),
    (capture_files::READ, capture_files::read),
    (segmentation::BENCH, segmentation::run),
    (tunnels::ENCAP, tunnels::encap),
    (tunnels::DECAP, tunnels::decap),
    (filter::BENCH, filter::run),
    (rules::BENCH, rules::run),
    (stages::BENCH, stages::run),
];

/// The kinds of frames that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    TcpV4,
    UdpV6,
    TaggedTcpV4,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::TcpV4, Kind::UdpV6, Kind::TaggedTcpV4];

    pub fn name(self) -> &'static str {
        match self {
            Kind::TcpV4 => "TCP/IPv4",
            Kind::UdpV6 => "UDP/IPv6",
            Kind::TaggedTcpV4 => "TCP/IPv4, VLAN tag",
        }
    }

    fn headers_bytes(self) -> usize {
        match self {
            Kind::TcpV4 => 14 + 20 + 20,
            Kind::UdpV6 => 14 + 40 + 8,
            Kind::TaggedTcpV4 => 18 + 20 + 20,
        }
    }

    /// A frame of each of so many flows.
    pub fn flows(self, bytes: usize, count: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        (0..count).map(|flow| self.frame(bytes, 1024 + flow as u16)).collect()
    }

    /// A frame of so many bytes; the source port tells flows apart.
    pub fn frame(self, bytes: usize, port: u16) -> anyhow::Result<Vec<u8>> {
        let payload = vec![0x5a; bytes.saturating_sub(self.headers_bytes())];
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let mut frame = Vec::new();
        match self {
            Kind::TcpV4 => ethernet
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .tcp(port, 80, 1, 500)
                .write(&mut frame, &payload)?,
            Kind::UdpV6 => ethernet
                .ipv6([0x20; 16], [0x30; 16], 64)
                .udp(port, 53)
                .write(&mut frame, &payload)?,
            Kind::TaggedTcpV4 => ethernet
                .single_vlan(etherparse::VlanId::try_new(5)?)
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
                .tcp(port, 80, 1, 500)
                .write(&mut frame, &payload)?,
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_length_and_the_kind_that_was_asked_for() {
        for (kind, tags) in Kind::ALL.into_iter().zip([0, 0, 1]) {
            for size in SIZES {
                let frame = kind.frame(size, 7).unwrap();
                let walk = wire::walk::Walk::new(wire::LinkType::ETHERNET, &frame);
                assert_eq!((frame.len(), walk.vlans().len()), (size, tags), "{kind:?}");
                assert_eq!(walk.ports(&frame).map(|ports| ports.0), Some(7), "{kind:?}");
            }
        }
    }
}
