//! Which packets are the same, and for how long.

use super::*;
use crate::stage::trial::{Trial, frame, packet, udp4};
use io::Packet;
use proptest::prelude::*;
use wire::LinkType;

const MS: u64 = 1_000_000;
const WINDOW: Duration = Duration::from_millis(50);
const NOTHING: DedupIgnore = DedupIgnore { ttl: false, mac: false, vlan: false, checksum: false };
const ALL: DedupIgnore = DedupIgnore { ttl: true, mac: true, vlan: true, checksum: true };

fn trial(ignore: DedupIgnore) -> Trial {
    Trial::new(Dedup::new(WINDOW, ignore, Action::Drop))
}

/// Whether a stage takes the second packet for the first one's copy.
fn same(ignore: DedupIgnore, first: &[u8], second: &[u8]) -> bool {
    let passed = trial(ignore).run([packet(0, first), packet(1, second)]);
    assert_eq!(passed[0], 0, "the first always goes on");
    passed.len() == 1
}

/// Every choice of what is ignored.
fn choices() -> impl Iterator<Item = DedupIgnore> {
    (0..16).map(|bits| DedupIgnore {
        ttl: bits & 1 != 0,
        mac: bits & 2 != 0,
        vlan: bits & 4 != 0,
        checksum: bits & 8 != 0,
    })
}

/// TCP over IPv4 with a tag, 64 bytes of payload.
fn tagged_tcp4() -> Vec<u8> {
    let tcp = frame::tcp(1000, 80, 0x18, &[0x5a; 64]);
    frame::tagged(&frame::ethernet(0x0800, &frame::ipv4(6, &tcp)), &[5])
}

/// UDP over IPv6, long enough to be hashed in two parts.
fn udp6() -> Vec<u8> {
    frame::ethernet(0x86dd, &frame::ipv6(17, &frame::udp(1000, 53, &[0xa5; 400])))
}

fn flipped(frame: &[u8], bytes: std::ops::Range<usize>) -> Vec<u8> {
    let mut flipped = frame.to_vec();
    flipped[bytes].iter_mut().for_each(|byte| *byte ^= 0xff);
    flipped
}

/// A packet of RTP: the payload apart, all of them are alike.
fn rtp(payload: u32) -> Vec<u8> {
    let header = [0x80, 0, 0, 1, 0, 0, 0, 160, 0xde, 0xad, 0xbe, 0xef];
    let voice = payload.to_be_bytes().repeat(40);
    udp4(([10, 0, 0, 1], 4000), ([10, 0, 0, 2], 4002), &[&header[..], &voice].concat())
}

#[test]
fn pairs_are_merged_and_rtp_with_equal_headers_is_not() {
    let mut trial = trial(ALL);
    let mut passed = Vec::new();
    let mut number = 0;
    let mut give = |trial: &mut Trial, frame: &[u8]| {
        passed.extend(trial.run([packet(number * MS / 100, frame)]));
        number += 1;
    };
    for pair in 0..1000 {
        let frame = udp4(([10, 0, 0, 3], 1000 + pair), ([10, 0, 0, 4], 53), &pair.to_be_bytes());
        give(&mut trial, &frame);
        if pair % 2 == 0 {
            give(&mut trial, &rtp(u32::from(pair)));
        }
        give(&mut trial, &frame);
    }
    assert_eq!(passed.len(), 1500);
    assert_eq!(trial.drops().get(DropReason::Duplicate), 1000);
    assert_eq!(trial.stats().touched, 1000);
    assert_eq!(trial.stats().forgotten, 0);
}

