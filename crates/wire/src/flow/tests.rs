//! Pinned vectors, symmetry and spread of the flow hash.

use super::*;
use etherparse::PacketBuilder;
use proptest::prelude::*;

pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |p: &[u8]| u8::from_str_radix(core::str::from_utf8(p).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn key(frame: &[u8]) -> FlowKey {
    FlowKey::new(&Walk::new(LinkType::ETHERNET, frame), frame)
}

/// Frames to hash, for whoever writes the hash again: name, bytes, hash.
const VECTORS: &[(&str, &str, u32)] = &[
    (
        "TCP 10.0.0.1:40000 > 10.0.0.2:80",
        "020000000002 020000000001 0800 4500002800000000400600000a0000010a000002 9c400050000000000000000050020000 00000000",
        0x532b_ce86,
    ),
    (
        "the way back",
        "020000000001 020000000002 0800 4500002800000000400600000a0000020a000001 00509c40000000000000000050120000 00000000",
        0x532b_ce86,
    ),
    (
        "the same, two tags",
        "020000000001 020000000002 88a80064 81000001 0800 4500002800000000400600000a0000020a000001 00509c40000000000000000050120000 00000000",
        0x532b_ce86,
    ),
    (
        "first fragment of it",
        "020000000002 020000000001 0800 4500002800012000400600000a0000010a000002 9c400050000000000000000050020000 00000000",
        0x5355_6c3e,
    ),
    (
        "a later fragment",
        "020000000002 020000000001 0800 4500001c00010003400600000a0000010a000002 a5a5a5a5a5a5a5a5",
        0x5355_6c3e,
    ),
    (
        "cut in front of the ports",
        "020000000002 020000000001 0800 4500002800000000400600000a0000010a000002 9c4000",
        0x5355_6c3e,
    ),
    (
        "cut behind the ports",
        "020000000002 020000000001 0800 4500002800000000400600000a0000010a000002 9c400050",
        0x532b_ce86,
    ),
    (
        "declared length leaves the ports out",
        "020000000002 020000000001 0800 4500001700000000400600000a0000010a000002 9c400050",
        0x5355_6c3e,
    ),
    (
        "UDP 10.0.0.1:40000 > 10.0.0.2:53",
        "020000000002 020000000001 0800 4500001c00000000401100000a0000010a000002 9c40003500080000",
        0x83ec_8bb5,
    ),
    (
        "ICMP echo request, id 0x1234",
        "020000000002 020000000001 0800 4500001c00000000400100000a0000010a000002 0800000012340001",
        0x2ee7_10f5,
    ),
    (
        "ICMP echo reply, id 0x1234",
        "020000000001 020000000002 0800 4500001c00000000400100000a0000020a000001 0000000012340001",
        0x2ee7_10f5,
    ),
    (
        "ICMP timestamp",
        "020000000002 020000000001 0800 4500002800000000400100000a0000010a000002 0d00000012340001 000000000000000000000000",
        0x61c0_8d0b,
    ),
    (
        "ICMP port unreachable from a router, about the TCP flow",
        "020000000001 0200000000ff 0800 4500003800000000400100000a0000fe0a000001 0303000000000000 4500002800000000400600000a0000010a000002 9c40005000000000",
        0x532b_ce86,
    ),
    (
        "ICMP unreachable about an ICMP unreachable",
        "020000000001 0200000000ff 0800 4500003800000000400100000a0000fe0a000001 0303000000000000 4500003800000000400100000a0000010a000002 0303000000000000",
        0x61c0_8d0b,
    ),
    (
        "ICMP unreachable that quotes nothing",
        "020000000001 0200000000ff 0800 4500001c00000000400100000a0000fe0a000001 0303000000000000",
        0xda53_82ea,
    ),
    (
        "GRE 10.0.0.1 > 10.0.0.2",
        "020000000002 020000000001 0800 4500001c00000000402f00000a0000010a000002 0000655800000000",
        0x9da0_7bc6,
    ),
    (
        "UDP 2001:db8::1:40000 > 2001:db8::2:53",
        "020000000002 020000000001 86dd 6000000000081140 20010db8000000000000000000000001 20010db8000000000000000000000002 9c40003500080000",
        0x38a4_4008,
    ),
    (
        "the same behind hop-by-hop, destination options and an atomic fragment header",
        "020000000002 020000000001 86dd 6000000000200040 20010db8000000000000000000000001 20010db8000000000000000000000002 3c00010400000000 2c00010400000000 1100000000000001 9c40003500080000",
        0x38a4_4008,
    ),
    (
        "IPv6 first fragment",
        "020000000002 020000000001 86dd 6000000000102c40 20010db8000000000000000000000001 20010db8000000000000000000000002 1100000100000001 9c40003500080000",
        0x57df_57eb,
    ),
    (
        "ICMPv6 echo request, id 0x1234",
        "020000000002 020000000001 86dd 6000000000083a40 20010db8000000000000000000000001 20010db8000000000000000000000002 8000000012340001",
        0xb84a_7fd4,
    ),
    (
        "ICMPv6 packet too big about the UDP flow",
        "020000000001 0200000000ff 86dd 6000000000383a40 20010db80000000000000000000000fe 20010db8000000000000000000000001 0200000000000500 6000000000081140 20010db8000000000000000000000001 20010db8000000000000000000000002 9c40003500080000",
        0x38a4_4008,
    ),
    (
        "ICMPv6 neighbour solicitation",
        "020000000002 020000000001 86dd 6000000000183aff 20010db8000000000000000000000001 20010db8000000000000000000000002 8700000000000000 20010db8000000000000000000000002",
        0xb077_4579,
    ),
    (
        "ARP",
        "ffffffffffff 020000000001 0806 0001080006040001 0200000000010a000001 0000000000000a000002",
        0xa04a_404b,
    ),
    ("spanning tree, 802.3 length", "0180c2000000 020000000001 0026 424203", 0xaa42_4f23),
    ("LLDP", "0180c200000e 020000000001 88cc 0207", 0x45a1_8170),
    ("twelve bytes", "020000000002 020000000001", 0xae85_eede),
];

#[test]
fn vectors() {
    let got: Vec<_> = VECTORS.iter().map(|(_, hex, _)| key(&bytes(hex)).hash()).collect();
    for ((name, _, hash), got) in VECTORS.iter().zip(got) {
        assert_eq!(got, *hash, "{name}: {got:#010x}");
    }
}

#[test]
fn slots_and_ports_come_from_both_ends_of_the_hash() {
    assert_eq!((slot(0xffff_ffff), source_port(0xffff_ffff)), (16383, 0xffff));
    assert_eq!((slot(0x0003_ffff), source_port(0x0003_ffff)), (16383, 0xc000));
    assert_eq!((slot(0xfffc_0000), source_port(0x8000_0000)), (0, 0xe000));
}

/// One flow's frame from either side.
fn frame(v6: bool, tcp: bool, src: ([u8; 16], u16), dst: ([u8; 16], u16)) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let v4 = |a: [u8; 16]| [a[0], a[1], a[2], a[3]];
    let ip =
        if v6 { builder.ipv6(src.0, dst.0, 64) } else { builder.ipv4(v4(src.0), v4(dst.0), 64) };
    let mut frame = Vec::new();
    if tcp {
        ip.tcp(src.1, dst.1, 1, 2).write(&mut frame, b"data").unwrap();
    } else {
        ip.udp(src.1, dst.1).write(&mut frame, b"data").unwrap();
    }
    frame
}

