//! Taps that the kernel carries: the mirrors of `io`, one for each network namespace that is tapped, and
//! the thread that looks after them.

mod control;
mod exchange;
mod ledger;
mod tap;

pub use exchange::{place, take_off};
pub use tap::{KernelTap, NewTap};

use crate::failure::Failure;
use control::{Control, Watch};
use io::mirror::{KernelMirror, MirrorOptions, Tap};
use io::netns::Netns;
use pipeline::FarEnd;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The mirrors of a process.
#[derive(Default)]
pub struct KernelSide {
    // In this order: nobody looks after mirrors that are gone.
    control: Option<Control>,
    mirrors: Vec<Arc<OneMirror>>,
}

/// The mirror of the interfaces of a network namespace.
pub struct OneMirror {
    netns: Option<Arc<Netns>>,
    inner: Mutex<Inner>,
}

/// What of a mirror the main thread and the one that looks after it share.
pub struct Inner {
    pub mirror: KernelMirror,
    /// The taps of each interface.
    taps: BTreeMap<String, Vec<Tap>>,
    watches: Vec<Watch>,
}

impl KernelSide {
    /// The mirror of a namespace, which is opened with its first tap.
    pub fn mirror(&mut self, netns: Option<&Arc<Netns>>) -> Result<Arc<OneMirror>, io::Error> {
        if let Some(known) = self.mirrors.iter().find(|mirror| mirror.is_of(netns)) {
            return Ok(Arc::clone(known));
        }
        let taps_in = netns.map(|netns| netns.hold()).transpose()?;
        let mirror = KernelMirror::open(MirrorOptions { taps_in, ..MirrorOptions::default() })?;
        let inner = Inner { mirror, taps: BTreeMap::new(), watches: Vec::new() };
        let mirror = Arc::new(OneMirror { netns: netns.cloned(), inner: Mutex::new(inner) });
        match &self.control {
            Some(control) => control.look_after(&mirror),
            None => self.control = Some(Control::start(&mirror)?),
        }
        self.mirrors.push(Arc::clone(&mirror));
        Ok(mirror)
    }

    /// Gives up mirrors of other namespaces that no tap has any more, and with them the namespaces.
    pub fn keep_used(&mut self) {
        self.mirrors.retain(|mirror| mirror.netns.is_none() || mirror.lock().is_used());
    }

    /// Says where tunnels of this process lead.
    pub fn recognise(&self, far_ends: &[FarEnd]) {
        let far_ends: Vec<_> = far_ends.iter().map(|end| (end.address, end.carrier)).collect();
        for mirror in &self.mirrors {
            if let Err(error) = mirror.lock().mirror.set_far_ends(&far_ends) {
                tracing::warn!("own tunnels may be mirrored: {error}");
            }
        }
    }

    /// Takes all programs off the interfaces; the counters are final then.
    pub fn stop(&self) {
        for mirror in &self.mirrors {
            let inner = &mut *mirror.lock();
            inner.taps.clear();
            inner.mirror.stop();
        }
    }
}

impl OneMirror {
    fn is_of(&self, netns: Option<&Arc<Netns>>) -> bool {
        match (&self.netns, netns) {
            (None, None) => true,
            (Some(one), Some(other)) => one.is(other),
            _ => false,
        }
    }

    /// What is shared; held for no longer than a call of the kernel.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_used(&self) -> bool {
        !self.watches.is_empty() || self.taps.values().any(|taps| !taps.is_empty())
    }
}

/// As a failure of what was asked for.
fn could_not(error: io::Error) -> Failure {
    error.into()
}
