//! What the ring takes of what arrives for the ends of tunnels, and that the host stays quiet about it.
//!
//! Frames come in through a TAP device, byte for byte as the test writes them, or over a link.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

use io::netns::Netns;
use io::ring::{Handover, RingSize};
use io::ring_listen::{ListenPoint, RingListenOptions, RingListener};
use io::tun::{Tap, Tun};
use io::{Arrival, Batch, Interfaces, Source};
use rig::{Host, Topology, in_netns};
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};
use wire::tunnel::Carrier;

const VXLAN: Carrier = Carrier::Udp { port: 4789 };
const GRE: Carrier = Carrier::Ip { protocol: 47 };
const L2TP: Carrier = Carrier::Ip { protocol: 115 };
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const MORE_FRAGMENTS: u16 = 0x2000;

fn options(points: &[(&str, Carrier)]) -> RingListenOptions {
    let point = |&(address, carrier): &(&str, Carrier)| ListenPoint {
        address: address.parse().unwrap(),
        carrier,
    };
    RingListenOptions {
        points: points.iter().map(point).collect(),
        ring_size: RingSize::Bytes(4 << 20),
        handover: Handover::Prompt,
        except: Vec::new(),
    }
}

/// Opens the rings in a namespace.
fn listen(netns: &Netns, points: &[(&str, Carrier)]) -> Vec<RingListener> {
    let open = || RingListener::open(&options(points), &Interfaces::default());
    netns.run(open).unwrap().unwrap_or_else(|e| panic!("{e}"))
}

/// Stops a ring, and gives what had come in.
fn take(source: &mut RingListener) -> Vec<Vec<u8>> {
    source.stop().unwrap();
    let (mut batch, mut frames) = (Batch::new(), Vec::new());
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        let arrival = source.receive(&mut batch).unwrap();
        frames.extend(batch.packets().iter().map(|packet| packet.data.to_vec()));
        batch.clear();
        match arrival {
            Arrival::End => return frames,
            Arrival::Packets => {}
            Arrival::Idle => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    panic!("the ring does not run dry");
}

/// An IPv4 packet; `fragment` is the word of flags and offset.
fn v4(
    destination: [u8; 4],
    protocol: u8,
    fragment: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let header_len = 20 + options.len();
    let mut packet = vec![0x40 + header_len as u8 / 4, 0];
    packet.extend(((header_len + payload.len()) as u16).to_be_bytes());
    packet.extend([0, 7]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 9, 0, 99]);
    packet.extend(destination);
    packet.extend(options);
    let sum = wire::checksum::of(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// An IPv6 packet to fd09::1; `next` is the first header's number.
fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64, 0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 99]);
    packet.extend([0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend(payload);
    packet
}

/// A UDP header of no checksum, and what follows.
fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0xc0, 0];
    datagram.extend(port.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

fn ethernet(to: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 0x99]);
    frame.extend(if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] });
    frame.extend(packet);
    frame
}

/// A namespace with a TAP device `tap` whose end is at 10.9.0.1 and fd09::1.
fn with_tap(test: impl FnOnce(&Netns, &Tap) + Send) {
    in_netns(|netns| {
        let tap = Tap::new("tap").unwrap();
        let ip = |words: &str| netns.ip(words).unwrap_or_else(|e| panic!("{e}"));
        ip("link set tap address 02:00:00:00:00:01 up");
        ip("address add 10.9.0.1/24 dev tap");
        ip("-6 address add fd09::1/64 dev tap nodad");
        test(netns, &tap);
    });
}

