//! Dispatchers on a link: tags in metadata, programs of others beside ours, clones, own tunnels.

mod dispatcher;
mod programs;
mod sender;

use dispatcher::{Loaded, expression, ruled, taps_of};
use filter::ebpf::{Alu, Assembler, Bits, Code, Condition, Helper, MapRef, Register, Width};
use filter::{Action, Direction, Program, Rules};
use io::bpf::{Classifier, Link, Map, MapKind, Way};
use kernel::mirror::layout::{
    MirrorMap, SKB_TC_INDEX, SlotCounter, TC_INDEX_SENT, TapCounter, far_end_keys,
};
use kernel::mirror::{DispatcherOptions, DispatcherTap, Private, dispatcher};
use nix::net::if_::if_nametoindex;
use rig::rules::Random;
use rig::{Host, Topology};
use sender::sender;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;
use wire::flow::{self, flow_hash};
use wire::walk::Walk;
use wire::{LinkType, metadata};

const SOON: Duration = Duration::from_secs(5);
const NEXT: i32 = -1;
const DROP: i32 = 2;

/// The places of a [`witness`]: what `tc_index` it sees.
const WITNESSED: u32 = 1 << 16;

/// A program that counts the packets of each `tc_index`, and returns a number.
fn witness(returns: i32) -> (Classifier, Map) {
    use Register::{R0, R1, R2, R3, R6, R10};
    let mut asm = Assembler::new();
    let end = asm.label();
    asm.copy(R6, R1);
    asm.load(Width::B4, R1, R6, SKB_TC_INDEX);
    asm.store(Width::B4, R10, -8, R1);
    asm.map_address(R1, MapRef(0));
    asm.copy(R2, R10);
    asm.alu(Bits::B64, Alu::Add, R2, -8);
    asm.call(Helper::MAP_LOOKUP);
    asm.jump_if(Bits::B64, Condition::Equal, R0, 0, end);
    asm.copy(R3, 1);
    asm.atomic_add(Width::B8, R0, 0, R3, false);
    asm.bind(end);
    asm.copy(R0, returns);
    asm.exit();
    let map = Map::new(MapKind::Array, 4, 8, WITNESSED).expect("it is made");
    let code = asm.finish().expect("it is sound");
    let program = Classifier::load("that counts", &code, &[map.as_fd()]);
    (program.unwrap_or_else(|e| panic!("{e}")), map)
}

/// How many packets of a `tc_index` a witness has seen.
fn witnessed(map: &Map, tc_index: u32) -> u64 {
    map.words(tc_index).expect("it is read")[0]
}

/// A program that sets `tc_index`.
fn marks(tc_index: u16) -> Code {
    let mut asm = Assembler::new();
    asm.copy(Register::R6, Register::R1);
    asm.copy(Register::R1, i32::from(tc_index));
    asm.store(Width::B4, Register::R6, SKB_TC_INDEX, Register::R1);
    asm.copy(Register::R0, NEXT);
    asm.exit();
    asm.finish().expect("it is sound")
}

fn attach(host: &Host, program: &Classifier, interface: &str, way: Way) -> Link {
    let attached = host.netns.run(|| program.attach(index(interface) as i32, way));
    attached.expect("the namespace is there").unwrap_or_else(|e| panic!("{e}"))
}

/// The index of an interface of the calling thread's namespace.
fn index(interface: &str) -> u32 {
    if_nametoindex(interface).expect("the interface is there")
}

fn send(from: &Host, interface: &str, frames: &[Vec<u8>]) {
    let run = from.netns.run(|| {
        let mut sender = sender(interface);
        for frame in frames {
            assert_eq!(sender.write(frame).expect("it is sent"), frame.len());
        }
    });
    run.expect("the namespace is there");
}

/// Sends frames, no more at once than a CPU's queue holds beside those of other tests, and waits until
/// `seen` says that they have passed.
fn send_all(from: &Host, interface: &str, frames: &[Vec<u8>], seen: impl Fn() -> u64) {
    let mut sent = seen();
    for some in frames.chunks(50) {
        send(from, interface, some);
        sent += some.len() as u64;
        rig::wait_until("all packets have passed", SOON, || seen() >= sent);
    }
}

