//! Blocks to frames: each frame as full as its piece of the file allows.

use super::pieces::FrameWriter;
use super::{FRAME_RAW_LEN, SeekTable};
use crate::Error;
use std::io::{self, Write};
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

/// Bytes that are compressed at a time: one zstd block.
const CHUNK_LEN: usize = 64 << 10;
/// What a frame and its last blocks take at most beside their content.
const OVERHEAD: usize = 64;
/// Room that ends a frame.
const ROOM_LEFT: usize = 1 << 10;
/// zstd's window: frames are no longer, and decoders need no more memory.
const WINDOW_LOG: u32 = FRAME_RAW_LEN.ilog2();

/// Of a sample that compresses to more than so many of 32 parts, the frame is stored as it is.
const STORED_ABOVE: usize = 31;
/// Bytes of one sample; three are taken of a frame's first chunk.
const SAMPLE_LEN: usize = 4 << 10;

/// A seekable file that is being written.
///
/// Blocks are gathered into frames and never parted. What has been compressed of a frame is known, and the
/// rest, if it did not compress at all, has to fit its piece: so no frame is compressed twice.
pub struct SeekableWriter<W> {
    writer: FrameWriter<W>,
    compressor: Encoder<'static>,
    /// Looks for next to nothing: what it makes are raw blocks, at the speed of a copy.
    storer: Encoder<'static>,
    sampler: zstd::bulk::Compressor<'static>,
    sample: Vec<u8>,
    /// Whether the frame is stored, once it is known.
    is_dense: Option<bool>,
    /// What is not compressed of the frame, and what is.
    pending: Vec<u8>,
    frame: Vec<u8>,
    /// Bytes that `frame` was made of.
    done: usize,
    /// Room that the frame has in its piece.
    room: usize,
}

impl<W: Write> SeekableWriter<W> {
    /// Begins a file; `level` is zstd's, from −7 to 22.
    ///
    /// # Errors
    /// [`Error::Io`] if zstd cannot be set up.
    pub fn new(stream: W, level: i32) -> Result<Self, Error> {
        let failed = |source| Error::Io { action: "set up zstd for", offset: 0, source };
        let writer = FrameWriter::new(stream);
        let room = writer.room();
        Ok(SeekableWriter {
            writer,
            compressor: encoder(level).map_err(failed)?,
            storer: encoder(zstd::zstd_safe::min_c_level()).map_err(failed)?,
            sampler: zstd::bulk::Compressor::new(level).map_err(failed)?,
            sample: vec![0; zstd::zstd_safe::compress_bound(SAMPLE_LEN)],
            is_dense: None,
            pending: Vec::new(),
            frame: Vec::new(),
            done: 0,
            room,
        })
    }

    /// Adds a block to the frame, or to the next one where it does not fit; gives the number of the frame,
    /// from 0 up. A block that fits none has one of its own.
    ///
    /// # Errors
    /// [`Error::Io`] if the stream fails or takes no more frames.
    #[inline]
    pub fn add(&mut self, block: &[u8]) -> Result<u32, Error> {
        if !self.fits(block.len())? {
            self.end_frame()?;
        }
        self.pending.extend_from_slice(block);
        if self.pending.len() >= CHUNK_LEN {
            self.compress()?;
        }
        Ok(self.writer.next_number())
    }

    /// Ends the frame, unless it is empty.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn end_frame(&mut self) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        self.compress()?;
        let encoder =
            if self.is_dense == Some(true) { &mut self.storer } else { &mut self.compressor };
        let ended = until_done(&mut self.frame, |output| encoder.finish(output, true));
        ended.and_then(|()| encoder.reinit()).map_err(failed)?;
        self.writer.push(&self.frame, self.done)?;
        self.frame.clear();
        self.done = 0;
        self.is_dense = None;
        self.room = self.writer.room();
        Ok(())
    }

    /// Makes `raw` a frame of its own; gives its number.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn frame(&mut self, raw: &[u8]) -> Result<u32, Error> {
        self.end_frame()?;
        let number = self.add(raw)?;
        self.end_frame()?;
        Ok(number)
    }

    /// Ends the last frame, writes the table and gives the stream back, not flushed, with what the table
    /// says.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn finish(mut self) -> Result<(W, SeekTable), Error> {
        self.end_frame()?;
        self.writer.finish()
    }

    fn is_empty(&self) -> bool {
        self.done == 0 && self.pending.is_empty()
    }

    #[inline]
    fn fits(&mut self, len: usize) -> Result<bool, Error> {
        if self.is_empty() {
            return Ok(true);
        }
        if self.done + self.pending.len() + len > FRAME_RAW_LEN {
            return Ok(false);
        }
        if self.is_sure_to_fit(len) {
            return Ok(true);
        }
        // Compressed, what is pending takes less.
        self.compress()?;
        Ok(self.frame.len() + OVERHEAD + ROOM_LEFT <= self.room && self.is_sure_to_fit(len))
    }

    fn is_sure_to_fit(&self, len: usize) -> bool {
        self.frame.len() + self.pending.len() + len + OVERHEAD <= self.room
    }

    // Brings what is pending into the frame, so that its length is known.
    fn compress(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let is_dense = match self.is_dense {
            Some(is_dense) => is_dense,
            None => self.looks_dense().map_err(failed)?,
        };
        self.is_dense = Some(is_dense);
        let encoder = if is_dense { &mut self.storer } else { &mut self.compressor };
        let mut input = InBuffer::around(&self.pending);
        while input.pos() < self.pending.len() {
            step(&mut self.frame, |output| encoder.run(&mut input, output)).map_err(failed)?;
        }
        until_done(&mut self.frame, |output| encoder.flush(output)).map_err(failed)?;
        self.done += self.pending.len();
        self.pending.clear();
        Ok(())
    }

    fn looks_dense(&mut self) -> io::Result<bool> {
        if self.pending.len() < 4 * SAMPLE_LEN {
            return Ok(false);
        }
        let last = self.pending.len() - SAMPLE_LEN;
        for at in [last / 5, last / 2, last] {
            let sample = &self.pending[at..at + SAMPLE_LEN];
            let len = self.sampler.compress_to_buffer(sample, &mut self.sample[..])?;
            if len * 32 <= SAMPLE_LEN * STORED_ABOVE {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn encoder(level: i32) -> io::Result<Encoder<'static>> {
    let mut encoder = Encoder::new(level)?;
    encoder.set_parameter(CParameter::ChecksumFlag(true))?;
    encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
    Ok(encoder)
}

// Lets zstd append to a frame; gives what it gives.
fn step(
    frame: &mut Vec<u8>,
    mut run: impl FnMut(&mut OutBuffer<'_, Vec<u8>>) -> io::Result<usize>,
) -> io::Result<usize> {
    frame.reserve(zstd::zstd_safe::CCtx::out_size());
    let at = frame.len();
    run(&mut OutBuffer::around_pos(frame, at))
}

// Lets zstd append until it has nothing left to append.
fn until_done(
    frame: &mut Vec<u8>,
    mut run: impl FnMut(&mut OutBuffer<'_, Vec<u8>>) -> io::Result<usize>,
) -> io::Result<()> {
    while step(frame, &mut run)? > 0 {}
    Ok(())
}

fn failed(source: io::Error) -> Error {
    Error::Io { action: "compress a frame of", offset: 0, source }
}
