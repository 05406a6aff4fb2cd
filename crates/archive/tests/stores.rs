//! Stores: what was put is there, and nothing else is called so.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

use archive::store::{PART_BYTES, Store, StoreFault, StoreOptions};
use archive::{Location, Window};
use bytes::Bytes;
use rig::Scratch;
use s3_server::{ACCESS_KEY, SECRET_KEY, Server};
use sha2::{Digest, Sha256};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

fn options(address: SocketAddr) -> StoreOptions {
    StoreOptions::default()
        .with("aws_endpoint", format!("http://{address}"))
        .with("aws_allow_http", "true")
        .with("aws_access_key_id", ACCESS_KEY)
        .with("aws_secret_access_key", SECRET_KEY)
}

/// A server with one bucket, and the archive below a prefix of it.
fn bucket(scratch: &Scratch) -> (Server, Store) {
    fs::create_dir_all(scratch.path("s3/bucket")).unwrap();
    let server = Server::start(&scratch.path("s3"), "127.0.0.1:0").unwrap();
    let location: Location = "s3://bucket/some/prefix".parse().unwrap();
    let store = Store::open(&location, &options(server.address())).unwrap();
    (server, store)
}

/// A file of so many bytes that do not repeat, and its hash.
fn file(scratch: &Scratch, name: &str, bytes: usize) -> (PathBuf, Vec<u8>, [u8; 32]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let content: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(bytes)
    .collect();
    let path = scratch.path(name);
    fs::write(&path, &content).unwrap();
    let hash = Sha256::digest(&content).into();
    (path, content, hash)
}

async fn objects_come_back(scratch: &Scratch, store: &Store) {
    let (small, small_content, small_hash) = file(scratch, "small", 1000);
    let (large, large_content, large_hash) = file(scratch, "large", 20 << 20);
    assert!(large_content.len() as u64 > 2 * PART_BYTES);
    let keys = [
        "date=2026-11-27/hour=13/source=a/1",
        "date=2026-11-27/hour=14/source=a/2",
        "date=2026-11-28/hour=00/source=b/3",
    ];
    store.put_file(keys[0], &small, &small_hash).await.unwrap();
    for _ in 0..2 {
        store.put_file(keys[1], &large, &large_hash).await.unwrap();
    }
    store.put(keys[2], Bytes::from_static(b"abc")).await.unwrap();
    store.put("manifest/w/0.jsonl", Bytes::new()).await.unwrap();
    assert_eq!(&store.get(keys[0]).await.unwrap()[..], small_content);
    assert_eq!(&store.get(keys[1]).await.unwrap()[..], large_content);
    assert_eq!(store.length(keys[1]).await.unwrap(), Some(20 << 20));
    assert_eq!(store.length("none").await.unwrap(), None);
    let range = store.get_range(keys[1], 9_000_000..9_000_100).await.unwrap();
    assert_eq!(&range[..], &large_content[9_000_000..9_000_100]);
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
    let altered = store.put_file("x", &small, &large_hash).await.unwrap_err();
    assert_eq!((altered.fault, altered.is_passing()), (StoreFault::Local, false));
    let altered = store.put_file("x", &large, &small_hash).await.unwrap_err();
    assert_eq!(altered.fault, StoreFault::Local);
    let gone = store.put_file("x", &scratch.path("gone"), &small_hash).await.unwrap_err();
    assert_eq!(gone.fault, StoreFault::Local);
    assert_eq!(store.length("x").await.unwrap(), None);

    for key in keys.iter().chain(&["manifest/w/0.jsonl", "none"]) {
        store.delete(key).await.unwrap();
    }
    assert!(store.list("").await.unwrap().is_empty());
    assert!(small.exists() && large.exists());
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
    let scratch = Scratch::new("store-bucket");
    let (_server, store) = bucket(&scratch);
    objects_come_back(&scratch, &store).await;
}

#[tokio::test]
async fn what_is_wrong_is_said_with_its_mend_and_without_credentials() {
    let scratch = Scratch::new("store-wrong");
    let (server, _) = bucket(&scratch);
    let right = options(server.address());
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
    let (path, _, hash) = file(&scratch, "file", 10);
    for (options, location, mend) in cases {
        let store = Store::open(&location.parse().unwrap(), &options).unwrap();
        let mut errors = vec![store.list("").await.unwrap_err()];
        // This server makes buckets when objects are put into them, and else says that there is no key.
        if !location.contains("other") {
            errors.push(store.get("a/b").await.unwrap_err());
            errors.push(store.put_file("a/b", &path, &hash).await.unwrap_err());
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
