use super::*;
use crate::memory::MemorySource;
use crate::packet::Direction;
use etherparse::{PacketBuilder, TcpHeader, TcpOptionElement};
use wire::LinkType;

const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 1], 50000);
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 2], 80);

fn frame(from: ([u8; 4], u16), to: ([u8; 4], u16), mss: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(from.1, to.1, 7, 1000);
    header.syn = mss.is_some();
    header.psh = mss.is_none();
    if let Some(mss) = mss {
        header.set_options(&[TcpOptionElement::MaximumSegmentSize(mss)]).unwrap();
    }
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from.0, to.0, 64);
    let mut frame = Vec::new();
    builder.tcp_header(header).write(&mut frame, payload).unwrap();
    frame
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(CLIENT.0, SERVER.0, 64);
    let mut frame = Vec::new();
    builder.udp(50000, 9).write(&mut frame, payload).unwrap();
    frame
}

fn packet(interface: InterfaceId, bytes: &[u8], caplen: usize) -> Packet {
    let meta = Meta {
        ts_ns: 5,
        origlen: bytes.len() as u32,
        link_type: LinkType::ETHERNET,
        interface,
        direction: Direction::Out,
        outer: None,
        gso: None,
        decided: false,
        flow_hash: None,
        packet_id: None,
    };
    Packet { data: Data::copy_of(&bytes[..caplen.min(bytes.len())]), meta }
}

/// What comes out for some frames of which the file holds so many bytes at most.
fn cut_sliced(frames: &[Vec<u8>], caplen: usize) -> (Vec<Packet>, WireTrue, Interfaces) {
    let interfaces = Interfaces::default();
    let id = interfaces.add(Interface { name: Some("eth0".into()), ..Interface::new(1) });
    let inner = MemorySource::new(frames.iter().map(|bytes| packet(id, bytes, caplen)), false);
    let counters = WireTrueCounters::default();
    let mut source = WireTrueSource::new(Box::new(inner), 1500, &interfaces, &counters);
    let (mut batch, mut packets) = (Batch::new(), Vec::new());
    loop {
        let arrival = source.receive(&mut batch).unwrap();
        packets.extend(batch.drain());
        if arrival == Arrival::End {
            return (packets, counters.read(), interfaces);
        }
    }
}

fn cut(frames: &[Vec<u8>]) -> (Vec<Packet>, WireTrue, Interfaces) {
    cut_sliced(frames, usize::MAX)
}

fn lengths(packets: &[Packet]) -> Vec<usize> {
    packets.iter().map(Packet::caplen).collect()
}

#[test]
fn the_syn_of_both_tells_the_size() {
    let frames = [
        frame(CLIENT, SERVER, Some(1400), b""),
        frame(SERVER, CLIENT, Some(8960), b""),
        frame(CLIENT, SERVER, None, &[7; 3000]),
        frame(SERVER, CLIENT, None, &[8; 1400]),
    ];
    let (packets, counted, _) = cut(&frames);
    assert_eq!(lengths(&packets), [58, 58, 1454, 1454, 254, 1454]);
    assert!(packets.iter().all(|packet| packet.meta.interface == InterfaceId(0)));
    assert_eq!(counted, WireTrue { super_packets: 1, segments: 3, estimated: 0, left: 0 });
}

#[test]
fn long_packets_of_a_jumbo_link_stay() {
    let frames = [
        frame(CLIENT, SERVER, Some(8960), b""),
        frame(SERVER, CLIENT, Some(8960), b""),
        frame(CLIENT, SERVER, None, &[7; 8960]),
    ];
    let (packets, counted, _) = cut(&frames);
    assert_eq!(*packets[2].data, frames[2]);
    assert_eq!(counted, WireTrue::default());
}

#[test]
fn without_a_syn_the_size_is_an_estimate_and_marked() {
    let frames = [frame(CLIENT, SERVER, None, &[7; 3000]), frame(CLIENT, SERVER, None, &[7; 9])];
    let (packets, counted, interfaces) = cut(&frames);
    assert_eq!(lengths(&packets), [1514, 1514, 54 + 80, 54 + 9]);
    assert_eq!(counted, WireTrue { super_packets: 1, segments: 3, estimated: 3, left: 0 });
    let description = |packet: &Packet| {
        let interface = interfaces.get(packet.meta.interface);
        assert_eq!(interface.name.as_deref(), Some("eth0"));
        interface.description.clone().unwrap_or_default()
    };
    assert!(description(&packets[2]).contains("estimated for MTU 1500"));
    assert_eq!(description(&packets[3]), "");
    assert!(packets.iter().all(|p| p.meta.origlen as usize == p.caplen() && p.meta.ts_ns == 5));
}

