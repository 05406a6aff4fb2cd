//! One process for each table: two would change it under each other's hands.

use crate::failure::Failure;
use rustix::net::sockopt::socket_peercred;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// Held by the process that runs a table: a name in its network namespace, which goes with the process,
/// however it ends.
pub struct Only {
    _socket: UnixListener,
}

impl Only {
    /// Takes a table's name.
    ///
    /// # Errors
    /// [`Failure::CouldNot`] if another process has it.
    pub fn one(table: &str) -> Result<Only, Failure> {
        let failed = |error: std::io::Error| {
            Failure::CouldNot(format!("table {table}: take its name: {error}"))
        };
        let name =
            SocketAddr::from_abstract_name(format!("tapline/inline/{table}")).map_err(failed)?;
        match UnixListener::bind_addr(&name) {
            Ok(socket) => Ok(Only { _socket: socket }),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                let holder = UnixStream::connect_addr(&name).ok();
                let holder = holder.and_then(|stream| socket_peercred(&stream).ok());
                let who = holder.map_or("another process".to_owned(), |holder| {
                    format!("process {}", holder.pid.as_raw_nonzero())
                });
                Err(Failure::CouldNot(format!(
                    "table {table}: {who} runs it; end that with `tapline inline stop --table {table}`, or \
                     choose another name"
                )))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_run_once_at_a_time() {
        let table = format!("only-{}", std::process::id());
        let first = Only::one(&table).map_err(drop).expect("nobody has it");
        let Err(Failure::CouldNot(said)) = Only::one(&table) else { panic!("it is taken") };
        assert!(said.contains(&format!("process {} runs it", std::process::id())), "{said}");
        drop(first);
        assert!(Only::one(&table).is_ok());
    }
}
