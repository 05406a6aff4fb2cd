//! A bump in the wire, in the kernel: it forwards between addresses of this host, goes on when the process
//! is killed, is taken over by the next one, and ends when it is told to.

mod over_links;

use over_links::bump::{PATIENCE, Pins, datagram, echo, ping, udp};
use over_links::*;
use rig::{Running, root_or_skip, rows, stats, tool_or_skip};
use rustix::process::Signal;
use std::net::TcpStream;

/// Has the sink send back what the client sends to our address.
fn echo_back(scene: &Scene, bytes: usize) {
    let (tapped, sink) = (scene.host("tapped"), scene.host("sink"));
    let ours = (tapped.v4("client"), 80).into();
    let seen = echo(scene.host("client"), ours, sink, (sink.v4("tapped"), 80).into(), bytes);
    assert_eq!(seen.ip(), tapped.v4("sink"));
}

#[test]
fn a_table_outlives_its_process_and_ends_when_it_is_told_to() {
    if !root_or_skip() || !tool_or_skip("tshark") {
        return;
    }
    let scene = Scene::new("inline-kernel");
    let table = format!("test-{}", std::process::id());
    // No BPF file system is mounted there, so the table mounts one.
    let pins = Pins::by(scene.host("tapped"), "mount -t sysfs sysfs /sys");
    let file = scene.path("views.pcapng");
    let tapped = scene.host("tapped");
    let (ours, next) = (tapped.v4("client"), scene.host("sink").v4("tapped"));
    let command = |words: &[&str]| {
        let mut command = pins.command(tapped, BINARY);
        command.arg("inline").args(words).env("TAPLINE_RUN_DIR", scene.path("run"));
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
    let mounts = pins.command(tapped, "cat").arg("/proc/mounts").output().unwrap();
    let mounts = String::from_utf8_lossy(&mounts.stdout).into_owned();
    assert!(mounts.contains(" /sys/fs/bpf bpf "), "{mounts}");
    echo_back(&scene, 1_000_000);
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
    echo_back(&scene, 100_000);
    let (said, running) = start(&[]);
    assert!(said.contains("which went on with its sessions"), "{said}");
    running.signal(Signal::KILL);
    let _ = running.finish(SOON);
    echo_back(&scene, 100_000);

    let stopped = command(&["stop", "--table", &table]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    let left = pins.command(tapped, "find").arg(io::inline::PINS).output().unwrap();
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    assert!(!left.contains(&table), "{left}");
    let connect = || TcpStream::connect_timeout(&(ours, 80).into(), PATIENCE).is_ok();
    assert!(!scene.host("client").netns.run(connect).unwrap());
    let again = command(&["stop", "--table", &table]).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn a_mirror_that_starts_later_sees_what_is_forwarded() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("inline-mirrored");
    let (tapped, sink) = (scene.host("tapped"), scene.host("sink").v4("tapped"));
    let rule = format!("udp://{}:53={sink}", tapped.v4("client"));
    let mut command = tapped.netns.command(BINARY);
    command.args(["inline", "--in", "client", "--out", "sink", "--forward", &rule]);
    command.args(["--datapath", "kernel", "--fail", "closed"]);
    let table = Running::start(command.env("TAPLINE_RUN_DIR", scene.path("run")));
    table.wait_for("in the kernel", SOON);
    let endpoint = format!("vxlan://{sink}?vni=71");
    let words = ["mirror", "-i", "client", "-i", "sink", "--datapath", "kernel", "--to", &endpoint];
    let mirror = scene.start("tapped", &[&words[..], &["udp port 53"]].concat());
    let near = udp(scene.host("client"), (scene.host("client").v4("tapped"), 4000));
    let far = udp(scene.host("sink"), (sink, 53));
    const QUESTIONS: u64 = 20;
    for _ in 0..QUESTIONS {
        near.send_to(b"question", (tapped.v4("client"), 53)).unwrap();
        let (text, from) = datagram(&far);
        assert_eq!((&*text, from.ip()), ("question", tapped.v4("sink").into()));
        far.send_to(b"answer", from).unwrap();
        assert_eq!(datagram(&near).0, "answer");
    }
    // Each once at either interface, both ways.
    mirror.wait_for_matched(4 * QUESTIONS);
    let ledger = mirror.stop();
    assert_eq!((ledger.matched, ledger.drops.total()), (4 * QUESTIONS, 0), "{ledger}");
    assert!(table.stop(SOON).status.success());
}

#[test]
fn a_table_that_is_taken_over_counts_on() {
    if !root_or_skip() || !tool_or_skip("ping") {
        return;
    }
    let scene = Scene::new("inline-counts");
    let pins = Pins::new(scene.host("tapped"));
    let (tapped, next) = (scene.host("tapped"), scene.host("sink").v4("tapped"));
    let ours = tapped.v4("client");
    let table = format!("counts-{}", std::process::id());
    let (path, ledger) = (scene.path("table.toml"), scene.path("ledger.json"));
    let write = |rule: &str| {
        let head = format!("in = \"client\"\nout = \"sink\"\nname = \"{table}\"\n");
        let rule =
            format!("[[rule]]\nname = \"{rule}\"\naddress = \"{ours}\"\nnext_host = \"{next}\"\n");
        std::fs::write(&path, head + &rule).unwrap();
    };
    let command = |words: &[&str]| {
        let mut command = pins.command(tapped, BINARY);
        command.arg("inline").args(words).env("TAPLINE_RUN_DIR", scene.path("run"));
        command
    };
    let words = ["--datapath", "kernel", "-c", text(&path), "--stats-json", text(&ledger)];
    let start = || {
        let running = Running::start(&mut command(&words));
        (running.wait_for("in the kernel", STARTED), running)
    };
    let line_at_end = |running: Running| {
        let finished = running.stop(SOON);
        assert!(finished.status.success(), "{}", finished.stderr);
        let stats = stats(&ledger);
        assert_eq!(stats.unaccounted, 0, "{stats}");
        let rules = stats.taps.into_iter().filter(|tap| !tap.name.starts_with("table"));
        let [line] = &rules.collect::<Vec<_>>()[..] else { panic!("one line of a rule") };
        line.clone()
    };
    write("all");
    let (_, running) = start();
    echo_back(&scene, 100_000);
    let said = ping(&scene, &["-c", "1", "-t", "1", "-W", "5", &ours.to_string()]);
    assert!(said.contains("xceeded"), "{said}");
    let second = command(&words).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("runs it"), "{said}");
    let first = line_at_end(running);
    assert_eq!(first.drops.get(api::DropReason::TtlExceeded), 1);
    assert_eq!(first.drops.total(), 1);

    // What an earlier process dealt with is not on its way to this one, and a new name is no new rule.
    let (said, running) = start();
    assert!(said.contains("which went on with its sessions"), "{said}");
    write("every");
    assert!(command(&["reload"]).output().unwrap().status.success());
    echo_back(&scene, 100_000);
    let line = line_at_end(running);
    assert_eq!((&*line.name, line.drops.total()), ("every", 0));
    assert!(line.matched > first.matched && line.matched < 3 * first.matched, "{}", line.matched);
    assert!(command(&["stop", "--table", &table]).output().unwrap().status.success());
}
