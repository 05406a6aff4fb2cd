//! A bump in the wire, as a whole: all that passes through it, both versions of IP, offloads on, with three
//! views recorded, while its table is edited, and when its process is killed.
//!
//! ```text
//! client ────── tapped ────── sink ────── far
//!      10.71.0.2 │ 10.71.1.1   routes      10.71.2.2
//!        ours    │ source                  next host
//! ```
//! In user space `ours` and `source` are nobody's: they end in 100.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_links;

use over_links::bump::*;
use over_links::*;
use rig::{Running, Topology, root_or_skip, rows, stats, tool_or_skip, wait_until};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::{Command, Stdio};

/// Bytes of a download in the kernel; in user space it is a fifth.
const DOWNLOAD: usize = 100_000_000;
/// Ports that tshark takes for nobody's.
const WEB: u16 = 40_080;
const BULK: u16 = 40_081;
const VIEWS: [&str; 3] = ["ingress", "egress", "inline"];

/// A scene, and a table of it.
struct Bump {
    scene: Scene,
    pins: Option<Pins>,
    table: String,
    is_v6: bool,
    client: IpAddr,
    ours: IpAddr,
    source: IpAddr,
    /// What a table like this cannot have for a source: another's in the kernel, one of this host's else.
    wrong: IpAddr,
    router: IpAddr,
    next: IpAddr,
}

impl Bump {
    fn new(is_v6: bool, in_kernel: bool) -> Bump {
        let version = if is_v6 { 6 } else { 4 };
        let line = Topology::line(["client", "tapped", "sink", "far"]);
        let scene = Scene::over(&format!("inline-whole-{version}-{in_kernel}"), &line);
        let of = |host: &str, towards: &str| -> IpAddr {
            let host = scene.host(host);
            if is_v6 { host.v6(towards).into() } else { host.v4(towards).into() }
        };
        let [client, router, next] =
            [("client", "tapped"), ("sink", "tapped"), ("far", "sink")].map(|(a, b)| of(a, b));
        let [ours, source] = match (in_kernel, is_v6) {
            (true, _) => [of("tapped", "client"), of("tapped", "sink")],
            (false, false) => ["10.71.0.100", "10.71.1.100"].map(|it| it.parse().unwrap()),
            (false, true) => ["fd71::100", "fd71:0:0:1::100"].map(|it| it.parse().unwrap()),
        };
        let wrong = if in_kernel { client } else { of("tapped", "sink") };
        let (near, behind) = match is_v6 {
            false => ("10.71.1.0/24", "10.71.2.0/24"),
            true => ("fd71:0:0:1::/64", "fd71:0:0:2::/64"),
        };
        scene.host("tapped").ip(&format!("-{version} route add {behind} via {router}"));
        scene.host("far").ip(&format!("-{version} route add {near} via {}", of("sink", "far")));
        let set = |host: &str, key: &str, value: &str| {
            let path = format!("/proc/sys/net/{key}");
            let written = scene.host(host).netns.run(|| std::fs::write(&path, value));
            written.unwrap().unwrap_or_else(|e| panic!("{path}: {e}"));
        };
        set("sink", if is_v6 { "ipv6/conf/all/forwarding" } else { "ipv4/ip_forward" }, "1");
        for host in ["sink", "far"] {
            // A traceroute asks faster than they answer.
            set(host, if is_v6 { "ipv6/icmp/ratelimit" } else { "ipv4/icmp_ratelimit" }, "0");
        }
        if is_v6 {
            // From it a router asks for neighbours.
            scene.host("sink").ip("addr add fe80::71/64 dev tapped nodad");
        }
        let pins = in_kernel.then(|| Pins::new(scene.host("tapped")));
        let table = format!("whole-{}-{version}", std::process::id());
        Bump { scene, pins, table, is_v6, client, ours, source, wrong, router, next }
    }

