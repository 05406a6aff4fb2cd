//! Mirrors in the kernel: frames of every kind, as they were, from every kind of interface.

mod mirror;

use io::mirror::{MirrorOptions, Tap, TargetOptions};
use io::nic::NicSink;
use io::{Data, Direction, InterfaceId, Meta, Now, Packet, Selection, Sink};
use kernel::mirror::layout::Leaving;
use mirror::{
    Collector, VXLAN_PORT, constant, everything, mirror as mirror_of, numbers, one, open, tap,
    vxlan,
};
use rig::{Generator, Host, Topology};

fn line() -> Topology {
    let net = Topology::line(["client", "tapped", "sink"]).mtu(9000).build();
    net.host("client").ip("link set tapped mtu 1500");
    net.host("tapped").ip("link set client mtu 1500");
    net
}

/// Frames of protocols that are never offloaded, of IP and of none, untagged and with tags.
fn every_kind() -> Vec<Vec<u8>> {
    let (to, from) = ([2, 0x71, 0, 0, 0, 9], [2, 0x71, 0, 0, 0, 1]);
    let ethertypes: [&[u8]; 7] = [
        &[0x88, 0xb5],                                     // local experiments
        &[0x08, 0x06],                                     // ARP
        &[0x88, 0xcc],                                     // LLDP
        &[0x00, 0x26, 0x42, 0x42, 0x03],                   // STP, by its 802.3 length
        &[0x81, 0x00, 0x20, 0x64, 0x08, 0x00, 0x45, 0x00], // 802.1Q, IPv4 that is cut short
        &[0x88, 0xa8, 0x00, 0x0a, 0x81, 0x00, 0x00, 0x14, 0x86, 0xdd, 0x60], // QinQ, IPv6
        &[0x81, 0x00, 0x00, 0x01, 0x81, 0x00, 0x00, 0x02, 0x81, 0x00, 0x00, 0x03, 0x08, 0x06],
    ];
    let mut frames = Vec::new();
    for (number, ethertype) in (0u8..).zip(ethertypes) {
        for len in [30, 60, 61, 333, 1514] {
            let mut frame = [&to[..], &from, ethertype].concat();
            let more = usize::saturating_sub(len, frame.len());
            frame.extend((0..more).map(|at| number.wrapping_add(at as u8)));
            frames.push(frame);
        }
    }
    frames
}

fn send_from(host: &Host, interface: &str, frames: &[Vec<u8>]) {
    let sink = host.netns.run(|| NicSink::open(interface)).expect("the namespace is there");
    let mut sink = sink.expect("the interface is there");
    let packet = |frame: &Vec<u8>| {
        let meta = Meta {
            ts_ns: 1,
            origlen: frame.len() as u32,
            link_type: wire::LinkType::ETHERNET,
            interface: InterfaceId(0),
            direction: Direction::Unknown,
            outer: None,
            packet_id: None,
            gso: None,
            decided: false,
            flow_hash: None,
        };
        Packet { data: Data::copy_of(frame), meta }
    };
    let packets: Vec<Packet> = frames.iter().map(packet).collect();
    let chosen: Vec<u32> = (0..packets.len() as u32).collect();
    let all = Selection::new(&packets, &chosen);
    assert_eq!(sink.send(all), all.len(), "the interface takes so few at once");
}

#[test]
fn every_kind_of_frame_arrives_as_it_was_or_as_its_slice() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    for snaplen in [0, 64] {
        let collector = Collector::start(sink, VXLAN_PORT, false);
        let mut mirror = open(tapped, MirrorOptions::default());
        let options = TargetOptions { snaplen, ..one(vxlan(sink.v4("tapped").into(), 1)) };
        let target = mirror.add_target(&options).expect("a target");
        let id = mirror.add_tap(0, None).expect("a tap");
        mirror.set_taps("client", vec![tap(id, &[target])]).expect("taps");
        let sent = every_kind();
        // Received with the outermost tag in metadata; sent with all of them in band.
        send_from(client, "tapped", &sent);
        send_from(tapped, "client", &sent);
        mirror.stop();
        let arrived = collector.frames();
        let kept = |frame: &Vec<u8>| match snaplen {
            0 => frame.clone(),
            _ => frame[..frame.len().min(snaplen as usize)].to_vec(),
        };
        let mut wanted: Vec<Vec<u8>> = sent.iter().chain(&sent).map(kept).collect();
        let mut arrived: Vec<Vec<u8>> = arrived.into_iter().map(|(_, frame)| frame).collect();
        arrived.retain(|frame| frame.starts_with(&[2, 0x71, 0, 0, 0, 9]));
        wanted.sort_unstable();
        arrived.sort_unstable();
        assert_eq!(arrived.len(), wanted.len());
        for (arrived, wanted) in arrived.iter().zip(&wanted) {
            assert_eq!(arrived, wanted, "snaplen {snaplen}");
        }
    }
}

