//! GENEVE header: a segment id, the type of what follows, and options, carried over UDP.
//!
//! Source: [RFC 8926 section 3](https://www.rfc-editor.org/rfc/rfc8926#section-3). UDP port 6081.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Ver|  Opt Len  |O|C|    Rsvd.  |          protocol type        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                      VNI                      |    reserved   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          option class         |     type      |R|R|R|  length |  each option; lengths in
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+  units of 4 bytes
//! |                   length × 4 bytes of data                    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Liberal: reserved bits are sent as zero and ignored when read. Options that are not known are
//! kept, the critical ones (type 0x80 and above) as well: an endpoint has to drop such a packet, a
//! tap looks on. Options whose lengths lie do not hide the payload, whose place the header tells.
//! Only another version is malformed, as nothing behind it keeps its place then.

use crate::{Error, Layer, Vni};
use core::ops::Range;

/// Default UDP destination port (IANA `geneve`).
pub const PORT: u16 = 6081;
/// Length of the header without options, bytes.
pub const HEADER_LEN: usize = field::OPTIONS;
/// The most that options take, bytes.
pub const OPTIONS_LEN_MAX: usize = 4 * OPTIONS_LEN_MASK as usize;
/// The protocol type of Ethernet frames.
pub const ETHERNET: u16 = 0x6558;

mod field {
    use super::Range;
    pub const VERSION_LEN: usize = 0;
    pub const FLAGS: usize = 1;
    pub const PROTOCOL: Range<usize> = 2..4;
    pub const VNI: Range<usize> = 4..7;
    pub const OPTIONS: usize = 8;
}

const VERSION_SHIFT: u8 = 6;
const OPTIONS_LEN_MASK: u8 = 0x3f;
const FLAG_CONTROL: u8 = 0x80;
const FLAG_CRITICAL: u8 = 0x40;

/// A view of a GENEVE header, its options and what follows, in a borrowed or owned buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Wraps a buffer unseen; accessors panic if it is shorter than its header.
    pub const fn new_unchecked(buffer: T) -> Self {
        Packet { buffer }
    }

    /// Wraps a buffer on which no accessor panics.
    ///
    /// # Errors
    /// [`Error::Truncated`] if the header with its options is longer than the buffer.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        let got = buffer.as_ref().len();
        let truncated = |needed| Error::Truncated { layer: Layer::Geneve, needed, got };
        if got < HEADER_LEN {
            return Err(truncated(HEADER_LEN));
        }
        let packet = Packet { buffer };
        let needed = packet.header_len();
        if got < needed { Err(truncated(needed)) } else { Ok(packet) }
    }

    /// The version; 0 is the only one.
    #[inline]
    pub fn version(&self) -> u8 {
        self.buffer.as_ref()[field::VERSION_LEN] >> VERSION_SHIFT
    }

    /// Length of the header with its options, bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        let words = self.buffer.as_ref()[field::VERSION_LEN] & OPTIONS_LEN_MASK;
        HEADER_LEN + 4 * usize::from(words)
    }

    /// The O flag: this is a message between the endpoints and carries no packet of a user.
    #[inline]
    pub fn is_control(&self) -> bool {
        self.buffer.as_ref()[field::FLAGS] & FLAG_CONTROL != 0
    }

    /// The C flag: there are critical options.
    #[inline]
    pub fn has_critical(&self) -> bool {
        self.buffer.as_ref()[field::FLAGS] & FLAG_CRITICAL != 0
    }

    /// What the payload is: an EtherType; [`ETHERNET`] is an Ethernet frame.
    #[inline]
    pub fn protocol(&self) -> u16 {
        let b = &self.buffer.as_ref()[field::PROTOCOL];
        u16::from_be_bytes([b[0], b[1]])
    }

    /// The segment id.
    #[inline]
    pub fn vni(&self) -> Vni {
        let b = &self.buffer.as_ref()[field::VNI];
        Vni::from_be_bytes([b[0], b[1], b[2]])
    }

    /// The options, one by one.
    #[inline]
    pub fn options(&self) -> Options<'_> {
        Options { rest: self.options_bytes() }
    }

    /// What stands behind the options.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer.as_ref()[self.header_len()..]
    }

    fn options_bytes(&self) -> &[u8] {
        &self.buffer.as_ref()[field::OPTIONS..self.header_len()]
    }
}

