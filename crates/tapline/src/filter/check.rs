//! `tapline filter check`: what a filter is, and whether the kernel takes it.

use super::{Chosen, Programs};
use crate::cli::{FilterCheck, Format};
use crate::completions::print;
use crate::failure::Failure;
use ::filter::ebpf::Decides;
use ::filter::{Action, SHADOW_RULES_MAX, Shadow};
use io::bpf::LoadedFilter;
use serde::Serialize;
use std::fmt::Write;
use wire::LinkType;

/// What is said of a filter.
#[derive(Serialize)]
struct Finding {
    filter: String,
    language: &'static str,
    /// How many rules there are, and what they say; null for an expression.
    rules: Option<usize>,
    include: Option<usize>,
    exclude: Option<usize>,
    link_type: String,
    programs: Vec<Size>,
    kernel: Kernel,
    /// Rules that never decide.
    shadowed: Vec<Shadowed>,
}

/// How long a program is.
#[derive(Serialize)]
struct Size {
    direction: &'static str,
    instructions: usize,
}

/// What the kernel makes of a filter.
#[derive(Serialize)]
struct Kernel {
    /// `everything`, `whole_frames` (super-packets are decided in user space), `nothing`.
    decides: &'static str,
    ebpf_instructions: Option<usize>,
    /// Whether it was loaded for a try; null: this process may not load programs.
    loads: Option<bool>,
    /// Why it does not run there, or was not tried.
    reason: Option<String>,
}

#[derive(Serialize)]
struct Shadowed {
    rule: u32,
    /// The rule that hides it alone; null: several do.
    by: Option<u32>,
    text: String,
}

pub fn run(options: &FilterCheck) -> Result<(), Failure> {
    let chosen = Chosen::new(&options.choice)?;
    let finding = Finding::of(&chosen, options.link_type)?;
    let text = match options.format {
        Format::Json => {
            serde_json::to_string(&finding)
                .map_err(|error| Failure::CouldNot(format!("write JSON: {error}")))?
                + "\n"
        }
        Format::Text => finding.to_text(),
    };
    print(text.as_bytes())
}

impl Finding {
    fn of(chosen: &Chosen, link_type: LinkType) -> Result<Finding, Failure> {
        let programs = chosen.programs(link_type)?;
        let sizes = programs.by_direction().into_iter().map(|(direction, program)| Size {
            direction,
            instructions: program.instructions().len(),
        });
        let rules = chosen.rules();
        let count = |action| {
            rules.map(|rules| rules.as_slice().iter().filter(|rule| rule.action == action).count())
        };
        let shadowed = |shadow: Shadow| Shadowed {
            rule: shadow.number,
            by: shadow.by,
            text: rules
                .and_then(|rules| rules.as_slice().get(shadow.number as usize - 1))
                .map_or(String::new(), ToString::to_string),
        };
        Ok(Finding {
            filter: chosen.name.clone(),
            language: if rules.is_some() { "rules" } else { "expression" },
            rules: rules.map(|rules| rules.as_slice().len()),
            include: count(Action::Include),
            exclude: count(Action::Exclude),
            link_type: link_type.to_string(),
            programs: sizes.collect(),
            kernel: Kernel::of(chosen, &programs, link_type),
            shadowed: rules
                .map(|rules| rules.shadows().into_iter().map(shadowed).collect())
                .unwrap_or_default(),
        })
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |what: std::fmt::Arguments<'_>| {
            text.write_fmt(what).expect("writing to memory cannot fail");
            text.push('\n');
        };
        match (self.rules, self.include, self.exclude) {
            (Some(rules), Some(include), Some(exclude)) => {
                let plural = if rules == 1 { "" } else { "s" };
                line(format_args!(
                    "{}: {rules} rule{plural}, {include} include, {exclude} exclude",
                    self.filter
                ));
            }
            _ => line(format_args!("{}: a pcap-filter expression", self.filter)),
        }
        for Size { direction, instructions } in &self.programs {
            let packets = match *direction {
                "in" => "received packets",
                "out" => "sent packets",
                _ => "both directions",
            };
            line(format_args!(
                "program for {}, {packets}: {instructions} instructions",
                self.link_type
            ));
        }
        let Kernel { decides, ebpf_instructions, loads, reason } = &self.kernel;
        let super_packets = match *decides {
            "whole_frames" => "; super-packets are decided in user space",
            _ => ", super-packets too",
        };
        let length = ebpf_instructions.map_or(String::new(), |n| format!("{n} eBPF instructions"));
        let reason = reason.as_deref().unwrap_or_default();
        match loads {
            Some(true) => line(format_args!("kernel: takes it, {length}{super_packets}")),
            Some(false) => line(format_args!("kernel: does not take it: {reason}")),
            None => {
                line(format_args!(
                    "kernel: can run it, {length}{super_packets}; not tried: {reason}"
                ));
            }
        }
        for Shadowed { rule, by, text } in &self.shadowed {
            let by = match by {
                Some(by) => format!("rule {by} matches"),
                None => "rules before it match".to_owned(),
            };
            line(format_args!("rule {rule} never decides, as {by} all of it: {text}"));
        }
        if self.rules.is_some_and(|rules| rules > SHADOW_RULES_MAX) {
            line(format_args!(
                "whether rules behind rule {SHADOW_RULES_MAX} ever decide was not looked at"
            ));
        }
        text
    }
}

impl Kernel {
    fn of(chosen: &Chosen, programs: &Programs, link_type: LinkType) -> Kernel {
        let decides = match chosen.decides(programs, link_type) {
            Decides::Everything => "everything",
            Decides::WholeFrames => "whole_frames",
            Decides::Nothing(_) => "nothing",
        };
        let filter = match chosen.socket_filter(programs, link_type) {
            Ok(filter) => filter,
            Err(error) => {
                let reason = Some(error.to_string());
                return Kernel {
                    decides: "nothing",
                    ebpf_instructions: None,
                    loads: Some(false),
                    reason,
                };
            }
        };
        let (loads, reason) = match LoadedFilter::load(&filter) {
            Ok(_) => (Some(true), None),
            Err(io::Error::System { source, .. })
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                (None, Some("this process may not load programs; root may".to_owned()))
            }
            Err(error) => (Some(false), Some(error.to_string())),
        };
        Kernel { decides, ebpf_instructions: Some(filter.code.slots()), loads, reason }
    }
}
