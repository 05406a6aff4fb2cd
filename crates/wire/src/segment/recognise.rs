//! TCP in a frame whose captor does not say what it is: whose segments they are, and how long they
//! were.
//!
//! A capture file has no virtio-net header. A super-packet in it shows by its length, and how it was
//! cut has to be told from elsewhere:
//!
//! ```text
//! segment bytes = MSS − TCP options − IP options and extension headers      RFC 9293 section 3.7.1
//! segment bytes = MTU − all headers from the outermost IP header on         where no SYN was seen
//! ```
//!
//! Tunnels are followed as [`super::Plan`] follows them.

use super::layers::{self, Jumbo, Path};
use super::{Gso, GsoKind, JUMBO_HEADER_LEN, csum_offset};
use crate::walk::{chunk, v4_addresses, v6_addresses};
use crate::{Error, LinkType};
use core::net::{IpAddr, SocketAddr};

const TCP_HEADER_LEN: usize = 20;
const SYN: u8 = 0x02;
/// `MSS` option: kind 2, length 4 (RFC 9293 section 3.2).
const OPTION_MSS: u8 = 2;
/// No sender cuts smaller, whatever was announced (`TCP_MIN_SND_MSS` in include/net/tcp.h: eight
/// bytes behind the longest options).
const MSS_MIN: u16 = 48;
const SEGMENT_BYTES_MIN: usize = 8;
/// What holds for a SYN without the option: RFC 9293 section 3.7.1.
const MSS_DEFAULT_V4: u16 = 536;
const MSS_DEFAULT_V6: u16 = 1220;

/// One direction of a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Who sends.
    pub src: SocketAddr,
    /// Who receives.
    pub dst: SocketAddr,
    /// VNI of the VXLAN or GENEVE tunnel that it is in, 0 without one.
    pub vni: u32,
}

impl Flow {
    /// The other direction.
    pub fn reversed(self) -> Flow {
        Flow { src: self.dst, dst: self.src, vni: self.vni }
    }
}

/// A TCP packet, or super-packet, in a frame, in tunnels or not. Holds offsets, not the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    path: Path,
    /// Whose it is.
    pub flow: Flow,
    /// The MSS that it announces: set if SYN is.
    pub mss: Option<u16>,
}

impl Tcp {
    /// Finds the first TCP header of a frame.
    ///
    /// # Errors
    /// If there is none in reach (another protocol, a fragment, encrypted), or bytes that the
    /// headers declare are missing.
    pub fn find(link: LinkType, frame: &[u8]) -> Result<Tcp, Error> {
        let path = layers::find(link, frame, None, false)?;
        let (inner, at) = (path.inner(), path.transport_at as usize);
        let ports = chunk::<4>(frame, at).copied().unwrap_or_default();
        let [src_port, dst_port] =
            [[ports[0], ports[1]], [ports[2], ports[3]]].map(u16::from_be_bytes);
        let addresses = match inner.v6 {
            true => v6_addresses(frame, inner.ip_at).map(|(s, d)| (s.into(), d.into())),
            false => v4_addresses(frame, inner.ip_at).map(|(s, d)| (s.into(), d.into())),
        };
        // The walk has seen the whole header.
        let nowhere = IpAddr::from([0; 4]);
        let (src, dst) = addresses.unwrap_or((nowhere, nowhere));
        let udp_at = path.levels().iter().rev().find_map(|level| level.outer_udp_at);
        // Behind UDP's eight bytes both tunnels have the VNI in bytes 4 to 6.
        let vni = udp_at.and_then(|at| chunk::<3>(frame, at as usize + 12));
        let vni = vni.map_or(0, |&[a, b, c]| u32::from_be_bytes([0, a, b, c]));
        let header = frame.get(at..path.payload_at as usize).unwrap_or_default();
        let is_syn = header.get(13).is_some_and(|flags| flags & SYN != 0);
        let default = if inner.v6 { MSS_DEFAULT_V6 } else { MSS_DEFAULT_V4 };
        let mss = is_syn.then(|| announced(header).unwrap_or(default));
        let flow = Flow { src: (src, src_port).into(), dst: (dst, dst_port).into(), vni };
        Ok(Tcp { path, flow, mss })
    }

    /// Bytes of payload.
    pub fn payload_len(&self) -> usize {
        (self.path.payload_end - self.path.payload_at) as usize
    }

    /// Bytes from the outermost IP header to the end of the payload: what an MTU bounds.
    pub fn ip_len(&self) -> usize {
        (self.path.payload_end - self.path.outer().ip_at) as usize
    }

