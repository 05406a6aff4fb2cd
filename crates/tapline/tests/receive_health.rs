//! The port of `tapline receive --health`: open while packets are received and can be written, closed
//! at any other time, and never in the way of the packets.

mod over_loopback;

use over_loopback::*;
use rig::{Scratch, Tmpfs, wait_until};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    listener.local_addr().expect("it is bound")
}

fn is_open(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

fn wait_for_port(address: SocketAddr, open: bool) {
    wait_until(&format!("the port is open: {open}"), SOON, || is_open(address) == open);
}

/// Sends a request; gives all that comes back.
fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect_timeout(&address, SOON).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a time above 0");
    stream.write_all(request).expect("it reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("it answers and closes");
    reply
}

fn json(address: SocketAddr) -> serde_json::Value {
    let reply = ask(address, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"))
}

/// A receiver with a health port, into a file.
fn start(scratch: &Scratch, port: u16, address: SocketAddr, place: &Path) -> Receiver {
    let words = ["--health", &address.to_string(), "-w", text(place)];
    Receiver::start(port, &scratch.path("ledger.json"), &words)
}

#[test]
fn it_is_open_while_packets_are_recorded_and_tells_how_many() {
    let scratch = Scratch::new("health-open");
    let (port, address) = (free_port(), free_address());
    let receiver = start(&scratch, port, address, &scratch.path("x.pcapng"));
    wait_for_port(address, true);
    let before = json(address);
    assert_eq!((&before["status"], &before["disk"]), (&"up".into(), &"ok".into()));
    assert_eq!((&before["received"], &before["unaccounted"]), (&0.into(), &0.into()));
    Sender::new(port).send(100, 300);
    receiver.wait_for_received(100);
    wait_until("it tells of them", SOON, || json(address)["written"] == 100);
    assert!(ask(address, b"HEAD / HTTP/1.0\r\n\r\n").ends_with("\r\n\r\n"));
    let started = Instant::now();
    let (_, said) = receiver.stop();
    assert!(!is_open(address));
    assert!(started.elapsed() < Duration::from_secs(3), "{said}");
    assert!(!said.contains("closed, as"), "{said}");
}

#[test]
fn bad_input_does_no_harm() {
    let scratch = Scratch::new("health-bad");
    let (port, address) = (free_port(), free_address());
    let receiver = start(&scratch, port, address, &scratch.path("x.pcapng"));
    wait_for_port(address, true);
    assert!(ask(address, b"\x16\x03\x01\0\0garbage\r\n\r\n").contains(" 400 "));
    assert!(ask(address, b"DELETE / HTTP/1.1\r\n\r\n").contains(" 405 "));
    assert!(ask(address, &vec![b'A'; 9000]).contains(" 431 "));
    // Many that say nothing, half a request, or go away at once; then packets and a check.
    let mut silent: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect_timeout(&address, SOON).expect("it accepts")).collect();
    for (n, stream) in (0..).zip(&mut silent) {
        match n % 3 {
            0 => drop(stream.write_all(b"GET / HTT")),
            1 => drop(stream.shutdown(Shutdown::Both)),
            _ => {}
        }
    }
    let mut sender = Sender::new(port);
    for _ in 0..20 {
        sender.send(100, 300);
        assert_eq!(json(address)["status"], "up");
    }
    receiver.wait_for_received(2000);
    drop(silent);
    assert_eq!(receiver.stop().0.written, 2000);
}

#[test]
fn it_is_closed_while_the_worker_is_stuck() {
    let scratch = Scratch::new("health-stuck");
    let pipe = scratch.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("coreutils").success());
    let (port, address) = (free_port(), free_address());
    let words = ["--health", &address.to_string(), "-w", text(&pipe)];
    let receiver = Receiver::launch(port, &scratch.path("ledger.json"), &words);
    let mut reader = File::open(&pipe).expect("it opens the other end");
    receiver.wait_for("listening on");
    wait_for_port(address, true);
    // More than the pipe holds, and nobody reads it.
    let mut sender = Sender::new(port);
    sender.send(1000, 1000);
    let since = Instant::now();
    wait_for_port(address, false);
    assert!(since.elapsed() < Duration::from_secs(5));
    let drain = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes.len())
    });
    wait_for_port(address, true);
    let (ledger, said) = receiver.stop();
    assert_eq!(ledger.written, 1000, "{said}");
    assert!(said.contains("closed, as packets are not recorded"), "{said}");
    assert!(drain.join().unwrap().unwrap() > 1_000_000);
}

