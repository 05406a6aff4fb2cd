//! What the archiver's tests share: a spool with segments of numbered packets, a store in a folder, and
//! what is in both, found out without the archiver.

#![allow(dead_code, reason = "each test uses its part")]

use archive::archiver::{ArchiverOptions, Onward, SpoolBudget, SpoolPolicy, Steps};
use archive::expire::Rules;
use archive::seal::SealOptions;
use archive::store::{Backoff, Store, StoreOptions};
use archive::{Location, Part, SegmentName, SpoolState};
use capfile::{Interface, PcapngWriter, Reader, SectionInfo, Statistics};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use ulid::Ulid;
use wire::Direction;

/// 2026-11-27 13:14:15.123456789 UTC.
pub const T: u64 = 1_795_785_255_123_456_789;
/// An Ethernet frame of a local experimental EtherType.
const FRAME: [u8; 64] = {
    let mut frame = [0; 64];
    (frame[0], frame[6], frame[12], frame[13]) = (2, 2, 0x88, 0xb5);
    frame
};
pub const SOURCE: &str = "vxlan-71-10.71.2.2";
/// How long a test waits for what takes a moment unless the machine is very busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A spool and an archive, in a folder that is removed at the end.
pub struct Bench {
    pub folder: PathBuf,
    next: u64,
}

impl Bench {
    pub fn new() -> Bench {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("archiver-test-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("spool")).unwrap();
        Bench { folder, next: 0 }
    }

    pub fn spool(&self) -> PathBuf {
        self.folder.join("spool")
    }

    pub fn root(&self) -> PathBuf {
        self.folder.join("archive")
    }

    pub fn store(&self) -> Store {
        Store::open(&Location::Directory(self.root()), &StoreOptions::default()).unwrap()
    }

    /// Options that bring the spool into the archive, and are impatient.
    pub fn options(&self) -> ArchiverOptions {
        self.options_with(None, SpoolPolicy::DropNew, Arc::new(Onward))
    }

    pub fn options_with(
        &self,
        bytes_max: Option<u64>,
        policy: SpoolPolicy,
        steps: Arc<dyn Steps>,
    ) -> ArchiverOptions {
        let budget = SpoolBudget::new(&self.spool(), bytes_max, policy, 0).unwrap();
        ArchiverOptions {
            spool: self.spool(),
            store: self.store(),
            seal: SealOptions::default(),
            budget: Arc::new(budget),
            backoff: Backoff::new(Duration::from_millis(10), Duration::from_millis(100)),
            rules: Rules::default(),
            steps,
        }
    }

    /// Adds a closed segment of so many packets, numbered on from those before; gives its name.
    pub fn close(&mut self, packets: u64) -> SegmentName {
        let name = self.next_name(packets);
        let path = self.spool().join(name.spool_file(Part::Plain, SpoolState::Closed));
        let open = path.with_extension("open");
        fs::write(&open, capture(self.next, packets)).unwrap();
        fs::rename(open, path).unwrap();
        self.next += packets;
        name
    }

    /// Adds a segment to the archive as it was stored before segments were sealed.
    pub fn store_plain(&mut self, packets: u64) -> SegmentName {
        let name = self.next_name(packets);
        let path = self.root().join(name.key(Part::Plain));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, capture(self.next, packets)).unwrap();
        self.next += packets;
        name
    }

    fn next_name(&self, packets: u64) -> SegmentName {
        let (first_ns, last_ns) = (T + self.next, T + self.next + packets - 1);
        SegmentName { first_ns, last_ns, id: Ulid::new(), source: SOURCE.into() }
    }

    /// Packets that were recorded.
    pub fn recorded(&self) -> u64 {
        self.next
    }

