//! What all parts of a program are written with: its memory, its registers, its ways out.
//!
//! ```text
//! R6 the packet (`struct __sk_buff`)    R8 the session's entry
//! R7 its first byte                     R9 where the transport's header starts, from the first byte
//! ```
//!
//! Source: Linux `include/uapi/linux/bpf.h` for the offsets of `struct __sk_buff` and the flags.

use super::layout::{Counter, InlineMap, settings};
use Register::{R0, R1, R2, R3, R4, R6, R7, R8, R9, R10};
use filter::ebpf::{Alu, Assembler, Bits, Condition, Helper, Label, Operand, Register, Width};

pub(super) const SKB_LEN: i16 = 0;
pub(super) const SKB_PKT_TYPE: i16 = 4;
pub(super) const SKB_PROTOCOL: i16 = 16;
pub(super) const SKB_VLAN_PRESENT: i16 = 20;
pub(super) const SKB_TC_INDEX: i16 = 44;
pub(super) const SKB_DATA: i16 = 76;
pub(super) const SKB_DATA_END: i16 = 80;
pub(super) const SKB_GSO_SEGS: i16 = 164;
pub(super) const SKB_GSO_SIZE: i16 = 176;

/// The next program, or the host.
pub(super) const NEXT: i32 = -1;
/// The packet ends here (`TC_ACT_SHOT`).
const DROP: i32 = 2;

pub(super) const ETHERNET: i16 = 14;
pub(super) const TCP: i32 = 6;
pub(super) const UDP: i32 = 17;
pub(super) const ICMP: i32 = 1;
pub(super) const ICMPV6: i32 = 58;

/// `CLOCK_MONOTONIC_COARSE`: a tick behind, at a fifth of the cost.
pub(super) const KTIME_GET_COARSE_NS: Helper = Helper { id: 160, name: "bpf_ktime_get_coarse_ns" };
pub(super) const GET_PRANDOM_U32: Helper = Helper { id: 7, name: "bpf_get_prandom_u32" };

/// Memory of a run, from R10.
///
/// What is called small is a `u32` that is never 0 and does not begin at a multiple of 8: the verifier
/// knows nothing of it when it is read again, so that ways on which it differs become one.
pub(super) mod at {
    use super::super::layout::{SESSION_BYTES, TUPLE_BYTES};
    /// The packet's tuple.
    pub const TUPLE: i16 = -(TUPLE_BYTES as i16);
    /// The place of its counters, a `u32`.
    pub const PLACE: i16 = TUPLE - 8;
    /// The protocol whose header stands there to be changed, or [`NO_HEADER`](super::NO_HEADER); small.
    pub const PROTOCOL: i16 = PLACE - 4;
    /// [`MARKED`](super::MARKED) and more; small.
    pub const MARKS: i16 = PROTOCOL - 8;
    /// Whether the frame gets the next hop's MAC; small.
    pub const ADDRESSED: i16 = MARKS - 8;
    /// What is counted if the packet ends here; small.
    pub const REASON: i16 = ADDRESSED - 8;
    /// R9 while it is needed otherwise; small.
    pub const TRANSPORT: i16 = REASON - 8;
    /// Where the transport header of a packet in an error is; small.
    pub const INNER: i16 = TRANSPORT - 8;
    /// The identifier of a fragment, a `u32`.
    pub const FRAGMENT_ID: i16 = INNER - 12;
    /// The time of this run.
    pub const NOW: i16 = FRAGMENT_ID - 8;
    /// The way to the next hop, a pointer.
    pub const HOP: i16 = NOW - 8;
    /// Which views are shown.
    pub const VIEWS: i16 = HOP - 8;
    /// The private interface.
    pub const PRIVATE: i16 = VIEWS - 8;
    /// What `tc_index` was.
    pub const TC_INDEX: i16 = PRIVATE - 8;
    /// A key of four bytes.
    pub const KEY: i16 = TC_INDEX - 8;
    /// A key of a rule.
    pub const MATCH: i16 = KEY - 24;
    /// A second tuple.
    pub const OTHER: i16 = MATCH - TUPLE_BYTES as i16;
    /// The session's entries, of both directions.
    pub const FORWARD: i16 = OTHER - SESSION_BYTES as i16;
    pub const REPLY: i16 = FORWARD - SESSION_BYTES as i16;
    const _: () = assert!(REPLY >= -512 && REPLY % 8 == 0 && OTHER % 8 == 0 && PROTOCOL % 8 != 0);
}

