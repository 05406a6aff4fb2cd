//! The walk of [`wire::walk`] as far as the flow hash needs it: tags, IP, extension headers, ICMP
//! errors and the packets that they quote.
//!
//! ```text
//! R7  where it stands      R8  the next header's number      R9  where the packet ends
//! ```

use super::{FlowHash, HEADERS_MAX, TAGS_MAX, key, options, place};
use crate::shorthand::{Shorthand, skb};
use Register::{R0, R1, R2, R3, R4, R6, R7, R8, R9, R10};
use filter::ebpf::{Alu, Assembler, Condition, Label, Register, Width};
use wire::walk::{ethertype, protocol};

const TAGS: [u16; 3] = [ethertype::VLAN, ethertype::QINQ, ethertype::QINQ_OLD];
const IS_FRAGMENT: i32 = 0x3fff;
const FRAGMENT_OFFSET: i32 = 0x1fff;
/// Types of ICMP messages: those that quote a packet, and echoes.
const ERRORS_V4: [i32; 5] = [3, 4, 5, 11, 12];
const ERRORS_V6: [i32; 4] = [1, 2, 3, 4];
const ECHOES_V4: [i32; 2] = [0, 8];
const ECHOES_V6: [i32; 2] = [128, 129];

/// Where ways of the walk lead.
struct Walk<'a> {
    hash: &'a FlowHash,
    v4: Label,
    v6: Label,
    /// No IP header.
    other: Label,
    done: Label,
    beyond: Label,
}

pub(super) fn emit(hash: &FlowHash, asm: &mut Assembler, done: Label, beyond: Label) {
    let (left, other) = (asm.label(), asm.label());
    let walk = Walk { hash, v4: asm.label(), v6: asm.label(), other, done, beyond: left };
    walk.link(asm);
    for version in [Version::V4, Version::V6] {
        walk.ip(asm, version);
    }
    // The Ethernet header is read again: the walk has used its place.
    let whole = asm.label();
    asm.bind(other);
    asm.load(Width::B4, R2, R10, hash.place(place::AT));
    asm.load_packet(hash.place(place::WORDS), 14);
    asm.if64(R0, Condition::Equal, 0, whole);
    key::nothing(hash, asm, done);
    asm.bind(whole);
    key::other(hash, asm, done);
    asm.bind(left);
    asm.load(Width::B8, R7, R10, hash.place(place::SAVED));
    asm.jump(beyond);
}

/// A version of IP, and what depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

impl Version {
    const fn header_len(self) -> i32 {
        match self {
            Version::V4 => 20,
            Version::V6 => 40,
        }
    }
}

/// The places that the walk of one version leads to.
#[derive(Clone, Copy)]
struct Ip {
    version: Version,
    /// The header, whose place is R7.
    header: Label,
    /// No ports.
    portless: Label,
    /// No header where one was quoted.
    unquoted: Label,
}

