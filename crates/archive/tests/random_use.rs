//! The archive under random use: every packet stands once, in a segment of its source and hour.

mod recording;

use archive::Rotation;
use proptest::prelude::*;
use recording::*;
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Debug, Clone)]
enum Step {
    /// A packet of a sender, some seconds early or late, of a length.
    Send { sender: u32, late_s: u64, len: usize },
    /// Time goes by.
    Tick { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4u32, 0..7200u64, 0..3000usize)
            .prop_map(|(sender, late_s, len)| Step::Send { sender, late_s, len }),
        1 => (0..90u64).prop_map(|seconds| Step::Tick { seconds }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_packet_stands_once_where_it_belongs(
        steps in prop::collection::vec(step(), 0..150),
        bytes in prop::option::of(500..20_000u64),
        seconds in prop::option::of(1..120u64),
    ) {
        let folder = Folder::new();
        let time = seconds.map(Duration::from_secs);
        let mut rig = Rig::spool(&folder.0, Rotation { bytes, time, ..Rotation::default() });
        let mut sent = BTreeSet::new();
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Send { sender, late_s, len } => {
                    // The number in the nanoseconds tells packets apart.
                    let ts_ns = T - T % SECOND - late_s * SECOND + number;
                    rig.send(sender, "10.0.0.1", ts_ns, len);
                    sent.insert((sender, ts_ns, len as u32));
                }
                Step::Tick { seconds } => {
                    rig.pass(seconds * SECOND);
                }
            }
        }
        let lines = rig.finish();
        let (written, drops) = sums(&lines);
        prop_assert_eq!((written, drops.total()), (sent.len() as u64, 0));

        let mut found = BTreeSet::new();
        for segment in segments(&folder.0) {
            let source = partition(&segment, "source");
            let sender = source.strip_prefix("vxlan-").and_then(|rest| rest.split('-').next());
            let sender: u32 = sender.expect("a series of a VNI").parse().expect("a number");
            let hour: u64 = partition(&segment, "hour").parse().expect("a number");
            for &(ts_ns, len) in &segment.packets {
                prop_assert_eq!(ts_ns / HOUR % 24, hour);
                prop_assert!(found.insert((sender, ts_ns, len)), "a packet stands twice");
            }
            let nanos = |name: String| name[16..25].parse::<u64>().expect("nanoseconds");
            let (first, last, _) = name_parts(&segment);
            let by_time = |p: &&(u64, u32)| p.0;
            let earliest = segment.packets.iter().min_by_key(by_time).expect("not empty").0;
            let latest = segment.packets.iter().max_by_key(by_time).expect("not empty").0;
            prop_assert_eq!((nanos(first), nanos(last)), (earliest % SECOND, latest % SECOND));
            let largest = bytes.unwrap_or(u64::MAX - 4000) + 3000 + 400;
            prop_assert!(segment.bytes <= largest, "{} bytes", segment.bytes);
            prop_assert_eq!(segment.statistics[0].delivered, Some(segment.packets.len() as u64));
        }
        prop_assert_eq!(found, sent);
    }
}
