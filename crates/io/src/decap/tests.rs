use super::*;
use crate::interface::Interface;
use crate::memory::MemorySource;
use crate::packet::{Direction, InterfaceId, Meta, Packet};
use crate::pool::Data;
use crate::tunnel::Wanted;
use api::{DropReason, Endpoint};
use wire::decap::Rules;
use wire::encap::{HEADER_LEN_MAX, Told};
use wire::metadata::Lane;
use wire::tunnel::{Carrier, Encap, Kind};
use wire::{LinkType, Vni};

const INNER: [u8; 60] = [0x11; 60];

/// An Ethernet frame of an IPv4 packet.
fn frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    frame.extend(len.to_be_bytes());
    frame.extend([0, 7, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(payload);
    frame
}

/// The same as two fragments.
fn fragments(protocol: u8, payload: &[u8]) -> [Vec<u8>; 2] {
    let (first, last) = payload.split_at(payload.len() / 2 / 8 * 8);
    let mut frames = [frame(protocol, first), frame(protocol, last)];
    frames[0][20] = 0x20;
    frames[1][21] = (first.len() / 8) as u8;
    frames
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    let header = [0xc000, port, len, 0];
    header.iter().flat_map(|word| word.to_be_bytes()).chain(payload.iter().copied()).collect()
}

fn vxlan(vni: u8, inner: &[u8]) -> Vec<u8> {
    udp(4789, &[&[8, 0, 0, 0, 0, 0, vni, 0], inner].concat())
}

fn gre(protocol: u16, payload: &[u8]) -> Vec<u8> {
    [&[0, 0], &protocol.to_be_bytes()[..], payload].concat()
}

/// Frames of an interface, at times one second apart.
fn source(frames: impl IntoIterator<Item = Vec<u8>>, interfaces: &Interfaces) -> Box<MemorySource> {
    let interface = interfaces.add(Interface::new(LinkType::ETHERNET.0));
    let packet = |(n, frame): (u64, Vec<u8>)| Packet {
        meta: Meta {
            ts_ns: n * 1_000_000_000,
            origlen: frame.len() as u32,
            link_type: LinkType::ETHERNET,
            interface,
            direction: Direction::In,
            outer: None,
            packet_id: None,
            gso: None,
            decided: false,
            flow_hash: None,
        },
        data: Data::copy_of(&frame),
    };
    Box::new(MemorySource::new((1..).zip(frames).map(packet), false))
}

fn options(layers: u8, policy: Policy) -> DecapOptions {
    DecapOptions { layers, rules: Rules::default(), policy }
}

fn receiver(endpoints: &[&str]) -> Policy {
    let tunnel = |text: &&str| Endpoint::listener(text).unwrap().tunnel().unwrap().clone();
    let endpoints: Vec<_> = endpoints.iter().map(tunnel).collect();
    Policy::Receive(Wanted::new(&endpoints, &Rules::default()))
}

/// All that comes out, until the end.
fn run(decap: &mut Decap) -> Vec<Packet> {
    let (mut batch, mut packets) = (Batch::new(), Vec::new());
    loop {
        let arrival = decap.receive(&mut batch).unwrap();
        packets.extend(batch.drain());
        if arrival == Arrival::End {
            return packets;
        }
    }
}

fn decap(frames: Vec<Vec<u8>>, options: DecapOptions) -> (Vec<Packet>, Decap, Interfaces) {
    let interfaces = Interfaces::default();
    let mut decap = Decap::new(source(frames, &interfaces), options, &interfaces);
    (run(&mut decap), decap, interfaces)
}

fn names(packets: &[Packet]) -> Vec<String> {
    let name = |p: &Packet| p.meta.outer.map_or("-".into(), |outer| outer.to_string());
    packets.iter().map(name).collect()
}

#[test]
fn a_receiver_takes_its_tunnels_and_names_what_it_drops() {
    let [first, last] = fragments(17, &vxlan(71, &INNER));
    let [lonely, _] = fragments(17, &vxlan(71, &[9; 400]));
    let [_, foreign] = fragments(17, &udp(2049, &[9; 400]));
    let mut lonely = lonely;
    lonely[19] = 8; // another packet
    let mut foreign_first = fragments(17, &udp(2049, &[9; 400]))[0].clone();
    (foreign_first[19], foreign_first[18]) = (9, 0);
    let mut foreign = foreign;
    foreign[19] = 9;
    let frames = vec![
        frame(17, &vxlan(71, &INNER)),
        frame(17, &vxlan(72, &INNER)),
        frame(17, &vxlan(71, &INNER[..13])),
        frame(47, &gre(0x6558, &INNER)),
        frame(47, &gre(0x0806, &INNER)), // ARP without an Ethernet header: no link type
        frame(17, &udp(4789, &[0; 30])), // no valid VNI
        first,
        last,
        lonely,
        foreign_first,
        foreign,
    ];
    let sent = frames.len() as u64;
    let policy = receiver(&["vxlan://0.0.0.0?vni=71", "gretap://0.0.0.0", "gre://0.0.0.0"]);
    let (packets, mut decap, interfaces) = decap(frames.clone(), options(1, policy));
    let want =
        ["vxlan-71-10.0.0.1", "gretap-none-10.0.0.1", "gre-none-10.0.0.1", "vxlan-71-10.0.0.1"];
    assert_eq!(names(&packets), want);
    for (place, packet) in packets.iter().enumerate() {
        let whole = if place == 2 { &frames[4][..] } else { &INNER[..] };
        assert_eq!(&*packet.data, whole, "{place}");
        assert_eq!(packet.meta.origlen as usize, whole.len());
        let interface = interfaces.get(packet.meta.interface);
        assert_eq!(interface.link_type, packet.meta.link_type.0);
    }
    assert_eq!(packets[3].meta.ts_ns, 8_000_000_000, "the last fragment's time");
    let (drops, stats) = (decap.drops(), decap.status().get());
    assert_eq!(drops.get(DropReason::ForeignId), 1);
    assert_eq!(drops.get(DropReason::TooShort), 1);
    assert_eq!(drops.get(DropReason::Malformed), 1);
    assert_eq!(drops.get(DropReason::Reassembly), 1);
    assert_eq!((stats.decapsulated, stats.left, stats.strangers), (3, 1, 2));
    assert_eq!((stats.fragments.joined, stats.fragments.whole), (2, 1));
    let fragments_less = stats.fragments.joined - stats.fragments.whole;
    let out = packets.len() as u64 + drops.total() + stats.strangers + fragments_less;
    assert_eq!((out, decap.missing()), (sent, 0));
}

#[test]
fn a_capture_loses_nothing() {
    let [lonely, _] = fragments(17, &vxlan(71, &[9; 400]));
    let frames = vec![
        frame(17, &vxlan(71, &INNER)),
        frame(17, &vxlan(71, &INNER[..13])),
        frame(47, &gre(0x0806, &INNER)),
        lonely,
        INNER.to_vec(),
        frame(6, &INNER),
    ];
    let (packets, mut decap, _) = decap(frames.clone(), options(EVERY_LAYER, Policy::Capture));
    assert_eq!(decap.drops(), Drops::default());
    let bytes: Vec<Vec<u8>> = packets.iter().map(|packet| packet.data.to_vec()).collect();
    // What was held comes at the end.
    let [_, short, arp, lonely, other, tcp] = frames.try_into().unwrap();
    assert_eq!(bytes, [INNER.to_vec(), short, arp, other, tcp, lonely]);
    assert_eq!(names(&packets)[1..], ["-"; 5]);
    let stats = decap.status().get();
    assert_eq!((stats.decapsulated, stats.malformed, stats.left), (1, 1, 1));
    assert_eq!(stats.fragments.incomplete, 1);
}

#[test]
fn layers_are_taken_off_up_to_a_number() {
    let ip = &frame(17, &vxlan(9, &frame(17, &udp(4789, &vxlan(8, &INNER)[8..]))))[14..];
    let frames = vec![frame(47, &gre(0x0800, ip))];
    for (layers, want, link_type, left) in [
        (0, "-", LinkType::ETHERNET, 0),
        (1, "gre-none-10.0.0.1", LinkType::RAW, 1),
        (2, "vxlan-9-10.0.0.1", LinkType::ETHERNET, 2),
        (3, "vxlan-8-10.0.0.1", LinkType::ETHERNET, 3),
        (EVERY_LAYER, "vxlan-8-10.0.0.1", LinkType::ETHERNET, 3),
    ] {
        let (packets, decap, interfaces) = decap(frames.clone(), options(layers, Policy::Capture));
        assert_eq!(names(&packets), [want], "{layers}");
        assert_eq!(packets[0].meta.link_type, link_type);
        assert_eq!(packets[0].meta.direction, Direction::In);
        assert_eq!(interfaces.get(packets[0].meta.interface).link_type, link_type.0);
        assert_eq!(decap.status().get().layers, left);
    }
}

/// A GENEVE packet with a number; without a frame it tells how far its sender has come.
fn geneve(sequence: u32, inner: Option<&[u8]>) -> Vec<u8> {
    let encap = Encap::Geneve { vni: Vni::new(7).unwrap(), metadata: true };
    let carrier = Carrier::Udp { port: 6081 };
    let lane = Lane { epoch: 1, tap: 1, target: 0, lane: 0 };
    let mut header = [0; HEADER_LEN_MAX];
    let len = match inner {
        Some(inner) => {
            let told = Told { origlen: 60, ts_ns: 1, direction: Direction::In, lane };
            let fit = encap.fit(LinkType::ETHERNET, inner).unwrap();
            encap.emit(&mut header, carrier, &fit, inner, &told, sequence);
            encap.header_len(carrier)
        }
        None => encap.emit_progress(&mut header, lane, sequence, 1).unwrap(),
    };
    frame(17, &udp(6081, &[&header[..len], inner.unwrap_or_default()].concat()))
}

#[test]
fn behind_a_live_source_a_direction_stands_where_there_is_one() {
    for (own, expected) in [(Direction::Out, Direction::Out), (Direction::Unknown, Direction::In)] {
        let interfaces = Interfaces::default();
        let mut batch = Batch::new();
        source([geneve(0, Some(&INNER))], &interfaces).receive(&mut batch).unwrap();
        let mut packets: Vec<Packet> = batch.drain().collect();
        packets[0].meta.direction = own;
        let live = Box::new(MemorySource::new(packets, true));
        let packets = run(&mut Decap::new(live, options(1, Policy::Capture), &interfaces));
        assert_eq!(packets[0].meta.direction, expected);
    }
}

#[test]
fn a_receiver_follows_the_numbers_of_its_tunnels_alone() {
    let numbered = [0, 1, 4, 4, 3].map(|number| geneve(number, Some(&INNER)));
    let frames: Vec<_> = numbered.into_iter().chain([geneve(9, None)]).collect();
    let receive = options(1, receiver(&["geneve://10.0.0.2?vni=7"]));
    let (packets, decap, _) = self::decap(frames.clone(), receive);
    assert_eq!(packets.len(), 5);
    let [(outer, counts)] = decap.streams()[..] else { panic!("{:?}", decap.streams()) };
    assert_eq!(outer.to_string(), "geneve-7-10.0.0.1");
    let wanted = Counts { received: 5, lost: 5, duplicates: 1, reordered: 1, late: 0 };
    assert_eq!(counts, wanted);

    // Another one behind it takes off what is inside, and passes them on.
    let further = options(1, Policy::Capture);
    let behind = Decap::new(Box::new(decap), further, &Interfaces::default());
    assert_eq!(behind.streams(), [(outer, counts)]);

    let foreign = options(1, receiver(&["geneve://10.0.0.2?vni=8"]));
    assert_eq!(self::decap(frames.clone(), foreign).1.streams(), []);
    // A tunnel that only passes by may lose packets in front of the tap or behind it.
    assert_eq!(self::decap(frames, options(1, Policy::Capture)).1.streams(), []);
}

#[test]
fn fragments_inside_of_a_tunnel_are_joined_by_tunnel() {
    let parts = fragments(17, &vxlan(5, &INNER));
    let outer = |vni, part: usize| frame(17, &vxlan(vni, &parts[part]));
    let frames = vec![outer(1, 0), outer(2, 1), outer(1, 1), outer(3, 0)];
    let (packets, decap, _) = decap(frames, options(EVERY_LAYER, Policy::Capture));
    assert_eq!(&*packets[0].data, INNER);
    assert_eq!(packets[0].meta.ts_ns, 3_000_000_000);
    // Those that are alone leave as they came out of their tunnels.
    assert_eq!(names(&packets), ["vxlan-5-10.0.0.1", "vxlan-2-10.0.0.1", "vxlan-3-10.0.0.1"]);
    assert_eq!((&*packets[1].data, &*packets[2].data), (&parts[1][..], &parts[0][..]));
    assert_eq!(decap.status().get().fragments.whole, 1);
}

#[test]
fn the_ports_of_tunnels_can_be_named() {
    let frames = vec![frame(17, &udp(8472, &vxlan(3, &INNER)[8..]))];
    let rules = Rules::default().with_port(Kind::Vxlan, 8472);
    let options = DecapOptions { layers: 1, rules, policy: Policy::Capture };
    let (packets, ..) = decap(frames, options);
    assert_eq!(names(&packets), ["vxlan-3-10.0.0.1"]);
}

#[test]
fn a_cut_packet_keeps_its_length() {
    let whole = frame(17, &vxlan(3, &INNER));
    let cut = &whole[..whole.len() - 20];
    let (packets, ..) = decap(vec![cut.to_vec()], options(1, Policy::Capture));
    assert_eq!((&*packets[0].data, packets[0].meta.origlen), (&INNER[..40], 60));
}

/// A source that fails behind its packets.
struct Broken(MemorySource);

impl Source for Broken {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        match self.0.receive(batch)? {
            Arrival::End => Err(Error::system("read", std::io::ErrorKind::UnexpectedEof.into())),
            arrival => Ok(arrival),
        }
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.0.stop()
    }

    fn is_live(&self) -> bool {
        false
    }
}

#[test]
fn what_is_held_when_the_source_fails_goes_before_the_failure() {
    let interfaces = Interfaces::default();
    let [lonely, _] = fragments(17, &vxlan(71, &[9; 400]));
    let broken = Broken(*source([lonely.clone()], &interfaces));
    let options = options(1, Policy::Capture);
    let mut decap = Decap::new(Box::new(broken), options, &interfaces);
    let mut batch = Batch::new();
    assert_eq!(decap.receive(&mut batch).unwrap(), Arrival::Packets);
    assert_eq!(&*batch.packets()[0].data, &lonely[..]);
    assert_eq!(batch.packets()[0].meta.interface, InterfaceId(0));
    batch.clear();
    assert!(decap.receive(&mut batch).is_err());
    assert_eq!(decap.missing(), 0);
}
