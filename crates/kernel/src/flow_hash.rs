//! The flow hash of [`wire::flow`] as a piece of a program: the same number, bit for bit.
//!
//! ```text
//! hot    Ethernet ─ IPv4 of 20 bytes, whole ─┬─ TCP, UDP ── words ── mix
//!                 └ IPv6 ────────────────────┘       directly from the packet
//! rare   all else: the walk (`walk`), which reads the packet by calls
//! ```
//!
//! Chains of headers that are longer than a program may follow ([`TAGS_MAX`], [`HEADERS_MAX`],
//! [`OPTIONS_MAX`]) have no hash here; user space knows it.
//!
//! Registers: the packet is in R6; R7 survives, R8 and R9 do not. Sources as in [`wire::walk`].

mod hot;
mod key;
mod options;
mod walk;

use crate::shorthand::Shorthand;
use Register::{R0, R9, R10};
use filter::ebpf::{Alu, Assembler, Label, Register, Width};

/// Tags that are followed.
pub const TAGS_MAX: i32 = 16;
/// Extension headers that are followed, in a packet or in the one that it quotes.
pub const HEADERS_MAX: i32 = 24;
/// Options of a hop-by-hop header that are looked at for a jumbo length.
pub const OPTIONS_MAX: i32 = 48;

/// Bytes of stack that the piece needs.
pub const STACK_BYTES: i16 = 144;

/// Places on the stack, from its lowest byte. The verifier follows a number that ends a loop only
/// where it has eight bytes to itself.
mod place {
    /// The fixed part of the last IP header.
    pub const HEADER: i16 = 0;
    /// What is read behind it, 16 bytes at most.
    pub const WORDS: i16 = 40;
    /// Where the frame begins in the packet. Where the verifier loses sight of it, so that it does not tell
    /// walks apart by it: in the upper half of eight bytes.
    pub const AT: i16 = 60;
    /// R7 of whoever wants the hash.
    pub const SAVED: i16 = 64;
    /// Whether the walk is in a packet that an ICMP error quotes.
    pub const IS_QUOTED: i16 = 72;
    /// Headers seen.
    pub const COUNT: i16 = 80;
    /// Options seen, where the next one stands, and where they end.
    pub const OPTIONS: i16 = 88;
    pub const OPTION_AT: i16 = 96;
    pub const OPTIONS_END: i16 = 104;
    pub const IS_FRAGMENT: i16 = 112;
    pub const PROTOCOL: i16 = 116;
    /// The EtherType; 0 for none.
    pub const ETHERTYPE: i16 = 120;
    /// Where the IP header of the packet itself begins, not of one quoted.
    pub const NETWORK: i16 = 124;
    /// Where the packet ends, padding left out.
    pub const END: i16 = 128;
    /// The EtherType of the IP header, or 0.
    pub const IP: i16 = 132;
    /// The destination's port, then the source's.
    pub const PORTS: i16 = 136;
}

const SEED: u64 = u64::from_be_bytes(*b"tapline1");
const WORD_MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const LAST_MULTIPLIER: u64 = 0xbf58_476d_1ce4_e5b9;

/// A flow hash in a program.
#[derive(Debug, Clone, Copy)]
pub struct FlowHash {
    /// Where the frame begins in the packet. Where the verifier loses sight of it, so that it does not tell
    /// walks apart by it: in the upper half of eight bytes. bytes.
    pub at: i32,
    /// The lowest of [`STACK_BYTES`] on the stack, from R10; a multiple of 8.
    pub stack_at: i16,
    /// Whether to find where the IP packet begins and ends, too: [`Self::network_at`] and others.
    pub finds_ip: bool,
}

impl FlowHash {
    /// Where on the stack the offset of the IP header in the packet stands afterwards, 4 bytes.
    pub const fn network_at(&self) -> i16 {
        self.stack_at + place::NETWORK
    }

    /// Where the offset of the IP packet's end stands, padding left out, 4 bytes.
    pub const fn end_at(&self) -> i16 {
        self.stack_at + place::END
    }

    /// Where the EtherType of the IP header stands, 4 bytes; 0 if there is none.
    pub const fn ip_at(&self) -> i16 {
        self.stack_at + place::IP
    }

    /// Appends what is likely: `done` with the hash in R0. What is not goes on at the label that comes
    /// back, and which is for [`Self::emit_rare`].
    pub fn emit_hot(&self, asm: &mut Assembler, done: Label) -> Label {
        let rare = asm.label();
        hot::emit(self, asm, rare, done);
        rare
    }

    /// Appends the walk: `done` with the hash in R0, `beyond` where a chain is too long.
    pub fn emit_rare(&self, asm: &mut Assembler, done: Label, beyond: Label) {
        self.emit_begin(asm);
        self.emit_walk(asm, done, beyond);
    }

    /// Appends the begin of the walk alone, behind which to go on with a walk that frames share which begin
    /// elsewhere: the kernel's verifier follows it once, then.
    pub fn emit_begin(&self, asm: &mut Assembler) {
        asm.store(Width::B4, R10, self.place(place::AT), self.at);
    }

    /// Appends the walk behind [`Self::emit_begin`], of whichever hash that differs in [`Self::at`] alone.
    pub fn emit_walk(&self, asm: &mut Assembler, done: Label, beyond: Label) {
        walk::emit(self, asm, done, beyond);
    }

    const fn place(&self, place: i16) -> i16 {
        self.stack_at + place
    }
}

/// `h = (h ^ word) * m; h ^= h >> 32`, with h in R0, m in `multiplier`; `word` is lost.
fn mix(asm: &mut Assembler, word: Register, multiplier: Register) {
    asm.do64(Alu::Xor, R0, word);
    asm.do64(Alu::Mul, R0, multiplier);
    fold(asm, word);
}

/// `h ^= h >> 32`.
fn fold(asm: &mut Assembler, spare: Register) {
    asm.copy(spare, R0);
    asm.do64(Alu::ShiftRight, spare, 32);
    asm.do64(Alu::Xor, R0, spare);
}

/// Makes a hash of the h in R0; R9 is lost.
fn finish(asm: &mut Assembler, multiplier: Register) {
    asm.wide(multiplier, LAST_MULTIPLIER);
    asm.do64(Alu::Mul, R0, multiplier);
    fold(asm, R9);
    asm.do32(Alu::Move, R0, R0);
}
