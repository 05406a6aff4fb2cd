//! From the packet to its slot, length and hash; or on to where it is cut and completed.

use super::{EncapOptions, LateSlots, Program, place};
use crate::mirror::judge::late_judge;
use crate::mirror::layout::{MirrorMap, SlotCounter, TC_INDEX_FINISHED, TC_INDEX_SENT};
use crate::shorthand::{Shorthand, skb};
use Register::{R0, R1, R2, R3, R4, R5, R6, R7, R9, R10};
use filter::ebpf::{Alu, Assembler, Condition, Error, Helper, Label, Register, Width};

/// Two bytes, in the flags of `bpf_l4_csum_replace`.
const TWO_BYTES: i32 = 2;

pub(super) fn emit(
    program: &Program,
    asm: &mut Assembler,
    options: &EncapOptions<'_>,
) -> Result<(), Error> {
    asm.load(Width::B4, R1, R6, skb::TC_INDEX);
    // What is not ours goes nowhere.
    asm.if32(R1, Condition::Equal, 0, program.end);
    asm.if32(R1, Condition::Equal, i32::from(TC_INDEX_SENT), program.end);
    asm.copy(R2, R1);
    asm.do32(Alu::And, R2, 1);
    asm.store(Width::B4, R10, place::WAY, R2);
    asm.copy(R2, R1);
    asm.do32(Alu::And, R2, i32::from(TC_INDEX_FINISHED) - 1);
    asm.do32(Alu::ShiftRight, R2, 1);
    asm.store(Width::B4, R10, place::SLOT, R2);
    first_bytes(asm, R9, program.end);
    asm.store(Width::B2, R10, place::FIRST, R9);
    let unfinished = asm.label();
    if options.finish_by.is_some() {
        let finished = asm.label();
        asm.load(Width::B4, R1, R6, skb::TC_INDEX);
        asm.if32(R1, Condition::SharesBit, i32::from(TC_INDEX_FINISHED), finished);
        asm.load(Width::B4, R2, R6, skb::GSO_SIZE);
        asm.if32(R2, Condition::NotEqual, 0, unfinished);
        look_whether_complete(asm, unfinished);
        asm.bind(finished);
    }

    program.look_up(asm, MirrorMap::SlotCounters, place::SLOT, program.end);
    asm.count(R0, SlotCounter::Arrived as usize, 1);
    judge(program, asm, options.late)?;
    program.look_up(asm, MirrorMap::Slots, place::SLOT, program.end);
    asm.copy(R7, R0);
    asm.store(Width::B4, R10, place::IS_CUT, 0);
    asm.store(Width::B4, R10, place::IS_SLICED, 0);
    length(asm);
    let done = asm.label();
    let rare = program.hash.emit_hot(asm, done);
    if let Some(interface) = options.finish_by {
        asm.bind(unfinished);
        finish(asm, interface);
    }
    asm.bind(rare);
    program.restore(asm);
    let beyond = asm.label();
    program.hash.emit_rare(asm, done, beyond);
    super::choice::without_hash(program, asm, beyond);
    asm.bind(done);
    asm.store(Width::B4, R10, place::HASH, R0);
    Ok(())
}

/// Goes on with what no late filter is for, or one keeps.
fn judge(program: &Program, asm: &mut Assembler, late: &[LateSlots<'_>]) -> Result<(), Error> {
    if late.is_empty() {
        return Ok(());
    }
    let kept = asm.label();
    let judges: Vec<Label> = late.iter().map(|_| asm.label()).collect();
    asm.load(Width::B4, R1, R10, place::SLOT);
    for (of, judge) in late.iter().zip(&judges) {
        for slot in &of.slots {
            asm.if32(R1, Condition::Equal, slot.cast_signed(), *judge);
        }
    }
    asm.jump(kept);
    for (of, judge) in late.iter().zip(judges).filter(|(of, _)| !of.slots.is_empty()) {
        asm.bind(judge);
        program.restore(asm);
        late_judge(asm, &of.tap, kept, program.end)?;
    }
    asm.bind(kept);
    Ok(())
}

/// Sends the packet to where it is cut and completed; the program ends, and meets it again.
fn finish(asm: &mut Assembler, interface: u32) {
    asm.load(Width::B4, R1, R6, skb::TC_INDEX);
    asm.do32(Alu::Or, R1, i32::from(TC_INDEX_FINISHED));
    asm.store(Width::B4, R6, skb::TC_INDEX, R1);
    asm.copy(R1, interface.cast_signed());
    asm.copy(R2, 0);
    asm.call(Helper::REDIRECT);
    asm.exit();
}

/// Goes on if the packet's checksum is complete; changes the frame's first two bytes, which are kept in R9.
fn look_whether_complete(asm: &mut Assembler, unfinished: Label) {
    asm.copy(R1, R6);
    asm.copy(R2, 0);
    asm.copy(R3, 0);
    asm.copy(R4, 1);
    asm.copy(R5, TWO_BYTES);
    asm.call(Helper::L4_CSUM_REPLACE);
    first_bytes(asm, R0, unfinished);
    asm.if32(R0, Condition::Equal, R9, unfinished);
}

/// Reads the frame's first two bytes.
fn first_bytes(asm: &mut Assembler, to: Register, missing: Label) {
    asm.load(Width::B4, R1, R6, skb::DATA);
    asm.load(Width::B4, R2, R6, skb::DATA_END);
    asm.copy(R3, R1);
    asm.do64(Alu::Add, R3, 2);
    asm.if64(R3, Condition::Above, R2, missing);
    asm.load(Width::B2, to, R1, 0);
}

/// Notes the tag beside the frame, and the length with it.
fn length(asm: &mut Assembler) {
    let (untagged, known) = (asm.label(), asm.label());
    asm.load(Width::B4, R1, R6, skb::LEN);
    asm.load(Width::B4, R2, R6, skb::VLAN_PRESENT);
    asm.if32(R2, Condition::Equal, 0, untagged);
    asm.do32(Alu::Add, R1, 4);
    asm.load(Width::B4, R2, R6, skb::VLAN_PROTO);
    asm.store(Width::B2, R10, place::TAG, R2);
    asm.load(Width::B4, R2, R6, skb::VLAN_TCI);
    asm.big_endian(Width::B2, R2);
    asm.store(Width::B2, R10, place::TAG + 2, R2);
    asm.jump(known);
    asm.bind(untagged);
    asm.store(Width::B4, R10, place::TAG, 0);
    asm.bind(known);
    asm.store(Width::B4, R10, place::LENGTH, R1);
}
