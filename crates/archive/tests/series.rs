//! One series of files beside an archive: numbered by size, named by time, a ring, an end.

mod recording;

use archive::{Layout, Rotation};
use io::{Sink, Upstream};
use recording::*;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn names(folder: &Path) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().expect("a file").to_string_lossy().into_owned();
    files(folder, "").iter().map(name).collect()
}

fn rig(folder: &Folder, name: &str, rotation: Rotation) -> Rig {
    Rig::new(Layout::File(folder.0.join(name)), rotation)
}

#[test]
fn by_size_files_are_numbered() {
    let folder = Folder::new();
    let rotation = Rotation { bytes: Some(2000), ..Rotation::default() };
    let mut rig = rig(&folder, "x.pcapng", rotation);
    for n in 0..7 {
        rig.send(71, "10.0.0.1", T + n, 1000);
    }
    rig.finish();
    assert_eq!(names(&folder.0), ["x.pcapng", "x.pcapng1", "x.pcapng2", "x.pcapng3"]);
    let counts: Vec<usize> =
        files(&folder.0, "").iter().map(|path| read(path).packets.len()).collect();
    assert_eq!(counts, [2, 2, 2, 1]);
}

#[test]
fn a_ring_keeps_the_newest_files() {
    let folder = Folder::new();
    let rotation = Rotation { bytes: Some(2000), files: Some(3), ..Rotation::default() };
    let mut rig = rig(&folder, "x", rotation);
    for n in 0..13 {
        rig.send(71, "10.0.0.1", T + n, 1000);
    }
    let lines = rig.finish();
    // What a later file replaced was written all the same.
    assert_eq!((lines[0].received, lines[0].written), (13, 13));
    assert_eq!(names(&folder.0), ["x0", "x1", "x2"]);
    let mut kept: Vec<u64> =
        files(&folder.0, "").iter().flat_map(|path| read(path).packets).map(|(t, _)| t).collect();
    kept.sort_unstable();
    assert_eq!(kept, (T + 8..T + 13).collect::<Vec<u64>>());
}

#[test]
fn by_time_a_series_ends_after_so_many_files() {
    let folder = Folder::new();
    let time = Some(Duration::from_secs(60));
    let mut rig = rig(&folder, "x", Rotation { time, files: Some(2), ..Rotation::default() });
    rig.send(71, "10.0.0.1", T, 100);
    rig.pass(61 * SECOND);
    assert!(!rig.recorder.is_closed());
    rig.send(71, "10.0.0.1", T + 1, 100);
    rig.pass(139 * SECOND);
    assert!(rig.recorder.is_closed(), "two files were asked for");
    rig.send(71, "10.0.0.1", T + 2, 100);
    let lines = rig.finish();
    assert_eq!((lines[0].received, lines[0].written), (3, 2));
    assert_eq!(lines[0].drops.get(api::DropReason::Stopped), 1);
    assert_eq!(names(&folder.0), ["x", "x1"]);
}

#[test]
fn a_time_in_the_name_is_filled_in() {
    let folder = Folder::new();
    let time = Some(Duration::from_secs(60));
    let rotation = Rotation { time, ..Rotation::default() };
    let mut rig = rig(&folder, "x-%Y.pcapng", rotation);
    rig.send(71, "10.0.0.1", T, 100);
    rig.finish();
    let [name] = &names(&folder.0)[..] else { panic!("{:?}", names(&folder.0)) };
    let year = name.strip_prefix("x-").and_then(|rest| rest.strip_suffix(".pcapng"));
    assert!(year.is_some_and(|year| year.len() == 4 && year.parse::<u32>().is_ok()), "{name}");
}

