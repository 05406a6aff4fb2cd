//! The segments in a spool: when they are closed, and what they are called.

mod recording;

use archive::{Layout, Rotation};
use io::{Sink, Upstream};
use recording::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SOURCE: &str = "10.71.2.2";

fn by_size(bytes: u64) -> Rotation {
    Rotation { bytes: Some(bytes), ..Rotation::default() }
}

fn by_time(seconds: u64) -> Rotation {
    Rotation { time: Some(Duration::from_secs(seconds)), ..Rotation::default() }
}

/// The times of all packets of some segments, sorted.
fn times(segments: &[Found]) -> Vec<u64> {
    let mut times: Vec<u64> =
        segments.iter().flat_map(|s| s.packets.iter().map(|&(ts_ns, _)| ts_ns)).collect();
    times.sort_unstable();
    times
}

#[test]
fn a_segment_is_closed_when_it_is_large() {
    let folder = Folder::new();
    let mut rig = Rig::spool(&folder.0, by_size(10_000));
    for n in 0..100 {
        rig.send(71, SOURCE, T + n, 1000);
    }
    let lines = rig.finish();
    assert_eq!((lines.len(), lines[0].received, lines[0].written), (1, 100, 100));
    let segments = segments(&folder.0);
    assert_eq!(times(&segments), (T..T + 100).collect::<Vec<u64>>());
    assert_eq!(segments.len(), 10, "ten packets fill 10,000 bytes");
    for segment in &segments {
        // One packet more than fits, and the statistics.
        assert!(segment.bytes < 10_000 + 1200 + 200, "{} bytes", segment.bytes);
    }
}

#[test]
fn a_segment_is_closed_when_it_is_old_also_on_a_quiet_link() {
    let folder = Folder::new();
    let mut rig = Rig::spool(&folder.0, by_time(10));
    rig.send(71, SOURCE, T, 100);
    rig.pass(9 * SECOND);
    assert_eq!(files(&folder.0, ".closed").len(), 0);
    assert_eq!(files(&folder.0, ".open").len(), 1);
    rig.pass(SECOND);
    assert_eq!(segments(&folder.0).len(), 1, "closed, though no other packet came");
    rig.send(71, SOURCE, T + 1, 100);
    rig.finish();
    let segments = segments(&folder.0);
    assert_eq!((segments.len(), times(&segments)), (2, vec![T, T + 1]));
}

#[test]
fn size_and_time_work_together() {
    let folder = Folder::new();
    let rotation = Rotation { bytes: Some(5000), ..by_time(10) };
    let mut rig = Rig::spool(&folder.0, rotation);
    // A burst that size cuts, a trickle that time cuts, a burst again.
    for n in 0..20 {
        rig.send(71, SOURCE, T + n, 1000);
    }
    rig.pass(11 * SECOND);
    let after_burst = segments(&folder.0).len();
    assert_eq!(after_burst, 4);
    rig.send(71, SOURCE, T + 20, 1000);
    rig.pass(19 * SECOND);
    assert_eq!(segments(&folder.0).len(), after_burst + 1);
    for n in 21..40 {
        rig.send(71, SOURCE, T + n, 1000);
    }
    rig.finish();
    assert_eq!(times(&segments(&folder.0)), (T..T + 40).collect::<Vec<u64>>());
}

