//! A process that records and ships is killed again and again, at any moment, with SIGKILL: each packet
//! that it had brought into a file is stored, once.
//!
//! The process is this test itself, started again as its own child: it adopts what the one before left
//! open, records numbered packets into small segments and ships them. On its standard output it says
//! how far everything is in files. What is in the spool and in the store is looked up here, from
//! outside: after each kill that nothing is missing, at the end that nothing is there twice, that
//! objects, segments and entries of the manifest are the same number, and that sha256sum agrees.
//!
//! `KILLS=1000` sets how many kills there are in all, for both stores together.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod recording;
mod shipping;

use archive::archiver::{ArchiverOptions, Onward, SpoolBudget, SpoolPolicy};
use archive::expire::Rules;
use archive::manifest::Event;
use archive::seal::SealOptions;
use archive::store::{Backoff, Store, StoreOptions};
use archive::{Archiver, Layout, Location, Part, Rotation, SegmentName};
use recording::Rig;
use s3_server::{ACCESS_KEY, SECRET_KEY, Server};
use shipping::{Bench, PATIENCE, T, files, numbers_of};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Kills of each test unless KILLS says otherwise.
const KILLS: u64 = 100;
/// Numbers that a child may use: those of the n-th begin at n times that.
const NUMBERS: u64 = 1_000_000_000;
/// Packets between two words of a child, and the pause after them.
const BURST: u64 = 50;
const PAUSE: Duration = Duration::from_millis(5);

/// What a child is told.
const SPOOL: &str = "TEST_SPOOL";
const PLACE: &str = "TEST_PLACE";
const ENDPOINT: &str = "TEST_ENDPOINT";
const FIRST: &str = "TEST_FIRST";

fn open_store(place: &str, endpoint: Option<&str>) -> Store {
    let mut options = StoreOptions::default();
    if let Some(endpoint) = endpoint {
        for (name, value) in [
            ("aws_endpoint", endpoint),
            ("aws_access_key_id", ACCESS_KEY),
            ("aws_secret_access_key", SECRET_KEY),
            ("aws_region", "us-east-1"),
            ("aws_allow_http", "true"),
            ("aws_virtual_hosted_style_request", "false"),
        ] {
            options = options.with(name, value);
        }
    }
    Store::open(&place.parse::<Location>().unwrap(), &options).unwrap()
}

fn archiver_options(spool: &Path, store: Store) -> ArchiverOptions {
    let budget = SpoolBudget::new(spool, None, SpoolPolicy::DropNew, 0).unwrap();
    ArchiverOptions {
        spool: spool.into(),
        store,
        seal: SealOptions::default(),
        budget: Arc::new(budget),
        backoff: Backoff::new(Duration::from_millis(10), Duration::from_millis(100)),
        rules: Rules::default(),
        steps: Arc::new(Onward),
    }
}

/// The child: records and ships until it is killed. Nothing to do where no other test starts it.
#[test]
fn child() {
    let Some(spool) = env::var_os(SPOOL).map(PathBuf::from) else { return };
    let store = open_store(&env::var(PLACE).unwrap(), env::var(ENDPOINT).ok().as_deref());
    let first: u64 = env::var(FIRST).unwrap().parse().unwrap();
    archive::adopt(&spool).unwrap();
    let archiver = Archiver::start(archiver_options(&spool, store)).unwrap();
    let waker = archiver.waker();
    let rotation = Rotation { bytes: Some(10_000), ..Rotation::default() };
    let mut rig = Rig::new(Layout::Spool(spool), rotation);
    let mut said = std::io::stdout();
    for number in (0..NUMBERS).step_by(BURST as usize) {
        for number in number..number + BURST {
            rig.send(71, "10.71.2.2", T + first + number, 64);
        }
        rig.pass(recording::SECOND);
        waker.wake();
        writeln!(said, "in files: {}", number + BURST).unwrap();
        said.flush().unwrap();
        std::thread::sleep(PAUSE);
    }
}

/// What a test looks at.
struct Watch {
    bench: Bench,
    place: String,
    endpoint: Option<String>,
    /// Where the store's objects are files.
    objects: PathBuf,
    /// Numbers in objects that were read already.
    stored: BTreeMap<PathBuf, Vec<u64>>,
    /// By child, how many of its numbers were in files when it was killed.
    in_files: BTreeMap<u64, u64>,
}

impl Watch {
    fn new(bench: Bench, place: String, endpoint: Option<String>, objects: PathBuf) -> Watch {
        Watch {
            bench,
            place,
            endpoint,
            objects,
            stored: BTreeMap::new(),
            in_files: BTreeMap::new(),
        }
    }

