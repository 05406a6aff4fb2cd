//! Where the header stands from which a stage counts.

use api::Anchor;
use std::ops::Range;
use wire::LinkType;
use wire::decap::Rules;
use wire::walk::{Walk, Why};

const SCTP: u8 = 132;
const SCTP_HEADER_LEN: usize = 12;

/// Finds a packet's header of one kind.
#[derive(Debug)]
pub(super) struct Anchored {
    anchor: Anchor,
    rules: Rules,
}

impl Anchored {
    /// Tunnels are known by their assigned ports.
    pub(super) fn new(anchor: Anchor) -> Anchored {
        Anchored { anchor, rules: Rules::default() }
    }

    /// Where the header begins and ends in the frame; `None` if it is not there whole.
    #[inline]
    pub(super) fn find(&self, link: LinkType, frame: &[u8]) -> Option<Range<usize>> {
        let (link, part) = match self.anchor {
            Anchor::InnerIp | Anchor::InnerTransport => self.rules.innermost(link, frame),
            Anchor::Ethernet | Anchor::Ip | Anchor::Transport => (link, 0..frame.len()),
        };
        let (base, part) = (part.start, &frame[part]);
        let walk = Walk::new(link, part);
        let header = match self.anchor {
            Anchor::Ethernet => ethernet(&walk),
            Anchor::Ip | Anchor::InnerIp => ip(&walk),
            Anchor::Transport | Anchor::InnerTransport => transport(&walk),
        }?;
        (header.end <= part.len()).then(|| base + header.start..base + header.end)
    }
}

fn ethernet(walk: &Walk) -> Option<Range<usize>> {
    let ethertype_at = walk.ethertype_at.filter(|_| walk.link == LinkType::ETHERNET)?;
    Some(0..ethertype_at as usize + 2)
}

fn ip(walk: &Walk) -> Option<Range<usize>> {
    let network = walk.network?;
    Some(network.at as usize..(network.at + network.header_len) as usize)
}

fn transport(walk: &Walk) -> Option<Range<usize>> {
    if let (Why::UnknownProtocol(SCTP), at) = (walk.stop.why, walk.stop.at as usize) {
        return Some(at..at + SCTP_HEADER_LEN);
    }
    let transport = walk.transport.filter(|transport| transport.header_len > 0)?;
    let at = transport.at as usize;
    Some(at..at + usize::from(transport.header_len))
}
