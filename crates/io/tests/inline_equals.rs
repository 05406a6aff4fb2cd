//! Programs change packets as `wire::translate` does: bit for bit.

use etherparse::PacketBuilder;
use io::bpf::{Classifier, Map, MapKind, TestRun, TestRunOptions};
use kernel::inline::layout::{
    HOP_BY_KERNEL, HOPS_MAX, Hop, InlineMap, Leg, Match, RULES_MAX, Rule, Session, Settings, Tuple,
    counter_place,
};
use kernel::inline::{Roles, program};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use wire::LinkType;
use wire::translate::{Answer, End, Hops, Mapping, Reading, answer, translate_from};

/// What a program returns for a packet that it sends on.
const REDIRECT: i32 = 7;
const NEXT: i32 = -1;
/// Where TCP and UDP go.
const NEXT_PORT: u16 = 8080;

/// Both programs of a table, and its maps.
struct Programs {
    maps: Vec<Map>,
    forward: Classifier,
    reply: Classifier,
}

fn entries(map: InlineMap) -> (MapKind, u32) {
    match map {
        InlineMap::Sessions => (MapKind::Hash, 4096),
        InlineMap::Rules => (MapKind::Hash, RULES_MAX),
        InlineMap::Hops => (MapKind::Array, HOPS_MAX + 2),
        InlineMap::Counters => (MapKind::PerCpuArray, counter_place(RULES_MAX, Leg::Reply) + 1),
        InlineMap::Views => (MapKind::Array, RULES_MAX + 1),
        InlineMap::Settings => (MapKind::Array, 1),
        InlineMap::Fragments => (MapKind::LruHash, 256),
    }
}

impl Programs {
    fn new() -> Programs {
        let maps: Vec<Map> = InlineMap::ALL
            .into_iter()
            .map(|map| {
                let ((key, value), (kind, entries)) = (map.sizes(), entries(map));
                Map::new(kind, key, value, entries).expect("a map")
            })
            .collect();
        let descriptors: Vec<_> = maps.iter().map(AsFd::as_fd).collect();
        let load = |forward_to, reply_to| {
            let code = program(Roles { forward_to, reply_to }).expect("a program");
            Classifier::load("that forwards", &code, &descriptors).unwrap_or_else(|e| panic!("{e}"))
        };
        let (forward, reply) = (load(Some(1), None), load(None, Some(1)));
        for whose in HOP_BY_KERNEL {
            let hop = Hop { whose, fresh_ns: 0, mtu: 0, is_lost: false, macs: [0; 12] }.bytes();
            maps[InlineMap::Hops as usize].put(&whose.to_ne_bytes(), &hop).expect("a hop");
        }
        let settings = Settings { levels: 7, ..Settings::default() };
        maps[InlineMap::Settings as usize].put(&[0; 4], &settings.bytes()).expect("settings");
        Programs { maps, forward, reply }
    }

    fn rule(&self, ours: IpAddr, protocol: u8, next_host: IpAddr, source: IpAddr) {
        let has_ports = protocol == 6 || protocol == 17;
        let matched = Match { address: ours, protocol: Some(protocol), port: None };
        let next_port = has_ports.then_some(NEXT_PORT);
        let hop = HOP_BY_KERNEL[1];
        let rule = Rule { number: 1, hop, next_host, source, next_port };
        self.maps[InlineMap::Rules as usize].put(&matched.bytes(), &rule.bytes()).expect("a rule");
    }

    /// What a tuple becomes, by its session.
    fn becomes(&self, tuple: &Tuple) -> Tuple {
        let entry = self.maps[InlineMap::Sessions as usize].get(&tuple.bytes()).expect("an answer");
        let entry = entry.unwrap_or_else(|| panic!("no session of {tuple:?}"));
        Session::parse(&entry, tuple.protocol).expect("of its length").becomes
    }
}

