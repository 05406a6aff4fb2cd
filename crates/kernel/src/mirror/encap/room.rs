//! Room in the kernel's queue: how many packets may be in the crossing at a time, on each CPU.
//!
//! What crosses waits in a queue that all packets between virtual devices of that CPU share
//! (`net.core.netdev_max_backlog`). A burst of super-packets, once cut, would fill it, and the host's own
//! packets would be dropped. So what is under way is counted, and a burst beyond the bound ends before
//! it is cut: it was handed over, is refused, and does not arrive.
//!
//! What could be encapsulated at once follows while something is under way, so that it does not
//! overtake it.
//!
//! What is lost on the way is never counted as arrived. That is forgotten when nothing that had to cross has entered for
//! [`FORGET_NS`], as is the case soon after the bound was reached by it.

use super::{NEXT, Program, place};
use crate::mirror::layout::{MirrorMap, SlotCounter, crossing};
use crate::shorthand::{Shorthand, skb};
use Register::{R0, R1, R2, R6, R8, R9, R10};
use filter::ebpf::{Alu, Assembler, Condition, Helper, Label, Register, Width};

/// A packet has crossed long before, however busy the CPU is.
const FORGET_NS: i32 = 20_000_000;

/// Goes to `follow`, with the CPU's memory in R9, if something is under way.
pub(super) fn look(asm: &mut Assembler, follow: Label) {
    let free = asm.label();
    scratch(asm, free);
    asm.load(Width::B8, R1, R0, crossing::UNDER_WAY);
    asm.if64(R1, Condition::Equal, 0, free);
    asm.copy(R9, R0);
    asm.call(Helper::KTIME_GET_NS);
    asm.load(Width::B8, R1, R9, crossing::ENTERED_NS);
    asm.do64(Alu::Add, R1, FORGET_NS);
    asm.if64(R0, Condition::Below, R1, follow);
    asm.store(Width::B8, R9, crossing::UNDER_WAY, 0);
    asm.bind(free);
}

/// Has the packet follow what [`look`] has found, if there is room; the program ends.
pub(super) fn follow(asm: &mut Assembler, refused: Label) {
    asm.copy(R8, 1);
    asm.load(Width::B8, R2, R9, crossing::UNDER_WAY);
    asm.do64(Alu::Add, R2, 1);
    asm.load(Width::B8, R1, R9, crossing::BOUND);
    asm.if64(R2, Condition::Above, R1, refused);
    asm.store(Width::B8, R9, crossing::UNDER_WAY, R2);
    asm.copy(R0, NEXT);
    asm.exit();
}

/// Has the packet cross, if there is room; the program ends.
pub(super) fn enter(asm: &mut Assembler, refused: Label) {
    let [cross, counted, known] = std::array::from_fn(|_| asm.label());
    scratch(asm, cross);
    asm.load(Width::B8, R1, R0, crossing::BOUND);
    asm.if64(R1, Condition::Equal, 0, cross);
    asm.copy(R9, R0);
    asm.load(Width::B4, R8, R6, skb::GSO_SEGS);
    asm.if32(R8, Condition::NotEqual, 0, counted);
    asm.copy(R8, 1);
    asm.load(Width::B4, R2, R6, skb::GSO_SIZE);
    asm.if32(R2, Condition::Equal, 0, counted);
    asm.load(Width::B4, R1, R6, skb::LEN);
    asm.do32(Alu::Div, R1, R2);
    asm.do64(Alu::Add, R8, R1);
    asm.bind(counted);
    asm.call(Helper::KTIME_GET_NS);
    asm.load(Width::B8, R2, R9, crossing::UNDER_WAY);
    asm.load(Width::B8, R1, R9, crossing::ENTERED_NS);
    asm.do64(Alu::Add, R1, FORGET_NS);
    asm.if64(R0, Condition::Below, R1, known);
    asm.copy(R2, 0);
    asm.bind(known);
    asm.do64(Alu::Add, R2, R8);
    asm.load(Width::B8, R1, R9, crossing::BOUND);
    asm.if64(R2, Condition::Above, R1, refused);
    asm.store(Width::B8, R9, crossing::UNDER_WAY, R2);
    asm.store(Width::B8, R9, crossing::ENTERED_NS, R0);
    asm.bind(cross);
    asm.copy(R0, NEXT);
    asm.exit();
}

/// Counts the R8 wire packets that there is no room for; the program ends.
pub(super) fn refuse(program: &Program, asm: &mut Assembler, refused: Label) {
    asm.bind(refused);
    asm.load(Width::B4, R1, R6, skb::TC_INDEX);
    asm.do32(Alu::ShiftRight, R1, 1);
    asm.store(Width::B4, R10, place::SLOT, R1);
    program.look_up(asm, MirrorMap::SlotCounters, place::SLOT, program.end);
    asm.count(R0, SlotCounter::Refused as usize, R8);
    asm.jump(program.end);
}

/// Counts a packet that has crossed.
pub(super) fn leave(asm: &mut Assembler) {
    let done = asm.label();
    scratch(asm, done);
    asm.load(Width::B8, R1, R0, crossing::UNDER_WAY);
    asm.if64(R1, Condition::Equal, 0, done);
    asm.do64(Alu::Sub, R1, 1);
    asm.store(Width::B8, R0, crossing::UNDER_WAY, R1);
    asm.bind(done);
}

/// The CPU's memory, in R0.
fn scratch(asm: &mut Assembler, missing: Label) {
    asm.store(Width::B4, R10, place::KEY, 0);
    asm.look_up(MirrorMap::Scratch.map(), place::KEY);
    asm.if64(R0, Condition::Equal, 0, missing);
}
