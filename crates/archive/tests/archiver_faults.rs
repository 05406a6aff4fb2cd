//! An archiver before an S3 server that fails in every way that a network and a store have.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod shipping;

use archive::archiver::{ArchiverOptions, Left, Step, Steps};
use archive::store::{Store, StoreOptions};
use archive::{Archiver, Location, Part, SegmentName};
use s3_server::{ACCESS_KEY, Fault, Proxy, SECRET_KEY, Server};
use shipping::*;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A server whose objects are the bench's archive, and the proxy in front of it.
struct Bucket {
    bench: Bench,
    proxy: Proxy,
    _server: Server,
}

impl Bucket {
    fn new() -> Bucket {
        let bench = Bench::new();
        // The bucket's folder is the archive's.
        fs::create_dir_all(bench.root()).unwrap();
        let server = Server::start(&bench.folder, "127.0.0.1:0").unwrap();
        let proxy = Proxy::start(server.address()).unwrap();
        Bucket { bench, proxy, _server: server }
    }

    fn options(&self, secret: &str, steps: Arc<dyn Steps>) -> ArchiverOptions {
        let options = StoreOptions::default()
            .with("aws_endpoint", format!("http://{}", self.proxy.address()))
            .with("aws_allow_http", "true")
            .with("aws_access_key_id", ACCESS_KEY)
            .with("aws_secret_access_key", secret);
        let location: Location = "s3://archive".parse().unwrap();
        let store = Store::open(&location, &options).unwrap();
        ArchiverOptions { store, steps, ..self.bench.options() }
    }

    fn start(&self) -> (Archiver, Arc<Witness>) {
        let witness = Arc::new(Witness { root: self.bench.root(), confirmed: AtomicU64::new(0) });
        let options = self.options(SECRET_KEY, witness.clone());
        (Archiver::start(options).unwrap(), witness)
    }
}

/// Looks, as soon as the archiver thinks that a segment's data are stored, whether the server has them.
struct Witness {
    root: PathBuf,
    confirmed: AtomicU64,
}

impl Steps for Witness {
    fn taken(&self, step: Step, segment: &SegmentName) -> bool {
        if step == Step::DataStored {
            let object = self.root.join(segment.key(Part::Data));
            assert_eq!(numbers_of(&object).len(), 20, "{}", object.display());
            self.confirmed.fetch_add(1, Relaxed);
        }
        true
    }
}

#[test]
fn whatever_the_store_does_nothing_is_lost_and_all_is_shipped_when_it_is_well() {
    let faults = [
        Fault::Refuse,
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(507),
        Fault::Status(403),
        Fault::Lie,
        Fault::CutRequest(100),
        Fault::CutAnswer(10),
    ];
    for fault in faults {
        let mut bucket = Bucket::new();
        bucket.proxy.fail(fault);
        let (archiver, _) = bucket.start();
        let status = archiver.status();
        (0..3).for_each(|_| drop(bucket.bench.close(20)));
        wait_for("tries that fail", || status.progress(0).retries > 1);
        let progress = status.progress(0);
        assert!(!progress.is_store_up, "{fault:?}: {progress:?}");
        assert!(!progress.trouble.unwrap().text.contains(SECRET_KEY));
        assert_eq!(progress.shipped.segments, 0, "{fault:?}");
        bucket.bench.assert_nothing_lost();
        bucket.proxy.heal();
        assert_eq!(archiver.finish(PATIENCE).unwrap(), Left::default(), "{fault:?}");
        assert!(status.progress(0).is_store_up);
        assert_eq!(bucket.bench.assert_stored_once(60), 3, "{fault:?}");
    }
}

#[test]
fn faults_at_random_cost_only_time() {
    let mut bucket = Bucket::new();
    let faults = [
        Fault::Refuse,
        Fault::Status(500),
        Fault::Lie,
        Fault::CutRequest(1000),
        Fault::CutAnswer(50),
        Fault::Delay(Duration::from_millis(20)),
    ];
    bucket.proxy.fail_at_random(7, 20, &faults);
    let (archiver, witness) = bucket.start();
    let status = archiver.status();
    (0..30).for_each(|_| drop(bucket.bench.close(20)));
    let mut closed = 30;
    wait_for("most to be shipped", || status.progress(0).shipped.segments >= 20);
    // The store's client mends some faults by itself: until one shows.
    while status.progress(0).retries == 0 && closed < 600 {
        bucket.bench.close(20);
        closed += 1;
        wait_for("all but a few", || status.progress(0).shipped.segments + 5 >= closed);
    }
    bucket.bench.assert_nothing_lost();
    bucket.proxy.heal();
    assert_eq!(archiver.finish(PATIENCE).unwrap(), Left::default());
    assert!(status.progress(0).retries > 0 && witness.confirmed.load(Relaxed) >= closed);
    assert_eq!(bucket.bench.assert_stored_once(20 * closed), closed as usize);
}

#[test]
fn a_store_that_hangs_keeps_neither_sealing_nor_the_end() {
    let mut bucket = Bucket::new();
    bucket.proxy.fail(Fault::Slow);
    let (archiver, _) = bucket.start();
    let status = archiver.status();
    (0..5).for_each(|_| drop(bucket.bench.close(20)));
    wait_for("all to be sealed", || status.progress(0).sealed.segments == 5);
    let begun = Instant::now();
    let left = archiver.finish(Duration::from_millis(200)).unwrap();
    assert_eq!((left.closed.segments, left.sealed.segments), (0, 5));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    bucket.bench.assert_nothing_lost();
}

#[test]
fn a_wrong_key_is_said_and_mended_outside() {
    let mut bucket = Bucket::new();
    bucket.bench.close(20);
    let options = bucket.options("wrong", Arc::new(archive::archiver::Onward));
    let archiver = Archiver::start(options).unwrap();
    let status = archiver.status();
    wait_for("tries that fail", || status.progress(0).retries > 1);
    let text = status.progress(0).trouble.unwrap().text;
    assert!(text.contains("check the access key"), "{text}");
    let left = archiver.finish(Duration::from_millis(200)).unwrap();
    assert_eq!(left.sealed.segments, 1);
    let (archiver, _) = bucket.start();
    assert_eq!(archiver.finish(PATIENCE).unwrap(), Left::default());
    assert_eq!(bucket.bench.assert_stored_once(20), 1);
}
