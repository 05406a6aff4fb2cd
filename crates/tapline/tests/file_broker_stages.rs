//! A broker that changes packets on one way and leaves them alone on another, file in, files out;
//! tshark says what is in them.

mod over_files;

use over_files::*;
use rig::{Scratch, rows, tool_or_skip};

const CONFIG: &str = r#"
[[source]]
name = "in"
read = "in.pcap"
vlan = 100

[[stage]]
name = "inside"
type = "strip"
layers = ["vlan", "mpls", "vxlan"]

[[stage]]
name = "no-names"
type = "anonymize"
key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

[[stage]]
name = "headers"
type = "slice"
bytes = 4
after = "inner_transport"

[[stage]]
name = "no-payload"
type = "mask"
offset = 8
from = "inner_transport"
value = 0xee

[[target]]
name = "tagged"
to = "pcap:tagged.pcapng"

[[target]]
name = "shared"
to = "pcap:shared.pcapng"
stages = ["inside", "no-names"]

[[target]]
name = "short"
to = "pcap:short.pcapng"
stages = ["headers"]

[[target]]
name = "masked"
to = "pcap:masked.pcapng"

[[map]]
from = ["in"]
to = ["tagged", "shared", "short"]

[[map]]
from = ["in"]
to = ["masked"]
stages = ["no-payload"]
"#;

fn frames() -> Vec<Vec<u8>> {
    let udp = frame::udp(1000, 53, &[7; 20]);
    let ip = frame::ipv4_between([192, 0, 2, 1], [192, 0, 2, 2], 17, 0, &udp);
    let inner = frame::ethernet(0x0800, &ip);
    let vxlan = frame::udp(50_000, 4789, &[&[8, 0, 0, 0, 0, 0, 71, 0][..], &inner].concat());
    vec![
        inner.clone(),
        frame::tagged(&inner, &[0xf000, 0x2fff]),
        frame::ethernet(0x8847, &[&[0, 1, 0, 64, 0, 2, 1, 64][..], &ip].concat()),
        frame::ethernet(0x0800, &frame::ipv4(17, &vxlan)),
    ]
}

fn bytes(packets: &[Packet]) -> Vec<&[u8]> {
    packets.iter().map(|packet| &packet.bytes[..]).collect()
}

/// Of each frame, where the payload of the innermost packet begins, behind the tag of the source.
fn payloads_at() -> [usize; 4] {
    [14, 22, 22, 14 + 20 + 8 + 8 + 14].map(|link| 4 + link + 20 + 8)
}

#[test]
fn each_way_has_its_own_packets() {
    let scratch = Scratch::new("broker-stages");
    std::fs::write(scratch.path("in.pcap"), pcap(1, frames())).expect("the folder is there");
    let config = scratch.path("broker.toml");
    std::fs::write(&config, CONFIG).expect("the folder is there");
    let output = tapline(["broker".as_ref(), "-c".as_ref(), config.as_path()]);
    assert_done(&output);
    let read = |name: &str| packets_in(&scratch.path(&format!("{name}.pcapng")));

    // The source's tag, with the priority that the tags had that were there, and as 802.1ad before them.
    let pushed: Vec<Vec<u8>> = frames()
        .iter()
        .zip([[0x81, 0, 0, 100], [0x88, 0xa8, 0xf0, 100], [0x81, 0, 0, 100], [0x81, 0, 0, 100]])
        .map(|(frame, tag)| [&frame[..12], &tag, &frame[12..]].concat())
        .collect();
    let tagged = read("tagged");
    assert_eq!(bytes(&tagged), pushed, "what other ways change does not show here");

    let short = read("short");
    for ((short, pushed), payload_at) in short.iter().zip(&pushed).zip(payloads_at()) {
        assert_eq!(short.bytes, pushed[..payload_at + 4]);
        assert_eq!(short.origlen as usize, pushed.len());
    }
    let masked = read("masked");
    for ((masked, pushed), payload_at) in masked.iter().zip(&pushed).zip(payloads_at()) {
        assert_eq!(masked.bytes[..payload_at], pushed[..payload_at]);
        assert!(masked.bytes[payload_at..].iter().all(|&byte| byte == 0xee));
        assert_eq!(masked.bytes.len(), pushed.len());
    }

    let plain = &frames()[0];
    let shared = read("shared");
    assert_eq!((shared.len(), short.len(), masked.len()), (4, 4, 4));
    for packet in &shared {
        assert_eq!(packet.bytes.len(), plain.len());
        assert_eq!(packet.origlen as usize, plain.len());
        assert_eq!(packet.bytes[26..34], [2, 90, 93, 17, 2, 90, 93, 19]);
        assert_eq!(packet.bytes[34..], plain[34..]);
    }
    if tool_or_skip("tshark") {
        let seen = rows(scratch.path("shared.pcapng"), &[], &["frame.protocols", "ip.addr"]);
        let wanted = ["eth:ethertype:ip:udp:", "2.90.93.17,2.90.93.19"];
        for row in seen {
            assert!(row[0].starts_with(wanted[0].trim_end_matches(':')), "{row:?}");
            assert_eq!(row[1], wanted[1]);
        }
    }
}