#[test]
fn a_clock_that_is_set_neither_stops_rotation_and_flushing_nor_costs_a_file() {
    for step_ns in [HOUR as i64, -(HOUR as i64)] {
        let folder = Folder::new();
        let time = Some(Duration::from_secs(60));
        let rotation = Rotation { time, ..Rotation::default() };
        let mut rig = rig(&folder, "x-%H%M", rotation);
        // A file a minute; the clock is set in the third and set right again in the sixth.
        for minute in 0..9 {
            match minute {
                2 => rig.set_clock(step_ns),
                5 => rig.set_clock(-step_ns),
                _ => {}
            }
            rig.send(71, "10.0.0.1", T + minute, 100);
            rig.pass(SECOND);
            let counters = rig.recorder.counters();
            assert_eq!((counters.sent, counters.held), (minute + 1, 0), "flushed within a second");
            rig.pass(59 * SECOND);
        }
        rig.finish();
        let mut found: Vec<u64> =
            files(&folder.0, "").iter().flat_map(|path| read(path).packets).map(|p| p.0).collect();
        found.sort_unstable();
        assert_eq!(found, (T..T + 9).collect::<Vec<u64>>(), "{:?}", names(&folder.0));
        assert_eq!(names(&folder.0).len(), 9, "{:?}", names(&folder.0));
    }
}

#[test]
fn an_empty_recording_is_a_readable_file() {
    let folder = Folder::new();
    let mut rig = rig(&folder, "x.pcapng", Rotation::default());
    assert!(rig.finish().is_empty());
    assert_eq!(read(&folder.0.join("x.pcapng")).packets, []);
}

#[test]
fn aligned_files_begin_when_the_clock_shows_a_multiple() {
    let folder = Folder::new();
    let rotation = Rotation {
        time: Some(Duration::from_secs(3600)),
        bytes: Some(10_000),
        aligned: true,
        ..Rotation::default()
    };
    // It is 13:14:15.
    let mut rig = rig(&folder, "x-%H%M%S", rotation);
    for second in [0, 44 * 60, 46 * 60, 106 * 60 - 20] {
        rig.send(71, "10.0.0.1", T + second, 100);
        let until = T + second * SECOND;
        rig.pass(until.saturating_sub(rig.now.utc_ns).max(1));
    }
    // Nothing came for an hour: the file is closed all the same.
    rig.pass(3600 * SECOND);
    rig.finish();
    let found = names(&folder.0);
    assert_eq!(found[..2], ["x-131415", "x-1400151"], "{found:?}");
    assert_eq!(read(&folder.0.join("x-131415")).packets.len(), 3);
}

#[test]
fn each_source_has_its_files_if_their_names_say_so() {
    let folder = Folder::new();
    let rotation = Rotation { bytes: Some(2000), ..Rotation::default() };
    let mut rig = rig(&folder, "{vni}-{source}.pcapng", rotation);
    assert_eq!(names(&folder.0), [""; 0], "no file before its first packet");
    for n in 0..6 {
        rig.send(71 + n as u32 % 2, "fd00::1", T + n, 1000);
    }
    let lines = rig.finish();
    assert_eq!(lines.iter().map(|line| line.written).sum::<u64>(), 6);
    let expected = [71, 72].map(|vni| format!("{vni}-vxlan-{vni}-fd00--1.pcapng"));
    assert_eq!(
        names(&folder.0),
        expected.iter().flat_map(|n| [n.clone(), format!("{n}1")]).collect::<Vec<_>>()
    );
    assert_eq!(read(&folder.0.join(&expected[0])).packets.len(), 2);
}

#[test]
fn a_name_that_is_made_anew_replaces_no_file() {
    let folder = Folder::new();
    let time = Some(Duration::from_secs(60));
    for (name, at_start) in [("x-%H%M", "x-1314"), ("y-{source}", "y-vxlan-71-10.0.0.1")] {
        let taken = folder.0.join(at_start);
        std::fs::write(&taken, "precious").expect("a file");
        let mut rig = rig(&folder, name, Rotation { time, ..Rotation::default() });
        rig.send(71, "10.0.0.1", T, 100);
        rig.finish();
        assert_eq!(std::fs::read(&taken).expect("it is there"), b"precious");
        assert_eq!(read(&folder.0.join(format!("{at_start}.1"))).packets.len(), 1);
    }
    // One that is named plainly is what the user asked to replace.
    std::fs::write(folder.0.join("z"), "old").expect("a file");
    rig(&folder, "z", Rotation::default()).finish();
    assert_eq!(read(&folder.0.join("z")).packets, []);
}

