//! The same fifty taps over the same traffic, once in the kernel and once by rings: the same tunnel
//! packets, and the same ledger.
//!
//! ```text
//! inlet (TAP device: what is written to it comes in) ─ tapped ──────── sink
//!   random frames, tags, fragments, super-packets       mirror           tcpdump
//! ```

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_kernel;
mod over_links;

use api::{DropReason, Stats};
use filter::{Action, PortRange, Rule, TrafficDirection, Transport};
use over_kernel::{inside, outer, traffic};
use over_links::*;
use rig::rules::Random;
use rig::{Tcpdump, link_or_skip, root_or_skip, tool_or_skip, wait_until};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::UdpSocket;
use std::time::Duration;

const TAPS: usize = 50;
const SEED: u64 = 0x7061_7468;
/// Random frames and super-packets that come in, and packets that the host sends.
const FRAMES: usize = 900;
const SUPER_PACKETS: usize = 60;
const SENT: usize = 60;
/// Time from one to the next: fifty taps make as many packets of each at most.
const PACE: Duration = Duration::from_millis(3);
/// A far end of the host's own packets.
const AWAY: &str = "fd00:99::2";

const EXPRESSIONS: [&str; 20] = [
    "",
    "tcp",
    "udp",
    "ip6",
    "arp",
    "vlan",
    "vlan 7 and ip",
    "not vlan",
    "tcp[13] & 8 != 0",
    "ip[2:2] < 1000",
    "greater 1000",
    "less 100",
    "icmp or icmp6",
    "net 10.0.0.0/8",
    "port 80",
    "udp port 53",
    "ether proto 0x88cc or ether[12:2] < 1500",
    "tcp[16:2] & 1 = 0",
    "ip[6:2] & 0x3fff != 0",
    "udp port 9",
];

/// A far end by its number: every kind that goes through the kernel, over both families.
fn far_end(number: usize, random: &mut Random, sinks: &[String; 2]) -> String {
    let sink = &sinks[random.below(2)];
    match number % 4 {
        0 => format!("vxlan://{sink}?vni={}", 1000 + number),
        1 => format!("geneve://{sink}?vni={}", 1000 + number),
        2 => format!("gre://{sink}?key={}", 1000 + number),
        _ => format!("gretap://{sink}?key={}", 1000 + number),
    }
}

/// The file of all taps.
fn file(datapath: &str, sinks: &[String; 2], has_room: bool) -> String {
    let mut random = Random::new(SEED);
    let mut text = String::new();
    for number in 0..TAPS {
        let mut far_ends = far_end(number, &mut random, sinks);
        // A group; both members have one id, by which the copies are told.
        if number % 10 == 3 {
            let of = |sink: &String| format!("gretap://{sink}?key={}", 1000 + number);
            far_ends = sinks.iter().map(of).collect::<Vec<_>>().join(",");
        }
        let direction = random.pick(&["in", "in", "both", "out"]);
        let slice = random.pick(&[0, 0, 0, 14, 64, 128, 1000]);
        let oversize = match has_room {
            true => "auto",
            false => ["fragment", "cut", "auto", "auto", "drop"][number % 5],
        };
        let _ = writeln!(
            text,
            "[[tap]]\nname = \"tap-{number}\"\ninterface = \"inlet\"\ndatapath = \"{datapath}\"\n\
             to = [\"{far_ends}\"]\ndirection = \"{direction}\"\nsnapshot_length = {slice}\n\
             oversize = \"{oversize}\"\nbuffer_size = \"16MiB\""
        );
        if number % 2 == 0 {
            let expression = EXPRESSIONS[number / 2 % EXPRESSIONS.len()];
            let _ = writeln!(text, "expression = \"{expression}\"");
            continue;
        }
        let count = random.pick(&[1, 3, 10, 40]);
        for rule in random.rules(count).as_slice() {
            text += &rule_text(rule);
        }
    }
    text
}

fn rule_text(rule: &Rule) -> String {
    let mut text = String::from("[[tap.rule]]\n");
    let action = match rule.action {
        Action::Include => "INCLUDE",
        Action::Exclude => "EXCLUDE",
    };
    let _ = writeln!(text, "rule_action = \"{action}\"");
    if let Some(direction) = rule.direction {
        let direction = match direction {
            TrafficDirection::Ingress => "INGRESS",
            TrafficDirection::Egress => "EGRESS",
        };
        let _ = writeln!(text, "traffic_direction = \"{direction}\"");
    }
    for (key, net) in [("source_cidr", rule.source), ("destination_cidr", rule.destination)] {
        net.into_iter().for_each(|net| writeln!(text, "{key} = \"{net}\"").unwrap());
    }
    let protocol = rule.protocol;
    protocol.into_iter().for_each(|number| writeln!(text, "protocol = {number}").unwrap());
    match rule.transport {
        Transport::Ports { source, destination } => {
            let options = if protocol == Some(6) { "tcp_options" } else { "udp_options" };
            for (key, range) in
                [("source_port_range", source), ("destination_port_range", destination)]
            {
                if let Some(PortRange { min, max }) = range {
                    let _ = writeln!(text, "{options}.{key} = {{ min = {min}, max = {max} }}");
                }
            }
        }
        Transport::Icmp { kind, code } => {
            let _ = writeln!(text, "icmp_options.type = {kind}");
            code.into_iter().for_each(|code| writeln!(text, "icmp_options.code = {code}").unwrap());
        }
        _ => {}
    }
    text
}