#[test]
fn a_segment_is_cut_at_the_hour_of_its_packets() {
    let folder = Folder::new();
    let mut rig = Rig::spool(&folder.0, Rotation::default());
    let hour = T - T % HOUR;
    let midnight = hour + 11 * HOUR;
    let all = [hour, hour + HOUR - 1, hour + HOUR, midnight - 1, midnight, midnight + 1];
    for ts_ns in all {
        rig.send(71, SOURCE, ts_ns, 60);
    }
    // One that comes late still goes where its hour is.
    rig.send(71, SOURCE, hour + 1, 60);
    rig.finish();
    let segments = segments(&folder.0);
    let mut places: Vec<_> =
        segments.iter().map(|s| partition(s, "date") + " " + &partition(s, "hour")).collect();
    places.sort_unstable();
    assert_eq!(
        places,
        ["2026-11-27 13", "2026-11-27 13", "2026-11-27 14", "2026-11-27 23", "2026-11-28 00"]
    );
    for segment in &segments {
        let hours: BTreeSet<u64> = segment.packets.iter().map(|(ts_ns, _)| ts_ns / HOUR).collect();
        assert_eq!(hours.len(), 1, "{}", segment.path.display());
    }
    assert_eq!(segments.iter().map(|s| s.packets.len()).sum::<usize>(), all.len() + 1);
}

#[test]
fn each_vni_and_outer_source_has_a_series_of_its_own() {
    let folder = Folder::new();
    let mut rig = Rig::spool(&folder.0, Rotation::default());
    let senders = [(71, "10.71.2.2"), (71, "10.71.2.3"), (0, "10.71.2.2"), (16_777_215, "fd00::2")];
    for round in 0..10 {
        for (n, (vni, source)) in senders.iter().enumerate() {
            rig.send(*vni, source, T + round, 100 + n);
        }
    }
    let lines = rig.finish();
    let names =
        ["vxlan-0-10.71.2.2", "vxlan-16777215-fd00--2", "vxlan-71-10.71.2.2", "vxlan-71-10.71.2.3"];
    let mut of_ledger: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
    of_ledger.sort_unstable();
    assert_eq!(of_ledger, names);
    assert!(lines.iter().all(|line| (line.received, line.written) == (10, 10)));
    let segments = segments(&folder.0);
    let sources: Vec<String> = segments.iter().map(|s| partition(s, "source")).collect();
    assert_eq!(sources, names);
    for (segment, len) in segments.iter().zip([102, 103, 100, 101]) {
        assert_eq!(segment.packets, (T..T + 10).map(|ts_ns| (ts_ns, len)).collect::<Vec<_>>());
        assert_eq!(segment.interfaces, [partition(segment, "source")]);
    }
}

#[test]
fn names_tell_the_span_also_where_packets_come_out_of_order() {
    let folder = Folder::new();
    let mut rig = Rig::spool(&folder.0, Rotation::default());
    for n in [5, 3, 9, 4, 7] {
        rig.send(71, SOURCE, T + n, 60);
    }
    rig.finish();
    let segments = segments(&folder.0);
    let (first, last, id) = name_parts(&segments[0]);
    assert_eq!(segments.len(), 1);
    assert_eq!(first, "20261127T131415.123456792Z");
    assert_eq!(last, "20261127T131415.123456798Z");
    assert_eq!(id.len(), 26, "a ULID");
    let in_order: Vec<u64> = segments[0].packets.iter().map(|&(ts_ns, _)| ts_ns - T).collect();
    assert_eq!(in_order, [5, 3, 9, 4, 7], "the file keeps the order of arrival");
}

#[test]
fn segments_of_the_same_time_do_not_overwrite_each_other() {
    let folder = Folder::new();
    let mut rig = Rig::spool(&folder.0, by_size(1));
    for _ in 0..50 {
        rig.send(71, SOURCE, T, 60);
    }
    rig.finish();
    let segments = segments(&folder.0);
    assert_eq!(segments.len(), 50);
    let ids: BTreeSet<String> = segments.iter().map(|s| name_parts(s).2).collect();
    assert_eq!(ids.len(), 50);
}

#[test]
fn an_open_segment_can_be_read_after_each_flush() {
    let folder = Folder::new();
    let mut rig = Rig::spool(&folder.0, Rotation::default());
    for n in 0..10 {
        rig.send(71, SOURCE, T + n, 60);
    }
    rig.pass(SECOND);
    let open = files(&folder.0, ".open");
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].parent().unwrap(), folder.0);
    assert_eq!(read(&open[0]).packets.len(), 10);
    let counters = rig.recorder.counters();
    assert_eq!((counters.sent, counters.held), (10, 0));
}