/// No header of a transport is to be changed.
pub(super) const NO_HEADER: i32 = 0xff;
/// The frame gets no MAC, or one.
pub(super) const UNADDRESSED: i32 = 1;
pub(super) const ADDRESSED: i32 = 2;
/// Set in [`at::MARKS`] and [`at::REASON`], so that they are not 0.
pub(super) const MARKED: i32 = 0x400;
/// No header starts farther behind than this.
const TRANSPORT_MAX: i32 = 0x3fff;
/// A bit of [`at::MARKS`]: more fragments follow.
pub(super) const FIRST_FRAGMENT: i32 = 1;
/// A bit of [`at::MARKS`]: a packet like this begins no session.
pub(super) const NO_NEW: i32 = 2;

/// A version of IP, for which parts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    /// Bytes of a frame up to the end of the IP header without options: the last fragment may have one
    /// byte more.
    pub(super) const fn bytes_min(self) -> i32 {
        match self {
            Family::V4 => 14 + 20,
            Family::V6 => 14 + 40,
        }
    }

    /// Bytes that are made readable if they are there: with options, and a TCP header's fixed part.
    const fn bytes_wanted(self) -> i32 {
        match self {
            Family::V4 => 14 + 60 + 20,
            Family::V6 => 14 + 40 + 128 + 20,
        }
    }

    /// Where the addresses stand in a frame, and how long they are.
    pub(super) const fn addresses(self) -> (i16, i16, i16) {
        match self {
            Family::V4 => (ETHERNET + 12, ETHERNET + 16, 4),
            Family::V6 => (ETHERNET + 8, ETHERNET + 24, 16),
        }
    }

    /// Where the time to live stands.
    pub(super) const fn hops_left(self) -> i16 {
        match self {
            Family::V4 => ETHERNET + 8,
            Family::V6 => ETHERNET + 7,
        }
    }

    /// The version of ICMP.
    pub(super) const fn icmp(self) -> i32 {
        match self {
            Family::V4 => ICMP,
            Family::V6 => ICMPV6,
        }
    }
}

/// A program while it is written.
pub(super) struct Writer {
    pub asm: Assembler,
    /// To the next program, or the host.
    pub next: Label,
    /// Drops, counted by [`at::REASON`] at [`at::PLACE`].
    pub drop: Label,
    /// Hands up, or drops as [`Self::drop`].
    pub hand_up: Label,
}

impl Writer {
    pub(super) fn new() -> Writer {
        let mut asm = Assembler::new();
        let (next, drop, hand_up) = (asm.label(), asm.label(), asm.label());
        Writer { asm, next, drop, hand_up }
    }

    pub(super) fn load(&mut self, width: Width, to: Register, base: Register, at: i16) {
        self.asm.load(width, to, base, at);
    }

    pub(super) fn store(
        &mut self,
        width: Width,
        base: Register,
        at: i16,
        value: impl Into<Operand>,
    ) {
        self.asm.store(width, base, at, value);
    }

    /// 64-bit arithmetic.
    pub(super) fn alu(&mut self, alu: Alu, to: Register, by: impl Into<Operand>) {
        self.asm.alu(Bits::B64, alu, to, by);
    }

    pub(super) fn copy(&mut self, to: Register, by: impl Into<Operand>) {
        self.asm.copy(to, by);
    }

    /// Compares low halves.
    pub(super) fn jump_if(
        &mut self,
        left: Register,
        condition: Condition,
        right: impl Into<Operand>,
        to: Label,
    ) {
        self.asm.jump_if(Bits::B32, condition, left, right, to);
    }

    /// Compares whole registers.
    pub(super) fn jump_if64(
        &mut self,
        left: Register,
        condition: Condition,
        right: impl Into<Operand>,
        to: Label,
    ) {
        self.asm.jump_if(Bits::B64, condition, left, right, to);
    }

    /// Copies so many bytes, a multiple of 4; `by` is lost.
    pub(super) fn copy_bytes(
        &mut self,
        (to, to_at): (Register, i16),
        (from, from_at): (Register, i16),
        bytes: i16,
        by: Register,
    ) {
        let mut done = 0;
        while done < bytes {
            // Packets and keys are aligned to 4 bytes at best.
            let width = Width::B4;
            self.load(width, by, from, from_at + done);
            self.store(width, to, to_at + done, by);
            done += width.bytes() as i16;
        }
    }

    /// R0 = the value of the key at a place of the memory, or null.
    pub(super) fn look_up(&mut self, map: InlineMap, key: i16) {
        self.asm.map_address(R1, map.map());
        self.copy(R2, R10);
        self.alu(Alu::Add, R2, i32::from(key));
        self.asm.call(Helper::MAP_LOOKUP);
    }

    /// R0 = the entry at the place that R1 says.
    pub(super) fn look_up_place(&mut self, map: InlineMap) {
        self.store(Width::B4, R10, at::KEY, R1);
        self.look_up(map, at::KEY);
    }