/// The tunnel packets of each tunnel in some order, and the ledger.
type Outcome = (BTreeMap<outer::Tunnel, Vec<outer::Packet>>, Stats);

fn run(datapath: &str, mtu: u32) -> Outcome {
    let _alone = alone();
    // The judge is to see the wire's packets, not those that the sender leaves to be cut.
    let line = Scene::line().offloads_off("tapped", "sink");
    let scene = Scene::over(&format!("mirror-paths-{datapath}-{mtu}"), &line);
    let (tapped, sink) = (scene.host("tapped"), scene.host("sink"));
    for (host, port) in [(tapped, "sink"), (sink, "tapped")] {
        host.ip(&format!("link set {port} mtu {mtu}"));
    }
    // Nobody answers, neither that a port is unreachable nor anything else.
    let nft = "add table inet silent; add chain inet silent in \
               { type filter hook input priority -300 ; policy drop ; }";
    let output = sink.netns.command("nft").arg(nft).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let inlet = traffic::Inlet::new(tapped, AWAY);
    let config = scene.path("taps.toml");
    let sinks = [sink.v4("tapped").to_string(), format!("[{}]", sink.v6("tapped"))];
    std::fs::write(&config, file(datapath, &sinks, mtu > 1600)).unwrap();
    let judge = Tcpdump::start(sink, "tapped", &scene.path("sink.pcap"), "");
    let mirror = scene.start("tapped", &["mirror", "-c", text(&config)]);
    mirror.wait_long_for(&format!("tap tap-{}: listening on", TAPS - 1));
    let items = traffic::items(SEED, FRAMES, SUPER_PACKETS);
    let sender = inside(&tapped.netns, || UdpSocket::bind("[fd00:99::1]:4000")).unwrap();
    for (number, item) in items.iter().enumerate() {
        inlet.send(item);
        if number % (items.len() / SENT) == 0 {
            let payload = vec![number as u8; 20 + number % 1300];
            sender.send_to(&payload, (AWAY, [53, 80, 9][number % 3])).unwrap();
        }
        std::thread::sleep(PACE);
    }
    let mut last = 0;
    wait_until("nothing more is sent", SOON, || {
        std::thread::sleep(Duration::from_millis(300));
        let sent = mirror.ledger().sent;
        std::mem::replace(&mut last, sent) == sent
    });
    let ledger = mirror.stop();
    let frames = judge.stop();
    (outer::by_tunnel(frames.iter().map(|frame| frame.bytes.as_slice())), ledger)
}

fn assert_same(mtu: u32) {
    let (ring, kernel) = (run("ring", mtu), run("kernel", mtu));
    let count = |of: &Outcome| of.0.values().map(Vec::len).sum::<usize>();
    eprintln!(
        "MTU {mtu}: {} tunnels, {} and {} packets\n{}",
        ring.0.len(),
        count(&ring),
        count(&kernel),
        kernel.1
    );
    let mut differences = String::new();
    for (one, other) in ring.1.taps.iter().zip(&kernel.1.taps) {
        if one != other {
            let _ = writeln!(differences, "ring   {one}\nkernel {other}");
            let rules = one.rules.iter().zip(&other.rules).filter(|(one, other)| one != other);
            rules.for_each(|(one, other)| writeln!(differences, "  {one:?} {other:?}").unwrap());
        }
    }
    for (one, other) in ring.1.targets.iter().zip(&kernel.1.targets) {
        let counts = |of: &api::TargetStats| {
            (of.endpoint.clone(), of.matched, of.sent, of.cut, of.fragmented, of.drops)
        };
        if counts(one) != counts(other) {
            let _ = writeln!(differences, "ring   {one}\nkernel {other}");
        }
    }
    let names = |of: &Outcome| of.0.keys().copied().collect::<Vec<_>>();
    if names(&ring) != names(&kernel) {
        let _ = writeln!(differences, "ring {:?}\nkernel {:?}", names(&ring), names(&kernel));
    }
    for (tunnel, packets) in &ring.0 {
        let others = kernel.0.get(tunnel).map_or(&[][..], Vec::as_slice);
        if let Some(difference) = outer::difference(packets, others) {
            let _ = writeln!(differences, "{tunnel:?}: {difference}");
        }
    }
    assert_eq!(ring.1.taps.len(), TAPS);
    assert!(count(&ring) > 5000, "too little to compare");
    if mtu < 1600 {
        let sum = |of: fn(&api::TargetStats) -> u64| ring.1.targets.iter().map(of).sum::<u64>();
        let dropped = sum(|target| target.drops.get(DropReason::Oversize));
        let kinds = [sum(|target| target.fragmented), sum(|target| target.cut), dropped];
        assert!(kinds.iter().all(|&packets| packets > 50), "{kinds:?} fragmented, cut, dropped");
    }
    assert!(differences.is_empty(), "MTU {mtu}:\n{differences}");
}

fn can_run() -> bool {
    let tools = ["tcpdump", "nft"].into_iter().all(tool_or_skip);
    root_or_skip() && tools && link_or_skip("type veth")
}

#[test]
fn both_paths_give_the_same_where_all_fits() {
    if can_run() {
        assert_same(9000);
    }
}

#[test]
fn both_paths_give_the_same_where_packets_are_too_long() {
    if can_run() {
        assert_same(1500);
    }
}
