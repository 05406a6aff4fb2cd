//! `tapline filter`: what a capture filter is, what it becomes, and what it does to a file.

mod check;
mod explain;
mod test;

use crate::cli::{FilterChoice, FilterCommand};
use crate::failure::Failure;
use crate::opened::filter_config;
use ::filter::ebpf::{self, Decides, SocketFilter, SocketFilterOptions, Verdicts};
use ::filter::{Direction, Program, Rules};
use api::FilterConfig;
use wire::LinkType;

pub fn run(command: FilterCommand) -> Result<(), Failure> {
    match command {
        FilterCommand::Check(options) => check::run(&options),
        FilterCommand::Explain(options) => explain::run(&options),
        FilterCommand::Test(options) => test::run(&options),
    }
}

/// A filter and what to call it.
struct Chosen {
    name: String,
    language: Language,
}

enum Language {
    Expression(String),
    Rules(Rules),
}

/// A filter's programs for a link type.
struct Programs {
    received: Program,
    sent: Program,
    /// For packets of files that do not say which way they went.
    unknown: Program,
}

impl Chosen {
    fn new(choice: &FilterChoice) -> Result<Chosen, Failure> {
        Ok(match (&choice.rules, filter_config(choice.rules.as_deref(), &choice.expression)?) {
            (Some(path), FilterConfig::Rules(rules)) => {
                Chosen { name: path.display().to_string(), language: Language::Rules(rules) }
            }
            _ => {
                let expression = choice.expression.join(" ");
                Chosen {
                    name: format!("`{expression}`"),
                    language: Language::Expression(expression),
                }
            }
        })
    }

    fn rules(&self) -> Option<&Rules> {
        match &self.language {
            Language::Rules(rules) => Some(rules),
            Language::Expression(_) => None,
        }
    }

    fn programs(&self, link_type: LinkType) -> Result<Programs, Failure> {
        match &self.language {
            Language::Expression(expression) => {
                let program = io::libpcap::compile(expression, link_type, 0)
                    .map_err(|error| Failure::Usage(error.to_string()))?;
                Ok(Programs { received: program.clone(), sent: program.clone(), unknown: program })
            }
            Language::Rules(rules) => {
                let compile = |direction| {
                    let program = rules.compile(link_type, direction);
                    program.map_err(|error| Failure::Usage(format!("{}: {error}", self.name)))
                };
                Ok(Programs {
                    received: compile(Direction::In)?,
                    sent: compile(Direction::Out)?,
                    unknown: compile(Direction::Unknown)?,
                })
            }
        }
    }

    fn verdicts(&self) -> Verdicts<'_> {
        self.rules().map_or(Verdicts::Expression, Verdicts::Rules)
    }

    /// How much of a link type's frames the kernel can decide with these programs.
    fn decides(&self, programs: &Programs, link_type: LinkType) -> Decides {
        self.verdicts().decides(&programs.received, &programs.sent, link_type)
    }

    /// The program that the kernel would run on an interface's ring.
    fn socket_filter(
        &self,
        programs: &Programs,
        link_type: LinkType,
    ) -> Result<SocketFilter, ebpf::Error> {
        ebpf::socket_filter(&SocketFilterOptions {
            link_type,
            received: &programs.received,
            sent: &programs.sent,
            verdicts: self.verdicts(),
            scope: self.decides(programs, link_type).scope()?,
        })
    }
}

impl Programs {
    fn of(&self, direction: Direction) -> &Program {
        match direction {
            Direction::In => &self.received,
            Direction::Out => &self.sent,
            Direction::Unknown => &self.unknown,
        }
    }

    /// The programs of live packets, with the directions that they are for: one if they are equal.
    fn by_direction(&self) -> Vec<(&'static str, &Program)> {
        match self.received == self.sent {
            true => vec![("both", &self.received)],
            false => vec![("in", &self.received), ("out", &self.sent)],
        }
    }
}
