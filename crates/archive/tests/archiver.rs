//! What an archiver does with what it finds in a spool, and with a store that refuses.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod shipping;

use archive::archiver::{Left, Onward, SpoolPolicy, drain};
use archive::expire::Rules;
use archive::{Archiver, Part, SpoolState};
use shipping::*;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

fn ship_all(bench: &Bench) {
    assert_eq!(drain(bench.options(), PATIENCE).unwrap(), Left::default());
}

#[test]
fn what_is_closed_is_stored_once_and_gone_here() {
    let mut bench = Bench::new();
    (1..40).for_each(|packets| drop(bench.close(packets)));
    ship_all(&bench);
    assert_eq!(bench.assert_stored_once(bench.recorded()), 39);
    assert_eq!(bench.in_spool(), [""; 0]);
}

#[test]
fn segments_that_come_while_it_works_are_shipped_when_it_is_woken() {
    let mut bench = Bench::new();
    let archiver = Archiver::start(bench.options()).unwrap();
    let (status, waker) = (archiver.status(), archiver.waker());
    for segments in 1..=5 {
        bench.close(10);
        waker.wake();
        wait_for("the segment", || status.progress(0).shipped.segments == segments);
    }
    assert_eq!(archiver.finish(PATIENCE).unwrap(), Left::default());
    let progress = status.progress(0);
    assert_eq!((progress.shipped_packets, progress.retries), (50, 0));
    assert_eq!((progress.backlog_ns, progress.trouble), (0, None));
    let bytes: u64 = bench
        .objects()
        .iter()
        .filter(|(key, _)| !key.starts_with("manifest"))
        .map(|(_, path)| path.metadata().unwrap().len())
        .sum();
    assert_eq!(progress.shipped.bytes, bytes);
    bench.assert_stored_once(50);
}

#[test]
fn whatever_a_crash_leaves_is_taken_up() {
    let mut bench = Bench::new();
    // Sealed files, as another archiver made them.
    let whole = bench.close(5);
    let without_index = bench.close(5);
    let beside_closed = bench.close(5);
    let spool = bench.spool();
    let options = archive::seal::SealOptions::default();
    for name in [&whole, &without_index, &beside_closed] {
        let closed = spool.join(name.spool_file(Part::Plain, SpoolState::Closed));
        let sealed = archive::seal::seal(&closed, name, &spool, &options).unwrap();
        if name == &without_index {
            fs::remove_file(sealed.index).unwrap();
        }
        if name != &beside_closed {
            fs::remove_file(closed).unwrap();
        }
    }
    // A sealing that was cut short, in each of its files.
    let cut_short = bench.close(5);
    for part in [Part::Data, Part::Index] {
        let part = cut_short.spool_file(part, SpoolState::Sealed) + ".part";
        fs::write(spool.join(part), "half of it").unwrap();
    }
    ship_all(&bench);
    assert_eq!(bench.assert_stored_once(20), 4);
    assert_eq!(bench.in_spool(), [""; 0]);
}

#[test]
fn local_copies_of_an_earlier_process_go_as_the_policy_says() {
    let mut bench = Bench::new();
    bench.close(5);
    let keep =
        || bench.options_with(Some(1 << 20), SpoolPolicy::DropOldestUploaded, Arc::new(Onward));
    assert_eq!(drain(keep(), PATIENCE).unwrap(), Left::default());
    assert_eq!(bench.in_spool().len(), 1);
    assert_eq!(drain(keep(), PATIENCE).unwrap(), Left::default());
    assert_eq!(bench.in_spool().len(), 1);
    ship_all(&bench);
    assert_eq!(bench.in_spool(), [""; 0]);
    assert_eq!(bench.assert_stored_once(5), 1);
}

