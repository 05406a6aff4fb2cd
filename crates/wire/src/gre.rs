//! GRE header: 4 to 16 bytes that say by EtherType what follows, over IP protocol 47 or UDP 4754.
//!
//! Source: [RFC 2784 section 2](https://www.rfc-editor.org/rfc/rfc2784#section-2) for header and
//! checksum, [RFC 2890 section 2](https://www.rfc-editor.org/rfc/rfc2890#section-2) for key and
//! sequence number, [RFC 8086](https://www.rfc-editor.org/rfc/rfc8086) for GRE in UDP.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |C|R|K|S|      reserved   | ver |         protocol type         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      checksum, with C         |           reserved            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                          key, with K                          |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                    sequence number, with S                    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Liberal: reserved bits are sent as zero and ignored when read; the RFC has a receiver discard
//! packets with some of them, which would make a tap blind to them. A wrong checksum is told and
//! does not keep the packet out. Not read are the routing of RFC 1701 (the R bit), which moves the
//! payload to where no sender of today puts it, and other versions: 1 is that of PPTP.

use crate::checksum::Sum;
use crate::{Error, Layer};
use core::ops::Range;

/// The IP protocol.
pub const IP_PROTOCOL: u8 = 47;
/// Length of a header without optional fields, bytes.
pub const HEADER_LEN_MIN: usize = 4;
/// Length of a header with all of them, bytes.
pub const HEADER_LEN_MAX: usize = 16;

/// Protocol types: EtherTypes of what follows.
pub mod protocol {
    /// RFC 791.
    pub const IPV4: u16 = 0x0800;
    /// RFC 8200.
    pub const IPV6: u16 = 0x86dd;
    /// Transparent Ethernet bridging: an Ethernet frame.
    pub const ETHERNET: u16 = 0x6558;
    /// ERSPAN types I and II.
    pub const ERSPAN: u16 = 0x88be;
    /// ERSPAN type III.
    pub const ERSPAN_III: u16 = 0x22eb;
    /// MPLS labels, RFC 4023.
    pub const MPLS: u16 = 0x8847;
    /// MPLS labels of a multicast packet, RFC 4023.
    pub const MPLS_MULTICAST: u16 = 0x8848;
}

mod field {
    use super::Range;
    pub const FLAGS: Range<usize> = 0..2;
    pub const PROTOCOL: Range<usize> = 2..4;
    pub const CHECKSUM: Range<usize> = 4..6;
    pub const OPTIONAL: usize = 4;
    pub const OPTIONAL_LEN: usize = 4;
}

const FLAG_CHECKSUM: u16 = 0x8000;
const FLAG_ROUTING: u16 = 0x4000;
const FLAG_KEY: u16 = 0x2000;
const FLAG_SEQUENCE: u16 = 0x1000;
const VERSION_MASK: u16 = 0x0007;

/// A view of a GRE header and what follows, in a borrowed or owned buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Wraps a buffer unseen; accessors panic if it is shorter than the header.
    pub const fn new_unchecked(buffer: T) -> Self {
        Packet { buffer }
    }

    /// Wraps a buffer on which no accessor panics.
    ///
    /// # Errors
    /// [`Error::Truncated`] below the length that the flags ask for.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        let got = buffer.as_ref().len();
        if got < HEADER_LEN_MIN {
            return Err(Error::Truncated { layer: Layer::Gre, needed: HEADER_LEN_MIN, got });
        }
        let packet = Packet { buffer };
        let needed = packet.header_len();
        if got < needed {
            return Err(Error::Truncated { layer: Layer::Gre, needed, got });
        }
        Ok(packet)
    }

    /// Length of the header, optional fields included, bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        header_len(self.flags())
    }

    /// The version: 0 in all that this module reads.
    #[inline]
    pub fn version(&self) -> u8 {
        (self.flags() & VERSION_MASK) as u8
    }

    /// The R flag: routing in the manner of RFC 1701 follows.
    #[inline]
    pub fn has_routing(&self) -> bool {
        self.flags() & FLAG_ROUTING != 0
    }

    /// EtherType of what follows.
    #[inline]
    pub fn protocol(&self) -> u16 {
        let b = &self.buffer.as_ref()[field::PROTOCOL];
        u16::from_be_bytes([b[0], b[1]])
    }

    /// The checksum, if there is one.
    #[inline]
    pub fn checksum(&self) -> Option<u16> {
        let b = self.optional(FLAG_CHECKSUM)?;
        Some(u16::from_be_bytes([b[0], b[1]]))
    }

    /// Whether the checksum over header and payload is right, or there is none. The buffer must end
    /// where the packet ends.
    pub fn checksum_is_good(&self) -> bool {
        if self.checksum().is_none() {
            return true;
        }
        let mut sum = Sum::new();
        sum.add_bytes(self.buffer.as_ref());
        sum.finish() == 0
    }

    /// The key, if there is one.
    #[inline]
    pub fn key(&self) -> Option<u32> {
        self.optional(FLAG_KEY).map(u32::from_be_bytes)
    }

    /// The sequence number, if there is one.
    #[inline]
    pub fn sequence(&self) -> Option<u32> {
        self.optional(FLAG_SEQUENCE).map(u32::from_be_bytes)
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer.as_ref()[self.header_len()..]
    }

    #[inline]
    fn flags(&self) -> u16 {
        let b = &self.buffer.as_ref()[field::FLAGS];
        u16::from_be_bytes([b[0], b[1]])
    }

    // The optional field of a flag: it stands behind those of the higher flags.
    #[inline]
    fn optional(&self, flag: u16) -> Option<[u8; field::OPTIONAL_LEN]> {
        let flags = self.flags();
        if flags & flag == 0 {
            return None;
        }
        let higher = flags & !(flag | (flag - 1));
        self.buffer.as_ref().get(header_len(higher)..)?.first_chunk().copied()
    }
}

