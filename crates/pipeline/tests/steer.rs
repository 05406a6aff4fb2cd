//! Replicate and balance: who gets which packet.

mod taps;

use api::{Balance, FlowKey};
use io::memory::MemorySink;
use io::{Outer, Packet};
use pipeline::TargetGroup;
use std::collections::{BTreeMap, BTreeSet};
use taps::*;
use wire::tunnel::{Kind, Tunnel};

fn group(names: &[&str], sinks: &[MemorySink]) -> TargetGroup {
    let targets = names.iter().zip(sinks).map(|(name, sink)| target(name, sink.clone())).collect();
    TargetGroup::new(targets, &vec![1; names.len()])
}

#[test]
fn every_target_gets_every_packet_in_order() {
    let sinks: Vec<MemorySink> = (0..5).map(|_| MemorySink::default()).collect();
    let groups = sinks.iter().map(|sink| only("sink", sink.clone())).collect();
    let report = run(tap(file(packets(5000)), groups));
    assert_eq!(report.matched, 5000);
    for sink in &sinks {
        assert_eq!(numbers(sink), (0..5000).collect::<Vec<u64>>());
    }
}

/// The flow of a numbered packet of [`packets`]: both directions are one.
fn flow(number: u64) -> u64 {
    number % 97 / 2
}

#[test]
fn a_group_gets_each_packet_once_and_both_directions_at_one_member() {
    let sinks: Vec<MemorySink> = (0..3).map(|_| MemorySink::default()).collect();
    let report = run(tap(file(packets(9700)), vec![group(&["a", "b", "c"], &sinks)]));
    assert_eq!(report.targets.iter().map(|line| line.matched).sum::<u64>(), 9700);

    let mut member_of = BTreeMap::new();
    let mut all = Vec::new();
    for (member, sink) in sinks.iter().enumerate() {
        let arrived = numbers(sink);
        assert!(arrived.len() > 1000, "member {member} has a share: {}", arrived.len());
        for number in arrived {
            let first = *member_of.entry(flow(number)).or_insert(member);
            assert_eq!(first, member, "flow {} stays together", flow(number));
            all.push(number);
        }
    }
    all.sort_unstable();
    assert_eq!(all, (0..9700).collect::<Vec<u64>>());
}

#[test]
fn a_slice_that_cuts_the_ports_off_does_not_part_flows() {
    let sinks: Vec<MemorySink> = (0..3).map(|_| MemorySink::default()).collect();
    let whole = || {
        let arrived: Vec<Vec<u64>> = sinks.iter().map(numbers).collect();
        assert!(arrived.iter().all(|numbers| !numbers.is_empty()));
        arrived
    };
    let names = ["a", "b", "c"];
    run(tap(file(packets(2000)), vec![group(&names, &sinks)]));
    let uncut = whole();
    let mut cut = tap(file(packets(2000)), vec![group(&names, &sinks)]);
    cut.snaplen = Some(20);
    run(cut);
    assert_eq!(whole(), uncut);
}

/// How many of three members get packets of some packets if this makes a flow.
fn members_used(key: FlowKey, packets: impl IntoIterator<Item = Packet>) -> usize {
    let sinks: Vec<MemorySink> = (0..3).map(|_| MemorySink::default()).collect();
    let names = ["a", "b", "c"];
    let targets = names.iter().zip(&sinks).map(|(name, sink)| target(name, sink.clone()));
    let balance = Balance { key, ..Balance::default() };
    let group = TargetGroup::balanced(targets.collect(), &[1; 3], balance, None);
    run(tap(file(packets), vec![group]));
    sinks.iter().filter(|sink| !numbers(sink).is_empty()).count()
}

#[test]
fn what_makes_a_flow_is_chosen() {
    // 48 conversations of two hosts by UDP.
    let conversations = || packets(970);
    for (key, used) in [
        (FlowKey::FiveTuple, 3),
        (FlowKey::ThreeTuple, 1),
        (FlowKey::TwoTuple, 1),
        // They came out of no tunnel, and hold none.
        (FlowKey::TunnelId, 3),
        (FlowKey::Inner, 3),
    ] {
        assert_eq!(members_used(key, conversations()), used, "{key:?}");
    }
    let out_of = |id: Option<u32>| {
        let tunnel = Tunnel { kind: Kind::Gretap, id };
        conversations().map(move |mut packet| {
            packet.meta.outer = Some(Outer { tunnel, source: [10, 9, 9, 9].into() });
            packet
        })
    };
    assert_eq!(members_used(FlowKey::TunnelId, out_of(Some(71))), 1);
    assert_eq!(members_used(FlowKey::TunnelId, out_of(None)), 3, "a tunnel without an id");
    let of_tunnels = (0..64).flat_map(|id| out_of(Some(id)));
    assert_eq!(members_used(FlowKey::TunnelId, of_tunnels), 3);
    // Between two tunnel endpoints, with one source port.
    let in_vxlan = || {
        conversations().map(|inner| {
            let payload = [&[8, 0, 0, 0, 0, 0, 71, 0], &inner.data[..]].concat();
            let outer = udp4(([10, 9, 9, 1], 50_000), ([10, 9, 9, 2], 4789), &payload);
            packet(inner.meta.ts_ns, &outer)
        })
    };
    assert_eq!(members_used(FlowKey::FiveTuple, in_vxlan()), 1);
    assert_eq!(members_used(FlowKey::Inner, in_vxlan()), 3);
}

