//! However a command ends, and whatever befalls its interface, its ledger balances and its file is
//! whole.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

use api::{DropReason, Stats};
use capfile::Reader;
use rig::{
    Generator, Host, Running, Scratch, Topology, capture_files, frames_in, numbers_in,
    root_or_skip, stats, tool_or_skip, wait_until,
};
use rustix::process::Signal;
use std::fs::File;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const BINARY: &str = env!("CARGO_BIN_EXE_tapline");
const PORT: u16 = 9;
/// The load: packets a second and in all, 1.5 s.
const LOAD: (u64, u64) = (20_000, 30_000);

/// One test at a time: each has a load of its own.
static ONE: Mutex<()> = Mutex::new(());

#[test]
fn a_signal_under_load_ends_a_capture_with_all_that_came_before() {
    if !root_or_skip("a_signal_under_load_ends_a_capture_with_all_that_came_before") {
        return;
    }
    let scene = Scene::new("signal");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let file = scene.path("capture.pcapng");
        let capture = scene.tapline("capture", &["-i", "client", "-w", text(&file), "udp port 9"]);
        let load = scene.load();
        std::thread::sleep(Duration::from_millis(500));
        capture.running.signal(signal);
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
    if !root_or_skip("a_signal_under_load_ends_mirror_and_receive_in_balance") {
        return;
    }
    let scene = Scene::new("both");
    for (signal, first) in [(Signal::INT, "mirror"), (Signal::TERM, "receive")] {
        let archive = scene.path(first);
        let receive = scene.tapline_at(
            "sink",
            "receive",
            &["--listen", "vxlan://0.0.0.0", "--archive", text(&archive)],
        );
        let mirror = scene
            .tapline("mirror", &["-i", "client", "--to", "vxlan://10.71.1.2?vni=7", "udp port 9"]);
        let load = scene.load();
        std::thread::sleep(Duration::from_millis(500));
        let order = if first == "mirror" { [mirror, receive] } else { [receive, mirror] };
        let ledgers = order.map(|tapline| {
            std::thread::sleep(Duration::from_millis(100));
            tapline.running.signal(signal);
            tapline.finish(0)
        });
        load.join().unwrap();
        let received = &ledgers[usize::from(first == "mirror")].0;
        let files = capture_files(&archive);
        assert_eq!(files.len(), 1, "{files:?}");
        assert!(!text(&files[0]).contains(".spool"), "an open segment was left: {files:?}");
        assert_is_whole(&files[0]);
        let numbers = numbers_in(&files[0]);
        assert!(received.written > 0);
        assert_eq!(numbers, (0..received.written).collect::<Vec<_>>(), "{ledgers:?}");
    }
}

