//! A packet whose session is known: whether it may pass, its copies, its changes, and its way on.

use super::layout::{Counter, InlineMap, Leg, SEEN_NS, View, hop, session, tuple};
use super::program::Roles;
use super::rewrite::{Part, rewrite};
use super::writer::{
    ADDRESSED, ETHERNET, FIRST_FRAGMENT, Family, KTIME_GET_COARSE_NS, SKB_GSO_SIZE, SKB_LEN,
    SKB_TC_INDEX, TCP, UDP, UNADDRESSED, Writer, at,
};
use Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use filter::ebpf::{Alu, Condition, Helper, Label, Register, Width};

/// FIN and RST, which end a connection, and SYN, which begins one.
const TCP_ENDS: i32 = 0x05;
const TCP_SYN: i32 = 0x02;

/// Where parts of a family's code go on.
pub(super) struct Places {
    /// R0 is a session's entry.
    pub found: Label,
    /// The same of a fragment that is not the first.
    pub found_by_fragment: Label,
    /// It is rewritten; it goes out.
    pub send: Label,
}

/// Passes on what is found; the packet's first byte is R7, its transport header's place R9.
pub(super) fn pass(w: &mut Writer, family: Family, roles: Roles, places: &Places) {
    w.asm.bind(places.found);
    w.copy(R8, R0);
    take(w, roles);
    remember_fragment(w);
    let checked = w.asm.label();
    follow_tcp(w);
    w.asm.jump(checked);

    w.asm.bind(places.found_by_fragment);
    w.copy(R8, R0);
    take(w, roles);
    w.asm.bind(checked);
    check(w, family);

    let plain = w.asm.label();
    choose_views(w, plain);
    show(w, View::Ingress);
    w.fetch(family);
    let (at_once, changed) = (w.asm.label(), w.asm.label());
    w.load(Width::B8, R1, R10, at::VIEWS);
    w.alu(Alu::And, R1, View::Inline.bit().cast_signed());
    w.jump_if(R1, Condition::Equal, 0, at_once);
    rewrite(w, family, Part::Destination);
    show(w, View::Inline);
    w.fetch_again(family);
    rewrite(w, family, Part::Source);
    w.asm.jump(changed);
    w.asm.bind(at_once);
    rewrite(w, family, Part::All);
    w.asm.bind(changed);
    show(w, View::Egress);
    w.asm.jump(places.send);

    w.asm.bind(plain);
    rewrite(w, family, Part::All);
    w.asm.bind(places.send);
    send(w, roles);
}

/// Whether the session at R8 is this interface's business; its place, its time.
pub(super) fn take(w: &mut Writer, roles: Roles) {
    w.load(Width::B1, R2, R8, session::WAY as i16);
    match (roles.forward_to, roles.reply_to) {
        (Some(_), None) => w.jump_if(R2, Condition::NotEqual, Leg::Forward as i32, w.next),
        (None, Some(_)) => w.jump_if(R2, Condition::NotEqual, Leg::Reply as i32, w.next),
        _ => {}
    }
    w.load(Width::B4, R1, R8, session::RULE as i16);
    w.alu(Alu::ShiftLeft, R1, 1);
    w.alu(Alu::Or, R1, R2);
    w.store(Width::B4, R10, at::PLACE, R1);
    w.reason(Counter::Refused);
    w.asm.call(KTIME_GET_COARSE_NS);
    w.store(Width::B8, R10, at::NOW, R0);
    let fresh = w.asm.label();
    w.load(Width::B8, R1, R8, session::SEEN_AT as i16);
    w.copy(R2, R0);
    w.alu(Alu::Sub, R2, R1);
    w.jump_if64(R2, Condition::AtMost, SEEN_NS, fresh);
    w.store(Width::B8, R8, session::SEEN_AT as i16, R0);
    w.asm.bind(fresh);
}