#[test]
fn a_mirror_does_not_mirror_itself() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let (mut mirror, first, _) = mirror_of(tapped, "client", vxlan(sink.v4("tapped").into(), 1));
    let target = mirror.add_target(&one(vxlan(sink.v4("tapped").into(), 2))).expect("a target");
    let second = mirror.add_tap(0, None).expect("a tap");
    mirror.set_taps("sink", vec![tap(second, &[target])]).expect("taps");
    Generator::new(10_000, 300).run_in(&client.netns, (tapped.v4("client"), 9).into());
    // And what is no tunnel's goes the same way.
    Generator::new(10_000, 50).run_in(&tapped.netns, (sink.v4("tapped"), 9).into());
    mirror.stop();
    let frames = collector.frames();
    let of = |vni| {
        let frames: Vec<_> = frames.iter().filter(|(of, _)| *of == vni).cloned().collect();
        numbers(&frames).len()
    };
    assert_eq!((of(1), of(2)), (300, 50));
    let (first, second) =
        (mirror.tap_counters(first).expect("it"), mirror.tap_counters(second).expect("it"));
    assert_eq!(second.own_tunnel, first.matched + second.matched, "{first:?} {second:?}");
}

#[test]
fn loopback_s_packets_are_taken_once() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (tapped, sink) = (net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let mut mirror = open(tapped, MirrorOptions::default());
    let target = mirror.add_target(&one(vxlan(sink.v4("tapped").into(), 1))).expect("a target");
    let id = mirror.add_tap(0, None).expect("a tap");
    let received = Tap { sent: constant(0), received: everything(), ..tap(id, &[target]) };
    mirror.set_taps("lo", vec![received]).expect("taps");
    Generator::new(10_000, 100).run_in(&tapped.netns, "127.0.0.1:9".parse().expect("an address"));
    mirror.stop();
    let numbers = numbers(&collector.frames());
    assert_eq!((rig::missing(&numbers, 100), rig::duplicates(&numbers)), (vec![], vec![]));
    let seen = mirror.tap_counters(id).expect("counters");
    assert_eq!(seen.filtered, seen.matched, "{seen:?}");
}

#[test]
fn a_tap_has_a_ceiling_and_several_targets() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let mut mirror = open(tapped, MirrorOptions::default());
    let targets = [1, 2].map(|vni| {
        mirror.add_target(&one(vxlan(sink.v4("tapped").into(), vni))).expect("a target")
    });
    // 1,000 packets of 1,042 bytes, 100 kB of them at once and then 10 Mbit/s.
    let ceiling = io::mirror::Ceiling {
        bits_per_second: 10_000_000,
        burst_ns: 80_000_000,
        leaving: Leaving::AS_IT_IS,
    };
    let id = mirror.add_tap(0, Some(ceiling)).expect("a tap");
    mirror.set_taps("client", vec![tap(id, &targets)]).expect("taps");
    let to = (tapped.v4("client"), 9).into();
    let generator = Generator::new(20_000, 1000).payload_bytes(1000);
    let sent = generator.run_in(&client.netns, to);
    let seen = mirror.tap_counters(id).expect("counters");
    let bytes = 100_000.0 + 1_250_000.0 * sent.elapsed.as_secs_f64();
    assert!(seen.rate_limited > 0, "{seen:?}");
    assert!((seen.matched_bytes as f64) < 1.1 * bytes, "{seen:?} of {bytes}");
    assert!(seen.matched_bytes >= 90_000, "{seen:?}");
    // Without it all pass.
    mirror.set_ceiling(id, None).expect("no ceiling");
    mirror.tick(Now::read());
    generator.run_in(&client.netns, to);
    mirror.stop();
    let after = mirror.tap_counters(id).expect("counters");
    assert!(after.matched >= seen.matched + 1000, "{after:?}");
    let frames = collector.frames();
    for vni in [1, 2] {
        let of = frames.iter().filter(|(of, _)| *of == vni).count();
        assert_eq!(of as u64, after.matched, "VNI {vni}");
    }
}
