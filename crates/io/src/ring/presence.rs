//! Whether the tapped interface is there: going down, gone, and back under the same name.
//!
//! The kernel tells a packet socket that its interface went down, once, and not whether it was deleted
//! then; so it is looked for. One that is gone is waited for with rtnetlink's word, and the ring, which
//! has gone on to belong to no interface, is bound to the next one of the name: its memory and its
//! counters go on.

use super::sys::Ring;
use super::{RingSource, failed, find, place};
use crate::error::Error;
use crate::link::Link;
use std::time::{Duration, Instant};

/// How often an interface that is down is looked for: the kernel tells that it went down, but not
/// that it is deleted then.
const LOOK_WHILE_DOWN: Duration = Duration::from_millis(100);
/// How often one that is up and idle is looked for, should its error have told of going down alone.
const LOOK_WHILE_UP: Duration = Duration::from_secs(1);
/// How often one that is gone is looked for, should word of its return be lost.
const LOOK_WHILE_GONE: Duration = Duration::from_secs(1);

/// What is known of the tapped interface.
#[derive(Debug)]
pub(super) enum Presence {
    /// All interfaces are tapped: they may come and go.
    Any,
    /// It is there, under this index, and was not found to be down since the last frame.
    Up { index: i32, looked_for: Instant },
    /// It is down, and was there when it was last looked for.
    Down { index: i32, looked_for: Instant },
    /// There is no such interface.
    Gone {
        looked_for: Instant,
        /// Why one of its name was not taken, which is said once.
        refused: Option<String>,
    },
}

impl Presence {
    pub fn up(index: i32) -> Presence {
        Presence::Up { index, looked_for: Instant::now() }
    }
}

impl RingSource {
    /// Finds out, when no frame comes, whether the interface is down, gone or back.
    pub(super) fn check_interface(&mut self) {
        match self.presence {
            Presence::Any => {}
            Presence::Up { index, looked_for } => {
                let error = self.ring.take_error().ok().flatten();
                // The last frames of one that was found to be down come after that, and look as if
                // it were up: so it is looked for without an error too.
                let is_time = looked_for.elapsed() >= LOOK_WHILE_UP;
                if (error.is_some() || is_time) && self.is_still_there(index) {
                    match error {
                        Some(error) if self.speaks => {
                            let name = &self.options.interface;
                            tracing::warn!("{name}: {error}; waiting for it to come up");
                        }
                        Some(_) => {}
                        None => self.presence = Presence::up(index),
                    }
                }
            }
            Presence::Down { index, looked_for } => {
                if looked_for.elapsed() >= LOOK_WHILE_DOWN {
                    self.is_still_there(index);
                }
            }
            Presence::Gone { looked_for, .. } => {
                let is_time = self.links.take_news() || looked_for.elapsed() >= LOOK_WHILE_GONE;
                // What came before it was deleted is taken first.
                if is_time && self.stopped.is_none() && self.is_dry() {
                    self.look_for_return();
                }
            }
        }
    }

    /// Whether an interface that is down is still there. If not it is waited for.
    fn is_still_there(&mut self, index: i32) -> bool {
        let looked_for = Instant::now();
        if self.links.name(index).is_some() {
            self.presence = Presence::Down { index, looked_for };
            return true;
        }
        if self.speaks {
            tracing::warn!("{} is gone; waiting for it to return", self.options.interface);
        }
        if let Err(error) = self.links.watch(true) {
            // It is still looked for, only less often.
            tracing::debug!("no news of interfaces: {error}");
        }
        // It may be back already, which would be no news.
        let looked_for = looked_for.checked_sub(LOOK_WHILE_GONE).unwrap_or(looked_for);
        self.presence = Presence::Gone { looked_for, refused: None };
        false
    }

    /// Goes on with the interface of the same name, if there is one again.
    fn look_for_return(&mut self) {
        let looked_for = Instant::now();
        let result = self.tap_again();
        let Presence::Gone { looked_for: last, refused } = &mut self.presence else {
            return;
        };
        *last = looked_for;
        let link = match result {
            Ok(link) => link,
            Err(Error::NoInterface { .. }) => return,
            Err(error) => {
                let error = error.to_string();
                if refused.as_ref() != Some(&error) && self.speaks {
                    tracing::warn!("{error}; waiting for it to change");
                    *refused = Some(error);
                }
                return;
            }
        };
        if self.speaks {
            tracing::info!("{} is back (index {})", self.options.interface, link.index);
        }
        self.place = self.places.find(link.index, link.hardware, &self.links);
        // A new interface is down at first, which the socket reports as an error: no news.
        self.presence = match self.ring.take_error() {
            Ok(Some(_)) => Presence::Down { index: link.index, looked_for },
            _ => Presence::up(link.index),
        };
        if let Err(error) = self.links.watch(false) {
            tracing::debug!("news of interfaces cannot be ended: {error}");
        }
    }

    /// As [`Self::tap`], for an interface that is back. A ring in a group cannot be bound again.
    fn tap_again(&mut self) -> Result<Link, Error> {
        let link = find(&self.options.interface, &mut self.links)?;
        if self.screened != place::link_type(link.hardware) {
            // It was made for frames of another kind.
            if self.screen.retire(self.frames_lost) && self.speaks {
                tracing::warn!(
                    "{}: its frames are of another kind now, which the filter before the ring was \
                     not made for; filtering in user space from now on",
                    self.options.interface
                );
            }
        }
        if self.fanout.is_some() {
            let geometry = self.options.geometry(self.ring.bytes());
            let ring = match &self.options.netns {
                Some(netns) => netns.run(|| Ring::new(geometry))?,
                None => Ring::new(geometry),
            };
            self.ring = ring.map_err(|(what, e)| failed(&self.options.interface, what, e))?;
            self.cursor = None;
        }
        self.tap(link.index)?;
        self.let_frames_in()?;
        Ok(link)
    }
}
