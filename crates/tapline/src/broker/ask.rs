//! `tapline broker reload` and `tapline broker show`: what is asked of a broker that runs.

use crate::cli::{BrokerCommand, Format, RunningBroker};
use crate::completions::print;
use crate::failure::Failure;
use crate::local::{Request, instances, pick};
use api::Stats;
use serde_json::Value;
use std::fmt::Write;

pub fn run(command: &BrokerCommand) -> Result<(), Failure> {
    let (request, RunningBroker { of, format }) = match command {
        BrokerCommand::Reload(options) => (Request::Reload, options),
        BrokerCommand::Show(options) => (Request::Show, options),
    };
    let broker = pick(instances(), "broker", of.as_deref())?;
    let answer = broker.ask(&request).map_err(|error| {
        let on = if request == Request::Reload { "; it goes on as before" } else { "" };
        Failure::CouldNot(format!("broker {}: {error}{on}", broker.pid))
    })?;
    let text = match (format, request) {
        (Format::Json, _) => format!("{answer}\n"),
        (Format::Text, Request::Show) => shown(&answer),
        (Format::Text, _) => list(&answer["changes"], "nothing has changed"),
    };
    print(text.as_bytes())
}

/// The parts of a comparison, each under its name.
fn shown(answer: &Value) -> String {
    let mut text = String::new();
    let wanted = &answer["wanted"];
    text += "wanted:\n";
    match wanted.get("error").and_then(Value::as_str) {
        Some(error) => {
            let _ = writeln!(text, "  {error}");
        }
        None => text += &indented(&list(&wanted["ways"], "what the command line said")),
    }
    text += "observed:\n";
    text += &indented(&list(&answer["observed"]["ways"], "nothing"));
    match serde_json::from_value::<Stats>(answer["observed"]["stats"].clone()) {
        Ok(stats) => text += &indented(&stats.to_string()),
        Err(_) => text += "  its worker has not answered in time\n",
    }
    text += "plan:\n";
    text + &indented(&list(&answer["plan"], "nothing to do"))
}

/// A line for each text of a list; `none` if it is empty.
fn list(values: &Value, none: &str) -> String {
    let lines: Vec<&str> =
        values.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match lines.is_empty() {
        true => format!("{none}\n"),
        false => lines.iter().map(|line| format!("{line}\n")).collect(),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_comparison_is_shown_in_three_parts() {
        let stats = Stats::new(Vec::new(), Vec::new(), Vec::new());
        let answer = json!({
            "wanted": { "ways": ["left -> map a -> ids (null:)"] },
            "observed": { "ways": ["left -> map b -> ids (null:)"], "stats": stats },
            "plan": ["map a: added", "map b: removed"],
        });
        assert_eq!(
            shown(&answer),
            "wanted:\n  left -> map a -> ids (null:)\n\
             observed:\n  left -> map b -> ids (null:)\n\
             plan:\n  map a: added\n  map b: removed\n"
        );
        let answer = json!({ "wanted": { "error": "b.toml:3: no" }, "observed": { "ways": [] } });
        let shown = shown(&answer);
        assert!(shown.starts_with("wanted:\n  b.toml:3: no\nobserved:\n  nothing\n"), "{shown}");
        assert!(shown.ends_with("has not answered in time\nplan:\n  nothing to do\n"), "{shown}");
    }
}
