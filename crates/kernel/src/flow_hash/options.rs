//! The length of a jumbogram (RFC 2675), among the options of a hop-by-hop header.
//!
//! ```text
//! option  kind 1 · length 1 · value      kind 0 has neither length nor value
//! ```

use super::{FlowHash, OPTIONS_MAX, place};
use crate::shorthand::Shorthand;
use Register::{R0, R1, R2, R3, R4, R7, R9, R10};
use filter::ebpf::{Alu, Assembler, Condition, Label, Register, Width};

const JUMBO: i32 = 0xc2;

/// Appends the look at the header behind an IPv6 header at R7: goes on with the length in R4, or at
/// `none`.
pub(super) fn jumbo(hash: &FlowHash, asm: &mut Assembler, none: Label, beyond: Label) {
    let (next, value, pad) = (asm.label(), asm.label(), asm.label());
    let at = |place| hash.place(place);
    // The header must be whole: its end is kept, R3 is where an option stands.
    asm.copy(R2, R7);
    asm.do64(Alu::Add, R2, 40);
    asm.load_packet(at(place::WORDS), 2);
    asm.if64(R0, Condition::NotEqual, 0, none);
    asm.load(Width::B1, R1, R10, at(place::WORDS + 1));
    asm.do64(Alu::Add, R1, 1);
    asm.do64(Alu::ShiftLeft, R1, 3);
    asm.do64(Alu::Add, R1, R7);
    asm.do64(Alu::Add, R1, 40);
    asm.if64(R1, Condition::Above, R9, none);
    asm.store(Width::B8, R10, at(place::OPTIONS_END), R1);
    asm.copy(R3, R7);
    asm.do64(Alu::Add, R3, 42);
    asm.store(Width::B8, R10, at(place::OPTION_AT), R3);
    asm.store(Width::B8, R10, at(place::OPTIONS), 0);

    asm.bind(next);
    asm.load(Width::B8, R3, R10, at(place::OPTION_AT));
    asm.load(Width::B8, R4, R10, at(place::OPTIONS_END));
    asm.if64(R3, Condition::AtLeast, R4, none);
    asm.load(Width::B8, R1, R10, at(place::OPTIONS));
    asm.do64(Alu::Add, R1, 1);
    asm.if64(R1, Condition::Above, OPTIONS_MAX, beyond);
    asm.store(Width::B8, R10, at(place::OPTIONS), R1);
    asm.copy(R2, R3);
    asm.load_packet(at(place::WORDS), 1);
    asm.if64(R0, Condition::NotEqual, 0, none);
    asm.load(Width::B1, R1, R10, at(place::WORDS));
    asm.if32(R1, Condition::Equal, 0, pad);
    asm.load(Width::B8, R2, R10, at(place::OPTION_AT));
    asm.do64(Alu::Add, R2, 1);
    asm.load(Width::B8, R4, R10, at(place::OPTIONS_END));
    asm.if64(R2, Condition::AtLeast, R4, none);
    asm.load_packet(at(place::WORDS + 1), 1);
    asm.if64(R0, Condition::NotEqual, 0, none);
    asm.load(Width::B1, R1, R10, at(place::WORDS));
    asm.load(Width::B1, R2, R10, at(place::WORDS + 1));
    asm.load(Width::B8, R3, R10, at(place::OPTION_AT));
    asm.do64(Alu::Add, R3, 2);
    asm.do64(Alu::Add, R3, R2);
    asm.load(Width::B8, R4, R10, at(place::OPTIONS_END));
    asm.if64(R3, Condition::Above, R4, none);
    asm.if32(R1, Condition::Equal, JUMBO, value);
    asm.store(Width::B8, R10, at(place::OPTION_AT), R3);
    asm.jump(next);
    asm.bind(pad);
    asm.load(Width::B8, R3, R10, at(place::OPTION_AT));
    asm.do64(Alu::Add, R3, 1);
    asm.store(Width::B8, R10, at(place::OPTION_AT), R3);
    asm.jump(next);

    asm.bind(value);
    asm.if32(R2, Condition::NotEqual, 4, none);
    asm.copy(R2, R3);
    asm.do64(Alu::Sub, R2, 4);
    asm.load_packet(at(place::WORDS), 4);
    asm.if64(R0, Condition::NotEqual, 0, none);
    asm.load_be(Width::B4, R4, R10, at(place::WORDS));
}
