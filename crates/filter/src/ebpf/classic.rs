//! From classic BPF to extended BPF, instruction by instruction.
//!
//! ```text
//! R6  the packet (struct __sk_buff *)      R10 - 8    one word, of a load by a call
//! R7  A                                    below      the frame's first bytes
//! R8  X
//! R9  memory of this CPU                   R9 + 64    the sixteen scratch words
//! ```
//!
//! Scratch words are not on the stack, although there is room: whenever the kernel's verifier
//! meets a stack access that is new to it, it follows all stack slots through the whole program
//! again (Linux 6.18, `bpf_update_live_stack`). A tree of rules reads scratch words in each node;
//! ten thousand rules took ten seconds that way, and less than one this way.
//!
//! The first bytes of the frame are copied to the stack at once, as many as the program's loads at
//! fixed offsets need; those loads then compare the frame's length and read the stack. A length
//! that every way to a load has compared already is not compared again. Loads farther back, and
//! those at X + k, ask the kernel for their bytes (`bpf_skb_load_bytes`). None of them is the old
//! `LD_ABS`, which ends the whole program where the frame ends.
//!
//! A program can as well read the *restored* frame, as [`RestoredFrame`] left it in R9's memory: its
//! first bytes are there, and its length; what lies behind stands in the packet, 4 bytes earlier if the
//! kernel keeps a tag beside the packet.
//!
//! Semantics are those of our interpreter: a load past the end and a division by an X of 0 go where
//! a verdict of 0 goes; A, X and scratch words start as 0; X + k does not wrap; a shift by an X of
//! 32 or more gives 0.

use super::restored::{FRAME_AT, LENGTH_AT, RestoredFrame, TAG_AT};
use super::{Alu, Assembler, Bits, Condition, Error, Helper, Instruction, Label, Register, Width};
use crate::op;
use Register::{R0, R1, R2, R3, R4, R6, R7, R8, R9, R10};

/// Where a load by a call leaves its bytes, from R10; free between instructions.
pub(super) const WORD_AT: i16 = -8;
/// Where the scratch words stand, from R9.
pub(super) const SCRATCH_AT: i16 = 64;
/// How many bytes they take.
pub(super) const SCRATCH_BYTES: i16 = 64;
/// Bytes of the frame that are copied at most: IPv6 with ports behind three tags, and more.
pub(super) const BUFFERED_MAX: u32 = 96;
/// The frame starts two bytes behind a multiple of eight, so that words of the IP header are
/// aligned; the kernel's verifier wants that.
pub(super) const ALIGN: i16 = 2;
/// Offset of `len` in `struct __sk_buff`.
pub(super) const SKB_LEN: i16 = 0;

/// Where a program goes with its verdict.
pub trait Exits {
    /// The place for a constant verdict; `at` is the return's position, for errors.
    ///
    /// # Errors
    /// Why there is no such place.
    fn constant(&mut self, asm: &mut Assembler, at: usize, verdict: u32) -> Result<Label, Error>;
    /// The places for an A of 0 and for any other.
    ///
    /// # Errors
    /// Why there are none.
    fn in_a(&mut self, asm: &mut Assembler, at: usize) -> Result<(Label, Label), Error>;
}

/// The verdict of a program that looks at nothing, if it is one.
pub fn constant(program: &[crate::Instruction]) -> Option<u32> {
    program.first().filter(|first| first.code == op::RET | op::K).map(|first| first.k)
}

/// Appends a program. It leaves by `exits` alone, and expects the packet in R6 and memory in R9 that
/// nobody else writes meanwhile.
pub(super) fn emit(
    asm: &mut Assembler,
    program: &[crate::Instruction],
    exits: &mut impl Exits,
) -> Result<(), Error> {
    let needs = Needs::of(program)?;
    let buffer_at = WORD_AT - needs.buffer_len() + ALIGN;
    let begin = Begin { base: R10, at: buffer_at, bytes: needs.buffered, is_restored: false };
    convert(asm, program, exits, needs, begin)
}