fn run(program: &Classifier, frame: &[u8]) -> TestRun {
    program.test_run(frame, &TestRunOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// What is varied of a packet.
#[derive(Debug, Clone)]
struct Kind {
    is_v6: bool,
    protocol: u8,
    payload: Vec<u8>,
    options: usize,
    zero_checksum: bool,
    wrong_checksum: bool,
}

fn kind() -> impl Strategy<Value = Kind> {
    let payload = proptest::collection::vec(any::<u8>(), 0..200);
    (any::<bool>(), 0..4u8, payload, 0..3usize, any::<bool>(), any::<bool>()).prop_map(
        |(is_v6, protocol, payload, options, zero_checksum, wrong_checksum)| {
            let protocol = [6, 17, if is_v6 { 58 } else { 1 }, 47][usize::from(protocol)];
            Kind { is_v6, protocol, payload, options, zero_checksum, wrong_checksum }
        },
    )
}

/// A frame between two ends; of ICMP it is an echo request, or the reply.
fn frame(kind: &Kind, from: End, to: End, is_reply: bool) -> Vec<u8> {
    // Its destination is nobody's MAC, as that of loopback is.
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [0; 6]);
    let mut out = Vec::new();
    let payload = &kind.payload[..];
    let id = if is_reply { to.port } else { from.port };
    let ip = match (from.address, to.address) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = etherparse::Ipv4Header::new(
                0,
                64,
                kind.protocol.into(),
                from.octets(),
                to.octets(),
            )
            .expect("short");
            header.options = [1u8; 40][..4 * kind.options].try_into().expect("whole words");
            link.ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = etherparse::Ipv6Header {
                source: from.octets(),
                destination: to.octets(),
                hop_limit: 64,
                ..Default::default()
            };
            let options = etherparse::Ipv6RawExtHeader::new_raw(0.into(), &[0; 6]).expect("short");
            let extensions = etherparse::Ipv6Extensions {
                hop_by_hop_options: (kind.options > 0).then_some(options.clone()),
                destination_options: (kind.options > 1).then_some(options),
                ..Default::default()
            };
            link.ip(etherparse::IpHeaders::Ipv6(header, extensions))
        }
        _ => panic!("two versions"),
    };
    match (kind.protocol, is_reply) {
        (6, _) => ip.tcp(from.port, to.port, 7, 1000).ack(9).write(&mut out, payload),
        (17, _) => ip.udp(from.port, to.port).write(&mut out, payload),
        (1, false) => ip.icmpv4_echo_request(id, 3).write(&mut out, payload),
        (1, true) => ip.icmpv4_echo_reply(id, 3).write(&mut out, payload),
        (58, false) => ip.icmpv6_echo_request(id, 3).write(&mut out, payload),
        (58, true) => ip.icmpv6_echo_reply(id, 3).write(&mut out, payload),
        _ => {
            let padded = [payload, &[0x5a; 8]].concat();
            ip.write(&mut out, kind.protocol.into(), &padded)
        }
    }
    .expect("it fits");
    let reading = Reading::of(LinkType::ETHERNET, &out).expect("IP");
    let at = reading.transport_at as usize;
    let check = match kind.protocol {
        6 => Some(at + 16),
        17 => Some(at + 6),
        1 | 58 => Some(at + 2),
        _ => None,
    };
    if let Some(check) = check.filter(|_| kind.wrong_checksum) {
        out[check] ^= 0x41;
    }
    if kind.protocol == 17 && kind.zero_checksum {
        out[at + 6..at + 8].fill(0);
    }
    out
}

/// What `wire::translate` makes of a frame.
fn translated(frame: &[u8], source: (IpAddr, u16), destination: (IpAddr, u16)) -> Vec<u8> {
    translated_from(frame, source.0, source, destination)
}

/// The same of a frame that comes from another address than its session says.
fn translated_from(
    frame: &[u8],
    from: IpAddr,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let reading = Reading::of(LinkType::ETHERNET, &frame).expect("IP");
    let end = |(address, port)| End { address, port };
    let mapping = Mapping { source: end(source), destination: end(destination) };
    translate_from(&mut frame, &reading, &mapping, from, Hops::Lower);
    frame
}

/// Two checksums that mean the same may be 0 and ffff; all else is compared as it is.
fn assert_same(got: &[u8], wanted: &[u8], what: &str) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), wanted.len(), "{}", what);
    let mut at = 0;
    while at < got.len() {
        if got[at] != wanted[at] {
            let even = at & !1;
            let (one, two) = (&got[even..even + 2], &wanted[even..even + 2]);
            let is_zero = |word: &[u8]| word == [0, 0] || word == [0xff, 0xff];
            prop_assert!(
                is_zero(one) && is_zero(two),
                "{what}: byte {at}\ngot    {got:02x?}\nwanted {wanted:02x?}"
            );
            at = even + 1;
        }
        at += 1;
    }
    Ok(())
}

fn addresses(is_v6: bool, seeds: [u32; 4]) -> [IpAddr; 4] {
    let mut n = 0;
    seeds.map(|seed| {
        n += 1;
        match is_v6 {
            false => Ipv4Addr::from(0x0a00_0000 | n << 16 | (seed & 0xffff)).into(),
            true => {
                let prefix = (0x2001_0db8_0000_0000 | u128::from(n)) << 64;
                Ipv6Addr::from(prefix | u128::from(seed)).into()
            }
        }
    })
}

