//! One series of files beside an archive: numbered by size, named by time, a ring, an end.

mod recording;

use archive::{Layout, Rotation};
use io::Sink;
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
    let rotation = Rotation { bytes: Some(2000), files: Some(3), time: None };
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
    let mut rig = rig(&folder, "x", Rotation { bytes: None, time, files: Some(2) });
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
    let rotation = Rotation { bytes: None, time, files: None };
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
        let rotation = Rotation { bytes: None, time, files: None };
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
