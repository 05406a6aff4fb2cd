//! `capture -r X --decap N|all`: what comes out of the tunnels of a file.

#![expect(clippy::unwrap_used, reason = "a test's own functions")]

mod over_files;

use api::{DropReason, Stats};
use capfile::{Direction, Reader};
use over_files::frame::*;
use over_files::*;
use rig::{Scratch, frames_in, tool_or_skip, tunnel_layers};
use std::fs;
use std::io::Write;
use std::path::Path;
use wire::LinkType;
use wire::encap::{HEADER_LEN_MAX, Told};
use wire::metadata::Lane;
use wire::tunnel::{Carrier, Encap};

/// Frames of these files that tshark does not look into: a super-packet of BIG TCP.
const TSHARK_STOPS: [(&str, usize); 1] = [("bigtcp-ipv4-vxlan-ipv4.pcap", 1)];

/// Decapsulates a file; gives what was said and the ledger.
fn decap(from: &Path, to: &Path, more: &[&str]) -> (String, Stats) {
    let stats = to.with_extension("json");
    let files = ["-v", "capture", "-r", from.to_str().unwrap(), "-w", to.to_str().unwrap()];
    let ledger = ["--stats-json", stats.to_str().unwrap()];
    let output = tapline(files.iter().chain(&ledger).chain(more));
    assert_done(&output);
    assert_says_ledger(&output, 2);
    let stats: Stats = serde_json::from_slice(&fs::read(stats).unwrap()).unwrap();
    assert_eq!(stats.unaccounted, 0);
    (stderr(&output).to_owned(), stats)
}

fn bytes(packets: &[Packet]) -> Vec<&[u8]> {
    packets.iter().map(|packet| &packet.bytes[..]).collect()
}

/// `link type, name of the interface` of each packet.
fn places(packets: &[Packet]) -> Vec<(u16, &str)> {
    let interfaces = packets.iter().map(|packet| &packet.interface);
    interfaces.map(|of| (of.link_type, of.name.as_deref().unwrap_or(""))).collect()
}

fn vxlan(vni: u8, frame: &[u8]) -> Vec<u8> {
    udp(50_000, 4789, &[&[8, 0, 0, 0, 0, 0, vni, 0], frame].concat())
}

fn gre(protocol: u16, payload: &[u8]) -> Vec<u8> {
    [&[0, 0][..], &protocol.to_be_bytes(), payload].concat()
}

/// L2TPv3 as Linux sends it: session, sublayer, frame.
fn l2tp(session: u32, frame: &[u8]) -> Vec<u8> {
    [&session.to_be_bytes()[..], &[0; 4], frame].concat()
}

fn web() -> Vec<u8> {
    ethernet(0x0800, &ipv4(6, &tcp(1000, 80, 0x18, b"GET / HTTP/1.1\r\n\r\n")))
}

fn dns() -> Vec<u8> {
    ethernet(0x86dd, &ipv6(17, &udp(1000, 53, &[7; 100])))
}

/// VXLAN in GRE in L2TPv3 over IPv6.
fn nested(frame: &[u8]) -> [Vec<u8>; 4] {
    let in_gre = ipv4(17, &vxlan(71, frame));
    let in_l2tp = ethernet(0x0800, &ipv4(47, &gre(0x0800, &in_gre)));
    let outer = tagged(&ethernet(0x86dd, &ipv6(115, &l2tp(9, &in_l2tp))), &[5]);
    [outer, in_l2tp, in_gre, frame.to_vec()]
}

/// The fragments of an IPv4 packet in an Ethernet frame, in any order.
fn fragmented_v4(packet: &[u8], bytes: usize) -> Vec<Vec<u8>> {
    let payload = &packet[20..];
    let fragment = |(n, part): (usize, &[u8])| {
        let is_last = n * bytes + part.len() == payload.len();
        let mut packet = [&packet[..20], part].concat();
        let len = (packet.len() as u16).to_be_bytes();
        let field = (n * bytes / 8) as u16 | if is_last { 0 } else { 0x2000 };
        packet[2..4].copy_from_slice(&len);
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        ethernet(0x0800, &packet)
    };
    payload.chunks(bytes).enumerate().map(fragment).collect()
}

