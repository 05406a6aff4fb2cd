//! A router that is tapped on both sides: each packet is seen twice, with other MACs, another TTL and
//! another header checksum, and goes on once.

mod over_links;

use over_links::*;
use rig::{Generator, duplicates, missing, numbers_in, root_or_skip};
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// `ignore` is what the stage ignores. The window is wide, as the router may have to wait for a core.
fn file(ignore: &str) -> String {
    format!(
        "[[source]]\ninterface = \"client\"\n[[source]]\ninterface = \"sink\"\n\
         [[stage]]\nname = \"once\"\ntype = \"dedup\"\nwindow = \"500ms\"\nignore = [{ignore}]\n\
         [[target]]\nname = \"out\"\nto = [\"pcap:out.pcapng\"]\n\
         [[map]]\nname = \"both\"\nfrom = [\"client\", \"sink\"]\nto = [\"out\"]\n\
         stages = [\"once\"]\nexpression = \"{NUMBERED}\"\n"
    )
}

/// Has the tapped host route between its neighbours.
fn route(scene: &Scene) {
    let tapped = scene.host("tapped");
    let forward = || {
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{key}"), "1").expect("the namespace is its own");
        }
    };
    tapped.netns.run(forward).expect("it can be entered");
    let client = scene.host("client");
    for (prefix, router) in [
        ("10.71.1.0/24", IpAddr::from(tapped.v4("client"))),
        ("fd71:0:0:1::/64", tapped.v6("client").into()),
    ] {
        client.ip(&format!("route add {prefix} via {router}"));
    }
}

#[test]
fn each_packet_of_a_path_that_is_tapped_at_both_ends_goes_on_once() {
    if !root_or_skip() {
        return;
    }
    let scene = Scene::alone("broker-dedup");
    route(&scene);
    let sink = scene.host("sink");
    // Takes the packets, so that no ICMP answers them.
    let bind = || UdpSocket::bind(("::", PORT)).expect("nobody else is in the namespace");
    let _listener = sink.netns.run(bind).expect("it can be entered");
    let addresses: [IpAddr; 2] = [sink.v4("tapped").into(), sink.v6("tapped").into()];
    for address in addresses {
        for (ignore, copies) in [(r#""mac", "ttl""#, 1), (r#""mac""#, 2), (r#""ttl""#, 2)] {
            let config = scene.path("broker.toml");
            std::fs::write(&config, file(ignore)).expect("the folder is there");
            let broker = scene.start("tapped", &["broker", "-c", text(&config)]);
            let generator = Generator::new(5000, 2000).flows(8);
            let to = SocketAddr::from((address, PORT));
            let sent = generator.run_in(&scene.host("client").netns, to).accepted;
            broker.wait_for_seen(2 * sent);
            let ledger = broker.stop();
            let numbers = numbers_in(scene.path("out.pcapng"));
            assert_eq!(missing(&numbers, sent), [0; 0], "{address}, {ignore}: {ledger}");
            let wanted = sent as usize * copies;
            assert_eq!(numbers.len(), wanted, "{address}, {ignore}: {ledger}");
            assert_eq!(duplicates(&numbers).is_empty(), copies == 1, "{address}, {ignore}");
            let stage = &ledger.stages[0];
            assert_eq!((stage.received, stage.passed), (2 * sent, wanted as u64), "{ledger}");
            assert_eq!(stage.touched, 2 * sent - wanted as u64, "{ledger}");
        }
    }
}
