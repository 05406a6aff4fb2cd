//! Stores: what was put is there, and nothing else is called so.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod bucket;

use archive::store::{PART_BYTES, Store, StoreFault, StoreOptions};
use archive::{Location, Window};
use bucket::{Bucket, content};
use bytes::Bytes;
use rig::Scratch;
use s3_server::{ACCESS_KEY, SECRET_KEY};
use std::fs;

async fn objects_come_back(scratch: &Scratch, store: &Store) {
    let small = content(scratch, "small", 1000);
    let large = content(scratch, "large", 20 << 20);
    assert!(large.bytes.len() as u64 > 2 * PART_BYTES);
    let keys = [
        "date=2026-11-27/hour=13/source=a/1",
        "date=2026-11-27/hour=14/source=a/2",
        "date=2026-11-28/hour=00/source=b/3",
    ];
    store.put_file(keys[0], &small.path, &small.sha256).await.unwrap();
    for _ in 0..2 {
        store.put_file(keys[1], &large.path, &large.sha256).await.unwrap();
    }
    store.put(keys[2], Bytes::from_static(b"abc")).await.unwrap();
    store.put("manifest/w/0.jsonl", Bytes::new()).await.unwrap();
    assert_eq!(&store.get(keys[0]).await.unwrap()[..], small.bytes);
    assert_eq!(&store.get(keys[1]).await.unwrap()[..], large.bytes);
    assert_eq!(store.length(keys[1]).await.unwrap(), Some(20 << 20));
    assert_eq!(store.length("none").await.unwrap(), None);
    let range = store.get_range(keys[1], 9_000_000..9_000_100).await.unwrap();
    assert_eq!(&range[..], &large.bytes[9_000_000..9_000_100]);
    assert!(store.get_range(keys[0], 990..1001).await.is_err());
    assert!(store.get("none").await.unwrap_err().is_not_found());
    assert!(store.get_range("none", 0..1).await.unwrap_err().is_not_found());

    let listed = |objects: Vec<archive::store::Object>| -> Vec<String> {
        objects.into_iter().map(|object| object.key).collect()
    };
    let all = listed(store.list("").await.unwrap());
    assert_eq!(all, [keys[0], keys[1], keys[2], "manifest/w/0.jsonl"]);
    assert_eq!(listed(store.list("manifest").await.unwrap()).len(), 1);
    assert!(store.list("none").await.unwrap().is_empty());
    let hour_ns = 3_600_000_000_000;
    let at_14 = 1_795_788_000_000_000_000; // 2026-11-27 14:00:00 UTC
    let window = Window { after_ns: at_14, before_ns: Some(at_14 + hour_ns) };
    assert_eq!(listed(store.list_window(window).await.unwrap()), [keys[1]]);
    assert_eq!(listed(store.list_window(Window::ALL).await.unwrap()), keys);

    // A file that is not what it was is not sent.
    let altered = store.put_file("x", &small.path, &large.sha256).await.unwrap_err();
    assert_eq!((altered.fault, altered.is_passing()), (StoreFault::Local, false));
    let altered = store.put_file("x", &large.path, &small.sha256).await.unwrap_err();
    assert_eq!(altered.fault, StoreFault::Local);
    let gone = store.put_file("x", &scratch.path("gone"), &small.sha256).await.unwrap_err();
    assert_eq!(gone.fault, StoreFault::Local);
    assert_eq!(store.length("x").await.unwrap(), None);

    for key in keys.iter().chain(&["manifest/w/0.jsonl", "none"]) {
        store.delete(key).await.unwrap();
    }
    assert!(store.list("").await.unwrap().is_empty());
    assert!(small.path.exists() && large.path.exists());
}

#[tokio::test]
async fn objects_come_back_from_a_folder() {
    let scratch = Scratch::new("store-folder");
    let location = Location::Directory(scratch.path("archive"));
    let store = Store::open(&location, &StoreOptions::default()).unwrap();
    objects_come_back(&scratch, &store).await;
    assert_eq!(fs::read_dir(scratch.path("archive")).unwrap().count(), 0);
}

#[tokio::test]
async fn objects_come_back_from_memory() {
    let scratch = Scratch::new("store-memory");
    objects_come_back(&scratch, &Store::memory()).await;
}

#[tokio::test]
async fn objects_come_back_from_a_bucket() {
    let bucket = Bucket::new("store-bucket");
    objects_come_back(&bucket.scratch, &bucket.store()).await;
    assert_eq!(bucket.on_disk("manifest/w/0.jsonl"), None);
}

#[tokio::test]
async fn what_is_wrong_is_said_with_its_mend_and_without_credentials() {
    let bucket = Bucket::new("store-wrong");
    let right = bucket.options();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cases = [
        (
            right.clone().with("aws_secret_access_key", "wrong-secret"),
            "s3://bucket",
            "check the access key",
        ),
        (
            right.clone().with("aws_access_key_id", "wrong-access"),
            "s3://bucket",
            "check the access key",
        ),
        (right.clone(), "s3://other-bucket/a", "make the bucket"),
        (
            right.clone().with("aws_endpoint", format!("http://{closed}")),
            "s3://bucket",
            "check the endpoint",
        ),
    ];
    let file = content(&bucket.scratch, "file", 10);
    for (options, location, mend) in cases {
        let store = Store::open(&location.parse().unwrap(), &options).unwrap();
        let mut errors = vec![store.list("").await.unwrap_err()];
        // This server makes buckets when objects are put into them, and else says that there is no key.
        if !location.contains("other") {
            errors.push(store.get("a/b").await.unwrap_err());
            errors.push(store.put_file("a/b", &file.path, &file.sha256).await.unwrap_err());
            errors.push(store.put("a/b", Bytes::from_static(b"x")).await.unwrap_err());
        }
        for error in errors {
            let text = error.to_string();
            assert!(text.contains(mend) && error.is_passing(), "{text}");
            let shown = format!("{text} {error:?} {store:?} {options:?}");
            for secret in [SECRET_KEY, ACCESS_KEY, "wrong-secret", "wrong-access"] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
    }
    let plain = right.with("aws_allow_http", "false");
    let store = Store::open(&"s3://bucket".parse().unwrap(), &plain).unwrap();
    let error = store.put("a", Bytes::new()).await.unwrap_err().to_string();
    assert!(error.contains("allow_http"), "{error}");
    for location in ["http://127.0.0.1:1/bucket", "https://example.com/bucket", "s3://"] {
        let opened = Store::open(&location.parse().unwrap(), &StoreOptions::default());
        assert_eq!(opened.unwrap_err().fault, StoreFault::Setup, "{location}");
    }
}
