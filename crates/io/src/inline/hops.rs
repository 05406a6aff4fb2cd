//! Ways to next hosts: followed through routes and neighbours, and written where programs find them.

use super::maps::Maps;
use crate::clock::Now;
use crate::error::Error;
use crate::underlay::Underlay;
use kernel::inline::layout::{HOP_BY_KERNEL, HOPS_MAX, Hop, InlineMap, hop, hop_place};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Ways that are followed: each takes three descriptors. For others the kernel finds the way of each
/// packet.
const FOLLOWED_MAX: usize = 64;
/// How long the kernel may look for a neighbour before its packets are told that there is none.
const LOST_NS: u64 = 3_000_000_000;

/// A way is that to an address, from one of ours if one is asked for.
type Way = (IpAddr, Option<IpAddr>);

/// The ways that a table's rules need.
#[derive(Debug, Default)]
pub(super) struct Hops {
    followed: HashMap<Way, Followed>,
}

#[derive(Debug)]
struct Followed {
    /// As rules and sessions have it.
    number: u32,
    underlay: Underlay,
    written: Option<Hop>,
    /// When it was last known, or looked for first.
    known_ns: u64,
}

/// The number of a way, and the address that packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub number: u32,
    pub source: Option<IpAddr>,
}

impl Hops {
    /// Finds the way to a next host, and follows it from now on if there is room.
    pub(super) fn find(
        &mut self,
        next_host: IpAddr,
        source: Option<IpAddr>,
        now: Now,
    ) -> Result<Found, Error> {
        let way = (next_host, source);
        if let Some(followed) = self.followed.get(&way) {
            return Ok(followed.found(source));
        }
        let underlay = Underlay::open(SocketAddr::new(next_host, 0), source, 0, now)?;
        if self.followed.len() >= FOLLOWED_MAX {
            let source = source.or(underlay.path().map(|path| path.source));
            return Ok(Found { number: HOP_BY_KERNEL[1], source });
        }
        let whose = whose(way);
        // The next process finds the same place for it, as a rule, so that sessions keep their way.
        let mut places = (0..HOPS_MAX).map(|n| (u32::from(whose) + n) % HOPS_MAX);
        let used = |place: u32| {
            let taken = hop_place(hop(place, 0));
            self.followed.values().any(|way| hop_place(way.number) == taken)
        };
        let place = places.find(|place| !used(*place));
        let number = hop(place.expect("there are more places than ways that are followed"), whose);
        let known_ns = now.monotonic_ns;
        let followed = Followed { number, underlay, written: None, known_ns };
        let found = followed.found(source);
        self.followed.insert(way, followed);
        Ok(found)
    }

    /// Bytes of the largest IP packet that a way takes, if it is followed and known.
    pub(super) fn mtu(&self, next_host: IpAddr, source: Option<IpAddr>) -> Option<u32> {
        self.followed.get(&(next_host, source))?.written.map(|hop| hop.mtu).filter(|mtu| *mtu != 0)
    }

    /// Whether a way is followed, and lost.
    pub(super) fn is_lost(&self, next_host: IpAddr, source: Option<IpAddr>) -> bool {
        let followed = self.followed.get(&(next_host, source));
        followed.and_then(|way| way.written).is_some_and(|hop| hop.is_lost)
    }

    /// Forgets the ways that no rule needs: sessions that still have one are left to the kernel.
    pub(super) fn keep(
        &mut self,
        maps: &Maps,
        is_needed: impl Fn(IpAddr, Option<IpAddr>) -> bool,
    ) -> Result<(), Error> {
        let map = maps.of(InlineMap::Hops);
        let no_way = Hop { whose: 0, fresh_ns: 0, mtu: 0, is_lost: false, macs: [0; 12] }.bytes();
        let gone =
            self.followed.extract_if(|(next_host, source), _| !is_needed(*next_host, *source));
        let mut places = gone.map(|(_, way)| hop_place(way.number).to_ne_bytes());
        places.try_for_each(|place| map.put(&place, &no_way))
    }

    /// Looks for news, and writes every way that leaves by `interface` as fresh. Returns whether the
    /// source of one may have changed.
    pub(super) fn tick(&mut self, maps: &Maps, interface: i32, now: Now) -> Result<bool, Error> {
        let mut is_changed = false;
        for way in self.followed.values_mut() {
            let before = way.underlay.path().map(|path| path.source);
            way.underlay.look(now);
            is_changed |= way.underlay.path().map(|path| path.source) != before;
            way.write(maps, interface, now)?;
        }
        Ok(is_changed)
    }
}

/// What tells a way from others that may have its place later (FNV-1a, folded).
fn whose((next_host, source): Way) -> u16 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let all = [octets(next_host), source.map_or([0; 16], octets)].concat();
    let hash = all
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (hash >> 16 ^ hash) as u16
}

impl Followed {
    fn found(&self, source: Option<IpAddr>) -> Found {
        let path = self.underlay.path();
        Found { number: self.number, source: source.or(path.map(|path| path.source)) }
    }

    fn write(&mut self, maps: &Maps, interface: i32, now: Now) -> Result<(), Error> {
        let path = self.underlay.path().filter(|path| path.interface == interface && path.is_up);
        let mut hop =
            Hop { whose: self.number, fresh_ns: 0, mtu: 0, is_lost: false, macs: [0; 12] };
        let (mut is_known, mut is_to_be_asked) = (false, false);
        if let Some(path) = path {
            hop.mtu = path.mtu as u32;
            is_known = path.frame.is_some();
            // One that was not confirmed for long is left to the kernel, until it is.
            is_to_be_asked = path.is_stale || path.frame.is_none();
            if let Some(frame) = path.frame.filter(|_| !path.is_stale) {
                hop.fresh_ns = now.monotonic_ns;
                hop.macs[..6].copy_from_slice(&frame.destination);
                hop.macs[6..].copy_from_slice(&frame.source);
            }
        }
        if is_to_be_asked {
            self.underlay.confirm_neighbour();
        }
        if is_known {
            self.known_ns = now.monotonic_ns;
        }
        hop.is_lost = now.monotonic_ns > self.known_ns.saturating_add(LOST_NS);
        if self.written != Some(hop) {
            let place = hop_place(self.number).to_ne_bytes();
            maps.of(InlineMap::Hops).put(&place, &hop.bytes())?;
            self.written = Some(hop);
        }
        Ok(())
    }
}
