//! A bump in the wire, in the kernel: it forwards between addresses of this host, goes on when the process
//! is killed, is taken over by the next one, and ends when it is told to.

mod over_links;

use over_links::*;
use rig::{Running, root_or_skip, rows, stats, tool_or_skip};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// A mount namespace with a BPF file system of its own, which goes with the test.
fn pins(scene: &Scene) -> Running {
    let script = "mount -t bpf bpf /sys/fs/bpf && echo mounted >&2 && exec sleep 120";
    let mut command = scene.host("tapped").netns.command("unshare");
    let running = Running::start(command.args(["-m", "sh", "-c", script]));
    running.wait_for("mounted", SOON);
    running
}

/// Has the sink send back what the client sends to our address.
fn echo(scene: &Scene, bytes: usize) {
    let next: SocketAddr = (scene.host("sink").v4("tapped"), 80).into();
    let ours: SocketAddr = (scene.host("tapped").v4("client"), 80).into();
    let listener = scene
        .host("sink")
        .netns
        .run(|| TcpListener::bind(next).expect("the address is there"))
        .expect("the address is there");
    let connect = || TcpStream::connect_timeout(&ours, PATIENCE).expect("the way is there");
    let near = scene.host("client").netns.run(connect).expect("the way is there");
    let (mut far, seen) = listener.accept().expect("who connects is accepted");
    assert_eq!(seen.ip(), scene.host("tapped").v4("sink"));
    let content: Vec<u8> = (0..bytes as u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 1 << 16];
            let mut left = bytes;
            while left > 0 {
                let len = far.read(&mut buffer).expect("it comes back in time");
                assert!(len > 0, "{left} bytes are missing");
                far.write_all(&buffer[..len]).expect("it is taken in time");
                left -= len;
            }
        });
        let (mut writer, content) = (&near, &content);
        scope.spawn(move || writer.write_all(content).expect("it is taken in time"));
        let mut back = vec![0; bytes];
        (&near).read_exact(&mut back).expect("it comes back in time");
        assert!(back == *content, "what came back is not what was sent");
    });
}

#[test]
fn a_table_outlives_its_process_and_ends_when_it_is_told_to() {
    if !root_or_skip() || !tool_or_skip("tshark") {
        return;
    }
    let scene = Scene::new("inline-kernel");
    let table = format!("test-{}", std::process::id());
    let pins = pins(&scene);
    let holder = pins.id().to_string();
    let file = scene.path("views.pcapng");
    let tapped = scene.host("tapped");
    let (ours, next) = (tapped.v4("client"), scene.host("sink").v4("tapped"));
    let command = |words: &[&str]| {
        let mut command = tapped.netns.command("nsenter");
        command
            .args(["-m", "-t", &holder, BINARY, "inline"])
            .args(words)
            .env("TAPLINE_RUN_DIR", scene.path("run"));
        command
    };
    let rule = format!("tcp://{ours}:80={next}");
    let words = ["--in", "client", "--out", "sink", "--forward", &rule, "--table", &table];
    let start = |more: &[&str]| {
        let mut command = command(&words);
        let running = Running::start(command.args(["--datapath", "kernel"]).args(more));
        (running.wait_for("in the kernel", SOON), running)
    };
    let ledger = scene.path("ledger.json");
    let views =
        ["--view", "ingress,egress,inline", "-w", text(&file), "--stats-json", text(&ledger)];
    let (said, running) = start(&views);
    assert!(said.contains("it goes on until `inline stop`"), "{said}");
    echo(&scene, 1_000_000);
    let shown = command(&["show"]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("datapath kernel") && shown.contains("session"), "{shown}");
    let finished = running.stop(SOON);
    assert!(finished.status.success(), "{}", finished.stderr);
    let stats = stats(&ledger);
    assert_eq!(stats.unaccounted, 0, "{stats}");
    let line = stats.taps.iter().find(|tap| tap.name.starts_with("tcp://")).unwrap();
    assert!(line.matched > 100 && line.drops.total() == 0, "{stats}");
    let of = |view: &str, from: &dyn ToString, to: &dyn ToString| {
        let (from, to) = (from.to_string(), to.to_string());
        let filter = format!(
            "frame.interface_name contains \"{view}\" && ip.src == {from} && ip.dst == {to} && \
             tcp.checksum.status == 1"
        );
        rows(&file, &["-o", "tcp.check_checksum:TRUE", "-Y", &filter], &["frame.number"]).len()
    };
    let client = scene.host("client").v4("tapped");
    let there = of("ingress", &client, &ours);
    assert!(there > 100, "{there}");
    assert_eq!(of("egress", &tapped.v4("sink"), &next), there);
    assert_eq!(of("inline", &client, &next), there);

    // It goes on alone, also when its next process is killed.
    echo(&scene, 100_000);
    let (said, running) = start(&[]);
    assert!(said.contains("which went on with its sessions"), "{said}");
    running.signal(Signal::KILL);
    let _ = running.finish(SOON);
    echo(&scene, 100_000);

    let stopped = command(&["stop", "--table", &table]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    let mut left = tapped.netns.command("nsenter");
    let left = left.args(["-m", "-t", &holder, "find", io::inline::PINS]).output().unwrap();
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    assert!(!left.contains(&table), "{left}");
    let connect = || TcpStream::connect_timeout(&(ours, 80).into(), PATIENCE).is_ok();
    assert!(!scene.host("client").netns.run(connect).unwrap());
    let again = command(&["stop", "--table", &table]).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
}
