//! `tapline diag taps`: what is attached where, by whom, with the counters of those that run; and what
//! was left behind. Nothing is changed.
//!
//! Programs and filters are asked of each interface, sockets of the namespace, and who holds them of
//! /proc: so it is also told what belongs to no process that answers.

mod left;
mod place;
mod text;

use crate::cli::{DiagTaps, Format};
use crate::completions::print;
use crate::failure::Failure;
use crate::local::instances;
use crate::session::say;
use api::{TapStats, TargetStats};
use io::bpf::list::{TcxLink, tcx_links};
use io::host::{Holders, Process};
use left::Leftover;
use place::Place;
use serde::Serialize;
use std::collections::BTreeSet;

/// All that is told.
struct Answer {
    places: Vec<Place>,
    elsewhere: Vec<Elsewhere>,
    processes: Vec<Counted>,
    leftovers: Vec<Leftover>,
}

/// A program of ours on an interface of another network namespace.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Elsewhere {
    interface_index: i32,
    way: &'static str,
    program: u32,
    link: u32,
    processes: Vec<Holder>,
}

/// A tapline that runs, and what it has counted.
#[derive(Debug, Serialize)]
struct Counted {
    command: String,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    taps: Vec<TapStats>,
    targets: Vec<TargetStats>,
}

/// A process that holds something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Holder {
    pid: u32,
    name: String,
}

/// Who is who.
struct People {
    holders: Holders,
    /// The processes that answer as taplines.
    ours: BTreeSet<u32>,
}

/// A line of JSON.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Program {
        interface: &'a str,
        #[serde(flatten)]
        program: &'a place::Program,
    },
    Socket {
        interface: &'a str,
        #[serde(flatten)]
        socket: &'a place::Socket,
    },
    Elsewhere(&'a Elsewhere),
    Process(&'a Counted),
    Leftover(&'a Leftover),
}

pub fn run(options: &DiagTaps) -> Result<(), Failure> {
    let processes = counted();
    let ours = processes.iter().map(|process| process.pid).collect();
    let people = People { holders: Holders::look(), ours };
    let places = place::all(&options.interface, &people)?;
    let links = match tcx_links() {
        Ok(links) => links,
        Err(error) => {
            say(&format!("tapline: other network namespaces are left out: {error}\n"));
            Vec::new()
        }
    };
    let elsewhere = elsewhere(&links, &places, &people);
    let leftovers = left::all(&places, &people)?;
    let answer = Answer { places, elsewhere, processes, leftovers };
    let text = match options.format {
        Format::Text => text::of(&answer),
        Format::Json => answer.json().map_err(|e| Failure::CouldNot(format!("write JSON: {e}")))?,
    };
    print(text.as_bytes())
}

/// The taplines that run, those that do not answer left out.
fn counted() -> Vec<Counted> {
    let ask = |instance: crate::local::Instance| match instance.status() {
        Ok(status) => Some(Counted {
            command: status.command,
            pid: status.pid,
            name: status.name,
            taps: status.stats.taps,
            targets: status.stats.targets,
        }),
        Err(error) => {
            say(&format!("tapline: {} {}: {error}\n", instance.command, instance.pid));
            None
        }
    };
    instances().into_iter().filter_map(ask).collect()
}

/// The links of ours that no place has.
fn elsewhere(links: &[TcxLink], places: &[Place], people: &People) -> Vec<Elsewhere> {
    let known: BTreeSet<u32> = places
        .iter()
        .flat_map(|place| &place.programs)
        .filter_map(|program| program.link)
        .collect();
    let others = links.iter().filter(|link| link.is_ours() && !known.contains(&link.id));
    others
        .map(|link| Elsewhere {
            interface_index: link.interface_index,
            way: link.way.name(),
            program: link.program,
            link: link.id,
            processes: people.named(people.holders.of_link(link.id)),
        })
        .collect()
}

impl People {
    fn named(&self, processes: &[Process]) -> Vec<Holder> {
        let named = processes.iter();
        named.map(|process| Holder { pid: process.pid, name: process.name.clone() }).collect()
    }

    /// Whether one of them is a tapline.
    fn has_ours(&self, processes: &[Holder]) -> bool {
        processes
            .iter()
            .any(|process| process.name == "tapline" || self.ours.contains(&process.pid))
    }
}

impl Answer {
    fn json(&self) -> serde_json::Result<String> {
        let places = self.places.iter().flat_map(|place| {
            let interface = place.interface.as_str();
            let programs =
                place.programs.iter().map(move |program| Line::Program { interface, program });
            let sockets =
                place.sockets.iter().map(move |socket| Line::Socket { interface, socket });
            programs.chain(sockets)
        });
        let lines = places
            .chain(self.elsewhere.iter().map(Line::Elsewhere))
            .chain(self.processes.iter().map(Line::Process))
            .chain(self.leftovers.iter().map(Line::Leftover));
        lines.map(|line| Ok(serde_json::to_string(&line)? + "\n")).collect()
    }
}
