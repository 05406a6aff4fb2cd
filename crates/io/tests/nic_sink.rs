//! Frames out of an interface, taken at the other end of its link.

mod frames;

use api::DropReason;
use frames::{ethernet, frame, packet, receive, ring, send, uncut};
use io::Sink;
use io::nic::NicSink;
use rig::{Host, Topology};
use std::time::Duration;
use wire::LinkType;

const PATIENCE: Duration = Duration::from_secs(10);

fn open(host: &Host, interface: &str) -> Result<NicSink, io::Error> {
    host.netns.run(|| NicSink::open(interface)).expect("the namespace is there")
}

#[test]
fn whole_frames_leave_as_they_are_and_others_are_counted() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let mut far = ring(net.host("right"), "left");
    let mut sink = open(net.host("left"), "right").expect("it is Ethernet");
    let sent: Vec<Vec<u8>> = [
        frame(0, 15, &[]),
        frame(1, 60, &[]),
        frame(2, 1514, &[]),
        frame(3, 1518, &[100]),
        frame(4, 64, &[7, 8, 9]),
    ]
    .into_iter()
    .chain((5..205).map(|number| frame(number, 600, &[])))
    .collect();
    let packets: Vec<_> = sent.iter().map(|frame| ethernet(frame)).collect();
    send(&mut sink, &packets);
    assert_eq!(receive(&mut far, sent.len()), sent);
    assert_eq!((sink.counters().sent, sink.counters().drops.total()), (205, 0));

    // Each costs itself only: what stands between them goes out.
    let mixed = [
        ethernet(&frame(0, 1515, &[])),
        ethernet(&frame(1, 60, &[])),
        ethernet(&frame(2, 13, &[])),
        packet(&[0x45; 40], LinkType::RAW),
        ethernet(&frame(3, 60, &[])),
        uncut(&frame(4, 600, &[])),
        ethernet(&frame(5, 60, &[])),
    ];
    send(&mut sink, &mixed);
    let numbers: Vec<u8> = receive(&mut far, 3).iter().map(|frame| frame[14]).collect();
    assert_eq!(numbers, [1, 3, 5]);
    let counters = sink.counters();
    assert_eq!(counters.sent, 208);
    assert_eq!(counters.drops.get(DropReason::Oversize), 2);
    assert_eq!(counters.drops.get(DropReason::LinkType), 2);
    assert_eq!(counters.drops.total(), 4);
}

#[test]
fn what_the_device_does_not_take_is_counted() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    // A veth refuses what its other end would not let in.
    net.host("right").ip("link set left mtu 1400");
    let mut sink = open(net.host("left"), "right").expect("it is Ethernet");
    let packets = [1500, 1400, 1500].map(|len| ethernet(&frame(0, len + 14, &[])));
    send(&mut sink, &packets);
    assert_eq!(sink.counters().sent, 1);
    assert_eq!(sink.counters().drops.get(DropReason::DeviceQueue), 2);
}

#[test]
fn an_interface_may_go_down_vanish_and_return() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let (left, right) = (net.host("left"), net.host("right"));
    let mut sink = open(left, "right").expect("it is Ethernet");
    let packets: Vec<_> = (0..100).map(|number| ethernet(&frame(number, 60, &[]))).collect();
    let unreachable = |sink: &NicSink| sink.counters().drops.get(DropReason::Unreachable);

    left.ip("link set right down");
    send(&mut sink, &packets);
    assert_eq!((sink.counters().sent, unreachable(&sink)), (0, 100));
    left.ip("link set right up");
    send(&mut sink, &packets);
    assert_eq!((sink.counters().sent, unreachable(&sink)), (100, 100));

    left.ip("link del right");
    send(&mut sink, &packets);
    assert_eq!((sink.counters().sent, unreachable(&sink)), (100, 200));
    left.netns.join("right", &right.netns, "left").expect("the name is free");
    let mut far = ring(right, "left");
    rig::wait_until("frames leave again", PATIENCE, || {
        send(&mut sink, &packets[..1]);
        sink.counters().sent > 100
    });
    assert_eq!(receive(&mut far, 1)[0][14], 0);
    assert_eq!(sink.counters().drops.total(), unreachable(&sink));
}

#[test]
fn only_ethernet_interfaces_are_sent_through() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let error = |name| open(net.host("left"), name).err().expect("it is refused").to_string();
    assert!(error("lo").contains("hardware type 772"), "{}", error("lo"));
    assert!(error("nowhere").contains("there are: lo, right"), "{}", error("nowhere"));
}
