//! The filter on a real socket, on a link between two namespaces: directions, tags in metadata and
//! in band, counters.

mod sender;

use filter::ebpf::{Scope, SocketFilterOptions, Verdicts, socket_filter};
use filter::{Action, Direction, Rule, Rules, TrafficDirection};
use io::bpf::{FilterCounters, LoadedFilter};
use io::ring::{Handover, KernelFilter, RingOptions, RingSize, RingSource};
use io::{Interfaces, Source};
use rig::{Host, Topology};
use sender::sender;
use std::io::Write;
use std::time::Duration;
use wire::LinkType;

/// A UDP packet from 10.0.0.`from`, with a tag in band or none.
fn frame(from: u8, tag: Option<u16>) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, from]);
    if let Some(tpid) = tag {
        frame.extend(tpid.to_be_bytes());
        frame.extend([0, 100]);
    }
    frame.extend([8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([10, 0, 0, from, 10, 0, 0, 99, 0, 9, 0, 9, 0, 26, 0, 0]);
    frame.resize(frame.len() + 18, 0);
    frame
}

/// Sends a frame so many times, from a host towards another.
fn send(from: &Host, interface: &str, times: usize, frame: &[u8]) {
    let run = from.netns.run(|| {
        let mut sender = sender(interface);
        for _ in 0..times {
            assert_eq!(sender.write(frame).expect("it is sent"), frame.len());
        }
    });
    run.expect("the namespace is there");
}

fn rule(action: Action, direction: TrafficDirection, source: &str) -> Rule {
    Rule {
        direction: Some(direction),
        source: Some(source.parse().expect("a net")),
        ..Rule::new(action)
    }
}

#[test]
fn what_a_filter_on_a_ring_counts_is_exact() {
    if !rig::root_or_skip() {
        return;
    }
    let rules = Rules::new(vec![
        rule(Action::Include, TrafficDirection::Ingress, "10.0.0.1/32"),
        rule(Action::Exclude, TrafficDirection::Ingress, "10.0.0.2/32"),
        rule(Action::Include, TrafficDirection::Egress, "10.0.0.3/32"),
    ])
    .unwrap();
    let link_type = LinkType::ETHERNET;
    let filter = LoadedFilter::load(
        &socket_filter(&SocketFilterOptions {
            link_type,
            received: &rules.compile(link_type, Direction::In).unwrap(),
            sent: &rules.compile(link_type, Direction::Out).unwrap(),
            verdicts: Verdicts::Rules(&rules),
            scope: Scope::Everything,
        })
        .unwrap(),
    )
    .unwrap();

    let net = Topology::line(["far", "tapped"]).build();
    let (far, tapped) = (net.host("far"), net.host("tapped"));
    let options = RingOptions {
        interface: "far".into(),
        netns: None,
        promiscuous: false,
        ring_size: RingSize::Bytes(4 << 20),
        handover: Handover::Prompt,
        snaplen: 0,
        filter: KernelFilter::Absent,
    };
    let interfaces = Interfaces::default();
    let ring = tapped.netns.run(|| RingSource::open(&options, &interfaces)).unwrap().unwrap();
    filter.attach(ring.readiness().expect("a ring is waited for")).unwrap();

    // Received: decided by rules 1 and 2, by none, and left to user space for a tag in metadata,
    // where the kernel puts the first one on receipt.
    send(far, "tapped", 5, &frame(1, None));
    send(far, "tapped", 3, &frame(2, None));
    send(far, "tapped", 2, &frame(3, None));
    send(far, "tapped", 4, &frame(1, Some(0x8100)));
    send(far, "tapped", 1, &frame(2, Some(0x88a8)));
    // Sent: by rule 3, also behind a tag in band, and by none.
    send(tapped, "far", 6, &frame(3, None));
    send(tapped, "far", 7, &frame(1, None));
    send(tapped, "far", 2, &frame(3, Some(0x8100)));

    let expected = FilterCounters {
        filtered: 3 + 2 + 7,
        matched: 5 + 6 + 2,
        undecided: 4 + 1,
        filtered_frames: 12,
        matched_frames: 13,
        undecided_frames: 5,
    };
    let mut counted = FilterCounters::default();
    rig::wait_until("all frames are counted", Duration::from_secs(5), || {
        counted = filter.counters().expect("they are read");
        counted.filtered_frames + counted.matched_frames + counted.undecided_frames >= 30
    });
    assert_eq!(counted, expected);
    assert_eq!(filter.rule_hits().unwrap(), [5, 3, 8]);
}
