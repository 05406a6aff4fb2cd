//! ERSPAN: mirrored Ethernet frames inside GRE, of type I, II or III.
//!
//! Source: [draft-foschiano-erspan-03](https://datatracker.ietf.org/doc/html/draft-foschiano-erspan-03)
//! section 4, and Linux `include/net/erspan.h` for what its devices send.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |version|         VLAN          | COS |E/B|T|      session      |  II, III
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |       reserved        |                 index                 |  II: version 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!
//! |                           timestamp                           |  III: version 2
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |      security group tag       |P|    FT   |  hardware |D|Gra|O|
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! | platform  |               platform's information              |  III with O
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Type I has no header at all: GRE protocol 0x88BE without optional fields. With any of them, and
//! behind 0x22EB, a header follows, whose version says which: so do Linux and tshark.
//!
//! Time: the timestamp counts in units of Gra: 0 is 100 µs, 1 is 100 ns, 2 the nanoseconds of an
//! IEEE 1588 time, 3 the sender's own. Only with Gra 2 and a sub-header that holds the seconds does
//! the packet show a time that counts from a known instant; all else is left to the reader.
//!
//! Liberal: reserved bits are sent as zero and ignored when read. Sub-headers of unknown platforms
//! are stepped over.

use crate::{Direction, Error, Layer, gre};
use core::ops::Range;

/// Length of the header of type II, bytes.
pub const HEADER_LEN_II: usize = 8;
/// Length of the header of type III without a sub-header, bytes.
pub const HEADER_LEN_III: usize = 12;
/// Length of the sub-header of type III, bytes.
pub const SUBHEADER_LEN: usize = 8;
/// The longest header, bytes.
pub const HEADER_LEN_MAX: usize = HEADER_LEN_III + SUBHEADER_LEN;
/// The largest session.
pub const SESSION_MAX: u16 = 0x3ff;
/// The largest index of type II.
pub const INDEX_MAX: u32 = 0xf_ffff;
/// The largest hardware id of type III.
pub const HARDWARE_MAX: u8 = 0x3f;

mod field {
    use super::Range;
    pub const VERSION_VLAN: Range<usize> = 0..2;
    pub const COS_SESSION: Range<usize> = 2..4;
    pub const INDEX: Range<usize> = 4..8;
    pub const TIMESTAMP: Range<usize> = 4..8;
    pub const SGT: Range<usize> = 8..10;
    pub const FLAGS: Range<usize> = 10..12;
    pub const PLATFORM: Range<usize> = 12..20;
}

const VERSION_II: u16 = 1;
const VERSION_III: u16 = 2;
const TRUNCATED: u16 = 0x0400;
const PDU: u16 = 0x8000;
const DIRECTION: u16 = 0x0008;
const SUBHEADER: u16 = 0x0001;

/// A view of the header of type II or III and what follows, in a borrowed or owned buffer.
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
    /// [`Error::Truncated`] below the length that version and O bit ask for; [`Error::Malformed`]
    /// if the version is that of no type.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        let b = buffer.as_ref();
        let truncated = |needed| Error::Truncated { layer: Layer::Erspan, needed, got: b.len() };
        // The shortest header there is; which one it is stands in its first half byte.
        let Some(&first) = b.first() else { return Err(truncated(HEADER_LEN_II)) };
        let needed = match u16::from(first >> 4) {
            VERSION_II => HEADER_LEN_II,
            VERSION_III if b.len() < HEADER_LEN_III => HEADER_LEN_III,
            VERSION_III if be16(b, field::FLAGS) & SUBHEADER != 0 => HEADER_LEN_MAX,
            VERSION_III => HEADER_LEN_III,
            _ => {
                let what = "version neither 1 (type II) nor 2 (type III)";
                return Err(Error::Malformed { layer: Layer::Erspan, what });
            }
        };
        if b.len() < needed {
            return Err(truncated(needed));
        }
        Ok(Packet { buffer })
    }

    /// Length of the header, sub-header included, bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        let b = self.buffer.as_ref();
        match self.version() {
            VERSION_III if be16(b, field::FLAGS) & SUBHEADER != 0 => HEADER_LEN_MAX,
            VERSION_III => HEADER_LEN_III,
            _ => HEADER_LEN_II,
        }
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer.as_ref()[self.header_len()..]
    }

    /// The part that types II and III share.
    #[inline]
    pub fn common(&self) -> Common {
        let b = self.buffer.as_ref();
        let bits = be16(b, field::COS_SESSION);
        Common {
            vlan: be16(b, field::VERSION_VLAN) & 0xfff,
            cos: (bits >> 13) as u8,
            encap: (bits >> 11 & 0b11) as u8,
            truncated: bits & TRUNCATED != 0,
            session: bits & SESSION_MAX,
        }
    }

    #[inline]
    fn version(&self) -> u16 {
        be16(self.buffer.as_ref(), field::VERSION_VLAN) >> 12
    }
}