proptest! {
    #[test]
    fn both_directions_and_any_tags_hash_alike(
        v6: bool, tcp: bool, a in any::<[u8; 16]>(), b in any::<[u8; 16]>(), port_a: u16,
        port_b: u16, tags in prop::collection::vec(any::<u16>(), 0..7)
    ) {
        let there = frame(v6, tcp, (a, port_a), (b, port_b));
        let mut back = frame(v6, tcp, (b, port_b), (a, port_a));
        for tci in tags {
            let tag = [[0x81, 0x00], tci.to_be_bytes()].concat();
            back.splice(12..12, tag);
        }
        prop_assert_eq!(key(&there), key(&back));
        prop_assert_eq!(key(&there).hash(), key(&back).hash());
    }

    #[test]
    fn addresses_keep_their_own_ports(a in any::<[u8; 16]>(), b in any::<[u8; 16]>(), p: u16, q: u16) {
        prop_assume!(a[..4] != b[..4] && p != q);
        for v6 in [false, true] {
            prop_assert_ne!(key(&frame(v6, true, (a, p), (b, q))), key(&frame(v6, true, (a, q), (b, p))));
        }
    }

    /// An error that quotes a packet, however much of it beyond the ports, goes where it goes.
    #[test]
    fn errors_land_with_their_flow(
        v6: bool, tcp: bool, a in any::<[u8; 16]>(), b in any::<[u8; 16]>(), router in any::<[u8; 16]>(),
        keep in 8..24usize, kind in 0..5usize
    ) {
        let lost = frame(v6, tcp, (a, 1111), (b, 2222));
        let ip_len = if v6 { 40 } else { 20 };
        let quote = &lost[14..(14 + ip_len + keep).min(lost.len())];
        let mut error = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        if v6 {
            let ip = builder.ipv6(router, a, 64).icmpv6_raw([1, 2, 3, 4, 4][kind], 0, [0; 4]);
            ip.write(&mut error, quote).unwrap();
        } else {
            let (from, to) = ([9, 9, 9, router[0]], [a[0], a[1], a[2], a[3]]);
            let ip = builder.ipv4(from, to, 64).icmpv4_raw([3, 4, 5, 11, 12][kind], 0, [0; 4]);
            ip.write(&mut error, quote).unwrap();
        }
        prop_assert_eq!(key(&error), key(&lost));
    }

    #[test]
    fn noise_has_a_hash(link in 0..300u16, noise in prop::collection::vec(any::<u8>(), 0..120)) {
        let walk = Walk::new(LinkType(link), &noise);
        FlowKey::new(&walk, &noise[..noise.len() / 2]).hash();
    }
}

