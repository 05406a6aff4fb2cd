//! What a table becomes when it is edited while it runs: rules that are added and removed, and what a
//! reload makes of them.
//!
//! A rule that was added stays until it is removed or the process ends. A reload puts the file's rules of
//! now into the place of the file's rules of before, and leaves added ones alone; one that the file has
//! come to say alike is the file's from then on.

use super::place_views;
use crate::cli::Inline;
use crate::failure::Failure;
use crate::local::NewRule;
use api::{Group, InlineConfig, InlineRule, InlineView, snapshot_length};
use serde_json::{Value, json};

/// The rules that were added while the table runs, in the order in which they came.
#[derive(Debug, Default)]
pub struct Added(Vec<InlineRule>);

impl Added {
    /// Notes one more.
    pub fn note(&mut self, rule: InlineRule) {
        self.0.push(rule);
    }

    /// Forgets those that a table has no more.
    pub fn keep(&mut self, config: &InlineConfig) {
        self.0.retain(|added| config.rules.contains(added));
    }

    /// Whether a rule is one of them.
    pub fn has(&self, rule: &InlineRule) -> bool {
        self.0.contains(rule)
    }

    /// What a reload makes of the file's table of now; and which of the added rules are still beside it.
    ///
    /// # Errors
    /// [`Failure::Usage`] if an added rule and one of the file cannot stand together.
    pub fn beside(&self, file: InlineConfig) -> Result<(InlineConfig, Added), Failure> {
        let beside: Vec<InlineRule> =
            self.0.iter().filter(|added| !file.rules.contains(added)).cloned().collect();
        let mut wanted = file;
        wanted.rules.extend(beside.iter().cloned());
        match (wanted.check(), beside.is_empty()) {
            (Ok(()), _) => Ok((wanted, Added(beside))),
            (Err(error), true) => Err(Failure::Usage(error.to_string())),
            (Err(error), false) => Err(Failure::Usage(format!(
                "the file, with the rules that were added while the table runs: {error} (`tapline inline \
                 list` says which were added)"
            ))),
        }
    }
}

/// The rule that a client wants, with all places that its views go to.
pub fn rule_of(new: &NewRule, options: &Inline) -> Result<InlineRule, Failure> {
    let usage = |error: api::Error| Failure::Usage(error.to_string());
    let mut rule: InlineRule = new.forward.parse().map_err(usage)?;
    if let Some(name) = &new.name {
        rule = rule.named(name).map_err(usage)?;
    }
    let views = new.views.iter().map(|view| {
        let wrong = |mend| Failure::Usage(format!("view `{view}`: {mend}"));
        view.parse::<InlineView>().map_err(wrong)
    });
    rule.views = views.collect::<Result<_, _>>()?;
    let to = new.to.iter().map(|group| group.parse::<Group>());
    rule.to = to.collect::<Result<_, _>>().map_err(usage)?;
    if rule.views.is_empty() && !rule.to.is_empty() {
        rule.views.push(InlineView::Inline);
    }
    rule.views.sort_unstable();
    rule.views.dedup();
    rule.snapshot_length = snapshot_length(new.snapshot_length).map_err(|mend| {
        Failure::Usage(format!("snapshot length {}: {mend}", new.snapshot_length))
    })?;
    place_views(&mut rule, options)?;
    Ok(rule)
}

/// A table with one more rule.
///
/// # Errors
/// [`Failure::Usage`] if it and another one cannot stand together.
pub fn with(config: &InlineConfig, rule: InlineRule) -> Result<InlineConfig, Failure> {
    let mut wanted = config.clone();
    wanted.rules.push(rule);
    wanted.check().map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(wanted)
}

/// A table without some of its rules.
///
/// # Errors
/// [`Failure::Usage`] if it has not all of them.
pub fn without(config: &InlineConfig, names: &[String]) -> Result<InlineConfig, Failure> {
    let is_there = |name: &String| config.rules.iter().any(|rule| rule.name == *name);
    if let Some(unknown) = names.iter().find(|name| !is_there(name)) {
        let known: Vec<&str> = config.rules.iter().map(|rule| rule.name.as_str()).collect();
        let known = match known.is_empty() {
            true => "it has none".to_owned(),
            false => format!("there is {}", known.join(", ")),
        };
        let table = &config.name;
        return Err(Failure::Usage(format!("table {table} has no rule `{unknown}`; {known}")));
    }
    let mut wanted = config.clone();
    wanted.rules.retain(|rule| !names.contains(&rule.name));
    Ok(wanted)
}

