//! The way out: a clone to the underlay's interface, and what the kernel says of it.

use super::{Program, place};
use crate::mirror::layout::{MemberCounter, TC_INDEX_SENT, member};
use crate::shorthand::{Shorthand, skb};
use Register::{R0, R1, R2, R3, R6, R8, R9, R10};
use filter::ebpf::{Alu, Assembler, Condition, Helper, Register, Width};

/// No such interface (`bpf_clone_redirect`), and one that is down.
const NO_WAY: [i32; 2] = [-22, -100];

pub(super) fn emit(program: &Program, asm: &mut Assembler) {
    // A shape that came after the program: it is made anew at once.
    asm.jump(program.dropped.send_error);

    asm.bind(program.sent);
    asm.load(Width::B4, R2, R9, member::INTERFACE as i16);
    clone(asm);
    let lost = asm.label();
    asm.if64(R0, Condition::NotEqual, 0, lost);
    asm.count(R8, MemberCounter::Sent as usize, 1);
    asm.load(Width::B4, R2, R10, place::SENT_BYTES);
    asm.count(R8, MemberCounter::SentBytes as usize, R2);
    asm.load(Width::B4, R2, R10, place::IS_CUT);
    asm.count(R8, MemberCounter::Cut as usize, R2);
    asm.jump(program.end);

    // The number goes to the next packet, unless one has been sent meanwhile.
    let (taken, queue) = (asm.label(), asm.label());
    asm.bind(lost);
    asm.load(Width::B8, R1, R10, place::SEQUENCE);
    asm.copy(R2, R1);
    asm.do64(Alu::Add, R2, 1);
    asm.load(Width::B8, R3, R8, 8 * MemberCounter::Sequence as i16);
    asm.if64(R3, Condition::NotEqual, R2, taken);
    asm.store(Width::B8, R8, 8 * MemberCounter::Sequence as i16, R1);
    asm.bind(taken);
    asm.if64(R0, Condition::AboveSigned, 0, queue);
    for error in NO_WAY {
        asm.if64(R0, Condition::Equal, error, program.dropped.unreachable);
    }
    asm.jump(program.dropped.send_error);
    asm.bind(queue);
    asm.count(R8, MemberCounter::DeviceQueue as usize, 1);
    asm.jump(program.end);
}

/// Sends a clone to interface R2; nothing mirrors it again.
fn clone(asm: &mut Assembler) {
    asm.copy(R1, i32::from(TC_INDEX_SENT));
    asm.store(Width::B4, R6, skb::TC_INDEX, R1);
    asm.copy(R1, R6);
    asm.copy(R3, 0);
    asm.call(Helper::CLONE_REDIRECT);
}
