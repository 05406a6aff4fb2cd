//! Raw bytes to zstd frames, in order.

use super::out::Out;
use capfile::Error;
use capfile::seekable::{FrameCompressor, FrameWriter, SeekTable};

/// The frames of a file that is being written.
pub(super) struct Frames<'a> {
    writer: FrameWriter<&'a mut Out>,
    compressor: FrameCompressor,
    /// A buffer to use again.
    frame: Vec<u8>,
}

impl<'a> Frames<'a> {
    /// Begins a file.
    pub(super) fn new(out: &'a mut Out, level: i32) -> Result<Self, Error> {
        let compressor = FrameCompressor::new(level)?;
        Ok(Frames { writer: FrameWriter::new(out), compressor, frame: Vec::new() })
    }

    /// How many bytes the next frame should be made of.
    pub(super) fn room(&self) -> usize {
        self.writer.room()
    }

    /// Makes `raw` the next frame, and empties it.
    pub(super) fn push(&mut self, raw: &mut Vec<u8>) -> Result<(), Error> {
        self.compressor.compress(raw, &mut self.frame)?;
        self.writer.push(&self.frame, raw.len())?;
        raw.clear();
        Ok(())
    }

    /// Writes what is not yet written, and the table.
    pub(super) fn finish(self) -> Result<SeekTable, Error> {
        Ok(self.writer.finish()?.1)
    }
}
