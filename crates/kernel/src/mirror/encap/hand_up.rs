//! The way to user space: a record of the target's ring, a prefix and the whole frame.
//!
//! The length of a record must stand in the program, so there is code for each of some lengths.

use super::{Program, place};
use crate::handup::{ETHERTYPE, PREFIX_LEN, field};
use crate::mirror::layout::{MemberCounter, MirrorMap, RECORD_BYTES};
use crate::shorthand::{Shorthand, skb};
use Register::{R0, R1, R2, R3, R4, R6, R8, R9, R10};
use filter::ebpf::{Alu, Assembler, Condition, Helper, Label, Register, Width};

/// Bytes of the MAC addresses, behind which a tag goes.
const MACS_LEN: i32 = 12;
const TAG_LEN: i32 = 4;

pub(super) fn emit(program: &Program, asm: &mut Assembler) {
    // No room in front. What has been sliced is not whole any more, and is not to be taken for it.
    asm.bind(program.failed);
    asm.load(Width::B4, R1, R10, place::IS_SLICED);
    asm.if32(R1, Condition::NotEqual, 0, program.dropped.send_error);

    asm.bind(program.hand_up);
    program.restore(asm);
    prefix(program, asm);
    asm.load(Width::B4, R1, R10, place::SLOT);
    asm.do32(Alu::ShiftRight, R1, 1);
    asm.store(Width::B4, R10, place::KEY, R1);
    program.look_up(asm, MirrorMap::HandUp, place::KEY, program.dropped.hand_up_lost);
    asm.copy(R9, R0);

    let (written, failed) = (asm.label(), asm.label());
    for bytes in RECORD_BYTES {
        let larger = asm.label();
        asm.load(Width::B4, R1, R10, place::KEPT);
        asm.if64(R1, Condition::Above, (bytes - PREFIX_LEN) as i32, larger);
        asm.copy(R1, R9);
        asm.copy(R2, bytes as i32);
        asm.copy(R3, 0);
        asm.call(Helper::RINGBUF_RESERVE);
        asm.if64(R0, Condition::Equal, 0, program.dropped.hand_up_lost);
        asm.copy(R9, R0);
        record(asm, bytes, written, failed);
        asm.bind(larger);
    }
    asm.jump(program.dropped.send_error);

    asm.bind(written);
    finish(asm, Helper::RINGBUF_SUBMIT);
    asm.count(R8, MemberCounter::HandedUp as usize, 1);
    asm.jump(program.end);
    asm.bind(failed);
    finish(asm, Helper::RINGBUF_DISCARD);
    asm.jump(program.dropped.send_error);
}

/// Makes the prefix on the stack, and notes how many bytes follow it.
fn prefix(program: &Program, asm: &mut Assembler) {
    let at = |field: usize| place::PREFIX + field as i16;
    for word in (0..PREFIX_LEN).step_by(8) {
        asm.store(Width::B8, R10, at(word), 0);
    }
    asm.load(Width::B4, R1, R10, place::SLOT);
    asm.store(Width::B2, R10, at(field::SLOT), R1);
    asm.load(Width::B4, R1, R10, place::WAY);
    asm.do32(Alu::Add, R1, 1);
    asm.store(Width::B1, R10, at(field::WAY), R1);
    asm.load(Width::B4, R1, R10, place::LENGTH);
    asm.store(Width::B4, R10, at(field::ORIGLEN), R1);
    asm.load(Width::B4, R1, R10, place::HASH);
    asm.store(Width::B4, R10, at(field::HASH), R1);
    asm.copy(R1, i32::from(ETHERTYPE.to_be()));
    asm.store(Width::B2, R10, at(field::ETHERTYPE), R1);
    program.time(asm);
    asm.store(Width::B8, R10, at(field::TIME), R0);

    let untagged = asm.label();
    asm.load(Width::B4, R1, R6, skb::LEN);
    asm.load(Width::B4, R2, R10, place::TAG);
    asm.if32(R2, Condition::Equal, 0, untagged);
    asm.do32(Alu::Add, R1, TAG_LEN);
    asm.bind(untagged);
    asm.store(Width::B4, R10, place::KEPT, R1);
    asm.store(Width::B4, R10, at(field::NUMBER), R1);
}

/// Writes the record in R9: the prefix, and the frame with its tag in band.
fn record(asm: &mut Assembler, bytes: usize, written: Label, failed: Label) {
    let untagged = asm.label();
    for word in (0..PREFIX_LEN as i16).step_by(8) {
        asm.load(Width::B8, R1, R10, place::PREFIX + word);
        asm.store(Width::B8, R9, word, R1);
    }
    let frame = PREFIX_LEN as i32;
    asm.load(Width::B4, R1, R10, place::TAG);
    asm.if32(R1, Condition::Equal, 0, untagged);
    asm.store(Width::B4, R9, (frame + MACS_LEN) as i16, R1);
    asm.copy(R4, MACS_LEN);
    load(asm, 0, frame, failed);
    let behind = MACS_LEN + TAG_LEN;
    asm.load(Width::B4, R4, R10, place::KEPT);
    asm.do64(Alu::Sub, R4, behind);
    bound(asm, bytes as i32 - frame - behind, failed);
    load(asm, MACS_LEN, frame + behind, failed);
    asm.jump(written);

    asm.bind(untagged);
    asm.load(Width::B4, R4, R10, place::KEPT);
    bound(asm, bytes as i32 - frame, failed);
    load(asm, 0, frame, failed);
    asm.jump(written);
}

/// Shows the verifier that R4 is 1 at least and this at most.
fn bound(asm: &mut Assembler, most: i32, failed: Label) {
    asm.if64(R4, Condition::BelowSigned, 1, failed);
    asm.if64(R4, Condition::AboveSigned, most, failed);
}

/// Copies R4 bytes of the packet to an offset in the record.
fn load(asm: &mut Assembler, from: i32, to: i32, failed: Label) {
    asm.copy(R1, R6);
    asm.copy(R2, from);
    asm.copy(R3, R9);
    asm.do64(Alu::Add, R3, to);
    asm.call(Helper::SKB_LOAD_BYTES);
    asm.if64(R0, Condition::NotEqual, 0, failed);
}

fn finish(asm: &mut Assembler, helper: Helper) {
    asm.copy(R1, R9);
    asm.copy(R2, 0);
    asm.call(helper);
}
