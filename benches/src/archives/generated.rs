//! A generated archive, beside the same packets as they are.
//!
//! ```text
//! FOLDER/raw/0000.pcapng …      what a recorder has closed: each at 100 MB or at the hour
//! FOLDER/archive/date=…/…       the same, sealed, with indexes and a manifest
//! ```
//! The enterprise mix, from [`SOURCES`] sources at the same time, in all some 65 kbit/s for each GB of
//! the archive: 10 GB are ten hours and some 100 segments.

use crate::mixes::{Mix, Traffic};
use anyhow::Context;
use archive::manifest::{Chain, Event};
use archive::seal::{SealOptions, seal};
use archive::store::{Store, StoreOptions};
use archive::{Location, Part, SegmentName};
use capfile::{Direction, Interface, PcapngWriter, SectionInfo};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use ulid::Ulid;

/// Sources that record at the same time.
pub const SOURCES: u64 = 4;
const SEGMENT_BYTES: u64 = 100_000_000;
const HOUR_NS: u64 = 3_600_000_000_000;
/// 2026-11-27T00:00:00Z.
const START_NS: u64 = 1_795_737_600_000_000_000;
/// Between two packets of a source, on average, in an archive of 10 GB.
const GAP_NS: u64 = 10_000_000;

/// An archive in a folder.
pub struct Generated {
    folder: PathBuf,
    /// The unsealed segments, in the order of their making.
    pub raw: Vec<PathBuf>,
}

impl Generated {
    /// The archive in a folder: made now, unless it is there.
    pub fn in_folder(folder: &Path, raw_bytes: u64) -> anyhow::Result<Generated> {
        if !folder.join("raw").is_dir() {
            // Complete, or not there.
            let making = folder.with_extension("part");
            let _ = fs::remove_dir_all(&making);
            generate(&making, raw_bytes)?;
            let _ = fs::remove_dir(folder);
            fs::rename(&making, folder).with_context(|| folder.display().to_string())?;
        }
        let mut raw: Vec<PathBuf> = fs::read_dir(folder.join("raw"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()?;
        raw.sort();
        Ok(Generated { folder: folder.into(), raw })
    }

    pub fn archive(&self) -> PathBuf {
        self.folder.join("archive")
    }

    /// Bytes of the unsealed segments.
    pub fn raw_bytes(&self) -> anyhow::Result<u64> {
        let sizes = self.raw.iter().map(|path| Ok(fs::metadata(path)?.len()));
        sizes.sum::<anyhow::Result<u64>>()
    }
}

/// One source's packets, cut into segments.
struct Source {
    name: String,
    traffic: Traffic,
    /// The packet that the next segment begins with.
    next: (u64, Vec<u8>),
}

fn generate(folder: &Path, raw_bytes: u64) -> anyhow::Result<()> {
    let (raw, root) = (folder.join("raw"), folder.join("archive"));
    fs::create_dir_all(&raw)?;
    fs::create_dir_all(&root)?;
    let store = Store::open(&Location::Directory(root.clone()), &StoreOptions::default())?;
    let runtime = archive::runtime()?;
    let mut chain = runtime.block_on(Chain::open(&store, Ulid::from_parts(1, 1)))?;
    let mut sources: Vec<Source> = (0..SOURCES).map(Source::new).collect();
    let (mut bytes, mut number) = (0, 0);
    while bytes < raw_bytes {
        // The one that is behind.
        let source = sources.iter_mut().min_by_key(|source| source.next.0).context("no source")?;
        let path = raw.join(format!("{number:04}.pcapng"));
        let (span_ns, segment_bytes) =
            source.segment(&path, SEGMENT_BYTES.min(raw_bytes - bytes))?;
        bytes += segment_bytes;
        let id = Ulid::from_parts(span_ns.0 / 1_000_000, number);
        let name = SegmentName {
            first_ns: span_ns.0,
            last_ns: span_ns.1,
            id,
            source: source.name.clone(),
        };
        let sealed = seal(&path, &name, folder, &SealOptions::default())?;
        for (part, file) in [(Part::Data, &sealed.data), (Part::Index, &sealed.index)] {
            let place = root.join(name.key(part));
            fs::create_dir_all(place.parent().context("a key has folders")?)?;
            fs::rename(file, place)?;
        }
        runtime.block_on(chain.append(Event::Stored(sealed.record), span_ns.1))?;
        number += 1;
    }
    Ok(())
}

impl Source {
    fn new(number: u64) -> Source {
        let mut traffic = Traffic::new(Mix::Enterprise, 6 + number, START_NS, GAP_NS);
        let (ts_ns, frame) = traffic.next_packet();
        let next = (ts_ns, frame.to_vec());
        Source { name: format!("vxlan-{}-10.71.2.2", 71 + number), traffic, next }
    }

    /// Writes a segment of so many bytes, or up to the hour; gives its span and its bytes.
    fn segment(&mut self, path: &Path, bytes: u64) -> anyhow::Result<((u64, u64), u64)> {
        let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let mut writer = PcapngWriter::new(file, &SectionInfo::default())?;
        let interface = Interface {
            name: Some(self.name.clone()),
            ..Interface::new(capfile::LINKTYPE_ETHERNET)
        };
        let interface = writer.add_interface(&interface)?;
        let first_ns = self.next.0;
        let mut last_ns = first_ns;
        while writer.bytes_written() < bytes && self.next.0 / HOUR_NS == first_ns / HOUR_NS {
            let (ts_ns, frame) = &self.next;
            last_ns = *ts_ns;
            let origlen = frame.len() as u32;
            writer.write(interface, last_ns, origlen, Direction::Unknown, frame, None)?;
            let (ts_ns, frame) = self.traffic.next_packet();
            self.next.0 = ts_ns;
            self.next.1.clear();
            self.next.1.extend_from_slice(frame);
        }
        writer.flush()?;
        Ok(((first_ns, last_ns), writer.bytes_written()))
    }
}
