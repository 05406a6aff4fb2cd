//! From instructions with labels to instructions with distances.
//!
//! All jumps of a program of rules go forward. So it is put together from its end: when a jump's
//! turn comes, the distance to its target is known. A comparison reaches 255 instructions; where a
//! target lies farther, a plain jump stands right behind the comparison and takes it on.

use crate::{Instruction, op};

/// A place in the program that jumps go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(usize);

#[derive(Debug, Clone, Copy)]
enum Line {
    Plain(Instruction),
    Compare { code: u16, k: u32, yes: Label, no: Label },
    Jump(Label),
    Here(Label),
}

/// Farthest distance of a comparison's jump, instructions.
const REACH: usize = u8::MAX as usize;

/// A program being written.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    lines: Vec<Line>,
    labels: usize,
}

impl Assembler {
    /// A label that has no place yet.
    pub(crate) fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels - 1)
    }

    /// Gives a label its place: what is written next.
    pub(crate) fn here(&mut self, label: Label) {
        self.lines.push(Line::Here(label));
    }

    /// An instruction that is no jump.
    pub(crate) fn plain(&mut self, code: u16, k: u32) {
        self.lines.push(Line::Plain(Instruction::new(code, 0, 0, k)));
    }

    /// A comparison of A with a constant: `op::JEQ`, `JGT`, `JGE` or `JSET`.
    pub(crate) fn compare(&mut self, operation: u16, k: u32, yes: Label, no: Label) {
        self.lines.push(Line::Compare { code: op::JMP | op::K | operation, k, yes, no });
    }

    /// A comparison of A with X.
    pub(crate) fn compare_x(&mut self, operation: u16, yes: Label, no: Label) {
        self.lines.push(Line::Compare { code: op::JMP | op::X | operation, k: 0, yes, no });
    }

    /// Goes on elsewhere.
    pub(crate) fn jump(&mut self, to: Label) {
        self.lines.push(Line::Jump(to));
    }

    /// Ends with a verdict.
    pub(crate) fn ret(&mut self, verdict: u32) {
        self.plain(op::RET | op::K, verdict);
    }

    /// Writes what `below` says of the case that a comparison is true; the other case goes to `no`.
    pub(crate) fn expect(&mut self, operation: u16, k: u32, no: Label) {
        let yes = self.label();
        self.compare(operation, k, yes, no);
        self.here(yes);
    }

    /// Writes on in the case that a comparison is false; the other case goes to `yes`.
    pub(crate) fn leave_if(&mut self, operation: u16, k: u32, yes: Label) {
        let no = self.label();
        self.compare(operation, k, yes, no);
        self.here(no);
    }

    /// Puts the program together.
    ///
    /// # Panics
    /// If a jump goes to a label without a place, or back.
    pub(crate) fn assemble(&self) -> Vec<Instruction> {
        // From the end: `places` counts the instructions from a label to the program's end.
        let mut reversed: Vec<Instruction> = Vec::with_capacity(self.lines.len());
        let mut places: Vec<Option<usize>> = vec![None; self.labels];
        for line in self.lines.iter().rev() {
            let place = |label: Label| places[label.0].expect("a jump goes to a place ahead");
            match *line {
                Line::Plain(instruction) => reversed.push(instruction),
                Line::Here(label) => places[label.0] = Some(reversed.len()),
                Line::Jump(to) => {
                    let skip = reversed.len() - place(to);
                    if skip > 0 {
                        reversed.push(jump(skip));
                    }
                }
                Line::Compare { code, k, yes, no } => {
                    let (mut jf, jt_place) = (reversed.len() - place(no), place(yes));
                    if jf > REACH {
                        reversed.push(jump(jf));
                        jf = 0;
                    }
                    let mut jt = reversed.len() - jt_place;
                    if jt > REACH {
                        reversed.push(jump(jt));
                        (jt, jf) = (0, jf + 1);
                        if jf > REACH {
                            // The jump that was just put in between made it too far by one.
                            reversed.pop();
                            reversed.push(jump(reversed.len() - place(no)));
                            reversed.push(jump(reversed.len() - jt_place));
                            (jt, jf) = (0, 1);
                        }
                    }
                    let near = |skip: usize| u8::try_from(skip).expect("not beyond REACH");
                    reversed.push(Instruction::new(code, near(jt), near(jf), k));
                }
            }
        }
        reversed.reverse();
        reversed
    }
}

fn jump(skip: usize) -> Instruction {
    let k = u32::try_from(skip).expect("a program has less than 2^32 instructions");
    Instruction::new(op::JMP | op::JA, 0, 0, k)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Program;

    /// `jeq #1` with `between` instructions in front of the true target and `more` in front of the
    /// false one behind it.
    fn verdicts(between: usize, more: usize) -> [u32; 2] {
        [1, 0].map(|a| {
            let mut asm = Assembler::default();
            let (yes, no) = (asm.label(), asm.label());
            asm.plain(op::LD | op::IMM, a);
            asm.compare(op::JEQ, 1, yes, no);
            (0..between).for_each(|_| asm.ret(7));
            asm.here(yes);
            asm.ret(1);
            (0..more).for_each(|_| asm.ret(8));
            asm.here(no);
            asm.ret(2);
            Program::new(asm.assemble()).unwrap().run(&[], 0)
        })
    }

    #[test]
    fn a_comparison_reaches_its_targets_at_any_distance() {
        for between in [0, 1, 2, 253, 254, 255, 256, 257, 300, 70_000] {
            for more in [0, 1, 2, 253, 254, 255, 256, 300] {
                assert_eq!(verdicts(between, more), [1, 2], "{between} {more}");
            }
        }
    }

    #[test]
    fn near_targets_need_no_plain_jump() {
        let mut asm = Assembler::default();
        let (yes, no, on) = (asm.label(), asm.label(), asm.label());
        asm.compare(op::JEQ, 1, yes, no);
        asm.here(yes);
        asm.jump(on);
        asm.here(on);
        asm.here(no);
        asm.ret(2);
        let expected = [Instruction::new(0x15, 0, 0, 1), Instruction::new(0x06, 0, 0, 2)];
        assert_eq!(asm.assemble(), expected);
    }
}
