//! The segments that a file's packets are parted into.

use super::Options;
use crate::error::Error;
use crate::holds::hex;
use crate::name::{SegmentName, source_name};
use capfile::{Interface, Marks, PcapngWriter, Record, SectionInfo, Statistics};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use ulid::Ulid;

const HOUR_NS: u64 = 3_600_000_000_000;

/// A segment that is complete.
pub(super) struct Complete {
    pub name: SegmentName,
    pub path: PathBuf,
    pub packets: u64,
}

/// The open segments, by source and hour.
pub(super) struct Parts {
    folder: PathBuf,
    options: Options,
    file: PathBuf,
    /// Hash of the file's content.
    hash: String,
    open: BTreeMap<(String, u64), Part>,
    /// Segments begun so far.
    begun: u64,
    /// Packets written so far.
    written: u64,
    /// The source of each of the file's interfaces.
    sources: Vec<String>,
}

/// An open segment.
struct Part {
    writer: PcapngWriter<BufWriter<File>>,
    path: PathBuf,
    id: Ulid,
    span_ns: (u64, u64),
    packets: u64,
    /// Its interfaces, by their numbers in the file.
    interfaces: BTreeMap<u32, Written>,
    /// Packets that were written, to all segments, when its last one came.
    used: u64,
}

/// An interface in a segment.
struct Written {
    number: u32,
    packets: u64,
    span_ns: (u64, u64),
    /// What the file's own statistics say of it.
    told: Option<Statistics>,
}

impl Parts {
    pub(super) fn new(folder: &Path, options: &Options, file: &Path, hash: String) -> Parts {
        Parts {
            folder: folder.into(),
            options: options.clone(),
            file: file.into(),
            hash,
            open: BTreeMap::new(),
            begun: 0,
            written: 0,
            sources: Vec::new(),
        }
    }

    /// Completes the segment that must be before a packet has its place, if there is one.
    pub(super) fn make_room(
        &mut self,
        record: &Record<'_>,
        interfaces: &[Interface],
    ) -> Result<Option<Complete>, Error> {
        let place = self.place(record, interfaces);
        let goes = match self.open.get(&place) {
            Some(part) if part.writer.bytes_written() >= self.options.segment_bytes => place,
            Some(_) => return Ok(None),
            None if self.open.len() < self.options.open_max.max(1) => return Ok(None),
            None => match self.open.iter().min_by_key(|(_, part)| part.used) {
                Some((unused, _)) => unused.clone(),
                None => return Ok(None),
            },
        };
        let part = self.open.remove(&goes).expect("it was found");
        part.finish(goes.0, &self.file).map(Some)
    }

    /// Writes a packet into its segment, which is begun if it is not open.
    pub(super) fn write(
        &mut self,
        record: &Record<'_>,
        interfaces: &[Interface],
    ) -> Result<(), Error> {
        let place = self.place(record, interfaces);
        if !self.open.contains_key(&place) {
            let part = self.begin(record.ts_ns)?;
            self.open.insert(place.clone(), part);
            self.begun += 1;
        }
        self.written += 1;
        let part = self.open.get_mut(&place).expect("it was begun");
        part.used = self.written;
        let interface = interfaces.get(record.interface as usize);
        part.write(record, interface).map_err(|source| Error::Capture {
            what: format!("write {}", part.path.display()),
            source,
        })
    }

    /// Takes over what the file says of its interfaces, for the segments that are still open.
    pub(super) fn tell(&mut self, statistics: impl Fn(u32) -> Option<Statistics>) {
        for part in self.open.values_mut() {
            for (&interface, written) in &mut part.interfaces {
                written.told = statistics(interface);
            }
        }
    }

    /// Completes an open segment, the earliest first; `None` when there is no more.
    pub(super) fn finish_one(&mut self) -> Result<Option<Complete>, Error> {
        let next = self.open.iter().min_by_key(|(_, part)| part.id).map(|(place, _)| place.clone());
        let Some(place) = next else { return Ok(None) };
        let part = self.open.remove(&place).expect("it was found");
        part.finish(place.0, &self.file).map(Some)
    }