/// What types II and III both tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Common {
    /// VLAN of the frame, 12 bits.
    pub vlan: u16,
    /// Class of service, 3 bits.
    pub cos: u8,
    /// Type II: where the frame's tag is (3: in the frame). Type III: what is wrong with the frame
    /// (0 nothing, 1 short, 2 oversized, 3 bad). 2 bits.
    pub encap: u8,
    /// The frame was cut by the sender.
    pub truncated: bool,
    /// The session, 10 bits.
    pub session: u16,
}

/// What the header means. `parse` and `emit` are inverses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repr {
    /// No header.
    I,
    /// Version 1.
    II {
        /// Session and frame.
        common: Common,
        /// Index of the port that was mirrored, 20 bits; the sender's own.
        index: u32,
    },
    /// Version 2.
    III {
        /// Session and frame.
        common: Common,
        /// All else.
        extra: Extra,
    },
}

/// What only type III tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extra {
    /// Time in units of `granularity`.
    pub timestamp: u32,
    /// Units of `timestamp`.
    pub granularity: Granularity,
    /// Security group tag.
    pub sgt: u16,
    /// The P bit: the payload is an Ethernet protocol frame.
    pub pdu: bool,
    /// What the payload is, 5 bits; see [`FRAME_TYPE_ETHERNET`].
    pub frame_type: u8,
    /// Id of the engine that sent it, 6 bits.
    pub hardware: u8,
    /// The D bit: the frame was sent by the mirrored port, not received.
    pub egress: bool,
    /// The sub-header, if the O bit says that there is one.
    pub platform: Option<Platform>,
}

/// The frame type of Ethernet frames.
pub const FRAME_TYPE_ETHERNET: u8 = 0;
/// The frame type of IP packets.
pub const FRAME_TYPE_IP: u8 = 2;

/// Units of a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Granularity {
    /// 100 µs, as Linux sends it.
    #[default]
    Microseconds100,
    /// 100 ns.
    Nanoseconds100,
    /// The nanoseconds of an IEEE 1588 time, below 10^9.
    Ieee1588,
    /// The sender's own.
    Custom,
}

/// The sub-header of a platform: its id in the highest 6 bits, then what that platform tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Platform(pub [u8; SUBHEADER_LEN]);

impl Platform {
    /// The sub-header with the seconds of a time that ids 5 and 6 name: here 5, switch and port 0.
    pub const fn seconds_only(seconds: u32) -> Platform {
        let [a, b, c, d] = seconds.to_be_bytes();
        Platform([5 << 2, 0, 0, 0, a, b, c, d])
    }

    /// The platform's id, 6 bits.
    pub const fn id(self) -> u8 {
        self.0[0] >> 2
    }

    /// The upper 32 bits of the timestamp; of an IEEE 1588 time they are the seconds. Ids 3, 5, 6,
    /// 7 and, as some send it for 7, 0 have them.
    pub const fn upper_timestamp(self) -> Option<u32> {
        let [_, _, _, _, a, b, c, d] = self.0;
        match self.id() {
            0 | 3 | 5 | 6 | 7 => Some(u32::from_be_bytes([a, b, c, d])),
            _ => None,
        }
    }
}

impl Extra {
    /// The time in ns since 1970, if the packet shows one that is complete. It is that of the
    /// sender's clock: leap seconds are not looked at.
    pub fn ts_ns(&self) -> Option<u64> {
        if self.granularity != Granularity::Ieee1588 || self.timestamp >= 1_000_000_000 {
            return None;
        }
        let seconds = self.platform?.upper_timestamp()?;
        Some(u64::from(seconds) * 1_000_000_000 + u64::from(self.timestamp))
    }

    /// Which way the frame went through the mirrored port.
    pub const fn direction(&self) -> Direction {
        if self.egress { Direction::Out } else { Direction::In }
    }
}

