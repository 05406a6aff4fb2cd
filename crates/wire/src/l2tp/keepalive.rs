//! The sign of life that a transmitter of `tapline l2tp` sends through each tunnel: an Ethernet frame
//! with an ICMP echo request from its own address to the receiver's.
//!
//! A ping, as transmitters with a kernel's tunnel device send one, so that a receiver of another make
//! sees what it knows. Two MACs that no NIC has and a word at the begin of the data make it known
//! to ours, which takes it out of the traffic. The receiver does not answer: it may be unable to.
//!
//! ```text
//! offset     bytes
//!      0         6  destination  02:74:61:70:6c:01   locally administered, "tapl"
//!      6         6  source       02:74:61:70:6c:00
//!     12         2  0x0800                  0x86dd
//!     14   20 / 40  IPv4, TTL 64, ICMP      IPv6, hop limit 64, ICMPv6
//!                   source: the transmitter's end of the tunnel; destination: the receiver's
//!     34 /  54   8  echo request: type 8    type 128, code 0, checksum,
//!                   identifier: low half of the id, sequence: low half of the number
//!     42 /  62   8  "tapl#alv"
//!     50 /  70   4  id of the tunnel, big endian
//!     54 /  74   8  number, big endian, from 0
//! ```
//!
//! Source: RFC 792 (echo), RFC 4443 section 4.1, RFC 791, RFC 8200; IEEE 802-2014 section 8.2.2 (local
//! MACs). Liberal: checksums, lifetimes and what follows the number are not looked at.

use crate::checksum::{self, Sum};
use crate::walk::{ethertype, protocol};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of the longest frame, bytes.
pub const KEEP_ALIVE_LEN_MAX: usize = ETHERNET_LEN + IPV6_LEN + ICMP_LEN + DATA_LEN;

const MACS: [u8; 12] = *b"\x02tapl\x01\x02tapl\x00";
const MAGIC: [u8; 8] = *b"tapl#alv";
const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const ICMP_LEN: usize = 8;
const DATA_LEN: usize = MAGIC.len() + 4 + 8;
const TTL: u8 = 64;
const ECHO_V4: u8 = 8;
const ECHO_V6: u8 = 128;

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// The ends of the tunnel as the transmitter knows them.
    pub ends: Ends,
    /// The tunnel's id.
    pub session: u32,
    /// How many were sent before.
    pub number: u64,
}

/// The two ends of a tunnel, of one version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// IPv4.
    V4 {
        /// Who sends.
        transmitter: Ipv4Addr,
        /// Who receives.
        receiver: Ipv4Addr,
    },
    /// IPv6.
    V6 {
        /// Who sends.
        transmitter: Ipv6Addr,
        /// Who receives.
        receiver: Ipv6Addr,
    },
}

impl Ends {
    /// Ends of one version of IP; `None` if they are of two.
    pub const fn new(transmitter: IpAddr, receiver: IpAddr) -> Option<Ends> {
        match (transmitter, receiver) {
            (IpAddr::V4(transmitter), IpAddr::V4(receiver)) => {
                Some(Ends::V4 { transmitter, receiver })
            }
            (IpAddr::V6(transmitter), IpAddr::V6(receiver)) => {
                Some(Ends::V6 { transmitter, receiver })
            }
            _ => None,
        }
    }
}

