//! The two ends of a flow, in one order whichever way a packet goes.

use super::community_id::{community_id, icmp_pair};
use super::row::Flow;
use std::net::{IpAddr, Ipv6Addr};
use wire::walk::{IpVersion, TransportKind, Walk, Why};

const SCTP: u8 = 132;

/// Who speaks with whom, to the port; of ICMP, with which messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ends {
    pub hi: Ipv6Addr,
    pub lo: Ipv6Addr,
    pub port_lo: Option<u16>,
    pub port_hi: Option<u16>,
    pub proto: u8,
    pub icmp: Option<IcmpPair>,
}

/// What community ids have in place of ICMP's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct IcmpPair {
    pub lo: u8,
    pub hi: u8,
    /// Of a message that nothing answers: that the higher address sends it.
    pub high_first: bool,
}

impl Ends {
    /// Sorts the ends of a packet, and says whether it goes from the lower to the higher one.
    pub(crate) fn new(
        src: IpAddr,
        dst: IpAddr,
        proto: u8,
        ports: Option<(u16, u16)>,
        icmp: Option<IcmpPair>,
    ) -> (Ends, bool) {
        let (src, dst) = (mapped(src), mapped(dst));
        let (src_port, dst_port) = ports.unzip();
        if (src, src_port) <= (dst, dst_port) {
            let ends = Ends { lo: src, hi: dst, port_lo: src_port, port_hi: dst_port, proto, icmp };
            (ends, true)
        } else {
            let ends = Ends { lo: dst, hi: src, port_lo: dst_port, port_hi: src_port, proto, icmp };
            (ends, false)
        }
    }

    /// Those of a frame that was walked; `None` without an IP header.
    #[inline]
    pub(crate) fn of(walk: &Walk, frame: &[u8]) -> Option<(Ends, bool)> {
        let tuple = walk.five_tuple(frame)?;
        let network = walk.network?;
        let ports = tuple.ports.or_else(|| sctp_ports(walk, frame));
        let icmp = icmp_message(walk, frame).map(|[kind, code]| {
            let is_v6 = network.version == IpVersion::V6;
            icmp_pair(is_v6, kind, code, mapped(tuple.src), mapped(tuple.dst))
        });
        Some(Ends::new(tuple.src, tuple.dst, tuple.protocol, ports, icmp))
    }

    /// As it stands in a row.
    pub(crate) fn flow(&self) -> Flow {
        Flow {
            ip_lo: Some(self.lo),
            ip_hi: Some(self.hi),
            port_lo: self.port_lo,
            port_hi: self.port_hi,
            proto: self.proto,
            community_id: Some(community_id(self)),
        }
    }
}

/// IPv6 as it is, IPv4 as mapped.
pub(crate) fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

// The walk does not follow SCTP; its ports stand where those of TCP do.
fn sctp_ports(walk: &Walk, frame: &[u8]) -> Option<(u16, u16)> {
    let is_sctp = walk.stop.why == Why::UnknownProtocol(SCTP) && !walk.is_fragment();
    let bytes = walk.payload(frame).first_chunk::<4>().filter(|_| is_sctp)?;
    Some((u16::from_be_bytes([bytes[0], bytes[1]]), u16::from_be_bytes([bytes[2], bytes[3]])))
}

fn icmp_message(walk: &Walk, frame: &[u8]) -> Option<[u8; 2]> {
    let transport = walk.transport.filter(|_| !walk.is_fragment())?;
    let icmp = matches!(transport.kind, TransportKind::Icmp | TransportKind::Icmpv6);
    let at = transport.at as usize;
    frame.get(at..walk.end as usize)?.first_chunk().copied().filter(|_| icmp)
}