#[test]
fn what_cannot_be_read_is_moved_aside_and_keeps_nothing_else() {
    let mut bench = Bench::new();
    let spool = bench.spool();
    let closed = bench.close(5).spool_file(Part::Plain, SpoolState::Closed);
    let name = bench.close(5);
    let sealed = name.spool_file(Part::Data, SpoolState::Sealed);
    fs::remove_file(spool.join(name.spool_file(Part::Plain, SpoolState::Closed))).unwrap();
    for file in [&closed, &sealed] {
        fs::write(spool.join(file), [b'?'; 5000]).unwrap();
    }
    bench.close(5);
    let archiver = Archiver::start(bench.options()).unwrap();
    let status = archiver.status();
    assert_eq!(archiver.finish(PATIENCE).unwrap(), Left::default());
    assert_eq!(status.progress(0).damaged, 2);
    for file in [closed, sealed] {
        assert_eq!(fs::read(spool.join("damaged").join(file)).unwrap(), [b'?'; 5000]);
    }
    assert_eq!(bench.objects().keys().filter(|key| key.ends_with(".zst")).count(), 1);
}

#[test]
fn a_tail_that_was_cut_costs_no_packet_before_it() {
    let mut bench = Bench::new();
    let closed = bench.close(5);
    let path = bench.spool().join(closed.spool_file(Part::Plain, SpoolState::Closed));
    let bytes = path.metadata().unwrap().len();
    File::options().write(true).open(&path).unwrap().set_len(bytes - 7).unwrap();
    ship_all(&bench);
    assert_eq!(bench.assert_stored_once(5), 1);
}

#[test]
fn zeros_of_a_loss_of_power_cost_no_packet_before_them() {
    let mut bench = Bench::new();
    for zeros in [3, 100_000] {
        let closed = bench.close(5);
        let path = bench.spool().join(closed.spool_file(Part::Plain, SpoolState::Closed));
        let bytes = path.metadata().unwrap().len();
        File::options().write(true).open(&path).unwrap().set_len(bytes + zeros).unwrap();
    }
    ship_all(&bench);
    assert_eq!(bench.assert_stored_once(10), 2);
}

#[test]
fn an_index_that_somebody_removed_is_made_again() {
    let mut bench = Bench::new();
    let options = bench.options();
    let hour = bench.root().join("date=2026-11-27/hour=13");
    fs::create_dir_all(hour.parent().unwrap()).unwrap();
    fs::write(&hour, "").unwrap();
    let name = bench.close(5);
    let archiver = Archiver::start(options).unwrap();
    let status = archiver.status();
    wait_for("a try", || status.progress(0).retries > 0);
    let index = bench.spool().join(name.spool_file(Part::Index, SpoolState::Sealed));
    fs::remove_file(index).unwrap();
    fs::remove_file(hour).unwrap();
    wait_for("the segment", || status.progress(0).shipped.segments == 1);
    archiver.finish(PATIENCE).unwrap();
    assert_eq!(bench.assert_stored_once(5), 1);
}

#[test]
fn what_is_no_segment_is_left_alone() {
    let mut bench = Bench::new();
    let name = bench.close(5);
    let spool = bench.spool();
    let outside = bench.folder.join("outside");
    fs::write(&outside, capture(0, 5)).unwrap();
    let mut link = name.clone();
    link.source = "link".into();
    let link = spool.join(link.spool_file(Part::Plain, SpoolState::Closed));
    symlink(&outside, &link).unwrap();
    for name in ["notes.closed", "x.pcapng.zst.sealed", "a.part", "manifest"] {
        fs::write(spool.join(name), "mine").unwrap();
    }
    ship_all(&bench);
    assert!(link.is_symlink() && outside.exists());
    for name in ["notes.closed", "x.pcapng.zst.sealed", "a.part", "manifest"] {
        assert_eq!(fs::read(spool.join(name)).unwrap(), b"mine", "{name}");
    }
    assert_eq!(bench.assert_stored_once(5), 1);
}

#[test]
fn plain_segments_of_an_archive_are_sealed() {
    let mut bench = Bench::new();
    (1..=3).for_each(|packets| drop(bench.store_plain(packets)));
    bench.close(4);
    let archiver = Archiver::start(bench.options()).unwrap();
    let status = archiver.status();
    wait_for("all to be shipped", || status.progress(0).shipped.segments == 4);
    assert_eq!(archiver.finish(PATIENCE).unwrap(), Left::default());
    assert_eq!(bench.assert_stored_once(10), 4);
}

