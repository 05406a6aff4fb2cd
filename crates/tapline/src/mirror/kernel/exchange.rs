//! What comes to interfaces and goes from them: all that an interface is to have afterwards is made into
//! programs once, as the kernel takes its time to verify them.

use super::{KernelTap, OneMirror, tap::UNDER_WAY};
use io::mirror::{Tap, TapId};
use std::sync::Arc;

/// What one interface loses and gets.
struct Change {
    out: Option<TapId>,
    new: Option<Tap>,
}

/// The changes of one interface, with the places that they were asked for at.
struct At<'a> {
    of: &'a Arc<OneMirror>,
    interface: &'a str,
    changes: Vec<(usize, Change)>,
}

/// Puts taps on their interfaces, each in the place of another one if there is one; from one packet to
/// the next if both are of one interface. Gives for each why the kernel refuses it, if it does: all goes
/// on as before then for this tap, and the others are there.
pub fn place(taps: &[(&KernelTap, Option<&KernelTap>)]) -> Vec<Result<(), io::Error>> {
    let mut results: Vec<Result<(), io::Error>> = taps.iter().map(|_| Ok(())).collect();
    let changes = taps.iter().map(|(tap, instead_of)| {
        let out = instead_of.filter(|other| other.is_beside(tap)).map(|other| other.tap.id);
        (*tap, Change { out, new: Some(tap.tap.clone()) })
    });
    for at in by_interface(changes) {
        at.make(&mut results);
    }
    for (result, (tap, instead_of)) in results.iter_mut().zip(taps) {
        let Some(other) = instead_of.filter(|other| !other.is_beside(tap)) else { continue };
        if result.is_ok() {
            *result = take_off(&[other]);
        }
    }
    results
}

/// Takes taps off their interfaces, and waits until no packet is in a program that has them.
///
/// # Errors
/// Why the kernel refuses; the taps of that interface go on then.
pub fn take_off(taps: &[&KernelTap]) -> Result<(), io::Error> {
    let placed = || taps.iter().filter(|tap| tap.is_placed());
    if placed().next().is_none() {
        return Ok(());
    }
    let changes = placed().map(|tap| (*tap, Change { out: Some(tap.tap.id), new: None }));
    let mut all = Ok(());
    for At { of, interface, changes } in by_interface(changes) {
        let changes: Vec<&Change> = changes.iter().map(|(_, change)| change).collect();
        if let Err(error) = of.exchange(interface, &changes) {
            all = Err(error);
        }
    }
    std::thread::sleep(UNDER_WAY);
    all
}

fn by_interface<'a>(changes: impl Iterator<Item = (&'a KernelTap, Change)>) -> Vec<At<'a>> {
    let mut all: Vec<At<'a>> = Vec::new();
    for (place, (tap, change)) in changes.enumerate() {
        let known =
            all.iter_mut().find(|at| Arc::ptr_eq(at.of, &tap.of) && at.interface == tap.interface);
        match known {
            Some(at) => at.changes.push((place, change)),
            None => all.push(At {
                of: &tap.of,
                interface: &tap.interface,
                changes: vec![(place, change)],
            }),
        }
    }
    all
}

impl At<'_> {
    /// Makes all changes at once; what the kernel refuses, in halves, until it is known which ones it
    /// refuses.
    fn make(&self, results: &mut [Result<(), io::Error>]) {
        let mut open = vec![self.changes.as_slice()];
        while let Some(changes) = open.pop() {
            let all: Vec<&Change> = changes.iter().map(|(_, change)| change).collect();
            match (self.of.exchange(self.interface, &all), changes) {
                (Ok(()), _) => {}
                (Err(error), [(place, _)]) => results[*place] = Err(error),
                (Err(_), changes) => {
                    let (first, second) = changes.split_at(changes.len() / 2);
                    open.extend([second, first]);
                }
            }
        }
    }
}

impl OneMirror {
    /// Exchanges taps of an interface for others, from one packet to the next.
    ///
    /// # Errors
    /// Why the kernel refuses; all goes on as before then.
    fn exchange(&self, interface: &str, changes: &[&Change]) -> Result<(), io::Error> {
        let inner = &mut *self.lock();
        let mut taps = inner.taps.get(interface).cloned().unwrap_or_default();
        for Change { out, new } in changes {
            let place = taps.iter().position(|tap| Some(tap.id) == *out);
            match (place, new) {
                (Some(place), Some(new)) => taps[place] = new.clone(),
                (Some(place), None) => drop(taps.remove(place)),
                (None, Some(new)) => taps.push(new.clone()),
                (None, None) => {}
            }
        }
        inner.mirror.set_taps(interface, taps.clone())?;
        inner.taps.insert(interface.into(), taps);
        Ok(())
    }

    /// Whether an interface has a tap.
    pub(super) fn has(&self, interface: &str, id: TapId) -> bool {
        self.lock().taps.get(interface).is_some_and(|taps| taps.iter().any(|tap| tap.id == id))
    }
}
