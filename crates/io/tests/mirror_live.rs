//! Mirrors in the kernel: every packet once, through changes of targets, ways and interfaces.

mod mirror;

use io::Now;
use io::Source;
use io::mirror::{AttachBy, KernelMirror, MirrorOptions, TargetOptions};
use mirror::{Collector, VXLAN_PORT, mirror as mirror_of, numbers, one, open, tap, vxlan};
use rig::{Generator, Topology};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(5);

fn line() -> Topology {
    let net = Topology::line(["client", "tapped", "sink"]).mtu(9000).build();
    net.host("client").ip("link set tapped mtu 1500");
    net.host("tapped").ip("link set client mtu 1500");
    net
}

/// Ticks while a function runs on another thread.
fn while_ticking<R: Send>(mirror: &mut KernelMirror, run: impl FnOnce() -> R + Send) -> R {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let result = run();
            done.store(true, Ordering::Relaxed);
            result
        });
        while !done.load(Ordering::Relaxed) {
            mirror.tick(Now::read());
            std::thread::sleep(Duration::from_millis(20));
        }
        running.join().expect("it does not panic")
    })
}

#[test]
fn each_packet_reaches_its_tunnel_once_and_the_counters_balance() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let member = vxlan(sink.v4("tapped").into(), 0x0abcde);
    let (mut mirror, tap, target) = mirror_of(tapped, "client", member);
    let shown = tapped.ip("-d link show");
    assert!(shown.contains("tapline0") && shown.contains("mtu 65535"), "{shown}");

    let sent = Generator::new(20_000, 2000)
        .flows(7)
        .run_in(&client.netns, (tapped.v4("client"), 9).into());

    mirror.stop();
    let frames = collector.frames();
    assert!(frames.iter().all(|(vni, _)| *vni == 0x0abcde));
    let numbers = numbers(&frames);
    assert_eq!(rig::missing(&numbers, sent.accepted), [0; 0]);
    assert_eq!(rig::duplicates(&numbers), [0; 0]);
    let seen = mirror.tap_counters(tap).expect("counters");
    let counters = mirror.target_counters(target).expect("counters");
    // An ICMP error may go back for a packet to a port where nobody is.
    assert_eq!(seen.matched, frames.len() as u64, "{seen:?}");
    assert_eq!((seen.filtered, seen.own_tunnel, seen.late), (0, 0, 0), "{seen:?}");
    assert_eq!((counters.handed, counters.arrived), (seen.matched, seen.matched), "{counters:?}");
    let [member] = counters.members[..] else { panic!("one endpoint: {counters:?}") };
    assert_eq!((member.matched, member.sent), (seen.matched, seen.matched), "{member:?}");
    assert_eq!(member.settled(), member.matched, "{member:?}");
    let bytes: usize = frames.iter().map(|(_, frame)| frame.len()).sum();
    assert_eq!((member.sent_bytes, seen.matched_bytes), (bytes as u64, bytes as u64));
}

#[test]
fn super_packets_leave_as_the_wire_s_frames() {
    if !rig::root_or_skip() {
        return;
    }
    const BYTES: usize = 2 << 20;
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let member = vxlan(sink.v4("tapped").into(), 1);
    let (mut mirror, _, target) = mirror_of(tapped, "client", member);

    let to = (tapped.v4("client"), 5001).into();
    rig::exchange(&client.netns, &tapped.netns, to, BYTES);

    mirror.stop();
    let counters = mirror.target_counters(target).expect("counters");
    assert_eq!((counters.missing, counters.not_handed), (0, 0), "{counters:?}");
    let frames = collector.frames();
    assert_eq!(counters.members[0].sent, frames.len() as u64, "{counters:?}");
    let mut payload = 0;
    for (_, frame) in &frames {
        assert!(frame.len() <= 1514, "{} bytes", frame.len());
        if frame[12..14] == [8, 0] && frame[23] == 6 {
            assert!(is_complete(frame), "{frame:02x?}");
            let tcp = &frame[34..14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]))];
            payload += tcp.len() - usize::from(tcp[12] >> 4) * 4;
        }
    }
    assert!(payload >= 2 * BYTES, "{payload} bytes of TCP in {} frames", frames.len());
}

