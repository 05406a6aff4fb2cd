//! The outer headers of each shape: room for them, the member's template, and what differs from packet
//! to packet.

use super::{Program, fit, payload_sum, place};
use crate::mirror::layout::{MemberCounter, Shape, ShapeKind, member};
use crate::shorthand::{Shorthand, skb};
use Register::{R0, R1, R2, R3, R4, R5, R6, R8, R9, R10};
use filter::ebpf::{Alu, Assembler, Condition, Helper, Label, Register, Width};
use wire::walk::ethertype;

/// Bytes of the MAC addresses.
const MACS_LEN: i32 = 12;
/// Bytes of the frame's begin that are written anew with the headers.
const FIRST_LEN: i32 = 2;
/// Where IP's header stands.
const IP_AT: i16 = place::HEADER + 14;
/// The lowest port that the hash gives, and its bits above.
const PORT_MIN: i32 = 0xc000;
const PORT_SHIFT: i32 = 18;

/// Appends a shape's code, which passes on members of another shape with R1.
pub(super) fn emit(program: &Program, asm: &mut Assembler, shape: Shape) {
    let other = asm.label();
    asm.if32(R1, Condition::NotEqual, shape.number().cast_signed(), other);
    fit::emit(program, asm, shape);
    if shape.is_udp() && shape.is_v6 {
        payload_sum::emit(program, asm);
    }
    let extra_at = place::HEADER + shape.header_len() as i16;
    match shape.kind {
        ShapeKind::Gre { .. } => over_ethernet(program, asm, shape),
        _ => in_front(program, asm, shape.header_len() as i32, extra_at),
    }
    template(asm, shape);
    numbered(asm);
    ip(asm, shape);
    if shape.is_udp() {
        udp(asm, shape);
    }
    match shape.kind {
        ShapeKind::GeneveMetadata => metadata(program, asm, shape),
        ShapeKind::Gre { .. } => {
            asm.load(Width::B4, R1, R10, program.hash.ip_at());
            asm.big_endian(Width::B2, R1);
            asm.store(Width::B2, R10, tunnel_at(shape) + 2, R1);
        }
        _ => {}
    }
    if shape.is_udp() && shape.is_v6 {
        payload_sum::checksum(asm, shape);
    }
    let len = shape.header_len() as i32;
    if let ShapeKind::Gre { .. } = shape.kind {
        write(asm, place::HEADER, len);
        asm.if64(R0, Condition::NotEqual, 0, program.dropped.send_error);
    } else {
        store(program, asm, place::HEADER, len);
    }
    asm.jump(program.sent);
    asm.bind(other);
}

/// Behind IP.
const fn tunnel_at(shape: Shape) -> i16 {
    place::HEADER + 14 + shape.ip_len() as i16
}

/// Makes `len` bytes of room in front of the frame; puts what changes of its own begin at `extra_at`
/// on the stack, and [`place::EXTRA`] tells how many bytes that is.
fn in_front(program: &Program, asm: &mut Assembler, len: i32, extra_at: i16) {
    let (tagged, room, single, done) = (asm.label(), asm.label(), asm.label(), asm.label());
    asm.load(Width::B4, R1, R10, place::TAG);
    asm.if32(R1, Condition::NotEqual, 0, tagged);
    asm.load(Width::B2, R1, R10, place::FIRST);
    asm.store(Width::B2, R10, extra_at, R1);
    asm.store(Width::B4, R10, place::EXTRA, FIRST_LEN);
    asm.copy(R2, len);
    change_head(program, asm);
    asm.jump(done);

    asm.bind(tagged);
    asm.copy(R2, 0);
    asm.load_packet(extra_at, MACS_LEN);
    asm.if64(R0, Condition::NotEqual, 0, program.dropped.send_error);
    asm.load(Width::B2, R1, R10, place::FIRST);
    asm.store(Width::B2, R10, extra_at, R1);
    asm.load(Width::B4, R1, R10, place::TAG);
    asm.store(Width::B4, R10, extra_at + MACS_LEN as i16, R1);
    asm.store(Width::B4, R10, place::EXTRA, MACS_LEN + 4);
    asm.copy(R2, len + 4);
    room_for_second_tag(asm, room);
    asm.bind(room);
    change_head(program, asm);
    take_tag_off(asm, single);
    asm.bind(single);
    asm.bind(done);
}

