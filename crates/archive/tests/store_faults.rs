//! A store that fails in all ways: nothing is called stored that is not there, and all is well when
//! the fault is over.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod bucket;

use api::StoreFile;
use archive::Window;
use archive::store::{Backoff, StoreError, StoreFault, random};
use bucket::{Bucket, content};
use bytes::Bytes;
use s3_server::Fault;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const KEY: &str = "date=2026-11-27/hour=13/source=a/x";

/// Faults that end a request without an answer, or with one that is no success.
const ENDS: [Fault; 6] = [
    Fault::Refuse,
    Fault::CutAnswer(0),
    Fault::CutAnswer(40),
    Fault::Status(500),
    Fault::Status(503),
    Fault::Status(507),
];

fn is_trouble(error: &StoreError, fault: Fault) {
    let wanted = match fault {
        Fault::Status(507) => StoreFault::Full,
        _ => StoreFault::Unavailable,
    };
    assert!(error.fault == wanted && error.is_passing(), "{fault:?}: {error}");
}

#[tokio::test]
async fn what_fails_is_told_and_goes_well_afterwards() {
    let bucket = Bucket::new("store-fails");
    let store = bucket.store();
    let small = content(&bucket.scratch, "small", 1000);
    store.put("there", Bytes::from_static(b"abc")).await.unwrap();
    for fault in ENDS {
        bucket.proxy.fail(fault);
        is_trouble(&store.put_file(KEY, &small.path, &small.sha256).await.unwrap_err(), fault);
        is_trouble(&store.put("k", Bytes::from_static(b"x")).await.unwrap_err(), fault);
        is_trouble(&store.get("there").await.unwrap_err(), fault);
        is_trouble(&store.get_range("there", 0..2).await.unwrap_err(), fault);
        is_trouble(&store.list("").await.unwrap_err(), fault);
        is_trouble(&store.list_window(Window::ALL).await.unwrap_err(), fault);
        is_trouble(&store.length("there").await.unwrap_err(), fault);
        bucket.proxy.heal();
        assert_eq!(&store.get("there").await.unwrap()[..], b"abc");
        store.put_file(KEY, &small.path, &small.sha256).await.unwrap();
        assert_eq!(bucket.on_disk(KEY).unwrap(), small.bytes);
        let listed = store.list("").await.unwrap();
        assert!(listed.iter().any(|object| object.key == KEY), "{fault:?}: {listed:?}");
        store.delete(KEY).await.unwrap();
    }
}

#[tokio::test]
async fn a_request_ends_in_time() {
    let bucket = Bucket::new("store-slow");
    let mut options = bucket.options();
    options.request_time_max = Duration::from_secs(2);
    options.bytes_per_s_min = 1 << 20;
    let store = bucket.store_with(options);
    let small = content(&bucket.scratch, "small", 1000);
    bucket.proxy.fail(Fault::Slow);
    let error = store.put_file(KEY, &small.path, &small.sha256).await.unwrap_err();
    is_trouble(&error, Fault::Slow);
    assert!(error.to_string().contains("no answer in 2 s"), "{error}");
    is_trouble(&store.get("x").await.unwrap_err(), Fault::Slow);
    is_trouble(&store.list("").await.unwrap_err(), Fault::Slow);
    bucket.proxy.fail(Fault::Delay(Duration::from_millis(50)));
    let patient = bucket.store();
    patient.put_file(KEY, &small.path, &small.sha256).await.unwrap();
    assert_eq!(bucket.on_disk(KEY).unwrap(), small.bytes);
}

