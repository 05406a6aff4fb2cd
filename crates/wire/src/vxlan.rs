//! VXLAN header: eight bytes that put a frame into one of 2^24 segments, carried over UDP.
//!
//! Source: [RFC 7348 section 5](https://www.rfc-editor.org/rfc/rfc7348#section-5). UDP port 4789.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |G|R|R|R|I|P|R|R|    reserved   |   group of the sender (G)     |
//! |               |               |               | next (P)      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                      VNI                      |   reserved    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! G and P are extensions: the sender's policy group
//! ([draft-smith-vxlan-group-policy](https://datatracker.ietf.org/doc/draft-smith-vxlan-group-policy/))
//! and the protocol of the payload
//! ([draft-ietf-nvo3-vxlan-gpe](https://datatracker.ietf.org/doc/draft-ietf-nvo3-vxlan-gpe/)).
//!
//! Liberal: reserved bits are sent as zero and ignored when read, as the RFC asks; extensions use
//! them, and a tap that drops such packets is blind to them. VNI 0 is a VNI. A next protocol that
//! is not known is taken for a dirty reserved byte in front of a frame.

use crate::{Error, Layer, Vni};
use core::ops::{Range, RangeFrom};

/// Default UDP destination port (IANA `vxlan`).
pub const PORT: u16 = 4789;
/// UDP destination port of senders that set the P flag (IANA `vxlan-gpe`).
pub const GPE_PORT: u16 = 4790;
/// Header length, bytes.
pub const HEADER_LEN: usize = field::PAYLOAD.start;

mod field {
    use super::{Range, RangeFrom};
    pub const FLAGS: usize = 0;
    pub const GROUP: Range<usize> = 2..4;
    pub const NEXT: usize = 3;
    pub const VNI: Range<usize> = 4..7;
    pub const PAYLOAD: RangeFrom<usize> = 8..;
}

const FLAG_GROUP: u8 = 0b1000_0000;
const FLAG_VNI: u8 = 0b0000_1000;
const FLAG_NEXT: u8 = 0b0000_0100;

/// A view of a VXLAN header and the frame behind it, in a borrowed or owned buffer.
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
    /// [`Error::Truncated`] below [`HEADER_LEN`] bytes.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        let got = buffer.as_ref().len();
        if got < HEADER_LEN {
            return Err(Error::Truncated { layer: Layer::Vxlan, needed: HEADER_LEN, got });
        }
        Ok(Packet { buffer })
    }

    /// The segment id; it means something only with [`Self::has_vni`].
    #[inline]
    pub fn vni(&self) -> Vni {
        let b = &self.buffer.as_ref()[field::VNI];
        Vni::from_be_bytes([b[0], b[1], b[2]])
    }

    /// The I flag: the VNI is valid.
    #[inline]
    pub fn has_vni(&self) -> bool {
        self.has(FLAG_VNI)
    }

    /// The policy group of the sender, if the G flag says that there is one.
    #[inline]
    pub fn group(&self) -> Option<u16> {
        let b = &self.buffer.as_ref()[field::GROUP];
        self.has(FLAG_GROUP).then(|| u16::from_be_bytes([b[0], b[1]]))
    }

    /// What the payload is: an Ethernet frame, unless the P flag and a protocol that is known say
    /// otherwise.
    #[inline]
    pub fn next(&self) -> Next {
        if !self.has(FLAG_NEXT) {
            return Next::Ethernet;
        }
        match self.buffer.as_ref()[field::NEXT] {
            1 => Next::Ipv4,
            2 => Next::Ipv6,
            4 => Next::Nsh,
            _ => Next::Ethernet,
        }
    }

    fn has(&self, flag: u8) -> bool {
        self.buffer.as_ref()[field::FLAGS] & flag != 0
    }

    /// What stands behind the header: an Ethernet frame, if [`Self::next`] says no other.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer.as_ref()[field::PAYLOAD]
    }
}