#[test]
fn a_length_of_zero_is_filled_in() {
    let whole = frame(CLIENT, SERVER, None, &[7; 100]);
    let mut undeclared = whole.clone();
    undeclared[16..18].fill(0);
    undeclared[24..26].fill(0);
    let (packets, counted, _) = cut(&[undeclared]);
    assert_eq!(*packets[0].data, whole);
    assert_eq!(counted, WireTrue { super_packets: 1, segments: 1, estimated: 0, left: 0 });
}

#[test]
fn large_datagrams_are_left_and_counted() {
    let (packets, counted, _) = cut(&[udp(&[7; 5000]), udp(&[7; 50])]);
    assert_eq!(lengths(&packets), [5042, 92]);
    assert_eq!(counted, WireTrue { left: 1, ..WireTrue::default() });
}

#[test]
fn of_a_sliced_one_lengths_are_true_and_nothing_is_made_up() {
    let frames = [frame(CLIENT, SERVER, None, &[7; 4000])];
    let (whole, ..) = cut(&frames);
    let (sliced, counted, _) = cut_sliced(&frames, 2000);
    assert_eq!(counted, WireTrue { super_packets: 1, segments: 3, estimated: 3, left: 0 });
    assert_eq!(lengths(&sliced), [1514, 54 + 2000 - 54 - 1460, 54]);
    assert_eq!(*sliced[0].data, *whole[0].data);
    for (part, whole) in sliced.iter().zip(&whole).skip(1) {
        assert_eq!(part.meta.origlen, whole.meta.origlen);
        let mut expected = whole.data[..part.caplen()].to_vec();
        expected[50..52].fill(0);
        assert_eq!(*part.data, expected);
    }
}

#[test]
fn of_one_cut_inside_its_headers_there_is_no_more_than_the_file_holds() {
    let mut frame = frame(CLIENT, SERVER, None, &[7; 4000]);
    // 20 bytes of the payload are options: the header is 40 bytes long.
    frame[46] = 10 << 4;
    frame[54..74].fill(1);
    let (sliced, ..) = cut_sliced(std::slice::from_ref(&frame), 60);
    assert!(sliced.len() > 1);
    for part in &sliced {
        assert_eq!(part.caplen(), 60);
        assert_eq!(part.data[54..], frame[54..60]);
    }
}

#[test]
fn more_than_a_batch_comes_in_order() {
    let frames: Vec<Vec<u8>> = (0..700u32)
        .map(|n| frame(CLIENT, SERVER, None, &[&[0; 2000][..], &n.to_be_bytes()].concat()))
        .collect();
    let (packets, counted, _) = cut(&frames);
    assert_eq!(packets.len(), 1400);
    assert_eq!(counted.super_packets, 700);
    for (n, pair) in packets.chunks(2).enumerate() {
        assert_eq!(pair[1].data[pair[1].caplen() - 4..], (n as u32).to_be_bytes());
    }
}

#[test]
fn noise_and_lies_cost_nothing_but_themselves() {
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let base = frame(CLIENT, SERVER, None, &[7; 3000]);
    let mut frames = Vec::new();
    for _ in 0..2000 {
        let mut bytes = base.clone();
        for _ in 0..3 {
            let at = 12 + random() as usize % 50;
            bytes[at] = random() as u8;
        }
        frames.push(bytes);
    }
    for caplen in [20, 60, 1000, usize::MAX] {
        let (packets, ..) = cut_sliced(&frames, caplen);
        assert!(packets.len() >= frames.len());
        assert!(packets.iter().all(|packet| packet.caplen() <= packet.meta.origlen as usize));
    }
}

#[test]
fn a_length_that_cannot_be_is_not_believed() {
    let interfaces = Interfaces::default();
    let id = interfaces.add(Interface::new(1));
    let bytes = frame(CLIENT, SERVER, None, &[7; 100]);
    let mut lying = packet(id, &bytes, usize::MAX);
    lying.meta.origlen = u32::MAX;
    let inner = MemorySource::new([lying], false);
    let counters = WireTrueCounters::default();
    let mut source = WireTrueSource::new(Box::new(inner), 1500, &interfaces, &counters);
    let mut batch = Batch::new();
    while source.receive(&mut batch).unwrap() != Arrival::End {}
    assert_eq!(*batch.packets()[0].data, bytes);
    assert!(source.padded.capacity() == 0);
}