#[test]
fn however_many_super_packets_come_all_arrive() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let (mut mirror, _, target) = mirror_of(tapped, "client", vxlan(sink.v4("tapped").into(), 1));
    let to = (tapped.v4("client"), 5001).into();
    rig::exchange(&client.netns, &tapped.netns, to, 30 << 20);
    mirror.stop();
    let counters = mirror.target_counters(target).expect("counters");
    // There is no queue that they could fill.
    assert_eq!((counters.missing, counters.not_handed), (0, 0), "{counters:?}");
    assert!(counters.arrived > (60 << 20) / 1448, "{counters:?}");
}

/// Whether the checksum of TCP over IPv4 without options is right.
fn is_complete(frame: &[u8]) -> bool {
    let ip = &frame[14..14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]))];
    let tcp = &ip[20..];
    let mut pseudo = ip[12..20].to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend((tcp.len() as u16).to_be_bytes());
    pseudo.extend(tcp);
    pseudo.resize(pseudo.len().next_multiple_of(2), 0);
    let sum: u32 =
        pseudo.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    (sum & 0xffff) + (sum >> 16) == 0xffff || ((sum & 0xffff) + (sum >> 16)) == 0x1fffe
}

#[test]
fn a_target_changes_between_two_packets() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let member = |vni| vxlan(sink.v4("tapped").into(), vni);
    let (mut mirror, id, target) = mirror_of(tapped, "client", member(1));

    let to = (tapped.v4("client"), 9).into();
    let generator = Generator::new(5_000, 1_000_000).flows(40);
    let changed = AtomicBool::new(false);
    let goes_on = || !changed.load(Ordering::Relaxed);
    let (sent, gone) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| generator.run_while(&client.netns, to, goes_on));
        let (mut gone, mut next) = (0, 2);
        while next < 9 {
            std::thread::sleep(Duration::from_millis(50));
            // One endpoint, then a group of two of which one stays, then a table that is all its.
            let options = match next % 3 {
                0 => one(member(next)),
                _ => TargetOptions {
                    snaplen: 0,
                    members: vec![member(next), member(next - 1)],
                    table: Some((0..1 << 14).map(|slot| slot % 2).collect()),
                },
            };
            let left = mirror.set_target(target, &options).expect("a change");
            gone += left.iter().map(|(_, counters)| counters.sent).sum::<u64>();
            if options.members.len() == 2 {
                mirror.set_table(target, Some(&[0; 1 << 14])).expect("a table");
            }
            mirror.set_taps("client", vec![tap(id, &[target])]).expect("taps");
            mirror.tick(Now::read());
            next += 1;
        }
        changed.store(true, Ordering::Relaxed);
        (sending.join().expect("it sends"), gone)
    });

    mirror.stop();
    let frames = collector.frames();
    let numbers = numbers(&frames);
    assert_eq!(rig::missing(&numbers, sent.accepted), [0; 0]);
    assert_eq!(rig::duplicates(&numbers), [0; 0]);
    let vnis: std::collections::BTreeSet<u32> = frames.iter().map(|(vni, _)| *vni).collect();
    assert!(vnis.len() >= 4, "{vnis:?}");
    let counters = mirror.target_counters(target).expect("counters");
    let now: u64 = counters.members.iter().map(|member| member.sent).sum();
    assert_eq!(gone + now, frames.len() as u64, "{counters:?}");
}

#[test]
fn a_group_without_a_healthy_member_drops_and_counts() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let mut mirror = open(tapped, MirrorOptions::default());
    let slots = 1u16 << 14;
    let options = TargetOptions {
        snaplen: 0,
        members: [1, 2].map(|vni| vxlan(sink.v4("tapped").into(), vni)).into(),
        table: Some((0..slots).map(|slot| slot % 2).collect()),
    };
    let target = mirror.add_target(&options).expect("a target");
    let id = mirror.add_tap(0, None).expect("a tap");
    // One is found dead after the other; the packets count at those whose flows they are of.
    mirror.set_table(target, Some(&vec![1; slots.into()])).expect("a table");
    mirror.set_table(target, None).expect("a table");
    mirror.set_taps("client", vec![tap(id, &[target])]).expect("taps");
    let flows = Generator::new(20_000, 200).flows(60);
    let sent = flows.run_in(&client.netns, (tapped.v4("client"), 9).into());
    mirror.stop();
    let counters = mirror.target_counters(target).expect("counters");
    for member in &counters.members {
        assert!(member.unhealthy > 0 && member.sent == 0, "{member:?}");
        assert_eq!((member.matched, member.settled()), (member.unhealthy, member.unhealthy));
    }
    assert!(counters.members.iter().map(|member| member.unhealthy).sum::<u64>() >= sent.accepted);
}