/// What stands behind the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Next {
    /// An Ethernet frame.
    Ethernet,
    /// An IPv4 packet.
    Ipv4,
    /// An IPv6 packet.
    Ipv6,
    /// A network service header, RFC 8300.
    Nsh,
}

/// What the header means, its extensions left out. `parse` and `emit` are inverses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// The segment id.
    pub vni: Vni,
}

impl Repr {
    /// Reads the meaning out of a view.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the I flag is clear: the header then names no segment.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Result<Self, Error> {
        if !packet.has_vni() {
            return Err(Error::Malformed { layer: Layer::Vxlan, what: "I flag clear, no VNI" });
        }
        Ok(Repr { vni: packet.vni() })
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
        let [a, b, c] = self.vni.to_be_bytes();
        buf[..HEADER_LEN].copy_from_slice(&[FLAG_VNI, 0, 0, 0, a, b, c, 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // VNI 71 as a Linux vxlan device writes it, and one byte of payload.
    const BYTES: [u8; 9] = [0x08, 0, 0, 0, 0, 0, 71, 0, 0xee];
    const REPR: Repr = Repr { vni: Vni::new(71).expect("fits 24 bits") };

    #[test]
    fn parse_vector() {
        let packet = Packet::new_checked(&BYTES[..]).unwrap();
        assert_eq!(Repr::parse(&packet), Ok(REPR));
        assert_eq!(packet.payload(), [0xee]);
    }

    #[test]
    fn emit_vector_into_dirty_buffer() {
        let mut buf = [0xa5; 9];
        buf[8] = 0xee;
        REPR.emit(&mut buf);
        assert_eq!(buf, BYTES);
    }

    #[test]
    fn reserved_bits_are_ignored() {
        let dirty = [0xff, 9, 9, 9, 0, 0, 71, 9];
        assert_eq!(Repr::parse(&Packet::new_checked(&dirty[..]).unwrap()), Ok(REPR));
    }

    #[test]
    fn extensions_are_read_where_they_are_announced() {
        let next = |flags, next| {
            let bytes = [flags, 0, 0x12, next, 0, 0, 71, 0];
            let packet = Packet::new_checked(&bytes[..]).unwrap();
            assert_eq!(Repr::parse(&packet), Ok(REPR));
            (packet.next(), packet.group())
        };
        assert_eq!(next(0x0c, 1), (Next::Ipv4, None));
        assert_eq!(next(0x0c, 2), (Next::Ipv6, None));
        assert_eq!(next(0x0c, 3), (Next::Ethernet, None));
        assert_eq!(next(0x0c, 4), (Next::Nsh, None));
        assert_eq!(next(0x0c, 9), (Next::Ethernet, None));
        assert_eq!(next(0x88, 1), (Next::Ethernet, Some(0x1201)));
    }

    #[test]
    fn without_the_flag_there_is_no_vni() {
        let mut bytes = BYTES;
        bytes[0] = !FLAG_VNI;
        let e = Repr::parse(&Packet::new_checked(&bytes[..]).unwrap()).unwrap_err();
        assert_eq!(e.to_string(), "VXLAN: I flag clear, no VNI");
    }

    #[test]
    fn every_short_length_is_an_error() {
        for got in 0..HEADER_LEN {
            let e = Packet::new_checked(&BYTES[..got]).unwrap_err();
            assert_eq!(e, Error::Truncated { layer: Layer::Vxlan, needed: HEADER_LEN, got });
        }
    }

    #[test]
    fn every_vni_comes_back() {
        for n in (0..=Vni::MAX).step_by(997).chain([Vni::MAX]) {
            let repr = Repr { vni: Vni::new(n).unwrap() };
            let mut buf = [0xa5; HEADER_LEN];
            repr.emit(&mut buf);
            assert_eq!(Repr::parse(&Packet::new_checked(&buf[..]).unwrap()), Ok(repr));
        }
    }
}