#[test]
fn a_tcp_segment_sent_again_is_not_merged() {
    let segment = frame::tcp(1000, 80, 0x18, b"data");
    let first = frame::ethernet(0x0800, &frame::ipv4(6, &segment));
    let mut again = first.clone();
    again[14 + 4..14 + 6].copy_from_slice(&8u16.to_be_bytes()); // IP identification
    assert!(!same(ALL, &first, &again));

    // IPv6 has no identification: the timestamp option (RFC 7323) tells them apart.
    let stamped = |ms: u32| {
        let mut segment =
            frame::tcp(1000, 80, 0x18, &[&[1, 1, 8, 10][..], &ms.to_be_bytes(), &[0; 8]].concat());
        segment[12] = 0x80;
        frame::ethernet(0x86dd, &frame::ipv6(6, &segment))
    };
    assert!(!same(ALL, &stamped(1), &stamped(2)));

    // With neither, time does.
    let bare = frame::ethernet(0x86dd, &frame::ipv6(6, &segment));
    let mut trial = trial(ALL);
    assert_eq!(trial.run([packet(0, &bare), packet(200 * MS, &bare)]).len(), 2);
    assert_eq!(trial.run([packet(249 * MS, &bare)]).len(), 0, "the same to the last bit");
}

#[test]
fn what_differs_is_ignored_if_it_is_asked_for_and_only_then() {
    let frame = tagged_tcp4();
    let ip = 18;
    let mut routed = frame.clone();
    routed[ip + 8] -= 1; // TTL
    routed[ip + 10..ip + 12].copy_from_slice(&[0x12, 0x34]); // its checksum
    for ignore in choices() {
        let differs = |what: &[u8]| same(ignore, &frame, what);
        assert!(differs(&frame), "{ignore:?}");
        assert_eq!(differs(&routed), ignore.ttl, "{ignore:?}");
        assert_eq!(differs(&flipped(&frame, 0..12)), ignore.mac, "{ignore:?}");
        assert_eq!(differs(&flipped(&frame, 14..16)), ignore.vlan, "{ignore:?}");
        let untagged = [&frame[..12], &frame[16..]].concat();
        assert_eq!(differs(&untagged), ignore.vlan, "{ignore:?}");
        assert_eq!(differs(&frame::tagged(&frame, &[7; 9])), ignore.vlan, "{ignore:?}");
        let header = flipped(&frame, ip + 10..ip + 12);
        assert_eq!(differs(&header), ignore.checksum || ignore.ttl, "{ignore:?}");
        assert_eq!(differs(&flipped(&frame, ip + 36..ip + 38)), ignore.checksum, "{ignore:?}");
        // Padding is part of the frame.
        let padded = [&frame[..], &[0; 6]].concat();
        assert_eq!(differs(&padded), ignore.mac || ignore.vlan, "{ignore:?}");
    }
}

// Any bit of these frames, and every choice of what is ignored.
#[test]
fn no_other_bit_may_differ() {
    let (ip4, ip6) = (18, 14);
    let frames = [
        // The tag's own EtherType apart: with a bit of it turned, it may still be a tag.
        (tagged_tcp4(), 12..14, 14..16, ip4 + 8..ip4 + 9, ip4 + 10..ip4 + 12, ip4 + 36..ip4 + 38),
        (udp6(), 0..0, 0..0, ip6 + 7..ip6 + 8, 0..0, ip6 + 46..ip6 + 48),
    ];
    for (frame, tpid, tag, hops, header, upper) in frames {
        for ignore in choices() {
            let fingerprints = Fingerprints::new(ignore, [1, 2, 3, 4]);
            let whole = fingerprints.of(&packet(0, &frame));
            for byte in (0..frame.len()).filter(|byte| !tpid.contains(byte)) {
                let ignored = ignore.mac && byte < 12
                    || ignore.vlan && tag.contains(&byte)
                    || ignore.ttl && (hops.contains(&byte) || header.contains(&byte))
                    || ignore.checksum && (header.contains(&byte) || upper.contains(&byte));
                for bit in 0..8 {
                    let mut turned = frame.clone();
                    turned[byte] ^= 1 << bit;
                    let equal = fingerprints.of(&packet(0, &turned)) == whole;
                    assert_eq!(equal, ignored, "byte {byte}, bit {bit}, {ignore:?}");
                }
            }
        }
    }
}

