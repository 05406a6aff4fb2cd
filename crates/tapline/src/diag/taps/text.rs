//! The answer for readers.

use super::place::{Place, Program, Socket};
use super::{Answer, Counted, Elsewhere, Holder, Leftover};
use std::fmt::Write as _;

/// Said where there is nothing of ours.
const NOTHING: &str = "no tap of tapline is on this host's interfaces\n";
/// A packet socket that takes every packet.
const ALL_PACKETS: u16 = 3;

pub fn of(answer: &Answer) -> String {
    let mut text = String::new();
    if answer.places.is_empty() && answer.elsewhere.is_empty() {
        text += NOTHING;
    }
    let width = names(answer).map(str::len).max().unwrap_or(0);
    for place in &answer.places {
        put_place(&mut text, place, width);
    }
    if !answer.elsewhere.is_empty() {
        text += "in other network namespaces\n";
        for of in &answer.elsewhere {
            put_elsewhere(&mut text, of);
        }
    }
    for process in &answer.processes {
        put_process(&mut text, process);
    }
    if !answer.leftovers.is_empty() {
        text += "left behind\n";
        for Leftover { what, name, why, remove } in &answer.leftovers {
            let _ = writeln!(text, "  {what} {name}: {why}; to remove it: {remove}");
        }
    }
    text
}

/// The names in the column of names.
fn names(answer: &Answer) -> impl Iterator<Item = &str> {
    let programs = answer.places.iter().flat_map(|place| &place.programs);
    programs.map(|program| program.name.as_str())
}

fn put_place(text: &mut String, place: &Place, width: usize) {
    let _ = writeln!(text, "{}", place.interface);
    for program in &place.programs {
        let Program { way, hook, name, ours, program, link, processes } = program;
        let id = |what: &str, id: &Option<u32>| id.map(|id| format!("  {what} {id}"));
        let ids = [id("program", program), id("link", link)].into_iter().flatten();
        let ids: String = ids.collect();
        let mark = if *ours { "" } else { "  foreign" };
        let _ =
            writeln!(text, "  {way:7}  {hook:6}  {name:width$}{ids}{}{mark}", holders(processes));
    }
    for Socket { ours, protocol, processes } in &place.sockets {
        let what = match *protocol {
            ALL_PACKETS => "every packet".into(),
            other => format!("EtherType {other:#06x}"),
        };
        let mark = if *ours { "" } else { "  foreign" };
        let _ = writeln!(text, "  packet socket, {what}{}{mark}", holders(processes));
    }
}

fn put_elsewhere(text: &mut String, of: &Elsewhere) {
    let Elsewhere { interface_index, way, program, link, processes } = of;
    let interface = match interface_index {
        0 => "an interface that is gone".to_owned(),
        index => format!("interface {index}"),
    };
    let _ = writeln!(
        text,
        "  {interface}  {way:7}  tcx  program {program}  link {link}{}",
        holders(processes)
    );
}

fn put_process(text: &mut String, process: &Counted) {
    let _ = write!(text, "{} {}", process.command, process.pid);
    if let Some(name) = &process.name {
        let _ = write!(text, " {name}");
    }
    text.push('\n');
    let taps = process.taps.iter().map(ToString::to_string);
    for line in taps.chain(process.targets.iter().map(ToString::to_string)) {
        let _ = writeln!(text, "  {line}");
    }
}

fn holders(processes: &[Holder]) -> String {
    let held: Vec<String> =
        processes.iter().map(|process| format!("{} ({})", process.name, process.pid)).collect();
    match held.is_empty() {
        true => String::new(),
        false => format!("  by {}", held.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, link: Option<u32>, pid: Option<u32>) -> Program {
        let holder = |pid| Holder { pid, name: "tapline".into() };
        Program {
            way: "ingress",
            hook: if link.is_some() { "tcx" } else { "clsact" },
            name: name.into(),
            ours: name == "tapline",
            program: Some(7),
            link,
            processes: pid.map(holder).into_iter().collect(),
        }
    }

    #[test]
    fn everything_has_a_line() {
        let socket = Socket { ours: true, protocol: 3, processes: vec![] };
        let place = Place {
            interface: "eth0".into(),
            programs: vec![program("tapline", Some(12), Some(9)), program("policy", None, None)],
            sockets: vec![socket],
        };
        let elsewhere = Elsewhere {
            interface_index: 3,
            way: "egress",
            program: 8,
            link: 13,
            processes: vec![],
        };
        let tap = api::TapStats::new("eth0".into(), 5, 2, 3, api::Drops::default());
        let process = Counted {
            command: "mirror".into(),
            pid: 9,
            name: Some("east".into()),
            taps: vec![tap],
            targets: vec![],
        };
        let leftover = Leftover {
            what: "device",
            name: "tapline0".into(),
            why: "no process",
            remove: "ip link delete tapline0".into(),
        };
        let answer = Answer {
            places: vec![place],
            elsewhere: vec![elsewhere],
            processes: vec![process],
            leftovers: vec![leftover],
        };
        let wanted = "\
eth0
  ingress  tcx     tapline  program 7  link 12  by tapline (9)
  ingress  clsact  policy   program 7  foreign
  packet socket, every packet
in other network namespaces
  interface 3  egress   tcx  program 8  link 13
mirror 9 east
  tap eth0: seen 5, filtered 2, matched 3, dropped 0, 0 unaccounted
left behind
  device tapline0: no process; to remove it: ip link delete tapline0
";
        assert_eq!(of(&answer), wanted);
        let kinds: Vec<String> = answer
            .json()
            .unwrap()
            .lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].to_string()
            })
            .collect();
        let wanted = ["program", "program", "socket", "elsewhere", "process", "leftover"];
        assert_eq!(kinds, wanted.map(|kind| format!("\"{kind}\"")));
        let nothing =
            Answer { places: vec![], elsewhere: vec![], processes: vec![], leftovers: vec![] };
        assert_eq!(of(&nothing), NOTHING);
    }
}