#[test]
fn a_neighbour_s_new_address_is_followed_within_a_second() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    // Learnt, not written down: so it can become stale and be asked for.
    tapped.ip(&format!("neigh del {} dev sink", sink.v4("tapped")));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let (mut mirror, _, target) = mirror_of(tapped, "client", vxlan(sink.v4("tapped").into(), 1));
    let to = (tapped.v4("client"), 9).into();
    let generator = Generator::new(10_000, 500);
    while_ticking(&mut mirror, || generator.run_in(&client.netns, to));
    let before = mirror.target_counters(target).expect("counters").members[0];
    assert!(before.sent >= 500 && before.unreachable == 0, "{before:?}");

    sink.ip("link set tapped address 02:71:00:00:77:77");
    sink.ip("neigh flush all");
    tapped.ip(&format!("neigh replace {} lladdr 02:71:00:00:77:77 dev sink", sink.v4("tapped")));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(900) {
        mirror.tick(Now::read());
        std::thread::sleep(Duration::from_millis(50));
    }
    let sent = while_ticking(&mut mirror, || generator.run_in(&client.netns, to));
    mirror.stop();
    let frames = collector.frames();
    let last = &numbers(&frames)[500..];
    assert_eq!(rig::missing(last, sent.accepted), [0; 0]);
}

#[test]
fn a_neighbour_that_does_not_answer_is_counted() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped) = (net.host("client"), net.host("tapped"));
    let nobody = "10.71.1.77".parse().expect("an address");
    let (mut mirror, _, target) = mirror_of(tapped, "client", vxlan(nobody, 1));
    let sent = Generator::new(20_000, 200).run_in(&client.netns, (tapped.v4("client"), 9).into());
    mirror.stop();
    let member = mirror.target_counters(target).expect("counters").members[0];
    assert!(member.unreachable >= sent.accepted && member.sent == 0, "{member:?}");
}

#[test]
fn an_interface_may_go_and_come_back() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let (mut mirror, id, target) = mirror_of(tapped, "client", vxlan(sink.v4("tapped").into(), 1));
    tapped.ip("link del client");
    // Its taps may be set before it is missed.
    mirror.set_taps("client", vec![tap(id, &[target])]).expect("taps");
    assert!(!mirror.is_present("client"));
    rig::wait_until("the interface is missed", WAIT, || {
        mirror.tick(Now::read());
        !mirror.is_present("client")
    });
    client.netns.join("tapped", &tapped.netns, "client").expect("a new pair");
    let begun = Instant::now();
    rig::wait_until("the interface is tapped again", WAIT, || {
        mirror.tick(Now::read());
        mirror.is_present("client")
    });
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    for (host, interface, address) in
        [(client, "tapped", "10.71.0.1/24"), (tapped, "client", "10.71.0.2/24")]
    {
        host.ip(&format!("addr add {address} dev {interface}"));
    }
    let sent =
        Generator::new(10_000, 300).run_in(&client.netns, "10.71.0.2:9".parse().expect("one"));
    mirror.stop();
    assert_eq!(rig::missing(&numbers(&collector.frames()), sent.accepted), [0; 0]);
}

#[test]
fn a_private_interface_that_is_set_down_is_brought_up_again() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let (mut mirror, _, _) = mirror_of(tapped, "client", vxlan(sink.v4("tapped").into(), 1));
    let shown = tapped.ip("-br link show");
    let names = shown.lines().filter_map(|line| line.split(['@', ' ']).next());
    let names: Vec<&str> = names.filter(|name| name.starts_with("tapline")).collect();
    assert_eq!(names.len(), 2, "{shown}");
    for name in names {
        tapped.ip(&format!("link set {name} down"));
    }
    mirror.tick(Now::read());
    let to = (tapped.v4("client"), 9).into();
    let sent = Generator::new(10_000, 300).run_in(&client.netns, to);
    mirror.stop();
    assert_eq!(rig::missing(&numbers(&collector.frames()), sent.accepted), [0; 0]);
}

