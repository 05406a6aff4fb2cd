//! Rules by example: what is refused, what wins, and how far lists go.

use filter::{
    Action, Direction, INSTRUCTIONS_MAX, Instruction, PortRange, Rule, RuleFault, Rules,
    RulesError, Side, TrafficDirection, Transport,
};
use ipnet::IpNet;
use rig::rules::{Random, verdict};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::LinkType;

const INCLUDE: Rule = Rule::new(Action::Include);

fn net(text: &str) -> Option<IpNet> {
    Some(text.parse().expect("a prefix"))
}

fn run(rules: &Rules, direction: Direction, frame: &[u8]) -> u32 {
    let program = rules.compile(LinkType::ETHERNET, direction).expect("a program");
    program.run(frame, frame.len() as u32)
}

/// A TCP SYN from 10.0.0.1:1024 to 10.0.0.2:80.
fn syn() -> [u8; 60] {
    let mut frame = [0; 60];
    frame[12] = 0x08;
    frame[14] = 0x45;
    frame[23] = 6;
    frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    frame[34..38].copy_from_slice(&[4, 0, 0, 80]);
    frame
}

#[test]
fn the_first_match_wins_and_no_match_is_0() {
    let web = Rule {
        protocol: Some(6),
        transport: Transport::Ports { source: None, destination: Some(PortRange::one(80)) },
        ..INCLUDE
    };
    let from_net = Rule { action: Action::Exclude, source: net("10.0.0.0/8"), ..INCLUDE };
    let rules = Rules::new(vec![from_net, web]).expect("sound");
    assert_eq!(run(&rules, Direction::In, &syn()), 1);
    assert_eq!(rules.action(1), Some(Action::Exclude));
    let rules = Rules::new(vec![web, from_net]).expect("sound");
    assert_eq!(run(&rules, Direction::In, &syn()), 1);
    assert_eq!(rules.action(1), Some(Action::Include));
    assert_eq!(run(&rules, Direction::In, &[0; 60]), 0);
    assert_eq!((rules.action(0), rules.action(3)), (None, None));
}

#[test]
fn a_rule_s_direction_is_seen_from_the_interface() {
    let received = Rule { direction: Some(TrafficDirection::Ingress), ..INCLUDE };
    let sent = Rule { direction: Some(TrafficDirection::Egress), ..INCLUDE };
    let rules = Rules::new(vec![received, sent]).expect("sound");
    assert_eq!(run(&rules, Direction::In, &syn()), 1);
    assert_eq!(run(&rules, Direction::Out, &syn()), 2);
    assert_eq!(run(&rules, Direction::Unknown, &syn()), 1);
    let rules = Rules::new(vec![sent]).expect("sound");
    assert_eq!(run(&rules, Direction::In, &syn()), 0);
}

#[test]
fn a_prefix_of_length_0_still_asks_for_its_ip_version() {
    for (prefix, expected) in [("0.0.0.0/0", 1), ("::/0", 0)] {
        let rules = Rules::new(vec![Rule { source: net(prefix), ..INCLUDE }]).expect("sound");
        assert_eq!(run(&rules, Direction::In, &syn()), expected, "{prefix}");
    }
}

#[test]
fn what_is_cut_away_does_not_match_but_what_needs_less_does() {
    let ports = Transport::Ports { source: None, destination: Some(PortRange::one(80)) };
    let rules = Rules::new(vec![
        Rule { protocol: Some(6), transport: ports, ..INCLUDE },
        Rule { source: net("10.0.0.1/32"), ..INCLUDE },
        INCLUDE,
    ])
    .expect("sound");
    let frame = syn();
    for (caplen, expected) in
        [(60, 1), (38, 1), (37, 2), (34, 2), (33, 3), (14, 3), (13, 3), (0, 3)]
    {
        assert_eq!(run(&rules, Direction::In, &frame[..caplen]), expected, "caplen {caplen}");
    }
}

