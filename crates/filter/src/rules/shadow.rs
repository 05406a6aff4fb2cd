//! Rules that can never decide, since rules before them match all that they match.
//!
//! A rule's packets are a box in each kind of packets; what is left of the box behind the rules
//! before is found by cutting their boxes out of it, piece by piece. So a rule is also found dead
//! where several earlier ones cover it together. The work for one rule is bounded: where the bound
//! is met the rule counts as alive.

use super::compile::is_unconditional;
use super::fields::{self, Kind, Ranges, Upper};
use super::{Rule, Rules, TrafficDirection};
use wire::Direction;

/// Rules of a list that are looked at: each is compared with all before it.
pub const SHADOW_RULES_MAX: usize = 20_000;

/// Boxes that may be looked at for a rule.
const WORK_MAX: usize = 20_000;

/// A rule that never decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shadow {
    /// Its number, from 1.
    pub number: u32,
    /// The first rule that alone matches all that it matches; `None`: it takes several.
    pub by: Option<u32>,
}

/// A rule with its box in each kind of packets.
struct Boxed<'a> {
    rule: &'a Rule,
    boxes: [Option<Ranges>; KINDS.len()],
}

const fn kind(v4: bool, upper: Upper) -> Kind {
    Kind { v4, upper }
}

const KINDS: [Kind; 8] = [
    kind(true, Upper::Tcp),
    kind(true, Upper::Udp),
    kind(true, Upper::Icmp),
    kind(true, Upper::Rest),
    kind(false, Upper::Tcp),
    kind(false, Upper::Udp),
    kind(false, Upper::Icmp),
    kind(false, Upper::Rest),
];

impl Rules {
    /// The rules that can never decide, in their order. Rules that others hide in part only, and
    /// those whose case is too complex to tell, are not among them; nor are those behind the
    /// [`SHADOW_RULES_MAX`] first.
    pub fn shadows(&self) -> Vec<Shadow> {
        let looked_at = self.as_slice().iter().take(SHADOW_RULES_MAX);
        let boxed: Vec<Boxed<'_>> = looked_at.map(Boxed::new).collect();
        let mut shadows = Vec::new();
        for (index, rule) in boxed.iter().enumerate() {
            let earlier = &boxed[..index];
            let by = earlier.iter().position(|one| one.hides(rule));
            if by.is_some() || rule.is_dead(earlier) {
                let number = |index: usize| index as u32 + 1;
                shadows.push(Shadow { number: number(index), by: by.map(number) });
            }
        }
        shadows
    }
}

impl<'a> Boxed<'a> {
    fn new(rule: &'a Rule) -> Boxed<'a> {
        let clipped = |kind| {
            let possible = fields::possible(kind);
            fields::ranges(rule, kind).and_then(|ranges| ranges.intersection(&possible))
        };
        Boxed { rule, boxes: KINDS.map(clipped) }
    }

    /// Whether it matches all that a later rule matches.
    fn hides(&self, later: &Boxed<'_>) -> bool {
        let direction = self.rule.direction;
        let boxes = later.boxes.iter().zip(&self.boxes);
        (direction.is_none() || direction == later.rule.direction)
            && (!is_unconditional(later.rule) || is_unconditional(self.rule))
            && boxes.into_iter().all(|pair| match pair {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(later), Some(own)) => own.covers(later),
            })
    }