#[test]
fn it_is_closed_while_the_disk_is_full_and_opens_again_though_no_packet_comes() {
    let Some(disk) = Tmpfs::new(1_000_000, "") else { return };
    let scratch = Scratch::new("health-full");
    for name in ["archive", "x.pcapng"] {
        let (port, address) = (free_port(), free_address());
        let place = disk.path().join(name);
        let option = if name == "archive" { "--archive" } else { "-w" };
        let words = ["--health", &address.to_string(), option, text(&place)];
        let receiver = Receiver::start(port, &scratch.path("ledger.json"), &words);
        let mut sender = Sender::new(port);
        sender.send(10, 300);
        wait_for_port(address, true);
        wait_until("the first are written", SOON, || receiver.ledger().written == 10);
        let filler = disk.fill("filler");
        sender.send(200, 300);
        wait_for_port(address, false);
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!is_open(address), "it stays closed");
        // Which says SO_REUSEADDR, as a server does.
        assert!(TcpListener::bind(address).is_err(), "the address stays taken");
        fs::remove_file(filler).unwrap();
        wait_for_port(address, true);
        sender.send(10, 300);
        receiver.wait_for_received(220);
        let (ledger, said) = receiver.stop();
        assert!((20..60).contains(&ledger.written), "{said}");
        fs::remove_dir_all(&place).or_else(|_| fs::remove_file(&place)).unwrap();
    }
}

#[test]
fn it_is_closed_while_the_end_is_awaited() {
    let scratch = Scratch::new("health-end");
    let pipe = scratch.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("coreutils").success());
    let (port, address) = (free_port(), free_address());
    let words = ["--health", &address.to_string(), "-w", text(&pipe)];
    let receiver = Receiver::launch(port, &scratch.path("ledger.json"), &words);
    let reader = File::open(&pipe).expect("it opens the other end");
    receiver.wait_for("listening on");
    wait_for_port(address, true);
    Sender::new(port).send(1000, 1000);
    // It cannot end while its reader does not read; the port is closed long before it is.
    receiver.signal(Signal::TERM);
    let since = Instant::now();
    wait_for_port(address, false);
    assert!(since.elapsed() < Duration::from_millis(1500), "{:?}", since.elapsed());
    drop(reader);
}

#[test]
fn an_address_that_is_taken_is_an_error_before_anything_is_written() {
    let scratch = Scratch::new("health-taken");
    let file = scratch.path("x.pcapng");
    fs::write(&file, "precious").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let refused = |address: &str| {
        let words = ["--health", address, "-w", text(&file)];
        Receiver::launch(free_port(), &scratch.path("ledger.json"), &words).refused()
    };
    let (code, said) = refused(&address);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("--health {address}: Address already in use")), "{said}");
    assert!(said.contains("choose another port"), "{said}");
    let (code, said) = refused("192.0.2.1:8080");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("an address of this host"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    assert_eq!(refused("8080").0, 2);
}

#[test]
fn checks_cost_no_packet() {
    let scratch = Scratch::new("health-load");
    let (port, address) = (free_port(), free_address());
    let receiver = start(&scratch, port, address, &scratch.path("x.pcapng"));
    wait_for_port(address, true);
    let mut sender = Sender::new(port);
    let end = Instant::now() + Duration::from_secs(1);
    let mut checks = 0;
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            while Instant::now() < end {
                sender.send(200, 300);
            }
            sender.next
        });
        while Instant::now() < end {
            checks += u64::from(json(address)["status"] == "up");
        }
        let sent = load.join().unwrap();
        receiver.wait_for_received(sent);
        let (ledger, said) = receiver.stop();
        assert_eq!((ledger.written, ledger.drops.total()), (sent, 0), "{said}");
    });
    assert!(checks > 20, "{checks}");
}
