//! A packet that belongs to no session: the rule that matches it, and both entries of a new session.
//!
//! The reply's entry is written first, and only where there is none of its tuple: if there is one,
//! another client has the port towards the same next host, and another port is tried. So no two
//! sessions can have the same answers, whatever other CPUs do meanwhile.

use super::layout::{Counter, InlineMap, Leg, match_at, rule, session, settings, tuple};
use super::layout::{LEVEL_ADDRESS, LEVEL_PORT, LEVEL_PROTOCOL};
use super::writer::{Family, GET_PRANDOM_U32, KTIME_GET_COARSE_NS, NO_NEW, TCP, UDP, Writer, at};
use Register::{R0, R1, R2, R3, R4, R5, R8, R9, R10};
use filter::ebpf::{Alu, Bits, Condition, Helper, Label, Register, Width};

/// Ports that are tried besides the client's own.
const TRIES: i32 = 8;
/// Those that are tried begin here, and are this many.
const PORTS_FROM: i32 = 1024;
const PORTS: i32 = 0x1_0000 - PORTS_FROM;
const NO_EXIST: i32 = 1;
/// `-EEXIST`: there is an entry.
const EXISTS: i32 = -17;

/// Finds the rule of the packet whose tuple is in memory, and makes R8 its entry; on to `none` if there
/// is none. R9 is kept.
pub(super) fn find_rule(w: &mut Writer, has_ports: bool, none: Label) {
    let found = w.asm.label();
    w.copy(R1, 0);
    w.look_up_place(InlineMap::Settings);
    w.jump_if64(R0, Condition::Equal, 0, none);
    w.load(Width::B4, R8, R0, settings::LEVELS as i16);
    w.copy_bytes((R10, at::MATCH), (R10, at::TUPLE + tuple::DESTINATION as i16), 16, R1);
    w.store(Width::B4, R10, at::MATCH + match_at::PROTOCOL as i16, 0);
    let port_at = at::MATCH + match_at::PORT as i16;
    let protocol_at = at::MATCH + match_at::PROTOCOL as i16;
    if has_ports {
        w.load(Width::B1, R1, R10, at::TUPLE + tuple::PROTOCOL as i16);
        w.store(Width::B1, R10, protocol_at, R1);
        w.load(Width::B2, R1, R10, at::TUPLE + tuple::PORTS as i16 + 2);
        w.store(Width::B2, R10, port_at, R1);
        level(w, LEVEL_PORT, found);
        w.store(Width::B2, R10, port_at, 0);
        level(w, LEVEL_PROTOCOL, found);
        w.store(Width::B1, R10, protocol_at, 0);
    }
    level(w, LEVEL_ADDRESS, found);
    w.asm.jump(none);
    w.asm.bind(found);
    w.copy(R8, R0);
    w.load(Width::B4, R1, R8, rule::NUMBER as i16);
    w.alu(Alu::ShiftLeft, R1, 1);
    w.store(Width::B4, R10, at::PLACE, R1);
}

fn level(w: &mut Writer, bit: u32, found: Label) {
    let skip = w.asm.label();
    w.copy(R1, R8);
    w.alu(Alu::And, R1, bit.cast_signed());
    w.jump_if(R1, Condition::Equal, 0, skip);
    w.look_up(InlineMap::Rules, at::MATCH);
    w.jump_if64(R0, Condition::NotEqual, 0, found);
    w.asm.bind(skip);
}