impl KeepAlive {
    /// Reads a frame; `None` if it is no sign of life.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<KeepAlive> {
        let rest = frame.strip_prefix(&MACS)?;
        let (&kind, rest) = rest.split_first_chunk::<2>()?;
        let (ends, rest) = match u16::from_be_bytes(kind) {
            ethertype::IPV4 => {
                let (header, rest) = rest.split_first_chunk::<IPV4_LEN>()?;
                let echo = *rest.first()?;
                if (header[0], header[9], echo) != (0x45, protocol::ICMP, ECHO_V4) {
                    return None;
                }
                let address = |at: usize| Some(Ipv4Addr::from(*header[at..].first_chunk::<4>()?));
                (Ends::V4 { transmitter: address(12)?, receiver: address(16)? }, rest)
            }
            ethertype::IPV6 => {
                let (header, rest) = rest.split_first_chunk::<IPV6_LEN>()?;
                let echo = *rest.first()?;
                if (header[0] >> 4, header[6], echo) != (6, protocol::ICMPV6, ECHO_V6) {
                    return None;
                }
                let address = |at: usize| Some(Ipv6Addr::from(*header[at..].first_chunk::<16>()?));
                (Ends::V6 { transmitter: address(8)?, receiver: address(24)? }, rest)
            }
            _ => return None,
        };
        let data = rest.get(ICMP_LEN..)?.strip_prefix(&MAGIC)?;
        let (&session, rest) = data.split_first_chunk::<4>()?;
        let session = u32::from_be_bytes(session);
        Some(KeepAlive { ends, session, number: u64::from_be_bytes(*rest.first_chunk()?) })
    }

    /// Bytes that [`Self::emit`] writes.
    pub const fn frame_len(&self) -> usize {
        let ip_len = match self.ends {
            Ends::V4 { .. } => IPV4_LEN,
            Ends::V6 { .. } => IPV6_LEN,
        };
        ETHERNET_LEN + ip_len + ICMP_LEN + DATA_LEN
    }

    /// Writes the frame over whatever `buf` held.
    ///
    /// # Panics
    /// If `buf` is shorter than [`Self::frame_len`].
    pub fn emit(&self, buf: &mut [u8]) {
        let frame = &mut buf[..self.frame_len()];
        frame.fill(0);
        let (ethernet, packet) = frame.split_at_mut(ETHERNET_LEN);
        ethernet[..MACS.len()].copy_from_slice(&MACS);
        let (kind, ip_len, echo, pseudo) = match self.ends {
            Ends::V4 { transmitter, receiver } => {
                let header = &mut packet[..IPV4_LEN];
                header[0] = 0x45;
                let len = (IPV4_LEN + ICMP_LEN + DATA_LEN) as u16;
                header[2..4].copy_from_slice(&len.to_be_bytes());
                (header[8], header[9]) = (TTL, protocol::ICMP);
                header[12..16].copy_from_slice(&transmitter.octets());
                header[16..20].copy_from_slice(&receiver.octets());
                let check = checksum::of(header);
                header[10..12].copy_from_slice(&check.to_be_bytes());
                (ethertype::IPV4, IPV4_LEN, ECHO_V4, Sum::new())
            }
            Ends::V6 { transmitter, receiver } => {
                let len = (ICMP_LEN + DATA_LEN) as u16;
                let (from, to) = (transmitter.octets(), receiver.octets());
                packet[0] = 0x60;
                packet[4..6].copy_from_slice(&len.to_be_bytes());
                (packet[6], packet[7]) = (protocol::ICMPV6, TTL);
                packet[8..24].copy_from_slice(&from);
                packet[24..40].copy_from_slice(&to);
                let pseudo = Sum::pseudo_v6(from, to, protocol::ICMPV6, len.into());
                (ethertype::IPV6, IPV6_LEN, ECHO_V6, pseudo)
            }
        };
        ethernet[MACS.len()..].copy_from_slice(&kind.to_be_bytes());
        let icmp = &mut packet[ip_len..];
        icmp[0] = echo;
        icmp[4..6].copy_from_slice(&(self.session as u16).to_be_bytes());
        icmp[6..8].copy_from_slice(&(self.number as u16).to_be_bytes());
        icmp[8..16].copy_from_slice(&MAGIC);
        icmp[16..20].copy_from_slice(&self.session.to_be_bytes());
        icmp[20..28].copy_from_slice(&self.number.to_be_bytes());
        let mut sum = pseudo;
        sum.add_bytes(icmp);
        icmp[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinkType;
    use crate::walk::{Walk, Why};

    fn samples() -> [KeepAlive; 2] {
        [("10.10.10.11", "10.10.10.10"), ("fd00::2", "fd00::1")].map(|(from, to)| {
            let ends = Ends::new(from.parse().unwrap(), to.parse().unwrap()).unwrap();
            KeepAlive { ends, session: 0x0a0a_0a0b, number: 0x1_0003 }
        })
    }

    fn emitted(sample: &KeepAlive) -> Vec<u8> {
        let mut buf = vec![0xa5; sample.frame_len()];
        sample.emit(&mut buf);
        buf
    }

    // The first sample; the checksums were computed elsewhere.
    #[rustfmt::skip]
    const V4: [u8; 62] = [
        0x02, b't', b'a', b'p', b'l', 1, 0x02, b't', b'a', b'p', b'l', 0, 0x08, 0x00,
        0x45, 0, 0, 48, 0, 0, 0, 0, 64, 1, 0x52, 0xa5, 10, 10, 10, 11, 10, 10, 10, 10,
        8, 0, 0x65, 0x33, 0x0a, 0x0b, 0, 3,
        b't', b'a', b'p', b'l', b'#', b'a', b'l', b'v', 10, 10, 10, 11, 0, 0, 0, 0, 0, 1, 0, 3,
    ];

    #[test]
    fn a_frame_is_the_documented_one() {
        let frame = emitted(&samples()[0]);
        assert_eq!(frame, V4);
        assert!(frame.len() >= 60, "no shorter than any frame of Ethernet");
    }

    #[test]
    fn what_is_written_is_read() {
        for sample in samples() {
            let mut frame = emitted(&sample);
            assert_eq!(KeepAlive::parse(&frame), Some(sample));
            let walk = Walk::new(LinkType::ETHERNET, &frame);
            assert_eq!(walk.end as usize, frame.len());
            assert!(!matches!(walk.stop.why, Why::Malformed(_)), "{:?}", walk.stop);
            frame.extend([0; 4]);
            assert_eq!(KeepAlive::parse(&frame), Some(sample), "padded on the way");
        }
    }

    #[test]
    fn anything_else_is_traffic() {
        for sample in samples() {
            let frame = emitted(&sample);
            for len in 0..frame.len() {
                assert_eq!(KeepAlive::parse(&frame[..len]), None, "{len} bytes");
            }
            let echo = sample.frame_len() - ICMP_LEN - DATA_LEN;
            for at in [0, 5, 6, 11, 12, 14, echo, echo + ICMP_LEN, echo + ICMP_LEN + 7] {
                let mut other = frame.clone();
                other[at] ^= 0x10;
                assert_eq!(KeepAlive::parse(&other), None, "byte {at}");
            }
        }
        assert_eq!(Ends::new("10.0.0.1".parse().unwrap(), "::1".parse().unwrap()), None);
    }
}
