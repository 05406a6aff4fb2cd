//! L2TPv3: a session id in front of an Ethernet frame, over IP protocol 115 or UDP 1701.
//!
//! Source: [RFC 3931](https://www.rfc-editor.org/rfc/rfc3931) sections 3.2.1 (control), 4.1
//! (over IP and UDP), 4.6 (sublayer); RFC 4719 (Ethernet). Checked against a Linux 6.1 kernel.
//!
//! ```text
//! over IP   session 4 ─ data, as below
//!           0000 0000 ─ control message
//! over UDP  0003 0000 ─ session 4 ─ data
//!           T bit set ─ control message
//!
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                      session id, not 0                        |  data
//! |                      cookie: 0, 4 or 8 bytes                  |
//! |x|S|x x x x x x|         sequence number                       |  default sublayer, or none
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |T|L|x x|S|x x x x x x x|  ver  |             length            |  control
//! |                    control connection id                      |
//! |               Ns              |               Nr              |
//! |M|H|  rsvd |  length of AVP    |  vendor = 0   | attribute = 0 |  message type comes first;
//! |         message type          |  …                               none in an acknowledgement
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! A data packet does not show which cookie and sublayer it has; the ends agree on that. Who was
//! not told can [`guess`].
//!
//! Liberal: reserved bits and lengths of control messages are not looked at, and neither is the
//! value of a cookie. L2TPv2, which shares the UDP port, is malformed: it carries PPP.

mod guess;
mod keepalive;

pub use guess::guess;
pub use keepalive::{Ends, KEEP_ALIVE_LEN_MAX, KeepAlive};

use crate::tunnel::{Cookie, L2tpFormat};
use crate::{Error, Layer};

/// Default UDP port (IANA `l2tp`).
pub const PORT: u16 = 1701;
/// The IP protocol.
pub const IP_PROTOCOL: u8 = 115;
/// What stands in front of a data packet over UDP.
pub const UDP_PREFIX: [u8; 4] = [0, VERSION, 0, 0];
/// Length of the longest header of a data packet, without [`UDP_PREFIX`], bytes.
pub const HEADER_LEN_MAX: usize = SESSION_LEN + 8 + SUBLAYER_LEN;
/// The type of the control message that asks whether the far end is there (RFC 3931 section 4.4).
pub const HELLO: u16 = 6;

const VERSION: u8 = 3;
const VERSION_MASK: u8 = 0x0f;
const FLAG_CONTROL: u8 = 0x80;
const SESSION_LEN: usize = 4;
const SUBLAYER_LEN: usize = 4;
const FLAG_SEQUENCE: u32 = 0x4000_0000;
const SEQUENCE_MASK: u32 = 0x00ff_ffff;
const CONTROL_LEN: usize = 12;

/// What stands behind the IP or UDP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A data packet, from its session id on: what [`Packet`] reads.
    Data(&'a [u8]),
    /// A message between the endpoints.
    Control(Control),
}

/// A control message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// The control connection.
    pub connection: u32,
    /// Which message it is, such as [`HELLO`]; `None` in an acknowledgement, and where the type is
    /// hidden or cut off.
    pub message_type: Option<u16>,
}

impl<'a> Message<'a> {
    /// Reads what IP protocol 115 carries.
    ///
    /// # Errors
    /// [`Error::Truncated`] below 4 bytes, and in the header of a control message;
    /// [`Error::Malformed`] if session 0 is followed by no such header.
    #[inline]
    pub fn in_ip(bytes: &'a [u8]) -> Result<Self, Error> {
        match bytes.split_first_chunk::<SESSION_LEN>() {
            Some((&[0, 0, 0, 0], rest)) => Ok(Message::Control(Control::parse(rest)?)),
            Some(_) => Ok(Message::Data(bytes)),
            None => Err(truncated(SESSION_LEN, bytes.len())),
        }
    }

