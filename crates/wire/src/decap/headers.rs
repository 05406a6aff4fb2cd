//! The tunnel headers one by one: which tunnel it is, and where its packet begins.

use super::{Content, Found, Inner, Opaque, Rules, Told};
use crate::l2tp::Message;
use crate::tunnel::{Kind, Tunnel};
use crate::vxlan::Next;
use crate::{Error, Layer, LinkType, erspan, geneve, gre, l2tp, metadata, mpls, vxlan};

/// Protocol of Cisco MetaData: EtherType of what follows 2, version 1, length 1, options 2, security
/// group 2. A tag in front of a payload, so it is walked past.
const CISCO_METADATA: u16 = 0x8909;
const CISCO_METADATA_LEN: usize = 8;
const ETHERNET_HEADER_LEN: usize = 14;

impl Rules {
    /// Reads what stands behind the UDP header, up to the end of the datagram. Offsets in the answer
    /// are offsets in `payload`; it names no source.
    ///
    /// # Errors
    /// As [`Rules::in_frame`].
    #[inline]
    pub fn in_udp(&self, kind: Kind, payload: &[u8]) -> Result<Found, Error> {
        match kind {
            Kind::Vxlan => vxlan(payload),
            Kind::Geneve => geneve(payload),
            Kind::Gre | Kind::Gretap | Kind::Erspan => gre(payload),
            Kind::L2tp => self.l2tp(Message::in_udp(payload)?, payload),
        }
    }

    /// Reads what stands behind the IP header, up to the end of the packet, as [`Rules::in_udp`]
    /// does. VXLAN and GENEVE, which no IP protocol carries, are read all the same.
    ///
    /// # Errors
    /// As [`Rules::in_frame`].
    #[inline]
    pub fn in_ip(&self, kind: Kind, payload: &[u8]) -> Result<Found, Error> {
        match kind {
            Kind::L2tp => self.l2tp(Message::in_ip(payload)?, payload),
            _ => self.in_udp(kind, payload),
        }
    }

    fn l2tp(&self, message: Message<'_>, payload: &[u8]) -> Result<Found, Error> {
        let Message::Data(data) = message else {
            return Ok(found(Kind::L2tp, None, Content::Control));
        };
        let format = self.l2tp.unwrap_or_else(|| l2tp::guess(data));
        let packet = l2tp::Packet::new_checked(data, &format)?;
        if self.l2tp.is_some() && packet.cookie() != format.cookie.as_bytes() {
            let what = "the cookie is not the one agreed on";
            return Err(Error::Malformed { layer: Layer::L2tp, what });
        }
        let told = Told { sequence: packet.sequence(), ..Told::default() };
        let at = payload.len() - packet.payload().len();
        Ok(found(Kind::L2tp, Some(packet.session()), ethernet(payload, at, told)?))
    }
}

#[inline]
fn vxlan(payload: &[u8]) -> Result<Found, Error> {
    let packet = vxlan::Packet::new_checked(payload)?;
    let repr = vxlan::Repr::parse(&packet)?;
    let (at, told) = (vxlan::HEADER_LEN, Told::default());
    let content = match packet.next() {
        Next::Nsh => Content::Opaque(Opaque::Nsh),
        // Else these are dirty bits in front of a frame.
        Next::Ipv4 | Next::Ipv6 if is_ip(packet.payload()) => {
            inner(LinkType::RAW, payload, at, told)
        }
        _ => ethernet(payload, at, told)?,
    };
    Ok(found(Kind::Vxlan, Some(repr.vni.get()), content))
}

fn geneve(payload: &[u8]) -> Result<Found, Error> {
    let packet = geneve::Packet::new_checked(payload)?;
    let repr = geneve::Repr::parse(&packet)?;
    let block = block(&packet);
    let content = match block {
        Some(metadata::Repr { lane, told: metadata::Told::Progress { next, .. } })
            if repr.control =>
        {
            Content::Progress { lane, next }
        }
        _ if repr.control => Content::Control,
        _ => carried(repr.protocol, payload, packet.header_len(), told(block))?,
    };
    Ok(found(Kind::Geneve, Some(repr.vni.get()), content))
}

// tapline's option block, if there is one that can be read.
fn block<T: AsRef<[u8]>>(packet: &geneve::Packet<T>) -> Option<metadata::Repr> {
    let option = packet.options().map_while(Result::ok).find(|o| o.class() == metadata::CLASS)?;
    metadata::Repr::parse(&metadata::Packet::new_checked(option.as_bytes()).ok()?).ok()
}

