//! What `mirror` puts into a tunnel of any kind, `receive` takes out again, packet by packet; and
//! tshark sees in between what it should.
//!
//! ```text
//! tap ─────────────────────── sink
//!   mirror -r sent.pcapng        receive -w
//!                                tcpdump, for tshark
//! ```

#[path = "../../pipeline/tests/taps/frame.rs"]
#[allow(dead_code, reason = "each test uses its part")]
mod frame;

use api::Stats;
use capfile::{Direction, Interface, PcapngWriter, SectionInfo};
use frame::{arp, ethernet, ipv4, ipv6, tagged, tcp, udp};
use rig::{
    Frame, Running, Scratch, Tcpdump, Topology, frames_in, root_or_skip, rows, stats, tool_or_skip,
    wait_until,
};
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wire::LinkType;

const BINARY: &str = env!("CARGO_BIN_EXE_tapline");
/// How often a sender says at the end how many packets there were.
const LAST_WORDS: usize = 3;
const PACKETS: usize = 1_000;
/// How long a program may take for what is done at once.
const SOON: Duration = Duration::from_secs(20);
/// 2023-11-14: nobody takes it for now.
const T_NS: u64 = 1_700_000_000_123_456_789;

/// A kind of tunnel under test.
struct Case {
    /// The endpoint, with HOST for the far end.
    send: &'static str,
    listen: &'static str,
    /// What follows IP as tshark names it, or the begin of that.
    layers: &'static str,
    carries: Carries,
    /// The begin of the series' name.
    source: &'static str,
}

/// What a tunnel carries beside the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carries {
    /// Packets without an Ethernet header.
    Ip,
    Frames,
    /// Direction and time too.
    Time,
    /// All that there is.
    Everything,
}

const CASES: [Case; 16] = [
    case("vxlan://HOST?vni=71", "udp:vxlan:eth", Carries::Frames, "vxlan-71-"),
    case("vxlan://HOST:8472?vni=0", "udp", Carries::Frames, "vxlan-0-"),
    case("geneve://HOST?vni=71", "udp:geneve:eth", Carries::Everything, "geneve-71-"),
    case(
        "geneve://HOST?vni=0.1.0.0&metadata=off",
        "udp:geneve:eth",
        Carries::Frames,
        "geneve-65536-",
    ),
    case("gre://HOST", "gre:ip", Carries::Ip, "gre-none-"),
    case("gre://HOST?key=10.10.10.11&seq=on&csum=on", "gre:ip", Carries::Ip, "gre-168430091-"),
    case("gretap://HOST", "gre:eth", Carries::Frames, "gretap-none-"),
    case("gretap://HOST?key=500&csum=on&seq=on", "gre:eth", Carries::Frames, "gretap-500-"),
    case("gretap+udp://HOST?key=0", "udp:gre:eth", Carries::Frames, "gretap-0-"),
    case("erspan://HOST?type=1", "gre:erspan:eth", Carries::Frames, "erspan-none-"),
    case("erspan://HOST?session=1023&index=77", "gre:erspan:eth", Carries::Frames, "erspan-1023-"),
    case("erspan://HOST?type=3&session=5", "gre:erspan:eth", Carries::Time, "erspan-5-"),
    case("l2tp://HOST?id=10.10.10.11", "l2tp", Carries::Frames, "l2tp-168430091-"),
    case("l2tp://HOST?id=7&cookie=1122334455667788&seq=on", "l2tp", Carries::Frames, "l2tp-7-"),
    case("l2tp://HOST?id=8&cookie=11223344&sublayer=none", "l2tp", Carries::Frames, "l2tp-8-"),
    case("l2tp+udp://HOST?id=9&cookie=11223344", "udp:l2tp", Carries::Frames, "l2tp-9-"),
];

const fn case(
    endpoint: &'static str,
    layers: &'static str,
    carries: Carries,
    source: &'static str,
) -> Case {
    Case { send: endpoint, listen: endpoint, layers, carries, source }
}

#[test]
fn every_tunnel_over_ipv4_gives_back_to_a_ring_what_was_sent() {
    check_all(true, "ring");
}

#[test]
fn every_tunnel_over_ipv6_gives_back_to_a_ring_what_was_sent() {
    check_all(false, "ring");
}

