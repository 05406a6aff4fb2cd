//! Single tries whether a far end or an interface is alive.
//!
//! A [`Probe`] blocks for at most the time that it is given, so it stands on a thread of its own,
//! never on the data path. It acts in the network namespace of the thread that calls it. What
//! follows from an answer is decided elsewhere.

mod host;
mod link;
pub(crate) use link::find as find_link;
mod neighbour;
mod sys;
#[cfg(test)]
mod tests;

use api::Check;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

/// Something that can be tried again and again.
pub trait Probe: Send {
    /// Tries once; takes `timeout` and little more at most.
    ///
    /// # Errors
    /// Why it is not taken for alive, in a few words: "connection refused".
    fn attempt(&mut self, timeout: Duration) -> Result<(), String>;
}

/// Whom a check is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A host; the address's port is not looked at.
    Host(SocketAddr),
    /// The interface of this name.
    Interface(String),
}

/// A probe for a check of a place.
///
/// # Errors
/// `InvalidInput` if there is no such check of such a place.
pub fn open(check: &Check, place: &Place) -> Result<Box<dyn Probe>, Error> {
    let at = |mut address: SocketAddr, port| {
        address.set_port(port);
        address
    };
    Ok(match (check, place) {
        (Check::Tcp { port }, Place::Host(host)) => Box::new(host::Tcp(at(*host, *port))),
        (Check::Http { port, path }, Place::Host(host)) => {
            Box::new(host::Http::new(at(*host, *port), path, host::Wanted::Success))
        }
        (Check::Sink { port }, Place::Host(host)) => {
            Box::new(host::Http::new(at(*host, *port), "/", host::Wanted::SinkIsUp))
        }
        (Check::Link, Place::Interface(name)) => Box::new(link::Link(name.clone())),
        (Check::Neighbour { address }, Place::Interface(name)) => {
            Box::new(neighbour::Neighbour { interface: name.clone(), address: *address })
        }
        _ => return Err(Error::new(ErrorKind::InvalidInput, format!("no check `{check}` there"))),
    })
}

/// What is said of an error: in the words of the standard library where it has any, without numbers.
fn reason(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::AddrNotAvailable
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => error.kind().to_string(),
        // A socket's own timeout.
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "timed out".into(),
        _ => error.to_string(),
    }
}