#[test]
fn a_kill_costs_a_recording_at_most_its_last_second() {
    if !root_or_skip("a_kill_costs_a_recording_at_most_its_last_second") {
        return;
    }
    let scene = Scene::new("kill");
    let archive = scene.path("archive");
    let listen = ["--listen", "vxlan://0.0.0.0", "--archive", text(&archive)];
    let receive = scene.tapline_at("sink", "receive", &listen);
    let file = scene.path("capture.pcapng");
    let capture = scene.tapline("capture", &["-i", "client", "-w", text(&file), "udp port 9"]);
    let mirror =
        scene.tapline("mirror", &["-i", "client", "--to", "vxlan://10.71.1.2?vni=7", "udp port 9"]);
    scene.send(&Generator::new(5_000, 2_000));
    wait_until("all is received", SOON, || receive.ledger().received >= 2_000);
    // What came more than a second ago is in the file, whatever else comes.
    std::thread::sleep(Duration::from_millis(1_500));
    scene.send(&Generator::new(20_000, 2_000).payload_bytes(80));
    for Tapline { running, .. } in [receive, capture, mirror] {
        running.signal(Signal::KILL);
        running.finish(SOON);
    }
    let spool = std::fs::read_dir(archive.join(".spool")).unwrap();
    let spool: Vec<PathBuf> = spool.map(|entry| entry.unwrap().path()).collect();
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
    if !root_or_skip("c_ends_a_capture_after_exactly_so_many_packets") {
        return;
    }
    let scene = Scene::new("count");
    for count in [1, 1000] {
        let (file, count_text) = (scene.path("capture.pcapng"), count.to_string());
        let words = ["-i", "client", "-c", &count_text, "--fail-on-drop", "-w", text(&file)];
        let capture = scene.tapline("capture", &[&words[..], &["udp port 9"]].concat());
        let load = scene.load();
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
    if !root_or_skip("a_reader_that_closes_the_pipe_ends_the_capture") {
        return;
    }
    let scene = Scene::new("pipe");
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
        let load = scene.load();
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
    if !root_or_skip("sigusr1_writes_a_ledger_that_balances_while_packets_come") {
        return;
    }
    let scene = Scene::new("usr1");
    let file = scene.path("in.pcapng");
    let receive =
        scene.tapline_at("sink", "receive", &["--listen", "vxlan://0.0.0.0", "-w", text(&file)]);
    let mirror = scene.tapline("mirror", &["-i", "client", "--to", "vxlan://10.71.1.2?vni=7"]);
    let load = scene.load();
    let mut before = [0; 2];
    let mut grown = 0;
    while !load.is_finished() {
        let ledgers = [&mirror, &receive].map(|tapline| tapline.ledger());
        let now = [ledgers[0].seen.unwrap(), ledgers[1].received];
        for (ledger, (now, before)) in ledgers.iter().zip(now.iter().zip(&before)) {
            assert_eq!(ledger.unaccounted, 0, "{ledger}");
            assert!(now >= before, "{now} after {before}: {ledger}");
        }
        grown += usize::from(now[0] > before[0] && now[1] > before[1]);
        before = now;
    }
    load.join().unwrap();
    assert!(grown > 3, "only {grown} ledgers were written under load");
    for tapline in [mirror, receive] {
        tapline.running.signal(Signal::INT);
        tapline.finish(0);
    }
}

#[test]
fn fail_on_drop_exits_with_3_if_packets_were_dropped_and_with_0_if_not() {
    if !root_or_skip("fail_on_drop_exits_with_3_if_packets_were_dropped_and_with_0_if_not") {
        return;
    }
    let scene = Scene::new("fail");
    for (payload_bytes, code) in [(64, 0), (1472, 3)] {
        let words = ["-i", "client", "--to", "vxlan://10.71.1.2?vni=7", "--oversize", "drop"];
        let words = [&words[..], &["--fail-on-drop", "udp port 9"]].concat();
        let mirror = scene.tapline("mirror", &words);
        scene.send(&Generator::new(1_000, 100).payload_bytes(payload_bytes));
        wait_until("all is mirrored", SOON, || mirror.ledger().matched >= 100);
        mirror.running.signal(Signal::INT);
        let (ledger, said) = mirror.finish(code);
        assert_eq!(ledger.drops.total(), if code == 0 { 0 } else { 100 }, "{said}");
    }
}

#[test]
fn a_capture_outlives_its_interface_s_going_down() {
    if !root_or_skip("a_capture_outlives_its_interface_s_going_down") {
        return;
    }
    let scene = Scene::new("down");
    let file = scene.path("capture.pcapng");
    let capture = scene.tapline("capture", &["-i", "client", "-w", text(&file), "udp port 9"]);
    scene.send(&Generator::new(1_000, 100));
    wait_until("the first packets are captured", SOON, || capture.ledger().matched >= 100);
    scene.host("tapped").ip("link set client down");
    let said = capture.running.wait_for("WARN", SOON);
    assert!(said.contains("client") && said.contains("down"), "{said}");
    scene.host("tapped").ip("link set client up");
    scene.send(&Generator::new(1_000, 100).payload_bytes(80));
    wait_until("more packets are captured", SOON, || capture.ledger().matched >= 200);
    capture.running.signal(Signal::INT);
    let (ledger, said) = capture.finish(0);
    assert_eq!((ledger.written, ledger.drops.total()), (200, 0), "{said}");
    assert_eq!(numbers_in(&file).len(), 200);
    assert_is_whole(&file);
}

#[test]
fn a_deleted_interface_ends_a_capture_with_a_reason_and_a_whole_file() {
    if !root_or_skip("a_deleted_interface_ends_a_capture_with_a_reason_and_a_whole_file") {
        return;
    }
    let scene = Scene::new("gone");
    let file = scene.path("capture.pcapng");
    let capture = scene.tapline("capture", &["-i", "client", "-w", text(&file), "udp port 9"]);
    scene.send(&Generator::new(1_000, 100));
    wait_until("the packets are captured", SOON, || capture.ledger().matched >= 100);
    scene.host("tapped").ip("link del client");
    let (ledger, said) = capture.finish(1);
    assert!(said.contains("interface `client` is gone"), "{said}");
    assert_eq!((ledger.written, ledger.drops.total()), (100, 0), "{said}");
    assert_eq!(numbers_in(&file).len(), 100);
    assert_is_whole(&file);
}

#[test]
fn what_cannot_be_begun_says_why_and_the_mend() {
    if !root_or_skip("what_cannot_be_begun_says_why_and_the_mend") || !tool_or_skip("setpriv") {
        return;
    }
    let scene = Scene::new("begin");
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
    if !root_or_skip("strangers_and_broken_tunnel_packets_cost_only_themselves") {
        return;
    }
    let scene = Scene::new("strangers");
    let file = scene.path("in.pcapng");
    let listen = ["--listen", "vxlan://0.0.0.0?vni=7", "-w", text(&file)];
    let receive = scene.tapline_at("sink", "receive", &listen);
    let mirror =
        scene.tapline("mirror", &["-i", "client", "--to", "vxlan://10.71.1.2?vni=7", "udp port 9"]);
    let load = scene.load();
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
    mirror.running.signal(Signal::INT);
    let (mirrored, _) = mirror.finish(0);
    let wanted = mirrored.sent + 600;
    wait_until("all is received", SOON, || receive.ledger().received >= wanted);
    receive.running.signal(Signal::INT);
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
    if !root_or_skip("a_sink_that_is_closed_or_out_of_reach_is_counted_and_waited_for") {
        return;
    }
    let scene = Scene::new("closed");
    let mirror =
        scene.tapline("mirror", &["-i", "client", "--to", "vxlan://10.71.1.2?vni=7", "udp port 9"]);
    let send = |matched: u64| {
        scene.send(&Generator::new(5_000, 500));
        wait_until("all is mirrored", SOON, || mirror.ledger().matched >= matched);
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
    mirror.running.signal(Signal::INT);
    let (ledger, said) = mirror.finish(0);
    assert_eq!((ledger.sent, ledger.drops.total()), (1_000, 500), "{said}");
}

struct Scene {
    net: Topology,
    scratch: Scratch,
    /// Takes the packets at the tapped host, so that no ICMP answers them.
    _listener: UdpSocket,
    _alone: MutexGuard<'static, ()>,
}

struct Tapline {
    running: Running,
    ledger: PathBuf,
}

impl Scene {
    fn new(name: &str) -> Scene {
        // A test that failed has left nothing that disturbs the next one.
        let alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let net = Topology::line(["client", "tapped", "sink"]).build();
        let bind = || UdpSocket::bind(("0.0.0.0", PORT)).unwrap();
        let listener = net.host("tapped").netns.run(bind).unwrap();
        let scratch = Scratch::new(&format!("stop-{name}"));
        Scene { net, scratch, _listener: listener, _alone: alone }
    }

    fn host(&self, name: &str) -> &Host {
        self.net.host(name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    fn tapline(&self, command: &str, words: &[&str]) -> Tapline {
        self.tapline_at("tapped", command, words)
    }

    fn tapline_at(&self, host: &str, command: &str, words: &[&str]) -> Tapline {
        let ledger = self.path(&format!("{command}.json"));
        let mut program = self.host(host).netns.command(BINARY);
        program.arg(command).arg("--stats-json").arg(&ledger).args(words);
        let running = Running::start(&mut program);
        running.wait_for("listening on", SOON);
        Tapline { running, ledger }
    }

    fn send(&self, generator: &Generator) {
        let to = (self.host("tapped").v4("client"), PORT).into();
        generator.run_in(&self.host("client").netns, to);
    }

    /// Starts the load on a thread of its own.
    fn load(&self) -> JoinHandle<()> {
        let to = (self.host("tapped").v4("client"), PORT).into();
        let send = move || _ = Generator::new(LOAD.0, LOAD.1).run(to);
        self.host("client").netns.spawn(send).unwrap()
    }
}

impl Tapline {
    fn ledger(&self) -> Stats {
        self.running.ledger(&self.ledger, SOON)
    }

    /// Waits for its end with an exit code; the ledger must balance. Gives it, and what was said.
    fn finish(self, code: i32) -> (Stats, String) {
        let finished = self.running.finish(SOON);
        assert_eq!(finished.status.code(), Some(code), "{}", finished.stderr);
        let ledger = stats(&self.ledger);
        assert_eq!(ledger.unaccounted, 0, "{}", finished.stderr);
        (ledger, finished.stderr)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Wireshark's capinfos reads the file without a complaint, where it is installed.
fn assert_is_whole(file: &Path) {
    if tool_or_skip("capinfos") {
        let output = Command::new("capinfos").arg(file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{}: {said}", file.display());
    }
}
