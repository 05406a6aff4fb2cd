//! Rules on a live link with all offloads on: in the kernel, in user space, and read plainly over
//! what a third capture recorded, each rule decides for the same wire packets.

#[path = "../../pipeline/tests/taps/frame.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod frame;
mod over_links;

use api::Stats;
use frame::{ethernet, ipv4_between, tagged, udp};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, bind, socket};
use over_links::{PORT, Scene, text};
use rig::rules::verdict;
use rig::{Generator, exchange, frames_in, root_or_skip};
use std::fs::File;
use std::io::Write;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use wire::LinkType;

const INSIDE: &str = "a namespace that was made can be entered";

/// Received numbered packets in a VLAN are excluded, others included; sent ones are included. Web
/// requests are excluded, answers included. No echo request comes.
const RULES: &str = r#"
[[rule]]
traffic_direction = "INGRESS"
rule_action = "EXCLUDE"
source_cidr = "10.77.0.0/24"
protocol = "udp"
udp_options.destination_port_range = { min = 9, max = 9 }

[[rule]]
traffic_direction = "INGRESS"
rule_action = "INCLUDE"
protocol = "udp"
udp_options.destination_port_range = { min = 9, max = 9 }

[[rule]]
traffic_direction = "EGRESS"
rule_action = "INCLUDE"
protocol = "udp"
udp_options.destination_port_range = { min = 9, max = 9 }

[[rule]]
traffic_direction = "INGRESS"
rule_action = "EXCLUDE"
protocol = "tcp"
tcp_options.destination_port_range = { min = 80, max = 80 }

[[rule]]
traffic_direction = "EGRESS"
rule_action = "INCLUDE"
protocol = "tcp"
tcp_options.source_port_range = { min = 80, max = 80 }

[[rule]]
rule_action = "INCLUDE"
protocol = "icmp"
icmp_options.type = 8
"#;

/// Sends packets with a VLAN tag to the numbered ones' port; the receiving kernel keeps that in metadata.
fn send_tagged(interface: &str, count: u64) {
    let packet = ipv4_between([10, 77, 0, 1], [10, 77, 0, 2], 17, 0, &udp(1000, PORT, b"tagged"));
    let frame = tagged(&ethernet(0x0800, &packet), &[7]);
    let mut links = getifaddrs().expect("interfaces are listed");
    let address = links.find_map(|link| {
        let address = link.address.filter(|_| link.interface_name == interface)?;
        address.as_link_addr().copied()
    });
    let opened = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None);
    let opened = opened.expect("root may");
    bind(opened.as_raw_fd(), &address.expect("an Ethernet interface")).expect("it is there");
    let mut sender = File::from(opened);
    for _ in 0..count {
        assert_eq!(sender.write(&frame).expect("it is sent"), frame.len());
    }
}

fn hits(ledger: &Stats) -> Vec<u64> {
    ledger.taps[0].rules.iter().map(|rule| rule.hits).collect()
}

#[test]
fn each_rule_decides_for_the_same_packets_in_the_kernel_in_user_space_and_on_paper() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::new("rules");
    let (client, tapped) = (scene.host("client"), scene.host("tapped"));
    let rules = scene.path("rules.toml");
    std::fs::write(&rules, RULES).expect("the folder can be written to");
    let (recorded, kept) = (scene.path("all.pcapng"), scene.path("kept.pcapng"));
    let everything = scene.start("tapped", &["capture", "-i", "client", "-w", text(&recorded)]);
    let by_rules = |place, file| {
        let words =
            ["capture", "-i", "client", "--rules", text(&rules), "--filter-in", place, "-w", file];
        scene.start("tapped", &words)
    };
    let in_user_space = by_rules("user", text(&kept));
    // Without the right to load programs it falls back, and the test is still one of rules.
    let in_kernel = by_rules("auto", "/dev/null");

    let _listener = client.netns.run(|| UdpSocket::bind(("0.0.0.0", PORT))).expect(INSIDE);
    let send = |generator: &Generator, netns: &io::netns::Netns, to: std::net::Ipv4Addr| {
        generator.run_in(netns, (to, PORT).into()).accepted
    };
    let burst = |count| Generator::new(20_000, count);
    let in_vlan = 300;
    client.netns.run(|| send_tagged("tapped", in_vlan)).expect(INSIDE);
    let received = send(&burst(1000), &client.netns, tapped.v4("client"));
    let sent = send(&burst(700), &tapped.netns, client.v4("tapped"));
    exchange(&client.netns, &tapped.netns, (tapped.v4("client"), 80).into(), 2 << 20);

    let (in_kernel, in_user_space) = (in_kernel.stop(), in_user_space.stop());
    everything.stop();
    let counted = hits(&in_user_space);
    assert_eq!(counted[..3], [in_vlan, received, sent]);
    assert_eq!(hits(&in_kernel), counted, "wire packets, as user space counts them");
    assert_eq!(counted[5], 0);

    let read = api::RuleFile::open(&rules).expect("sound rules").rules;
    let mut on_paper = vec![0; read.as_slice().len()];
    for frame in frames_in(&recorded) {
        let number = verdict(&read, LinkType::ETHERNET, frame.direction, &frame.bytes) as usize;
        if number > 0 {
            on_paper[number - 1] += 1;
        }
    }
    assert_eq!(counted, on_paper);
    assert!(counted[3] > 1400 && counted[4] > 1400, "segments, not super-packets: {counted:?}");
    let included = received + sent + counted[4];
    assert_eq!(in_user_space.matched, included);
    assert_eq!(frames_in(&kept).len() as u64, included);
}