fn fragmented_v6(packet: &[u8], bytes: usize) -> Vec<Vec<u8>> {
    let payload = &packet[40..];
    let fragment = |(n, part): (usize, &[u8])| {
        let is_last = n * bytes + part.len() == payload.len();
        let field = (n * bytes) as u16 | u16::from(!is_last);
        let header = [&[packet[6], 0][..], &field.to_be_bytes(), &[0, 0, 0, 7]].concat();
        ethernet(0x86dd, &ipv6(44, &[&header[..], part].concat()))
    };
    payload.chunks(bytes).enumerate().map(fragment).collect()
}

#[test]
fn captures_give_what_tshark_sees_inside() {
    let Some(folder) = std::env::var_os("TAPLINE_CAPTURES") else {
        let why = "skipped: captures_give_what_tshark_sees_inside: TAPLINE_CAPTURES names none";
        let _ = writeln!(std::io::stderr(), "{why}"); // past the test runner's capture
        return;
    };
    if !tool_or_skip("tshark") {
        return;
    }
    let scratch = Scratch::new("decap-captures");
    let to = scratch.path("inner.pcapng");
    let mut decapsulated = 0;
    for from in rig::capture_files(Path::new(&folder)) {
        let name = from.file_name().unwrap().to_str().unwrap().to_owned();
        // The port that Linux took before one was assigned.
        let (_, stats) = decap(&from, &to, &["--decap", "all", "--decap-port", "vxlan=8472"]);
        decapsulated += stats.decap.unwrap().decapsulated;
        let judged = tunnel_layers(&from, &["-d", "udp.port==8472,vxlan"]);
        let (outer, inner) = (packets_in(&from), packets_in(&to));
        assert_eq!((outer.len(), inner.len()), (judged.len(), judged.len()), "{name}");
        for (number, ((outer, inner), judged)) in (1..).zip(outer.iter().zip(&inner).zip(judged)) {
            assert_eq!(judged.is_super, TSHARK_STOPS.contains(&(&name, number)), "{name} {number}");
            if judged.is_super {
                continue;
            }
            let (want, link_type) = match judged.layers.last() {
                Some(layer) => (&outer.bytes[layer.at..layer.end], layer.link_type),
                None => (&outer.bytes[..], LinkType(outer.interface.link_type)),
            };
            assert_eq!(inner.bytes, want, "{name} {number}");
            assert_eq!(LinkType(inner.interface.link_type), link_type, "{name} {number}");
            assert_eq!(inner.ts_ns, outer.ts_ns, "{name} {number}");
            if judged.layers.is_empty() {
                assert_eq!(inner.origlen, outer.origlen, "{name} {number}");
                assert_eq!(inner.interface, outer.interface, "{name} {number}");
            } else if outer.origlen as usize == outer.bytes.len() {
                assert_eq!(inner.origlen as usize, want.len(), "{name} {number}");
            }
        }
    }
    assert!(decapsulated > 0, "{} holds no tunnel", folder.display());
}

#[test]
fn layers_come_off_one_by_one() {
    let scratch = Scratch::new("decap-layers");
    let (from, to) = (scratch.path("outer.pcap"), scratch.path("inner.pcapng"));
    let (web, plain) = (nested(&web()), arp());
    fs::write(&from, pcap(1, [&web[0], &plain])).unwrap();
    let names =
        [(1, ""), (1, "l2tp-9-fd00--1"), (101, "gre-none-10.0.0.1"), (1, "vxlan-71-10.0.0.1")];
    for (layers, option) in [(1, "1"), (2, "2"), (3, "3"), (3, "all"), (3, "200")] {
        let (said, stats) = decap(&from, &to, &["--decap", option]);
        let packets = packets_in(&to);
        assert_eq!(bytes(&packets), [&web[layers], &plain]);
        assert_eq!(places(&packets), [names[layers], (1, "")]);
        assert_eq!(packets[0].origlen as usize, web[layers].len());
        let note = format!("decap: 1 packets came out of {layers} tunnel headers");
        assert!(said.contains(&note), "{said}");
        assert_eq!(stats.decap.unwrap().layers, layers as u64);
    }
}

