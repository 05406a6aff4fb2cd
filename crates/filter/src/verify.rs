//! The verifier: what must hold before a program may run.
//!
//! As the kernel's `bpf_check_classic` (`net/core/filter.c`) and libpcap's `bpf_validate`: known
//! instructions, jumps inside, a return at the end, scratch words that exist, no constant division
//! by zero, no constant shift of 32 or more. Three differences from the kernel, since programs of
//! expressions run in user space too: a program may be longer; a scratch word may be read before
//! it is written, since ours start as 0; and a plain jump (`ja`) may go back, as it does in the
//! programs of `protochain`, because the interpreter bounds the turns.

use crate::{Instruction, op};

/// Scratch words a program has (`BPF_MEMWORDS`).
pub const SCRATCH_WORDS: u32 = 16;
/// Instructions a program may have: some 10,000 rules of the widest kind. Running it then takes
/// 24 MiB.
pub const INSTRUCTIONS_MAX: usize = 1 << 20;
/// Instructions that the kernel takes (`BPF_MAXINSNS`).
pub const KERNEL_INSTRUCTIONS_MAX: usize = 4096;

/// Why a list of instructions is no program.
///
/// Positions count from 0, as in the listing that `Display` of [`Program`](crate::Program) prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No instruction at all.
    #[error("bpf: the program is empty; it needs at least a return")]
    Empty,
    /// More instructions than [`INSTRUCTIONS_MAX`].
    #[error("bpf: {got} instructions, at most {INSTRUCTIONS_MAX} fit; split the filter")]
    TooLong {
        /// Instructions given.
        got: usize,
    },
    /// More instructions than the kernel takes.
    #[error(
        "bpf: {got} instructions, beyond the kernel's limit of {KERNEL_INSTRUCTIONS_MAX}; use \
         fewer rules or a shorter expression"
    )]
    TooLongForKernel {
        /// Instructions needed.
        got: usize,
    },
    /// A jump back, which the kernel does not take.
    #[error("bpf: the program jumps back (`protochain` does), which the kernel does not take")]
    JumpsBack,
    /// A code that no classic BPF machine knows.
    #[error(
        "bpf: instruction {at}: unknown code {code:#06x}; only the codes of linux/filter.h run \
         here (no extended BPF)"
    )]
    UnknownCode {
        /// Position.
        at: usize,
        /// The code.
        code: u16,
    },
    /// A jump behind the last instruction or before the first.
    #[error(
        "bpf: instruction {at}: jump to {target}, the program goes from 0 to {last}; shorten the jump"
    )]
    JumpOutside {
        /// Position.
        at: usize,
        /// Position it would go to.
        target: i64,
        /// Position of the last instruction.
        last: usize,
    },
    /// The last instruction is no return.
    #[error("bpf: instruction {at}, the last, has code {code:#06x}; end the program in a return")]
    NoReturn {
        /// Position.
        at: usize,
        /// Its code.
        code: u16,
    },
    /// A scratch word that does not exist.
    #[error("bpf: instruction {at}: scratch word {word}; they go from 0 to 15")]
    ScratchOutside {
        /// Position.
        at: usize,
        /// The word's number.
        word: u32,
    },
    /// A division or remainder by a constant 0.
    #[error("bpf: instruction {at}: division by a constant 0; divide by 1 or more")]
    DivisionByZero {
        /// Position.
        at: usize,
    },
    /// A shift by a constant of 32 or more.
    #[error("bpf: instruction {at}: shift by {bits} bits; A has 32, shift by 0 to 31")]
    ShiftOutside {
        /// Position.
        at: usize,
        /// Bits to shift by.
        bits: u32,
    },
}

/// Checks a list of instructions. The first offender is the one reported.
pub(crate) fn verify(program: &[Instruction]) -> Result<(), Error> {
    if program.len() > INSTRUCTIONS_MAX {
        return Err(Error::TooLong { got: program.len() });
    }
    let Some(end) = program.last() else { return Err(Error::Empty) };
    let last = program.len() - 1;
    program.iter().enumerate().try_for_each(|(at, i)| instruction(at, last, i))?;
    if end.code & 0x07 != op::RET {
        return Err(Error::NoReturn { at: last, code: end.code });
    }
    Ok(())
}

fn instruction(at: usize, last: usize, i: &Instruction) -> Result<(), Error> {
    if !known(i.code) {
        return Err(Error::UnknownCode { at, code: i.code });
    }
    match i.code & 0x07 {
        op::LD | op::LDX if i.code & 0xe0 == op::MEM => scratch(at, i.k),
        op::ST | op::STX => scratch(at, i.k),
        op::ALU if i.code & op::X == 0 => match i.code & 0xf0 {
            op::DIV | op::MOD if i.k == 0 => Err(Error::DivisionByZero { at }),
            op::LSH | op::RSH if i.k >= 32 => Err(Error::ShiftOutside { at, bits: i.k }),
            _ => Ok(()),
        },
        op::JMP if i.code & 0xf0 == op::JA => jump(at, last, i.k.cast_signed()),
        op::JMP => jump(at, last, i32::from(i.jt)).and(jump(at, last, i32::from(i.jf))),
        _ => Ok(()),
    }
}

