//! `--health`: a port that is open only while packets are received and can be written.
//!
//! A balancer that only tries to connect, and one that sends an HTTP request, learn the same: any
//! path is answered with 200 and a line of JSON while the capture is alive, and otherwise nobody
//! listens. Alive means that the tap's worker has answered within [`ALIVE`] and the disk takes what is
//! written. A thread of its own serves the port; it takes no lock that the data path takes.
//!
//! While it is not open the address stays bound, so that nobody else gets it, but a socket that does
//! not listen refuses connections.

use crate::archiving::Shown;
use crate::failure::Failure;
use api::{ArchiveStats, Drops, Stats};
use archive::{DiskState, RecorderStatus};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use serde::Serialize;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker's last answer counts.
const ALIVE: Duration = Duration::from_secs(2);
/// How often the state is looked at while nobody asks.
const PERIOD: Duration = Duration::from_millis(50);
/// How long a connection may take in all.
const CONNECTION: Duration = Duration::from_secs(2);
/// Connections at once; for one more the oldest is closed.
const CONNECTIONS_MAX: usize = 64;
/// Longest request, bytes.
const REQUEST_BYTES_MAX: usize = 8192;
const HEADERS_MAX: usize = 64;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// The port, as long as this value lives.
pub struct Health {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    begun: Instant,
    recorder: Arc<RecorderStatus>,
    archive: Option<Shown>,
    /// The worker's last answer, and when it came.
    pulse: Mutex<Option<(Instant, Stats)>>,
    stopping: AtomicBool,
    ended: AtomicBool,
}

/// What is answered.
#[derive(Serialize)]
struct Answer<'a> {
    status: &'static str,
    uptime_s: u64,
    received: u64,
    written: u64,
    drops: &'a Drops,
    unaccounted: u64,
    disk: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<ArchiveStats>,
}

/// An address that is taken, where nobody listens yet.
pub struct Claim {
    address: SocketAddr,
    socket: OwnedFd,
}

impl Claim {
    /// Takes an address.
    pub fn new(address: SocketAddr) -> Result<Claim, Failure> {
        let socket = bind(address).map_err(|error| failed(address, &error))?;
        Ok(Claim { address, socket })
    }
}

fn failed(address: SocketAddr, error: &std::io::Error) -> Failure {
    let mend = match error.kind() {
        ErrorKind::AddrInUse => "; `ss -ltnp` shows by whom: choose another port",
        ErrorKind::AddrNotAvailable => "; choose an address of this host",
        ErrorKind::PermissionDenied => "; choose a port from 1024 up",
        _ => "",
    };
    Failure::CouldNot(format!("--health {address}: {error}{mend}"))
}

impl Health {
    /// Serves an address from the first [`Self::pulse`] on.
    pub fn start(
        claim: Claim,
        recorder: Arc<RecorderStatus>,
        archive: Option<Shown>,
    ) -> Result<Health, Failure> {
        let Claim { address, socket } = claim;
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            recorder,
            archive,
            pulse: Mutex::new(None),
            stopping: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let mut port = Port { address, state: State::Bound(socket), connections: Vec::new() };
        let of_thread = Arc::clone(&shared);
        let serve = move || {
            while !of_thread.ended.load(Ordering::Relaxed) {
                port.turn(&of_thread);
            }
        };
        let thread = std::thread::Builder::new().name("health".into()).spawn(serve);
        Ok(Health { shared, thread: Some(thread.map_err(|error| failed(address, &error))?) })
    }

    /// Notes that the worker has answered.
    pub fn pulse(&self, stats: &Stats) {
        let mut pulse = self.shared.pulse.lock().unwrap_or_else(PoisonError::into_inner);
        *pulse = Some((Instant::now(), stats.clone()));
    }

