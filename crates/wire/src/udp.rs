//! UDP header: the outer transport of VXLAN, GENEVE and L2TPv3 over UDP.
//!
//! Source: [RFC 768](https://www.rfc-editor.org/rfc/rfc768); over IPv6, RFC 8200 section 8.1, and
//! RFC 6935 for tunnels that send no checksum.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          source port          |       destination port        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |            length             |           checksum            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Liberal: a length of 0 (super-packets, RFC 2675 jumbograms) or one beyond the buffer (a cut
//! packet) means "to the end of the buffer"; only 1 to 7 is malformed. Checksums are not verified
//! on parse: a tap reports a bad one, it does not lose the packet.

use crate::checksum::Sum;
use crate::{Error, Layer};
use core::net::IpAddr;
use core::ops::{Range, RangeFrom};

/// Header length, bytes.
pub const HEADER_LEN: usize = field::PAYLOAD.start;
/// The IP protocol number.
pub const PROTOCOL: u8 = 17;

mod field {
    use super::{Range, RangeFrom};
    pub const SRC_PORT: Range<usize> = 0..2;
    pub const DST_PORT: Range<usize> = 2..4;
    pub const LENGTH: Range<usize> = 4..6;
    pub const CHECKSUM: Range<usize> = 6..8;
    pub const PAYLOAD: RangeFrom<usize> = 8..;
}

/// A view of a UDP header and its payload in a borrowed or owned buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Wraps a buffer unseen; accessors panic if it is shorter than [`HEADER_LEN`].
    pub const fn new_unchecked(buffer: T) -> Self {
        Packet { buffer }
    }

    /// Wraps a buffer on which no accessor panics.
    ///
    /// # Errors
    /// [`Error::Truncated`] below [`HEADER_LEN`] bytes, [`Error::Malformed`] if the length field
    /// is 1 to 7.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        let got = buffer.as_ref().len();
        if got < HEADER_LEN {
            return Err(Error::Truncated { layer: Layer::Udp, needed: HEADER_LEN, got });
        }
        let packet = Packet { buffer };
        if (1..HEADER_LEN).contains(&usize::from(packet.length())) {
            return Err(Error::Malformed { layer: Layer::Udp, what: "length below 8" });
        }
        Ok(packet)
    }

    /// The source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        self.word(field::SRC_PORT)
    }

    /// The destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        self.word(field::DST_PORT)
    }

    /// The length field: header and payload, bytes.
    #[inline]
    pub fn length(&self) -> u16 {
        self.word(field::LENGTH)
    }

    /// The checksum field; 0 means that none was computed.
    #[inline]
    pub fn checksum(&self) -> u16 {
        self.word(field::CHECKSUM)
    }

    /// The payload, without bytes that follow the declared length.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let buffer = self.buffer.as_ref();
        let end = match usize::from(self.length()) {
            0 => buffer.len(),
            n => n.clamp(HEADER_LEN, buffer.len()),
        };
        &buffer[HEADER_LEN..end]
    }

    #[inline]
    fn word(&self, at: Range<usize>) -> u16 {
        let b = &self.buffer.as_ref()[at];
        u16::from_be_bytes([b[0], b[1]])
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Computes the checksum over the whole buffer, which is the datagram, and writes it.
    /// Addresses of two families leave the field 0, "not computed".
    pub fn fill_checksum(&mut self, src: IpAddr, dst: IpAddr) {
        let buffer = self.buffer.as_mut();
        buffer[field::CHECKSUM].fill(0);
        let len = buffer.len() as u32;
        let mut sum = match (src, dst) {
            (IpAddr::V4(s), IpAddr::V4(d)) => Sum::pseudo_v4(s.octets(), d.octets(), PROTOCOL, len),
            (IpAddr::V6(s), IpAddr::V6(d)) => Sum::pseudo_v6(s.octets(), d.octets(), PROTOCOL, len),
            _ => return,
        };
        sum.add_bytes(buffer);
        buffer[field::CHECKSUM].copy_from_slice(&sum.finish_nonzero().to_be_bytes());
    }
}

