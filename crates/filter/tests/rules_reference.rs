//! Random rule lists over random packets: the compiled program against the plain reading.

use filter::{Direction, SUPPORTED_LINK_TYPES};
use rig::rules::{Random, verdict};
use wire::LinkType;

const DIRECTIONS: [Direction; 3] = [Direction::In, Direction::Out, Direction::Unknown];

/// Compares so many lists of up to so many rules, each over so many packets; returns how many
/// packets matched some rule.
fn compare(seed: u64, link: LinkType, lists: usize, rules_max: usize, packets: usize) -> usize {
    let mut random = Random::new(seed);
    let mut matched = 0;
    for list in 0..lists {
        let count = 1 + random.below(rules_max);
        let rules = random.rules(count);
        let programs =
            DIRECTIONS.map(|direction| rules.compile(link, direction).expect("a program"));
        for packet in 0..packets {
            let frame = random.frame(link);
            for (direction, program) in DIRECTIONS.iter().zip(&programs) {
                let expected = verdict(&rules, link, *direction, &frame);
                let got = program.run(&frame, frame.len() as u32);
                assert_eq!(
                    got,
                    expected,
                    "seed {seed}, list {list}, packet {packet}, {direction:?}: {frame:02x?}\nrules {:?}",
                    [expected, got].map(|n| rules.as_slice().get((n as usize).wrapping_sub(1)))
                );
                matched += usize::from(expected > 0);
            }
        }
    }
    matched
}

#[test]
fn programs_agree_with_the_reference_on_ethernet() {
    let matched = compare(1, LinkType::ETHERNET, 200, 8, 200);
    // Both outcomes must be common, or this test says little.
    assert!((30_000..110_000).contains(&matched), "{matched} of 120000");
}

#[test]
fn programs_agree_with_the_reference_on_long_lists() {
    compare(2, LinkType::ETHERNET, 60, 60, 300);
    compare(3, LinkType::ETHERNET, 6, 1500, 2000);
}

#[test]
fn programs_agree_with_the_reference_on_every_link_type() {
    for (seed, link) in (100..).zip(SUPPORTED_LINK_TYPES) {
        compare(seed, link, 60, 12, 100);
    }
}
