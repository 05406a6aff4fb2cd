//! Which packets are cut or completed on their way, and that none leaves with a checksum that is not
//! there yet, on live interfaces: with and without offloads, with tags, inside tunnels of the host's own.

#[allow(dead_code, reason = "only sending is needed")]
mod frames;
mod mirror;

use api::{Oversize, Sending};
use frames::{ethernet, send};
use io::mirror::{KernelMirror, TargetId, TargetOptions};
use io::nic::NicSink;
use io::ring::RingSize;
use io::tunnel::SendOptions;
use io::{Batch, Direction, InterfaceId, Now, Packet, Source, wait};
use mirror::{Collector, VXLAN_PORT, one, open, tap, vxlan};
use rig::{Generator, Host, Topology};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use wire::checksum::Sum;
use wire::tunnel::{Carrier, Encap};
use wire::walk::{IpVersion, TransportKind, Walk};
use wire::{LinkType, Vni, geneve, metadata};

fn line() -> Topology {
    let net = Topology::line(["client", "tapped", "sink"]).mtu(9000).build();
    net.host("client").ip("link set tapped mtu 1500");
    net.host("tapped").ip("link set client mtu 1500");
    net
}

/// A mirror of the interface to the client, with a tap of one target.
fn mirror_of(tapped: &Host, target: &TargetOptions) -> (KernelMirror, TargetId) {
    let mut mirror = open(tapped, io::mirror::MirrorOptions::default());
    let target = mirror.add_target(target).unwrap_or_else(|e| panic!("{e}"));
    let id = mirror.add_tap(0, None).unwrap_or_else(|e| panic!("{e}"));
    mirror.set_taps("client", vec![tap(id, &[target])]).unwrap_or_else(|e| panic!("{e}"));
    mirror.tick(Now::read());
    (mirror, target)
}

/// Packets that went to be cut or completed; a super-packet is one.
fn unfinished(tapped: &Host) -> u64 {
    tapped.counter("tapline1", "tx", "packets")
}

/// Whether the checksum of the packet behind all that a walk understands is right; `None` without one.
fn is_complete(frame: &[u8]) -> Option<bool> {
    let walk = Walk::new(LinkType::ETHERNET, frame);
    let (network, transport) = (walk.network?, walk.transport?);
    if walk.is_fragment() {
        return None;
    }
    let (at, end) = (transport.at as usize, network.at as usize + network.declared_len? as usize);
    let segment = &frame[at..end];
    let ip = &frame[network.at as usize..];
    let (protocol, len) = (network.protocol, segment.len() as u32);
    let mut sum = match (network.version, transport.kind) {
        (IpVersion::V4, TransportKind::Icmp) => Sum::default(),
        (IpVersion::V4, _) => {
            Sum::pseudo_v4(*ip[12..].first_chunk()?, *ip[16..].first_chunk()?, protocol, len)
        }
        (IpVersion::V6, _) => {
            Sum::pseudo_v6(*ip[8..].first_chunk()?, *ip[24..].first_chunk()?, protocol, len)
        }
    };
    if transport.kind == TransportKind::Udp && segment[6..8] == [0, 0] {
        return None;
    }
    sum.add_bytes(segment);
    Some(sum.finish() == 0)
}

/// Makes a tunnel of the hosts' own between client and tapped host: 10.99.0.1 and 10.99.0.2.
fn tunnel_between(client: &Host, tapped: &Host) {
    for (host, own, link, other) in
        [(client, 1, "tapped", tapped.v4("client")), (tapped, 2, "client", client.v4("tapped"))]
    {
        host.ip(&format!("link add vx type vxlan id 7 dev {link} remote {other} dstport 8472"));
        host.ip(&format!("addr add 10.99.0.{own}/24 dev vx"));
        host.ip("link set vx mtu 1400 up");
    }
}

/// Sends frames from a host through its interface as they are.
fn send_raw(host: &Host, interface: &str, frames: &[Vec<u8>]) {
    let sink = host.netns.run(|| NicSink::open(interface)).expect("the namespace is there");
    let packets: Vec<_> = frames.iter().map(|frame| ethernet(frame)).collect();
    send(&mut sink.expect("it is Ethernet"), &packets);
}

