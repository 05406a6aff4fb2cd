use super::*;
use crate::packet::{Direction, InterfaceId};
use proptest::prelude::*;
use wire::checksum;

const SECOND: u64 = 1_000_000_000;

/// A whole packet and what its fragments are cut from.
#[derive(Debug, Clone)]
struct Original {
    link: Vec<u8>,
    header: Vec<u8>,
    /// In IPv6: where in the header the number of the payload stands.
    next_at: usize,
    payload: Vec<u8>,
}

impl Original {
    fn v4(options: usize, tags: usize, payload_bytes: usize) -> Original {
        let mut header = vec![0x45 + options as u8, 3, 0, 0, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0];
        header.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        header.resize(20 + 4 * options, 1);
        let len = (header.len() + payload_bytes) as u16;
        header[2..4].copy_from_slice(&len.to_be_bytes());
        let check = checksum::of(&header);
        header[10..12].copy_from_slice(&check.to_be_bytes());
        Original { link: link(tags, 0x0800), header, next_at: 9, payload: payload(payload_bytes) }
    }

    fn v6(extensions: usize, tags: usize, payload_bytes: usize) -> Original {
        let mut header = vec![0x60, 1, 2, 3, 0, 0, 17, 64];
        header.extend([0xfd; 31]);
        header.push(7);
        let mut next_at = 6;
        for n in 0..extensions {
            header[next_at] = if n == 0 { 0 } else { 60 };
            next_at = header.len();
            header.extend([17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        let len = (header.len() - 40 + payload_bytes) as u16;
        header[4..6].copy_from_slice(&len.to_be_bytes());
        Original { link: link(tags, 0x86dd), header, next_at, payload: payload(payload_bytes) }
    }

    fn whole(&self) -> Vec<u8> {
        [&self.link[..], &self.header, &self.payload].concat()
    }

    /// The frame of the fragment that holds the payload from `begin` up to `end`.
    fn part(&self, begin: usize, end: usize) -> Vec<u8> {
        self.part_of(begin, end, end < self.payload.len())
    }

    fn part_of(&self, begin: usize, end: usize, more: bool) -> Vec<u8> {
        let mut header = self.header.clone();
        let payload = &self.payload[begin.min(self.payload.len())..end.min(self.payload.len())];
        if header[0] >> 4 == 4 {
            let len = (header.len() + end - begin) as u16;
            header[2..4].copy_from_slice(&len.to_be_bytes());
            let field = (begin / 8) as u16 | if more { 0x2000 } else { 0 } | 0x4000;
            header[6..8].copy_from_slice(&field.to_be_bytes());
            header[10..12].fill(0);
            let check = checksum::of(&header);
            header[10..12].copy_from_slice(&check.to_be_bytes());
        } else {
            let len = (header.len() - 40 + 8 + end - begin) as u16;
            header[4..6].copy_from_slice(&len.to_be_bytes());
            let next = std::mem::replace(&mut header[self.next_at], 44);
            let field = begin as u16 | u16::from(more);
            header.extend([next, 0, (field >> 8) as u8, field as u8, 0xde, 0xad, 0xbe, 0xef]);
        }
        [&self.link[..], &header, payload].concat()
    }

    /// All fragments, cut at multiples of `step`.
    fn parts(&self, step: usize) -> Vec<Vec<u8>> {
        let begins = (0..self.payload.len()).step_by(step);
        begins.map(|begin| self.part(begin, (begin + step).min(self.payload.len()))).collect()
    }
}

fn link(tags: usize, ethertype: u16) -> Vec<u8> {
    let mut link = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    (0..tags).for_each(|n| link.extend([0x81, 0, 0, 5 + n as u8]));
    link.extend(ethertype.to_be_bytes());
    link
}

fn payload(bytes: usize) -> Vec<u8> {
    // UDP to port 4789, and anything.
    let mut payload: Vec<u8> = (0..bytes).map(|n| ((n * 31) >> 3) as u8).collect();
    let header = [0xc0, 0, 0x12, 0xb5, (bytes >> 8) as u8, bytes as u8, 0, 0];
    payload.iter_mut().zip(header).for_each(|(to, from)| *to = from);
    payload
}

fn packet(frame: &[u8], ts_ns: u64) -> Packet {
    let meta = Meta {
        ts_ns,
        origlen: frame.len() as u32,
        link_type: LinkType::ETHERNET,
        interface: InterfaceId(0),
        direction: Direction::Unknown,
        outer: None,
        gso: None,
        packet_id: None,
        decided: false,
        flow_hash: None,
    };
    Packet { data: Data::copy_of(frame), meta }
}

/// A port of VXLAN makes a tunnel.
fn is_tunnel(link: LinkType, frame: &[u8]) -> bool {
    Walk::new(link, frame).ports(frame).is_some_and(|(_, to)| to == 4789)
}

fn add(fragments: &mut Fragments, packet: Packet) -> Added {
    let walk = Walk::new(packet.meta.link_type, &packet.data);
    fragments.add(0, &walk, packet, is_tunnel)
}

fn add_frame(fragments: &mut Fragments, frame: &[u8], ts_ns: u64) -> Added {
    add(fragments, packet(frame, ts_ns))
}

fn released(fragments: &mut Fragments) -> Vec<(Vec<u8>, Verdict)> {
    std::iter::from_fn(|| fragments.released()).map(|(p, why)| (p.data.to_vec(), why)).collect()
}

fn originals() -> impl Strategy<Value = Original> {
    (0..4usize, 0..3usize, 24..3_000usize, any::<bool>()).prop_map(|(more, tags, bytes, v6)| {
        if v6 { Original::v6(more, tags, bytes) } else { Original::v4(more, tags, bytes) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // In any order, with any of them repeated, the packet is what it was, once, with the time of the
    // last one that was needed.
    #[test]
    fn fragments_in_any_order_become_the_packet(
        original in originals(), eights in 1..40usize, order in any::<u64>(), twice in any::<u64>()
    ) {
        let mut parts = original.parts(eights * 8);
        prop_assume!(parts.len() > 1);
        let copies = parts.clone();
        let repeated = copies.into_iter().enumerate().filter(|(n, _)| twice >> (n % 64) & 1 == 1);
        parts.extend(repeated.map(|(_, part)| part).take(20));
        let mut order = order | 1;
        for n in (1..parts.len()).rev() {
            order = order.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            parts.swap(n, (order >> 33) as usize % (n + 1));
        }
        let mut fragments = Fragments::new(Scope::Sight);
        let mut wholes = Vec::new();
        for (ts_ns, part) in (1..).zip(&parts) {
            match add_frame(&mut fragments, part, ts_ns) {
                Added::Held => {}
                Added::Whole(whole) => {
                    prop_assert_eq!(whole.meta.ts_ns, ts_ns);
                    prop_assert_eq!(whole.meta.origlen as usize, whole.data.len());
                    wholes.push(whole.data.to_vec());
                }
                Added::Alone(_, why) => prop_assert!(false, "{:?}", why),
            }
        }
        // The repeated ones may have made another packet, or the beginning of one.
        prop_assert!(!wholes.is_empty());
        for whole in wholes {
            prop_assert_eq!(whole, original.whole());
        }
        let counters = fragments.counters();
        prop_assert_eq!(counters.joined + fragments.held(), parts.len() as u64);
        prop_assert_eq!(counters.given_up(), 0);
    }

    // Whatever the fragments say: each comes out as it went in, or in a packet; and none is lost.
    #[test]
    fn each_fragment_is_accounted_for(
        pieces in proptest::collection::vec((0..40usize, 0..6usize, any::<bool>(), 0..3u8), 1..60)
    ) {
        let mut fragments = Fragments::new(Scope::Host);
        let (mut alone, mut given_up) = (0, 0);
        for (n, &(begin, eights, more, id)) in pieces.iter().enumerate() {
            let mut original = Original::v4(0, 0, 320);
            original.header[5] = id;
            let begin = begin * 8;
            let frame = original.part_of(begin, (begin + eights * 8).min(320).max(begin), more);
            if let Added::Alone(packet, why) = add_frame(&mut fragments, &frame, n as u64) {
                prop_assert_eq!(&*packet.data, &frame[..]);
                alone += 1;
                given_up += u64::from(why != Verdict::NoTunnel);
            }
        }
        fragments.finish();
        for (_, why) in released(&mut fragments) {
            alone += 1;
            given_up += u64::from(why != Verdict::NoTunnel);
        }
        prop_assert_eq!(fragments.held(), 0);
        prop_assert_eq!(alone + fragments.counters().joined, pieces.len() as u64);
        prop_assert_eq!(given_up, fragments.counters().given_up());
    }
}

#[test]
fn what_is_no_tunnel_passes_at_once_and_in_order() {
    let mut other = Original::v4(0, 0, 400);
    other.payload[2..4].copy_from_slice(&2049u16.to_be_bytes());
    let parts = other.parts(104);
    let mut fragments = Fragments::new(Scope::Sight);
    // One that comes before the first is held until that has told.
    assert!(matches!(add_frame(&mut fragments, &parts[1], 1), Added::Held));
    let first = add_frame(&mut fragments, &parts[0], 2);
    assert!(matches!(first, Added::Alone(_, Verdict::NoTunnel)));
    assert_eq!(released(&mut fragments), [(parts[1].clone(), Verdict::NoTunnel)]);
    for part in &parts[2..] {
        let later = add_frame(&mut fragments, part, 3);
        assert!(matches!(later, Added::Alone(_, Verdict::NoTunnel)), "{later:?}");
    }
    // A protocol that leads to no tunnel is not held at all.
    let mut icmp = Original::v4(0, 0, 400);
    icmp.header[9] = 1;
    let later = add_frame(&mut fragments, &icmp.part(200, 400), 4);
    assert!(matches!(later, Added::Alone(_, Verdict::NoTunnel)));
    assert_eq!((fragments.held(), fragments.counters().given_up()), (0, 0));
}

#[test]
fn overlaps_are_given_up_with_all_that_follows() {
    for original in [Original::v4(0, 0, 400), Original::v6(1, 0, 400)] {
        let mut fragments = Fragments::new(Scope::Sight);
        let first = original.part(0, 200);
        // Teardrop: the second lies inside the first; then one that overlaps by eight bytes.
        for second in [original.part_of(24, 28, false), original.part_of(192, 400, false)] {
            assert!(matches!(add_frame(&mut fragments, &first, 1), Added::Held));
            let refused = Verdict::GivenUp(Fault::Overlapping);
            let added = add_frame(&mut fragments, &second, 2);
            assert!(matches!(&added, Added::Alone(_, why) if *why == refused), "{added:?}");
            assert_eq!(released(&mut fragments), [(first.clone(), refused)]);
            let third = add_frame(&mut fragments, &original.part(200, 400), 3);
            assert!(matches!(&third, Added::Alone(_, why) if *why == refused), "{third:?}");
        }
        assert_eq!(fragments.counters().overlapping, 6);
        // The same bytes with another content are no repetition.
        assert!(matches!(add_frame(&mut fragments, &first, 4), Added::Held));
        let mut forged = first.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert!(matches!(add_frame(&mut fragments, &forged, 5), Added::Alone(..)));
    }
}

#[test]
fn what_cannot_be_a_fragment_is_given_up() {
    let original = Original::v4(0, 0, 400);
    let cases = [
        ("no bytes", original.part_of(200, 200, true)),
        ("odd bytes, and more", original.part_of(200, 205, true)),
        ("beyond 65,535", original.part_of(65_528, 65_528 + 16, false)),
        ("the end before what came", original.part_of(100 * 8, 100 * 8, false)),
    ];
    for (what, frame) in cases {
        let mut fragments = Fragments::new(Scope::Sight);
        add_frame(&mut fragments, &original.part(0, 200), 1);
        let mut frame = frame;
        frame.resize(frame.len().max(64), 0);
        let added = add_frame(&mut fragments, &frame, 2);
        assert!(matches!(added, Added::Alone(_, Verdict::GivenUp(_))), "{what}: {added:?}");
        assert_eq!(released(&mut fragments).len(), 1, "{what}");
        assert_eq!(fragments.held(), 0, "{what}");
    }
    // Two ends.
    let mut fragments = Fragments::new(Scope::Sight);
    assert!(matches!(add_frame(&mut fragments, &original.part(200, 400), 1), Added::Held));
    add_frame(&mut fragments, &original.part_of(104, 200, false), 2);
    assert_eq!(fragments.counters().malformed, 2);
    // A fragment that the capture has cut short.
    let cut = &original.part(0, 200)[..100];
    let added = add_frame(&mut fragments, cut, 3);
    assert!(matches!(added, Added::Alone(_, Verdict::GivenUp(Fault::Cut))), "{added:?}");
    // One of a packet that would be too long with its header.
    let mut long = Original::v4(10, 0, 400);
    long.payload.resize(65_528, 7);
    let last = long.part_of(65_480, 65_496, false);
    let mut fragments = Fragments::new(Scope::Sight);
    let added = add_frame(&mut fragments, &last, 4);
    assert!(matches!(added, Added::Alone(_, Verdict::GivenUp(Fault::Malformed))), "{added:?}");
}

#[test]
fn time_and_the_end_release_what_is_incomplete() {
    let original = Original::v6(0, 0, 400);
    let (first, last) = (original.part(0, 200), original.part(200, 400));
    let mut fragments = Fragments::new(Scope::Sight);
    add_frame(&mut fragments, &first, SECOND);
    fragments.expire(30 * SECOND);
    assert_eq!(fragments.held(), 1);
    fragments.expire(31 * SECOND);
    let incomplete = Verdict::GivenUp(Fault::Incomplete);
    assert_eq!(released(&mut fragments), [(first.clone(), incomplete)]);
    // What comes too late waits for the others as any other does.
    assert!(matches!(add_frame(&mut fragments, &last, 32 * SECOND), Added::Held));
    fragments.finish();
    assert_eq!(released(&mut fragments), [(last.clone(), incomplete)]);
    assert_eq!(fragments.counters().incomplete, 2);
}

#[test]
fn an_id_that_comes_round_is_another_packet() {
    let mut fragments = Fragments::new(Scope::Host);
    let lost = Original::v4(0, 0, 400);
    let mut next = lost.clone();
    next.payload[20..].fill(0x5a);
    add_frame(&mut fragments, &lost.part(0, 200), 0);
    assert!(matches!(add_frame(&mut fragments, &next.part(0, 200), 2 * SECOND), Added::Held));
    assert_eq!(released(&mut fragments).len(), 1);
    match add_frame(&mut fragments, &next.part(200, 400), 2 * SECOND) {
        Added::Whole(whole) => assert_eq!(*whole.data, next.whole()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_sight_of_a_packet_is_put_together_by_itself() {
    let original = Original::v4(0, 1, 400);
    let sights: [fn(&mut Packet); 4] = [
        |_| {},
        |p| p.meta.interface = InterfaceId(1),
        |p| p.meta.direction = Direction::Out,
        |p| p.data[15] = 9, // the VLAN
    ];
    let seen = |begin, end, change: fn(&mut Packet)| {
        let mut packet = packet(&original.part(begin, end), 1);
        change(&mut packet);
        packet
    };
    let mut fragments = Fragments::new(Scope::Sight);
    for change in sights {
        assert!(matches!(add(&mut fragments, seen(0, 200, change)), Added::Held));
    }
    for change in sights {
        assert!(matches!(add(&mut fragments, seen(200, 400, change)), Added::Whole(_)));
    }
    // For a host they are one packet.
    let mut fragments = Fragments::new(Scope::Host);
    add(&mut fragments, seen(0, 200, sights[1]));
    assert!(matches!(add(&mut fragments, seen(200, 400, sights[2])), Added::Whole(_)));
}

#[test]
fn at_the_bound_the_oldest_gives_way_and_memory_comes_back() {
    let mut fragments = Fragments::new(Scope::Host);
    let mut original = Original::v4(0, 0, 60_000);
    let mut out = 0;
    for n in 0..3 * DATAGRAMS as u64 {
        original.header[4..6].copy_from_slice(&(n as u16).to_be_bytes());
        let added = add_frame(&mut fragments, &original.part(0, 40_000), n);
        assert!(matches!(added, Added::Held), "{n}: {added:?}");
        out += released(&mut fragments).len();
    }
    assert_eq!((out, fragments.held()), (2 * DATAGRAMS, DATAGRAMS as u64));
    assert_eq!(fragments.counters().no_room, 2 * DATAGRAMS as u64);
    // Those that are left can still be put together.
    for n in 2 * DATAGRAMS as u64..3 * DATAGRAMS as u64 {
        original.header[4..6].copy_from_slice(&(n as u16).to_be_bytes());
        let added = add_frame(&mut fragments, &original.part(40_000, 60_000), n);
        assert!(matches!(added, Added::Whole(_)), "{n}: {added:?}");
    }
    // Too many fragments of one packet.
    let parts = original.parts(8);
    let taken = parts.iter().position(|part| {
        let added = add_frame(&mut fragments, part, 1);
        matches!(added, Added::Alone(_, Verdict::GivenUp(Fault::NoRoom)))
    });
    assert_eq!(taken, Some(released(&mut fragments).len()));
}

#[test]
fn any_cut_of_a_fragment_is_harmless() {
    for original in [Original::v4(2, 1, 300), Original::v6(2, 1, 300)] {
        for frame in [original.part(0, 104), original.part(104, 300)] {
            let mut fragments = Fragments::new(Scope::Sight);
            for len in 0..=frame.len() {
                let added = add_frame(&mut fragments, &frame[..len], len as u64 * TIMEOUT_NS);
                assert_eq!(matches!(added, Added::Held), len == frame.len(), "{len}: {added:?}");
            }
        }
    }
}
