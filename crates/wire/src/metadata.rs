//! tapline's option block in GENEVE: what a tap knows about a packet beside its bytes.
//!
//! Not a standard: an option class of the experimental range 0xFF00–0xFFFF of
//! [RFC 8926 section 7](https://www.rfc-editor.org/rfc/rfc8926#section-7). Whoever does not know
//! it skips it, since its critical bit is 0. All numbers are big endian.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     option class = 0xff7a     |0| 1 packet    |  0  | length 7|  0
//! |                               |0| 2 progress  |     |         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  version = 1  |  reserved |dir|              tap              |  4
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |     target    |      lane     |            reserved           |  8
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                             epoch                             | 12
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                           sequence                            | 16
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                     original length, bytes                    | 20
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                   time, ns since 1970 in UTC                  | 24
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Direction: 0 unknown, 1 in, 2 out. A *packet* block stands in front of each packet of a lane
//! and numbers it from 0 on, modulo 2^32. A *progress* block stands alone in a control packet and
//! tells the number that the lane's next packet will have, so that a loss shows even if no packet
//! follows it.
//!
//! Liberal: reserved bits are sent as zero and ignored. A later version may set them and may
//! append fields; those that stand here keep their place, so a larger version and a longer block
//! are read as far as they are known. A shorter block is malformed.

use crate::{Direction, Error, Layer};
use core::ops::Range;

/// The option class.
pub const CLASS: u16 = 0xff7a;
/// Length of the whole option, its own header included, bytes.
pub const OPTION_LEN: usize = 32;
/// The version that is written.
pub const VERSION: u8 = 1;

mod field {
    use super::Range;
    pub const CLASS: Range<usize> = 0..2;
    pub const TYPE: usize = 2;
    pub const LENGTH: usize = 3;
    pub const VERSION: usize = 4;
    pub const FLAGS: usize = 5;
    pub const TAP: Range<usize> = 6..8;
    pub const TARGET: usize = 8;
    pub const LANE: usize = 9;
    pub const RESERVED: Range<usize> = 10..12;
    pub const EPOCH: Range<usize> = 12..16;
    pub const SEQUENCE: Range<usize> = 16..20;
    pub const ORIGLEN: Range<usize> = 20..24;
    pub const TIME: Range<usize> = 24..32;
}

const TYPE_MASK: u8 = 0x7f;
const TYPE_PACKET: u8 = 1;
const TYPE_PROGRESS: u8 = 2;
const LENGTH_MASK: u8 = 0x1f;
const DIRECTION_MASK: u8 = 0b11;

/// A view of one whole option, from its class on, in a borrowed or owned buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Wraps a buffer unseen; accessors panic if it is shorter than [`OPTION_LEN`].
    pub const fn new_unchecked(buffer: T) -> Self {
        Packet { buffer }
    }

    /// Wraps a buffer on which no accessor panics.
    ///
    /// # Errors
    /// [`Error::Truncated`] below [`OPTION_LEN`] bytes; [`Error::Malformed`] if the option itself
    /// says that it is shorter.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, Error> {
        let got = buffer.as_ref().len();
        if got < OPTION_LEN {
            return Err(Error::Truncated { layer: Layer::Metadata, needed: OPTION_LEN, got });
        }
        let packet = Packet { buffer };
        if packet.option_len() < OPTION_LEN {
            return Err(malformed("option shorter than 32 bytes"));
        }
        Ok(packet)
    }

    /// The option class.
    #[inline]
    pub fn class(&self) -> u16 {
        u16::from_be_bytes(self.bytes(field::CLASS))
    }

    /// Length of the whole option as it tells it, bytes.
    #[inline]
    pub fn option_len(&self) -> usize {
        4 + 4 * usize::from(self.buffer.as_ref()[field::LENGTH] & LENGTH_MASK)
    }

    /// The version of the block.
    #[inline]
    pub fn version(&self) -> u8 {
        self.buffer.as_ref()[field::VERSION]
    }

    /// Which way the packet went; the value without a meaning reads as unknown.
    #[inline]
    pub fn direction(&self) -> Direction {
        match self.buffer.as_ref()[field::FLAGS] & DIRECTION_MASK {
            1 => Direction::In,
            2 => Direction::Out,
            _ => Direction::Unknown,
        }
    }

    /// The lane.
    #[inline]
    pub fn lane(&self) -> Lane {
        let b = self.buffer.as_ref();
        Lane {
            epoch: u32::from_be_bytes(self.bytes(field::EPOCH)),
            tap: u16::from_be_bytes(self.bytes(field::TAP)),
            target: b[field::TARGET],
            lane: b[field::LANE],
        }
    }

    fn option_type(&self) -> u8 {
        self.buffer.as_ref()[field::TYPE] & TYPE_MASK
    }

    #[inline]
    fn bytes<const N: usize>(&self, at: Range<usize>) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.buffer.as_ref()[at]);
        bytes
    }
}

