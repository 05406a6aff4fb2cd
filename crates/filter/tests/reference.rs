//! Random programs over random frames: the interpreter against a plain reading of the rules.

use filter::{Error, Instruction, Program};
use proptest::prelude::*;

/// Runs instructions one by one, straight from their bits, counting steps.
///
/// Returns the verdict and the steps taken, which the turns that a frame allows bound.
fn reference(program: &[Instruction], frame: &[u8], origlen: u32) -> (u32, usize) {
    let (mut a, mut x, mut scratch) = (0u32, 0u32, [0u32; 16]);
    let (mut at, mut turns) = (0usize, 0);
    let load = |start: u64, bytes: u64| -> Option<u32> {
        if start + bytes > frame.len() as u64 {
            return None;
        }
        let bytes = &frame[start as usize..(start + bytes) as usize];
        Some(bytes.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
    };
    for step in 1.. {
        let i = program[at];
        let (k, wide) = (i.k, u64::from(i.k));
        at += 1;
        let operand = if i.code & 8 == 0 { k } else { x };
        let mut compare = |yes: bool| at += usize::from(if yes { i.jt } else { i.jf });
        match i.code {
            0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 => {
                let start = if i.code & 0x40 != 0 { wide + u64::from(x) } else { wide };
                let bytes = [4, 2, 1][usize::from(i.code >> 3 & 3)];
                match load(start, bytes) {
                    Some(value) => a = value,
                    None => return (0, step),
                }
            }
            0x00 => a = k,
            0x60 => a = scratch[k as usize],
            0x80 => a = origlen,
            0x01 => x = k,
            0x61 => x = scratch[k as usize],
            0x81 => x = origlen,
            0xb1 => match load(wide, 1) {
                Some(value) => x = value % 16 * 4,
                None => return (0, step),
            },
            0x02 => scratch[k as usize] = a,
            0x03 => scratch[k as usize] = x,
            0x04 | 0x0c => a = (u64::from(a) + u64::from(operand)) as u32,
            0x14 | 0x1c => a = (i64::from(a) - i64::from(operand)) as u32,
            0x24 | 0x2c => a = (u64::from(a) * u64::from(operand)) as u32,
            0x3c | 0x9c if operand == 0 => return (0, step),
            0x34 | 0x3c => a /= operand,
            0x94 | 0x9c => a %= operand,
            0x44 | 0x4c => a |= operand,
            0x54 | 0x5c => a &= operand,
            0xa4 | 0xac => a ^= operand,
            0x64 | 0x6c => a = if operand < 32 { a << operand } else { 0 },
            0x74 | 0x7c => a = if operand < 32 { a >> operand } else { 0 },
            0x84 => a = (-i64::from(a)) as u32,
            0x07 => x = a,
            0x87 => a = x,
            0x05 if k >> 31 == 1 && turns == frame.len() => return (0, step),
            0x05 => {
                turns += usize::try_from(k >> 31).unwrap_or(0);
                at = at.wrapping_add_signed(k as i32 as isize);
            }
            0x15 | 0x1d => compare(a == operand),
            0x25 | 0x2d => compare(a > operand),
            0x35 | 0x3d => compare(a >= operand),
            0x45 | 0x4d => compare(a & operand != 0),
            0x06 => return (k, step),
            0x16 => return (a, step),
            code => panic!("code {code:#x} passed the verifier"),
        }
    }
    unreachable!("a loop without end")
}

const CODES: [u16; 49] = [
    0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x00, 0x60, 0x80, 0x01, 0x61, 0x81, 0xb1, 0x02, 0x03, 0x04,
    0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84,
    0x94, 0x9c, 0xa4, 0xac, 0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d, 0x06, 0x16, 0x07,
    0x87,
];

/// Numbers that hit: near offsets, shift counts, extremes, and bytes that frames are full of.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..48u32, 1 => any::<u32>(), 1 => Just(u32::MAX), 1 => 0x0800..0x0810u32]
}

/// Instructions that are mostly valid where they stand; returns are made rare.
fn instructions() -> impl Strategy<Value = Vec<Instruction>> {
    let one = (0..CODES.len() * 4, any::<u8>(), any::<u8>(), number());
    prop::collection::vec(one, 1..60).prop_map(|raw| {
        let last = raw.len();
        let mut program: Vec<Instruction> = raw
            .into_iter()
            .enumerate()
            .map(|(at, (pick, jt, jf, k))| {
                let code = CODES[pick % CODES.len()];
                let code = if code & 7 == 6 && pick >= CODES.len() { 0x28 } else { code };
                let room = (last - at - 1).min(8) + 1;
                let near = |n: u32| n % room as u32;
                let k = match code {
                    0x60 | 0x61 | 0x02 | 0x03 => k % 16,
                    0x34 | 0x94 => k.max(1),
                    0x64 | 0x74 => k % 32,
                    0x05 if jf % 4 == 0 => (k % (at as u32 + 1) + 1).wrapping_neg(),
                    0x05 => near(k),
                    _ => k,
                };
                let jump = |n: u8| near(u32::from(n)) as u8;
                Instruction::new(code, jump(jt), jump(jf), k)
            })
            .collect();
        program.push(Instruction::new(0x16, 0, 0, 0));
        program
    })
}

/// Frames of few distinct bytes, so that comparisons are true now and then.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0u8), Just(8), 0..20u8, any::<u8>()], 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_interpreter_agrees_with_the_reference(
        program in instructions(), frame in frame(), origlen in any::<u32>(),
    ) {
        let (verdict, steps) = reference(&program, &frame, origlen);
        prop_assert!(steps <= program.len() * (frame.len() + 1));
        let compiled = Program::new(program).unwrap();
        prop_assert_eq!(compiled.run(&frame, origlen), verdict, "{}", compiled);
    }

    #[test]
    fn whatever_the_verifier_accepts_runs_and_prints(
        raw in prop::collection::vec((0..0x120u16, any::<u8>(), any::<u8>(), number()), 0..6),
        frame in frame(),
    ) {
        let mut program: Vec<Instruction> = raw
            .into_iter()
            .map(|(code, jt, jf, k)| Instruction::new(code, jt % 8, jf % 8, k))
            .collect();
        program.push(Instruction::new(0x06, 0, 0, 1));
        match Program::new(program.clone()) {
            Ok(compiled) => {
                prop_assert_eq!(compiled.run(&frame, 60), reference(&program, &frame, 60).0);
                prop_assert_eq!(compiled.to_string().lines().count(), program.len());
            }
            Err(e) => prop_assert_ne!(e, Error::Empty),
        }
    }
}