    /// The names of the spool's files that are of segments.
    pub fn in_spool(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.spool())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".pcapng") || name.contains(".parquet"))
            .collect();
        names.sort();
        names
    }

    /// The archive's objects, by their keys.
    pub fn objects(&self) -> BTreeMap<String, PathBuf> {
        let mut objects = BTreeMap::new();
        let root = self.root();
        for path in files(&root) {
            objects.insert(path.strip_prefix(&root).unwrap().to_str().unwrap().into(), path);
        }
        objects
    }

    /// Checks that the archive has each packet once, and that its objects, its manifest and the
    /// hashes that sha256sum tells are of one mind. Gives the number of segments.
    pub fn assert_stored_once(&self, packets: u64) -> usize {
        let objects = self.objects();
        let manifest = archive::runtime()
            .unwrap()
            .block_on(archive::manifest::read(&self.store()))
            .expect("the manifest can be read");
        assert_eq!(manifest.breaks, []);
        let mut stored = Vec::new();
        for entry in &manifest.entries {
            if let archive::manifest::Event::Stored(record) = &entry.event {
                stored.push(record.clone());
            }
        }
        let data: Vec<&String> = objects.keys().filter(|key| key.ends_with(".zst")).collect();
        let mut entered: Vec<&String> = stored.iter().map(|record| &record.object).collect();
        entered.sort();
        assert_eq!(data, entered, "each segment is entered once");
        let mut numbers = Vec::new();
        for record in &stored {
            let (name, _) = SegmentName::parse_key(&record.object).unwrap();
            let index = &objects[&name.key(Part::Index)];
            let data = &objects[&record.object];
            assert_eq!(sha256sum(data), record.sha256);
            assert_eq!(sha256sum(index), record.index_sha256);
            assert_eq!(data.metadata().unwrap().len(), record.bytes);
            assert_eq!(index.metadata().unwrap().len(), record.index_bytes);
            let of_segment = numbers_of(data);
            assert_eq!(of_segment.len() as u64, record.packets);
            numbers.extend(of_segment);
        }
        let others = objects.keys().filter(|key| !key.starts_with("manifest/"));
        assert_eq!(others.count(), 2 * stored.len(), "data and index of each, and nothing else");
        numbers.sort_unstable();
        assert_eq!(numbers, (0..packets).collect::<Vec<_>>());
        stored.len()
    }

    /// Checks that each packet is in a segment of the spool, or in one of the archive.
    pub fn assert_nothing_lost(&self) {
        self.assert_nothing_lost_beside(&self.root());
    }

    /// Checks that each packet is in a segment of the spool, or in one below this folder. An archiver may
    /// move segments on meanwhile: then it is looked again.
    pub fn assert_nothing_lost_beside(&self, folder: &Path) {
        let numbers = (0..1000).find_map(|_| self.numbers_beside(folder));
        let numbers = numbers.expect("now and then nothing moves");
        assert_eq!(numbers, (0..self.next).collect::<Vec<_>>());
    }

    /// The numbers of all packets; `None` if a segment was moved while they were read.
    fn numbers_beside(&self, folder: &Path) -> Option<Vec<u64>> {
        let (of_spool, of_archive) = (files(&self.spool()), files(folder));
        let segments = of_spool.iter().chain(&of_archive).filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_whole = !name.ends_with(".part") && !name.ends_with(".open");
            name.contains(".pcapng") && is_whole
        });
        let mut numbers = Vec::new();
        for path in segments {
            numbers.extend(numbers_if_there(path)?);
        }
        numbers.sort_unstable();
        numbers.dedup();
        Some(numbers)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Nothing is lost if it stays behind.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// All files below a folder, half-written ones of a store left out.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A capture of numbered packets.
pub fn capture(first: u64, packets: u64) -> Vec<u8> {
    let mut writer = PcapngWriter::new(Vec::new(), &SectionInfo::default()).unwrap();
    let ethernet = capfile::LINKTYPE_ETHERNET;
    let interface =
        writer.add_interface(&Interface { name: Some(SOURCE.into()), ..Interface::new(ethernet) });
    let interface = interface.unwrap();
    for number in first..first + packets {
        writer
            .write(interface, T + number, FRAME.len() as u32, Direction::In, &FRAME, None)
            .unwrap();
    }
    let statistics = Statistics { delivered: Some(packets), ..Statistics::default() };
    writer.write_stats(interface, &statistics).unwrap();
    writer.into_inner()
}

/// The numbers of the packets in a segment, sealed or not, up to where it is cut: their times tell.
pub fn numbers_of(segment: &Path) -> Vec<u64> {
    numbers_if_there(segment).expect("the segment is there")
}

/// The same; `None` if there is no such file.
fn numbers_if_there(segment: &Path) -> Option<Vec<u64>> {
    let file = match File::open(segment) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        file => file.unwrap(),
    };
    let is_sealed = segment.to_str().unwrap().contains(".pcapng.zst");
    let stream: Box<dyn Read> = match is_sealed {
        true => Box::new(zstd::Decoder::new(file).unwrap()),
        false => Box::new(file),
    };
    let mut numbers = Vec::new();
    // One that a process was about to begin is empty.
    let Ok(mut reader) = Reader::new(stream) else { return Some(numbers) };
    while let Some(record) = reader.next().unwrap() {
        numbers.push(record.ts_ns - T);
    }
    Some(numbers)
}

/// What sha256sum says of a file.
pub fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].into()
}

/// Waits for something to become true.
pub fn wait_for(what: &str, mut is_true: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