/// Packets that a tap has counted.
fn counted(loaded: &Loaded) -> u64 {
    loaded.decided(0).iter().sum()
}

/// Whether a frame passes a link: the kernel refuses a tag without what it is for.
fn passes(frame: &[u8]) -> bool {
    let is_tagged = matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]));
    (if is_tagged { 20 } else { 15 }..=1514).contains(&frame.len())
}

fn is_tagged(frame: &[u8]) -> bool {
    matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xa8])
}

/// Loads that the tag concerns: at the offsets around it, fixed and indexed, and the length.
fn around_the_tag(random: &mut programs::Random) -> Program {
    use filter::{Instruction, op};
    let size = random.one(&[op::W, op::H, op::B]);
    let (at, indexed) = (10 + random.below(9), random.below(2) == 1);
    let load = if indexed {
        let x = random.below(at + 1);
        vec![
            Instruction::new(op::LDX | op::IMM, 0, 0, x),
            Instruction::new(op::LD | size | op::IND, 0, 0, at - x),
        ]
    } else {
        vec![Instruction::new(op::LD | size | op::ABS, 0, 0, at)]
    };
    let end = [
        Instruction::new(op::MISC | op::TAX, 0, 0, 0),
        Instruction::new(op::LD | op::LEN, 0, 0, 0),
        Instruction::new(op::ALU | op::ADD | op::X, 0, 0, 0),
        Instruction::new(op::JMP | op::JSET | op::K, 0, 1, 1 << random.below(8)),
        Instruction::new(op::RET | op::K, 0, 0, 1),
        Instruction::new(op::RET | op::K, 0, 0, 0),
    ];
    Program::new([load, end.to_vec()].concat()).expect("it is a program")
}

#[test]
fn a_tag_beside_the_packet_is_where_it_was_on_the_wire() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["far", "tapped"]).build();
    let (far, tapped) = (net.host("far"), net.host("tapped"));
    let mut random = programs::Random::new(0x3831_3030);
    let (mut tags, mut apart) = (0, 0);
    for _ in 0..25 {
        let mut taps: Vec<Program> = (0..30).map(|_| around_the_tag(&mut random)).collect();
        taps.extend((0..20).map(|_| random.program()));
        let options = taps_of(Direction::In, taps.iter().map(expression).collect());
        let loaded = Loaded::new(&dispatcher(&options).unwrap(), &vec![0; taps.len()]);
        let link = attach(tapped, &loaded.program, "far", Way::Ingress);
        let mut frames: Vec<_> = (0..150).map(|_| programs::headed(&mut random)).collect();
        for frame in &mut frames {
            frame.truncate(1514);
        }
        frames.retain(|frame| passes(frame));
        tags += frames.iter().filter(|frame| is_tagged(frame)).count();
        send_all(far, "tapped", &frames, || counted(&loaded));
        drop(link);
        for (n, program) in taps.iter().enumerate() {
            let matches = |frame: &&Vec<u8>| program.matches(frame, frame.len() as u32);
            let matched = frames.iter().filter(matches).count();
            let filtered = frames.len() - matched;
            apart += usize::from(matched > 0 && filtered > 0);
            let expected = [filtered as u64, matched as u64, 0, 0, 0];
            assert_eq!(loaded.decided(n), expected, "{program}");
            let bytes: usize = frames.iter().filter(matches).map(Vec::len).sum();
            assert_eq!(loaded.counter(n, TapCounter::MatchedBytes), bytes as u64, "{program}");
        }
    }
    assert!(tags > 500 && apart > 200, "{tags} tagged frames, {apart} programs tell frames apart");
}