/// Makes a session for the packet whose tuple is in memory, if a rule matches, and goes on to `found`
/// with R0 as its entry. R7 and R9 are kept.
pub(super) fn create(w: &mut Writer, family: Family, found: Label) {
    w.load(Width::B4, R1, R10, at::MARKS);
    w.alu(Alu::And, R1, NO_NEW);
    w.jump_if(R1, Condition::NotEqual, 0, w.next);
    find_rule(w, true, w.next);
    w.keep_place(at::TRANSPORT, R9);
    entries(w);

    let (try_port, inserted, full, taken) =
        (w.asm.label(), w.asm.label(), w.asm.label(), w.asm.label());
    let other_ports = at::OTHER + tuple::PORTS as i16;
    w.copy(R9, 0);
    w.asm.bind(try_port);
    port_differences(w);
    w.update(InlineMap::Sessions, at::OTHER, at::REPLY, NO_EXIST);
    w.jump_if(R0, Condition::Equal, 0, inserted);
    w.jump_if(R0, Condition::Equal, EXISTS, taken);
    w.asm.jump(full);

    w.asm.bind(taken);
    w.reason(Counter::NoPort);
    w.jump_if(R9, Condition::AtLeast, TRIES, w.drop);
    w.alu(Alu::Add, R9, 1);
    let can_change = w.asm.label();
    w.load(Width::B1, R1, R10, at::TUPLE + tuple::PROTOCOL as i16);
    for protocol in [TCP, UDP, family.icmp()] {
        w.jump_if(R1, Condition::Equal, protocol, can_change);
    }
    w.asm.jump(w.drop);
    w.asm.bind(can_change);
    w.asm.call(GET_PRANDOM_U32);
    w.asm.alu(Bits::B32, Alu::Mod, R0, PORTS);
    w.alu(Alu::Add, R0, PORTS_FROM);
    w.asm.big_endian(Width::B2, R0);
    w.store(Width::B2, R10, other_ports + 2, R0);
    w.asm.jump(try_port);

    w.asm.bind(inserted);
    w.get_place(at::TRANSPORT, R9);
    let (again, created) = (w.asm.label(), w.asm.label());
    w.update(InlineMap::Sessions, at::TUPLE, at::FORWARD, NO_EXIST);
    w.jump_if(R0, Condition::Equal, 0, created);
    w.copy(R8, R0);
    w.asm.map_address(R1, InlineMap::Sessions.map());
    w.copy(R2, R10);
    w.alu(Alu::Add, R2, i32::from(at::OTHER));
    w.asm.call(Helper::MAP_DELETE);
    // Another CPU had the same flow, and was first: its session holds.
    w.jump_if(R8, Condition::Equal, EXISTS, again);
    w.asm.bind(full);
    w.reason(Counter::TableFull);
    w.asm.jump(w.drop);

    w.asm.bind(created);
    w.count_one(Counter::Sessions);
    w.asm.bind(again);
    w.look_up(InlineMap::Sessions, at::TUPLE);
    w.reason(Counter::Refused);
    w.jump_if64(R0, Condition::Equal, 0, w.drop);
    w.asm.jump(found);
}

