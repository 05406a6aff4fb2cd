//! From a list of rules to a program: what can be read of a packet picks the rules that are tried.

use super::assembler::Assembler;
use super::fields::{self, FIELDS, Field, Kind, Upper};
use super::headers::{self, Version, Ways};
use super::tree::{self, Numbered};
use super::{Rule, RulesError, Transport};
use crate::{INSTRUCTIONS_MAX, Instruction, Program};
use wire::{Direction, LinkType};

pub use super::tree::LISTED_RULES;

/// Link types whose frames rules can read.
pub const SUPPORTED_LINK_TYPES: [LinkType; 8] = [
    LinkType::ETHERNET,
    LinkType::RAW,
    LinkType::LINUX_SLL,
    LinkType::LINUX_SLL2,
    LinkType::NULL,
    LinkType::LOOP,
    LinkType::IPV4,
    LinkType::IPV6,
];

/// See [`super::Rules::compile`].
pub(super) fn compile(
    rules: &[Rule],
    link_type: LinkType,
    direction: Direction,
) -> Result<Program, RulesError> {
    if !SUPPORTED_LINK_TYPES.contains(&link_type) {
        return Err(RulesError::LinkType(link_type));
    }
    let mut tried: Vec<(u32, &Rule)> =
        (1..).zip(rules).filter(|(_, rule)| rule.applies(direction)).collect();
    // Nothing comes past a rule without a condition, and no other matches what is not IP.
    let last = tried.iter().position(|(_, rule)| is_unconditional(rule));
    let other = last.map_or(0, |last| tried[last].0);
    tried.truncate(last.map_or(tried.len(), |last| last + 1));
    if tried.is_empty() || last == Some(0) {
        return Ok(Program::constant(other));
    }

    let [widely, tightly] = tree::COPIES_MAX;
    let mut instructions = assemble(&tried, other, link_type, widely)?;
    if instructions.len() > INSTRUCTIONS_MAX {
        instructions = assemble(&tried, other, link_type, tightly)?;
    }
    Ok(Program::new(instructions)?)
}

/// Puts the program together; `other` is the verdict of what is not IP.
fn assemble(
    tried: &[(u32, &Rule)],
    other: u32,
    link_type: LinkType,
    copies_max: usize,
) -> Result<Vec<Instruction>, RulesError> {
    let mut asm = Assembler::default();
    let mut decisions = Vec::new();
    let mut version = |asm: &mut Assembler, v4: bool| {
        let mut reads = [false; FIELDS];
        let mut decision = |asm: &mut Assembler, kind: Kind| {
            let label = asm.label();
            let rules = rules_of_kind(tried, kind);
            let possible = fields::possible(kind);
            for (field, range) in rules.iter().flat_map(|(_, ranges)| ranges.iter()) {
                reads[usize::from(field.0)] |= !range.covers(&possible.get(field));
            }
            decisions.push((label, kind, rules));
            label
        };
        let upper = Upper::READ.map(|upper| {
            let asks = |rule: &Rule| {
                rule.transport != Transport::Any && rule.protocol == upper.protocol(v4)
            };
            let wanted = tried.iter().any(|(_, rule)| asks(rule));
            wanted.then(|| decision(asm, Kind { v4, upper }))
        });
        let rest = decision(asm, Kind { v4, upper: Upper::Rest });
        // Where nothing needs to be read, and the outcome is that of frames that are not IP, the
        // version need not be told apart.
        let plain = upper.iter().all(Option::is_none) && !reads.contains(&true);
        let outcome = rules_of_kind(tried, Kind { v4, upper: Upper::Rest });
        let is_other = plain && outcome.first().map_or(0, |(number, _)| *number) == other;
        (!is_other).then_some(Version { upper, rest, reads })
    };
    let ways =
        Ways { v4: version(&mut asm, true), v6: version(&mut asm, false), other: asm.label() };
    headers::write(&mut asm, link_type, &ways)?;
    for (label, kind, rules) in decisions {
        let version = if kind.v4 { &ways.v4 } else { &ways.v6 };
        if version.is_some() {
            asm.here(label);
            tree::write(&mut asm, &rules, &fields::possible(kind), copies_max);
        }
    }
    asm.here(ways.other);
    asm.ret(other);
    Ok(asm.assemble())
}

/// Whether a rule matches every frame.
pub(super) fn is_unconditional(rule: &Rule) -> bool {
    rule.source.is_none()
        && rule.destination.is_none()
        && rule.protocol.is_none()
        && rule.transport == Transport::Any
}

/// The rules that can decide for packets of a kind.
fn rules_of_kind(tried: &[(u32, &Rule)], kind: Kind) -> Vec<Numbered> {
    let numbered = |(number, rule): &(u32, &Rule)| Some((*number, fields::ranges(rule, kind)?));
    let all: Vec<Numbered> = tried.iter().filter_map(numbered).collect();
    tree::reduce(&all, &fields::possible(kind))
}

// A field's scratch word has its number, and one is left to the head.
const _: () =
    assert!(FIELDS < crate::SCRATCH_WORDS as usize && Field::DESTINATION.0 as usize + 4 == FIELDS);
