//! `tapline inline add`, `remove`, `list`, `reload`, `show` and `stop`: what is asked of a table that runs.

use crate::cli::{
    Format, InlineAdd, InlineCommand, InlineOf, InlineRemove, InlineStop, RunningInline,
};
use crate::completions::print;
use crate::failure::Failure;
use crate::local::{Instance, NewRule, Request, instances, pick};
use io::inline::PINS;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a process may take to end, with what waits for its files.
const END: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

pub fn run(command: &InlineCommand) -> Result<(), Failure> {
    let (request, RunningInline { of, format }) = match command {
        InlineCommand::Reload(options) => (Request::Reload, options),
        InlineCommand::Show(options) => (Request::Show, options),
        InlineCommand::Stop(options) => return stop(options),
        InlineCommand::Add(options) => return add(options),
        InlineCommand::Remove(InlineRemove { rules, of }) => {
            return edit(&Request::Remove { rules: rules.clone() }, of);
        }
        InlineCommand::List(options) => return list(&options.of),
    };
    let table = pick(instances(), "inline", of.as_deref())?;
    let answer = table.ask(&request).map_err(|error| {
        let on = if request == Request::Reload { "; it goes on as before" } else { "" };
        Failure::CouldNot(format!("inline {}: {error}{on}", table.pid))
    })?;
    let text = match (format, request) {
        (Format::Json, _) => format!("{answer}\n"),
        (Format::Text, Request::Show) => shown(&answer),
        (Format::Text, _) => changes(&answer["changes"]),
    };
    print(text.as_bytes())
}

fn add(options: &InlineAdd) -> Result<(), Failure> {
    let InlineAdd { forward, name, view, to, snapshot_length, of } = options;
    let rule = NewRule {
        forward: forward.to_string(),
        name: name.clone(),
        views: view.iter().map(|view| view.name().to_owned()).collect(),
        snapshot_length: *snapshot_length,
        to: to.clone(),
    };
    edit(&Request::Add(rule), of)
}

/// Has a table change its rules, and says which it has then.
fn edit(request: &Request, of: &InlineOf) -> Result<(), Failure> {
    let (table, name) = table_of(of.table.as_deref())?;
    let answer = table.ask(request).map_err(|error| {
        Failure::CouldNot(format!("table {name}: {error}; all goes on as before"))
    })?;
    let text = match of.format {
        Format::Json => format!("{answer}\n"),
        Format::Text => {
            let notes = answer["notes"].as_array().into_iter().flatten();
            let notes: String = notes.map(|note| format!("note: {}\n", text_of(note))).collect();
            changes(&answer["changes"]) + &notes + &rules(&answer)
        }
    };
    print(text.as_bytes())
}

fn list(of: &InlineOf) -> Result<(), Failure> {
    let (table, name) = table_of(of.table.as_deref())?;
    let shown = table.ask(&Request::Show);
    let shown = shown.map_err(|error| Failure::CouldNot(format!("table {name}: {error}")))?;
    let text = match of.format {
        Format::Json => format!("{}\n", json!({ "table": name, "rules": shown["rules"] })),
        Format::Text => rules(&shown),
    };
    print(text.as_bytes())
}

/// The process that runs a table, and the table's name; without one the only table that runs.
fn table_of(wanted: Option<&str>) -> Result<(Instance, String), Failure> {
    let found = instances().into_iter().filter(|instance| instance.command == "inline");
    let mut silent = None;
    let mut tables: Vec<(Instance, String)> = Vec::new();
    for instance in found {
        match instance.ask(&Request::Show) {
            Ok(shown) => {
                let name = shown["table"].as_str().unwrap_or_default().to_owned();
                tables.push((instance, name));
            }
            // One that has ended meanwhile is none.
            Err(error) if instances().contains(&instance) => {
                silent = Some(format!("inline {}: {error}", instance.pid));
            }
            Err(_) => {}
        }
    }
    the_one(tables, wanted, silent)
}

