//! However a command ends, and whatever befalls its interface, its ledger balances and its file is
//! whole.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_links;

use api::DropReason;
use capfile::Reader;
use over_links::*;
use rig::{
    Generator, Running, capture_files, frames_in, numbers_in, root_or_skip, stats, tool_or_skip,
};
use rustix::process::Signal;
use std::fs::File;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

/// The load: packets a second and in all, 1.5 s.
const LOAD: (u64, u64) = (20_000, 30_000);
const MIRROR: [&str; 5] = ["mirror", "-i", "client", "--to", "vxlan://10.71.1.2?vni=7"];

#[test]
fn a_signal_under_load_ends_a_capture_with_all_that_came_before() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("stop-signal");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let file = scene.path("capture.pcapng");
        let capture = start_capture(&scene, &file);
        let load = start_load(&scene);
        std::thread::sleep(Duration::from_millis(500));
        capture.signal(signal);
        let (ledger, said) = capture.finish(0);
        load.join().unwrap();
        assert!(ledger.written > 0, "{said}");
        let lost = ledger.drops.total() - ledger.drops.get(DropReason::Stopped);
        assert_eq!(lost, 0, "a ring of 64 MiB loses nothing of this load: {said}");
        let numbers = numbers_in(&file);
        assert_eq!(numbers, (0..ledger.written).collect::<Vec<_>>(), "{signal:?}");
        assert_is_whole(&file);
    }
}

#[test]
fn a_signal_under_load_ends_mirror_and_receive_in_balance() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("stop-both");
    for (signal, first) in [(Signal::INT, "mirror"), (Signal::TERM, "receive")] {
        let archive = scene.path(first);
        let receive = scene.start(
            "sink",
            &["receive", "--listen", "vxlan://0.0.0.0", "--archive", text(&archive)],
        );
        let mirror = start_mirror(&scene, &[]);
        let load = start_load(&scene);
        std::thread::sleep(Duration::from_millis(500));
        let order = if first == "mirror" { [mirror, receive] } else { [receive, mirror] };
        let ledgers = order.map(|tapline| {
            std::thread::sleep(Duration::from_millis(100));
            tapline.signal(signal);
            tapline.finish(0)
        });
        load.join().unwrap();
        let received = &ledgers[usize::from(first == "mirror")].0;
        let files = capture_files(&archive);
        assert_eq!(files.len(), 1, "{files:?}");
        assert!(!text(&files[0]).ends_with(".open"), "an open segment was left: {files:?}");
        assert_is_whole(&files[0]);
        let numbers = numbers_in(&files[0]);
        assert!(received.written > 0);
        assert_eq!(numbers, (0..received.written).collect::<Vec<_>>(), "{ledgers:?}");
    }
}

#[test]
fn a_kill_costs_a_recording_at_most_its_last_second() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("stop-kill");
    let archive = scene.path("archive");
    let listen = ["receive", "--listen", "vxlan://0.0.0.0", "--archive", text(&archive)];
    let receive = scene.start("sink", &listen);
    let file = scene.path("capture.pcapng");
    let capture = start_capture(&scene, &file);
    let mirror = start_mirror(&scene, &[]);
    scene.send(&Generator::new(5_000, 2_000));
    receive.wait_for_received(2_000);
    // What came more than a second ago is in the file, whatever else comes.
    std::thread::sleep(Duration::from_millis(1_500));
    scene.send(&Generator::new(20_000, 2_000).payload_bytes(80));
    for tapline in [receive, capture, mirror] {
        tapline.kill();
    }
    let spool = std::fs::read_dir(archive.join(".spool")).unwrap();
    let spool = spool.map(|entry| entry.unwrap().path());
    let spool: Vec<PathBuf> = spool.filter(|path| text(path).contains(".pcapng")).collect();
    assert_eq!(spool.len(), 1, "{spool:?}");
    for file in [&spool[0], &file] {
        let mut reader = Reader::new(File::open(file).unwrap()).unwrap();
        let mut whole = 0;
        while let Some(record) = reader.next().unwrap() {
            whole += u64::from(record.origlen == 14 + 20 + 8 + 64);
        }
        assert_eq!(whole, 2_000, "{}: {:?}", file.display(), reader.warning());
    }
}

#[test]
fn c_ends_a_capture_after_exactly_so_many_packets() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("stop-count");
    for count in [1, 1000] {
        let (file, count_text) = (scene.path("capture.pcapng"), count.to_string());
        let words = ["capture", "-i", "client", "-c", &count_text, "--fail-on-drop", "-w"];
        let capture = scene.start("tapped", &[&words[..], &[text(&file), NUMBERED]].concat());
        let load = start_load(&scene);
        // What comes behind the last packet that was asked for is no loss.
        let (ledger, said) = capture.finish(0);
        load.join().unwrap();
        assert_eq!((ledger.matched, ledger.written), (count, count), "{said}");
        assert_eq!(numbers_in(&file), (0..count).collect::<Vec<_>>());
        assert_is_whole(&file);
    }
}