    /// Source and hour of a packet.
    fn place(&mut self, record: &Record<'_>, interfaces: &[Interface]) -> (String, u64) {
        for interface in interfaces.iter().skip(self.sources.len()) {
            let named = self.options.source.clone().or_else(|| interface.name.clone());
            let named = named.filter(|name| !name.is_empty());
            self.sources.push(source_name(&named.unwrap_or_else(|| stem(&self.file))));
        }
        let source = self.sources.get(record.interface as usize);
        let source = source.cloned().unwrap_or_else(|| source_name(&stem(&self.file)));
        (source, record.ts_ns / HOUR_NS)
    }

    /// Begins a segment. Its id is the same whenever the same file comes to the same point.
    fn begin(&self, ts_ns: u64) -> Result<Part, Error> {
        let source = self.options.source.as_deref().unwrap_or_default();
        let text = format!("{} {} {source}", self.hash, self.begun);
        let digest = Sha256::digest(text.as_bytes());
        let random = digest[..10].iter().fold(0, |sum, &byte| sum << 8 | u128::from(byte));
        let id = Ulid::from_parts(ts_ns / 1_000_000, random);
        let path = self.folder.join(format!("{}.pcapng", hex(&digest[..10])));
        let failed = |e| Error::system(format!("begin {}", path.display()), e);
        let file = File::create(&path).map_err(failed)?;
        let section = SectionInfo {
            application: Some(concat!("tapline ", env!("CARGO_PKG_VERSION")).into()),
            comment: Some(format!("imported from {}", self.file.display())),
            ..SectionInfo::default()
        };
        let writer = PcapngWriter::new(BufWriter::with_capacity(256 << 10, file), &section)
            .map_err(|source| Error::Capture { what: path.display().to_string(), source })?;
        Ok(Part {
            writer,
            path,
            id,
            span_ns: (ts_ns, ts_ns),
            packets: 0,
            interfaces: BTreeMap::new(),
            used: 0,
        })
    }
}

impl Part {
    fn write(
        &mut self,
        record: &Record<'_>,
        interface: Option<&Interface>,
    ) -> Result<(), capfile::Error> {
        let ts_ns = record.ts_ns;
        if !self.interfaces.contains_key(&record.interface) {
            let unknown = || Interface::new(capfile::LINKTYPE_ETHERNET);
            let number = self.writer.add_interface(&interface.cloned().unwrap_or_else(unknown))?;
            let new = Written { number, packets: 0, span_ns: (ts_ns, ts_ns), told: None };
            self.interfaces.insert(record.interface, new);
        }
        let written = self.interfaces.get_mut(&record.interface).expect("it was added");
        let marks = Marks { direction: record.direction, packet_id: record.packet_id };
        let comment = record.comments().next();
        self.writer.write(written.number, ts_ns, record.origlen, marks, record.data, comment)?;
        written.packets += 1;
        written.span_ns = (written.span_ns.0.min(ts_ns), written.span_ns.1.max(ts_ns));
        self.packets += 1;
        self.span_ns = (self.span_ns.0.min(ts_ns), self.span_ns.1.max(ts_ns));
        Ok(())
    }

    fn finish(mut self, source: String, from: &Path) -> Result<Complete, Error> {
        let what = format!("write {}", self.path.display());
        for written in self.interfaces.values() {
            let told = written.told.clone().unwrap_or_default();
            let statistics = Statistics {
                start_ns: Some(written.span_ns.0),
                end_ns: Some(written.span_ns.1),
                delivered: Some(written.packets),
                comment: Some(format!(
                    "packets of this segment; drops of all of {}",
                    from.display()
                )),
                ..told
            };
            self.writer
                .write_stats(written.number, &statistics)
                .map_err(|source| Error::Capture { what: what.clone(), source })?;
        }
        self.writer.get_mut().flush().map_err(|e| Error::system(what.clone(), e))?;
        let (first_ns, last_ns) = self.span_ns;
        let name = SegmentName { first_ns, last_ns, id: self.id, source };
        Ok(Complete { name, path: self.path, packets: self.packets })
    }
}

/// A file's name without what its kind adds to it.
fn stem(file: &Path) -> String {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut name = name.unwrap_or_default();
    for ending in [".gz", ".zst", ".pcapng", ".pcap", ".cap"] {
        if let Some(rest) = name.strip_suffix(ending) {
            name.truncate(rest.len());
        }
    }
    name
}
