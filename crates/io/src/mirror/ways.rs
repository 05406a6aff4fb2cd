//! The ways to the far ends of a mirror's targets: each followed once, however many endpoints it serves.

use crate::clock::Now;
use crate::error::Error;
use crate::tunnel::SendOptions;
use crate::underlay::{Path, Underlay};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How often the kernel is asked to resolve, or to confirm, the address of a neighbour, ns.
const CONFIRM_NS: u64 = 1_000_000_000;
/// For how long new ways wait for their neighbours to answer.
const FIRST_ANSWER: Duration = Duration::from_millis(80);
const FIRST_ANSWER_STEP: Duration = Duration::from_millis(2);

/// What tells one way from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct WayKey {
    /// With port 0.
    remote: SocketAddr,
    source: Option<IpAddr>,
    dscp: u8,
}

/// How a packet gets to a far end, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// There is no route, no carrier, or no neighbour that answers.
    Unreachable,
    /// By frames.
    Frames(Path),
    /// By what only the kernel's own IP knows.
    ByIp,
}

/// The ways of a mirror.
#[derive(Debug, Default)]
pub(super) struct Ways {
    followed: HashMap<WayKey, Followed>,
}

#[derive(Debug)]
struct Followed {
    underlay: Underlay,
    endpoints: usize,
    confirmed_ns: u64,
}

impl WayKey {
    pub fn of(options: &SendOptions) -> WayKey {
        let mut remote = options.remote;
        remote.set_port(0);
        WayKey { remote, source: options.source, dscp: options.sending.dscp }
    }
}

impl Ways {
    /// Follows a way for one endpoint more. In the underlay's network namespace.
    pub fn follow(&mut self, key: WayKey, now: Now) -> Result<(), Error> {
        if let Some(followed) = self.followed.get_mut(&key) {
            followed.endpoints += 1;
            return Ok(());
        }
        let underlay = Underlay::open(key.remote, key.source, key.dscp, now)?;
        let mut followed = Followed { underlay, endpoints: 1, confirmed_ns: now.monotonic_ns };
        followed.confirm();
        self.followed.insert(key, followed);
        Ok(())
    }

    /// Waits a little for the neighbours on new ways, so that the first packets have somewhere to go.
    pub fn settle(&mut self, new: &[WayKey], now: Now) {
        let mut waited = Duration::ZERO;
        let mut awaited = new.to_vec();
        while waited < FIRST_ANSWER {
            awaited.retain(|key| match self.followed.get_mut(key) {
                Some(followed) => {
                    followed.underlay.ask(now.after(waited));
                    followed.underlay.awaits_neighbour()
                }
                None => false,
            });
            if awaited.is_empty() {
                return;
            }
            std::thread::sleep(FIRST_ANSWER_STEP);
            waited += FIRST_ANSWER_STEP;
        }
    }

    /// Follows a way for one endpoint less.
    pub fn leave(&mut self, key: WayKey) {
        if let Some(followed) = self.followed.get_mut(&key) {
            followed.endpoints -= 1;
            if followed.endpoints == 0 {
                self.followed.remove(&key);
            }
        }
    }

    /// Looks for news; returns the ways that have changed.
    pub fn look(&mut self, now: Now) -> Vec<WayKey> {
        let mut changed = Vec::new();
        for (key, followed) in &mut self.followed {
            let before = followed.way();
            followed.underlay.look(now);
            if followed.way() != before {
                changed.push(*key);
            }
            if now.monotonic_ns >= followed.confirmed_ns.saturating_add(CONFIRM_NS) {
                followed.confirmed_ns = now.monotonic_ns;
                followed.confirm();
            }
        }
        changed
    }

    /// The way as it is known now.
    pub fn way(&self, key: WayKey) -> Way {
        self.followed.get(&key).map_or(Way::Unreachable, Followed::way)
    }
}

impl Followed {
    fn way(&self) -> Way {
        match self.underlay.path() {
            Some(path) if path.is_up => match path.frame {
                Some(_) => Way::Frames(*path),
                None if self.underlay.awaits_neighbour() => Way::Unreachable,
                None => Way::ByIp,
            },
            _ => Way::Unreachable,
        }
    }

    /// Nobody else sends there, so the kernel would not look whether the neighbour is still what it was.
    fn confirm(&mut self) {
        let is_stale = self.underlay.path().is_some_and(|path| path.is_stale);
        if is_stale || self.underlay.awaits_neighbour() {
            self.underlay.confirm_neighbour();
        }
    }
}
