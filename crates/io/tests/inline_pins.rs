//! What outlives the process of a forwarding table, and what does not.

mod inline;

use api::InlineFail;
use inline::{Bump, WAIT, udp};
use io::Now;
use io::inline::{InlineStart, KernelInline, is_pinned, stop};
use rig::Running;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// What the holder is told: where to pin, how to fail, and its rule.
const HOLD: &str = "TAPLINE_TEST_HOLD";

/// Not a test by itself: another process that opens a table, and waits to be killed.
#[test]
fn the_holder() {
    let Ok(told) = std::env::var(HOLD) else { return };
    let mut told = told.split(' ');
    let mut next = || told.next().expect("three words");
    let (pins, fail, rule) = (PathBuf::from(next()), next(), next());
    let config = api::InlineConfig {
        name: "test".into(),
        ingress: "client".into(),
        egress: "next".into(),
        fail: if fail == "closed" { InlineFail::Closed } else { InlineFail::Open },
        sessions: 1000,
        timeouts: api::InlineTimeouts::default(),
        rules: vec![rule.parse().expect("a rule")],
    };
    let mut table = KernelInline::open(&config, &pins, Now::read()).expect("a table").0;
    eprintln!("it holds");
    loop {
        table.tick(Now::read()).expect("it goes on");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn hold(bump: &Bump, fail: &str, rule: &str) -> Running {
    let exe = std::env::current_exe().expect("this test");
    let mut command: Command = bump.us().netns.command(exe);
    command.args(["--exact", "the_holder", "--nocapture"]);
    command.env(HOLD, format!("{} {fail} {rule}", bump.pins().display()));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let running = Running::start(&mut command);
    running.wait_for("it holds", WAIT);
    running
}

#[test]
fn forwarding_goes_on_when_its_process_is_killed_and_the_next_one_adopts_it() {
    let Some(bump) = Bump::new() else { return };
    let (ours, next) = (bump.ours(false), bump.next_address(false));
    let rule = format!("tcp://{ours}:80={next}:8080");
    let holder = hold(&bump, "open", &rule);
    std::thread::scope(|scope| {
        let (to, at) = (SocketAddr::new(ours, 80), SocketAddr::new(next, 8080));
        let bump = &bump;
        let download = scope.spawn(move || bump.transfer(to, at, 100 << 20));
        std::thread::sleep(Duration::from_millis(50));
        drop(holder);
        download.join().expect("all of it arrives");
    });
    // Long after what was known of the next hop is too old.
    std::thread::sleep(Duration::from_millis(3500));
    bump.transfer(SocketAddr::new(ours, 80), SocketAddr::new(next, 8080), 1 << 20);

    let (table, start) = bump.open_config(&bump.config(&[&rule]));
    assert_eq!(start, InlineStart::Adopted);
    let [there, back] = table.counters(1).unwrap();
    assert_eq!(there.sessions, 2);
    assert!(back.forwarded_bytes > 101 << 20, "{back:?}");
    assert_eq!(table.sessions(10).unwrap().len(), 2);
    drop(table);
    bump.transfer(SocketAddr::new(ours, 80), SocketAddr::new(next, 8080), 1 << 20);

    assert!(stop(&bump.pins(), "test").unwrap());
    assert!(!stop(&bump.pins(), "test").unwrap(), "nothing is left");
    let refused = bump.client().netns.run(|| std::net::TcpStream::connect((ours, 80)));
    assert!(refused.unwrap().is_err(), "the host's own again, which listens to nobody");
}

#[test]
fn a_table_that_fails_closed_is_gone_with_its_process() {
    let Some(bump) = Bump::new() else { return };
    let (ours, next) = (bump.ours(false), bump.next_address(false));
    let holder = hold(&bump, "closed", &format!("udp://{ours}:53={next}"));
    let here = udp(bump.us(), SocketAddr::new(ours, 53));
    let there = udp(bump.next(), SocketAddr::new(next, 53));
    let client = udp(bump.client(), SocketAddr::new(bump.client_address(false), 0));
    client.send_to(b"far", SocketAddr::new(ours, 53)).unwrap();
    assert_eq!(there.recv_from(&mut [0; 9]).unwrap().0, 3);
    drop(holder);
    rig::wait_until("nothing is forwarded any more", WAIT, || {
        client.send_to(b"near", SocketAddr::new(ours, 53)).unwrap();
        here.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        here.recv_from(&mut [0; 9]).is_ok()
    });
    assert!(!stop(&bump.pins(), "test").unwrap());
}

#[test]
fn rules_change_while_traffic_flows_and_keep_their_counters() {
    let Some(bump) = Bump::new() else { return };
    let (ours, next) = (bump.ours(false), bump.next_address(false));
    let all = [format!("udp://{ours}:53={next}"), format!("udp://{ours}:54={next}:55")];
    let mut table = bump.open(&[&all[0]]);
    let client = udp(bump.client(), SocketAddr::new(bump.client_address(false), 0));
    let (at_53, at_55) =
        (udp(bump.next(), SocketAddr::new(next, 53)), udp(bump.next(), SocketAddr::new(next, 55)));
    let send = |port: u16| client.send_to(b"x", SocketAddr::new(ours, port)).unwrap();
    send(53);
    at_53.recv_from(&mut [0; 9]).unwrap();
    let mut set = |rules: &[&String]| {
        let rules: Vec<api::InlineRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let set = || table.set_rules(&rules, Now::read()).unwrap();
        let numbers = bump.us().netns.run(set).unwrap();
        let counters: Vec<u64> =
            numbers.iter().map(|number| table.counters(*number).unwrap()[0].forwarded).collect();
        (numbers, counters, table.sessions(10).unwrap().len())
    };
    assert_eq!(set(&[&all[1], &all[0]]), (vec![2, 1], vec![0, 1], 1));
    send(54);
    send(53);
    at_55.recv_from(&mut [0; 9]).unwrap();
    assert_eq!(set(&[&all[1]]), (vec![2], vec![1], 1));
    // The first rule is gone, and its sessions with it; its number begins anew.
    send(53);
    assert_eq!(set(&[&all[1], &all[0]]), (vec![2, 1], vec![1, 0], 1));
    send(53);
    at_53.recv_from(&mut [0; 9]).unwrap();
    at_53.recv_from(&mut [0; 9]).unwrap();
    assert_eq!(set(&[]), (vec![], vec![], 0));
}

#[test]
fn sessions_go_on_only_where_a_rule_leads_there() {
    let Some(bump) = Bump::new() else { return };
    let (ours, next) = (bump.ours(false), bump.next_address(false));
    let narrow = format!("udp://{ours}:53={next}");
    let wide = format!("udp://{ours}={next}");
    let elsewhere = format!("udp://{ours}:53={next}:55");
    let mut table = bump.open(&[&narrow, &wide]);
    let client = udp(bump.client(), SocketAddr::new(bump.client_address(false), 0));
    let (at_53, at_55) =
        (udp(bump.next(), SocketAddr::new(next, 53)), udp(bump.next(), SocketAddr::new(next, 55)));
    let send = || client.send_to(b"x", SocketAddr::new(ours, 53)).unwrap();
    send();
    at_53.recv_from(&mut [0; 9]).unwrap();
    let mut set = |rules: &[&String]| {
        let rules: Vec<api::InlineRule> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        bump.us().netns.run(|| table.set_rules(&rules, Now::read()).unwrap()).unwrap();
        table.sessions(10).unwrap().iter().map(|session| session.rule).collect::<Vec<_>>()
    };
    // The other rule leads there, too.
    assert_eq!(set(&[&wide]), [2]);
    assert_eq!(set(&[&elsewhere, &wide]), [0; 0]);
    send();
    at_55.recv_from(&mut [0; 9]).unwrap();
    assert_eq!(set(&[&elsewhere]), [1]);
}

#[test]
fn rules_that_cannot_be_set_leave_those_that_are() {
    let Some(bump) = Bump::new() else { return };
    let (ours, next) = (bump.ours(false), bump.next_address(false));
    let mut table = bump.open(&[&format!("udp://{ours}:53={next}")]);
    let wrong = ["udp://192.0.2.9=10.99.0.1", &format!("udp://{ours}:53={next},source=192.0.2.7")];
    let wrong: Vec<api::InlineRule> = wrong.iter().map(|rule| rule.parse().unwrap()).collect();
    let set = bump.us().netns.run(|| table.set_rules(&wrong, Now::read())).unwrap();
    assert!(set.unwrap_err().to_string().contains("192.0.2.7"));
    assert_eq!(table.numbers_of_rules(), [1]);
    let server = udp(bump.next(), SocketAddr::new(next, 53));
    let client = udp(bump.client(), SocketAddr::new(bump.client_address(false), 0));
    client.send_to(b"x", SocketAddr::new(ours, 53)).unwrap();
    server.recv_from(&mut [0; 9]).unwrap();
    assert_eq!(table.counters(1).unwrap()[0].forwarded, 1);
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() {
    let Some(bump) = Bump::new() else { return };
    let (ours, next) = (bump.ours(false), bump.next_address(false));
    let config = bump.config(&[&format!("udp://{ours}:53={next},source=192.0.2.7")]);
    let open = || KernelInline::open(&config, &bump.pins(), Now::read()).map(drop);
    let said = bump.us().netns.run(open).unwrap().unwrap_err().to_string();
    assert!(said.contains("192.0.2.7"), "{said}");
    let attached = || ["client", "next"].map(|name| io::bpf::list::attached(name).unwrap());
    assert_eq!(bump.us().netns.run(attached).unwrap(), [[], []]);
    assert!(!stop(&bump.pins(), "test").unwrap(), "nothing is pinned");

    // No map is so large: it fails before any program is there.
    let config = api::InlineConfig { sessions: u32::MAX, ..bump.config(&[]) };
    let open = || KernelInline::open(&config, &bump.pins(), Now::read()).map(drop);
    bump.us().netns.run(open).unwrap().unwrap_err();
    let folder = bump.pins().join("test");
    assert!(!folder.exists(), "nothing is left of it");
    // Only what holds an interface forwards.
    std::fs::create_dir(&folder).unwrap();
    assert!(!is_pinned(&bump.pins(), "test"));
    let table = bump.open(&[]);
    assert!(is_pinned(&bump.pins(), "test"));
    table.stop().unwrap();
}

#[test]
fn a_change_that_is_refused_half_way_takes_nothing_away() {
    if !rig::tool_or_skip("bpftool") {
        return;
    }
    let Some(bump) = Bump::new() else { return };
    let (ours, next) = (bump.ours(false), bump.next_address(false));
    let rule = format!("udp://{ours}:53={next}");
    let mut table = bump.open(&[&rule]);
    let server = udp(bump.next(), SocketAddr::new(next, 53));
    let client = udp(bump.client(), SocketAddr::new(bump.client_address(false), 0));
    let pass = || {
        client.send_to(b"x", SocketAddr::new(ours, 53)).unwrap();
        server.recv_from(&mut [0; 9]).unwrap();
    };
    pass();
    let frozen = bump
        .us()
        .netns
        .command("bpftool")
        .args(["map", "freeze", "pinned"])
        .arg(bump.pins().join("test/views"))
        .output()
        .unwrap();
    assert!(frozen.status.success(), "{frozen:?}");
    let other: api::InlineRule = format!("udp://{ours}:54={next}").parse().unwrap();
    let set = bump.us().netns.run(|| table.set_rules(&[other], Now::read())).unwrap();
    set.unwrap_err();
    pass();
    assert_eq!(table.counters(1).unwrap()[0].forwarded, 2);
}

#[test]
fn what_takes_a_rules_place_gets_another_number() {
    let Some(bump) = Bump::new() else { return };
    let (ours, next) = (bump.ours(false), bump.next_address(false));
    let [one, other] =
        [53, 54].map(|port| format!("udp://{ours}:{port}={next}").parse::<api::InlineRule>());
    let mut table = bump.open(&[&one.unwrap().to_string()]);
    let set = || table.set_rules(&[other.unwrap()], Now::read());
    // Copies that carry the first one's are on their way.
    assert_eq!(bump.us().netns.run(set).unwrap().unwrap(), [2]);
}

#[test]
fn an_interface_that_comes_back_is_used_again() {
    let Some(bump) = Bump::new() else { return };
    let (ours, next) = (bump.ours(false), bump.next_address(false));
    let mut table = bump.open(&[&format!("udp://{ours}:53={next}")]);
    let (us, client) = (bump.us(), bump.client());
    let mac = us.mac("client");
    us.ip("link del client");
    bump.tick(&mut table);
    us.netns.join("client", &client.netns, "us").unwrap();
    us.ip(&format!("link set client address {mac}"));
    us.ip(&format!("addr add {ours}/24 dev client"));
    client.ip(&format!("addr add {}/24 dev us", bump.client_address(false)));
    rig::wait_until("it forwards", WAIT, || {
        bump.tick(&mut table);
        let server = udp(bump.next(), SocketAddr::new(next, 53));
        server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let client = udp(client, SocketAddr::new(bump.client_address(false), 0));
        client.send_to(b"again", SocketAddr::new(ours, 53)).unwrap();
        server.recv_from(&mut [0; 9]).is_ok()
    });
    table.stop().unwrap();
    assert!(!stop(&bump.pins(), "test").unwrap());
}