#[test]
fn both_ends_of_a_routed_path_give_one_packet() {
    // Inside: untagged, padded by the NIC. Behind the router: other MACs, a tag, one hop less.
    let inside = udp4(([10, 0, 0, 1], 1000), ([10, 0, 0, 2], 53), b"q");
    let mut outside = inside.clone();
    outside[..12].copy_from_slice(&[4; 12]);
    outside[14 + 8] -= 1;
    outside[14 + 10] ^= 1;
    let outside = frame::tagged(&outside, &[100]);
    let inside = [&inside[..], &[0; 17]].concat();
    assert!(same(ALL, &inside, &outside));
    // A third tap, below Ethernet.
    let mut raw = packet(2, &outside[18..]);
    raw.meta.link_type = LinkType::RAW;
    let mut trial = trial(ALL);
    assert_eq!(trial.run([packet(0, &inside), packet(1, &outside), raw]), [0]);
    assert!(same(ALL, &frame::arp(), &[&frame::arp()[..], &[0; 18]].concat()), "padded ARP");
}

#[test]
fn sctp_and_icmp_checksums_are_checksums() {
    let only = DedupIgnore { checksum: true, ..NOTHING };
    for (protocol, at, len) in [(132, 8, 4), (1, 2, 2)] {
        let frame = frame::ethernet(0x0800, &frame::ipv4(protocol, &[9; 40]));
        let at = 14 + 20 + at;
        assert!(same(only, &frame, &flipped(&frame, at..at + len)), "protocol {protocol}");
        assert!(!same(NOTHING, &frame, &flipped(&frame, at..at + len)), "protocol {protocol}");
        assert!(!same(only, &frame, &flipped(&frame, at + len..at + len + 1)));
        assert!(!same(only, &frame, &flipped(&frame, at - 1..at)));
    }
    // A later fragment begins with data.
    let fragment = frame::ipv4_between([10, 0, 0, 1], [10, 0, 0, 2], 132, 9, &[9; 40]);
    let fragment = frame::ethernet(0x0800, &fragment);
    assert!(!same(ALL, &fragment, &flipped(&fragment, 42..46)));
}

#[test]
fn a_cut_packet_is_the_same_as_one_that_was_cut_alike() {
    let whole = udp6();
    let cut = |len: usize| {
        let mut cut = packet(1, &whole[..len]);
        cut.meta.origlen = whole.len() as u32;
        cut
    };
    assert_eq!(trial(ALL).run([packet(0, &whole), cut(100), cut(100), cut(96)]).len(), 3);
    // Without a length in the packet, the wire's counts.
    let odd = |origlen| {
        let mut odd = packet(1, &frame::ethernet(0x88b5, &[1; 60]));
        odd.meta.origlen = origlen;
        odd
    };
    assert_eq!(trial(ALL).run([odd(100), odd(101), odd(100)]).len(), 2);
    // A length that contradicts the header is not believed: all is compared.
    let mut first = udp4(([10, 0, 0, 1], 1), ([10, 0, 0, 2], 2), b"one");
    first[16..18].copy_from_slice(&3u16.to_be_bytes());
    let last = first.len() - 1;
    assert!(!same(ALL, &first, &flipped(&first, last..last + 1)));
}

#[test]
fn the_window_counts_from_the_copy_that_went_on_in_either_direction() {
    let at = |ms: u64| packet(ms * MS, &udp6());
    let mut trial = trial(NOTHING);
    assert_eq!(trial.run([at(100), at(150), at(60), at(149)]), [100 * MS], "at most 50 ms apart");
    assert_eq!(trial.run([at(151)]), [151 * MS]);
    assert_eq!(trial.run([at(101), at(201)]).len(), 0, "counted from 151 now");
    assert_eq!(trial.run([at(100), at(1)]).len(), 2, "steps back beyond the window");
    let mut trial = Trial::new(Dedup::new(Duration::ZERO, NOTHING, Action::Drop));
    assert_eq!(trial.run([at(5), at(5), at(6)]), [5 * MS, 6 * MS]);
}

#[test]
fn counted_duplicates_go_on() {
    let mut trial = Trial::new(Dedup::new(WINDOW, NOTHING, Action::Count));
    assert_eq!(trial.run((0..5).map(|i| packet(i, &udp6()))).len(), 5);
    let stats = trial.stats();
    assert_eq!((stats.touched, stats.drops.total()), (4, 0));
}

