//! The program of an interface.

use super::create::{create, find_rule};
use super::error::error;
use super::layout::{Counter, InlineMap, tuple};
use super::parse::{Exits, parse};
use super::pass::{Places, pass};
use super::writer::{Family, NO_HEADER, SKB_PKT_TYPE, SKB_PROTOCOL, SKB_VLAN_PRESENT, Writer, at};
use Register::{R0, R1, R2, R6, R10};
use filter::ebpf::{Code, Condition, Error, Helper, Register, Width};

/// What an interface is to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Clients come here: their packets leave by this interface.
    pub forward_to: Option<u32>,
    /// Next hosts answer here: their packets leave by this interface.
    pub reply_to: Option<u32>,
}

/// Makes the program of an interface's ingress. Its maps are those of [`InlineMap::ALL`].
///
/// Not for it are frames with a VLAN's tag, which belong to that VLAN's interface, and frames for
/// other hosts.
///
/// # Errors
/// None that a table could bring about.
pub fn program(roles: Roles) -> Result<Code, Error> {
    let mut w = Writer::new();
    let v6 = w.asm.label();
    w.copy(R6, R1);
    w.load(Width::B4, R1, R6, SKB_PKT_TYPE);
    w.jump_if(R1, Condition::NotEqual, 0, w.next);
    w.load(Width::B4, R1, R6, SKB_VLAN_PRESENT);
    w.jump_if(R1, Condition::NotEqual, 0, w.next);
    w.load(Width::B4, R1, R6, SKB_PROTOCOL);
    w.jump_if(R1, Condition::Equal, i32::from(0x86dd_u16.to_be()), v6);
    w.jump_if(R1, Condition::NotEqual, i32::from(0x0800_u16.to_be()), w.next);
    for family in [Family::V4, Family::V6] {
        if family == Family::V6 {
            w.asm.bind(v6);
        }
        let exits = Exits { later_fragment: w.asm.label(), error: w.asm.label() };
        let places =
            Places { found: w.asm.label(), found_by_fragment: w.asm.label(), send: w.asm.label() };
        parse(&mut w, family, &exits);
        w.look_up(InlineMap::Sessions, at::TUPLE);
        w.jump_if64(R0, Condition::NotEqual, 0, places.found);
        if roles.forward_to.is_some() {
            create(&mut w, family, places.found);
        } else {
            w.asm.jump(w.next);
        }
        w.asm.bind(exits.later_fragment);
        later_fragment(&mut w, roles, &places);
        w.asm.bind(exits.error);
        error(&mut w, family, roles, &places);
        pass(&mut w, family, roles, &places);
    }
    w.finish()
}

/// Finds the session of a fragment that has no ports. An unknown one is dropped only if all of its
/// address is a rule's; else it may be the host's own.
fn later_fragment(w: &mut Writer, roles: Roles, places: &Places) {
    let unknown = w.asm.label();
    w.store(Width::B4, R10, at::PROTOCOL, NO_HEADER);
    w.load(Width::B4, R1, R10, at::FRAGMENT_ID);
    w.store(Width::B4, R10, at::TUPLE + tuple::PORTS as i16, R1);
    w.look_up(InlineMap::Fragments, at::TUPLE);
    w.jump_if64(R0, Condition::Equal, 0, unknown);
    w.asm.map_address(R1, InlineMap::Sessions.map());
    w.copy(R2, R0);
    w.asm.call(Helper::MAP_LOOKUP);
    w.jump_if64(R0, Condition::NotEqual, 0, places.found_by_fragment);
    w.asm.bind(unknown);
    if roles.forward_to.is_some() {
        find_rule(w, false, w.next);
        w.reason(Counter::Fragment);
        w.asm.jump(w.drop);
    } else {
        w.asm.jump(w.next);
    }
}
