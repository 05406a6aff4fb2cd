//! The filter of a tap as a piece of a program: it counts what it rejects, and which rule decided.
//!
//! The frame is a [`RestoredFrame`] in memory, so that it is read once for all taps. A rule's exit leaves
//! its counter's place in memory, where the kernel's verifier loses sight of it: it then looks at the
//! counting once for all rules.

use super::layout::{MirrorMap, SKB_TC_INDEX, SlotCounter, TC_INDEX_FINISHED, TapCounter};
use Register::{R0, R1, R2, R3, R6, R9, R10};
use filter::ebpf::restored::{BYTES_AT, FREE_AT, PACKETS_AT};
use filter::ebpf::{
    Alu, Assembler, Bits, COUNTERS_PER_ELEMENT, Condition, CounterLayout, Error, Exits, Helper,
    Label, MapRef, Operand, Register, RestoredFrame, Verdicts, Width, constant, emit_restored,
};
use filter::{Action, Program};
use std::collections::BTreeMap;

/// Where keys of maps stand, from R10.
pub(super) const KEY_AT: i16 = -8;
/// Where a rule leaves the place of its counter, from R9.
const RULE_AT: i16 = FREE_AT;

/// A filter and where it counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge<'a> {
    pub program: &'a Program,
    pub verdicts: Verdicts<'a>,
    pub map: MapRef,
}

impl Judge<'_> {
    /// Bytes of a frame that it looks at first.
    pub(super) fn bytes_needed(&self) -> Result<u32, Error> {
        RestoredFrame::bytes_needed(self.program.instructions())
    }

    /// The verdict, if it is the same for all packets.
    pub(super) fn constant(&self) -> Option<u32> {
        constant(self.program.instructions())
    }

    /// Appends it. The packet is in R6, the frame in R9's memory; both stay. What is kept goes to
    /// `keep`, uncounted but for the rule; what is rejected is counted and goes to `reject`.
    pub(super) fn emit(
        &self,
        asm: &mut Assembler,
        frame: &RestoredFrame,
        keep: Label,
        reject: Label,
    ) -> Result<(), Error> {
        let mut exits = RuleExits::new(asm, *self, keep);
        match self.constant() {
            Some(verdict) => {
                let to = exits.constant(asm, 0, verdict)?;
                asm.jump(to);
            }
            None => emit_restored(asm, self.program.instructions(), frame, &mut exits)?,
        }
        exits.finish(asm, reject);
        Ok(())
    }
}

/// The exits of a filter, made when something first leads there.
struct RuleExits<'a> {
    judge: Judge<'a>,
    rules: BTreeMap<u32, Label>,
    counters: CounterLayout,
    keep: Label,
    filtered: Label,
}

