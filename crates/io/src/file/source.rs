//! Packets of a capture file, or of a capture that arrives on standard input.

use super::compressed::decompressed;
use crate::batch::Batch;
use crate::device::{Arrival, Source};
use crate::error::Error;
use crate::interface::Interfaces;
use crate::packet::{InterfaceId, Meta, Packet};
use crate::pool::{Data, Pool};
use crate::sys::poll_readable;
use capfile::{Reader, Record};
use std::fs::File;
use std::io::ErrorKind::WouldBlock;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wire::LinkType;

/// Memory for some batches of packets of common size; a larger packet gets memory of its own.
const CHUNKS: usize = 4;
const CHUNK_BYTES: usize = 1 << 20;

/// A capture file that is read from its beginning to its end.
pub struct FileSource {
    path: String,
    reader: Reader<Box<dyn Read + Send>>,
    interfaces: Interfaces,
    /// The file's interfaces, by their place in the file.
    ids: Vec<InterfaceId>,
    pool: Pool,
    /// What tells that there is something to read, if reading may have to wait.
    pipe: Option<OwnedFd>,
    /// The reader stands at a record that was not delivered yet.
    ahead: bool,
    stopped: bool,
}

impl FileSource {
    /// Opens a file, which may be compressed by gzip or zstd; `-` is standard input.
    ///
    /// # Errors
    /// [`Error::System`] if it cannot be opened, [`Error::File`] if it is no capture.
    pub fn open(path: &Path, interfaces: &Interfaces) -> Result<FileSource, Error> {
        let name = path.display().to_string();
        let opened = |e| Error::System { what: format!("open {name}"), source: e, mend: "" };
        if name == "-" {
            let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(opened)?;
            return FileSource::of("standard input", stdin.into(), interfaces);
        }
        FileSource::of(&name, File::open(path).map_err(opened)?, interfaces)
    }

    /// Reads a file, or what another process writes into a pipe.
    fn of(name: &str, file: File, interfaces: &Interfaces) -> Result<FileSource, Error> {
        if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            let stream = decompressed(name, Box::new(file)).map_err(|e| Error::System {
                what: format!("read {name}"),
                source: e,
                mend: "",
            })?;
            return FileSource::new(name, stream, interfaces);
        }
        let descriptor = file.as_fd().try_clone_to_owned().map_err(|e| Error::System {
            what: format!("read {name}"),
            source: e,
            mend: "",
        })?;
        let patient = Arc::new(AtomicBool::new(true));
        let pipe = Pipe { file, patient: Arc::clone(&patient) };
        let mut source = FileSource::new(name, Box::new(pipe), interfaces)?;
        patient.store(false, Ordering::Relaxed);
        source.pipe = Some(descriptor);
        Ok(source)
    }

    /// Reads a capture from a stream; `name` is what messages call it.
    ///
    /// # Errors
    /// [`Error::File`] if it is no capture.
    pub fn new(
        name: &str,
        stream: Box<dyn Read + Send>,
        interfaces: &Interfaces,
    ) -> Result<FileSource, Error> {
        let mut reader = Reader::new(stream)
            .map_err(|source| Error::File { path: name.into(), source: Box::new(source) })?;
        // Reading ahead to the first packet makes the interfaces known. What fails here fails again
        // when the packets are asked for.
        let ahead = reader.advance().unwrap_or(false);
        let mut source = FileSource {
            path: name.into(),
            reader,
            interfaces: interfaces.clone(),
            ids: Vec::new(),
            pool: Pool::new(CHUNKS, CHUNK_BYTES),
            pipe: None,
            ahead,
            stopped: false,
        };
        source.take_interfaces();
        Ok(source)
    }

    /// The interfaces that the file has named so far.
    pub fn interface_ids(&self) -> &[InterfaceId] {
        &self.ids
    }

    /// Takes over the interfaces that the file has named since the last call.
    fn take_interfaces(&mut self) {
        for interface in &self.reader.interfaces()[self.ids.len()..] {
            self.ids.push(self.interfaces.add(interface.clone()));
        }
    }
}

/// A pipe that does not wait for its writer, once it is not patient any more.
struct Pipe {
    file: File,
    patient: Arc<AtomicBool>,
}

impl Read for Pipe {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let patient = self.patient.load(Ordering::Relaxed);
        if !patient && !poll_readable(std::iter::once(self.file.as_fd()), Duration::ZERO)? {
            return Err(WouldBlock.into());
        }
        self.file.read(bytes)
    }
}

impl Source for FileSource {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        if self.stopped {
            return Ok(Arrival::End);
        }
        while batch.room() > 0 {
            let ahead = std::mem::take(&mut self.ahead);
            match if ahead { Ok(true) } else { self.reader.advance() } {
                Ok(true) => {}
                Ok(false) => {
                    if let Some(warning) = self.reader.warning() {
                        tracing::warn!("{}: {warning}", self.path);
                    }
                    self.stopped = true;
                    return Ok(Arrival::End);
                }
                Err(capfile::Error::Io { source, .. }) if source.kind() == WouldBlock => {
                    return Ok(if batch.is_empty() { Arrival::Idle } else { Arrival::Packets });
                }
                Err(error) => {
                    return Err(Error::File { path: self.path.clone(), source: Box::new(error) });
                }
            }
            self.take_interfaces();
            let record = self.reader.record().expect("advance has said that there is one");
            // The pool is bounded; a record larger than it likes is rare and bounded by the reader.
            let data = self.pool.copy(record.data).unwrap_or_else(|| Data::copy_of(record.data));
            let Record { interface, ts_ns, origlen, direction, packet_id, .. } = record;
            let place = interface as usize;
            let meta = Meta {
                ts_ns,
                origlen,
                link_type: LinkType(self.reader.interfaces()[place].link_type),
                interface: self.ids[place],
                direction,
                outer: None,
                packet_id,
                gso: None,
                decided: false,
                flow_hash: None,
            };
            batch.push(Packet { data, meta });
        }
        Ok(Arrival::Packets)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.stopped = true;
        Ok(())
    }

    fn is_live(&self) -> bool {
        false
    }
}
