//! What is shown of forwarded packets, and what the kernel leaves to user space.

mod inline;

use api::{InlineView, RingSize};
use inline::{Bump, udp};
use io::inline::{InlineCopies, KernelInline, View};
use io::nic::NicSink;
use io::{
    Arrival, Batch, Data, Direction, InterfaceId, Meta, Now, Packet, Selection, Sink, Source,
};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use wire::LinkType;
use wire::checksum::Sum;
use wire::translate::{End, Kind, Reading};

/// A packet that was shown.
struct Shown {
    view: View,
    direction: Direction,
    frame: Vec<u8>,
}

/// The packet that an error is about, in a frame.
fn quoted(frame: &[u8]) -> Vec<u8> {
    let reading = Reading::of(LinkType::ETHERNET, frame).expect("an IP packet");
    let packet = &frame[reading.transport_at as usize + 8..reading.end as usize];
    [&frame[..reading.ip_at as usize], packet].concat()
}

fn open(bump: &Bump, rule: &str, views: &[InlineView]) -> (KernelInline, InlineCopies) {
    let mut config = bump.config(&[rule]);
    config.rules[0].views = views.to_vec();
    let mut table = bump.open_config(&config).0;
    let copies = || table.copies(RingSize::Bytes(32 << 20), Now::read());
    let copies = bump.us().netns.run(copies).expect("inside");
    let copies = copies.unwrap_or_else(|e| panic!("{e}"));
    (table, copies)
}

/// What was shown until nothing more came for a while; exceptions are dealt with.
fn shown(bump: &Bump, table: &mut KernelInline, copies: &mut InlineCopies) -> Vec<Shown> {
    let (mut shown, mut batch, mut idle) = (Vec::new(), Batch::new(), 0);
    while idle < 20 {
        match copies.receive(&mut batch).expect("the ring stands") {
            Arrival::Packets => idle = 0,
            _ => {
                idle += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        for packet in batch.packets() {
            let (rule, view) = InlineCopies::origin(packet).expect("it has a tag");
            assert_eq!(rule, 1);
            if view == View::Exception {
                let handle = || {
                    table
                        .handle(packet, rule, Now::read(), &mut |_, _| ())
                        .expect("it is dealt with")
                };
                bump.us().netns.run(handle).expect("inside");
            }
            let direction = packet.meta.direction;
            shown.push(Shown { view, direction, frame: packet.data.to_vec() });
        }
        batch.clear();
    }
    shown
}

/// Both ends, and whether the checksums are right.
fn ends(frame: &[u8]) -> (End, End) {
    let reading = Reading::of(LinkType::ETHERNET, frame).expect("an IP packet");
    let upper = &frame[reading.transport_at as usize..reading.end as usize];
    let len = upper.len() as u32;
    let mut sum = match (reading.source.address, reading.destination.address) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            assert_eq!(wire::checksum::of(&frame[14..34]), 0, "the IP header's checksum");
            match reading.protocol {
                1 => Sum::new(),
                protocol => Sum::pseudo_v4(from.octets(), to.octets(), protocol, len),
            }
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            Sum::pseudo_v6(from.octets(), to.octets(), reading.protocol, len)
        }
        _ => panic!("two versions"),
    };
    sum.add_bytes(upper);
    assert_eq!(sum.finish(), 0, "the checksum of {frame:02x?}");
    (reading.source, reading.destination)
}

#[test]
fn three_views_of_a_connection_with_offloads_on() {
    let Some(bump) = Bump::new() else { return };
    let views = [InlineView::Ingress, InlineView::Egress, InlineView::Inline];
    for is_v6 in [false, true] {
        let (ours, next) = (bump.ours(is_v6), bump.next_address(is_v6));
        let (to, at) = (SocketAddr::new(ours, 80), SocketAddr::new(next, 8080));
        let (mut table, mut copies) = open(&bump, &format!("tcp://{to}={at}"), &views);
        // The ring holds all of it.
        bump.transfer(to, at, 1 << 20);
        let all = shown(&bump, &mut table, &mut copies);
        let [there, back] = table.counters(1).unwrap();
        assert_eq!((there.not_shown, back.not_shown), (0, 0));
        assert_eq!(there.shown, 3 * there.forwarded);
        assert_eq!(back.shown, 3 * back.forwarded);
        assert_eq!(copies.drops().total(), 0);
        assert_eq!(all.len() as u64, there.shown + back.shown);
        let (client, source) = (bump.client_address(is_v6), bump.source(is_v6));
        let mut payload = [[0; 2]; 3];
        for Shown { view, direction, frame } in &all {
            let (from, to) = ends(frame);
            assert!(frame.len() <= 1514, "{} bytes: cut as the wire has them", frame.len());
            let (near, far, is_reply) = match direction {
                Direction::In => (from, to, false),
                _ => (to, from, true),
            };
            let wanted = match (view, is_reply) {
                (View::Ingress, false) | (View::Egress, true) => (client, ours, 80),
                (View::Egress, false) | (View::Ingress, true) => (source, next, 8080),
                (View::Inline, _) => (client, next, 8080),
                (View::Exception, _) => panic!("nothing was left to user space"),
            };
            assert_eq!((near.address, far.address, far.port), wanted, "{view:?} {is_reply}");
            let header = if is_v6 { 14 + 40 } else { 14 + 20 };
            let tcp = usize::from(frame[header + 12] >> 4) * 4;
            payload[*view as usize][usize::from(is_reply)] += frame.len() - header - tcp;
        }
        // All of it, and what was sent once more.
        for view in payload {
            assert!(view.iter().all(|bytes| *bytes >= 1 << 20), "{view:?}");
        }
        assert!(payload[0] == payload[1] && payload[1] == payload[2], "{payload:?}");
        drop(copies);
        table.stop().unwrap();
    }
}