const HERE: [u8; 4] = [10, 9, 0, 1];
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn what_arrives_for_the_tunnels_is_taken_and_nothing_else() {
    if !rig::root_or_skip() {
        return;
    }
    with_tap(|netns, tap| {
        let mut rings = listen(netns, &[("10.9.0.1", VXLAN), ("0.0.0.0", GRE), ("10.9.0.1", L2TP)]);
        let [ring] = &mut rings[..] else { panic!("one version of IP is listened for") };
        let wanted = [
            v4(HERE, 17, 0, &[], &udp(4789, b"plain")),
            v4(HERE, 17, 0x4000, &[1; 8], &udp(4789, b"with options, not to be fragmented")),
            v4(HERE, 47, 0, &[], b"\0\0\x65\x58gre"),
            v4(HERE, 115, 0, &[], b"\0\0\0\x07l2tp"),
            v4([10, 9, 0, 255], 47, 0, &[], b"\0\0\x65\x58broadcast"),
            v4(HERE, 17, MORE_FRAGMENTS, &[], &udp(4789, b"first")),
            v4(HERE, 17, 2, &[], b"a later fragment has no port"),
            v4(HERE, 47, 2, &[], b"a later fragment"),
        ];
        let unwanted = [
            v4(HERE, 17, 0, &[], &udp(4790, b"another port")),
            v4(HERE, 6, 0, &[], &udp(4789, b"another protocol")),
            v4([10, 9, 0, 2], 17, 0, &[], &udp(4789, b"to be forwarded")),
            v4([10, 9, 0, 2], 47, 0, &[], b"to be forwarded"),
            v4([10, 9, 0, 255], 17, 0, &[], &udp(4789, b"not listened for there")),
            v4(HERE, 17, 0, &[], b"\xc0\0\x12"),
            v4(HERE, 6, 3, &[], b"a later fragment of TCP"),
            v6(17, &udp(4789, b"version 6")),
        ];
        for packet in wanted.iter().chain(&unwanted) {
            tap.send(&ethernet(OWN_MAC, packet), None).unwrap();
            // A switch floods what it does not know, and a promiscuous NIC shows it.
            tap.send(&ethernet(OTHER_MAC, packet), None).unwrap();
        }
        let expected = wanted.map(|packet| ethernet(OWN_MAC, &packet));
        assert_eq!(take(ring), expected);
        assert_eq!((ring.drops().total(), ring.missing()), (0, 0));
    });
}

#[test]
fn what_the_process_feeds_is_no_source() {
    if !rig::root_or_skip() {
        return;
    }
    with_tap(|netns, tap| {
        let shown = netns.ip("-o link show tap").unwrap();
        let index: i32 = shown.split(':').next().unwrap().trim().parse().unwrap();
        // Of raw sockets many may stand at one place.
        let points = [("0.0.0.0", GRE), ("10.9.0.1", L2TP)];
        let excepted = [vec![], vec![index + 1], vec![index], vec![index + 1, index]];
        let mut rings = excepted.map(|except| {
            let options = RingListenOptions { except, ..options(&points) };
            let open = || RingListener::open(&options, &Interfaces::default());
            netns.run(open).unwrap().unwrap_or_else(|e| panic!("{e}")).remove(0)
        });
        for mac in [OWN_MAC, [0xff; 6]] {
            tap.send(&ethernet(mac, &v4(HERE, 47, 0, &[], b"\0\0\x65\x58gre")), None).unwrap();
            tap.send(&ethernet(mac, &v4(HERE, 115, 0, &[], b"\0\0\0\x07l2tp")), None).unwrap();
        }
        let taken = rings.each_mut().map(|ring| take(ring).len());
        assert_eq!(taken, [4, 4, 0, 0]);
    });
}

