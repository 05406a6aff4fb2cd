//! The program behind the private veth: it puts a prefix in front of copies, for the ring.
//!
//! A copy comes in cut and complete. With its prefix it is received once more by the same interface,
//! where the ring takes what has a prefix and nothing else; then it ends here.

use super::layout::{InlineMap, settings};
use super::writer::{SKB_LEN, SKB_PROTOCOL, SKB_TC_INDEX};
use crate::handup::{ETHERTYPE, PREFIX_LEN, field};
use Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use filter::ebpf::{Alu, Assembler, Bits, Code, Condition, Error, Helper, Register, Width};

/// The packet ends here (`TC_ACT_SHOT`).
const DROP: i32 = 2;
const PREFIX: i16 = -(PREFIX_LEN as i16);
const KEY: i16 = PREFIX - 8;
/// The packet is received, not sent (`BPF_F_INGRESS`).
const RECEIVED: i32 = 1;
const SKB_IFINDEX: i16 = 40;

/// Makes the program of the ingress of the private veth's far end. Its maps are those of
/// [`InlineMap::ALL`].
///
/// # Errors
/// None that a table could bring about.
pub fn peer_program() -> Result<Code, Error> {
    let mut asm = Assembler::new();
    let end = asm.label();
    asm.copy(R6, R1);
    asm.load(Width::B4, R1, R6, SKB_PROTOCOL);
    asm.jump_if(Bits::B32, Condition::Equal, R1, i32::from(ETHERTYPE.to_be()), end);
    asm.load(Width::B4, R7, R6, SKB_LEN);
    asm.load(Width::B4, R8, R6, SKB_TC_INDEX);
    asm.jump_if(Bits::B32, Condition::Below, R8, 8, end);
    asm.copy(R1, 0);
    asm.store(Width::B4, R10, KEY, R1);
    asm.map_address(R1, InlineMap::Settings.map());
    asm.copy(R2, R10);
    asm.alu(Bits::B64, Alu::Add, R2, i32::from(KEY));
    asm.call(Helper::MAP_LOOKUP);
    asm.jump_if(Bits::B64, Condition::Equal, R0, 0, end);
    asm.load(Width::B8, R9, R0, settings::UTC_OFFSET as i16);
    asm.call(Helper::KTIME_GET_TAI_NS);
    asm.alu(Bits::B64, Alu::Sub, R0, R9);
    for word in 0..PREFIX_LEN as i16 / 8 {
        asm.store(Width::B8, R10, PREFIX + 8 * word, 0);
    }
    asm.store(Width::B8, R10, PREFIX + field::TIME as i16, R0);
    asm.store(Width::B4, R10, PREFIX + field::ORIGLEN as i16, R7);
    asm.copy(R1, R8);
    asm.alu(Bits::B64, Alu::And, R1, 1);
    asm.alu(Bits::B64, Alu::Add, R1, 1);
    asm.store(Width::B1, R10, PREFIX + field::WAY as i16, R1);
    asm.alu(Bits::B64, Alu::ShiftRight, R8, 1);
    asm.store(Width::B2, R10, PREFIX + field::SLOT as i16, R8);
    let ethertype = i32::from(ETHERTYPE.to_be());
    asm.store(Width::B2, R10, PREFIX + field::ETHERTYPE as i16, ethertype);
    asm.copy(R1, R6);
    asm.copy(R2, PREFIX_LEN as i32);
    asm.copy(R3, 0);
    asm.call(Helper::SKB_CHANGE_HEAD);
    asm.jump_if(Bits::B64, Condition::NotEqual, R0, 0, end);
    asm.copy(R1, R6);
    asm.copy(R2, 0);
    asm.copy(R3, R10);
    asm.alu(Bits::B64, Alu::Add, R3, i32::from(PREFIX));
    asm.copy(R4, PREFIX_LEN as i32);
    asm.copy(R5, 0);
    asm.call(Helper::SKB_STORE_BYTES);
    asm.jump_if(Bits::B64, Condition::NotEqual, R0, 0, end);
    // What comes by once more is of no rule.
    asm.copy(R1, 0);
    asm.store(Width::B4, R6, SKB_TC_INDEX, R1);
    asm.load(Width::B4, R1, R6, SKB_IFINDEX);
    asm.copy(R2, RECEIVED);
    asm.call(Helper::REDIRECT);
    asm.exit();
    asm.bind(end);
    asm.copy(R0, DROP);
    asm.exit();
    asm.finish()
}