    /// Writes the table's file: what is captured goes to files whose names begin with a word.
    fn write(&self, files: &str, rules: &[Rule]) {
        let mut text = format!("in = \"client\"\nout = \"sink\"\nname = \"{}\"\n", self.table);
        for Rule { name, protocol, port, next_port, to, snapshot, source } in rules {
            text += &format!(
                "[[rule]]\nname = \"{name}\"\naddress = \"{}\"\nnext_host = \"{}\"\n\
                 source = \"{}\"\nprotocol = \"{protocol}\"\n",
                self.ours,
                self.next,
                source.unwrap_or(self.source)
            );
            let mut key = |key: &str, value: u32| match value {
                0 => {}
                value => text += &format!("{key} = {value}\n"),
            };
            key("port", (*port).into());
            key("next_port", (*next_port).into());
            key("snapshot_length", *snapshot);
            if !to.is_empty() {
                let file = self.scene.path(&format!("{files}-{to}.pcapng"));
                text +=
                    &format!("views = {VIEWS:?}\nto = [\"pcap:{}\"]\n", over_links::text(&file));
            }
        }
        std::fs::write(self.scene.path("table.toml"), text).unwrap();
    }

    fn command(&self) -> Command {
        let tapped = self.scene.host("tapped");
        let mut command = match &self.pins {
            Some(pins) => pins.command(tapped, BINARY),
            None => tapped.netns.command(BINARY),
        };
        command.arg("inline").env("TAPLINE_RUN_DIR", self.scene.path("run"));
        command
    }

    /// Starts it, and gives what it says of how it begins.
    fn start(&self) -> (Running, String) {
        let mut command = self.command();
        command.args(["--datapath", if self.pins.is_some() { "kernel" } else { "ring" }]);
        command.arg("-c").arg(self.scene.path("table.toml"));
        command.arg("--stats-json").arg(self.scene.path("ledger.json"));
        let running = Running::start(&mut command);
        let said = running.wait_for(&format!("table {}:", self.table), STARTED);
        (running, said)
    }

    /// Asks a table that runs.
    fn ask(&self, words: &[&str]) -> String {
        let output = self.command().args(words).stdin(Stdio::null()).output().unwrap();
        let both = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&both).into_owned()
    }

    fn echo(&self, port: u16, bytes: usize) {
        let (client, far) = (self.scene.host("client"), self.scene.host("far"));
        let seen = echo(client, (self.ours, port).into(), far, (self.next, port).into(), bytes);
        assert_eq!(seen.ip(), self.source);
    }

    fn download(&self, port: u16) -> Download {
        let (client, far) = (self.scene.host("client"), self.scene.host("far"));
        let bytes = if self.pins.is_some() { DOWNLOAD } else { DOWNLOAD / 5 };
        Download::start(client, (self.ours, port).into(), far, (self.next, port).into(), bytes)
    }

    /// A question to a port of ours that is answered at a port of the next host.
    fn question(&self, port: u16, next_port: u16) {
        let far = udp(self.scene.host("far"), (self.next, next_port));
        let near = udp(self.scene.host("client"), (self.client, 4000));
        near.send_to(b"question", (self.ours, port)).unwrap();
        let (text, from) = datagram(&far);
        assert_eq!((&*text, from.ip()), ("question", self.source));
        far.send_to(b"answer", from).unwrap();
        assert_eq!(datagram(&near), ("answer".into(), (self.ours, port).into()));
    }

    /// The same without checksums, which only IPv4 has.
    fn question_without_checksum(&self) {
        let (IpAddr::V4(client), IpAddr::V4(ours), IpAddr::V4(next)) =
            (self.client, self.ours, self.next)
        else {
            return;
        };
        let far = udp(self.scene.host("far"), (self.next, 7000));
        let near = udp(self.scene.host("client"), (self.client, 4001));
        let macs = |host: &str, towards: &str, from: &str, back: &str| {
            let mac = |host: &str, towards: &str| -> Vec<u8> {
                let text = self.scene.host(host).mac(towards);
                text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
            };
            [mac(host, towards), mac(from, back)].concat()
        };
        let there = unsummed((client.octets(), 4001), (ours.octets(), 7000), b"question");
        let frame = [macs("tapped", "client", "client", "tapped"), there].concat();
        self.scene.send_frame("client", "tapped", &frame);
        let (text, from) = datagram(&far);
        assert_eq!((&*text, from.ip()), ("question", self.source));
        let IpAddr::V4(source) = from.ip() else { panic!("{from}") };
        let back = unsummed((next.octets(), 7000), (source.octets(), from.port()), b"answer");
        let frame = [macs("sink", "far", "far", "sink"), back].concat();
        self.scene.send_frame("far", "sink", &frame);
        assert_eq!(datagram(&near), ("answer".into(), (self.ours, 7000).into()));
    }

    /// The hops that a traceroute shows: ours, the router's, and the next host, which goes by our address.
    fn trace(&self, more: &[&str]) {
        let ours = self.ours.to_string();
        let family = if self.is_v6 { "-6" } else { "-4" };
        let words = [&[family, "-n", "-q", "1", "-w", "5", "-m", "6"], more, &[&ours]].concat();
        let said = said(self.scene.host("client"), "traceroute", &words);
        let hops: Vec<&str> = said
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().nth(1).unwrap_or_default())
            .collect();
        assert_eq!(hops, [&ours, &self.router.to_string(), &ours], "{said}");
    }

    fn ping(&self, words: &[&str]) {
        let ours = self.ours.to_string();
        let words = [&["-c", "3", "-i", "0.2", "-W", "5"], words, &[&ours]].concat();
        let said = ping(&self.scene, &words);
        assert!(said.contains("3 received"), "{said}");
    }
}

