//! What a router answers about a packet that it cannot forward: ICMP and ICMPv6 errors.
//!
//! Sources: RFC 792, RFC 1191 section 4, RFC 1812 section 4.3.2 (when none is sent, how much is quoted,
//! precedence), RFC 4443 sections 2.4 and 3.
//!
//! ```text
//! ICMP    type 1 · code 1 · checksum 2 · unused 2 · next hop's MTU 2 | packet, up to 576 B in all
//! ICMPv6  type 1 · code 1 · checksum 2 · MTU 4, else unused          | packet, up to 1280 B in all
//! ```
//! None is sent about an ICMP error, a fragment but the first, a packet that went to many, or one whose
//! source is not one host. How many are sent in a second is for who sends them to bound.

use super::reading::is_error;
use super::{Kind, Reading};
use crate::checksum::{self, Sum};
use crate::walk::{IpVersion, protocol};
use core::net::IpAddr;

/// The longest frame that [`answer`] writes, without the link header, bytes.
pub const ANSWER_LEN_MAX: usize = 1280;

const V4_LEN_MAX: usize = 576;
const V4_HEADER_LEN: usize = 20;
const V6_HEADER_LEN: usize = 40;
const ICMP_HEADER_LEN: usize = 8;
/// RFC 1812 section 4.3.2.5: internetwork control.
const PRECEDENCE: u8 = 0xc0;
const HOPS: u8 = 64;
const DONT_FRAGMENT: u8 = 0x40;

/// Why a packet was not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Its time to live, or hop limit, ended.
    TimeExceeded,
    /// It is larger than what the next link takes, bytes, and may not be cut.
    TooBig(u16),
    /// The next host cannot be reached.
    Unreachable,
}

impl Answer {
    /// Type, code, and what stands behind the checksum.
    const fn words(self, version: IpVersion) -> (u8, u8, [u8; 4]) {
        match (version, self) {
            (IpVersion::V4, Answer::TimeExceeded) => (11, 0, [0; 4]),
            (IpVersion::V4, Answer::TooBig(mtu)) => {
                let mtu = mtu.to_be_bytes();
                (3, 4, [0, 0, mtu[0], mtu[1]])
            }
            (IpVersion::V4, Answer::Unreachable) => (3, 1, [0; 4]),
            (IpVersion::V6, Answer::TimeExceeded) => (3, 0, [0; 4]),
            (IpVersion::V6, Answer::TooBig(mtu)) => (2, 0, (mtu as u32).to_be_bytes()),
            (IpVersion::V6, Answer::Unreachable) => (1, 3, [0; 4]),
        }
    }
}

/// Writes what is answered about a frame, from one of our addresses, as a frame that goes back to who
/// sent it: behind the same tags. `reading` is that of the frame, as it was received. Returns its length;
/// `None` if nothing is to be answered, or `out` is too short: [`ANSWER_LEN_MAX`] and the link header
/// always fit.
pub fn answer(
    frame: &[u8],
    reading: &Reading,
    answer: Answer,
    from: IpAddr,
    out: &mut [u8],
) -> Option<usize> {
    if !may_answer(frame, reading) {
        return None;
    }
    let ip_at = reading.ip_at as usize;
    let link = frame.get(..ip_at).filter(|link| link.len() >= 12)?;
    let packet = frame.get(ip_at..reading.end as usize)?;
    let (header_len, len_max) = match reading.version {
        IpVersion::V4 => (V4_HEADER_LEN, V4_LEN_MAX),
        IpVersion::V6 => (V6_HEADER_LEN, ANSWER_LEN_MAX),
    };
    let quoted = &packet[..packet.len().min(len_max - header_len - ICMP_HEADER_LEN)];
    let len = header_len + ICMP_HEADER_LEN + quoted.len();
    let out = out.get_mut(..ip_at + len)?;
    out[..ip_at].copy_from_slice(link);
    out[..6].copy_from_slice(&link[6..12]);
    out[6..12].copy_from_slice(&link[..6]);
    let (ip, icmp) = out[ip_at..].split_at_mut(header_len);
    let (kind, code, rest) = answer.words(reading.version);
    icmp[..4].copy_from_slice(&[kind, code, 0, 0]);
    icmp[4..8].copy_from_slice(&rest);
    icmp[8..].copy_from_slice(quoted);
    let check = match (from, reading.source.address) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [high, low] = (len as u16).to_be_bytes();
            let head = [0x45, PRECEDENCE, high, low, 0, 0, DONT_FRAGMENT, 0, HOPS, protocol::ICMP];
            ip[..10].copy_from_slice(&head);
            ip[10..12].fill(0);
            ip[12..16].copy_from_slice(&from.octets());
            ip[16..].copy_from_slice(&to.octets());
            let check = checksum::of(ip).to_be_bytes();
            ip[10..12].copy_from_slice(&check);
            checksum::of(icmp)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let len = icmp.len() as u16;
            let [high, low] = len.to_be_bytes();
            ip[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, protocol::ICMPV6, HOPS]);
            ip[8..24].copy_from_slice(&from.octets());
            ip[24..].copy_from_slice(&to.octets());
            let mut sum = Sum::pseudo_v6(from.octets(), to.octets(), protocol::ICMPV6, len.into());
            sum.add_bytes(icmp);
            sum.finish()
        }
        _ => return None,
    };
    icmp[2..4].copy_from_slice(&check.to_be_bytes());
    Some(ip_at + len)
}

fn may_answer(frame: &[u8], reading: &Reading) -> bool {
    let is_one = |address: IpAddr| {
        let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        !(address.is_unspecified()
            || address.is_multicast()
            || address.is_loopback()
            || is_broadcast)
    };
    let is_to_many = frame.first().is_none_or(|byte| byte & 1 != 0);
    let is_icmp_error = match reading.protocol {
        protocol::ICMP | protocol::ICMPV6 => {
            let kind = frame.get(reading.transport_at as usize).copied();
            let is_v6 = reading.version == IpVersion::V6;
            // A redirect is an error too; a query is none.
            kind.is_none_or(|kind| is_error(is_v6, kind) || (!is_v6 && kind == 5))
        }
        _ => false,
    };
    let is_later = reading.fragment.is_some_and(|fragment| fragment.offset != 0);
    !is_to_many
        && !is_icmp_error
        && !matches!(reading.kind, Kind::Error(_))
        && !is_later
        && is_one(reading.source.address)
        && is_one(reading.destination.address)
}