    /// Starts a child and kills it after so long; before it could say anything, as it may be.
    fn start_and_kill(&mut self, run: u64, after: Duration) {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["child", "--exact", "--nocapture"])
            .env(SPOOL, self.bench.spool())
            .env(PLACE, &self.place)
            .env(FIRST, (run * NUMBERS).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(endpoint) = &self.endpoint {
            command.env(ENDPOINT, endpoint);
        }
        let mut child = command.spawn().unwrap();
        std::thread::sleep(after);
        assert!(child.try_wait().unwrap().is_none(), "child {run} ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let words = lines.map_while(Result::ok);
        let said = words.filter_map(|line| line.strip_prefix("in files: ")?.parse().ok()).last();
        self.in_files.insert(run, said.unwrap_or(0));
    }

    /// The numbers in the store; each object is read once.
    fn stored(&mut self) -> impl Iterator<Item = u64> {
        for path in files(&self.objects) {
            let key = path.strip_prefix(&self.objects).unwrap().to_str().unwrap();
            let is_data = matches!(SegmentName::parse_key(key), Some((_, Part::Data)));
            if is_data && !self.stored.contains_key(&path) {
                let numbers = numbers_of(&path);
                self.stored.insert(path, numbers);
            }
        }
        self.stored.values().flatten().copied()
    }

    /// Checks that nothing that was in a file is missing in both the spool and the store.
    fn assert_nothing_lost(&mut self) {
        let mut there: HashSet<u64> = self.stored().collect();
        for path in files(&self.bench.spool()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.contains(".pcapng") && !name.ends_with(".part") {
                there.extend(numbers_of(&path));
            }
        }
        for (run, said) in &self.in_files {
            let lost: Vec<u64> =
                (0..*said).filter(|n| !there.contains(&(run * NUMBERS + n))).collect();
            assert_eq!(lost, [0; 0], "of child {run}, which had {said} in files");
        }
    }

    /// Ships what is left, with nobody killed any more.
    fn ship_the_rest(&self) {
        let spool = self.bench.spool();
        archive::adopt(&spool).unwrap();
        let options = archiver_options(&spool, open_store(&self.place, self.endpoint.as_deref()));
        let left = archive::archiver::drain(options, 5 * PATIENCE).unwrap();
        assert_eq!(left, Default::default());
        assert_eq!(self.bench.in_spool(), [""; 0]);
    }

    /// Checks what is in the store at the end.
    fn assert_stored_once(&mut self) -> usize {
        let numbers: Vec<u64> = self.stored().collect();
        let once: BTreeSet<u64> = numbers.iter().copied().collect();
        assert_eq!(once.len(), numbers.len(), "packets are there twice");
        // What came after the last word may be there or not, but without a hole.
        for (run, said) in &self.in_files {
            let of_run = once.range(run * NUMBERS..(run + 1) * NUMBERS);
            let count = of_run.clone().count() as u64;
            let last = of_run.last().map_or(0, |last| last - run * NUMBERS + 1);
            assert!(count >= *said && count == last, "child {run}: {said} {count} {last}");
        }
        let store = open_store(&self.place, self.endpoint.as_deref());
        let runtime = archive::runtime().unwrap();
        let manifest = runtime.block_on(archive::manifest::read(&store)).unwrap();
        assert_eq!((manifest.breaks, manifest.chains), (vec![], 1));
        let mut hashes = BTreeMap::new();
        let (mut entries, mut packets) = (0, 0);
        for entry in manifest.entries {
            let Event::Stored(record) = entry.event else { panic!("{entry:?}") };
            let (name, _) = SegmentName::parse_key(&record.object).unwrap();
            hashes.insert(self.objects.join(name.key(Part::Index)), record.index_sha256);
            hashes.insert(self.objects.join(record.object), record.sha256);
            entries += 1;
            packets += record.packets;
        }
        assert_eq!(sha256sums(&self.objects), hashes);
        assert_eq!((entries, packets), (self.stored.len(), numbers.len() as u64));
        entries
    }
}

/// What sha256sum says of all data and indexes.
fn sha256sums(folder: &Path) -> BTreeMap<PathBuf, String> {
    let paths: Vec<PathBuf> = files(folder)
        .into_iter()
        .filter(|path| {
            let key = path.strip_prefix(folder).unwrap().to_str().unwrap();
            SegmentName::parse_key(key).is_some()
        })
        .collect();
    let mut sums = BTreeMap::new();
    for some in paths.chunks(500) {
        let output = Command::new("sha256sum").args(some).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter_map(|line| line.split_once("  "));
        sums.extend(lines.map(|(sum, path)| (PathBuf::from(path), sum.to_string())));
    }
    assert_eq!(sums.len(), paths.len());
    sums
}

fn kill_again_and_again(mut watch: Watch) {
    let kills = env::var("KILLS").map_or(KILLS, |text| text.parse::<u64>().unwrap() / 2);
    for run in 0..kills {
        // From the first instructions of the process to some dozens of segments.
        let after = Duration::from_micros(archive::store::random() % 400_000);
        watch.start_and_kill(run, after);
        watch.assert_nothing_lost();
    }
    watch.ship_the_rest();
    let segments = watch.assert_stored_once();
    let in_files: u64 = watch.in_files.values().sum();
    println!("{kills} kills, {segments} segments stored, {in_files} packets were in files");
    assert!(segments as u64 > kills / 4, "only {segments} segments: too slow to prove anything");
}

#[test]
fn killed_again_and_again_before_a_folder() {
    let bench = Bench::new();
    let root = bench.root();
    let place = root.to_str().unwrap().into();
    kill_again_and_again(Watch::new(bench, place, None, root));
}

#[test]
fn killed_again_and_again_before_s3() {
    let bench = Bench::new();
    let buckets = bench.folder.join("buckets");
    fs::create_dir_all(buckets.join("tap")).unwrap();
    let server = Server::start(&buckets, "127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", server.address());
    let objects = buckets.join("tap/a");
    kill_again_and_again(Watch::new(bench, "s3://tap/a".into(), Some(endpoint), objects));
}
