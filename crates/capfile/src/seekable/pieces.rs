//! Frames in a file so that one begins with each piece of it.

use super::{PIECE_LEN, SeekTable};
use crate::Error;
use std::io::Write;

/// A frame of nothing: magic; one segment whose length, in one byte, is 0; the last block, raw, of 0 bytes.
/// RFC 8878 section 3.1.1.
const EMPTY_FRAME: [u8; 9] = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0];
/// Blocks of nothing that are not the last: raw, and of a byte that is repeated 0 times. RFC 8878
/// section 3.1.1.2.
const NOTHING_RAW: [u8; 3] = [0, 0, 0];
const NOTHING_REPEATED: [u8; 4] = [2, 0, 0, 0];
/// Room in a piece that is not worth a frame.
const ROOM_MIN: usize = 1 << 10;

/// A file of frames that are there, which begins a frame with each piece.
pub(super) struct FrameWriter<W> {
    stream: W,
    table: SeekTable,
    /// The last frame, which may have to be filled up, and the length of its content.
    last: Option<(Vec<u8>, usize)>,
    /// Its buffer, to use again.
    spare: Vec<u8>,
}

impl<W: Write> FrameWriter<W> {
    /// Begins a file.
    pub(super) fn new(stream: W) -> Self {
        FrameWriter { stream, table: SeekTable::default(), last: None, spare: Vec::new() }
    }

    /// Room for the next frame: up to the end of its piece. That of the piece behind, if a frame is hardly
    /// worth it.
    pub(super) fn room(&self) -> usize {
        let left = self.left();
        if left < ROOM_MIN { PIECE_LEN } else { left }
    }

    /// The number that the next frame will have.
    pub(super) fn next_number(&self) -> u32 {
        (self.table.frames.len() + usize::from(self.last.is_some())) as u32
    }

    /// Adds a frame that was made of `raw_len` bytes; gives its number, from 0 up.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails or takes no more frames.
    pub(super) fn push(&mut self, frame: &[u8], raw_len: usize) -> Result<u32, Error> {
        let left = self.left();
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
    pub(super) fn finish(mut self) -> Result<(W, SeekTable), Error> {
        if self.bytes().is_multiple_of(PIECE_LEN) {
            // The table is no frame with which a piece may begin.
            self.push(&EMPTY_FRAME, 0)?;
        }
        self.write_last()?;
        let failed = |source| Error::Io { action: "write", offset: self.table.bytes(), source };
        self.stream.write_all(&self.table.encode()).map_err(failed)?;
        Ok((self.stream, self.table))
    }

    fn left(&self) -> usize {
        PIECE_LEN - self.bytes() % PIECE_LEN
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seekable::{Frame, decompress};

    #[test]
    fn frames_are_filled_up_to_any_length() {
        for len in [1, 255, 256, 70_000, 256 << 10] {
            let raw: Vec<u8> = (0..len).map(|n: u32| (n.wrapping_mul(n) >> 7) as u8).collect();
            let frame = zstd::bulk::compress(&raw, 1).unwrap();
            for missing in (0..20).chain([999, 131_000]) {
                let mut filled = frame.clone();
                fill_up(&mut filled, missing);
                let wanted = missing + if matches!(missing, 1 | 2 | 5) { PIECE_LEN } else { 0 };
                assert_eq!(filled.len(), frame.len() + wanted);
                let whole = Frame { offset: 0, len: 0, raw_offset: 0, raw_len: len };
                assert!(decompress(&filled, &whole).unwrap() == raw, "{len} and {missing}");
                assert!(zstd::decode_all(&filled[..]).unwrap() == raw, "{len} and {missing}");
            }
        }
        assert!(zstd::decode_all(&EMPTY_FRAME[..]).unwrap().is_empty());
        assert_eq!(PIECE_LEN, zstd::zstd_safe::DCtx::in_size());
    }
}
