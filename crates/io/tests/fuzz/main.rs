//! What reassembly does with fragments that lie: a fuzz target, in the manner of
//! `crates/wire/tests/fuzz`.

#[path = "../frames/mod.rs"]
#[allow(dead_code, reason = "only packets are needed")]
mod frames;

use io::decap::{Added, Fragments, Scope, Verdict};
use std::cell::RefCell;
use std::time::Duration;
use wire::LinkType;
use wire::walk::Walk;

const SECOND_NS: u64 = 1_000_000_000;

#[test]
fn fuzz_fragments() {
    let check = bolero::check!().with_iterations(2_000).with_test_time(Duration::from_secs(120));
    check.for_each(|bytes: &[u8]| {
        fragments(bytes);
    });
}

#[test]
fn every_lie_and_every_cut() {
    for seed in seeds() {
        for at in 0..seed.len() {
            fragments(&seed[..at]);
            let mut lying = seed.clone();
            for lie in [0x00, 0x01, 0x08, 0x1f, 0x20, 0x3f, 0x7f, 0x80, 0xff] {
                lying[at] = lie;
                fragments(&lying);
            }
        }
    }
}

#[test]
fn seeds_become_whole() {
    let whole: Vec<u64> = seeds().iter().map(|seed| fragments(seed)).collect();
    assert_eq!(whole, [1, 1, 1, 1, 0, 0], "the last two lack their first fragment");
}

thread_local! {
    // Its memory is taken once; between inputs it forgets, as more than 30 s go by.
    static FRAGMENTS: RefCell<(Fragments, u64)> =
        RefCell::new((Fragments::new(Scope::Sight), SECOND_NS));
}

/// What became of the fragments.
#[derive(Default)]
struct Seen {
    alone: u64,
    given_up: u64,
    whole: u64,
}

impl Seen {
    fn alone(&mut self, verdict: Verdict) {
        self.alone += 1;
        self.given_up += u64::from(matches!(verdict, Verdict::GivenUp(_)));
    }
}

// Frames, each behind a byte with flags and one with its length. None gets lost, what becomes whole
// is whole, and the counters say what was seen. Gives the number of whole packets.
fn fragments(bytes: &[u8]) -> u64 {
    FRAGMENTS.with_borrow_mut(|(fragments, now_ns)| {
        let before = fragments.counters();
        let (mut seen, mut taken, mut rest) = (Seen::default(), 0, bytes);
        while let Some((&[flags, len], behind)) = rest.split_first_chunk() {
            let frame;
            (frame, rest) = behind.split_at(behind.len().min(len.into()));
            let link_type = if flags & 4 == 0 { LinkType::ETHERNET } else { LinkType::RAW };
            let layers = flags >> 3 & 1;
            let walk = Walk::new(link_type, frame);
            if !walk.is_fragment() {
                continue;
            }
            *now_ns += [0, 1, SECOND_NS / 2, 20 * SECOND_NS][usize::from(flags & 3)];
            let mut packet = frames::packet(frame, link_type);
            packet.meta.ts_ns = *now_ns;
            packet.meta.origlen += u32::from(flags >> 7);
            taken += 1;
            fragments.expire(*now_ns);
            match fragments.add(layers, &walk, packet, is_tunnel) {
                Added::Held => {}
                Added::Alone(_, verdict) => seen.alone(verdict),
                Added::Whole(packet) => {
                    let walk = Walk::new(packet.meta.link_type, &packet.data);
                    assert!(!walk.is_fragment());
                    assert_eq!(walk.wire_len(), Some(packet.caplen()));
                    assert_eq!(packet.meta.origlen as usize, packet.caplen());
                    seen.whole += 1;
                }
            }
            while let Some((_, verdict)) = fragments.released() {
                seen.alone(verdict);
            }
        }
        fragments.finish();
        while let Some((_, verdict)) = fragments.released() {
            seen.alone(verdict);
        }
        *now_ns += 100 * SECOND_NS;
        let after = fragments.counters();
        assert_eq!(fragments.held(), 0);
        assert_eq!(seen.whole, after.whole - before.whole);
        assert_eq!(seen.given_up, after.given_up() - before.given_up());
        assert_eq!(seen.alone + (after.joined - before.joined), taken);
        seen.whole
    })
}

fn is_tunnel(link: LinkType, frame: &[u8]) -> bool {
    let walk = Walk::new(link, frame);
    walk.ports(frame).is_some_and(|(_, to)| to == 4789)
        || walk.network.is_some_and(|n| n.protocol == 47)
}

// A datagram to VXLAN's port in three parts, in and out of order, over either family.
fn seeds() -> Vec<Vec<u8>> {
    let mut payload = vec![0xc0, 1, 0x12, 0xb5, 0, 44, 0, 0];
    payload.resize(44, 7);
    let v4 = |begin: usize, end: usize| {
        let part = &payload[begin..end];
        let field = (begin / 8) as u8;
        let more = if end < payload.len() { 0x20 } else { 0 };
        let mut frame = vec![0x45, 0, 0, 20 + part.len() as u8, 0, 9, more, field, 64, 17, 0, 0];
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(part);
        [&[4, frame.len() as u8], &frame[..]].concat()
    };
    let v6 = |begin: usize, end: usize| {
        let part = &payload[begin..end];
        let field = begin as u8 | u8::from(end < payload.len());
        let mut frame = vec![0x60, 0, 0, 0, 0, 8 + part.len() as u8, 44, 64];
        frame.extend([0xfd; 32]);
        frame.extend([17, 0, 0, field, 0, 0, 0, 9]);
        frame.extend(part);
        [&[4, frame.len() as u8], &frame[..]].concat()
    };
    let parts = [(0, 16), (16, 32), (32, 44)];
    [[0, 1, 2], [2, 0, 1], [1, 1, 2]]
        .into_iter()
        .flat_map(|order| {
            let v4 = order.map(|i| v4(parts[i].0, parts[i].1)).concat();
            let v6 = order.map(|i| v6(parts[i].0, parts[i].1)).concat();
            [v4, v6]
        })
        .collect()
}