/// Appends a program that reads a restored frame. It leaves by `exits` alone, and expects the packet in
/// R6 and in R9 the memory that `frame` has filled.
///
/// # Errors
/// [`Error::JumpsBack`], and those of `exits`.
///
/// # Panics
/// If the frame was restored with fewer bytes than [`RestoredFrame::bytes_needed`] says.
pub fn emit_restored(
    asm: &mut Assembler,
    program: &[crate::Instruction],
    frame: &RestoredFrame,
    exits: &mut impl Exits,
) -> Result<(), Error> {
    let needs = Needs::of(program)?;
    assert!(needs.restored() <= frame.bytes(), "{} bytes of the frame", frame.bytes());
    let begin = Begin { base: R9, at: FRAME_AT, bytes: frame.bytes(), is_restored: true };
    convert(asm, program, exits, needs, begin)
}

/// How many first bytes of a restored frame a program needs.
pub(super) fn restored_bytes(program: &[crate::Instruction]) -> Result<u32, Error> {
    Needs::of(program).map(|needs| needs.restored())
}

fn convert(
    asm: &mut Assembler,
    program: &[crate::Instruction],
    exits: &mut impl Exits,
    needs: Needs,
    begin: Begin,
) -> Result<(), Error> {
    let no_match = exits.constant(asm, 0, 0)?;
    let count = program.len();
    let known = vec![None; count];
    let labels = vec![None; count];
    let aside = Vec::new();
    Converter { asm, program, exits, needs, no_match, begin, labels, known, aside }.run()
}

/// Where the frame's first bytes stand.
#[derive(Debug, Clone, Copy)]
struct Begin {
    base: Register,
    /// The first byte, from `base`.
    at: i16,
    /// How many there are; a shorter frame has fewer.
    bytes: u32,
    /// Whether the frame is more than what the packet holds.
    is_restored: bool,
}

/// What a look over the whole program tells before its conversion.
struct Needs {
    /// Bytes of the frame that are copied to the stack.
    buffered: u32,
    /// Scratch words, a bit each, that may be read before they are written.
    scratch: u16,
    /// Whether it loads from X + k.
    indexed: bool,
}

impl Needs {
    fn of(program: &[crate::Instruction]) -> Result<Needs, Error> {
        // Scratch words that every way to an instruction has written; none: no way leads there.
        let mut written: Vec<Option<u16>> = vec![None; program.len()];
        let mut needs = Needs { buffered: 0, scratch: 0, indexed: false };
        if let Some(first) = written.first_mut() {
            *first = Some(0);
        }
        for (at, i) in program.iter().enumerate() {
            let Some(mut now) = written[at] else { continue };
            match i.code & 0x07 {
                op::LD | op::LDX if i.code & 0xe0 == op::MEM => needs.scratch |= (1 << i.k) & !now,
                op::LD if i.code & 0xe0 == op::IND => needs.indexed = true,
                op::ST | op::STX => now |= 1 << i.k,
                _ => {}
            }
            if let Some((at, width)) = fixed_load(i)
                && let Some(end) = at.checked_add(width.bytes()).filter(|&e| e <= BUFFERED_MAX)
            {
                needs.buffered = needs.buffered.max(end);
            }
            for to in successors(program, at)?.into_iter().flatten() {
                written[to] = Some(written[to].map_or(now, |before| before & now));
            }
        }
        Ok(needs)
    }

    fn buffer_len(&self) -> i16 {
        (self.buffered as i16 + ALIGN + 7) & !7
    }

    /// Loads from X + k are cheap where they find their bytes among the first.
    fn restored(&self) -> u32 {
        if self.indexed { BUFFERED_MAX } else { self.buffered }
    }
}

/// The offset and the width of a load at a fixed offset.
fn fixed_load(i: &crate::Instruction) -> Option<(u32, Width)> {
    match (i.code & 0x07, i.code & 0xe0) {
        (op::LD, op::ABS) => Some((i.k, width(i.code))),
        (op::LDX, op::MSH) => Some((i.k, Width::B1)),
        _ => None,
    }
}

