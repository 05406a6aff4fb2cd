//! The local socket of a running command: what it answers, and who cannot disturb it.

mod over_loopback;

use over_loopback::*;
use rig::{Scratch, wait_until};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A receiver whose run directory is the folder `run` of a scratch folder, and its socket.
fn receiver(scratch: &Scratch, words: &[&str]) -> (Receiver, PathBuf, Sender) {
    let run = scratch.path("run");
    let mut command = Command::new(BINARY);
    command.env("TAPLINE_RUN_DIR", &run);
    let (port, file) = (free_port(), scratch.path("x.pcapng"));
    let words = [&["-w", text(&file)], words].concat();
    let receiver = Receiver::launch_by(command, port, &scratch.path("ledger.json"), &words);
    receiver.wait_for("listening on");
    let sockets = files(&run, ".sock");
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    (receiver, sockets[0].clone(), Sender::new(port))
}

/// What a socket answers to one line.
fn ask(socket: &Path, line: &str) -> Value {
    let mut stream = UnixStream::connect(socket).expect("it is served");
    stream.set_read_timeout(Some(SOON)).expect("not zero");
    stream.write_all(format!("{line}\n").as_bytes()).expect("it is read");
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).expect("it is answered");
    serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{line}: {e}: {answer}"))
}

fn status(socket: &Path) -> api::Status {
    serde_json::from_value(ask(socket, r#"{"request":"status"}"#)).expect("a status")
}

#[test]
fn the_status_is_who_it_is_and_its_ledger() {
    let scratch = Scratch::new("local-status");
    let (receiver, socket, mut sender) = receiver(&scratch, &["--name", "east"]);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    sender.send(100, 300);
    wait_until("all are counted", SOON, || status(&socket).stats.received == 100);
    let said = status(&socket);
    assert_eq!((said.command.as_str(), said.name.as_deref()), ("receive", Some("east")));
    assert_eq!(socket.file_name().unwrap().to_str().unwrap(), format!("receive-{}.sock", said.pid));
    assert_eq!((said.version.as_str(), said.config), (env!("CARGO_PKG_VERSION"), None));
    assert_eq!(said.stats.unaccounted, 0);
    let later = status(&socket);
    assert!((said.since, said.uptime_ms) <= (later.since, later.uptime_ms) && said.since > 0);
    // There is no file that it could read again.
    for request in ["reload", "show"] {
        let answer = ask(&socket, &format!(r#"{{"request":"{request}"}}"#));
        assert!(answer["error"].as_str().unwrap().contains("configuration file"), "{answer}");
    }
    receiver.stop();
    assert!(!socket.exists());
}

#[test]
fn many_requests_may_follow_each_other_and_nonsense_is_answered() {
    let scratch = Scratch::new("local-nonsense");
    let (receiver, socket, _) = receiver(&scratch, &[]);
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    for bad in ["", "{", "null", "[1]", r#"{"request":"rm"}"#, "\u{0}\u{1}", "GET / HTTP/1.1"] {
        // In two parts, as a network would.
        stream.write_all(bad.as_bytes()).unwrap();
        stream.write_all(b"\n").unwrap();
        let answer = lines.next().unwrap().unwrap();
        assert!(answer.starts_with(r#"{"error":"#), "{bad}: {answer}");
        stream.write_all(b"{\"request\":\"status\"}\n").unwrap();
        let answer = lines.next().unwrap().unwrap();
        assert!(answer.contains(r#""command":"receive""#), "{bad}: {answer}");
    }
    // One that never ends is ended.
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let _ = stream.write_all(&[b'a'; 10_000]);
    let mut answer = String::new();
    let _ = BufReader::new(stream).read_line(&mut answer);
    assert!(answer.contains("4096 bytes at most"), "{answer}");
    receiver.stop();
}

#[test]
fn clients_that_say_nothing_or_read_nothing_hold_nobody_up() {
    let scratch = Scratch::new("local-silent");
    let (receiver, socket, mut sender) = receiver(&scratch, &[]);
    // More than there is room for: the oldest are closed.
    let mut silent: Vec<UnixStream> = Vec::new();
    for number in 0..100 {
        let mut stream = UnixStream::connect(&socket).unwrap();
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"{\"request\":").unwrap_or_default(),
            // Asks and asks, and does not read.
            _ => {
                stream.set_nonblocking(true).unwrap();
                for _ in 0..1000 {
                    if stream.write_all(b"{\"request\":\"status\"}\n").is_err() {
                        break;
                    }
                }
            }
        }
        silent.push(stream);
    }
    sender.send(500, 300);
    wait_until("all are counted", SOON, || {
        // One that came while all threads were still waiting is closed without an answer.
        let mut answer = String::new();
        let Ok(mut stream) = UnixStream::connect(&socket) else { return false };
        stream.set_read_timeout(Some(SOON)).unwrap();
        let asked = stream.write_all(b"{\"request\":\"status\"}\n");
        let _ = asked.and_then(|()| BufReader::new(stream).read_line(&mut answer));
        serde_json::from_str::<api::Status>(&answer).is_ok_and(|said| said.stats.received == 500)
    });
    let mut byte = [0];
    silent[0].set_read_timeout(Some(SOON)).unwrap();
    assert!(silent[0].read(&mut byte).is_ok_and(|len| len == 0), "the oldest is closed");
    drop(silent);
    assert_eq!(receiver.stop().0.written, 500);
}

#[test]
fn what_a_killed_process_left_is_removed_and_a_living_one_s_is_not() {
    let scratch = Scratch::new("local-stale");
    let run = scratch.path("run");
    fs::create_dir(&run).unwrap();
    // No process has a number so high.
    let (stale, other) = (run.join("mirror-4194999.sock"), run.join("notes.txt"));
    drop(UnixListener::bind(&stale).unwrap());
    fs::write(&other, "kept").unwrap();
    let living = run.join(format!("mirror-{}.sock", std::process::id()));
    drop(UnixListener::bind(&living).unwrap());
    let mut command = Command::new(BINARY);
    command.env("TAPLINE_RUN_DIR", &run);
    let (port, file) = (free_port(), scratch.path("x.pcapng"));
    let words = ["-w", text(&file)];
    let receiver = Receiver::launch_by(command, port, &scratch.path("ledger.json"), &words);
    receiver.wait_for("listening on");
    assert!(!stale.exists() && other.exists() && living.exists());
    receiver.stop();
}

#[test]
fn without_a_place_for_it_packets_are_received_all_the_same() {
    let scratch = Scratch::new("local-none");
    let mut command = Command::new(BINARY);
    command.env("TAPLINE_RUN_DIR", "/dev/null/run");
    let (port, file) = (free_port(), scratch.path("x.pcapng"));
    let words = ["-w", text(&file)];
    let receiver = Receiver::launch_by(command, port, &scratch.path("ledger.json"), &words);
    receiver.wait_for("no local socket /dev/null/run/receive-");
    receiver.wait_for("listening on");
    Sender::new(port).send(10, 300);
    receiver.wait_for_received(10);
    assert_eq!(receiver.stop().0.written, 10);
}