    /// Closes the port for good.
    pub fn stopping(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // It ends within a period; if it panicked, the port is closed, too.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    /// What to answer; `None` if the port must be closed.
    fn answer(&self) -> Option<String> {
        let disk = self.recorder.disk();
        if self.stopping.load(Ordering::Relaxed) || disk != DiskState::Ok {
            return None;
        }
        let pulse = self.pulse.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, stats) = pulse.as_ref().filter(|(at, _)| at.elapsed() < ALIVE)?;
        let answer = Answer {
            status: "up",
            uptime_s: self.begun.elapsed().as_secs(),
            received: stats.received,
            written: stats.written,
            drops: &stats.drops,
            unaccounted: stats.unaccounted,
            disk: disk.name(),
            archive: self.archive.as_ref().map(Shown::stats),
        };
        serde_json::to_string(&answer).ok()
    }
}

/// The address and who is connected to it.
struct Port {
    address: SocketAddr,
    state: State,
    connections: Vec<Connection>,
}

enum State {
    /// The address is taken, and connections are refused.
    Bound(OwnedFd),
    Listening(TcpListener),
    /// The address could not be taken again.
    Lost,
}

impl Port {
    /// Opens or closes the port as the state asks for, and serves who is connected.
    fn turn(&mut self, shared: &Shared) {
        let answer = shared.answer();
        self.state = match (std::mem::replace(&mut self.state, State::Lost), &answer) {
            (State::Bound(socket), Some(_)) => self.open(socket),
            (State::Listening(listener), None) => {
                self.connections.clear();
                drop(listener);
                if !shared.stopping.load(Ordering::Relaxed) {
                    tracing::warn!(
                        "--health {}: closed, as packets are not recorded",
                        self.address
                    );
                }
                self.bind_again()
            }
            (State::Lost, _) => self.bind_again(),
            (state, _) => state,
        };
        let (State::Listening(listener), Some(answer)) = (&self.state, answer) else {
            return std::thread::sleep(PERIOD);
        };
        wait(listener, &self.connections);
        for _ in 0..CONNECTIONS_MAX {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    // Without a descriptor left, who waits would be seen again and again.
                    tracing::debug!("--health {}: {error}", self.address);
                    std::thread::sleep(PERIOD);
                    break;
                }
            };
            if self.connections.len() >= CONNECTIONS_MAX {
                self.connections.remove(0);
            }
            if stream.set_nonblocking(true).is_ok() {
                self.connections.push(Connection::new(stream));
            }
        }
        self.connections.retain_mut(|connection| connection.serve(&answer));
    }

    fn bind_again(&self) -> State {
        match bind(self.address) {
            Ok(socket) => State::Bound(socket),
            Err(error) => {
                tracing::debug!("--health {}: {error}", self.address);
                State::Lost
            }
        }
    }

    fn open(&self, socket: OwnedFd) -> State {
        // Lingering connections would be in the way of listening, too.
        let listening = sockopt::set_socket_reuseaddr(&socket, true)
            .and_then(|()| rustix::net::listen(&socket, BACKLOG));
        match listening {
            Ok(()) => {
                tracing::info!("--health {}: open", self.address);
                State::Listening(TcpListener::from(socket))
            }
            Err(error) => {
                tracing::debug!("--health {}: {error}", self.address);
                State::Bound(socket)
            }
        }
    }
}

/// Takes an address. Connections of before that still linger are no obstacle; but it is not shared
/// with those whose sockets say the same, as servers' do: one of them could listen.
fn bind(address: SocketAddr) -> std::io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    sockopt::set_socket_reuseaddr(&socket, false)?;
    Ok(socket)
}

/// Waits until somebody connects or says something, at most a period.
fn wait(listener: &TcpListener, connections: &[Connection]) {
    let mut set = Vec::with_capacity(1 + connections.len());
    set.push(PollFd::new(listener, PollFlags::IN));
    let wanted = |connection: &Connection| match connection.reply.is_empty() {
        true => PollFlags::IN,
        false => PollFlags::OUT,
    };
    set.extend(connections.iter().map(|c| PollFd::new(&c.stream, wanted(c))));
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(PERIOD.subsec_nanos()) };
    if poll(&mut set, Some(&timeout)).is_err() {
        std::thread::sleep(PERIOD);
    }
}