#[test]
fn contradictions_are_named_with_their_rule() {
    let tcp = |source, destination| Rule {
        protocol: Some(6),
        transport: Transport::Ports { source, destination },
        ..INCLUDE
    };
    let icmp =
        |protocol| Rule { protocol, transport: Transport::Icmp { kind: 8, code: None }, ..INCLUDE };
    let upside_down = Some(PortRange { min: 90, max: 80 });
    for (rule, message) in [
        (
            Rule { source: net("10.0.0.1/8"), ..INCLUDE },
            "rule 2: source CIDR 10.0.0.1/8 has bits set behind its prefix; write 10.0.0.0/8",
        ),
        (
            Rule { source: net("10.0.0.0/8"), destination: net("2001:db8::/32"), ..INCLUDE },
            "rule 2: source CIDR 10.0.0.0/8 and destination CIDR 2001:db8::/32 are of two IP \
             versions, which no packet is; split the rule",
        ),
        (
            Rule { protocol: None, ..tcp(None, None) },
            "rule 2: ports need protocol 6 (TCP) or 17 (UDP), this rule has no protocol",
        ),
        (
            tcp(None, upside_down),
            "rule 2: destination port range goes from 90 down to 80; exchange min and max",
        ),
        (
            icmp(Some(6)),
            "rule 2: an ICMP type needs protocol 1 (ICMP) or 58 (ICMPv6), this rule has protocol 6",
        ),
        (
            Rule { source: net("2001:db8::/32"), ..icmp(Some(1)) },
            "rule 2: ICMP (protocol 1) does not run between addresses such as 2001:db8::/32; write \
             protocol 58 (ICMPv6)",
        ),
    ] {
        let error = Rules::new(vec![INCLUDE, rule]).expect_err("a contradiction");
        assert_eq!(error.to_string(), message);
    }
    let fault =
        RuleFault::RangeUpsideDown { side: Side::Source, range: PortRange { min: 2, max: 1 } };
    let range = Some(PortRange { min: 2, max: 1 });
    assert_eq!(Rules::new(vec![tcp(range, None)]), Err(RulesError::Rule { number: 1, fault }));
    assert_eq!(Rules::new(vec![]), Err(RulesError::Empty));
}

#[test]
fn a_link_type_that_cannot_be_read_is_refused_with_those_that_can() {
    let rules = Rules::new(vec![INCLUDE]).expect("sound");
    let error = rules.compile(LinkType(127), Direction::In).expect_err("802.11 with radiotap");
    assert_eq!(
        error.to_string(),
        "rules cannot read frames of link type LINKTYPE 127, only EN10MB, RAW, LINUX_SLL, \
         LINUX_SLL2, NULL, LOOP, IPV4, IPV6; leave them out"
    );
}

/// Host pairs, half of them IPv6, each with a port.
fn pairs(count: u32) -> Rules {
    let v4 = |n: u32| IpNet::from(IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n)));
    let v6 = |n: u32| {
        let bits = 0x2001_0db8_u128 << 96 | u128::from(n % 97) << 48 | u128::from(n);
        IpNet::from(IpAddr::from(Ipv6Addr::from(bits)))
    };
    let rule = |n: u32| Rule {
        source: Some(if n.is_multiple_of(2) { v4(n * 7) } else { v6(n * 7) }),
        destination: Some(if n.is_multiple_of(2) { v4(n * 13) } else { v6(n * 13) }),
        protocol: Some(if n.is_multiple_of(3) { 6 } else { 17 }),
        transport: Transport::Ports {
            source: None,
            destination: Some(PortRange::one((n % 60_000) as u16)),
        },
        ..INCLUDE
    };
    Rules::new((0..count).map(rule).collect()).expect("sound")
}

/// The frame that a rule of [`pairs`] matches.
fn frame_of(rule: &Rule) -> Vec<u8> {
    let (Some(source), Some(destination)) = (rule.source, rule.destination) else {
        panic!("a pair has both");
    };
    let mut frame = vec![0; 12];
    match (source.addr(), destination.addr()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, rule.protocol.unwrap_or(0), 0, 0]);
            frame.extend(source.octets().iter().chain(&destination.octets()));
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, rule.protocol.unwrap_or(0), 64]);
            frame.extend(source.octets().iter().chain(&destination.octets()));
        }
        _ => panic!("a pair is of one version"),
    }
    if let Transport::Ports { destination: Some(range), .. } = rule.transport {
        frame.extend([0, 0]);
        frame.extend(range.min.to_be_bytes());
    }
    frame.resize(80, 0);
    frame
}

#[test]
fn ten_thousand_rules_have_a_program() {
    let rules = pairs(10_000);
    let program = rules.compile(LinkType::ETHERNET, Direction::In).expect("a program");
    // A rule that names both hosts, a protocol and a port needs some ten instructions, twice that
    // for IPv6; more would mean that splitting copies rules.
    let instructions = program.instructions().len();
    assert!(instructions < 300_000, "{instructions} instructions");
    for (number, rule) in (1..).zip(rules.as_slice()).step_by(37) {
        let frame = frame_of(rule);
        assert_eq!(program.run(&frame, 80), number);
        let mut random = Random::new(number.into());
        let mut other = frame.clone();
        other[26 + random.below(28)] ^= 1 << random.below(8);
        let expected = verdict(&rules, LinkType::ETHERNET, Direction::In, &other);
        assert_eq!(program.run(&other, 80), expected);
    }
}

