//! The side of who asks.

use super::{Request, parse_socket_name, run_dirs};
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
const RELOAD: Duration = Duration::from_secs(62);

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
    pub fn ask(&self, request: Request) -> io::Result<Value> {
        let mut stream = UnixStream::connect(&self.path)?;
        let timeout = if request == Request::Reload { RELOAD } else { STATUS };
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let mut line = serde_json::to_vec(&request)?;
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
        Ok(serde_json::from_value(self.ask(Request::Status)?)?)
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