#[test]
fn a_store_that_refuses_costs_nothing_and_what_waited_is_shipped_when_it_is_back() {
    let mut bench = Bench::new();
    let archiver = Archiver::start(bench.options()).unwrap();
    let status = archiver.status();
    bench.close(5);
    wait_for("the first", || status.progress(0).shipped.segments == 1);
    // A file stands where a folder must be.
    let hour = bench.root().join("date=2026-11-27/hour=13");
    let away = bench.folder.join("away");
    fs::rename(&hour, &away).unwrap();
    fs::write(&hour, "").unwrap();
    (0..10).for_each(|_| drop(bench.close(5)));
    wait_for("a few tries", || status.progress(0).retries > 2);
    wait_for("all to be sealed", || status.progress(0).sealed.segments == 10);
    let progress = status.progress(u64::MAX);
    assert!(!progress.is_store_up && progress.backlog_ns > 0, "{progress:?}");
    let text = progress.trouble.unwrap().text;
    assert!(text.contains("date=2026-11-27/hour=13"), "{text}");
    bench.assert_nothing_lost_beside(&away);
    fs::remove_file(&hour).unwrap();
    fs::rename(&away, &hour).unwrap();
    wait_for("all to be shipped", || status.progress(0).shipped.segments == 11);
    assert_eq!(archiver.finish(PATIENCE).unwrap(), Left::default());
    let progress = status.progress(u64::MAX);
    assert!(progress.is_store_up && progress.trouble.is_none(), "{progress:?}");
    assert_eq!(bench.assert_stored_once(55), 11);
}

#[test]
fn a_hold_that_cannot_be_read_keeps_nothing_from_being_shipped() {
    let mut bench = Bench::new();
    (1..5).for_each(|packets| drop(bench.close(packets)));
    let hold = bench.root().join("holds/case.json");
    fs::create_dir_all(hold.parent().unwrap()).unwrap();
    fs::write(&hold, "{").unwrap();
    let rules = Rules { older_than: Some(Duration::from_secs(1)), ..Rules::default() };
    let mut options = bench.options();
    options.rules = rules;
    assert_eq!(drain(options, PATIENCE).unwrap(), Left::default());
    fs::remove_file(&hold).unwrap();
    assert_eq!(bench.assert_stored_once(bench.recorded()), 4, "none was removed either");
}

#[test]
fn what_is_not_shipped_in_time_stays_and_is_said() {
    let mut bench = Bench::new();
    bench.close(5);
    let options = bench.options();
    fs::create_dir_all(bench.root().join("date=2026-11-27")).unwrap();
    fs::write(bench.root().join("date=2026-11-27/hour=13"), "").unwrap();
    let archiver = Archiver::start(options).unwrap();
    let status = archiver.status();
    wait_for("a try", || status.progress(0).retries > 0);
    let left = archiver.finish(Duration::from_millis(300)).unwrap();
    assert_eq!((left.closed.segments, left.sealed.segments), (0, 1));
    bench.assert_nothing_lost();
}

#[test]
fn one_archiver_has_a_spool_and_the_next_takes_over() {
    let mut bench = Bench::new();
    let first = Archiver::start(bench.options()).unwrap();
    let second = Archiver::start(bench.options()).unwrap();
    let (of_first, of_second) = (first.status(), second.status());
    bench.close(5);
    wait_for("the first to ship", || of_first.progress(0).shipped.segments == 1);
    assert!(!of_second.progress(0).is_in_charge);
    first.finish(PATIENCE).unwrap();
    bench.close(5);
    wait_for("the second to ship", || of_second.progress(0).shipped.segments == 1);
    second.finish(PATIENCE).unwrap();
    assert_eq!(bench.assert_stored_once(10), 2);
    // One chain goes on through both.
    let chains: Vec<_> = bench.objects().into_keys().filter(|key| key.starts_with("man")).collect();
    assert_eq!(chains.len(), 1);
}

#[test]
fn a_spool_that_cannot_be_written_to_is_an_error_at_once() {
    let bench = Bench::new();
    let mut options = bench.options();
    options.spool = "/proc/tapline".into();
    let message = Archiver::start(options).err().unwrap().to_string();
    assert!(message.contains("make the spool /proc/tapline"), "{message}");
}
