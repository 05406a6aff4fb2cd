//! `tapline receive --archive` brings what it records into the store, whatever the store does.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_loopback;

use api::{DropReason, StoreState};
use over_loopback::*;
use rig::{Scratch, tool_or_skip, wait_until};
use s3_server::{ACCESS_KEY, SECRET_KEY, Server};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

const BUCKET: &str = "captures";

/// A store's settings as a file, which stands beside the test's other files.
fn config(scratch: &Scratch, endpoint: &str, secret: &str) -> String {
    let path = scratch.path("store.toml");
    let content = format!(
        "endpoint = {endpoint:?}\nregion = \"us-east-1\"\npath_style = true\nallow_http = true\n\
         access_key_id = {ACCESS_KEY:?}\nsecret_access_key = {secret:?}\n"
    );
    fs::write(&path, content).unwrap();
    text(&path).into()
}

/// Every object's hash, computed by sha256sum, is the one in the manifest; gives how many segments
/// the manifest has.
fn assert_hashes(root: &Path) -> usize {
    let mut segments = 0;
    for file in files(&root.join("manifest"), ".jsonl") {
        for line in fs::read_to_string(file).unwrap().lines() {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            if entry["event"] != "stored" {
                continue;
            }
            segments += 1;
            let data = entry["object"].as_str().unwrap();
            let index = data.replace(".pcapng.zst", ".index.parquet");
            for (object, hash) in [(data, &entry["sha256"]), (&index, &entry["index_sha256"])] {
                let output = Command::new("sha256sum").arg(root.join(object)).output().unwrap();
                let said = String::from_utf8(output.stdout).unwrap();
                assert_eq!(said.split(' ').next(), hash.as_str(), "{object}");
            }
        }
    }
    assert_eq!(files(root, ".pcapng.zst").len(), segments, "one entry for each object");
    segments
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The body of the health port's answer; `None` while it is closed.
fn health(address: SocketAddr) -> Option<serde_json::Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    serde_json::from_str(reply.split_once("\r\n\r\n")?.1).ok()
}

#[test]
fn what_is_recorded_comes_into_a_folder_and_is_read_by_others() {
    let scratch = Scratch::new("archive-folder");
    let (archive, port) = (scratch.path("archive"), free_port());
    let words = ["--archive", text(&archive), "-C", "50kB"];
    let receiver = Receiver::start(port, &scratch.path("ledger.json"), &words);
    Sender::new(port).send(500, 500);
    receiver.wait_for_received(500);
    let (ledger, said) = receiver.stop();
    assert_eq!((ledger.written, ledger.drops.total()), (500, 0), "{said}");
    let shipped = ledger.archive.unwrap();
    assert_eq!((shipped.shipped_packets, shipped.spool_segments), (500, 0), "{said}");
    assert_eq!(assert_hashes(&archive) as u64, shipped.shipped_segments);
    assert!(shipped.shipped_segments >= 5, "{said}");
    assert!(said.contains("archive: stored ") && said.contains(", 0 wait in the spool"), "{said}");
    let left = files(&archive.join(".spool"), "");
    assert!(left.iter().all(|path| !text(path).contains("pcapng")), "{left:?}");
    let mut numbers = numbers_in_whole(&files(&archive, ".pcapng.zst"));
    numbers.sort_unstable();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>());
    if tool_or_skip("tshark") {
        let objects = files(&archive, ".pcapng.zst");
        let frames = objects.iter().map(|file| rig::rows(file, &[], &["frame.number"]).len());
        assert_eq!(frames.sum::<usize>(), 500);
    }
}