#[test]
fn expressions_and_rules_on_tagged_frames() {
    let is_there = io::libpcap::version().is_ok() || rig::tool_or_skip("libpcap");
    if !rig::root_or_skip() || !is_there {
        return;
    }
    let net = Topology::line(["far", "tapped"]).build();
    let (far, tapped) = (net.host("far"), net.host("tapped"));
    let compile = |expression| io::libpcap::compile(expression, LinkType::ETHERNET, 0).unwrap();
    let expressions: Vec<Program> = programs::EXPRESSIONS.map(compile).into();
    let mut random = Random::new(0x6c69_7374);
    let lists: Vec<Rules> = (0..15).map(|_| random.rules(20)).collect();
    let compile = |rules: &Rules| rules.compile(LinkType::ETHERNET, Direction::In).unwrap();
    let ruled_by: Vec<Program> = lists.iter().map(compile).collect();
    let taps = expressions.iter().map(expression);
    let taps =
        taps.chain(ruled_by.iter().zip(&lists).map(|(program, rules)| ruled(program, rules)));
    let code = dispatcher(&taps_of(Direction::In, taps.collect())).unwrap();
    let first = expressions.len();
    let loaded = Loaded::new(&code, &[vec![0; first], vec![20; lists.len()]].concat());
    let _link = attach(tapped, &loaded.program, "far", Way::Ingress);

    let mut headed = programs::Random::new(0x7461_6773);
    let mut frames: Vec<_> = (0..1000).map(|_| programs::headed(&mut headed)).collect();
    frames.extend((0..1000).map(|_| random.frame(LinkType::ETHERNET)));
    for frame in &mut frames {
        frame.truncate(1514);
    }
    frames.retain(|frame| passes(frame));
    for tpid in [[0x81, 0x00], [0x88, 0xa8]] {
        let of = |frame: &&Vec<u8>| frame[12..14] == tpid;
        assert!(frames.iter().filter(of).count() > 100, "{tpid:02x?}");
    }
    send_all(far, "tapped", &frames, || counted(&loaded));
    for (n, program) in expressions.iter().enumerate() {
        let matches = |frame: &&Vec<u8>| program.matches(frame, frame.len() as u32);
        let matched = frames.iter().filter(matches).count() as u64;
        let expected = [frames.len() as u64 - matched, matched, 0, 0, 0];
        assert_eq!(loaded.decided(n), expected, "`{}`", programs::EXPRESSIONS[n]);
    }
    for (n, (program, rules)) in ruled_by.iter().zip(&lists).enumerate() {
        let (mut hits, mut decided) = (vec![0; 20], [0; 5]);
        for frame in &frames {
            let rule = program.run(frame, frame.len() as u32);
            decided[usize::from(rules.action(rule) == Some(Action::Include))] += 1;
            if rule > 0 {
                hits[rule as usize - 1] += 1;
            }
        }
        assert_eq!(loaded.rule_hits(first + n), hits, "{rules:?}");
        assert_eq!(loaded.decided(first + n), decided, "{rules:?}");
    }
}

#[test]
fn programs_of_others_see_every_packet() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["far", "tapped"]).build();
    let (far, tapped) = (net.host("far"), net.host("tapped"));
    let mut random = Random::new(0x0066_6f72_6569_676e);
    let rules = random.rules(40);
    for (direction, way, from, to) in
        [(Direction::In, Way::Ingress, far, "tapped"), (Direction::Out, Way::Egress, tapped, "far")]
    {
        let program = rules.compile(LinkType::ETHERNET, direction).unwrap();
        // Clones cannot be made: what becomes of them is nothing to the packet.
        let tap = DispatcherTap { slots: vec![1, 2], ..ruled(&program, &rules) };
        let code = dispatcher(&taps_of(direction, vec![tap])).unwrap();
        let loaded = Loaded::new(&code, &[40]);
        let (before, behind) = (witness(NEXT), witness(NEXT));
        let _links = [&before.0, &loaded.program, &behind.0]
            .map(|program| attach(tapped, program, "far", way));
        // Shorter than any load, too.
        let mut frames: Vec<_> = (15..60).map(|len| vec![0; len]).collect();
        frames.extend((0..500).map(|_| random.frame(LinkType::ETHERNET)));
        for frame in &mut frames {
            frame.truncate(1514);
        }
        frames.retain(|frame| passes(frame));
        send_all(from, to, &frames, || witnessed(&behind.1, 0));
        let sent = frames.len() as u64;
        assert_eq!([witnessed(&before.1, 0), witnessed(&behind.1, 0)], [sent, sent]);
        let [filtered, matched, ..] = loaded.decided(0);
        assert!(filtered > 20 && matched > 20, "{filtered} filtered, {matched} matched");
        assert_eq!(filtered + matched, sent);
        for slot in [1, 2] {
            assert_eq!(loaded.slot(slot, SlotCounter::NotHanded), matched);
            assert_eq!(loaded.slot(slot, SlotCounter::Handed), 0);
        }
    }
}

