//! What the tests over archives share: archives made of generated packets, and searches in them.

#![allow(dead_code, reason = "each test uses its part")]

pub mod expressions;
pub mod traffic;

use archive::manifest::{Chain, Event};
use archive::seal::{SealOptions, seal};
use archive::store::{Store, StoreOptions};
use archive::{Location, Part, SegmentName, SpoolState};
use capfile::{Interface, PcapngWriter, Reader, SectionInfo};
use rig::Scratch;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use traffic::Kept;
use ulid::Ulid;

/// An archive in a folder of its own, with a spool inside.
pub struct Archive {
    scratch: Scratch,
    next_id: u64,
}

/// What becomes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In the store with an entry in the manifest.
    Stored,
    /// In the store as pcapng, as in archives from before segments were sealed.
    Plain,
    /// In the spool, with an index.
    Sealed,
    /// In the spool, complete.
    Closed,
    /// In the spool, being written: it ends inside a block.
    Open,
}

impl Archive {
    pub fn new(test: &str) -> Archive {
        let archive = Archive { scratch: Scratch::new(test), next_id: 1 };
        fs::create_dir_all(archive.spool()).expect("it can be written");
        archive
    }

    pub fn root(&self) -> PathBuf {
        self.scratch.path("archive")
    }

    pub fn spool(&self) -> PathBuf {
        self.root().join(".spool")
    }

    /// A file beside the archive.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    /// Adds a segment of a source; its packets are of one hour. Gives the file with its data.
    pub fn add(&mut self, source: &str, packets: &[Kept], stage: Stage) -> PathBuf {
        let id = Ulid::from_parts(1_795_785_255_000, self.next_id.into());
        self.next_id += 1;
        let times = || packets.iter().map(|packet| packet.ts_ns);
        let (first_ns, last_ns) =
            (times().min().expect("packets"), times().max().expect("packets"));
        let name = SegmentName { first_ns, last_ns, id, source: source.into() };
        let bytes = pcapng(source, packets);
        let closed = self.spool().join(name.spool_file(Part::Plain, SpoolState::Closed));
        match stage {
            Stage::Open => {
                // A packet of which the half is written.
                let more = [packets, &packets[..1]].concat();
                let bytes = pcapng(source, &more);
                let bytes = &bytes[..bytes.len() - 20];
                let path = self.spool().join(format!("{source}-{id}.pcapng.open"));
                fs::write(&path, bytes).expect("it can be written");
                path
            }
            Stage::Plain => self.put(&name.key(Part::Plain), &bytes),
            Stage::Closed => {
                fs::write(&closed, bytes).expect("it can be written");
                closed
            }
            Stage::Sealed | Stage::Stored => {
                fs::write(&closed, bytes).expect("it can be written");
                let sealed = seal(&closed, &name, &self.spool(), &SealOptions::default())
                    .expect("it can be written");
                fs::remove_file(&closed).expect("it can be written");
                if stage == Stage::Sealed {
                    return sealed.data;
                }
                let data = self.put(
                    &name.key(Part::Data),
                    &fs::read(&sealed.data).expect("it can be written"),
                );
                self.put(
                    &name.key(Part::Index),
                    &fs::read(&sealed.index).expect("it can be written"),
                );
                fs::remove_file(sealed.data).expect("it can be written");
                fs::remove_file(sealed.index).expect("it can be written");
                self.note(Event::Stored(sealed.record));
                data
            }
        }
    }

    /// Appends to a chain of the manifest.
    pub fn note(&mut self, event: Event) {
        let runtime = archive::runtime().expect("there are descriptors");
        let store = self.store();
        let writer = Ulid::from_parts(1, 1);
        runtime.block_on(async {
            let mut chain = Chain::open(&store, writer).await.expect("it can be written");
            chain.append(event, 1_795_785_255_000_000_000).await.expect("it can be written");
        });
    }

    pub fn store(&self) -> Store {
        Store::open(&Location::Directory(self.root()), &StoreOptions::default())
            .expect("it can be written")
    }

    fn put(&self, key: &str, bytes: &[u8]) -> PathBuf {
        let path = self.root().join(key);
        fs::create_dir_all(path.parent().expect("a key has folders")).expect("it can be written");
        fs::write(&path, bytes).expect("it can be written");
        path
    }

    /// Searches with these arguments behind `--archive`.
    pub fn search<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        search(self.root(), arguments)
    }

    /// Searches, and gives the packets that were found.
    pub fn find<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Vec<Kept> {
        let arguments = arguments.into_iter().map(|a| a.as_ref().to_os_string());
        let words: Vec<_> = ["-w".into(), "-".into()].into_iter().chain(arguments).collect();
        let output = self.search(words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        kept(&output.stdout)
    }
}

/// Searches an archive with these arguments.
pub fn search<A: AsRef<OsStr>>(
    archive: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = A>,
) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tapline"));
    command.args(["search", "--archive"]).arg(archive).args(arguments).stdin(Stdio::null());
    command.output().expect("the program that was just built can be started")
}

/// The packets of a capture up to where it ends or is cut.
pub fn kept(bytes: &[u8]) -> Vec<Kept> {
    let mut reader = Reader::new(bytes).expect("a capture");
    let mut packets = Vec::new();
    while reader.advance().expect("whole blocks") {
        let record = reader.record().expect("advance says so");
        let bytes = record.data.to_vec();
        packets.push(Kept { ts_ns: record.ts_ns, origlen: record.origlen, bytes });
    }
    packets
}

/// The packets in a file of an archive, decompressed by zstd's own tool.
pub fn decompressed(path: &Path) -> Vec<Kept> {
    if !path.to_str().expect("UTF-8").contains(".pcapng.zst") {
        return kept(&fs::read(path).expect("it can be written"));
    }
    let output = Command::new("zstd").arg("-dc").arg(path).output().expect("zstd can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    kept(&output.stdout)
}

/// A segment as a recorder writes it.
fn pcapng(source: &str, packets: &[Kept]) -> Vec<u8> {
    let mut writer =
        PcapngWriter::new(Vec::new(), &SectionInfo::default()).expect("it can be written");
    let description = Some(format!("packets of {source}"));
    let interface = Interface {
        name: Some(source.into()),
        description,
        ..Interface::new(capfile::LINKTYPE_ETHERNET)
    };
    let interface = writer.add_interface(&interface).expect("it can be written");
    for Kept { ts_ns, origlen, bytes } in packets {
        let direction = capfile::Direction::In;
        writer
            .write(interface, *ts_ns, *origlen, direction, bytes, None)
            .expect("it can be written");
    }
    writer.into_inner()
}