/// The fragments that follow this one have no ports.
fn remember_fragment(w: &mut Writer) {
    let whole = w.asm.label();
    w.load(Width::B4, R1, R10, at::MARKS);
    w.alu(Alu::And, R1, FIRST_FRAGMENT);
    w.jump_if(R1, Condition::Equal, 0, whole);
    w.copy_bytes((R10, at::OTHER), (R10, at::TUPLE), super::layout::TUPLE_BYTES as i16, R1);
    w.load(Width::B4, R1, R10, at::FRAGMENT_ID);
    w.store(Width::B4, R10, at::OTHER + tuple::PORTS as i16, R1);
    w.update(InlineMap::Fragments, at::OTHER, at::TUPLE, 0);
    w.asm.bind(whole);
}

fn follow_tcp(w: &mut Writer) {
    let (begins, done) = (w.asm.label(), w.asm.label());
    w.load(Width::B4, R1, R10, at::PROTOCOL);
    w.jump_if(R1, Condition::NotEqual, TCP, done);
    w.transport(14);
    w.load(Width::B1, R1, R2, 13);
    w.jump_if(R1, Condition::SharesBit, TCP_SYN, begins);
    w.alu(Alu::And, R1, TCP_ENDS);
    w.jump_if(R1, Condition::Equal, 0, done);
    w.load(Width::B1, R2, R8, session::TCP_FLAGS as i16);
    w.alu(Alu::Or, R1, R2);
    w.store(Width::B1, R8, session::TCP_FLAGS as i16, R1);
    w.asm.jump(done);
    w.asm.bind(begins);
    w.store(Width::B1, R8, session::TCP_FLAGS as i16, 0);
    w.asm.bind(done);
}

/// The time to live, the way on, and what fits it.
pub(super) fn check(w: &mut Writer, family: Family) {
    let lives = w.asm.label();
    w.load(Width::B1, R1, R7, family.hops_left());
    w.jump_if(R1, Condition::Above, 1, lives);
    w.reason(Counter::TimeToLive);
    w.asm.jump(w.hand_up);
    w.asm.bind(lives);

    let fits = w.asm.label();
    w.load(Width::B4, R1, R8, session::HOP as i16);
    w.alu(Alu::And, R1, 0xffff);
    w.look_up_place(InlineMap::Hops);
    w.jump_if64(R0, Condition::Equal, 0, w.drop);
    w.store(Width::B8, R10, at::HOP, R0);
    w.store(Width::B4, R10, at::ADDRESSED, UNADDRESSED);
    // Another way has its place.
    w.load(Width::B4, R1, R8, session::HOP as i16);
    w.load(Width::B4, R2, R0, hop::WHOSE as i16);
    w.jump_if(R1, Condition::NotEqual, R2, fits);
    let by_kernel = w.asm.label();
    w.load(Width::B8, R2, R0, hop::FRESH_AT as i16);
    w.is_old(R2, by_kernel);
    w.store(Width::B4, R10, at::ADDRESSED, ADDRESSED);
    w.asm.bind(by_kernel);
    let is_there = w.asm.label();
    w.load(Width::B4, R1, R0, hop::IS_LOST as i16);
    w.jump_if(R1, Condition::Equal, 0, is_there);
    // Without anybody to say so, the kernel tries by itself.
    w.reason(Counter::Unreachable);
    w.private(is_there);
    w.asm.jump(w.hand_up);
    w.asm.bind(is_there);
    w.reason(Counter::Refused);
    w.load(Width::B8, R0, R10, at::HOP);

    let (is_super, tcp, judge) = (w.asm.label(), w.asm.label(), w.asm.label());
    w.load(Width::B4, R5, R0, hop::MTU as i16);
    w.jump_if(R5, Condition::Equal, 0, fits);
    w.load(Width::B4, R1, R6, SKB_GSO_SIZE);
    w.jump_if(R1, Condition::NotEqual, 0, is_super);
    w.load(Width::B4, R1, R6, SKB_LEN);
    w.alu(Alu::Sub, R1, i32::from(ETHERNET));
    w.asm.jump(judge);
    // Its packets have this much, and each all the headers.
    w.asm.bind(is_super);
    w.alu(Alu::Add, R1, R9);
    w.alu(Alu::Sub, R1, i32::from(ETHERNET));
    w.load(Width::B4, R2, R10, at::PROTOCOL);
    w.jump_if(R2, Condition::Equal, TCP, tcp);
    w.jump_if(R2, Condition::NotEqual, UDP, judge);
    w.alu(Alu::Add, R1, 8);
    w.asm.jump(judge);
    w.asm.bind(tcp);
    w.transport(14);
    w.load(Width::B1, R2, R2, 12);
    w.alu(Alu::ShiftRight, R2, 4);
    w.alu(Alu::ShiftLeft, R2, 2);
    w.alu(Alu::Add, R1, R2);
    w.asm.bind(judge);
    w.jump_if(R1, Condition::AtMost, R5, fits);
    w.reason(Counter::Oversize);
    w.asm.jump(w.hand_up);
    w.asm.bind(fits);
}

