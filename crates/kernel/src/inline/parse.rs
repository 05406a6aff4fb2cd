//! From a packet's first byte to its tuple.
//!
//! | protocol | ports of the tuple |
//! |---|---|
//! | TCP, UDP | its own |
//! | a query of ICMP | the identifier: the source port of a request, the destination port of a reply |
//! | an error of ICMP | see [`super::error`] |
//! | other ICMP | the host's own business |
//! | others | 0 |
//!
//! A fragment that is not the first has no ports: they are found by its identifier. Of IPv6, up to
//! [`EXTENSION_HEADERS_MAX`] extension headers are stepped over.
//!
//! RFC 791, RFC 792, RFC 8200, RFC 4443.

use super::layout::tuple;
use super::writer::{
    ETHERNET, FIRST_FRAGMENT, Family, ICMP, ICMPV6, MARKED, NO_HEADER, NO_NEW, TCP, UDP, Writer, at,
};
use Register::{R1, R2, R3, R7, R9, R10};
use filter::ebpf::{Alu, Condition, Label, Register, Width};

/// Extension headers that are stepped over.
pub(super) const EXTENSION_HEADERS_MAX: usize = 6;
pub(super) const FRAGMENT: i32 = 44;
const AUTHENTICATION: i32 = 51;
/// Hop-by-hop, routing, destination: a length in units of 8 bytes less the first 8.
pub(super) const OPTIONS: [i32; 3] = [0, 43, 60];

const SOURCE: i16 = at::TUPLE + tuple::SOURCE as i16;
const DESTINATION: i16 = at::TUPLE + tuple::DESTINATION as i16;
const PORTS: i16 = at::TUPLE + tuple::PORTS as i16;
const PROTOCOL: i16 = at::TUPLE + tuple::PROTOCOL as i16;

/// Where a packet may go from here, other than on.
pub(super) struct Exits {
    /// A fragment that is not the first; [`at::FRAGMENT_ID`] says of which packet.
    pub later_fragment: Label,
    /// An error of ICMP.
    pub error: Label,
}

/// Leaves the tuple in memory, and the place of the transport's header in R9.
pub(super) fn parse(w: &mut Writer, family: Family, exits: &Exits) {
    w.fetch(family);
    w.store(Width::B4, R10, at::MARKS, MARKED);
    w.store(Width::B4, R10, PORTS, 0);
    w.store(Width::B4, R10, PROTOCOL, 0);
    match family {
        Family::V4 => parse_v4(w, exits),
        Family::V6 => parse_v6(w, exits),
    }
    let (ports, icmp, done) = (w.asm.label(), w.asm.label(), w.asm.label());
    // What it authenticates are the addresses, too.
    w.jump_if(R1, Condition::Equal, AUTHENTICATION, w.next);
    for protocol in [TCP, UDP] {
        w.jump_if(R1, Condition::Equal, protocol, ports);
    }
    w.jump_if(R1, Condition::Equal, family.icmp(), icmp);
    // The other version's ICMP means nothing here.
    let other = ICMP + ICMPV6 - family.icmp();
    w.jump_if(R1, Condition::Equal, other, w.next);
    w.store(Width::B4, R10, at::PROTOCOL, NO_HEADER);
    w.asm.jump(done);

    w.asm.bind(ports);
    w.store(Width::B4, R10, at::PROTOCOL, R1);
    w.transport(8);
    w.load(Width::B4, R1, R2, 0);
    w.store(Width::B4, R10, PORTS, R1);
    w.asm.jump(done);

    w.asm.bind(icmp);
    w.store(Width::B4, R10, at::PROTOCOL, R1);
    w.transport(8);
    parse_icmp(w, family, exits.error);
    w.asm.bind(done);
}

/// R1 = the protocol.
fn parse_v4(w: &mut Writer, exits: &Exits) {
    w.load(Width::B1, R1, R7, ETHERNET);
    w.copy(R9, R1);
    w.alu(Alu::ShiftRight, R1, 4);
    w.jump_if(R1, Condition::NotEqual, 4, w.next);
    w.alu(Alu::And, R9, 15);
    w.jump_if(R9, Condition::Below, 5, w.next);
    w.alu(Alu::ShiftLeft, R9, 2);
    w.alu(Alu::Add, R9, i32::from(ETHERNET));
    for (at, offset) in [(SOURCE, 12), (DESTINATION, 16)] {
        map_v4(w, at);
        w.load(Width::B4, R1, R7, ETHERNET + offset);
        w.store(Width::B4, R10, at + 12, R1);
    }
    w.load(Width::B1, R1, R7, ETHERNET + 9);
    w.store(Width::B1, R10, PROTOCOL, R1);
    let whole = w.asm.label();
    w.load(Width::B2, R2, R7, ETHERNET + 6);
    w.alu(Alu::And, R2, i32::from(0x3fff_u16.to_be()));
    w.jump_if(R2, Condition::Equal, 0, whole);
    w.load(Width::B2, R3, R7, ETHERNET + 4);
    w.store(Width::B4, R10, at::FRAGMENT_ID, R3);
    w.alu(Alu::And, R2, i32::from(0x1fff_u16.to_be()));
    w.jump_if(R2, Condition::NotEqual, 0, exits.later_fragment);
    w.store(Width::B4, R10, at::MARKS, MARKED | FIRST_FRAGMENT);
    w.asm.bind(whole);
}