#[test]
fn filters_of_clsact_do_the_same_and_go_with_the_mirror() {
    if !rig::root_or_skip() || !rig::tool_or_skip("tc") {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let options = MirrorOptions { attach_by: AttachBy::Clsact, ..MirrorOptions::default() };
    let mut mirror = open(tapped, options);
    let target = mirror.add_target(&one(vxlan(sink.v4("tapped").into(), 1))).expect("a target");
    let id = mirror.add_tap(0, None).expect("a tap");
    let filters = || {
        let run = |way| {
            let tc =
                tapped.netns.command("tc").args(["filter", "show", "dev", "client", way]).output();
            String::from_utf8_lossy(&tc.expect("tc runs").stdout).into_owned()
        };
        (run("ingress"), run("egress"))
    };
    mirror.set_taps("client", vec![tap(id, &[target])]).expect("taps");
    mirror.set_taps("client", vec![tap(id, &[target])]).expect("a change");
    let (ingress, egress) = filters();
    for shown in [&ingress, &egress] {
        assert_eq!(shown.matches("tapline-").count(), 1, "{shown}");
    }
    let sent = Generator::new(10_000, 300).run_in(&client.netns, (tapped.v4("client"), 9).into());
    mirror.stop();
    drop(mirror);
    assert_eq!(filters(), (String::new(), String::new()));
    assert_eq!(rig::missing(&numbers(&collector.frames()), sent.accepted), [0; 0]);
}

#[test]
fn taps_may_be_in_another_namespace_than_the_tunnels() {
    if !rig::root_or_skip() {
        return;
    }
    const BYTES: usize = 256 << 10;
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let options = MirrorOptions {
        taps_in: Some(client.netns.hold().expect("a descriptor")),
        ..MirrorOptions::default()
    };
    let mut mirror = open(tapped, options);
    let target = mirror.add_target(&one(vxlan(sink.v4("tapped").into(), 1))).expect("a target");
    let id = mirror.add_tap(0, None).expect("a tap");
    mirror.set_taps("tapped", vec![tap(id, &[target])]).expect("taps");
    let sent = Generator::new(10_000, 300).run_in(&client.netns, (tapped.v4("client"), 9).into());
    rig::exchange(&client.netns, &tapped.netns, (tapped.v4("client"), 5001).into(), BYTES);
    mirror.stop();
    let counters = mirror.target_counters(target).expect("counters");
    let frames = collector.frames();
    assert_eq!(rig::missing(&numbers(&frames), sent.accepted), [0; 0]);
    assert_eq!((counters.handed, counters.arrived), (frames.len() as u64, frames.len() as u64));
    assert!(frames.iter().all(|(_, frame)| frame.len() <= 1514));
    drop(mirror);
    assert!(!client.ip("link show").contains("tapline"));
    assert!(!tapped.ip("link show").contains("tapline"));
}

#[test]
fn what_does_not_fit_comes_to_user_space_whole() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["client", "tapped", "sink"]).build();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let mut member = vxlan(sink.v4("tapped").into(), 1);
    member.sending.oversize = api::Oversize::Fragment;
    let mut mirror = open(tapped, MirrorOptions::default());
    let target = mirror.add_target(&TargetOptions { snaplen: 0, ..one(member) }).expect("a target");
    let mut handed = mirror
        .hand_up(target, io::ring::RingSize::Bytes(4 << 20), io::InterfaceId(7))
        .expect("a ring");
    let id = mirror.add_tap(0, None).expect("a tap");
    mirror.set_taps("client", vec![tap(id, &[target])]).expect("taps");
    let to = (tapped.v4("client"), 9).into();
    Generator::new(10_000, 200).payload_bytes(1472).run_in(&client.netns, to);
    Generator::new(10_000, 100).payload_bytes(100).run_in(&client.netns, to);
    mirror.stop();

    let (mut packets, mut batch) = (Vec::new(), io::Batch::new());
    handed.stop().expect("it stops");
    let begun = Instant::now();
    while handed.receive(&mut batch).expect("the ring delivers") != io::Arrival::End {
        assert!(begun.elapsed() < WAIT, "the ring does not end");
        packets.extend(batch.drain().map(|packet| (packet.meta.clone(), packet.data.to_vec())));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(packets.len(), 200);
    for (meta, data) in &packets {
        assert_eq!((data.len(), meta.origlen, meta.interface), (1514, 1514, io::InterfaceId(7)));
        assert_eq!(meta.direction, io::Direction::In);
        let walk = wire::walk::Walk::new(wire::LinkType::ETHERNET, data);
        assert_eq!(meta.flow_hash, Some(wire::flow::flow_hash(&walk, data)));
        let age_ns = io::now_ns().abs_diff(meta.ts_ns);
        assert!(age_ns < 10_000_000_000, "{age_ns} ns");
    }
    assert_eq!((handed.drops().total(), handed.missing()), (0, 0));
    let member = mirror.target_counters(target).expect("counters").members[0];
    assert_eq!((member.handed_up, member.hand_up_lost, member.oversize), (200, 0, 0), "{member:?}");
    assert_eq!(member.sent as usize, collector.frames().len());
    mirror.set_taps("client", Vec::new()).expect("no taps");
    mirror.remove_target(target).expect("it goes");
    drop(handed);
    assert_eq!(tapped.ip("link show").matches("tapline").count(), 2);
}

