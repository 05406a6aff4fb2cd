//! Checks with scripted answers, and what groups make of them.

use super::*;
use crate::steer::TargetGroup;
use crate::target::Target;
use api::{Balance, DropReason, TargetStats};
use io::memory::MemorySink;
use io::{Data, Direction, InterfaceId, Meta, Packet};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use wire::LinkType;

/// A probe whose answers a test gives, one by one; it tells when it asks for one.
struct Scripted {
    asked: Sender<()>,
    answers: Receiver<Result<(), String>>,
}

impl Probe for Scripted {
    fn attempt(&mut self, _timeout: Duration) -> Result<(), String> {
        // The test may be over.
        let _ = self.asked.send(());
        self.answers.recv().unwrap_or_else(|_| Err("the test is over".into()))
    }
}

/// The other side of a probe.
struct Script {
    asks: Receiver<()>,
    answer: Sender<Result<(), String>>,
    /// The next try has been waited for already.
    asked_again: Cell<bool>,
}

impl Script {
    fn new() -> (Box<dyn Probe>, Script) {
        let ((asked, asks), (answer, answers)) = (channel(), channel());
        (
            Box::new(Scripted { asked, answers }),
            Script { asks, answer, asked_again: Cell::new(false) },
        )
    }

    /// Gives answers; returns once all have had their effect, as the check has come to its next try.
    fn give(&self, answers: &[bool]) {
        for &good in answers {
            self.wait_for_ask();
            let answer = if good { Ok(()) } else { Err("connection refused".into()) };
            self.answer.send(answer).unwrap();
        }
        self.wait_for_ask();
        self.asked_again.set(true);
    }

    fn wait_for_ask(&self) {
        if !self.asked_again.take() {
            self.asks.recv_timeout(Duration::from_secs(30)).expect("the check goes on");
        }
    }
}

/// What opens probes, and keeps their scripts.
fn scripted(
    scripts: &mut Vec<Script>,
) -> impl FnMut(&api::Health, &Place) -> std::io::Result<Box<dyn Probe>> {
    |_, _| {
        let (probe, script) = Script::new();
        scripts.push(script);
        Ok(probe)
    }
}

const ENDPOINTS: [&str; 3] =
    ["vxlan://127.0.0.1?vni=1", "vxlan://127.0.0.2?vni=1", "vxlan://127.0.0.3?vni=1"];

struct Scene {
    group: TargetGroup,
    sinks: Vec<MemorySink>,
    health: GroupHealth,
    scripts: Vec<Script>,
    _checks: HealthChecks,
}

impl Scene {
    /// A group of three, each checked, with `rise` 2 and `fall` 2.
    fn new(fail_open: bool) -> Scene {
        let text = ENDPOINTS.map(|of| format!("{of}&health=tcp:80&interval=10ms")).join(",");
        let group: Group = text.parse().unwrap();
        let balance = Balance { fail_open, ..Balance::default() };
        let mut scripts = Vec::new();
        let mut checks = HealthChecks::default();
        let health = checks.watch_by(&group, scripted(&mut scripts)).unwrap().unwrap();
        let sinks: Vec<MemorySink> = (0..3).map(|_| MemorySink::default()).collect();
        let targets = targets(&group, &sinks);
        let group =
            TargetGroup::balanced(targets, &[1; 3], balance, Some(health.for_another_worker()));
        Scene { group, sinks, health, scripts, _checks: checks }
    }

    /// Steers a packet of each of 1,000 flows; gives the member that got each, if one did.
    fn steer(&mut self) -> BTreeMap<u64, usize> {
        let packets: Vec<Packet> = (0..1000).map(packet).collect();
        let all: Vec<u32> = (0..1000).collect();
        self.group.steer(&packets, &all);
        let mut owners = BTreeMap::new();
        for (member, sink) in self.sinks.iter().enumerate() {
            for packet in sink.take() {
                assert_eq!(owners.insert(packet.meta.ts_ns, member), None, "each flow once");
            }
        }
        owners
    }

    fn stats(&self) -> Vec<TargetStats> {
        self.group.stats(0).collect()
    }
}

fn targets(Group(members): &Group, sinks: &[MemorySink]) -> Vec<Target> {
    let sinks = sinks.iter().map(|sink| Box::new(sink.clone()));
    members.iter().zip(sinks).map(|(of, sink)| Target::new(of.canonical(), sink)).collect()
}