#[test]
fn extension_headers_are_stepped_over() {
    if !rig::root_or_skip() {
        return;
    }
    with_tap(|netns, tap| {
        let mut rings = listen(netns, &[("::", VXLAN), ("fd09::1", GRE)]);
        assert_eq!(rings.len(), 2, "over UDP, `::` stands for both versions");
        let datagram = udp(4789, b"payload");
        let header = |next: u8, bytes: &[u8], rest: &[u8]| [&[next], bytes, rest].concat();
        let hop_by_hop = |next, rest: &[u8]| header(next, &[0, 1, 4, 0, 0, 0, 0], rest);
        let authentication =
            |next, rest: &[u8]| header(next, &[[1; 1].as_slice(), &[0; 10]].concat(), rest);
        let fragment = |next, offset: u16, rest: &[u8]| {
            header(next, &[&[0][..], &offset.to_be_bytes(), &[0, 0, 0, 7]].concat(), rest)
        };
        let wanted = [
            v6(17, &datagram),
            v6(47, b"\0\0\x65\x58gre"),
            v6(0, &hop_by_hop(60, &hop_by_hop(17, &datagram))),
            v6(51, &authentication(17, &datagram)),
            v6(44, &fragment(17, 0, &datagram)),
            v6(44, &fragment(17, 1, &datagram)),
            v6(0, &hop_by_hop(44, &fragment(17, 9 << 3, b"later"))),
            v6(44, &fragment(47, 9 << 3, b"later")),
        ];
        let unwanted = [
            v6(17, &udp(9, b"payload")),
            v6(0, &hop_by_hop(17, &udp(9, b"payload"))),
            v6(44, &fragment(6, 9 << 3, b"later")),
            v6(59, b""),
            v6(115, b"\0\0\0\x07l2tp"),
            v6(0, &[17, 200, 0, 0, 0, 0, 0, 0]),
        ];
        for packet in wanted.iter().chain(&unwanted) {
            tap.send(&ethernet(OWN_MAC, packet), None).unwrap();
        }
        let of_v4 = ethernet(OWN_MAC, &v4(HERE, 17, 0, &[], &datagram));
        tap.send(&of_v4, None).unwrap();
        assert_eq!(take(&mut rings[0]), [of_v4]);
        assert_eq!(take(&mut rings[1]), wanted.map(|packet| ethernet(OWN_MAC, &packet)));
    });
}

#[test]
fn a_frame_that_passes_several_devices_is_taken_once() {
    if !rig::root_or_skip() || !rig::link_or_skip("type bridge") {
        return;
    }
    with_tap(|netns, tap| {
        let ip = |words: &str| netns.ip(words).unwrap_or_else(|e| panic!("{e}"));
        ip("address flush dev tap");
        ip("link add bridge type bridge");
        ip("link set bridge address 02:00:00:00:00:01 up");
        ip("link set tap master bridge");
        ip("address add 10.9.0.1/24 dev bridge");
        // A bridge port forwards as soon as it is up: the kernel's own spanning tree is off.
        let mut ring = listen(netns, &[("0.0.0.0", VXLAN)]).remove(0);
        let here = ethernet(OWN_MAC, &v4(HERE, 17, 0, &[], &udp(4789, b"once")));
        tap.send(&here, None).unwrap();
        // The host is its own sender, too: that arrives on loopback.
        UdpSocket::bind("10.9.0.1:0").unwrap().send_to(b"once", "10.9.0.1:4789").unwrap();
        let frames = take(&mut ring);
        assert_eq!(frames.len(), 2, "{frames:?}");
        assert!(frames.iter().all(|frame| frame.ends_with(b"once")));
    });
}

#[test]
fn addresses_are_followed() {
    if !rig::root_or_skip() {
        return;
    }
    with_tap(|netns, tap| {
        let mut rings = listen(netns, &[("0.0.0.0", GRE), ("10.9.0.1", VXLAN)]);
        let ring = &mut rings[0];
        let send = |name: &[u8]| {
            let new = v4([10, 9, 0, 3], 47, 0, &[], name);
            let old = v4(HERE, 17, 0, &[], &udp(4789, name));
            for packet in [new, old] {
                tap.send(&ethernet(OWN_MAC, &packet), None).unwrap();
            }
        };
        send(b"before");
        netns.ip("address add 10.9.0.3/32 dev tap").unwrap();
        netns.ip("address del 10.9.0.1/24 dev tap").unwrap();
        // It looks when it is idle.
        let mut batch = Batch::new();
        while ring.receive(&mut batch).unwrap() != Arrival::Idle {}
        send(b"after");
        let mut seen: Vec<_> = batch.packets().iter().map(|p| p.data.to_vec()).collect();
        seen.extend(take(ring));
        let seen: Vec<_> = seen.iter().map(|frame| frame[34..].to_vec()).collect();
        assert_eq!(seen, [udp(4789, b"before"), b"after".to_vec()]);
    });
}

