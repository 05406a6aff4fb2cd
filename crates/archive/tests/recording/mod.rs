//! What the recorder's tests share: a folder, packets of tunnels, what the files hold.

#![allow(dead_code, reason = "each test uses its part")]

use api::{Drops, Removed, SourceStats};
use archive::archiver::{SpoolBudget, SpoolPolicy};
use archive::{Layout, Part, Recorder, RecorderOptions, Rotation, SegmentName};
use capfile::{Reader, Statistics};
use io::{Data, Direction, Interface, InterfaceId, Interfaces, Meta, Now, Outer, Packet};
use io::{Selection, Sink, Upstream};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use wire::LinkType;
use wire::tunnel::{Kind, Tunnel};

/// 2026-11-27 13:14:15.123456789 UTC.
pub const T: u64 = 1_795_785_255_123_456_789;
pub const SECOND: u64 = 1_000_000_000;
pub const HOUR: u64 = 3600 * SECOND;

/// A folder that is removed at the end of the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("archive-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("the temporary folder can be written to");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing is lost if it stays behind, and a test may have removed it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A recorder with the interfaces that its packets name, and a made-up clock.
pub struct Rig {
    pub now: Now,
    pub recorder: Recorder,
    pub listener: InterfaceId,
    pub budget: Option<Arc<SpoolBudget>>,
}

impl Rig {
    pub fn new(layout: Layout, rotation: Rotation) -> Rig {
        Rig::with_budget(layout, rotation, None)
    }

    /// A recorder into a spool that, with the archive around it, may have so many bytes.
    pub fn within(spool: &Path, rotation: Rotation, bytes_max: u64) -> Rig {
        let segment_bytes = rotation.bytes.expect("segments have a size");
        let budget = SpoolBudget::new(spool, None, SpoolPolicy::DropNew, segment_bytes);
        let budget = budget.expect("the spool can be listed").within(bytes_max, 0);
        Rig::with_budget(Layout::Spool(spool.into()), rotation, Some(Arc::new(budget)))
    }

    pub fn with_budget(
        layout: Layout,
        rotation: Rotation,
        budget: Option<Arc<SpoolBudget>>,
    ) -> Rig {
        let interfaces = Interfaces::default();
        let listener =
            interfaces.add(Interface { name: Some("vxlan".into()), ..Interface::new(1) });
        let options = RecorderOptions {
            layout,
            rotation,
            unbuffered: false,
            first: None,
            budget: budget.clone(),
            waker: None,
        };
        let now = Now { monotonic_ns: 7 * HOUR, utc_ns: T };
        let recorder =
            Recorder::new(options, &interfaces, now).expect("the folder can be written to");
        Rig { now, recorder, listener, budget }
    }

    pub fn spool(folder: &Path, rotation: Rotation) -> Rig {
        Rig::new(Layout::Spool(folder.into()), rotation)
    }

    /// What was removed for the bound.
    pub fn removed(&self) -> Removed {
        self.budget.as_ref().expect("it is bounded").removed()
    }

    /// Lets time go by.
    pub fn pass(&mut self, ns: u64) {
        self.now = self.now.after(Duration::from_nanos(ns));
        self.recorder.tick(self.now);
    }

    /// Sets the clock that people see, by so many nanoseconds.
    pub fn set_clock(&mut self, step_ns: i64) {
        self.now.utc_ns = self.now.utc_ns.saturating_add_signed(step_ns);
    }

    /// Records a packet of `len` bytes that came out of a tunnel.
    pub fn send(&mut self, vni: u32, source: &str, ts_ns: u64, len: usize) {
        let source = source.parse().expect("an address");
        let tunnel = Tunnel { kind: Kind::Vxlan, id: Some(vni) };
        self.record(ts_ns, len, Some(Outer { tunnel, source }));
    }

