//! Who may read what is recorded, and what is left of root's rights: `--user` and `--group`.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_loopback;

use over_loopback::*;
use rig::{Running, Scratch, root_or_skip};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

/// Users and groups that every Linux host has.
const USER: &str = "nobody";
const GROUP: &str = "daemon";

fn number(database: &str, name: &str) -> u32 {
    let output = Command::new("getent").args([database, name]).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    line.split(':').nth(2).expect("it is there").trim().parse().unwrap()
}

/// A field of /proc/PID/status, its words joined by one space.
fn status_of(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// All threads are the user's, in the group, with no right but those of capturing.
fn assert_has_left_root(pid: u32, uid: u32, gid: u32) {
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let thread = thread.unwrap().file_name().to_string_lossy().parse().unwrap();
        assert_eq!(status_of(thread, "Uid"), [uid.to_string().as_str(); 4].join(" "));
        assert_eq!(status_of(thread, "Gid"), [gid.to_string().as_str(); 4].join(" "));
        // CAP_NET_ADMIN 12, CAP_NET_RAW 13, CAP_BPF 39 (linux/capability.h).
        let kept: u64 = 1 << 12 | 1 << 13 | 1 << 39;
        for set in ["CapPrm", "CapEff"] {
            let rights = u64::from_str_radix(&status_of(thread, set), 16).unwrap();
            assert_eq!(rights & !kept, 0, "{set} {rights:x}");
            assert_ne!(rights & 1 << 13, 0, "{set}: the ring may be opened again");
        }
        assert_eq!(status_of(thread, "CapInh"), "0000000000000000");
    }
}

fn assert_owned(path: &Path, uid: u32, gid: u32) {
    let of = path.metadata().unwrap();
    let mode = of.mode() & 0o777;
    assert_eq!((of.uid(), of.gid()), (uid, gid), "{}", path.display());
    let wanted = if of.is_dir() { 0o750 } else { 0o640 };
    assert_eq!(mode, wanted, "{} has mode {mode:o}", path.display());
}

/// Everything below a folder.
fn all_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_below(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn a_receiver_that_becomes_a_user_records_and_has_left_root() {
    if !root_or_skip() {
        return;
    }
    let (uid, gid) = (number("passwd", USER), number("group", GROUP));
    let scratch = Scratch::new("rights-receive");
    fs::set_permissions(scratch.folder(), Permissions::from_mode(0o755)).unwrap();
    let own = scratch.path("own");
    fs::create_dir(&own).unwrap();
    chown(&own, Some(uid), Some(gid)).unwrap();
    // Only root may make the archive where it stands.
    let archive = scratch.path("made/archive");
    let port = free_port();
    for datapath in ["ring", "socket"] {
        let words = ["--archive", text(&archive), "--user", USER, "--group", GROUP];
        let words = [&words[..], &["--datapath", datapath]].concat();
        let receiver = Receiver::start(port, &own.join("ledger.json"), &words);
        assert_has_left_root(receiver.pid(), uid, gid);
        Sender::new(port).send(50, 300);
        receiver.wait_for_received(50);
        let (ledger, said) = receiver.stop();
        assert_eq!((ledger.written, ledger.drops.total()), (50, 0), "{said}");
    }
    let below = all_below(&scratch.path("made"));
    assert!(below.len() >= 4, "{below:?}");
    below.iter().for_each(|path| assert_owned(path, uid, gid));
    assert_eq!(numbers_in_whole(&segments(&archive)).len(), 100);
}

#[test]
fn a_group_alone_may_read_what_root_records() {
    if !root_or_skip() {
        return;
    }
    let gid = number("group", GROUP);
    let scratch = Scratch::new("rights-group");
    let (archive, port) = (scratch.path("archive"), free_port());
    let words = ["--archive", text(&archive), "--group", GROUP];
    let receiver = Receiver::start(port, &scratch.path("ledger.json"), &words);
    Sender::new(port).send(50, 300);
    receiver.wait_for_received(50);
    receiver.stop();
    assert_owned(&archive, 0, gid);
    all_below(&archive).iter().for_each(|path| assert_owned(path, 0, gid));
}

#[test]
fn a_capture_that_becomes_a_user_writes_that_user_s_file() {
    if !root_or_skip() {
        return;
    }
    let (uid, gid) = (number("passwd", USER), number("group", GROUP));
    let scratch = Scratch::new("rights-capture");
    fs::set_permissions(scratch.folder(), Permissions::from_mode(0o755)).unwrap();
    let own = scratch.path("own");
    fs::create_dir(&own).unwrap();
    chown(&own, Some(uid), Some(gid)).unwrap();
    let file = own.join("x.pcapng");
    let port = free_port();
    let expression = format!("udp dst port {port}");
    let mut command = Command::new(BINARY);
    command.args(["capture", "-i", "lo", "-c", "10", "-w", text(&file), "--user", USER]);
    command.args(["--group", GROUP, &expression]);
    let running = Running::start(&mut command);
    running.wait_for("listening on", SOON);
    assert_has_left_root(running.id(), uid, gid);
    Sender::new(port).send(10, 60);
    let finished = running.finish(SOON);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert_owned(&file, uid, gid);
    assert_eq!(rig::frames_in(&file).len(), 10);
}

#[test]
fn files_are_hidden_from_others_for_whoever_records() {
    let scratch = Scratch::new("rights-modes");
    for (option, name) in [("--archive", "archive"), ("-w", "x.pcapng")] {
        let (place, port) = (scratch.path(name), free_port());
        let words = [option, text(&place)];
        let receiver = Receiver::start(port, &scratch.path("ledger.json"), &words);
        Sender::new(port).send(10, 300);
        receiver.wait_for_received(10);
        receiver.stop();
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o027;
        assert_eq!(mode(&place), 0);
        if place.is_dir() {
            all_below(&place).iter().for_each(|path| assert_eq!(mode(path), 0));
        }
    }
}

#[test]
fn who_is_nobody_is_refused_by_name() {
    let scratch = Scratch::new("rights-refused");
    let archive = scratch.path("archive");
    for (option, wanted) in
        [("--user", "there is no such user"), ("--group", "there is no such group")]
    {
        let words = ["--archive", text(&archive), option, "nobody-at-all"];
        let receiver = Receiver::launch(free_port(), &scratch.path("ledger.json"), &words);
        let (code, said) = receiver.refused();
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&format!("{option} nobody-at-all: {wanted}")), "{said}");
    }
    assert!(!archive.exists());
}
