//! `tapline receive` as a service: what it tells the service manager, and its unit file.

mod over_loopback;

use over_loopback::*;
use rig::{Scratch, tool_or_skip};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

fn unit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd/tapline-receive.service")
}

#[test]
fn the_service_manager_is_told_of_start_and_stop() {
    let scratch = Scratch::new("service-notify");
    let socket = scratch.path("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let told = |within: Duration| -> Option<String> {
        manager.set_read_timeout(Some(within)).unwrap();
        let mut message = [0; 256];
        let len = manager.recv(&mut message).ok()?;
        Some(String::from_utf8(message[..len].to_vec()).unwrap())
    };
    let (port, ledger) = (free_port(), scratch.path("ledger.json"));
    let archive = scratch.path("archive");
    let mut command = Command::new(BINARY);
    command.env("NOTIFY_SOCKET", &socket);
    let receiver = Receiver::launch_by(command, port, &ledger, &["--archive", text(&archive)]);
    assert_eq!(told(SOON).expect("it is ready").trim_end(), "READY=1");
    let mut sender = Sender::new(port);
    sender.send(100, 300);
    receiver.wait_for_received(100);
    assert_eq!(told(Duration::from_millis(100)), None);
    receiver.signal(Signal::TERM);
    assert_eq!(told(SOON).expect("it is stopping").trim_end(), "STOPPING=1");
    let (code, said) = receiver.refused();
    assert_eq!(code, 0, "{said}");
    assert_eq!(numbers_in_whole(&segments(&archive)).len(), 100);

    // One that cannot listen is never ready.
    let _taken = std::net::UdpSocket::bind(("127.0.0.1", port)).unwrap();
    let mut command = Command::new(BINARY);
    command.env("NOTIFY_SOCKET", &socket);
    let words = ["--archive", text(&archive)];
    let (code, said) = Receiver::launch_by(command, port, &ledger, &words).refused();
    assert_eq!(code, 1, "{said}");
    assert_eq!(told(Duration::from_millis(100)), None);
}

#[test]
fn a_watchdog_is_fed_only_while_the_worker_goes_on() {
    let scratch = Scratch::new("service-watchdog");
    let (socket, pipe) = (scratch.path("notify"), scratch.path("pipe"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let manager = UnixDatagram::bind(&socket).unwrap();
    // Whether it is fed within a time; what else is told is passed over.
    let is_fed = |within: Duration| {
        let end = Instant::now() + within;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            manager.set_read_timeout(Some(left)).unwrap();
            let mut message = [0; 256];
            let Ok(len) = manager.recv(&mut message) else { return false };
            if message[..len].trim_ascii() == b"WATCHDOG=1" {
                return true;
            }
        }
    };
    let port = free_port();
    let mut command = Command::new(BINARY);
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "400000");
    let words = ["-w", text(&pipe)];
    let receiver = Receiver::launch_by(command, port, &scratch.path("ledger.json"), &words);
    let mut reader = fs::File::open(&pipe).unwrap();
    receiver.wait_for("listening on");
    for _ in 0..5 {
        assert!(is_fed(SOON));
    }
    // SIGSTOP is what a process cannot answer to.
    receiver.signal(Signal::STOP);
    while is_fed(Duration::from_millis(50)) {}
    assert!(!is_fed(Duration::from_millis(800)));
    receiver.signal(Signal::CONT);
    assert!(is_fed(SOON));
    let drain = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    receiver.stop();
    drain.join().unwrap().unwrap();
}

#[test]
fn a_service_manager_that_is_gone_is_no_reason_to_end() {
    let scratch = Scratch::new("service-gone");
    let mut command = Command::new(BINARY);
    command.env("NOTIFY_SOCKET", scratch.path("nobody"));
    let (port, file) = (free_port(), scratch.path("x.pcapng"));
    let words = ["-w", text(&file)];
    let receiver = Receiver::launch_by(command, port, &scratch.path("ledger.json"), &words);
    receiver.wait_for("cannot be told");
    Sender::new(port).send(10, 300);
    receiver.wait_for_received(10);
    assert_eq!(receiver.stop().0.written, 10);
}

/// The unit's settings, by section and key.
fn settings(unit: &str) -> BTreeMap<(String, String), Vec<String>> {
    let mut settings: BTreeMap<_, Vec<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => section = name.into(),
            None => {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
                settings.entry((section.clone(), key.into())).or_default().push(value.into());
            }
        }
    }
    settings
}

#[test]
fn the_unit_says_what_it_must() {
    let settings = settings(&fs::read_to_string(unit()).unwrap());
    let value = |section: &str, key: &str| {
        let values = settings.get(&(section.into(), key.into()));
        values.unwrap_or_else(|| panic!("no {key}= in [{section}]")).join(" ")
    };
    for (key, wanted) in [
        ("Type", "notify"),
        ("Restart", "on-failure"),
        ("KillSignal", "SIGTERM"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("StateDirectory", "tapline"),
        ("EnvironmentFile", "/etc/tapline/receive.env"),
        ("CapabilityBoundingSet", "CAP_NET_RAW CAP_BPF CAP_NET_ADMIN"),
        ("AmbientCapabilities", "CAP_NET_RAW CAP_BPF CAP_NET_ADMIN"),
    ] {
        assert_eq!(value("Service", key), wanted, "{key}");
    }
    assert!(value("Unit", "After").contains("network-online.target"));
    assert!(value("Unit", "Wants").contains("network-online.target"));
    // Sources and queues may take 2 s each to run dry, and files are closed after that.
    assert!(value("Service", "TimeoutStopSec").parse::<u32>().unwrap() >= 10);
    // The options that its comment gives as an example are understood.
    let text = fs::read_to_string(unit()).unwrap();
    let example = text.lines().find_map(|line| line.split_once("TAPLINE_RECEIVE_OPTIONS="));
    let options = example.expect("an example").1.replace("/var/lib/tapline", "/dev/null");
    let output = Command::new(BINARY).arg("receive").args(options.split(' ')).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/dev/null/archive"), "{said}");
}

#[test]
fn the_unit_passes_systemd_s_own_check() {
    if !tool_or_skip("systemd-analyze") {
        return;
    }
    let scratch = Scratch::new("service-verify");
    // The program and the manual page that it names are not installed here.
    let unit = fs::read_to_string(unit()).unwrap();
    let unit = unit.replace("/usr/bin/tapline", BINARY);
    let lines = unit.lines().filter(|line| !line.starts_with("Documentation="));
    let path = scratch.path("tapline-receive.service");
    fs::write(&path, lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
