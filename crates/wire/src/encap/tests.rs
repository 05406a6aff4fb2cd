use super::*;
use crate::Vni;
use crate::tunnel::{Cookie, L2tpFormat};
use proptest::prelude::*;

const IP: Carrier = Carrier::Ip { protocol: 47 };
const UDP: Carrier = Carrier::Udp { port: 1701 };
const LANE: Lane = Lane { epoch: 0x0102_0304, tap: 5, target: 6, lane: 7 };
const TOLD: Told =
    Told { origlen: 60, ts_ns: 1_700_000_000_123_456_789, direction: Direction::Out, lane: LANE };
const VNI: Vni = Vni::new(71).expect("fits 24 bits");

// An Ethernet frame of ARP, padded to 60 bytes.
fn frame() -> Vec<u8> {
    let mut frame = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06];
    frame.resize(60, 0);
    frame
}

// A frame with one tag (priority 5, VLAN 100) that holds an IPv4 packet of 24 bytes, padded.
fn tagged() -> Vec<u8> {
    let mut frame = frame();
    frame.splice(12..14, [0x81, 0x00, 0xa0, 0x64, 0x08, 0x00]);
    let ip = [0x45, 0, 0, 24, 0, 1, 0, 0, 64, 253, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4];
    frame[18..42].copy_from_slice(&ip);
    frame[42..].fill(0xdd);
    frame
}

fn header(encap: Encap, carrier: Carrier, frame: &[u8], sequence: u32) -> Vec<u8> {
    let fit = encap.fit(LinkType::ETHERNET, frame).unwrap();
    let mut buf = vec![0xa5; encap.header_len(carrier)];
    encap.emit(&mut buf, carrier, &fit, &frame[fit.at..fit.end], &TOLD, sequence);
    buf
}

fn l2tp(cookie: Cookie, sublayer: bool, sequence: bool) -> Encap {
    Encap::L2tp(L2tp { session: 0x0a0a_0a0b, format: L2tpFormat { cookie, sublayer }, sequence })
}

