//! Encapsulation: writes everything that stands between IP or UDP and the packet in a tunnel.
//!
//! ```text
//! IP │ UDP │ L2TP prefix │ VXLAN · GENEVE, options · GRE, ERSPAN · L2TP, cookie, sublayer │ payload
//!          └──────────────────────────── Encap::emit ─────────────────────────────────────┘
//! ```
//!
//! The formats are those of the modules [`vxlan`], [`geneve`], [`gre`], [`erspan`] and [`l2tp`].
//! Length and place of the header are the same for all packets of a tunnel, so that a sender can
//! lay out its buffers once.

use crate::metadata::{self, Lane};
use crate::tunnel::{Carrier, Encap, Erspan, Gre, L2tp};
use crate::walk::{IpVersion, VlanTag, Walk, ethertype};
use crate::{Direction, LinkType, erspan, geneve, gre, l2tp, vxlan};

/// The longest header that [`Encap::emit`] writes, bytes.
pub const HEADER_LEN_MAX: usize = geneve::HEADER_LEN + metadata::OPTION_LEN;

/// What of a frame goes into a tunnel, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Offset in the frame of the first byte that goes in.
    pub at: usize,
    /// Offset of the end of what goes in.
    pub end: usize,
    /// Its EtherType, 0x6558 for Ethernet; GRE and GENEVE tell it.
    pub protocol: u16,
}

/// What a tap knows of a packet beside its bytes. A tunnel carries what it has a place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Length on the wire of what goes in, bytes.
    pub origlen: u32,
    /// When it was captured, ns since 1970 in UTC.
    pub ts_ns: u64,
    /// Which way it went.
    pub direction: Direction,
    /// Who numbers it.
    pub lane: Lane,
}

impl Encap {
    /// What of a frame goes in; `None` if the tunnel cannot carry it. Tunnels of Ethernet take
    /// whole Ethernet frames. GRE takes IP packets, also out of Ethernet frames, whose addresses,
    /// tags and padding then stay behind. GENEVE takes both as they are.
    #[inline]
    pub fn fit(&self, link: LinkType, frame: &[u8]) -> Option<Fit> {
        let whole = |protocol| Fit { at: 0, end: frame.len(), protocol };
        match (self, link) {
            (Encap::Gre(_), LinkType::ETHERNET) => {
                let walk = Walk::new(link, frame);
                let network = walk.network?;
                let protocol = match network.version {
                    IpVersion::V4 => ethertype::IPV4,
                    IpVersion::V6 => ethertype::IPV6,
                };
                Some(Fit { at: network.at as usize, end: walk.end as usize, protocol })
            }
            (
                Encap::Gre(_) | Encap::Geneve { .. },
                LinkType::RAW | LinkType::IPV4 | LinkType::IPV6,
            ) => match frame.first()? >> 4 {
                4 => Some(whole(ethertype::IPV4)),
                6 => Some(whole(ethertype::IPV6)),
                _ => None,
            },
            (Encap::Gre(_), _) => None,
            (_, LinkType::ETHERNET) => Some(whole(gre::protocol::ETHERNET)),
            _ => None,
        }
    }

    /// Whether the tunnel can carry packets of a link type, as far as that tells.
    pub fn carries(&self, link: LinkType) -> bool {
        let takes_bare = matches!(self, Encap::Gre(_) | Encap::Geneve { .. });
        let is_bare = matches!(link, LinkType::RAW | LinkType::IPV4 | LinkType::IPV6);
        link == LinkType::ETHERNET || (takes_bare && is_bare)
    }

    /// Bytes that [`Self::emit`] writes; the same for every packet, at most [`HEADER_LEN_MAX`].
    pub const fn header_len(&self, carrier: Carrier) -> usize {
        match self {
            Encap::Vxlan { .. } => vxlan::HEADER_LEN,
            Encap::Geneve { metadata: false, .. } => geneve::HEADER_LEN,
            Encap::Geneve { metadata: true, .. } => geneve::HEADER_LEN + metadata::OPTION_LEN,
            Encap::Gre(gre) | Encap::Gretap(gre) => header(gre, 0, 0).header_len(),
            Encap::Erspan(Erspan::I) => gre::HEADER_LEN_MIN,
            Encap::Erspan(Erspan::II { .. }) => ERSPAN_GRE_LEN + erspan::HEADER_LEN_II,
            Encap::Erspan(Erspan::III { seconds: false, .. }) => {
                ERSPAN_GRE_LEN + erspan::HEADER_LEN_III
            }
            Encap::Erspan(Erspan::III { seconds: true, .. }) => {
                ERSPAN_GRE_LEN + erspan::HEADER_LEN_MAX
            }
            Encap::L2tp(l2tp) => l2tp_prefix(carrier).len() + l2tp.format.header_len(),
        }
    }

