//! A store that refuses for a while, under load: nothing is lost, what waited is shipped when it is
//! back, and the ledger says so.
//!
//! `OUTAGE_S=600` sets how long it refuses, seconds.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod recording;
mod shipping;

use archive::archiver::{ArchiverOptions, Left};
use archive::store::{Store, StoreOptions};
use archive::{Archiver, Layout, Location, Rotation};
use recording::{Rig, sums};
use s3_server::{ACCESS_KEY, Fault, Proxy, SECRET_KEY, Server};
use shipping::{Bench, PATIENCE, T, wait_for};
use std::fs;
use std::time::{Duration, Instant};

/// Packets of a batch, and the pause after it.
const BATCH: u64 = 20;
const PAUSE: Duration = Duration::from_millis(20);

#[test]
fn a_store_that_is_away_for_a_while_costs_nothing() {
    let outage = std::env::var("OUTAGE_S").map_or(2, |text| text.parse().unwrap());
    let outage = Duration::from_secs(outage);
    let bench = Bench::new();
    fs::create_dir_all(bench.root()).unwrap();
    let server = Server::start(&bench.folder, "127.0.0.1:0").unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let options = StoreOptions::default()
        .with("aws_endpoint", format!("http://{}", proxy.address()))
        .with("aws_allow_http", "true")
        .with("aws_access_key_id", ACCESS_KEY)
        .with("aws_secret_access_key", SECRET_KEY);
    let location: Location = "s3://archive".parse().unwrap();
    let store = Store::open(&location, &options).unwrap();
    let archiver = Archiver::start(ArchiverOptions { store, ..bench.options() }).unwrap();
    let (status, waker) = (archiver.status(), archiver.waker());

    let rotation = Rotation { bytes: Some(20_000), ..Rotation::default() };
    let mut rig = Rig::new(Layout::Spool(bench.spool()), rotation);
    let mut sent = 0;
    let mut load = |rig: &mut Rig| {
        for number in sent..sent + BATCH {
            rig.send(71, "10.71.2.2", T + number, 100);
        }
        sent += BATCH;
        rig.pass(PAUSE.as_nanos() as u64);
        waker.wake();
        std::thread::sleep(PAUSE);
        sent
    };
    wait_for("the first segment", || {
        load(&mut rig);
        status.progress(0).shipped.segments > 0
    });
    proxy.fail(Fault::Refuse);
    let begun = Instant::now();
    wait_for("the trouble", || {
        load(&mut rig);
        !status.progress(0).is_store_up
    });
    let shipped = status.progress(0).shipped.segments;
    while begun.elapsed() < outage {
        load(&mut rig);
    }
    let progress = status.progress(u64::MAX);
    assert!(!progress.is_store_up && progress.backlog_ns > 0, "{progress:?}");
    assert_eq!(progress.shipped.segments, shipped);
    let waited = progress.sealed;
    assert!(waited.segments > 0, "{progress:?}");
    proxy.heal();
    // The longer it was away, the more there is to ship.
    let back = Instant::now();
    loop {
        load(&mut rig);
        let progress = status.progress(0);
        if progress.is_store_up && progress.sealed.segments + progress.closed.segments < 5 {
            break;
        }
        assert!(back.elapsed() < PATIENCE + 2 * outage, "not drained: {progress:?}");
    }
    let took = back.elapsed();
    let sent = load(&mut rig);
    let (written, drops) = sums(&rig.finish());
    assert_eq!((written, drops.total()), (sent, 0));
    assert_eq!(archiver.finish(PATIENCE).unwrap(), Left::default());
    let segments = bench.assert_stored_once(sent);
    println!(
        "away for {outage:?}: {waited:?} waited, {} retries; drained in {took:?}; {segments} segments \
         with all of {sent} packets are stored",
        status.progress(0).retries
    );
}