#[test]
fn a_store_that_is_down_at_the_start_gets_everything_when_it_is_back() {
    let scratch = Scratch::new("archive-down");
    let (port, address, spool) = (free_port(), free_address(), scratch.path("spool"));
    let (ledger, place) = (scratch.path("ledger.json"), format!("s3://{BUCKET}/site"));
    // A port that nobody listens on.
    let config_down = config(&scratch, &format!("http://{}", free_address()), SECRET_KEY);
    let health_port = address.to_string();
    let mut words = vec!["--archive", &place, "--spool", text(&spool), "-C", "50kB"];
    words.extend(["--store-config", &config_down, "--stop-within", "500ms"]);
    words.extend(["--health", &health_port]);
    let receiver = Receiver::start(port, &ledger, &words);
    let mut sender = Sender::new(port);
    sender.send(300, 500);
    receiver.wait_for_received(300);
    wait_until("it is said that the store is down", SOON, || {
        let shown = health(address).map(|shown| shown["archive"].clone());
        shown.is_some_and(|of| of["store"] == "down" && of["last_error"].is_string())
    });
    let (stats, said) = receiver.stop();
    assert_eq!((stats.written, stats.drops.total()), (300, 0), "{said}");
    let archive = stats.archive.unwrap();
    assert_eq!((archive.store, archive.shipped_segments), (StoreState::Down, 0), "{said}");
    assert!(archive.spool_segments >= 3 && said.contains("the next start ships them"), "{said}");

    let folder = scratch.path("buckets");
    fs::create_dir_all(folder.join(BUCKET)).unwrap();
    let server = Server::start(&folder, "127.0.0.1:0").unwrap();
    let config_up = config(&scratch, &format!("http://{}", server.address()), SECRET_KEY);
    let words = ["--archive", &place, "--spool", text(&spool), "--store-config", &config_up];
    let receiver = Receiver::start(port, &ledger, &words);
    sender.send(100, 500);
    receiver.wait_for_received(100);
    let (stats, said) = receiver.stop();
    assert_eq!(stats.archive.unwrap().shipped_packets, 400, "{said}");
    let root = folder.join(BUCKET).join("site");
    assert!(assert_hashes(&root) >= 4);
    let mut numbers = numbers_in_whole(&files(&root, ".pcapng.zst"));
    numbers.sort_unstable();
    assert_eq!(numbers, (0..400).collect::<Vec<_>>());
}

#[test]
fn wrong_credentials_are_said_and_cost_nothing() {
    let scratch = Scratch::new("archive-rights");
    let folder = scratch.path("buckets");
    fs::create_dir_all(folder.join(BUCKET)).unwrap();
    let server = Server::start(&folder, "127.0.0.1:0").unwrap();
    let (port, spool, ledger) = (free_port(), scratch.path("spool"), scratch.path("ledger.json"));
    let (place, secret) = (format!("s3://{BUCKET}"), "wrong-and-secret");
    let file = config(&scratch, &format!("http://{}", server.address()), secret);
    let mut words = vec!["--archive", &place, "--spool", text(&spool), "--store-config", &file];
    words.extend(["--stop-within", "500ms"]);
    let receiver = Receiver::start(port, &ledger, &words);
    Sender::new(port).send(100, 500);
    receiver.wait_for_received(100);
    receiver.wait_for("SignatureDoesNotMatch");
    let (stats, said) = receiver.stop();
    assert_eq!((stats.written, stats.drops.total()), (100, 0), "{said}");
    assert!(stats.archive.unwrap().last_error.unwrap().contains("check the access key"), "{said}");
    assert!(!said.contains(secret), "{said}");
    assert_eq!(numbers_in_whole(&segments(&spool)).len(), 100);
}

#[test]
fn a_full_spool_costs_new_packets_and_closes_the_health_port() {
    let scratch = Scratch::new("archive-full");
    let (port, address, spool) = (free_port(), free_address(), scratch.path("spool"));
    let (ledger, place) = (scratch.path("ledger.json"), format!("s3://{BUCKET}"));
    let file = config(&scratch, &format!("http://{}", free_address()), SECRET_KEY);
    let health_port = address.to_string();
    let mut words = vec!["--archive", &place, "--spool", text(&spool), "--store-config", &file];
    words.extend(["--spool-max", "500kB", "--stop-within", "500ms", "--health", &health_port]);
    let receiver = Receiver::start(port, &ledger, &words);
    wait_until("it is up", SOON, || health(address).is_some());
    let mut sender = Sender::new(port);
    sender.is_noise = true;
    sender.send(1000, 1000);
    receiver.wait_for_received(1000);
    wait_until("it is down", SOON, || health(address).is_none());
    let (stats, said) = receiver.stop();
    let full = stats.drops.get(DropReason::SpoolFull);
    assert!(full > 400 && stats.drops.total() == full, "{said}");
    let bytes: u64 = files(&spool, "").iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!((200_000..=500_000).contains(&bytes), "{bytes}");
    assert_eq!(numbers_in_whole(&segments(&spool)).len() as u64, stats.written);
}
