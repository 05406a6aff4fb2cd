//! What fits into a tunnel: the way to its far end, and the room that its headers leave.

use api::{Oversize, TunnelEndpoint};
use io::Now;
use io::underlay::{Path, Underlay};
use std::net::SocketAddr;
use wire::tunnel::{Carrier, Encap};
use wire::udp;

/// The Ethernet header of a frame, without tags.
pub const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
/// What the length field of an outer packet can say.
const OUTER_BYTES_MAX: usize = 65_535;

/// A tunnel and the way that its packets take.
pub struct Way {
    /// The far end.
    pub remote: SocketAddr,
    /// How they go, if there is a route.
    pub path: Option<Path>,
    /// Bytes of the outer IP header, of UDP, and of the tunnel's.
    pub header_lens: [usize; 3],
    /// The tunnel carries the original length, so that a cut packet still tells it.
    pub carries_length: bool,
    /// IP packets go in without their Ethernet header.
    pub is_bare: bool,
}

impl Way {
    /// Looks up the way of a tunnel's packets of a DSCP; `encap` is the endpoint's. Why there is none is
    /// told by log.
    pub fn of(tunnel: &TunnelEndpoint, encap: &Encap, dscp: u8) -> Result<Way, api::Error> {
        let (way, trouble) = Way::look_up(tunnel, encap, dscp)?;
        if let Some(error) = trouble {
            tracing::warn!("{error}");
        }
        Ok(way)
    }

    /// The same, with the reason why there is none.
    pub fn look_up(
        tunnel: &TunnelEndpoint,
        encap: &Encap,
        dscp: u8,
    ) -> Result<(Way, Option<io::Error>), api::Error> {
        let remote = tunnel.resolve()?;
        let (path, trouble) = match Underlay::open(remote, tunnel.source, dscp, Now::read()) {
            Ok(underlay) => (underlay.path().copied(), None),
            Err(error) => (None, Some(error)),
        };
        let ip_len = if remote.is_ipv4() { IPV4_LEN } else { IPV6_LEN };
        let udp_len = match tunnel.carrier {
            Carrier::Udp { .. } => udp::HEADER_LEN,
            Carrier::Ip { .. } => 0,
        };
        let way = Way {
            remote,
            path,
            header_lens: [ip_len, udp_len, encap.header_len(tunnel.carrier)],
            carries_length: encap.carries_length(),
            is_bare: matches!(encap, Encap::Gre(_)),
        };
        Ok((way, trouble))
    }

    /// Bytes of the outer packet for a frame of some length.
    pub fn outer_bytes(&self, frame_bytes: usize) -> usize {
        let carried =
            if self.is_bare { frame_bytes.saturating_sub(ETHERNET_LEN) } else { frame_bytes };
        self.overhead() + carried
    }

    /// Bytes of the longest frame, its Ethernet header included, that arrives in one outer packet.
    pub fn frame_bytes_max(&self) -> Option<usize> {
        let room = self.path?.mtu.min(OUTER_BYTES_MAX).checked_sub(self.overhead())?;
        Some(if self.is_bare { room + ETHERNET_LEN } else { room })
    }

    /// Bytes of all headers in front of what is carried.
    pub fn overhead(&self) -> usize {
        self.header_lens.iter().sum()
    }

    /// What a choice of `--oversize` does with what does not fit: `cut`, `fragment` or `drop`.
    pub fn becomes(&self, oversize: Oversize) -> &'static str {
        let settled = oversize.settled(self.carries_length);
        let name = Oversize::NAMES.iter().find(|(_, policy)| *policy == settled);
        name.map_or("", |(name, _)| name)
    }

    /// Why frames of some length do not fit and what to do, if they do not.
    pub fn misfit(&self, frame_bytes: usize) -> Option<String> {
        let (path, room) = (self.path?, self.frame_bytes_max()?);
        if frame_bytes <= room {
            return None;
        }
        let needed = self.outer_bytes(frame_bytes);
        Some(format!(
            "frames of up to {frame_bytes} bytes need {needed} in the tunnel, the path takes {}; a path \
             MTU of {needed} or -s {room} makes them fit",
            path.mtu
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Endpoint;

    fn way(text: &str, mtu: usize) -> Way {
        let Endpoint::Tunnel(tunnel) = Endpoint::target(text).unwrap() else { panic!("{text}") };
        let mut way = Way::of(&tunnel, &tunnel.encap().unwrap(), 0).unwrap();
        let path = way.path.as_mut().unwrap();
        path.mtu = mtu;
        way
    }

    #[test]
    fn headers_take_their_room() {
        for (text, overhead, room) in [
            ("vxlan://127.0.0.1?vni=7", 36, 1464),
            ("vxlan://[::1]?vni=7", 56, 1444),
            ("gretap://127.0.0.1?key=7", 28, 1472),
            ("gre://127.0.0.1?key=7", 28, 1486),
            ("l2tp://127.0.0.1?id=7", 28, 1472),
        ] {
            let way = way(text, 1500);
            assert_eq!((way.overhead(), way.frame_bytes_max()), (overhead, Some(room)), "{text}");
            assert_eq!(way.outer_bytes(room), 1500, "{text}");
            assert_eq!(way.misfit(room), None);
            let said = way.misfit(room + 1).unwrap();
            assert!(said.contains("need 1501") && said.contains(&format!("-s {room} ")), "{said}");
        }
        assert_eq!(way("vxlan://127.0.0.1?vni=7", 100_000).frame_bytes_max(), Some(65_535 - 36));
        assert_eq!(way("vxlan://127.0.0.1?vni=7", 20).frame_bytes_max(), None);
    }

    #[test]
    fn what_carries_lengths_is_cut() {
        assert_eq!(way("geneve://127.0.0.1?vni=7", 1500).becomes(Oversize::Auto), "cut");
        assert_eq!(way("vxlan://127.0.0.1?vni=7", 1500).becomes(Oversize::Auto), "fragment");
    }
}