#[test]
fn every_tunnel_over_ipv4_gives_back_to_a_socket_what_was_sent() {
    check_all(true, "socket");
}

#[test]
fn every_tunnel_over_ipv6_gives_back_to_a_socket_what_was_sent() {
    check_all(false, "socket");
}

fn check_all(is_v4: bool, datapath: &str) {
    if !root_or_skip() || !tool_or_skip("tcpdump") || !tool_or_skip("tshark") {
        return;
    }
    if !tool_or_skip("ethtool") {
        return;
    }
    // Datagrams that leave as one super-packet are cut before tcpdump sees them.
    let net = Topology::line(["tap", "sink"]).mtu(9000).offloads_off("tap", "sink").build();
    let scratch = Scratch::new(&format!("tunnels-{datapath}-{is_v4}"));
    let (frames, bare) = (scratch.path("frames.pcapng"), scratch.path("bare.pcapng"));
    write(&frames, LinkType::ETHERNET, &(0..PACKETS).map(mixed_frame).collect::<Vec<_>>());
    write(&bare, LinkType::RAW, &(0..PACKETS).map(bare_packet).collect::<Vec<_>>());
    let outer = scratch.path("outer.pcap");
    let tcpdump = Tcpdump::start(net.host("sink"), "tap", &outer, "not icmp and not icmp6");
    for case in &CASES {
        let sent = if case.carries == Carries::Ip { &bare } else { &frames };
        check(&net, &scratch, case, sent, (is_v4, datapath));
    }
    tcpdump.stop();
    check_layers(&outer, is_v4);
}

fn check(
    net: &Topology,
    scratch: &Scratch,
    case: &Case,
    sent: &Path,
    (is_v4, datapath): (bool, &str),
) {
    let (tap, sink) = (net.host("tap"), net.host("sink"));
    let (from, to): (IpAddr, IpAddr) = match is_v4 {
        true => (tap.v4("sink").into(), sink.v4("tap").into()),
        false => (tap.v6("sink").into(), sink.v6("tap").into()),
    };
    let host = if is_v4 { to.to_string() } else { format!("[{to}]") };
    let endpoint = case.send.replace("HOST", &host);
    let paths = ["received.pcapng", "received.json", "sent.json"];
    let [received, received_stats, sent_stats] = paths.map(|name| scratch.path(name));

    let receive = start(
        sink.netns.command(BINARY),
        &["receive", "--datapath", datapath, "--listen", &case.listen.replace("HOST", &host), "-w"],
        &received,
        &received_stats,
        "listening on",
    );
    let mirror = ["mirror", "--to", &endpoint, "-r"];
    start(tap.netns.command(BINARY), &mirror, sent, &sent_stats, "").finish(SOON);
    wait_until("all have come", SOON, || {
        receive.ledger(&received_stats, SOON).received >= PACKETS as u64
    });
    receive.stop(SOON);
    let ledger = stats(&received_stats);
    assert_balances(&stats(&sent_stats), &ledger, &endpoint);
    assert_eq!(ledger.sources.len(), 1, "{endpoint}: {ledger}");
    let source = format!("{}{}", case.source, from.to_string().replace(':', "-"));
    assert_eq!(ledger.sources[0].name, source, "{endpoint}");
    assert_same(&frames_in(sent), &frames_in(&received), case.carries, &endpoint);
}

/// Asserts that tshark sees the packets of each case, in their order, as what they are.
fn check_layers(outer: &Path, is_v4: bool) {
    let rows = rows(outer, &[], &["frame.protocols"]);
    let mut rows = rows.iter().map(|row| row[0].as_str());
    for Case { send, layers, carries, .. } in &CASES {
        let layers = format!("{}:{layers}", if is_v4 { "ip" } else { "ipv6" });
        let seen = rows.by_ref().take(PACKETS).filter(|row| row.contains(&layers)).count();
        assert_eq!(seen, PACKETS, "{send}: tshark sees {layers}");
        if *carries == Carries::Everything {
            for _ in 0..LAST_WORDS {
                let last = rows.next().expect("it tells how many there were");
                assert!(last.ends_with("udp:geneve"), "{last}");
            }
        }
    }
    assert_eq!(rows.next(), None, "all were of a tunnel");
}

