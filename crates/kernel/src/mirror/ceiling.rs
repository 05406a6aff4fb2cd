//! The ceiling of a tap as a piece of a program: a [`Bucket`](super::bucket::Bucket) of all CPUs.
//!
//! Two CPUs that ask at the same time may both get the last token, so that the rate is met but for a
//! packet of each CPU in a burst.

use super::bucket::{BYTES_MAX, COST_SHIFT, place as bucket};
use super::judge::look_up;
use super::layout::MirrorMap;
use Register::{R0, R1, R2, R3, R4, R5, R10};
use filter::ebpf::{Alu, Assembler, Bits, Condition, Helper, Instruction, Label, Register, Width};

/// Where the packet stands from R10: its wire packets, their bytes, and a word that is free.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub packets: i16,
    pub bytes: i16,
    pub free: i16,
}

/// Appends it: goes to `limited` without room, else on. Loses R0 to R5.
pub(super) fn emit(asm: &mut Assembler, place: u32, at: At, limited: Label) {
    let (unlimited, owed) = (asm.label(), asm.label());
    look_up(asm, MirrorMap::Buckets.map(), place);
    asm.jump_if(Bits::B64, Condition::Equal, R0, 0, unlimited);
    asm.load(Width::B8, R1, R0, bucket::COST as i16);
    asm.jump_if(Bits::B64, Condition::Equal, R1, 0, unlimited);
    asm.store(Width::B8, R10, at.free, R0);
    asm.call(Helper::KTIME_GET_NS);
    asm.load(Width::B8, R2, R10, at.free);
    asm.load(Width::B8, R3, R2, bucket::FULL_AT as i16);
    asm.load(Width::B8, R4, R2, bucket::BURST_NS as i16);
    asm.alu(Bits::B64, Alu::Add, R4, R0);
    asm.jump_if(Bits::B64, Condition::Above, R3, R4, limited);
    price(asm, at);
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

/// Puts into R1 what the packet costs, as [`Bucket::price_ns`](super::bucket::Bucket::price_ns); R2 is the
/// bucket. Loses R4 and R5.
fn price(asm: &mut Assembler, at: At) {
    let (cut, fits) = (asm.label(), asm.label());
    asm.load(Width::B8, R1, R10, at.bytes);
    asm.load(Width::B8, R4, R10, at.packets);
    asm.load(Width::B4, R5, R2, bucket::SNAPLEN as i16);
    asm.jump_if(Bits::B64, Condition::Equal, R5, 0, cut);
    asm.alu(Bits::B64, Alu::Mul, R5, R4);
    asm.jump_if(Bits::B64, Condition::AtMost, R1, R5, cut);
    asm.copy(R1, R5);
    asm.bind(cut);
    asm.load(Width::B4, R5, R2, bucket::HEADERS as i16);
    asm.alu(Bits::B64, Alu::Mul, R5, R4);
    asm.alu(Bits::B64, Alu::Add, R1, R5);
    asm.jump_if(Bits::B64, Condition::AtMost, R1, BYTES_MAX as i32, fits);
    asm.alu(Bits::B64, Alu::Move, R1, BYTES_MAX as i32);
    asm.bind(fits);
    asm.load(Width::B8, R5, R2, bucket::COST as i16);
    asm.alu(Bits::B64, Alu::Mul, R1, R5);
    asm.alu(Bits::B64, Alu::ShiftRight, R1, COST_SHIFT as i32);
}
