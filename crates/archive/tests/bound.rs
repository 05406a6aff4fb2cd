//! The bound on a spool: never exceeded, the oldest go first, what went is counted.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod recording;

use api::{DropReason, Removed};
use archive::archiver::{SpoolBudget, SpoolPolicy};
use archive::{Layout, Recorder, RecorderOptions, Rotation};
use io::{Interfaces, Now, Sink};
use proptest::prelude::*;
use recording::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const SOURCE: &str = "10.71.2.2";
const BOUND: u64 = 200_000;

fn bounded(folder: &Path, segment_bytes: u64) -> Rig {
    let rotation = Rotation { bytes: Some(segment_bytes), ..Rotation::default() };
    Rig::within(folder, rotation, BOUND)
}

/// Bytes of all files.
fn bytes(folder: &Path) -> u64 {
    files(folder, "").iter().map(|path| path.metadata().unwrap().len()).sum()
}

fn times(archive: &Path) -> Vec<u64> {
    let mut times: Vec<u64> =
        segments(archive).iter().flat_map(|s| s.packets.iter().map(|&(ts, _)| ts - T)).collect();
    times.sort_unstable();
    times
}

#[test]
fn the_oldest_are_removed_and_counted() {
    let folder = Folder::new();
    let mut rig = bounded(&folder.0, 10_000);
    let mut most = 0;
    for n in 0..1000 {
        rig.send(71, SOURCE, T + n, 1000);
        most = most.max(bytes(&folder.0));
    }
    let lines = rig.finish();
    let most = most.max(bytes(&folder.0));
    assert!((BOUND - 45_000..=BOUND).contains(&most), "{most} bytes at most");
    assert_eq!((lines[0].received, lines[0].written), (1000, 1000), "what went was written");
    let kept = times(&folder.0);
    let removed = rig.removed();
    assert_eq!(kept, (removed.packets..1000).collect::<Vec<_>>(), "the newest, without a gap");
    assert_eq!(removed.packets, 10 * removed.segments);
    let one = files(&folder.0, ".closed")[0].metadata().unwrap().len();
    assert_eq!(removed.bytes, removed.segments * one, "all are alike");
}

#[test]
fn what_is_there_already_counts_too() {
    let folder = Folder::new();
    let mut removed = Removed::default();
    for run in 0..4 {
        let mut rig = bounded(&folder.0, 10_000);
        for n in 0..50 {
            rig.send(71, SOURCE, T + 50 * run + n, 1000);
            assert!(bytes(&folder.0) <= BOUND);
        }
        rig.finish();
        removed.segments += rig.removed().segments;
        removed.packets += rig.removed().packets;
    }
    assert_eq!(times(&folder.0), (removed.packets..200).collect::<Vec<_>>());
    assert_eq!(removed.packets, 10 * removed.segments);
}

#[test]
fn segments_without_statistics_are_counted_by_their_packets() {
    let folder = Folder::new();
    bounded(&folder.0, 10_000).finish();
    let mut rig = bounded(&folder.0, 10_000);
    (0..10).for_each(|n| rig.send(71, SOURCE, T + n, 1000));
    rig.finish();
    let path = files(&folder.0, ".closed").remove(0);
    let whole = fs::read(&path).unwrap();
    let statistics = u32::from_le_bytes(*whole.last_chunk().unwrap()) as usize;
    fs::write(&path, &whole[..whole.len() - statistics]).unwrap();
    let mut rig = bounded(&folder.0, 10_000);
    (10..200).for_each(|n| rig.send(71, SOURCE, T + n, 1000));
    rig.finish();
    assert_eq!(times(&folder.0), (rig.removed().packets..200).collect::<Vec<_>>());
}

#[test]
fn a_lower_bound_holds_from_the_start() {
    let folder = Folder::new();
    let rotation = Rotation { bytes: Some(10_000), ..Rotation::default() };
    let mut rig = Rig::spool(&folder.0, rotation);
    for hour in 0..10 {
        (0..60).for_each(|n| rig.send(71, SOURCE, T + hour * HOUR + n, 1000));
    }
    rig.finish();
    assert!(bytes(&folder.0) > 3 * BOUND);
    let other = folder.0.join("notes.txt");
    fs::write(&other, "mine").unwrap();
    let mut rig = bounded(&folder.0, 10_000);
    let removed = rig.removed();
    assert!(bytes(&folder.0) <= BOUND);
    assert!(removed.segments > 20, "{removed:?}");
    assert!(other.exists(), "what is no segment stays");
    rig.send(71, SOURCE, T + HOUR, 1000);
    rig.finish();
}

#[test]
fn many_open_segments_stay_within_it_too() {
    let folder = Folder::new();
    let mut rig = bounded(&folder.0, 40_000);
    for n in 0..300 {
        rig.send(n as u32 % 30, SOURCE, T + n, 1000);
        rig.pass(SECOND);
        assert!(bytes(&folder.0) <= BOUND, "{} bytes after {n}", bytes(&folder.0));
    }
    let lines = rig.finish();
    let (written, drops) = sums(&lines);
    assert_eq!((written, drops.total()), (300, 0));
}

#[test]
fn a_large_packet_that_begins_a_segment_stays_within_it_too() {
    for len in (30_000..40_000).step_by(100) {
        let folder = Folder::new();
        let second = Some(Duration::from_secs(1));
        let rotation = Rotation { bytes: Some(40_000), time: second, ..Rotation::default() };
        let mut rig = Rig::within(&folder.0, rotation, BOUND);
        rig.send(71, SOURCE, T, len);
        rig.pass(SECOND);
        assert_eq!(segments(&folder.0).len(), 1, "nothing is open");
        rig.send(71, SOURCE, T + 1, 60_000);
        let (written, drops) = sums(&rig.finish());
        assert_eq!((written, drops.total()), (2, 0));
        assert!(bytes(&folder.0) <= BOUND, "{} bytes after {len}", bytes(&folder.0));
    }
}

