//! The capture filter as a stage: which packets of a batch go on.

mod kernel;
mod mirror;

pub use mirror::{Late, MirrorFilter};

use ::filter::{Action, Program, Rules};
use api::DirectionChoice;
use io::{Direction, Packet};
use wire::LinkType;

/// Compiles an expression for a link type.
type Compile = Box<dyn Fn(LinkType) -> Result<Program, String> + Send>;

/// A choice of direction, and an expression or rules, compiled once for each link type that comes
/// along.
pub struct CaptureFilter {
    direction: DirectionChoice,
    language: Language,
    /// `None`: the filter has no meaning for this link type, and matches nothing of it.
    programs: Vec<(LinkType, Option<Programs>)>,
    /// How often each rule decided here.
    rule_hits: Vec<u64>,
}

/// What a filter is written in.
enum Language {
    /// Nothing: it matches everything.
    All,
    Expression(Compile),
    Rules(Rules),
}

/// The programs of a link type, by direction.
struct Programs {
    received: Program,
    /// Those of packets that were sent, and of those that may be either, if they are others.
    sent_and_unknown: Option<Box<[Program; 2]>>,
}

impl CaptureFilter {
    /// A filter that keeps every packet of a direction.
    pub fn all(direction: DirectionChoice) -> CaptureFilter {
        CaptureFilter::new(direction, Language::All)
    }

    /// A filter that keeps what an expression matches. `compile` gives the program for a link
    /// type; it is called once for each of `link_types` now, and when another one comes along.
    ///
    /// # Errors
    /// What `compile` says of the first of `link_types` that it refuses.
    pub fn expression(
        direction: DirectionChoice,
        link_types: &[LinkType],
        compile: Compile,
    ) -> Result<CaptureFilter, String> {
        CaptureFilter::new(direction, Language::Expression(compile)).compiled(link_types)
    }

    /// A filter that keeps what rules include, and counts how often each rule decides.
    ///
    /// # Errors
    /// The rules have no program for one of `link_types`.
    pub fn rules(
        direction: DirectionChoice,
        link_types: &[LinkType],
        rules: Rules,
    ) -> Result<CaptureFilter, String> {
        CaptureFilter::new(direction, Language::Rules(rules)).compiled(link_types)
    }

    fn new(direction: DirectionChoice, language: Language) -> CaptureFilter {
        let rules = match &language {
            Language::Rules(rules) => rules.as_slice().len(),
            _ => 0,
        };
        CaptureFilter { direction, language, programs: Vec::new(), rule_hits: vec![0; rules] }
    }

    fn compiled(mut self, link_types: &[LinkType]) -> Result<CaptureFilter, String> {
        for &link_type in link_types {
            let programs = self.language.compile(link_type)?;
            self.programs.push((link_type, Some(programs)));
        }
        Ok(self)
    }

    /// Whether it keeps every packet.
    pub fn takes_all(&self) -> bool {
        self.direction == DirectionChoice::Both && matches!(self.language, Language::All)
    }

    /// Whether a packet goes on; the rule that decides is counted. A packet of unknown direction is
    /// of either.
    #[inline]
    pub fn keeps(&mut self, packet: &Packet) -> bool {
        let direction = match self.direction {
            DirectionChoice::Both => true,
            DirectionChoice::In => packet.meta.direction != Direction::Out,
            DirectionChoice::Out => packet.meta.direction != Direction::In,
        };
        direction && (matches!(self.language, Language::All) || self.matches(packet))
    }

    /// How often each rule decided here, in the order of the rules; none for an expression.
    pub fn rule_hits(&self) -> &[u64] {
        &self.rule_hits
    }

    fn matches(&mut self, packet: &Packet) -> bool {
        let link_type = packet.meta.link_type;
        let known = self.programs.iter().position(|(of, _)| *of == link_type);
        let place = known.unwrap_or_else(|| self.compile_for(link_type));
        let Some(programs) = &self.programs[place].1 else {
            return false;
        };
        let program = programs.of(packet.meta.direction);
        match &self.language {
            // Rules ask for the bytes that are there.
            Language::Rules(rules) => {
                let number = program.run(&packet.data, packet.data.len() as u32);
                let Some(action) = rules.action(number) else {
                    return false;
                };
                self.rule_hits[number as usize - 1] += 1;
                action == Action::Include
            }
            _ => program.matches(&packet.data, packet.meta.origlen),
        }
    }

    #[cold]
    fn compile_for(&mut self, link_type: LinkType) -> usize {
        let programs = match self.language.compile(link_type) {
            Ok(programs) => Some(programs),
            Err(error) => {
                tracing::warn!("packets of link type {link_type} do not match: {error}");
                None
            }
        };
        self.programs.push((link_type, programs));
        self.programs.len() - 1
    }
}

impl Language {
    fn compile(&self, link_type: LinkType) -> Result<Programs, String> {
        match self {
            Language::All => Ok(Programs::alike(Program::constant(1))),
            Language::Expression(compile) => compile(link_type).map(Programs::alike),
            Language::Rules(rules) => {
                let compile = |direction| {
                    rules.compile(link_type, direction).map_err(|error| error.to_string())
                };
                let received = compile(Direction::In)?;
                if rules.as_slice().iter().all(|rule| rule.direction.is_none()) {
                    return Ok(Programs::alike(received));
                }
                let others = [compile(Direction::Out)?, compile(Direction::Unknown)?];
                Ok(Programs { received, sent_and_unknown: Some(Box::new(others)) })
            }
        }
    }
}

impl Programs {
    /// One program for every direction.
    fn alike(program: Program) -> Programs {
        Programs { received: program, sent_and_unknown: None }
    }

    #[inline]
    fn of(&self, direction: Direction) -> &Program {
        match (&self.sent_and_unknown, direction) {
            (None, _) | (_, Direction::In) => &self.received,
            (Some(others), Direction::Out) => &others[0],
            (Some(others), Direction::Unknown) => &others[1],
        }
    }
}