impl<'a> RuleExits<'a> {
    fn new(asm: &mut Assembler, judge: Judge<'a>, keep: Label) -> RuleExits<'a> {
        let rules = match judge.verdicts {
            Verdicts::Expression => 0,
            Verdicts::Rules(rules) => rules.as_slice().len(),
        };
        let (counters, filtered) = (CounterLayout { rules }, asm.label());
        RuleExits { judge, rules: BTreeMap::new(), counters, keep, filtered }
    }

    fn includes(&self, rule: u32) -> bool {
        match self.judge.verdicts {
            Verdicts::Expression => false,
            Verdicts::Rules(rules) => rules.action(rule) == Some(Action::Include),
        }
    }

    fn finish(self, asm: &mut Assembler, reject: Label) {
        let mut elements: BTreeMap<(usize, bool), Label> = BTreeMap::new();
        for (&rule, &label) in &self.rules {
            let (element, place) = self.counters.rule(rule as usize);
            let to = elements.entry((element, self.includes(rule)));
            let to = *to.or_insert_with(|| asm.label());
            asm.bind(label);
            asm.store(Width::B8, R9, RULE_AT, place as i32);
            asm.jump(to);
        }
        for ((element, includes), label) in elements {
            let end = if includes { self.keep } else { self.filtered };
            asm.bind(label);
            look_up(asm, self.judge.map, element as u32);
            asm.jump_if(Bits::B64, Condition::Equal, R0, 0, end);
            asm.load(Width::B8, R1, R9, RULE_AT);
            asm.jump_if(Bits::B64, Condition::AtLeast, R1, COUNTERS_PER_ELEMENT as i32, end);
            asm.alu(Bits::B64, Alu::ShiftLeft, R1, 3);
            asm.copy(R2, R0);
            asm.alu(Bits::B64, Alu::Add, R2, R1);
            asm.load(Width::B8, R1, R9, PACKETS_AT);
            add(asm, R2, 0, R1);
            if includes || element > 0 {
                asm.jump(end);
                continue;
            }
            add(asm, R0, TapCounter::Filtered as usize, R1);
            asm.jump(reject);
        }
        if asm.is_used(self.filtered) {
            asm.bind(self.filtered);
            count(asm, self.judge.map, TapCounter::Filtered, (R9, PACKETS_AT), reject);
            asm.jump(reject);
        }
    }
}

impl Exits for RuleExits<'_> {
    fn constant(&mut self, asm: &mut Assembler, _at: usize, verdict: u32) -> Result<Label, Error> {
        let rules = match self.judge.verdicts {
            _ if verdict == 0 => return Ok(self.filtered),
            Verdicts::Expression => return Ok(self.keep),
            Verdicts::Rules(_) => self.counters.rules,
        };
        if verdict as usize > rules {
            return Err(Error::NoSuchRule { rule: verdict, rules });
        }
        Ok(*self.rules.entry(verdict).or_insert_with(|| asm.label()))
    }

    fn in_a(&mut self, _asm: &mut Assembler, at: usize) -> Result<(Label, Label), Error> {
        match self.judge.verdicts {
            Verdicts::Expression => Ok((self.filtered, self.keep)),
            Verdicts::Rules(_) => Err(Error::ReturnsA { at }),
        }
    }
}

/// A tap whose filter judges packets that have been cut and completed.
#[derive(Debug, Clone, Copy)]
pub struct LateTap<'a> {
    /// The program for received packets.
    pub received: &'a Program,
    /// The program for sent packets.
    pub sent: &'a Program,
    /// What their verdicts mean.
    pub verdicts: Verdicts<'a>,
    /// The tap's number in [`MirrorMap::Tap`].
    pub tap: usize,
    /// The tap's first slot: what arrives for it is counted in the tap's map, and that of the other
    /// slots, which are the same packets again, is not.
    pub first_slot: u32,
}

