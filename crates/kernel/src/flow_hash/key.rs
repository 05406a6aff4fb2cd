//! From what the walk found to the hash: the words of the key, sorted and mixed.

use super::{FlowHash, SEED, WORD_MULTIPLIER, finish, mix, place};
use crate::shorthand::Shorthand;
use Register::{R0, R1, R2, R3, R4, R5, R7, R8, R9, R10};
use filter::ebpf::{Alu, Assembler, Condition, Label, Register, Width};

/// Appends the words of an IPv4 packet: its header is at [`place::HEADER`], the ports, source first,
/// at [`place::PORTS`].
pub(super) fn v4(hash: &FlowHash, asm: &mut Assembler, done: Label) {
    let ordered = asm.label();
    for (register, address, port) in [(R2, 12, 4), (R3, 16, 0)] {
        asm.load_be(Width::B4, register, R10, hash.place(place::HEADER + address));
        asm.load(Width::B4, R4, R10, hash.place(place::PORTS + port));
        asm.do64(Alu::ShiftLeft, register, 16);
        asm.do64(Alu::Or, register, R4);
    }
    asm.if64(R2, Condition::AtMost, R3, ordered);
    swap(asm, R2, R3);
    asm.bind(ordered);
    asm.load(Width::B4, R4, R10, hash.place(place::PROTOCOL));
    asm.do64(Alu::Move, R5, 4);
    asm.do64(Alu::ShiftLeft, R5, 32);
    asm.do64(Alu::Or, R4, R5);
    words(asm, &[R2, R3, R4]);
    leave(hash, asm, done);
}

/// Appends the words of an IPv6 packet.
pub(super) fn v6(hash: &FlowHash, asm: &mut Assembler, done: Label) {
    let (swapped, ordered) = (asm.label(), asm.label());
    for (register, field) in [(R2, 8), (R3, 16), (R4, 24), (R5, 32)] {
        asm.load_be(Width::B8, register, R10, hash.place(place::HEADER + field));
    }
    asm.load(Width::B4, R8, R10, hash.place(place::PORTS + 4));
    asm.load(Width::B4, R9, R10, hash.place(place::PORTS));
    asm.if64(R2, Condition::Below, R4, ordered);
    asm.if64(R2, Condition::Above, R4, swapped);
    asm.if64(R3, Condition::Below, R5, ordered);
    asm.if64(R3, Condition::Above, R5, swapped);
    asm.if64(R8, Condition::AtMost, R9, ordered);
    asm.bind(swapped);
    for (a, b) in [(R2, R4), (R3, R5), (R8, R9)] {
        swap(asm, a, b);
    }
    asm.bind(ordered);
    asm.do64(Alu::ShiftLeft, R8, 48);
    asm.do64(Alu::ShiftLeft, R9, 32);
    asm.do64(Alu::Or, R8, R9);
    asm.load(Width::B4, R9, R10, hash.place(place::PROTOCOL));
    asm.do64(Alu::Or, R8, R9);
    asm.do64(Alu::Or, R8, 6 << 8);
    words(asm, &[R2, R3, R4, R5, R8]);
    leave(hash, asm, done);
}

/// Appends the words of a frame without IP. Its Ethernet header is at [`place::WORDS`].
pub(super) fn other(hash: &FlowHash, asm: &mut Assembler, done: Label) {
    let ordered = asm.label();
    for (register, at) in [(R2, 0), (R3, 6)] {
        asm.load_be(Width::B2, register, R10, hash.place(place::WORDS + at));
        for half in [2, 4] {
            asm.load_be(Width::B2, R4, R10, hash.place(place::WORDS + at + half));
            asm.do64(Alu::ShiftLeft, register, 16);
            asm.do64(Alu::Or, register, R4);
        }
    }
    asm.if64(R2, Condition::AtMost, R3, ordered);
    swap(asm, R2, R3);
    asm.bind(ordered);
    without_ip(hash, asm, done);
}

/// The same, of a frame without an Ethernet header, too.
pub(super) fn nothing(hash: &FlowHash, asm: &mut Assembler, done: Label) {
    asm.copy(R2, 0);
    asm.copy(R3, 0);
    without_ip(hash, asm, done);
}

fn without_ip(hash: &FlowHash, asm: &mut Assembler, done: Label) {
    asm.load(Width::B4, R4, R10, hash.place(place::ETHERTYPE));
    asm.do64(Alu::Move, R5, 1);
    asm.do64(Alu::ShiftLeft, R5, 32);
    asm.do64(Alu::Or, R4, R5);
    words(asm, &[R2, R3, R4]);
    leave(hash, asm, done);
}

fn words(asm: &mut Assembler, words: &[Register]) {
    asm.wide(R0, SEED);
    asm.wide(R7, WORD_MULTIPLIER);
    for word in words {
        mix(asm, *word, R7);
    }
    finish(asm, R7);
}

fn leave(hash: &FlowHash, asm: &mut Assembler, done: Label) {
    asm.load(Width::B8, R7, R10, hash.place(place::SAVED));
    asm.jump(done);
}

fn swap(asm: &mut Assembler, a: Register, b: Register) {
    asm.copy(R1, a);
    asm.copy(a, b);
    asm.copy(b, R1);
}
