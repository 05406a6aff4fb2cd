//! The packets of a capture file, to be compared with those of another.

use capfile::{Direction, Reader, Record};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

/// How a file that is compressed by zstd begins (RFC 8878 section 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// One packet of a capture file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Nanoseconds since 1970 UTC.
    pub ts_ns: u64,
    /// Bytes on the wire.
    pub origlen: u32,
    /// Which way it went, if the file says so.
    pub direction: Direction,
    /// The bytes present.
    pub bytes: Vec<u8>,
}

/// Reads a capture file, pcap or pcapng, in the file's order.
///
/// # Panics
/// If the file cannot be read, or ends inside a record.
pub fn frames_in(path: impl AsRef<Path>) -> Vec<Frame> {
    let mut frames = Vec::new();
    for_each_record(path.as_ref(), |record| {
        frames.push(Frame {
            ts_ns: record.ts_ns,
            origlen: record.origlen,
            direction: record.direction,
            bytes: record.data.to_vec(),
        });
    });
    frames
}

/// Opens a capture file; what is compressed by zstd (a sealed segment) is read as what it was.
///
/// # Errors
/// If it cannot be read.
pub fn open_capture(path: impl AsRef<Path>) -> std::io::Result<Box<dyn Read>> {
    let mut file = File::open(path.as_ref())?;
    let mut magic = Vec::new();
    (&mut file).take(4).read_to_end(&mut magic)?;
    file.rewind()?;
    Ok(match magic == ZSTD_MAGIC {
        true => Box::new(zstd::Decoder::new(file)?),
        false => Box::new(file),
    })
}

/// Reads a capture file that must end behind a whole record, in its order.
pub(crate) fn for_each_record(path: &Path, mut take: impl FnMut(Record<'_>)) {
    let fail = |e: &dyn std::fmt::Display| -> ! { panic!("{}: {e}", path.display()) };
    let file = open_capture(path).unwrap_or_else(|e| fail(&e));
    let mut reader = Reader::new(file).unwrap_or_else(|e| fail(&e));
    while let Some(record) = reader.next().unwrap_or_else(|e| fail(&e)) {
        take(record);
    }
    if let Some(warning) = reader.warning() {
        fail(warning);
    }
}

/// Asserts that two captures hold the same packets, byte for byte, each as often, and those of each
/// sender (source MAC) in the same order. Time and direction are not compared.
///
/// # Panics
/// If they do not, with the first difference.
pub fn assert_same_packets(left: &[Frame], right: &[Frame]) {
    let (left, right) = (by_sender(left), by_sender(right));
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>(), "senders");
    for (sender, frames) in &left {
        let others = &right[sender];
        for (at, (one, other)) in frames.iter().zip(others).enumerate() {
            assert!(
                one == other,
                "packet {at} of {sender:02x?} differs:\n{}\n{}",
                first_bytes(one, other),
                first_bytes(other, one)
            );
        }
        assert_eq!(frames.len(), others.len(), "packets of {sender:02x?}");
    }
}

fn by_sender(frames: &[Frame]) -> BTreeMap<[u8; 6], Vec<(u32, &[u8])>> {
    let mut senders: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for frame in frames {
        let sender = *frame.bytes[6..].first_chunk().expect("a frame has two MACs");
        senders.entry(sender).or_default().push((frame.origlen, &frame.bytes[..]));
    }
    senders
}

/// Lengths, where the first difference is, and the bytes around it.
fn first_bytes((origlen, bytes): &(u32, &[u8]), (_, other): &(u32, &[u8])) -> String {
    let at = bytes.iter().zip(*other).take_while(|(x, y)| x == y).count();
    let around = &bytes[at.saturating_sub(8)..bytes.len().min(at + 24)];
    format!("caplen {}, origlen {origlen}, from byte {at}: {around:02x?}", bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sender: u8, content: u8) -> Frame {
        let mut bytes = vec![0; 20];
        (bytes[6], bytes[19]) = (sender, content);
        Frame { ts_ns: u64::from(content), origlen: 20, direction: Direction::Unknown, bytes }
    }

    #[test]
    fn senders_may_interleave_as_they_like() {
        let left = [frame(1, 1), frame(2, 1), frame(1, 2)];
        assert_same_packets(&left, &[frame(1, 1), frame(1, 2), frame(2, 1)]);
    }

    #[test]
    #[should_panic(expected = "packet 0 of [01, 00")]
    fn the_order_of_one_sender_counts() {
        assert_same_packets(&[frame(1, 1), frame(1, 2)], &[frame(1, 2), frame(1, 1)]);
    }

    #[test]
    #[should_panic(expected = "packets of [01, 00")]
    fn a_missing_packet_is_seen() {
        assert_same_packets(&[frame(1, 1), frame(1, 2)], &[frame(1, 1)]);
    }
}
