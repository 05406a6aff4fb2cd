//! Search over archives in memory and in folders, with segments in every state.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

use archive::search::{Expression, Query, plan};
use archive::store::Store;
use archive::{Part, SegmentName, SpoolState, Window};
use bytes::Bytes;
use capfile::seekable::SeekableWriter;
use capfile::{Direction, Interface, LINKTYPE_ETHERNET, PcapngWriter, SectionInfo};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use ulid::Ulid;

const HOUR: u64 = 1_795_784_400_000_000_000; // 2026-11-27 13:00:00 UTC

fn name(source: &str, id: u128, times: &[u64]) -> SegmentName {
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    SegmentName { first_ns: *first, last_ns: *last, id: Ulid(id), source: source.into() }
}

/// An Ethernet frame with IPv4 and UDP to a port, that carries a number.
fn frame(port: u16, number: u32) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x30, 0x39]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 12, 0, 0]);
    frame.extend(number.to_be_bytes());
    frame
}

fn header(name: &str) -> PcapngWriter<Vec<u8>> {
    let mut writer = PcapngWriter::new(Vec::new(), &SectionInfo::default()).unwrap();
    let interface = Interface { name: Some(name.into()), ..Interface::new(LINKTYPE_ETHERNET) };
    writer.add_interface(&interface).unwrap();
    writer
}

fn pcapng(source: &str, packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut writer = header(source);
    for (ts_ns, data) in packets {
        writer.write(0, *ts_ns, data.len() as u32, Direction::In, data, None).unwrap();
    }
    writer.into_inner()
}

/// Sealed by hand: `per_frame` packets in each frame behind the first.
fn sealed(source: &str, packets: &[(u64, Vec<u8>)], per_frame: usize) -> Vec<u8> {
    let header = header(source).into_inner();
    let mut writer = SeekableWriter::new(Vec::new(), 1).unwrap();
    writer.frame(&header).unwrap();
    for packets in packets.chunks(per_frame) {
        writer.frame(&pcapng(source, packets)[header.len()..]).unwrap();
    }
    writer.finish().unwrap().0
}

async fn numbers(store: &Store, spool: Option<&Path>, query: Query) -> Vec<(u64, u32, String)> {
    let plan = plan(store, spool, query).await.unwrap();
    let mut found = Vec::new();
    let outcome = plan
        .run(&AtomicBool::new(false), |packet| {
            let number = packet.data.last_chunk().map(|b| u32::from_be_bytes(*b)).unwrap();
            found.push((packet.ts_ns - HOUR, number, packet.interface.name.clone().unwrap()));
            ControlFlow::Continue(())
        })
        .await
        .unwrap();
    assert!(outcome.is_complete(), "{outcome:?}");
    assert_eq!(outcome.packets, found.len() as u64);
    found
}