#[test]
fn a_group_s_table_says_where_a_flow_goes_and_lanes_count_for_themselves() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, 6081, false);
    let member = |vni| {
        let mut member = vxlan(sink.v4("tapped").into(), vni);
        member.remote.set_port(6081);
        member.carrier = wire::tunnel::Carrier::Udp { port: 6081 };
        let vni = wire::Vni::new(vni).expect("24 bits");
        member.encap = wire::tunnel::Encap::Geneve { vni, metadata: true };
        member.lane.lane = 10;
        member
    };
    let mut mirror = open(tapped, MirrorOptions::default());
    let options = TargetOptions {
        snaplen: 64,
        members: vec![member(0), member(1), member(2)],
        table: Some((0..1 << 14).map(|slot| slot % 3).collect()),
    };
    let target = mirror.add_target(&options).expect("a target");
    let id = mirror.add_tap(0, None).expect("a tap");
    mirror.set_taps("client", vec![tap(id, &[target])]).expect("taps");
    Generator::new(10_000, 600).flows(60).run_in(&client.netns, (tapped.v4("client"), 9).into());
    mirror.stop();
    let counters = mirror.target_counters(target).expect("counters");
    let mut sent = [0; 3];
    for (from, datagram) in collector.datagrams() {
        let header = wire::geneve::Packet::new_checked(&datagram[..]).expect("GENEVE");
        let vni = header.vni().get();
        sent[vni as usize] += 1;
        // The source port has the upper 14 bits of the hash, the table the lower 14.
        assert!(from.port() >= 0xc000);
        let option = header.options().next().expect("metadata").expect("whole");
        let option = wire::metadata::Packet::new_checked(option.as_bytes()).expect("ours");
        assert!(option.lane().lane >= 10, "{:?}", option.lane());
        assert!(header.payload().len() <= 64);
    }
    assert!(sent.iter().all(|sent| *sent > 0), "{sent:?}");
    let counted: Vec<u64> = counters.members.iter().map(|member| member.sent).collect();
    assert_eq!(counted, sent);
    for (next, sent) in mirror.sequences(target).expect("numbers").iter().zip(sent) {
        assert!(next.iter().all(|(lane, _)| *lane >= 10), "{next:?}");
        assert_eq!(next.iter().map(|(_, next)| u64::from(*next)).sum::<u64>(), sent);
    }
}

