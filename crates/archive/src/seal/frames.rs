//! Raw bytes to zstd frames, in order, on the caller's thread or on others.

use super::out::Out;
use capfile::Error;
use capfile::seekable::{FrameCompressor, FrameWriter, SeekTable};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

/// Frames that one worker may have to do, or done and not written.
const AHEAD: usize = 2;

type Done = Result<(Vec<u8>, Vec<u8>), Error>;

/// What is to be compressed, a buffer for it, and where the two go then.
struct Job {
    raw: Vec<u8>,
    frame: Vec<u8>,
    done: SyncSender<Done>,
}

/// The frames of a file that is being written.
pub(super) struct Frames<'a> {
    writer: FrameWriter<&'a mut Out>,
    by: By,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
}

enum By {
    Caller(Box<FrameCompressor>),
    Workers { jobs: SyncSender<Job>, doing: VecDeque<Receiver<Done>>, ahead: usize },
}

impl<'a> Frames<'a> {
    /// Begins a file. The workers end when this is dropped.
    pub(super) fn new<'scope>(
        out: &'a mut Out,
        level: i32,
        workers: usize,
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<Self, Error> {
        let by = match workers {
            0 => By::Caller(Box::new(FrameCompressor::new(level)?)),
            _ => {
                let ahead = workers * AHEAD;
                let (jobs, to_do) = sync_channel::<Job>(ahead);
                let to_do = Arc::new(Mutex::new(to_do));
                for _ in 0..workers {
                    let mut compressor = FrameCompressor::new(level)?;
                    let to_do = to_do.clone();
                    scope.spawn(move || work(&mut compressor, &to_do));
                }
                By::Workers { jobs, doing: VecDeque::with_capacity(ahead), ahead }
            }
        };
        Ok(Frames { writer: FrameWriter::new(out), by, spare: Vec::new() })
    }

    /// Makes `raw` the next frame, and leaves an empty buffer in its place.
    pub(super) fn push(&mut self, raw: &mut Vec<u8>) -> Result<(), Error> {
        match &mut self.by {
            By::Caller(compressor) => {
                let mut frame = self.spare.pop().unwrap_or_default();
                compressor.compress(raw, &mut frame)?;
                self.writer.push(&frame, raw.len())?;
                self.spare.push(frame);
                raw.clear();
                Ok(())
            }
            By::Workers { jobs, doing, ahead } => {
                let next = self.spare.pop().unwrap_or_default();
                let frame = self.spare.pop().unwrap_or_default();
                let (done, result) = sync_channel(1);
                let job = Job { raw: std::mem::replace(raw, next), frame, done };
                jobs.send(job).map_err(|_| gone())?;
                doing.push_back(result);
                let is_full = doing.len() > *ahead;
                if is_full { self.write_one() } else { Ok(()) }
            }
        }
    }

    /// Writes what is not yet written, and the table.
    pub(super) fn finish(mut self) -> Result<SeekTable, Error> {
        while matches!(&self.by, By::Workers { doing, .. } if !doing.is_empty()) {
            self.write_one()?;
        }
        Ok(self.writer.finish()?.1)
    }

    // Writes the oldest frame that is being made.
    fn write_one(&mut self) -> Result<(), Error> {
        let By::Workers { doing, .. } = &mut self.by else { return Ok(()) };
        let Some(result) = doing.pop_front() else { return Ok(()) };
        let (mut raw, frame) = result.recv().map_err(|_| gone())??;
        self.writer.push(&frame, raw.len())?;
        raw.clear();
        self.spare.extend([raw, frame]);
        Ok(())
    }
}

fn work(compressor: &mut FrameCompressor, to_do: &Mutex<Receiver<Job>>) {
    loop {
        let job = to_do.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { raw, mut frame, done }) = job else { return };
        let result = compressor.compress(&raw, &mut frame).map(|()| (raw, frame));
        // Whoever does not wait for it any more has failed elsewhere.
        let _ = done.send(result);
    }
}

// Only a panic of a worker ends it early.
fn gone() -> Error {
    let source = std::io::Error::other("a thread that compresses has ended");
    Error::Io { action: "compress a frame of", offset: 0, source }
}
