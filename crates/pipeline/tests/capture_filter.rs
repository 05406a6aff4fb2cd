//! The filter stage: one program a link type, and the choice of direction.

mod taps;

use api::DirectionChoice;
use filter::{
    Action, Instruction, PortRange, Program, Rule, Rules, TrafficDirection, Transport, op,
};
use io::memory::MemorySink;
use io::{Direction, Packet};
use pipeline::CaptureFilter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use taps::frame::arp;
use taps::*;
use wire::LinkType;

/// Whether the byte at `at`, under a mask, is `value`.
fn byte_is(at: u32, mask: u32, value: u32) -> Program {
    Program::new(vec![
        Instruction::new(op::LD | op::B | op::ABS, 0, 0, at),
        Instruction::new(op::ALU | op::AND | op::K, 0, 0, mask),
        Instruction::new(op::JMP | op::JEQ | op::K, 0, 1, value),
        Instruction::new(op::RET | op::K, 0, 0, 1),
        Instruction::new(op::RET | op::K, 0, 0, 0),
    ])
    .expect("a valid program")
}

/// IPv4 without options, for two link types; it has no meaning for any other. Counts how often it is compiled.
fn ip(compiled: &Arc<AtomicU32>) -> Box<dyn Fn(LinkType) -> Result<Program, String> + Send> {
    let compiled = Arc::clone(compiled);
    Box::new(move |link_type| {
        compiled.fetch_add(1, Ordering::Relaxed);
        match link_type {
            LinkType::ETHERNET => Ok(byte_is(14, 0xff, 0x45)),
            LinkType::RAW => Ok(byte_is(0, 0xf0, 0x40)),
            other => Err(format!("no IP over {other}")),
        }
    })
}

fn of_link(link_type: u16, number: u64, frame: &[u8]) -> Packet {
    let mut packet = packet(number, frame);
    packet.meta.link_type = LinkType(link_type);
    packet
}

#[test]
fn each_link_type_has_its_own_program() {
    let compiled = Arc::default();
    let filter =
        CaptureFilter::expression(DirectionChoice::Both, &[LinkType::ETHERNET], ip(&compiled));
    assert_eq!(compiled.load(Ordering::Relaxed), 1, "compiled for what is known");
    let (ethernet_ip, arp) = (flow_frame(0), arp());
    let source: Vec<Packet> = (0..600)
        .map(|number| match number % 6 {
            0 => of_link(1, number, &ethernet_ip),
            1 => of_link(1, number, &arp),
            2 => of_link(101, number, &ethernet_ip[14..]),
            3 => of_link(101, number, &[0x60; 40]),
            // USER0: the expression has no meaning there, so it matches nothing.
            4 => of_link(147, number, &ethernet_ip),
            _ => of_link(148, number, &[]),
        })
        .collect();
    let sink = MemorySink::default();
    let mut tap = tap(file(source), vec![only("sink", sink.clone())]);
    tap.filter = filter.unwrap();
    let report = run(tap);
    assert_eq!((report.matched, report.filtered), (200, 400));
    assert!(numbers(&sink).iter().all(|number| [0, 2].contains(&(number % 6))));
    assert_eq!(compiled.load(Ordering::Relaxed), 4, "once for each link type");
}

#[test]
fn an_expression_without_meaning_for_a_known_link_type_is_refused() {
    let known = [LinkType::ETHERNET, LinkType(147)];
    let refused = CaptureFilter::expression(DirectionChoice::Both, &known, ip(&Arc::default()));
    assert_eq!(refused.err().as_deref(), Some("no IP over LINKTYPE 147"));
}

#[test]
fn the_original_length_is_what_len_means() {
    let longer_than_100 = |_| {
        Program::new(vec![
            Instruction::new(op::LD | op::W | op::LEN, 0, 0, 0),
            Instruction::new(op::JMP | op::JGT | op::K, 0, 1, 100),
            Instruction::new(op::RET | op::K, 0, 0, 1),
            Instruction::new(op::RET | op::K, 0, 0, 0),
        ])
        .map_err(|e| e.to_string())
    };
    let mut filter =
        CaptureFilter::expression(DirectionChoice::Both, &[], Box::new(longer_than_100)).unwrap();
    let mut packet = packet(0, &[0; 60]);
    assert!(!filter.keeps(&packet));
    packet.meta.origlen = 1514;
    assert!(filter.keeps(&packet));
}

