//! `diag monitor` lists the tunnels that arrive at a host, of every kind, by where they come from.

mod over_links;

use over_links::{BINARY, NUMBERED, SOON, Scene, text};
use rig::{Generator, Running, root_or_skip, wait_until};
use rustix::process::Signal;
use serde_json::Value;
use std::path::PathBuf;

/// A monitor that listens on a host.
struct Monitor {
    running: Running,
    ledger: PathBuf,
}

impl Monitor {
    fn start(scene: &Scene, host: &str, words: &[&str]) -> Monitor {
        let ledger = scene.path(&format!("monitor-{}.json", words.concat().replace('/', "")));
        let mut command = scene.host(host).netns.command(BINARY);
        let begin = ["diag", "monitor", "--time", "1h", "--stats-json", text(&ledger)];
        let running = Running::start(command.args(begin).args(words));
        running.wait_for("listening on", SOON);
        Monitor { running, ledger }
    }

    /// Waits until so many packets have come, and ends it; gives what it printed.
    fn stop_behind(self, packets: u64) -> String {
        let come = || self.running.ledger(&self.ledger, SOON).matched >= packets;
        wait_until(&format!("{packets} packets have come"), SOON, come);
        self.running.signal(Signal::INT);
        let finished = self.running.finish(SOON);
        assert!(finished.status.success(), "{}", finished.stderr);
        assert!(finished.stderr.contains(", 0 unaccounted"), "{}", finished.stderr);
        String::from_utf8(finished.stdout).expect("it prints text")
    }
}

#[test]
fn tunnels_of_every_kind_are_listed_where_they_arrive_and_only_there() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("diag-monitor");
    let monitors = [&["-i", "tapped"][..], &["-i", "any"], &["-i", "tapped", "--format", "json"]]
        .map(|words| Monitor::start(&scene, "sink", words));
    let sender = Monitor::start(&scene, "tapped", &["-i", "sink"]);
    let far = "10.71.1.2";
    let to = [
        format!("vxlan://{far}?vni=7"),
        format!("geneve://{far}?vni=8"),
        format!("gre://{far}?key=9"),
        format!("gretap://{far}"),
        format!("erspan://{far}?type=2&session=10"),
        format!("l2tp://{far}?id=10.71.1.1"),
        format!("l2tp+udp://{far}?id=192.168.1.11"),
        format!("l2tp://{far}?id=12"),
        "vxlan://[fd71:0:0:1::2]?vni=13".into(),
    ];
    let to: Vec<&str> = to.iter().flat_map(|to| ["--to", to]).collect();
    let words = [&["mirror", "-i", "client"][..], &to, &[NUMBERED]].concat();
    let mirror = scene.start("tapped", &words);
    // 60 bytes of payload: 102 bytes of frame, 88 of packet.
    let sent = scene.send(&Generator::new(2_000, 200).payload_bytes(60));
    mirror.wait_for_matched(sent);
    mirror.stop();

    let near = "10.71.1.1";
    let lines = format!(
        "[info] Type Dst-IP Src-IP Tunnel-ID NAT-Status\n\
         [info] VXLAN {far} {near} 7 -\n\
         [info] VXLAN fd71:0:0:1::2 fd71:0:0:1::1 13 -\n\
         [info] GENEVE {far} {near} 8 -\n\
         [info] GRE {far} {near} 9 -\n\
         [info] GRETAP {far} {near} - -\n\
         [info] ERSPAN {far} {near} 10 -\n\
         [info] L2TP {far} {near} 12 -\n\
         [info] L2TP {far} {near} 10.71.1.1(172425473) no\n\
         [info] L2TP {far} {near} 192.168.1.11(3232235787) yes\n\
         [info] Detected tunnels: 9\n"
    );
    let [one, all, json] = monitors.map(|monitor| monitor.stop_behind(9 * sent));
    for (text, interface) in [(one, "tapped"), (all, "any")] {
        let head =
            format!("[info] Detecting tunnels on interface '{interface}', capture time: 3600\n");
        assert_eq!(text, head + &lines);
    }
    let tunnels: Vec<Value> =
        json.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(tunnels.len(), 9);
    for tunnel in &tunnels {
        // What is in the tunnel is counted, not the tunnel's own headers.
        let bytes = if tunnel["type"] == "gre" { 88 } else { 102 };
        assert_eq!(tunnel["bytes"], bytes * sent, "{tunnel}");
        let at_least = if tunnel["type"] == "geneve" { sent..sent + 200 } else { sent..sent + 1 };
        assert!(at_least.contains(&tunnel["packets"].as_u64().unwrap_or(0)), "{tunnel}");
        assert!(tunnel["packets_per_second"].as_f64() > Some(0.0), "{tunnel}");
    }
    // They have left there, and none has arrived.
    let sent = sender.stop_behind(0);
    assert!(sent.ends_with("Detected tunnels: 0\n"), "{sent}");
}

#[test]
fn a_tunnel_at_another_port_and_one_in_fragments_are_found() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("diag-monitor-port");
    let words = ["-i", "tapped", "--decap-port", "vxlan=8472"];
    let monitor = Monitor::start(&scene, "sink", &words);
    let to = ["--to", "vxlan://10.71.1.2:8472?vni=7", "--to", "gretap://10.71.1.2?key=8"];
    let fragment = ["--oversize", "fragment", NUMBERED];
    let words = [&["mirror", "-i", "client"][..], &to, &fragment].concat();
    let mirror = scene.start("tapped", &words);
    // With the tunnel's headers these are longer than the path takes.
    let sent = scene.send(&Generator::new(1_000, 50).payload_bytes(1472));
    mirror.wait_for_matched(sent);
    mirror.stop();
    let text = monitor.stop_behind(2 * sent);
    assert!(text.contains("[info] VXLAN 10.71.1.2 10.71.1.1 7 -\n"), "{text}");
    assert!(text.contains("[info] GRETAP 10.71.1.2 10.71.1.1 8 -\n"), "{text}");
    assert!(text.ends_with("Detected tunnels: 2\n"), "{text}");
}