#[tokio::test]
async fn a_store_that_lies_is_found_out() {
    let bucket = Bucket::new("store-lies");
    let store = bucket.store();
    let small = content(&bucket.scratch, "small", 1000);
    let large = content(&bucket.scratch, "large", 17 << 20);
    bucket.proxy.fail(Fault::Lie);
    for file in [&small, &large] {
        let error = store.put_file(KEY, &file.path, &file.sha256).await.unwrap_err();
        assert_eq!(error.fault, StoreFault::Unconfirmed, "{error}");
        assert!(error.is_passing() && bucket.on_disk(KEY).is_none());
    }
    let error = store.put("k", Bytes::from_static(b"new")).await.unwrap_err();
    assert_eq!(error.fault, StoreFault::Unconfirmed);
    // Another object of the same length does not count, though the server has a hash of it.
    bucket.proxy.heal();
    store.put("k", Bytes::from_static(b"old")).await.unwrap();
    bucket.proxy.fail(Fault::Lie);
    let error = store.put("k", Bytes::from_static(b"new")).await.unwrap_err();
    assert_eq!(error.fault, StoreFault::Unconfirmed);
    bucket.proxy.heal();
    for file in [&small, &large] {
        store.put_file(KEY, &file.path, &file.sha256).await.unwrap();
        assert_eq!(bucket.on_disk(KEY).unwrap(), file.bytes);
    }
}

#[tokio::test]
async fn a_large_file_arrives_through_random_faults() {
    let bucket = Bucket::new("store-random");
    let store = bucket.store();
    let large = content(&bucket.scratch, "large", 20 << 20);
    let faults = [
        Fault::Refuse,
        Fault::CutRequest(100_000),
        Fault::CutAnswer(10),
        Fault::Status(500),
        Fault::Status(503),
        Fault::Lie,
        Fault::Delay(Duration::from_millis(5)),
    ];
    bucket.proxy.fail_at_random(7, 30, &faults);
    let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(10));
    while let Err(error) = store.put_file(KEY, &large.path, &large.sha256).await {
        assert!(error.is_passing(), "{error}");
        assert!(backoff.failures() < 300, "{error}");
        tokio::time::sleep(backoff.failed(Instant::now(), random())).await;
    }
    assert!(bucket.on_disk(KEY).unwrap() == large.bytes);
}

#[tokio::test]
async fn what_is_there_is_not_sent_again() {
    let bucket = Bucket::new("store-again");
    let store = bucket.store();
    let small = content(&bucket.scratch, "small", 1000);
    let large = content(&bucket.scratch, "large", 9 << 20);
    for (key, file) in [("a", &small), ("b", &large)] {
        store.put_file(key, &file.path, &file.sha256).await.unwrap();
        let before = bucket.proxy.requests().len();
        store.put_file(key, &file.path, &file.sha256).await.unwrap();
        let requests = bucket.proxy.requests().split_off(before);
        let reads = |line: &String| line.starts_with("HEAD ") || line.starts_with("GET ");
        assert!(requests.iter().all(reads), "{requests:?}");
        // The server keeps a hash of what came in one piece: that is not read back.
        assert!(key == "b" || requests.iter().all(|l| l.starts_with("HEAD ")), "{requests:?}");
    }
    // What was altered there is sent again.
    fs::write(bucket.scratch.path("s3/bucket/some/prefix/b"), vec![0; 9 << 20]).unwrap();
    store.put_file("b", &large.path, &large.sha256).await.unwrap();
    assert!(bucket.on_disk("b").unwrap() == large.bytes);
}

#[tokio::test]
async fn two_writers_of_one_object_both_succeed() {
    let bucket = Bucket::new("store-two");
    let large = content(&bucket.scratch, "large", 9 << 20);
    let (one, other) = (bucket.store(), bucket.store());
    let puts = tokio::join!(
        one.put_file(KEY, &large.path, &large.sha256),
        other.put_file(KEY, &large.path, &large.sha256)
    );
    puts.0.unwrap();
    puts.1.unwrap();
    assert!(bucket.on_disk(KEY).unwrap() == large.bytes);
}

