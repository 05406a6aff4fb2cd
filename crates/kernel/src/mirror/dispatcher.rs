//! The dispatcher: all taps of an interface and direction in one program.
//!
//! ```text
//! restore the frame, count its wire packets          once for all taps
//! each tap's filter ── rejects ──► Filtered          a bit for each tap that keeps it, or that is to
//!   │ keeps                                          judge it late, behind the private interface
//!   ▼
//! one of our own tunnels? ──► OwnTunnel              once, if any tap has kept it
//! each tap's ceiling ── no room ──► RateLimited
//!   ▼
//! Matched, or Late; a clone for each of the tap's targets ──► Handed, NotHanded
//! ```
//!
//! All filters come before the first clone, as memory of the CPU does not outlive it: where the clone
//! goes, programs of the mirror run. The packet itself is the host's, and goes on unchanged. What is
//! judged late is looked at for own tunnels before its filter, and pays the ceiling before it, too.

use super::judge::{Judge, add, count, count_matched, look_up};
use super::layout::{
    MirrorMap, SKB_TC_INDEX, SLOTS_MAX, SlotCounter, TC_INDEX_FINISHED, TapCounter,
};
use super::{ceiling, own};
use Register::{R0, R1, R2, R3, R6, R7, R8, R9, R10};
use filter::Program;
use filter::ebpf::restored::{BYTES_AT, FREE_AT, PACKETS_AT, SUPER_AT, SUPER_JUMBO};
use filter::ebpf::{
    Alu, Assembler, Bits, Code, Condition, Error, Helper, Instruction, Label, Register,
    RestoredFrame, Scope, Verdicts, Width,
};
use wire::{Direction, LinkType};

/// Taps that a dispatcher has room for: the kernel lets a program name 64 maps (`MAX_USED_MAPS`), of which
/// each kind of program leaves out at least one that the other names.
pub const TAPS_MAX: usize = 64 - (MirrorMap::COMMON - 1);
const _: () = assert!(TAPS_MAX <= u64::BITS as usize);

/// A tap of an interface, as one direction's dispatcher sees it.
#[derive(Debug, Clone)]
pub struct DispatcherTap<'a> {
    /// The direction's program; a constant 0 if the tap does not want this direction: its packets
    /// then count as filtered.
    pub program: &'a Program,
    /// What its verdicts mean.
    pub verdicts: Verdicts<'a>,
    /// What it judges here; `None`: all its packets are judged late. A constant program judges all.
    pub scope: Option<Scope>,
    /// The tap's number in [`MirrorMap::Tap`].
    pub tap: usize,
    /// Its targets in [`MirrorMap::Slots`].
    pub slots: Vec<u32>,
    /// The same targets' slots for packets that are judged late; as many, or none if nobody is there to
    /// judge: such packets then count as not handed over.
    pub late_slots: Vec<u32>,
    /// Its ceiling in [`MirrorMap::Buckets`].
    pub bucket: Option<u32>,
    /// Whether own tunnels are looked for: among those sent, or on loopback, by all that tells them; among
    /// those received by the mark that this host's clones have, as where they end is in a container of it.
    pub skips_own_tunnels: bool,
}

/// What a dispatcher is made of.
#[derive(Debug, Clone)]
pub struct DispatcherOptions<'a> {
    /// What the interface's frames start with: [`LinkType::ETHERNET`].
    pub link_type: LinkType,
    /// Which of its packets: those received ([`Direction::In`]) or sent.
    pub direction: Direction,
    /// Whether the interface is loopback, where what was sent comes in again.
    pub is_loopback: bool,
    /// The private interfaces that clones go to.
    pub private: Private,
    /// The taps, [`TAPS_MAX`] at most.
    pub taps: Vec<DispatcherTap<'a>>,
}

/// The private interfaces that clones go to, in the namespace of the tapped one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Private {
    /// Where packets are cut and completed before they are encapsulated.
    pub entry: u32,
    /// Where they are encapsulated; `None`: in another namespace, and all go by [`Self::entry`].
    pub near: Option<u32>,
}

