//! Segmentation: cuts a super-packet back into the frames that stood, or will stand, on the wire.
//!
//! With TSO, GSO, USO or GRO the kernel hands a tap one frame with many segments' payload. The cut
//! is the kernel's: `tcp_gso_segment` in net/ipv4/tcp_offload.c, `inet_gso_segment` in
//! net/ipv4/af_inet.c, `ipv6_gso_segment` in net/ipv6/ip6_offload.c, `__udp_gso_segment` and
//! `__skb_udp_tunnel_segment` in net/ipv4/udp_offload.c, `gre_gso_segment` in
//! net/ipv4/gre_offload.c, and `skb_checksum_help` in net/core/dev.c for a checksum by itself.
//!
//! ```text
//! super-packet  | Ethernet, tags | IP | TCP, options |            payload            |
//! segment 0     | Ethernet, tags | IP | TCP, options | size bytes |
//! segment 1     | Ethernet, tags | IP | TCP, options |            | size bytes |
//! segment n-1   | Ethernet, tags | IP | TCP, options |                         | rest |
//! ```
//!
//! | field | in segment i |
//! |---|---|
//! | IPv4 total length, IPv6 payload length | its own |
//! | IPv4 identification | the first's + i; stays 0 where it is 0 with DF set |
//! | IPv6 hop-by-hop header with a jumbo length | removed |
//! | TCP sequence | the first's + i × size |
//! | TCP CWR | in the first only |
//! | TCP PSH, FIN | in the last only |
//! | UDP length | its own |
//! | TCP checksum | computed; 0 stays 0000 |
//! | UDP checksum | computed; 0 becomes ffff |
//! | headers of tunnels around it | the same rules; an outer UDP checksum of 0 stays 0 |
//!
//! Tunnels are followed when the checksum start that the kernel gave lies behind one: VXLAN and
//! GENEVE on any port, GRE, IP in IP.
//!
//! Liberal: a payload of one segment or none gives one segment; without a checksum start the first
//! transport header is taken. Not seen from the frame: that GRO joined packets of one fixed,
//! non-zero id (they count up here), and that a frame with a declared length of 0 was cut by a
//! snap length (compare caplen and origlen first).

mod layers;
mod recognise;
#[cfg(test)]
mod tests;

use crate::checksum::{self, Sum};
use crate::walk::protocol;
use crate::{Error, Layer, LinkType, crc32c};
use layers::{Level, Path};
pub use recognise::{Flow, Tcp};

/// What a super-packet's segments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GsoKind {
    /// TCP over IPv4 (`VIRTIO_NET_HDR_GSO_TCPV4`).
    TcpV4,
    /// TCP over IPv6 (`VIRTIO_NET_HDR_GSO_TCPV6`).
    TcpV6,
    /// UDP datagrams of one size, over either (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    UdpL4,
}

/// What the kernel says about a super-packet, in the virtio-net header of an AF_PACKET ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gso {
    /// What the segments are; the ECN bit of `gso_type` is not in it.
    pub kind: GsoKind,
    /// Payload bytes in a segment.
    pub size: u16,
    /// Offset of the transport header from the start of the frame; 0 if the kernel gave none.
    pub csum_start: u16,
    /// Offset of the checksum in the transport header; 0 if the kernel gave none.
    pub csum_offset: u16,
}

/// How one frame is cut. Holds offsets only; the frame is passed again to [`Plan::emit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    path: Path,
    udp: bool,
    // Offsets in the frame.
    transport_at: usize,
    payload_at: usize,
    payload_end: usize,
    // The jumbo header to leave out, at `jumbo_at..jumbo_at + jumbo_len`, in front of transport.
    jumbo_at: usize,
    jumbo_len: usize,
    size: usize,
    count: usize,
    // Pseudo-header sum without the length.
    pseudo: u16,
}

const JUMBO_HEADER_LEN: usize = 8;
/// Where the checksum stands in an SCTP header: RFC 9260 section 3.1.
const SCTP_CSUM_OFFSET: usize = 8;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

