//! The form of a program that runs: one operation an instruction, jump targets absolute.
//!
//! Decoding happens once, after verification, so running never looks at a code's bits. A load that
//! stands before a comparison with a constant is joined with it, the pair that most of a program is
//! made of; the comparison also keeps its own place, since another jump may land on it. A jump that
//! lands on a plain jump, as those over more than 255 instructions do, goes to the end at once. An
//! operation is 16 bytes at most.

use crate::{Instruction, op};

/// One operation. `t` and `f` are the positions to go on at when a comparison is true or false.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    LoadWord(u32),
    LoadHalf(u32),
    LoadByte(u32),
    LoadWordX(u32),
    LoadHalfX(u32),
    LoadByteX(u32),
    LoadImm(u32),
    LoadScratch(u8),
    LoadLen,
    LoadXImm(u32),
    LoadXScratch(u8),
    LoadXLen,
    LoadXHeader(u32),
    Store(u8),
    StoreX(u8),
    Tax,
    Txa,
    AddK(u32),
    SubK(u32),
    MulK(u32),
    DivK(u32),
    ModK(u32),
    OrK(u32),
    AndK(u32),
    XorK(u32),
    LshK(u32),
    RshK(u32),
    Neg,
    AddX,
    SubX,
    MulX,
    DivX,
    ModX,
    OrX,
    AndX,
    XorX,
    LshX,
    RshX,
    Jump(u32),
    JumpBack(u32),
    JeqK {
        k: u32,
        t: u32,
        f: u32,
    },
    JgtK {
        k: u32,
        t: u32,
        f: u32,
    },
    JgeK {
        k: u32,
        t: u32,
        f: u32,
    },
    JsetK {
        k: u32,
        t: u32,
        f: u32,
    },
    JeqX {
        t: u32,
        f: u32,
    },
    JgtX {
        t: u32,
        f: u32,
    },
    JgeX {
        t: u32,
        f: u32,
    },
    JsetX {
        t: u32,
        f: u32,
    },
    RetK(u32),
    RetA,
    /// `ldh [at]`, then `jeq #k`.
    HalfJeq {
        at: u16,
        k: u32,
        t: u32,
        f: u32,
    },
    /// `ldb [at]`, then `jeq #k`.
    ByteJeq {
        at: u16,
        k: u32,
        t: u32,
        f: u32,
    },
    /// `ld [at]`, then `jeq #k`.
    WordJeq {
        at: u16,
        k: u32,
        t: u32,
        f: u32,
    },
    /// `ldh [x + at]`, then `jeq #k`.
    HalfXJeq {
        at: u16,
        k: u32,
        t: u32,
        f: u32,
    },
    /// `ldh [at]`, then `jset #k`.
    HalfJset {
        at: u16,
        k: u32,
        t: u32,
        f: u32,
    },
    /// `ld M[word]`, then `jeq #k`.
    ScratchJeq {
        word: u8,
        k: u32,
        t: u32,
        f: u32,
    },
    /// `ld M[word]`, then `jgt #k`.
    ScratchJgt {
        word: u8,
        k: u32,
        t: u32,
        f: u32,
    },
    /// `ld M[word]`, then `jge #k`.
    ScratchJge {
        word: u8,
        k: u32,
        t: u32,
        f: u32,
    },
}

/// Decodes a verified program, position for position.
pub(crate) fn decode(program: &[Instruction]) -> Box<[Op]> {
    let mut ops: Box<[Op]> = program.iter().enumerate().map(|(at, i)| operation(at, i)).collect();
    shorten(&mut ops);
    for at in 1..ops.len() {
        if let Some(joined) = join(ops[at - 1], ops[at]) {
            ops[at - 1] = joined;
        }
    }
    ops
}

/// Leads jumps that land on a plain jump ahead to where that one leads.
fn shorten(ops: &mut [Op]) {
    for at in (0..ops.len()).rev() {
        // What stands behind is shortened already, so one step is enough.
        let end = |target: u32| match ops[target as usize] {
            Op::Jump(on) => on,
            _ => target,
        };
        let mut op = ops[at];
        match &mut op {
            Op::Jump(t) => *t = end(*t),
            Op::JeqK { t, f, .. }
            | Op::JgtK { t, f, .. }
            | Op::JgeK { t, f, .. }
            | Op::JsetK { t, f, .. }
            | Op::JeqX { t, f }
            | Op::JgtX { t, f }
            | Op::JgeX { t, f }
            | Op::JsetX { t, f } => (*t, *f) = (end(*t), end(*f)),
            _ => continue,
        }
        ops[at] = op;
    }
}

fn join(first: Op, second: Op) -> Option<Op> {
    let near = |at: u32| u16::try_from(at).ok();
    Some(match (first, second) {
        (Op::LoadHalf(at), Op::JeqK { k, t, f }) => Op::HalfJeq { at: near(at)?, k, t, f },
        (Op::LoadByte(at), Op::JeqK { k, t, f }) => Op::ByteJeq { at: near(at)?, k, t, f },
        (Op::LoadWord(at), Op::JeqK { k, t, f }) => Op::WordJeq { at: near(at)?, k, t, f },
        (Op::LoadHalfX(at), Op::JeqK { k, t, f }) => Op::HalfXJeq { at: near(at)?, k, t, f },
        (Op::LoadHalf(at), Op::JsetK { k, t, f }) => Op::HalfJset { at: near(at)?, k, t, f },
        (Op::LoadScratch(word), Op::JeqK { k, t, f }) => Op::ScratchJeq { word, k, t, f },
        (Op::LoadScratch(word), Op::JgtK { k, t, f }) => Op::ScratchJgt { word, k, t, f },
        (Op::LoadScratch(word), Op::JgeK { k, t, f }) => Op::ScratchJge { word, k, t, f },
        _ => return None,
    })
}