#[test]
fn rules_that_all_overlap_are_not_copied_without_bound() {
    // Each is a wide range of both ports, so any split leaves most rules on both sides.
    let rule = |n: u16| Rule {
        protocol: Some(17),
        transport: Transport::Ports {
            source: Some(PortRange { min: n, max: 60_000 + n }),
            destination: Some(PortRange { min: 3000 - n, max: 65_000 - 2 * n }),
        },
        ..INCLUDE
    };
    let rules = Rules::new((0..2000).map(rule).collect()).expect("sound");
    let program = rules.compile(LinkType::ETHERNET, Direction::In).expect("a program");
    let instructions = program.instructions().len();
    assert!(instructions < 200_000, "{instructions} instructions");
    let mut frame = syn();
    frame[23] = 17;
    let mut random = Random::new(5);
    for _ in 0..500 {
        let ports = (random.bits() as u32).to_be_bytes();
        frame[34..38].copy_from_slice(&ports);
        let expected = verdict(&rules, LinkType::ETHERNET, Direction::In, &frame);
        assert_eq!(program.run(&frame, 60), expected, "{ports:?}");
    }
}

#[test]
fn a_rule_prints_in_a_line() {
    let ports = |source, destination| Transport::Ports { source, destination };
    for (rule, line) in [
        (INCLUDE, "INCLUDE everything"),
        (
            Rule { direction: Some(TrafficDirection::Egress), ..Rule::new(Action::Exclude) },
            "EXCLUDE sent everything",
        ),
        (
            Rule {
                direction: Some(TrafficDirection::Ingress),
                source: net("10.0.0.0/8"),
                destination: net("10.1.2.3/32"),
                protocol: Some(6),
                transport: ports(None, Some(PortRange::one(80))),
                ..INCLUDE
            },
            "INCLUDE received tcp from 10.0.0.0/8 to 10.1.2.3/32 port 80",
        ),
        (
            Rule {
                protocol: Some(17),
                transport: ports(Some(PortRange { min: 1, max: 2 }), None),
                ..INCLUDE
            },
            "INCLUDE udp from ports 1-2",
        ),
        (
            Rule {
                protocol: Some(58),
                transport: Transport::Icmp { kind: 128, code: Some(0) },
                ..INCLUDE
            },
            "INCLUDE icmpv6 type 128 code 0",
        ),
        (Rule { protocol: Some(89), ..INCLUDE }, "INCLUDE protocol 89"),
    ] {
        assert_eq!(rule.to_string(), line);
    }
}

#[test]
fn a_shadowed_rule_is_never_the_verdict() {
    let mut random = Random::new(11);
    let mut dead = 0;
    for _ in 0..150 {
        let rules = random.rules(12);
        let shadows = rules.shadows();
        dead += shadows.len();
        for _ in 0..100 {
            let frame = random.frame(LinkType::ETHERNET);
            for direction in [Direction::In, Direction::Out, Direction::Unknown] {
                let number = verdict(&rules, LinkType::ETHERNET, direction, &frame);
                let is_dead = shadows.iter().any(|shadow| shadow.number == number);
                assert!(!is_dead, "{number} of {:#?}", rules.as_slice());
            }
        }
    }
    assert!(dead > 50, "only {dead} shadowed rules: the test says little");
}

/// The instructions that a program of rules passes for a frame, and its verdict.
fn steps(program: &[Instruction], frame: &[u8]) -> (usize, u32) {
    let (mut a, mut x, mut scratch, mut at) = (0u32, 0u32, [0u32; 16], 0usize);
    for step in 1.. {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let load = |start: u32| {
            let bytes = [4, 2, 1][usize::from(code >> 3 & 3)];
            let bytes = &frame[start as usize..start as usize + bytes];
            bytes.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte))
        };
        let mut jump = |yes: bool| at += usize::from(if yes { jt } else { jf });
        match code {
            0x20 | 0x28 | 0x30 => a = load(k),
            0x40 | 0x48 | 0x50 => a = load(x + k),
            0x00 => a = k,
            0x01 => x = k,
            0x60 => a = scratch[k as usize],
            0x61 => x = scratch[k as usize],
            0x02 => scratch[k as usize] = a,
            0x80 => a = frame.len() as u32,
            0x54 => a &= k,
            0x64 => a <<= k,
            0x04 => a += k,
            0x0c => a += x,
            0x14 => a -= k,
            0x07 => x = a,
            0x05 => at += k as usize,
            0x15 => jump(a == k),
            0x25 => jump(a > k),
            0x35 => jump(a >= k),
            0x45 => jump(a & k != 0),
            0x3d => jump(a >= x),
            0x06 => return (step, k),
            code => panic!("a program of rules has no instruction {code:#x}"),
        }
    }
    unreachable!("a loop without end")
}