impl Plan {
    /// Reads a super-packet's headers and decides how it is cut.
    ///
    /// # Errors
    /// [`Error::Truncated`] if the frame is shorter than its headers declare: a sliced
    /// super-packet cannot be cut, so slice after segmentation. [`Error::Malformed`] if the frame
    /// and `gso` contradict each other.
    pub fn new(link: LinkType, frame: &[u8], gso: &Gso) -> Result<Plan, Error> {
        let malformed = |what| Error::Malformed { layer: Layer::Offload, what };
        if gso.size == 0 {
            return Err(malformed("segment size is 0"));
        }
        let udp = gso.kind == GsoKind::UdpL4;
        let given = gso.csum_start != 0;
        let path = layers::find(link, frame, given.then_some(usize::from(gso.csum_start)), udp)?;
        let inner = *path.inner();
        match gso.kind {
            GsoKind::TcpV4 if inner.v6 => return Err(malformed("TCPv4 announced, IPv6 found")),
            GsoKind::TcpV6 if !inner.v6 => return Err(malformed("TCPv6 announced, IPv4 found")),
            _ => {}
        }
        if given && usize::from(gso.csum_offset) != csum_offset(udp) {
            return Err(malformed("checksum offset is not the transport's"));
        }
        let (transport_at, payload_at) = (path.transport_at as usize, path.payload_at as usize);
        let (payload_end, size) = (path.payload_end as usize, usize::from(gso.size));
        let jumbo_at = inner.ip_at as usize + 40;
        let jumbo_len = match inner.jumbo {
            layers::Jumbo::None => 0,
            layers::Jumbo::Alone => JUMBO_HEADER_LEN,
            layers::Jumbo::AmongOthers => {
                let what = "jumbo length among other hop-by-hop options";
                return Err(Error::Malformed { layer: Layer::Ipv6Extension, what });
            }
        };
        if path.levels().iter().rev().skip(1).any(|l| l.jumbo != layers::Jumbo::None) {
            return Err(malformed("jumbo length in a tunnel's outer header"));
        }
        let payload_len = payload_end - payload_at;
        let longest = payload_at + payload_len.min(size) - path.outer().ip_at as usize;
        if longest > usize::from(u16::MAX) {
            return Err(malformed("segment size is above what an IP packet holds"));
        }
        let pseudo = if inner.rerouted {
            // The final destination stands in a routing header: as the kernel does, start from the
            // pseudo-header sum it left in the field, and take the length out.
            if !given {
                return Err(malformed("no checksum start, and a routing header in front"));
            }
            let at = transport_at + csum_offset(udp);
            let mut sum = Sum::new();
            sum.add_bytes(&frame[at..at + 2]);
            sum.add_u16(!length_sum(payload_end - transport_at));
            sum.fold()
        } else {
            inner.pseudo(frame, if udp { protocol::UDP } else { protocol::TCP }, 0).fold()
        };
        Ok(Plan {
            path,
            udp,
            transport_at,
            payload_at,
            payload_end,
            jumbo_at,
            jumbo_len,
            size,
            count: payload_len.div_ceil(size).max(1),
            pseudo,
        })
    }

    /// How many segments there are, 1 or more: the wire packets that this frame stands for.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether the segments' own IP header stands behind another one.
    #[inline]
    pub fn is_in_tunnel(&self) -> bool {
        self.path.levels().len() > 1
    }

    /// The length of segment `i`, link header included, bytes; at most the first's.
    ///
    /// # Panics
    /// If `i` is not below [`Self::count`].
    #[inline]
    pub fn segment_len(&self, i: usize) -> usize {
        let (from, to) = self.range(i);
        self.payload_at - self.jumbo_len + (to - from)
    }

    /// Bytes of headers that each segment begins with, link header included.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.payload_at - self.jumbo_len
    }

    /// Where the transport's checksum stands in each segment.
    #[inline]
    pub fn checksum_at(&self) -> usize {
        self.transport_at - self.jumbo_len + csum_offset(self.udp)
    }

    /// Where the payload of segment `i` ends in the frame.
    ///
    /// # Panics
    /// If `i` is not below [`Self::count`].
    #[inline]
    pub fn segment_end(&self, i: usize) -> usize {
        self.range(i).1
    }

    /// Writes segment `i` over whatever `out` held. `frame` is the frame the plan was made from.
    ///
    /// # Panics
    /// If `i` is not below [`Self::count`], `out` is not [`Self::segment_len`] long, or `frame` is
    /// shorter than the frame the plan was made from.
    pub fn emit(&self, frame: &[u8], i: usize, out: &mut [u8]) {
        let (from, to) = self.range(i);
        let (head, body) = out.split_at_mut(self.payload_at - self.jumbo_len);
        if self.jumbo_len == 0 {
            head.copy_from_slice(&frame[..self.payload_at]);
        } else {
            head[..self.jumbo_at].copy_from_slice(&frame[..self.jumbo_at]);
            let behind = self.jumbo_at + self.jumbo_len;
            head[self.jumbo_at..].copy_from_slice(&frame[behind..self.payload_at]);
            // The header left out names the next one; the fixed header takes its place.
            head[self.path.inner().ip_at as usize + 6] = frame[self.jumbo_at];
        }
        body.copy_from_slice(&frame[from..to]);

        let transport_at = self.transport_at - self.jumbo_len;
        let rest_sum = self.finish_transport(&mut out[transport_at..], i);
        for level in self.path.levels().iter().rev() {
            finish_level(level, out, i, transport_at, rest_sum);
        }
    }

    #[inline]
    fn range(&self, i: usize) -> (usize, usize) {
        assert!(i < self.count, "segment {i} of {}", self.count);
        let from = self.payload_at + i * self.size;
        (from, self.payload_end.min(from + self.size))
    }

    // Writes what differs in the transport header, and the checksum. Returns the sum of `segment`.
    #[inline]
    fn finish_transport(&self, segment: &mut [u8], i: usize) -> Sum {
        let len = segment.len() as u16; // Plan::new saw that it fits
        if self.udp {
            put(segment, 4, len);
        } else {
            let seq = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]);
            let seq = seq.wrapping_add((i * self.size) as u32);
            segment[4..8].copy_from_slice(&seq.to_be_bytes());
            if i > 0 {
                segment[13] &= !CWR;
            }
            if i + 1 < self.count {
                segment[13] &= !(FIN | PSH);
            }
        }
        let at = csum_offset(self.udp);
        put(segment, at, 0);
        let mut pseudo = Sum::new();
        pseudo.add_u16(self.pseudo);
        pseudo.add_u16(len);
        let mut sum = pseudo;
        sum.add_bytes(segment);
        put(segment, at, if self.udp { sum.finish_nonzero() } else { sum.finish() });
        // A segment with its checksum in place sums to the complement of its pseudo-header, so
        // that checksums of tunnels outside need not read the payload again.
        let mut rest = Sum::new();
        rest.add_u16(!pseudo.fold());
        rest
    }
}