impl Repr {
    /// Reads the meaning out of a view, which is one of type II or III.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Self {
        let (b, common) = (packet.buffer.as_ref(), packet.common());
        if packet.version() != VERSION_III {
            return Repr::II { common, index: be32(b, field::INDEX) & INDEX_MAX };
        }
        let flags = be16(b, field::FLAGS);
        let platform = b.get(field::PLATFORM).and_then(|b| b.first_chunk());
        let extra = Extra {
            timestamp: be32(b, field::TIMESTAMP),
            granularity: match flags >> 1 & 0b11 {
                0 => Granularity::Microseconds100,
                1 => Granularity::Nanoseconds100,
                2 => Granularity::Ieee1588,
                _ => Granularity::Custom,
            },
            sgt: be16(b, field::SGT),
            pdu: flags & PDU != 0,
            frame_type: (flags >> 10 & 0x1f) as u8,
            hardware: (flags >> 4) as u8 & HARDWARE_MAX,
            egress: flags & DIRECTION != 0,
            platform: platform.filter(|_| flags & SUBHEADER != 0).map(|b| Platform(*b)),
        };
        Repr::III { common, extra }
    }

    /// Reads what follows a GRE header whose protocol is 0x88BE or 0x22EB.
    ///
    /// # Errors
    /// Those of [`Packet::new_checked`].
    #[inline]
    pub fn parse_behind(gre: &gre::Repr, payload: &[u8]) -> Result<Self, Error> {
        let bare = gre.header_len() == gre::HEADER_LEN_MIN;
        if bare && gre.protocol == gre::protocol::ERSPAN {
            return Ok(Repr::I);
        }
        Ok(Repr::parse(&Packet::new_checked(payload)?))
    }

    /// The GRE protocol in front of it.
    pub const fn protocol(&self) -> u16 {
        match self {
            Repr::I | Repr::II { .. } => gre::protocol::ERSPAN,
            Repr::III { .. } => gre::protocol::ERSPAN_III,
        }
    }

    /// The session, which type I does not have.
    pub const fn session(&self) -> Option<u16> {
        match self {
            Repr::I => None,
            Repr::II { common, .. } | Repr::III { common, .. } => Some(common.session),
        }
    }

    /// Bytes that [`Self::emit`] writes.
    #[inline]
    pub const fn header_len(&self) -> usize {
        match self {
            Repr::I => 0,
            Repr::II { .. } => HEADER_LEN_II,
            Repr::III { extra, .. } if extra.platform.is_some() => HEADER_LEN_MAX,
            Repr::III { .. } => HEADER_LEN_III,
        }
    }

    /// Writes the header over whatever `buf` held. Values are cut to the bits of their fields.
    ///
    /// # Panics
    /// If `buf` is shorter than [`Self::header_len`].
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) {
        match self {
            Repr::I => {}
            Repr::II { common, index } => {
                common.emit(buf, VERSION_II);
                buf[field::INDEX].copy_from_slice(&(index & INDEX_MAX).to_be_bytes());
            }
            Repr::III { common, extra } => {
                common.emit(buf, VERSION_III);
                extra.emit(buf);
            }
        }
    }
}

impl Common {
    #[inline]
    fn emit(&self, buf: &mut [u8], version: u16) {
        let bits = u16::from(self.cos) << 13
            | u16::from(self.encap & 0b11) << 11
            | if self.truncated { TRUNCATED } else { 0 }
            | self.session & SESSION_MAX;
        let vlan = version << 12 | self.vlan & 0xfff;
        buf[field::VERSION_VLAN].copy_from_slice(&vlan.to_be_bytes());
        buf[field::COS_SESSION].copy_from_slice(&bits.to_be_bytes());
    }
}

impl Extra {
    #[inline]
    fn emit(&self, buf: &mut [u8]) {
        let flags = if self.pdu { PDU } else { 0 }
            | u16::from(self.frame_type & 0x1f) << 10
            | u16::from(self.hardware & HARDWARE_MAX) << 4
            | if self.egress { DIRECTION } else { 0 }
            | match self.granularity {
                Granularity::Microseconds100 => 0,
                Granularity::Nanoseconds100 => 1,
                Granularity::Ieee1588 => 2,
                Granularity::Custom => 3,
            } << 1
            | if self.platform.is_some() { SUBHEADER } else { 0 };
        buf[field::TIMESTAMP].copy_from_slice(&self.timestamp.to_be_bytes());
        buf[field::SGT].copy_from_slice(&self.sgt.to_be_bytes());
        buf[field::FLAGS].copy_from_slice(&flags.to_be_bytes());
        if let Some(platform) = self.platform {
            buf[field::PLATFORM].copy_from_slice(&platform.0);
        }
    }
}

#[inline]
fn be16(b: &[u8], at: Range<usize>) -> u16 {
    let b = &b[at];
    u16::from_be_bytes([b[0], b[1]])
}

#[inline]
fn be32(b: &[u8], at: Range<usize>) -> u32 {
    let b = &b[at];
    u32::from_be_bytes([b[0], b[1], b[2], b[3]])
}

#[cfg(test)]
mod tests;