/// Leaves 50 packets in segments; gives the paths of these, the oldest first.
fn some_segments(archive: &Path) -> Vec<PathBuf> {
    let mut rig = bounded(archive, 10_000);
    (0..50).for_each(|n| rig.send(71, SOURCE, T + n, 1000));
    rig.finish();
    files(archive, ".closed")
}

#[test]
fn what_has_a_segment_s_name_and_is_none_is_neither_counted_nor_touched() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let oldest = some_segments(&folder.0).remove(0);
    let outside = elsewhere.0.join("kept.pcapng");
    fs::copy(&oldest, &outside).unwrap();
    fs::remove_file(&oldest).unwrap();
    std::os::unix::fs::symlink(&outside, &oldest).unwrap();
    let pipe =
        PathBuf::from(oldest.to_string_lossy().replace("20261127T131415", "20261127T131414"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // More than the bound, so that all that may go goes.
    let mut rig = bounded(&folder.0, 10_000);
    (50..250).for_each(|n| rig.send(71, SOURCE, T + n, 1000));
    rig.finish();
    assert!(oldest.is_symlink() && outside.exists() && pipe.exists());
    fs::remove_file(&oldest).unwrap();
    fs::remove_file(&pipe).unwrap();
    // The ten of the segment that went elsewhere were not removed by the bound.
    assert_eq!(times(&folder.0), (10 + rig.removed().packets..250).collect::<Vec<_>>());
}

#[test]
fn a_bound_below_two_segments_is_refused() {
    let folder = Folder::new();
    let refused = |bytes| {
        let rotation = Rotation { bytes: Some(bytes), ..Rotation::default() };
        let layout = Layout::Spool(folder.0.clone());
        let budget = SpoolBudget::new(&folder.0, None, SpoolPolicy::DropNew, bytes).unwrap();
        let budget = Some(Arc::new(budget.within(BOUND, 0)));
        let (unbuffered, first, waker) = (false, None, None);
        let options = RecorderOptions { layout, rotation, unbuffered, first, budget, waker };
        Recorder::new(options, &Interfaces::default(), Now::read()).err().map(|e| e.to_string())
    };
    assert_eq!(refused(55_000), None);
    let message = refused(60_000).expect("what it is sealed into does not fit");
    assert!(message.contains("within 200000 bytes: two segments"), "{message}");
    assert!(message.contains("; raise the bound"), "{message}");
    fs::create_dir_all(folder.0.join("damaged")).unwrap();
    fs::write(folder.0.join("damaged/x"), vec![0; 20_000]).unwrap();
    assert!(refused(55_000).expect("damaged ones stay").contains("20000 are damaged"));
}

#[test]
fn where_nothing_can_be_removed_packets_are_dropped_until_it_can() {
    let folder = Folder::new();
    let mut rig = bounded(&folder.0, 10_000);
    (0..80).for_each(|n| rig.send(71, SOURCE, T + n, 1000));
    // A folder in the place of the oldest segment cannot be removed as a file.
    let oldest = files(&folder.0, ".closed").remove(0);
    let aside = folder.0.join("aside");
    fs::rename(&oldest, &aside).unwrap();
    fs::create_dir(&oldest).unwrap();
    (80..300).for_each(|n| rig.send(71, SOURCE, T + n, 1000));
    rig.pass(SECOND);
    let dropped = rig.recorder.counters().drops.get(DropReason::DiskFull);
    assert!(dropped > 90, "{dropped}");
    assert_eq!(rig.recorder.status().disk(), archive::DiskState::Full);
    assert!(bytes(&folder.0) <= BOUND);
    fs::remove_dir(&oldest).unwrap();
    fs::rename(&aside, &oldest).unwrap();
    // No packet has to come for it to be noticed.
    rig.pass(SECOND);
    rig.pass(SECOND);
    assert_eq!(rig.recorder.status().disk(), archive::DiskState::Ok);
    (300..310).for_each(|n| rig.send(71, SOURCE, T + n, 1000));
    let lines = rig.finish();
    assert_eq!(lines[0].drops.total(), dropped);
    let kept = times(&folder.0);
    assert_eq!(kept[kept.len() - 10..], (300..310).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn it_is_never_exceeded(
        steps in prop::collection::vec((0..6u32, 0..4000usize, 0..4u64, 0..7200u64), 0..300),
        segment_bytes in 2_000..45_000u64,
    ) {
        let folder = Folder::new();
        let mut rig = bounded(&folder.0, segment_bytes);
        for (number, &(sender, len, seconds, late_s)) in (0..).zip(&steps) {
            rig.send(sender, SOURCE, T - late_s * SECOND + number, len);
            rig.pass(seconds * SECOND);
            prop_assert!(bytes(&folder.0) <= BOUND);
        }
        let (written, drops) = sums(&rig.finish());
        prop_assert!(bytes(&folder.0) <= BOUND);
        prop_assert_eq!((written, drops.total()), (steps.len() as u64, 0));
        let kept: u64 = segments(&folder.0).iter().map(|s| s.packets.len() as u64).sum();
        prop_assert_eq!(kept + rig.removed().packets, written);
    }
}
