//! Packets out of tunnels, layer by layer: a source behind any other source of frames.
//!
//! ```text
//! source ─► fragment? ── no ──────────────────► tunnel? ── no ─► packet
//!              └ yes ─► held, made whole ───────►  ▲ └ yes: the packet's start moves inwards ─┐
//!                                                  └──────────────────── up to N times ◄──────┘
//! ```
//!
//! Nothing is copied but fragments. What the source counts are packets as they leave it: fragments
//! that became one packet are one.
//!
//! A [`Policy::Capture`] loses nothing: what is no tunnel, holds no packet or cannot be read goes
//! on as it came, and fragments that could not be put together too. A [`Policy::Receive`] delivers
//! what came out of the tunnels that are listened for, and drops all else under a reason. Behind the
//! first layer both do alike.

mod fragments;
mod layers;
mod part;
mod settled;
mod status;
#[cfg(test)]
mod tests;

pub use fragments::{Added, Fault, Fragments, Scope, Verdict};
pub use layers::{DecapOptions, EVERY_LAYER, Policy};
pub use status::DecapStatus;

use crate::batch::Batch;
use crate::clock::now_ns;
use crate::device::{Arrival, Screening, Source};
use crate::error::Error;
use crate::interface::Interfaces;
use crate::packet::Outer;
use api::Drops;
use layers::Layers;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;
use wire::sequence::Counts;

/// The packets inside a source's tunnels.
pub struct Decap {
    source: Box<dyn Source>,
    /// What the source delivered.
    outer: Batch,
    layers: Layers,
    status: Arc<DecapStatus>,
    /// The source has failed; what it delivered before goes first.
    failure: Option<Error>,
}

impl Decap {
    /// Takes packets out of tunnels; `interfaces` is the table that the source's packets refer to.
    pub fn new(source: Box<dyn Source>, options: DecapOptions, interfaces: &Interfaces) -> Decap {
        let layers = Layers::new(options, source.is_live(), interfaces);
        let status = Arc::default();
        Decap { source, outer: Batch::new(), layers, status, failure: None }
    }

    /// Where its counters can be read while it works.
    pub fn status(&self) -> Arc<DecapStatus> {
        Arc::clone(&self.status)
    }
}

impl Source for Decap {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let arrival = self.source.receive(&mut self.outer);
        for packet in self.outer.drain() {
            self.layers.take(packet, batch);
        }
        match &arrival {
            Ok(Arrival::Packets) => self.layers.expire(None, batch),
            Ok(Arrival::Idle) => {
                self.layers.expire(self.source.is_live().then(now_ns), batch);
            }
            Ok(Arrival::End) | Err(_) => self.layers.finish(batch),
        }
        self.status.set(&self.layers.counters());
        match arrival {
            Ok(Arrival::Idle) if !batch.is_empty() => Ok(Arrival::Packets),
            Err(failure) if !batch.is_empty() => {
                self.failure = Some(failure);
                Ok(Arrival::Packets)
            }
            arrival => arrival,
        }
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.source.readiness()
    }

    fn gather(&self) -> Duration {
        self.source.gather()
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.source.stop()
    }

    fn drops(&mut self) -> Drops {
        let mut drops = self.source.drops();
        drops.merge(&self.layers.drops);
        drops
    }

    fn missing(&self) -> u64 {
        self.source.missing() + self.layers.held()
    }

    fn screening(&mut self) -> Screening {
        self.source.screening()
    }

    fn streams(&self) -> Vec<(Outer, Counts)> {
        // Those of the first layer, whichever of both has taken it off.
        let mut counts = self.source.streams();
        counts.extend(self.layers.streams.counts());
        counts
    }

    fn is_live(&self) -> bool {
        self.source.is_live()
    }
}