#[test]
fn a_packet_of_unknown_direction_is_of_either() {
    use Direction::{In, Out, Unknown};
    for (choice, kept) in [
        (DirectionChoice::Both, vec![In, Out, Unknown]),
        (DirectionChoice::In, vec![In, Unknown]),
        (DirectionChoice::Out, vec![Out, Unknown]),
    ] {
        let sink = MemorySink::default();
        let source = [In, Out, Unknown].map(|direction| {
            let mut packet = packet(0, &flow_frame(0));
            packet.meta.direction = direction;
            packet
        });
        let mut tap = tap(file(source), vec![only("sink", sink.clone())]);
        tap.filter = CaptureFilter::all(choice);
        let report = run(tap);
        let directions: Vec<_> = sink.take().iter().map(|p| p.meta.direction).collect();
        assert_eq!(directions, kept, "{choice:?}");
        assert_eq!(report.filtered, 3 - kept.len() as u64);
    }
}

#[test]
fn direction_and_expression_must_both_agree() {
    let link_types = [LinkType::ETHERNET];
    let mut filter =
        CaptureFilter::expression(DirectionChoice::In, &link_types, ip(&Arc::default())).unwrap();
    let mut received = packet(0, &flow_frame(0));
    received.meta.direction = Direction::In;
    assert!(filter.keeps(&received));
    received.meta.direction = Direction::Out;
    assert!(!filter.keeps(&received));
    let mut arp = packet(0, &arp());
    arp.meta.direction = Direction::In;
    assert!(!filter.keeps(&arp));
}

/// EXCLUDE to port 53; INCLUDE received packets with UDP; INCLUDE sent packets.
fn rules() -> Rules {
    let to_dns = Transport::Ports { source: None, destination: Some(PortRange::one(53)) };
    let udp = Rule { protocol: Some(17), ..Rule::new(Action::Include) };
    Rules::new(vec![
        Rule { action: Action::Exclude, transport: to_dns, ..udp },
        Rule { direction: Some(TrafficDirection::Ingress), ..udp },
        Rule { direction: Some(TrafficDirection::Egress), ..Rule::new(Action::Include) },
    ])
    .expect("sound rules")
}

#[test]
fn rules_decide_by_direction_and_each_one_s_hits_are_counted() {
    use Direction::{In, Out, Unknown};
    let going = |number, direction, frame: &[u8]| {
        let mut packet = packet(number, frame);
        packet.meta.direction = direction;
        packet
    };
    // Even flows go to port 53, odd ones come from there.
    let (to_dns, from_dns, arp) = (flow_frame(0), flow_frame(1), arp());
    let source = || {
        [
            going(0, In, &to_dns),
            going(1, In, &from_dns),
            going(2, In, &arp),
            going(3, Out, &to_dns),
            going(4, Out, &from_dns),
            going(5, Out, &arp),
            going(6, Unknown, &from_dns),
            going(7, Unknown, &arp),
        ]
    };
    let sink = MemorySink::default();
    let mut tap = tap(file(source()), vec![only("sink", sink.clone())]);
    tap.filter =
        CaptureFilter::rules(DirectionChoice::Both, &[LinkType::ETHERNET], rules()).unwrap();
    let report = run(tap);
    assert_eq!(numbers(&sink), [1, 4, 5, 6, 7]);
    assert_eq!((report.matched, report.filtered), (5, 3));
    assert_eq!(report.rule_hits, [2, 2, 3]);

    // -Q comes first: what it leaves out is no rule's.
    let mut filter = CaptureFilter::rules(DirectionChoice::In, &[], rules()).unwrap();
    let kept: Vec<bool> = source().iter().map(|packet| filter.keeps(packet)).collect();
    assert_eq!(kept, [false, true, false, false, false, false, true, true]);
    assert_eq!(filter.rule_hits(), [1, 2, 1]);
}

#[test]
fn rules_ask_for_the_bytes_present_and_not_for_the_original_length() {
    let to_dns = Transport::Ports { source: None, destination: Some(PortRange::one(53)) };
    let ports = Rule { protocol: Some(17), transport: to_dns, ..Rule::new(Action::Exclude) };
    let rules = Rules::new(vec![ports, Rule::new(Action::Include)]).expect("sound rules");
    let mut filter = CaptureFilter::rules(DirectionChoice::Both, &[], rules).unwrap();
    let frame = flow_frame(0);
    assert!(!filter.keeps(&packet(0, &frame)));
    let mut cut = packet(1, &frame[..37]);
    cut.meta.origlen = frame.len() as u32;
    assert!(filter.keeps(&cut), "the second rule needs no ports");
    assert_eq!(filter.rule_hits(), [1, 1]);
}

#[test]
fn rules_match_nothing_of_a_link_type_that_they_cannot_read() {
    let rules = || Rules::new(vec![Rule::new(Action::Include)]).expect("sound rules");
    let refused = CaptureFilter::rules(DirectionChoice::Both, &[LinkType(127)], rules());
    assert!(refused.err().is_some_and(|error| error.contains("LINKTYPE 127")));
    let mut filter = CaptureFilter::rules(DirectionChoice::Both, &[], rules()).unwrap();
    assert!(!filter.keeps(&of_link(127, 0, &[0; 60])));
    assert!(filter.keeps(&of_link(1, 0, &[0; 60])));
}