fn told(block: Option<metadata::Repr>) -> Told {
    match block {
        Some(metadata::Repr {
            lane,
            told: metadata::Told::Packet { sequence, origlen, ts_ns, direction },
        }) => Told {
            origlen: Some(origlen).filter(|&origlen| origlen != 0),
            ts_ns: Some(ts_ns),
            direction,
            sequence: Some(sequence),
            lane: Some(lane),
        },
        _ => Told::default(),
    }
}

fn gre(payload: &[u8]) -> Result<Found, Error> {
    let packet = gre::Packet::new_checked(payload)?;
    let repr = gre::Repr::parse(&packet)?;
    let (at, told) = (packet.header_len(), Told { sequence: repr.sequence, ..Told::default() });
    let (kind, content) = match (repr.protocol, packet.payload().first_chunk()) {
        (gre::protocol::ERSPAN | gre::protocol::ERSPAN_III, _) => {
            let repr = erspan::Repr::parse_behind(&repr, packet.payload())?;
            let id = repr.session().map(u32::from);
            let content = mirrored(&repr, payload, at + repr.header_len(), told)?;
            return Ok(found(Kind::Erspan, id, content));
        }
        (protocol @ gre::protocol::ETHERNET, _) => {
            (Kind::Gretap, carried(protocol, payload, at, told)?)
        }
        (CISCO_METADATA, Some(&[high, low, _, _, _, _, _, _])) => {
            let protocol = u16::from_be_bytes([high, low]);
            (Kind::Gre, carried(protocol, payload, at + CISCO_METADATA_LEN, told)?)
        }
        (protocol, _) => (Kind::Gre, carried(protocol, payload, at, told)?),
    };
    Ok(found(kind, repr.key, content))
}

fn mirrored(
    repr: &erspan::Repr,
    payload: &[u8],
    at: usize,
    mut told: Told,
) -> Result<Content, Error> {
    if let erspan::Repr::III { extra, .. } = repr {
        (told.ts_ns, told.direction) = (extra.ts_ns(), extra.direction());
        match extra.frame_type {
            erspan::FRAME_TYPE_ETHERNET => {}
            erspan::FRAME_TYPE_IP => return ip(Layer::Ipv4, payload, at, told),
            other => return Ok(Content::Opaque(Opaque::FrameType(other))),
        }
    }
    ethernet(payload, at, told)
}

// What an EtherType announces at `at`.
fn carried(protocol: u16, payload: &[u8], at: usize, told: Told) -> Result<Content, Error> {
    match protocol {
        gre::protocol::ETHERNET => ethernet(payload, at, told),
        gre::protocol::IPV4 => ip(Layer::Ipv4, payload, at, told),
        gre::protocol::IPV6 => ip(Layer::Ipv6, payload, at, told),
        gre::protocol::MPLS | gre::protocol::MPLS_MULTICAST => {
            let labels = mpls::stack_len(&payload[at..]).filter(|n| is_ip(&payload[at + n..]));
            Ok(match labels {
                Some(n) => inner(LinkType::RAW, payload, at + n, told),
                None => Content::Opaque(Opaque::Protocol(protocol)),
            })
        }
        _ => Ok(Content::Opaque(Opaque::Protocol(protocol))),
    }
}

#[inline]
fn ethernet(payload: &[u8], at: usize, told: Told) -> Result<Content, Error> {
    let got = payload.len() - at;
    if got < ETHERNET_HEADER_LEN {
        let (layer, needed) = (Layer::Ethernet, ETHERNET_HEADER_LEN);
        return Err(Error::Truncated { layer, needed, got });
    }
    Ok(inner(LinkType::ETHERNET, payload, at, told))
}

// Which of the two versions it is, its first byte says better than what announced it.
fn ip(layer: Layer, payload: &[u8], at: usize, told: Told) -> Result<Content, Error> {
    match payload.get(at) {
        None => Err(Error::Truncated { layer, needed: 1, got: 0 }),
        Some(_) if is_ip(&payload[at..]) => Ok(inner(LinkType::RAW, payload, at, told)),
        Some(_) => Err(Error::Malformed { layer, what: "version is neither 4 nor 6" }),
    }
}

pub(super) fn is_ip(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| matches!(first >> 4, 4 | 6))
}

#[inline]
fn inner(link_type: LinkType, payload: &[u8], at: usize, told: Told) -> Content {
    let (at, end) = (at as u32, payload.len() as u32);
    Content::Packet(Inner { at, end, link_type, outer_len: end - at, told })
}

#[inline]
fn found(kind: Kind, id: Option<u32>, content: Content) -> Found {
    Found { tunnel: Tunnel { kind, id }, source: None, destination: None, content }
}
