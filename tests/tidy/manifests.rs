//! Who may import whom, under which lints, and which crates must not come in at all.
//!
//! - Dependencies between crates run one way, as [`MAY_USE`] lists. Dev-dependencies are free.
//! - Every package takes the workspace's lints. Crate `io` repeats them, with `unsafe_code` denied
//!   instead of forbidden, so that single files can allow it.
//! - Crates that `deny.toml` bans are not in `Cargo.lock`.

use crate::assert_none;
use crate::tree::{TextFile, root, text_files};
use toml::{Table, Value};

/// Each crate and the crates of this workspace that it may use.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("wire", &[]),
    ("capfile", &["wire"]),
    ("filter", &["wire"]),
    ("kernel", &["filter", "wire"]),
    ("api", &["filter", "wire"]),
    ("io", &["wire", "capfile", "filter", "kernel", "api"]),
    ("pipeline", &["api", "io", "filter", "kernel", "wire"]),
    ("archive", &["api", "io", "capfile", "filter", "wire"]),
    ("tapline", &["wire", "capfile", "filter", "kernel", "api", "io", "pipeline", "archive"]),
];

#[test]
fn crates_import_in_one_direction() {
    let manifests = manifests();
    let crates: Vec<_> = manifests.iter().filter(|m| m.path.starts_with("crates/")).collect();
    assert!(crates.len() >= MAY_USE.len(), "{} manifests under crates/", crates.len());
    let workspace: Vec<&str> = manifests.iter().map(|m| m.name()).collect();
    let findings = crates.iter().flat_map(|m| m.import_findings(&workspace));
    assert_none(&findings.collect::<Vec<_>>());
}

#[test]
fn every_package_takes_the_workspace_s_lints() {
    let workspace = parse("Cargo.toml", &read("Cargo.toml"));
    let lints = workspace["workspace"]["lints"].as_table().expect("the workspace has lints");
    let findings: Vec<_> = manifests().iter().filter_map(|m| m.lint_finding(lints)).collect();
    assert_none(&findings);
}

#[test]
fn banned_crates_are_not_locked() {
    let deny = parse("deny.toml", &read("deny.toml"));
    let banned = deny["bans"]["deny"].as_array().expect("deny.toml bans something");
    let banned: Vec<_> = banned.iter().filter_map(|entry| entry["crate"].as_str()).collect();
    assert!(!banned.is_empty(), "deny.toml: no entry of bans.deny names a crate");
    assert_none(&ban_findings(&read("Cargo.lock"), &banned));
}

struct Manifest {
    path: String,
    text: String,
    table: Table,
}

fn manifests() -> Vec<Manifest> {
    let packages = text_files().into_iter().filter(|f| f.path.ends_with("/Cargo.toml"));
    packages.map(Manifest::new).collect()
}

impl Manifest {
    fn new(file: TextFile) -> Manifest {
        let table = parse(&file.path, &file.text);
        Manifest { path: file.path, text: file.text, table }
    }

    fn name(&self) -> &str {
        self.table["package"]["name"].as_str().expect("a package has a name")
    }

    fn import_findings(&self, workspace: &[&str]) -> Vec<String> {
        let name = self.name();
        let Some((_, may_use)) = MAY_USE.iter().find(|(from, _)| *from == name) else {
            return vec![format!(
                "{}:1: crate `{name}` has no place in the order of imports; give it one in MAY_USE \
                 of tests/tidy/manifests.rs and in ARCHITECTURE.md",
                self.path
            )];
        };
        let used = dependencies(&self.table);
        let wrong = used.iter().filter(|to| workspace.contains(&to.as_str()));
        let wrong = wrong.filter(|to| !may_use.contains(&to.as_str()));
        wrong
            .map(|to| {
                format!(
                    "{}:{}: crate `{name}` must not use `{to}` (it may use: {}); move what it \
                     needs down, or pass it in as an argument or trait",
                    self.path,
                    self.line_of(to),
                    if may_use.is_empty() { "none".into() } else { may_use.join(", ") }
                )
            })
            .collect()
    }