#[test]
fn whole_and_complete_packets_take_the_short_way_and_others_are_completed() {
    if !rig::root_or_skip() {
        return;
    }
    for outer_v6 in [false, true] {
        let net = line();
        let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
        let remote = if outer_v6 { sink.v6("tapped").into() } else { sink.v4("tapped").into() };
        let collector = Collector::start(sink, VXLAN_PORT, outer_v6);
        let (mut mirror, target) = mirror_of(tapped, &one(vxlan(remote, 1)));

        // As they are: nobody has anything to complete.
        let raw: Vec<_> = (0..200).map(|n| frames::frame(n, 100 + usize::from(n), &[])).collect();
        send_raw(client, "tapped", &raw);
        send_raw(tapped, "client", &raw);
        assert_eq!(unfinished(tapped), 0);

        // From sockets: the NIC is to complete them, or to cut them, too.
        let generator = Generator::new(20_000, 200).flows(3);
        let to: [SocketAddr; 2] =
            [(tapped.v4("client"), 9).into(), (tapped.v6("client"), 9).into()];
        for to in to {
            generator.run_in(&client.netns, to);
        }
        let by_udp = unfinished(tapped);
        assert!(by_udp >= 400, "{by_udp} packets");
        for (port, to) in (5001..).zip(to) {
            let to = SocketAddr::new(to.ip(), port);
            rig::exchange(&client.netns, &tapped.netns, to, 200_000);
        }
        assert!(unfinished(tapped) > by_udp + 10);

        mirror.stop();
        let counters = mirror.target_counters(target).expect("counters");
        let member = counters.members[0];
        assert_eq!(counters.missing, 0, "{counters:?}");
        assert_eq!((member.matched, member.settled()), (member.sent, member.sent), "{member:?}");
        let got: Vec<Vec<u8>> = collector.frames().into_iter().map(|(_, frame)| frame).collect();
        assert_eq!(got.len() as u64, member.sent);
        let is_raw = |frame: &&Vec<u8>| frame[12..14] == [0x88, 0xb5];
        let same: Vec<Vec<u8>> = got.iter().filter(is_raw).cloned().collect();
        assert_eq!(same, [&raw[..], &raw[..]].concat());
        let complete: Vec<bool> = got.iter().filter_map(|frame| is_complete(frame)).collect();
        assert!(complete.len() > 700, "{} checksums", complete.len());
        assert!(complete.iter().all(|is_complete| *is_complete));
    }
}

#[test]
fn tags_beside_the_frame_are_put_back() {
    if !rig::root_or_skip() {
        return;
    }
    for (snaplen, outer_v6) in [(0, false), (0, true), (64, false), (64, true)] {
        let net = line();
        let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
        let remote = if outer_v6 { sink.v6("tapped").into() } else { sink.v4("tapped").into() };
        let collector = Collector::start(sink, VXLAN_PORT, outer_v6);
        let target = TargetOptions { snaplen, ..one(vxlan(remote, 1)) };
        let (mut mirror, target) = mirror_of(tapped, &target);

        let mut sent = Vec::new();
        for number in 0..60u8 {
            let tags = [&[][..], &[0x2007], &[100, 0x6009], &[1, 2, 3]][usize::from(number % 4)];
            let mut frame = frames::frame(number, 70 + usize::from(number), tags);
            if number % 8 > 3 && !tags.is_empty() {
                frame[12..14].copy_from_slice(&[0x88, 0xa8]);
            }
            sent.push(frame);
        }
        send_raw(client, "tapped", &sent);
        send_raw(tapped, "client", &sent);

        mirror.stop();
        let counters = mirror.target_counters(target).expect("counters");
        assert_eq!(counters.members[0].sent, 120, "{counters:?}");
        if snaplen != 0 {
            sent.iter_mut().for_each(|frame| frame.truncate(snaplen as usize));
        }
        let got: Vec<Vec<u8>> = collector.frames().into_iter().map(|(_, frame)| frame).collect();
        assert_eq!(got, [&sent[..], &sent[..]].concat());
    }
}