const fn width(code: u16) -> Width {
    match code & 0x18 {
        op::W => Width::B4,
        op::H => Width::B2,
        _ => Width::B1,
    }
}

/// Where an instruction may go on; the program is verified, so that those are inside.
pub(super) fn successors(
    program: &[crate::Instruction],
    at: usize,
) -> Result<[Option<usize>; 2], Error> {
    let i = &program[at];
    let next = at + 1;
    Ok(match i.code & 0x07 {
        op::RET => [None, None],
        op::JMP if i.code & 0xf0 == op::JA => {
            let skip = usize::try_from(i.k.cast_signed()).map_err(|_| Error::JumpsBack { at })?;
            [Some(next + skip), None]
        }
        op::JMP => [Some(next + usize::from(i.jt)), Some(next + usize::from(i.jf))],
        _ => [Some(next), None],
    })
}

struct Converter<'a, E> {
    asm: &'a mut Assembler,
    program: &'a [crate::Instruction],
    exits: &'a mut E,
    needs: Needs,
    no_match: Label,
    begin: Begin,
    /// Labels of instructions that were jumped to.
    labels: Vec<Option<Label>>,
    /// The length that each jump to an instruction knows the frame to have at least.
    known: Vec<Option<u32>>,
    /// Loads at X + k behind the first bytes, for the end.
    aside: Vec<Aside>,
}

/// A load at the offset in R2, behind the first bytes and so behind any tag.
#[derive(Debug, Clone, Copy)]
struct Aside {
    width: Width,
    here: Label,
    /// Where it goes on with A loaded.
    loaded: Label,
}

