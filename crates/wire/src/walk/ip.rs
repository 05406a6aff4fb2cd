//! The walk from IP up: IPv4, IPv6 and its extension headers, TCP, UDP, ICMP, ICMPv6.
//!
//! ```text
//! IPv4      version 4 bits · IHL 4 bits · TOS 1 · total length 2 · id 2 · flags 3 bits and
//!           fragment offset 13 bits · TTL 1 · protocol 1 · checksum 2 · source 4 · destination 4
//! IPv6      version 4 bits · class and flow label · payload length 2 · next header 1 ·
//!           hop limit 1 · source 16 · destination 16
//! extension next header 1 · length 1, in units of 8 bytes less the first 8 (AH: 4 less 8)
//! fragment  next header 1 · zero 1 · offset 13 bits, zero 2 bits, more 1 bit · id 4
//! ```
//!
//! Liberal: extension headers in any order and number; a jumbo length in the hop-by-hop header
//! counts only where the payload length is 0, as RFC 2675 has it.

use super::{
    Fragment, IpVersion, Network, Stop, Transport, TransportKind, Walk, Why, be16, chunk, protocol,
    stop, truncated,
};
use crate::Layer;

const JUMBO_OPTION: u8 = 0xc2;

impl Walk {
    #[inline]
    pub(super) fn ipv4(&mut self, frame: &[u8], at: usize) -> Stop {
        self.payload_at = at as u32;
        let Some(h) = chunk::<20>(frame, at) else {
            return truncated(Layer::Ipv4, frame, at, 20);
        };
        if h[0] >> 4 != 4 {
            return stop(Layer::Ipv4, at, Why::Malformed("version is not 4"));
        }
        let header_len = usize::from(h[0] & 0x0f) * 4;
        if header_len < 20 {
            return stop(Layer::Ipv4, at, Why::Malformed("header length below 20"));
        }
        let total = usize::from(be16(h, 2));
        let flags = be16(h, 6);
        let offset = (flags & 0x1fff) << 3;
        let more = flags & 0x2000 != 0;
        self.network = Some(Network {
            version: IpVersion::V4,
            at: at as u32,
            header_len: header_len as u32,
            declared_len: (total != 0).then_some(total as u32),
            protocol: h[9],
            fragment: (offset != 0 || more).then(|| Fragment {
                offset,
                more,
                id: be16(h, 4).into(),
            }),
            rerouted: false,
        });
        if total != 0 && total < header_len {
            return stop(Layer::Ipv4, at, Why::Malformed("total length below the header's"));
        }
        let frame = self.shorten(frame, at, total);
        if frame.len() - at < header_len {
            return truncated(Layer::Ipv4, frame, at, header_len);
        }
        let at = at + header_len;
        self.payload_at = at as u32;
        if offset != 0 {
            return stop(Layer::Ipv4, at, Why::Fragment);
        }
        self.upper(frame, at, h[9], IpVersion::V4)
    }

    #[inline]
    pub(super) fn ipv6(&mut self, frame: &[u8], at: usize) -> Stop {
        self.payload_at = at as u32;
        let Some(h) = chunk::<40>(frame, at) else {
            return truncated(Layer::Ipv6, frame, at, 40);
        };
        if h[0] >> 4 != 6 {
            return stop(Layer::Ipv6, at, Why::Malformed("version is not 6"));
        }
        let total = match be16(h, 4) {
            0 if h[6] != protocol::NO_NEXT => 0,
            n => 40 + usize::from(n),
        };
        self.network = Some(Network {
            version: IpVersion::V6,
            at: at as u32,
            header_len: 40,
            declared_len: (total != 0).then_some(total as u32),
            protocol: h[6],
            fragment: None,
            rerouted: false,
        });
        let mut frame = self.shorten(frame, at, total);
        if total == 0
            && h[6] == protocol::HOP_BY_HOP
            && let Some(jumbo) = jumbo_len(frame, at + 40)
        {
            let total = jumbo.saturating_add(40);
            if let Some(network) = &mut self.network {
                network.declared_len = Some(total);
            }
            frame = self.shorten(frame, at, total as usize);
        }
        self.payload_at = (at + 40) as u32;
        self.upper(frame, at + 40, h[6], IpVersion::V6)
    }

