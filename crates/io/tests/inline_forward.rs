//! Packets through a forwarding table in the kernel: there and back, all protocols, both versions of IP.

mod inline;

use inline::{Bump, WAIT, udp};
use std::net::{IpAddr, SocketAddr};

#[test]
fn tcp_goes_through_with_offloads_on_and_both_versions_of_ip() {
    let Some(bump) = Bump::new() else { return };
    for is_v6 in [false, true] {
        let (ours, next) = (bump.ours(is_v6), bump.next_address(is_v6));
        let mut table = bump.open(&[&format!("tcp://{}={}", End(ours, 80), End(next, 8080))]);
        bump.transfer(SocketAddr::new(ours, 80), SocketAddr::new(next, 8080), 20 << 20);
        let [there, back] = table.counters(1).unwrap();
        assert!(there.forwarded > 100 && back.forwarded > 10_000, "{there:?} {back:?}");
        assert_eq!((there.sessions, there.refused, back.refused), (1, 0, 0));
        let sessions = table.sessions(10).unwrap();
        assert!(sessions.len() == 1 && sessions[0].is_answered, "{sessions:?}");
        assert!(sessions[0].is_closing, "{sessions:?}");
        bump.tick(&mut table);
        table.stop().unwrap();
    }
}

#[test]
fn two_clients_with_the_same_port_get_different_ones() {
    let Some(bump) = Bump::new() else { return };
    bump.client().ip("addr add 10.71.0.77/24 dev us");
    bump.us()
        .ip(&format!("neigh replace 10.71.0.77 lladdr {} dev client", bump.client().mac("us")));
    let ours = bump.ours(false);
    let table = bump.open(&[&format!("udp://{}={}", End(ours, 53), bump.next_address(false))]);
    let server = udp(bump.next(), SocketAddr::new(bump.next_address(false), 53));
    let first = udp(bump.client(), SocketAddr::new(bump.client().v4("us").into(), 5000));
    let second = udp(bump.client(), "10.71.0.77:5000".parse().unwrap());
    let mut seen = Vec::new();
    for (socket, text) in [(&first, b"one"), (&second, b"two"), (&first, b"six")] {
        socket.send_to(text, SocketAddr::new(ours, 53)).unwrap();
        let mut buffer = [0; 64];
        let (len, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], text);
        assert_eq!(from.ip(), IpAddr::from(bump.us().v4("next")));
        seen.push(from.port());
        server.send_to(text, from).unwrap();
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from), (&text[..], SocketAddr::new(ours, 53)));
    }
    assert_eq!((seen[0], seen[2]), (5000, 5000));
    assert!(seen[1] != 5000 && seen[1] >= 1024, "{seen:?}");
    assert_eq!(table.counters(1).unwrap()[0].sessions, 2);
}

#[test]
fn echo_goes_through_and_what_no_rule_matches_stays_with_the_host() {
    let Some(bump) = Bump::new() else { return };
    for is_v6 in [false, true] {
        let ours = bump.ours(is_v6);
        let table = bump.open(&[&format!("icmp://{ours}={}", bump.next_address(is_v6))]);
        // The second fragment of 1473 bytes has one byte, with IPv4.
        for size in [8, 1400, 1473, 4000] {
            assert!(bump.ping(ours, size), "{size} bytes to {ours}");
        }
        let [there, back] = table.counters(1).unwrap();
        // The largest is three fragments, the one before it two.
        assert_eq!(
            (there.forwarded, back.forwarded),
            (3 + 2 + 2, 3 + 2 + 2),
            "{there:?}, {back:?}"
        );
        // Not by a rule: our own port answers.
        let here = udp(bump.us(), SocketAddr::new(ours, 4000));
        let socket = udp(bump.client(), SocketAddr::new(bump.client_address(is_v6), 0));
        socket.send_to(b"here", SocketAddr::new(ours, 4000)).unwrap();
        assert_eq!(here.recv_from(&mut [0; 9]).unwrap().0, 4);
        table.stop().unwrap();
        assert!(bump.ping(ours, 8));
    }
}

#[test]
fn a_closed_port_is_told_to_the_client() {
    let Some(bump) = Bump::new() else { return };
    for is_v6 in [false, true] {
        let ours = bump.ours(is_v6);
        let table = bump.open(&[&format!("udp://{ours}={}", bump.next_address(is_v6))]);
        let client = udp(bump.client(), SocketAddr::new(bump.client_address(is_v6), 0));
        client.connect(SocketAddr::new(ours, 9)).unwrap();
        client.send(b"nobody").unwrap();
        let error = client.recv(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{is_v6}");
        table.stop().unwrap();
    }
}

#[test]
fn a_full_table_is_counted_and_has_room_again_when_time_is_over() {
    let Some(bump) = Bump::new() else { return };
    let ours = bump.ours(false);
    let mut config = bump.config(&[&format!("udp://{ours}={}", bump.next_address(false))]);
    config.sessions = 4;
    config.timeouts.udp = std::time::Duration::from_millis(100);
    let mut table = bump.open_config(&config).0;
    let send = || {
        let client = udp(bump.client(), SocketAddr::new(bump.client_address(false), 0));
        client.send_to(b"x", SocketAddr::new(ours, 9)).unwrap();
    };
    (0..7).for_each(|_| send());
    let [there, _] = table.counters(1).unwrap();
    assert_eq!((there.sessions, there.table_full), (4, 3));
    rig::wait_until("the sessions are over", WAIT, || {
        bump.tick(&mut table);
        table.sessions(10).unwrap().is_empty()
    });
    send();
    assert_eq!(table.counters(1).unwrap()[0].sessions, 5);
}

/// An address and a port, as rules have them.
struct End(IpAddr, u16);

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        SocketAddr::new(self.0, self.1).fmt(f)
    }
}