    /// Writes the header over whatever `buf` held. `payload` is what goes in, as [`Self::fit`] has
    /// it, or the begin of that; it is read for the GRE checksum and for the tag that ERSPAN
    /// repeats. `sequence` is the packet's number in its lane; tunnels with narrower fields take
    /// its lower bits.
    ///
    /// # Panics
    /// If `buf` is shorter than [`Self::header_len`].
    #[inline]
    pub fn emit(
        &self,
        buf: &mut [u8],
        carrier: Carrier,
        fit: &Fit,
        payload: &[u8],
        told: &Told,
        sequence: u32,
    ) {
        match *self {
            Encap::Vxlan { vni } => vxlan::Repr { vni }.emit(buf),
            Encap::Geneve { vni, metadata } => {
                let mut option = [0; metadata::OPTION_LEN];
                if metadata {
                    let &Told { origlen, ts_ns, direction, lane } = told;
                    let told = metadata::Told::Packet { sequence, origlen, ts_ns, direction };
                    metadata::Repr { lane, told }.emit(&mut option);
                }
                let options = if metadata { &option[..] } else { &[] };
                let protocol = fit.protocol;
                geneve::Repr { vni, protocol, control: false, critical: false, options }.emit(buf);
            }
            Encap::Gre(gre) | Encap::Gretap(gre) => {
                header(&gre, fit.protocol, sequence).emit(buf, payload);
            }
            Encap::Erspan(erspan) => emit_erspan(erspan, buf, payload, told, sequence),
            Encap::L2tp(l2tp) => {
                let (prefix, buf) = buf.split_at_mut(l2tp_prefix(carrier).len());
                prefix.copy_from_slice(l2tp_prefix(carrier));
                let L2tp { session, format, .. } = l2tp;
                let sequence = l2tp.sequence.then_some(sequence);
                l2tp::Repr { session, format, sequence }.emit(buf);
            }
        }
    }

    /// Writes a control packet that tells how far a lane has come: the number that its next packet
    /// will have. Returns its length, which is all there is to the packet, or `None` if the tunnel
    /// has no such thing.
    ///
    /// # Panics
    /// If `buf` is shorter than [`HEADER_LEN_MAX`].
    pub fn emit_progress(
        &self,
        buf: &mut [u8],
        lane: Lane,
        next: u32,
        ts_ns: u64,
    ) -> Option<usize> {
        let &Encap::Geneve { vni, metadata: true } = self else { return None };
        let mut options = [0; metadata::OPTION_LEN];
        let told = metadata::Told::Progress { next, ts_ns };
        metadata::Repr { lane, told }.emit(&mut options);
        // There is no packet behind it, so nothing that it could be.
        let (protocol, options) = (0, &options[..]);
        let repr = geneve::Repr { vni, protocol, control: true, critical: false, options };
        repr.emit(buf);
        Some(repr.header_len())
    }
}

const fn l2tp_prefix(carrier: Carrier) -> &'static [u8] {
    match carrier {
        Carrier::Ip { .. } => &[],
        Carrier::Udp { .. } => &l2tp::UDP_PREFIX,
    }
}

// ERSPAN II and III number their packets, and have neither key nor checksum.
const ERSPAN_GRE_LEN: usize = 8;

const fn header(gre: &Gre, protocol: u16, sequence: u32) -> gre::Repr {
    let sequence = if gre.sequence { Some(sequence) } else { None };
    gre::Repr { protocol, checksum: gre.checksum, key: gre.key, sequence }
}

#[inline]
fn emit_erspan(erspan: Erspan, buf: &mut [u8], payload: &[u8], told: &Told, sequence: u32) {
    let repr = erspan_header(erspan, payload, told);
    let numbered = !matches!(erspan, Erspan::I);
    let sequence = numbered.then_some(sequence);
    let gre = gre::Repr { protocol: repr.protocol(), checksum: false, key: None, sequence };
    gre.emit(buf, &[]);
    repr.emit(&mut buf[gre.header_len()..]);
}

// The fields of a frame's tag are repeated, as Linux does, but its priority is that of the tag.
#[inline]
fn erspan_header(erspan: Erspan, payload: &[u8], told: &Told) -> erspan::Repr {
    let tag = tag_of(payload);
    let common = |session, encap| erspan::Common {
        vlan: tag.map_or(0, VlanTag::vid),
        cos: tag.map_or(0, VlanTag::pcp),
        encap,
        truncated: (payload.len() as u64) < u64::from(told.origlen),
        session,
    };
    match erspan {
        Erspan::I => erspan::Repr::I,
        Erspan::II { session, index } => {
            let encap = if tag.is_some() { TAG_IN_FRAME } else { 0 };
            erspan::Repr::II { common: common(session, encap), index }
        }
        Erspan::III { session, hardware, seconds } => {
            let (timestamp, granularity, platform) = if seconds {
                let (since, ns) = (told.ts_ns / NS_PER_S, (told.ts_ns % NS_PER_S) as u32);
                // From 2106 on there is no place for the seconds, so no time is better than a wrong one.
                let (since, granularity) = match u32::try_from(since) {
                    Ok(since) => (since, erspan::Granularity::Ieee1588),
                    Err(_) => (0, erspan::Granularity::Custom),
                };
                (ns, granularity, Some(erspan::Platform::seconds_only(since)))
            } else {
                ((told.ts_ns / 100_000) as u32, erspan::Granularity::Microseconds100, None)
            };
            let extra = erspan::Extra {
                timestamp,
                granularity,
                sgt: 0,
                pdu: true,
                frame_type: erspan::FRAME_TYPE_ETHERNET,
                hardware,
                egress: told.direction == Direction::Out,
                platform,
            };
            erspan::Repr::III { common: common(session, 0), extra }
        }
    }
}

const TAG_IN_FRAME: u8 = 3;
const NS_PER_S: u64 = 1_000_000_000;

// The outermost tag of an Ethernet frame.
#[inline]
fn tag_of(frame: &[u8]) -> Option<VlanTag> {
    let &[a, b, c, d] = frame.get(12..)?.first_chunk::<4>()?;
    let (tpid, tci) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    matches!(tpid, ethertype::VLAN | ethertype::QINQ | ethertype::QINQ_OLD)
        .then_some(VlanTag { tpid, tci })
}

#[cfg(test)]
mod tests;
