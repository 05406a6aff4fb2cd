//! `tapline receive` killed at random moments: what it had written is whole, what it left open is
//! adopted, nothing is there twice.

mod over_loopback;

use over_loopback::*;
use rig::{Scratch, duplicates};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Archives that are written, and killed, at the same time.
const ARCHIVES: usize = 5;
/// Rounds in all; `TAPLINE_KILL_ROUNDS` in the environment asks for another number.
const ROUNDS: usize = 50;

#[test]
fn a_receiver_killed_at_any_moment_loses_no_more_than_its_last_second() {
    let rounds = std::env::var("TAPLINE_KILL_ROUNDS").map(|n| n.parse().expect("a number"));
    let rounds: usize = rounds.unwrap_or(ROUNDS);
    std::thread::scope(|scope| {
        for _ in 0..ARCHIVES {
            scope.spawn(move || kill_often(rounds.div_ceil(ARCHIVES)));
        }
    });
}

fn kill_often(rounds: usize) {
    let scratch = Scratch::new("receive-kill");
    let (archive, ledger) = (scratch.path("archive"), scratch.path("ledger.json"));
    let port = free_port();
    let words = ["--archive", text(&archive), "-G", "250ms"];
    let mut sender = Sender::new(port);
    // Readable after some round.
    let mut kept: HashSet<u64> = HashSet::new();
    let mut left_open = 0;
    for round in 0..rounds {
        let receiver = Receiver::launch(port, &ledger, &words);
        if left_open > 0 {
            let line = receiver.wait_for("adopted");
            assert!(line.contains(&format!("{left_open} packets")), "{left_open} in {line}");
        }
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

        let open = numbers_in_open(&archive);
        left_open = open.len();
        let readable: HashSet<u64> =
            numbers_in_whole(&segments(&archive)).into_iter().chain(open).collect();
        assert!(kept.is_subset(&readable), "round {round}: what was there is gone");
        for (first, _) in sent.iter().filter(|(_, at)| *at + Duration::from_secs(1) < killed) {
            let whole = (*first..first + 10).all(|number| readable.contains(&number));
            assert!(whole, "round {round}: {first}… came more than 1 s before the kill");
        }
        kept = readable;
    }
    let receiver = Receiver::start(port, &ledger, &words);
    sender.send(10, 300);
    receiver.wait_for_received(10);
    let (ledger, _) = receiver.stop();
    assert_eq!((ledger.written, ledger.drops.total()), (10, 0));
    assert_eq!(files(&archive, ".open"), Vec::<PathBuf>::new(), "all were adopted");
    assert_eq!(files(&archive.join(".spool/damaged"), ""), Vec::<PathBuf>::new());
    let numbers = numbers_in_whole(&segments(&archive));
    assert_eq!(duplicates(&numbers), [0; 0]);
    kept.extend(sender.next - 10..sender.next);
    assert_eq!(numbers.into_iter().collect::<HashSet<u64>>(), kept);
}

#[test]
fn a_second_receiver_on_the_same_archive_takes_nothing_from_the_first() {
    let scratch = Scratch::new("receive-two");
    let archive = scratch.path("archive");
    let words = ["--archive", text(&archive)];
    let (port, other_port) = (free_port(), free_port());
    let first = Receiver::start(port, &scratch.path("first.json"), &words);
    let mut sender = Sender::new(port);
    sender.send(100, 300);
    first.wait_for_received(100);
    let second = Receiver::start(other_port, &scratch.path("second.json"), &words);
    let mut other = Sender::new(other_port);
    other.next = 1000;
    other.send(100, 300);
    sender.send(100, 300);
    second.wait_for_received(100);
    first.wait_for_received(200);
    let (_, said) = second.stop();
    assert!(!said.contains("adopted"), "{said}");
    let (ledger, _) = first.stop();
    assert_eq!(ledger.written, 200);
    let mut numbers = numbers_in_whole(&segments(&archive));
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).chain(1000..1100).collect::<Vec<_>>());
    assert_eq!(files(&archive, ".open"), Vec::<PathBuf>::new());
}