#[test]
fn a_reader_that_closes_the_pipe_ends_the_capture() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("stop-pipe");
    let (ledger, code) = (scene.path("pipe.json"), scene.path("code"));
    for write in ["-w -", ""] {
        let script = format!(
            "{{ {BINARY} capture -i client {write} --stats-json {} udp port 9; echo $? > {}; }} \
             | head -c 1000 | wc -c",
            text(&ledger),
            text(&code)
        );
        let mut shell = scene.host("tapped").netns.command("sh");
        let shell = Running::start(shell.args(["-c", &script]));
        shell.wait_for("listening on", SOON);
        let load = start_load(&scene);
        let finished = shell.finish(SOON);
        load.join().unwrap();
        assert_eq!(String::from_utf8(finished.stdout).unwrap().trim(), "1000");
        assert_eq!(std::fs::read_to_string(&code).unwrap(), "0\n", "{}", finished.stderr);
        let ledger = stats(&ledger);
        assert_eq!(ledger.unaccounted, 0, "{}", finished.stderr);
        assert!(ledger.matched < LOAD.1, "it went on to the end: {}", finished.stderr);
    }
}

#[test]
fn sigusr1_writes_a_ledger_that_balances_while_packets_come() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("stop-usr1");
    let file = scene.path("in.pcapng");
    let receive =
        scene.start("sink", &["receive", "--listen", "vxlan://0.0.0.0", "-w", text(&file)]);
    let mirror = scene.start("tapped", &MIRROR);
    let load = start_load(&scene);
    let mut before = [0; 2];
    let mut grown = 0;
    while !load.is_finished() {
        let ledgers = [&mirror, &receive].map(|tapline| tapline.ledger());
        let now = [ledgers[0].seen.unwrap(), ledgers[1].received];
        for (ledger, (now, before)) in ledgers.iter().zip(now.iter().zip(&before)) {
            assert!(now >= before, "{now} after {before}: {ledger}");
        }
        grown += usize::from(now[0] > before[0] && now[1] > before[1]);
        before = now;
    }
    load.join().unwrap();
    assert!(grown > 3, "only {grown} ledgers were written under load");
    for tapline in [mirror, receive] {
        tapline.stop();
    }
}

#[test]
fn fail_on_drop_exits_with_3_if_packets_were_dropped_and_with_0_if_not() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("stop-fail");
    for (payload_bytes, code) in [(64, 0), (1472, 3)] {
        let mirror = start_mirror(&scene, &["--oversize", "drop", "--fail-on-drop"]);
        scene.send(&Generator::new(1_000, 100).payload_bytes(payload_bytes));
        mirror.wait_for_matched(100);
        mirror.signal(Signal::INT);
        let (ledger, said) = mirror.finish(code);
        assert_eq!(ledger.drops.total(), if code == 0 { 0 } else { 100 }, "{said}");
    }
}

#[test]
fn a_capture_outlives_its_interface_s_going_down() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("stop-down");
    let file = scene.path("capture.pcapng");
    let capture = start_capture(&scene, &file);
    scene.send(&Generator::new(1_000, 100));
    capture.wait_for_matched(100);
    scene.host("tapped").ip("link set client down");
    let said = capture.wait_for("WARN");
    assert!(said.contains("client") && said.contains("down"), "{said}");
    scene.host("tapped").ip("link set client up");
    scene.send(&Generator::new(1_000, 100).payload_bytes(80));
    capture.wait_for_matched(200);
    capture.signal(Signal::INT);
    let (ledger, said) = capture.finish(0);
    assert_eq!((ledger.written, ledger.drops.total()), (200, 0), "{said}");
    assert_eq!(numbers_in(&file).len(), 200);
    assert_is_whole(&file);
}

#[test]
fn what_cannot_be_begun_says_why_and_the_mend() {
    if !root_or_skip() || !tool_or_skip("setpriv") {
        return;
    }
    let scene = Scene::alone("stop-begin");
    let refused = |words: &[&str], code: i32| {
        let mut command = scene.host("tapped").netns.command(words[0]);
        let finished = Running::start(command.args(&words[1..])).finish(SOON);
        assert_eq!(finished.status.code(), Some(code), "{words:?}: {}", finished.stderr);
        assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
        finished.stderr
    };
    let said = refused(&[BINARY, "capture", "-i", "eth7"], 1);
    assert!(said.contains("`eth7`") && said.contains("client"), "{said}");
    let said = refused(&[BINARY, "mirror", "-i", "eth7", "--to", "null:"], 1);
    assert!(said.contains("`eth7`") && said.contains("client"), "{said}");
    let said = refused(&[BINARY, "receive", "--listen", "vxlan://10.9.9.9", "-w", "-"], 1);
    assert!(said.contains("10.9.9.9") && said.contains("not of this host"), "{said}");
    let said = refused(&[BINARY, "capture", "-i", "client", "udp prot 9"], 2);
    assert!(said.contains("udp prot 9"), "{said}");

    // The build folder may be closed to others.
    let binary = scene.path("tapline");
    std::fs::copy(BINARY, &binary).unwrap();
    for path in [binary.parent().unwrap(), &binary] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", text(&binary)];
    let said = refused(&[&nobody[..], &["capture", "-i", "client"]].concat(), 1);
    assert!(said.contains("cap_net_raw"), "{said}");
    let said = refused(&[&nobody[..], &["mirror", "-i", "client", "--to", "null:"]].concat(), 1);
    assert!(said.contains("cap_net_raw"), "{said}");
    let mirror = ["mirror", "-r", "/dev/null", "--to", "vxlan://10.71.1.2?vni=7"];
    let said = refused(&[&nobody[..], &mirror].concat(), 1);
    assert!(said.contains("cap_net_raw") || said.contains("/dev/null"), "{said}");
}

