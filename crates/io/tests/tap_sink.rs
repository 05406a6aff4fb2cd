//! Frames into a TAP device, taken by who captures there.

mod frames;

use api::DropReason;
use frames::{ethernet, frame, packet, receive, ring, send, uncut};
use io::Sink;
use io::tun::TapSink;
use rig::{Host, Topology};
use std::net::UdpSocket;
use std::time::Duration;
use wire::LinkType;

fn open(host: &Host, name: &str, mtu: Option<u32>) -> Result<TapSink, io::Error> {
    host.netns.run(|| TapSink::open(name, mtu)).expect("the namespace is there")
}

#[test]
fn a_device_is_made_fed_and_gone_with_its_sink() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let host = net.host("left");
    let mut sink = open(host, "watch", None).expect("a device");
    let link = host.ip("link show watch");
    assert!(link.contains("mtu 64000") && link.contains("NOARP"), "{link}");
    let addresses = host.ip("addr show watch");
    assert!(!addresses.contains("inet"), "no address of its own: {addresses}");

    let mut analyser = ring(host, "watch");
    let sent: Vec<Vec<u8>> = [
        frame(0, 15, &[]),
        frame(1, 60, &[100, 200]),
        frame(2, 9014, &[]),
        frame(3, 64_014, &[]),
        frame(4, 64_018, &[5]),
    ]
    .into_iter()
    .chain((5..105).map(|number| frame(number, 600, &[])))
    .collect();
    let packets: Vec<_> = sent.iter().map(|frame| ethernet(frame)).collect();
    send(&mut sink, &packets);
    assert_eq!(receive(&mut analyser, sent.len()), sent);
    assert_eq!((sink.counters().sent, sink.counters().drops.total()), (105, 0));

    // Another worker's share of the same device.
    let mut other = sink.clone();
    assert_eq!(other.counters().sent, 0);
    drop(sink);
    send(&mut other, &packets[..3]);
    assert_eq!(receive(&mut analyser, 3), sent[..3]);
    drop(other);
    assert!(!host.ip("link").contains("watch"));
}

#[test]
fn what_is_no_frame_for_the_device_is_counted() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let host = net.host("left");
    let mut sink = open(host, "watch", Some(1500)).expect("a device");
    let mixed = [
        ethernet(&frame(0, 1515, &[])),
        ethernet(&frame(0, 1519, &[1])),
        uncut(&frame(0, 600, &[])),
        ethernet(&frame(0, 13, &[])),
        packet(&[0x45; 40], LinkType::RAW),
        ethernet(&frame(0, 1514, &[])),
    ];
    send(&mut sink, &mixed);
    let drops = sink.counters().drops;
    assert_eq!((sink.counters().sent, drops.total()), (1, 5));
    assert_eq!(drops.get(DropReason::Oversize), 3);
    assert_eq!(drops.get(DropReason::LinkType), 2);

    host.ip("link set watch down");
    send(&mut sink, &mixed[5..]);
    host.ip("link set watch up");
    send(&mut sink, &mixed[5..]);
    host.ip("link del watch");
    send(&mut sink, &mixed[5..]);
    assert_eq!(sink.counters().sent, 2);
    assert_eq!(sink.counters().drops.get(DropReason::Unreachable), 2);
}

#[test]
fn the_host_takes_no_packet_that_an_analyser_is_shown() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let host = net.host("left");
    let mut sink = open(host, "watch", None).expect("a device");
    let socket = host.netns.run(|| UdpSocket::bind("0.0.0.0:4000").expect("a free port"));
    let socket = socket.expect("the namespace is there");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a time");
    // Mirrored packets to everybody, and to an address of this host.
    let to_all = [255, 255, 255, 255];
    for to in [to_all, host.v4("right").octets()] {
        let mut bytes = vec![0xff; 6];
        bytes.extend([2, 0x71, 0, 0, 0, 2, 8, 0]);
        bytes.extend([0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 71, 0, 2]);
        bytes.extend(to);
        let sum = wire::checksum::of(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        bytes.extend([0x0f, 0xa0, 0x0f, 0xa0, 0, 12, 0, 0, b't', b'a', b'p', b'!']);
        send(&mut sink, &[ethernet(&bytes)]);
    }
    assert_eq!(sink.counters().sent, 2);
    assert!(socket.recv_from(&mut [0; 64]).is_err(), "the host has taken one");
}

#[test]
fn a_device_that_is_there_is_taken_and_stays_and_others_are_refused() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let host = net.host("left");
    host.ip("tuntap add mode tap name mine");
    host.ip("link set mine mtu 3000");
    let mut sink = open(host, "mine", None).expect("it is free");
    let mut analyser = ring(host, "mine");
    send(&mut sink, &[ethernet(&frame(7, 3014, &[])), ethernet(&frame(7, 3015, &[]))]);
    assert_eq!(receive(&mut analyser, 1), [frame(7, 3014, &[])]);
    assert_eq!(sink.counters().drops.get(DropReason::Oversize), 1);

    let error = |name, mtu| open(host, name, mtu).err().expect("it is refused").to_string();
    assert!(error("mine", None).contains("another program has it"), "{}", error("mine", None));
    drop(sink);
    assert!(host.ip("link show mine").contains("mtu 3000"));
    host.ip("tuntap add mode tun name tun");
    for name in ["tun", "right"] {
        assert!(error(name, None).contains("no TAP device"), "{}", error(name, None));
    }
    assert!(error("a-name-of-more-than-15", None).contains("1 to 15 bytes"));
    assert!(error("watch", Some(70_000)).contains("MTU to 70000"));
    assert!(!host.ip("link").contains("watch"));
}