/// `TCX_NEXT`: the packet goes on to the next program.
const NEXT: i32 = -1;
/// Which taps keep the packet, from R9.
const KEPT_AT: i16 = FREE_AT + 8;
/// Which taps judge it late, from R9.
const LATE_AT: i16 = FREE_AT + 16;

// From R10, while clones are made.
const PACKETS: i16 = -16;
const BYTES: i16 = -24;
const TC_INDEX: i16 = -32;
const RESULT: i16 = -40;
const BUCKET: i16 = -48;
const PRIVATE: i16 = -56;
/// Bits of `tc_index` beside the slot's.
const FINISHED: i16 = -64;

/// Makes a dispatcher.
///
/// # Errors
/// [`Error::LinkType`] for interfaces whose frames do not start with Ethernet; [`Error::Taps`];
/// [`Error::JumpsBack`], [`Error::ReturnsA`], [`Error::NoSuchRule`], [`Error::TooLong`] of filters.
///
/// # Panics
/// If a slot is 0 or above [`SLOTS_MAX`].
pub fn dispatcher(options: &DispatcherOptions<'_>) -> Result<Code, Error> {
    let DispatcherOptions { link_type, taps, .. } = options;
    if *link_type != LinkType::ETHERNET {
        return Err(Error::LinkType { link_type: *link_type });
    }
    if taps.len() > TAPS_MAX {
        return Err(Error::Taps { got: taps.len(), max: TAPS_MAX });
    }
    let taps: Vec<Tap<'_>> = (0..).zip(taps).map(|(bit, options)| Tap { bit, options }).collect();
    let is_sent = options.direction == Direction::Out;
    let skips = taps.iter().any(|tap| tap.options.skips_own_tunnels);
    let looks = skips && (is_sent || options.is_loopback);

    let mut asm = Assembler::new();
    let [next, is_own, joined] = std::array::from_fn(|_| asm.label());
    asm.copy(R6, R1);
    look_up(&mut asm, MirrorMap::Scratch.map(), 0);
    asm.jump_if(Bits::B64, Condition::Equal, R0, 0, next);
    asm.copy(R9, R0);
    let mut bytes = if looks { own::BYTES_NEEDED } else { 0 };
    for tap in &taps {
        bytes = bytes.max(tap.judge().bytes_needed()?);
    }
    let frame = RestoredFrame::read(&mut asm, bytes);
    asm.store(Width::B8, R9, KEPT_AT, 0);
    asm.store(Width::B8, R9, LATE_AT, 0);
    for tap in &taps {
        tap.judged(&mut asm, &frame)?;
    }
    load_masks(&mut asm);
    asm.jump_if(Bits::B64, Condition::Equal, R7, 0, next);
    if looks {
        own::emit(&mut asm, is_own);
    } else if skips {
        own::emit_marked(&mut asm, is_own);
    }
    asm.bind(joined);
    let clones = Clones { is_sent, private: options.private };
    clones.begin(&mut asm);
    for tap in &taps {
        tap.cloned(&mut asm, clones);
    }
    asm.load(Width::B8, R1, R10, TC_INDEX);
    asm.store(Width::B4, R6, SKB_TC_INDEX, R1);
    asm.bind(next);
    asm.alu(Bits::B32, Alu::Move, R0, NEXT);
    asm.exit();
    if skips {
        asm.bind(is_own);
        skip_own(&mut asm, &taps);
        asm.jump(joined);
    }
    frame.finish(&mut asm);
    asm.finish()
}

/// Puts into R7 which taps keep the packet, or judge it late.
fn load_masks(asm: &mut Assembler) {
    asm.load(Width::B8, R7, R9, KEPT_AT);
    asm.load(Width::B8, R1, R9, LATE_AT);
    asm.alu(Bits::B64, Alu::Or, R7, R1);
}

