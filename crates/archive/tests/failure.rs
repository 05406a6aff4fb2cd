//! Places that cannot be written to, or no longer: what is lost is counted, what is left is whole.

mod recording;

use api::DropReason;
use archive::{
    DiskState, Layout, Part, Recorder, RecorderOptions, Rotation, SegmentName, SpoolState,
};
use io::{Interfaces, Now, Sink, Upstream};
use recording::*;
use rig::Tmpfs;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOURCE: &str = "10.71.2.2";

fn refused(layout: Layout) -> String {
    let rotation = Rotation::default();
    let options = RecorderOptions {
        layout,
        rotation,
        unbuffered: false,
        first: None,
        budget: None,
        waker: None,
    };
    let refused = Recorder::new(options, &Interfaces::default(), Now::read()).err();
    refused.expect("the place cannot be written to").to_string()
}

#[test]
fn a_place_that_cannot_be_written_to_is_an_error_at_the_start() {
    let folder = Folder::new();
    let file = folder.0.join("file");
    fs::write(&file, "in the way").unwrap();
    let message = refused(Layout::Spool(file.join("archive")));
    assert!(message.contains("file/archive"), "{message}");
    assert!(message.contains("choose a folder that you may write to"), "{message}");
    for path in [folder.0.join("none/x.pcapng"), folder.0.clone()] {
        let message = refused(Layout::File(path.clone()));
        assert!(message.contains(&path.display().to_string()), "{message}");
        assert!(message.contains("; choose a folder that exists"), "{message}");
    }
}

#[test]
fn an_archive_that_cannot_be_written_to_is_an_error_at_the_start_though_its_folders_are_there() {
    let Some(disk) = Tmpfs::new(512 << 10, "") else { return };
    let archive = disk.path().join("archive");
    Rig::spool(&archive, Rotation::default()).finish();
    disk.remount("ro");
    let message = refused(Layout::Spool(archive.clone()));
    assert!(message.contains("archive: Read-only file system"), "{message}");
    assert!(message.contains("choose a folder that you may write to"), "{message}");
    disk.remount("rw");
    Rig::spool(&archive, Rotation::default()).finish();
}

#[test]
fn an_archive_on_a_disk_that_is_full_is_known_to_be_so_from_the_start() {
    let Some(disk) = Tmpfs::new(512 << 10, "") else { return };
    let archive = disk.path().join("archive");
    Rig::spool(&archive, Rotation::default()).finish();
    let filler = disk.fill("filler");
    let mut rig = Rig::spool(&archive, Rotation::default());
    let status = rig.recorder.status();
    assert_eq!(status.disk(), DiskState::Full);
    rig.pass(SECOND);
    assert_eq!(status.disk(), DiskState::Full);
    fs::remove_file(filler).unwrap();
    rig.pass(SECOND);
    rig.pass(SECOND);
    assert_eq!(status.disk(), DiskState::Ok);
    rig.send(71, SOURCE, T, 1000);
    assert_eq!(sums(&rig.finish()).0, 1);
}

#[test]
fn looking_for_room_follows_no_link_and_harms_no_file() {
    let Some(disk) = Tmpfs::new(512 << 10, "") else { return };
    let precious = disk.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    let trap = disk.path().join(format!(".room-{}", std::process::id()));
    std::os::unix::fs::symlink(&precious, &trap).unwrap();
    let mut rig = Rig::new(Layout::File(disk.path().join("x.pcapng")), Rotation::default());
    let status = rig.recorder.status();
    let filler = disk.fill("filler");
    (0..300).for_each(|n| rig.send(71, SOURCE, T + n, 1000));
    rig.pass(SECOND);
    rig.pass(SECOND);
    assert_eq!(status.disk(), DiskState::Full);
    fs::remove_file(filler).unwrap();
    rig.pass(SECOND);
    rig.pass(SECOND);
    assert_eq!(status.disk(), DiskState::Ok);
    assert!(fs::read(&precious).unwrap() == b"precious" && trap.is_symlink());
    rig.finish();
}

