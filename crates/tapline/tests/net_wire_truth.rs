//! What `capture` writes at a host with all offloads on is what the wire carries, byte for byte.
//!
//! ```text
//! client ─────────── west ═══════════ east ─────────── server
//!        offloads on      offloads off     offloads on
//!     capture           tcpdump, the judge              capture
//! ```
//! `west` and `east` are bridges, so that frames pass unchanged; the link between them has no
//! offloads, so that what tcpdump sees there is what a cable would carry.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_links;
mod over_wire;

use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use over_links::{BINARY, Tapline, text};
use over_wire::{FRAME_BYTES_MAX, Scene, can_run};
use rig::{Frame, Tcpdump, assert_same_packets, exchange, frames_in, on_one_cpu, wait_until_still};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;

const BYTES_EACH_WAY: usize = 2 << 20;

#[test]
fn tcp_is_captured_as_the_wire_carries_it_at_both_ends() {
    if !can_run() {
        return;
    }
    let scene = Scene::new("tcp");
    let captures = start(&scene, "tcp port 80");
    for address in scene.server_addresses() {
        let (client, server) = (&scene.host("client").netns, &scene.host("server").netns);
        exchange(client, server, (address, 80).into(), BYTES_EACH_WAY);
    }
    let packets = captures.stop_and_compare();
    let payload: usize = packets.iter().map(|frame| frame.bytes.len()).sum();
    assert!(payload > 4 * BYTES_EACH_WAY, "{payload} bytes in all");
    let wire = without_tcp_checksum(packets);
    for name in ["client.pcap", "server.pcap"] {
        let cut = cut_in_file(&scene.scratch.path(name), &scene.scratch.path("true.pcapng"));
        let cut = without_tcp_checksum(cut);
        let payload = |frames: &[Frame]| frames.iter().map(payload_len).sum::<usize>();
        assert_eq!(payload(&cut), payload(&wire), "{name}");
        // A sender with losses to report cuts some smaller for a while, which no file tells.
        let wire: HashSet<&[u8]> = wire.iter().map(|frame| &frame.bytes[..]).collect();
        let equal = cut.iter().filter(|frame| wire.contains(&frame.bytes[..])).count();
        eprintln!("of {name}, cut, {equal} of {} packets are the wire's", cut.len());
        assert!(4 * equal > 3 * cut.len());
    }
}

/// Has a file's super-packets cut; their connections' SYNs are in it.
fn cut_in_file(from: &Path, to: &Path) -> Vec<Frame> {
    let words = ["capture", "-r", text(from), "--wire-true", "-w", text(to)];
    let output = Command::new(BINARY).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("(0 of estimated size)"), "{said}");
    frames_in(to)
}

/// A file does not say which checksums were left to the NIC.
fn without_tcp_checksum(mut frames: Vec<Frame>) -> Vec<Frame> {
    for frame in &mut frames {
        let at = tcp_at(frame) + 16;
        frame.bytes[at..at + 2].fill(0);
    }
    frames
}

fn payload_len(frame: &Frame) -> usize {
    let at = tcp_at(frame);
    frame.bytes.len() - at - usize::from(frame.bytes[at + 12] >> 4) * 4
}

fn tcp_at(frame: &Frame) -> usize {
    14 + if frame.bytes[12..14] == [0x86, 0xdd] { 40 } else { 20 }
}

#[test]
fn udp_cut_by_the_kernel_for_its_sender_is_captured_as_the_wire_carries_it() {
    if !can_run() {
        return;
    }
    let scene = Scene::new("udp");
    let captures = start(&scene, "udp port 9");
    let server = scene.host("server");
    for address in scene.server_addresses() {
        let to = SocketAddr::from((address, 9));
        // Somebody must listen, or the packets are answered by ICMP.
        let _listener = server.netns.run(|| UdpSocket::bind(to)).unwrap().unwrap();
        on_one_cpu(|| scene.host("client").netns.run(|| send_in_segments(to)).unwrap());
    }
    let packets = captures.stop_and_compare();
    // Of each write of 10,500 bytes: ten of 1000 and one of 500; and the two that are not cut.
    assert_eq!(packets.len(), 2 * (50 * 11 + 2));
}

/// Sends writes that the kernel or the NIC cuts into datagrams of 1000 bytes, and two short ones.
fn send_in_segments(to: SocketAddr) {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.connect(to).unwrap();
    setsockopt(&socket, UdpGsoSegment, &1000).unwrap();
    let content: Vec<u8> = (0..10_500u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    for number in 0..50u8 {
        let mut content = content.clone();
        content[0] = number;
        socket.send(&content).unwrap();
    }
    socket.send(&content[..1000]).unwrap();
    socket.send(b"x").unwrap();
}

fn start(scene: &Scene, expression: &str) -> Captures {
    let path = |name: &str| scene.scratch.path(name);
    let tcpdump = |host: &str, port: &str, name: &str| {
        Tcpdump::start(scene.host(host), port, &path(name), expression)
    };
    let tapline = |host: &str, port: &str, name: &str| {
        let file = path(name);
        let words = ["capture", "-U", "-i", port, "-w", text(&file), expression];
        (Tapline::start(scene.host(host), path(&format!("{name}.json")), &words), file)
    };
    Captures {
        wire: tcpdump("west", "east", "wire.pcap"),
        inside: [
            tcpdump("client", "west", "client.pcap"),
            tcpdump("server", "east", "server.pcap"),
        ],
        tapped: [
            tapline("client", "west", "client.pcapng"),
            tapline("server", "east", "server.pcapng"),
        ],
    }
}

struct Captures {
    /// Between the bridges.
    wire: Tcpdump,
    /// What the stacks of client and server show.
    inside: [Tcpdump; 2],
    /// Ours, there too, and the files that they write.
    tapped: [(Tapline, PathBuf); 2],
}

impl Captures {
    /// Compares both captures with the wire's, and gives the latter.
    fn stop_and_compare(self) -> Vec<Frame> {
        let wire = self.wire.stop();
        assert!(wire.iter().all(|frame| frame.bytes.len() <= FRAME_BYTES_MAX));
        let [client, server] = self.inside.map(|tcpdump| {
            let frames = tcpdump.stop();
            frames.iter().filter(|frame| frame.bytes.len() > FRAME_BYTES_MAX).count()
        });
        eprintln!(
            "{} packets on the wire; super-packets: client {client}, server {server}",
            wire.len()
        );
        assert!(client > 0, "no super-packets at the client: the test proves nothing");
        for (tapline, path) in self.tapped {
            wait_until_still(&path);
            let ledger = tapline.stop();
            assert_eq!(ledger.drops.total(), 0, "{ledger}");
            let captured = frames_in(&path);
            assert_eq!(ledger.written, captured.len() as u64);
            eprintln!("compare {} with the wire", path.display());
            assert_same_packets(&captured, &wire);
        }
        wire
    }
}