    /// Whether a length field around it is 0 or a jumbo option stands in its place, as a kernel
    /// leaves it that has yet to cut the packet.
    pub fn is_undeclared(&self) -> bool {
        self.path.levels().iter().any(|level| level.undeclared || level.jumbo != Jumbo::None)
    }

    /// Bytes of payload in a segment of a sender that may send `mss`; `None` if the options leave
    /// no room.
    pub fn segment_bytes_of_mss(&self, mss: u16) -> Option<u16> {
        let inner = self.path.inner();
        let ip_header_len = if inner.v6 { 40 } else { 20 };
        let plain = inner.ip_at as usize + ip_header_len + self.jumbo_len() + TCP_HEADER_LEN;
        let options = (self.path.payload_at as usize).checked_sub(plain)?;
        segment_bytes(mss.max(MSS_MIN), options)
    }

    /// Bytes of payload in a segment that fills a path's MTU, tunnel headers included; `None` if
    /// the headers leave no room.
    pub fn segment_bytes_of_mtu(&self, mtu: u16) -> Option<u16> {
        let headers = (self.path.payload_at - self.path.outer().ip_at) as usize - self.jumbo_len();
        segment_bytes(mtu, headers)
    }

    /// What the kernel would say of it, if its segments hold so many bytes of payload.
    pub fn gso(&self, segment_bytes: u16) -> Gso {
        Gso {
            kind: if self.path.inner().v6 { GsoKind::TcpV6 } else { GsoKind::TcpV4 },
            size: segment_bytes,
            // Headers of more than 64 KiB are nobody's: then the plan finds its own way.
            csum_start: u16::try_from(self.path.transport_at).unwrap_or(0),
            csum_offset: csum_offset(false) as u16,
        }
    }

    fn jumbo_len(&self) -> usize {
        if self.path.inner().jumbo == Jumbo::None { 0 } else { JUMBO_HEADER_LEN }
    }
}

fn segment_bytes(of: u16, taken: usize) -> Option<u16> {
    let bytes = usize::from(of).checked_sub(taken).filter(|&bytes| bytes >= SEGMENT_BYTES_MIN)?;
    u16::try_from(bytes).ok()
}

