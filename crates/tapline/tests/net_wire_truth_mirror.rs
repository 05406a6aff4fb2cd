//! What comes out of a tunnel at the sink is what the wire carried, byte for byte, although both
//! tapped hosts have all offloads on and keep them.
//!
//! ```text
//! near ─────── client ─────────── west ═══════════ east ─────────── server ─────── far
//! receive      offloads on        offloads off                  offloads on     receive
//!              mirror             tcpdump, the judge                 mirror
//!              applications                                          applications
//! ```

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_links;
mod over_wire;

use nix::sys::socket::sockopt::{UdpGroSegment, UdpGsoSegment};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
};
use over_links::{Tapline, text};
use over_wire::{FRAME_BYTES_MAX, Scene, can_run, limit_window};
use rig::{
    Frame, Tcpdump, assert_same_packets, exchange, frames_in, link_or_skip, on_one_cpu, wait_until,
    wait_until_still,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;

const BYTES_EACH_WAY: usize = 2 << 20;
/// Connections whose outer ports are compared.
const CONNECTIONS: usize = 20;
/// How much of each frame is kept; 0: all.
const WHOLE: usize = 0;
const SLICE: usize = 128;
const UNDERLAY_MTUS: [u32; 2] = [LONGEST_UNDERLAY_MTU, 1500];
/// All that is carried fits.
const LONGEST_UNDERLAY_MTU: u32 = 9000;
const DATAPATHS: [&str; 2] = ["ring", "kernel"];
/// The longest frame that a 16-bit length can describe.
const FRAME_BYTES_MAX_16: usize = 65_535 + 14;

#[test]
fn tcp_comes_out_of_the_tunnel_as_the_wire_carried_it() {
    if !can_run() {
        return;
    }
    let each =
        everywhere().flat_map(|(datapath, mtu)| [WHOLE, SLICE].map(|kept| (datapath, mtu, kept)));
    for (datapath, mtu, kept) in each {
        eprintln!("{datapath}, underlay MTU {mtu}, {kept} bytes of each frame");
        let scene = Scene::with_sinks("mirror-tcp", mtu);
        let taps = Taps::start_sliced(&scene, datapath, "tcp port 80", kept);
        let outer = scene.scratch.path("outer.pcap");
        let outer = Tcpdump::start(scene.host("near"), "client", &outer, "udp dst port 4790");
        for address in scene.server_addresses() {
            run_tcp(&scene, (address, 80).into());
            for _ in 0..CONNECTIONS / 2 {
                let (client, server) = (scene.host("client"), scene.host("server"));
                exchange(&client.netns, &server.netns, (address, 80).into(), 20_000);
            }
        }
        let wire = taps.stop_and_compare(&scene);
        assert_one_port_each(&outer.stop());
        let payload: usize = wire.iter().map(|frame| frame.bytes.len()).sum();
        assert!(payload > 4 * BYTES_EACH_WAY, "{payload} bytes in all");
    }
}

#[test]
fn udp_cut_for_its_sender_comes_out_of_the_tunnel_as_the_wire_carried_it() {
    if !can_run() {
        return;
    }
    for (datapath, mtu) in everywhere() {
        let scene = Scene::with_sinks("mirror-udp", mtu);
        let taps = Taps::start(&scene, datapath, "udp port 9");
        for address in scene.server_addresses() {
            for joined in [false, true] {
                run_udp(&scene, (address, 9).into(), joined);
            }
        }
        let wire = taps.stop_and_compare(&scene);
        // Of each write of 14,500 bytes: ten of 1400 and one of 500; and the two that are not cut.
        assert_eq!(wire.len(), 2 * 2 * (40 * 11 + 2));
    }
}

#[test]
fn traffic_inside_a_kernel_s_vxlan_device_does_too() {
    if !can_run() || !link_or_skip("type vxlan id 5 dstport 4789") {
        return;
    }
    for (datapath, mtu) in everywhere() {
        let scene = Scene::with_sinks("mirror-vxlan", mtu);
        let taps = Taps::start(&scene, datapath, "udp port 4789");
        for (place, (client, server)) in
            scene.client_addresses().into_iter().zip(scene.server_addresses()).enumerate()
        {
            let inner = join_by_vxlan(&scene, place, client, server);
            for address in inner {
                run_tcp(&scene, (address, 80).into());
            }
        }
        let wire = taps.stop_and_compare(&scene);
        let payload: usize = wire.iter().map(|frame| frame.bytes.len()).sum();
        assert!(payload > 8 * BYTES_EACH_WAY, "{payload} bytes in all");
    }
}

#[test]
fn super_packets_longer_than_64_kib_do_too() {
    if !can_run() {
        return;
    }
    for (datapath, mtu) in everywhere() {
        let scene = Scene::with_sinks("mirror-big", mtu);
        let ends = [("client", "west"), ("server", "east")];
        for (host, port) in ends {
            let host = scene.host(host);
            if let Err(why) = host.netns.run(|| allow_long(port, 180_000)).unwrap() {
                eprintln!("skipped: no BIG TCP here: {why}");
                return;
            }
            limit_window(host, 380_000);
        }
        let mut taps = Taps::start(&scene, datapath, "tcp port 80");
        taps.longest_at_least = FRAME_BYTES_MAX_16 + 1;
        for address in scene.server_addresses() {
            run_tcp(&scene, (address, 80).into());
        }
        taps.stop_and_compare(&scene);
    }
}

/// Both directions of each connection have one outer source port. Of what is sent in fragments, the
/// first one tells it.
fn assert_one_port_each(outer: &[Frame]) {
    let mut ports: BTreeMap<[Vec<u8>; 2], BTreeSet<[u8; 2]>> = BTreeMap::new();
    let mut senders = BTreeSet::new();
    for frame in outer {
        // Ethernet, IPv4, UDP, VXLAN.
        let (head, inner) = frame.bytes.split_at(14 + 20 + 8 + 8);
        let (from, to, tcp) = match inner[12] {
            0x08 => (26..30, 30..34, 34),
            _ => (22..38, 38..54, 54),
        };
        let from = [&inner[from], &inner[tcp..tcp + 2]].concat();
        let to = [&inner[to], &inner[tcp + 2..tcp + 4]].concat();
        senders.insert(from.clone());
        let mut ends = [from, to];
        ends.sort();
        ports.entry(ends).or_default().insert([head[34], head[35]]);
    }
    assert!(ports.len() >= CONNECTIONS, "{} connections", ports.len());
    for (ends, ports) in ports {
        assert_eq!(ports.len(), 1, "{ends:02x?}: {ports:02x?}");
        assert!(ends.iter().all(|end| senders.contains(end)), "one direction only: {ends:02x?}");
    }
}

/// Each datapath over each underlay.
fn everywhere() -> impl Iterator<Item = (&'static str, u32)> {
    DATAPATHS.into_iter().flat_map(|datapath| UNDERLAY_MTUS.map(|mtu| (datapath, mtu)))
}

/// Both ways at once; each end checks the bytes that it gets.
fn run_tcp(scene: &Scene, to: SocketAddr) {
    let (client, server) = (&scene.host("client").netns, &scene.host("server").netns);
    exchange(client, server, to, BYTES_EACH_WAY);
}

/// Writes that the kernel or the NIC cuts into datagrams of 1400 bytes, and two short ones. The
/// application gets each of them, joined again by GRO if it likes that.
fn run_udp(scene: &Scene, to: SocketAddr, joined: bool) {
    let mut bound = None;
    // A program that another test starts just then holds the listener before until it is executed.
    wait_until("the port is free", over_links::SOON, || {
        bound = scene.host("server").netns.run(|| UdpSocket::bind(to)).unwrap().ok();
        bound.is_some()
    });
    let listener = bound.unwrap();
    listener.set_read_timeout(Some(over_links::SOON)).unwrap();
    let content: Vec<u8> = (0..14_500u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    let write = |number: u8| [&[number], &content[1..]].concat();
    setsockopt(&listener, UdpGroSegment, &joined).unwrap();
    let receive = |mut expected: &[u8]| {
        while !expected.is_empty() {
            let mut datagrams = [0; 65_535];
            let len = listener.recv(&mut datagrams).unwrap();
            assert!(joined || len <= 1400);
            let (begin, rest) = expected.split_at_checked(len).unwrap();
            assert!(datagrams[..len] == *begin, "{len} bytes of UDP");
            expected = rest;
        }
    };
    let send_all = || {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect(to).unwrap();
        setsockopt(&socket, UdpGsoSegment, &1400).unwrap();
        for number in 0..40 {
            let write = write(number);
            socket.send(&write).unwrap();
            receive(&write);
        }
        for short in [&content[..1400], b"x"] {
            socket.send(short).unwrap();
            receive(short);
        }
    };
    on_one_cpu(|| scene.host("client").netns.run(send_all).unwrap());
}

/// Lets an interface of the calling thread's namespace send and join super-packets of so many bytes,
/// of both families (`RTM_SETLINK`; `ip` can say it since 6.2).
fn allow_long(interface: &str, bytes: u32) -> nix::Result<()> {
    const GSO_MAX_SIZE: u16 = 41;
    const GRO_MAX_SIZE: u16 = 58;
    const GSO_IPV4_MAX_SIZE: u16 = 63;
    const GRO_IPV4_MAX_SIZE: u16 = 64;
    let index = nix::net::if_::if_nametoindex(interface)?;
    let mut message = Vec::new();
    // struct ifinfomsg: family, padding, type, index, flags, change.
    message.extend([[0; 4], index.to_ne_bytes(), [0; 4], [0; 4]].concat());
    for kind in [GSO_MAX_SIZE, GRO_MAX_SIZE, GSO_IPV4_MAX_SIZE, GRO_IPV4_MAX_SIZE] {
        message.extend([8u16.to_ne_bytes(), kind.to_ne_bytes()].concat());
        message.extend(bytes.to_ne_bytes());
    }
    // struct nlmsghdr: length, RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, sequence, port.
    let (kind, flags) = (19u16, 5u16);
    let head = [16 + message.len() as u32, u32::from(flags) << 16 | u32::from(kind), 1, 0];
    #[cfg(target_endian = "big")]
    let head = [head[0], u32::from(kind) << 16 | u32::from(flags), 1, 0];
    let head = head.map(u32::to_ne_bytes).concat();
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    send(socket.as_raw_fd(), &[head, message].concat(), MsgFlags::empty())?;
    let mut answer = [0; 256];
    recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // struct nlmsgerr behind the header: 0, or an error number less than 0.
    match i32::from_ne_bytes(*answer[16..].first_chunk().unwrap()) {
        0 => Ok(()),
        error => Err(nix::errno::Errno::from_raw(-error)),
    }
}

/// Joins client and server by vxlan devices; gives the server's addresses in there.
fn join_by_vxlan(scene: &Scene, place: usize, client: IpAddr, server: IpAddr) -> [IpAddr; 2] {
    let (device, network) = (format!("vx{place}"), 80 + place as u8);
    let v4 = |end: u8| IpAddr::from([10, 72, network, end]);
    let v6 = |end: u16| IpAddr::from([0xfd72, 0, 0, network.into(), 0, 0, 0, end]);
    let ends = [("client", "west", client, 1), ("server", "east", server, 2)];
    for ((host, port, own, end), (.., other, other_end)) in [(ends[0], ends[1]), (ends[1], ends[0])]
    {
        let host = scene.host(host);
        let mac = |end: u8| format!("02:72:00:00:{network:02x}:{end:02x}");
        host.ip(&format!(
            "link add {device} address {} type vxlan id {network} dstport 4789 local {own} \
             remote {other} dev {port}",
            mac(end)
        ));
        host.ip(&format!("link set {device} up"));
        for (address, prefix, peer) in
            [(v4(end), "24", v4(other_end)), (v6(end.into()), "64", v6(other_end.into()))]
        {
            let nodad = if address.is_ipv6() { "nodad" } else { "" };
            host.ip(&format!("addr add {address}/{prefix} dev {device} {nodad}"));
            let mac = mac(other_end);
            host.ip(&format!("neigh replace {peer} lladdr {mac} dev {device} nud permanent"));
        }
    }
    [v4(2), v6(2)]
}

/// A mirror and the receiver that it sends to.
struct Tap {
    mirror: Tapline,
    receive: Tapline,
    file: PathBuf,
    /// Whether it takes only what the host receives.
    only_received: bool,
}

/// The taps of both ends and the judges.
struct Taps {
    /// Between the bridges.
    wire: Tcpdump,
    /// What the stacks of client and server show.
    inside: [Tcpdump; 2],
    taps: Vec<Tap>,
    /// Offload settings of the tapped interfaces.
    offloads: Vec<String>,
    /// A super-packet so long must be sent, or the test proves nothing.
    longest_at_least: usize,
    /// How much of each frame they keep; 0: all.
    kept: usize,
    /// Whether packets of one sender may pass each other: what does not fit the path takes a longer way.
    is_out_of_order: bool,
}

impl Taps {
    fn start(scene: &Scene, datapath: &str, expression: &str) -> Taps {
        Taps::start_sliced(scene, datapath, expression, WHOLE)
    }

    fn start_sliced(scene: &Scene, datapath: &str, expression: &str, kept: usize) -> Taps {
        let slice = kept.to_string();
        let offloads = offloads(scene);
        let tcpdump = |host: &str, port: &str, name: &str| {
            Tcpdump::start(scene.host(host), port, &scene.scratch.path(name), expression)
        };
        let tap = |host: &str, port: &str, sink: &str, udp_port: u16, direction: &str| {
            let file = scene.scratch.path(&format!("{host}-{direction}.pcapng"));
            let ledger = |of: &str| scene.scratch.path(&format!("{host}-{direction}-{of}.json"));
            let sink_host = scene.host(sink);
            // One of them goes over IPv6.
            let address = match direction {
                "both" => sink_host.v4(host).to_string(),
                _ => format!("[{}]", sink_host.v6(host)),
            };
            let endpoint = format!("vxlan://{address}:{udp_port}?vni=71");
            let words = ["receive", "-U", "--listen", &endpoint, "-w", text(&file)];
            let receive = Tapline::start(sink_host, ledger("receive"), &words);
            let words = ["mirror", "-i", port, "--to", &endpoint, "--direction", direction];
            let words = [&words[..], &["--datapath", datapath, "-s", &slice, expression]].concat();
            let mirror = Tapline::start(scene.host(host), ledger("mirror"), &words);
            Tap { mirror, receive, file, only_received: direction == "in" }
        };
        Taps {
            wire: tcpdump("west", "east", "wire.pcap"),
            inside: [
                tcpdump("client", "west", "client.pcap"),
                tcpdump("server", "east", "server.pcap"),
            ],
            taps: vec![
                tap("client", "west", "near", 4790, "both"),
                tap("server", "east", "far", 4790, "both"),
                tap("server", "east", "far", 4791, "in"),
            ],
            offloads,
            longest_at_least: FRAME_BYTES_MAX + 1,
            kept,
            is_out_of_order: datapath == "kernel" && scene.underlay_mtu < LONGEST_UNDERLAY_MTU,
        }
    }

    /// Compares what each sink wrote with what the wire carried, and gives the latter.
    fn stop_and_compare(self, scene: &Scene) -> Vec<Frame> {
        let wire = self.wire.stop();
        assert!(wire.iter().all(|frame| frame.bytes.len() <= FRAME_BYTES_MAX));
        let client = scene.host("client").mac("west");
        let is_client_s = |frame: &&Frame| mac(&frame.bytes[6..12]) == client;
        let [sent, joined] = self.inside.map(|tcpdump| {
            let frames = tcpdump.stop();
            let lengths = frames.iter().filter(is_client_s).map(|frame| frame.bytes.len());
            lengths.max().unwrap_or(0)
        });
        eprintln!("{} packets; longest sent {sent} bytes, joined {joined}", wire.len());
        assert!(sent >= self.longest_at_least && joined > FRAME_BYTES_MAX, "it proves nothing");
        let received: Vec<Frame> = wire.iter().filter(is_client_s).cloned().collect();
        for tap in self.taps {
            let expected = if tap.only_received { &received } else { &wire };
            let mut expected: Vec<Frame> =
                expected.iter().map(|frame| cut(frame, self.kept)).collect();
            wait_until_still(&tap.file);
            let mirror = tap.mirror.stop();
            assert_eq!(mirror.drops.total(), 0, "{mirror}");
            assert_eq!(mirror.sent, expected.len() as u64, "{mirror}");
            wait_until_still(&tap.file);
            let receive = tap.receive.stop();
            assert_eq!(receive.drops.total(), 0, "{receive}");
            assert_eq!(receive.written, mirror.sent, "the network between lost some: {receive}");
            eprintln!("compare {} with the wire", tap.file.display());
            let mut got = frames_in(&tap.file);
            if self.is_out_of_order {
                got.sort_by(|a, b| a.bytes.cmp(&b.bytes));
                expected.sort_by(|a, b| a.bytes.cmp(&b.bytes));
            }
            assert_same_packets(&got, &expected);
        }
        assert_eq!(offloads(scene), self.offloads);
        wire
    }
}

/// A frame of which so many bytes are carried: how long it was, the receiver tells from its IP header.
fn cut(frame: &Frame, kept: usize) -> Frame {
    let mut frame = frame.clone();
    if kept != WHOLE {
        frame.bytes.truncate(kept);
    }
    frame
}

/// What `ethtool -k` says of the tapped interfaces.
fn offloads(scene: &Scene) -> Vec<String> {
    let of = |(host, port): (&str, &str)| {
        let mut command: Command = scene.host(host).netns.command("ethtool");
        let output = command.args(["-k", port]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    [("client", "west"), ("client", "near"), ("server", "east"), ("server", "far")].map(of).into()
}

fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
