//! `mirror -c FILE` on an interface: two taps of it in one process, each with its own packets.

mod over_links;

use over_links::*;
use rig::{Generator, frames_in, missing, numbers_in, root_or_skip};
use std::fs;

const PACKETS: u64 = 2_000;
/// Ethernet, IPv4 and UDP headers.
const HEADS_BYTES: usize = 14 + 20 + 8;

#[test]
fn two_taps_of_one_interface_mirror_and_record_side_by_side() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("taps");
    let address = scene.host("sink").v4("tapped");
    let file = scene.path("taps.toml");
    let taps = format!(
        r#"
        [[tap]]
        name = "mirrored"
        interface = "client"
        to = ["vxlan://{address}?vni=71"]
        buffer_size = "16MiB"
        workers = 2
        [[tap.rule]]
        traffic_direction = "INGRESS"
        rule_action = "INCLUDE"
        protocol = "udp"
        udp_options.destination_port_range = {{ min = {PORT}, max = {PORT} }}

        [[tap]]
        name = "heads"
        interface = "client"
        to = ["pcap:heads.pcapng"]
        direction = "in"
        snapshot_length = {HEADS_BYTES}
        expression = "{NUMBERED}"
        "#
    );
    fs::write(&file, taps).expect("the folder can be written to");
    let received = scene.path("received.pcapng");
    let listen = format!("vxlan://{address}?vni=71");
    let sink = scene.start("sink", &["receive", "--listen", &listen, "-w", text(&received)]);
    let mirror = scene.start("tapped", &["mirror", "-c", text(&file)]);
    let sent = scene.send(&Generator::new(10_000, PACKETS).payload_bytes(200));
    mirror.wait_for_matched(2 * sent);
    sink.wait_for_received(sent);
    let ledger = mirror.stop();
    let taps: Vec<_> = ledger.taps.iter().map(|tap| (tap.name.as_str(), tap.matched)).collect();
    assert_eq!(taps, [("mirrored", sent), ("heads", sent)], "{ledger}");
    assert_eq!(ledger.taps[0].rules[0].hits, sent, "{ledger}");
    assert_eq!(sink.stop().written, sent);
    assert_eq!(missing(&numbers_in(&received), sent), [0; 0]);
    let heads = frames_in(scene.path("heads.pcapng"));
    assert_eq!(heads.len() as u64, sent);
    assert!(heads.iter().all(|frame| frame.bytes.len() == HEADS_BYTES));
}