#[test]
fn more_series_than_files_may_be_open_lose_nothing() {
    const SERIES: u32 = 600;
    let folder = Folder::new();
    let mut rig = Rig::spool(&folder.0, Rotation::default());
    let open_files = || {
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
        let targets = descriptors.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        targets.filter(|target| target.starts_with(&folder.0)).count()
    };
    let mut most = 0;
    for round in 0..3 {
        for vni in 0..SERIES {
            rig.send(vni, SOURCE, T + round, 60);
            rig.pass(SECOND / 1000);
            if vni % 50 == 49 {
                most = most.max(open_files());
            }
        }
    }
    assert!((450..=512).contains(&most), "{most} files were open at once");
    let lines = rig.finish();
    assert_eq!(lines.len(), SERIES as usize);
    assert!(lines.iter().all(|line| (line.received, line.written) == (3, 3)));
    let mut by_source: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for segment in segments(&folder.0) {
        let of_source = by_source.entry(partition(&segment, "source")).or_default();
        of_source.extend(segment.packets.iter().map(|&(ts_ns, _)| ts_ns));
    }
    assert_eq!(by_source.len(), SERIES as usize);
    for (source, mut times) in by_source {
        times.sort_unstable();
        assert_eq!(times, [T, T + 1, T + 2], "{source}");
    }
}

#[test]
fn a_closed_segment_tells_its_counts() {
    let folder = Folder::new();
    let mut rig = Rig::spool(&folder.0, by_size(5000));
    for n in 0..8 {
        rig.send(71, SOURCE, T + 10 - n, 1000);
    }
    let mut drops = api::Drops::default();
    drops.add_many(api::DropReason::KernelSocket, 3);
    drops.add_many(api::DropReason::TooShort, 2);
    let upstream = Upstream { seen: 13, matched: 8, drops };
    rig.recorder.finish(&upstream).unwrap();
    let mut segments = segments(&folder.0);
    segments.sort_by_key(|segment| segment.packets.len());
    let [last, first] = &segments[..] else { panic!("{} segments", segments.len()) };
    for (segment, packets, (start, end)) in [(first, 5, (T + 6, T + 10)), (last, 3, (T + 3, T + 5))]
    {
        let statistics = &segment.statistics[0];
        assert_eq!(segment.packets.len(), packets);
        assert_eq!(statistics.delivered, Some(packets as u64));
        assert_eq!((statistics.start_ns, statistics.end_ns), (Some(start), Some(end)));
    }
    // Only the last one is closed when all that came before it is known.
    let statistics = &last.statistics[0];
    assert_eq!((statistics.received, statistics.filter_accepted), (Some(13), Some(8)));
    assert_eq!((statistics.dropped, statistics.os_drop), (Some(5), Some(3)));
    assert_eq!(first.statistics[0].received, None);
}

#[test]
fn sources_beyond_the_bound_are_dropped_and_counted_as_such() {
    const SOURCES: u32 = 4096;
    let folder = Folder::new();
    let path = folder.0.join("all.pcapng");
    let mut rig = Rig::new(Layout::File(path.clone()), Rotation::default());
    for vni in 0..SOURCES + 10 {
        rig.send(vni, SOURCE, T, 60);
    }
    rig.send(7, SOURCE, T + 1, 60);
    let lines = rig.finish();
    assert_eq!(lines.len(), SOURCES as usize + 1);
    let more = lines.last().unwrap();
    assert_eq!((more.name.as_str(), more.received, more.written), ("more sources", 10, 0));
    assert_eq!(more.drops.get(api::DropReason::TooManySources), 10);
    assert_eq!(read(&path).packets.len(), SOURCES as usize + 1);
}