#[test]
fn a_folder_that_is_removed_while_recording_costs_what_was_in_it_and_no_more() {
    let folder = Folder::new();
    let archive = folder.0.join("archive");
    let rotation = Rotation { time: Some(Duration::from_secs(10)), ..Rotation::default() };
    let mut rig = Rig::spool(&archive, rotation);
    rig.send(71, SOURCE, T, 60);
    fs::remove_dir_all(&archive).unwrap();
    rig.send(71, SOURCE, T + 1, 60);
    // The segment is closed and has no name any more.
    rig.pass(11 * SECOND);
    rig.send(71, SOURCE, T + 2, 60);
    rig.send(71, SOURCE, T + 3, 60);
    // What cannot be opened is tried again after a second.
    rig.pass(SECOND);
    fs::create_dir_all(&archive).unwrap();
    rig.send(71, SOURCE, T + 4, 60);
    let error = rig.recorder.finish(&Upstream::default()).expect_err("packets were lost on disk");
    assert!(error.to_string().contains("archive"), "{error}");

    let lines = rig.lines();
    let (written, drops) = sums(&lines);
    assert_eq!(lines[0].received, 5);
    let on_disk: Vec<u64> =
        segments(&archive).iter().flat_map(|s| s.packets.iter().map(|&(t, _)| t)).collect();
    assert_eq!(on_disk, [T + 4]);
    assert_eq!(written, 1, "what is not on the disk was not written");
    assert_eq!(drops.get(DropReason::WriteError), 4);
}

#[test]
fn a_full_disk_is_counted_the_file_stays_whole_and_recording_resumes() {
    let Some(disk) = Tmpfs::new(512 << 10, "") else { return };
    let root = disk.path();
    let archive = root.join("archive");
    let mut rig = Rig::spool(&archive, Rotation::default());
    let record = |rig: &mut Rig, times: std::ops::Range<u64>| {
        for n in times {
            rig.send(71, SOURCE, T + n, 1000);
        }
        rig.pass(SECOND);
    };
    record(&mut rig, 0..10);
    disk.fill("filler");
    record(&mut rig, 10..500);
    let full = rig.recorder.counters();
    assert!(full.drops.get(DropReason::DiskFull) > 400, "{full:?}");
    let open = files(&archive, ".open");
    assert_eq!(read(&open[0]).packets.len() as u64, full.sent, "readable while the disk is full");
    fs::remove_file(root.join("filler")).unwrap();
    record(&mut rig, 500..520);

    let lines = rig.finish();
    let (written, drops) = sums(&lines);
    assert_eq!(lines[0].received, 520);
    assert_eq!(written + drops.get(DropReason::DiskFull), 520);
    let segments = segments(&archive);
    let on_disk: Vec<u64> =
        segments.iter().flat_map(|s| s.packets.iter().map(|&(t, _)| t - T)).collect();
    assert_eq!(on_disk.len() as u64, written);
    assert_eq!(on_disk[..10], (0..10).collect::<Vec<u64>>());
    assert_eq!(on_disk[on_disk.len() - 20..], (500..520).collect::<Vec<u64>>());
}

