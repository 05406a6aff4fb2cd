//! The way to user space: a prefix in front of the frame, or none where there is no room.

use super::{Program, headers, place, send};
use crate::handup::{ETHERTYPE, PREFIX_LEN, field};
use crate::mirror::layout::{MemberCounter, slot};
use crate::shorthand::Shorthand;
use Register::{R0, R1, R2, R7, R8, R10};
use filter::ebpf::{Alu, Assembler, Condition, Register, Width};

pub(super) fn emit(program: &Program, asm: &mut Assembler) {
    let redirect = asm.label();
    // No room in front. What has been sliced is not whole any more, and is not to be taken for it.
    asm.bind(program.failed);
    asm.load(Width::B4, R1, R10, place::IS_SLICED);
    asm.if32(R1, Condition::NotEqual, 0, program.dropped.send_error);
    program.restore(asm);
    asm.jump(redirect);

    asm.bind(program.hand_up);
    headers::in_front(program, asm, PREFIX_LEN as i32, place::PREFIX + PREFIX_LEN as i16);
    let at = |field: usize| place::PREFIX + field as i16;
    for word in (0..PREFIX_LEN).step_by(8) {
        asm.store(Width::B8, R10, at(word), 0);
    }
    asm.load(Width::B4, R1, R10, place::SLOT);
    asm.store(Width::B2, R10, at(field::SLOT), R1);
    asm.load(Width::B4, R1, R10, place::WAY);
    asm.do32(Alu::Add, R1, 1);
    asm.store(Width::B1, R10, at(field::WAY), R1);
    for (from, to) in [
        (place::LENGTH, field::ORIGLEN),
        (place::MEMBER, field::NUMBER),
        (place::HASH, field::HASH),
    ] {
        asm.load(Width::B4, R1, R10, from);
        asm.store(Width::B4, R10, at(to), R1);
    }
    asm.copy(R1, i32::from(ETHERTYPE.to_be()));
    asm.store(Width::B2, R10, at(field::ETHERTYPE), R1);
    program.time(asm);
    asm.store(Width::B8, R10, at(field::TIME), R0);
    headers::store(program, asm, place::PREFIX, PREFIX_LEN as i32);

    asm.bind(redirect);
    asm.load(Width::B4, R2, R7, slot::HAND_UP as i16);
    asm.if32(R2, Condition::Equal, 0, program.dropped.hand_up_lost);
    send::clone(asm);
    asm.if64(R0, Condition::NotEqual, 0, program.dropped.hand_up_lost);
    asm.count(R8, MemberCounter::HandedUp as usize, 1);
    asm.jump(program.end);
}
