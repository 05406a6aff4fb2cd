//! What comes in by a TAP device: the same frames in each run, of every kind that matters to a tap.

use super::inside;
use io::tun::Tap;
use rig::rules::Random;
use rig::{Host, MAGIC};
use std::time::Duration;
use wire::LinkType;
use wire::checksum::Sum;
use wire::segment::{Gso, GsoKind};

/// Who nobody is here, so that nobody answers.
const TO: [u8; 6] = [2, 0, 0, 0, 9, 9];
const FROM: [u8; 6] = [2, 0, 0, 0, 0, 9];
const FRAME_BYTES_MIN: usize = 14;
const FRAME_BYTES_MAX: usize = 1514;
/// Segments of a super-packet: fifty taps send them all at once, and the queue of the veth to the sink
/// has 1000 places (`net.core.netdev_max_backlog`).
const SEGMENTS_MAX: usize = 20;

/// A frame, or a super-packet.
pub struct Item {
    pub frame: Vec<u8>,
    pub gso: Option<Gso>,
}

/// A TAP device `inlet` with an address, and a neighbour to whom the host can send.
pub struct Inlet {
    tap: Tap,
}

impl Inlet {
    pub fn new(host: &Host, neighbour: &str) -> Inlet {
        let tap = inside(&host.netns, || Tap::new("inlet")).expect("root may");
        host.ip("link set inlet address 02:00:00:00:09:01");
        host.ip("link set inlet addrgenmode none");
        host.ip("link set inlet up");
        host.ip("addr add fd00:99::1/64 dev inlet nodad");
        host.ip(&format!(
            "neigh replace {neighbour} lladdr 02:00:00:00:09:09 dev inlet nud permanent"
        ));
        // What the kernel sends by itself when an interface comes up is over by then.
        std::thread::sleep(Duration::from_millis(500));
        Inlet { tap }
    }

    pub fn send(&self, item: &Item) {
        let sent = self.tap.send(&item.frame, item.gso.as_ref());
        sent.unwrap_or_else(|e| {
            panic!("{:?} {:02x?}: {e}", item.gso, &item.frame[..64.min(item.frame.len())])
        });
    }
}

/// Random frames, with some of each kind among them, and super-packets.
pub fn items(seed: u64, frames: usize, super_packets: usize) -> Vec<Item> {
    let mut random = Random::new(seed);
    let mut items: Vec<Item> = Vec::new();
    for number in 0..frames {
        let frame = match number % 9 {
            0 => numbered(&mut random, number),
            1 => special(&mut random),
            2 => fragment(&mut random, number),
            _ => any(&mut random),
        };
        items.push(Item { frame, gso: None });
        if number % (frames / super_packets) == 0 {
            items.push(super_packet(&mut random, number as u16));
        }
    }
    items
}

/// A frame of the generator of random ones.
fn any(random: &mut Random) -> Vec<u8> {
    let mut frame = random.frame(LinkType::ETHERNET);
    frame.truncate(FRAME_BYTES_MAX);
    frame.resize(frame.len().max(FRAME_BYTES_MIN), 0);
    frame[..6].copy_from_slice(&TO);
    frame[6..12].copy_from_slice(&FROM);
    frame
}

fn ethernet(random: &mut Random, ethertype: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let mut frame = [TO, FROM].concat();
    for _ in 0..random.pick(&[0, 0, 1, 2]) {
        frame.extend(random.pick(&[[0x81, 0], [0x88, 0xa8]]));
        frame.extend([0, random.pick(&[7, 100])]);
    }
    frame.extend(ethertype);
    frame.extend(payload);
    frame
}

/// A whole UDP packet over IPv4, of any length.
fn numbered(random: &mut Random, number: usize) -> Vec<u8> {
    let longest = FRAME_BYTES_MAX - 14 - 28 - 16;
    let filler = random.pick(&[0, 10, 500, longest - 1, longest]);
    let payload =
        [&MAGIC[..], &(number as u64).to_be_bytes(), &vec![number as u8; filler]].concat();
    let port = random.pick(&[9u16, 53, 80]);
    let packet = udp([10, 1, 0, 1], [10, 0, 100, 2], port, &payload);
    ethernet(random, [8, 0], &packet)
}

