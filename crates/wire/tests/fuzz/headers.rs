//! Tunnel headers: what is read and written again means the same.

use wire::tunnel::{Cookie, L2tpFormat};
use wire::{erspan, geneve, gre, l2tp, metadata, udp, vxlan};

pub fn vxlan(bytes: &[u8]) {
    let Ok(packet) = vxlan::Packet::new_checked(bytes) else {
        return assert!(bytes.len() < vxlan::HEADER_LEN);
    };
    let _ = (packet.group(), packet.next());
    assert_eq!(packet.payload().len(), bytes.len() - vxlan::HEADER_LEN);
    let Ok(repr) = vxlan::Repr::parse(&packet) else {
        return assert!(!packet.has_vni());
    };
    let mut again = [0xa5; vxlan::HEADER_LEN];
    repr.emit(&mut again);
    assert_eq!(vxlan::Repr::parse(&vxlan::Packet::new_unchecked(&again)), Ok(repr));
}

pub fn geneve(bytes: &[u8]) {
    let Ok(packet) = geneve::Packet::new_checked(bytes) else { return };
    let header_len = packet.header_len();
    assert_eq!(header_len + packet.payload().len(), bytes.len());
    let mut seen = 0;
    for option in packet.options().map_while(Result::ok) {
        let (_, len) = (option.is_critical(), option.as_bytes().len());
        assert_eq!(option.data().len() + 4, len);
        seen += len;
        metadata(option.as_bytes());
    }
    assert!(seen <= header_len - geneve::HEADER_LEN);
    let Ok(repr) = geneve::Repr::parse(&packet) else {
        return assert_ne!(packet.version(), 0);
    };
    assert_eq!(repr.header_len(), header_len);
    let mut again = vec![0xa5; header_len];
    repr.emit(&mut again);
    assert_eq!(geneve::Repr::parse(&geneve::Packet::new_unchecked(&again)), Ok(repr));
    assert_eq!(again[geneve::HEADER_LEN..], bytes[geneve::HEADER_LEN..header_len]);
}

pub fn metadata(bytes: &[u8]) {
    let Ok(packet) = metadata::Packet::new_checked(bytes) else { return };
    assert!(packet.option_len() >= metadata::OPTION_LEN);
    let _ = (packet.version(), packet.direction(), packet.lane());
    let Ok(repr) = metadata::Repr::parse(&packet) else { return };
    assert_eq!(packet.class(), metadata::CLASS);
    let mut again = [0xa5; metadata::OPTION_LEN];
    repr.emit(&mut again);
    assert_eq!(metadata::Repr::parse(&metadata::Packet::new_unchecked(&again)), Ok(repr));
}

pub fn gre(bytes: &[u8]) {
    let Ok(packet) = gre::Packet::new_checked(bytes) else { return };
    let header_len = packet.header_len();
    assert!((gre::HEADER_LEN_MIN..=gre::HEADER_LEN_MAX).contains(&header_len));
    assert_eq!(header_len + packet.payload().len(), bytes.len());
    let _ = (packet.checksum(), packet.checksum_is_good());
    let Ok(repr) = gre::Repr::parse(&packet) else {
        return assert!(packet.version() != 0 || packet.has_routing());
    };
    assert_eq!(repr.header_len(), header_len);
    let mut again = vec![0xa5; header_len];
    repr.emit(&mut again, packet.payload());
    again.extend_from_slice(packet.payload());
    let again = gre::Packet::new_checked(&again).expect("it was written whole");
    assert_eq!(gre::Repr::parse(&again), Ok(repr));
    assert!(again.checksum_is_good());
    if let Ok(inside) = erspan::Repr::parse_behind(&repr, packet.payload()) {
        assert!(inside.header_len() <= packet.payload().len());
    }
}

pub fn erspan(bytes: &[u8]) {
    let Ok(packet) = erspan::Packet::new_checked(bytes) else { return };
    let repr = erspan::Repr::parse(&packet);
    assert_eq!(packet.header_len() + packet.payload().len(), bytes.len());
    assert_eq!(
        (repr.header_len(), repr.session()),
        (packet.header_len(), Some(packet.common().session))
    );
    if let erspan::Repr::III { extra, .. } = repr {
        let _ = (extra.ts_ns(), extra.direction());
    }
    let mut again = vec![0xa5; repr.header_len()];
    repr.emit(&mut again);
    assert_eq!(erspan::Repr::parse(&erspan::Packet::new_unchecked(&again)), repr);
}

// The first byte says what the ends agreed on.
pub fn l2tp(bytes: &[u8]) {
    let Some((&first, bytes)) = bytes.split_first() else { return };
    let format = l2tp_format(first);
    let message = if first & 0x80 == 0 { l2tp::Message::in_ip } else { l2tp::Message::in_udp };
    let Ok(l2tp::Message::Data(data)) = message(bytes) else { return };
    assert!(data.len() <= bytes.len());
    for format in [format, l2tp::guess(data)] {
        let Ok(packet) = l2tp::Packet::new_checked(data, &format) else {
            assert!(data.len() < format.header_len());
            continue;
        };
        assert_eq!(packet.header_len() + packet.payload().len(), data.len());
        assert_eq!(packet.cookie().len(), format.cookie.as_bytes().len());
        let repr = l2tp::Repr::parse(&packet).expect("session 0 is control");
        let mut again = vec![0xa5; repr.header_len()];
        repr.emit(&mut again);
        let again = l2tp::Packet::new_checked(&again, &format).expect("it was written whole");
        assert_eq!(l2tp::Repr::parse(&again), Ok(repr));
    }
}

/// The format that a byte names.
pub fn l2tp_format(byte: u8) -> L2tpFormat {
    let cookie = match byte & 3 {
        1 => Cookie::Short([1, 2, 3, 4]),
        2 => Cookie::Long([1, 2, 3, 4, 5, 6, 7, 8]),
        _ => Cookie::None,
    };
    L2tpFormat { cookie, sublayer: byte & 4 != 0 }
}

pub fn udp(bytes: &[u8]) {
    let Ok(packet) = udp::Packet::new_checked(bytes) else { return };
    assert!(packet.payload().len() <= bytes.len() - udp::HEADER_LEN);
    let repr = udp::Repr::parse(&packet);
    let mut again = [0xa5; udp::HEADER_LEN];
    repr.emit(&mut again);
    assert_eq!(again, bytes[..udp::HEADER_LEN]);
    let mut whole = bytes.to_vec();
    let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    udp::Packet::new_unchecked(&mut whole[..]).fill_checksum(src, dst);
    assert_ne!(udp::Packet::new_unchecked(&whole[..]).checksum(), 0);
}