#[test]
fn a_time_to_live_that_is_over_is_told() {
    let Some(bump) = Bump::new() else { return };
    for is_v6 in [false, true] {
        let (ours, next) = (bump.ours(is_v6), bump.next_address(is_v6));
        let (mut table, mut copies) = open(&bump, &format!("{ours}={next}"), &[]);
        let words = ["-c", "1", "-W", "2", "-t", "1", &ours.to_string()];
        let said = std::thread::scope(|scope| {
            let (bump, words) = (&bump, &words);
            let ping =
                scope.spawn(move || bump.client().netns.command("ping").args(words).output());
            let all = shown(bump, &mut table, &mut copies);
            assert_eq!(all.len(), 1);
            assert_eq!((all[0].view, all[0].direction), (View::Exception, Direction::In));
            ping.join().expect("it ends").expect("ping is there")
        });
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("xceeded"), "{said}");
        let handled = table.exceptions(1)[0];
        assert_eq!((handled.time_to_live, handled.answers), (1, 1));
        let there = table.counters(1).unwrap()[0];
        assert_eq!((there.handed_up, there.time_to_live, there.forwarded), (1, 0, 0));
        // Nobody is there any more to say so.
        drop(copies);
        bump.tick(&mut table);
        bump.client().netns.command("ping").args(words).output().expect("ping is there");
        assert_eq!(table.counters(1).unwrap()[0].time_to_live, 1);
        table.stop().unwrap();
    }
}

/// Has the client ping our address once, while what is handed up is dealt with; gives how much was, and
/// what ping says if it is answered, or not.
fn ping(
    bump: &Bump,
    table: &mut KernelInline,
    copies: &mut InlineCopies,
    words: &[&str],
) -> (usize, Result<String, String>) {
    std::thread::scope(|scope| {
        let ping = scope.spawn(move || {
            let mut command = bump.client().netns.command("ping");
            command.args(["-c", "1", "-W", "2"]).args(words).output()
        });
        let all = shown(bump, table, copies);
        let output = ping.join().expect("it ends").expect("ping is there");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (all.len(), if output.status.success() { Ok(said) } else { Err(said) })
    })
}

#[test]
fn what_is_too_large_is_cut_or_told() {
    let Some(bump) = Bump::new() else { return };
    bump.us().ip("link set next mtu 1300");
    bump.next().ip("link set us mtu 1300");
    for is_v6 in [false, true] {
        let (ours, next) = (bump.ours(is_v6), bump.next_address(is_v6));
        let (mut table, mut copies) = open(&bump, &format!("{ours}={next}"), &[]);
        let mut ping = |bytes: &str, hint: &str| {
            let words = ["-s", bytes, "-M", hint, &ours.to_string()];
            ping(&bump, &mut table, &mut copies, &words)
        };
        if !is_v6 {
            let (handed_up, answered) = ping("1400", "dont");
            assert!(handed_up == 1 && answered.is_ok(), "{answered:?}");
            // Two of its three fragments are cut further.
            let (handed_up, answered) = ping("4000", "dont");
            assert!(handed_up == 2 && answered.is_ok(), "{answered:?}");
        }
        let (handed_up, answered) = ping("1400", "do");
        assert!(
            handed_up == 1 && answered.as_ref().is_err_and(|it| it.contains("1300")),
            "{answered:?}"
        );
        let handled = table.exceptions(1)[0];
        let cut = if is_v6 { 0 } else { 3 };
        assert_eq!((handled.fragmented, handled.fragments), (cut, 2 * cut));
        assert_eq!((handled.oversize, handled.answers, handled.lost), (1, 1, 0));
        drop(copies);
        table.stop().unwrap();
    }
}

