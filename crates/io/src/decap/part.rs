//! One fragment of an IP packet: what it holds of the packet, and how the packet's header is made
//! of its own.
//!
//! ```text
//! IPv4   link │ header, options │ payload            id, offset and "more" in the header
//! IPv6   link │ header │ extensions │ fragment 8 │ payload
//! ```
//!
//! Sources: RFC 791 section 3.2, RFC 8200 section 4.5.

use super::fragments::Fault;
use std::net::IpAddr;
use wire::checksum::update_u16;
use wire::walk::{IpVersion, Walk, protocol};

/// IP protocols that lead to a tunnel, beside UDP: IP in IP, IPv6 in IP, GRE, L2TPv3, MPLS in IP.
const TUNNELS: [u8; 5] = [4, 41, 47, 115, 137];
/// Offset of the next-header field in the fixed IPv6 header.
const NEXT_HEADER: usize = 6;
const IPV6_HEADER_LEN: usize = 40;
const FRAGMENT_HEADER_LEN: usize = 8;
const PACKET_BYTES_MAX: usize = 65_535;

/// A fragment, as its headers tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// The packet's identification.
    pub id: u32,
    /// What all fragments of the packet say of its payload.
    pub protocol: u8,
    /// Which bytes of the packet's payload these are, from `begin` up to `end`.
    pub begin: usize,
    pub end: usize,
    /// More follow.
    pub more: bool,
    /// Offset of those bytes in the frame.
    pub at: usize,
    /// The frame ends before the fragment does.
    pub is_cut: bool,
    head: Head,
}

/// Where in the frame that is which becomes the header of the whole packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    V4 { at: usize, len: usize },
    V6 { at: usize, fragment_at: usize, next_at: usize },
}

impl Part {
    /// Reads a frame that was walked. `None` if it is no fragment, or its headers are not all there.
    pub fn of(walk: &Walk, frame: &[u8]) -> Option<Part> {
        let network = walk.network?;
        let fragment = network.fragment?;
        let tuple = walk.five_tuple(frame)?;
        let at = network.at as usize;
        let head = match network.version {
            IpVersion::V4 => Head::V4 { at, len: usize::from(frame[at] & 0x0f) * 4 },
            IpVersion::V6 => Head::of_v6(frame, at)?,
        };
        let payload_at = match head {
            Head::V4 { at, len } => at + len,
            Head::V6 { fragment_at, .. } => fragment_at + FRAGMENT_HEADER_LEN,
        };
        if payload_at > frame.len() {
            return None;
        }
        // A length of 0 is that of a super-packet, which is no fragment.
        let declared_end = at + network.declared_len? as usize;
        let len = declared_end.checked_sub(payload_at)?;
        let begin = usize::from(fragment.offset);
        Some(Part {
            src: tuple.src,
            dst: tuple.dst,
            id: fragment.id,
            protocol: network.protocol,
            begin,
            end: begin + len,
            more: fragment.more,
            at: payload_at,
            is_cut: declared_end > frame.len(),
            head,
        })
    }

    /// Whether what the packet carries can be a tunnel, by what each fragment tells. Behind
    /// extension headers of IPv6 anything can follow.
    pub fn may_be_tunnel(&self) -> bool {
        const EXTENSIONS: [u8; 4] =
            [protocol::HOP_BY_HOP, protocol::ROUTING, protocol::DESTINATION, protocol::AH];
        self.protocol == protocol::UDP
            || TUNNELS.contains(&self.protocol)
            || (matches!(self.head, Head::V6 { .. }) && EXTENSIONS.contains(&self.protocol))
    }

    /// Why it can be no part of any packet that is put together here, if it cannot.
    pub fn fault(&self) -> Option<Fault> {
        let len = self.end - self.begin;
        let is_sound = len > 0 && (!self.more || len.is_multiple_of(8)) && self.fits(self.end);
        match is_sound {
            _ if self.is_cut => Some(Fault::Cut),
            true => None,
            false => Some(Fault::Malformed),
        }
    }

    /// Whether a packet with this one's header may have so many bytes of payload.
    pub fn fits(&self, payload_bytes: usize) -> bool {
        match self.head {
            Head::V4 { len, .. } => len + payload_bytes <= PACKET_BYTES_MAX,
            Head::V6 { at, fragment_at, .. } => {
                fragment_at - at - IPV6_HEADER_LEN + payload_bytes <= PACKET_BYTES_MAX
            }
        }
    }

    /// The fragment's bytes of the packet's payload; `frame` is the one that was read, not cut.
    pub fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        &frame[self.at..self.at + (self.end - self.begin)]
    }

    /// Bytes in front of the whole packet's payload.
    pub fn head_len(&self) -> usize {
        match self.head {
            Head::V4 { at, len } => at + len,
            Head::V6 { fragment_at, .. } => fragment_at,
        }
    }

    /// Writes what stands in front of the whole packet's payload: this fragment's link header and IP
    /// header, as if the packet had never been cut. A header checksum that was wrong stays wrong.
    ///
    /// `to` has [`Self::head_len`] bytes, and the payload [fits](Self::fits).
    pub fn write_head(&self, frame: &[u8], payload_bytes: usize, to: &mut [u8]) {
        to.copy_from_slice(&frame[..self.head_len()]);
        match self.head {
            Head::V4 { at, len } => {
                let mut replace = |field: usize, new: u16| {
                    let old = be16(to, at + field);
                    let check = update_u16(be16(to, at + 10), old, new);
                    to[at + field..at + field + 2].copy_from_slice(&new.to_be_bytes());
                    to[at + 10..at + 12].copy_from_slice(&check.to_be_bytes());
                };
                replace(2, (len + payload_bytes) as u16);
                replace(6, be16(frame, at + 6) & !0x3fff); // the reserved bit and DF stay
            }
            Head::V6 { at, fragment_at, next_at } => {
                let len = (fragment_at - at - IPV6_HEADER_LEN + payload_bytes) as u16;
                to[at + 4..at + 6].copy_from_slice(&len.to_be_bytes());
                to[next_at] = frame[fragment_at];
            }
        }
    }
}

impl Head {
    /// Finds the fragment header behind the extension headers that each fragment repeats.
    fn of_v6(frame: &[u8], at: usize) -> Option<Head> {
        let mut next_at = at + NEXT_HEADER;
        let mut header_at = at + IPV6_HEADER_LEN;
        loop {
            let header = frame.get(header_at..header_at + FRAGMENT_HEADER_LEN)?;
            let len = match frame[next_at] {
                protocol::FRAGMENT => {
                    return Some(Head::V6 { at, fragment_at: header_at, next_at });
                }
                protocol::AH => (usize::from(header[1]) + 2) * 4,
                _ => (usize::from(header[1]) + 1) * 8,
            };
            (next_at, header_at) = (header_at, header_at + len);
        }
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
