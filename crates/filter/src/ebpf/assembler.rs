//! The assembler: instructions in order, labels, and jumps that reach however far they must.
//!
//! A jump's offset has 16 bits. One that does not reach becomes, at [`Assembler::finish`], a far
//! jump (`gotol`, 32 bits); a comparison becomes its inverse over a far jump. Widening moves what
//! lies behind, so it is repeated until all reach; it ends, since no jump ever shrinks. Near is a
//! little less than what 16 bits hold: when the kernel loads a program it puts several instructions
//! in the place of some calls and loads, and fails where a jump over them then does not reach.

use super::{
    Alu, Bits, Condition, Encoded, Error, Helper, INSTRUCTIONS_MAX, Instruction, MapRef, Operand,
    Register, Width,
};

/// Slots that a near jump skips at most.
const NEAR_MAX: i64 = 28_000;

/// A place in a program that is jumped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label(usize);

/// Puts a program together, in order.
#[derive(Debug, Default)]
pub struct Assembler {
    items: Vec<Item>,
    labels: Vec<Place>,
}

#[derive(Debug, Clone, Copy)]
enum Item {
    Plain(Instruction),
    Jump {
        to: Label,
        reach: Reach,
    },
    JumpIf {
        bits: Bits,
        condition: Condition,
        left: Register,
        right: Operand,
        to: Label,
        reach: Reach,
    },
}

/// What a jump has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Near,
    Far,
    /// To the very next instruction: nothing at all.
    Next,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The item in front of which it stands.
    item: Option<usize>,
    bound_twice: bool,
    used: bool,
}

impl Assembler {
    /// An empty program.
    pub fn new() -> Assembler {
        Assembler::default()
    }

    /// Makes a label, to be bound once and jumped to from anywhere.
    pub fn label(&mut self) -> Label {
        self.labels.push(Place::default());
        Label(self.labels.len() - 1)
    }

    /// Puts a label in front of the next instruction.
    pub fn bind(&mut self, label: Label) {
        let place = &mut self.labels[label.0];
        place.bound_twice |= place.item.is_some();
        place.item = Some(self.items.len());
    }

    /// Whether anything jumps to a label so far. The kernel refuses code that nothing reaches.
    pub fn is_used(&self, label: Label) -> bool {
        self.labels[label.0].used
    }

    /// Appends an instruction; for jumps there are [`Self::jump`] and [`Self::jump_if`].
    pub fn push(&mut self, instruction: Instruction) {
        self.items.push(Item::Plain(instruction));
    }

    /// `to = by`, 64 bits.
    pub fn copy(&mut self, to: Register, by: impl Into<Operand>) {
        self.alu(Bits::B64, Alu::Move, to, by);
    }

    /// Arithmetic.
    pub fn alu(&mut self, bits: Bits, alu: Alu, to: Register, by: impl Into<Operand>) {
        self.push(Instruction::Arithmetic { bits, alu, to, by: by.into() });
    }

    /// `to = *(base + at)`.
    pub fn load(&mut self, width: Width, to: Register, base: Register, at: i16) {
        self.push(Instruction::Load { width, to, base, at });
    }

    /// `*(base + at) = value`.
    pub fn store(&mut self, width: Width, base: Register, at: i16, value: impl Into<Operand>) {
        self.push(Instruction::Store { width, base, at, value: value.into() });
    }

    /// `*(base + at) += value`, at once for all CPUs; with `fetch` the value before goes to `value`.
    pub fn atomic_add(
        &mut self,
        width: Width,
        base: Register,
        at: i16,
        value: Register,
        fetch: bool,
    ) {
        self.push(Instruction::AtomicAdd { width, base, at, value, fetch });
    }

    /// Turns the low bytes of a register from or to big endian.
    pub fn big_endian(&mut self, width: Width, to: Register) {
        self.push(Instruction::BigEndian { width, to });
    }

    /// Loads the address of a map.
    pub fn map_address(&mut self, to: Register, map: MapRef) {
        self.push(Instruction::MapAddress { to, map });
    }

    /// Calls a function of the kernel.
    pub fn call(&mut self, helper: Helper) {
        self.push(Instruction::Call { helper });
    }

    /// Ends the program with R0.
    pub fn exit(&mut self) {
        self.push(Instruction::Exit);
    }

    /// Jumps.
    pub fn jump(&mut self, to: Label) {
        self.labels[to.0].used = true;
        self.items.push(Item::Jump { to, reach: Reach::Near });
    }

    /// Jumps if a comparison is true.
    pub fn jump_if(
        &mut self,
        bits: Bits,
        condition: Condition,
        left: Register,
        right: impl Into<Operand>,
        to: Label,
    ) {
        self.labels[to.0].used = true;
        let (right, reach) = (right.into(), Reach::Near);
        self.items.push(Item::JumpIf { bits, condition, left, right, to, reach });
    }

