//! Errors of ICMP: the session is that of the packet in them, which went the other way.
//!
//! ```text
//! R9        R9 + 8               R8
//! │ ICMP    │ IP that went wrong │ its first 8 bytes, or more │
//! ```
//!
//! The packet in it becomes what its sender knows: so its sender understands the error. A router on the
//! way to the next host is told by its own address, so that a client sees the way; what comes from the
//! clients' side seems to come from us, as packets do. RFC 5508 section 7, RFC 792, RFC 4443 section
//! 2.4. As with any packet, the destination changes first, and with it the source of the packet in it:
//! the inline view is between the two.

use super::layout::{Leg, View, session, tuple};
use super::parse::{EXTENSION_HEADERS_MAX, FRAGMENT, OPTIONS, map_v4};
use super::pass::{Places, check, choose_views, show, take};
use super::program::Roles;
use super::rewrite::{Part, TTL_DIFF, address_frame};
use super::writer::{ETHERNET, FIRST_FRAGMENT, Family, NO_HEADER, TCP, UDP, Writer, at};
use Register::{R0, R1, R2, R3, R4, R5, R7, R8, R9, R10};
use filter::ebpf::{Alu, Bits, Condition, Label, Register, Width};

/// Bytes of the header of ICMP.
const ICMP_BYTES: i16 = 8;

const SOURCE: i16 = at::TUPLE + tuple::SOURCE as i16;
const DESTINATION: i16 = at::TUPLE + tuple::DESTINATION as i16;
const PORTS: i16 = at::TUPLE + tuple::PORTS as i16;
const PROTOCOL: i16 = at::TUPLE + tuple::PROTOCOL as i16;

impl Family {
    /// Where the addresses stand in an IP header, and bytes of one without options.
    fn inner(self) -> (i16, i16, i32) {
        match self {
            Family::V4 => (12, 16, 20),
            Family::V6 => (8, 24, 40),
        }
    }
}

/// Passes on an error whose header is at R9.
pub(super) fn error(w: &mut Writer, family: Family, roles: Roles, places: &Places) {
    find(w, family);
    w.store(Width::B4, R10, at::PROTOCOL, NO_HEADER);
    w.store(Width::B8, R10, at::PRIVATE, 0);
    w.keep_place(at::INNER, R8);
    w.copy(R8, R0);
    take(w, roles);
    check(w, family);
    let (nobody, chosen) = (w.asm.label(), w.asm.label());
    choose_views(w, nobody);
    w.asm.jump(chosen);
    w.asm.bind(nobody);
    w.store(Width::B8, R10, at::VIEWS, 0);
    w.asm.bind(chosen);
    show(w, View::Ingress);
    w.fetch(family);
    change(w, family, Part::Destination);
    show(w, View::Inline);
    w.fetch_again(family);
    change(w, family, Part::Source);
    show(w, View::Egress);
    w.asm.jump(places.send);
}

/// R0 = the session of the answers to the packet in it; R8 = where its transport header is.
fn find(w: &mut Writer, family: Family) {
    let (source, destination, bytes) = family.inner();
    w.load(Width::B4, R1, R10, at::MARKS);
    w.alu(Alu::And, R1, FIRST_FRAGMENT);
    w.jump_if(R1, Condition::NotEqual, 0, w.next);
    w.transport(i32::from(ICMP_BYTES) + bytes);
    w.load(Width::B1, R1, R2, ICMP_BYTES);
    w.copy(R8, R1);
    w.alu(Alu::ShiftRight, R1, 4);
    let (version, protocol) = match family {
        Family::V4 => (4, 9),
        Family::V6 => (6, 6),
    };
    w.jump_if(R1, Condition::NotEqual, version, w.next);
    match family {
        Family::V4 => {
            w.alu(Alu::And, R8, 15);
            w.jump_if(R8, Condition::Below, 5, w.next);
            w.alu(Alu::ShiftLeft, R8, 2);
            w.load(Width::B2, R1, R2, ICMP_BYTES + 6);
            w.alu(Alu::And, R1, i32::from(0x1fff_u16.to_be()));
            w.jump_if(R1, Condition::NotEqual, 0, w.next);
            for (at, from) in [(SOURCE, destination), (DESTINATION, source)] {
                map_v4(w, at);
                w.load(Width::B4, R1, R2, ICMP_BYTES + from);
                w.store(Width::B4, R10, at + 12, R1);
            }
        }
        Family::V6 => {
            w.copy(R8, 40);
            for (at, from) in [(SOURCE, destination), (DESTINATION, source)] {
                w.copy_bytes((R10, at), (R2, ICMP_BYTES + from), 16, R1);
            }
        }
    }
    w.alu(Alu::Add, R8, R9);
    w.alu(Alu::Add, R8, i32::from(ICMP_BYTES));
    // The error is for who sent the packet.
    let (_, outer, bytes) = family.addresses();
    for word in (0..bytes).step_by(4) {
        w.load(Width::B4, R1, R7, outer + word);
        w.load(Width::B4, R3, R10, DESTINATION + 16 - bytes + word);
        w.jump_if(R1, Condition::NotEqual, R3, w.next);
    }
    w.load(Width::B1, R5, R2, ICMP_BYTES + protocol);
    if family == Family::V6 {
        step_over_extensions(w);
    }
    w.store(Width::B1, R10, PROTOCOL, R5);
    w.copy(R2, R7);
    w.alu(Alu::Add, R2, R8);
    readable_or(w, 8, w.next);
    let (ports, echo, reply, known) = (w.asm.label(), w.asm.label(), w.asm.label(), w.asm.label());
    for protocol in [TCP, UDP] {
        w.jump_if(R5, Condition::Equal, protocol, ports);
    }
    w.jump_if(R5, Condition::Equal, family.icmp(), echo);
    w.asm.jump(known);
    w.asm.bind(ports);
    for (to, from) in [(0, 2), (2, 0)] {
        w.load(Width::B2, R1, R2, from);
        w.store(Width::B2, R10, PORTS + to, R1);
    }
    w.asm.jump(known);
    w.asm.bind(echo);
    w.load(Width::B1, R3, R2, 0);
    w.load(Width::B2, R1, R2, 4);
    w.jump_if(R3, Condition::NotEqual, echo_request(family), reply);
    w.store(Width::B2, R10, PORTS + 2, R1);
    w.asm.jump(known);
    w.asm.bind(reply);
    w.store(Width::B2, R10, PORTS, R1);
    w.asm.bind(known);
    w.look_up(super::layout::InlineMap::Sessions, at::TUPLE);
    w.jump_if64(R0, Condition::Equal, 0, w.next);
}

