//! Captures into a named pipe (FIFO), for whoever reads it just now.
//!
//! A pipe without a reader cannot be opened (`ENXIO`), and one whose reader has gone breaks: it is then
//! opened again as soon as there is a reader, who gets a capture of its own that begins with the next
//! packet.
//!
//! Source: fifo(7), pipe(7), open(2) `O_NONBLOCK`.

use super::encoder::FileFormat;
use super::gathered::reason;
use super::writer::FileWriter;
use crate::batch::Selection;
use crate::clock::Now;
use crate::device::{Sink, SinkCounters, Upstream};
use crate::error::Error;
use crate::interface::Interfaces;
use crate::packet::InterfaceId;
use crate::sys::{has_reader, set_blocking};
use crate::trouble::Trouble;
use api::DropReason;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a reader is looked for while packets come.
const LOOK: Duration = Duration::from_millis(20);

/// Whether a path is that of a named pipe.
pub fn is_fifo(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// A named pipe that is written while somebody reads it. Packets that come while nobody does are counted
/// as [`DropReason::Unreachable`].
///
/// A write waits for the reader: it belongs on a thread of its own ([`crate::apart::Apart`]).
pub struct FifoSink {
    path: PathBuf,
    interfaces: Interfaces,
    first: Option<InterfaceId>,
    /// What the reader gets.
    capture: Option<Capture>,
    looked: Option<Instant>,
    /// What became of the packets of readers that have gone, and of those that nobody read.
    past: SinkCounters,
    trouble: Trouble,
}

/// The capture of one reader.
struct Capture {
    writer: FileWriter,
    /// The writing end once more, to see whether its reader is still there.
    pipe: OwnedFd,
}

impl FifoSink {
    /// A pipe that is there; it need not have a reader. `first` is the interface that a capture names
    /// before its first packet.
    ///
    /// # Errors
    /// [`Error::System`] if the path is not that of a named pipe, or may not be written.
    pub fn open(
        path: &Path,
        interfaces: &Interfaces,
        first: Option<InterfaceId>,
    ) -> Result<FifoSink, Error> {
        let what = || format!("write {}", path.display());
        if !is_fifo(path) {
            let source = io::Error::other("it is no named pipe");
            let mend = "; make one (mkfifo), or name a file";
            return Err(Error::System { what: what(), source, mend });
        }
        let mut sink = FifoSink {
            path: path.into(),
            interfaces: interfaces.clone(),
            first,
            capture: None,
            looked: None,
            past: SinkCounters::default(),
            trouble: Trouble::default(),
        };
        match sink.begin() {
            Ok(()) => Ok(sink),
            Err(error) if has_no_reader(&error) => Ok(sink),
            Err(error) => Err(Error::system(what(), error)),
        }
    }

    /// Begins a capture for the reader that there is.
    fn begin(&mut self) -> io::Result<()> {
        let pipe = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&self.path)?;
        // It may have been replaced by a file since.
        if !pipe.metadata()?.file_type().is_fifo() {
            return Err(io::Error::other("it is no named pipe any more"));
        }
        set_blocking(pipe.as_fd())?;
        let other = pipe.as_fd().try_clone_to_owned()?;
        let format = FileFormat::of_path(&self.path);
        let writer = FileWriter::over(pipe, &self.path, format, &self.interfaces, self.first)
            .map_err(|error| match error {
                Error::System { source, .. } => source,
                error => io::Error::other(error.to_string()),
            })?;
        self.capture = Some(Capture { writer, pipe: other });
        tracing::info!("{} has a reader", self.path.display());
        Ok(())
    }

    /// Whether somebody reads the pipe. A reader that has gone is noticed, and one that has come.
    fn has_reader(&mut self) -> bool {
        if let Some(capture) = &self.capture {
            if !capture.writer.is_closed() && has_reader(capture.pipe.as_fd()) {
                return true;
            }
            tracing::info!("{}: its reader has gone", self.path.display());
            self.end(None);
        }
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return false;
        }
        self.looked = Some(Instant::now());
        match self.begin() {
            Ok(()) => true,
            Err(error) => {
                if !has_no_reader(&error) {
                    let path = self.path.display().to_string();
                    self.trouble.tell(&path, &error, "packets for it are counted");
                }
                false
            }
        }
    }

    /// Ends the capture of a reader; what it could not be given is counted.
    fn end(&mut self, upstream: Option<&Upstream>) {
        let Some(Capture { mut writer, .. }) = self.capture.take() else {
            return;
        };
        if let Err(error) = writer.finish(upstream) {
            // Of a pipe whose reader has gone.
            tracing::debug!("{}: {error}", self.path.display());
        }
        self.past.merge(&sum(&writer));
    }
}

/// Whether a pipe could not be opened, or written, for want of a reader.
fn has_no_reader(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENXIO) || reason(error) == DropReason::Stopped
}

fn sum(writer: &FileWriter) -> SinkCounters {
    writer.counters().fold(SinkCounters::default(), |mut sum, (_, counters)| {
        sum.merge(&counters.fate);
        sum
    })
}