fn scratch(at: usize, word: u32) -> Result<(), Error> {
    if word < SCRATCH_WORDS { Ok(()) } else { Err(Error::ScratchOutside { at, word }) }
}

fn jump(at: usize, last: usize, skip: i32) -> Result<(), Error> {
    let target = at as i64 + 1 + i64::from(skip);
    if (0..=last as i64).contains(&target) {
        Ok(())
    } else {
        Err(Error::JumpOutside { at, target, last })
    }
}

/// Whether a code is one of the 49 of classic BPF, bit for bit.
pub(crate) const fn known(code: u16) -> bool {
    match code & 0x07 {
        op::LD => matches!(
            code,
            // ABS, IND in three sizes; the rest are words.
            0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 | 0x00 | 0x60 | 0x80
        ),
        op::LDX => matches!(code, 0x01 | 0x61 | 0x81 | 0xb1),
        op::ST | op::STX => code < 0x08,
        op::ALU => code <= 0xaf && code != (op::ALU | op::NEG | op::X),
        op::JMP => code <= 0x4f && code != (op::JMP | op::JA | op::X),
        op::RET => matches!(code, 0x06 | 0x16),
        _ => matches!(code, 0x07 | 0x87),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RET: Instruction = Instruction::new(op::RET | op::K, 0, 0, 1);

    fn check(code: u16, jt: u8, jf: u8, k: u32) -> Result<(), Error> {
        verify(&[Instruction::new(code, jt, jf, k), RET, RET])
    }

    #[test]
    fn there_are_49_codes() {
        assert_eq!((0..=u16::MAX).filter(|&code| known(code)).count(), 49);
    }

    #[test]
    fn an_unknown_code_is_named() {
        // Extended BPF's exit, a half-word load into X, ld with both size bits, neg with X, ja x.
        for code in [0x95, 0x29, 0x38, 0x8c, 0x0d, 0xb4, 0x55, 0x0e, 0x17, 0x0a, 0x120, 0xffff] {
            assert_eq!(check(code, 0, 0, 0), Err(Error::UnknownCode { at: 0, code }));
        }
    }

    #[test]
    fn a_jump_lands_inside() {
        let outside = Error::JumpOutside { at: 0, target: 3, last: 2 };
        for code in [0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d] {
            assert_eq!(check(code, 1, 1, 0), Ok(()));
            assert_eq!(check(code, 2, 0, 0), Err(outside));
            assert_eq!(check(code, 0, 2, 0), Err(outside));
        }
        assert_eq!(check(0x05, 9, 9, 1), Ok(()));
        assert_eq!(check(0x05, 0, 0, 2), Err(outside));
        // A plain jump is signed: −1 is itself, −2 from here is before the first.
        assert_eq!(check(0x05, 0, 0, u32::MAX), Ok(()));
        let before = Error::JumpOutside { at: 0, target: -1, last: 2 };
        assert_eq!(check(0x05, 0, 0, u32::MAX - 1), Err(before));
    }

    #[test]
    fn the_end_is_a_return() {
        let tax = Instruction::new(op::MISC | op::TAX, 0, 0, 0);
        assert_eq!(verify(&[RET, tax]), Err(Error::NoReturn { at: 1, code: 0x07 }));
        let ja = Instruction::new(op::JMP | op::JA, 0, 0, 0);
        assert_eq!(verify(&[ja]), Err(Error::JumpOutside { at: 0, target: 1, last: 0 }));
    }

    #[test]
    fn scratch_words_are_sixteen() {
        for code in [0x60, 0x61, 0x02, 0x03] {
            assert_eq!(check(code, 0, 0, 15), Ok(()));
            assert_eq!(check(code, 0, 0, 16), Err(Error::ScratchOutside { at: 0, word: 16 }));
        }
    }

    #[test]
    fn constants_divide_and_shift_within_reason() {
        for code in [0x34, 0x94] {
            assert_eq!(check(code, 0, 0, 1), Ok(()));
            assert_eq!(check(code, 0, 0, 0), Err(Error::DivisionByZero { at: 0 }));
            assert_eq!(check(code | op::X, 0, 0, 0), Ok(()));
        }
        for code in [0x64, 0x74] {
            assert_eq!(check(code, 0, 0, 31), Ok(()));
            assert_eq!(check(code, 0, 0, 32), Err(Error::ShiftOutside { at: 0, bits: 32 }));
            assert_eq!(check(code | op::X, 0, 0, 32), Ok(()));
        }
    }

    #[test]
    fn length_has_limits() {
        assert_eq!(verify(&[]), Err(Error::Empty));
        assert_eq!(verify(&vec![RET; INSTRUCTIONS_MAX]), Ok(()));
        let got = INSTRUCTIONS_MAX + 1;
        assert_eq!(verify(&vec![RET; got]), Err(Error::TooLong { got }));
    }

    #[test]
    fn messages_say_where_and_what_to_do() {
        let e = check(0x60, 0, 0, 99).unwrap_err();
        assert_eq!(e.to_string(), "bpf: instruction 0: scratch word 99; they go from 0 to 15");
    }
}