/// One option, from its class to the end of its data: 4 to 128 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opt<'a> {
    bytes: &'a [u8],
}

impl<'a> Opt<'a> {
    /// Its class, the space that its type is a number of.
    pub fn class(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// Its type, with the bit that says it is critical.
    pub fn option_type(&self) -> u8 {
        self.bytes[2]
    }

    /// Whether an endpoint that does not know it has to drop the packet.
    pub fn is_critical(&self) -> bool {
        self.option_type() & 0x80 != 0
    }

    /// Its data, up to 124 bytes.
    pub fn data(&self) -> &'a [u8] {
        &self.bytes[OPTION_HEADER_LEN..]
    }

    /// The whole option.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

const OPTION_HEADER_LEN: usize = 4;
const OPTION_LEN_MASK: u8 = 0x1f;

/// An iterator over options. One that is longer than what is left is an error and ends it. Each
/// step moves on by four bytes or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<Opt<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let header = self.rest.get(..OPTION_HEADER_LEN)?;
        let len = OPTION_HEADER_LEN + 4 * usize::from(header[3] & OPTION_LEN_MASK);
        match self.rest.split_at_checked(len) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Some(Ok(Opt { bytes }))
            }
            None => {
                self.rest = &[];
                let what = "option longer than the options";
                Some(Err(Error::Malformed { layer: Layer::Geneve, what }))
            }
        }
    }
}

/// What the header means. `parse` and `emit` are inverses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr<'a> {
    /// The segment id.
    pub vni: Vni,
    /// What the payload is: an EtherType, or [`ETHERNET`].
    pub protocol: u16,
    /// A message between the endpoints.
    pub control: bool,
    /// There are critical options.
    pub critical: bool,
    /// The options as they stand: a multiple of 4 bytes, at most [`OPTIONS_LEN_MAX`].
    pub options: &'a [u8],
}