    /// Whether nothing that the rule matches comes past earlier ones, all together.
    fn is_dead(&self, earlier: &[Boxed<'_>]) -> bool {
        let all_alike = earlier.iter().all(|one| one.rule.direction.is_none());
        let directions = match self.rule.direction {
            Some(TrafficDirection::Ingress) => &[Direction::In][..],
            Some(TrafficDirection::Egress) => &[Direction::Out],
            None if all_alike => &[Direction::In],
            None => &[Direction::In, Direction::Out],
        };
        let mut work = WORK_MAX;
        directions.iter().all(|&direction| {
            let applies = |one: &&Boxed<'_>| one.rule.applies(direction);
            let what_is_not_ip = !is_unconditional(self.rule)
                || earlier.iter().filter(applies).any(|one| is_unconditional(one.rule));
            what_is_not_ip
                && (0..KINDS.len()).all(|kind| {
                    let Some(own) = &self.boxes[kind] else {
                        return true;
                    };
                    let before: Vec<&Ranges> = earlier
                        .iter()
                        .filter(applies)
                        .filter_map(|one: &Boxed<'_>| one.boxes[kind].as_ref())
                        .filter(|ranges| ranges.meets(own))
                        .collect();
                    is_covered(own, &before, &mut work)
                })
        })
    }
}

/// Whether boxes cover a box together. `false` too where the `work` that is left does not tell.
fn is_covered(wanted: &Ranges, by: &[&Ranges], work: &mut usize) -> bool {
    if by.iter().any(|ranges| ranges.covers(wanted)) {
        return true;
    }
    let Some(next) = by.iter().position(|ranges| ranges.meets(wanted)) else {
        return false;
    };
    let Some(left) = work.checked_sub(by.len()) else {
        return false;
    };
    *work = left;
    // What sticks out on either side of each field must be covered by the rest; what does not
    // stick out anywhere lies within.
    let (cutter, rest) = (by[next], &by[next + 1..]);
    let mut inside = *wanted;
    for (field, range) in cutter.iter() {
        let own = inside.get(field);
        for piece in own.outside(&range) {
            let mut part = inside;
            part.set(field, piece);
            if !is_covered(&part, rest, work) {
                return false;
            }
        }
        if let Some(common) = own.intersection(&range) {
            inside.set(field, common);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::{Action, PortRange, Transport};
    use super::*;

    fn net(text: &str) -> Option<ipnet::IpNet> {
        Some(text.parse().unwrap())
    }

    fn ports(min: u16, max: u16) -> Rule {
        Rule {
            protocol: Some(6),
            transport: Transport::Ports { source: None, destination: Some(PortRange { min, max }) },
            ..Rule::new(Action::Include)
        }
    }

    fn shadows(rules: impl Into<Vec<Rule>>) -> Vec<(u32, Option<u32>)> {
        let rules = Rules::new(rules.into()).unwrap();
        rules.shadows().iter().map(|shadow| (shadow.number, shadow.by)).collect()
    }

    #[test]
    fn a_wider_rule_before_hides_a_narrower_one() {
        let all = Rule::new(Action::Include);
        let ten = Rule { source: net("10.0.0.0/8"), ..all };
        let ten_one = Rule { source: net("10.1.0.0/16"), ..all };
        assert_eq!(shadows([ten, ten_one]), [(2, Some(1))]);
        assert_eq!(shadows([ten_one, ten]), []);
        assert_eq!(shadows([all, ten, all]), [(2, Some(1)), (3, Some(1))]);
        assert_eq!(shadows([ports(80, 90), ports(0, 1), ports(85, 90)]), [(3, Some(1))]);
    }

    #[test]
    fn several_rules_hide_one_together() {
        assert_eq!(shadows([ports(0, 99), ports(100, 65_535), ports(80, 443)]), [(3, None)]);
        assert_eq!(shadows([ports(0, 99), ports(101, 65_535), ports(80, 443)]), []);
        let all = Rule::new(Action::Include);
        let [low, high, both] = ["10.0.0.0/9", "10.128.0.0/9", "10.0.0.0/8"].map(net);
        let from = |source| Rule { source, ..all };
        assert_eq!(shadows([from(low), from(high), from(both)]), [(3, None)]);
    }

    #[test]
    fn ports_do_not_hide_what_has_none() {
        // A later fragment is TCP and has no ports.
        let tcp = Rule { protocol: Some(6), ..Rule::new(Action::Include) };
        assert_eq!(shadows([ports(0, 65_535), tcp]), []);
        assert_eq!(shadows([tcp, ports(0, 65_535)]), [(2, Some(1))]);
    }

    #[test]
    fn addresses_do_not_hide_what_is_not_ip() {
        let all = Rule::new(Action::Include);
        let [v4, v6] = ["0.0.0.0/0", "::/0"].map(|text| Rule { source: net(text), ..all });
        assert_eq!(shadows([v4, v6, all]), []);
        assert_eq!(shadows([v4, v6, ports(1, 2)]), [(3, None)]);
    }

    #[test]
    fn a_rule_of_one_direction_hides_the_same_direction_only() {
        let all = Rule::new(Action::Include);
        let ingress = Rule { direction: Some(TrafficDirection::Ingress), ..all };
        let egress = Rule { direction: Some(TrafficDirection::Egress), ..all };
        assert_eq!(shadows([ingress, egress]), []);
        assert_eq!(shadows([ingress, all]), []);
        assert_eq!(shadows([ingress, egress, all]), [(3, None)]);
        assert_eq!(shadows([all, ingress]), [(2, Some(1))]);
    }

    #[test]
    fn of_a_very_long_list_the_beginning_is_looked_at() {
        let all = Rule::new(Action::Include);
        let shadows = Rules::new(vec![all; SHADOW_RULES_MAX + 2]).unwrap().shadows();
        assert_eq!(shadows.len(), SHADOW_RULES_MAX - 1);
    }

    #[test]
    fn a_case_too_complex_counts_as_alive() {
        // Each hides one port of each side; what is left falls into ever more pieces.
        let hole = |n: u16| Rule {
            transport: Transport::Ports {
                source: Some(PortRange::one(n)),
                destination: Some(PortRange::one(n)),
            },
            ..ports(0, 0)
        };
        let mut rules: Vec<Rule> = (0..3000).map(hole).collect();
        rules.push(ports(0, 65_535));
        assert_eq!(shadows(rules), []);
    }
}