/// Writes what stands in front of an IPv4 address.
pub(super) fn map_v4(w: &mut Writer, at: i16) {
    w.store(Width::B8, R10, at, 0);
    w.store(Width::B4, R10, at + 8, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
}

/// R1 = the protocol.
fn parse_v6(w: &mut Writer, exits: &Exits) {
    w.copy_bytes((R10, SOURCE), (R7, ETHERNET + 8), 32, R1);
    w.load(Width::B1, R1, R7, ETHERNET + 6);
    w.copy(R9, i32::from(ETHERNET) + 40);
    let upper = w.asm.label();
    for _ in 0..EXTENSION_HEADERS_MAX {
        let (options, fragment, next) = (w.asm.label(), w.asm.label(), w.asm.label());
        for kind in OPTIONS {
            w.jump_if(R1, Condition::Equal, kind, options);
        }
        w.jump_if(R1, Condition::Equal, FRAGMENT, fragment);
        w.asm.jump(upper);

        w.asm.bind(options);
        w.transport(8);
        w.load(Width::B1, R1, R2, 0);
        w.load(Width::B1, R3, R2, 1);
        w.alu(Alu::Add, R3, 1);
        w.alu(Alu::ShiftLeft, R3, 3);
        w.alu(Alu::Add, R9, R3);
        w.asm.jump(next);

        w.asm.bind(fragment);
        w.transport(8);
        w.load(Width::B1, R1, R2, 0);
        w.store(Width::B1, R10, PROTOCOL, R1);
        w.load(Width::B4, R3, R2, 4);
        w.store(Width::B4, R10, at::FRAGMENT_ID, R3);
        w.load(Width::B2, R3, R2, 2);
        w.copy(R2, R3);
        w.alu(Alu::And, R2, i32::from(0xfff8_u16.to_be()));
        w.jump_if(R2, Condition::NotEqual, 0, exits.later_fragment);
        w.alu(Alu::Add, R9, 8);
        w.alu(Alu::And, R3, i32::from(1_u16.to_be()));
        w.jump_if(R3, Condition::Equal, 0, next);
        w.store(Width::B4, R10, at::MARKS, MARKED | FIRST_FRAGMENT);
        w.asm.bind(next);
    }
    w.asm.bind(upper);
    w.store(Width::B1, R10, PROTOCOL, R1);
    w.keep_place(at::TRANSPORT, R9);
    w.get_place(at::TRANSPORT, R9);
}

/// From its header at R2.
fn parse_icmp(w: &mut Writer, family: Family, error: Label) {
    let (requests, replies, errors): (&[i32], &[i32], &[i32]) = match family {
        // Echo, timestamp, information, mask; unreachable, quench, time exceeded, parameter problem.
        Family::V4 => (&[8, 13, 15, 17], &[0, 14, 16, 18], &[3, 4, 11, 12]),
        Family::V6 => (&[128], &[129], &[1, 2, 3, 4]),
    };
    let (is_request, is_reply, done) = (w.asm.label(), w.asm.label(), w.asm.label());
    w.load(Width::B1, R1, R2, 0);
    for (kinds, to) in [(requests, is_request), (replies, is_reply), (errors, error)] {
        for kind in kinds {
            w.jump_if(R1, Condition::Equal, *kind, to);
        }
    }
    w.asm.jump(w.next);
    w.asm.bind(is_request);
    w.load(Width::B2, R1, R2, 4);
    w.store(Width::B2, R10, PORTS, R1);
    w.asm.jump(done);
    w.asm.bind(is_reply);
    w.load(Width::B2, R1, R2, 4);
    w.store(Width::B2, R10, PORTS + 2, R1);
    w.load(Width::B4, R1, R10, at::MARKS);
    w.alu(Alu::Or, R1, NO_NEW);
    w.store(Width::B4, R10, at::MARKS, R1);
    w.asm.bind(done);
}