    // Leaves padding out of the frame; a length of 0 says nothing.
    #[inline]
    fn shorten<'a>(&mut self, frame: &'a [u8], at: usize, total: usize) -> &'a [u8] {
        let end = if total == 0 { frame.len() } else { frame.len().min(at.saturating_add(total)) };
        self.end = end as u32;
        &frame[..end]
    }

    // Follows a chain of headers from the one numbered `next` at `at`, which may be the end.
    #[inline]
    fn upper(&mut self, frame: &[u8], mut at: usize, mut next: u8, version: IpVersion) -> Stop {
        let v6 = version == IpVersion::V6;
        loop {
            let (layer, unit, extra) = match next {
                protocol::TCP => return self.tcp(frame, at),
                protocol::UDP => return self.udp(frame, at),
                protocol::ICMP if !v6 => {
                    return self.icmp(frame, at, TransportKind::Icmp, Layer::Icmp);
                }
                protocol::ICMPV6 if v6 => {
                    return self.icmp(frame, at, TransportKind::Icmpv6, Layer::Icmpv6);
                }
                protocol::ESP => return stop(Layer::Esp, at, Why::Encrypted),
                protocol::NO_NEXT if v6 => {
                    return stop(Layer::Ipv6Extension, at, Why::NoNextHeader);
                }
                protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION if v6 => {
                    (Layer::Ipv6Extension, 8, 1)
                }
                protocol::FRAGMENT if v6 => (Layer::Ipv6Extension, 0, 0),
                protocol::AH => (Layer::Ah, 4, 2),
                _ => {
                    let layer = if v6 { Layer::Ipv6 } else { Layer::Ipv4 };
                    return stop(layer, at, Why::UnknownProtocol(next));
                }
            };
            let Some(h) = chunk::<8>(frame, at) else {
                return truncated(layer, frame, at, 8);
            };
            let len = if unit == 0 { 8 } else { (usize::from(h[1]) + extra) * unit };
            if frame.len() - at < len {
                return truncated(layer, frame, at, len);
            }
            let Some(network) = &mut self.network else {
                return stop(layer, at, Why::Malformed("no IP header in front"));
            };
            network.header_len += len as u32;
            if network.fragment.is_none() {
                network.protocol = h[0];
            }
            network.rerouted |= next == protocol::ROUTING && h[3] != 0;
            let mut offset = 0;
            if next == protocol::FRAGMENT {
                offset = be16(h, 2) & 0xfff8;
                let more = h[3] & 1 != 0;
                if offset != 0 || more {
                    let id = u32::from(be16(h, 4)) << 16 | u32::from(be16(h, 6));
                    network.fragment = Some(Fragment { offset, more, id });
                    network.protocol = h[0];
                }
            }
            (next, at) = (h[0], at + len);
            self.payload_at = at as u32;
            if offset != 0 {
                return stop(layer, at, Why::Fragment);
            }
        }
    }

    #[inline]
    fn tcp(&mut self, frame: &[u8], at: usize) -> Stop {
        self.transport(TransportKind::Tcp, at, 0);
        let Some(h) = chunk::<20>(frame, at) else {
            return truncated(Layer::Tcp, frame, at, 20);
        };
        let len = usize::from(h[12] >> 4) * 4;
        if len < 20 {
            return stop(Layer::Tcp, at, Why::Malformed("data offset below 5"));
        }
        if frame.len() - at < len {
            return truncated(Layer::Tcp, frame, at, len);
        }
        self.transport(TransportKind::Tcp, at, len);
        stop(Layer::Tcp, at, Why::Complete)
    }

    #[inline]
    fn udp(&mut self, frame: &[u8], at: usize) -> Stop {
        self.transport(TransportKind::Udp, at, 0);
        let Some(h) = chunk::<8>(frame, at) else {
            return truncated(Layer::Udp, frame, at, 8);
        };
        let len = usize::from(be16(h, 4));
        if (1..8).contains(&len) {
            return stop(Layer::Udp, at, Why::Malformed("length below 8"));
        }
        self.transport(TransportKind::Udp, at, 8);
        if len != 0 {
            self.end = self.end.min((at + len) as u32);
        }
        stop(Layer::Udp, at, Why::Complete)
    }

    #[inline]
    fn icmp(&mut self, frame: &[u8], at: usize, kind: TransportKind, layer: Layer) -> Stop {
        self.transport(kind, at, 0);
        if chunk::<8>(frame, at).is_none() {
            return truncated(layer, frame, at, 8);
        }
        self.transport(kind, at, 8);
        stop(layer, at, Why::Complete)
    }

    #[inline]
    fn transport(&mut self, kind: TransportKind, at: usize, len: usize) {
        self.transport = Some(Transport { kind, at: at as u32, header_len: len as u16 });
        self.payload_at = (at + len) as u32;
    }
}

// The length in a hop-by-hop header's jumbo option, if the header is whole and has one.
fn jumbo_len(frame: &[u8], at: usize) -> Option<u32> {
    let len = (usize::from(*frame.get(at + 1)?) + 1) * 8;
    let mut options = frame.get(at + 2..at + len)?;
    while let [kind, rest @ ..] = options {
        options = match kind {
            0 => rest, // Pad1 has no length
            _ => {
                let (&len, rest) = rest.split_first()?;
                let value = rest.get(..usize::from(len))?;
                if *kind == JUMBO_OPTION {
                    return value.try_into().ok().map(u32::from_be_bytes);
                }
                &rest[usize::from(len)..]
            }
        };
    }
    None
}
