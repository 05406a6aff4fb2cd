//! Where mirrored packets are put into tunnels: the private interfaces, and the program on them.
//!
//! ```text
//! where taps are           the private namespace     where tunnels leave
//!
//!  clones ─┬──────────────────────────────────────►  near end, egress: encap ──► underlay
//!          │ super-packets, and all if tunnels        ▲        │ checksum missing
//!          ▼ leave in another namespace               │        ▼
//!         entry ─────────────► bridge ───► port ──────┘      entry
//! ```
//!
//! The near end's other half does nothing but take the near end along when the process ends.

use super::hold::{AttachBy, Hold};
use super::private::{Finisher, Pair, Private};
use super::tables::Tables;
use super::taps::{Tap, TapId, Taps};
use crate::bpf::{Classifier, Map, Way};
use crate::error::Error;
use crate::netns::Netns;
use filter::ebpf::{Alu, Assembler, Bits, Register};
use kernel::mirror::layout::Shape;
use kernel::mirror::{EncapOptions, LateSlots, LateTap, encap};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

/// `TC_ACT_SHOT`.
const DROP: i32 = 2;

/// The private interfaces, and the program on them.
#[derive(Debug)]
pub(super) struct Encapsulator {
    hold: Hold,
    finisher: Finisher,
    near: Pair,
    /// Whether it has been said that one of them is gone.
    is_gone_told: bool,
    /// Where the entry is, and the near end.
    taps_in: Netns,
    underlay: Netns,
    /// Which headers the program writes.
    shapes: BTreeSet<Shape>,
    /// The taps that it judges, and which of their counters those have.
    late: Vec<(Tap, u32)>,
}

impl Encapsulator {
    /// Makes the private interfaces. What arrives there is dropped until there are targets.
    pub fn open(
        private: &Private,
        taps_in: &Netns,
        underlay: &Netns,
        attach_by: &mut AttachBy,
    ) -> Result<Encapsulator, Error> {
        let near = private.pair(underlay, "far")?;
        let hold = attach_by.attach(&load_stop()?, underlay, near.near, Way::Egress)?;
        private.set_up(&near)?;
        let finisher = private.finisher(&near, taps_in)?;
        Ok(Encapsulator {
            hold,
            finisher,
            near,
            is_gone_told: false,
            taps_in: taps_in.hold()?,
            underlay: underlay.hold()?,
            shapes: BTreeSet::new(),
            late: Vec::new(),
        })
    }

    /// Brings a private interface up again that somebody has set down, and says so, or that it is gone.
    pub fn look(&mut self, private: &Private) -> Result<(), Error> {
        let near = (self.near.is_up(), self.near.name());
        // It has a carrier if the near end has one.
        let entry = match near.0 {
            Some(true) => (self.finisher.is_up(), self.finisher.name()),
            _ => (Some(true), None),
        };
        for (is_up, name) in [near, entry] {
            match is_up {
                Some(true) => {}
                Some(false) => {
                    tracing::warn!(
                        "private interface `{}` was set down, and is brought up again",
                        name.unwrap_or_default()
                    );
                    private.set_up(&self.near)?;
                    self.finisher.set_up()?;
                }
                None if self.is_gone_told => {}
                None => {
                    tracing::error!(
                        "a private interface has been removed: the kernel mirrors not all until \
                         tapline is started again"
                    );
                    self.is_gone_told = true;
                }
            }
        }
        Ok(())
    }

    /// The interfaces that clones go to.
    pub fn interfaces(&self) -> kernel::mirror::Private {
        let near = self.taps_in.is(&self.underlay).then_some(self.near.near.cast_unsigned());
        kernel::mirror::Private { entry: self.finisher.entry.cast_unsigned(), near }
    }

    /// Has the program write headers of these shapes at least.
    pub fn provide(
        &mut self,
        shapes: &BTreeSet<Shape>,
        taps: &Taps,
        tables: &Tables,
    ) -> Result<(), Error> {
        if shapes.is_subset(&self.shapes) {
            return Ok(());
        }
        let is_there = |(tap, _): &&(Tap, u32)| taps.map(tap.id).is_ok();
        let late = self.late.iter().filter(is_there).map(|(tap, _)| tap.clone()).collect();
        self.put(shapes, late, taps, tables)
    }

    /// Has the program write headers of these shapes at least, and judge the packets of these taps that no
    /// dispatcher can judge.
    pub fn judge(
        &mut self,
        shapes: &BTreeSet<Shape>,
        late: Vec<Tap>,
        taps: &Taps,
        tables: &Tables,
    ) -> Result<(), Error> {
        let is_same = |(new, (tap, renewals)): (&Tap, &(Tap, u32))| {
            new.judges_as(tap) && taps.renewals(tap.id) == *renewals
        };
        let has_shapes = shapes.is_subset(&self.shapes);
        if has_shapes && late.len() == self.late.len() && late.iter().zip(&self.late).all(is_same) {
            return Ok(());
        }
        let shapes = shapes.union(&self.shapes).copied().collect();
        self.put(&shapes, late, taps, tables)
    }

    /// Leaves a tap that is gone out of the next program.
    pub fn forget(&mut self, id: TapId) {
        self.late.retain(|(tap, _)| tap.id != id);
    }

    fn put(
        &mut self,
        shapes: &BTreeSet<Shape>,
        late: Vec<Tap>,
        taps: &Taps,
        tables: &Tables,
    ) -> Result<(), Error> {
        let program =
            if shapes.is_empty() { load_stop()? } else { self.load(shapes, &late, taps, tables)? };
        self.hold.replace(&program)?;
        self.shapes = shapes.clone();
        self.late = late
            .into_iter()
            .map(|tap| {
                let renewals = taps.renewals(tap.id);
                (tap, renewals)
            })
            .collect();
        Ok(())
    }

    fn load(
        &self,
        shapes: &BTreeSet<Shape>,
        late: &[Tap],
        taps: &Taps,
        tables: &Tables,
    ) -> Result<Classifier, Error> {
        let what = "put mirrored packets into tunnels";
        let maps = late.iter().map(|tap| taps.map(tap.id).map(Map::as_fd));
        let maps = maps.collect::<Result<Vec<_>, _>>()?;
        let maps: Vec<BorrowedFd<'_>> = tables.descriptors().chain(maps).collect();
        let shapes: Vec<Shape> = shapes.iter().copied().collect();
        let judged: Vec<LateSlots<'_>> =
            (0..).zip(late).map(|(number, tap)| judged(number, tap)).collect();
        let interfaces = self.interfaces();
        let finish_by = interfaces.near.map(|_| interfaces.entry);
        let code = encap(&EncapOptions { shapes: &shapes, late: &judged, finish_by })
            .map_err(|source| Error::Program { what: what.into(), source: Box::new(source) })?;
        Classifier::load(what, &code, &maps)
    }
}

/// A tap as the program knows it that judges it late.
fn judged(number: usize, tap: &Tap) -> LateSlots<'_> {
    let slots: Vec<u32> = tap.targets.iter().map(|target| target.late_slot()).collect();
    let tap = LateTap {
        received: &tap.received,
        sent: &tap.sent,
        verdicts: tap.verdicts(),
        tap: number,
        first_slot: slots.first().copied().unwrap_or(0),
    };
    LateSlots { tap, slots }
}

/// A program that drops every packet.
pub(super) fn load_stop() -> Result<Classifier, Error> {
    let mut asm = Assembler::new();
    asm.alu(Bits::B32, Alu::Move, Register::R0, DROP);
    asm.exit();
    let code = asm.finish().expect("two instructions without a label");
    Classifier::load("stop packets on private interfaces", &code, &[])
}