#[test]
fn fragments_stand_where_the_last_one_stood() {
    let scratch = Scratch::new("decap-fragments");
    let (from, to) = (scratch.path("outer.pcap"), scratch.path("inner.pcapng"));
    let inner = ethernet(0x0800, &ipv4(17, &udp(7, 9, &[0x5a; 4000])));
    let mut v4 = fragmented_v4(&ipv4(17, &vxlan(4, &inner)), 1480);
    let mut v6 = fragmented_v6(&ipv6(17, &vxlan(6, &inner)), 1448);
    let mut other = fragmented_v4(&ipv4(17, &udp(7, 9, &[0x5a; 2000])), 1480);
    other.iter_mut().for_each(|frame| frame[19] = 98);
    v6.reverse();
    let (last_v4, last_v6) = (v4.pop().unwrap(), v6.pop().unwrap());
    let plain = arp();
    let mut frames = v4.clone();
    frames.extend(v6);
    frames.extend([other[0].clone(), last_v6, other[1].clone(), plain.clone(), last_v4]);
    // And one that stays alone, which passes at the end.
    let mut alone = v4[0].clone();
    alone[19] = 99;
    frames.insert(0, alone.clone());
    fs::write(&from, pcap(1, &frames)).unwrap();
    let (said, stats) = decap(&from, &to, &["--decap", "all"]);
    let packets = packets_in(&to);
    let want = [&other[0], &inner, &other[1], &plain, &inner, &alone];
    assert_eq!(bytes(&packets), want.map(Vec::as_slice));
    let times = packets_in(&from).iter().map(|packet| packet.ts_ns).collect::<Vec<_>>();
    let count = times.len();
    assert_eq!((packets[1].ts_ns, packets[4].ts_ns), (times[count - 4], times[count - 1]));
    assert_eq!(places(&packets)[1], (1, "vxlan-6-fd00--1"));
    assert!(said.contains("fragments became 2 packets, 1 were incomplete"), "{said}");
    assert_eq!(stats.seen, Some(6));
    let fragments = stats.decap.unwrap().fragments;
    assert_eq!((fragments.whole, fragments.given_up()), (2, 1));
    assert_eq!(fragments.joined + 4, count as u64);
}

#[test]
fn any_cut_of_nested_tunnels_is_kept() {
    let scratch = Scratch::new("decap-cut");
    let (from, to) = (scratch.path("outer.pcap"), scratch.path("inner.pcapng"));
    let [outer, ..] = nested(&dns());
    let mut file = by_hand::File::pcap(capfile::Endian::Little, 0xa1b2_c3d4, 1);
    for len in 0..=outer.len() {
        file.record(1_700_000_000, len as u32, outer.len() as u32, &outer[..len]);
    }
    fs::write(&from, &file.bytes).unwrap();
    let (_, stats) = decap(&from, &to, &["--decap", "all"]);
    let packets = packets_in(&to);
    assert_eq!(packets.len(), outer.len() + 1);
    let dns = dns();
    for (len, packet) in packets.iter().enumerate() {
        assert!(outer[..len].ends_with(&packet.bytes), "{len}");
        if packet.interface.name.as_deref() == Some("vxlan-71-10.0.0.1") {
            assert_eq!(packet.origlen as usize, dns.len(), "{len}");
            assert_eq!(packet.bytes, dns[..packet.bytes.len()], "{len}");
        }
    }
    assert_eq!(packets.last().unwrap().bytes, dns);
    let stats = stats.decap.unwrap();
    assert!(stats.malformed > 0 && stats.decapsulated > dns.len() as u64, "{stats}");
}

