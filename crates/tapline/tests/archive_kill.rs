//! `tapline receive` that ships to S3, killed at random moments: what it had written is in the spool or
//! stored, and in the end each packet is stored once.

mod over_loopback;

use over_loopback::*;
use rig::{Scratch, duplicates};
use s3_server::{ACCESS_KEY, SECRET_KEY, Server};
use std::collections::HashSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How often it is killed; `TAPLINE_KILL_ROUNDS` in the environment asks for another number.
const ROUNDS: usize = 12;

/// `tapline`, with what a bucket of this server asks for.
fn command(server: &Server) -> Command {
    let mut command = Command::new(BINARY);
    command
        .env("AWS_ENDPOINT", format!("http://{}", server.address()))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command
}

#[test]
fn a_receiver_killed_while_it_ships_stores_each_packet_once() {
    let rounds = std::env::var("TAPLINE_KILL_ROUNDS").map(|n| n.parse().expect("a number"));
    let rounds: usize = rounds.unwrap_or(ROUNDS);
    let scratch = Scratch::new("archive-kill");
    // The spool and the server's objects.
    let all = scratch.path("all");
    let (spool, bucket) = (all.join("spool"), all.join("buckets/tap"));
    fs::create_dir_all(&bucket).expect("the scratch folder can be written to");
    let server = Server::start(&all.join("buckets"), "127.0.0.1:0").expect("loopback is up");
    let ledger = scratch.path("ledger.json");
    let port = free_port();
    let words = ["--archive", "s3://tap/a", "--spool", text(&spool), "-G", "100ms"];
    let mut sender = Sender::new(port);
    let mut kept: HashSet<u64> = HashSet::new();
    for round in 0..rounds {
        let receiver = Receiver::launch_by(command(&server), port, &ledger, &words);
        receiver.wait_for("listening on");
        let until = Duration::from_millis(50 + RandomState::new().hash_one(round) % 1700);
        let mut sent = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < until {
            sent.push((sender.next, Instant::now()));
            sender.send(10, 300);
            std::thread::sleep(Duration::from_millis(3));
        }
        let killed = Instant::now();
        receiver.kill();
        let closed = numbers_in_whole(&segments(&all));
        let readable: HashSet<u64> = closed.into_iter().chain(numbers_in_open(&all)).collect();
        assert!(kept.is_subset(&readable), "round {round}: what was there is gone");
        for (first, _) in sent.iter().filter(|(_, at)| *at + Duration::from_secs(1) < killed) {
            let whole = (*first..first + 10).all(|number| readable.contains(&number));
            assert!(whole, "round {round}: {first}… came more than 1 s before the kill");
        }
        kept = readable;
    }
    let receiver = Receiver::launch_by(command(&server), port, &ledger, &words);
    receiver.wait_for("listening on");
    sender.send(10, 300);
    receiver.wait_for_received(10);
    let (ledger, said) = receiver.stop();
    assert_eq!((ledger.written, ledger.drops.total()), (10, 0));
    assert!(!said.contains(SECRET_KEY), "{said}");
    for ending in [".open", ".closed", ".sealed", ".uploaded", ".part"] {
        assert_eq!(files(&spool, ending), Vec::<PathBuf>::new());
    }
    let stored = files(&bucket, ".pcapng.zst");
    let numbers = numbers_in_whole(&stored);
    assert_eq!(duplicates(&numbers), [0; 0]);
    kept.extend(sender.next - 10..sender.next);
    assert_eq!(numbers.into_iter().collect::<HashSet<u64>>(), kept);
    // The manifest tells of each object once, with the hash that sha256sum sees.
    let told: Vec<serde_json::Value> = files(&bucket, ".jsonl")
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).expect("an object of the server");
            let lines = text.lines().map(|line| serde_json::from_str(line).expect("an entry"));
            lines.collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(told.len(), stored.len());
    let mut objects = HashSet::new();
    for entry in &told {
        let object = bucket.join("a").join(entry["object"].as_str().expect("a key"));
        assert_eq!(entry["sha256"], sha256sum(&object), "{}", object.display());
        let name = text(&object).replace(".pcapng.zst", ".index.parquet");
        assert_eq!(entry["index_sha256"], sha256sum(Path::new(&name)), "{name}");
        assert!(objects.insert(object));
    }
}

/// What sha256sum says of a file.
fn sha256sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().expect("coreutils are installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split(' ').next().unwrap_or_default().into()
}