#[test]
fn what_no_memory_is_left_for_is_forgotten_and_counted() {
    let numbered = |ts_ns, n: u32| packet(ts_ns, &rtp(n));
    let mut trial = Trial::new(Dedup::remembering(100, WINDOW, NOTHING, Action::Drop));
    assert_eq!(trial.run((0..150).map(|n| numbered(0, n))).len(), 150);
    assert_eq!(trial.stats().forgotten, 50, "the 50 oldest");
    assert_eq!(trial.run((50..150).map(|n| numbered(1, n))).len(), 0, "all others are known");
    assert_eq!(trial.run([numbered(1, 0)]).len(), 1, "a forgotten one's copy is not lost");
    // What is out of the window anyway is no loss of memory.
    assert_eq!(trial.run((150..250).map(|n| numbered(1000 * MS, n))).len(), 100);
    assert_eq!(trial.stats().forgotten, 51);
}

#[test]
fn memory_follows_the_window() {
    let packets = |ms| Dedup::packets_max(Duration::from_millis(ms));
    assert_eq!([packets(0), packets(50), packets(3_600_000)], [1 << 14, 1 << 17, 1 << 20]);
    assert_eq!(Dedup::packets_max(Duration::MAX), 1 << 20);
}

/// What a list of all packets that went on says.
#[derive(Default)]
struct Model(Vec<(u32, u64)>);

impl Model {
    fn passes(&mut self, content: u32, ts_ns: u64) -> bool {
        let before = self.0.iter().rev().find(|seen| seen.0 == content);
        let passes = before.is_none_or(|seen| seen.1.abs_diff(ts_ns) > 50 * MS);
        if passes {
            self.0.push((content, ts_ns));
        }
        passes
    }
}

proptest! {
    // A file that is played at once: times may do what they like.
    #[test]
    fn does_what_a_list_does_for_any_times(
        arrivals in proptest::collection::vec((0u32..12, 0u64..300 * MS), 0..200),
    ) {
        let (mut trial, mut model) = (trial(NOTHING), Model::default());
        for (content, ts_ns) in arrivals {
            let passed = trial.run([packet(ts_ns, &rtp(content))]);
            prop_assert_eq!(!passed.is_empty(), model.passes(content, ts_ns));
        }
        prop_assert_eq!(trial.stats().forgotten, 0);
    }

    // Live packets, whose times are up to 25 ms off: what is old is forgotten meanwhile.
    #[test]
    fn does_what_a_list_does_as_time_goes_by(
        arrivals in proptest::collection::vec((0u32..40, 0u64..8 * MS, 0u64..50 * MS), 0..300),
    ) {
        let (mut trial, mut model) = (trial(NOTHING), Model::default());
        for (content, gap_ns, late_ns) in arrivals {
            trial.now.monotonic_ns += gap_ns;
            let ts_ns = trial.now.monotonic_ns - late_ns;
            let passed = trial.run([packet(ts_ns, &rtp(content))]);
            prop_assert_eq!(!passed.is_empty(), model.passes(content, ts_ns));
        }
        prop_assert_eq!(trial.stats().forgotten, 0);
    }

    #[test]
    fn noise_does_no_harm(
        frames in proptest::collection::vec(
            (any::<u32>(), proptest::collection::vec(any::<u8>(), 0..400)), 0..20),
        ts_ns in any::<u64>(),
        link in prop_oneof![Just(1u16), Just(101), Just(113), Just(276), Just(0), any::<u16>()],
        ignore in (0..16usize).prop_map(|n| choices().nth(n).unwrap()),
        tpid in any::<bool>(),
    ) {
        let mut trial = trial(ignore);
        let noise = |(origlen, frame): &(u32, Vec<u8>)| -> Packet {
            let mut packet = packet(ts_ns, frame);
            if tpid && frame.len() > 40 {
                packet.data[12..14].copy_from_slice(&[0x81, 0]);
                packet.data[16..19].copy_from_slice(&[8, 0, 0x45]);
            }
            (packet.meta.link_type, packet.meta.origlen) = (LinkType(link), *origlen);
            packet
        };
        let passed = trial.run(frames.iter().map(noise));
        prop_assert!(passed.len() <= frames.len());
        prop_assert_eq!(trial.run(frames.iter().map(noise)).len(), 0, "all have come before");
    }
}