#[tokio::test]
async fn foreign_keys_do_not_hide_the_others() {
    let bucket = Bucket::new("store-foreign");
    let store = bucket.store();
    store.put(KEY, Bytes::from_static(b"x")).await.unwrap();
    let folder = bucket.scratch.path("s3/bucket/some/prefix");
    for name in ["tab\there", "per%cent", "a and & <b>"] {
        fs::write(folder.join(name), b"12").unwrap();
    }
    fs::create_dir(folder.join("fold\ter")).unwrap();
    fs::write(folder.join("fold\ter/x"), b"").unwrap();
    let keys: Vec<_> = store.list("").await.unwrap().into_iter().map(|o| o.key).collect();
    for key in [KEY, "tab\there", "per%cent", "a and & <b>"] {
        assert!(keys.iter().any(|known| known == key), "{key}: {keys:?}");
    }
    let listed = store.list_window(Window::ALL).await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(store.sweep(Duration::ZERO).await.unwrap(), 0);
}

#[tokio::test]
async fn settings_of_a_file_are_used_and_signed() {
    let bucket = Bucket::new("store-file");
    let text = format!(
        "endpoint = \"http://{}\"\nallow_http = true\npath_style = true\nregion = \"eu-west-1\"\n\
         credentials_file = \"keys\"\nprofile = \"tap\"\nsse = \"AES256\"\nlegal_hold = true\n\
         object_lock = {{ mode = \"GOVERNANCE\", days = 3 }}\nbandwidth = \"8MiB\"\n",
        bucket.proxy.address()
    );
    let keys = format!(
        "[tap]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        s3_server::ACCESS_KEY,
        s3_server::SECRET_KEY
    );
    let path = bucket.scratch.path("store.toml");
    fs::write(&path, text).unwrap();
    fs::write(bucket.scratch.path("keys"), keys).unwrap();
    let file = StoreFile::read(Path::new(&path)).unwrap();
    let options = archive::store::StoreOptions::default().with_file(&file).unwrap();
    let store = bucket.store_with(options);
    let large = content(&bucket.scratch, "large", 17 << 20);
    let started = Instant::now();
    store.put("k", Bytes::from_static(b"x")).await.unwrap();
    store.put_file(KEY, &large.path, &large.sha256).await.unwrap();
    // A second's bytes are free.
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(bucket.on_disk(KEY).unwrap() == large.bytes);
    let heads: Vec<String> =
        bucket.proxy.heads().iter().map(|head| head.to_ascii_lowercase()).collect();
    let locked: Vec<&String> =
        heads.iter().filter(|head| head.contains("x-amz-object-lock-mode: governance")).collect();
    assert_eq!(locked.len(), 2, "{heads:?}");
    for head in locked {
        assert!(head.contains("x-amz-object-lock-retain-until-date: 2"), "{head}");
        assert!(head.contains("x-amz-object-lock-legal-hold: on"), "{head}");
        assert!(head.contains("x-amz-server-side-encryption: aes256"), "{head}");
        assert!(head.contains("/eu-west-1/s3/"), "{head}");
    }
}

#[tokio::test]
async fn a_host_without_a_role_is_told_to_have_credentials() {
    let bucket = Bucket::new("store-role");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut options = bucket.options().with("aws_metadata_endpoint", format!("http://{closed}"));
    options.settings.retain(|name, _| !name.contains("access_key"));
    let error = bucket.store_with(options).list("").await.unwrap_err();
    assert_eq!(error.fault, StoreFault::Refused, "{error}");
    assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");
}

#[tokio::test]
async fn files_that_are_sent_together_share_memory_and_bandwidth() {
    let bucket = Bucket::new("store-together");
    let mut options = bucket.options();
    options.bytes_per_s_max = Some(40 << 20);
    let store = bucket.store_with(options);
    let files: Vec<_> =
        (0..6).map(|n| content(&bucket.scratch, &n.to_string(), (9 << 20) + n)).collect();
    let puts = files.iter().enumerate().map(|(n, file)| {
        let store = &store;
        async move { store.put_file(&n.to_string(), &file.path, &file.sha256).await }
    });
    for put in futures_util::future::join_all(puts).await {
        put.unwrap();
    }
    for (n, file) in files.iter().enumerate() {
        assert!(bucket.on_disk(&n.to_string()).unwrap() == file.bytes);
    }
}
