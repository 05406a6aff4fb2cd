//! How much of a packet goes in: what the tunnel carries, the slice, what the path takes.

use super::{Program, place};
use crate::mirror::layout::{Shape, ShapeKind, TooBig, member, slot};
use crate::shorthand::{Shorthand, skb};
use Register::{R0, R1, R2, R3, R4, R6, R7, R9, R10};
use filter::ebpf::{Alu, Assembler, Condition, Helper, Register, Width};
use wire::walk::ethertype;

/// Bytes that are left at least of what is cut to fit the path.
const ROOM_MIN: i32 = 14;

/// Appends it: [`place::KEPT`] is then what goes in, and the packet ends with it.
pub(super) fn emit(program: &Program, asm: &mut Assembler, shape: Shape) {
    let (whole, fits) = (asm.label(), asm.label());
    // The frame, or its slice, is what is told as sent.
    asm.load(Width::B4, R2, R10, place::LENGTH);
    asm.load(Width::B4, R1, R7, slot::SNAPLEN as i16);
    asm.if32(R1, Condition::Equal, 0, whole);
    asm.if32(R1, Condition::AtLeast, R2, whole);
    asm.copy(R2, R1);
    asm.bind(whole);
    asm.store(Width::B4, R10, place::SENT_BYTES, R2);
    if let ShapeKind::Gre { .. } = shape.kind {
        ip_packet(program, asm);
    }

    let headers = (shape.ip_len() + shape.tunnel_len()) as i32;
    asm.load(Width::B4, R3, R9, member::MTU as i16);
    asm.do64(Alu::Sub, R3, headers);
    asm.if64(R2, Condition::AtMostSigned, R3, fits);
    asm.load(Width::B4, R1, R7, slot::OVERSIZE as i16);
    asm.if32(R1, Condition::Equal, TooBig::HandUp as i32, program.hand_up);
    asm.if32(R1, Condition::NotEqual, TooBig::Cut as i32, program.dropped.oversize);
    asm.if64(R3, Condition::BelowSigned, ROOM_MIN, program.dropped.oversize);
    asm.copy(R2, R3);
    asm.store(Width::B4, R10, place::IS_CUT, 1);
    asm.bind(fits);
    asm.store(Width::B4, R10, place::KEPT, R2);
    slice(program, asm, shape);
}

/// Makes R2, the end of the frame or its slice, the length of the IP packet in it.
fn ip_packet(program: &Program, asm: &mut Assembler) {
    let (untagged, v4, is_there, ends) = (asm.label(), asm.label(), asm.label(), asm.label());
    asm.load(Width::B4, R1, R10, place::TAG);
    asm.if32(R1, Condition::Equal, 0, untagged);
    asm.do64(Alu::Sub, R2, 4);
    asm.bind(untagged);
    // The fixed part of its header must be in the slice.
    asm.load(Width::B4, R3, R10, program.hash.network_at());
    asm.load(Width::B4, R1, R10, program.hash.ip_at());
    asm.if32(R1, Condition::Equal, 0, program.dropped.link_type);
    asm.copy(R4, R3);
    asm.do64(Alu::Add, R4, 20);
    asm.if32(R1, Condition::Equal, i32::from(ethertype::IPV4), v4);
    asm.do64(Alu::Add, R4, 20);
    asm.bind(v4);
    asm.if64(R2, Condition::AtLeastSigned, R4, is_there);
    asm.jump(program.dropped.link_type);
    asm.bind(is_there);
    asm.load(Width::B4, R4, R10, program.hash.end_at());
    asm.if64(R2, Condition::AtMost, R4, ends);
    asm.copy(R2, R4);
    asm.bind(ends);
    asm.do64(Alu::Sub, R2, R3);
}

/// Cuts the packet where what goes in ends; R2 is its length.
fn slice(program: &Program, asm: &mut Assembler, shape: Shape) {
    let (untagged, done) = (asm.label(), asm.label());
    if let ShapeKind::Gre { .. } = shape.kind {
        asm.load(Width::B4, R3, R10, program.hash.network_at());
        // The outer headers take the place of what stands in front of the packet.
        asm.if64(R3, Condition::Above, shape.header_len() as i32, program.hand_up);
        asm.do64(Alu::Add, R2, R3);
    } else {
        asm.load(Width::B4, R1, R10, place::TAG);
        asm.if32(R1, Condition::Equal, 0, untagged);
        asm.do64(Alu::Sub, R2, 4);
        asm.bind(untagged);
    }
    asm.load(Width::B4, R1, R6, skb::LEN);
    asm.if64(R2, Condition::Equal, R1, done);
    // Shorter than the MAC addresses, or inside a tag.
    asm.if64(R2, Condition::BelowSigned, 14, program.hand_up);
    asm.copy(R1, R6);
    asm.copy(R3, 0);
    asm.call(Helper::SKB_CHANGE_TAIL);
    asm.if64(R0, Condition::NotEqual, 0, program.hand_up);
    asm.store(Width::B4, R10, place::IS_SLICED, 1);
    asm.bind(done);
}