/// Makes R2 four bytes more if the kernel would take a second tag out of the frame.
fn room_for_second_tag(asm: &mut Assembler, room: Label) {
    let double = asm.label();
    asm.store(Width::B4, R10, place::IS_DOUBLE, 0);
    asm.load(Width::B4, R1, R6, skb::PROTOCOL);
    for tag in [ethertype::VLAN, ethertype::QINQ] {
        asm.if32(R1, Condition::Equal, i32::from(tag.to_be()), double);
    }
    asm.jump(room);
    asm.bind(double);
    asm.store(Width::B4, R10, place::IS_DOUBLE, 1);
    asm.do64(Alu::Add, R2, 4);
}

/// Takes the tag off the metadata, now that room is in front of the frame.
fn take_tag_off(asm: &mut Assembler, single: Label) {
    asm.copy(R1, R6);
    asm.call(Helper::SKB_VLAN_POP);
    asm.load(Width::B4, R1, R10, place::IS_DOUBLE);
    asm.if32(R1, Condition::Equal, 0, single);
    asm.copy(R1, R6);
    asm.call(Helper::SKB_VLAN_POP);
}

/// Makes room of R2 bytes.
fn change_head(program: &Program, asm: &mut Assembler) {
    asm.copy(R1, R6);
    asm.copy(R3, 0);
    asm.call(Helper::SKB_CHANGE_HEAD);
    asm.if64(R0, Condition::NotEqual, 0, program.failed);
}

/// Makes room so that the headers end where the IP packet begins: they cover what was in front.
fn over_ethernet(program: &Program, asm: &mut Assembler, shape: Shape) {
    let (untagged, room, single) = (asm.label(), asm.label(), asm.label());
    asm.load(Width::B4, R1, R10, program.hash.network_at());
    asm.copy(R2, shape.header_len() as i32);
    asm.do64(Alu::Sub, R2, R1);
    asm.load(Width::B4, R1, R10, place::TAG);
    asm.if32(R1, Condition::Equal, 0, room);
    room_for_second_tag(asm, room);
    asm.bind(room);
    change_head(program, asm);
    asm.load(Width::B4, R1, R10, place::TAG);
    asm.if32(R1, Condition::Equal, 0, untagged);
    take_tag_off(asm, single);
    asm.bind(single);
    asm.bind(untagged);
}

/// Copies the member's headers to the stack, in words that are aligned there.
fn template(asm: &mut Assembler, shape: Shape) {
    let len = shape.header_len() as i16;
    let mut at = 0;
    while at < len {
        let width = match (place::HEADER + at) % 8 {
            0 if len - at >= 8 => Width::B8,
            0 | 4 | -4 if len - at >= 4 => Width::B4,
            _ => Width::B2,
        };
        asm.load(width, R1, R9, member::HEADER as i16 + at);
        asm.store(width, R10, place::HEADER + at, R1);
        at += width.bytes() as i16;
    }
}

/// Takes a number of this CPU's lane.
fn numbered(asm: &mut Assembler) {
    let at = 8 * MemberCounter::Sequence as i16;
    asm.load(Width::B8, R4, R8, at);
    asm.store(Width::B8, R10, place::SEQUENCE, R4);
    asm.copy(R1, R4);
    asm.do64(Alu::Add, R1, 1);
    asm.store(Width::B8, R8, at, R1);
}

