//! The crossing: the private interfaces, and the programs on them.
//!
//! ```text
//! tunnels leave in the namespace of the taps      tunnels leave in another one
//!
//!  entry ── encap: egress, ingress                 entry ── encap: egress, so that there is room
//!    ║                                               ║
//!  far  ─── return to entry                        far  ─── return to exit     exit's far
//!                                                                                 ║
//!                                                                               exit ── encap: ingress
//! ```

use super::hold::{AttachBy, Hold};
use super::private::{Pair, Private};
use super::tables::Tables;
use super::taps::{Tap, TapId, Taps};
use crate::bpf::{Classifier, Map, Way};
use crate::error::Error;
use crate::link::interface_counters;
use crate::netns::Netns;
use filter::ebpf::{Alu, Assembler, Bits, Register};
use kernel::mirror::layout::Shape;
use kernel::mirror::{EncapOptions, Entry, LateSlots, LateTap, encap, peer};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

/// `TC_ACT_SHOT`.
const DROP: i32 = 2;

/// The private interfaces, and the programs on them.
#[derive(Debug)]
pub(super) struct Crossing {
    /// The programs that encapsulate, in the order in which packets meet them.
    holds: Vec<Hold>,
    _returning: Hold,
    entry: Pair,
    exit: Option<Pair>,
    /// Whether it has been said that one of them is gone.
    is_gone_told: bool,
    /// Where the entry is, and the exit.
    taps_in: Netns,
    underlay: Netns,
    /// Which headers the programs write.
    shapes: BTreeSet<Shape>,
    /// The taps that they judge, and which of their counters those have.
    late: Vec<(Tap, u32)>,
}

impl Crossing {
    /// Makes the private interfaces. What arrives there is dropped until there are targets.
    pub fn open(
        private: &Private,
        taps_in: &Netns,
        underlay: &Netns,
        tables: &Tables,
        attach_by: &mut AttachBy,
    ) -> Result<Crossing, Error> {
        let entry = private.pair(taps_in, "entry")?;
        let exit = match taps_in.is(underlay) {
            true => None,
            false => Some(private.pair(underlay, "exit")?),
        };
        let leads_to = exit.as_ref().map_or(entry.far, |exit| exit.far);
        let code = peer(leads_to.cast_unsigned()).expect("four instructions without a label");
        let returning = Classifier::load("return packets that have crossed", &code, &[])?;
        let returning = attach_by.attach(&returning, private.netns(), entry.far, Way::Ingress)?;
        let mut crossing = Crossing {
            holds: Vec::new(),
            _returning: returning,
            entry,
            exit,
            is_gone_told: false,
            taps_in: taps_in.hold()?,
            underlay: underlay.hold()?,
            shapes: BTreeSet::new(),
            late: Vec::new(),
        };
        crossing.put(&BTreeSet::new(), Vec::new(), &Taps::default(), tables, attach_by)?;
        private.set_up(&crossing.entry)?;
        crossing.exit.as_ref().map_or(Ok(()), |exit| private.set_up(exit))?;
        Ok(crossing)
    }

    /// Brings a private interface up again that somebody has set down, and says so, or that it is gone.
    pub fn look(&mut self, private: &Private) -> Result<(), Error> {
        for pair in [Some(&self.entry), self.exit.as_ref()].into_iter().flatten() {
            match pair.is_up() {
                Some(true) => {}
                Some(false) => {
                    tracing::warn!(
                        "private interface `{}` was set down, and is brought up again",
                        pair.far_name
                    );
                    private.set_up(pair)?;
                }
                None if self.is_gone_told => {}
                None => {
                    tracing::error!(
                        "private interface `{}` has been removed: the kernel mirrors nothing until \
                         tapline is started again",
                        pair.far_name
                    );
                    self.is_gone_told = true;
                }
            }
        }
        Ok(())
    }

    /// The interface that clones go to.
    pub fn entry(&self) -> u32 {
        self.entry.near.cast_unsigned()
    }

    /// Has the programs write headers of these shapes at least.
    pub fn provide(
        &mut self,
        shapes: &BTreeSet<Shape>,
        taps: &Taps,
        tables: &Tables,
        attach_by: &mut AttachBy,
    ) -> Result<(), Error> {
        if shapes.is_subset(&self.shapes) {
            return Ok(());
        }
        let is_there = |(tap, _): &&(Tap, u32)| taps.map(tap.id).is_ok();
        let late = self.late.iter().filter(is_there).map(|(tap, _)| tap.clone()).collect();
        self.put(shapes, late, taps, tables, attach_by)
    }

