//! Seekable zstd: a file in frames that can be read one by one, with a table of them at its end.
//!
//! Any zstd decoder reads the whole as one stream, as the table is a frame that it skips.
//!
//! ```text
//! frame 0 | frame 1 | … | table
//!
//! table:  0  u32  0x184D2A5E, a skippable frame
//!         4  u32  length of what follows: 8 N + 9
//!         8  N ×  u32 compressed length, u32 raw length
//!         …  u32  N
//!            u8   descriptor: bit 7 each entry has a u32 checksum more; the other bits are 0
//!            u32  0x8F92EAB1
//! ```
//! All little-endian. Source: zstd's `contrib/seekable_format/zstd_seekable_compression_format.md`.
//!
//! Wireshark (4.0, say) reads a compressed file in pieces of [`PIECE_LEN`], and takes what follows a
//! frame for zstd only if the piece that it holds begins with a frame (`gz_head` in its
//! `wiretap/file_wrappers.c`). So a frame begins at each multiple of that. [`SeekableWriter::add`] ends a
//! frame where its piece is full, and what is left, less than the next block, is filled up with blocks
//! of nothing.

mod pieces;
mod writer;

pub use writer::SeekableWriter;

use crate::{BLOCK_LEN_MAX, Error};

/// Raw bytes after which a frame ends. A frame is longer only if its one block is.
pub const FRAME_RAW_LEN: usize = 256 << 10;
/// How much of a file Wireshark reads at a time: what zstd recommends (`ZSTD_DStreamInSize`), the longest
/// block and its header.
pub const PIECE_LEN: usize = (128 << 10) + 3;
/// Bytes at the end of a file that tell how long the table is.
pub const FOOTER_LEN: usize = 9;
/// Most frames of a file.
pub const FRAMES_MAX: u32 = 0x0800_0000;

const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
const CHECKSUM_FLAG: u8 = 0x80;

/// Where one frame stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Offset in the file.
    pub offset: u64,
    /// Length in the file.
    pub len: u32,
    /// Offset in what was compressed.
    pub raw_offset: u64,
    /// Length of what was compressed.
    pub raw_len: u32,
}

/// The frames of a seekable file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SeekTable {
    frames: Vec<Frame>,
}

impl SeekTable {
    /// Length of the table in a file, by the file's last [`FOOTER_LEN`] bytes.
    ///
    /// # Errors
    /// [`Error::Seekable`] if they are not those of a table.
    pub fn len_in_file(footer: &[u8]) -> Result<usize, Error> {
        let (footer, descriptor) = split_footer(footer)?;
        Ok(8 + footer as usize * entry_len(descriptor) + FOOTER_LEN)
    }

    /// Reads a table: the last bytes of a file, as many as [`Self::len_in_file`] says.
    ///
    /// # Errors
    /// [`Error::Seekable`] if it contradicts itself.
    pub fn parse(table: &[u8]) -> Result<SeekTable, Error> {
        let wrong = |what| Err(Error::Seekable { what });
        let (count, descriptor) = split_footer(table)?;
        let entry_len = entry_len(descriptor);
        if table.len() != 8 + count as usize * entry_len + FOOTER_LEN {
            return wrong("the seek table has another length than it says");
        }
        if (le32(table, 0), le32(table, 4) as usize) != (SKIPPABLE_MAGIC, table.len() - 8) {
            return wrong("the seek table is not in a skippable frame of its length");
        }
        let mut seek_table = SeekTable::default();
        for entry in table[8..table.len() - FOOTER_LEN].chunks_exact(entry_len) {
            if le32(entry, 4) as usize > BLOCK_LEN_MAX {
                return wrong("a frame is longer than any block of a capture");
            }
            seek_table.push(le32(entry, 0), le32(entry, 4)).expect("the count is within bounds");
        }
        Ok(seek_table)
    }

    /// All frames, in order.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Bytes of all frames in the file, which the table stands behind.
    pub fn bytes(&self) -> u64 {
        self.frames.last().map_or(0, |frame| frame.offset + u64::from(frame.len))
    }

    /// Bytes of what was compressed.
    pub fn raw_bytes(&self) -> u64 {
        self.frames.last().map_or(0, |frame| frame.raw_offset + u64::from(frame.raw_len))
    }

    fn push(&mut self, len: u32, raw_len: u32) -> Option<u32> {
        let number = u32::try_from(self.frames.len()).ok().filter(|&number| number < FRAMES_MAX)?;
        let (offset, raw_offset) = (self.bytes(), self.raw_bytes());
        self.frames.push(Frame { offset, len, raw_offset, raw_len });
        Some(number)
    }

    fn encode(&self) -> Vec<u8> {
        let count = self.frames.len() as u32;
        let mut table = Vec::with_capacity(8 + self.frames.len() * 8 + FOOTER_LEN);
        table.extend_from_slice(&SKIPPABLE_MAGIC.to_le_bytes());
        table.extend_from_slice(&(count * 8 + FOOTER_LEN as u32).to_le_bytes());
        for frame in &self.frames {
            table.extend_from_slice(&frame.len.to_le_bytes());
            table.extend_from_slice(&frame.raw_len.to_le_bytes());
        }
        table.extend_from_slice(&count.to_le_bytes());
        table.push(0);
        table.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
        table
    }
}