impl<'a> Repr<'a> {
    /// Reads the meaning out of a view.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the version is not 0.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(packet: &'a Packet<T>) -> Result<Self, Error> {
        if packet.version() != 0 {
            return Err(Error::Malformed { layer: Layer::Geneve, what: "version is not 0" });
        }
        Ok(Repr {
            vni: packet.vni(),
            protocol: packet.protocol(),
            control: packet.is_control(),
            critical: packet.has_critical(),
            options: packet.options_bytes(),
        })
    }

    /// Bytes that [`Self::emit`] writes.
    pub const fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Writes the header with its options over whatever `buf` held.
    ///
    /// # Panics
    /// If `buf` is shorter than [`Self::header_len`].
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) {
        debug_assert!(
            self.options.len() <= OPTIONS_LEN_MAX && self.options.len().is_multiple_of(4)
        );
        let buf = &mut buf[..self.header_len()];
        let [a, b, c] = self.vni.to_be_bytes();
        let [p, q] = self.protocol.to_be_bytes();
        let words = (self.options.len() / 4) as u8 & OPTIONS_LEN_MASK;
        let flags = u8::from(self.control) * FLAG_CONTROL + u8::from(self.critical) * FLAG_CRITICAL;
        buf[..HEADER_LEN].copy_from_slice(&[words, flags, p, q, a, b, c, 0]);
        buf[HEADER_LEN..].copy_from_slice(self.options);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Packet 1 of tcpdump's tests/geneve.pcap: VNI 10, a critical option, then Ethernet.
    #[rustfmt::skip]
    const BYTES: [u8; 17] = [
        0x02, 0x40, 0x65, 0x58, 0, 0, 10, 0,
        0, 0, 0x80, 1, 0, 0, 0, 0x0c,
        0xfe,
    ];
    // The options of tcpdump's tests/geneve-gcp.pcap: three types of one class.
    #[rustfmt::skip]
    const GOOGLE: [u8; 40] = [
        0x01, 0x32, 1, 1, 0x80, 0, 0, 0xd1,
        0x01, 0x32, 2, 4, 8, 0, 0, 0x0d, 0xc0, 0xa8, 0x64, 2, 0, 0, 0, 0, 0, 0, 0, 0,
        0x01, 0x32, 3, 2, 0, 0, 0, 0, 0, 0, 0x12, 0x34,
    ];

    fn repr(options: &[u8]) -> Repr<'_> {
        let vni = Vni::new(10).unwrap();
        Repr { vni, protocol: ETHERNET, control: false, critical: true, options }
    }

    #[test]
    fn parse_vector() {
        let packet = Packet::new_checked(&BYTES[..]).unwrap();
        assert_eq!(Repr::parse(&packet), Ok(repr(&BYTES[8..16])));
        assert_eq!(packet.payload(), [0xfe]);
        let options: Vec<_> = packet.options().map(Result::unwrap).collect();
        assert_eq!(options.len(), 1);
        assert_eq!((options[0].class(), options[0].option_type()), (0, 0x80));
        assert!(options[0].is_critical());
        assert_eq!(options[0].data(), [0, 0, 0, 0x0c]);
        assert_eq!(options[0].as_bytes(), &BYTES[8..16]);
    }

    #[test]
    fn emit_vector_into_dirty_buffer() {
        let mut buf = [0xa5; 17];
        buf[16] = 0xfe;
        repr(&BYTES[8..16]).emit(&mut buf);
        assert_eq!(buf, BYTES);
    }

    #[test]
    fn every_option_is_found() {
        let found: Vec<_> = Options { rest: &GOOGLE }
            .map(Result::unwrap)
            .map(|o| (o.class(), o.option_type(), o.is_critical(), o.data().len()))
            .collect();
        assert_eq!(found, [(0x132, 1, false, 4), (0x132, 2, false, 16), (0x132, 3, false, 8)]);
    }

    #[test]
    fn an_option_that_lies_ends_the_options_and_not_the_packet() {
        let mut bytes = BYTES;
        bytes[11] = 0x1f;
        let packet = Packet::new_checked(&bytes[..]).unwrap();
        let found: Vec<_> = packet.options().collect();
        let e = Error::Malformed { layer: Layer::Geneve, what: "option longer than the options" };
        assert_eq!(found, [Err(e)]);
        assert_eq!(packet.payload(), [0xfe]);
    }

    #[test]
    fn reserved_bits_are_ignored() {
        let mut bytes = BYTES;
        (bytes[1], bytes[7], bytes[11]) = (0x7f, 0xff, 0xe1);
        let packet = Packet::new_checked(&bytes[..]).unwrap();
        assert_eq!(Repr::parse(&packet), Ok(repr(&bytes[8..16])));
        assert_eq!(packet.options().count(), 1);
    }

    #[test]
    fn another_version_is_not_read() {
        let mut bytes = BYTES;
        bytes[0] |= 0x40;
        let packet = Packet::new_checked(&bytes[..]).unwrap();
        assert_eq!(Repr::parse(&packet).unwrap_err().to_string(), "GENEVE: version is not 0");
    }

    #[test]
    fn every_short_length_is_an_error() {
        for got in 0..16 {
            let needed = if got < HEADER_LEN { HEADER_LEN } else { 16 };
            let e = Error::Truncated { layer: Layer::Geneve, needed, got };
            assert_eq!(Packet::new_checked(&BYTES[..got]), Err(e));
        }
    }

    proptest! {
        #[test]
        fn every_header_comes_back(
            (vni, protocol) in (0..=Vni::MAX, any::<u16>()),
            (control, critical) in any::<(bool, bool)>(),
            words in prop::collection::vec(any::<[u8; 4]>(), 0..=63),
        ) {
            let options = words.concat();
            let vni = Vni::new(vni).unwrap();
            let repr = Repr { vni, protocol, control, critical, options: &options };
            let mut buf = vec![0xa5; repr.header_len()];
            repr.emit(&mut buf);
            let packet = Packet::new_checked(&buf[..]).unwrap();
            prop_assert_eq!(Repr::parse(&packet), Ok(repr));
            prop_assert!(packet.options().count() <= 63);
        }

        #[test]
        fn options_cover_no_more_than_there_is(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            if let Ok(packet) = Packet::new_checked(&bytes[..]) {
                let whole = packet.options().flatten().map(|o| o.as_bytes().len()).sum::<usize>();
                prop_assert!(whole <= packet.header_len() - HEADER_LEN);
                prop_assert_eq!(packet.payload().len(), bytes.len() - packet.header_len());
            }
        }
    }
}
