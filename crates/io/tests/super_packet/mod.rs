//! Random super-packets, as the kernel or a virtual machine makes them.

use rig::rules::Random;
use wire::segment::{Gso, GsoKind};

/// A super-packet, and what the kernel says about it.
pub struct SuperPacket {
    pub frame: Vec<u8>,
    pub gso: Gso,
}

/// A super-packet with up to `tags` tags in band, options, extension headers, and any payload,
/// none included.
pub fn random(random: &mut Random, tags: usize) -> SuperPacket {
    let udp = random.chance(40);
    let v6 = random.chance(50);
    let mut frame = vec![2, 0, 0, 0, 0, random.pick(&[1, 2]), 2, 0, 0, 0, 0, random.pick(&[1, 2])];
    for _ in 0..random.below(tags + 1) {
        frame.extend(random.pick(&[[0x81, 0], [0x88, 0xa8], [0x91, 0]]));
        frame.extend([0, random.pick(&[7, 100])]);
    }
    let protocol = if udp { 17 } else { 6 };
    let ip_at = frame.len() + 2;
    if v6 {
        frame.extend([
            0x86,
            0xdd,
            0x60,
            random.pick(&[0, 5]),
            0,
            0,
            0,
            0,
            0,
            random.pick(&[64, 1]),
        ]);
        for _ in 0..2 {
            frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, random.pick(&[1, 2])]);
        }
        let mut next_at = ip_at + 6;
        for _ in 0..random.pick(&[0, 0, 1, 2, 8]) {
            // Routing headers carry no segments left: the addresses stay the last ones.
            frame[next_at] = random.pick(&[0, 43, 60, 51]);
            let units = random.below(3);
            let len = if frame[next_at] == 51 { (units + 2) * 4 } else { (units + 1) * 8 };
            next_at = frame.len();
            let mut header = vec![0; len];
            header[1] = units as u8;
            frame.extend(header);
        }
        frame[next_at] = protocol;
    } else {
        let options = random.pick(&[0, 0, 0, 4, 40]);
        frame.extend([8, 0, 0x45 + options as u8 / 4, random.pick(&[0, 2]), 0, 0]);
        frame.extend([0, random.pick(&[0, 255]), random.pick(&[0, 0x40]), 0]);
        frame.extend([random.pick(&[64, 1]), protocol, 0, 0]);
        frame.extend([10, 0, 0, random.pick(&[1, 2]), 10, 0, 0, random.pick(&[1, 2])]);
        frame.extend(vec![1; options]);
    }
    let transport_at = frame.len();
    for _ in 0..2 {
        frame.extend(random.pick(&[80u16, 443, 53, 2048]).to_be_bytes());
    }
    if udp {
        frame.extend([0; 4]);
    } else {
        let options = random.pick(&[0, 0, 12, 40]);
        frame.extend(random.bits().to_be_bytes());
        frame.extend([(5 + options as u8 / 4) << 4, random.pick(&[0x10, 0x18, 0x91, 0xff])]);
        frame.extend([1, 0, 0, 0, 0, 0]);
        frame.extend(vec![1; options]);
    }
    let size = random.pick(&[1, 7, 100, 536, 1448]);
    let payload = match random.below(4) {
        0 => size * random.below(4),
        1 => random.below(size + 1),
        _ => random.below(2500),
    };
    let payload = payload.min(2800);
    frame.extend((0..payload).map(|_| random.bits() as u8));
    let len = frame.len();
    if v6 {
        put(&mut frame, ip_at + 4, len - ip_at - 40);
    } else {
        put(&mut frame, ip_at + 2, len - ip_at);
    }
    if udp {
        put(&mut frame, transport_at + 4, len - transport_at);
    }
    let kind = match (udp, v6) {
        (true, _) => GsoKind::UdpL4,
        (_, true) => GsoKind::TcpV6,
        (_, false) => GsoKind::TcpV4,
    };
    let (csum_start, csum_offset) = (transport_at as u16, if udp { 6 } else { 16 });
    SuperPacket { frame, gso: Gso { kind, size: size as u16, csum_start, csum_offset } }
}

fn put(frame: &mut [u8], at: usize, value: usize) {
    frame[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes());
}