/// A UDP packet of flow `n`, which is its time.
fn packet(n: u64) -> Packet {
    let [.., high, low] = n.to_be_bytes();
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, high, low, 10, 1, 0, 1]);
    frame.extend([0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
    let meta = Meta {
        ts_ns: n,
        origlen: frame.len() as u32,
        link_type: LinkType::ETHERNET,
        interface: InterfaceId(0),
        direction: Direction::Unknown,
        outer: None,
        packet_id: None,
        gso: None,
        decided: false,
        flow_hash: None,
    };
    Packet { data: Data::copy_of(&frame), meta }
}

#[test]
fn only_the_flows_of_a_dead_member_move_and_they_come_back() {
    let mut scene = Scene::new(true);
    let before = scene.steer();
    assert_eq!(before.len(), 1000);
    scene.scripts[1].give(&[true, false, true, false]);
    assert_eq!(scene.steer(), before, "no two bad tries in a row");
    scene.scripts[1].give(&[false]);
    assert_eq!(scene.health.healthy(), 2);
    let during = scene.steer();
    assert_eq!(during.len(), 1000);
    for (flow, &member) in &before {
        assert!(during[flow] != 1 && (member == 1 || during[flow] == member), "flow {flow}");
    }
    let healthy: Vec<_> = scene.stats().iter().map(|line| line.healthy).collect();
    assert_eq!(healthy, [Some(true), Some(false), Some(true)]);
    scene.scripts[1].give(&[true, false, true]);
    assert_eq!(scene.steer(), during, "no two good tries in a row");
    scene.scripts[1].give(&[true]);
    assert_eq!(scene.steer(), before);
    for line in scene.stats() {
        assert_eq!((line.drops.total(), line.unaccounted), (0, 0), "{line}");
    }
}

#[test]
fn with_nobody_healthy_all_are_used_or_none() {
    for fail_open in [true, false] {
        let mut scene = Scene::new(fail_open);
        let before = scene.steer();
        scene.scripts.iter().for_each(|script| script.give(&[false, false]));
        assert_eq!(scene.health.healthy(), 0);
        let during = scene.steer();
        let stats = scene.stats();
        assert_eq!(stats.iter().map(|line| line.matched).sum::<u64>(), 2000);
        for (member, line) in stats.iter().enumerate() {
            let share = before.values().filter(|&&of| of == member).count() as u64;
            let dropped = if fail_open { 0 } else { share };
            assert_eq!(line.drops.get(DropReason::Unhealthy), dropped, "{line}");
            assert_eq!((line.matched, line.sent), (2 * share, 2 * share - dropped), "{line}");
            assert_eq!(line.unaccounted, 0, "{line}");
        }
        assert_eq!(during.len(), if fail_open { 1000 } else { 0 });
        assert!(!fail_open || during == before);
        // The first that is back gets everything.
        scene.scripts[2].give(&[true, true]);
        let after = scene.steer();
        assert!(after.len() == 1000 && after.values().all(|&member| member == 2));
    }
}

#[test]
fn a_group_of_one_is_closed_too() {
    let group: Group = "vxlan://127.0.0.1?vni=1&health=tcp:80&fail_open=off".parse().unwrap();
    let (mut checks, mut scripts) = (HealthChecks::default(), Vec::new());
    let health = checks.watch_by(&group, scripted(&mut scripts)).unwrap();
    let sink = MemorySink::default();
    let targets = targets(&group, std::slice::from_ref(&sink));
    let mut of_one = TargetGroup::balanced(targets, &[1], group.balance(), health);
    scripts[0].give(&[false, false]);
    of_one.steer(&[packet(0), packet(1)], &[0, 1]);
    let line = of_one.stats(0).next().unwrap();
    assert_eq!((line.matched, line.sent, line.unaccounted), (2, 0, 0));
    assert_eq!(line.drops.get(DropReason::Unhealthy), 2);
    scripts[0].give(&[true, true]);
    of_one.steer(&[packet(2)], &[0]);
    assert_eq!(of_one.stats(0).next().unwrap().sent, 1);
}

#[test]
fn equal_checks_are_one_and_end_with_the_last_group() {
    let (mut checks, mut scripts) = (HealthChecks::default(), Vec::new());
    let mut watch = |text: &str| {
        let group: Group = text.parse().unwrap();
        let health = checks.watch_by(&group, scripted(&mut scripts)).unwrap();
        (health, checks.running.len(), scripts.len())
    };
    let (none, ..) = watch("vxlan://127.0.0.1?vni=1");
    assert!(none.is_none());
    let (first, running, _) =
        watch("vxlan://127.0.0.1?vni=1&health=tcp:80,vxlan://127.0.0.2?vni=1");
    assert_eq!(running, 1);
    // Another tunnel to the same host, the same check; another check.
    let (second, running, opened) =
        watch("vxlan://127.0.0.1?vni=2&health=tcp:80,null:,gre://127.0.0.1?health=tcp:81");
    assert_eq!((running, opened), (2, 2));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!([0, 1].map(|at| first.is_healthy(at)), [Some(true), None]);
    drop(first);
    drop(second);
    // The last one has gone: it is begun anew, as alive.
    let (_third, running, opened) = watch("vxlan://127.0.0.1?vni=1&health=tcp:80");
    assert_eq!((running, opened), (1, 3));
}

#[test]
fn a_group_that_comes_later_knows_who_is_dead() {
    let group: Group =
        "vxlan://127.0.0.1?vni=1&health=tcp:80,vxlan://127.0.0.2?vni=1".parse().unwrap();
    let (mut checks, mut scripts) = (HealthChecks::default(), Vec::new());
    let _first = checks.watch_by(&group, scripted(&mut scripts)).unwrap();
    scripts[0].give(&[false, false]);
    let open = |_: &api::Health, _: &Place| -> std::io::Result<Box<dyn Probe>> {
        panic!("the check is there")
    };
    let second = checks.watch_by(&group, open).unwrap().unwrap();
    assert_eq!([0, 1].map(|at| second.is_healthy(at)), [Some(false), None]);
    let sinks = [MemorySink::default(), MemorySink::default()];
    let mut of_second =
        TargetGroup::balanced(targets(&group, &sinks), &[1; 2], Balance::default(), Some(second));
    let packets: Vec<Packet> = (0..100).map(packet).collect();
    of_second.steer(&packets, &(0..100).collect::<Vec<u32>>());
    assert_eq!((sinks[0].take().len(), sinks[1].take().len()), (0, 100));
}

#[test]
fn no_more_checks_run_than_threads_are_allowed() {
    let mut checks = HealthChecks::default();
    let members: Vec<String> = (0..=CHECKS_MAX)
        .map(|n| format!("vxlan://127.0.{}.{}?vni=1&health=tcp:80", n / 250, n % 250 + 1))
        .collect();
    let group: Group = members.join(",").parse().unwrap();
    let open = |_: &api::Health, _: &Place| Ok(Script::new().0);
    let error = checks.watch_by(&group, open).err().unwrap().to_string();
    assert!(error.contains("256 health checks run already"), "{error}");
}
