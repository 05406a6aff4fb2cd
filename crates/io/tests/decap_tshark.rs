//! What decapsulation finds in a frame is what tshark sees in it: every layer's place and end.

use capfile::{PcapResolution, PcapWriter};
use rig::{Layer, Scratch, tunnel_layers};
use std::fs;
use std::io::Write;
use std::path::Path;
use wire::decap::{Content, Rules};
use wire::encap::{HEADER_LEN_MAX, Told};
use wire::metadata::Lane;
use wire::tunnel::{Carrier, Cookie, Encap, Erspan, Gre, Kind, L2tp, L2tpFormat};
use wire::{Direction, LinkType, Vni};

fn found(rules: &Rules, frame: &[u8]) -> Vec<Layer> {
    let (mut link, mut part, mut base, mut layers) = (LinkType::ETHERNET, frame, 0, Vec::new());
    while let Ok(Some(found)) = rules.in_frame(link, part) {
        let Content::Packet(inner) = found.content else { break };
        let (at, end, link_type) = (inner.at as usize, inner.end as usize, inner.link_type);
        layers.push(Layer { at: base + at, end: base + end, link_type });
        (link, part, base) = (link_type, &part[at..end], base + at);
    }
    layers
}

#[test]
fn captures_hold_what_tshark_sees_in_them() {
    let Some(folder) = std::env::var_os("TAPLINE_CAPTURES") else {
        let why = "skipped: captures_hold_what_tshark_sees: TAPLINE_CAPTURES names none";
        let _ = writeln!(std::io::stderr(), "{why}"); // past the test runner's capture
        return;
    };
    if !rig::tool_or_skip("tshark") {
        return;
    }
    // The port that Linux took before one was assigned.
    let rules = Rules::default().with_port(Kind::Vxlan, 8472);
    let mut layers = 0;
    for path in rig::capture_files(Path::new(&folder)) {
        let judged = tunnel_layers(&path, &["-d", "udp.port==8472,vxlan"]);
        let frames = rig::frames_in(&path);
        assert_eq!(frames.len(), judged.len(), "{}", path.display());
        for (number, (frame, judged)) in (1..).zip(frames.iter().zip(&judged)) {
            let found = found(&rules, &frame.bytes);
            if !judged.is_super {
                assert_eq!(found, judged.layers, "{}, packet {number}", path.display());
            }
            layers += found.len();
        }
    }
    assert!(layers > 0, "{} holds no tunnel", folder.display());
}

const FRAME: [u8; 60] = {
    let mut frame = [0x5a; 60];
    let head = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0,
        0, 1, 10, 0, 0, 2, 0, 7, 0, 7, 0, 26, 0, 0,
    ];
    let mut at = 0;
    while at < head.len() {
        frame[at] = head[at];
        at += 1;
    }
    frame
};

/// An outer frame around a tunnel packet.
fn outer(is_ipv6: bool, carrier: Carrier, tunnel: &[u8]) -> Vec<u8> {
    let (protocol, udp) = match carrier {
        Carrier::Ip { protocol } => (protocol, vec![]),
        Carrier::Udp { port } => {
            let len = 8 + tunnel.len() as u16;
            (17, [50_000, port, len, 0].map(u16::to_be_bytes).concat())
        }
    };
    let len = (udp.len() + tunnel.len()) as u16;
    let mut frame = vec![2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 4];
    if is_ipv6 {
        let [high, low] = len.to_be_bytes();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, protocol, 64]);
        frame.extend([0xfd; 32]);
    } else {
        let [high, low] = (20 + len).to_be_bytes();
        frame.extend([8, 0, 0x45, 0, high, low, 0, 0, 0, 0, 64, protocol, 0, 0]);
        frame.extend([10, 0, 0, 3, 10, 0, 0, 4]);
    }
    [&frame, &udp[..], tunnel].concat()
}