#[test]
fn what_no_dispatcher_can_judge_is_judged_once_it_is_cut() {
    if !rig::root_or_skip() {
        return;
    }
    const BYTES: usize = 256 << 10;
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    // The length of a super-packet is none of the wire's: whole frames are judged before.
    let filter = io::libpcap::compile("greater 1000 or udp", wire::LinkType::ETHERNET, 0);
    let filter = filter.expect("an expression");
    let mut mirror = open(tapped, MirrorOptions::default());
    let target = mirror.add_target(&one(vxlan(sink.v4("tapped").into(), 1))).expect("a target");
    let id = mirror.add_tap(0, None).expect("a tap");
    let everything = tap(id, &[target]);
    let filtered = io::mirror::Tap { received: filter.clone(), sent: filter, ..everything };
    mirror.set_taps("client", vec![filtered]).expect("taps");
    let sent = Generator::new(10_000, 300).run_in(&client.netns, (tapped.v4("client"), 9).into());
    rig::exchange(&client.netns, &tapped.netns, (tapped.v4("client"), 5001).into(), BYTES);
    mirror.stop();
    let frames = collector.frames();
    assert_eq!(rig::missing(&numbers(&frames), sent.accepted), [0; 0]);
    let is_wanted = |frame: &[u8]| frame.len() >= 1000 || frame[23] == wire::udp::PROTOCOL;
    assert!(frames.iter().all(|(_, frame)| is_wanted(frame)));
    let large = frames.iter().filter(|(_, frame)| frame.len() == 1514).count();
    assert!(large >= 2 * (BYTES / 1460) - 2, "{large} large frames");
    let seen = mirror.tap_counters(id).expect("counters");
    let counters = mirror.target_counters(target).expect("counters");
    assert_eq!(seen.matched, frames.len() as u64, "{seen:?} {counters:?}");
    assert!(seen.late > 0 && seen.filtered > 0, "{seen:?}");
    assert_eq!(counters.arrived, counters.handed, "{counters:?}");
    assert_eq!(counters.members[0].sent + counters.filtered, counters.arrived, "{counters:?}");
}

#[test]
fn where_super_packets_may_be_of_any_length_filters_judge_once_they_are_cut() {
    if !rig::root_or_skip() || !rig::link_or_skip("gso_max_size 500000 type veth") {
        return;
    }
    let net = line();
    let (client, tapped, sink) = (net.host("client"), net.host("tapped"), net.host("sink"));
    let collector = Collector::start(sink, VXLAN_PORT, false);
    let filter = io::libpcap::compile("tcp port 5001", wire::LinkType::ETHERNET, 0);
    let filter = filter.expect("an expression");
    let mut mirror = open(tapped, MirrorOptions::default());
    let target = mirror.add_target(&one(vxlan(sink.v4("tapped").into(), 1))).expect("a target");
    let id = mirror.add_tap(0, None).expect("a tap");
    let everything = tap(id, &[target]);
    let filtered = io::mirror::Tap { received: filter.clone(), sent: filter, ..everything };
    mirror.set_taps("client", vec![filtered]).expect("taps");
    // Allowed while the mirror runs.
    tapped.ip("link set client gso_max_size 300000 gro_max_size 300000");
    client.ip("link set tapped gso_max_size 300000 gro_max_size 300000");
    mirror.tick(Now::read());
    let to = std::net::SocketAddr::new(tapped.v6("client").into(), 5001);
    rig::exchange(&client.netns, &tapped.netns, to, 4 << 20);
    mirror.stop();
    let counters = mirror.target_counters(target).expect("counters");
    let seen = mirror.tap_counters(id).expect("counters");
    let frames = collector.frames();
    assert!(frames.iter().all(|(_, frame)| frame.len() <= 1514));
    let sent = counters.members[0].sent;
    assert_eq!(sent, frames.len() as u64, "{counters:?} {seen:?}");
    assert_eq!(counters.not_handed, 0, "{counters:?}");
    assert!(seen.matched >= sent, "{counters:?} {seen:?}");
}

#[test]
fn what_cannot_be_done_is_said() {
    if !rig::root_or_skip() {
        return;
    }
    let net = line();
    let (tapped, sink) = (net.host("tapped"), net.host("sink"));
    let (mut mirror, id, target) = mirror_of(tapped, "client", vxlan(sink.v4("tapped").into(), 1));
    let error = mirror.set_taps("absent", vec![tap(id, &[target])]).expect_err("no interface");
    assert!(error.to_string().contains("client"), "{error}");
    let mut gre = vxlan(sink.v4("tapped").into(), 1);
    gre.encap =
        wire::tunnel::Encap::Gre(wire::tunnel::Gre { sequence: true, ..Default::default() });
    let error = mirror.add_target(&one(gre)).expect_err("numbered GRE");
    assert!(error.to_string().contains("--datapath ring"), "{error}");
}