/// Counts an own tunnel for the taps that look for them, which then do not keep it.
fn skip_own(asm: &mut Assembler, taps: &[Tap<'_>]) {
    load_masks(asm);
    let mut others = u64::MAX;
    for tap in taps.iter().filter(|tap| tap.options.skips_own_tunnels) {
        others &= !(1 << tap.bit);
        let done = asm.label();
        tap.unless_in(asm, R7, done);
        count(asm, tap.judge().map, TapCounter::OwnTunnel, (R9, PACKETS_AT), done);
        asm.bind(done);
    }
    asm.push(Instruction::Wide { to: R2, value: others });
    for mask in [KEPT_AT, LATE_AT] {
        asm.load(Width::B8, R1, R9, mask);
        asm.alu(Bits::B64, Alu::And, R1, R2);
        asm.store(Width::B8, R9, mask, R1);
    }
}

/// What is the same for all clones.
#[derive(Debug, Clone, Copy)]
struct Clones {
    is_sent: bool,
    private: Private,
}

impl Clones {
    /// Takes what is needed from R9's memory: R7 becomes the taps that keep the packet, R8 those that
    /// judge it late, R9 both.
    fn begin(self, asm: &mut Assembler) {
        for (from, to) in [(PACKETS_AT, PACKETS), (BYTES_AT, BYTES)] {
            asm.load(Width::B8, R1, R9, from);
            asm.store(Width::B8, R10, to, R1);
        }
        asm.load(Width::B4, R1, R6, SKB_TC_INDEX);
        asm.store(Width::B8, R10, TC_INDEX, R1);
        asm.load(Width::B8, R7, R9, KEPT_AT);
        asm.load(Width::B8, R8, R9, LATE_AT);
        self.choose_way(asm);
        asm.copy(R9, R7);
        asm.alu(Bits::B64, Alu::Or, R9, R8);
    }

    /// Super-packets go where they are cut, others where they are encapsulated, if that is here.
    fn choose_way(self, asm: &mut Assembler) {
        let Private { entry, near } = self.private;
        let chosen = asm.label();
        if let Some(near) = near {
            asm.alu(Bits::B32, Alu::Move, R1, near.cast_signed());
            asm.store(Width::B8, R10, PRIVATE, R1);
            asm.store(Width::B8, R10, FINISHED, 0);
            asm.load(Width::B8, R1, R9, SUPER_AT);
            asm.jump_if(Bits::B64, Condition::Equal, R1, 0, chosen);
        }
        asm.alu(Bits::B32, Alu::Move, R1, entry.cast_signed());
        asm.store(Width::B8, R10, PRIVATE, R1);
        asm.store(Width::B8, R10, FINISHED, i32::from(TC_INDEX_FINISHED));
        asm.bind(chosen);
    }

    /// Sends a clone to a slot, and counts it there.
    fn send(self, asm: &mut Assembler, slot: u32) {
        assert!((1..=SLOTS_MAX).contains(&slot), "slot {slot}");
        let [counted, not_handed] = std::array::from_fn(|_| asm.label());
        asm.alu(Bits::B32, Alu::Move, R1, (slot << 1 | u32::from(self.is_sent)) as i32);
        asm.load(Width::B8, R2, R10, FINISHED);
        asm.alu(Bits::B32, Alu::Or, R1, R2);
        asm.store(Width::B4, R6, SKB_TC_INDEX, R1);
        asm.copy(R1, R6);
        asm.load(Width::B8, R2, R10, PRIVATE);
        asm.alu(Bits::B32, Alu::Move, R3, 0);
        asm.call(Helper::CLONE_REDIRECT);
        asm.store(Width::B8, R10, RESULT, R0);
        look_up(asm, MirrorMap::SlotCounters.map(), slot);
        asm.jump_if(Bits::B64, Condition::Equal, R0, 0, counted);
        asm.load(Width::B8, R1, R10, PACKETS);
        asm.load(Width::B8, R2, R10, RESULT);
        asm.jump_if(Bits::B64, Condition::BelowSigned, R2, 0, not_handed);
        add(asm, R0, SlotCounter::Handed as usize, R1);
        asm.jump(counted);
        asm.bind(not_handed);
        add(asm, R0, SlotCounter::NotHanded as usize, R1);
        asm.bind(counted);
    }

    /// Counts a packet as not handed to a slot.
    fn refuse(asm: &mut Assembler, slot: u32) {
        let counted = asm.label();
        look_up(asm, MirrorMap::SlotCounters.map(), slot);
        asm.jump_if(Bits::B64, Condition::Equal, R0, 0, counted);
        asm.load(Width::B8, R1, R10, PACKETS);
        add(asm, R0, SlotCounter::NotHanded as usize, R1);
        asm.bind(counted);
    }
}

/// A tap and its bit in the masks.
#[derive(Debug, Clone, Copy)]
struct Tap<'a> {
    bit: u32,
    options: &'a DispatcherTap<'a>,
}

