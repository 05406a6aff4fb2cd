//! `tapline broker reload` and `show`: what a running broker is asked from outside.

mod over_loopback;

use over_loopback::*;
use rig::{Running, Scratch, root_or_skip};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// A broker from a tunnel at a port of loopback to a target.
fn file(port: u16, to: &str) -> String {
    format!(
        "[[source]]\nname = \"left\"\nlisten = \"vxlan://127.0.0.1:{port}\"\n\
         [[target]]\nname = \"ids\"\nto = \"{to}\"\n\
         [[map]]\nname = \"all\"\nfrom = [\"left\"]\nto = [\"ids\"]\n"
    )
}

fn start(run: &Path, config: &Path, words: &[&str]) -> Running {
    let mut command = Command::new(BINARY);
    command.env("TAPLINE_RUN_DIR", run).args(["broker", "-c", text(config)]).args(words);
    let broker = Running::start(&mut command);
    broker.wait_for("listening on", SOON);
    broker
}

fn ask(run: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(BINARY);
    let command = command.env("TAPLINE_RUN_DIR", run).arg("broker").args(words);
    let Output { status, stdout, stderr } = command.output().expect("it can be started");
    let said = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (status.code(), said(stdout), said(stderr))
}

#[test]
fn a_broker_is_shown_and_reloaded_by_its_name_or_alone() {
    if !root_or_skip() {
        return;
    }
    let scratch = Scratch::new("local-broker");
    let (run, config) = (scratch.path("run"), scratch.path("broker.toml"));
    let (code, _, said) = ask(&run, &["reload"]);
    assert!(code == Some(1) && said.contains("no tapline broker runs"), "{said}");
    fs::write(&config, file(free_port(), "null:")).unwrap();
    let broker = start(&run, &config, &["--name", "east"]);
    assert_eq!(ask(&run, &["reload"]).1, "nothing has changed\n");

    let port = free_port();
    fs::write(&config, file(port, "null:").replace("ids", "probe")).unwrap();
    let (_, shown, said) = ask(&run, &["show", "east"]);
    assert!(shown.contains("observed:\n  left -> map all -> ids (null:)\n"), "{shown}{said}");
    assert!(shown.contains("wanted:\n  left -> map all -> probe (null:)\n"), "{shown}");
    assert!(shown.contains("\n  target probe: added\n"), "{shown}");
    let (code, changes, said) = ask(&run, &["reload", &broker.id().to_string()]);
    assert!(code == Some(0) && changes.contains("target ids: removed\n"), "{changes}{said}");
    assert!(ask(&run, &["show"]).1.ends_with("plan:\n  nothing to do\n"));

    // A mistake is told to who asks, with its place, and changes nothing.
    fs::write(&config, file(port, "nill:").replace("ids", "probe")).unwrap();
    let (code, _, said) = ask(&run, &["reload", "--format", "json"]);
    assert!(code == Some(1) && said.contains("it goes on as before"), "{said}");
    assert!(said.contains(&format!("{}:", config.display())) && said.contains("nill"), "{said}");
    broker.signal(Signal::HUP);
    broker.wait_for("not reloaded", SOON);
    assert!(ask(&run, &["show"]).1.contains("observed:\n  left -> map all -> probe (null:)\n"));

    // Of two it must be said which.
    let other = scratch.path("other.toml");
    fs::write(&other, file(free_port(), "null:")).unwrap();
    let other = start(&run, &other, &[]);
    let (code, _, said) = ask(&run, &["show"]);
    let (first, second) = (format!("{} (east)", broker.id()), other.id().to_string());
    assert!(code == Some(2) && said.contains(&first) && said.contains(&second), "{said}");
    assert_eq!(ask(&run, &["reload", &second]).1, "nothing has changed\n");
    broker.stop(SOON);
    other.stop(SOON);
}

#[test]
fn a_configuration_that_became_a_pipe_is_not_waited_for() {
    if !root_or_skip() {
        return;
    }
    let scratch = Scratch::new("local-broker-pipe");
    let (run, config) = (scratch.path("run"), scratch.path("broker.toml"));
    fs::write(&config, file(free_port(), "null:")).unwrap();
    let broker = start(&run, &config, &[]);
    fs::remove_file(&config).unwrap();
    assert!(Command::new("mkfifo").arg(&config).status().unwrap().success());
    let (code, _, said) = ask(&run, &["reload"]);
    assert!(code == Some(1) && said.contains("cannot be read again"), "{said}");
    broker.signal(Signal::HUP);
    broker.wait_for("not reloaded", SOON);
    assert!(ask(&run, &["show"]).2.contains("cannot be read again"));
    broker.stop(SOON);
}