/// The MSS option of a TCP header, if it has one.
fn announced(header: &[u8]) -> Option<u16> {
    let mut options = header.get(TCP_HEADER_LEN..)?;
    while let [kind, rest @ ..] = options {
        options = match kind {
            0 => return None,
            1 => rest,
            _ => {
                let len = usize::from(*rest.first()?);
                let value = options.get(2..len)?;
                if *kind == OPTION_MSS {
                    return value.try_into().ok().map(u16::from_be_bytes);
                }
                &options[len..]
            }
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, TcpHeader, TcpOptionElement};

    const ETHERNET: LinkType = LinkType::ETHERNET;

    fn tcp(v6: bool, syn: bool, options: &[TcpOptionElement], payload: &[u8]) -> Vec<u8> {
        let mut header = TcpHeader::new(50000, 80, 7, 1000);
        header.syn = syn;
        header.set_options(options).unwrap();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let builder = match v6 {
            true => builder.ipv6([0xfd; 16], [0xfe; 16], 64),
            false => builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
        };
        let mut frame = Vec::new();
        builder.tcp_header(header).write(&mut frame, payload).unwrap();
        frame
    }

    fn in_vxlan(vni: u8, inner: &[u8]) -> Vec<u8> {
        let head = [8, 0, 0, 0, 0, 0, vni, 0];
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let builder = builder.ipv4([10, 9, 0, 1], [10, 9, 0, 2], 64).udp(50000, 4789);
        let mut frame = Vec::new();
        builder.write(&mut frame, &[&head[..], inner].concat()).unwrap();
        frame
    }

    #[test]
    fn a_syn_announces_an_mss() {
        use TcpOptionElement::{MaximumSegmentSize, Noop, Timestamp};
        let of = |v6, syn, options: &[TcpOptionElement]| {
            Tcp::find(ETHERNET, &tcp(v6, syn, options, b"")).unwrap().mss
        };
        assert_eq!(of(false, true, &[MaximumSegmentSize(1460)]), Some(1460));
        assert_eq!(of(true, true, &[Noop, Timestamp(1, 2), MaximumSegmentSize(1440)]), Some(1440));
        assert_eq!(of(false, true, &[]), Some(536));
        assert_eq!(of(true, true, &[Timestamp(1, 2)]), Some(1220));
        assert_eq!(of(false, false, &[MaximumSegmentSize(1460)]), None);
    }

    #[test]
    fn options_that_lie_announce_nothing() {
        let header = |options: &[u8]| [&[0; TCP_HEADER_LEN], options].concat();
        let lies: [&[u8]; 8] = [
            &[2],
            &[2, 0],
            &[2, 1],
            &[2, 4, 5],
            &[2, 3, 5],
            &[3, 0, 2, 4],
            &[0, 2, 4, 5, 6],
            &[2, 255],
        ];
        for options in lies {
            assert_eq!(announced(&header(options)), None, "{options:?}");
        }
        assert_eq!(announced(&header(&[1, 3, 3, 7, 2, 4, 5, 0xb4])), Some(1460));
        assert_eq!(announced(b"short"), None);
    }

    #[test]
    fn options_take_of_the_mss_and_headers_of_the_mtu() {
        let timestamps =
            [TcpOptionElement::Noop, TcpOptionElement::Noop, TcpOptionElement::Timestamp(1, 2)];
        for (v6, mss) in [(false, 1460), (true, 1440)] {
            let frame = tcp(v6, false, &timestamps, &[0; 5000]);
            let found = Tcp::find(ETHERNET, &frame).unwrap();
            assert_eq!(found.segment_bytes_of_mss(mss), Some(mss - 12));
            assert_eq!(found.segment_bytes_of_mtu(1500), Some(mss - 12));
            assert_eq!(found.segment_bytes_of_mss(1), Some(48 - 12));
            assert_eq!(found.segment_bytes_of_mtu(59), None);
            assert_eq!((found.payload_len(), found.ip_len()), (5000, frame.len() - 14));
            let wrapped = Tcp::find(ETHERNET, &in_vxlan(7, &frame)).unwrap();
            assert_eq!(wrapped.segment_bytes_of_mss(mss), Some(mss - 12));
            assert_eq!(wrapped.segment_bytes_of_mtu(1500), Some(mss - 12 - 50));
            assert_eq!(wrapped.flow, Flow { vni: 7, ..found.flow });
            assert_eq!(wrapped.ip_len(), frame.len() + 36);
        }
    }

    #[test]
    fn lengths_of_zero_are_seen() {
        let frame = tcp(false, false, &[], &[0; 3000]);
        assert!(!Tcp::find(ETHERNET, &frame).unwrap().is_undeclared());
        let mut inner = frame.clone();
        inner[16..18].fill(0);
        assert!(Tcp::find(ETHERNET, &inner).unwrap().is_undeclared());
        assert!(Tcp::find(ETHERNET, &in_vxlan(7, &inner)).unwrap().is_undeclared());
        let mut jumbo = tcp(true, false, &[], &[0; 3000]);
        let len = (jumbo.len() as u32 - 54 + 8).to_be_bytes();
        jumbo.splice(54..54, [[6, 0, 0xc2, 4], len].concat());
        jumbo[18..21].fill(0);
        let found = Tcp::find(ETHERNET, &jumbo).unwrap();
        assert!(found.is_undeclared());
        // The header goes, and takes nothing of a segment.
        assert_eq!(found.segment_bytes_of_mss(1440), Some(1440));
        assert_eq!(found.segment_bytes_of_mtu(1500), Some(1440));
    }

    #[test]
    fn what_is_found_can_be_cut() {
        for frame in [tcp(false, false, &[], &[5; 3000]), tcp(true, false, &[], &[5; 3000])] {
            for frame in [in_vxlan(9, &frame), frame] {
                let found = Tcp::find(ETHERNET, &frame).unwrap();
                let plan = super::super::Plan::new(ETHERNET, &frame, &found.gso(1000)).unwrap();
                assert_eq!(plan.count(), 3);
                assert_eq!(plan.header_len() + 1000, plan.segment_len(0));
            }
        }
    }

    #[test]
    fn what_is_no_tcp_is_an_error() {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let builder = builder.ipv4([10, 9, 0, 1], [10, 9, 0, 2], 64).udp(50000, 4789);
        builder.write(&mut frame, &[0x45; 200]).unwrap();
        assert!(Tcp::find(ETHERNET, &frame).is_err());
        let frame = tcp(false, false, &[], &[0; 300]);
        for len in 0..frame.len() {
            assert!(Tcp::find(ETHERNET, &frame[..len]).is_err(), "{len}");
        }
    }
}
