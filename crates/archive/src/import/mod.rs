//! Import: packets of capture files become segments of an archive.
//!
//! A file's packets are parted by source and by the UTC hour of their time; what is complete is sealed
//! and stored in the same way as what was recorded: data, index, manifest. A segment's id comes from the
//! file's content and the segment's number in it, so that the same file, however often it is imported
//! and whenever that is interrupted, is in the archive once.

mod parts;
mod work;

use crate::error::Error;
use crate::holds::hex;
use crate::manifest::{self, Chain, Event};
use crate::name::{Part, SegmentName};
use crate::seal::{SealOptions, Sealed, seal};
use crate::store::Store;
use io::file::decompressed;
use parts::{Complete, Parts};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use ulid::Ulid;
use work::Work;

/// Packets between two looks at how far it is.
const PROGRESS_PACKETS: u64 = 4096;

/// How captures are imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The source of all packets; without it the name of their interface, else the file's.
    pub source: Option<String>,
    /// Where a folder for segments under way may be made.
    pub work: PathBuf,
    /// A segment is closed when it has so many bytes.
    pub segment_bytes: u64,
    /// So many segments are open at most; then the one unused for longest is closed.
    pub open_max: usize,
    /// How they are sealed.
    pub seal: SealOptions,
}

impl Options {
    /// 100 MB segments, 64 of them open.
    pub fn new(work: &Path) -> Options {
        Options {
            source: None,
            work: work.into(),
            segment_bytes: 100_000_000,
            open_max: 64,
            seal: SealOptions::default(),
        }
    }
}

/// What became of a file's packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Packets that were read from the file.
    pub read: u64,
    /// Packets that the archive has now, and had not before.
    pub written: u64,
    /// Packets that the archive had already from an earlier import of the file.
    pub already: u64,
    /// Segments of the written ones.
    pub segments: u64,
    /// Segments of those that were there already.
    pub segments_already: u64,
    /// What is wrong, if the file is damaged: packets were read up to there.
    pub damaged: Option<String>,
    /// What is missing, if the file was cut: its whole packets were read.
    pub cut: Option<String>,
}

impl Imported {
    /// Packets that were read and are in no segment of the archive.
    pub fn dropped(&self) -> u64 {
        self.read - self.written - self.already
    }
}

/// Brings captures into an archive, one after the other.
pub struct Importer {
    store: Store,
    options: Options,
    work: Work,
    /// Lengths of data and index of the segments that are stored, by the key of their data.
    stored: BTreeMap<String, (u64, u64)>,
    /// Names of those, by id: a file may come again by another name.
    names: BTreeMap<Ulid, SegmentName>,
    chain: Option<Chain>,
}

impl Importer {
    /// Begins; reads what is stored already.
    ///
    /// # Errors
    /// [`Error`] if the archive cannot be read, or there is no room to work in.
    pub async fn new(store: &Store, options: Options) -> Result<Importer, Error> {
        let manifest = manifest::read(store).await?;
        let stored = manifest.segments().into_iter();
        let stored: BTreeMap<String, (u64, u64)> =
            stored.map(|(key, of)| (key.into(), (of.bytes, of.index_bytes))).collect();
        let work = Work::new(&options.work)?;
        let names = BTreeMap::from_iter(names_of(&stored));
        Ok(Importer { store: store.clone(), options, work, stored, names, chain: None })
    }