/// Appends a late tap's filter. The packet is in R6, cut and complete, and its `tc_index` tells slot and
/// direction; a tag may still stand beside it. Goes to `keep` or to `reject`, having counted
/// [`TapCounter`], rules, and of those rejected [`SlotCounter::Filtered`]. Loses all registers but R6,
/// the word at R10 - 8, and [`MirrorMap::Scratch`] up to
/// [`SCRATCH_FREE`](super::layout::SCRATCH_FREE).
///
/// # Errors
/// [`Error::JumpsBack`], [`Error::ReturnsA`], [`Error::NoSuchRule`].
pub fn late_judge(
    asm: &mut Assembler,
    late: &LateTap<'_>,
    keep: Label,
    reject: Label,
) -> Result<(), Error> {
    let map = MirrorMap::Tap(late.tap).map();
    let judge = |program| Judge { program, verdicts: late.verdicts, map };
    let (received, sent) = (judge(late.received), judge(late.sent));
    let (matched, filtered) = (asm.label(), asm.label());

    look_up(asm, MirrorMap::Scratch.map(), 0);
    asm.jump_if(Bits::B64, Condition::Equal, R0, 0, reject);
    asm.copy(R9, R0);
    let frame = RestoredFrame::read(asm, received.bytes_needed()?.max(sent.bytes_needed()?));
    let counted = asm.label();
    load_slot(asm);
    asm.jump_if(Bits::B32, Condition::Equal, R1, late.first_slot as i32, counted);
    asm.store(Width::B8, R9, PACKETS_AT, 0);
    asm.store(Width::B8, R9, BYTES_AT, 0);
    asm.bind(counted);
    if late.received == late.sent {
        received.emit(asm, &frame, matched, filtered)?;
    } else {
        let outgoing = asm.label();
        asm.load(Width::B4, R1, R6, SKB_TC_INDEX);
        asm.jump_if(Bits::B32, Condition::SharesBit, R1, 1, outgoing);
        received.emit(asm, &frame, matched, filtered)?;
        asm.bind(outgoing);
        sent.emit(asm, &frame, matched, filtered)?;
    }
    if asm.is_used(matched) {
        asm.bind(matched);
        look_up(asm, map, 0);
        asm.jump_if(Bits::B64, Condition::Equal, R0, 0, keep);
        count_matched(asm, R9, PACKETS_AT, BYTES_AT);
        asm.jump(keep);
    }
    if asm.is_used(filtered) {
        asm.bind(filtered);
        load_slot(asm);
        asm.store(Width::B4, R10, KEY_AT, R1);
        look_up_key(asm, MirrorMap::SlotCounters.map());
        asm.jump_if(Bits::B64, Condition::Equal, R0, 0, reject);
        add(asm, R0, SlotCounter::Filtered as usize, 1);
        asm.jump(reject);
    }
    frame.finish(asm);
    Ok(())
}

/// Loads the clone's slot into R1.
fn load_slot(asm: &mut Assembler) {
    asm.load(Width::B4, R1, R6, SKB_TC_INDEX);
    asm.alu(Bits::B32, Alu::And, R1, i32::from(TC_INDEX_FINISHED) - 1);
    asm.alu(Bits::B32, Alu::ShiftRight, R1, 1);
}

/// Counts a packet as matched in R0, element 0 of a tap's map.
pub(super) fn count_matched(asm: &mut Assembler, base: Register, packets_at: i16, bytes_at: i16) {
    asm.load(Width::B8, R1, base, packets_at);
    add(asm, R0, TapCounter::Matched as usize, R1);
    asm.load(Width::B8, R1, base, bytes_at);
    add(asm, R0, TapCounter::MatchedBytes as usize, R1);
}

/// Adds the wire packets that stand at a place to a counter of a tap; without its map goes to `lost`.
pub(super) fn count(
    asm: &mut Assembler,
    map: MapRef,
    counter: TapCounter,
    packets: (Register, i16),
    lost: Label,
) {
    look_up(asm, map, 0);
    asm.jump_if(Bits::B64, Condition::Equal, R0, 0, lost);
    asm.load(Width::B8, R1, packets.0, packets.1);
    add(asm, R0, counter as usize, R1);
}

/// Looks a place of an array up; R0 is its value, or null.
pub(super) fn look_up(asm: &mut Assembler, map: MapRef, place: u32) {
    asm.store(Width::B4, R10, KEY_AT, place as i32);
    look_up_key(asm, map);
}

/// Looks up the key at [`KEY_AT`].
pub(super) fn look_up_key(asm: &mut Assembler, map: MapRef) {
    asm.map_address(R1, map);
    asm.copy(R2, R10);
    asm.alu(Bits::B64, Alu::Add, R2, i32::from(KEY_AT));
    asm.call(Helper::MAP_LOOKUP);
}

/// `base[place] += by`; loses R3.
pub(super) fn add(asm: &mut Assembler, base: Register, place: usize, by: impl Into<Operand>) {
    let at = (place * 8) as i16; // below 4096
    asm.load(Width::B8, R3, base, at);
    asm.alu(Bits::B64, Alu::Add, R3, by);
    asm.store(Width::B8, base, at, R3);
}