/// A rule of the table.
#[derive(Clone, Copy, Default)]
struct Rule {
    name: &'static str,
    protocol: &'static str,
    port: u16,
    next_port: u16,
    /// The file that all of its views go to, if any.
    to: &'static str,
    snapshot: u32,
    /// Another source than the table's.
    source: Option<IpAddr>,
}

const fn rule(name: &'static str, protocol: &'static str, port: u16, to: &'static str) -> Rule {
    Rule { name, protocol, port, next_port: 0, to, snapshot: 0, source: None }
}

/// An IPv4 packet with its EtherType in front, whose UDP checksum is 0.
fn unsummed(from: ([u8; 4], u16), to: ([u8; 4], u16), content: &[u8]) -> Vec<u8> {
    let len = 28 + content.len() as u16;
    let mut ip = vec![0x45, 0];
    ip.extend(len.to_be_bytes());
    ip.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    ip.extend(from.0);
    ip.extend(to.0);
    let sum = wire::checksum::of(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    let ports = [from.1, to.1, len - 20, 0].map(u16::to_be_bytes).concat();
    [&[0x08, 0x00], &ip[..], &ports, content].concat()
}

/// Views or wires: frames by the name of their interface.
type Frames = BTreeMap<String, Vec<Vec<u8>>>;

/// The frames of one view of rules, or of a wire (`view` is empty), that go from one end to another.
fn of<'a>(
    frames: &'a Frames,
    view: &str,
    rules: &[&str],
    is_wanted: impl Fn(IpAddr, IpAddr) -> bool,
) -> Vec<&'a [u8]> {
    let is_one =
        |name: &str| view.is_empty() || rules.iter().any(|rule| name == format!("{rule} {view}"));
    let of_view = frames.iter().filter(|(name, _)| is_one(name)).flat_map(|(_, frames)| frames);
    let is_wanted = |frame: &&[u8]| ends(frame).is_some_and(|(from, to)| is_wanted(from, to));
    of_view.map(Vec::as_slice).filter(is_wanted).collect()
}