/// A counter of /proc/net/snmp in a namespace.
fn snmp(netns: &Netns, protocol: &str, counter: &str) -> u64 {
    let read = || std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let text = netns.run(read).unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let place = names.split(' ').position(|name| name == counter).unwrap();
    values.split(' ').nth(place).unwrap().parse().unwrap()
}

/// `Icmp: OutDestUnreachs` and `Icmp6OutDestUnreachs` of a namespace.
fn unreachables(netns: &Netns) -> u64 {
    let read = || std::fs::read_to_string("/proc/thread-self/net/snmp6").unwrap();
    let text = netns.run(read).unwrap();
    let v6 = text.lines().find_map(|line| line.strip_prefix("Icmp6OutDestUnreachs")).unwrap();
    snmp(netns, "Icmp", "OutDestUnreachs") + v6.trim().parse::<u64>().unwrap()
}

#[test]
fn ip_goes_on_with_nothing_that_is_claimed() {
    if !rig::root_or_skip() {
        return;
    }
    with_tap(|netns, tap| {
        let mut ring = listen(netns, &[("0.0.0.0", VXLAN), ("0.0.0.0", GRE)]).remove(0);
        if ring.claiming_interfaces() == 0 {
            rig::skip("this kernel has no tcx (6.6), so IP goes on with all packets");
            return;
        }
        // One that comes later is claimed at, too.
        let other = netns.run(|| Tap::new("other").unwrap()).unwrap();
        netns.ip("link set other address 02:00:00:00:00:01 up").unwrap();
        assert_eq!(ring.receive(&mut Batch::new()).unwrap(), Arrival::Idle);
        assert_eq!(ring.claiming_interfaces(), 3);
        let delivered = |packet: &[u8]| {
            let before = snmp(netns, "Ip", "InDelivers");
            tap.send(&ethernet(OWN_MAC, packet), None).unwrap();
            other.send(&ethernet(OWN_MAC, packet), None).unwrap();
            snmp(netns, "Ip", "InDelivers") - before
        };
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/other/rp_filter", "0").unwrap();
        assert_eq!(delivered(&v4(HERE, 17, 0, &[], &udp(4789, b"claimed"))), 0);
        // Others' packets are theirs, and of a protocol there may be other readers.
        assert_eq!(delivered(&v4(HERE, 17, 0, &[], &udp(4790, b"another's"))), 2);
        assert_eq!(delivered(&v4(HERE, 47, 0, &[], b"\0\0\x65\x58gre")), 2);
        assert_eq!(take(&mut ring).len(), 4);
        drop(ring);
        // A program that another test is just starting holds the ring's descriptors for a moment.
        let nobodys = v4(HERE, 17, 0, &[], &udp(4789, b"nobody's"));
        rig::wait_until("nothing is claimed", PATIENCE, || delivered(&nobodys) == 2);
    });
}