fn operation(at: usize, i: &Instruction) -> Op {
    let k = i.k;
    match i.code & 0x07 {
        op::LD => match (i.code & 0xe0, i.code & 0x18) {
            (op::ABS, op::W) => Op::LoadWord(k),
            (op::ABS, op::H) => Op::LoadHalf(k),
            (op::ABS, _) => Op::LoadByte(k),
            (op::IND, op::W) => Op::LoadWordX(k),
            (op::IND, op::H) => Op::LoadHalfX(k),
            (op::IND, _) => Op::LoadByteX(k),
            (op::MEM, _) => Op::LoadScratch(scratch(k)),
            (op::LEN, _) => Op::LoadLen,
            _ => Op::LoadImm(k),
        },
        op::LDX => match i.code & 0xe0 {
            op::MSH => Op::LoadXHeader(k),
            op::MEM => Op::LoadXScratch(scratch(k)),
            op::LEN => Op::LoadXLen,
            _ => Op::LoadXImm(k),
        },
        op::ST => Op::Store(scratch(k)),
        op::STX => Op::StoreX(scratch(k)),
        op::ALU if i.code & op::X == 0 => arithmetic_k(i.code, k),
        op::ALU => arithmetic_x(i.code),
        op::JMP => jump(at, i),
        op::RET if i.code & op::A != 0 => Op::RetA,
        op::RET => Op::RetK(k),
        _ if i.code & 0x80 == op::TXA => Op::Txa,
        _ => Op::Tax,
    }
}

fn arithmetic_k(code: u16, k: u32) -> Op {
    match code & 0xf0 {
        op::ADD => Op::AddK(k),
        op::SUB => Op::SubK(k),
        op::MUL => Op::MulK(k),
        op::DIV => Op::DivK(k),
        op::MOD => Op::ModK(k),
        op::OR => Op::OrK(k),
        op::AND => Op::AndK(k),
        op::XOR => Op::XorK(k),
        op::LSH => Op::LshK(k),
        op::RSH => Op::RshK(k),
        _ => Op::Neg,
    }
}

fn arithmetic_x(code: u16) -> Op {
    match code & 0xf0 {
        op::ADD => Op::AddX,
        op::SUB => Op::SubX,
        op::MUL => Op::MulX,
        op::DIV => Op::DivX,
        op::MOD => Op::ModX,
        op::OR => Op::OrX,
        op::AND => Op::AndX,
        op::XOR => Op::XorX,
        op::LSH => Op::LshX,
        _ => Op::RshX,
    }
}

fn jump(at: usize, i: &Instruction) -> Op {
    let (k, t, f) = (i.k, target(at, i32::from(i.jt)), target(at, i32::from(i.jf)));
    match (i.code & 0xf0, i.code & op::X != 0) {
        (op::JEQ, false) => Op::JeqK { k, t, f },
        (op::JGT, false) => Op::JgtK { k, t, f },
        (op::JGE, false) => Op::JgeK { k, t, f },
        (op::JSET, false) => Op::JsetK { k, t, f },
        (op::JEQ, true) => Op::JeqX { t, f },
        (op::JGT, true) => Op::JgtX { t, f },
        (op::JGE, true) => Op::JgeX { t, f },
        (op::JSET, true) => Op::JsetX { t, f },
        _ => match (k.cast_signed(), target(at, k.cast_signed())) {
            (..0, t) => Op::JumpBack(t),
            (_, t) => Op::Jump(t),
        },
    }
}

fn target(at: usize, skip: i32) -> u32 {
    u32::try_from(at as i64 + 1 + i64::from(skip))
        .expect("verified: a target is inside the program, which is shorter than 2^32")
}

fn scratch(k: u32) -> u8 {
    u8::try_from(k).expect("verified: a scratch word is below 16")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_sixteen_bytes() {
        assert_eq!(size_of::<Op>(), 16);
    }

    #[test]
    fn jumps_pass_over_plain_jumps() {
        let ja = |k| Instruction::new(0x05, 0, 0, k);
        let ret = Instruction::new(0x06, 0, 0, 1);
        let ops = decode(&[Instruction::new(0x15, 0, 1, 7), ja(2), ja(0), ja(1), ret, ret]);
        assert!(matches!(ops[0], Op::JeqK { k: 7, t: 4, f: 5 }));
        assert!(matches!(ops[1], Op::Jump(4)));
        assert!(matches!(ops[2], Op::Jump(5)));
    }

    #[test]
    fn a_far_offset_is_not_joined() {
        let ops = decode(&[
            Instruction::new(0x28, 0, 0, 65_536),
            Instruction::new(0x15, 0, 0, 2048),
            Instruction::new(0x06, 0, 0, 1),
        ]);
        assert!(matches!(ops[0], Op::LoadHalf(65_536)));
    }

    #[test]
    fn a_joined_comparison_keeps_its_own_place() {
        let ops = decode(&[
            Instruction::new(0x28, 0, 0, 12),
            Instruction::new(0x15, 0, 1, 2048),
            Instruction::new(0x06, 0, 0, 1),
            Instruction::new(0x06, 0, 0, 0),
        ]);
        assert!(matches!(ops[0], Op::HalfJeq { at: 12, k: 2048, t: 2, f: 3 }));
        assert!(matches!(ops[1], Op::JeqK { k: 2048, t: 2, f: 3 }));
    }
}