// What Linux devices send in front of a frame; L2TPv3 and gretap from a 6.1 kernel.
#[test]
fn headers_are_those_of_linux() {
    let cookie = Cookie::Long([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
    let keyed = Gre { key: Some(500), ..Gre::default() };
    let cases: [(Encap, Carrier, &str); 8] = [
        (l2tp(Cookie::None, true, false), IP, "0a0a0a0b 00000000"),
        (l2tp(Cookie::None, false, false), IP, "0a0a0a0b"),
        (l2tp(cookie, true, true), IP, "0a0a0a0b 1122334455667788 40000001"),
        (l2tp(Cookie::None, true, false), UDP, "00030000 0a0a0a0b 00000000"),
        (Encap::Gretap(keyed), IP, "20006558 000001f4"),
        (Encap::Vxlan { vni: VNI }, UDP, "08000000 00004700"),
        (Encap::Geneve { vni: VNI, metadata: false }, UDP, "00006558 00004700"),
        (Encap::Erspan(Erspan::I), IP, "000088be"),
    ];
    for (encap, carrier, hex) in cases {
        assert_eq!(header(encap, carrier, &frame(), 1), bytes(hex), "{encap:?}");
    }
}

// As tshark 4.0 reads them: every field as it was meant, ERSPAN's time to the nanosecond.
#[test]
fn headers_carry_what_is_told() {
    let (session, index, hardware) = (0x3ab, 0x54321, 9);
    let type_iii = |seconds| Encap::Erspan(Erspan::III { session, hardware, seconds });
    let cases: [(Encap, &[u8], &str); 6] = [
        (
            Encap::Erspan(Erspan::II { session, index }),
            &frame(),
            "100088be 00000009 100003ab 00054321",
        ),
        (
            Encap::Erspan(Erspan::II { session, index }),
            &tagged(),
            "100088be 00000009 1064bbab 00054321",
        ),
        (type_iii(false), &tagged(), "100022eb 00000009 2064a3ab 1ef614d2 00008098"),
        (
            type_iii(true),
            &frame(),
            "100022eb 00000009 200003ab 075bcd15 0000809d 14000000 6553f100",
        ),
        (
            Encap::Geneve { vni: VNI, metadata: true },
            &frame(),
            "08006558 00004700 ff7a0107 01020005 06070000 01020304 00000009 0000003c \
             17979cfe3d85cd15",
        ),
        (
            Encap::Gre(Gre { key: None, checksum: true, sequence: true }),
            &tagged(),
            "90000800 c9d60000 00000009",
        ),
    ];
    for (encap, frame, hex) in cases {
        assert_eq!(header(encap, IP, frame, 9), bytes(hex), "{encap:?}");
    }
}

#[test]
fn a_cut_frame_is_marked() {
    let encap = Encap::Erspan(Erspan::II { session: 1, index: 0 });
    assert_eq!(header(encap, IP, &frame(), 0)[10] & 0x04, 0);
    assert_eq!(header(encap, IP, &frame()[..59], 0)[10] & 0x04, 0x04);
}

#[test]
fn a_time_without_a_place_is_not_told() {
    let encap = Encap::Erspan(Erspan::III { session: 1, hardware: 0, seconds: true });
    for (seconds, is_told) in [(u64::from(u32::MAX), true), (1 << 32, false)] {
        let told = Told { ts_ns: seconds * NS_PER_S + 5, ..TOLD };
        let frame = frame();
        let fit = encap.fit(LinkType::ETHERNET, &frame).unwrap();
        let mut buf = vec![0xa5; encap.header_len(IP)];
        encap.emit(&mut buf, IP, &fit, &frame, &told, 0);
        let packet = erspan::Packet::new_checked(&buf[ERSPAN_GRE_LEN..]).unwrap();
        let erspan::Repr::III { extra, .. } = erspan::Repr::parse(&packet) else { panic!() };
        assert_eq!(extra.ts_ns(), is_told.then_some(told.ts_ns));
    }
}

#[test]
fn progress_is_a_control_packet_of_geneve() {
    let mut buf = [0xa5; HEADER_LEN_MAX];
    let len = Encap::Geneve { vni: VNI, metadata: true }.emit_progress(&mut buf, LANE, 9, 7);
    assert_eq!(len, Some(HEADER_LEN_MAX));
    let packet = geneve::Packet::new_checked(&buf[..]).unwrap();
    assert!(packet.is_control());
    let option = packet.options().next().unwrap().unwrap();
    let option = metadata::Packet::new_checked(option.as_bytes()).unwrap();
    let told = metadata::Told::Progress { next: 9, ts_ns: 7 };
    assert_eq!(metadata::Repr::parse(&option), Ok(metadata::Repr { lane: LANE, told }));
    for encap in [Encap::Geneve { vni: VNI, metadata: false }, Encap::Vxlan { vni: VNI }] {
        assert_eq!(encap.emit_progress(&mut buf, LANE, 9, 7), None);
    }
}

#[test]
fn a_tunnel_takes_what_it_can_carry() {
    let gre = Encap::Gre(Gre::default());
    let geneve = Encap::Geneve { vni: VNI, metadata: true };
    let vxlan = Encap::Vxlan { vni: VNI };
    let (arp, tagged) = (frame(), tagged());
    let ip = Some(Fit { at: 18, end: 42, protocol: 0x0800 });
    let whole = |protocol| Some(Fit { at: 0, end: 60, protocol });
    assert_eq!(gre.fit(LinkType::ETHERNET, &arp), None);
    assert_eq!(gre.fit(LinkType::ETHERNET, &tagged), ip);
    assert_eq!(vxlan.fit(LinkType::ETHERNET, &arp), whole(0x6558));
    assert_eq!(geneve.fit(LinkType::ETHERNET, &arp), whole(0x6558));
    for link in [LinkType::RAW, LinkType::IPV4, LinkType::IPV6] {
        for (nibble, protocol) in [(4, Some(0x0800)), (6, Some(0x86dd)), (5, None)] {
            let raw = [nibble << 4; 60];
            assert_eq!(gre.fit(link, &raw), protocol.and_then(whole));
            assert_eq!(geneve.fit(link, &raw), protocol.and_then(whole));
            assert_eq!(vxlan.fit(link, &raw), None);
        }
        assert_eq!((gre.fit(link, &[]), geneve.fit(link, &[])), (None, None));
    }
    for encap in [gre, geneve, vxlan] {
        assert_eq!(encap.fit(LinkType::LINUX_SLL, &arp), None);
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
        .collect()
}

proptest! {
    // The length is known before the packet, and nothing is written behind it.
    #[test]
    fn a_header_is_as_long_as_it_says(
        gre in any::<(Option<u32>, bool, bool)>(), session in 0..=erspan::SESSION_MAX, seconds: bool,
        metadata: bool, sublayer: bool, cookie: [u8; 8], over_udp: bool, sequence: u32,
        frame in proptest::collection::vec(any::<u8>(), 0..80)
    ) {
        let carrier = if over_udp { UDP } else { IP };
        let (key, checksum, numbered) = gre;
        let gre = Gre { key, checksum, sequence: numbered };
        let encaps = [
            Encap::Vxlan { vni: VNI },
            Encap::Geneve { vni: VNI, metadata },
            Encap::Gre(gre),
            Encap::Gretap(gre),
            Encap::Erspan(Erspan::I),
            Encap::Erspan(Erspan::II { session, index: 1 }),
            Encap::Erspan(Erspan::III { session, hardware: 1, seconds }),
            l2tp(Cookie::Long(cookie), sublayer, sublayer),
        ];
        for encap in encaps {
            let len = encap.header_len(carrier);
            prop_assert!(len <= HEADER_LEN_MAX);
            let [first, second] = [0x5a, 0xa5].map(|dirt| {
                let mut buf = [dirt; HEADER_LEN_MAX + 1];
                let fit = Fit { at: 0, end: frame.len(), protocol: ethertype::IPV4 };
                encap.emit(&mut buf, carrier, &fit, &frame, &TOLD, sequence);
                buf
            });
            prop_assert_eq!(&first[..len], &second[..len]);
            prop_assert!(first[len..].iter().all(|&b| b == 0x5a));
        }
    }
}