#[test]
fn packets_of_the_host_s_own_tunnels_are_completed_inside() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    tunnel_between(client, tapped);
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let member: SendOptions = vxlan(sink.v4("tapped").into(), 1);
    let (mut mirror, target) = mirror_of(tapped, &one(member));
    let to: SocketAddr = ([10, 99, 0, 2], 5001).into();
    rig::exchange(&client.netns, &tapped.netns, to, 200_000);
    mirror.stop();
    let counters = mirror.target_counters(target).expect("counters");
    assert_eq!((counters.missing, counters.members[0].matched), (0, counters.members[0].sent));
    let mut inside = 0;
    for (_, frame) in collector.frames() {
        assert_ne!(is_complete(&frame), Some(false), "{frame:02x?}");
        if frame[12..14] == [8, 0] && frame[23] == 17 && frame[36..38] == 8472u16.to_be_bytes() {
            let inner = &frame[14 + 20 + 8 + 8..];
            assert!(inner.len() <= 1414, "{} bytes", inner.len());
            if let Some(is_complete) = is_complete(inner) {
                assert!(is_complete, "{frame:02x?}");
                inside += 1;
            }
        }
    }
    assert!(inside > 200, "{inside} packets inside");
}

/// The next so many packets that are handed up.
fn handed_up(source: &mut impl Source, count: usize) -> Vec<Packet> {
    let (mut packets, mut batch) = (Vec::new(), Batch::new());
    let begun = Instant::now();
    while packets.len() < count {
        let seconds = begun.elapsed().as_secs();
        assert!(seconds < 10, "{} of {count} packets came", packets.len());
        wait([&*source as &dyn Source].into_iter(), None, Duration::from_millis(50)).expect("poll");
        source.receive(&mut batch).expect("the ring delivers");
        packets.extend(batch.drain());
    }
    packets
}

#[test]
fn what_no_program_can_do_comes_to_user_space_whole() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["client", "tapped", "sink"]).mtu(65_535).build();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    for (host, interface) in [(tapped, "sink"), (sink, "tapped")] {
        host.ip(&format!("link set {interface} mtu 1500"));
    }
    let member = SendOptions {
        sending: Sending { oversize: Oversize::Fragment, dscp: 0 },
        ..vxlan(sink.v4("tapped").into(), 1)
    };
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let (mut mirror, target) = mirror_of(tapped, &one(member));
    let mut source = mirror
        .hand_up(target, RingSize::Bytes(8 << 20), InterfaceId(7))
        .unwrap_or_else(|e| panic!("{e}"));

    // Too large for the path, with and without tags, of each length of a record.
    let mut sent = Vec::new();
    for (number, len) in (0..).zip([1465, 1600, 2000, 9000, 15_000, 15_900, 20_000, 60_000]) {
        for tags in [&[][..], &[7], &[7, 8]] {
            sent.push(frames::frame(number, len, tags));
        }
    }
    for (from, interface, direction) in
        [(client, "tapped", Direction::In), (tapped, "client", Direction::Out)]
    {
        for frame in &sent {
            send_raw(from, interface, std::slice::from_ref(frame));
            let packet = handed_up(&mut source, 1).remove(0);
            assert_eq!(packet.data[..], frame[..], "{} bytes", frame.len());
            let meta = packet.meta;
            assert_eq!((meta.origlen as usize, meta.interface), (frame.len(), InterfaceId(7)));
            assert_eq!(meta.direction, direction);
            let walk = Walk::new(LinkType::ETHERNET, frame);
            let hash = wire::flow::flow_hash(&walk, frame);
            assert_eq!(meta.flow_hash, (hash != 0).then_some(hash));
        }
    }
    // A path's full packet goes through the program.
    send_raw(client, "tapped", &[frames::frame(99, 1464, &[])]);
    mirror.stop();
    let member = mirror.target_counters(target).expect("counters").members[0];
    assert_eq!((member.handed_up, member.sent), (2 * sent.len() as u64, 1), "{member:?}");
    assert_eq!(collector.frames().len(), 1);
}

#[test]
fn a_slice_that_the_kernel_does_not_make_is_left_to_user_space() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    // Within the headers of IP.
    let target = TargetOptions { snaplen: 20, ..one(vxlan(sink.v4("tapped").into(), 1)) };
    let (mut mirror, target) = mirror_of(tapped, &target);
    let mut source = mirror
        .hand_up(target, RingSize::Bytes(8 << 20), InterfaceId(7))
        .unwrap_or_else(|e| panic!("{e}"));
    let to = (tapped.v4("client"), 9).into();
    Generator::new(1000, 20).run_in(&client.netns, to);
    mirror.stop();
    let counters = mirror.target_counters(target).expect("counters");
    let member = counters.members[0];
    assert_eq!(member.handed_up + member.sent, member.matched, "{member:?}");
    let whole = handed_up(&mut source, member.handed_up as usize);
    assert!(whole.iter().all(|packet| packet.data.len() == packet.meta.origlen as usize));
    let slices = collector.frames();
    assert_eq!(slices.len() as u64, member.sent);
    assert!(slices.iter().all(|(_, frame)| frame.len() == 20), "{slices:02x?}");
    assert!(member.matched >= 20, "{member:?}");
}