/// From the header of protocol R5 at R8 to the transport's.
fn step_over_extensions(w: &mut Writer) {
    let upper = w.asm.label();
    for _ in 0..EXTENSION_HEADERS_MAX {
        let (extension, fragment, next) = (w.asm.label(), w.asm.label(), w.asm.label());
        for kind in OPTIONS {
            w.jump_if(R5, Condition::Equal, kind, extension);
        }
        w.jump_if(R5, Condition::NotEqual, FRAGMENT, upper);
        w.asm.bind(extension);
        w.copy(R2, R7);
        w.alu(Alu::Add, R2, R8);
        readable_or(w, 8, w.next);
        w.load(Width::B1, R3, R2, 0);
        w.jump_if(R5, Condition::Equal, FRAGMENT, fragment);
        w.load(Width::B1, R1, R2, 1);
        w.alu(Alu::Add, R1, 1);
        w.alu(Alu::ShiftLeft, R1, 3);
        w.alu(Alu::Add, R8, R1);
        w.asm.jump(next);
        // Only a first one has ports.
        w.asm.bind(fragment);
        w.load(Width::B2, R1, R2, 2);
        w.alu(Alu::And, R1, i32::from(0xfff8_u16.to_be()));
        w.jump_if(R1, Condition::NotEqual, 0, w.next);
        w.alu(Alu::Add, R8, 8);
        w.asm.bind(next);
        w.copy(R5, R3);
    }
    w.asm.bind(upper);
    w.keep_place(at::INNER, R8);
    w.get_place(at::INNER, R8);
}

const fn echo_request(family: Family) -> i32 {
    match family {
        Family::V4 => 8,
        Family::V6 => 128,
    }
}

/// So many bytes at R2 are readable, or on to a label. R3 and R4 are lost.
fn readable_or(w: &mut Writer, bytes: i32, to: Label) {
    let ready = w.asm.label();
    w.readable(R2, bytes, ready);
    w.asm.jump(to);
    w.asm.bind(ready);
}

/// Writes a field of the session's entry into the packet, and adds the difference to sums. R1 and R3
/// are lost.
fn put(w: &mut Writer, width: Width, (base, at): (Register, i16), field: i16, sums: &[Register]) {
    w.load(width, R1, base, at);
    w.load(width, R3, R8, field);
    w.store(width, base, at, R3);
    add_difference(w, width, sums);
}

/// Adds what R1 changes by, to R3, to sums.
fn add_difference(w: &mut Writer, width: Width, sums: &[Register]) {
    let ones = if width == Width::B4 { -1 } else { 0xffff };
    w.asm.alu(Bits::B32, Alu::Xor, R1, ones);
    w.alu(Alu::Add, R1, R3);
    for sum in sums {
        w.alu(Alu::Add, *sum, R1);
    }
}

/// Mends the checksum at R2 by the sum in R0, and adds the difference to R5. R1, R3 and R4 are lost.
fn mend_inner(w: &mut Writer, at: i16, zero_is_none: bool) {
    let done = w.asm.label();
    w.load(Width::B2, R4, R2, at);
    if zero_is_none {
        w.jump_if(R4, Condition::Equal, 0, done);
    }
    w.copy(R3, R0);
    w.mend(R2, at, R3, R1);
    if zero_is_none {
        let is_right = w.asm.label();
        w.jump_if(R3, Condition::NotEqual, 0, is_right);
        w.copy(R3, 0xffff);
        w.store(Width::B2, R2, at, R3);
        w.asm.bind(is_right);
    }
    w.copy(R1, R4);
    add_difference(w, Width::B2, &[R5]);
    w.asm.bind(done);
}

