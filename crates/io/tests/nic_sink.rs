//! Frames out of an interface, taken at the other end of its link.

mod frames;

use api::DropReason;
use frames::{ethernet, frame, packet, receive, ring, send, uncut};
use io::nic::NicSink;
use io::ring::RingSource;
use io::{Arrival, Batch, Packet, Sink, Source};
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
    send_again(&mut sink, &packets);
    let (sent, lost) = (sink.counters().sent, unreachable(&sink));
    assert_eq!(sent % 100, 0);

    left.ip("link del right");
    send(&mut sink, &packets);
    assert_eq!((sink.counters().sent, unreachable(&sink)), (sent, lost + 100));
    left.netns.join("right", &right.netns, "left").expect("the name is free");
    let mut far = ring(right, "left");
    send_again(&mut sink, &packets[..1]);
    assert_eq!(receive(&mut far, 1)[0][14], 0);
    assert_eq!(sink.counters().drops.total(), unreachable(&sink));
}

/// Sends packets as often as it takes until some leave.
fn send_again(sink: &mut NicSink, packets: &[Packet]) {
    let before = sink.counters().sent;
    rig::wait_until("frames leave again", PATIENCE, || {
        send(sink, packets);
        sink.counters().sent > before
    });
}

/// An Ethernet frame with a number.
fn numbered(number: u64) -> Packet {
    let mut bytes = frame(0, 60, &[]);
    bytes[14..22].copy_from_slice(&number.to_be_bytes());
    ethernet(&bytes)
}

/// Takes what has come out of a ring; adds the numbers of our frames.
fn take_numbers(ring: &mut RingSource, numbers: &mut Vec<u64>) {
    let mut batch = Batch::new();
    while ring.receive(&mut batch).expect("the ring delivers") == Arrival::Packets {
        let ours =
            batch.packets().iter().filter(|packet| packet.data.starts_with(&frame(0, 14, &[])));
        numbers.extend(
            ours.map(|packet| {
                u64::from_be_bytes(*packet.data[14..].first_chunk().expect("60 bytes"))
            }),
        );
        batch.clear();
    }
}

/// Sends numbered frames while a link goes down and comes back three times; gives what came, and how
/// many were offered.
fn send_through_changes(
    sink: &mut NicSink,
    far: &mut RingSource,
    burst: u64,
    change: impl Fn(&str) + Sync,
) -> (Vec<u64>, u64) {
    let (mut numbers, mut offered) = (Vec::new(), 0);
    let mut send_burst = |sink: &mut NicSink, numbers: &mut Vec<u64>| {
        let packets: Vec<_> = (offered..offered + burst).map(numbered).collect();
        offered += burst;
        send(sink, &packets);
        take_numbers(far, numbers);
        std::thread::sleep(Duration::from_millis(1));
    };
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            for state in ["down", "up"].iter().cycle().take(6) {
                change(state);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        while !changes.is_finished() {
            send_burst(sink, &mut numbers);
        }
    });
    let before = sink.counters().sent;
    rig::wait_until("frames leave again", PATIENCE, || {
        send_burst(sink, &mut numbers);
        sink.counters().sent > before
    });
    rig::wait_until("the last one came", PATIENCE, || {
        take_numbers(far, &mut numbers);
        numbers.last() == Some(&(offered - 1))
    });
    assert_eq!(sink.counters().taken(), offered);
    assert!(sink.counters().drops.get(DropReason::Unreachable) > 0);
    (numbers, offered)
}

/// Asserts that what was counted as sent came, but for what the kernel took, and swallowed, in the very
/// call during which a link went down: at most a burst at each of the three times.
fn assert_sent(sent: u64, came: u64, burst: u64, of: &str) {
    assert!(came <= sent && sent - came <= 3 * burst, "{came} came of {sent}, of {of}");
}

/// Has a host send nothing of its own through an interface.
fn silence(host: &Host, interface: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    let off = || std::fs::write(&path, "1");
    if let Err(error) = host.netns.run(off).expect("the namespace is there") {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
    }
}

#[test]
fn while_the_interface_is_down_each_frame_that_does_not_come_is_counted() {
    if !rig::root_or_skip() {
        return;
    }
    for burst in [1, 64] {
        let net = Topology::line(["left", "right"]).build();
        let left = net.host("left");
        let mut far = ring(net.host("right"), "left");
        let mut sink = open(left, "right").expect("it is Ethernet");
        let change = |state: &str| drop(left.ip(&format!("link set right {state}")));
        let (numbers, offered) = send_through_changes(&mut sink, &mut far, burst, change);
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "each came once, in order");
        let counters = sink.counters();
        assert_sent(
            counters.sent,
            numbers.len() as u64,
            burst,
            &format!("{offered}: {counters:?}"),
        );
    }
}

#[test]
fn while_the_far_end_is_down_each_frame_that_does_not_come_is_counted() {
    if !rig::root_or_skip() {
        return;
    }
    for burst in [1, 64] {
        let net = Topology::line(["left", "right"]).build();
        let (left, right) = (net.host("left"), net.host("right"));
        silence(left, "right");
        let mut far = ring(right, "left");
        let mut sink = open(left, "right").expect("it is Ethernet");
        let came = || right.counter("left", "rx", "packets");
        let before = came();
        let change = |state: &str| drop(right.ip(&format!("link set left {state}")));
        let (numbers, offered) = send_through_changes(&mut sink, &mut far, burst, change);
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "each came once, in order");
        // What comes to the interface in the moment when it is up and its ring is not was received.
        let counters = sink.counters();
        assert_sent(counters.sent, came() - before, burst, &format!("{offered}: {counters:?}"));
        assert!(numbers.len() as u64 <= counters.sent);
    }
}

#[test]
fn an_interface_that_is_renamed_goes_on() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["left", "right"]).build();
    let left = net.host("left");
    let mut far = ring(net.host("right"), "left");
    let mut sink = open(left, "right").expect("it is Ethernet");
    left.ip("link set right down");
    left.ip("link set right name other");
    left.ip("link set other up");
    send_again(&mut sink, &[numbered(7)]);
    let mut numbers = Vec::new();
    rig::wait_until("it came", PATIENCE, || {
        take_numbers(&mut far, &mut numbers);
        numbers == [7]
    });
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
