//! The interpreter: a decoded program over a frame.
//!
//! Semantics are those of libpcap's `bpf_filter`, which `tcpdump -r` runs: loads are big endian, a
//! load past the bytes present returns 0 (no match) and so does a division by an X of 0, all
//! arithmetic is unsigned modulo 2³², X + k of an indexed load does not wrap, a shift by an X of 32
//! or more gives 0. A program that jumps back more often than the frame has bytes returns 0, where
//! libpcap would not end. The kernel's negative offsets (`SKF_AD_OFF`) mean nothing here: past the end.

use crate::decode::Op;

/// Runs verified operations; 0 is no match. See [`Program::run`](crate::Program::run).
pub(crate) fn run(ops: &[Op], frame: &[u8], origlen: u32) -> u32 {
    // `None` is a program that a load past the end or a division by 0 has ended.
    steps(ops, frame, origlen).unwrap_or(0)
}

#[inline(always)]
fn steps(ops: &[Op], frame: &[u8], origlen: u32) -> Option<u32> {
    let mut a = 0u32;
    let mut x = 0u32;
    let mut scratch = [0u32; 16];
    let mut at = 0usize;
    // A turn of `protochain` moves X on by 8 bytes or more, so its loads reach the end long before.
    let mut turns = frame.len();
    // Ends: the last operation returns, and every target but those of counted turns lies ahead of
    // its jump (verified).
    loop {
        let op = ops[at];
        at += 1;
        match op {
            Op::LoadWord(k) => a = word(frame, k as usize)?,
            Op::LoadHalf(k) => a = half(frame, k as usize)?,
            Op::LoadByte(k) => a = byte(frame, k as usize)?,
            Op::LoadWordX(k) => a = word(frame, indexed(x, k)?)?,
            Op::LoadHalfX(k) => a = half(frame, indexed(x, k)?)?,
            Op::LoadByteX(k) => a = byte(frame, indexed(x, k)?)?,
            Op::LoadImm(k) => a = k,
            Op::LoadScratch(n) => a = scratch[usize::from(n & 15)],
            Op::LoadLen => a = origlen,
            Op::LoadXImm(k) => x = k,
            Op::LoadXScratch(n) => x = scratch[usize::from(n & 15)],
            Op::LoadXLen => x = origlen,
            Op::LoadXHeader(k) => x = (byte(frame, k as usize)? & 0x0f) << 2,
            Op::Store(n) => scratch[usize::from(n & 15)] = a,
            Op::StoreX(n) => scratch[usize::from(n & 15)] = x,
            Op::Tax => x = a,
            Op::Txa => a = x,
            Op::AddK(k) => a = a.wrapping_add(k),
            Op::SubK(k) => a = a.wrapping_sub(k),
            Op::MulK(k) => a = a.wrapping_mul(k),
            Op::DivK(k) => a = a.checked_div(k)?,
            Op::ModK(k) => a = a.checked_rem(k)?,
            Op::OrK(k) => a |= k,
            Op::AndK(k) => a &= k,
            Op::XorK(k) => a ^= k,
            Op::LshK(k) => a = a.checked_shl(k).unwrap_or(0),
            Op::RshK(k) => a = a.checked_shr(k).unwrap_or(0),
            Op::Neg => a = a.wrapping_neg(),
            Op::AddX => a = a.wrapping_add(x),
            Op::SubX => a = a.wrapping_sub(x),
            Op::MulX => a = a.wrapping_mul(x),
            Op::DivX => a = a.checked_div(x)?,
            Op::ModX => a = a.checked_rem(x)?,
            Op::OrX => a |= x,
            Op::AndX => a &= x,
            Op::XorX => a ^= x,
            Op::LshX => a = a.checked_shl(x).unwrap_or(0),
            Op::RshX => a = a.checked_shr(x).unwrap_or(0),
            Op::Jump(t) => at = t as usize,
            Op::JumpBack(t) => {
                turns = turns.checked_sub(1)?;
                at = t as usize;
            }
            Op::JeqK { k, t, f } => at = choose(a == k, t, f),
            Op::JgtK { k, t, f } => at = choose(a > k, t, f),
            Op::JgeK { k, t, f } => at = choose(a >= k, t, f),
            Op::JsetK { k, t, f } => at = choose(a & k != 0, t, f),
            Op::JeqX { t, f } => at = choose(a == x, t, f),
            Op::JgtX { t, f } => at = choose(a > x, t, f),
            Op::JgeX { t, f } => at = choose(a >= x, t, f),
            Op::JsetX { t, f } => at = choose(a & x != 0, t, f),
            Op::RetK(k) => return Some(k),
            Op::RetA => return Some(a),
            Op::HalfJeq { at: offset, k, t, f } => {
                a = half(frame, usize::from(offset))?;
                at = choose(a == k, t, f);
            }
            Op::ByteJeq { at: offset, k, t, f } => {
                a = byte(frame, usize::from(offset))?;
                at = choose(a == k, t, f);
            }
            Op::WordJeq { at: offset, k, t, f } => {
                a = word(frame, usize::from(offset))?;
                at = choose(a == k, t, f);
            }
            Op::HalfXJeq { at: offset, k, t, f } => {
                a = half(frame, indexed(x, offset.into())?)?;
                at = choose(a == k, t, f);
            }
            Op::ScratchJeq { word, k, t, f } => {
                a = scratch[usize::from(word & 15)];
                at = choose(a == k, t, f);
            }
            Op::ScratchJgt { word, k, t, f } => {
                a = scratch[usize::from(word & 15)];
                at = choose(a > k, t, f);
            }
            Op::ScratchJge { word, k, t, f } => {
                a = scratch[usize::from(word & 15)];
                at = choose(a >= k, t, f);
            }
            Op::HalfJset { at: offset, k, t, f } => {
                a = half(frame, usize::from(offset))?;
                at = choose(a & k != 0, t, f);
            }
        }
    }
}