/// Rewrites a part of the error at R7: R0 sums up what a checksum inside changes by, R5 what the error's
/// does.
fn change(w: &mut Writer, family: Family, part: Part) {
    let (source, destination, bytes) = family.addresses();
    let skip = 16 - bytes;
    let (entry_source, entry_destination) =
        (session::SOURCE as i16 + skip, session::DESTINATION as i16 + skip);
    w.copy(R0, 0);
    w.copy(R5, 0);
    let sum = if family == Family::V4 { R0 } else { R5 };
    let words = || (0..bytes).step_by(4);
    if part == Part::Destination {
        for word in words() {
            put(w, Width::B4, (R7, destination + word), entry_destination + word, &[sum]);
        }
    } else {
        address_frame(w);
        w.load(Width::B1, R1, R7, family.hops_left());
        w.alu(Alu::Sub, R1, 1);
        w.store(Width::B1, R7, family.hops_left(), R1);
        let (replaced, kept) = (w.asm.label(), w.asm.label());
        w.load(Width::B1, R1, R8, session::WAY as i16);
        w.jump_if(R1, Condition::Equal, Leg::Forward as i32, replaced);
        for word in words() {
            w.load(Width::B4, R1, R7, source + word);
            w.load(Width::B4, R3, R10, SOURCE + skip + word);
            w.jump_if(R1, Condition::NotEqual, R3, kept);
        }
        w.asm.bind(replaced);
        for word in words() {
            put(w, Width::B4, (R7, source + word), entry_source + word, &[sum]);
        }
        w.asm.bind(kept);
    }
    if family == Family::V4 {
        if part == Part::Source {
            w.alu(Alu::Add, R0, TTL_DIFF);
        }
        w.mend(R7, ETHERNET + 10, R0, R1);
    }

    let (inner_source, inner_destination, inner_bytes) = family.inner();
    w.transport_or_drop(i32::from(ICMP_BYTES) + inner_bytes);
    w.copy(R0, 0);
    let (inner, entry) = match part {
        Part::Destination => (inner_source, entry_destination),
        _ => (inner_destination, entry_source),
    };
    for word in words() {
        put(w, Width::B4, (R2, ICMP_BYTES + inner + word), entry + word, &[R0, R5]);
    }
    if family == Family::V4 {
        mend_inner(w, ICMP_BYTES + 10, false);
    }
    change_inner_transport(w, family, part);
    w.transport_or_drop(i32::from(ICMP_BYTES));
    w.mend(R2, 2, R5, R1);
}

/// A port, or the identifier, of the packet in it; R0 has the difference of its address.
fn change_inner_transport(w: &mut Writer, family: Family, part: Part) {
    let ports = session::PORTS as i16;
    w.copy(R2, R7);
    w.get_place(at::INNER, R1);
    w.alu(Alu::Add, R2, R1);
    readable_or(w, 8, w.drop);
    let (has_ports, udp, echo, done) = (w.asm.label(), w.asm.label(), w.asm.label(), w.asm.label());
    w.load(Width::B1, R1, R10, PROTOCOL);
    for protocol in [TCP, UDP] {
        w.jump_if(R1, Condition::Equal, protocol, has_ports);
    }
    w.jump_if(R1, Condition::Equal, family.icmp(), echo);
    w.asm.jump(done);

    w.asm.bind(has_ports);
    match part {
        Part::Destination => put(w, Width::B2, (R2, 0), ports + 2, &[R0, R5]),
        _ => put(w, Width::B2, (R2, 2), ports, &[R0, R5]),
    }
    w.load(Width::B1, R1, R10, PROTOCOL);
    w.jump_if(R1, Condition::Equal, UDP, udp);
    let whole = w.asm.label();
    w.readable(R2, 18, whole);
    w.asm.jump(done);
    w.asm.bind(whole);
    mend_inner(w, 16, false);
    w.asm.jump(done);
    w.asm.bind(udp);
    mend_inner(w, 6, true);
    w.asm.jump(done);

    w.asm.bind(echo);
    if family == Family::V4 {
        w.copy(R0, 0);
    }
    let (other, changed) = (w.asm.label(), w.asm.label());
    w.load(Width::B1, R1, R2, 0);
    // A request's identifier is its source's, a reply's its destination's.
    match part {
        Part::Destination => {
            w.jump_if(R1, Condition::NotEqual, echo_request(family), other);
            put(w, Width::B2, (R2, 4), ports + 2, &[R0, R5]);
        }
        _ => {
            w.jump_if(R1, Condition::Equal, echo_request(family), other);
            put(w, Width::B2, (R2, 4), ports, &[R0, R5]);
        }
    }
    w.asm.jump(changed);
    w.asm.bind(other);
    if family == Family::V4 {
        w.asm.jump(done);
    }
    w.asm.bind(changed);
    mend_inner(w, 2, false);
    w.asm.bind(done);
}