/// A stream of packets that are numbered one after the other: what one sender sends to one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// Random at each start, so that a tap that begins anew is not a loss.
    pub epoch: u32,
    /// The tap.
    pub tap: u16,
    /// The target of the tap.
    pub target: u8,
    /// The worker that sends.
    pub lane: u8,
}

/// What the block means. `parse` and `emit` are inverses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// The lane that counts.
    pub lane: Lane,
    /// What is told.
    pub told: Told,
}

/// The two types of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// About the packet behind the header.
    Packet {
        /// Its number in the lane.
        sequence: u32,
        /// Its length on the wire, bytes; 0: not known.
        origlen: u32,
        /// When it was captured, ns since 1970 in UTC.
        ts_ns: u64,
        /// Which way it went.
        direction: Direction,
    },
    /// About the lane: how far it has come.
    Progress {
        /// The number that its next packet will have.
        next: u32,
        /// When this was said, ns since 1970 in UTC.
        ts_ns: u64,
    },
}

impl Repr {
    /// Reads the meaning out of a view.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not this class, neither of the two types, or version 0.
    #[inline]
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Result<Self, Error> {
        if packet.class() != CLASS {
            return Err(malformed("not tapline's option class"));
        }
        if packet.version() == 0 {
            return Err(malformed("version 0"));
        }
        let sequence = u32::from_be_bytes(packet.bytes(field::SEQUENCE));
        let ts_ns = u64::from_be_bytes(packet.bytes(field::TIME));
        let told = match packet.option_type() {
            TYPE_PACKET => Told::Packet {
                sequence,
                origlen: u32::from_be_bytes(packet.bytes(field::ORIGLEN)),
                ts_ns,
                direction: packet.direction(),
            },
            TYPE_PROGRESS => Told::Progress { next: sequence, ts_ns },
            _ => return Err(malformed("option type neither packet nor progress")),
        };
        Ok(Repr { lane: packet.lane(), told })
    }

    /// Bytes that [`Self::emit`] writes.
    pub const fn header_len(&self) -> usize {
        OPTION_LEN
    }

    /// Writes the whole option over whatever `buf` held.
    ///
    /// # Panics
    /// If `buf` is shorter than [`Self::header_len`].
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) {
        let (option_type, sequence, origlen, ts_ns, direction) = match self.told {
            Told::Packet { sequence, origlen, ts_ns, direction } => {
                (TYPE_PACKET, sequence, origlen, ts_ns, direction)
            }
            Told::Progress { next, ts_ns } => (TYPE_PROGRESS, next, 0, ts_ns, Direction::Unknown),
        };
        let buf = &mut buf[..OPTION_LEN];
        buf[field::CLASS].copy_from_slice(&CLASS.to_be_bytes());
        buf[field::TYPE] = option_type;
        buf[field::LENGTH] = (OPTION_LEN / 4 - 1) as u8;
        buf[field::VERSION] = VERSION;
        buf[field::FLAGS] = match direction {
            Direction::Unknown => 0,
            Direction::In => 1,
            Direction::Out => 2,
        };
        buf[field::TAP].copy_from_slice(&self.lane.tap.to_be_bytes());
        buf[field::TARGET] = self.lane.target;
        buf[field::LANE] = self.lane.lane;
        buf[field::RESERVED].fill(0);
        buf[field::EPOCH].copy_from_slice(&self.lane.epoch.to_be_bytes());
        buf[field::SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
        buf[field::ORIGLEN].copy_from_slice(&origlen.to_be_bytes());
        buf[field::TIME].copy_from_slice(&ts_ns.to_be_bytes());
    }
}