#[test]
fn the_pieces_of_a_packet_without_an_identifier_get_one() {
    let Some(bump) = Bump::new() else { return };
    bump.us().ip("link set next mtu 1300");
    bump.next().ip("link set us mtu 1300");
    let (client, us) = (bump.client(), bump.us());
    let next = bump.next_address(false);
    let rule = format!("udp://{}={next}", bump.ours(false));
    let (mut table, mut copies) = open(&bump, &rule, &[]);
    const CONTENT: usize = 1400;
    let (ip_len, udp_len) = (20 + 8 + CONTENT as u16, 8 + CONTENT as u16);
    let mac = |text: String| -> Vec<u8> {
        text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    };
    let mut frame = [mac(us.mac("client")), mac(client.mac("us")), vec![8, 0, 0x45, 0]].concat();
    frame.extend(ip_len.to_be_bytes());
    // Neither an identifier nor the word not to cut it.
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([client.v4("us").octets(), us.v4("client").octets()].concat());
    let sum = wire::checksum::of(&frame[14..34]).to_be_bytes();
    frame[24..26].copy_from_slice(&sum);
    frame.extend([4000, 53, udp_len, 0].map(u16::to_be_bytes).concat());
    frame.extend([7; CONTENT]);
    let meta = Meta {
        ts_ns: 0,
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
    let server = udp(bump.next(), SocketAddr::new(next, 53));
    let open = || NicSink::open("us").unwrap();
    let mut nic = client.netns.run(open).unwrap();
    let packet = Packet { data: Data::copy_of(&frame), meta };
    assert_eq!(nic.send(Selection::new(&[packet], &[0])), 1);
    assert_eq!(shown(&bump, &mut table, &mut copies).len(), 1);
    let (len, _) = server.recv_from(&mut [0; 2000]).unwrap();
    assert_eq!(len, CONTENT);
    assert_eq!(table.exceptions(1)[0].fragments, 2);
}

#[test]
fn what_fits_of_a_super_packet_that_does_not_is_sent() {
    let Some(bump) = Bump::new() else { return };
    bump.us().ip("link set next mtu 1300");
    let (ours, next) = (bump.ours(false), bump.next_address(false));
    let (mut table, mut copies) = open(&bump, &format!("tcp://{ours}:80={next}"), &[]);
    let listener = bump.next().netns.run(|| TcpListener::bind((next, 80))).unwrap().unwrap();
    let near = bump.client().netns.run(|| TcpStream::connect((ours, 80))).unwrap().unwrap();
    let (mut far, _) = listener.accept().unwrap();
    // Two of 1448 bytes, and the rest of 104.
    (&near).write_all(&[7; 3000]).unwrap();
    assert!(!shown(&bump, &mut table, &mut copies).is_empty());
    let handled = table.exceptions(1)[0];
    // More if it is sent again before the answers come.
    assert!(handled.oversize >= 2 && handled.answers == handled.oversize, "{handled:?}");
    assert!(handled.whole >= 1, "{handled:?}");
    assert_eq!((handled.unreachable, handled.lost), (0, 0));
    // The sender is told what fits.
    far.set_read_timeout(Some(inline::WAIT)).unwrap();
    let mut got = vec![0; 3000];
    far.read_exact(&mut got).unwrap();
    assert_eq!(got, [7; 3000]);
}

#[test]
fn the_mtu_of_an_interface_is_followed() {
    let Some(bump) = Bump::new() else { return };
    let (ours, next) = (bump.ours(false), bump.next_address(false));
    let (mut table, mut copies) = open(&bump, &format!("udp://{ours}={next}"), &[]);
    let client = udp(bump.client(), SocketAddr::new(bump.client_address(false), 0));
    let server = udp(bump.next(), SocketAddr::new(next, 53));
    for (mtu, told) in [(1500, 0), (1300, 1)] {
        bump.us().ip(&format!("link set client mtu {mtu}"));
        // It looks each half second.
        std::thread::sleep(Duration::from_millis(600));
        bump.tick(&mut table);
        client.send_to(b"small", SocketAddr::new(ours, 53)).unwrap();
        let (_, from) = server.recv_from(&mut [0; 9]).unwrap();
        server.send_to(&[0; 1400], from).unwrap();
        let handed_up = shown(&bump, &mut table, &mut copies).len() as u64;
        let back = table.exceptions(1)[1];
        assert_eq!((handed_up, back.oversize, back.answers), (told, told, told), "{mtu}");
    }
}

#[test]
fn errors_are_shown_as_they_come_as_they_go_and_between_both_ends() {
    if !rig::tool_or_skip("ethtool") {
        return;
    }
    let Some(bump) = Bump::new() else { return };
    // What it sends is quoted before a NIC would complete the checksum.
    let off = bump.client().netns.command("ethtool").args(["-K", "us", "tx", "off"]).output();
    assert!(off.unwrap().status.success());
    let views = [InlineView::Ingress, InlineView::Egress, InlineView::Inline];
    for is_v6 in [false, true] {
        let (ours, next) = (bump.ours(is_v6), bump.next_address(is_v6));
        let (client, source) = (bump.client_address(is_v6), bump.source(is_v6));
        let at = SocketAddr::new(next, 9);
        let rule = format!("udp://{}={at}", SocketAddr::new(ours, 7));
        let (mut table, mut copies) = open(&bump, &rule, &views);
        let socket = udp(bump.client(), SocketAddr::new(client, 0));
        let port = socket.local_addr().unwrap().port();
        socket.connect(SocketAddr::new(ours, 7)).unwrap();
        socket.send(b"nobody").unwrap();
        assert!(socket.recv(&mut [0; 9]).is_err());
        let all = shown(&bump, &mut table, &mut copies);
        let seen: Vec<_> = all.iter().map(|it| (it.view, it.direction)).collect();
        let of = |direction| {
            [View::Ingress, View::Inline, View::Egress].map(|view| (view, direction)).to_vec()
        };
        assert_eq!(seen, [of(Direction::In), of(Direction::Out)].concat());
        let end = |address, port| End { address, port };
        // Who says it to whom, and about which packet.
        let wanted = [
            (next, source, end(source, port), end(next, 9), 64),
            (next, client, end(client, port), end(next, 9), 64),
            (ours, client, end(client, port), end(ours, 7), 63),
        ];
        for (shown, wanted) in all[3..].iter().zip(wanted) {
            ends(&shown.frame);
            // All of it is in the error, so that its own checksums can be looked at.
            ends(&quoted(&shown.frame));
            let reading = Reading::of(LinkType::ETHERNET, &shown.frame).unwrap();
            let Kind::Error(about) = reading.kind else { panic!("{reading:?}") };
            let (from, to) = (reading.source.address, reading.destination.address);
            assert_eq!((from, to, about.source, about.destination, reading.hops), wanted);
        }
        assert_eq!(table.counters(1).unwrap().map(|counters| counters.shown), [3, 3]);
        // Without anybody who takes them no copies are made, and none is missing.
        drop(copies);
        bump.tick(&mut table);
        socket.send(b"nobody").unwrap();
        assert!(socket.recv(&mut [0; 9]).is_err());
        let counters = table.counters(1).unwrap();
        assert_eq!(counters.map(|it| (it.forwarded, it.shown, it.not_shown)), [(2, 3, 0); 2]);
        table.stop().unwrap();
    }
}

#[test]
fn that_the_next_host_is_not_there_is_told() {
    let Some(bump) = Bump::new() else { return };
    let ours = bump.ours(false);
    let (mut table, mut copies) = open(&bump, &format!("{ours}=10.71.1.77"), &[]);
    let words = ["-c", "1", "-W", "2", &ours.to_string()];
    let mut said = String::new();
    rig::wait_until("the client is told", inline::WAIT, || {
        bump.tick(&mut table);
        said = std::thread::scope(|scope| {
            let (bump, words) = (&bump, &words);
            let ping =
                scope.spawn(move || bump.client().netns.command("ping").args(words).output());
            shown(bump, &mut table, &mut copies);
            let output = ping.join().expect("it ends").expect("ping is there");
            String::from_utf8_lossy(&output.stdout).into_owned()
        });
        said.contains("Unreachable")
    });
    let handled = table.exceptions(1)[0];
    assert!(handled.unreachable > 0 && handled.answers == handled.unreachable, "{handled:?}");
}

#[test]
fn one_interface_may_be_both() {
    let Some(bump) = Bump::new() else { return };
    // The next host is the client's neighbour.
    bump.client().ip("addr add 10.71.0.50/24 dev us");
    bump.us()
        .ip(&format!("neigh replace 10.71.0.50 lladdr {} dev client", bump.client().mac("us")));
    let ours = bump.ours(false);
    let mut config = bump.config(&[&format!("udp://{ours}:53=10.71.0.50:54")]);
    config.egress = "client".into();
    let table = bump.open_config(&config).0;
    let client = udp(bump.client(), SocketAddr::new(bump.client_address(false), 0));
    let server = udp(bump.client(), "10.71.0.50:54".parse().unwrap());
    client.send_to(b"there", SocketAddr::new(ours, 53)).unwrap();
    let (_, from) = server.recv_from(&mut [0; 9]).unwrap();
    assert_eq!(from, SocketAddr::new(ours, client.local_addr().unwrap().port()));
    server.send_to(b"back", from).unwrap();
    let (_, from) = client.recv_from(&mut [0; 9]).unwrap();
    assert_eq!(from, SocketAddr::new(ours, 53));
    let [there, back] = table.counters(1).unwrap();
    assert_eq!((there.forwarded, back.forwarded), (1, 1));
    table.stop().unwrap();
}
