//! The rewriting itself: addresses, ports and checksums, in place.

use super::reading::ABOUT_BYTES_MAX;
use super::{About, End, Kind, Mapping, Reading};
use crate::checksum::Change;
use crate::walk::{IpVersion, protocol};
use core::net::IpAddr;

/// What becomes of the time to live, or the hop limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hops {
    /// One less, as a router does. Who forwards has looked that it was more than 1.
    Lower,
    /// As it was.
    Keep,
}

/// Where the checksum stands in a transport header.
const TCP_CHECK_AT: usize = 16;
const UDP_CHECK_AT: usize = 6;
const ICMP_CHECK_AT: usize = 2;
const QUERY_ID_AT: usize = 4;

/// Gives a packet the addresses and ports of a mapping. `reading` is that of this frame. A frame that
/// is [`Kind::Foreign`], or of another version of IP than the mapping, stays as it is.
#[inline]
pub fn translate(frame: &mut [u8], reading: &Reading, mapping: &Mapping, hops: Hops) {
    translate_from(frame, reading, mapping, mapping.source.address, hops);
}

/// The same with another source address in front of all: an error that a router on the way sent about
/// a session comes from that router.
#[inline]
pub fn translate_from(
    frame: &mut [u8],
    reading: &Reading,
    mapping: &Mapping,
    from: IpAddr,
    hops: Hops,
) {
    let is_v6 = reading.version == IpVersion::V6;
    if reading.kind == Kind::Foreign
        || from.is_ipv6() != is_v6
        || mapping.source.address.is_ipv6() != is_v6
        || mapping.destination.address.is_ipv6() != is_v6
    {
        return;
    }
    let Some(packet) = frame.get_mut(..reading.end as usize) else { return };
    let (head, upper) = packet.split_at_mut(reading.transport_at as usize);
    let Some(ip) = head.get_mut(reading.ip_at as usize..) else { return };
    let addresses = put_addresses(ip, from, mapping.destination.address);
    if is_v6 {
        if hops == Hops::Lower {
            ip[7] = ip[7].saturating_sub(1);
        }
    } else {
        let mut change = addresses;
        if hops == Hops::Lower {
            let old = [ip[8], ip[9]];
            ip[8] = ip[8].saturating_sub(1);
            change = change.and(Change::between(&old, &ip[8..10], 0));
        }
        mend(ip, 10, change);
    }
    match reading.kind {
        Kind::Ports => {
            let ports = put_ports(upper, mapping.source.port, mapping.destination.port);
            mend_transport(upper, reading.protocol, addresses.and(ports));
        }
        Kind::Query { .. } => {
            let change = put_id(upper, mapping);
            mend(upper, ICMP_CHECK_AT, if is_v6 { change.and(addresses) } else { change });
        }
        Kind::Error(about) => {
            let change = put_about(upper, reading, &about, &mapping.turned());
            mend(upper, ICMP_CHECK_AT, if is_v6 { change.and(addresses) } else { change });
        }
        Kind::Plain | Kind::Later | Kind::Foreign => {}
    }
}

/// Rewrites the packet in an error; `upper` begins with the ICMP header. Returns what its bytes change.
fn put_about(upper: &mut [u8], reading: &Reading, about: &About, mapping: &Mapping) -> Change {
    let offset = |at: u32| (at - reading.transport_at) as usize;
    let (at, transport_at) = (offset(about.at), offset(about.transport_at));
    let end = upper.len().min(transport_at + 20);
    let mut before = [0; ABOUT_BYTES_MAX];
    let (Some(quoted), Some(before)) = (upper.get_mut(at..end), before.get_mut(..end - at)) else {
        return Change::NONE;
    };
    before.copy_from_slice(quoted);
    let (ip, inner) = quoted.split_at_mut(transport_at - at);
    let addresses = put_addresses(ip, mapping.source.address, mapping.destination.address);
    let is_v6 = reading.version == IpVersion::V6;
    if !is_v6 {
        mend(ip, 10, addresses);
    }
    match about.protocol {
        protocol::TCP | protocol::UDP => {
            let ports = put_ports(inner, mapping.source.port, mapping.destination.port);
            mend_transport(inner, about.protocol, addresses.and(ports));
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let change = put_id(inner, mapping);
            mend(inner, ICMP_CHECK_AT, if is_v6 { change.and(addresses) } else { change });
        }
        _ => {}
    }
    Change::between(before, quoted, at)
}

/// Writes both addresses into an IP header.
fn put_addresses(ip: &mut [u8], source: IpAddr, destination: IpAddr) -> Change {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            put(ip, 12, &source.octets()).and(put(ip, 16, &destination.octets()))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            put(ip, 8, &source.octets()).and(put(ip, 24, &destination.octets()))
        }
        _ => Change::NONE,
    }
}

fn put_ports(upper: &mut [u8], source: u16, destination: u16) -> Change {
    put(upper, 0, &source.to_be_bytes()).and(put(upper, 2, &destination.to_be_bytes()))
}

fn put_id(upper: &mut [u8], mapping: &Mapping) -> Change {
    // Both ends have it.
    let End { port: id, .. } = mapping.source;
    put(upper, QUERY_ID_AT, &id.to_be_bytes())
}

/// Writes bytes at an even offset, if they are there; returns what the sum changes by.
#[inline]
fn put(bytes: &mut [u8], at: usize, new: &[u8]) -> Change {
    let Some(old) = bytes.get_mut(at..at + new.len()) else { return Change::NONE };
    let change = Change::between(old, new, at);
    old.copy_from_slice(new);
    change
}

/// Mends a checksum at an offset, if it is there.
#[inline]
fn mend(bytes: &mut [u8], at: usize, change: Change) {
    if let Some(field) = bytes.get_mut(at..at + 2) {
        let check = change.mend(u16::from_be_bytes([field[0], field[1]]));
        field.copy_from_slice(&check.to_be_bytes());
    }
}

/// Mends the checksum of TCP or UDP, if it is there.
#[inline]
fn mend_transport(upper: &mut [u8], kind: u8, change: Change) {
    if kind != protocol::UDP {
        return mend(upper, TCP_CHECK_AT, change);
    }
    let Some(field) = upper.get_mut(UDP_CHECK_AT..UDP_CHECK_AT + 2) else { return };
    // 0 says that none was computed.
    if *field != [0, 0] {
        mend(field, 0, change);
        if *field == [0, 0] {
            field.copy_from_slice(&[0xff, 0xff]);
        }
    }
}
