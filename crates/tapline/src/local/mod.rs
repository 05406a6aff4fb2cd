//! The local socket: how a running command is asked how it goes, and told to reload.
//!
//! Every command that moves packets listens at a UNIX socket `COMMAND-PID.sock` in the run directory,
//! which only its user and group may connect to (0660). A client writes a line of JSON and gets a line
//! of JSON, as often as it likes:
//!
//! ```text
//! {"request":"status"}  →  api::Status
//! {"request":"reload"}  →  {"changes":["tap a: added"]}
//! {"request":"show"}    →  what the configuration wants, what there is, what a reload would do
//! {"request":"add","forward":"A=B"}     →  of a forwarding table: what has changed, and what is in force
//! {"request":"remove","rules":["NAME"]} →  likewise
//! anything wrong        →  {"error":"why"}
//! ```
//! Threads of their own read and write; the session's main thread answers between two looks at its
//! workers. None of them takes a lock that the data path takes.

mod client;
mod server;

pub use client::{Instance, instances, pick};
pub use server::{Inbox, Job, Local, Outcome};

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The run directory of this process instead of the usual one.
const RUN_DIR_VARIABLE: &str = "TAPLINE_RUN_DIR";
/// The run directory of root, and of services.
const SYSTEM_RUN_DIR: &str = "/run/tapline";
const SUFFIX: &str = ".sock";

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Who it is, and its ledger.
    Status,
    /// To read its configuration again.
    Reload,
    /// To compare its configuration with what there is.
    Show,
    /// To take one more rule into its table.
    Add(NewRule),
    /// To take rules out of its table.
    Remove {
        /// Their names.
        rules: Vec<String>,
    },
}

impl Request {
    /// Whether it changes what runs, which may take a while.
    fn is_change(&self) -> bool {
        !matches!(self, Request::Status | Request::Show)
    }
}

/// A rule for a forwarding table that runs, as its file would say it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NewRule {
    /// The rule, as `--forward` has it.
    pub forward: String,
    /// Its name; without one what it matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is captured of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<String>,
    /// Bytes captured of each packet; 0: all.
    #[serde(default)]
    pub snapshot_length: u32,
    /// Where its views go, beside what all views are written to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
}

/// Where a process makes its socket; `None` if this user has no place for one.
fn own_run_dir() -> Option<PathBuf> {
    if let Some(folder) = set_run_dir() {
        return Some(folder);
    }
    match rustix::process::geteuid().is_root() {
        true => Some(SYSTEM_RUN_DIR.into()),
        false => user_run_dir(),
    }
}

/// Where the sockets of processes are looked for.
fn run_dirs() -> Vec<PathBuf> {
    match set_run_dir() {
        Some(folder) => vec![folder],
        None => std::iter::once(SYSTEM_RUN_DIR.into()).chain(user_run_dir()).collect(),
    }
}

fn set_run_dir() -> Option<PathBuf> {
    std::env::var_os(RUN_DIR_VARIABLE).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

fn user_run_dir() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty())?;
    Some(PathBuf::from(folder).join("tapline"))
}

fn socket_name(command: &str, pid: u32) -> String {
    format!("{command}-{pid}{SUFFIX}")
}

/// The command and the process that a socket's name tells of.
fn parse_socket_name(name: &str) -> Option<(&str, u32)> {
    let (command, pid) = name.strip_suffix(SUFFIX)?.rsplit_once('-')?;
    Some((command, pid.parse().ok()?)).filter(|(command, _)| !command.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_s_name_tells_whose_it_is() {
        let name = socket_name("l2tp-transmit", 7);
        assert_eq!(name, "l2tp-transmit-7.sock");
        assert_eq!(parse_socket_name(&name), Some(("l2tp-transmit", 7)));
        for other in ["", "mirror.sock", "mirror-x.sock", "-7.sock", "mirror-7", "mirror-7.pid"] {
            assert_eq!(parse_socket_name(other), None, "{other}");
        }
    }

    #[test]
    fn requests_are_a_word_and_what_it_needs() {
        let read = |text: &str| serde_json::from_str::<Request>(text);
        let add = NewRule { forward: "192.0.2.1=10.0.0.5".into(), ..NewRule::default() };
        let text = r#"{"request":"add","forward":"192.0.2.1=10.0.0.5"}"#;
        assert_eq!(read(text).unwrap(), Request::Add(add));
        let remove = Request::Remove { rules: vec!["web".into()] };
        assert_eq!(read(r#"{"request":"remove","rules":["web"]}"#).unwrap(), remove);
        assert!(remove.is_change() && !Request::Show.is_change());
        assert_eq!(read(r#"{"request":"status"}"#).unwrap(), Request::Status);
        assert_eq!(serde_json::to_string(&Request::Reload).unwrap(), r#"{"request":"reload"}"#);
        for bad in
            ["", "{}", "[]", r#"{"request":"stop"}"#, r#"{"request":1}"#, r#"{"request":"add"}"#]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