/// The table that is meant among those that answer; `silent` says of one that does not.
fn the_one<T>(
    mut tables: Vec<(T, String)>,
    wanted: Option<&str>,
    silent: Option<String>,
) -> Result<(T, String), Failure> {
    let names: Vec<String> = tables.iter().map(|(_, name)| name.clone()).collect();
    tables.retain(|(_, name)| wanted.is_none_or(|wanted| wanted == name));
    match (tables.len(), wanted, silent) {
        (0, _, Some(silent)) => Err(Failure::CouldNot(silent)),
        // The silent one could be meant as well.
        (_, None, Some(silent)) => Err(Failure::Usage(format!(
            "more than one table runs, and one does not answer ({silent}): say which is meant by --table: {}",
            names.join(", ")
        ))),
        (1, _, _) => Ok(tables.remove(0)),
        (0, Some(wanted), None) if !names.is_empty() => Err(Failure::CouldNot(format!(
            "table {wanted}: it does not run on this host; there is {}",
            names.join(", ")
        ))),
        (0, _, None) => Err(Failure::CouldNot("no tapline inline runs on this host".into())),
        (_, _, _) => Err(Failure::Usage(format!(
            "more than one table runs: say which by --table: {}",
            names.join(", ")
        ))),
    }
}

/// A line for each rule in force.
fn rules(answer: &Value) -> String {
    let mut text = String::new();
    let rules = answer["rules"].as_array().map_or(&[][..], Vec::as_slice);
    let _ = writeln!(text, "table {}: {} rules in force", text_of(&answer["table"]), rules.len());
    for rule in rules {
        let views = rule["views"].as_array().map_or(&[][..], Vec::as_slice);
        let views: Vec<String> = views.iter().map(text_of).collect();
        let captured = match views.is_empty() {
            true => String::new(),
            false => format!("; views {}", views.join(", ")),
        };
        let [name, forward, origin] = ["name", "forward", "origin"].map(|key| text_of(&rule[key]));
        let _ = writeln!(text, "rule {name}: {forward}{captured}; {origin}");
    }
    text
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Ends the process that runs a table, and takes away what it left in the kernel.
fn stop(options: &InlineStop) -> Result<(), Failure> {
    let table = &options.table;
    let runs = |instance: &Instance| {
        instance.ask(&Request::Show).is_ok_and(|shown| shown["table"] == table.as_str())
    };
    let found = instances().into_iter().filter(|instance| instance.command == "inline");
    let running = found.into_iter().find(runs);
    running.as_ref().map_or(Ok(()), end)?;
    let was_pinned = io::inline::stop(Path::new(PINS), table)?;
    match running.is_some() || was_pinned {
        true => print(format!("table {table}: stopped\n").as_bytes()),
        false => Err(Failure::CouldNot(format!("table {table}: it does not run on this host"))),
    }
}

/// Ends a process, and waits until it has.
fn end(instance: &Instance) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::CouldNot(format!("end process {}: {why}", instance.pid))
    };
    let pid = i32::try_from(instance.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| failed(&"it has no such number"))?;
    kill_process(pid, Signal::TERM).map_err(|error| failed(&error))?;
    let begun = Instant::now();
    // Its socket goes when all is written. It may have no parent that takes notice of its end.
    while instances().contains(instance) {
        if begun.elapsed() > END {
            return Err(failed(&"it was asked to, and takes longer than 10 s"));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn changes(values: &Value) -> String {
    let lines: Vec<&str> =
        values.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match lines.is_empty() {
        true => "nothing has changed\n".into(),
        false => lines.iter().map(|line| format!("{line}\n")).collect(),
    }
}

/// The table, a line for each rule, and one for each session.
fn shown(answer: &Value) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "table {}: from {} to {}, datapath {}, {} of {} sessions",
        text_of(&answer["table"]),
        text_of(&answer["in"]),
        text_of(&answer["out"]),
        text_of(&answer["datapath"]),
        answer["sessions"],
        answer["sessions_max"]
    );
    for rule in answer["rules"].as_array().into_iter().flatten() {
        let way = |name: &str| {
            let counts = &rule[name];
            let drops = counts["drops"].as_object().into_iter().flatten();
            let drops: String =
                drops.map(|(reason, packets)| format!(", {reason} {packets}")).collect();
            format!("{} of {}{drops}", counts["forwarded"], counts["seen"])
        };
        let _ = writeln!(
            text,
            "rule {}: {}; {} sessions; there {}; back {}",
            text_of(&rule["name"]),
            text_of(&rule["forward"]),
            rule["sessions"],
            way("there"),
            way("back")
        );
    }
    for session in answer["shown"].as_array().into_iter().flatten() {
        let packets = match (&session["packets_there"], &session["packets_back"]) {
            (Value::Null, _) => String::new(),
            (there, back) => format!(", {there} there, {back} back"),
        };
        let _ = writeln!(
            text,
            "session {} {}: {} -> {} | {} -> {}, {}{packets}",
            text_of(&session["rule"]),
            match session["protocol"].as_u64() {
                Some(6) => "tcp".into(),
                Some(17) => "udp".into(),
                Some(1 | 58) => "icmp".into(),
                _ => session["protocol"].to_string(),
            },
            text_of(&session["client"]),
            text_of(&session["address"]),
            text_of(&session["source"]),
            text_of(&session["next_host"]),
            text_of(&session["state"])
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_is_taken_for_the_only_one_beside_one_that_does_not_answer() {
        let tables = |names: &[&str]| names.iter().map(|name| ((), (*name).to_owned())).collect();
        let of = |names: &[&str], wanted: Option<&str>, silent: Option<&str>| {
            let found = the_one(tables(names), wanted, silent.map(str::to_owned));
            let said = |failure: Failure| failure.message().unwrap_or_default().to_owned();
            found.map(|(_, name)| name).map_err(said)
        };
        let silent = Some("inline 7: no answer");
        assert_eq!(of(&["a"], None, None), Ok("a".into()));
        assert_eq!(of(&["a"], Some("a"), silent), Ok("a".into()));
        assert_eq!(of(&["a", "b"], Some("b"), None), Ok("b".into()));
        let said = of(&["a"], None, silent).unwrap_err();
        assert!(said.contains("inline 7: no answer") && said.ends_with("by --table: a"), "{said}");
        assert_eq!(of(&[], None, silent), Err("inline 7: no answer".into()));
        assert_eq!(of(&["a"], Some("c"), silent), Err("inline 7: no answer".into()));
        assert!(of(&["a", "b"], None, None).unwrap_err().ends_with("by --table: a, b"));
        assert!(of(&["a"], Some("c"), None).unwrap_err().ends_with("there is a"));
        assert!(of(&[], None, None).unwrap_err().starts_with("no tapline inline runs"));
    }

    #[test]
    fn rules_and_sessions_are_shown_a_line_each() {
        let answer = json!({
            "table": "inline", "in": "eth0", "out": "eth1", "datapath": "ring",
            "sessions": 1, "sessions_max": 10,
            "rules": [{
                "name": "web", "forward": "192.0.2.1=10.0.0.5", "sessions": 1,
                "there": { "seen": 3, "forwarded": 2, "drops": { "ttl_exceeded": 1 } },
                "back": { "seen": 1, "forwarded": 1, "drops": {} },
            }],
            "shown": [{
                "rule": "web", "protocol": 6, "client": "192.0.2.9:1", "address": "192.0.2.1:80",
                "source": "10.0.0.1:1", "next_host": "10.0.0.5:80", "state": "established",
                "packets_there": 2, "packets_back": 1,
            }],
        });
        assert_eq!(
            shown(&answer),
            "table inline: from eth0 to eth1, datapath ring, 1 of 10 sessions\n\
             rule web: 192.0.2.1=10.0.0.5; 1 sessions; there 2 of 3, ttl_exceeded 1; back 1 of 1\n\
             session web tcp: 192.0.2.9:1 -> 192.0.2.1:80 | 10.0.0.1:1 -> 10.0.0.5:80, established, \
             2 there, 1 back\n"
        );
        let answer = json!({
            "table": "inline",
            "rules": [
                { "name": "web", "forward": "192.0.2.1=10.0.0.5", "views": [], "origin": "t.toml" },
                { "name": "b", "forward": "192.0.2.2=10.0.0.5", "views": ["ingress", "inline"], "origin": "added" },
            ],
        });
        assert_eq!(
            rules(&answer),
            "table inline: 2 rules in force\nrule web: 192.0.2.1=10.0.0.5; t.toml\n\
             rule b: 192.0.2.2=10.0.0.5; views ingress, inline; added\n"
        );
        assert_eq!(changes(&json!([])), "nothing has changed\n");
        assert_eq!(changes(&json!(["rule a: added"])), "rule a: added\n");
    }
}
