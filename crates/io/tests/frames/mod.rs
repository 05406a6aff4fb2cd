//! Frames to send through an interface, and what comes out of one.

use io::ring::{Handover, KernelFilter, RingOptions, RingSize, RingSource};
use io::{
    Batch, Data, Direction, InterfaceId, Interfaces, Meta, Packet, Selection, Sink, Source, wait,
};
use rig::Host;
use std::time::{Duration, Instant};
use wire::LinkType;
use wire::segment::{Gso, GsoKind};

const PATIENCE: Duration = Duration::from_secs(10);

/// An Ethernet frame of so many bytes, with VLAN tags in band, that no stack understands.
pub fn frame(number: u8, len: usize, tags: &[u16]) -> Vec<u8> {
    let mut frame = vec![2, 0x71, 0, 0, 0, 1, 2, 0x71, 0, 0, 0, 2];
    for tag in tags {
        frame.extend([0x81, 0x00]);
        frame.extend(tag.to_be_bytes());
    }
    // EtherType for local experiments.
    frame.extend([0x88, 0xb5, number]);
    let rest = len.saturating_sub(frame.len());
    frame.extend((0..rest).map(|at| number.wrapping_add(at as u8)));
    frame.truncate(len);
    frame
}

pub fn packet(bytes: &[u8], link_type: LinkType) -> Packet {
    let meta = Meta {
        ts_ns: 1,
        origlen: bytes.len() as u32,
        link_type,
        interface: InterfaceId(0),
        direction: Direction::Unknown,
        outer: None,
        packet_id: None,
        gso: None,
        decided: false,
        flow_hash: None,
    };
    Packet { data: Data::copy_of(bytes), meta }
}

pub fn ethernet(bytes: &[u8]) -> Packet {
    packet(bytes, LinkType::ETHERNET)
}

/// One that a source could not cut.
pub fn uncut(bytes: &[u8]) -> Packet {
    let mut packet = ethernet(bytes);
    packet.meta.gso =
        Some(Gso { kind: GsoKind::TcpV4, size: 100, csum_start: 34, csum_offset: 16 });
    packet
}

/// Sends packets, all of which must be taken before long.
pub fn send(sink: &mut impl Sink, packets: &[Packet]) {
    let chosen: Vec<u32> = (0..packets.len() as u32).collect();
    let mut rest = Selection::new(packets, &chosen);
    let begun = Instant::now();
    while !rest.is_empty() {
        let taken = sink.send(rest);
        rest = rest.skip(taken);
        assert!(begun.elapsed() < PATIENCE, "{} packets are not taken", rest.len());
    }
}

/// Opens a ring on an interface of a host.
pub fn ring(host: &Host, interface: &str) -> RingSource {
    let options = RingOptions {
        interface: interface.into(),
        netns: None,
        promiscuous: false,
        ring_size: RingSize::Bytes(4 << 20),
        handover: Handover::Prompt,
        snaplen: 0,
        filter: KernelFilter::Absent,
    };
    let open = || RingSource::open(&options, &Interfaces::default());
    host.netns.run(open).expect("the namespace is there").expect("a ring")
}

/// The next so many frames of the tests' own EtherType, tags left out, that come out of a ring.
pub fn receive(ring: &mut RingSource, count: usize) -> Vec<Vec<u8>> {
    let (mut frames, mut batch) = (Vec::new(), Batch::new());
    let begun = Instant::now();
    while frames.len() < count {
        assert!(begun.elapsed() < PATIENCE, "{} of {count} frames came", frames.len());
        wait([&*ring as &dyn Source].into_iter(), None, Duration::from_millis(50)).expect("poll");
        ring.receive(&mut batch).expect("the ring delivers");
        frames.extend(batch.drain().map(|packet| packet.data.to_vec()).filter(|f| is_ours(f)));
    }
    frames
}

fn is_ours(frame: &[u8]) -> bool {
    frame.starts_with(&[2, 0x71, 0, 0, 0, 1, 2, 0x71, 0, 0, 0, 2])
}
