//! Frames put together by hand, independent of what reads them. Checksums are left 0.

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];

/// An Ethernet frame from 02:00:00:00:00:01 to 02:00:00:00:00:02.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let macs = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    [&macs[..], &ethertype.to_be_bytes(), payload].concat()
}

/// An IPv4 packet between two hosts; `fragment` is the field with flags and offset.
pub fn ipv4_between(
    src: [u8; 4],
    dst: [u8; 4],
    protocol: u8,
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let len = (20 + payload.len() as u16).to_be_bytes();
    let fragment = fragment.to_be_bytes();
    let head = [0x45, 0, len[0], len[1], 0, 7, fragment[0], fragment[1], 64, protocol, 0, 0];
    [&head[..], &src, &dst, payload].concat()
}

/// An IPv4 packet from 10.0.0.1 to 10.0.0.2.
pub fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_between(CLIENT, SERVER, protocol, 0, payload)
}

/// An IPv6 packet from fd00::1 to fd00::2.
pub fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let address = |last: u8| [&[0xfd][..], &[0; 14], &[last]].concat();
    let len = (payload.len() as u16).to_be_bytes();
    let head = [0x60, 0, 0, 0, len[0], len[1], next, 64];
    [&head[..], &address(1), &address(2), payload].concat()
}

pub fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len() as u16).to_be_bytes();
    [&src.to_be_bytes()[..], &dst.to_be_bytes(), &len, &[0, 0], payload].concat()
}

/// Sequence number 1, acknowledgement 2, window 512.
pub fn tcp(src: u16, dst: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let rest = [0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 2, 0, 0, 0, 0, 0];
    [&src.to_be_bytes()[..], &dst.to_be_bytes(), &rest, payload].concat()
}

/// An ARP request.
pub fn arp() -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1];
    ethernet(0x0806, &[&head[..], &CLIENT, &[0; 6], &SERVER].concat())
}

/// Puts 802.1Q tags into an Ethernet frame, outermost first.
pub fn tagged(frame: &[u8], vids: &[u16]) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    for vid in vids {
        out.extend([0x81, 0x00]);
        out.extend(vid.to_be_bytes());
    }
    out.extend(&frame[12..]);
    out
}