#[test]
fn strangers_and_broken_tunnel_packets_cost_only_themselves() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("stop-strangers");
    let file = scene.path("in.pcapng");
    let listen = ["receive", "--listen", "vxlan://0.0.0.0?vni=7", "-w", text(&file)];
    let receive = scene.start("sink", &listen);
    let mirror = start_mirror(&scene, &[]);
    let load = start_load(&scene);
    let socket = scene.host("tapped").netns.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    let send = |bytes: &[u8]| _ = socket.send_to(bytes, "10.71.1.2:4789").unwrap();
    let tunnel = |flags: u8, vni: u8, inner: usize| {
        [&[flags, 0, 0, 0, 0, 0, vni, 0], &vec![0x5a; inner][..]].concat()
    };
    for _ in 0..100 {
        send(&tunnel(8, 8, 60)); // another id
        send(&tunnel(0, 7, 60)); // no id
        send(&[]);
        send(&tunnel(8, 7, 60)[..7]); // shorter than its header
        send(&tunnel(8, 7, 13)); // shorter than the inner frame's
        send(&tunnel(8, 7, 14)); // no sense inside, but whole: recorded
    }
    load.join().unwrap();
    let mirrored = mirror.stop();
    let wanted = mirrored.sent + 600;
    receive.wait_for_received(wanted);
    receive.signal(Signal::INT);
    let (ledger, said) = receive.finish(0);
    for (reason, count) in
        [(DropReason::ForeignId, 100), (DropReason::Malformed, 100), (DropReason::TooShort, 300)]
    {
        assert_eq!(ledger.drops.get(reason), count, "{reason}: {said}");
    }
    assert_eq!(ledger.drops.total(), 500, "{said}");
    assert_eq!(ledger.written, mirrored.sent + 100, "{said}");
    assert_eq!(numbers_in(&file), (0..mirrored.sent).collect::<Vec<_>>());
    let senseless = frames_in(&file).iter().filter(|frame| frame.bytes == [0x5a; 14]).count();
    assert_eq!(senseless, 100);
    assert_is_whole(&file);
}

#[test]
fn a_sink_that_is_closed_or_out_of_reach_is_counted_and_waited_for() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("stop-closed");
    let mirror = start_mirror(&scene, &[]);
    let send = |matched: u64| {
        scene.send(&Generator::new(5_000, 500));
        mirror.wait_for_matched(matched);
        mirror.ledger()
    };
    // Nobody listens: the sink answers with ICMP, which costs no packet.
    let closed = send(500);
    assert_eq!((closed.sent, closed.drops.total()), (500, 0), "{closed}");
    scene.host("tapped").ip("link set sink down");
    let down = send(1_000);
    assert_eq!(down.drops.get(DropReason::Unreachable), 500, "{down}");
    scene.host("tapped").ip("link set sink up");
    let neighbour =
        format!("neigh replace 10.71.1.2 lladdr {} dev sink", scene.host("sink").mac("tapped"));
    scene.host("tapped").ip(&neighbour);
    send(1_500);
    mirror.signal(Signal::INT);
    let (ledger, said) = mirror.finish(0);
    assert_eq!((ledger.sent, ledger.drops.total()), (1_000, 500), "{said}");
}

/// Captures numbered packets into a file.
fn start_capture(scene: &Scene, file: &Path) -> Tapline {
    scene.start("tapped", &["capture", "-i", "client", "-w", text(file), NUMBERED])
}

/// Mirrors numbered packets, with more options.
fn start_mirror(scene: &Scene, options: &[&str]) -> Tapline {
    scene.start("tapped", &[&MIRROR, options, &[NUMBERED]].concat())
}

/// Starts the load on a thread of its own.
fn start_load(scene: &Scene) -> JoinHandle<()> {
    let to = scene.numbered_to();
    let send = move || _ = Generator::new(LOAD.0, LOAD.1).run(to);
    scene.host("client").netns.spawn(send).unwrap()
}
