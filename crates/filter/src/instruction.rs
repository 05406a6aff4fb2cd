//! One classic BPF instruction, and the numbers that its code is made of.
//!
//! Source: Linux `include/uapi/linux/filter.h` and `bpf_common.h`; McCanne and Jacobson, "The BSD
//! Packet Filter", USENIX Winter 1993.
//!
//! ```text
//! struct sock_filter: 8 bytes, host byte order
//!  0        2      3      4                8
//! +--------+------+------+----------------+
//! |  code  |  jt  |  jf  |       k        |
//! +--------+------+------+----------------+
//!
//! code, loads:      mode (3 bits) | size (2) | class (3)
//! code, arithmetic: operation (4) | source (1) | class (3)
//! ```

/// One instruction as the kernel and libpcap lay it out.
///
/// `jt` and `jf` count instructions to skip after this one when a comparison is true or false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Instruction {
    /// What to do: class, and mode and size or operation and operand (see [`op`]).
    pub code: u16,
    /// Instructions to skip if the comparison is true.
    pub jt: u8,
    /// Instructions to skip if the comparison is false.
    pub jf: u8,
    /// Operand: a constant, an offset in bytes, a scratch word or a jump distance.
    pub k: u32,
}

impl Instruction {
    /// Puts an instruction together. Nothing is checked before [`Program::new`](crate::Program::new).
    pub const fn new(code: u16, jt: u8, jf: u8, k: u32) -> Self {
        Instruction { code, jt, jf, k }
    }
}

/// The parts of an instruction code, to be joined with `|`.
pub mod op {
    /// Class: load into A.
    pub const LD: u16 = 0x00;
    /// Class: load into X.
    pub const LDX: u16 = 0x01;
    /// Class: store A in a scratch word.
    pub const ST: u16 = 0x02;
    /// Class: store X in a scratch word.
    pub const STX: u16 = 0x03;
    /// Class: arithmetic on A.
    pub const ALU: u16 = 0x04;
    /// Class: jump.
    pub const JMP: u16 = 0x05;
    /// Class: return the verdict.
    pub const RET: u16 = 0x06;
    /// Class: move between A and X.
    pub const MISC: u16 = 0x07;

    /// Size: four bytes.
    pub const W: u16 = 0x00;
    /// Size: two bytes.
    pub const H: u16 = 0x08;
    /// Size: one byte.
    pub const B: u16 = 0x10;

    /// Mode: the constant k.
    pub const IMM: u16 = 0x00;
    /// Mode: the frame at k.
    pub const ABS: u16 = 0x20;
    /// Mode: the frame at X + k.
    pub const IND: u16 = 0x40;
    /// Mode: scratch word k.
    pub const MEM: u16 = 0x60;
    /// Mode: the frame's length on the wire.
    pub const LEN: u16 = 0x80;
    /// Mode: four times the low nibble of the byte at k, the length of an IPv4 header.
    pub const MSH: u16 = 0xa0;

    /// Operand: the constant k.
    pub const K: u16 = 0x00;
    /// Operand: X.
    pub const X: u16 = 0x08;
    /// Operand of a return: A.
    pub const A: u16 = 0x10;

    /// Arithmetic: A + operand, modulo 2³², as all arithmetic.
    pub const ADD: u16 = 0x00;
    /// Arithmetic: A − operand.
    pub const SUB: u16 = 0x10;
    /// Arithmetic: A × operand.
    pub const MUL: u16 = 0x20;
    /// Arithmetic: A / operand, unsigned.
    pub const DIV: u16 = 0x30;
    /// Arithmetic: A or operand, bitwise.
    pub const OR: u16 = 0x40;
    /// Arithmetic: A and operand, bitwise.
    pub const AND: u16 = 0x50;
    /// Arithmetic: A shifted left.
    pub const LSH: u16 = 0x60;
    /// Arithmetic: A shifted right, filled with zeros.
    pub const RSH: u16 = 0x70;
    /// Arithmetic: −A.
    pub const NEG: u16 = 0x80;
    /// Arithmetic: the rest of A / operand, unsigned.
    pub const MOD: u16 = 0x90;
    /// Arithmetic: A exclusive-or operand, bitwise.
    pub const XOR: u16 = 0xa0;

    /// Jump always, k instructions on.
    pub const JA: u16 = 0x00;
    /// Jump if A = operand.
    pub const JEQ: u16 = 0x10;
    /// Jump if A > operand, unsigned.
    pub const JGT: u16 = 0x20;
    /// Jump if A ≥ operand, unsigned.
    pub const JGE: u16 = 0x30;
    /// Jump if A and operand share a bit.
    pub const JSET: u16 = 0x40;

    /// Move A to X.
    pub const TAX: u16 = 0x00;
    /// Move X to A.
    pub const TXA: u16 = 0x80;
}