const fn malformed(what: &'static str) -> Error {
    Error::Malformed { layer: Layer::Metadata, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[rustfmt::skip]
    const BYTES: [u8; OPTION_LEN] = [
        0xff, 0x7a, 1, 7,        1, 2, 0x12, 0x34,        5, 6, 0, 0,
        0xde, 0xad, 0xbe, 0xef,  0, 0, 1, 0,              0, 0, 5, 0xea,
        0, 1, 2, 3, 4, 5, 6, 7,
    ];
    const LANE: Lane = Lane { epoch: 0xdead_beef, tap: 0x1234, target: 5, lane: 6 };
    const REPR: Repr = Repr {
        lane: LANE,
        told: Told::Packet {
            sequence: 256,
            origlen: 1514,
            ts_ns: 0x0001_0203_0405_0607,
            direction: Direction::Out,
        },
    };

    fn parse(bytes: &[u8]) -> Result<Repr, Error> {
        Repr::parse(&Packet::new_checked(bytes)?)
    }

    #[test]
    fn parse_vector() {
        assert_eq!(parse(&BYTES), Ok(REPR));
    }

    #[test]
    fn emit_vector_into_dirty_buffer() {
        let mut buf = [0xa5; OPTION_LEN];
        REPR.emit(&mut buf);
        assert_eq!(buf, BYTES);
    }

    #[test]
    fn progress_tells_no_length_and_no_direction() {
        let repr = Repr { lane: LANE, told: Told::Progress { next: 9, ts_ns: 7 } };
        let mut buf = [0xa5; OPTION_LEN];
        repr.emit(&mut buf);
        assert_eq!((buf[2], buf[5], &buf[20..24]), (2, 0, &[0; 4][..]));
        assert_eq!(parse(&buf), Ok(repr));
    }

    #[test]
    fn what_later_versions_may_do_is_ignored() {
        let mut later = [0xee; OPTION_LEN + 8];
        later[..OPTION_LEN].copy_from_slice(&BYTES);
        (later[2], later[3], later[4], later[5]) = (0x81, 0xe0 | 9, 200, 0xfe);
        (later[10], later[11]) = (1, 2);
        assert_eq!(parse(&later), Ok(REPR));
    }

    #[test]
    fn a_direction_without_a_meaning_is_unknown() {
        let mut bytes = BYTES;
        bytes[5] = 3;
        assert_eq!(Packet::new_checked(&bytes[..]).unwrap().direction(), Direction::Unknown);
    }

    #[test]
    fn what_it_is_not_is_said() {
        let with = |at: usize, value: u8| {
            let mut bytes = BYTES;
            bytes[at] = value;
            parse(&bytes).unwrap_err().to_string()
        };
        assert_eq!(with(0, 0xfe), "tapline metadata: not tapline's option class");
        assert_eq!(with(2, 3), "tapline metadata: option type neither packet nor progress");
        assert_eq!(with(3, 6), "tapline metadata: option shorter than 32 bytes");
        assert_eq!(with(4, 0), "tapline metadata: version 0");
    }

    #[test]
    fn every_short_length_is_an_error() {
        for got in 0..OPTION_LEN {
            let needed = OPTION_LEN;
            let e = Error::Truncated { layer: Layer::Metadata, needed, got };
            assert_eq!(parse(&BYTES[..got]), Err(e));
        }
    }

    proptest! {
        #[test]
        fn every_block_comes_back(
            (epoch, tap, target, lane) in any::<(u32, u16, u8, u8)>(),
            (sequence, origlen, ts_ns) in any::<(u32, u32, u64)>(),
            direction in prop_oneof![
                Just(Direction::Unknown), Just(Direction::In), Just(Direction::Out),
            ],
            progress: bool,
        ) {
            let told = match progress {
                true => Told::Progress { next: sequence, ts_ns },
                false => Told::Packet { sequence, origlen, ts_ns, direction },
            };
            let repr = Repr { lane: Lane { epoch, tap, target, lane }, told };
            let mut buf = [0xa5; OPTION_LEN];
            repr.emit(&mut buf);
            prop_assert_eq!(parse(&buf), Ok(repr));
        }
    }
}