impl<'a> Tap<'a> {
    fn judge(&self) -> Judge<'a> {
        let DispatcherTap { program, verdicts, tap, .. } = *self.options;
        Judge { program, verdicts, map: MirrorMap::Tap(tap).map() }
    }

    /// Appends the filter; whether the tap keeps the packet stands in memory afterwards.
    ///
    /// The filter is jumped to, and what skips it goes straight on: the kernel's verifier looks at that
    /// first, through all taps, and then at one filter after another. The other way round, it would have
    /// all branches of all filters open at once, and it takes 8,192.
    fn judged(&self, asm: &mut Assembler, frame: &RestoredFrame) -> Result<(), Error> {
        let [judged, keep, next] = std::array::from_fn(|_| asm.label());
        let judge = self.judge();
        if judge.constant().is_none() {
            asm.load(Width::B8, R1, R9, SUPER_AT);
            match self.options.scope {
                Some(Scope::WholeFrames) => {
                    asm.jump_if(Bits::B64, Condition::Equal, R1, 0, judged);
                }
                Some(Scope::Everything) => {
                    asm.jump_if(Bits::B64, Condition::NotEqual, R1, SUPER_JUMBO, judged);
                }
                None => {}
            }
            self.mark(asm, LATE_AT);
            asm.jump(next);
            asm.bind(judged);
        }
        if asm.is_used(judged) || judge.constant().is_some() {
            judge.emit(asm, frame, keep, next)?;
        }
        if asm.is_used(keep) {
            asm.bind(keep);
            self.mark(asm, KEPT_AT);
        }
        asm.bind(next);
        Ok(())
    }

    fn mark(&self, asm: &mut Assembler, mask: i16) {
        asm.push(Instruction::Wide { to: R2, value: 1 << self.bit });
        asm.load(Width::B8, R1, R9, mask);
        asm.alu(Bits::B64, Alu::Or, R1, R2);
        asm.store(Width::B8, R9, mask, R1);
    }

    /// Goes to `to` unless the tap is in a mask.
    fn unless_in(&self, asm: &mut Assembler, mask: Register, to: Label) {
        asm.copy(R1, mask);
        asm.alu(Bits::B64, Alu::ShiftRight, R1, self.bit as i32);
        asm.alu(Bits::B64, Alu::And, R1, 1);
        asm.jump_if(Bits::B64, Condition::Equal, R1, 0, to);
    }

    /// Appends what becomes of a packet that the tap has kept.
    fn cloned(&self, asm: &mut Assembler, clones: Clones) {
        let [late, limited, send, next] = std::array::from_fn(|_| asm.label());
        let map = self.judge().map;
        self.unless_in(asm, R9, next);
        if let Some(place) = self.options.bucket {
            let at = ceiling::At { packets: PACKETS, bytes: BYTES, free: BUCKET };
            ceiling::emit(asm, place, at, limited);
        }
        look_up(asm, map, 0);
        asm.jump_if(Bits::B64, Condition::Equal, R0, 0, send);
        self.unless_in(asm, R7, late);
        count_matched(asm, R10, PACKETS, BYTES);
        asm.jump(send);
        asm.bind(late);
        asm.load(Width::B8, R1, R10, PACKETS);
        add(asm, R0, TapCounter::Late as usize, R1);
        for &slot in &self.options.late_slots {
            clones.send(asm, slot);
        }
        if self.options.late_slots.is_empty() {
            for &slot in &self.options.slots {
                Clones::refuse(asm, slot);
            }
        }
        asm.jump(next);
        asm.bind(send);
        for &slot in &self.options.slots {
            clones.send(asm, slot);
        }
        if asm.is_used(limited) {
            asm.jump(next);
            asm.bind(limited);
            count(asm, map, TapCounter::RateLimited, (R10, PACKETS), next);
        }
        asm.bind(next);
    }
}