// Routing counts with the checksum: RFC 1701 puts its offset beside it.
#[inline]
const fn header_len(flags: u16) -> usize {
    let checksum = flags & (FLAG_CHECKSUM | FLAG_ROUTING) != 0;
    let (key, sequence) = (flags & FLAG_KEY != 0, flags & FLAG_SEQUENCE != 0);
    field::OPTIONAL + field::OPTIONAL_LEN * (checksum as usize + key as usize + sequence as usize)
}

/// What the header means. `parse` and `emit` are inverses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// EtherType of what follows.
    pub protocol: u16,
    /// Whether there is a checksum.
    pub checksum: bool,
    /// The key.
    pub key: Option<u32>,
    /// The sequence number.
    pub sequence: Option<u32>,
}

impl Repr {
    /// Reads the meaning out of a view.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is another version's header, or one with routing.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Result<Self, Error> {
        if packet.version() != 0 {
            return Err(malformed("not version 0 (PPTP has version 1)"));
        }
        if packet.has_routing() {
            return Err(malformed("R flag set, routing of RFC 1701"));
        }
        Ok(Repr {
            protocol: packet.protocol(),
            checksum: packet.checksum().is_some(),
            key: packet.key(),
            sequence: packet.sequence(),
        })
    }

    /// Bytes that [`Self::emit`] writes.
    #[inline]
    pub const fn header_len(&self) -> usize {
        header_len(self.flags())
    }

    /// Writes the header over whatever `buf` held. The payload, all that follows, is read only if
    /// there is a checksum.
    ///
    /// # Panics
    /// If `buf` is shorter than [`Self::header_len`].
    #[inline]
    pub fn emit(&self, buf: &mut [u8], payload: &[u8]) {
        let header = &mut buf[..self.header_len()];
        header[field::FLAGS].copy_from_slice(&self.flags().to_be_bytes());
        header[field::PROTOCOL].copy_from_slice(&self.protocol.to_be_bytes());
        let (mut optional, _) =
            header[field::OPTIONAL..].as_chunks_mut::<{ field::OPTIONAL_LEN }>();
        let checksum = self.checksum.then_some(0);
        for word in [checksum, self.key, self.sequence].into_iter().flatten() {
            let Some((first, rest)) = optional.split_first_mut() else { break };
            *first = word.to_be_bytes();
            optional = rest;
        }
        if self.checksum {
            let mut sum = Sum::new();
            sum.add_bytes(header);
            sum.add_bytes(payload);
            header[field::CHECKSUM].copy_from_slice(&sum.finish().to_be_bytes());
        }
    }

    const fn flags(&self) -> u16 {
        (if self.checksum { FLAG_CHECKSUM } else { 0 })
            | (if self.key.is_some() { FLAG_KEY } else { 0 })
            | (if self.sequence.is_some() { FLAG_SEQUENCE } else { 0 })
    }
}