/// Completes a checksum that was left to the NIC: sums from `csum_start` to the frame's end, where
/// the field at `csum_start + csum_offset` already holds the pseudo-header's sum, and writes the
/// result there, 0 as ffff. SCTP, the only one whose field stands at 8, gets its CRC32c
/// (`skb_crc32c_csum_help` in net/core/dev.c).
///
/// # Errors
/// [`Error::Truncated`] if the field is not in the frame. The checksum of a frame that was cut
/// cannot be completed: compare caplen and origlen first.
pub fn complete_checksum(
    frame: &mut [u8],
    csum_start: usize,
    csum_offset: usize,
) -> Result<(), Error> {
    let is_crc = csum_offset == SCTP_CSUM_OFFSET;
    let field_len = if is_crc { 4 } else { 2 };
    let needed = csum_start.saturating_add(csum_offset).saturating_add(field_len);
    if frame.len() < needed {
        return Err(Error::Truncated { layer: Layer::Offload, needed, got: frame.len() });
    }
    let covered = &mut frame[csum_start..];
    if is_crc {
        let field = csum_offset..csum_offset + field_len;
        covered[field.clone()].fill(0);
        let crc = crc32c::of(covered);
        covered[field].copy_from_slice(&crc.to_le_bytes());
        return Ok(());
    }
    let mut sum = Sum::new();
    sum.add_bytes(covered);
    put(covered, csum_offset, sum.finish_nonzero());
    Ok(())
}

// Length, id and checksums of one IP header and of the outer UDP header behind it. `rest` is the
// sum of everything from `transport_at` on.
#[inline]
fn finish_level(level: &Level, out: &mut [u8], i: usize, transport_at: usize, rest: Sum) {
    let at = level.ip_at as usize;
    let len = out.len() - at;
    if level.v6 {
        put(out, at + 4, (len - 40) as u16);
    } else {
        put(out, at + 2, len as u16);
        if level.counts_up {
            put(out, at + 4, level.id.wrapping_add(i as u16));
        }
        put(out, at + 10, 0);
        let check = checksum::of(&out[at..at + usize::from(level.v4_header_len)]);
        put(out, at + 10, check);
    }
    if let Some(udp_at) = level.outer_udp_at {
        let udp_at = udp_at as usize;
        let len = out.len() - udp_at;
        put(out, udp_at + 4, len as u16);
        if level.outer_udp_checksum {
            put(out, udp_at + 6, 0);
            let mut sum = level.pseudo(out, protocol::UDP, len as u32);
            sum.add_bytes(&out[udp_at..transport_at]);
            sum.add_sum(rest);
            put(out, udp_at + 6, sum.finish_nonzero());
        }
    }
}

#[inline]
fn put(bytes: &mut [u8], at: usize, word: u16) {
    bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

#[inline]
const fn csum_offset(udp: bool) -> usize {
    if udp { 6 } else { 16 }
}

fn length_sum(len: usize) -> u16 {
    let mut sum = Sum::new();
    sum.add_bytes(&(len as u32).to_be_bytes());
    sum.fold()
}
