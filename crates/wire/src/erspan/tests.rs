use super::*;
use proptest::prelude::*;

// Headers of the tcpdump project's captures erspan-type-ii-2, -type-iii-ft-7 and -type-iii-ft-0,
// as tshark 4.0 reads them.
const TYPE_II: [u8; 8] = [0x10, 0x65, 0xc0, 0x01, 0x00, 0x08, 0x40, 0x65];
const TYPE_III: [u8; 12] = [0x20, 0x01, 0x18, 0x65, 0x34, 0x76, 0x0b, 0x01, 0x00, 0x00, 0x1e, 0x00];
const CUSTOM: [u8; 12] = [0x20, 0x14, 0x00, 0x00, 0xa3, 0x59, 0x5b, 0xff, 0, 0, 0x00, 0x06];
// Made by hand after the draft's figures; tshark 4.0 reads the same out of it.
const SECONDS: [u8; 20] = [
    0x20, 0x00, 0x04, 0x07, 0x3b, 0x9a, 0xc9, 0xff, 0x12, 0x34, 0x80, 0x3d, //
    0x14, 0x00, 0x00, 0x00, 0x65, 0x53, 0xf1, 0x00,
];

fn type_ii() -> Repr {
    let common = Common { vlan: 101, cos: 6, encap: 0, truncated: false, session: 1 };
    Repr::II { common, index: 0x84065 }
}

fn type_iii() -> Repr {
    let common = Common { vlan: 1, cos: 0, encap: 3, truncated: false, session: 101 };
    let extra = Extra { timestamp: 0x3476_0b01, frame_type: 7, hardware: 32, ..Extra::default() };
    Repr::III { common, extra }
}

fn custom() -> Repr {
    let common = Common { vlan: 20, ..Common::default() };
    let granularity = Granularity::Custom;
    Repr::III { common, extra: Extra { timestamp: 0xa359_5bff, granularity, ..Extra::default() } }
}

fn seconds() -> Repr {
    let common = Common { truncated: true, session: 7, ..Common::default() };
    let extra = Extra {
        timestamp: 999_999_999,
        granularity: Granularity::Ieee1588,
        sgt: 0x1234,
        pdu: true,
        frame_type: FRAME_TYPE_ETHERNET,
        hardware: 3,
        egress: true,
        platform: Some(Platform::seconds_only(1_700_000_000)),
    };
    Repr::III { common, extra }
}

fn gre(protocol: u16, sequence: Option<u32>) -> gre::Repr {
    gre::Repr { protocol, checksum: false, key: None, sequence }
}

#[test]
fn parse_and_emit_vectors() {
    let vectors: [(&[u8], Repr); 4] = [
        (&TYPE_II, type_ii()),
        (&TYPE_III, type_iii()),
        (&CUSTOM, custom()),
        (&SECONDS, seconds()),
    ];
    for (bytes, repr) in vectors {
        let behind = [bytes, &[0xee]].concat();
        let packet = Packet::new_checked(&behind[..]).unwrap();
        assert_eq!(Repr::parse(&packet), repr);
        assert_eq!(packet.payload(), [0xee]);
        let mut buf = [0xa5; HEADER_LEN_MAX];
        repr.emit(&mut buf);
        assert_eq!(buf[..repr.header_len()], *bytes);
        assert!(buf[repr.header_len()..].iter().all(|&b| b == 0xa5));
    }
}

#[test]
fn type_i_is_gre_alone() {
    use gre::protocol::{ERSPAN, ERSPAN_III};
    assert_eq!(Repr::parse_behind(&gre(ERSPAN, None), &[]), Ok(Repr::I));
    assert_eq!(Repr::parse_behind(&gre(ERSPAN, None), &TYPE_II), Ok(Repr::I));
    assert_eq!(Repr::parse_behind(&gre(ERSPAN, Some(0)), &TYPE_II), Ok(type_ii()));
    // That of the capture has no sequence number.
    assert_eq!(Repr::parse_behind(&gre(ERSPAN_III, None), &CUSTOM), Ok(custom()));
    Repr::I.emit(&mut []);
    assert_eq!((Repr::I.header_len(), Repr::I.session()), (0, None));
}

#[test]
fn only_a_complete_time_is_one() {
    let Repr::III { extra, .. } = seconds() else { panic!("type III") };
    assert_eq!(extra.ts_ns(), Some(1_700_000_000_999_999_999));
    assert_eq!(extra.direction(), Direction::Out);
    assert_eq!(Extra { timestamp: 1_000_000_000, ..extra }.ts_ns(), None);
    assert_eq!(Extra { granularity: Granularity::Nanoseconds100, ..extra }.ts_ns(), None);
    assert_eq!(Extra { platform: None, ..extra }.ts_ns(), None);
    let vsm = Platform([1 << 2, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(Extra { platform: Some(vsm), ..extra }.ts_ns(), None);
    let Repr::III { extra, .. } = type_iii() else { panic!("type III") };
    assert_eq!((extra.ts_ns(), extra.direction()), (None, Direction::In));
}

#[test]
fn reserved_bits_are_ignored() {
    let mut bytes = TYPE_II;
    bytes[4] = 0xff;
    bytes[5] |= 0xf0;
    assert_eq!(Repr::parse(&Packet::new_checked(&bytes[..]).unwrap()), type_ii());
}

#[test]
fn other_versions_are_malformed() {
    for version in (0..16u8).filter(|v| ![1, 2].contains(v)) {
        let e = Packet::new_checked([version << 4; 20]).unwrap_err();
        assert_eq!(e.to_string(), "ERSPAN: version neither 1 (type II) nor 2 (type III)");
    }
}

#[test]
fn every_short_length_is_an_error() {
    for bytes in [&TYPE_II[..], &TYPE_III, &SECONDS] {
        for got in 0..bytes.len() {
            let needed = match (got, bytes.len()) {
                (0, _) => HEADER_LEN_II,
                (..12, 20) => HEADER_LEN_III,
                (_, len) => len,
            };
            assert_eq!(
                Packet::new_checked(&bytes[..got]).unwrap_err(),
                Error::Truncated { layer: Layer::Erspan, needed, got }
            );
        }
    }
}

proptest! {
    #[test]
    fn any_header_is_its_meaning(bytes in any::<[u8; HEADER_LEN_MAX]>(), version in 1..=2u8) {
        let mut bytes = bytes;
        bytes[0] = version << 4 | bytes[0] & 0xf;
        if version == 1 {
            bytes[4] = 0; // reserved
            bytes[5] &= 0xf;
        }
        let packet = Packet::new_checked(&bytes[..]).unwrap();
        let repr = Repr::parse(&packet);
        prop_assert_eq!(repr.header_len(), packet.header_len());
        prop_assert_eq!(repr.session(), Some(packet.common().session));
        let mut buf = [0xa5; HEADER_LEN_MAX];
        repr.emit(&mut buf);
        prop_assert_eq!(&buf[..repr.header_len()], &bytes[..repr.header_len()]);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(packet) = Packet::new_checked(&bytes[..]) {
            let _ = Repr::parse(&packet);
            prop_assert_eq!(packet.header_len() + packet.payload().len(), bytes.len());
        }
    }
}