    /// Records a packet of `len` bytes and twice the original length.
    pub fn record(&mut self, ts_ns: u64, len: usize, outer: Option<Outer>) {
        let meta = Meta {
            ts_ns,
            origlen: 2 * len as u32,
            link_type: LinkType::ETHERNET,
            interface: self.listener,
            direction: Direction::Unknown,
            outer,
            packet_id: None,
            gso: None,
            decided: false,
            flow_hash: None,
        };
        let packets = [Packet { data: Data::copy_of(&vec![7; len]), meta }];
        assert_eq!(self.recorder.send(Selection::new(&packets, &[0])), 1, "a recorder takes all");
    }

    /// Ends the recording; gives the ledger's lines, each of which balances with nothing queued.
    pub fn finish(&mut self) -> Vec<SourceStats> {
        self.recorder.finish(&Upstream::default()).expect("the files can be completed");
        self.lines()
    }

    /// The ledger's lines, each of which balances with nothing queued.
    pub fn lines(&self) -> Vec<SourceStats> {
        let lines = self.recorder.sources();
        for line in &lines {
            assert_eq!((line.unaccounted, line.queued), (0, 0), "{line}");
        }
        lines
    }
}

/// Packets written and dropped, over all lines.
pub fn sums(lines: &[SourceStats]) -> (u64, Drops) {
    let mut drops = Drops::default();
    lines.iter().for_each(|line| drops.merge(&line.drops));
    (lines.iter().map(|line| line.written).sum(), drops)
}

/// A file that was read to its end.
pub struct Found {
    pub path: PathBuf,
    pub bytes: u64,
    /// Time and bytes present of each packet.
    pub packets: Vec<(u64, u32)>,
    pub interfaces: Vec<String>,
    pub statistics: Vec<Statistics>,
}

/// Reads a capture file, which must end behind a whole record.
pub fn read(path: &Path) -> Found {
    let file = File::open(path).expect("the file can be opened");
    let bytes = file.metadata().expect("an open file has a length").len();
    let mut reader = Reader::new(file).expect("a capture");
    let mut packets = Vec::new();
    while let Some(record) = reader.next().expect("whole blocks") {
        assert_eq!(record.origlen, 2 * record.caplen(), "{}", path.display());
        packets.push((record.ts_ns, record.caplen()));
    }
    assert!(reader.warning().is_none(), "{}: {:?}", path.display(), reader.warning());
    let interfaces = reader.interfaces();
    let names = interfaces.iter().map(|i| i.name.clone().unwrap_or_default()).collect();
    let statistics = (0..interfaces.len() as u32).filter_map(|n| reader.statistics(n).cloned());
    let statistics = statistics.collect();
    Found { path: path.into(), bytes, packets, interfaces: names, statistics }
}

/// All files below a folder whose names end so, sorted by path.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Reads the closed segments of a spool, in which nothing is open any more.
pub fn segments(spool: &Path) -> Vec<Found> {
    assert_eq!(files(spool, ".open"), Vec::<PathBuf>::new(), "an open segment is left");
    files(spool, ".closed").iter().map(|path| read(path)).collect()
}

/// The part of a segment's key in the archive between `KEY=` and the next slash.
pub fn partition(segment: &Found, key: &str) -> String {
    let object = name_of(segment).key(Part::Data);
    let at = object.find(&format!("{key}=")).expect("the key has the partition");
    let rest = &object[at + key.len() + 1..];
    rest.split('/').next().expect("split gives one").into()
}

/// First, last and id out of a segment's name.
pub fn name_parts(segment: &Found) -> (String, String, String) {
    let stem = name_of(segment).to_string();
    let parts: Vec<&str> = stem.split('-').collect();
    let [first, last, id] = parts[..] else { panic!("{stem}") };
    (first.into(), last.into(), id.into())
}

fn name_of(segment: &Found) -> SegmentName {
    let name = segment.path.file_name().expect("a file").to_string_lossy();
    SegmentName::parse_spool_file(&name).expect("a closed segment").0
}