fn malformed(what: &'static str) -> Error {
    Error::Malformed { layer: Layer::Gre, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // As a Linux gretap device with key 500 writes it.
    const KEYED: [u8; 8] = [0x20, 0, 0x65, 0x58, 0, 0, 0x01, 0xf4];
    const KEYED_REPR: Repr =
        Repr { protocol: protocol::ETHERNET, checksum: false, key: Some(500), sequence: None };
    // All that a header can have, and a payload of an odd length; tshark 4.0 calls the checksum
    // correct.
    const FULL: [u8; 19] =
        [0xb0, 0, 0x08, 0x00, 0xe4, 0xee, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9, 0x45, 0x00, 0x1e];
    const FULL_REPR: Repr =
        Repr { protocol: protocol::IPV4, checksum: true, key: Some(7), sequence: Some(9) };

    fn parse(bytes: &[u8]) -> Result<Repr, Error> {
        Repr::parse(&Packet::new_checked(bytes)?)
    }

    #[test]
    fn parse_vectors() {
        assert_eq!(parse(&KEYED), Ok(KEYED_REPR));
        let packet = Packet::new_checked(&FULL[..]).unwrap();
        assert_eq!(Repr::parse(&packet), Ok(FULL_REPR));
        assert_eq!(packet.payload(), [0x45, 0x00, 0x1e]);
        assert!(packet.checksum_is_good());
        let bare = Packet::new_checked(&[0u8, 0, 0x88, 0xbe, 0xee][..]).unwrap();
        assert_eq!((bare.protocol(), bare.payload()), (protocol::ERSPAN, &[0xee][..]));
        assert_eq!((bare.checksum(), bare.key(), bare.sequence()), (None, None, None));
    }

    #[test]
    fn emit_vectors_into_dirty_buffers() {
        let mut buf = [0xa5; 8];
        KEYED_REPR.emit(&mut buf, &[0xee]);
        assert_eq!(buf, KEYED);
        let mut buf = FULL;
        buf[..16].fill(0xa5);
        FULL_REPR.emit(&mut buf, &[0x45, 0x00, 0x1e]);
        assert_eq!(buf, FULL);
    }

    #[test]
    fn a_wrong_checksum_is_told_and_read_past() {
        let mut bytes = FULL;
        bytes[18] ^= 1;
        let packet = Packet::new_checked(&bytes[..]).unwrap();
        assert!(!packet.checksum_is_good());
        assert_eq!(Repr::parse(&packet), Ok(FULL_REPR));
    }

    #[test]
    fn reserved_bits_are_ignored() {
        let mut bytes = KEYED;
        bytes[0] |= 0x0f;
        bytes[1] |= 0xf8;
        assert_eq!(parse(&bytes), Ok(KEYED_REPR));
    }

    #[test]
    fn other_versions_and_routing_are_malformed() {
        for version in 1..8 {
            let e = parse(&[0x20, version, 0x88, 0x0b, 0, 0, 0, 0]).unwrap_err();
            assert_eq!(e.to_string(), "GRE: not version 0 (PPTP has version 1)");
        }
        let e = parse(&[0x40, 0, 0x08, 0, 0, 0, 0, 0]).unwrap_err();
        assert_eq!(e.to_string(), "GRE: R flag set, routing of RFC 1701");
    }

    #[test]
    fn every_short_length_is_an_error() {
        for got in 0..16 {
            let needed = if got < 4 { 4 } else { 16 };
            assert_eq!(
                Packet::new_checked(&FULL[..got]).unwrap_err(),
                Error::Truncated { layer: Layer::Gre, needed, got }
            );
        }
    }

    proptest! {
        #[test]
        fn any_meaning_comes_back(
            protocol: u16, checksum: bool, key: Option<u32>, sequence: Option<u32>,
            payload in proptest::collection::vec(any::<u8>(), 0..80)
        ) {
            let repr = Repr { protocol, checksum, key, sequence };
            let mut bytes = vec![0xa5; repr.header_len()];
            repr.emit(&mut bytes, &payload);
            bytes.extend_from_slice(&payload);
            let packet = Packet::new_checked(&bytes[..]).unwrap();
            prop_assert_eq!(Repr::parse(&packet), Ok(repr));
            prop_assert_eq!(packet.payload(), payload);
            prop_assert!(packet.checksum_is_good());
            prop_assert_eq!(packet.header_len(), repr.header_len());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(packet) = Packet::new_checked(&bytes[..]) {
                let _ = (Repr::parse(&packet), packet.checksum(), packet.checksum_is_good());
                prop_assert_eq!(packet.header_len() + packet.payload().len(), bytes.len());
            }
        }
    }
}