/// Decompresses a whole frame, which becomes `frame.raw_len` bytes.
///
/// # Errors
/// [`Error::Seekable`] if it is damaged, or becomes another number of bytes.
pub fn decompress(bytes: &[u8], frame: &Frame) -> Result<Vec<u8>, Error> {
    let raw = zstd::bulk::decompress(bytes, frame.raw_len as usize);
    let raw = raw.ok().filter(|raw| raw.len() == frame.raw_len as usize);
    raw.ok_or(Error::Seekable { what: "a zstd frame is damaged" })
}

/// Number of frames and descriptor, out of the last bytes of a table.
fn split_footer(bytes: &[u8]) -> Result<(u32, u8), Error> {
    let wrong = |what| Err(Error::Seekable { what });
    let Some(start) = bytes.len().checked_sub(FOOTER_LEN) else {
        return wrong("too short for a seek table");
    };
    let footer = &bytes[start..];
    let (count, descriptor) = (le32(footer, 0), footer[4]);
    if le32(footer, 5) != SEEKABLE_MAGIC {
        return wrong("no seek table at the end");
    }
    if descriptor & !CHECKSUM_FLAG & 0x7c != 0 || count > FRAMES_MAX {
        return wrong("a seek table of another version");
    }
    Ok((count, descriptor))
}

fn entry_len(descriptor: u8) -> usize {
    if descriptor & CHECKSUM_FLAG == 0 { 8 } else { 12 }
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(frames: &[&[u8]]) -> Vec<u8> {
        let mut writer = SeekableWriter::new(Vec::new(), 1).unwrap();
        for (number, raw) in (0..).zip(frames) {
            assert_eq!(writer.frame(raw).unwrap(), number);
        }
        writer.finish().unwrap().0
    }

    fn table(file: &[u8]) -> SeekTable {
        let len = SeekTable::len_in_file(&file[file.len() - FOOTER_LEN..]).unwrap();
        SeekTable::parse(&file[file.len() - len..]).unwrap()
    }

    #[test]
    fn frames_are_read_one_by_one_and_as_a_whole() {
        let long = vec![7; FRAME_RAW_LEN];
        let file = file(&[b"header", &long, b"tail"]);
        let table = table(&file);
        let raw: Vec<Vec<u8>> = table
            .frames()
            .iter()
            .map(|frame| {
                let start = frame.offset as usize;
                decompress(&file[start..start + frame.len as usize], frame).unwrap()
            })
            .collect();
        assert!(raw == [b"header".to_vec(), long, b"tail".to_vec()]);
        assert_eq!(table.raw_bytes(), 10 + FRAME_RAW_LEN as u64);
        assert_eq!(zstd::decode_all(&file[..]).unwrap(), raw.concat());
    }

    /// Content that compresses to about so many parts of 256.
    fn content(len: usize, parts: u32, seed: u32) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 24
        };
        (0..len).map(|_| if next() < parts { next() as u8 } else { 7 }).collect()
    }

    #[test]
    fn a_frame_begins_with_each_piece_and_little_is_filled_up() {
        for (parts, block) in [(0, 1500), (40, 900), (128, 70), (200, 1500), (256, 700)] {
            let mut writer = SeekableWriter::new(Vec::new(), 1).unwrap();
            let (mut raw, mut numbers) = (Vec::new(), Vec::new());
            while raw.len() < 4 << 20 {
                let part = content(block, parts, raw.len() as u32);
                numbers.push((writer.add(&part).unwrap(), raw.len() as u64));
                raw.extend(part);
            }
            let (file, table) = writer.finish().unwrap();
            assert!(zstd::decode_all(&file[..]).unwrap() == raw);
            for piece in (0..table.bytes() as usize).step_by(PIECE_LEN) {
                assert!(table.frames().iter().any(|frame| frame.offset == piece as u64), "{piece}");
            }
            // Each block is in the frame whose number was given, and none is parted.
            for (number, at) in numbers {
                let frame = table.frames()[number as usize];
                assert!(frame.raw_len as usize <= FRAME_RAW_LEN);
                let end = frame.raw_offset + u64::from(frame.raw_len);
                assert!(frame.raw_offset <= at && at + block as u64 <= end);
            }
            let as_one = zstd::bulk::compress(&raw, 1).unwrap().len() as u64;
            let more = table.bytes().saturating_sub(as_one);
            assert!(more * 100 <= 5 * as_one + 200_000, "{more} over {as_one} at {parts}");
        }
    }

    #[test]
    fn a_block_that_is_longer_than_a_piece_does_no_harm() {
        let mut writer = SeekableWriter::new(Vec::new(), 1).unwrap();
        let parts = [content(3000, 256, 1), content(300_000, 256, 2), content(3000, 256, 3)];
        for part in &parts {
            writer.frame(part).unwrap();
        }
        let (file, table) = writer.finish().unwrap();
        assert!(zstd::decode_all(&file[..]).unwrap() == parts.concat());
        let starts: Vec<u64> = table.frames().iter().map(|frame| frame.offset).collect();
        assert_eq!(starts, [0, PIECE_LEN as u64, 4 * PIECE_LEN as u64]);
    }

    #[test]
    fn a_table_that_is_damaged_is_an_error() {
        let file = file(&[b"a", b"b"]);
        let len = SeekTable::len_in_file(&file).unwrap();
        let good = &file[file.len() - len..];
        assert!(SeekTable::parse(&good[1..]).is_err());
        assert!(SeekTable::len_in_file(b"x").is_err());
        for at in [0, 4, len - 1, len - 5] {
            let mut bad = good.to_vec();
            bad[at] ^= 0x40;
            assert!(SeekTable::parse(&bad).is_err(), "{at}");
        }
    }
}