fn udp(from: [u8; 4], to: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
    let mut udp = [4001u16.to_be_bytes(), port.to_be_bytes()].concat();
    udp.extend((8 + payload.len() as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    ipv4(from, to, 17, 0x4000, &udp)
}

fn ipv4(from: [u8; 4], to: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0];
    ip.extend((20 + payload.len() as u16).to_be_bytes());
    ip.extend([0, 7]);
    ip.extend(fragment.to_be_bytes());
    ip.extend([64, protocol, 0, 0]);
    ip.extend([from, to].concat());
    let check = wire::checksum::of(&ip);
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    ip.extend(payload);
    ip
}

/// ARP, LLDP, and a spanning tree's frame with a length for a type, and padding behind IP.
fn special(random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => {
            let arp =
                [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 9];
            ethernet(random, [8, 6], &[&arp[..], &[0; 20]].concat())
        }
        1 => ethernet(
            random,
            [0x88, 0xcc],
            &[2, 7, 4, 2, 0, 0, 0, 0, 9, 4, 2, 7, 49, 6, 2, 0, 120, 0, 0],
        ),
        2 => ethernet(random, [0, 39], &[&[0x42, 0x42, 3][..], &[0; 43]].concat()),
        _ => {
            let packet = udp([10, 2, 0, 1], [10, 0, 0, 4], 53, b"short");
            ethernet(random, [8, 0], &[&packet[..], &[0xee; 13]].concat())
        }
    }
}

/// A first fragment or a later one, of IPv4 or IPv6.
fn fragment(random: &mut Random, number: usize) -> Vec<u8> {
    let payload = vec![number as u8; random.pick(&[16, 640, 1448])];
    if random.chance(50) {
        let field = random.pick(&[0x2000, 0x2004, 4, 0x00b9]);
        let packet = ipv4([10, 0, 0, 3], [10, 1, 100, 1], 17, field, &payload);
        return ethernet(random, [8, 0], &packet);
    }
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((8 + payload.len() as u16).to_be_bytes());
    packet.extend([44, 64]);
    for last in [1, 2] {
        packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend([17, 0]);
    packet.extend(random.pick(&[1u16, 9, 8, 0xb8]).to_be_bytes());
    packet.extend([0, 0, 0, 7]);
    packet.extend(&payload[..payload.len().min(FRAME_BYTES_MAX - 14 - 48)]);
    ethernet(random, [0x86, 0xdd], &packet)
}

/// A super-packet as a virtual machine hands it over, its checksum left to be completed.
fn super_packet(random: &mut Random, number: u16) -> Item {
    let kind = random.pick(&[GsoKind::TcpV4, GsoKind::TcpV6, GsoKind::UdpL4]);
    let v6 = kind == GsoKind::TcpV6 || kind == GsoKind::UdpL4 && random.chance(50);
    let is_tcp = kind != GsoKind::UdpL4;
    let size = random.pick(&[100usize, 536, 1000, 1400]);
    let payload = match random.below(3) {
        0 => size * (2 + random.below(6)),
        1 => size + 1,
        _ => size + 1 + random.below((size * (SEGMENTS_MAX - 1)).min(12_000)),
    };
    let (protocol, transport) = if is_tcp { (6, 20) } else { (17, 8) };
    let rest = (transport + payload) as u16;
    let mut frame = ethernet(random, if v6 { [0x86, 0xdd] } else { [8, 0] }, &[]);
    let pseudo = if v6 {
        let address = |last| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(rest.to_be_bytes());
        frame.extend([protocol, 64]);
        frame.extend([address(1), address(3)].concat());
        Sum::pseudo_v6(address(1), address(3), protocol, rest.into())
    } else {
        let (from, to) = ([10, 2, 0, 3], [10, 0, 100, 1]);
        let packet = ipv4(from, to, protocol, 0x4000, &vec![0; rest.into()]);
        frame.extend(&packet[..20]);
        Sum::pseudo_v4(from, to, protocol, rest.into())
    };
    let csum_start = frame.len() as u16;
    frame.extend(random.pick(&[80u16, 443, 1024]).to_be_bytes());
    frame.extend(random.pick(&[80u16, 53, 8080]).to_be_bytes());
    let csum_offset = if is_tcp {
        frame.extend([0, number.to_be_bytes()[0], number.to_be_bytes()[1], 0, 0, 0, 0, 1]);
        frame.extend([0x50, random.pick(&[0x10, 0x18, 0x19]), 16, 0]);
        frame.extend(pseudo.fold().to_be_bytes());
        frame.extend([0, 0]);
        16
    } else {
        frame.extend(rest.to_be_bytes());
        frame.extend(pseudo.fold().to_be_bytes());
        6
    };
    frame.extend((0..payload).map(|n| (n ^ (n >> 8) ^ usize::from(number)) as u8));
    let gso = Gso { kind, size: size as u16, csum_start, csum_offset };
    Item { frame, gso: Some(gso) }
}