    /// R0 = 0, or a negative number, from writing an entry; `flags` as the helper's.
    pub(super) fn update(&mut self, map: InlineMap, key: i16, value: i16, flags: i32) {
        self.asm.map_address(R1, map.map());
        self.copy(R2, R10);
        self.alu(Alu::Add, R2, i32::from(key));
        self.copy(R3, R10);
        self.alu(Alu::Add, R3, i32::from(value));
        self.copy(R4, flags);
        self.asm.call(Helper::MAP_UPDATE);
    }

    /// R7 = the packet's first byte; as many bytes as the family's parts may read are made readable
    /// if they are there, and at least [`Family::bytes_min`] are, or on to the next program. R1 to R5
    /// are lost.
    pub(super) fn fetch(&mut self, family: Family) {
        self.fetch_or(family, self.next);
    }

    /// The same of a packet that has changed already: half changed it is nobody's, and is dropped.
    pub(super) fn fetch_again(&mut self, family: Family) {
        self.fetch_or(family, self.drop);
    }

    fn fetch_or(&mut self, family: Family, otherwise: Label) {
        let (enough, whole, ready) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.load(Width::B4, R7, R6, SKB_DATA);
        self.load(Width::B4, R1, R6, SKB_DATA_END);
        self.load(Width::B4, R2, R6, SKB_LEN);
        self.jump_if(R2, Condition::AtMost, family.bytes_wanted(), whole);
        self.copy(R2, family.bytes_wanted());
        self.asm.bind(whole);
        self.copy(R3, R7);
        self.alu(Alu::Add, R3, R2);
        self.jump_if64(R3, Condition::AtMost, R1, enough);
        self.copy(R1, R6);
        self.asm.call(Helper::SKB_PULL_DATA);
        self.asm.bind(enough);
        self.load(Width::B4, R7, R6, SKB_DATA);
        self.readable(R7, family.bytes_min(), ready);
        self.asm.jump(otherwise);
        self.asm.bind(ready);
    }

    /// R2 = the transport's header, of which so many bytes are readable, or on to the next program. R3
    /// and R4 are lost.
    pub(super) fn transport(&mut self, bytes: i32) {
        let ready = self.asm.label();
        self.copy(R2, R7);
        self.alu(Alu::Add, R2, R9);
        self.readable(R2, bytes, ready);
        self.asm.jump(self.next);
        self.asm.bind(ready);
    }

    /// The same of a packet that is changed already: half changed it is nobody's, and is dropped. They
    /// were readable when it was found.
    pub(super) fn transport_or_drop(&mut self, bytes: i32) {
        let ready = self.asm.label();
        self.copy(R2, R7);
        self.alu(Alu::Add, R2, R9);
        self.readable(R2, bytes, ready);
        self.asm.jump(self.drop);
        self.asm.bind(ready);
    }

    /// Jumps if so many bytes are readable behind a pointer. R3 and R4 are lost.
    pub(super) fn readable(&mut self, base: Register, bytes: i32, to: Label) {
        self.copy(R3, base);
        self.alu(Alu::Add, R3, bytes);
        self.load(Width::B4, R4, R6, SKB_DATA_END);
        self.jump_if64(R3, Condition::AtMost, R4, to);
    }

    /// Keeps the place of a transport header in memory.
    pub(super) fn keep_place(&mut self, at: i16, place: Register) {
        self.store(Width::B4, R10, at, place);
    }

    /// Gets it back, of which the verifier now knows only that it is bounded.
    pub(super) fn get_place(&mut self, at: i16, to: Register) {
        self.load(Width::B4, to, R10, at);
        self.alu(Alu::And, to, TRANSPORT_MAX);
    }

    /// Folds a sum of 16-bit words, of at most 48 bits, to 16 bits.
    pub(super) fn fold(&mut self, sum: Register, by: Register) {
        for _ in 0..3 {
            self.copy(by, sum);
            self.alu(Alu::ShiftRight, by, 16);
            self.alu(Alu::And, sum, 0xffff);
            self.alu(Alu::Add, sum, by);
        }
    }

    /// Mends a checksum at a place by a difference in a register, which is lost, as is `by`.
    pub(super) fn mend(&mut self, base: Register, at: i16, diff: Register, by: Register) {
        self.load(Width::B2, by, base, at);
        self.alu(Alu::Xor, by, 0xffff);
        self.alu(Alu::Add, diff, by);
        self.fold(diff, by);
        self.alu(Alu::Xor, diff, 0xffff);
        self.store(Width::B2, base, at, diff);
    }