#[tokio::test]
async fn segments_of_every_state_are_searched_once_and_in_order() {
    let scratch = rig::Scratch::new("search");
    let store = Store::memory();
    let packets = |from: u32, step: u64| -> Vec<(u64, Vec<u8>)> {
        (0..100)
            .map(|n| (HOUR + u64::from(n) * step, frame(80 + (n % 2) as u16, from + n)))
            .collect()
    };
    let times = |packets: &[(u64, Vec<u8>)]| packets.iter().map(|p| p.0).collect::<Vec<_>>();
    // Stored, and still in the spool.
    let a = packets(0, 10);
    let name_a = name("a", 1, &times(&a));
    store.put(&name_a.key(Part::Data), Bytes::from(sealed("a", &a, 7))).await.unwrap();
    let spool = |name: &SegmentName, part, state| scratch.path(&name.spool_file(part, state));
    std::fs::write(spool(&name_a, Part::Data, SpoolState::Sealed), b"not looked at").unwrap();
    // Plain in the store, closed and open in the spool; the closed one is not in order.
    let b = packets(1000, 11);
    let name_b = name("b", 2, &times(&b));
    store.put(&name_b.key(Part::Plain), Bytes::from(pcapng("b", &b))).await.unwrap();
    let mut c = packets(2000, 12);
    c.reverse();
    let name_c = name("c", 3, &times(&c));
    std::fs::write(spool(&name_c, Part::Plain, SpoolState::Closed), pcapng("c", &c)).unwrap();
    let d = packets(3000, 13);
    let mut open = pcapng("d", &d);
    open.extend([0; 4096]);
    std::fs::write(scratch.path(&format!("d-{}.pcapng.open", Ulid(4))), &open).unwrap();
    let e = packets(4000, 14);
    let mut open = pcapng("e", &e);
    open.truncate(open.len() - 5);
    std::fs::write(scratch.path(&format!("e-{}.pcapng.open", Ulid(5))), &open).unwrap();

    let all: Vec<_> = [("a", &a), ("b", &b), ("c", &c), ("d", &d), ("e", &e)]
        .into_iter()
        .flat_map(|(source, packets)| packets.iter().map(move |(t, data)| (t - HOUR, data, source)))
        .filter(|(_, data, _)| data.last_chunk() != Some(&4099_u32.to_be_bytes()))
        .collect();
    let expected = |wanted: &dyn Fn(u64, &[u8], &str) -> bool| {
        let kept = all.iter().filter(|(t, data, source)| wanted(*t, data, source));
        let mut kept: Vec<_> = kept
            .map(|(t, data, source)| {
                (*t, u32::from_be_bytes(*data.last_chunk().unwrap()), source.to_string())
            })
            .collect();
        kept.sort();
        kept
    };
    let sorted = |mut found: Vec<(u64, u32, String)>| {
        assert!(found.is_sorted_by_key(|found| found.0), "{found:?}");
        found.sort();
        found
    };
    let run = |query| numbers(&store, Some(scratch.folder()), query);
    let everything = Query::all(Window::ALL);
    assert_eq!(sorted(run(everything.clone()).await), expected(&|_, _, _| true));
    let window = Window { after_ns: HOUR + 110, before_ns: Some(HOUR + 130) };
    let found = run(Query::all(window)).await;
    assert_eq!(sorted(found), expected(&|t, _, _| (110..130).contains(&t)));
    let expression = Expression::new("udp dst port 81").unwrap();
    let found = run(Query { expression, ..everything.clone() }).await;
    assert_eq!(sorted(found), expected(&|_, data, _| data[37] == 81));
    let found = run(Query { sources: vec!["a".into(), "d*".into()], ..everything }).await;
    assert_eq!(sorted(found), expected(&|_, _, source| source == "a" || source == "d"));
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_the_rest_found() {
    let store = Store::memory();
    let packets: Vec<_> = (0..10).map(|n| (HOUR + u64::from(n), frame(80, n))).collect();
    let times: Vec<_> = packets.iter().map(|packet| packet.0).collect();
    let good = sealed("a", &packets, 5);
    let mut names = Vec::new();
    for (id, bytes) in [
        (1, good.clone()),
        (2, good[..good.len() - 3].to_vec()),
        (3, b"something else".to_vec()),
        (4, Vec::new()),
        (5, {
            let mut bad = good.clone();
            // In the last frame, before the table.
            let at = bad.len() - (8 + 3 * 8 + 9) - 10;
            bad[at] ^= 0xff;
            bad
        }),
    ] {
        let key = name("a", id, &times).key(Part::Data);
        store.put(&key, Bytes::from(bytes)).await.unwrap();
        names.push(key);
    }
    let plan = plan(&store, None, Query::all(Window::ALL)).await.unwrap();
    assert_eq!((plan.segments, plan.segments_listed), (5, 5));
    let progress = plan.progress();
    let mut found = 0;
    let cancel = AtomicBool::new(false);
    let run = plan.run(&cancel, |_| {
        found += 1;
        ControlFlow::Continue(())
    });
    let outcome = run.await.unwrap();
    assert_eq!(found, 10 + 5, "{outcome:?}");
    let mut named: Vec<_> = outcome.troubles.iter().map(|t| t.segment.clone()).collect();
    named.sort();
    assert_eq!(named, names[1..], "{outcome:?}");
    assert!(!outcome.is_complete() && !outcome.is_stopped);
    assert_eq!((progress.segments_done(), progress.packets()), (5, 15));
}

#[tokio::test]
async fn it_ends_early_when_it_is_asked_to() {
    let store = Store::memory();
    let packets: Vec<_> = (0..100).map(|n| (HOUR + u64::from(n), frame(80, n))).collect();
    let times: Vec<_> = packets.iter().map(|packet| packet.0).collect();
    let key = name("a", 1, &times).key(Part::Data);
    store.put(&key, Bytes::from(sealed("a", &packets, 5))).await.unwrap();
    let cancel = AtomicBool::new(false);
    let mut found = 0;
    let limited = plan(&store, None, Query::all(Window::ALL)).await.unwrap();
    let outcome = limited.run(&cancel, |_| {
        found += 1;
        if found == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let outcome = outcome.await.unwrap();
    assert_eq!((outcome.packets, outcome.is_stopped), (7, true));
    cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    let cancelled = plan(&store, None, Query::all(Window::ALL)).await.unwrap();
    let outcome = cancelled.run(&cancel, |_| unreachable!()).await.unwrap();
    assert_eq!((outcome.packets, outcome.is_stopped), (0, true));
}

#[tokio::test]
async fn what_moves_on_meanwhile_is_found_in_its_new_place() {
    let scratch = rig::Scratch::new("search-moves");
    let store = Store::memory();
    let packets = |source: u32| -> Vec<(u64, Vec<u8>)> {
        (0..50).map(|n| (HOUR + u64::from(n), frame(80, source * 1000 + n))).collect()
    };
    let times: Vec<_> = packets(0).iter().map(|packet| packet.0).collect();
    let file = |name: String| scratch.path(&name);
    let names = [1, 2, 3, 4].map(|id| name("a", id, &times));
    let closed = |name: &SegmentName| name.spool_file(Part::Plain, SpoolState::Closed);
    let sealed_file = |name: &SegmentName| name.spool_file(Part::Data, SpoolState::Sealed);
    let open = format!("a-{}.pcapng.open", names[0].id);
    std::fs::write(file(open.clone()), pcapng("a", &packets(1))).unwrap();
    std::fs::write(file(closed(&names[1])), pcapng("a", &packets(2))).unwrap();
    std::fs::write(file(sealed_file(&names[2])), sealed("a", &packets(3), 7)).unwrap();
    let key = names[3].key(Part::Data);
    store.put(&key, Bytes::from(sealed("a", &packets(4), 7))).await.unwrap();

    let plan = plan(&store, Some(scratch.folder()), Query::all(Window::ALL)).await.unwrap();
    // The open one is closed, the closed one sealed and shipped, the sealed one shipped, the last one
    // expires.
    std::fs::rename(file(open), file(closed(&names[0]))).unwrap();
    std::fs::remove_file(file(closed(&names[1]))).unwrap();
    std::fs::remove_file(file(sealed_file(&names[2]))).unwrap();
    for (name, source) in [(&names[1], 2), (&names[2], 3)] {
        let bytes = Bytes::from(sealed("a", &packets(source), 7));
        store.put(&name.key(Part::Data), bytes).await.unwrap();
    }
    store.delete(&key).await.unwrap();
    let mut found = Vec::new();
    let cancel = AtomicBool::new(false);
    let outcome = plan.run(&cancel, |packet| {
        found.push(packet.data.last_chunk().map(|b| u32::from_be_bytes(*b)).unwrap());
        ControlFlow::Continue(())
    });
    let outcome = outcome.await.unwrap();
    found.sort();
    let expected: Vec<u32> =
        (1..4).flat_map(|source| (0..50).map(move |n| source * 1000 + n)).collect();
    assert_eq!(found, expected, "{outcome:?}");
    let troubles: Vec<_> = outcome.troubles.iter().map(|trouble| &trouble.segment).collect();
    assert_eq!(troubles, [&key], "{outcome:?}");
}
