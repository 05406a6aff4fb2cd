//! The side of who asks.

use super::{Request, parse_socket_name, run_dirs};
use crate::failure::Failure;
use api::Status;
use serde_json::Value;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Longest answer, bytes: a ledger of some 100,000 lines.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How long an answer may take: a little longer than the other side allows itself.
const STATUS: Duration = Duration::from_secs(4);
const CHANGE: Duration = Duration::from_secs(62);

/// A running command that has a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// What it does.
    pub command: String,
    /// Its process.
    pub pid: u32,
    path: PathBuf,
}

impl Instance {
    /// One that is not there.
    #[cfg(test)]
    pub fn named(command: &str, pid: u32) -> Instance {
        Instance { command: command.into(), pid, path: PathBuf::new() }
    }

    /// Asks it, and waits for its answer.
    ///
    /// # Errors
    /// `ConnectionRefused` or `NotFound` if it has ended; `PermissionDenied`; what it says itself as
    /// `Other`.
    pub fn ask(&self, request: &Request) -> io::Result<Value> {
        let mut stream = UnixStream::connect(&self.path)?;
        let timeout = if request.is_change() { CHANGE } else { STATUS };
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = Vec::new();
        BufReader::new(stream).take(ANSWER_BYTES_MAX).read_until(b'\n', &mut answer)?;
        if answer.is_empty() {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "it has ended"));
        }
        let answer: Value = serde_json::from_slice(&answer)?;
        match answer.get("error").and_then(Value::as_str) {
            Some(why) => Err(io::Error::other(why.to_owned())),
            None => Ok(answer),
        }
    }

    /// Its status.
    ///
    /// # Errors
    /// As [`Self::ask`]; `InvalidData` if it is of a version that says it otherwise.
    pub fn status(&self) -> io::Result<Status> {
        Ok(serde_json::from_value(self.ask(&Request::Status)?)?)
    }
}

/// The commands that run on this host, by command and process; what a killed one has left is left out.
pub fn instances() -> Vec<Instance> {
    let entries = run_dirs().into_iter().flat_map(fs::read_dir).flatten().flatten();
    let mut found: Vec<Instance> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let (command, pid) = parse_socket_name(name.to_str()?)?;
            Some(Instance { command: command.into(), pid, path: entry.path() })
        })
        .filter(|instance| {
            UnixStream::connect(&instance.path).err().is_none_or(|error| {
                !matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound)
            })
        })
        .collect();
    found.sort_by(|a, b| (&a.command, a.pid).cmp(&(&b.command, b.pid)));
    found
}

/// The one of some running commands that is meant: by its process or its name, or the only one.
///
/// # Errors
/// If there is none, or more than one; says which there are.
pub fn pick(
    mut found: Vec<Instance>,
    command: &str,
    wanted: Option<&str>,
) -> Result<Instance, Failure> {
    found.retain(|instance| instance.command == command);
    // Names are asked for only where they matter.
    let is_clear = found.len() == 1 && wanted.is_none();
    let name = |instance: &Instance| instance.status().ok().and_then(|status| status.name);
    let named = found.into_iter().map(|instance| {
        let name = if is_clear { None } else { name(&instance) };
        (instance, name)
    });
    let mut named: Vec<(Instance, Option<String>)> = named.collect();
    let all: Vec<String> = named.iter().map(|(instance, name)| describe(instance, name)).collect();
    if let Some(wanted) = wanted {
        named.retain(|(instance, name)| {
            instance.pid.to_string() == wanted || name.as_deref() == Some(wanted)
        });
    }
    match (named.len(), wanted) {
        (1, _) => Ok(named.remove(0).0),
        (0, None) => Err(Failure::CouldNot(format!("no tapline {command} runs on this host"))),
        (0, Some(wanted)) if all.is_empty() => {
            Err(Failure::CouldNot(format!("{wanted}: no tapline {command} runs on this host")))
        }
        (0, Some(wanted)) => Err(Failure::CouldNot(format!(
            "{wanted} is no tapline {command} that runs; there is {}",
            all.join(", ")
        ))),
        (_, _) => Err(Failure::Usage(format!(
            "more than one tapline {command} runs: say which by its process id or --name: {}",
            all.join(", ")
        ))),
    }
}

fn describe(instance: &Instance, name: &Option<String>) -> String {
    match name {
        Some(name) => format!("{} ({name})", instance.pid),
        None => instance.pid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(pids: &[u32], wanted: Option<&str>) -> Result<u32, String> {
        let mut found: Vec<_> = pids.iter().map(|&pid| Instance::named("broker", pid)).collect();
        found.push(Instance::named("mirror", 9));
        let picked = pick(found, "broker", wanted).map(|instance| instance.pid);
        picked.map_err(|failure| failure.message().unwrap_or_default().to_owned())
    }

    #[test]
    fn the_only_one_needs_no_name_and_of_several_it_is_said_which_there_are() {
        assert_eq!(picked(&[7], None), Ok(7));
        assert_eq!(picked(&[7, 8], Some("8")), Ok(8));
        let several = picked(&[7, 8], None).unwrap_err();
        assert!(several.ends_with("say which by its process id or --name: 7, 8"), "{several}");
        assert_eq!(picked(&[], None).unwrap_err(), "no tapline broker runs on this host");
        let other = picked(&[7], Some("9")).unwrap_err();
        assert_eq!(other, "9 is no tapline broker that runs; there is 7");
        let nobody = picked(&[], Some("east")).unwrap_err();
        assert_eq!(nobody, "east: no tapline broker runs on this host");
    }
}