    /// R1 = how many packets of the wire this one is; R2 is lost.
    pub(super) fn wire_packets(&mut self) {
        let (counted, estimate) = (self.asm.label(), self.asm.label());
        self.load(Width::B4, R2, R6, SKB_GSO_SIZE);
        self.copy(R1, 1);
        self.jump_if(R2, Condition::Equal, 0, counted);
        self.load(Width::B4, R1, R6, SKB_GSO_SEGS);
        self.jump_if(R1, Condition::Equal, 0, estimate);
        self.asm.jump(counted);
        // Only virtual machines leave it out.
        self.asm.bind(estimate);
        self.load(Width::B4, R1, R6, SKB_LEN);
        self.alu(Alu::Add, R1, R2);
        self.alu(Alu::Sub, R1, i32::from(ETHERNET) + 20 + 20 + 1);
        self.asm.alu(Bits::B32, Alu::Div, R1, R2);
        self.asm.bind(counted);
    }

    /// R0 = the counters at [`at::PLACE`]; on to `none` if there are none.
    pub(super) fn counters(&mut self, none: Label) {
        self.look_up(InlineMap::Counters, at::PLACE);
        self.jump_if64(R0, Condition::Equal, 0, none);
    }

    /// Adds R1 to a counter at R0. R2 is lost.
    pub(super) fn count(&mut self, counter: Counter) {
        let at = 8 * counter as i16;
        self.load(Width::B8, R2, R0, at);
        self.alu(Alu::Add, R2, R1);
        self.store(Width::B8, R0, at, R2);
    }

    /// Counts one. R0 to R5 are lost.
    pub(super) fn count_one(&mut self, counter: Counter) {
        let none = self.asm.label();
        self.counters(none);
        self.copy(R1, 1);
        self.count(counter);
        self.asm.bind(none);
    }

    /// Sets what is counted if the packet ends here.
    pub(super) fn reason(&mut self, counter: Counter) {
        self.store(Width::B4, R10, at::REASON, MARKED | (8 * counter as i32));
    }

    /// R1 = the private interface, if somebody takes what comes there, or on to `nobody`.
    pub(super) fn private(&mut self, nobody: Label) {
        self.copy(R1, 0);
        self.look_up_place(InlineMap::Settings);
        self.jump_if64(R0, Condition::Equal, 0, nobody);
        self.load(Width::B8, R2, R0, settings::FRESH_AT as i16);
        self.is_old(R2, nobody);
        self.load(Width::B4, R1, R0, settings::PRIVATE as i16);
        self.jump_if(R1, Condition::Equal, 0, nobody);
    }

    /// Jumps if a time is more than [`FRESH_NS`](super::layout::FRESH_NS) ago; it is lost, as is R3.
    /// A time ahead of the coarse clock is fresh.
    pub(super) fn is_old(&mut self, time: Register, to: Label) {
        self.asm.alu(Bits::B32, Alu::Move, R3, super::layout::FRESH_NS.cast_signed());
        self.alu(Alu::Add, time, R3);
        self.load(Width::B8, R3, R10, at::NOW);
        self.jump_if64(time, Condition::Below, R3, to);
    }

    /// Sends a copy to the interface R1, as what `view` says. R0 is as of the helper; R1 to R5 are
    /// lost, and R7.
    pub(super) fn send_copy(&mut self, view: super::layout::View) {
        self.load(Width::B4, R3, R10, at::PLACE);
        self.copy(R4, R3);
        self.alu(Alu::ShiftRight, R3, 1);
        self.alu(Alu::ShiftLeft, R3, 3);
        self.alu(Alu::And, R4, 1);
        self.alu(Alu::Or, R3, R4);
        self.alu(Alu::Or, R3, (view as i32) << 1);
        self.store(Width::B4, R6, SKB_TC_INDEX, R3);
        self.copy(R2, R1);
        self.copy(R1, R6);
        self.copy(R3, 0);
        self.asm.call(Helper::CLONE_REDIRECT);
    }

    /// The ways out, at the program's end.
    pub(super) fn finish(mut self) -> Result<filter::ebpf::Code, filter::ebpf::Error> {
        let end = self.asm.label();
        if self.asm.is_used(self.hand_up) {
            self.asm.bind(self.hand_up);
            self.private(self.drop);
            self.send_copy(super::layout::View::Exception);
            self.jump_if64(R0, Condition::NotEqual, 0, self.drop);
            // As they come to user space: cut.
            self.counters(end);
            self.wire_packets();
            self.count(Counter::HandedUp);
            self.asm.jump(end);
        }
        self.asm.bind(self.drop);
        self.counters(end);
        self.wire_packets();
        self.load(Width::B4, R8, R10, at::REASON);
        self.alu(Alu::And, R8, 8 * (super::layout::COUNTER_WORDS as i32 - 1));
        self.alu(Alu::Add, R0, R8);
        self.load(Width::B8, R2, R0, 0);
        self.alu(Alu::Add, R2, R1);
        self.store(Width::B8, R0, 0, R2);
        self.asm.bind(end);
        self.copy(R0, DROP);
        self.asm.exit();
        self.asm.bind(self.next);
        self.copy(R0, NEXT);
        self.asm.exit();
        self.asm.finish()
    }
}
