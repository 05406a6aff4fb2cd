//! Whether frames that are sent through an interface go anywhere.
//!
//! The kernel does not always say so. Once an interface has no carrier, its driver may refuse frames
//! (`ENOBUFS` from a veth whose other end is down), but soon the kernel's link watch puts a discipline in
//! front of it that drops everything and reports success. So it is asked:
//!
//! ```text
//! carrier off ──► link watch: IFF_RUNNING off ─► frames vanish ─► news
//! carrier on  ──► link watch: IFF_RUNNING on  ─► frames go     ─► news
//!     ▲ IFF_LOWER_UP                ▲ before each call               ▲ to begin again
//! ```
//! Source: Linux `net/core/link_watch.c` (`linkwatch_do_dev`), `net/sched/sch_generic.c`
//! (`dev_deactivate`, `noop_qdisc`), `drivers/net/veth.c` (`veth_xmit`).

use super::sys::Socket;
use crate::error::Error;
use crate::link::{self, Links};
use std::time::{Duration, Instant};

/// How often an interface that takes no frames is looked at, should word of its return be lost, and how
/// long one is given to say that it runs once it has a carrier.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is asked at most whether a refused frame was refused for want of a carrier.
const ASK: Duration = Duration::from_millis(1);

/// The interface that a socket sends through.
pub(super) struct Way {
    /// The name that is asked for when it is gone, and the one that it has now.
    name: String,
    name_now: String,
    index: i32,
    links: Links,
    state: State,
    asked: Option<Instant>,
    named: Instant,
}

enum State {
    /// Frames go.
    Open,
    /// They would vanish: it is down, or has no carrier.
    Dark {
        looked: Instant,
        /// Since when it has a carrier all the same.
        carried: Option<Instant>,
    },
    /// The interface is not there.
    Gone { looked: Instant, refused: Option<String> },
}

impl Way {
    /// Has a socket send through the interface of a name, which may be down.
    ///
    /// # Errors
    /// [`Error::NoInterface`]; [`Error::NotEthernet`]; [`Error::System`].
    pub fn open(name: &str, socket: &Socket) -> Result<Way, Error> {
        let failed = |e| Error::system(format!("send through `{name}`: open a netlink socket"), e);
        let mut links = Links::open().map_err(failed)?;
        let index = bind(socket, name, &mut links)?;
        Ok(Way {
            name: name.into(),
            name_now: name.into(),
            index,
            links,
            state: State::Open,
            asked: None,
            named: Instant::now(),
        })
    }

    /// The name that was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether frames that are sent now go, as far as is known. An interface that was down or gone is
    /// looked at when there is news.
    pub fn is_open(&mut self, socket: &Socket) -> bool {
        match &self.state {
            State::Open => match self.links.is_running(&self.name_now) {
                Ok(true) => true,
                Ok(false) => !self.is_dark(),
                Err(_) => self.has_name(),
            },
            State::Dark { looked, .. } => {
                let is_due = looked.elapsed() >= LOOK;
                (self.links.take_news() || is_due) && self.is_lit()
            }
            State::Gone { looked, .. } => {
                let is_due = looked.elapsed() >= LOOK;
                (self.links.take_news() || is_due) && self.is_back(socket)
            }
        }
    }

    /// What is due by the clock: to look for an interface that is down or gone, and to follow one that
    /// was renamed.
    pub fn tick(&mut self, socket: &Socket) {
        if !matches!(self.state, State::Open) {
            self.is_open(socket);
        } else if self.named.elapsed() >= LOOK {
            self.has_name();
        }
    }

