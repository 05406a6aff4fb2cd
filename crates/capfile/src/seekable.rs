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
//! `wiretap/file_wrappers.c`). So a frame begins at each multiple of that: the one before is filled up
//! with blocks of nothing where the next one does not fit, and [`FrameWriter::room`] tells who cuts
//! frames how much fits.

use crate::{BLOCK_LEN_MAX, Error};
use std::io::Write;

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

/// Of a sample that compresses to more than so many of 32 parts, the frame is stored as it is.
const STORED_ABOVE: usize = 31;
/// Bytes of one sample; three are taken of a frame.
const SAMPLE_LEN: usize = 4 << 10;

/// A frame of nothing: magic; one segment whose length, in one byte, is 0; the last block, raw, of 0 bytes.
/// RFC 8878 section 3.1.1.
const EMPTY_FRAME: [u8; 9] = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0];
/// Blocks of nothing that are not the last: raw, and of a byte that is repeated 0 times. RFC 8878
/// section 3.1.1.2.
const NOTHING_RAW: [u8; 3] = [0, 0, 0];
const NOTHING_REPEATED: [u8; 4] = [2, 0, 0, 0];
/// Room in a piece that is not worth a frame.
const ROOM_MIN: usize = 8 << 10;
/// What a frame takes beside its content, at most, where that does not compress.
const FRAME_OVERHEAD: usize = 64;

/// Makes zstd frames with a checksum: one context, used again for each.
pub struct FrameCompressor {
    compressor: zstd::bulk::Compressor<'static>,
    /// Looks for next to nothing: what it makes are frames of raw blocks, at the speed of a copy.
    storer: zstd::bulk::Compressor<'static>,
    sample: Vec<u8>,
}

impl FrameCompressor {
    /// Sets a context up; `level` is zstd's, from −7 to 22.
    ///
    /// # Errors
    /// [`Error::Io`] if zstd has no memory for it.
    pub fn new(level: i32) -> Result<Self, Error> {
        let context = |level| {
            let mut context = zstd::bulk::Compressor::new(level)?;
            context.include_checksum(true)?;
            Ok(context)
        };
        let failed = |source| Error::Io { action: "set up zstd for", offset: 0, source };
        Ok(FrameCompressor {
            compressor: context(level).map_err(failed)?,
            storer: context(zstd::zstd_safe::min_c_level()).map_err(failed)?,
            sample: vec![0; zstd::zstd_safe::compress_bound(SAMPLE_LEN)],
        })
    }

    /// Makes `raw` a frame in `frame`, whose content goes. What does not compress is stored, which
    /// three samples tell.
    ///
    /// # Errors
    /// [`Error::Io`] if zstd fails.
    pub fn compress(&mut self, raw: &[u8], frame: &mut Vec<u8>) -> Result<(), Error> {
        let failed = |source| Error::Io { action: "compress a frame of", offset: 0, source };
        let is_dense = self.is_dense(raw).map_err(failed)?;
        let context = if is_dense { &mut self.storer } else { &mut self.compressor };
        frame.clear();
        frame.resize(zstd::zstd_safe::compress_bound(raw.len()), 0);
        let len = context.compress_to_buffer(raw, &mut frame[..]).map_err(failed)?;
        frame.truncate(len);
        Ok(())
    }