    /// Reads what a UDP datagram carries.
    ///
    /// # Errors
    /// [`Error::Truncated`] below 8 bytes, and in the header of a control message;
    /// [`Error::Malformed`] if the version is not 3 or the session of a data packet is 0.
    #[inline]
    pub fn in_udp(bytes: &'a [u8]) -> Result<Self, Error> {
        let Some((prefix, rest)) = bytes.split_first_chunk::<{ UDP_PREFIX.len() }>() else {
            return Err(truncated(UDP_PREFIX.len() + SESSION_LEN, bytes.len()));
        };
        if prefix[1] & VERSION_MASK != VERSION {
            return Err(malformed("version is not 3"));
        }
        if prefix[0] & FLAG_CONTROL != 0 {
            return Ok(Message::Control(Control::parse(bytes)?));
        }
        match rest.first_chunk::<SESSION_LEN>() {
            Some(&[0, 0, 0, 0]) => Err(malformed("session 0 in a data packet")),
            Some(_) => Ok(Message::Data(rest)),
            None => Err(truncated(UDP_PREFIX.len() + SESSION_LEN, bytes.len())),
        }
    }
}

impl Control {
    fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let Some((header, rest)) = bytes.split_first_chunk::<CONTROL_LEN>() else {
            return Err(truncated(CONTROL_LEN, bytes.len()));
        };
        if header[0] & FLAG_CONTROL == 0 || header[1] & VERSION_MASK != VERSION {
            return Err(malformed("session 0, and no control message of version 3"));
        }
        let connection = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        // The H bit says that the value is hidden.
        let message_type = match *rest {
            [flags, 8, 0, 0, 0, 0, a, b, ..] if flags & 0x43 == 0 => {
                Some(u16::from_be_bytes([a, b]))
            }
            _ => None,
        };
        Ok(Control { connection, message_type })
    }
}

/// A view of a data packet from its session id on, in a borrowed or owned buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
    cookie_len: usize,
    sublayer: bool,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Wraps a buffer on which no accessor panics. Of the cookie in `format` only the length counts.
    ///
    /// # Errors
    /// [`Error::Truncated`] if the buffer is shorter than the header in this format.
    #[inline]
    pub fn new_checked(buffer: T, format: &L2tpFormat) -> Result<Self, Error> {
        let (needed, got) = (format.header_len(), buffer.as_ref().len());
        if got < needed {
            return Err(truncated(needed, got));
        }
        let cookie_len = format.cookie.as_bytes().len();
        Ok(Packet { buffer, cookie_len, sublayer: format.sublayer })
    }

    /// The session.
    #[inline]
    pub fn session(&self) -> u32 {
        self.word(0)
    }

    /// The cookie.
    #[inline]
    pub fn cookie(&self) -> &[u8] {
        &self.buffer.as_ref()[SESSION_LEN..SESSION_LEN + self.cookie_len]
    }

    /// The number of the packet, 24 bits, if the sublayer says that there is one.
    #[inline]
    pub fn sequence(&self) -> Option<u32> {
        let word = if self.sublayer { self.word(SESSION_LEN + self.cookie_len) } else { 0 };
        (word & FLAG_SEQUENCE != 0).then_some(word & SEQUENCE_MASK)
    }

    /// Length of the header, bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        SESSION_LEN + self.cookie_len + if self.sublayer { SUBLAYER_LEN } else { 0 }
    }

    /// The Ethernet frame.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer.as_ref()[self.header_len()..]
    }

    fn word(&self, at: usize) -> u32 {
        let b = &self.buffer.as_ref()[at..at + 4];
        u32::from_be_bytes([b[0], b[1], b[2], b[3]])
    }
}

impl L2tpFormat {
    /// Length of a data packet's header from its session id on, bytes.
    #[inline]
    pub const fn header_len(&self) -> usize {
        let sublayer = if self.sublayer { SUBLAYER_LEN } else { 0 };
        SESSION_LEN + self.cookie.as_bytes().len() + sublayer
    }
}