    /// Whether a frame that was refused was so because the interface is down or has no carrier: then
    /// none is sent until it is up again.
    pub fn is_refused(&mut self) -> bool {
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK) {
            return false;
        }
        self.asked = Some(Instant::now());
        self.is_dark()
    }

    /// Notes that the interface is down.
    pub fn is_down(&mut self) {
        self.darken("is down");
    }

    /// Notes that the socket's interface is gone: one of its name is waited for.
    pub fn is_gone(&mut self) {
        tracing::warn!("{} is gone; waiting for it to return", self.name);
        self.follow_news(true);
        self.state = State::Gone { looked: long_ago(), refused: None };
    }

    /// Whether it has no carrier, or is down: then frames wait for news.
    fn is_dark(&mut self) -> bool {
        // One that is gone says so when something is sent.
        let is_dark = self.links.has_carrier(self.index).is_ok_and(|has_carrier| !has_carrier);
        if is_dark {
            self.darken("has no carrier");
        }
        is_dark
    }

    fn darken(&mut self, why: &str) {
        tracing::warn!("{} {why}; frames for it are counted until it is up", self.name);
        self.follow_news(true);
        self.state = State::Dark { looked: long_ago(), carried: None };
    }

    /// Whether an interface without carrier has one again, and frames go.
    fn is_lit(&mut self) -> bool {
        let now = Instant::now();
        let is_running = self.links.is_running(&self.name_now);
        if is_running.is_err() && !self.has_name() {
            self.is_gone();
            return false;
        }
        let has_carrier = self.links.has_carrier(self.index).unwrap_or(false);
        let State::Dark { looked, carried } = &mut self.state else {
            return false;
        };
        *looked = now;
        *carried = if has_carrier { carried.or(Some(now)) } else { None };
        // Some say for long that they only have a carrier: a port that waits for authentication.
        let waited = carried.is_some_and(|since| since.elapsed() >= LOOK);
        let is_lit = has_carrier && (waited || is_running.unwrap_or(false));
        if is_lit {
            self.reopen("is up again");
        }
        is_lit
    }

    /// Whether an interface of the name is there again, through which the socket sends from now on.
    fn is_back(&mut self, socket: &Socket) -> bool {
        let result = bind(socket, &self.name, &mut self.links);
        let State::Gone { looked, refused } = &mut self.state else {
            return false;
        };
        *looked = Instant::now();
        match result {
            Ok(index) => {
                (self.index, self.name_now) = (index, self.name.clone());
                self.reopen("is back");
                // A new one is down at first.
                !self.is_dark()
            }
            Err(Error::NoInterface { .. }) => false,
            Err(error) => {
                let error = error.to_string();
                if refused.as_ref() != Some(&error) {
                    tracing::warn!("{error}; waiting for it to change");
                    *refused = Some(error);
                }
                false
            }
        }
    }

    fn reopen(&mut self, what: &str) {
        tracing::info!("{} {what}", self.name);
        self.follow_news(false);
        self.state = State::Open;
    }

    /// Learns the interface's name, which may have changed; returns whether it is there.
    fn has_name(&mut self) -> bool {
        self.named = Instant::now();
        match self.links.name(self.index) {
            Some(name) => self.name_now = name,
            // When something is sent, the kernel says so too.
            None => return matches!(self.state, State::Open),
        }
        true
    }

    fn follow_news(&self, wanted: bool) {
        if let Err(error) = self.links.watch(wanted) {
            // It is still looked for, only less often.
            tracing::debug!("news of interfaces: {error}");
        }
    }
}

/// So that it is looked at once more, as what has changed before the news were followed is no news.
fn long_ago() -> Instant {
    let now = Instant::now();
    now.checked_sub(LOOK).unwrap_or(now)
}

/// Has a socket send through the interface of a name; gives its index.
fn bind(socket: &Socket, name: &str, links: &mut Links) -> Result<i32, Error> {
    let link = link::find(name, links)?;
    if link.hardware != libc::ARPHRD_ETHER {
        return Err(Error::NotEthernet { name: name.into(), hardware: link.hardware });
    }
    socket
        .bind(link.index)
        .map_err(|e| Error::system(format!("send through `{name}`: bind"), e))?;
    Ok(link.index)
}
