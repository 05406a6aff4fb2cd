//! The decision: from the fields of a packet to the first rule that matches.
//!
//! A few rules are tried one after the other. More are split first: a comparison of one field with
//! a constant parts the packets in two, and each part keeps the rules that can still match there.
//! A rule that reaches over both parts is in both; what that may cost is bounded, so that a list
//! whose rules all overlap is tried in turn at worst. (Splitting along one field at a time is what
//! HiCuts and HyperSplit do; Gupta and McKeown, Hot Interconnects 1999; Qi et al., INFOCOM 2009.)

use super::assembler::{Assembler, Label};
use super::fields::{FIELDS, Field, Range, Ranges};
use crate::op;

/// Rules that are tried one after the other before it is worth splitting them.
pub const LISTED_RULES: usize = 8;

/// Splits on the way to a list at most.
const DEPTH_MAX: usize = 48;

/// How often a rule may stand in lists, on average; and where that makes too long a program.
pub(super) const COPIES_MAX: [usize; 2] = [6, 1];

/// A rule's number and what it matches.
pub(super) type Numbered = (u32, Ranges);

/// A decision.
#[derive(Debug)]
enum Node {
    /// Rules to be tried in their order, by their places in the list.
    List(Vec<u32>),
    /// Whether a field is at most a value.
    Split { field: Field, at: u32, low: Box<Node>, high: Box<Node> },
}

/// The rules of a list that can decide for a packet within `possible`, in their order.
pub(super) fn reduce(rules: &[Numbered], possible: &Ranges) -> Vec<Numbered> {
    let mut reduced = Vec::new();
    for (number, ranges) in rules {
        if ranges.meets(possible) {
            reduced.push((*number, *ranges));
            if ranges.covers(possible) {
                break;
            }
        }
    }
    reduced
}

/// Writes the decision between rules for packets within `possible`.
pub(super) fn write(asm: &mut Assembler, rules: &[Numbered], possible: &Ranges, copies_max: usize) {
    let all = (0..rules.len() as u32).collect();
    let budget = copies_max * rules.len();
    let node = Builder { rules }.node(all, possible, budget, DEPTH_MAX);
    Writer { asm, rules }.node(&node, possible, None);
}

struct Builder<'a> {
    rules: &'a [Numbered],
}

impl Builder<'_> {
    fn ranges(&self, rule: u32) -> &Ranges {
        &self.rules[rule as usize].1
    }

    /// `budget` is the number of rules that the lists below may hold, all together.
    fn node(&self, mut list: Vec<u32>, region: &Ranges, budget: usize, depth: usize) -> Node {
        self.prune(&mut list, region);
        if list.len() <= LISTED_RULES || depth == 0 {
            return Node::List(list);
        }
        let Some((field, at)) = self.best_split(&list, region, budget) else {
            return Node::List(list);
        };
        let Range { low, high } = region.get(field);
        let (mut below, mut above) = (*region, *region);
        below.set(field, Range::new(low, at));
        above.set(field, Range::new(at + 1, high));
        let part = |part: &Ranges| -> Vec<u32> {
            let range = part.get(field);
            let inside = |rule: &u32| {
                let own = self.ranges(*rule).get(field);
                own.low <= range.high && range.low <= own.high
            };
            list.iter().copied().filter(inside).collect()
        };
        let (low, high) = (part(&below), part(&above));
        let sum = low.len() + high.len();
        let share = |n: usize| (budget as u128 * n as u128 / sum as u128) as usize;
        let (low_budget, high_budget) = (share(low.len()), share(high.len()));
        drop(list);
        Node::Split {
            field,
            at,
            low: Box::new(self.node(low, &below, low_budget, depth - 1)),
            high: Box::new(self.node(high, &above, high_budget, depth - 1)),
        }
    }

    /// Leaves out what stands behind a rule that matches all of the region.
    fn prune(&self, list: &mut Vec<u32>, region: &Ranges) {
        if let Some(last) = list.iter().position(|&rule| self.ranges(rule).covers(region)) {
            list.truncate(last + 1);
        }
    }

    /// The split that leaves the fewest rules on its larger side, copies counted against it.
    fn best_split(&self, list: &[u32], region: &Ranges, budget: usize) -> Option<(Field, u32)> {
        let mut best = None;
        let mut best_score = list.len();
        for field in (0..FIELDS as u8).map(Field) {
            let Range { low: first, high: last } = region.get(field);
            let range = |&rule: &u32| self.ranges(rule).get(field);
            let mut lows: Vec<u32> = list.iter().map(|rule| range(rule).low).collect();
            let mut highs: Vec<u32> = list.iter().map(|rule| range(rule).high).collect();
            lows.sort_unstable();
            highs.sort_unstable();
            // A place to cut is just below a rule's low end, or at a rule's high end.
            let below_lows = lows.iter().filter(|&&low| low > first).map(|low| low - 1);
            let at_highs = highs.iter().copied().filter(|&high| high < last);
            let mut cuts: Vec<u32> = below_lows.chain(at_highs).collect();
            cuts.sort_unstable();
            cuts.dedup();
            let (mut begun, mut ended) = (0, 0);
            for at in cuts {
                while begun < list.len() && lows[begun] <= at {
                    begun += 1;
                }
                while ended < list.len() && highs[ended] <= at {
                    ended += 1;
                }
                let (below, above) = (begun, list.len() - ended);
                let copies = below + above - list.len();
                let score = below.max(above) + copies;
                if score < best_score && below + above <= budget {
                    best_score = score;
                    best = Some((field, at));
                }
            }
        }
        best
    }
}