/// Where the rules of a table come from, in their order: `origin` is the file, or the command line.
pub fn in_force(config: &InlineConfig, added: &Added, origin: &str) -> Vec<Value> {
    let rules = config.rules.iter().map(|rule| {
        json!({
            "name": rule.name,
            "forward": rule.to_string(),
            "views": rule.views.iter().map(|view| view.name()).collect::<Vec<_>>(),
            "origin": if added.has(rule) { "added" } else { origin },
        })
    });
    rules.collect()
}

/// A line for each thing that is different.
pub fn changes(old: &InlineConfig, new: &InlineConfig) -> Vec<String> {
    let mut changes = Vec::new();
    for rule in &new.rules {
        match old.rules.iter().find(|known| known.name == rule.name) {
            None => changes.push(format!("rule {}: added", rule.name)),
            Some(known) if known != rule => changes.push(format!("rule {}: changed", rule.name)),
            Some(_) => {}
        }
    }
    for rule in &old.rules {
        if !new.rules.iter().any(|kept| kept.name == rule.name) {
            changes.push(format!("rule {}: removed", rule.name));
        }
    }
    if old.timeouts != new.timeouts {
        changes.push("timeouts: changed".into());
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::InlineFail;

    fn rule(text: &str) -> InlineRule {
        text.parse().unwrap()
    }

    fn table(rules: &[&str]) -> InlineConfig {
        InlineConfig {
            name: "inline".into(),
            ingress: "a".into(),
            egress: "b".into(),
            fail: InlineFail::Open,
            sessions: 10,
            timeouts: api::InlineTimeouts::default(),
            rules: rules.iter().map(|text| rule(text)).collect(),
        }
    }

    fn refused<T>(result: Result<T, Failure>) -> String {
        match result {
            Err(Failure::Usage(said)) => said,
            _ => panic!("it cannot be"),
        }
    }

    const WEB: &str = "tcp://192.0.2.1:80=10.0.0.5";
    const SSH: &str = "tcp://192.0.2.1:22=10.0.0.6";

    #[test]
    fn a_conflict_names_both_rules() {
        let old = table(&[WEB]);
        let other = rule("tcp://192.0.2.1:80=10.0.0.7").named("other").unwrap();
        let said = refused(with(&old, other));
        assert!(said.contains("`other`") && said.contains("`tcp://192.0.2.1:80`"), "{said}");
        let same_name = rule(SSH).named("tcp://192.0.2.1:80").unwrap();
        let said = refused(with(&old, same_name));
        assert!(said.contains(WEB) && said.contains(SSH), "{said}");
        assert_eq!(
            changes(&old, &with(&old, rule(SSH)).unwrap()),
            ["rule tcp://192.0.2.1:22: added"]
        );
    }

    #[test]
    fn a_reload_leaves_what_was_added_alone() {
        let mut added = Added::default();
        added.note(rule(SSH));
        let (wanted, beside) = added.beside(table(&["192.0.2.9=10.0.0.9"])).unwrap();
        assert_eq!(wanted.rules, [rule("192.0.2.9=10.0.0.9"), rule(SSH)]);
        assert!(beside.has(&rule(SSH)));
        // The file says it, too: it is the file's from then on.
        let (wanted, beside) = added.beside(table(&[WEB, SSH])).unwrap();
        assert_eq!(wanted.rules, [rule(WEB), rule(SSH)]);
        assert!(!beside.has(&rule(SSH)));
        let said = refused(added.beside(table(&["tcp://192.0.2.1:22=10.0.0.7"])));
        assert!(
            said.contains("is called") && said.contains("added while the table runs"),
            "{said}"
        );
    }

    #[test]
    fn rules_are_removed_all_or_none() {
        let old = table(&[WEB, SSH]);
        let names = |names: &[&str]| names.iter().map(|&name| name.into()).collect::<Vec<_>>();
        let said = refused(without(&old, &names(&["tcp://192.0.2.1:80", "dns"])));
        assert!(said.contains("no rule `dns`; there is tcp://192.0.2.1:80, tcp"), "{said}");
        let new = without(&old, &names(&["tcp://192.0.2.1:80"])).unwrap();
        assert_eq!(changes(&old, &new), ["rule tcp://192.0.2.1:80: removed"]);
        let said = refused(without(&table(&[]), &names(&["dns"])));
        assert!(said.contains("it has none"), "{said}");
    }
}
