//! The ceiling of a tap as a piece of a program: a [`Bucket`](super::layout::Bucket) of all CPUs.
//!
//! Two CPUs that ask at the same time may both get the last token, so that the rate is met but for a
//! packet of each CPU in a burst.

use super::judge::look_up;
use super::layout::{MirrorMap, bucket};
use Register::{R0, R1, R2, R3, R4, R5, R10};
use filter::ebpf::{Alu, Assembler, Bits, Condition, Helper, Instruction, Label, Register, Width};

/// Appends it: goes to `limited` without room, else on. The packet's bytes stand at `bytes_at` from
/// R10; the word at `bucket_at` is free. Loses R0 to R5.
pub(super) fn emit(asm: &mut Assembler, place: u32, bytes_at: i16, bucket_at: i16, limited: Label) {
    let (unlimited, owed) = (asm.label(), asm.label());
    look_up(asm, MirrorMap::Buckets.map(), place);
    asm.jump_if(Bits::B64, Condition::Equal, R0, 0, unlimited);
    asm.load(Width::B8, R1, R0, bucket::COST as i16);
    asm.jump_if(Bits::B64, Condition::Equal, R1, 0, unlimited);
    asm.store(Width::B8, R10, bucket_at, R0);
    asm.call(Helper::KTIME_GET_NS);
    asm.load(Width::B8, R2, R10, bucket_at);
    asm.load(Width::B8, R3, R2, bucket::FULL_AT as i16);
    asm.load(Width::B8, R4, R2, bucket::BURST_NS as i16);
    asm.alu(Bits::B64, Alu::Add, R4, R0);
    asm.jump_if(Bits::B64, Condition::Above, R3, R4, limited);
    asm.load(Width::B8, R1, R10, bytes_at);
    asm.load(Width::B8, R5, R2, bucket::COST as i16);
    asm.alu(Bits::B64, Alu::Mul, R1, R5);
    asm.alu(Bits::B64, Alu::ShiftRight, R1, 20);
    asm.jump_if(Bits::B64, Condition::AtLeast, R3, R0, owed);
    // All is paid for. If another CPU has begun to count from now on, its word stands.
    asm.copy(R5, R0);
    asm.copy(R0, R3);
    let at = bucket::FULL_AT as i16;
    asm.push(Instruction::CompareExchange { width: Width::B8, base: R2, at, value: R5 });
    asm.bind(owed);
    asm.atomic_add(Width::B8, R2, at, R1, false);
    asm.bind(unlimited);
}
