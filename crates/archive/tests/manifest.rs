//! Chains of a manifest: what is appended is read, and what was altered or removed shows.

use archive::manifest::{Chain, ENTRIES_MAX, Event, Removal, SegmentRecord, read};
use archive::store::Store;
use bytes::Bytes;
use std::collections::BTreeMap;
use ulid::Ulid;

const T: u64 = 1_795_785_255_123_456_789;

fn record(object: &str) -> SegmentRecord {
    SegmentRecord {
        object: object.into(),
        bytes: 1,
        sha256: "00".into(),
        raw_bytes: 2,
        packets: 3,
        index_bytes: 4,
        index_sha256: "11".into(),
        index_rows: 5,
        addresses: String::new(),
        dropped: None,
    }
}

fn stored(number: u64) -> Event {
    Event::Stored(record(&format!("object-{number}")))
}

/// A chain of so many entries.
async fn chain(store: &Store, writer: Ulid, entries: u64) -> Chain {
    let mut chain = Chain::open(store, writer).await.expect("memory takes all");
    for number in 0..entries {
        chain.append(stored(number), T + number).await.expect("memory takes all");
    }
    chain
}

async fn contents(store: &Store) -> BTreeMap<String, Bytes> {
    let mut contents = BTreeMap::new();
    for object in store.list("manifest").await.expect("memory takes all") {
        contents
            .insert(object.key.clone(), store.get(&object.key).await.expect("memory takes all"));
    }
    contents
}

#[tokio::test]
async fn what_is_appended_is_read_though_the_writer_comes_and_goes() {
    let (store, writer) = (Store::memory(), Ulid::new());
    let many = 2 * ENTRIES_MAX as u64 + 3;
    for number in 0..many {
        let mut chain = Chain::open(&store, writer).await.unwrap();
        assert!(!chain.has_stored(&format!("object-{number}")));
        chain.append(stored(number), T + number).await.unwrap();
        let again = Chain::open(&store, writer).await.unwrap();
        for near in number.saturating_sub(ENTRIES_MAX as u64 - 1)..=number {
            assert!(again.has_stored(&format!("object-{near}")), "{near} of {number}");
            assert!(chain.has_stored(&format!("object-{number}")));
        }
    }
    let manifest = read(&store).await.unwrap();
    assert_eq!((manifest.breaks.len(), manifest.chains), (0, 1));
    let seqs: Vec<u64> = manifest.entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (0..many).collect::<Vec<_>>());
    assert_eq!(manifest.segments().len() as u64, many);
    assert_eq!(contents(&store).await.len(), 3);
    assert_eq!(manifest.entries[0].time, "2026-11-27T13:14:15.123456789Z");
}

#[tokio::test]
async fn a_segment_that_was_removed_is_no_longer_there_until_it_is_stored_again() {
    let store = Store::memory();
    let mut first = chain(&store, Ulid::new(), 2).await;
    let mut second = Chain::open(&store, Ulid::new()).await.unwrap();
    let gone = Event::Removed {
        object: "object-1".into(),
        reason: Removal::Age,
        packets: Some(3),
        bytes: 5,
    };
    second.append(gone, T + 10).await.unwrap();
    let manifest = read(&store).await.unwrap();
    assert_eq!(manifest.segments().into_keys().collect::<Vec<_>>(), ["object-0"]);
    assert_eq!(manifest.removed().into_keys().collect::<Vec<_>>(), ["object-1"]);
    first.append(stored(1), T + 20).await.unwrap();
    let manifest = read(&store).await.unwrap();
    assert_eq!((manifest.segments().len(), manifest.removed().len()), (2, 0));
    assert!(manifest.breaks.is_empty());
    // A clock that was set back does not change what came after what.
    first.append(Event::Released { hold: "late".into() }, 0).await.unwrap();
    let manifest = read(&store).await.unwrap();
    assert!(matches!(&manifest.entries.last().unwrap().event, Event::Released { .. }));
}

#[tokio::test]
async fn any_byte_that_is_altered_shows_with_its_object() {
    let (store, writer) = (Store::memory(), Ulid::from_parts(1, 1));
    chain(&store, writer, ENTRIES_MAX as u64 + 2).await;
    // A second chain remembers the end of the first one.
    chain(&store, Ulid::from_parts(2, 2), 1).await;
    for (key, good) in contents(&store).await {
        let step = (good.len() / 97).max(1);
        for at in (0..good.len()).step_by(step).chain([good.len() - 1]) {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            store.put(&key, bad.into()).await.unwrap();
            let breaks = read(&store).await.unwrap().breaks;
            assert!(breaks.iter().any(|of| of.object == key), "byte {at} of {key}");
        }
        store.put(&key, good).await.unwrap();
    }
    assert!(read(&store).await.unwrap().breaks.is_empty());
}

#[tokio::test]
async fn an_object_that_is_missing_shows_and_so_does_a_chain() {
    let (store, writer) = (Store::memory(), Ulid::from_parts(1, 1));
    chain(&store, writer, 3 * ENTRIES_MAX as u64).await;
    chain(&store, Ulid::from_parts(2, 2), 1).await;
    let all = contents(&store).await;
    for (key, good) in all.iter().take(3) {
        store.delete(key).await.unwrap();
        let breaks = read(&store).await.unwrap().breaks;
        let named = breaks.iter().any(|broken| key.starts_with(&broken.object));
        assert!(named, "{key}: {breaks:?}");
        store.put(key, good.clone()).await.unwrap();
    }
    for key in all.keys().take(3) {
        store.delete(key).await.unwrap();
    }
    let breaks = read(&store).await.unwrap().breaks;
    assert_eq!(breaks.len(), 1);
    assert_eq!(breaks[0].object, format!("manifest/{writer}"));
}

#[tokio::test]
async fn a_chain_whose_end_is_damaged_is_not_gone_on_with() {
    let (store, writer) = (Store::memory(), Ulid::new());
    chain(&store, writer, 3).await;
    let (key, _) = contents(&store).await.pop_first().unwrap();
    for bad in ["", "{}\n", "\u{fffd}"] {
        store.put(&key, Bytes::from_static(bad.as_bytes())).await.unwrap();
        let error = Chain::open(&store, writer).await.unwrap_err().to_string();
        assert!(error.starts_with(&key) && error.contains("verify"), "{error}");
        assert_eq!(read(&store).await.unwrap().breaks.len(), 1);
    }
}