impl Walk<'_> {
    fn place(&self, place: i16) -> i16 {
        self.hash.place(place)
    }

    fn link(&self, asm: &mut Assembler) {
        let (tags, known) = (asm.label(), asm.label());
        for place in [place::ETHERTYPE, place::NETWORK, place::END, place::IP] {
            asm.store(Width::B4, R10, self.place(place), 0);
        }
        for place in [place::IS_QUOTED, place::COUNT] {
            asm.store(Width::B8, R10, self.place(place), 0);
        }
        asm.store(Width::B8, R10, self.place(place::SAVED), R7);
        asm.store(Width::B8, R10, self.place(place::PORTS), 0);
        asm.load(Width::B4, R9, R6, skb::LEN);
        asm.load(Width::B4, R2, R10, self.place(place::AT));
        asm.load_packet(self.place(place::WORDS), 14);
        asm.if64(R0, Condition::NotEqual, 0, self.other);
        asm.load_be(Width::B2, R8, R10, self.place(place::WORDS + 12));
        asm.load(Width::B4, R7, R10, self.place(place::AT));
        asm.do32(Alu::Add, R7, 14);

        asm.bind(tags);
        let tagged = asm.label();
        asm.if32(R8, Condition::Equal, i32::from(ethertype::IPV4), self.v4);
        asm.if32(R8, Condition::Equal, i32::from(ethertype::IPV6), self.v6);
        for tag in TAGS {
            asm.if32(R8, Condition::Equal, i32::from(tag), tagged);
        }
        asm.if32(R8, Condition::Below, i32::from(ethertype::MIN), known);
        asm.store(Width::B4, R10, self.place(place::ETHERTYPE), R8);
        asm.bind(known);
        asm.jump(self.other);
        asm.bind(tagged);
        asm.store(Width::B4, R10, self.place(place::ETHERTYPE), R8);
        asm.copy(R2, R7);
        asm.load_packet(self.place(place::WORDS), 4);
        asm.if64(R0, Condition::NotEqual, 0, self.other);
        asm.store(Width::B4, R10, self.place(place::ETHERTYPE), 0);
        self.count(asm, TAGS_MAX);
        asm.load_be(Width::B2, R8, R10, self.place(place::WORDS + 2));
        asm.do32(Alu::Add, R7, 4);
        asm.jump(tags);
    }

    /// Goes on unless this is one too many.
    fn count(&self, asm: &mut Assembler, most: i32) {
        asm.load(Width::B8, R1, R10, self.place(place::COUNT));
        asm.do64(Alu::Add, R1, 1);
        asm.if64(R1, Condition::Above, most, self.beyond);
        asm.store(Width::B8, R10, self.place(place::COUNT), R1);
    }

    fn ip(&self, asm: &mut Assembler, version: Version) {
        let ip = Ip { version, header: asm.label(), portless: asm.label(), unquoted: asm.label() };
        let (first, kind) = match version {
            Version::V4 => (self.v4, ethertype::IPV4),
            Version::V6 => (self.v6, ethertype::IPV6),
        };
        asm.bind(first);
        asm.store(Width::B4, R10, self.place(place::ETHERTYPE), i32::from(kind));
        asm.bind(ip.header);
        self.read_header(asm, ip);
        match version {
            Version::V4 => self.v4_header(asm, ip),
            Version::V6 => self.v6_header(asm, ip),
        }
        self.upper(asm, ip);

        // The header that quotes is read again.
        asm.bind(ip.unquoted);
        asm.load(Width::B4, R2, R10, self.place(place::NETWORK));
        asm.load_packet(self.place(place::HEADER), version.header_len());
        asm.if64(R0, Condition::NotEqual, 0, self.beyond);
        let icmp = match version {
            Version::V4 => protocol::ICMP,
            Version::V6 => protocol::ICMPV6,
        };
        asm.store(Width::B4, R10, self.place(place::PROTOCOL), i32::from(icmp));
        asm.bind(ip.portless);
        match version {
            Version::V4 => key::v4(self.hash, asm, self.done),
            Version::V6 => key::v6(self.hash, asm, self.done),
        }
    }

    /// Reads the fixed part of the header at R7, if it lies in front of R9 and has the version.
    fn read_header(&self, asm: &mut Assembler, ip: Ip) {
        let (missing, is_there, noted) = (asm.label(), asm.label(), asm.label());
        let (len, number) = match ip.version {
            Version::V4 => (20, 4),
            Version::V6 => (40, 6),
        };
        asm.copy(R2, R7);
        asm.do64(Alu::Add, R2, len);
        asm.if64(R2, Condition::Above, R9, missing);
        asm.copy(R2, R7);
        asm.load_packet(self.place(place::HEADER), len);
        asm.if64(R0, Condition::NotEqual, 0, missing);
        asm.load(Width::B1, R1, R10, self.place(place::HEADER));
        asm.copy(R2, R1);
        asm.do32(Alu::ShiftRight, R2, 4);
        asm.if32(R2, Condition::NotEqual, number, missing);
        if ip.version == Version::V4 {
            asm.do32(Alu::And, R1, 0x0f);
            asm.if32(R1, Condition::Below, 5, missing);
        }
        asm.jump(is_there);
        asm.bind(missing);
        asm.load(Width::B8, R1, R10, self.place(place::IS_QUOTED));
        asm.if32(R1, Condition::NotEqual, 0, ip.unquoted);
        asm.jump(self.other);
        asm.bind(is_there);
        asm.store(Width::B4, R10, self.place(place::IS_FRAGMENT), 0);
        asm.store(Width::B8, R10, self.place(place::COUNT), 0);
        let at = if ip.version == Version::V4 { 9 } else { 6 };
        asm.load(Width::B1, R8, R10, self.place(place::HEADER + at));
        asm.store(Width::B4, R10, self.place(place::PROTOCOL), R8);
        asm.load(Width::B8, R1, R10, self.place(place::IS_QUOTED));
        asm.if32(R1, Condition::NotEqual, 0, noted);
        asm.store(Width::B4, R10, self.place(place::NETWORK), R7);
        asm.store(Width::B4, R10, self.place(place::END), R9);
        asm.load(Width::B4, R1, R10, self.place(place::ETHERTYPE));
        asm.store(Width::B4, R10, self.place(place::IP), R1);
        asm.bind(noted);
    }

    fn v4_header(&self, asm: &mut Assembler, ip: Ip) {
        let (declared, first) = (asm.label(), asm.label());
        asm.load(Width::B1, R3, R10, self.place(place::HEADER));
        asm.do32(Alu::And, R3, 0x0f);
        asm.do32(Alu::ShiftLeft, R3, 2);
        asm.load_be(Width::B2, R4, R10, self.place(place::HEADER + 2));
        asm.if32(R4, Condition::Equal, 0, declared);
        asm.if32(R4, Condition::Below, R3, ip.portless);
        self.shorten(asm);
        asm.bind(declared);
        asm.do64(Alu::Add, R7, R3);
        asm.if64(R7, Condition::Above, R9, ip.portless);
        asm.load_be(Width::B2, R1, R10, self.place(place::HEADER + 6));
        asm.copy(R2, R1);
        asm.do32(Alu::And, R2, IS_FRAGMENT);
        asm.if32(R2, Condition::Equal, 0, first);
        asm.do32(Alu::And, R1, FRAGMENT_OFFSET);
        asm.if32(R1, Condition::NotEqual, 0, ip.portless);
        asm.store(Width::B4, R10, self.place(place::IS_FRAGMENT), 1);
        asm.bind(first);
    }

    /// `R9 = min(R9, R7 + R4)`, which the packet itself, and not one quoted, keeps; R1, R2 are lost.
    fn shorten(&self, asm: &mut Assembler) {
        let kept = asm.label();
        asm.copy(R2, R7);
        asm.do64(Alu::Add, R2, R4);
        asm.if64(R2, Condition::AtLeast, R9, kept);
        asm.copy(R9, R2);
        self.keep_end(asm, R9, kept);
        asm.bind(kept);
    }

    /// Notes where the packet ends, unless it is one quoted; R1 is lost.
    fn keep_end(&self, asm: &mut Assembler, end: Register, kept: Label) {
        asm.load(Width::B8, R1, R10, self.place(place::IS_QUOTED));
        asm.if32(R1, Condition::NotEqual, 0, kept);
        asm.store(Width::B4, R10, self.place(place::END), end);
    }

    fn v6_header(&self, asm: &mut Assembler, ip: Ip) {
        let (declared, known) = (asm.label(), asm.label());
        asm.load_be(Width::B2, R4, R10, self.place(place::HEADER + 4));
        asm.if32(R4, Condition::NotEqual, 0, declared);
        asm.if32(R8, Condition::Equal, i32::from(protocol::NO_NEXT), declared);
        asm.if32(R8, Condition::NotEqual, i32::from(protocol::HOP_BY_HOP), known);
        options::jumbo(self.hash, asm, known, self.beyond);
        asm.bind(declared);
        asm.do64(Alu::Add, R4, 40);
        self.shorten(asm);
        asm.bind(known);
        asm.do64(Alu::Add, R7, ip.version.header_len());
    }

    /// Follows the headers from number R8 on, at R7.
    fn upper(&self, asm: &mut Assembler, ip: Ip) {
        let (next, ports, udp, icmp) = (asm.label(), asm.label(), asm.label(), asm.label());
        let (units_of_8, units_of_4, fragment) = (asm.label(), asm.label(), asm.label());
        let (skip, sized) = (asm.label(), asm.label());
        asm.bind(next);
        let mut to = vec![(protocol::TCP, ports), (protocol::UDP, udp), (protocol::AH, units_of_4)];
        match ip.version {
            Version::V4 => to.push((protocol::ICMP, icmp)),
            Version::V6 => to.extend([
                (protocol::ICMPV6, icmp),
                (protocol::HOP_BY_HOP, units_of_8),
                (protocol::ROUTING, units_of_8),
                (protocol::DESTINATION, units_of_8),
                (protocol::FRAGMENT, fragment),
            ]),
        }
        for (number, label) in to {
            asm.if32(R8, Condition::Equal, i32::from(number), label);
        }
        asm.jump(ip.portless);

        if ip.version == Version::V6 {
            asm.bind(fragment);
            self.read(asm, 8, ip.portless);
            asm.do32(Alu::Move, R3, 8);
            asm.jump(sized);
            asm.bind(units_of_8);
            self.read(asm, 8, ip.portless);
            asm.load(Width::B1, R3, R10, self.place(place::WORDS + 1));
            asm.do32(Alu::Add, R3, 1);
            asm.do32(Alu::ShiftLeft, R3, 3);
            asm.jump(sized);
        }
        asm.bind(units_of_4);
        self.read(asm, 8, ip.portless);
        asm.load(Width::B1, R3, R10, self.place(place::WORDS + 1));
        asm.do32(Alu::Add, R3, 2);
        asm.do32(Alu::ShiftLeft, R3, 2);
        asm.bind(sized);
        asm.do64(Alu::Add, R7, R3);
        asm.if64(R7, Condition::Above, R9, ip.portless);
        // A fragment has the protocol that all its fragments name.
        let named = asm.label();
        asm.load(Width::B1, R0, R10, self.place(place::WORDS));
        asm.load(Width::B4, R1, R10, self.place(place::IS_FRAGMENT));
        asm.if32(R1, Condition::NotEqual, 0, named);
        asm.store(Width::B4, R10, self.place(place::PROTOCOL), R0);
        asm.bind(named);
        if ip.version == Version::V6 {
            asm.if32(R8, Condition::NotEqual, i32::from(protocol::FRAGMENT), skip);
            asm.load_be(Width::B2, R1, R10, self.place(place::WORDS + 2));
            asm.do32(Alu::And, R1, 0xfff9);
            asm.if32(R1, Condition::Equal, 0, skip);
            asm.store(Width::B4, R10, self.place(place::IS_FRAGMENT), 1);
            asm.store(Width::B4, R10, self.place(place::PROTOCOL), R0);
            asm.if32(R1, Condition::Above, 7, ip.portless);
        }
        asm.bind(skip);
        asm.copy(R8, R0);
        self.count(asm, HEADERS_MAX);
        asm.jump(next);

        self.transport(asm, ip, udp, ports);
        asm.bind(icmp);
        self.icmp(asm, ip);
    }

    /// Reads bytes at R7 that lie in front of R9.
    fn read(&self, asm: &mut Assembler, len: i32, missing: Label) {
        asm.copy(R2, R7);
        asm.do64(Alu::Add, R2, len);
        asm.if64(R2, Condition::Above, R9, missing);
        asm.copy(R2, R7);
        asm.load_packet(self.place(place::WORDS), len);
        asm.if64(R0, Condition::NotEqual, 0, missing);
    }

    fn transport(&self, asm: &mut Assembler, ip: Ip, udp: Label, ports: Label) {
        asm.bind(udp);
        if self.hash.finds_ip {
            // A length of its own may end what is carried before the IP packet ends.
            self.read(asm, 8, ports);
            asm.load_be(Width::B2, R3, R10, self.place(place::WORDS + 4));
            asm.if32(R3, Condition::Below, 8, ports);
            asm.do64(Alu::Add, R3, R7);
            asm.if64(R3, Condition::AtLeast, R9, ports);
            self.keep_end(asm, R3, ports);
        }
        asm.bind(ports);
        asm.load(Width::B4, R1, R10, self.place(place::IS_FRAGMENT));
        asm.if32(R1, Condition::NotEqual, 0, ip.portless);
        self.read(asm, 4, ip.portless);
        for (field, place) in [(0, place::PORTS + 4), (2, place::PORTS)] {
            asm.load_be(Width::B2, R1, R10, self.place(place::WORDS + field));
            asm.store(Width::B4, R10, self.place(place), R1);
        }
        asm.jump(ip.portless);
    }

    fn icmp(&self, asm: &mut Assembler, ip: Ip) {
        let (echo, quotes) = (asm.label(), asm.label());
        let (errors, echoes): (&[i32], &[i32]) = match ip.version {
            Version::V4 => (&ERRORS_V4, &ECHOES_V4),
            Version::V6 => (&ERRORS_V6, &ECHOES_V6),
        };
        asm.load(Width::B4, R1, R10, self.place(place::IS_FRAGMENT));
        asm.if32(R1, Condition::NotEqual, 0, ip.portless);
        self.read(asm, 8, ip.portless);
        asm.load(Width::B1, R1, R10, self.place(place::WORDS));
        for kind in echoes {
            asm.if32(R1, Condition::Equal, *kind, echo);
        }
        for kind in errors {
            asm.if32(R1, Condition::Equal, *kind, quotes);
        }
        asm.jump(ip.portless);
        asm.bind(echo);
        asm.load_be(Width::B2, R1, R10, self.place(place::WORDS + 4));
        asm.store(Width::B4, R10, self.place(place::PORTS), R1);
        asm.store(Width::B4, R10, self.place(place::PORTS + 4), R1);
        asm.jump(ip.portless);
        // A quoted packet is looked at once; the header that quotes may be needed again.
        asm.bind(quotes);
        asm.load(Width::B8, R1, R10, self.place(place::IS_QUOTED));
        asm.if32(R1, Condition::NotEqual, 0, ip.portless);
        // From a register: kernels before 6.8 lose sight of a constant that is stored.
        asm.copy(R1, 1);
        asm.store(Width::B8, R10, self.place(place::IS_QUOTED), R1);
        asm.do64(Alu::Add, R7, 8);
        asm.jump(ip.header);
    }
}