    fn is_dense(&mut self, raw: &[u8]) -> std::io::Result<bool> {
        if raw.len() < 4 * SAMPLE_LEN {
            return Ok(false);
        }
        let last = raw.len() - SAMPLE_LEN;
        for at in [last / 5, last / 2, last] {
            let sample = &raw[at..at + SAMPLE_LEN];
            let len = self.compressor.compress_to_buffer(sample, &mut self.sample[..])?;
            if len * 32 <= SAMPLE_LEN * STORED_ABOVE {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A seekable file that is being written: compresses and writes.
pub struct SeekableWriter<W> {
    writer: FrameWriter<W>,
    compressor: FrameCompressor,
    buffer: Vec<u8>,
}

impl<W: Write> SeekableWriter<W> {
    /// Begins a file; `level` is zstd's, from −7 to 22.
    ///
    /// # Errors
    /// As [`FrameCompressor::new`].
    pub fn new(stream: W, level: i32) -> Result<Self, Error> {
        let compressor = FrameCompressor::new(level)?;
        Ok(SeekableWriter { writer: FrameWriter::new(stream), compressor, buffer: Vec::new() })
    }

    /// Compresses `raw` into a frame of its own and writes it; gives its number, from 0 up.
    ///
    /// # Errors
    /// As [`FrameCompressor::compress`] and [`FrameWriter::push`].
    pub fn frame(&mut self, raw: &[u8]) -> Result<u32, Error> {
        self.compressor.compress(raw, &mut self.buffer)?;
        self.writer.push(&self.buffer, raw.len())
    }

    /// As [`FrameWriter::finish`].
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails.
    pub fn finish(self) -> Result<(W, SeekTable), Error> {
        self.writer.finish()
    }
}

/// A seekable file whose frames are compressed elsewhere.
pub struct FrameWriter<W> {
    stream: W,
    table: SeekTable,
    /// The last frame, which may have to be filled up, and the length of its content.
    last: Option<(Vec<u8>, usize)>,
    /// Its buffer, to use again.
    spare: Vec<u8>,
}

impl<W: Write> FrameWriter<W> {
    /// Begins a file.
    pub fn new(stream: W) -> Self {
        FrameWriter { stream, table: SeekTable::default(), last: None, spare: Vec::new() }
    }

    /// How many bytes the next frame should be made of, [`FRAME_RAW_LEN`] at most, so that it fits its
    /// piece if it compresses as the last one did.
    pub fn room(&self) -> usize {
        let left = PIECE_LEN - self.bytes() % PIECE_LEN;
        let left = if left < ROOM_MIN { PIECE_LEN } else { left };
        match &self.last {
            Some((last, raw_len)) if *raw_len >= ROOM_MIN && last.len() < *raw_len => {
                let expected = left as u64 * *raw_len as u64 / last.len() as u64;
                let room = usize::try_from(expected * 15 / 16).unwrap_or(FRAME_RAW_LEN);
                room.min(FRAME_RAW_LEN)
            }
            // What does not compress takes as much as it is; a short frame tells nothing.
            _ => left - FRAME_OVERHEAD,
        }
    }

    /// Adds a frame that [`FrameCompressor::compress`] has made of `raw_len` bytes; gives its number,
    /// from 0 up.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails or takes no more frames.
    pub fn push(&mut self, frame: &[u8], raw_len: usize) -> Result<u32, Error> {
        let left = PIECE_LEN - self.bytes() % PIECE_LEN;
        if frame.len() > left
            && let Some((last, _)) = &mut self.last
        {
            fill_up(last, left);
        }
        self.write_last()?;
        let mut last = std::mem::take(&mut self.spare);
        last.clear();
        last.extend_from_slice(frame);
        if frame.len() > PIECE_LEN {
            // One block that is longer than a piece: the next frame begins with a piece again.
            let missing = PIECE_LEN - frame.len() % PIECE_LEN;
            fill_up(&mut last, missing);
        }
        self.last = Some((last, raw_len));
        Ok(self.table.frames.len() as u32)
    }

    /// Writes the table and gives the stream back, not flushed, with what the table says.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails.
    pub fn finish(mut self) -> Result<(W, SeekTable), Error> {
        if self.bytes().is_multiple_of(PIECE_LEN) {
            // The table is no frame with which a piece may begin.
            self.push(&EMPTY_FRAME, 0)?;
        }
        self.write_last()?;
        let failed = |source| Error::Io { action: "write", offset: self.table.bytes(), source };
        self.stream.write_all(&self.table.encode()).map_err(failed)?;
        Ok((self.stream, self.table))
    }

    /// Bytes of all frames so far, modulo what a `usize` holds.
    fn bytes(&self) -> usize {
        self.table.bytes() as usize + self.last.as_ref().map_or(0, |(frame, _)| frame.len())
    }

    fn write_last(&mut self) -> Result<(), Error> {
        let Some((frame, raw_len)) = self.last.take() else { return Ok(()) };
        let offset = self.table.bytes();
        let failed = |source| Error::Io { action: "write", offset, source };
        self.stream.write_all(&frame).map_err(failed)?;
        let sizes = u32::try_from(frame.len()).ok().zip(u32::try_from(raw_len).ok());
        let number = sizes.and_then(|(len, raw_len)| self.table.push(len, raw_len));
        self.spare = frame;
        number.map(drop).ok_or_else(|| failed(std::io::ErrorKind::FileTooLarge.into()))
    }
}

/// Makes a frame longer by so many bytes, or by a piece more where no blocks of nothing make that up.
fn fill_up(frame: &mut Vec<u8>, mut missing: usize) {
    if matches!(missing, 1 | 2 | 5) {
        missing += PIECE_LEN;
    }
    let repeated = missing % NOTHING_RAW.len();
    let raw = (missing - repeated * NOTHING_REPEATED.len()) / NOTHING_RAW.len();
    let nothing = NOTHING_REPEATED.repeat(repeated).into_iter().chain(NOTHING_RAW.repeat(raw));
    let at = header_len(frame);
    frame.splice(at..at, nothing);
}

/// Length of a frame's header, by its descriptor. RFC 8878 section 3.1.1.1.
fn header_len(frame: &[u8]) -> usize {
    let descriptor = frame[4];
    let is_one_segment = descriptor & 0x20 != 0;
    let window = usize::from(!is_one_segment);
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content = [usize::from(is_one_segment), 2, 4, 8][usize::from(descriptor >> 6)];
    5 + window + dictionary + content
}

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
        for parts in [0, 40, 128, 256] {
            let mut compressor = FrameCompressor::new(1).unwrap();
            let (mut writer, mut raw, mut frame) =
                (FrameWriter::new(Vec::new()), Vec::new(), Vec::new());
            let (mut compressed, mut seed) = (0, 0);
            while raw.len() < 8 << 20 {
                let part = content(writer.room(), parts, seed);
                seed += 1;
                compressor.compress(&part, &mut frame).unwrap();
                compressed += frame.len();
                assert_eq!(writer.push(&frame, part.len()).unwrap() + 1, seed);
                raw.extend(part);
            }
            let (file, table) = writer.finish().unwrap();
            assert!(zstd::decode_all(&file[..]).unwrap() == raw);
            for piece in (0..table.bytes() as usize).step_by(PIECE_LEN) {
                assert!(table.frames().iter().any(|frame| frame.offset == piece as u64), "{piece}");
            }
            let filled = table.bytes() as usize - compressed;
            assert!(filled * 20 <= compressed, "{filled} of {compressed} at {parts}");
        }
    }

    #[test]
    fn frames_are_filled_up_to_any_length() {
        let mut compressor = FrameCompressor::new(1).unwrap();
        let mut frame = Vec::new();
        for len in [1, 255, 256, 70_000, FRAME_RAW_LEN] {
            let raw = content(len, 256, 1);
            compressor.compress(&raw, &mut frame).unwrap();
            for missing in (0..20).chain([999, 131_000]) {
                let mut filled = frame.clone();
                fill_up(&mut filled, missing);
                let wanted = missing + if matches!(missing, 1 | 2 | 5) { PIECE_LEN } else { 0 };
                assert_eq!(filled.len(), frame.len() + wanted);
                let whole = Frame { offset: 0, len: 0, raw_offset: 0, raw_len: len as u32 };
                assert!(decompress(&filled, &whole).unwrap() == raw, "{len} and {missing}");
                assert!(zstd::decode_all(&filled[..]).unwrap() == raw, "{len} and {missing}");
            }
        }
        assert!(zstd::decode_all(&EMPTY_FRAME[..]).unwrap().is_empty());
        assert_eq!(PIECE_LEN, zstd::zstd_safe::DCtx::in_size());
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
