//! From slot and hash to the member.

use super::{Program, place};
use crate::mirror::layout::{
    MemberCounter, MirrorMap, NO_GROUP, SLOT_UNHEALTHY, WayState, member, slot,
};
use crate::shorthand::Shorthand;
use Register::{R0, R1, R7, R8, R9, R10};
use filter::ebpf::{Alu, Assembler, Condition, Label, Register, Width};
use wire::flow::SLOTS;

/// Appends the choice; the member's shape is then in R1.
pub(super) fn emit(program: &Program, asm: &mut Assembler) {
    let (single, chosen) = (asm.label(), asm.label());
    asm.load(Width::B4, R1, R7, slot::GROUP as i16);
    asm.if32(R1, Condition::Equal, NO_GROUP.cast_signed(), single);
    asm.store(Width::B4, R10, place::KEY, R1);
    program.look_up(asm, MirrorMap::Groups, place::KEY, single);
    asm.load(Width::B4, R1, R10, place::HASH);
    asm.do32(Alu::And, R1, SLOTS as i32 - 1);
    asm.do32(Alu::ShiftLeft, R1, 1);
    asm.do64(Alu::Add, R0, R1);
    asm.load(Width::B2, R1, R0, 0);
    asm.jump(chosen);
    asm.bind(single);
    asm.load(Width::B4, R1, R7, slot::MEMBER as i16);
    asm.bind(chosen);
    asm.store(Width::B4, R10, place::MEMBER, R1);
    program.look_up(asm, MirrorMap::MemberCounters, place::MEMBER, program.end);
    asm.copy(R8, R0);
    asm.count(R8, MemberCounter::Matched as usize, 1);
    asm.load(Width::B4, R1, R7, slot::FLAGS as i16);
    asm.do32(Alu::And, R1, SLOT_UNHEALTHY as i32);
    asm.if32(R1, Condition::NotEqual, 0, program.dropped.unhealthy);
    program.look_up(asm, MirrorMap::Members, place::MEMBER, program.dropped.unreachable);
    asm.copy(R9, R0);
    asm.load(Width::B4, R1, R9, member::STATE as i16);
    asm.if32(R1, Condition::Equal, WayState::HandUp as i32, program.hand_up);
    asm.if32(R1, Condition::NotEqual, WayState::Known as i32, program.dropped.unreachable);
    asm.load(Width::B4, R1, R9, member::SHAPE as i16);
}

/// Hands up what has no hash here: user space knows it, and so the member.
pub(super) fn without_hash(program: &Program, asm: &mut Assembler, beyond: Label) {
    asm.bind(beyond);
    asm.store(Width::B4, R10, place::HASH, 0);
    asm.load(Width::B4, R1, R7, slot::MEMBER as i16);
    asm.store(Width::B4, R10, place::MEMBER, R1);
    program.look_up(asm, MirrorMap::MemberCounters, place::MEMBER, program.end);
    asm.copy(R8, R0);
    asm.count(R8, MemberCounter::Matched as usize, 1);
    asm.jump(program.hand_up);
}
