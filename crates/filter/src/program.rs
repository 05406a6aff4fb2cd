//! The one program form: verified instructions beside the form that runs.

use crate::decode::{self, Op};
use crate::verify::verify;
use crate::{Decimal, Error, Instruction, KERNEL_INSTRUCTIONS_MAX, interpret, op};

/// A verified classic BPF program.
///
/// Every jump lands inside, every path ends in a return, and only plain jumps go back, at most once
/// for each byte of the frame; so running it ends. Immutable; share it between threads by reference.
///
/// `Display` prints the listing of `tcpdump -d`, [`Self::decimal`] that of `tcpdump -ddd`.
#[derive(Debug, Clone)]
pub struct Program {
    instructions: Box<[Instruction]>,
    ops: Box<[Op]>,
}

impl Program {
    /// Verifies instructions and decodes them for running.
    ///
    /// # Errors
    /// What makes them no program, with the position of the first offender. See [`Error`].
    pub fn new(instructions: Vec<Instruction>) -> Result<Self, Error> {
        verify(&instructions)?;
        let ops = decode::decode(&instructions);
        Ok(Program { instructions: instructions.into_boxed_slice(), ops })
    }

    /// The program that matches every frame and returns `verdict` for it.
    ///
    /// A `verdict` of 0 makes the program that matches none.
    pub fn constant(verdict: u32) -> Self {
        Program::new(vec![Instruction::new(op::RET | op::K, 0, 0, verdict)])
            .expect("one return is a valid program")
    }

    /// Runs the program over a frame; 0 means no match, any other value a match.
    ///
    /// `frame` holds the bytes present (caplen), from the first byte of the link layer; `origlen`
    /// is the length on the wire in bytes, which only `len`, `greater` and `less` read. A load that
    /// reaches past `frame`, and a division by an X of 0, end the program with 0. Scratch words
    /// start as 0. Allocates nothing.
    #[inline]
    pub fn run(&self, frame: &[u8], origlen: u32) -> u32 {
        interpret::run(&self.ops, frame, origlen)
    }

    /// Whether a frame matches: [`Self::run`] is not 0.
    #[inline]
    pub fn matches(&self, frame: &[u8], origlen: u32) -> bool {
        self.run(frame, origlen) != 0
    }

    /// The instructions, as given to [`Self::new`].
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Whether the kernel may take it (`SO_ATTACH_FILTER`): short enough, and never jumps back.
    ///
    /// It may still refuse one that reads a scratch word before writing it.
    pub fn fits_kernel(&self) -> bool {
        let goes_back = |i: &Instruction| i.code == op::JMP | op::JA && i.k.cast_signed() < 0;
        self.instructions.len() <= KERNEL_INSTRUCTIONS_MAX
            && !self.instructions.iter().any(goes_back)
    }

    /// The decimal listing that `tcpdump -ddd` prints.
    pub fn decimal(&self) -> Decimal<'_> {
        Decimal(&self.instructions)
    }
}

// The decoded form follows from the instructions, so they alone tell programs apart.
impl PartialEq for Program {
    fn eq(&self, other: &Self) -> bool {
        self.instructions == other.instructions
    }
}

impl Eq for Program {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_program_returns_its_verdict_for_any_frame() {
        assert_eq!(Program::constant(7).run(&[], 0), 7);
        assert!(!Program::constant(0).matches(&[1, 2, 3], 3));
    }

    #[test]
    fn equality_looks_at_the_instructions() {
        assert_eq!(Program::constant(7), Program::constant(7));
        assert_ne!(Program::constant(7), Program::constant(8));
    }

    #[test]
    fn a_program_longer_than_the_kernels_limit_still_runs_here() {
        let mut long =
            vec![Instruction::new(op::ALU | op::ADD | op::K, 0, 0, 1); KERNEL_INSTRUCTIONS_MAX];
        long.push(Instruction::new(op::RET | op::A, 0, 0, 0));
        let program = Program::new(long).unwrap();
        assert!(!program.fits_kernel());
        assert_eq!(program.run(&[], 0), KERNEL_INSTRUCTIONS_MAX as u32);
    }
}