    /// Resolves the labels.
    ///
    /// # Errors
    /// [`Error::LabelUnbound`], [`Error::LabelBoundTwice`], [`Error::TooLong`].
    pub fn finish(mut self) -> Result<Code, Error> {
        for (label, place) in self.labels.iter().enumerate() {
            if place.bound_twice {
                return Err(Error::LabelBoundTwice { label });
            }
            if place.used && place.item.is_none_or(|item| item >= self.items.len()) {
                return Err(Error::LabelUnbound { label });
            }
        }
        for at in 0..self.items.len() {
            if let Item::Jump { to, reach } = &mut self.items[at]
                && self.labels[to.0].item == Some(at + 1)
            {
                *reach = Reach::Next;
            }
        }
        let mut starts = self.starts();
        while self.widen(&starts) {
            starts = self.starts();
        }
        let slots = starts.last().copied().unwrap_or(0);
        if slots > INSTRUCTIONS_MAX {
            return Err(Error::TooLong { got: slots });
        }
        let mut instructions = Vec::with_capacity(slots);
        for (at, item) in self.items.iter().enumerate() {
            self.resolve(*item, starts[at], &starts, &mut instructions);
        }
        Ok(Code { instructions: instructions.into() })
    }

    /// The slot that each item starts at, and behind them the number of slots.
    fn starts(&self) -> Vec<usize> {
        let mut slot = 0;
        let mut starts = Vec::with_capacity(self.items.len() + 1);
        for item in &self.items {
            starts.push(slot);
            slot += item.slots();
        }
        starts.push(slot);
        starts
    }

    fn skip(&self, to: Label, from: usize, starts: &[usize]) -> i64 {
        let item = self.labels[to.0].item.expect("finish saw that each used label is bound");
        starts[item] as i64 - from as i64
    }

    /// Makes jumps far that do not reach; whether there were any.
    fn widen(&mut self, starts: &[usize]) -> bool {
        let mut any = false;
        for at in 0..self.items.len() {
            let (Item::Jump { to, reach: Reach::Near }
            | Item::JumpIf { to, reach: Reach::Near, .. }) = self.items[at]
            else {
                continue;
            };
            if self.skip(to, starts[at] + 1, starts).abs() > NEAR_MAX {
                any = true;
                let (Item::Jump { reach, .. } | Item::JumpIf { reach, .. }) = &mut self.items[at]
                else {
                    continue;
                };
                *reach = Reach::Far;
            }
        }
        any
    }

    fn resolve(&self, item: Item, start: usize, starts: &[usize], out: &mut Vec<Instruction>) {
        let near = |to| {
            i16::try_from(self.skip(to, start + 1, starts))
                .expect("what does not reach was widened")
        };
        // A far jump is the last slot of what it came from.
        let far = |to| {
            let skip = self.skip(to, start + item.slots(), starts);
            Instruction::FarJump {
                skip: i32::try_from(skip).expect("a program is shorter than 2^31"),
            }
        };
        match item {
            Item::Plain(instruction) => out.push(instruction),
            Item::Jump { reach: Reach::Next, .. } => {}
            Item::Jump { to, reach: Reach::Near } => out.push(Instruction::Jump { skip: near(to) }),
            Item::Jump { to, reach: Reach::Far } => out.push(far(to)),
            Item::JumpIf { bits, condition, left, right, to, reach } => {
                let jump_if =
                    |condition, skip| Instruction::JumpIf { bits, condition, left, right, skip };
                match (reach, condition.inverse()) {
                    (Reach::Near | Reach::Next, _) => out.push(jump_if(condition, near(to))),
                    (Reach::Far, Some(inverse)) => out.extend([jump_if(inverse, 1), far(to)]),
                    (Reach::Far, None) => {
                        let over = Instruction::Jump { skip: 1 };
                        out.extend([jump_if(condition, 1), over, far(to)]);
                    }
                }
            }
        }
    }
}

impl Item {
    const fn slots(self) -> usize {
        match self {
            Item::Plain(instruction) => instruction.slots(),
            Item::Jump { reach: Reach::Next, .. } => 0,
            Item::JumpIf { reach: Reach::Far, condition, .. } => {
                if condition.inverse().is_some() {
                    2
                } else {
                    3
                }
            }
            Item::Jump { .. } | Item::JumpIf { .. } => 1,
        }
    }
}

/// A finished program. `Display` prints its listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    instructions: Box<[Instruction]>,
}

impl Code {
    /// The instructions; jumps count slots, of which a wide load has two.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// How many slots it has, which is what the kernel calls its length.
    pub fn slots(&self) -> usize {
        self.instructions.iter().map(|i| i.slots()).sum()
    }

    /// The slots; `descriptor` gives the descriptor of a map.
    pub fn encode(&self, descriptor: impl Fn(MapRef) -> i32) -> Vec<Encoded> {
        let mut out = Vec::with_capacity(self.slots());
        for instruction in &self.instructions {
            instruction.encode(&descriptor, &mut out);
        }
        out
    }

