//! The likely packets: no tags, an IP header without options, TCP or UDP, no fragment, all there.

use super::{FlowHash, SEED, WORD_MULTIPLIER, finish, mix, place};
use crate::shorthand::{Shorthand, skb};
use Register::{R0, R1, R2, R3, R4, R5, R6, R8, R9, R10};
use filter::ebpf::{Alu, Assembler, Condition, Label, Register, Width};
use wire::walk::{ethertype, protocol};

const ETHERNET_LEN: i32 = 14;
/// More to come, or an offset, in the word that holds both.
const IS_FRAGMENT: u16 = 0x3fff;

pub(super) fn emit(hash: &FlowHash, asm: &mut Assembler, rare: Label, done: Label) {
    let v6 = asm.label();
    let at = |field: i32| (hash.at + field) as i16;
    asm.load(Width::B4, R1, R6, skb::DATA);
    asm.load(Width::B4, R2, R6, skb::DATA_END);
    reach(asm, hash.at + ETHERNET_LEN + 20 + 8, rare);
    asm.load(Width::B2, R4, R1, at(12));
    asm.if32(R4, Condition::Equal, i32::from(ethertype::IPV6.to_be()), v6);
    asm.if32(R4, Condition::NotEqual, i32::from(ethertype::IPV4.to_be()), rare);
    v4(hash, asm, rare, done);
    asm.bind(v6);
    self::v6(hash, asm, rare, done);
}

/// Goes on if so many bytes can be read at R1; R2 is their end.
fn reach(asm: &mut Assembler, bytes: i32, rare: Label) {
    asm.copy(R3, R1);
    asm.do64(Alu::Add, R3, bytes);
    asm.if64(R3, Condition::Above, R2, rare);
}

fn v4(hash: &FlowHash, asm: &mut Assembler, rare: Label, done: Label) {
    let ip = hash.at + ETHERNET_LEN;
    let at = |field: i32| (ip + field) as i16;
    asm.load(Width::B1, R4, R1, at(0));
    asm.if32(R4, Condition::NotEqual, 0x45, rare);
    asm.load(Width::B2, R4, R1, at(6));
    asm.if32(R4, Condition::SharesBit, i32::from(IS_FRAGMENT.to_be()), rare);
    asm.load(Width::B1, R5, R1, at(9));
    asm.load_be(Width::B2, R4, R1, at(2));
    asm.if32(R4, Condition::Below, 20 + 8, rare);
    transport(hash, asm, ip + 20, rare);
    remember(hash, asm, ethertype::IPV4, ip, 0);

    // Both ends as 48 bits, compared and mixed.
    let ordered = asm.label();
    end(asm, R2, at(12), at(20));
    end(asm, R3, at(16), at(22));
    asm.wide(R0, SEED);
    asm.wide(R8, WORD_MULTIPLIER);
    asm.if64(R2, Condition::AtMost, R3, ordered);
    swap(asm, R2, R3);
    asm.bind(ordered);
    mix(asm, R2, R8);
    mix(asm, R3, R8);
    asm.do64(Alu::Move, R2, 4);
    asm.do64(Alu::ShiftLeft, R2, 32);
    asm.do64(Alu::Or, R2, R5);
    mix(asm, R2, R8);
    finish(asm, R8);
    asm.jump(done);
}

/// `to = address << 16 | port`; R4 is lost.
fn end(asm: &mut Assembler, to: Register, address: i16, port: i16) {
    asm.load_be(Width::B4, to, R1, address);
    asm.load_be(Width::B2, R4, R1, port);
    asm.do64(Alu::ShiftLeft, to, 16);
    asm.do64(Alu::Or, to, R4);
}

fn swap(asm: &mut Assembler, a: Register, b: Register) {
    asm.copy(R9, a);
    asm.copy(a, b);
    asm.copy(b, R9);
}

