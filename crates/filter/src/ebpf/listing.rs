//! Listings: one instruction a line, in the words of LLVM and bpftool.
//!
//! ```text
//!    0: r6 = r1
//!    1: w7 = *(u32 *)(r6 + 176)
//!    2: if w7 != 0x0 goto +2 <5>
//! ```
//!
//! The number in front is the slot; a jump shows its distance and, in angle brackets, the slot that
//! it goes to.

use super::{Alu, Bits, Code, Condition, Instruction, Operand, Register, Width};
use std::fmt;

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut slot = 0;
        for instruction in self.instructions() {
            let next = slot + instruction.slots();
            writeln!(f, "{slot:4}: {}", Line { instruction: *instruction, next })?;
            slot = next;
        }
        Ok(())
    }
}

/// An instruction and the slot behind it.
struct Line {
    instruction: Instruction,
    next: usize,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = |skip: i32| format!("{skip:+} <{}>", self.next as i64 + i64::from(skip));
        match self.instruction {
            Instruction::Arithmetic { bits, alu: Alu::Move, to, by } => {
                write!(f, "{} = {}", name(bits, to), operand(bits, by, false))
            }
            Instruction::Arithmetic { bits, alu, to, by } => {
                let hex = matches!(alu, Alu::And | Alu::Or | Alu::Xor);
                write!(f, "{} {} {}", name(bits, to), sign(alu), operand(bits, by, hex))
            }
            Instruction::Negate { bits, to } => {
                write!(f, "{} = -{}", name(bits, to), name(bits, to))
            }
            Instruction::BigEndian { width, to } => {
                let to = name(Bits::B64, to);
                write!(f, "{to} = be{} {to}", width.bytes() * 8)
            }
            Instruction::Load { width, to, base, at } => {
                // Filled with zeros, so the low half's name says as much for up to four bytes.
                let bits = if width == Width::B8 { Bits::B64 } else { Bits::B32 };
                write!(f, "{} = {}", name(bits, to), memory(width, base, at))
            }
            Instruction::Store { width, base, at, value } => {
                let bits = if width == Width::B8 { Bits::B64 } else { Bits::B32 };
                write!(f, "{} = {}", memory(width, base, at), operand(bits, value, false))
            }
            Instruction::AtomicAdd { width, base, at, value, fetch } => {
                let value = name(if width == Width::B8 { Bits::B64 } else { Bits::B32 }, value);
                match fetch {
                    true => {
                        let at = memory(width, base, at);
                        write!(f, "{value} = atomic_fetch_add({at}, {value})")
                    }
                    false => write!(f, "lock {} += {value}", memory(width, base, at)),
                }
            }
            Instruction::CompareExchange { width, base, at, value } => {
                let bits = if width == Width::B8 { Bits::B64 } else { Bits::B32 };
                let (old, new) = (name(bits, Register::R0), name(bits, value));
                write!(f, "{old} = cmpxchg({}, {old}, {new})", memory(width, base, at))
            }
            Instruction::Wide { to, value } => {
                write!(f, "{} = {value:#x} ll", name(Bits::B64, to))
            }
            Instruction::MapAddress { to, map } => {
                write!(f, "{} = map[{}] ll", name(Bits::B64, to), map.0)
            }
            Instruction::Jump { skip } => write!(f, "goto {}", target(skip.into())),
            Instruction::FarJump { skip } => write!(f, "gotol {}", target(skip)),
            Instruction::JumpIf { bits, condition, left, right, skip } => write!(
                f,
                "if {} {} {} goto {}",
                name(bits, left),
                comparison(condition),
                operand(bits, right, true),
                target(skip.into())
            ),
            Instruction::Call { helper } => write!(f, "call {}#{}", helper.name, helper.id),
            Instruction::Exit => write!(f, "exit"),
        }
    }
}

fn name(bits: Bits, register: Register) -> String {
    let letter = if bits == Bits::B64 { 'r' } else { 'w' };
    format!("{letter}{}", register as u8)
}

fn operand(bits: Bits, operand: Operand, hex: bool) -> String {
    match operand {
        Operand::Register(register) => name(bits, register),
        Operand::Constant(n) if hex && bits == Bits::B32 => format!("{n:#x}"),
        Operand::Constant(n) if hex => format!("{:#x}", i64::from(n)),
        Operand::Constant(n) => n.to_string(),
    }
}

