//! Packets of many kinds, of few addresses and ports, so that expressions meet them.

use super::super::over_files::frame::{arp, ethernet, ipv4_between, tagged, tcp, udp};
use rig::rules::Random;

/// A packet in an archive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    pub ts_ns: u64,
    pub origlen: u32,
    pub bytes: Vec<u8>,
}

pub const HOSTS_V4: [[u8; 4]; 6] = [
    [10, 0, 0, 1],
    [10, 0, 0, 9],
    [10, 0, 1, 2],
    [172, 16, 3, 4],
    [192, 168, 203, 1],
    [224, 0, 0, 5],
];
pub const HOSTS_V6: [u16; 4] = [1, 2, 9, 0xff];
pub const PORTS: [u16; 8] = [53, 80, 443, 1000, 4789, 8080, 50_001, 65_535];

/// So many packets from a time on, whose times come twice now and then and are seldom out of order.
pub fn packets(random: &mut Random, count: usize, start_ns: u64, span_ns: u64) -> Vec<Kept> {
    let step_ns = span_ns / (count as u64 + 1);
    let mut ts_ns = start_ns;
    (0..count)
        .map(|_| {
            ts_ns = match random.below(12) {
                0 | 1 => ts_ns,
                2 => ts_ns - (ts_ns - start_ns).min(step_ns),
                // Full seconds, so that other sources have packets of the same time.
                3 => (ts_ns + step_ns) / 1_000_000_000 * 1_000_000_000,
                _ => ts_ns + 1 + random.bits() % step_ns,
            };
            ts_ns = ts_ns.max(start_ns);
            let mut bytes = frame(random);
            let origlen = bytes.len() as u32;
            if random.chance(8) {
                bytes.truncate(random.below(bytes.len()));
            }
            Kept { ts_ns, origlen, bytes }
        })
        .collect()
}

/// A whole Ethernet frame.
pub fn frame(random: &mut Random) -> Vec<u8> {
    let mut frame = match random.below(20) {
        0 => arp(),
        1 => ethernet(random.pick(&[0x88cc, 0x88f7, 0x8035]), &[2; 50]),
        2 => ethernet(0x8847, &[&[0, 1, 0x41, 64][..], &ip(random, 0)].concat()),
        3 => ethernet(0x8864, &[&[0x11, 0, 0, 7, 0, 60, 0, 0x21][..], &ip(random, 0)].concat()),
        _ => {
            let packet = ip(random, 2);
            ethernet(if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 }, &packet)
        }
    };
    if random.chance(5) {
        frame[..6].fill(0xff);
    }
    match random.below(10) {
        0 => tagged(&frame, &[7]),
        1 => tagged(&frame, &[200, 2001]),
        _ => frame,
    }
}

/// An IP packet with at most so many tunnels in it.
fn ip(random: &mut Random, tunnels: usize) -> Vec<u8> {
    let (protocol, body) = upper(random, tunnels);
    let fragment = random.pick(&[0, 0, 0, 0, 0, 0x4000, 0x2000, 0x00b9]);
    match random.below(10) {
        0..6 => {
            let (src, dst) = (random.pick(&HOSTS_V4), random.pick(&HOSTS_V4));
            ipv4_between(src, dst, protocol, fragment, &body)
        }
        6 => {
            // Fragments of IPv6, and another header before what is carried.
            let head =
                [protocol, 0, (fragment >> 8) as u8 & 0x1f, fragment as u8 & 0xf8, 0, 0, 1, 0];
            ipv6(random, 44, &[&head[..], &body].concat())
        }
        7 => ipv6(random, 0, &[&[protocol, 0, 5, 2, 0, 0, 1, 0][..], &body].concat()),
        _ => ipv6(random, if protocol == 1 { 58 } else { protocol }, &body),
    }
}

fn ipv6(random: &mut Random, next: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, len[0], len[1], next, 64];
    for _ in 0..2 {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend(random.pick(&HOSTS_V6).to_be_bytes());
    }
    [&packet[..], payload].concat()
}

/// A protocol and its packet.
fn upper(random: &mut Random, tunnels: usize) -> (u8, Vec<u8>) {
    let (src, dst) = (random.pick(&PORTS), random.pick(&PORTS));
    let payload = vec![random.bits() as u8; random.below(200)];
    match random.below(if tunnels > 0 { 16 } else { 12 }) {
        0..5 => (6, tcp(src, dst, random.below(64) as u8, &payload)),
        5..9 => (17, udp(src, dst, &payload)),
        9 | 10 => (1, [&[random.below(12) as u8, 0, 0, 0][..], &payload].concat()),
        11 => (random.pick(&[50, 132, 2]), payload),
        12 | 13 => {
            let inner = ip(random, tunnels - 1);
            let inner = ethernet(if inner[0] >> 4 == 6 { 0x86dd } else { 0x0800 }, &inner);
            let vni = random.pick(&[71, 72]);
            (17, udp(src, 4789, &[&[8, 0, 0, 0, 0, 0, vni, 0][..], &inner].concat()))
        }
        14 => {
            let inner = ip(random, tunnels - 1);
            let kind = if inner[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
            (47, [&[0, 0][..], &kind, &inner].concat())
        }
        _ => {
            let inner = ip(random, tunnels - 1);
            (if inner[0] >> 4 == 6 { 41 } else { 4 }, inner)
        }
    }
}