#[test]
fn filter_and_slice_are_about_what_comes_out() {
    let scratch = Scratch::new("decap-filter");
    let (from, to) = (scratch.path("outer.pcap"), scratch.path("inner.pcapng"));
    let raw = ipv4(6, &tcp(1001, 80, 2, b""));
    let frames = [
        nested(&web())[0].clone(),
        nested(&dns())[0].clone(),
        ethernet(0x0800, &ipv4(47, &gre(0x0800, &raw))),
        arp(),
    ];
    fs::write(&from, pcap(1, &frames)).unwrap();
    let (_, stats) = decap(&from, &to, &["--decap", "all", "-s", "20", "tcp", "port", "80"]);
    let packets = packets_in(&to);
    assert_eq!(bytes(&packets), [&web()[..20], &raw[..20]]);
    let lengths = [web().len() as u32, raw.len() as u32];
    assert_eq!(packets.iter().map(|p| p.origlen).collect::<Vec<_>>(), lengths);
    assert_eq!((stats.seen, stats.filtered, stats.matched), (Some(4), Some(2), 2));
    // A pcap file has the link type of its first packet, which came out of a tunnel.
    let to = scratch.path("inner.pcap");
    let (_, stats) = decap(&from, &to, &["--decap", "all", "tcp"]);
    assert_eq!(bytes(&packets_in(&to)), [web()]);
    assert_eq!(stats.drops.get(DropReason::LinkType), 1);
    fs::write(&from, pcap(1, &frames[2..3])).unwrap();
    decap(&from, &to, &["--decap", "all"]);
    let packets = packets_in(&to);
    assert_eq!((bytes(&packets), packets[0].interface.link_type), (vec![&raw[..]], 101));
    // Without packets, a file has a link type all the same.
    for name in ["empty.pcap", "empty.pcapng"] {
        let to = scratch.path(name);
        decap(&from, &to, &["--decap", "all", "icmp"]);
        let bytes = fs::read(&to).unwrap();
        let mut reader = Reader::new(&bytes[..]).unwrap();
        assert!(reader.next().unwrap().is_none());
        assert_eq!(reader.interfaces().len(), 1, "{name}");
    }
}

#[test]
fn what_a_tap_tells_stands_in_the_file() {
    let scratch = Scratch::new("decap-told");
    let (from, to) = (scratch.path("outer.pcap"), scratch.path("inner.pcapng"));
    let web = web();
    let (ts_ns, lane) = (1_234_567_890_123_456_789, Lane { epoch: 3, tap: 2, target: 1, lane: 0 });
    let told = Told { origlen: 1514, ts_ns, direction: Direction::Out, lane };
    let vni = wire::Vni::new(71).unwrap();
    let encap = Encap::Geneve { vni, metadata: true };
    let fit = encap.fit(LinkType::ETHERNET, &web).unwrap();
    let carrier = Carrier::Udp { port: 6081 };
    let mut header = [0; HEADER_LEN_MAX];
    encap.emit(&mut header, carrier, &fit, &web, &told, 77);
    let header = &header[..encap.header_len(carrier)];
    let outer = ethernet(0x0800, &ipv4(17, &udp(50_000, 6081, &[header, &web].concat())));
    fs::write(&from, pcap(1, [&outer])).unwrap();
    decap(&from, &to, &["--decap", "1"]);
    let packet = packets_in(&to).remove(0);
    assert_eq!((packet.bytes, packet.origlen, packet.ts_ns), (web.clone(), 1514, ts_ns));
    assert_eq!(packet.direction, Direction::Out);
    let file = fs::read(&to).unwrap();
    let mut reader = Reader::new(&file[..]).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().packet_id, Some(3 << 32 | 77));
    // Printed, too.
    let words = ["capture", "-r", from.to_str().unwrap(), "--decap", "all"];
    let printed = tapline(words);
    let line = "2009-02-13T23:31:30.123456789Z out geneve-71-10.0.0.1 10.0.0.1.1000 > 10.0.0.2.80:";
    assert!(stdout(&printed).starts_with(line), "{}", stdout(&printed));
    let json = tapline(words.iter().chain(&["--format", "json"]));
    assert!(stdout(&json).contains(r#""tunnel":"geneve-71-10.0.0.1""#), "{}", stdout(&json));
}

#[test]
fn a_filter_in_the_kernel_is_refused() {
    for option in ["--prefilter", "--filter-in=kernel"] {
        let output = tapline(["capture", "-i", "lo", "--decap", "all", option, "tcp"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("does not see what is inside"), "{}", stderr(&output));
    }
}

#[test]
fn frames_without_tunnels_stay_as_they_are() {
    let scratch = Scratch::new("decap-none");
    let (from, to) = (scratch.path("x.pcap"), scratch.path("y.pcapng"));
    let frames = [web(), dns(), arp(), vec![], vec![7; 5]];
    fs::write(&from, pcap(1, &frames)).unwrap();
    decap(&from, &to, &["--decap", "all"]);
    assert!(frames_in(&to).iter().map(|frame| &frame.bytes).eq(&frames));
}
