//! Packets of a capture file, or of a capture that arrives on standard input.

use crate::batch::Batch;
use crate::device::{Arrival, Source};
use crate::error::Error;
use crate::interface::Interfaces;
use crate::packet::{InterfaceId, Meta, Packet};
use crate::pool::{Data, Pool};
use api::Drops;
use capfile::{Reader, Record};
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;
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
    /// The reader stands at a record that was not delivered yet.
    ahead: bool,
    stopped: bool,
}

impl FileSource {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// [`Error::System`] if it cannot be opened, [`Error::File`] if it is no capture.
    pub fn open(path: &Path, interfaces: &Interfaces) -> Result<FileSource, Error> {
        let name = path.display().to_string();
        if name == "-" {
            return FileSource::new("standard input", Box::new(std::io::stdin()), interfaces);
        }
        let file = std::fs::File::open(path).map_err(|e| Error::System {
            what: format!("open {name}"),
            source: e,
            mend: "",
        })?;
        FileSource::new(&name, Box::new(file), interfaces)
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

    fn advance(&mut self) -> Result<bool, Error> {
        let advanced = self.reader.advance();
        advanced.map_err(|e| Error::File { path: self.path.clone(), source: Box::new(e) })
    }

    /// Takes over the interfaces that the file has named since the last call.
    fn take_interfaces(&mut self) {
        for interface in &self.reader.interfaces()[self.ids.len()..] {
            self.ids.push(self.interfaces.add(interface.clone()));
        }
    }
}

impl Source for FileSource {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        if self.stopped {
            return Ok(Arrival::End);
        }
        while batch.room() > 0 {
            if !std::mem::take(&mut self.ahead) && !self.advance()? {
                if let Some(warning) = self.reader.warning() {
                    tracing::warn!("{}: {warning}", self.path);
                }
                self.stopped = true;
                return Ok(Arrival::End);
            }
            self.take_interfaces();
            let record = self.reader.record().expect("advance has said that there is one");
            // The pool is bounded; a record larger than it likes is rare and bounded by the reader.
            let data = self.pool.copy(record.data).unwrap_or_else(|| Data::copy_of(record.data));
            let Record { interface, ts_ns, origlen, direction, .. } = record;
            let place = interface as usize;
            let meta = Meta {
                ts_ns,
                origlen,
                link_type: LinkType(self.reader.interfaces()[place].link_type),
                interface: self.ids[place],
                direction,
                outer: None,
                gso: None,
                flow_hash: None,
            };
            batch.push(Packet { data, meta });
        }
        Ok(Arrival::Packets)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.stopped = true;
        Ok(())
    }

    fn drops(&mut self) -> Drops {
        Drops::default()
    }

    fn is_live(&self) -> bool {
        false
    }
}
