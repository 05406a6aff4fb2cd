//! What changes in a packet: addresses, ports, the time to live, and the checksums by the difference.
//!
//! A checksum that the NIC is to complete covers the pseudo header only, and the kernel tells the two
//! apart: so addresses and ports are mended one after the other, by its own helper. A UDP checksum of 0
//! stays 0. RFC 1624, RFC 768, RFC 4443 section 2.3.

use super::layout::session;
use super::writer::{ETHERNET, Family, NO_HEADER, TCP, UNADDRESSED, Writer, at};
use Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use filter::ebpf::{Alu, Bits, Condition, Helper, Register, Width};

/// Which part of a packet is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    All,
    /// The destination: the inline view is between the two.
    Destination,
    /// The source, and the rest.
    Source,
}

/// The checksum's field has the pseudo header in it (`BPF_F_PSEUDO_HDR`).
const PSEUDO_HEADER: i32 = 0x10;
/// 0 is no checksum (`BPF_F_MARK_MANGLED_0`).
const ZERO_STAYS: i32 = 0x20;
/// The IP header has no checksum that makes up for its addresses (`BPF_F_IPV6`).
const IPV6: i32 = 0x80;
/// `-EINVAL`: a kernel that does not know [`IPV6`].
const INVALID: i32 = -22;

/// 1 taken from a time to live, as the difference of the 16-bit word that it stands in.
pub(super) const TTL_DIFF: i32 = if cfg!(target_endian = "little") { 0xfffe } else { 0xfeff };

impl Part {
    fn addresses(self) -> i16 {
        let field = match self {
            Part::All => session::ADDRESSES_DIFF,
            Part::Destination => session::DESTINATION_DIFF,
            Part::Source => session::SOURCE_DIFF,
        };
        field as i16
    }

    fn ports(self) -> i16 {
        let field = match self {
            Part::All => session::PORTS_DIFF,
            Part::Destination => session::DESTINATION_PORT_DIFF,
            Part::Source => session::SOURCE_PORT_DIFF,
        };
        field as i16
    }

    fn has_source(self) -> bool {
        self != Part::Destination
    }

    fn has_destination(self) -> bool {
        self != Part::Source
    }
}

/// Rewrites the packet at R7, whose session's entry is R8. R7 is lost.
pub(super) fn rewrite(w: &mut Writer, family: Family, part: Part) {
    if part.has_source() {
        address_frame(w);
    }
    header(w, family, part);
    let (ports, tcp, icmp, done) = (w.asm.label(), w.asm.label(), w.asm.label(), w.asm.label());
    w.load(Width::B4, R1, R10, at::PROTOCOL);
    w.jump_if(R1, Condition::Equal, NO_HEADER, done);
    w.transport_or_drop(8);
    w.load(Width::B4, R1, R10, at::PROTOCOL);
    w.jump_if(R1, Condition::Equal, family.icmp(), icmp);
    write_ports(w, part);
    w.jump_if(R1, Condition::Equal, TCP, tcp);
    w.asm.jump(ports);

    w.asm.bind(icmp);
    write_identifier(w, part);
    if family == Family::V6 {
        replace(w, family, 2, part.addresses(), PSEUDO_HEADER);
    }
    replace(w, family, 2, part.ports(), 0);
    w.asm.jump(done);

    w.asm.bind(tcp);
    replace(w, family, 16, part.addresses(), PSEUDO_HEADER);
    replace(w, family, 16, part.ports(), 0);
    w.asm.jump(done);

    w.asm.bind(ports);
    replace(w, family, 6, part.addresses(), PSEUDO_HEADER | ZERO_STAYS);
    replace(w, family, 6, part.ports(), ZERO_STAYS);
    w.asm.bind(done);
}

/// The MACs, if the next hop's is known.
pub(super) fn address_frame(w: &mut Writer) {
    let unknown = w.asm.label();
    w.load(Width::B4, R1, R10, at::ADDRESSED);
    w.jump_if(R1, Condition::Equal, UNADDRESSED, unknown);
    w.load(Width::B8, R1, R10, at::HOP);
    w.copy_bytes((R7, 0), (R1, super::layout::hop::MACS as i16), 12, R2);
    w.asm.bind(unknown);
}

/// The IP header. R1 to R3 are lost.
pub(super) fn header(w: &mut Writer, family: Family, part: Part) {
    let (source, destination, bytes) = family.addresses();
    let skip = 16 - bytes;
    if part.has_source() {
        w.copy_bytes((R7, source), (R8, session::SOURCE as i16 + skip), bytes, R1);
        w.load(Width::B1, R1, R7, family.hops_left());
        w.alu(Alu::Sub, R1, 1);
        w.store(Width::B1, R7, family.hops_left(), R1);
    }
    if part.has_destination() {
        w.copy_bytes((R7, destination), (R8, session::DESTINATION as i16 + skip), bytes, R1);
    }
    if family == Family::V4 {
        w.load(Width::B4, R1, R8, part.addresses());
        if part.has_source() {
            w.alu(Alu::Add, R1, TTL_DIFF);
        }
        w.mend(R7, ETHERNET + 10, R1, R3);
    }
}

/// The ports at R2.
fn write_ports(w: &mut Writer, part: Part) {
    let ports = session::PORTS as i16;
    let (width, at) = match part {
        Part::All => (Width::B4, 0),
        Part::Source => (Width::B2, 0),
        Part::Destination => (Width::B2, 2),
    };
    w.load(width, R3, R8, ports + at);
    w.store(width, R2, at, R3);
}

/// The identifier of the ICMP echo at R2: the source's on the way to the next host, the destination's
/// on the way back.
fn write_identifier(w: &mut Writer, part: Part) {
    let (reply, done) = (w.asm.label(), w.asm.label());
    let ports = session::PORTS as i16;
    w.load(Width::B1, R3, R8, session::WAY as i16);
    w.jump_if(R3, Condition::NotEqual, 0, reply);
    if part.has_source() {
        w.load(Width::B2, R3, R8, ports);
        w.store(Width::B2, R2, 4, R3);
    }
    w.asm.jump(done);
    w.asm.bind(reply);
    if part.has_destination() {
        w.load(Width::B2, R3, R8, ports + 2);
        w.store(Width::B2, R2, 4, R3);
    }
    w.asm.bind(done);
}

/// Mends the transport's checksum, at a place of its header, by a difference of the session's.
fn replace(w: &mut Writer, family: Family, field: i32, diff: i16, flags: i32) {
    let done = w.asm.label();
    let is_pseudo = flags & PSEUDO_HEADER != 0;
    let call = |w: &mut Writer, flags: i32| {
        w.load(Width::B4, R4, R8, diff);
        if !is_pseudo {
            w.jump_if(R4, Condition::Equal, 0, done);
        }
        w.copy(R1, R6);
        w.asm.alu(Bits::B64, Alu::Move, R2, R9);
        w.alu(Alu::Add, R2, field);
        w.copy(R3, 0);
        w.copy(R5, flags);
        w.asm.call(Helper::L4_CSUM_REPLACE);
    };
    if is_pseudo && family == Family::V6 {
        call(w, flags | IPV6);
        w.jump_if(R0, Condition::Equal, 0, done);
        w.jump_if(R0, Condition::NotEqual, INVALID, w.drop);
    }
    call(w, flags);
    w.jump_if(R0, Condition::NotEqual, 0, w.drop);
    w.asm.bind(done);
}