struct Writer<'a> {
    asm: &'a mut Assembler,
    rules: &'a [Numbered],
}

impl Writer<'_> {
    /// `held` is the field that A holds.
    fn node(&mut self, node: &Node, region: &Ranges, held: Option<Field>) {
        match node {
            Node::List(list) => self.list(list, region, held),
            Node::Split { field, at, low, high } => {
                self.hold(*field, held);
                let (above, below) = (self.asm.label(), self.asm.label());
                self.asm.compare(op::JGT, *at, above, below);
                let range = region.get(*field);
                let mut part = *region;
                self.asm.here(below);
                part.set(*field, Range::new(range.low, *at));
                self.node(low, &part, Some(*field));
                self.asm.here(above);
                part.set(*field, Range::new(at + 1, range.high));
                self.node(high, &part, Some(*field));
            }
        }
    }

    fn list(&mut self, list: &[u32], region: &Ranges, mut held: Option<Field>) {
        for &rule in list {
            let (number, ranges) = &self.rules[rule as usize];
            let mut tests: Vec<(Field, Range)> =
                ranges.iter().filter(|(field, range)| !range.covers(&region.get(*field))).collect();
            if tests.is_empty() {
                return self.asm.ret(*number);
            }
            // What A holds already costs no load.
            tests.sort_by_key(|(field, _)| Some(*field) != held);
            let next = self.asm.label();
            let mut left = Vec::new();
            for (field, range) in tests {
                self.hold(field, held);
                held = Some(field);
                left.push(field);
                self.within(range, region.get(field), next);
            }
            self.asm.ret(*number);
            self.asm.here(next);
            held = Some(left[0]).filter(|first| left.iter().all(|field| field == first));
        }
        self.asm.ret(0);
    }

    fn hold(&mut self, field: Field, held: Option<Field>) {
        if held != Some(field) {
            self.asm.plain(op::LD | op::MEM, field.0.into());
        }
    }

    /// Whether A lies in a range, given that it lies in another.
    fn within(&mut self, range: Range, given: Range, no: Label) {
        if range.low == range.high {
            return self.asm.expect(op::JEQ, range.low, no);
        }
        if range.low > given.low {
            self.asm.expect(op::JGE, range.low, no);
        }
        if range.high < given.high {
            self.asm.leave_if(op::JGT, range.high, no);
        }
    }
}