/// Writes both entries, and the reply's tuple, as far as they do not depend on the port; R8 is the rule.
fn entries(w: &mut Writer) {
    let (source, destination) = (tuple::SOURCE as i16, tuple::DESTINATION as i16);
    let ports = tuple::PORTS as i16;
    // The answer's tuple.
    w.copy_bytes((R10, at::OTHER + source), (R8, rule::NEXT_HOST as i16), 16, R1);
    w.copy_bytes((R10, at::OTHER + destination), (R8, rule::SOURCE as i16), 16, R1);
    let same_port = w.asm.label();
    w.load(Width::B2, R1, R8, rule::NEXT_PORT as i16);
    w.jump_if(R1, Condition::NotEqual, 0, same_port);
    w.load(Width::B2, R1, R10, at::TUPLE + ports + 2);
    w.asm.bind(same_port);
    w.store(Width::B2, R10, at::OTHER + ports, R1);
    w.load(Width::B2, R1, R10, at::TUPLE + ports);
    w.store(Width::B2, R10, at::OTHER + ports + 2, R1);
    w.load(Width::B4, R1, R10, at::TUPLE + tuple::PROTOCOL as i16);
    w.store(Width::B4, R10, at::OTHER + tuple::PROTOCOL as i16, R1);

    for entry in [at::FORWARD, at::REPLY] {
        for word in 0..super::layout::SESSION_BYTES as i16 / 8 {
            w.store(Width::B8, R10, entry + 8 * word, 0);
        }
        w.load(Width::B4, R1, R8, rule::NUMBER as i16);
        w.store(Width::B4, R10, entry + session::RULE as i16, R1);
    }
    w.asm.call(KTIME_GET_COARSE_NS);
    w.store(Width::B8, R10, at::FORWARD + session::SEEN_AT as i16, R0);
    w.load(Width::B4, R1, R8, rule::HOP as i16);
    w.store(Width::B4, R10, at::FORWARD + session::HOP as i16, R1);
    w.store(Width::B1, R10, at::REPLY + session::WAY as i16, Leg::Reply as i32);
    let to = session::SOURCE as i16;
    w.copy_bytes((R10, at::FORWARD + to), (R8, rule::SOURCE as i16), 16, R1);
    w.copy_bytes((R10, at::FORWARD + to + 16), (R8, rule::NEXT_HOST as i16), 16, R1);
    w.copy_bytes((R10, at::REPLY + to), (R10, at::TUPLE + destination), 16, R1);
    w.copy_bytes((R10, at::REPLY + to + 16), (R10, at::TUPLE + source), 16, R1);
    let to = session::PORTS as i16;
    for (at, from) in [(to, ports + 2), (to + 2, ports)] {
        w.load(Width::B2, R1, R10, at::TUPLE + from);
        w.store(Width::B2, R10, at::REPLY + at, R1);
    }
    w.load(Width::B2, R1, R10, at::OTHER + ports);
    w.store(Width::B2, R10, at::FORWARD + to + 2, R1);

    let of = |field: usize| field as i16;
    for (old, new, diff, opposite) in [
        (source, session::SOURCE, session::SOURCE_DIFF, session::DESTINATION_DIFF),
        (destination, session::DESTINATION, session::DESTINATION_DIFF, session::SOURCE_DIFF),
    ] {
        w.copy(R1, R10);
        w.alu(Alu::Add, R1, i32::from(at::TUPLE + old));
        w.copy(R2, 16);
        w.copy(R3, R10);
        w.alu(Alu::Add, R3, i32::from(at::FORWARD + of(new)));
        w.copy(R4, 16);
        w.copy(R5, 0);
        w.asm.call(Helper::CSUM_DIFF);
        w.asm.alu(Bits::B32, Alu::Move, R0, R0);
        w.fold(R0, R1);
        w.store(Width::B4, R10, at::FORWARD + of(diff), R0);
        w.alu(Alu::Xor, R0, 0xffff);
        w.store(Width::B4, R10, at::REPLY + of(opposite), R0);
    }
    for entry in [at::FORWARD, at::REPLY] {
        w.load(Width::B4, R0, R10, entry + of(session::SOURCE_DIFF));
        w.load(Width::B4, R1, R10, entry + of(session::DESTINATION_DIFF));
        w.alu(Alu::Add, R0, R1);
        w.fold(R0, R1);
        w.store(Width::B4, R10, entry + of(session::ADDRESSES_DIFF), R0);
    }
}

/// Writes what depends on the port that the answer's tuple has.
fn port_differences(w: &mut Writer) {
    let (ours, theirs) = (at::OTHER + tuple::PORTS as i16, at::TUPLE + tuple::PORTS as i16);
    let of = |field: usize| field as i16;
    w.load(Width::B2, R1, R10, ours + 2);
    w.store(Width::B2, R10, at::FORWARD + of(session::PORTS), R1);
    // The client's port becomes another, its destination port the next host's.
    for (old, new, diff, opposite) in [
        (theirs, ours + 2, session::SOURCE_PORT_DIFF, session::DESTINATION_PORT_DIFF),
        (theirs + 2, ours, session::DESTINATION_PORT_DIFF, session::SOURCE_PORT_DIFF),
    ] {
        w.load(Width::B2, R1, R10, old);
        w.load(Width::B2, R0, R10, new);
        for (from, to, at) in [(R1, R0, at::FORWARD + of(diff)), (R0, R1, at::REPLY + of(opposite))]
        {
            let same = w.asm.label();
            w.copy(R2, 0);
            w.jump_if(from, Condition::Equal, to, same);
            w.copy(R2, from);
            w.alu(Alu::Xor, R2, 0xffff);
            w.alu(Alu::Add, R2, to);
            w.fold(R2, R3);
            w.asm.bind(same);
            w.store(Width::B4, R10, at, R2);
        }
    }
    for entry in [at::FORWARD, at::REPLY] {
        w.load(Width::B4, R0, R10, entry + of(session::SOURCE_PORT_DIFF));
        w.load(Width::B4, R1, R10, entry + of(session::DESTINATION_PORT_DIFF));
        w.alu(Alu::Add, R0, R1);
        w.fold(R0, R1);
        w.store(Width::B4, R10, entry + of(session::PORTS_DIFF), R0);
    }
}