#[test]
fn frames_of_a_vlan_that_nobody_has_are_not_taken() {
    if !rig::root_or_skip() {
        return;
    }
    with_tap(|netns, tap| {
        let mut ring = listen(netns, &[("0.0.0.0", VXLAN), ("0.0.0.0", GRE)]).remove(0);
        let tagged = |vid: u8, packet: &[u8]| {
            let mut frame = ethernet(OWN_MAC, packet);
            frame.splice(12..12, [0x81, 0, 0, vid]);
            frame
        };
        let packets = [
            v4(HERE, 17, 0, &[], &udp(4789, b"payload")),
            v4(HERE, 47, 0, &[], b"\0\0\x65\x58gre"),
        ];
        for packet in &packets {
            tap.send(&tagged(7, packet), None).unwrap();
            // A tag of VLAN 0 has a priority only.
            tap.send(&tagged(0, packet), None).unwrap();
        }
        let taken = take(&mut ring);
        assert_eq!(taken.len(), 2, "{taken:?}");
        for (frame, packet) in taken.iter().zip(&packets) {
            assert!(frame.ends_with(packet) && frame[14..16] != [0, 7], "{frame:?}");
        }
    });
}

#[test]
fn packets_of_a_link_that_is_not_known_are_taken_without_its_header() {
    const ARPHRD_PPP: u16 = 512;
    if !rig::root_or_skip() {
        return;
    }
    in_netns(|netns| {
        let tun = Tun::new("ppp", Some(ARPHRD_PPP)).unwrap();
        netns.ip("link set ppp up").unwrap();
        netns.ip("address add 10.9.0.1/24 dev ppp").unwrap();
        let mut ring = listen(netns, &[("10.9.0.1", VXLAN), ("10.9.0.1", GRE)]).remove(0);
        let packets = [
            v4(HERE, 17, 0, &[], &udp(4789, b"payload")),
            v4(HERE, 47, 0, &[], b"\0\0\x65\x58gre"),
        ];
        packets.iter().for_each(|packet| tun.send(packet).unwrap());
        assert_eq!(take(&mut ring), packets);
        assert_eq!((ring.drops().total(), ring.missing()), (0, 0));
    });
}

#[test]
fn the_host_does_not_answer() {
    if !rig::root_or_skip() {
        return;
    }
    with_tap(|netns, tap| {
        let points =
            [("0.0.0.0", VXLAN), ("10.9.0.1", GRE), ("10.9.0.1", L2TP), ("::", VXLAN), ("::", GRE)];
        // `::` over UDP would take the port of 0.0.0.0 too.
        std::fs::write("/proc/sys/net/ipv6/bindv6only", "1").unwrap();
        let send = || {
            for packet in [
                v4(HERE, 17, 0, &[], &udp(4789, b"payload")),
                v4(HERE, 47, 0, &[], b"\0\0\x65\x58gre"),
                v4(HERE, 115, 0, &[], b"\0\0\0\x07l2tp"),
                v6(17, &udp(4789, b"payload")),
                v6(47, b"\0\0\x65\x58gre"),
            ] {
                tap.send(&ethernet(OWN_MAC, &packet), None).unwrap();
            }
        };
        // ICMP to whom nobody knows the way to is not sent.
        netns.ip("neigh add 10.9.0.99 lladdr 02:00:00:00:00:99 dev tap").unwrap();
        netns.ip("neigh add fd09::63 lladdr 02:00:00:00:00:99 dev tap").unwrap();
        let mut rings = listen(netns, &points);
        send();
        let taken: usize = rings.iter_mut().map(|ring| take(ring).len()).sum();
        assert_eq!(taken, 5);
        assert_eq!(unreachables(netns), 0);
        drop(rings);
        // A program that another test starts just then holds the sockets until it is executed.
        rig::wait_until("without us it answers", Duration::from_secs(10), || {
            send();
            unreachables(netns) > 0
        });
    });
}

/// Sends datagrams from a host to another, in super-packets of `in_one`.
fn send_datagrams(from: &Host, to: (IpAddr, u16), datagrams: usize, in_one: usize, bytes: usize) {
    use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
    let run = || {
        let any = if to.0.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(to).unwrap();
        if in_one > 1 {
            setsockopt(&socket, UdpGsoSegment, &(bytes as i32)).unwrap();
        }
        for first in (0..datagrams).step_by(in_one) {
            let payload: Vec<u8> = (first..datagrams.min(first + in_one))
                .flat_map(|number| {
                    let mut datagram = vec![0; bytes];
                    datagram[..8].copy_from_slice(&(number as u64).to_be_bytes());
                    datagram
                })
                .collect();
            assert_eq!(socket.send(&payload).unwrap(), payload.len());
        }
    };
    from.netns.run(run).unwrap();
}

