//! Listings of a program, in the formats of `tcpdump -d` and `tcpdump -ddd`.
//!
//! ```text
//! (000) ldh      [12]                              20
//! (001) jeq      #0x800           jt 2   jf 3      40 0 0 12
//! (002) ret      #262144                           21 0 1 2048
//! (003) ret      #0                                …
//! ```
//!
//! In the first, a tab stands before `jf`, and numbers that are not masks print as signed. The one
//! difference: `ldx` of the wire length, which libpcap prints as unknown, prints as `ldx #pktlen`.

use crate::{Instruction, Program, op};
use core::fmt;

impl fmt::Display for Program {
    /// One line an instruction, each ended by a newline, as `tcpdump -d` prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.instructions().iter().enumerate().try_for_each(|(at, i)| line(f, at, i))
    }
}

/// The decimal listing of a program: its length, then code, jt, jf and k a line.
#[derive(Debug, Clone, Copy)]
pub struct Decimal<'a>(pub(crate) &'a [Instruction]);

impl fmt::Display for Decimal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.0.len())?;
        self.0.iter().try_for_each(|i| writeln!(f, "{} {} {} {}", i.code, i.jt, i.jf, i.k))
    }
}

fn line(f: &mut fmt::Formatter<'_>, at: usize, i: &Instruction) -> fmt::Result {
    let name = name(i.code);
    let operand = operand(at, i);
    if i.code & 0x07 == op::JMP && i.code & 0xf0 != op::JA {
        let (jt, jf) = (at + 1 + usize::from(i.jt), at + 1 + usize::from(i.jf));
        writeln!(f, "({at:03}) {name:<8} {operand:<16} jt {jt}\tjf {jf}")
    } else {
        writeln!(f, "({at:03}) {name:<8} {operand}")
    }
}

fn name(code: u16) -> &'static str {
    let size = usize::from(code >> 3 & 3);
    let operation = usize::from(code >> 4);
    match code & 0x07 {
        op::LD => ["ld", "ldh", "ldb", "ld"][size],
        op::LDX if code & 0xe0 == op::MSH => "ldxb",
        op::LDX => "ldx",
        op::ST => "st",
        op::STX => "stx",
        op::ALU => {
            ["add", "sub", "mul", "div", "or", "and", "lsh", "rsh", "neg", "mod", "xor"][operation]
        }
        op::JMP => ["ja", "jeq", "jgt", "jge", "jset"][operation],
        op::RET => "ret",
        _ if code & 0x80 == op::TXA => "txa",
        _ => "tax",
    }
}

fn operand(at: usize, i: &Instruction) -> String {
    let k = i.k.cast_signed();
    match i.code & 0x07 {
        op::LD | op::LDX => match i.code & 0xe0 {
            op::IMM => format!("#0x{:x}", i.k),
            op::ABS => format!("[{k}]"),
            op::IND => format!("[x + {k}]"),
            op::MEM => format!("M[{k}]"),
            op::LEN => "#pktlen".to_owned(),
            _ => format!("4*([{k}]&0xf)"),
        },
        op::ST | op::STX => format!("M[{k}]"),
        op::ALU => match i.code & 0xf0 {
            op::NEG => String::new(),
            _ if i.code & op::X != 0 => "x".to_owned(),
            op::OR | op::AND | op::XOR => format!("#0x{:x}", i.k),
            _ => format!("#{k}"),
        },
        op::JMP if i.code & 0xf0 == op::JA => format!("{}", at as i64 + 1 + i64::from(k)),
        op::JMP if i.code & op::X != 0 => "x".to_owned(),
        op::JMP => format!("#0x{:x}", i.k),
        op::RET if i.code & op::A == 0 => format!("#{k}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // (code, k, text) at position 7 with jt 1 and jf 2, as libpcap 1.10.3's bpf_image prints them.
    const LINES: &[(u16, u32, &str)] = &[
        (0x20, 5, "ld       [5]"),
        (0x28, 0x8000_0001, "ldh      [-2147483647]"),
        (0x30, 5, "ldb      [5]"),
        (0x40, 0x8000_0001, "ld       [x + -2147483647]"),
        (0x48, 5, "ldh      [x + 5]"),
        (0x50, 5, "ldb      [x + 5]"),
        (0x80, 5, "ld       #pktlen"),
        (0x00, 0x8000_0001, "ld       #0x80000001"),
        (0x60, 5, "ld       M[5]"),
        (0x01, 5, "ldx      #0x5"),
        (0x61, 5, "ldx      M[5]"),
        (0xb1, 14, "ldxb     4*([14]&0xf)"),
        (0x02, 5, "st       M[5]"),
        (0x03, 5, "stx      M[5]"),
        (0x04, 0x8000_0001, "add      #-2147483647"),
        (0x0c, 5, "add      x"),
        (0x14, 5, "sub      #5"),
        (0x1c, 5, "sub      x"),
        (0x24, 5, "mul      #5"),
        (0x2c, 5, "mul      x"),
        (0x34, 5, "div      #5"),
        (0x3c, 5, "div      x"),
        (0x44, 5, "or       #0x5"),
        (0x4c, 5, "or       x"),
        (0x54, 0x8000_0001, "and      #0x80000001"),
        (0x5c, 5, "and      x"),
        (0x64, 5, "lsh      #5"),
        (0x6c, 5, "lsh      x"),
        (0x74, 5, "rsh      #5"),
        (0x7c, 5, "rsh      x"),
        (0x84, 5, "neg      "),
        (0x94, 5, "mod      #5"),
        (0x9c, 5, "mod      x"),
        (0xa4, 5, "xor      #0x5"),
        (0xac, 5, "xor      x"),
        (0x07, 5, "tax      "),
        (0x87, 5, "txa      "),
        (0x06, 0x8000_0001, "ret      #-2147483647"),
        (0x16, 5, "ret      "),
        (0x05, 5, "ja       13"),
        (0x05, 0xffff_fffa, "ja       2"),
        (0x15, 0x8000_0001, "jeq      #0x80000001      jt 9\tjf 10"),
        (0x1d, 5, "jeq      x                jt 9\tjf 10"),
        (0x25, 5, "jgt      #0x5             jt 9\tjf 10"),
        (0x2d, 5, "jgt      x                jt 9\tjf 10"),
        (0x35, 5, "jge      #0x5             jt 9\tjf 10"),
        (0x3d, 5, "jge      x                jt 9\tjf 10"),
        (0x45, 5, "jset     #0x5             jt 9\tjf 10"),
        (0x4d, 5, "jset     x                jt 9\tjf 10"),
    ];

    #[test]
    fn every_opcode_prints_as_tcpdump_prints_it() {
        for &(code, k, text) in LINES {
            let mut program = vec![Instruction::new(op::RET | op::A, 0, 0, 0); 20];
            program[7] = Instruction::new(code, 1, 2, k);
            let program = Program::new(program).unwrap();
            let listing = program.to_string();
            assert_eq!(listing.lines().nth(7), Some(format!("(007) {text}").as_str()));
        }
    }

    #[test]
    fn the_decimal_listing_starts_with_its_length() {
        let program = Program::new(vec![
            Instruction::new(0x28, 0, 0, 12),
            Instruction::new(0x15, 0, 1, 2048),
            Instruction::new(0x06, 0, 0, 262_144),
            Instruction::new(0x06, 0, 0, 0),
        ])
        .unwrap();
        assert_eq!(
            program.decimal().to_string(),
            "4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n"
        );
    }
}
