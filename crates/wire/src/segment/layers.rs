//! The way from the start of a frame to the transport header that is cut, through tunnels.
//!
//! ```text
//! VXLAN   UDP · 8 bytes · Ethernet                                     RFC 7348 section 5
//! GENEVE  UDP · 8 bytes + options, in units of 4 (low 6 bits of byte 0) ·
//!         Ethernet or IP, by the protocol type in bytes 2–3            RFC 8926 section 3.4
//! GRE     4 bytes + checksum 4 (C) + key 4 (K) + sequence 4 (S) ·
//!         Ethernet or IP, by the protocol type in bytes 2–3            RFC 2784, RFC 2890
//! IP      IP                                                           RFC 2003, RFC 2473
//! ```
//!
//! A port says little about a tunnel, so both UDP tunnels are tried: the right one is that in
//! which a transport header stands exactly where the kernel put the checksum start.

use crate::checksum::Sum;
use crate::walk::{
    IpVersion, TransportKind, Walk, Why, chunk, ethertype, protocol, v4_addresses, v6_addresses,
};
use crate::{Error, Layer, LinkType, vxlan};

/// IP headers around one another in a frame; the kernel nests no deeper when it segments.
const LEVELS_MAX: usize = 4;
const ETHERNET_IN_TUNNEL: u16 = 0x6558;
const GRE: u8 = 47;
const IPV4_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;

/// A hop-by-hop header with a jumbo length behind an IPv6 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Jumbo {
    #[default]
    None,
    /// The header holds nothing else and is eight bytes long.
    Alone,
    AmongOthers,
}

/// One IP header, and the UDP header of a tunnel behind it. Offsets are in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Level {
    pub ip_at: u32,
    pub v6: bool,
    pub rerouted: bool,
    /// Its length field is 0, and no option replaces it.
    pub undeclared: bool,
    pub jumbo: Jumbo,
    pub v4_header_len: u16,
    pub id: u16,
    pub counts_up: bool,
    pub outer_udp_at: Option<u32>,
    pub outer_udp_checksum: bool,
}

/// The IP headers, outermost first, and the transport header behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Path {
    levels: [Level; LEVELS_MAX],
    depth: usize,
    pub transport_at: u32,
    pub payload_at: u32,
    pub payload_end: u32,
}

impl Path {
    pub(super) fn levels(&self) -> &[Level] {
        &self.levels[..self.depth]
    }

    pub(super) fn outer(&self) -> &Level {
        &self.levels[0]
    }

    pub(super) fn inner(&self) -> &Level {
        &self.levels[self.depth.saturating_sub(1)]
    }
}

impl Level {
    /// The sum of the pseudo-header. `frame` holds this header at `ip_at`.
    #[inline]
    pub(super) fn pseudo(&self, frame: &[u8], protocol: u8, len: u32) -> Sum {
        let sum = if self.v6 {
            v6_addresses(frame, self.ip_at).map(|(s, d)| Sum::pseudo_v6(s, d, protocol, len))
        } else {
            v4_addresses(frame, self.ip_at).map(|(s, d)| Sum::pseudo_v4(s, d, protocol, len))
        };
        sum.unwrap_or_default()
    }
}

/// Finds the transport header at `target`, or the first one if there is no target.
pub(super) fn find(
    link: LinkType,
    frame: &[u8],
    target: Option<usize>,
    udp: bool,
) -> Result<Path, Error> {
    let mut path = Path::default();
    let search = Search { target, udp };
    search.descend(link, frame, 0, &mut path)?;
    Ok(path)
}

struct Search {
    target: Option<usize>,
    udp: bool,
}