fn number(frame: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(frame[at..at + 8].try_into().unwrap())
}

#[test]
fn super_packets_of_a_neighbour_are_cut() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["sender", "sink"]).build();
    let (sender, sink) = (net.host("sender"), net.host("sink"));
    let mut rings = listen(&sink.netns, &[("::", VXLAN)]);
    let v4 = (sink.v4("sender").into(), 4789);
    let v6 = (sink.v6("sender").into(), 4789);
    send_datagrams(sender, v4, 200, 40, 1000);
    send_datagrams(sender, v6, 200, 40, 1000);
    for (ring, at) in rings.iter_mut().zip([14 + 20 + 8, 14 + 40 + 8]) {
        let frames = take(ring);
        let numbers: Vec<u64> = frames.iter().map(|frame| number(frame, at)).collect();
        assert_eq!(numbers, (0..200).collect::<Vec<u64>>());
        assert!(frames.iter().all(|frame| frame.len() == at + 1000));
        assert_eq!((ring.drops().total(), ring.missing()), (0, 0));
    }
}

#[test]
fn what_the_ring_loses_is_counted_to_the_packet() {
    if !rig::root_or_skip() {
        return;
    }
    let net = Topology::line(["sender", "sink"]).build();
    let (sender, sink) = (net.host("sender"), net.host("sink"));
    let mut options = options(&[("0.0.0.0", VXLAN)]);
    options.ring_size = RingSize::Bytes(512 << 10);
    let open = || RingListener::open(&options, &Interfaces::default()).unwrap();
    let mut ring = sink.netns.run(open).unwrap().remove(0);
    // Nobody reads: half a MiB is full soon. Some come one by one, some in super-packets.
    let to = (sink.v4("sender").into(), 4789);
    send_datagrams(sender, to, 500, 1, 1000);
    send_datagrams(sender, to, 500, 20, 1000);
    send_datagrams(sender, to, 500, 1, 1000);
    let taken = take(&mut ring).len() as u64;
    let lost = ring.drops().get(api::DropReason::KernelRing);
    assert!(lost > 0, "{taken} packets of 1000 bytes fit into 512 KiB");
    assert_eq!((taken + lost, ring.drops().total(), ring.missing()), (1500, lost, 0));
}

#[test]
fn mistakes_say_so() {
    if !rig::root_or_skip() {
        return;
    }
    with_tap(|netns, _tap| {
        let error = |points: &[(&str, Carrier)]| {
            let open = || RingListener::open(&options(points), &Interfaces::default());
            netns.run(open).unwrap().err().map(|error| error.to_string()).unwrap_or_default()
        };
        let _port = UdpSocket::bind("10.9.0.1:4789").unwrap();
        let taken = error(&[("10.9.0.1", VXLAN)]);
        assert!(
            taken.contains("udp 10.9.0.1:4789: bind") && taken.contains("holds the port"),
            "{taken}"
        );
        for point in [("10.9.0.2", VXLAN), ("10.9.0.2", GRE), ("fd09::2", L2TP)] {
            let foreign = error(&[point]);
            assert!(foreign.contains("not of this host"), "{foreign}");
        }
        // The same place twice is one; a free port is found.
        let twice = listen(netns, &[("127.0.0.1", GRE), ("127.0.0.1", GRE)]);
        assert_eq!(twice[0].points().len(), 1);
        let any = listen(netns, &[("127.0.0.1", Carrier::Udp { port: 0 })]);
        assert!(matches!(any[0].points()[0].carrier, Carrier::Udp { port: 1.. }));
    });
}