impl<E: Exits> Converter<'_, E> {
    fn run(mut self) -> Result<(), Error> {
        if !self.begin.is_restored {
            self.copy_first_bytes();
        }
        self.asm.alu(Bits::B32, Alu::Move, R7, 0);
        self.asm.alu(Bits::B32, Alu::Move, R8, 0);
        for word in (0..16).filter(|word| self.needs.scratch & 1 << word != 0) {
            self.asm.store(Width::B4, R9, scratch_at(word), 0);
        }
        let (mut flows, mut known) = (true, 0);
        for at in 0..self.program.len() {
            // All jumps go forward, so those to here have been seen.
            if let Some(label) = self.labels[at] {
                self.asm.bind(label);
                let jumped = self.known[at].unwrap_or(0);
                known = if flows { jumped.min(known) } else { jumped };
            } else if !flows {
                continue;
            }
            flows = self.instruction(at, &mut known)?;
        }
        for aside in std::mem::take(&mut self.aside) {
            self.load_aside(aside);
        }
        Ok(())
    }

    /// Copies what loads at fixed offsets need to the stack; a shorter frame as far as it goes,
    /// with zeros behind.
    fn copy_first_bytes(&mut self) {
        let bytes = self.needs.buffered as i32;
        if bytes == 0 {
            return;
        }
        let (short, copy) = (self.asm.label(), self.asm.label());
        let done = self.asm.label();
        self.asm.load(Width::B4, R4, R6, SKB_LEN);
        self.asm.jump_if(Bits::B32, Condition::Below, R4, bytes, short);
        self.asm.alu(Bits::B32, Alu::Move, R4, bytes);
        self.asm.bind(copy);
        self.asm.copy(R1, R6);
        self.asm.alu(Bits::B32, Alu::Move, R2, 0);
        self.asm.copy(R3, R10);
        self.asm.alu(Bits::B64, Alu::Add, R3, i32::from(self.begin.at));
        self.asm.call(Helper::SKB_LOAD_BYTES);
        self.asm.jump_if(Bits::B64, Condition::NotEqual, R0, 0, self.no_match);
        self.asm.jump(done);
        self.asm.bind(short);
        self.asm.jump_if(Bits::B32, Condition::Equal, R4, 0, self.no_match);
        // The verifier must see that what a copy of unknown length may leave out is initialised.
        for at in (0..self.needs.buffer_len()).step_by(8) {
            self.asm.store(Width::B8, R10, self.begin.at - ALIGN + at, 0);
        }
        self.asm.jump(copy);
        self.asm.bind(done);
    }

    /// Converts one instruction. Returns whether it goes on to the next.
    fn instruction(&mut self, at: usize, known: &mut u32) -> Result<bool, Error> {
        let i = self.program[at];
        let constant = i.k.cast_signed();
        match i.code & 0x07 {
            op::LD => match i.code & 0xe0 {
                op::ABS => return Ok(self.load_fixed(i.k, width(i.code), R7, known)),
                op::IND => return Ok(self.load_indexed(i.k, width(i.code))),
                op::MEM => self.asm.load(Width::B4, R7, R9, scratch_at(i.k)),
                op::LEN => self.load_length(R7),
                _ => self.asm.alu(Bits::B32, Alu::Move, R7, constant),
            },
            op::LDX => match i.code & 0xe0 {
                op::MSH => {
                    if !self.load_fixed(i.k, Width::B1, R8, known) {
                        return Ok(false);
                    }
                    self.asm.alu(Bits::B32, Alu::And, R8, 0x0f);
                    self.asm.alu(Bits::B32, Alu::ShiftLeft, R8, 2);
                }
                op::MEM => self.asm.load(Width::B4, R8, R9, scratch_at(i.k)),
                op::LEN => self.load_length(R8),
                _ => self.asm.alu(Bits::B32, Alu::Move, R8, constant),
            },
            op::ST => self.asm.store(Width::B4, R9, scratch_at(i.k), R7),
            op::STX => self.asm.store(Width::B4, R9, scratch_at(i.k), R8),
            op::ALU if i.code & 0xf0 == op::NEG => {
                self.asm.push(Instruction::Negate { bits: Bits::B32, to: R7 });
            }
            op::ALU if i.code & op::X == 0 => {
                self.asm.alu(Bits::B32, alu(i.code), R7, constant);
            }
            op::ALU => self.arithmetic_x(i.code),
            op::JMP => return self.jump(at, &i, *known),
            op::RET => {
                if i.code & op::A == 0 {
                    let to = self.exits.constant(self.asm, at, i.k)?;
                    self.asm.jump(to);
                } else {
                    let (zero, other) = self.exits.in_a(self.asm, at)?;
                    self.asm.jump_if(Bits::B32, Condition::Equal, R7, 0, zero);
                    self.asm.jump(other);
                }
                return Ok(false);
            }
            _ if i.code & 0x80 == op::TXA => self.asm.alu(Bits::B32, Alu::Move, R7, R8),
            _ => self.asm.alu(Bits::B32, Alu::Move, R8, R7),
        }
        Ok(true)
    }

    /// Loads from a fixed offset. Returns whether any frame can be long enough.
    fn load_fixed(&mut self, at: u32, width: Width, to: Register, known: &mut u32) -> bool {
        let Some(end) = at.checked_add(width.bytes()).filter(|&end| i32::try_from(end).is_ok())
        else {
            self.asm.jump(self.no_match);
            return false;
        };
        if end <= self.begin.bytes {
            if *known < end {
                self.load_length(R0);
                self.asm.jump_if(Bits::B32, Condition::Below, R0, end as i32, self.no_match);
            }
            self.load_buffered(self.begin.at + at as i16, width, to);
        } else {
            self.asm.alu(Bits::B32, Alu::Move, R2, at as i32);
            if self.begin.is_restored {
                self.leave_tag_out();
            }
            self.load_by_call(width, to);
        }
        *known = end.max(*known);
        true
    }

    fn load_length(&mut self, to: Register) {
        let (base, at) = if self.begin.is_restored { (R9, LENGTH_AT) } else { (R6, SKB_LEN) };
        self.asm.load(Width::B4, to, base, at);
    }

    /// Loads big-endian bytes that were copied, in pieces where they are not aligned.
    fn load_buffered(&mut self, at: i16, width: Width, to: Register) {
        let aligned = i32::from(at) % width.bytes() as i32 == 0;
        match width {
            Width::B1 => self.asm.load(Width::B1, to, self.begin.base, at),
            _ if aligned => {
                self.asm.load(width, to, self.begin.base, at);
                self.asm.big_endian(width, to);
            }
            Width::B2 => self.load_halves(at, Width::B1, to, R0),
            _ if at % 2 == 0 => self.load_halves(at, Width::B2, to, R0),
            _ => {
                // One byte, an aligned half, one byte.
                self.asm.load(Width::B1, to, self.begin.base, at);
                self.append(at + 1, Width::B2, to, R0);
                self.append(at + 3, Width::B1, to, R0);
            }
        }
    }

    fn load_halves(&mut self, at: i16, half: Width, to: Register, spare: Register) {
        self.load_buffered(at, half, to);
        self.append(at + half.bytes() as i16, half, to, spare);
    }

    /// Shifts aligned bytes in from the right.
    fn append(&mut self, at: i16, width: Width, to: Register, spare: Register) {
        self.load_buffered(at, width, spare);
        self.asm.alu(Bits::B32, Alu::ShiftLeft, to, width.bytes() as i32 * 8);
        self.asm.alu(Bits::B32, Alu::Or, to, spare);
    }

    /// Loads from X + k. Returns whether any frame can be long enough.
    fn load_indexed(&mut self, k: u32, width: Width) -> bool {
        let Ok(k) = i32::try_from(k) else {
            self.asm.jump(self.no_match);
            return false;
        };
        // In 64 bits the sum does not wrap; the call's offset has 32.
        self.asm.copy(R2, R8);
        if k != 0 {
            self.asm.alu(Bits::B64, Alu::Add, R2, k);
        }
        if self.begin.is_restored {
            self.load_indexed_restored(width);
        } else {
            self.asm.jump_if(Bits::B64, Condition::Above, R2, i32::MAX, self.no_match);
            self.load_by_call(width, R7);
        }
        true
    }

    /// Loads from the offset in R2: from among the first bytes, or aside by a call.
    fn load_indexed_restored(&mut self, width: Width) {
        let [here, loaded] = std::array::from_fn(|_| self.asm.label());
        self.aside.push(Aside { width, here, loaded });
        let bytes = width.bytes() as i32;
        let last = self.begin.bytes as i32 - bytes;
        self.asm.jump_if(Bits::B64, Condition::Above, R2, last, here);
        self.load_length(R1);
        self.asm.copy(R3, R2);
        self.asm.alu(Bits::B64, Alu::Add, R3, bytes);
        self.asm.jump_if(Bits::B64, Condition::Above, R3, R1, self.no_match);
        self.asm.copy(R3, self.begin.base);
        self.asm.alu(Bits::B64, Alu::Add, R3, R2);
        self.asm.load(Width::B1, R7, R3, self.begin.at);
        for at in 1..bytes as i16 {
            self.asm.load(Width::B1, R0, R3, self.begin.at + at);
            self.asm.alu(Bits::B32, Alu::ShiftLeft, R7, 8);
            self.asm.alu(Bits::B32, Alu::Or, R7, R0);
        }
        self.asm.bind(loaded);
    }

    fn load_aside(&mut self, Aside { width, here, loaded }: Aside) {
        self.asm.bind(here);
        self.asm.jump_if(Bits::B64, Condition::Above, R2, i32::MAX, self.no_match);
        self.leave_tag_out();
        self.load_by_call(width, R7);
        self.asm.jump(loaded);
    }

    /// Makes the offset in R2, which is behind any tag, one in the packet.
    fn leave_tag_out(&mut self) {
        self.asm.load(Width::B8, R1, R9, TAG_AT);
        self.asm.alu(Bits::B64, Alu::Sub, R2, R1);
    }

    /// Loads from the offset in R2.
    fn load_by_call(&mut self, width: Width, to: Register) {
        load_bytes(self.asm, width, self.no_match);
        self.asm.load(width, to, R10, WORD_AT);
        if width != Width::B1 {
            self.asm.big_endian(width, to);
        }
    }

    fn arithmetic_x(&mut self, code: u16) {
        match code & 0xf0 {
            op::DIV | op::MOD => {
                self.asm.jump_if(Bits::B32, Condition::Equal, R8, 0, self.no_match);
                self.asm.alu(Bits::B32, alu(code), R7, R8);
            }
            op::LSH | op::RSH => {
                let (all_out, done) = (self.asm.label(), self.asm.label());
                self.asm.jump_if(Bits::B32, Condition::Above, R8, 31, all_out);
                self.asm.alu(Bits::B32, alu(code), R7, R8);
                self.asm.jump(done);
                self.asm.bind(all_out);
                self.asm.alu(Bits::B32, Alu::Move, R7, 0);
                self.asm.bind(done);
            }
            _ => self.asm.alu(Bits::B32, alu(code), R7, R8),
        }
    }

    fn jump(&mut self, at: usize, i: &crate::Instruction, known: u32) -> Result<bool, Error> {
        let [Some(yes), no] = successors(self.program, at)? else { return Ok(false) };
        let next = at + 1;
        let Some(no) = no.filter(|&no| no != yes) else {
            if yes != next {
                let to = self.target(yes, known)?;
                self.asm.jump(to);
            }
            return Ok(yes == next);
        };
        let condition = match i.code & 0xf0 {
            op::JEQ => Condition::Equal,
            op::JGT => Condition::Above,
            op::JGE => Condition::AtLeast,
            _ => Condition::SharesBit,
        };
        let (condition, yes, no) = match condition.inverse() {
            Some(inverse) if yes == next => (inverse, no, yes),
            _ => (condition, yes, no),
        };
        let to = self.target(yes, known)?;
        if i.code & op::X == 0 {
            self.asm.jump_if(Bits::B32, condition, R7, i.k.cast_signed(), to);
        } else {
            self.asm.jump_if(Bits::B32, condition, R7, R8, to);
        }
        if no != next {
            let to = self.target(no, known)?;
            self.asm.jump(to);
        }
        Ok(no == next)
    }

    /// The label of an instruction, or of where it leads if it does nothing but lead there.
    fn target(&mut self, mut at: usize, known: u32) -> Result<Label, Error> {
        loop {
            let i = self.program[at];
            match i.code {
                code if code == op::RET | op::K => return self.exits.constant(self.asm, at, i.k),
                code if code == op::JMP | op::JA => {
                    let [Some(to), _] = successors(self.program, at)? else { break };
                    at = to;
                }
                _ => break,
            }
        }
        self.known[at] = Some(self.known[at].map_or(known, |before| before.min(known)));
        Ok(*self.labels[at].get_or_insert_with(|| self.asm.label()))
    }
}

/// Calls for the bytes at the offset in R2, into the word at [`WORD_AT`]; goes to `failed` if the
/// frame has not so many.
pub(super) fn load_bytes(asm: &mut Assembler, width: Width, failed: Label) {
    asm.copy(R1, R6);
    asm.copy(R3, R10);
    asm.alu(Bits::B64, Alu::Add, R3, i32::from(WORD_AT));
    asm.alu(Bits::B32, Alu::Move, R4, width.bytes() as i32);
    asm.call(Helper::SKB_LOAD_BYTES);
    asm.jump_if(Bits::B64, Condition::NotEqual, R0, 0, failed);
}

fn scratch_at(word: u32) -> i16 {
    SCRATCH_AT + 4 * word as i16 // verified: below 16
}

const fn alu(code: u16) -> Alu {
    match code & 0xf0 {
        op::ADD => Alu::Add,
        op::SUB => Alu::Sub,
        op::MUL => Alu::Mul,
        op::DIV => Alu::Div,
        op::OR => Alu::Or,
        op::AND => Alu::And,
        op::LSH => Alu::ShiftLeft,
        op::RSH => Alu::ShiftRight,
        op::MOD => Alu::Mod,
        _ => Alu::Xor,
    }
}
