//! Segments that a killed recorder left behind open: each packet that can be read is kept,
//! once, and nothing of a living recorder is touched.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod recording;

use archive::{Adopted, Rotation, adopt};
use proptest::prelude::*;
use recording::*;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

const SOURCE: &str = "10.71.2.2";

/// Leaves an open segment of some packets behind, as a killed process does; gives its path.
fn left_behind(archive: &Path, packets: u64) -> PathBuf {
    let mut rig = Rig::spool(archive, Rotation::default());
    for n in 0..packets {
        rig.send(71, SOURCE, T + n, 100);
    }
    rig.pass(SECOND);
    let [path] = &files(archive, ".open")[..] else { panic!("one segment is open") };
    path.clone()
}

fn append(path: &Path, bytes: &[u8]) {
    File::options().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn adopted(segments: u64, packets: u64) -> Adopted {
    Adopted { segments, packets, damaged: Vec::new() }
}

#[test]
fn nothing_is_adopted_where_there_is_nothing() {
    let folder = Folder::new();
    assert_eq!(adopt(&folder.0.join("none")).unwrap(), Adopted::default());
    Rig::spool(&folder.0, Rotation::default()).finish();
    assert_eq!(adopt(&folder.0).unwrap(), Adopted::default());
    let circle = folder.0.join("circle");
    std::os::unix::fs::symlink(&circle, &circle).unwrap();
    let message = adopt(&folder.0.join("circle")).unwrap_err().to_string();
    assert!(message.contains("list the open segments in"), "{message}");
}

#[test]
fn a_segment_left_open_is_closed_once() {
    let folder = Folder::new();
    let path = left_behind(&folder.0, 10);
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(adopt(&folder.0).unwrap(), adopted(1, 10));
    assert_eq!(adopt(&folder.0).unwrap(), adopted(0, 0));
    let segments = segments(&folder.0);
    assert_eq!(segments.len(), 1);
    let segment = &segments[0];
    assert_eq!(segment.packets, (T..T + 10).map(|ts_ns| (ts_ns, 100)).collect::<Vec<_>>());
    let place = (partition(segment, "date"), partition(segment, "hour"));
    assert_eq!(place, ("2026-11-27".into(), "13".into()));
    assert_eq!(partition(segment, "source"), "vxlan-71-10.71.2.2");
    let (first, last, id) = name_parts(segment);
    assert_eq!(
        (&first[16..25], &last[16..25], name.contains(&id)),
        ("123456789", "123456798", true)
    );
    let statistics = &segment.statistics[0];
    assert_eq!((statistics.start_ns, statistics.end_ns), (Some(T), Some(T + 9)));
    assert_eq!(statistics.delivered, Some(10));
}

#[test]
fn a_tail_is_cut_behind_the_last_whole_block() {
    for tail in [&b"\x06\0\0\0"[..], b"\x06\0\0\0\x80\0\0\0\0\0\0\0\0\0", &[0; 70_000], &[0; 3]] {
        let folder = Folder::new();
        let path = left_behind(&folder.0, 10);
        append(&path, tail);
        assert_eq!(adopt(&folder.0).unwrap(), adopted(1, 10), "{} bytes", tail.len());
        assert_eq!(segments(&folder.0)[0].packets.len(), 10);
    }
}

#[test]
fn what_is_empty_is_removed() {
    for bytes in [0, 10, 60] {
        let folder = Folder::new();
        let path = left_behind(&folder.0, 1);
        File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap();
        assert_eq!(adopt(&folder.0).unwrap(), adopted(0, 0), "{bytes} bytes");
        assert!(segments(&folder.0).is_empty());
        assert!(!path.exists());
    }
}

#[test]
fn what_cannot_be_read_is_moved_aside_with_all_its_bytes() {
    let folder = Folder::new();
    let path = left_behind(&folder.0, 10);
    append(&path, &[0xff; 64]);
    let bytes = fs::read(&path).unwrap();
    let found = adopt(&folder.0).unwrap();
    let place = folder.0.join("damaged").join(path.file_stem().unwrap());
    assert_eq!(found, Adopted { damaged: vec![place.clone()], ..adopted(0, 0) });
    assert_eq!(fs::read(&place).unwrap(), bytes);
    assert_eq!(adopt(&folder.0).unwrap(), adopted(0, 0));

    // One that is no capture at all, and one beside it that is good.
    let strange = folder.0.join("vxlan-1-10.0.0.1-01ARZ3NDEKTSV4RRFFQ69G5FAV.pcapng.open");
    fs::write(&strange, [b'?'; 5000]).unwrap();
    drop(Rig::spool(&folder.0, Rotation::default()));
    left_behind_beside(&folder.0);
    let found = adopt(&folder.0).unwrap();
    assert_eq!((found.segments, found.packets, found.damaged.len()), (1, 3, 1));
    assert!(!strange.exists() && found.damaged[0].exists());
}

fn left_behind_beside(archive: &Path) {
    let mut rig = Rig::spool(archive, Rotation::default());
    (0..3).for_each(|n| rig.send(5, SOURCE, T + n, 100));
    rig.pass(SECOND);
}

#[test]
fn a_file_of_another_name_is_left_alone() {
    let folder = Folder::new();
    let path = left_behind(&folder.0, 10);
    let other = path.with_file_name("notes.open");
    fs::rename(&path, &other).unwrap();
    assert_eq!(adopt(&folder.0).unwrap(), adopted(0, 0));
    assert!(other.exists());
}

#[test]
fn what_is_no_file_is_left_alone() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let path = left_behind(&folder.0, 10);
    let spool = path.parent().unwrap();
    let pipe = spool.join("vxlan-1-10.0.0.1-01ARZ3NDEKTSV4RRFFQ69G5FAV.pcapng.open");
    let link = spool.join("vxlan-2-10.0.0.1-01ARZ3NDEKTSV4RRFFQ69G5FAV.pcapng.open");
    let outside = elsewhere.0.join("outside");
    fs::copy(&path, &outside).unwrap();
    append(&outside, &[0; 100]);
    let bytes = fs::read(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(adopt(&folder.0).unwrap(), adopted(1, 10));
    assert!(pipe.exists() && link.is_symlink());
    assert_eq!(fs::read(&outside).unwrap(), bytes);
}

#[test]
fn a_living_recorder_is_not_robbed() {
    let folder = Folder::new();
    let mut rig = Rig::spool(&folder.0, Rotation::default());
    for n in 0..10 {
        rig.send(71, SOURCE, T + n, 100);
        if n == 5 {
            rig.pass(SECOND);
            assert_eq!(adopt(&folder.0).unwrap(), adopted(0, 0));
        }
    }
    let lines = rig.finish();
    assert_eq!(lines[0].written, 10);
    assert_eq!(segments(&folder.0)[0].packets.len(), 10);
}

#[test]
fn adoption_at_any_moment_takes_nothing_from_a_living_recorder() {
    let folder = Folder::new();
    let done = AtomicBool::new(false);
    let rotation = Rotation { bytes: Some(1), ..Rotation::default() };
    std::thread::scope(|scope| {
        let adopter = scope.spawn(|| {
            let mut found = Adopted::default();
            while !done.load(Ordering::Relaxed) {
                let now = adopt(&folder.0).unwrap();
                found.segments += now.segments;
                found.damaged.extend(now.damaged);
            }
            found
        });
        let mut rig = Rig::spool(&folder.0, rotation);
        for n in 0..1000 {
            rig.send(n % 7, SOURCE, T + u64::from(n), 100);
        }
        let lines = rig.finish();
        done.store(true, Ordering::Relaxed);
        assert_eq!(adopter.join().unwrap(), Adopted::default());
        let (written, drops) = sums(&lines);
        assert_eq!((written, drops.total()), (1000, 0));
    });
    assert_eq!(segments(&folder.0).len(), 1000);
}

#[test]
fn one_that_was_complete_but_not_yet_renamed_stays_as_it_is() {
    let folder = Folder::new();
    let mut rig = Rig::spool(&folder.0, Rotation::default());
    rig.send(71, SOURCE, T, 100);
    rig.finish();
    let closed = files(&folder.0, ".closed").remove(0);
    let bytes = fs::read(&closed).unwrap();
    let (_, _, id) = name_parts(&read(&closed));
    let open = folder.0.join(format!("vxlan-71-10.71.2.2-{id}.pcapng.open"));
    fs::rename(&closed, &open).unwrap();
    assert_eq!(adopt(&folder.0).unwrap(), adopted(1, 1));
    assert_eq!(fs::read(&closed).unwrap(), bytes);
    // The same segment twice is none: the copy stays where it is.
    fs::copy(&closed, &open).unwrap();
    assert_eq!(adopt(&folder.0).unwrap(), adopted(0, 0));
    assert!(open.exists());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn wherever_it_was_cut_the_whole_packets_before_are_kept(
        packets in 0..40u64,
        cut in any::<prop::sample::Index>(),
    ) {
        let folder = Folder::new();
        let path = match packets {
            0 => return Ok(()),
            _ => left_behind(&folder.0, packets),
        };
        let mut file = File::options().write(true).open(&path).unwrap();
        let len = file.seek(std::io::SeekFrom::End(0)).unwrap();
        let len = cut.index(len as usize + 1) as u64;
        file.set_len(len).unwrap();
        drop(file);
        let mut whole = 0;
        if let Ok(mut reader) = capfile::Reader::new(File::open(&path).unwrap()) {
            while let Ok(true) = reader.advance() {
                whole += 1;
            }
        }
        prop_assert_eq!(adopt(&folder.0).unwrap(), adopted(u64::from(whole > 0), whole));
        let kept: Vec<u64> = segments(&folder.0)
            .iter()
            .flat_map(|segment| segment.packets.iter().map(|&(ts_ns, _)| ts_ns - T))
            .collect();
        prop_assert_eq!(kept, (0..whole).collect::<Vec<_>>());
    }
}