/// Which views there are; on to `plain` if none, or if nobody takes them.
pub(super) fn choose_views(w: &mut Writer, plain: Label) {
    w.load(Width::B4, R1, R8, session::RULE as i16);
    w.look_up_place(InlineMap::Views);
    w.jump_if64(R0, Condition::Equal, 0, plain);
    w.load(Width::B4, R1, R0, 0);
    w.jump_if(R1, Condition::Equal, 0, plain);
    w.store(Width::B8, R10, at::VIEWS, R1);
    w.private(plain);
    w.store(Width::B8, R10, at::PRIVATE, R1);
}

/// Sends a copy of the packet as it is now, if it is to be shown.
pub(super) fn show(w: &mut Writer, view: View) {
    let (not, lost, done) = (w.asm.label(), w.asm.label(), w.asm.label());
    w.load(Width::B8, R1, R10, at::VIEWS);
    w.alu(Alu::And, R1, view.bit().cast_signed());
    w.jump_if(R1, Condition::Equal, 0, not);
    w.load(Width::B4, R1, R6, SKB_TC_INDEX);
    w.store(Width::B8, R10, at::TC_INDEX, R1);
    w.load(Width::B8, R1, R10, at::PRIVATE);
    w.send_copy(view);
    w.load(Width::B8, R1, R10, at::TC_INDEX);
    w.store(Width::B4, R6, SKB_TC_INDEX, R1);
    w.jump_if(R0, Condition::NotEqual, 0, lost);
    count_wire(w, Counter::Shown, not);
    w.asm.jump(done);
    w.asm.bind(lost);
    count_wire(w, Counter::NotShown, not);
    w.asm.bind(done);
    w.asm.bind(not);
}

fn count_wire(w: &mut Writer, counter: Counter, none: Label) {
    w.counters(none);
    w.wire_packets();
    w.count(counter);
}

/// Sends the packet on; the session's entry is R8.
pub(super) fn send(w: &mut Writer, roles: Roles) {
    let sent = w.asm.label();
    w.counters(sent);
    w.wire_packets();
    w.count(Counter::Forwarded);
    w.load(Width::B4, R1, R6, SKB_LEN);
    w.count(Counter::ForwardedBytes);
    w.asm.bind(sent);
    match (roles.forward_to, roles.reply_to) {
        (Some(forward), Some(reply)) => {
            let (is_reply, go) = (w.asm.label(), w.asm.label());
            w.load(Width::B1, R2, R8, session::WAY as i16);
            w.jump_if(R2, Condition::NotEqual, Leg::Forward as i32, is_reply);
            w.copy(R1, forward.cast_signed());
            w.asm.jump(go);
            w.asm.bind(is_reply);
            w.copy(R1, reply.cast_signed());
            w.asm.bind(go);
        }
        (to, None) | (None, to) => w.copy(R1, to.unwrap_or(0).cast_signed()),
    }
    w.copy(R2, 0);
    let by_kernel = w.asm.label();
    w.load(Width::B4, R3, R10, at::ADDRESSED);
    w.jump_if(R3, Condition::Equal, UNADDRESSED, by_kernel);
    w.asm.call(Helper::REDIRECT);
    w.asm.exit();
    w.asm.bind(by_kernel);
    w.copy(R3, 0);
    w.copy(R4, 0);
    w.asm.call(Helper::REDIRECT_NEIGH);
    w.asm.exit();
}
