//! The checksum of UDP over IPv6, where it must be there (RFC 8200 section 8.1): over all that goes in.
//!
//! The sum is made of words as they stand in memory, whichever way round the host has them: RFC 1071
//! section 2 (B).

use super::{Program, headers, place};
use crate::mirror::layout::{Shape, member};
use crate::shorthand::{Shorthand, skb};
use Register::{R0, R1, R2, R3, R4, R5, R6, R9, R10};
use filter::ebpf::{Alu, Assembler, Condition, Helper, Label, Register, Width};

/// Bytes that one call sums: what older kernels take.
const STEP: i32 = 512;
/// Steps that are made at most: longer packets have no room for headers either.
const STEPS_MAX: i32 = 32;
/// All that a packet's offset may be for the verifier.
const OFFSET_MASK: i32 = 0x7fff;

/// Appends the sum of the packet and of the tag beside it, to [`place::SUM`].
pub(super) fn emit(program: &Program, asm: &mut Assembler) {
    let (steps, rest) = (asm.label(), asm.label());
    program.restore(asm);
    asm.copy(R1, R6);
    asm.load(Width::B4, R2, R6, skb::LEN);
    asm.call(Helper::SKB_PULL_DATA);
    asm.if64(R0, Condition::NotEqual, 0, program.dropped.send_error);
    asm.store(Width::B8, R10, place::ENTRY, R9);
    asm.load(Width::B4, R1, R10, place::TAG);
    asm.store(Width::B8, R10, place::SUM, R1);
    asm.store(Width::B4, R10, place::SUMMED, 0);
    asm.store(Width::B8, R10, place::STEPS, 0);

    asm.bind(steps);
    asm.load(Width::B8, R1, R10, place::STEPS);
    asm.if64(R1, Condition::AtLeast, STEPS_MAX, program.hand_up);
    asm.do64(Alu::Add, R1, 1);
    asm.store(Width::B8, R10, place::STEPS, R1);
    asm.load(Width::B4, R1, R6, skb::LEN);
    asm.load(Width::B4, R2, R10, place::SUMMED);
    asm.do64(Alu::Add, R2, STEP);
    asm.if64(R2, Condition::Above, R1, rest);
    step(program, asm, STEP);
    asm.jump(steps);

    asm.bind(rest);
    let mut bytes = STEP / 2;
    while bytes >= 4 {
        let next = asm.label();
        left(asm, bytes, next);
        step(program, asm, bytes);
        asm.bind(next);
        bytes /= 2;
    }
    for (bytes, width) in [(2, Width::B2), (1, Width::B1)] {
        let next = asm.label();
        left(asm, bytes, next);
        bytes_at(program, asm, bytes);
        asm.load(width, R3, R3, 0);
        if width == Width::B1 {
            // The first byte of a word whose second one is 0.
            asm.do64(Alu::ShiftLeft, R3, 8);
            asm.big_endian(Width::B2, R3);
        }
        asm.load(Width::B8, R1, R10, place::SUM);
        asm.do64(Alu::Add, R1, R3);
        asm.store(Width::B8, R10, place::SUM, R1);
        asm.load(Width::B4, R1, R10, place::SUMMED);
        asm.do64(Alu::Add, R1, bytes);
        asm.store(Width::B4, R10, place::SUMMED, R1);
        asm.bind(next);
    }
    asm.load(Width::B8, R9, R10, place::ENTRY);
}

/// Goes to `next` unless a piece of so many bytes is left: the length tells by its bits.
fn left(asm: &mut Assembler, bytes: i32, next: Label) {
    let is_left = asm.label();
    asm.load(Width::B4, R1, R6, skb::LEN);
    asm.if32(R1, Condition::SharesBit, bytes, is_left);
    asm.jump(next);
    asm.bind(is_left);
}

/// Puts the address of the next bytes into R3.
fn bytes_at(program: &Program, asm: &mut Assembler, bytes: i32) {
    asm.load(Width::B4, R9, R10, place::SUMMED);
    asm.do64(Alu::And, R9, OFFSET_MASK);
    asm.load(Width::B4, R3, R6, skb::DATA);
    asm.load(Width::B4, R2, R6, skb::DATA_END);
    asm.do64(Alu::Add, R3, R9);
    asm.copy(R1, R3);
    asm.do64(Alu::Add, R1, bytes);
    asm.if64(R1, Condition::Above, R2, program.dropped.send_error);
}

/// Sums the next bytes.
fn step(program: &Program, asm: &mut Assembler, bytes: i32) {
    bytes_at(program, asm, bytes);
    asm.copy(R1, 0);
    asm.copy(R2, 0);
    asm.copy(R4, bytes);
    asm.load(Width::B8, R5, R10, place::SUM);
    asm.call(Helper::CSUM_DIFF);
    asm.store(Width::B8, R10, place::SUM, R0);
    asm.do64(Alu::Add, R9, bytes);
    asm.store(Width::B4, R10, place::SUMMED, R9);
}

/// Writes the checksum: the sum, the tunnel's header, and what UDP sums beside.
pub(super) fn checksum(asm: &mut Assembler, shape: Shape) {
    let at = place::HEADER + 14 + shape.ip_len() as i16;
    let nonzero = asm.label();
    asm.copy(R1, 0);
    asm.copy(R2, 0);
    asm.stack_address(R3, at + 8);
    asm.copy(R4, shape.tunnel_len() as i32 - 8);
    asm.load(Width::B8, R5, R10, place::SUM);
    asm.call(Helper::CSUM_DIFF);
    // Below 2^33, and numbers in network order as they stand in memory.
    asm.copy(R1, R0);
    asm.do64(Alu::ShiftRight, R1, 32);
    asm.do32(Alu::Move, R0, R0);
    asm.do64(Alu::Add, R0, R1);
    asm.load(Width::B4, R2, R9, member::UDP_SUM as i16);
    headers::fold(asm, R2, R1);
    asm.big_endian(Width::B2, R2);
    asm.do64(Alu::Add, R0, R2);
    asm.load(Width::B2, R1, R10, at);
    asm.do64(Alu::Add, R0, R1);
    asm.load(Width::B2, R1, R10, at + 4);
    asm.do64(Alu::Add, R0, R1);
    asm.do64(Alu::Add, R0, R1);
    headers::fold(asm, R0, R1);
    headers::fold(asm, R0, R1);
    asm.do64(Alu::Xor, R0, 0xffff);
    asm.if64(R0, Condition::NotEqual, 0, nonzero);
    asm.copy(R0, 0xffff);
    asm.bind(nonzero);
    asm.store(Width::B2, R10, at + 6, R0);
}