impl Search {
    // Walks `frame[base..]`. On success the path is complete; on failure its depth is as before.
    fn descend(
        &self,
        link: LinkType,
        frame: &[u8],
        base: usize,
        path: &mut Path,
    ) -> Result<(), Error> {
        let what = "no transport header of that kind at the checksum start";
        let nothing = Err(Error::Malformed { layer: Layer::Offload, what });
        let walk = Walk::new(link, frame.get(base..).unwrap_or_default());
        let Some(network) = walk.network else {
            return whole(&walk).and(nothing);
        };
        if path.depth == LEVELS_MAX || walk.is_fragment() {
            return nothing;
        }
        let ip_at = base + network.at as usize;
        let end = match network.declared_len {
            Some(len) => ip_at + len as usize,
            None => frame.len(),
        };
        let v6 = network.version == IpVersion::V6;
        if end > frame.len() {
            let layer = if v6 { Layer::Ipv6 } else { Layer::Ipv4 };
            let (needed, got) = (end - ip_at, frame.len() - ip_at);
            return Err(Error::Truncated { layer, needed, got });
        }
        let frame = &frame[..end];
        let undeclared = network.declared_len.is_none();
        let mut level = Level { ip_at: ip_at as u32, v6, undeclared, ..Level::default() };
        if let Some(h) = chunk::<20>(frame, ip_at).filter(|_| !v6) {
            level.v4_header_len = u16::from(h[0] & 0x0f) * 4;
            level.id = u16::from_be_bytes([h[4], h[5]]);
            level.counts_up = level.id != 0 || h[6] & 0x40 == 0;
        } else {
            level.rerouted = network.rerouted;
            level.jumbo = jumbo(frame, ip_at, network.declared_len.is_some());
        }

        let kind = if self.udp { TransportKind::Udp } else { TransportKind::Tcp };
        if let Some(transport) = walk.transport.filter(|t| t.kind == kind) {
            let at = base + transport.at as usize;
            if self.target.is_none_or(|target| target == at) {
                whole(&walk)?;
                path.levels[path.depth] = level;
                path.depth += 1;
                path.transport_at = at as u32;
                path.payload_at = (base + walk.payload_at as usize) as u32;
                path.payload_end = (base + walk.end as usize) as u32;
                return Ok(());
            }
        }
        if let Some(udp) = walk.transport.filter(|t| t.kind == TransportKind::Udp) {
            let at = base + udp.at as usize;
            level.outer_udp_at = Some(at as u32);
            level.outer_udp_checksum = chunk::<8>(frame, at).is_some_and(|h| h[6..] != [0, 0]);
        }
        let depth = path.depth;
        path.levels[depth] = level;
        let mut error = nothing;
        for (link, at) in inside(&walk, frame, base).into_iter().flatten() {
            path.depth = depth + 1;
            match self.descend(link, frame, at, path) {
                Ok(()) => return Ok(()),
                // Of two guesses, the one that went far enough to miss bytes says more.
                Err(e @ Error::Truncated { .. }) => error = Err(e),
                Err(_) => {}
            }
        }
        path.depth = depth;
        error
    }
}

// Turns a walk that was stopped by bad or missing bytes into an error.
fn whole(walk: &Walk) -> Result<(), Error> {
    let layer = walk.stop.layer;
    match walk.stop.why {
        Why::Truncated { needed, got } => {
            Err(Error::Truncated { layer, needed: needed as usize, got: got as usize })
        }
        Why::Malformed(what) => Err(Error::Malformed { layer, what }),
        _ => Ok(()),
    }
}

// Where a frame or packet may stand inside the packet walked.
fn inside(walk: &Walk, frame: &[u8], base: usize) -> [Option<(LinkType, usize)>; 2] {
    if let Some(transport) = walk.transport {
        let at = base + transport.at as usize + 8;
        let Some(h) = chunk::<8>(frame, at).filter(|_| transport.kind == TransportKind::Udp) else {
            return [None, None];
        };
        let geneve = link_of(u16::from_be_bytes([h[2], h[3]]))
            .map(|link| (link, at + 8 + usize::from(h[0] & 0x3f) * 4));
        return [Some((LinkType::ETHERNET, at + vxlan::HEADER_LEN)), geneve];
    }
    let at = base + walk.payload_at as usize;
    let next = match walk.stop.why {
        Why::UnknownProtocol(IPV4_IN_IP | IPV6_IN_IP) => Some((LinkType::RAW, at)),
        Why::UnknownProtocol(GRE) => gre(frame, at),
        _ => None,
    };
    [next, None]
}

// A GRE checksum covers the payload and would have to be computed anew: not followed.
fn gre(frame: &[u8], at: usize) -> Option<(LinkType, usize)> {
    let h = chunk::<4>(frame, at)?;
    if h[0] & 0x80 != 0 {
        return None;
    }
    let options = usize::from(h[0] >> 5 & 1) + usize::from(h[0] >> 4 & 1);
    Some((link_of(u16::from_be_bytes([h[2], h[3]]))?, at + 4 + 4 * options))
}

fn link_of(value: u16) -> Option<LinkType> {
    match value {
        ETHERNET_IN_TUNNEL => Some(LinkType::ETHERNET),
        ethertype::IPV4 | ethertype::IPV6 => Some(LinkType::RAW),
        _ => None,
    }
}

fn jumbo(frame: &[u8], ip_at: usize, declared: bool) -> Jumbo {
    let Some(h) = chunk::<44>(frame, ip_at) else {
        return Jumbo::None;
    };
    if h[4..6] != [0, 0] || h[6] != protocol::HOP_BY_HOP || !declared {
        return Jumbo::None;
    }
    if h[41..44] == [0, 0xc2, 4] { Jumbo::Alone } else { Jumbo::AmongOthers }
}