/// Writes IP's length, and IPv4's id and checksum; R4 is the number in the lane. Leaves in R3 what goes
/// in.
fn ip(asm: &mut Assembler, shape: Shape) {
    let at = IP_AT;
    asm.load(Width::B4, R3, R10, place::KEPT);
    asm.copy(R2, R3);
    if shape.is_v6 {
        asm.do64(Alu::Add, R2, shape.tunnel_len() as i32);
        asm.big_endian(Width::B2, R2);
        asm.store(Width::B2, R10, at + 4, R2);
        return;
    }
    asm.do64(Alu::Add, R2, (shape.ip_len() + shape.tunnel_len()) as i32);
    // The id counts, and where the flow is another one, from another number.
    asm.load(Width::B4, R1, R10, place::HASH);
    asm.do64(Alu::Add, R4, R1);
    asm.do64(Alu::And, R4, 0xffff);
    asm.load(Width::B4, R5, R9, member::IP_SUM as i16);
    asm.do64(Alu::Add, R5, R2);
    asm.do64(Alu::Add, R5, R4);
    asm.big_endian(Width::B2, R2);
    asm.store(Width::B2, R10, at + 2, R2);
    asm.big_endian(Width::B2, R4);
    asm.store(Width::B2, R10, at + 4, R4);
    fold(asm, R5, R1);
    asm.do64(Alu::Xor, R5, 0xffff);
    asm.big_endian(Width::B2, R5);
    asm.store(Width::B2, R10, at + 10, R5);
}

/// Folds a sum of up to 32 bits to 16.
pub(super) fn fold(asm: &mut Assembler, sum: Register, spare: Register) {
    for _ in 0..2 {
        asm.copy(spare, sum);
        asm.do64(Alu::ShiftRight, spare, 16);
        asm.do64(Alu::And, sum, 0xffff);
        asm.do64(Alu::Add, sum, spare);
    }
}

/// Writes UDP's source port and length; R3 is what goes in.
fn udp(asm: &mut Assembler, shape: Shape) {
    let at = tunnel_at(shape);
    asm.load(Width::B4, R1, R10, place::HASH);
    asm.do32(Alu::ShiftRight, R1, PORT_SHIFT);
    asm.do32(Alu::Or, R1, PORT_MIN);
    asm.big_endian(Width::B2, R1);
    asm.store(Width::B2, R10, at, R1);
    asm.do64(Alu::Add, R3, shape.tunnel_len() as i32);
    asm.big_endian(Width::B2, R3);
    asm.store(Width::B2, R10, at + 4, R3);
}

/// Fills in our metadata: direction, lane, number, length, time. Offsets as in [`wire::metadata`].
fn metadata(program: &Program, asm: &mut Assembler, shape: Shape) {
    let at = tunnel_at(shape) + 8 + 8;
    asm.load(Width::B4, R1, R10, place::WAY);
    asm.do32(Alu::Add, R1, 1);
    asm.store(Width::B1, R10, at + 5, R1);
    asm.call(Helper::GET_SMP_PROCESSOR_ID);
    asm.load(Width::B1, R1, R10, at + 9);
    asm.do32(Alu::Add, R1, R0);
    asm.store(Width::B1, R10, at + 9, R1);
    for (place, field) in [(place::SEQUENCE, 16), (place::LENGTH, 20)] {
        let width = if field == 16 { Width::B8 } else { Width::B4 };
        asm.load(width, R1, R10, place);
        asm.big_endian(Width::B4, R1);
        asm.store(Width::B4, R10, at + field, R1);
    }
    program.time(asm);
    asm.copy(R1, R0);
    asm.big_endian(Width::B4, R1);
    asm.store(Width::B4, R10, at + 28, R1);
    asm.do64(Alu::ShiftRight, R0, 32);
    asm.big_endian(Width::B4, R0);
    asm.store(Width::B4, R10, at + 24, R0);
}

/// Writes `len` bytes of headers into the packet, and behind them what [`in_front`] has left of the
/// frame's own begin.
fn store(program: &Program, asm: &mut Assembler, at: i16, len: i32) {
    let (tagged, stored) = (asm.label(), asm.label());
    asm.load(Width::B4, R1, R10, place::EXTRA);
    asm.if32(R1, Condition::Above, FIRST_LEN, tagged);
    write(asm, at, len + FIRST_LEN);
    asm.jump(stored);
    asm.bind(tagged);
    write(asm, at, len + MACS_LEN + 4);
    asm.bind(stored);
    asm.if64(R0, Condition::NotEqual, 0, program.dropped.send_error);
}

fn write(asm: &mut Assembler, at: i16, len: i32) {
    asm.copy(R1, R6);
    asm.copy(R2, 0);
    asm.stack_address(R3, at);
    asm.copy(R4, len);
    asm.copy(R5, 0);
    asm.call(Helper::SKB_STORE_BYTES);
}