#[test]
fn a_disk_is_filled_to_the_last_whole_packet() {
    for (name, fits) in [("archive", 150..200), ("x.pcapng", 150..200), ("x.pcap", 0..20)] {
        let Some(disk) = Tmpfs::new(200 << 10, "") else { return };
        let path = disk.path().join(name);
        let layout = match name {
            "archive" => Layout::Spool(path.clone()),
            _ => Layout::File(path.clone()),
        };
        let mut rig = Rig::new(layout, Rotation::default());
        // What fills one buffer is more than there is room for.
        for n in 0..260 {
            rig.send(n as u32 % 3, SOURCE, T + n, 1000);
        }
        rig.pass(SECOND);
        let lines = rig.finish();
        let (written, drops) = sums(&lines);
        assert!(fits.contains(&written), "{name}: {written} written");
        assert_eq!(written + drops.get(DropReason::DiskFull), 260);
        let found = match name {
            "archive" => segments(&path),
            "x.pcapng" => vec![read(&path)],
            _ => return,
        };
        let mut on_disk: Vec<u64> =
            found.iter().flat_map(|s| s.packets.iter().map(|&(t, _)| t - T)).collect();
        on_disk.sort_unstable();
        assert_eq!(on_disk.len() as u64, written);
        if name == "x.pcapng" {
            assert_eq!(on_disk, (0..written).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_disk_that_was_full_is_found_free_though_no_packet_comes() {
    let Some(disk) = Tmpfs::new(512 << 10, "") else { return };
    let root = disk.path();
    for layout in [Layout::Spool(root.join("archive")), Layout::File(root.join("x.pcapng"))] {
        let mut rig = Rig::new(layout, Rotation::default());
        let status = rig.recorder.status();
        (0..10).for_each(|n| rig.send(71, SOURCE, T + n, 1000));
        rig.pass(SECOND);
        disk.fill("filler");
        (10..100).for_each(|n| rig.send(71, SOURCE, T + n, 1000));
        assert_eq!(status.disk(), DiskState::Ok, "nothing was tried yet");
        for _ in 0..5 {
            rig.pass(SECOND);
            assert_eq!(status.disk(), DiskState::Full);
        }
        fs::remove_file(root.join("filler")).unwrap();
        rig.pass(SECOND);
        rig.pass(SECOND);
        assert_eq!(status.disk(), DiskState::Ok);
        (100..110).for_each(|n| rig.send(71, SOURCE, T + n, 1000));
        let lines = rig.finish();
        // A few found a place in the last page.
        let dropped = lines[0].drops.get(DropReason::DiskFull);
        assert!((85..=90).contains(&dropped), "{}", lines[0]);
        assert_eq!((lines[0].received, lines[0].written), (110, 110 - dropped));
    }
    assert_eq!(
        files(&root, "").iter().filter(|path| path.to_string_lossy().contains("room")).count(),
        0
    );
}

/// What a segment of a packet at one moment will be called when it is closed.
fn closed_name(spool: &Path, ts_ns: u64) -> PathBuf {
    let open = files(spool, ".open").remove(0);
    let name = open.file_name().expect("a file").to_string_lossy();
    let stem = name.strip_suffix(".pcapng.open").expect("it is open");
    let (source, id) = stem.rsplit_once('-').expect("a source and an id");
    let id = id.parse().expect("a ULID");
    let name = SegmentName { first_ns: ts_ns, last_ns: ts_ns, id, source: source.into() };
    spool.join(name.spool_file(Part::Plain, SpoolState::Closed))
}

#[test]
fn a_segment_that_cannot_be_renamed_is_tried_again_and_adopted_at_last() {
    let folder = Folder::new();
    let rotation = Rotation { time: Some(Duration::from_secs(10)), ..Rotation::default() };
    let mut rig = Rig::spool(&folder.0, rotation);
    rig.send(71, SOURCE, T, 60);
    let in_the_way = closed_name(&folder.0, T);
    fs::create_dir(&in_the_way).unwrap();
    rig.pass(10 * SECOND);
    assert_eq!(files(&folder.0, ".open").len(), 1, "it stays as it is");
    fs::remove_dir(&in_the_way).unwrap();
    rig.pass(SECOND);
    rig.pass(SECOND);
    assert_eq!(segments(&folder.0).len(), 1);

    let mut rig = Rig::spool(&folder.0, Rotation::default());
    rig.send(71, SOURCE, T + 1, 60);
    let in_the_way = closed_name(&folder.0, T + 1);
    fs::create_dir(&in_the_way).unwrap();
    let error = rig.recorder.finish(&Upstream::default()).expect_err("its name is taken");
    assert!(error.to_string().contains("rename a segment to"), "{error}");
    assert_eq!(sums(&rig.lines()).0, 1, "it is in the spool, whole");
    drop(rig);
    fs::remove_dir(&in_the_way).unwrap();
    let adopted = archive::adopt(&folder.0).unwrap();
    assert_eq!((adopted.segments, adopted.packets), (1, 1));
}

#[test]
fn a_segment_that_finds_no_room_to_begin_is_counted_and_tried_again() {
    let Some(disk) = Tmpfs::new(256 << 10, "") else { return };
    let root = disk.path();
    let mut rig = Rig::spool(&root.join("archive"), Rotation::default());
    disk.fill("filler");
    for n in 0..100 {
        rig.send(71, SOURCE, T + n, 1000);
    }
    assert_eq!(rig.recorder.counters().drops.get(DropReason::DiskFull), 100);
    fs::remove_file(root.join("filler")).unwrap();
    rig.pass(SECOND);
    rig.send(71, SOURCE, T + 100, 1000);
    let lines = rig.finish();
    assert_eq!((lines[0].received, lines[0].written), (101, 1));
    let segments = segments(&root.join("archive"));
    assert_eq!(segments.len(), 1);
    assert_eq!(segments[0].packets, [(T + 100, 1000)]);
}