fn encaps() -> Vec<Encap> {
    let vni = Vni::new(71).expect("fits 24 bits");
    let gre = Gre { key: Some(500), checksum: true, sequence: true };
    let (session, hardware) = (21, 1);
    vec![
        Encap::Vxlan { vni },
        Encap::Geneve { vni, metadata: false },
        Encap::Geneve { vni, metadata: true },
        Encap::Gre(Gre::default()),
        Encap::Gre(gre),
        Encap::Gretap(Gre::default()),
        Encap::Gretap(gre),
        Encap::Erspan(Erspan::I),
        Encap::Erspan(Erspan::II { session, index: 7 }),
        Encap::Erspan(Erspan::III { session, hardware, seconds: false }),
        Encap::Erspan(Erspan::III { session, hardware, seconds: true }),
    ]
}

/// Frames of a tunnel over every carrier and both versions of IP, each with the length of what is in
/// it.
fn frames(encap: &Encap) -> Vec<(Vec<u8>, usize)> {
    let kind = encap.tunnel().kind;
    let by_ip = kind.protocol().map(|protocol| Carrier::Ip { protocol });
    let carriers = [Some(Carrier::Udp { port: kind.port() }), by_ip].into_iter().flatten();
    let outers = carriers.flat_map(|carrier| [(carrier, false), (carrier, true)]);
    let lane = Lane { epoch: 1, tap: 2, target: 3, lane: 4 };
    let (ts_ns, direction) = (1_700_000_000_123_456_789, Direction::Out);
    let told = Told { origlen: FRAME.len() as u32, ts_ns, direction, lane };
    let fit = encap.fit(LinkType::ETHERNET, &FRAME).expect("the frame holds IP");
    let payload = &FRAME[fit.at..fit.end];
    outers
        .map(|(carrier, is_ipv6)| {
            let mut header = [0xa5; HEADER_LEN_MAX];
            encap.emit(&mut header, carrier, &fit, payload, &told, 9);
            let header = &header[..encap.header_len(carrier)];
            (outer(is_ipv6, carrier, &[header, payload].concat()), payload.len())
        })
        .collect()
}

fn judge_encaps(encaps: &[Encap], options: &[&str]) {
    let frames: Vec<_> = encaps.iter().flat_map(frames).collect();
    let scratch = Scratch::new("decap-tshark");
    let path = scratch.path("x.pcap");
    let mut writer = PcapWriter::new(Vec::new(), 1, 65_535, PcapResolution::Nano).expect("memory");
    for (frame, _) in &frames {
        writer.write(0, frame.len() as u32, frame).expect("memory takes it");
    }
    fs::write(&path, writer.get_ref()).expect("the folder can be written to");
    let judged = tunnel_layers(&path, options);
    assert_eq!(judged.len(), frames.len());
    for ((frame, payload_len), judged) in frames.iter().zip(judged) {
        let (at, end) = (frame.len() - payload_len, frame.len());
        let found = found(&Rules::default(), frame);
        assert_eq!(found.iter().map(|of| (of.at, of.end)).collect::<Vec<_>>(), [(at, end)]);
        assert_eq!(judged.layers, found, "{frame:02x?}");
    }
}

#[test]
fn every_tunnel_that_is_sent_is_what_tshark_takes_it_for() {
    if !rig::tool_or_skip("tshark") {
        return;
    }
    judge_encaps(&encaps(), &[]);
    let cookies = [
        (Cookie::None, "None"),
        (Cookie::Short([1, 2, 3, 4]), "4 Byte Cookie"),
        (Cookie::Long([1, 2, 3, 4, 5, 6, 7, 8]), "8 Byte Cookie"),
    ];
    for (cookie, cookie_option) in cookies {
        for (sublayer, sublayer_option) in [(false, "None"), (true, "Default L2-Specific")] {
            let format = L2tpFormat { cookie, sublayer };
            let encap = Encap::L2tp(L2tp { session: 7, format, sequence: sublayer });
            let cookie = format!("l2tp.cookie_size:{cookie_option}");
            let sublayer = format!("l2tp.l2_specific:{sublayer_option}");
            // Data packets do not say that they carry Ethernet: their type is 0, unknown.
            let frames = ["-d", "l2tp.pw_type==0,eth"];
            judge_encaps(&[encap], &[&frames[..], &["-o", &cookie, "-o", &sublayer]].concat());
        }
    }
}
