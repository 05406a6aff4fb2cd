//! Tries of a host: a TCP connection, an HTTP request, what a sink of tapline says of itself.

use super::{Probe, reason};
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of an answer that are read: a sink's is less than 1 KiB.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// The least time that a socket may be given: none would mean for ever.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// Connects, and no more.
pub(super) struct Tcp(pub SocketAddr);

impl Probe for Tcp {
    fn attempt(&mut self, timeout: Duration) -> Result<(), String> {
        let timeout = timeout.max(TIMEOUT_MIN);
        TcpStream::connect_timeout(&self.0, timeout).map(drop).map_err(|error| reason(&error))
    }
}

/// What an answer has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Any status 2xx.
    Success,
    /// That, and a body that says `"status":"up"`, as `tapline receive --health` does.
    SinkIsUp,
}

/// Sends GET and reads the answer.
pub(super) struct Http {
    address: SocketAddr,
    request: String,
    wanted: Wanted,
}

impl Http {
    pub fn new(address: SocketAddr, path: &str, wanted: Wanted) -> Http {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: tapline\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n"
        );
        Http { address, request, wanted }
    }

    fn ask(&self, timeout: Duration) -> Result<Vec<u8>, Error> {
        let deadline = Instant::now() + timeout;
        let left = || match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(Error::from(ErrorKind::TimedOut)),
            left => Ok(left.max(TIMEOUT_MIN)),
        };
        let mut stream = TcpStream::connect_timeout(&self.address, timeout.max(TIMEOUT_MIN))?;
        stream.set_write_timeout(Some(left()?))?;
        stream.write_all(self.request.as_bytes())?;
        let mut answer = Vec::new();
        let mut bytes = [0; 2048];
        while answer.len() < ANSWER_BYTES_MAX && judge(&answer, self.wanted).is_none() {
            // One that drips is given no more time than one that is silent.
            stream.set_read_timeout(Some(left()?))?;
            match stream.read(&mut bytes)? {
                0 => break,
                len => answer.extend_from_slice(&bytes[..len]),
            }
        }
        Ok(answer)
    }
}

impl Probe for Http {
    fn attempt(&mut self, timeout: Duration) -> Result<(), String> {
        let answer = self.ask(timeout).map_err(|error| reason(&error))?;
        judge(&answer, self.wanted).unwrap_or_else(|| {
            Err(match self.wanted {
                _ if answer.is_empty() => "closed without an answer".into(),
                _ if status(&answer).is_none() => "the answer is not HTTP".into(),
                _ => "the answer is not that of a sink that is up".into(),
            })
        })
    }
}

/// What an answer means, once enough of it is there.
fn judge(answer: &[u8], wanted: Wanted) -> Option<Result<(), String>> {
    let code = status(answer)?;
    if !(200..300).contains(&code) {
        return Some(Err(format!("HTTP status {code}")));
    }
    match wanted {
        Wanted::Success => Some(Ok(())),
        Wanted::SinkIsUp => {
            let up = br#""status":"up""#;
            answer.windows(up.len()).any(|window| window == up).then_some(Ok(()))
        }
    }
}

/// The status code of an answer (RFC 9112 section 4), once its line is there: `HTTP/1.1 200 OK`.
fn status(answer: &[u8]) -> Option<u16> {
    let line =
        answer.split(|&byte| byte == b'\n').next().filter(|line| line.len() < answer.len())?;
    let words = std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.")?;
    let code = words.split_ascii_whitespace().nth(1)?;
    code.parse().ok().filter(|code| (100..600).contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_as_soon_as_it_can_be() {
        let ok = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(judge(&ok[..20], Wanted::Success), None);
        assert_eq!(judge(ok, Wanted::Success), Some(Ok(())));
        assert_eq!(judge(ok, Wanted::SinkIsUp), None);
        let sink =
            b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{\"status\":\"up\",\"uptime_s\":1";
        assert_eq!(judge(sink, Wanted::SinkIsUp), Some(Ok(())));
        for (answer, said) in [
            ("HTTP/1.0 503 x\n", Some("HTTP status 503")),
            ("HTTP/1.1 301 Moved\r\n", Some("HTTP status 301")),
            ("SSH-2.0-OpenSSH\r\n", None),
            ("HTTP/1.1 20 x\r\n", None),
            ("HTTP/2 200\r\n", None),
            ("", None),
            ("\n", None),
        ] {
            let judged = judge(answer.as_bytes(), Wanted::SinkIsUp);
            assert_eq!(judged, said.map(|said| Err(said.into())), "{answer:?}");
        }
    }
}