/// One that asks.
struct Connection {
    stream: TcpStream,
    since: Instant,
    request: Vec<u8>,
    /// What is still to be sent.
    reply: Vec<u8>,
    is_answered: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Connection {
        let (request, reply) = (Vec::new(), Vec::new());
        Connection { stream, since: Instant::now(), request, reply, is_answered: false }
    }

    /// Reads and writes what is possible now; false if it is over.
    fn serve(&mut self, answer: &str) -> bool {
        if self.since.elapsed() > CONNECTION {
            return false;
        }
        let mut bytes = [0; 2048];
        // Twice at most, so that nobody keeps the thread: the rest comes with the next turn.
        for _ in 0..2 {
            match self.stream.read(&mut bytes) {
                Ok(0) => return !self.reply.is_empty() && self.write(),
                // What comes behind a request is read, so that closing does not reset the answer.
                Ok(_) if self.is_answered => {}
                Ok(len) => self.request.extend_from_slice(&bytes[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            if !self.is_answered
                && let Some(reply) = reply(&self.request, answer)
            {
                self.is_answered = true;
                self.reply = reply;
            }
        }
        self.reply.is_empty() || self.write()
    }

    /// Writes what is left; behind its end the other side is told that no more comes.
    fn write(&mut self) -> bool {
        match self.stream.write(&self.reply) {
            Ok(len) => {
                self.reply.drain(..len);
                !self.reply.is_empty() || self.stream.shutdown(Shutdown::Write).is_ok()
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }
}

/// The reply to a request, once it is whole or cannot become one.
fn reply(request: &[u8], answer: &str) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let (status, body) = match parsed.parse(request) {
        Ok(httparse::Status::Complete(_)) => match parsed.method {
            Some("GET") => ("200 OK", Some(answer)),
            Some("HEAD") => ("200 OK", None),
            _ => ("405 Method Not Allowed\r\nAllow: GET, HEAD", Some("")),
        },
        Ok(httparse::Status::Partial) if request.len() <= REQUEST_BYTES_MAX => return None,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            ("431 Request Header Fields Too Large", Some(""))
        }
        Err(_) => ("400 Bad Request", Some("")),
    };
    let text = body.unwrap_or("");
    let len = body.unwrap_or(answer).len();
    Some(
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n{text}"
        )
        .into_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_line(request: &[u8]) -> Option<String> {
        let reply = String::from_utf8(reply(request, "{}")?).unwrap();
        Some(reply.lines().next().unwrap().to_string())
    }

    #[test]
    fn requests_are_answered_once_they_are_whole() {
        for whole in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD /x?y HTTP/1.0\r\n\r\n"] {
            for len in 0..whole.len() {
                assert_eq!(first_line(&whole.as_bytes()[..len]), None, "{len} of {whole}");
            }
            assert_eq!(first_line(whole.as_bytes()).unwrap(), "HTTP/1.1 200 OK");
        }
        let get = reply(b"GET /any HTTP/1.1\r\n\r\n", "{\"a\":1}").unwrap();
        let get = String::from_utf8(get).unwrap();
        assert!(get.contains("\r\nContent-Length: 7\r\n") && get.ends_with("\r\n\r\n{\"a\":1}"));
        let head = reply(b"HEAD / HTTP/1.1\r\n\r\n", "{\"a\":1}").unwrap();
        assert!(head.ends_with(b"close\r\n\r\n"));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert!(first_line(b"POST / HTTP/1.1\r\n\r\n").unwrap().contains(" 405 "));
        for bad in [&b"\0\0\0\0"[..], b"GET /\x01 HTTP/1.1\r\n", b"\x16\x03\x01\x02\0"] {
            assert!(first_line(bad).unwrap().contains(" 400 "), "{bad:?}");
        }
        let endless = vec![b'A'; REQUEST_BYTES_MAX + 1];
        assert!(first_line(&endless).unwrap().contains(" 431 "));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert!(first_line(many.as_bytes()).unwrap().contains(" 431 "));
    }
}