    /// How many maps it refers to: one more than the highest place.
    pub fn maps(&self) -> usize {
        let place = |i: &Instruction| match i {
            Instruction::MapAddress { map, .. } => map.0 + 1,
            _ => 0,
        };
        self.instructions.iter().map(place).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Register::*;
    use super::*;

    const NEAR: usize = NEAR_MAX as usize;

    fn nothing(asm: &mut Assembler, slots: usize) {
        for _ in 0..slots {
            asm.copy(R0, 0);
        }
    }

    /// A comparison over `between` slots, forward.
    fn over(between: usize, condition: Condition) -> Vec<Instruction> {
        let mut asm = Assembler::new();
        let end = asm.label();
        asm.jump_if(Bits::B64, condition, R1, 5, end);
        nothing(&mut asm, between);
        asm.bind(end);
        asm.exit();
        asm.finish().unwrap().instructions.into()
    }

    #[test]
    fn a_jump_reaches_as_far_as_it_must() {
        let jump_if = |condition, skip| Instruction::JumpIf {
            bits: Bits::B64,
            condition,
            left: R1,
            right: 5.into(),
            skip,
        };
        assert_eq!(over(NEAR, Condition::Equal)[0], jump_if(Condition::Equal, NEAR as i16));
        let far = over(NEAR + 1, Condition::Equal);
        assert_eq!(far[0], jump_if(Condition::NotEqual, 1));
        assert_eq!(far[1], Instruction::FarJump { skip: NEAR as i32 + 1 });
        let far = over(NEAR + 1, Condition::SharesBit);
        assert_eq!(far[0], jump_if(Condition::SharesBit, 1));
        assert_eq!(far[1], Instruction::Jump { skip: 1 });
        assert_eq!(far[2], Instruction::FarJump { skip: NEAR as i32 + 1 });
    }

    #[test]
    fn a_jump_back_counts_from_behind_itself() {
        let mut asm = Assembler::new();
        let start = asm.label();
        asm.bind(start);
        nothing(&mut asm, NEAR - 1);
        asm.jump(start);
        asm.jump(start);
        let code = asm.finish().unwrap();
        assert_eq!(code.instructions[NEAR - 1], Instruction::Jump { skip: -(NEAR as i16) });
        assert_eq!(code.instructions[NEAR], Instruction::FarJump { skip: -(NEAR as i32) - 1 });
    }

    #[test]
    fn a_jump_that_was_widened_pushes_others_out_of_reach() {
        let mut asm = Assembler::new();
        let (middle, end) = (asm.label(), asm.label());
        // The first reaches `middle` only while the second is one slot.
        asm.jump_if(Bits::B64, Condition::Equal, R1, 5, middle);
        asm.jump_if(Bits::B64, Condition::Equal, R1, 6, end);
        nothing(&mut asm, NEAR - 1);
        asm.bind(middle);
        nothing(&mut asm, 10);
        asm.bind(end);
        asm.exit();
        let code = asm.finish().unwrap();
        assert_eq!(code.instructions[1], Instruction::FarJump { skip: NEAR as i32 + 1 });
        assert_eq!(code.instructions[3], Instruction::FarJump { skip: NEAR as i32 + 9 });
    }

    #[test]
    fn a_wide_load_counts_twice_and_a_jump_to_the_next_instruction_is_left_out() {
        let mut asm = Assembler::new();
        let (next, end) = (asm.label(), asm.label());
        asm.jump(next);
        asm.bind(next);
        asm.jump(end);
        asm.push(Instruction::Wide { to: R1, value: 1 });
        asm.map_address(R1, MapRef(2));
        asm.bind(end);
        asm.exit();
        let code = asm.finish().unwrap();
        assert_eq!(code.instructions[0], Instruction::Jump { skip: 4 });
        assert_eq!((code.slots(), code.encode(|_| 3).len(), code.maps()), (6, 6, 3));
    }

    #[test]
    fn labels_must_have_one_place() {
        let mut asm = Assembler::new();
        let label = asm.label();
        asm.jump(label);
        assert_eq!(asm.finish(), Err(Error::LabelUnbound { label: 0 }));

        // Behind the last instruction there is nothing to jump to.
        let mut asm = Assembler::new();
        let label = asm.label();
        asm.jump(label);
        asm.bind(label);
        assert_eq!(asm.finish(), Err(Error::LabelUnbound { label: 0 }));

        let mut asm = Assembler::new();
        let label = asm.label();
        asm.bind(label);
        asm.bind(label);
        asm.exit();
        assert_eq!(asm.finish(), Err(Error::LabelBoundTwice { label: 0 }));
    }

    #[test]
    fn there_is_a_limit() {
        let mut asm = Assembler::new();
        nothing(&mut asm, INSTRUCTIONS_MAX);
        asm.exit();
        assert_eq!(asm.finish(), Err(Error::TooLong { got: INSTRUCTIONS_MAX + 1 }));
    }
}