#[test]
fn files_are_compressed_if_their_name_says_so() {
    for name in ["x.pcapng.gz", "x.pcap.gz"] {
        let folder = Folder::new();
        let mut rig = rig(&folder, name, Rotation::default());
        for n in 0..2000 {
            rig.send(71, "10.0.0.1", T + n, 1000);
            // It can be read while it grows: each write is a whole member.
            if n % 500 == 499 {
                rig.pass(SECOND);
                assert_eq!(count_in_gzip(&folder.0.join(name)), n + 1);
            }
        }
        let lines = rig.finish();
        assert_eq!(lines[0].written, 2000);
        let path = folder.0.join(name);
        assert_eq!(count_in_gzip(&path), 2000);
        assert!(path.metadata().expect("a file").len() < 200_000);
        assert!(
            std::process::Command::new("gzip")
                .arg("-t")
                .arg(&path)
                .status()
                .is_ok_and(|s| s.success())
        );
    }
}

fn count_in_gzip(path: &Path) -> u64 {
    let file = std::fs::File::open(path).expect("a file");
    let mut reader =
        capfile::Reader::new(flate2::read::MultiGzDecoder::new(file)).expect("a capture");
    let mut count = 0;
    while reader.next().expect("whole blocks").is_some() {
        count += 1;
    }
    assert!(reader.warning().is_none());
    count
}

#[test]
fn files_that_rotation_closes_tell_what_was_lost_meanwhile() {
    let folder = Folder::new();
    let time = Some(Duration::from_secs(60));
    let mut rig = rig(&folder, "x.pcapng", Rotation { time, ..Rotation::default() });
    let mut upstream = Upstream::default();
    for (nth, lost) in [3, 0, 4].into_iter().enumerate() {
        rig.send(71, "10.0.0.1", T + nth as u64, 100);
        upstream.drops.add_many(api::DropReason::KernelRing, lost);
        rig.recorder.hear(&upstream);
        if nth < 2 {
            rig.pass(60 * SECOND);
        }
    }
    upstream.drops.add(api::DropReason::KernelSocket);
    rig.recorder.finish(&upstream).expect("the file can be completed");
    let told = |name: &str| read(&folder.0.join(name)).statistics[0].os_drop;
    assert_eq!(
        [told("x.pcapng"), told("x.pcapng1"), told("x.pcapng2")],
        [Some(3), Some(0), Some(5)]
    );
}

#[test]
fn a_file_that_grows_is_whole_to_other_programs() {
    let folder = Folder::new();
    let path = folder.0.join("x.pcapng");
    let mut rig = rig(&folder, "x.pcapng", Rotation::default());
    let count_by_tshark = || {
        let mut command = std::process::Command::new("tshark");
        command.args(["-n", "-T", "fields", "-e", "frame.number", "-r"]).arg(&path);
        let read = command.output().expect("tshark can be started");
        let text = String::from_utf8_lossy(&read.stderr);
        let is_whole = read.status.success() && !text.contains("cut short");
        is_whole.then(|| read.stdout.iter().filter(|&&byte| byte == b'\n').count())
    };
    let mut sent = 0;
    let mut send = |rig: &mut Rig, packets: u64| {
        for _ in 0..packets {
            rig.send(71, "10.0.0.1", T + sent, 1000);
            sent += 1;
            if sent % 50 == 0 {
                rig.pass(SECOND / 50);
            }
        }
    };
    send(&mut rig, 1000);
    let mut counts = Vec::new();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // A write through the page cache may be under way, of a file that has little to write
            // or whose disk has no direct writes: nobody can see that twice in a row.
            let look = || (0..3).find_map(|_| count_by_tshark());
            (0..4).map(|_| look()).collect::<Vec<_>>()
        });
        while !reader.is_finished() && rig.recorder.counters().taken() < 40_000 {
            send(&mut rig, 500);
        }
        counts = reader.join().expect("the reader does not panic");
    });
    let counts: Vec<usize> = counts.into_iter().map(|count| count.expect("a whole file")).collect();
    assert!(counts.is_sorted() && counts[0] >= 1000, "{counts:?}");
    // Nothing more comes: within a second all is there.
    let sent = rig.recorder.counters().taken();
    ::rig::wait_until("all is in the file", Duration::from_secs(30), || {
        rig.pass(SECOND / 2);
        rig.recorder.counters().held == 0
    });
    assert_eq!(count_by_tshark(), Some(sent as usize));
    rig.finish();
}