    /// Has the programs write headers of these shapes at least, and judge the packets of these taps that no
    /// dispatcher can judge.
    pub fn judge(
        &mut self,
        shapes: &BTreeSet<Shape>,
        late: Vec<Tap>,
        taps: &Taps,
        tables: &Tables,
        attach_by: &mut AttachBy,
    ) -> Result<(), Error> {
        let is_same = |(new, (tap, renewals)): (&Tap, &(Tap, u32))| {
            new.judges_as(tap) && taps.renewals(tap.id) == *renewals
        };
        let has_shapes = shapes.is_subset(&self.shapes);
        if has_shapes && late.len() == self.late.len() && late.iter().zip(&self.late).all(is_same) {
            return Ok(());
        }
        let shapes = shapes.union(&self.shapes).copied().collect();
        self.put(&shapes, late, taps, tables, attach_by)
    }

    /// Leaves a tap that is gone out of the next programs.
    pub fn forget(&mut self, id: TapId) {
        self.late.retain(|(tap, _)| tap.id != id);
    }

    fn put(
        &mut self,
        shapes: &BTreeSet<Shape>,
        late: Vec<Tap>,
        taps: &Taps,
        tables: &Tables,
        attach_by: &mut AttachBy,
    ) -> Result<(), Error> {
        let maps = late.iter().map(|tap| taps.map(tap.id).map(Map::as_fd));
        let maps = maps.collect::<Result<Vec<_>, _>>()?;
        let maps: Vec<BorrowedFd<'_>> = tables.descriptors().chain(maps).collect();
        let shapes: Vec<Shape> = shapes.iter().copied().collect();
        let judged: Vec<LateSlots<'_>> =
            (0..).zip(&late).map(|(number, tap)| judged(number, tap)).collect();
        let load = |entry: Entry| {
            if shapes.is_empty() {
                return load_stop();
            }
            let what = "put mirrored packets into tunnels";
            let options = EncapOptions {
                entry,
                shapes: &shapes,
                late: &judged,
                crosses_always: self.exit.is_some(),
            };
            let code = encap(&options)
                .map_err(|source| Error::Program { what: what.into(), source: Box::new(source) })?;
            Classifier::load(what, &code, &maps)
        };
        let places = match &self.exit {
            None => vec![
                (&self.taps_in, self.entry.near, Entry::Egress, Way::Egress),
                (&self.taps_in, self.entry.near, Entry::Ingress, Way::Ingress),
            ],
            Some(exit) => vec![
                (&self.taps_in, self.entry.near, Entry::Egress, Way::Egress),
                (&self.underlay, exit.near, Entry::Ingress, Way::Ingress),
            ],
        };
        let programs = places.iter().map(|(_, _, entry, _)| load(*entry));
        let programs: Vec<Classifier> = programs.collect::<Result<_, _>>()?;
        if self.holds.is_empty() {
            for ((netns, index, _, way), program) in places.into_iter().zip(&programs) {
                self.holds.push(attach_by.attach(program, netns, index, way)?);
            }
        } else {
            for (hold, program) in self.holds.iter_mut().zip(&programs) {
                hold.replace(program)?;
            }
        }
        self.shapes = shapes.into_iter().collect();
        self.late = late
            .into_iter()
            .map(|tap| {
                let renewals = taps.renewals(tap.id);
                (tap, renewals)
            })
            .collect();
        Ok(())
    }

    /// Packets that the private interfaces say they have lost.
    pub fn drops(&self) -> Result<u64, Error> {
        let ends = [
            Some((&self.taps_in, &self.entry)),
            self.exit.as_ref().map(|exit| (&self.underlay, exit)),
        ];
        let mut drops = 0;
        for (netns, pair) in ends.into_iter().flatten() {
            let names: Vec<String> = pair.name().into_iter().collect();
            let counters = netns.run(|| interface_counters(&names))?;
            drops += counters.iter().map(|of| of.tx_dropped + of.rx_dropped).sum::<u64>();
        }
        Ok(drops)
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