#[test]
fn a_packet_is_compared_a_few_dozen_times_however_many_rules_there_are() {
    for (count, steps_max) in [(10, 75), (100, 85), (1000, 90), (10_000, 100)] {
        let rules = pairs(count);
        let program = rules.compile(LinkType::ETHERNET, Direction::In).expect("a program");
        let mut longest = 0;
        for (number, rule) in (1..).zip(rules.as_slice()) {
            let mut frame = frame_of(rule);
            let (steps_hit, verdict) = steps(program.instructions(), &frame);
            assert_eq!(verdict, number);
            // And one that no rule matches: another port.
            let port_at = if rule.source.is_some_and(|net| net.addr().is_ipv4()) { 36 } else { 56 };
            frame[port_at] ^= 0xff;
            let (steps_missed, verdict) = steps(program.instructions(), &frame);
            assert_eq!(verdict, 0);
            longest = longest.max(steps_hit).max(steps_missed);
        }
        assert!(longest <= steps_max, "{longest} instructions for a packet with {count} rules");
    }
}

#[test]
fn ten_thousand_rules_that_overlap_have_a_program_too() {
    // IPv6 on both sides, of no protocol: the longest that rules get. Half of them are narrow on one
    // side and wide on the other, half the other way round, so that any split copies a half.
    let mut random = Random::new(9);
    let mut prefix = |is_wide: bool| {
        let address = 0x2001_0db8_u128 << 96 | u128::from(random.bits()) << 32 | 0xffff_ffff;
        let length = if is_wide { 33 } else { 97 + random.below(31) as u8 };
        let net = IpNet::new(Ipv6Addr::from(address).into(), length).expect("at most 128");
        Some(net.trunc())
    };
    let rule = |n: u32| {
        let is_wide = n.is_multiple_of(2);
        Rule { source: prefix(is_wide), destination: prefix(!is_wide), ..INCLUDE }
    };
    // Ports and types that are asked for make the others stand in a list for each protocol.
    let asks = |protocol, transport| Rule { protocol: Some(protocol), transport, ..INCLUDE };
    let ports = Transport::Ports { source: None, destination: Some(PortRange::one(1)) };
    let icmp = asks(58, Transport::Icmp { kind: 1, code: None });
    let rules = [asks(6, ports), asks(17, ports), icmp].into_iter().chain((0..10_000).map(rule));
    let rules = Rules::new(rules.collect()).expect("sound");
    let program = rules.compile(LinkType::ETHERNET, Direction::In).expect("a program");
    assert!(program.instructions().len() < INSTRUCTIONS_MAX / 2);
    let frames: Vec<Vec<u8>> = rules.as_slice()[3..].iter().step_by(100).map(frame_of).collect();
    for frame in frames {
        let expected = verdict(&rules, LinkType::ETHERNET, Direction::In, &frame);
        assert!(expected > 0);
        assert_eq!(program.run(&frame, 80), expected);
    }
}

#[test]
fn where_copies_make_too_long_a_program_there_are_none() {
    // An eighth of each port's range, staggered: every split cuts through some.
    let rule = |n: u32| {
        let low = |by: u32| (n.wrapping_mul(by) % 57_344) as u16;
        let range = |min: u16| Some(PortRange { min, max: min + 8191 });
        let transport =
            Transport::Ports { source: range(low(7919)), destination: range(low(104_729)) };
        Rule { source: net("0.0.0.0/0"), protocol: Some(6), transport, ..INCLUDE }
    };
    let rules = Rules::new((0..95_000).map(rule).collect()).expect("sound");
    let program = rules.compile(LinkType::ETHERNET, Direction::In).expect("a program");
    let instructions = program.instructions().len();
    assert!(instructions < 800_000, "{instructions} instructions");
    let mut frame = syn();
    let mut random = Random::new(6);
    for _ in 0..50 {
        frame[34..38].copy_from_slice(&(random.bits() as u32).to_be_bytes());
        let expected = verdict(&rules, LinkType::ETHERNET, Direction::In, &frame);
        assert_eq!(program.run(&frame, 60), expected);
    }
}