/// How many frames of a wire are in no view; all that is in the view was on the wire, as often.
fn beside(wire: &[&[u8]], view: &[&[u8]], what: &str) -> usize {
    let mut counts: BTreeMap<&[u8], i64> = BTreeMap::new();
    wire.iter().for_each(|frame| *counts.entry(frame).or_default() += 1);
    view.iter().for_each(|frame| *counts.entry(frame).or_default() -= 1);
    let never = counts.iter().find(|(_, count)| **count < 0);
    assert!(never.is_none(), "{what}: {never:02x?}");
    assert!(!view.is_empty(), "{what}");
    wire.len() - view.len()
}

impl Bump {
    /// Compares the views of rules with both wires, frame by frame, and with the ledger; so many packets
    /// ended here by their time to live.
    fn assert_views(&self, ended: usize, ledger: &api::Stats) {
        let views = frames_by_interface(&self.scene.path("first-full.pcapng"));
        let [clients, nexts] = ["client.pcapng", "sink.pcapng"]
            .map(|file| frames_by_interface(&self.scene.path(file)));
        let rules = ["web", "udp", "icmp"];
        let to = |wanted: IpAddr| move |_: IpAddr, to: IpAddr| to == wanted;
        let from = |wanted: IpAddr| move |from: IpAddr, _: IpAddr| from == wanted;
        let wire = |wire, of_wire: &dyn Fn(IpAddr, IpAddr) -> bool| of(wire, "", &[], of_wire);
        let view =
            |view, of_view: &dyn Fn(IpAddr, IpAddr) -> bool| of(&views, view, &rules, of_view);
        let (ours, source) = (self.ours, self.source);
        let sent = (wire(&clients, &to(ours)), view("ingress", &to(ours)));
        assert_eq!(beside(&sent.0, &sent.1, "what the client sent"), ended);
        // Whose time to live ended was told so, by us.
        let got = (wire(&clients, &from(ours)), view("egress", &to(self.client)));
        let by_router = wire(&clients, &from(self.router));
        let got = ([got.0, by_router].concat(), got.1);
        assert_eq!(beside(&got.0, &got.1, "what the client got"), ended);
        let forwarded = (wire(&nexts, &from(source)), view("egress", &from(source)));
        assert_eq!(beside(&forwarded.0, &forwarded.1, "what was forwarded"), 0);
        let back = (wire(&nexts, &to(source)), view("ingress", &to(source)));
        assert_eq!(beside(&back.0, &back.1, "what came back"), 0);
        // Between the client and the next host or the router, as if nobody else were there.
        for frame in view("inline", &|_, _| true) {
            let (from, to) = ends(frame).expect("an IP packet");
            let there = (from, to) == (self.client, self.next);
            let back = to == self.client && [self.next, self.router].contains(&from);
            assert!(there || back, "{from} to {to}");
        }
        for rule in rules {
            let line = ledger.taps.iter().find(|tap| tap.name == rule).expect("a line");
            for view in VIEWS {
                let frames = of(&views, view, &[rule], |_, _| true).len() as u64;
                assert_eq!(frames, line.matched, "{rule} {view}: {ledger}");
            }
        }
        if !self.is_v6 {
            let words = ["-Y", "udp.checksum == 0"];
            let unsummed = rows(self.scene.path("first-full.pcapng"), &words, &["frame.number"]);
            assert_eq!(unsummed.len(), 2 * VIEWS.len());
        }
    }