#[inline(always)]
fn choose(is_true: bool, t: u32, f: u32) -> usize {
    (if is_true { t } else { f }) as usize
}

#[inline(always)]
fn indexed(x: u32, k: u32) -> Option<usize> {
    x.checked_add(k).map(|at| at as usize)
}

#[inline(always)]
fn word(frame: &[u8], at: usize) -> Option<u32> {
    frame.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

#[inline(always)]
fn half(frame: &[u8], at: usize) -> Option<u32> {
    frame.get(at..)?.first_chunk().map(|b| u32::from(u16::from_be_bytes(*b)))
}

#[inline(always)]
fn byte(frame: &[u8], at: usize) -> Option<u32> {
    frame.get(at).map(|b| u32::from(*b))
}

#[cfg(test)]
mod tests {
    use crate::{Instruction, Program};

    const FRAME: [u8; 8] = [0x45, 0x81, 0x02, 0x83, 0x04, 0x05, 0x86, 0xff];
    const RET_A: Instruction = Instruction::new(0x16, 0, 0, 0);

    /// Runs `code k` with A and X set, and returns A as the verdict.
    fn a_after(a: u32, x: u32, code: u16, k: u32) -> u32 {
        let program = [
            Instruction::new(0x01, 0, 0, x),
            Instruction::new(0x00, 0, 0, a),
            Instruction::new(code, 0, 0, k),
            RET_A,
        ];
        Program::new(program.to_vec()).unwrap().run(&FRAME, 1500)
    }

    /// The same, with X as the verdict.
    fn x_after(a: u32, x: u32, code: u16, k: u32) -> u32 {
        let program = [
            Instruction::new(0x01, 0, 0, x),
            Instruction::new(0x00, 0, 0, a),
            Instruction::new(code, 0, 0, k),
            Instruction::new(0x87, 0, 0, 0),
            RET_A,
        ];
        Program::new(program.to_vec()).unwrap().run(&FRAME, 1500)
    }

    #[test]
    fn loads_are_big_endian_and_end_the_program_past_the_end() {
        // (code, x, k, A afterwards; 0 is the verdict of a load past the end)
        let vectors = [
            (0x20, 0, 0, 0x4581_0283), // ld [k]
            (0x20, 0, 4, 0x0405_86ff),
            (0x20, 0, 5, 0),
            (0x20, 0, u32::MAX, 0),
            (0x28, 0, 1, 0x8102), // ldh [k]
            (0x28, 0, 6, 0x86ff),
            (0x28, 0, 7, 0),
            (0x30, 0, 7, 0xff), // ldb [k]
            (0x30, 0, 8, 0),
            (0x30, 0, 0xffff_f004, 0), // the kernel's SKF_AD_PKTTYPE
            (0x40, 1, 1, 0x0283_0405), // ld [x + k]
            (0x40, 4, 1, 0),
            (0x48, 2, 4, 0x86ff), // ldh [x + k]
            (0x48, 7, 0, 0),
            (0x50, 3, 4, 0xff), // ldb [x + k]
            (0x50, 8, 0, 0),
            (0x50, u32::MAX, 1, 0), // X + k does not wrap to byte 0
            (0x80, 0, 0, 1500),     // ld #pktlen: the wire's length, not the bytes present
            (0x00, 0, 77, 77),      // ld #k
            (0x60, 0, 3, 0),        // ld M[k]: scratch words start as 0
        ];
        for (code, x, k, a) in vectors {
            assert_eq!(a_after(9, x, code, k), a, "code {code:#x} x {x} k {k}");
        }
    }

    #[test]
    fn loads_into_x() {
        assert_eq!(x_after(9, 9, 0x01, 77), 77);
        assert_eq!(x_after(9, 9, 0x81, 0), 1500);
        assert_eq!(x_after(9, 9, 0x61, 3), 0);
        assert_eq!(x_after(9, 9, 0xb1, 0), 20); // 4 × (0x45 & 15)
        assert_eq!(x_after(9, 9, 0xb1, 8), 0); // past the end: the verdict
        assert_eq!(x_after(5, 9, 0x07, 0), 5); // tax
        assert_eq!(a_after(5, 9, 0x87, 0), 9); // txa
    }

    #[test]
    fn arithmetic_is_unsigned_and_wraps() {
        // (operation, a, operand, A afterwards), with the operand as constant and as X
        let vectors = [
            (0x04, u32::MAX, 2, 1), // add
            (0x14, 1, 2, u32::MAX), // sub
            (0x24, 0x8000_0001, 2, 2),
            (0x34, u32::MAX, 2, 0x7fff_ffff), // div
            (0x44, 0b1100, 0b1010, 0b1110),
            (0x54, 0b1100, 0b1010, 0b1000),
            (0x64, 0x8000_0001, 31, 0x8000_0000), // lsh
            (0x74, 0x8000_0001, 31, 1),           // rsh
            (0x94, u32::MAX, 10, 5),              // mod
            (0xa4, 0b1100, 0b1010, 0b0110),
        ];
        for (code, a, operand, result) in vectors {
            assert_eq!(a_after(a, 9, code, operand), result, "code {code:#x}");
            assert_eq!(a_after(a, operand, code | 0x08, 9), result, "code {:#x}", code | 0x08);
        }
        assert_eq!(a_after(1, 9, 0x84, 0), u32::MAX); // neg
        assert_eq!(a_after(0x8000_0000, 9, 0x84, 0), 0x8000_0000);
    }

    #[test]
    fn an_x_of_zero_ends_a_division_and_one_of_32_shifts_all_out() {
        for code in [0x3c, 0x9c] {
            assert_eq!(a_after(7, 0, code, 0), 0);
        }
        for code in [0x6c, 0x7c] {
            assert_eq!(a_after(7, 32, code, 0), 0);
            assert_eq!(a_after(7, u32::MAX, code, 0), 0);
        }
    }

    #[test]
    fn stores_keep_a_and_x_apart() {
        let program = Program::new(vec![
            Instruction::new(0x00, 0, 0, 5),  // ld #5
            Instruction::new(0x01, 0, 0, 7),  // ldx #7
            Instruction::new(0x02, 0, 0, 15), // st M[15]
            Instruction::new(0x03, 0, 0, 0),  // stx M[0]
            Instruction::new(0x61, 0, 0, 15), // ldx M[15]
            Instruction::new(0x60, 0, 0, 0),  // ld M[0]
            Instruction::new(0x64, 0, 0, 8),  // lsh #8
            Instruction::new(0x0c, 0, 0, 0),  // add x
            RET_A,
        ])
        .unwrap();
        assert_eq!(program.run(&[], 0), 0x0705);
    }

    #[test]
    fn comparisons_are_unsigned() {
        // (operation, a, operand, taken), with the operand as constant and as X
        let vectors = [
            (0x15, 5, 5, true),
            (0x15, 5, 6, false),
            (0x25, u32::MAX, 1, true),
            (0x25, 5, 5, false),
            (0x35, 5, 5, true),
            (0x35, 4, 5, false),
            (0x45, 6, 2, true),
            (0x45, 6, 1, false),
        ];
        for (code, a, operand, taken) in vectors {
            for (code, x, k) in [(code, 99, operand), (code | 0x08, operand, 99)] {
                let program = Program::new(vec![
                    Instruction::new(0x01, 0, 0, x),
                    Instruction::new(0x00, 0, 0, a),
                    Instruction::new(code, 1, 2, k),
                    Instruction::new(0x06, 0, 0, 100),
                    Instruction::new(0x06, 0, 0, 1),
                    Instruction::new(0x06, 0, 0, 2),
                ])
                .unwrap();
                assert_eq!(program.run(&[], 0), if taken { 1 } else { 2 }, "code {code:#x}");
            }
        }
    }

    #[test]
    fn turns_are_bounded_by_the_frame() {
        // Adds 1 for each turn, and leaves after three; or never.
        let turning = |last_turn| {
            Program::new(vec![
                Instruction::new(0x04, 0, 0, 1),            // add #1
                Instruction::new(0x15, 1, 0, last_turn),    // jeq #last_turn jt 3 jf 2
                Instruction::new(0x05, 0, 0, u32::MAX - 2), // ja 0
                RET_A,
            ])
            .unwrap()
        };
        assert_eq!(turning(3).run(&FRAME, 8), 3);
        assert_eq!(turning(9).run(&FRAME, 8), 9);
        assert_eq!(turning(10).run(&FRAME, 8), 0);
        assert_eq!(turning(2).run(&[], 8), 0);
        assert!(!turning(3).fits_kernel());
    }

    #[test]
    fn a_plain_jump_skips_k() {
        let program = Program::new(vec![
            Instruction::new(0x05, 0, 0, 1),
            Instruction::new(0x06, 0, 0, 1),
            Instruction::new(0x06, 0, 0, 2),
        ])
        .unwrap();
        assert_eq!(program.run(&[], 0), 2);
    }
}