/// Goes on with TCP, and with UDP whose length does not cut what it carries, if that matters. R5 is
/// the protocol, R4 the length that IP tells behind `at` less the offset; R0 and R3 are lost.
fn transport(hash: &FlowHash, asm: &mut Assembler, at: i32, rare: Label) {
    let known = asm.label();
    asm.if32(R5, Condition::Equal, i32::from(protocol::TCP), known);
    asm.if32(R5, Condition::NotEqual, i32::from(protocol::UDP), rare);
    if hash.finds_ip {
        asm.load_be(Width::B2, R0, R1, (at + 4) as i16);
        asm.copy(R3, R4);
        asm.do64(Alu::Sub, R3, at - hash.at - ETHERNET_LEN);
        asm.if32(R0, Condition::NotEqual, R3, rare);
    }
    asm.bind(known);
}

/// Notes where the IP packet begins and ends; R4 is its length less `plus`. R3, R4 are lost.
fn remember(hash: &FlowHash, asm: &mut Assembler, ethertype: u16, ip: i32, plus: i32) {
    if !hash.finds_ip {
        return;
    }
    let ends = asm.label();
    asm.store(Width::B4, R10, hash.place(place::IP), i32::from(ethertype));
    asm.store(Width::B4, R10, hash.place(place::NETWORK), ip);
    asm.do64(Alu::Add, R4, ip + plus);
    asm.load(Width::B4, R3, R6, skb::LEN);
    asm.if64(R4, Condition::AtMost, R3, ends);
    asm.copy(R4, R3);
    asm.bind(ends);
    asm.store(Width::B4, R10, hash.place(place::END), R4);
}

fn v6(hash: &FlowHash, asm: &mut Assembler, rare: Label, done: Label) {
    let ip = hash.at + ETHERNET_LEN;
    let at = |field: i32| (ip + field) as i16;
    reach(asm, ip + 40 + 8, rare);
    asm.load(Width::B1, R4, R1, at(0));
    asm.do32(Alu::ShiftRight, R4, 4);
    asm.if32(R4, Condition::NotEqual, 6, rare);
    asm.load(Width::B1, R5, R1, at(6));
    asm.load_be(Width::B2, R4, R1, at(4));
    asm.if32(R4, Condition::Below, 8, rare);
    if hash.finds_ip {
        asm.do64(Alu::Add, R4, 40);
    }
    transport(hash, asm, ip + 40, rare);
    remember(hash, asm, ethertype::IPV6, ip, 0);

    for (register, field) in [(R2, 8), (R3, 16), (R4, 24), (R5, 32)] {
        asm.load_be(Width::B8, register, R1, at(field));
    }
    // The ends' order by address, then by port; the ports in R0, the lower end's in the upper half.
    let (swapped, ordered) = (asm.label(), asm.label());
    asm.load_be(Width::B4, R0, R1, at(40));
    asm.load_be(Width::B2, R8, R1, at(40));
    asm.load_be(Width::B2, R9, R1, at(42));
    asm.if64(R2, Condition::Below, R4, ordered);
    asm.if64(R2, Condition::Above, R4, swapped);
    asm.if64(R3, Condition::Below, R5, ordered);
    asm.if64(R3, Condition::Above, R5, swapped);
    asm.if64(R8, Condition::AtMost, R9, ordered);
    asm.bind(swapped);
    asm.do64(Alu::ShiftLeft, R9, 16);
    asm.do64(Alu::Or, R9, R8);
    asm.copy(R0, R9);
    swap(asm, R2, R4);
    swap(asm, R3, R5);
    asm.bind(ordered);
    asm.load(Width::B1, R1, R1, at(6));
    asm.do64(Alu::ShiftLeft, R0, 32);
    asm.do64(Alu::Or, R0, R1);
    asm.do64(Alu::Or, R0, 6 << 8);
    asm.copy(R9, R0);
    asm.wide(R0, SEED);
    asm.wide(R8, WORD_MULTIPLIER);
    for word in [R2, R3, R4, R5, R9] {
        mix(asm, word, R8);
    }
    finish(asm, R8);
    asm.jump(done);
}
