//! `tapline receive` on disks that are full, cannot be written to, or may only be filled so far.

mod over_loopback;

use api::DropReason;
use over_loopback::*;
use rig::{Scratch, Tmpfs, root_or_skip, tool_or_skip, wait_until};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Packets in files, as tshark reads them.
fn read_by_tshark(files: &[PathBuf]) -> u64 {
    files.iter().map(|file| rig::rows(file, &[], &["frame.number"]).len() as u64).sum()
}

/// The files of a recording: an archive's segments, open or closed, or the one file.
fn recorded(place: &Path) -> Vec<PathBuf> {
    match place.is_dir() {
        true => [segments(place), files(place, ".pcapng.open")].concat(),
        false => vec![place.into()],
    }
}

#[test]
fn a_disk_that_fills_up_costs_what_does_not_fit_and_no_more() {
    if !tool_or_skip("tshark") {
        return;
    }
    for (option, name) in [("--archive", "archive"), ("-w", "x.pcapng")] {
        let Some(disk) = Tmpfs::new(200_000, "") else { return };
        let scratch = Scratch::new("receive-full");
        let place = disk.path().join(name);
        let old = disk.path().join("old.bin");
        fs::write(&old, vec![1; 80_000]).unwrap();
        let port = free_port();
        let words = [option, text(&place)];
        let receiver = Receiver::start(port, &scratch.path("ledger.json"), &words);
        let mut sender = Sender::new(port);
        // More than there is room for, over some flushes.
        for _ in 0..30 {
            sender.send(20, 500);
            std::thread::sleep(Duration::from_millis(50));
        }
        wait_until("all are written or dropped", SOON, || {
            let ledger = receiver.ledger();
            ledger.received == 600 && ledger.written + ledger.drops.total() == 600
        });
        let full = receiver.ledger();
        assert!(full.written > 100, "{full}");
        assert!(full.drops.get(DropReason::DiskFull) > 200, "{full}");
        assert_eq!(full.drops.total(), full.drops.get(DropReason::DiskFull), "{full}");
        assert_eq!(read_by_tshark(&recorded(&place)), full.written, "while it is full");

        fs::remove_file(&old).unwrap();
        // It may have to look for room, once a second.
        std::thread::sleep(Duration::from_millis(1200));
        let first = sender.next;
        for _ in 0..10 {
            sender.send(10, 300);
            std::thread::sleep(Duration::from_millis(20));
        }
        receiver.wait_for_received(700);
        let (ledger, said) = receiver.stop();
        assert_eq!((ledger.received, ledger.written), (700, full.written + 100), "{said}");
        let dropped = format!("(disk_full {})", full.drops.total());
        assert!(said.contains(&dropped), "{said}");
        assert!(said.contains("No space left on device"), "{said}");
        assert!(said.contains("can be written again"), "{said}");
        assert_eq!(read_by_tshark(&recorded(&place)), ledger.written);
        let numbers = numbers_in_whole(&recorded(&place));
        assert_eq!(numbers[numbers.len() - 100..], (first..700).collect::<Vec<_>>());
    }
}

#[test]
fn a_disk_that_is_full_at_the_start_is_an_error_for_a_file_and_waited_for_by_an_archive() {
    let Some(disk) = Tmpfs::new(200_000, "") else { return };
    let scratch = Scratch::new("receive-full-start");
    let ledger = scratch.path("ledger.json");
    let filler = disk.fill("filler");
    let (port, file) = (free_port(), disk.path().join("x.pcapng"));
    let (code, said) = Receiver::launch(port, &ledger, &["-w", text(&file)]).refused();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("No space left on device") && said.contains("make room"), "{said}");
    assert!(!file.exists(), "what is no capture is not left behind");

    let archive = disk.path().join("archive");
    let receiver = Receiver::start(port, &ledger, &["--archive", text(&archive)]);
    let mut sender = Sender::new(port);
    sender.send(50, 300);
    receiver.wait_for_received(50);
    assert_eq!(receiver.ledger().drops.get(DropReason::DiskFull), 50);
    fs::remove_file(filler).unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    sender.send(50, 300);
    receiver.wait_for_received(100);
    let (ledger, _) = receiver.stop();
    assert_eq!(ledger.written, 50);
    assert_eq!(numbers_in_whole(&segments(&archive)), (50..100).collect::<Vec<_>>());
    assert_eq!(files(&archive, ".open"), Vec::<PathBuf>::new());
}

#[test]
fn a_disk_that_stays_full_to_the_end_leaves_a_whole_file() {
    let Some(disk) = Tmpfs::new(100_000, "") else { return };
    let scratch = Scratch::new("receive-full-end");
    let archive = disk.path().join("archive");
    let port = free_port();
    let words = ["--archive", text(&archive)];
    let receiver = Receiver::start(port, &scratch.path("ledger.json"), &words);
    let mut sender = Sender::new(port);
    sender.send(10, 300);
    wait_until("the first are written", SOON, || receiver.ledger().written == 10);
    disk.fill("filler");
    sender.send(200, 300);
    receiver.wait_for_received(210);
    let (ledger, said) = receiver.stop();
    // A few may still fit into the last page.
    assert!(ledger.written < 30, "{said}");
    assert_eq!(ledger.drops.total(), ledger.drops.get(DropReason::DiskFull), "{said}");
    assert_eq!(numbers_in_whole(&recorded(&archive)).len() as u64, ledger.written);
}