/// What the header means. `parse` and `emit` are inverses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Header and payload, bytes.
    pub length: u16,
    /// Checksum; 0 if none was computed.
    pub checksum: u16,
}

impl Repr {
    /// Reads the meaning out of a view. Every header that fits has one.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Self {
        Repr {
            src_port: packet.src_port(),
            dst_port: packet.dst_port(),
            length: packet.length(),
            checksum: packet.checksum(),
        }
    }

    /// Bytes that [`Self::emit`] writes.
    pub const fn header_len(&self) -> usize {
        HEADER_LEN
    }

    /// Writes the header over whatever `buf` held.
    ///
    /// # Panics
    /// If `buf` is shorter than [`Self::header_len`].
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) {
        buf[field::SRC_PORT].copy_from_slice(&self.src_port.to_be_bytes());
        buf[field::DST_PORT].copy_from_slice(&self.dst_port.to_be_bytes());
        buf[field::LENGTH].copy_from_slice(&self.length.to_be_bytes());
        buf[field::CHECKSUM].copy_from_slice(&self.checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // The header of the L2TPv3-over-UDP packet that a Linux kernel sends: no checksum.
    const BYTES: [u8; 8] = [0x06, 0xa5, 0x06, 0xa5, 0x00, 0x6a, 0x00, 0x00];
    const REPR: Repr = Repr { src_port: 1701, dst_port: 1701, length: 106, checksum: 0 };

    #[test]
    fn parse_vector() {
        assert_eq!(Repr::parse(&Packet::new_checked(&BYTES[..]).unwrap()), REPR);
    }

    #[test]
    fn emit_vector_into_dirty_buffer() {
        let mut buf = [0xa5; 8];
        REPR.emit(&mut buf);
        assert_eq!(buf, BYTES);
    }

    #[test]
    fn lengths() {
        for got in 0..HEADER_LEN {
            let e = Packet::new_checked(&BYTES[..got]).unwrap_err();
            assert_eq!(e, Error::Truncated { layer: Layer::Udp, needed: HEADER_LEN, got });
        }
        let payload_len = |length: u16| {
            let mut buf = [0; 12];
            Repr { length, ..REPR }.emit(&mut buf);
            Packet::new_checked(buf).map(|p| p.payload().len())
        };
        assert_eq!(payload_len(0), Ok(4), "super-packet");
        assert_eq!(payload_len(8), Ok(0));
        assert_eq!(payload_len(10), Ok(2), "padding stays out");
        assert_eq!(payload_len(1000), Ok(4), "cut");
        assert!(matches!(payload_len(7), Err(Error::Malformed { layer: Layer::Udp, .. })));
    }

    proptest! {
        #[test]
        fn checksum_agrees_with_etherparse(
            src in any::<[u8; 4]>(), dst in any::<[u8; 4]>(), src6 in any::<[u8; 16]>(),
            dst6 in any::<[u8; 16]>(), src_port: u16, payload in proptest::collection::vec(any::<u8>(), 0..60)
        ) {
            let length = (HEADER_LEN + payload.len()) as u16;
            let mut buf = vec![0xa5; HEADER_LEN];
            buf.extend_from_slice(&payload);
            Repr { src_port, dst_port: 4789, length, checksum: 0xa5a5 }.emit(&mut buf);
            let mut packet = Packet::new_checked(buf).unwrap();
            let judge = etherparse::UdpHeader {
                source_port: src_port, destination_port: 4789, length, checksum: 0,
            };
            packet.fill_checksum(src.into(), dst.into());
            prop_assert_eq!(
                packet.checksum(), judge.calc_checksum_ipv4_raw(src, dst, &payload).unwrap());
            packet.fill_checksum(src6.into(), dst6.into());
            prop_assert_eq!(
                packet.checksum(), judge.calc_checksum_ipv6_raw(src6, dst6, &payload).unwrap());
        }
    }
}