    fn lint_finding(&self, workspace: &Table) -> Option<String> {
        let Some(lints) = self.table.get("lints").and_then(Value::as_table) else {
            return Some(format!(
                "{}:1: no lints; write `[lints]` and `workspace = true`",
                self.path
            ));
        };
        if self.name() != "io" {
            let inherits = lints.get("workspace") == Some(&Value::Boolean(true));
            return (!inherits).then(|| {
                let line = self.line_of("[lints");
                format!(
                    "{}:{line}: lints of its own; only crate io has a reason to: write `workspace = \
                     true`",
                    self.path
                )
            });
        }
        let mut wanted = workspace.clone();
        wanted["rust"]["unsafe_code"] = Value::String("deny".into());
        for (tool, table) in &wanted {
            for (lint, level) in table.as_table().into_iter().flatten() {
                if lints.get(tool).and_then(|own| own.get(lint)) != Some(level) {
                    let line = self.line_of("[lints");
                    return Some(format!(
                        "{}:{line}: `{lint}` is not `{}`, as the workspace's lints want; set it",
                        self.path,
                        level.as_str().unwrap_or_default()
                    ));
                }
            }
        }
        None
    }

    /// The first line that starts with some text, from 1.
    fn line_of(&self, start: &str) -> usize {
        self.text.lines().position(|line| line.starts_with(start)).map_or(1, |index| index + 1)
    }
}

/// Names of the packages that a manifest's library or program is built with, on any target.
fn dependencies(manifest: &Table) -> Vec<String> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let tables = std::iter::once(manifest).chain(targets);
    let tables = tables.flat_map(|t| [t.get("dependencies"), t.get("build-dependencies")]);
    let entries = tables.flatten().filter_map(Value::as_table).flatten();
    // A renamed dependency's own name is in `package`.
    let name = |(key, value): (&String, &Value)| {
        value.get("package").and_then(Value::as_str).unwrap_or(key).to_string()
    };
    entries.map(name).collect()
}

fn ban_findings(lock: &str, banned: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(lock.lines()) {
        for name in banned {
            if line == format!("name = \"{name}\"") {
                findings.push(format!(
                    "Cargo.lock:{number}: `{name}` is banned (deny.toml says why); see who brings \
                     it with `cargo tree --invert {name}` and switch that feature off"
                ));
            }
        }
    }
    findings
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn parse(path: &str, text: &str) -> Table {
    text.parse().unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, rest: &str) -> Manifest {
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        Manifest::new(TextFile { path: format!("crates/{name}/Cargo.toml"), text })
    }

    #[test]
    fn an_import_upwards_is_found_wherever_it_is_declared() {
        let workspace = ["wire", "io", "api", "filter"];
        for rest in [
            "[dependencies]\nlibc = \"1\"\nio.workspace = true",
            "[build-dependencies]\nx = { package = \"io\", path = \"../io\" }",
            "[target.'cfg(unix)'.dependencies]\nio = { path = \"../io\" }",
        ] {
            let findings = manifest("filter", rest).import_findings(&workspace);
            assert!(findings.len() == 1 && findings[0].contains("must not use `io`"), "{rest}");
        }
        let line = &manifest("wire", "[dependencies]\nio.workspace = true");
        assert!(line.import_findings(&workspace)[0].starts_with("crates/wire/Cargo.toml:4: "));
    }

    #[test]
    fn imports_downwards_and_for_tests_pass_and_an_unknown_crate_does_not() {
        let rest = "[dependencies]\nwire.workspace = true\n[dev-dependencies]\nio.workspace = true";
        assert_eq!(manifest("filter", rest).import_findings(&["wire", "io"]), [""; 0]);
        assert_eq!(manifest("stranger", rest).import_findings(&["wire", "io"]).len(), 1);
    }

    #[test]
    fn lints_are_inherited_except_in_io() {
        let workspace: Table =
            "[rust]\nunsafe_code = \"forbid\"\nmissing_docs = \"warn\"".parse().unwrap();
        let own = "[lints.rust]\nunsafe_code = \"deny\"\nmissing_docs = \"warn\"";
        let inherited = "[lints]\nworkspace = true";
        for (name, rest, good) in [
            ("wire", inherited, true),
            ("wire", own, false),
            ("wire", "", false),
            ("io", own, true),
            ("io", "[lints.rust]\nunsafe_code = \"allow\"\nmissing_docs = \"warn\"", false),
            ("io", "[lints.rust]\nunsafe_code = \"deny\"", false),
        ] {
            assert_eq!(
                manifest(name, rest).lint_finding(&workspace).is_none(),
                good,
                "{name} {rest}"
            );
        }
    }

    #[test]
    fn a_banned_crate_is_found_by_its_whole_name() {
        let lock = "[[package]]\nname = \"openssl-sys\"\n[[package]]\nname = \"openssl\"\n";
        assert_eq!(ban_findings(lock, &["openssl-sys"]).len(), 1);
        assert_eq!(ban_findings(lock, &["openssl-sy"]), [""; 0]);
    }
}
