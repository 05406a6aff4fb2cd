//! `tapline filter explain`: the program that a filter becomes.

use super::{Chosen, Programs};
use crate::cli::{FilterExplain, Format};
use crate::completions::print;
use crate::failure::Failure;
use ::filter::Program;
use api::DirectionChoice;
use serde_json::{Value, json};

pub fn run(options: &FilterExplain) -> Result<(), Failure> {
    let chosen = Chosen::new(&options.choice)?;
    let programs = chosen.programs(options.link_type)?;
    let text = match (options.ebpf, options.format) {
        (true, format) => {
            let filter = chosen
                .socket_filter(&programs, options.link_type)
                .map_err(|error| Failure::CouldNot(error.to_string()))?;
            let listing = filter.code.to_string();
            match format {
                Format::Text => listing,
                Format::Json => {
                    let json = json!({
                        "link_type": options.link_type.to_string(),
                        "ebpf_instructions": filter.code.slots(),
                        "listing": lines(&listing),
                    });
                    format!("{json}\n")
                }
            }
        }
        (false, Format::Json) => {
            let programs: Vec<Value> = of_direction(&programs, options.direction)
                .into_iter()
                .map(|(direction, program)| as_json(direction, program))
                .collect();
            let json = json!({"link_type": options.link_type.to_string(), "programs": programs});
            format!("{json}\n")
        }
        (false, Format::Text) => listings(&programs, options)?,
    };
    print(text.as_bytes())
}

/// The programs of the directions that were asked for, with their names.
fn of_direction(programs: &Programs, choice: DirectionChoice) -> Vec<(&'static str, &Program)> {
    let mut all = programs.by_direction();
    all.retain(|(direction, _)| match choice {
        DirectionChoice::Both => true,
        DirectionChoice::In => *direction != "out",
        DirectionChoice::Out => *direction != "in",
    });
    all
}

fn listings(programs: &Programs, options: &FilterExplain) -> Result<String, Failure> {
    let programs = of_direction(programs, options.direction);
    match (programs.as_slice(), options.decimal) {
        ([(_, program)], true) => Ok(program.decimal().to_string()),
        ([(_, program)], false) => Ok(program.to_string()),
        (_, true) => Err(Failure::Usage(
            "received and sent packets have programs of their own here; choose one of them with -Q \
             in or -Q out"
                .into(),
        )),
        (programs, false) => {
            let titled = |(direction, program): &(&str, &Program)| match *direction {
                "in" => format!("received packets:\n{program}"),
                _ => format!("sent packets:\n{program}"),
            };
            Ok(programs.iter().map(titled).collect::<Vec<_>>().join("\n"))
        }
    }
}

fn as_json(direction: &str, program: &Program) -> Value {
    let raw: Vec<[u32; 4]> = program
        .instructions()
        .iter()
        .map(|i| [i.code.into(), i.jt.into(), i.jf.into(), i.k])
        .collect();
    json!({
        "direction": direction,
        "instructions": raw,
        "listing": lines(&program.to_string()),
    })
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}