/// An IPv4 or IPv6 packet in Ethernet behind tags.
fn ip(tags: &[u16], to: IpAddr, protocol: u8, offset: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1];
    for tpid in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend([0, 7]);
    }
    match to {
        IpAddr::V4(to) => {
            let len = 20 + payload.len() as u16;
            frame.extend([8, 0, 0x45, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([0, 1]);
            frame.extend((offset / 8).to_be_bytes());
            frame.extend([64, protocol, 0, 0, 10, 0, 0, 1]);
            frame.extend(to.octets());
        }
        IpAddr::V6(to) => {
            let is_fragment = offset > 0;
            let len = payload.len() as u16 + if is_fragment { 8 } else { 0 };
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([if is_fragment { 44 } else { protocol }, 64]);
            frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            frame.extend(to.octets());
            if is_fragment {
                frame.extend([protocol, 0]);
                frame.extend(offset.to_be_bytes());
                frame.extend([0, 0, 0, 1]);
            }
        }
    }
    frame.extend(payload);
    frame
}

fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = [from.to_be_bytes(), to.to_be_bytes()].concat();
    packet.extend((8 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// GENEVE with an option of a class.
fn geneve(class: u16) -> Vec<u8> {
    let mut packet = vec![8, 0, 0x65, 0x58, 0, 0, 1, 0];
    packet.extend(class.to_be_bytes());
    packet.extend([1, 7]);
    packet.extend([0; 60]);
    packet
}

/// Packets, and whether they are own tunnels where 10.9.0.1 and fd09::1 are far ends of VXLAN on port
/// 4789 and of GRE.
fn own_and_others() -> Vec<(bool, Vec<u8>)> {
    let (mut all, vxlan) = (Vec::new(), [8, 0, 0, 0, 0, 0, 1, 0]);
    let vxlan = [&vxlan[..], &[0; 60]].concat();
    for (ends, others) in
        [(["10.9.0.1", "10.9.0.2"]), (["fd09::1", "fd09::2"])].map(|n| (n[0], n[1]))
    {
        let [end, other]: [IpAddr; 2] =
            [ends, others].map(|text| text.parse().expect("an address"));
        for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100]] {
            let to = |to, protocol, offset, payload: &[u8]| ip(tags, to, protocol, offset, payload);
            all.extend([
                (true, to(end, 17, 0, &udp(0xc000, 4789, &vxlan))),
                (true, to(end, 17, 0, &udp(0xffff, 4789, &[]))),
                (false, to(end, 17, 0, &udp(0xbfff, 4789, &vxlan))),
                (false, to(end, 17, 0, &udp(0xc000, 4790, &vxlan))),
                (false, to(other, 17, 0, &udp(0xc000, 4789, &vxlan))),
                // A later fragment; of another host.
                (true, to(end, 17, 1480, &vxlan)),
                (false, to(other, 17, 1480, &vxlan)),
                (true, to(end, 47, 0, &[0; 40])),
                (true, to(end, 47, 1480, &[0; 40])),
                (false, to(other, 47, 0, &[0; 40])),
                (false, to(end, 6, 0, &[0; 40])),
                (false, to(end, 50, 0, &[0; 40])),
                // Another process's, by its look.
                (true, to(other, 17, 0, &udp(0xc000, 6081, &geneve(metadata::CLASS)))),
                (false, to(other, 17, 0, &udp(0xbfff, 6081, &geneve(metadata::CLASS)))),
                (false, to(other, 17, 0, &udp(0xc000, 6081, &geneve(0x0102)))),
                (false, to(other, 17, 0, &udp(0xc000, 6081, &geneve(metadata::CLASS)[..8]))),
            ]);
            // VXLAN of another process, which is known without tags in band, and a single one is not in
            // band on receipt; and from a port that is not the flow's.
            for inner in inner_frames().into_iter().filter(|_| tags.len() != 1) {
                let port =
                    flow::source_port(flow_hash(&Walk::new(LinkType::ETHERNET, &inner), &inner));
                let payload = [&vxlan[..8], &inner].concat();
                let is_seen = tags.is_empty();
                all.push((is_seen, to(other, 17, 0, &udp(port, 4789, &payload))));
                all.push((false, to(other, 17, 0, &udp(port ^ 1, 4789, &payload))));
            }
            let mut cut = to(end, 17, 0, &udp(0xc000, 4789, &vxlan));
            cut.truncate(cut.len() - vxlan.len() - 1);
            all.push((false, cut));
        }
    }
    all.push((false, vec![0; 60]));
    all
}

/// Frames in tunnels: likely ones, and others.
fn inner_frames() -> Vec<Vec<u8>> {
    let [v4, v6]: [IpAddr; 2] =
        ["10.1.0.1", "fd01::1"].map(|text| text.parse().expect("an address"));
    vec![
        ip(&[], v4, 17, 0, &udp(1000, 53, &[0; 30])),
        ip(&[], v6, 17, 0, &udp(1000, 53, &[0; 30])),
        ip(&[0x8100], v4, 6, 0, &[7; 40]),
        ip(&[], v6, 6, 800, &[7; 40]),
        ip(&[], v4, 1, 0, &[8, 0, 0, 0, 1, 2, 3, 4]),
        vec![3; 60],
    ]
}

fn far_ends(loaded: &Loaded) {
    for address in ["10.9.0.1", "fd09::1"] {
        let address = address.parse().expect("an address");
        for (protocol, port) in [(17, 4789), (47, 0)] {
            for key in far_end_keys(address, protocol, port) {
                loaded.map(MirrorMap::FarEnds).put(&key, &[0; 4]).expect("there is room");
            }
        }
    }
}

#[test]
fn own_tunnels_are_not_mirrored() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["far", "tapped"]).build();
    let (far, tapped) = (net.host("far"), net.host("tapped"));
    let all = Program::constant(1);
    let looks = || expression(&all);
    let does_not_look = || DispatcherTap { skips_own_tunnels: false, ..expression(&all) };
    let late = DispatcherTap { scope: None, ..expression(&all) };
    let taps = |direction| taps_of(direction, vec![looks(), does_not_look(), late.clone()]);
    let sent = Loaded::new(&dispatcher(&taps(Direction::Out)).unwrap(), &[0; 3]);
    let received = Loaded::new(&dispatcher(&taps(Direction::In)).unwrap(), &[0; 3]);
    let on_loopback = DispatcherOptions { is_loopback: true, ..taps(Direction::In) };
    let on_loopback = Loaded::new(&dispatcher(&on_loopback).unwrap(), &[0; 3]);
    [&sent, &received, &on_loopback].into_iter().for_each(far_ends);
    let mut links = vec![attach(tapped, &sent.program, "far", Way::Egress)];
    links.push(attach(far, &received.program, "tapped", Way::Ingress));
    links.push(attach(far, &on_loopback.program, "tapped", Way::Ingress));

    let (mut own, mut others) = (0, 0);
    for (n, (is_own, frame)) in own_and_others().into_iter().enumerate() {
        // Behind the others.
        send_all(tapped, "far", std::slice::from_ref(&frame), || counted(&on_loopback));
        own += u64::from(is_own);
        others += u64::from(!is_own);
        assert_eq!(sent.decided(0), [0, others, own, 0, 0], "packet {n}: {frame:02x?}");
        assert_eq!(on_loopback.decided(0), [0, others, own, 0, 0], "packet {n}: {frame:02x?}");
    }
    assert_eq!(sent.decided(1), [0, own + others, 0, 0, 0]);
    assert_eq!(received.decided(0), [0, own + others, 0, 0, 0]);

    // A clone under way to its sink is known before anything else of it.
    drop(links);
    let marks = Classifier::load("that marks", &marks(TC_INDEX_SENT), &[]).unwrap();
    let _links = [&marks, &sent.program].map(|program| attach(tapped, program, "far", Way::Egress));
    send_all(tapped, "far", &[vec![0; 60]], || counted(&sent));
    assert_eq!(sent.decided(0), [0, others, own + 1, 0, 0]);
}