#[test]
fn slices_of_cut_packets_are_numbered_without_a_gap() {
    if !rig::root_or_skip() {
        return;
    }
    const PORT: u16 = 6081;
    for outer_v6 in [false, true] {
        let net = line();
        let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
        let remote: std::net::IpAddr =
            if outer_v6 { sink.v6("tapped").into() } else { sink.v4("tapped").into() };
        let collector = Collector::start(sink, PORT, outer_v6);
        let member = SendOptions {
            remote: (remote, PORT).into(),
            carrier: Carrier::Udp { port: PORT },
            encap: Encap::Geneve { vni: Vni::new(9).expect("24 bits"), metadata: true },
            ..vxlan(remote, 9)
        };
        let target = TargetOptions { snaplen: 128, ..one(member) };
        let (mut mirror, target) = mirror_of(tapped, &target);
        let to = (tapped.v4("client"), 5001).into();
        rig::exchange(&client.netns, &tapped.netns, to, 300_000);
        mirror.stop();
        let counters = mirror.target_counters(target).expect("counters");
        let member = counters.members[0];
        let lengths = (counters.missing, member.matched, member.settled());
        assert_eq!(lengths, (0, member.sent, member.sent), "{counters:?}");

        let (mut lanes, mut directions, mut payload) = (BTreeMap::new(), BTreeMap::new(), 0);
        for (_, datagram) in collector.datagrams() {
            let packet = geneve::Packet::new_checked(&datagram[..]).expect("GENEVE");
            let option = &datagram[geneve::HEADER_LEN..][..metadata::OPTION_LEN];
            let view = metadata::Packet::new_checked(option).expect("an option of ours");
            let repr = metadata::Repr::parse(&view).expect("of a version that is known");
            let metadata::Told::Packet { sequence, origlen, direction, .. } = repr.told else {
                panic!("{repr:?}")
            };
            lanes.entry(repr.lane.lane).or_insert_with(Vec::new).push(sequence);
            *directions.entry(format!("{direction:?}")).or_insert(0) += 1;
            assert_eq!(packet.payload().len(), 128.min(origlen as usize));
            assert!(origlen <= 1514, "{origlen} bytes");
            payload += u64::from(origlen);
        }
        assert!(payload > 600_000, "{payload} bytes");
        assert_eq!(directions.len(), 2, "{directions:?}");
        for (lane, mut numbers) in lanes {
            numbers.sort_unstable();
            let expected: Vec<u32> = (0..numbers.len() as u32).collect();
            assert_eq!(numbers, expected, "lane {lane}");
        }
    }
}

#[test]
fn packets_of_the_host_s_own_tunnels_are_sliced_here_or_by_user_space() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    tunnel_between(client, tapped);
    let target = TargetOptions { snaplen: 128, ..one(vxlan(sink.v4("tapped").into(), 1)) };
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let (mut mirror, target) = mirror_of(tapped, &target);
    let mut source = mirror
        .hand_up(target, RingSize::Bytes(8 << 20), InterfaceId(7))
        .unwrap_or_else(|e| panic!("{e}"));
    let to: SocketAddr = ([10, 99, 0, 2], 5001).into();
    rig::exchange(&client.netns, &tapped.netns, to, 20_000);
    mirror.stop();
    let counters = mirror.target_counters(target).expect("counters");
    let member = counters.members[0];
    assert_eq!(counters.missing, 0, "{counters:?}");
    assert_eq!(member.handed_up + member.sent, member.matched, "{member:?}");
    let whole = handed_up(&mut source, member.handed_up as usize);
    for packet in &whole {
        assert_eq!(packet.data.len(), packet.meta.origlen as usize);
        if packet.data[12..14] == [8, 0] && packet.data[23] == 17 {
            assert_ne!(is_complete(&packet.data[50..]), Some(false));
        }
    }
    // Not every kernel slices what is marked as a tunnel's.
    let slices = collector.frames();
    assert_eq!(slices.len() as u64, member.sent);
    assert!(slices.iter().all(|(_, frame)| frame.len() <= 128));
    assert!(member.matched >= 30, "{member:?}");
}