    /// Imports a file, compressed or not. `imported` is what became of its packets, whether this
    /// returns an error or not; `progress` is told how many bytes of the file have been read, twice over
    /// (once for what it is called, once for its packets). `utc_ns` tells the time.
    ///
    /// # Errors
    /// [`Error::Capture`] if it is no capture, [`Error::System`] if it cannot be read or there is no
    /// room, [`Error::Store`] if the store refuses a segment. What was stored before stays: the call may
    /// be repeated.
    pub async fn import(
        &mut self,
        path: &Path,
        imported: &mut Imported,
        utc_ns: impl Fn() -> u64,
        mut progress: impl FnMut(u64),
    ) -> Result<(), Error> {
        let shown = path.display().to_string();
        let capture = |source| Error::Capture { what: shown.clone(), source };
        let open = || File::open(path).map_err(|e| Error::system(format!("open {shown}"), e));
        let is_file = open()?.metadata().is_ok_and(|of| of.is_file());
        if !is_file {
            return Err(Error::Usage(format!(
                "{shown} is no file; one is read twice, so write a pipe's packets to a file first"
            )));
        }
        let hash = hash(&mut open()?, &mut progress)
            .map_err(|e| Error::system(format!("read {shown}"), e))?;
        let bytes = Arc::new(AtomicU64::new(0));
        let hashed = open()?.metadata().map_or(0, |of| of.len());
        let counted = Counted { file: open()?, bytes: bytes.clone() };
        let stream = decompressed(&shown, Box::new(counted))
            .map_err(|e| Error::system(format!("read {shown}"), e))?;
        let mut reader = capfile::Reader::new(stream).map_err(capture)?;
        let mut parts = Parts::new(self.work.folder(), &self.options, path, hash);
        loop {
            match reader.advance() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    imported.damaged = Some(error.to_string());
                    break;
                }
            }
            let record = reader.record().expect("advance says so");
            imported.read += 1;
            if let Some(complete) = parts.make_room(&record, reader.interfaces())? {
                self.keep(complete, imported, &utc_ns).await?;
            }
            parts.write(&record, reader.interfaces())?;
            if imported.read.is_multiple_of(PROGRESS_PACKETS) {
                progress(hashed + bytes.load(Relaxed));
            }
        }
        imported.cut = reader.warning().map(ToString::to_string);
        parts.tell(|interface| reader.statistics(interface).cloned());
        while let Some(complete) = parts.finish_one()? {
            self.keep(complete, imported, &utc_ns).await?;
            progress(hashed + bytes.load(Relaxed));
        }
        Ok(())
    }

    /// Seals a complete segment and stores it, unless it is stored.
    async fn keep(
        &mut self,
        complete: Complete,
        imported: &mut Imported,
        utc_ns: &impl Fn() -> u64,
    ) -> Result<(), Error> {
        let known = self.names.get(&complete.name.id).unwrap_or(&complete.name);
        let object = known.key(Part::Data);
        if let Some(&(bytes, index_bytes)) = self.stored.get(&object) {
            let index = known.key(Part::Index);
            let is_there = self.store.length(&object).await? == Some(bytes)
                && self.store.length(&index).await? == Some(index_bytes);
            if is_there {
                imported.already += complete.packets;
                imported.segments_already += 1;
                return remove(&[&complete.path]);
            }
        }
        let sealed = seal(&complete.path, &complete.name, self.work.folder(), &self.options.seal)?;
        store_sealed(&self.store, &sealed).await?;
        let record = sealed.record.clone();
        self.stored.insert(record.object.clone(), (record.bytes, record.index_bytes));
        self.names.insert(sealed.name.id, sealed.name.clone());
        append(&self.store, &mut self.chain, Event::Stored(record), utc_ns()).await?;
        imported.written += complete.packets;
        imported.segments += 1;
        remove(&[&complete.path, &sealed.data, &sealed.index])
    }
}

fn names_of(
    stored: &BTreeMap<String, (u64, u64)>,
) -> impl Iterator<Item = (Ulid, SegmentName)> + '_ {
    let names = stored.keys().filter_map(|key| SegmentName::parse_key(key));
    names.map(|(name, _)| (name.id, name))
}

/// Stores the files of a sealed segment, the data first.
pub(crate) async fn store_sealed(store: &Store, sealed: &Sealed) -> Result<(), Error> {
    let (data, index) = (sealed.name.key(Part::Data), sealed.name.key(Part::Index));
    store.put_file(&data, &sealed.data, &digest(&sealed.record.sha256)).await?;
    store.put_file(&index, &sealed.index, &digest(&sealed.record.index_sha256)).await?;
    Ok(())
}

/// Appends to a chain, which is begun with its first entry.
pub(crate) async fn append(
    store: &Store,
    chain: &mut Option<Chain>,
    event: Event,
    utc_ns: u64,
) -> Result<(), Error> {
    let mut open = match chain.take() {
        Some(chain) => chain,
        None => Chain::open(store, Ulid::new()).await?,
    };
    let appended = open.append(event, utc_ns).await;
    *chain = Some(open);
    appended
}

/// The bytes of a hash in hexadecimal digits.
pub(crate) fn digest(digits: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
    }
    bytes
}

fn remove(files: &[&Path]) -> Result<(), Error> {
    for file in files {
        std::fs::remove_file(file)
            .map_err(|e| Error::system(format!("remove {}", file.display()), e))?;
    }
    Ok(())
}

/// SHA-256 of a file, in hexadecimal digits.
fn hash(file: &mut File, progress: &mut impl FnMut(u64)) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(len) => {
                hash.update(&buffer[..len]);
                bytes += len as u64;
                progress(bytes);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// A file whose bytes are counted as they are read.
struct Counted {
    file: File,
    bytes: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.file.read(buffer)?;
        self.bytes.fetch_add(len as u64, Relaxed);
        Ok(len)
    }
}
