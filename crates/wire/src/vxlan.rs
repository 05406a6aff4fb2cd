//! VXLAN header: eight bytes that put a frame into one of 2^24 segments, carried over UDP.
//!
//! Source: [RFC 7348 section 5](https://www.rfc-editor.org/rfc/rfc7348#section-5). UDP port 4789.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |R|R|R|R|I|R|R|R|                  reserved                     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                      VNI                      |   reserved    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Liberal: reserved bits are sent as zero and ignored when read, as the RFC asks; extensions use
//! them, and a tap that drops such packets is blind to them. VNI 0 is a VNI.

use crate::{Error, Layer, Vni};
use core::ops::{Range, RangeFrom};

/// Default UDP destination port (IANA `vxlan`).
pub const PORT: u16 = 4789;
/// Header length, bytes.
pub const HEADER_LEN: usize = field::PAYLOAD.start;

mod field {
    use super::{Range, RangeFrom};
    pub const FLAGS: usize = 0;
    pub const VNI: Range<usize> = 4..7;
    pub const PAYLOAD: RangeFrom<usize> = 8..;
}

const FLAG_VNI: u8 = 0b0000_1000;

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
        self.buffer.as_ref()[field::FLAGS] & FLAG_VNI != 0
    }

    /// The inner Ethernet frame.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer.as_ref()[field::PAYLOAD]
    }
}

/// What the header means. `parse` and `emit` are inverses.
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