fn memory(width: Width, base: Register, at: i16) -> String {
    let sign = if at < 0 { '-' } else { '+' };
    format!("*(u{} *)(r{} {sign} {})", width.bytes() * 8, base as u8, at.unsigned_abs())
}

const fn sign(alu: Alu) -> &'static str {
    match alu {
        Alu::Add => "+=",
        Alu::Sub => "-=",
        Alu::Mul => "*=",
        Alu::Div => "/=",
        Alu::Or => "|=",
        Alu::And => "&=",
        Alu::ShiftLeft => "<<=",
        Alu::ShiftRight => ">>=",
        Alu::Mod => "%=",
        Alu::Xor => "^=",
        Alu::Move => "=",
        Alu::ShiftRightSigned => "s>>=",
    }
}

const fn comparison(condition: Condition) -> &'static str {
    match condition {
        Condition::Equal => "==",
        Condition::Above => ">",
        Condition::AtLeast => ">=",
        Condition::SharesBit => "&",
        Condition::NotEqual => "!=",
        Condition::AboveSigned => "s>",
        Condition::AtLeastSigned => "s>=",
        Condition::Below => "<",
        Condition::AtMost => "<=",
        Condition::BelowSigned => "s<",
        Condition::AtMostSigned => "s<=",
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Assembler, Helper, MapRef};
    use super::Register::*;
    use super::*;

    #[test]
    fn every_kind_of_instruction_prints() {
        let mut asm = Assembler::new();
        let (start, end) = (asm.label(), asm.label());
        asm.bind(start);
        asm.copy(R6, R1);
        asm.alu(Bits::B32, Alu::Move, R0, -1);
        asm.alu(Bits::B32, Alu::And, R7, 0x1fff);
        asm.alu(Bits::B64, Alu::Add, R2, -16);
        asm.alu(Bits::B32, Alu::ShiftLeft, R7, R8);
        asm.push(Instruction::Negate { bits: Bits::B32, to: R7 });
        asm.load(Width::B4, R7, R6, 176);
        asm.load(Width::B8, R1, R10, -8);
        asm.big_endian(Width::B2, R7);
        asm.store(Width::B4, R10, -16, 0);
        asm.store(Width::B8, R9, 8, R1);
        asm.push(Instruction::Wide { to: R1, value: 0x1_0000_0000 });
        asm.atomic_add(Width::B8, R9, 8, R1, false);
        asm.atomic_add(Width::B4, R9, -8, R2, true);
        let (width, base) = (Width::B8, R9);
        asm.push(Instruction::CompareExchange { width, base, at: 8, value: R2 });
        asm.map_address(R1, MapRef(0));
        asm.jump_if(Bits::B32, Condition::NotEqual, R7, 0x800, end);
        asm.jump_if(Bits::B64, Condition::AtMostSigned, R7, R8, start);
        asm.call(Helper::MAP_LOOKUP);
        asm.jump(start);
        asm.bind(end);
        asm.exit();
        let expected = "   0: r6 = r1
   1: w0 = -1
   2: w7 &= 0x1fff
   3: r2 += -16
   4: w7 <<= w8
   5: w7 = -w7
   6: w7 = *(u32 *)(r6 + 176)
   7: r1 = *(u64 *)(r10 - 8)
   8: r7 = be16 r7
   9: *(u32 *)(r10 - 16) = 0
  10: *(u64 *)(r9 + 8) = r1
  11: r1 = 0x100000000 ll
  13: lock *(u64 *)(r9 + 8) += r1
  14: w2 = atomic_fetch_add(*(u32 *)(r9 - 8), w2)
  15: r0 = cmpxchg(*(u64 *)(r9 + 8), r0, r2)
  16: r1 = map[0] ll
  18: if w7 != 0x800 goto +3 <22>
  19: if r7 s<= r8 goto -20 <0>
  20: call bpf_map_lookup_elem#1
  21: goto -22 <0>
  22: exit
";
        assert_eq!(asm.finish().unwrap().to_string(), expected);
    }
}