/// What the header of a data packet means. `parse` and `emit` are inverses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// The session, not 0.
    pub session: u32,
    /// What follows, with the cookie that stands there.
    pub format: L2tpFormat,
    /// The number of the packet, 24 bits. Only a sublayer can carry it.
    pub sequence: Option<u32>,
}

impl Repr {
    /// Reads the meaning out of a view.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the session is 0.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Result<Self, Error> {
        if packet.session() == 0 {
            return Err(malformed("session 0 in a data packet"));
        }
        let cookie = match *packet.cookie() {
            [a, b, c, d] => Cookie::Short([a, b, c, d]),
            [a, b, c, d, e, f, g, h] => Cookie::Long([a, b, c, d, e, f, g, h]),
            _ => Cookie::None,
        };
        let format = L2tpFormat { cookie, sublayer: packet.sublayer };
        Ok(Repr { session: packet.session(), format, sequence: packet.sequence() })
    }

    /// Bytes that [`Self::emit`] writes.
    pub const fn header_len(&self) -> usize {
        self.format.header_len()
    }

    /// Writes the header over whatever `buf` held.
    ///
    /// # Panics
    /// If `buf` is shorter than [`Self::header_len`].
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) {
        let (session, rest) = buf[..self.header_len()].split_at_mut(SESSION_LEN);
        session.copy_from_slice(&self.session.to_be_bytes());
        let cookie = self.format.cookie.as_bytes();
        let (to, sublayer) = rest.split_at_mut(cookie.len());
        to.copy_from_slice(cookie);
        if self.format.sublayer {
            let word = self.sequence.map_or(0, |n| FLAG_SEQUENCE | n & SEQUENCE_MASK);
            sublayer.copy_from_slice(&word.to_be_bytes());
        }
    }
}

const fn truncated(needed: usize, got: usize) -> Error {
    Error::Truncated { layer: Layer::L2tp, needed, got }
}