    /// All views of a file are there, but for copies that the ledger says are lost.
    fn assert_all_or_counted(&self, ledger: &api::Stats) {
        let recorded: usize = ["first-full.pcapng", "first-bulk.pcapng"]
            .into_iter()
            .flat_map(|file| frames_by_interface(&self.scene.path(file)).into_values())
            .map(|frames| frames.len())
            .sum();
        let lines = |is_one: &dyn Fn(&str) -> bool| {
            let lines = ledger.taps.iter().filter(|tap| is_one(&tap.name));
            lines.cloned().collect::<Vec<_>>()
        };
        let viewed = lines(&|name| ["web", "bulk", "udp", "icmp"].contains(&name));
        let forwarded: u64 = viewed.iter().map(|line| line.matched).sum();
        let is_in_kernel = self.pins.is_some();
        let lost = lines(&|name| {
            name.starts_with("views of") || is_in_kernel && name.starts_with("table")
        });
        let lost: u64 = lost.iter().map(|line| line.drops.total()).sum();
        eprintln!("{forwarded} packets forwarded, {recorded} copies recorded, {lost} lost");
        assert_eq!(recorded as u64 + lost, VIEWS.len() as u64 * forwarded, "{ledger}");
    }
}

/// All that passes while three views are recorded, and a download while the table is edited.
fn assert_all_passes(bump: &Bump) {
    let rules = [
        rule("web", "tcp", WEB, "full"),
        Rule { snapshot: 96, ..rule("bulk", "tcp", BULK, "bulk") },
        rule("udp", "udp", 0, "full"),
        Rule { next_port: 5353, ..rule("dns", "udp", 53, "") },
        rule("icmp", "icmp", 0, "full"),
        rule("spare", "tcp", 22, ""),
    ];
    bump.write("first", &rules);
    let (running, said) = bump.start();
    assert!(said.contains("in the kernel") == bump.pins.is_some(), "{said}");
    let wires = ["client", "sink"].map(|host| {
        let file = bump.scene.path(&format!("{host}.pcapng"));
        let words = ["capture", "-i", "tapped", "-B", "64MiB", "-w", over_links::text(&file)];
        bump.scene.start(host, &[&words[..], &["ip or ip6"]].concat())
    });
    bump.echo(WEB, 2_000_000);
    bump.question(7777, 7777);
    bump.question_without_checksum();
    bump.ping(&[]);
    bump.ping(&["-s", "4000"]);
    bump.trace(&[]);
    bump.trace(&["-I"]);
    let near = udp(bump.scene.host("client"), (bump.client, 4002));
    near.connect((bump.ours, 7778)).unwrap();
    near.send(b"nobody").unwrap();
    let error = near.recv(&mut [0; 9]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    for wire in wires {
        let ledger = wire.stop();
        assert_eq!(ledger.drops.total(), 0, "{ledger}");
    }
    bump.question(53, 5353);

    let download = bump.download(BULK);
    download.wait_for(DOWNLOAD as u64 / 100);
    let mut edited = rules[..5].to_vec();
    edited[3].next_port = 5354;
    edited.push(rule("late", "tcp", 81, ""));
    bump.write("first", &edited);
    let said = bump.ask(&["reload"]);
    assert_eq!(said, "rule dns: changed\nrule late: added\nrule spare: removed\n");
    bump.question(53, 5354);
    bump.echo(81, 100_000);
    // One that cannot be carried out changes nothing.
    edited.push(Rule { source: Some(bump.wrong), ..rule("wrong", "tcp", 82, "") });
    bump.write("first", &edited);
    let said = bump.ask(&["reload"]);
    assert!(said.contains(&bump.wrong.to_string()) && !said.contains("added"), "{said}");
    bump.echo(81, 100_000);
    download.finish();

    let said = bump.ask(&["show"]);
    assert!(said.contains("session bulk tcp: ") && !said.contains("rule spare"), "{said}");
    let finished = running.stop(SOON);
    assert!(finished.status.success(), "{}", finished.stderr);
    let ledger = stats(bump.scene.path("ledger.json"));
    assert_eq!(ledger.unaccounted, 0, "{ledger}");
    for file in ["first-full.pcapng", "first-bulk.pcapng"] {
        assert_clean(&bump.scene.path(file));
    }
    bump.assert_views(2, &ledger);
    bump.assert_all_or_counted(&ledger);
}

/// Whether bpftool knows of a program, a link or a map.
fn is_there(kind: &str, id: u32) -> bool {
    let mut bpftool = Command::new("bpftool");
    bpftool.args([kind, "show", "id", &id.to_string()]);
    bpftool.stdin(Stdio::null()).output().expect("bpftool runs").status.success()
}

/// A download goes on when the process is killed, the next one takes the table over, and all of it ends when
/// it is told to.
fn assert_it_outlives_its_process(bump: &Bump) {
    bump.write("second", &[Rule { snapshot: 96, ..rule("bulk", "tcp", BULK, "bulk") }]);
    let (running, said) = bump.start();
    assert!(said.contains("which went on with its sessions"), "{said}");
    let download = bump.download(BULK);
    download.wait_for(DOWNLOAD as u64 / 100);
    running.signal(Signal::KILL);
    running.finish(SOON);
    let then = download.arrived();
    assert!(then < DOWNLOAD as u64 / 2, "{then} bytes had come when it was killed");
    download.wait_for(then + DOWNLOAD as u64 / 10);
    download.finish();

    let (running, said) = bump.start();
    assert!(said.contains("which went on with its sessions"), "{said}");
    let said = bump.ask(&["show"]);
    assert!(said.contains("session bulk tcp: "), "{said}");
    bump.echo(BULK, 100_000);

    let tapped = &bump.scene.host("tapped").netns;
    let attached = || {
        let of = |name| io::bpf::list::attached(name).unwrap();
        tapped.run(|| [of("client"), of("sink")].concat()).unwrap()
    };
    let mut objects = Vec::new();
    for of in attached() {
        let (program, link) = (of.program.unwrap(), of.link.unwrap());
        objects.extend([("prog", program), ("link", link)]);
        let words = ["-j", "prog", "show", "id", &program.to_string()];
        let output = Command::new("bpftool").args(words).output().unwrap();
        let program: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let maps = program["map_ids"].as_array().expect("it has maps");
        objects.extend(maps.iter().map(|id| ("map", id.as_u64().unwrap() as u32)));
    }
    assert!(objects.len() >= 2 * 2 + 7 && objects.iter().all(|(kind, id)| is_there(kind, *id)));
    let said = bump.ask(&["stop", "--table", &bump.table]);
    assert_eq!(said, format!("table {}: stopped\n", bump.table));
    assert!(running.finish(SOON).status.success());
    let what = "programs, links and maps are gone";
    wait_until(what, SOON, || objects.iter().all(|(kind, id)| !is_there(kind, *id)));
    assert_eq!(attached(), []);
    let mut interfaces = tapped.run(io::offloads::interfaces).unwrap();
    interfaces.sort();
    assert_eq!(interfaces, ["client", "lo", "sink"]);
    let pins = bump.pins.as_ref().expect("it was in the kernel");
    let find = pins.command(bump.scene.host("tapped"), "find").arg("/sys/fs/bpf").output();
    let left = String::from_utf8(find.unwrap().stdout).unwrap();
    assert!(!left.contains(&bump.table), "{left}");
}

fn can_run() -> bool {
    root_or_skip() && ["tshark", "ping", "traceroute", "bpftool"].into_iter().all(tool_or_skip)
}

#[test]
fn all_passes_over_ipv4_and_goes_on_in_the_kernel() {
    if can_run() {
        let bump = Bump::new(false, true);
        assert_all_passes(&bump);
        assert_it_outlives_its_process(&bump);
    }
}

#[test]
fn all_passes_over_ipv6_and_goes_on_in_the_kernel() {
    if can_run() {
        let bump = Bump::new(true, true);
        assert_all_passes(&bump);
        assert_it_outlives_its_process(&bump);
    }
}

#[test]
fn all_passes_over_ipv4_in_user_space() {
    if can_run() {
        assert_all_passes(&Bump::new(false, false));
    }
}

#[test]
fn all_passes_over_ipv6_in_user_space() {
    if can_run() {
        assert_all_passes(&Bump::new(true, false));
    }
}