fn equal(
    programs: &Programs,
    kind: &Kind,
    seeds: [u32; 4],
    port: u16,
) -> Result<(), TestCaseError> {
    let [client, ours, source, next] = addresses(kind.is_v6, seeds);
    programs.rule(ours, kind.protocol, next, source);
    let has_ports = kind.protocol == 6 || kind.protocol == 17;
    let is_query = kind.protocol == 1 || kind.protocol == 58;
    let from_port = if has_ports || is_query { port } else { 0 };
    let to_port = if has_ports { 4711 } else { 0 };
    let end = |address, port| End { address, port };
    let sent = frame(kind, end(client, from_port), end(ours, to_port), false);
    let tuple = Tuple {
        source: client,
        destination: ours,
        source_port: from_port,
        destination_port: to_port,
        protocol: kind.protocol,
    };
    let passed = run(&programs.forward, &sent);
    prop_assert_eq!(passed.value, REDIRECT, "{:?}", kind);
    let becomes = programs.becomes(&tuple);
    prop_assert_eq!((becomes.source, becomes.destination), (source, next));
    // An identifier belongs to both ends.
    let next_port = if is_query { becomes.source_port } else { becomes.destination_port };
    let wanted = translated(&sent, (source, becomes.source_port), (next, next_port));
    assert_same(&passed.packet, &wanted, "there")?;

    let far = end(next, becomes.destination_port);
    let answered = frame(kind, far, end(source, becomes.source_port), true);
    let back = run(&programs.reply, &answered);
    prop_assert_eq!(back.value, REDIRECT);
    let ours_port = if is_query { from_port } else { to_port };
    let wanted = translated(&answered, (ours, ours_port), (client, from_port));
    assert_same(&back.packet, &wanted, "back")?;

    // A router behind us says that the packet did not arrive.
    let reading = Reading::of(LinkType::ETHERNET, &passed.packet).expect("IP");
    let router = addresses(kind.is_v6, [9, 9, 9, 99])[3];
    let mut out = [0; 2000];
    if let Some(len) = answer(&passed.packet, &reading, Answer::TimeExceeded, router, &mut out) {
        let mut told = out[..len].to_vec();
        told[..6].fill(0);
        let back = run(&programs.reply, &told);
        prop_assert_eq!(back.value, REDIRECT, "an error about {:?}", kind);
        // It stays the router's.
        let wanted = translated_from(&told, router, (ours, ours_port), (client, from_port));
        assert_same(&back.packet, &wanted, "an error")?;
        // Not one that belongs to no session.
        let at = if kind.is_v6 { 14 + 24 } else { 14 + 16 };
        told[at] ^= 1;
        prop_assert_eq!(run(&programs.reply, &told).value, NEXT);
    }
    Ok(())
}

#[test]
fn packets_both_ways_and_errors_about_them() {
    if !rig::root_or_skip() {
        return;
    }
    let programs = Programs::new();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 600,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let cases = (kind(), any::<[u32; 4]>(), 1..u16::MAX);
    runner
        .run(&cases, |(kind, seeds, port)| equal(&programs, &kind, seeds, port))
        .unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn what_is_not_for_it_stays_as_it_is() {
    if !rig::root_or_skip() {
        return;
    }
    let programs = Programs::new();
    let [client, ours, source, next] = addresses(false, [1, 2, 3, 4]);
    programs.rule(ours, 6, next, source);
    let kind = Kind {
        is_v6: false,
        protocol: 6,
        payload: vec![7; 100],
        options: 0,
        zero_checksum: false,
        wrong_checksum: false,
    };
    let end = |address, port| End { address, port };
    let mut other = frame(&kind, end(client, 5), end(next, 80), false);
    let check = |frame: &[u8]| {
        for program in [&programs.forward, &programs.reply] {
            let ran = run(program, frame);
            assert_eq!((ran.value, &ran.packet[..]), (NEXT, frame));
        }
    };
    check(&other);
    // Cut off; not IP, no version, a header that is too short.
    for len in [34, 37, 41] {
        check(&other[..len]);
    }
    for (at, byte) in [(12, 0x42), (14, 0x55), (14, 0x44)] {
        let before = std::mem::replace(&mut other[at], byte);
        check(&other);
        other[at] = before;
    }
    let udp = Kind { protocol: 17, ..kind.clone() };
    check(&frame(&udp, end(client, 5), end(ours, 80), false));
    // Another host's.
    let mut foreign = frame(&kind, end(client, 5), end(ours, 80), false);
    foreign[5] = 9;
    check(&foreign);
}