/// Chi-square of `counts` against an even spread, as standard deviations from its mean.
fn unevenness(counts: &[u32]) -> f64 {
    let total: u32 = counts.iter().sum();
    let expected = f64::from(total) / counts.len() as f64;
    let chi: f64 = counts.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
    let freedom = (counts.len() - 1) as f64;
    (chi - freedom) / (2.0 * freedom).sqrt()
}

#[test]
fn flows_that_differ_little_spread_evenly() {
    let server = (0x0a00_0002u32, 443u16);
    let ports = |n: u32| FlowKey::Ipv4 {
        low: (0x0a00_0001 + n / 50_000, (10_000 + n % 50_000) as u16),
        high: (server.0 + 0x100, server.1),
        protocol: 6,
    };
    let hosts = |n: u32| FlowKey::Ipv4 {
        low: (0x0a00_0000 + n, 5000),
        high: (0x0b00_0000, 443),
        protocol: 17,
    };
    let hosts6 = |n: u32| FlowKey::Ipv6 {
        low: (0x2001_0db8 << 96 | u128::from(n), (n >> 3) as u16),
        high: (0x2001_0db9 << 96, 443),
        protocol: 17,
    };
    let macs = |n: u32| FlowKey::Other {
        low: 0x0200_0000_0000 + u64::from(n),
        high: 0xffff_ffff_ffff,
        ethertype: 0x0806,
    };
    let kinds: [&dyn Fn(u32) -> FlowKey; 4] = [&ports, &hosts, &hosts6, &macs];
    for (kind, key) in kinds.iter().enumerate() {
        let mut slots = vec![0; SLOTS];
        let mut sources = vec![0; SLOTS];
        let mut both = vec![0; SLOTS]; // seven bits of each: the two must be independent
        for n in 0..100_000 {
            let hash = key(n).hash();
            slots[slot(hash)] += 1;
            sources[usize::from(source_port(hash) & 0x3fff)] += 1;
            both[slot(hash) % 128 * 128 + usize::from(source_port(hash) % 128)] += 1;
        }
        for (what, counts) in [("slots", &slots), ("ports", &sources), ("both", &both)] {
            let z = unevenness(counts);
            assert!(z < 5.0, "kind {kind}, {what}: {z:.1} standard deviations");
        }
    }
}

/// Each input bit must turn each output bit about half of the time.
#[test]
fn every_input_bit_reaches_every_output_bit() {
    const ROUNDS: u64 = 2000;
    for bit in 0..96 {
        let mut flips = [0u32; 32];
        for n in 0..ROUNDS {
            let noise = (n + 1).wrapping_mul(0x2545_f491_4f6c_dd1d);
            let key = |flip: u128| {
                let word = ((u128::from(noise) << 64) | u128::from(noise.rotate_left(17))) ^ flip;
                let low = ((word >> 64) as u32 & 0x7fff_ffff, (word >> 48) as u16);
                let high = (word as u32 | 0x8000_0000, (word >> 32) as u16);
                FlowKey::Ipv4 { low, high, protocol: 6 }.hash()
            };
            let changed = key(0) ^ key(1 << bit);
            for (out, flips) in flips.iter_mut().enumerate() {
                *flips += changed >> out & 1;
            }
        }
        // The two bits that the sort fixes in this test.
        if bit == 31 || bit == 95 {
            assert_eq!(flips, [0; 32]);
            continue;
        }
        for (out, n) in flips.into_iter().enumerate() {
            let share = f64::from(n) / ROUNDS as f64;
            assert!((0.42..0.58).contains(&share), "bit {bit} turns {out} in {share:.3}");
        }
    }
}
