//! The innermost packet of a frame: through tunnels, IP in IP and MPLS labels, however many.

use super::{Content, Rules, Step, headers};
use crate::LinkType;
use crate::walk::Walk;

impl Rules {
    /// Finds the innermost packet of a frame: what its first byte is, and its bytes. A frame without a
    /// tunnel is its own. Where a tunnel cannot be read, is a fragment, or holds no packet with a link
    /// type, the packet that it is in is the innermost.
    ///
    /// Ends, as each layer is shorter than the one around it.
    pub fn innermost<'a>(&self, link: LinkType, frame: &'a [u8]) -> (LinkType, &'a [u8]) {
        let mut packet = (link, frame);
        while let Some(inner) = self.next(packet.0, packet.1) {
            packet = inner;
        }
        packet
    }

    fn next<'a>(&self, link: LinkType, frame: &'a [u8]) -> Option<(LinkType, &'a [u8])> {
        let walk = Walk::new(link, frame);
        let payload = walk.payload(frame);
        let found = match self.step(&walk, frame) {
            Step::Udp(kind) => self.in_udp(kind, payload),
            Step::Ip(kind) => self.in_ip(kind, payload),
            Step::IpInIp => return ip(payload),
            Step::Labels => return ip(payload.get(headers::labels_len(payload)?..)?),
            Step::End => return None,
        };
        match found.ok()?.content {
            Content::Packet(inner) => {
                let bytes = payload.get(inner.at as usize..inner.end as usize)?;
                Some((inner.link_type, bytes))
            }
            Content::Opaque(_) | Content::Control | Content::Progress { .. } => None,
        }
    }
}

// What is to be an IP packet, if it begins like one.
fn ip(bytes: &[u8]) -> Option<(LinkType, &[u8])> {
    matches!(bytes.first()? >> 4, 4 | 6).then_some((LinkType::RAW, bytes))
}