impl Sink for FifoSink {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        let is_open = self.capture.as_ref().is_some_and(|capture| !capture.writer.is_closed());
        let is_read = is_open || self.has_reader();
        match self.capture.as_mut().filter(|_| is_read) {
            Some(capture) => packets.iter().for_each(|packet| capture.writer.write(packet)),
            None => self.past.drops.add_many(DropReason::Unreachable, packets.len() as u64),
        }
        packets.len()
    }

    fn counters(&self) -> SinkCounters {
        let mut counters = self.past;
        self.capture.iter().for_each(|capture| counters.merge(&sum(&capture.writer)));
        counters
    }

    fn tick(&mut self, _now: Now) {
        if self.has_reader() {
            self.capture.iter_mut().for_each(|capture| capture.writer.flush());
        }
    }

    fn finish(&mut self, upstream: &Upstream) -> Result<(), Error> {
        self.end(Some(upstream));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::device::{Arrival, Source};
    use crate::file::FileSource;
    use crate::interface::Interface;
    use crate::packet::{Direction, Meta, Packet};
    use crate::pool::Data;
    use rig::Scratch;
    use std::io::Read;
    use std::process::Command;
    use wire::LinkType;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn packet(number: u64) -> Packet {
        let meta = Meta {
            ts_ns: number,
            origlen: 60,
            link_type: LinkType::ETHERNET,
            interface: InterfaceId(0),
            direction: Direction::Unknown,
            outer: None,
            packet_id: None,
            gso: None,
            decided: false,
            flow_hash: None,
        };
        Packet { data: Data::copy_of(&[7; 60]), meta }
    }

    fn send(sink: &mut FifoSink, number: u64) {
        assert_eq!(sink.send(Selection::new(&[packet(number)], &[0])), 1);
        sink.tick(Now::read());
    }

    fn fifo(scratch: &Scratch) -> PathBuf {
        let path = scratch.folder().join("pipe.pcapng");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// The numbers of the packets in a capture, or in the whole part of one that was cut.
    fn numbers(bytes: Vec<u8>) -> Vec<u64> {
        let stream = Box::new(io::Cursor::new(bytes));
        let mut source = FileSource::new("pipe", stream, &Interfaces::default()).unwrap();
        let (mut batch, mut numbers) = (Batch::new(), Vec::new());
        loop {
            let arrival = source.receive(&mut batch).unwrap();
            numbers.extend(batch.drain().map(|packet| packet.meta.ts_ns));
            if arrival == Arrival::End {
                return numbers;
            }
        }
    }

    #[test]
    fn each_reader_gets_a_capture_of_its_own_and_what_nobody_reads_is_counted() {
        let scratch = Scratch::new("fifo");
        let path = fifo(&scratch);
        let interfaces = Interfaces::default();
        let first = interfaces.add(Interface::new(1));
        let mut sink = FifoSink::open(&path, &interfaces, Some(first)).unwrap();
        let mut number = 0;
        let mut unread = 0;
        for _ in 0..3 {
            for _ in 0..10 {
                send(&mut sink, number);
                number += 1;
            }
            unread += 10;
            assert_eq!(sink.counters().drops.get(DropReason::Unreachable), unread);
            let reading = std::thread::spawn({
                let path = path.clone();
                move || File::open(path).unwrap()
            });
            rig::wait_until("the reader is seen", PATIENCE, || {
                sink.tick(Now::read());
                sink.capture.is_some()
            });
            let mut reader = reading.join().unwrap();
            let begun = number;
            for _ in 0..10 {
                send(&mut sink, number);
                number += 1;
            }
            let mut bytes = vec![0; 1 << 16];
            let len = reader.read(&mut bytes).unwrap();
            bytes.truncate(len);
            assert_eq!(numbers(bytes), (begun..number).collect::<Vec<_>>());
            drop(reader);
            sink.tick(Now::read());
            assert!(sink.capture.is_none(), "its reader has gone");
        }
        let counters = sink.counters();
        assert_eq!((counters.sent, counters.sent_bytes, counters.held), (30, 1800, 0));
        assert_eq!(counters.taken(), number);
        assert!(!sink.is_closed());
        sink.finish(&Upstream::default()).unwrap();
    }

    #[test]
    fn what_was_written_for_a_reader_that_left_is_no_longer_sent() {
        let scratch = Scratch::new("fifo-left");
        let path = fifo(&scratch);
        let interfaces = Interfaces::default();
        let reader = std::thread::spawn({
            let path = path.clone();
            move || drop(File::open(path).unwrap())
        });
        let mut sink = FifoSink::open(&path, &interfaces, None).unwrap();
        rig::wait_until("it came and went", PATIENCE, || {
            sink.tick(Now::read());
            reader.is_finished()
        });
        let packets: Vec<Packet> = (0..10_000).map(packet).collect();
        let chosen: Vec<u32> = (0..10_000).collect();
        assert_eq!(sink.send(Selection::new(&packets, &chosen)), 10_000);
        sink.tick(Now::read());
        sink.finish(&Upstream::default()).unwrap();
        let counters = sink.counters();
        assert_eq!((counters.sent, counters.drops.total()), (0, 10_000));
    }

    #[test]
    fn what_is_no_pipe_is_refused() {
        let scratch = Scratch::new("fifo-none");
        let path = scratch.folder().join("file.pcapng");
        std::fs::write(&path, "mine").unwrap();
        let error = FifoSink::open(&path, &Interfaces::default(), None).err().unwrap();
        assert!(error.to_string().contains("mkfifo"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