#[test]
fn what_is_inside_a_tunnel_stays_together_in_both_directions() {
    let sinks: Vec<MemorySink> = (0..3).map(|_| MemorySink::default()).collect();
    let targets = ["a", "b", "c"].iter().zip(&sinks).map(|(name, sink)| target(name, sink.clone()));
    let balance = Balance { key: FlowKey::Inner, ..Balance::default() };
    let group = TargetGroup::balanced(targets.collect(), &[1; 3], balance, None);
    let tunnelled = packets(970).map(|inner| {
        // Each direction has a tunnel endpoint and a source port of its own.
        let (from, to) = if inner.meta.ts_ns % 97 % 2 == 0 { (1, 2) } else { (2, 1) };
        let payload = [&[8, 0, 0, 0, 0, 0, 71, 0], &inner.data[..]].concat();
        let port = 50_000 + u16::from(from);
        packet(inner.meta.ts_ns, &udp4(([10, 9, 9, from], port), ([10, 9, 9, to], 4789), &payload))
    });
    run(tap(file(tunnelled), vec![group]));
    let of_each: Vec<BTreeSet<u64>> =
        sinks.iter().map(|sink| numbers(sink).into_iter().map(flow).collect()).collect();
    assert!(of_each.iter().all(|flows| !flows.is_empty()));
    assert_eq!(of_each.iter().map(BTreeSet::len).sum::<usize>(), 49, "no flow is at two members");
}

#[test]
fn the_order_of_the_members_does_not_matter() {
    let sinks: Vec<MemorySink> = (0..3).map(|_| MemorySink::default()).collect();
    run(tap(file(packets(970)), vec![group(&["a", "b", "c"], &sinks)]));
    let [a, b, c] = [numbers(&sinks[0]), numbers(&sinks[1]), numbers(&sinks[2])];
    run(tap(file(packets(970)), vec![group(&["c", "a", "b"], &sinks)]));
    assert_eq!([numbers(&sinks[0]), numbers(&sinks[1]), numbers(&sinks[2])], [c, a, b]);
}

#[test]
fn a_slice_keeps_the_original_length() {
    let sink = MemorySink::default();
    let frames = [flow_frame(0), flow_frame(1)[..30].to_vec(), Vec::new()];
    let mut source: Vec<_> = (0..).zip(&frames).map(|(n, frame)| packet(n, frame)).collect();
    source[1].meta.origlen = 1514; // it was cut before
    source[2].meta.origlen = 9000;
    let mut tap = tap(file(source), vec![only("sink", sink.clone())]);
    tap.snaplen = Some(34);
    run(tap);
    let lengths: Vec<_> = sink.take().iter().map(|p| (p.caplen(), p.meta.origlen)).collect();
    assert_eq!(lengths, [(34, 82), (30, 1514), (0, 9000)]);
}

#[test]
fn a_limit_is_exact() {
    for (limit, sliced) in [(1, 1), (255, 255), (256, 256), (257, 257), (5000, 1000)] {
        // From a file nobody asked for the rest.
        let sink = MemorySink::default();
        let mut from_file = tap(file(packets(1000)), vec![only("sink", sink.clone())]);
        from_file.limit = Some(pipeline::Limit::new(limit));
        let report = run(from_file);
        assert_eq!((report.matched, report.seen()), (sliced, sliced));
        assert_eq!(numbers(&sink), (0..sliced).collect::<Vec<u64>>());
        // From the wire it was seen.
        let mut from_wire = tap(live(packets(1000)), vec![only("sink", sink.clone())]);
        from_wire.limit = Some(pipeline::Limit::new(limit));
        let report = run(from_wire);
        assert_eq!((report.matched, report.seen()), (sliced, 1000));
        assert_eq!(report.drops_before_match().get(api::DropReason::Stopped), 1000 - sliced);
        assert_eq!(numbers(&sink), (0..sliced).collect::<Vec<u64>>());
    }
}