#[test]
fn a_place_that_cannot_be_written_to_is_an_error_at_the_start() {
    let scratch = Scratch::new("receive-refused");
    let (port, ledger) = (free_port(), scratch.path("ledger.json"));
    let refused = |command: Command, place: &Path| {
        for (option, name) in [("--archive", "archive"), ("-w", "x.pcapng")] {
            let command = {
                let mut copy = Command::new(command.get_program());
                copy.args(command.get_args());
                copy
            };
            let place = place.join(name);
            let words = [option, text(&place)];
            let (code, said) = Receiver::launch_by(command, port, &ledger, &words).refused();
            assert_eq!(code, 1, "{said}");
            assert!(said.contains(text(&place)), "{said}");
            assert!(said.contains("that you may write to"), "{said}");
        }
    };
    let file = scratch.path("file");
    fs::write(&file, "").unwrap();
    refused(Command::new(BINARY), &file);
    if let Some(disk) = Tmpfs::new(100_000, "ro") {
        refused(Command::new(BINARY), &disk.path());
    }
    if root_or_skip() && tool_or_skip("setpriv") {
        // Root may write anywhere: as somebody else.
        let folder = scratch.path("locked");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
        let open_to_all = fs::Permissions::from_mode(0o777);
        fs::set_permissions(scratch.folder(), open_to_all).unwrap();
        let binary = scratch.path("tapline");
        fs::copy(BINARY, &binary).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", text(&binary)]);
        refused(command, &folder);
    }
}

#[test]
fn a_bounded_archive_stays_within_its_bound_over_restarts() {
    const BOUND: u64 = 1_000_000;
    let scratch = Scratch::new("receive-bound");
    let (archive, ledger) = (scratch.path("archive"), scratch.path("ledger.json"));
    let port = free_port();
    let words = ["--archive", text(&archive), "--max-bytes", "1MB"];
    let bytes = || -> u64 {
        // One that is removed or moved meanwhile is counted at its next place, or not at all; one that
        // stands in two places is there once. The manifest is no segment.
        let paths = files(&archive, "").into_iter();
        let paths = paths.filter(|path| !text(path).contains("/manifest/"));
        let lengths: BTreeMap<u64, u64> =
            paths.filter_map(|path| path.metadata().ok()).map(|of| (of.ino(), of.len())).collect();
        lengths.into_values().sum()
    };
    let mut sender = Sender::new(port);
    sender.is_noise = true;
    let (mut removed_packets, mut killed) = (0, 0);
    for round in 0..4 {
        let receiver = Receiver::start(port, &ledger, &words);
        let mut most = 0;
        for part in 1..=40 {
            sender.send(60, 1000);
            most = most.max(bytes());
            // Of what comes faster than it can be stored, some has to make room before it is.
            receiver.wait_for_received(60 * part);
            let waiting = |ending: &str| files(&archive, ending).len();
            let is_stored = || waiting(".closed") + waiting(".zst.sealed") == 0;
            wait_until("it is stored", SOON, is_stored);
        }
        receiver.wait_for_received(2400);
        most = most.max(bytes());
        assert!(most <= BOUND, "{most} bytes in round {round}");
        if round == 1 {
            removed_packets += receiver.ledger().removed.expect("it is bounded").packets;
            killed = sender.next;
            receiver.kill();
            continue;
        }
        let (ledger, said) = receiver.stop();
        assert_eq!((ledger.written, ledger.drops.total()), (2400, 0), "{said}");
        let removed = ledger.removed.expect("it is bounded");
        let line = format!("removed the oldest {} segments", removed.segments);
        assert!(removed.segments > 2 && said.contains(&line), "{said}");
        assert!(!line.contains("unaccounted"));
        assert!(bytes() <= BOUND, "{} bytes after round {round}", bytes());
        removed_packets += removed.packets;
    }
    let mut numbers = numbers_in_whole(&segments(&archive));
    numbers.sort_unstable();
    let kept = numbers.len() as u64;
    assert!(kept > 200, "{kept}");
    // Without a gap to the newest; the killed one's unflushed tail is older than that.
    let first = sender.next - kept;
    assert!(first > killed, "{first}");
    assert_eq!(numbers, (first..sender.next).collect::<Vec<_>>());
    let lost = first.saturating_sub(removed_packets);
    assert!(lost < 2400, "the rest of {first} was removed, but for {lost} that the kill cost");

    let words = ["--archive", text(&archive), "--max-bytes", "1MB", "-C", "400kB"];
    let (code, said) = Receiver::launch(port, &ledger, &words).refused();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("two segments") && said.contains("raise the bound"), "{said}");
}
