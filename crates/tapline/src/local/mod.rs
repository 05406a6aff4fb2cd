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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Who it is, and its ledger.
    Status,
    /// To read its configuration again.
    Reload,
    /// To compare its configuration with what there is.
    Show,
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
    fn requests_are_one_word() {
        let read = |text: &str| serde_json::from_str::<Request>(text);
        assert_eq!(read(r#"{"request":"status"}"#).unwrap(), Request::Status);
        assert_eq!(serde_json::to_string(&Request::Reload).unwrap(), r#"{"request":"reload"}"#);
        for bad in ["", "{}", "[]", r#"{"request":"stop"}"#, r#"{"request":1}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
