//! The ways to the next hosts, each kept resolved.

use crate::clock::Now;
use crate::error::Error;
use crate::underlay::{FrameAddresses, Underlay};
use api::InlineConfig;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// How often the kernel is asked to confirm a neighbour that it does not know for sure.
const RESOLVE_NS: u64 = 1_000_000_000;
/// How long a next hop may be unknown before senders are told.
const PATIENCE_NS: u64 = 3_000_000_000;

/// Ways by their far ends.
#[derive(Debug, Default)]
pub(super) struct Ways(HashMap<IpAddr, Way>);

#[derive(Debug)]
struct Way {
    underlay: Underlay,
    resolved_ns: u64,
    unknown_since_ns: Option<u64>,
}

/// How a packet gets to a next host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// In a frame of these addresses, out of this interface, if it is no larger than this.
    Frame(FrameAddresses, i32, usize),
    /// It is not known, but asked for.
    Unknown,
    /// Nobody has answered for a while.
    Unreachable,
}

impl Ways {
    /// Has the ways of a table's next hosts, and no others.
    ///
    /// # Errors
    /// The kernel is not there to be asked for one; those of before are there still.
    pub fn want(&mut self, config: &InlineConfig, now: Now) -> Result<(), Error> {
        for rule in &config.rules {
            let address = rule.next_host;
            if self.0.contains_key(&address) {
                continue;
            }
            let underlay = Underlay::open(SocketAddr::new(address, 0), None, 0, now)?;
            let way = Way { underlay, resolved_ns: 0, unknown_since_ns: None };
            self.0.insert(address, way);
        }
        let wanted: HashSet<IpAddr> = config.rules.iter().map(|rule| rule.next_host).collect();
        self.0.retain(|address, _| wanted.contains(address));
        self.look(now);
        Ok(())
    }

    /// Looks for news, and has the kernel confirm who is not known for sure.
    pub fn look(&mut self, now: Now) {
        let now_ns = now.monotonic_ns;
        for way in self.0.values_mut() {
            way.underlay.look(now);
            let path = way.underlay.path();
            match path.is_some_and(|path| path.frame.is_some() && path.is_up) {
                true => way.unknown_since_ns = None,
                false => _ = way.unknown_since_ns.get_or_insert(now_ns),
            }
            let is_sure = path.is_none_or(|path| path.frame.is_some() && !path.is_stale);
            if !is_sure && now_ns >= way.resolved_ns.saturating_add(RESOLVE_NS) {
                way.resolved_ns = now_ns;
                way.underlay.confirm_neighbour();
            }
        }
    }

    /// How a packet gets to a next host.
    pub fn to(&self, address: IpAddr, now: Now) -> To {
        let Some(way) = self.0.get(&address) else { return To::Unreachable };
        let path = way.underlay.path().filter(|path| path.is_up);
        let frame = path.and_then(|path| Some((path.frame?, path.interface, path.mtu)));
        match (frame, way.unknown_since_ns) {
            (Some((frame, interface, mtu)), _) => To::Frame(frame, interface, mtu),
            (None, Some(since)) if now.monotonic_ns.saturating_sub(since) < PATIENCE_NS => {
                To::Unknown
            }
            (None, _) => To::Unreachable,
        }
    }
}