#[test]
fn an_own_tunnel_is_no_matter_of_late_judgement() {
    if !rig::root_or_skip() {
        return;
    }
    let any = around_the_tag(&mut programs::Random::new(1));
    let late = DispatcherTap { scope: None, late_slots: vec![1], ..expression(&any) };
    let options = DispatcherOptions { is_loopback: true, ..taps_of(Direction::In, vec![late]) };
    let loaded = Loaded::new(&dispatcher(&options).unwrap(), &[0]);
    far_ends(&loaded);
    let run = |frame: &[u8]| loaded.program.test_run(frame, &Default::default()).expect("it runs");
    let own = ip(&[], "10.9.0.1".parse().unwrap(), 47, 0, &[0; 40]);
    run(&own);
    run(&[0; 60]);
    assert_eq!(loaded.decided(0), [0, 0, 1, 0, 1]);
    assert_eq!(loaded.slot(1, SlotCounter::NotHanded), 1);
}

#[test]
fn each_target_gets_a_clone_that_says_whose_it_is() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["far", "tapped"]).build();
    let (far, tapped) = (net.host("far"), net.host("tapped"));
    tapped.ip("link add private type veth peer name behind");
    tapped.ip("link set private up");
    tapped.ip("link set behind up");
    let private = tapped.netns.run(|| index("private")).unwrap();
    let private = Private { entry: private, near: Some(private) };

    let udp_only = io::libpcap::compile("udp", LinkType::ETHERNET, 0);
    let udp_only = udp_only.unwrap_or_else(|_| Program::constant(1));
    let (all, none) = (Program::constant(1), Program::constant(0));
    let taps = || {
        vec![
            DispatcherTap { slots: vec![1, 2], ..expression(&udp_only) },
            DispatcherTap { slots: vec![3], ..expression(&all) },
            DispatcherTap { slots: vec![4], ..expression(&none) },
            DispatcherTap { late_slots: vec![5], scope: None, ..expression(&udp_only) },
        ]
    };
    let code = |direction| {
        let options = taps_of(direction, taps());
        dispatcher(&DispatcherOptions { private, ..options }).unwrap()
    };
    let loaded = Loaded::new(&code(Direction::Out), &[0; 4]);
    let received = loaded.also(&code(Direction::In));
    let (collects, clones) = witness(DROP);
    let (behind, packets) = witness(NEXT);
    let _links = [
        attach(tapped, &loaded.program, "far", Way::Egress),
        attach(tapped, &behind, "far", Way::Egress),
        attach(tapped, &received, "far", Way::Ingress),
        attach(tapped, &behind, "far", Way::Ingress),
        attach(tapped, &collects, "private", Way::Egress),
    ];

    let to = "10.9.0.9".parse().expect("an address");
    let mut frames = Vec::new();
    for _ in 0..20 {
        frames.push(ip(&[0x8100], to, 17, 0, &udp(1, 2, &[0; 20])));
        frames.push(ip(&[], to, 17, 0, &udp(1, 2, &[0; 20])));
    }
    send_all(tapped, "far", &frames, || witnessed(&packets, 0));
    send_all(far, "tapped", &frames, || witnessed(&packets, 0));
    // Those with a tag are no UDP to an expression.
    let udp_matched = if io::libpcap::version().is_ok() { 20 } else { 40 };
    assert_eq!(loaded.decided(0), [2 * (40 - udp_matched), 2 * udp_matched, 0, 0, 0]);
    assert_eq!(loaded.decided(1), [0, 80, 0, 0, 0]);
    assert_eq!(loaded.decided(2), [80, 0, 0, 0, 0]);
    assert_eq!(loaded.decided(3), [0, 0, 0, 0, 80]);
    for (slot, each_way) in [(1, udp_matched), (2, udp_matched), (3, 40), (4, 0), (5, 40)] {
        assert_eq!(loaded.slot(slot, SlotCounter::Handed), 2 * each_way, "slot {slot}");
        let ways = [0, 1].map(|sent| witnessed(&clones, slot << 1 | sent));
        assert_eq!(ways, [each_way; 2], "received and sent of slot {slot}");
    }
}