const fn malformed(what: &'static str) -> Error {
    Error::Malformed { layer: Layer::L2tp, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SESSION: u32 = 0x0a0a_0a0b;
    const COOKIE: Cookie = Cookie::Long([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);

    // As a Linux 6.1 kernel sends them: 10.10.10.11, session 0x0a0a0a0b; a frame of one byte.
    const DEFAULT: [u8; 9] = [0x0a, 0x0a, 0x0a, 0x0b, 0, 0, 0, 0, 0xee];
    const BARE: [u8; 5] = [0x0a, 0x0a, 0x0a, 0x0b, 0xee];
    #[rustfmt::skip]
    const NUMBERED: [u8; 17] = [
        0x0a, 0x0a, 0x0a, 0x0b, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x40, 0, 0, 1, 0xee,
    ];
    const OVER_UDP: [u8; 13] = [0, 3, 0, 0, 0x0a, 0x0a, 0x0a, 0x0b, 0, 0, 0, 0, 0xee];

    // A HELLO of RFC 3931 section 6.5 on control connection 7: T, L and S bits, length 20.
    #[rustfmt::skip]
    const HELLO_BYTES: [u8; 20] = [
        0xc8, 3, 0, 20, 0, 0, 0, 7, 0, 2, 0, 3, 0x80, 8, 0, 0, 0, 0, 0, 6,
    ];

    fn golden() -> [(&'static [u8], Repr); 3] {
        let repr = |cookie, sublayer, sequence| Repr {
            session: SESSION,
            format: L2tpFormat { cookie, sublayer },
            sequence,
        };
        [
            (&DEFAULT, repr(Cookie::None, true, None)),
            (&BARE, repr(Cookie::None, false, None)),
            (&NUMBERED, repr(COOKIE, true, Some(1))),
        ]
    }

    #[test]
    fn parse_vectors() {
        for (bytes, repr) in golden() {
            assert_eq!(Message::in_ip(bytes), Ok(Message::Data(bytes)));
            let packet = Packet::new_checked(bytes, &repr.format).unwrap();
            assert_eq!(Repr::parse(&packet), Ok(repr));
            assert_eq!(packet.payload(), [0xee]);
        }
        assert_eq!(Message::in_udp(&OVER_UDP), Ok(Message::Data(&DEFAULT)));
    }

    #[test]
    fn emit_vectors_into_dirty_buffers() {
        for (bytes, repr) in golden() {
            let mut buf = vec![0xa5; bytes.len()];
            buf[bytes.len() - 1] = 0xee;
            repr.emit(&mut buf);
            assert_eq!(buf, bytes);
        }
        assert_eq!(UDP_PREFIX, OVER_UDP[..4]);
    }

    #[test]
    fn control_messages_are_told_apart() {
        let hello = Message::Control(Control { connection: 7, message_type: Some(HELLO) });
        assert_eq!(Message::in_udp(&HELLO_BYTES), Ok(hello));
        let over_ip = [&[0; 4], &HELLO_BYTES[..]].concat();
        assert_eq!(Message::in_ip(&over_ip), Ok(hello));
        let acknowledgement = Message::Control(Control { connection: 7, message_type: None });
        assert_eq!(Message::in_udp(&HELLO_BYTES[..12]), Ok(acknowledgement));
        let mut hidden = HELLO_BYTES;
        hidden[12] |= 0x40;
        assert_eq!(Message::in_udp(&hidden), Ok(acknowledgement));
    }

    #[test]
    fn what_is_no_l2tpv3_is_said() {
        let text = |result: Result<Message<'_>, Error>| result.unwrap_err().to_string();
        // Version 2, data and control, as in RFC 2661 section 3.1.
        assert_eq!(text(Message::in_udp(&[0, 2, 0, 1, 0, 1, 0xff, 3])), "L2TPv3: version is not 3");
        let v2 = [0xc8, 2, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(text(Message::in_udp(&v2)), "L2TPv3: version is not 3");
        let session_0 = [0, 3, 0, 0, 0, 0, 0, 0];
        assert_eq!(text(Message::in_udp(&session_0)), "L2TPv3: session 0 in a data packet");
        let what = "L2TPv3: session 0, and no control message of version 3";
        assert_eq!(text(Message::in_ip(&[0; 16])), what);
    }

    #[test]
    fn every_short_length_is_an_error() {
        for (bytes, repr) in golden() {
            for got in 0..repr.header_len() {
                let e = truncated(repr.header_len(), got);
                assert_eq!(Packet::new_checked(&bytes[..got], &repr.format), Err(e));
            }
        }
        for got in 0..4 {
            assert_eq!(Message::in_ip(&DEFAULT[..got]), Err(truncated(4, got)));
        }
        for got in 0..8 {
            assert_eq!(Message::in_udp(&OVER_UDP[..got]), Err(truncated(8, got)));
        }
        let over_ip = [&[0; 4], &HELLO_BYTES[..]].concat();
        for got in 4..12 {
            assert_eq!(Message::in_udp(&HELLO_BYTES[..got]), Err(truncated(12, got)));
            assert_eq!(Message::in_ip(&over_ip[..4 + got]), Err(truncated(12, got)));
        }
    }

    proptest! {
        #[test]
        fn every_header_comes_back(
            session in 1..=u32::MAX,
            cookie in prop_oneof![
                Just(Cookie::None),
                any::<[u8; 4]>().prop_map(Cookie::Short),
                any::<[u8; 8]>().prop_map(Cookie::Long),
            ],
            sublayer: bool,
            sequence in prop::option::of(0..=SEQUENCE_MASK),
        ) {
            let sequence = sequence.filter(|_| sublayer);
            let repr = Repr { session, format: L2tpFormat { cookie, sublayer }, sequence };
            let mut buf = vec![0xa5; repr.header_len()];
            repr.emit(&mut buf);
            let packet = Packet::new_checked(&buf[..], &repr.format).unwrap();
            prop_assert_eq!(Repr::parse(&packet), Ok(repr));
        }
    }
}