/// Starts tapline with a file as the last word, and waits until it says something.
fn start(
    mut command: std::process::Command,
    words: &[&str],
    path: &Path,
    stats_path: &PathBuf,
    text: &str,
) -> Running {
    let _ = std::fs::remove_file(stats_path);
    let running = Running::start(command.args(words).arg(path).arg("--stats-json").arg(stats_path));
    if !text.is_empty() {
        running.wait_for(text, SOON);
    }
    running
}

fn assert_balances(sent: &Stats, received: &Stats, endpoint: &str) {
    let packets = PACKETS as u64;
    assert_eq!((sent.sent, sent.unaccounted), (packets, 0), "{endpoint}: {sent}");
    assert_eq!((received.written, received.unaccounted), (packets, 0), "{endpoint}: {received}");
    assert_eq!(received.drops.total(), 0, "{endpoint}: {received}");
}

fn assert_same(sent: &[Frame], received: &[Frame], carries: Carries, endpoint: &str) {
    assert_eq!(sent.len(), received.len(), "{endpoint}");
    for (number, (sent, received)) in sent.iter().zip(received).enumerate() {
        assert_eq!(sent.bytes, received.bytes, "{endpoint}: packet {number}");
        assert_eq!(sent.origlen, received.origlen, "{endpoint}: packet {number}");
        let has_time = matches!(carries, Carries::Time | Carries::Everything);
        assert_eq!(has_time, sent.ts_ns == received.ts_ns, "{endpoint}: packet {number}");
        match carries {
            // ERSPAN has no word for "unknown".
            Carries::Time if sent.direction == Direction::Unknown => {}
            Carries::Time | Carries::Everything => {
                assert_eq!(sent.direction, received.direction, "{endpoint}: packet {number}");
            }
            Carries::Ip | Carries::Frames => {
                assert_eq!(received.direction, Direction::Unknown, "{endpoint}: packet {number}");
            }
        }
    }
}

/// Frames of all lengths and kinds; every fifth has lost its tail.
fn mixed_frame(number: usize) -> (Vec<u8>, u32) {
    let payload = vec![number as u8; (number * 37) % 1400];
    let port = 1024 + number as u16;
    let frame = match number % 8 {
        0 => arp(),
        1 => ethernet(0x86dd, &ipv6(17, &udp(port, 53, &payload))),
        2 => tagged(&ethernet(0x0800, &ipv4(17, &udp(port, 4789, &payload))), &[5, 6]),
        3 => ethernet(0x88cc, &[2, 7, 4]),
        _ => ethernet(0x0800, &ipv4(6, &tcp(port, 80, 0x18, &payload))),
    };
    let has_length = !matches!(number % 8, 0 | 3);
    slice(frame, has_length && number.is_multiple_of(5))
}

/// IP packets, every other one of IPv6.
fn bare_packet(number: usize) -> (Vec<u8>, u32) {
    let payload = vec![number as u8; (number * 37) % 1400];
    let segment = tcp(1024 + number as u16, 80, 0x18, &payload);
    let packet = if number.is_multiple_of(2) { ipv4(6, &segment) } else { ipv6(6, &segment) };
    slice(packet, number.is_multiple_of(5))
}

fn slice(mut packet: Vec<u8>, cut: bool) -> (Vec<u8>, u32) {
    let origlen = packet.len() as u32;
    if cut {
        packet.truncate(80);
    }
    (packet, origlen)
}

/// Writes packets, one microsecond apart, that came, went, or did neither.
fn write(path: &Path, link_type: LinkType, packets: &[(Vec<u8>, u32)]) {
    let file = File::create(path).expect("the folder can be written to");
    let mut writer = PcapngWriter::new(file, &SectionInfo::default()).expect("it is written");
    let interface = writer.add_interface(&Interface::new(link_type.0)).expect("one fits");
    for (number, (bytes, origlen)) in packets.iter().enumerate() {
        let direction = [Direction::In, Direction::Out, Direction::Unknown][number % 3];
        let ts_ns = T_NS + 1000 * number as u64;
        let written = writer.write(interface, ts_ns, *origlen, direction, bytes, None);
        written.expect("it is written");
    }
    writer.flush().expect("it is written");
}
