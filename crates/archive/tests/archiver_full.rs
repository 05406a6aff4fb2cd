//! A spool that is full, as the store refuses: packets are dropped and counted, by each policy, and what
//! was written is stored when the store is back.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod recording;
mod shipping;

use api::DropReason;
use archive::archiver::{ArchiverOptions, Left, SpoolBudget, SpoolPolicy};
use archive::{Archiver, Layout, Rotation};
use io::Sink;
use recording::{Rig, SECOND, sums};
use shipping::{Bench, PATIENCE, T, files, wait_for};
use std::fs;
use std::path::Path;
use std::sync::Arc;

const BYTES_MAX: u64 = 300_000;
const SEGMENT_BYTES: u64 = 20_000;

/// A recorder and an archiver that share a spool's bound.
struct Service {
    bench: Bench,
    rig: Rig,
    archiver: Archiver,
    sent: u64,
}

impl Service {
    fn start(policy: SpoolPolicy) -> Service {
        let bench = Bench::new();
        let budget = SpoolBudget::new(&bench.spool(), Some(BYTES_MAX), policy, SEGMENT_BYTES);
        let budget = Arc::new(budget.unwrap());
        let options = ArchiverOptions { budget: Arc::clone(&budget), ..bench.options() };
        let archiver = Archiver::start(options).unwrap();
        let rotation = Rotation { bytes: Some(SEGMENT_BYTES), ..Rotation::default() };
        let rig = Rig::with_budget(Layout::Spool(bench.spool()), rotation, Some(budget));
        Service { bench, rig, archiver, sent: 0 }
    }

    /// Sends some packets; the spool is never larger than its bound.
    fn send(&mut self) {
        for _ in 0..20 {
            self.rig.send(71, "10.71.2.2", T + self.sent, 500);
            self.sent += 1;
        }
        self.rig.pass(SECOND);
        self.archiver.waker().wake();
        // What is not sealed yet is no reason to refuse anything.
        wait_for("sealing", || {
            let closed = self.bench.in_spool().into_iter().filter(|file| file.ends_with(".closed"));
            closed.count() < 3
        });
        let bytes = bytes_in(&self.bench.spool());
        assert!(bytes <= BYTES_MAX, "{bytes} in the spool");
    }

    fn dropped(&self) -> u64 {
        sums(&self.rig.recorder.sources()).1.get(DropReason::SpoolFull)
    }

    /// Has the store refuse from now on, and gives what mends it.
    fn refuse(&self) -> impl FnOnce() + use<> {
        let (hour, away) =
            (self.bench.root().join("date=2026-11-27/hour=13"), self.bench.folder.join("away"));
        if hour.exists() {
            fs::rename(&hour, &away).unwrap();
        }
        fs::create_dir_all(hour.parent().unwrap()).unwrap();
        fs::write(&hour, "").unwrap();
        move || {
            fs::remove_file(&hour).unwrap();
            if away.exists() {
                fs::rename(&away, &hour).unwrap();
            }
        }
    }

    /// Ends it; what was written is stored, and what was sent is written or counted as dropped.
    fn finish(mut self) -> Bench {
        let lines = self.rig.finish();
        let (written, drops) = sums(&lines);
        assert_eq!(written + drops.get(DropReason::SpoolFull), self.sent);
        assert_eq!(drops.total(), drops.get(DropReason::SpoolFull));
        assert_eq!(self.archiver.finish(PATIENCE).unwrap(), Left::default());
        let data = self.bench.objects().into_iter().filter(|(key, _)| key.ends_with(".zst"));
        let mut numbers: Vec<u64> =
            data.flat_map(|(_, path)| shipping::numbers_of(&path)).collect();
        assert_eq!(numbers.len() as u64, written);
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len() as u64, written);
        self.bench
    }
}

fn bytes_in(folder: &Path) -> u64 {
    files(folder).iter().map(|path| path.metadata().map_or(0, |of| of.len())).sum()
}

#[test]
fn new_packets_are_dropped_while_it_is_full_and_no_longer() {
    for policy in [SpoolPolicy::DropNew, SpoolPolicy::DropOldestUploaded] {
        let mut service = Service::start(policy);
        let status = service.archiver.status();
        wait_for("some to be shipped", || {
            service.send();
            status.progress(0).shipped.segments > 3
        });
        assert_eq!(service.dropped(), 0, "{policy:?}");
        let mend = service.refuse();
        wait_for("drops", || {
            service.send();
            service.dropped() > 100
        });
        let copies = service.bench.in_spool().into_iter().filter(|f| f.ends_with(".uploaded"));
        assert_eq!(copies.count(), 0, "{policy:?}: copies go first");
        mend();
        let mut dropped = service.dropped();
        wait_for("room", || {
            service.send();
            service.dropped() == std::mem::replace(&mut dropped, service.dropped())
        });
        let bench = service.finish();
        let copies = bench.in_spool().iter().filter(|file| file.ends_with(".uploaded")).count();
        assert_eq!(copies > 0, policy == SpoolPolicy::DropOldestUploaded);
    }
}
