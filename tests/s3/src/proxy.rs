//! A proxy in front of a server that fails as it is told: by a standing fault, by a list of faults
//! for the next requests, or at random from a seed.
//!
//! A connection carries one request. A request's number, from 0 up, alone decides what becomes of
//! it, so that a test with one client has the same faults each time.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes of a request's head at most.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// What is done to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends before the request is read.
    Refuse,
    /// The request waits for so long, then all goes well.
    Delay(Duration),
    /// The server gets so many bytes of the request's body, then both connections end.
    CutRequest(u64),
    /// The client gets so many bytes of the answer, then both connections end.
    CutAnswer(u64),
    /// The answer is this status; the server hears of nothing.
    Status(u16),
    /// A PUT is answered with 200 and an ETag, and is thrown away; a POST too, with an upload's id. All
    /// else goes through.
    Lie,
    /// The answer comes with a byte in each second.
    Slow,
}

#[derive(Default)]
struct State {
    standing: Option<Fault>,
    next: VecDeque<Option<Fault>>,
    random: Option<(u64, u8, Vec<Fault>)>,
    requests: Vec<String>,
    heads: Vec<String>,
    is_over: bool,
}

impl State {
    /// What becomes of this request.
    fn take(&mut self, line: String) -> Option<Fault> {
        let number = self.requests.len() as u64;
        self.requests.push(line);
        if let Some(fault) = self.next.pop_front() {
            return fault;
        }
        if let Some((seed, percent, faults)) = &self.random {
            let number = mixed(seed ^ mixed(number));
            if number % 100 < u64::from(*percent) && !faults.is_empty() {
                return Some(faults[(number / 100) as usize % faults.len()]);
            }
        }
        self.standing
    }
}

/// The proxy, as long as this value lives.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Begins to serve, on a free loopback port; all goes well at first.
    ///
    /// # Errors
    /// If the system gives no port or no thread.
    pub fn start(server: SocketAddr) -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State::default()));
        let own = Arc::clone(&state);
        thread::Builder::new().name("proxy".into()).spawn(move || {
            for client in listener.incoming() {
                if lock(&own).is_over {
                    return;
                }
                let Ok(client) = client else { continue };
                let state = Arc::clone(&own);
                thread::spawn(move || {
                    // Either end may go away at any time.
                    let _ = serve(&client, server, &state);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        })?;
        Ok(Proxy { address, state })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is done to each request from now on.
    pub fn fail(&self, fault: Fault) {
        let mut state = lock(&self.state);
        state.standing = Some(fault);
        (state.next, state.random) = (VecDeque::new(), None);
    }

    /// What is done to the next requests, in turn; then it is as before.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        lock(&self.state).next.extend(faults);
    }

    /// Does one of these to so many of a hundred requests from now on.
    pub fn fail_at_random(&self, seed: u64, percent: u8, faults: &[Fault]) {
        lock(&self.state).random = Some((seed, percent, faults.to_vec()));
    }

    /// All goes well from now on.
    pub fn heal(&self) {
        let mut state = lock(&self.state);
        state.standing = None;
        (state.next, state.random) = (VecDeque::new(), None);
    }

    /// Methods and paths of the requests so far, `PUT /bucket/key?partNumber=1`; of one whose connection
    /// ended before it was read, nothing.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.state).requests.clone()
    }
}

impl Proxy {
    /// Heads of the requests so far that were read, with all headers but `Connection`.
    pub fn heads(&self) -> Vec<String> {
        lock(&self.state).heads.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        lock(&self.state).is_over = true;
        // Wakes the thread that listens.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// splitmix64's last step.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

struct Head {
    /// Up to the empty line, and without it.
    text: String,
    method: String,
    /// Method and path.
    line: String,
    body_bytes: u64,
}

fn serve(mut client: &TcpStream, server: SocketAddr, state: &Mutex<State>) -> io::Result<()> {
    // A refusal is decided by the request that would come, whether it does or not.
    if lock(state).standing == Some(Fault::Refuse) && lock(state).next.is_empty() {
        lock(state).requests.push(String::new());
        return Ok(());
    }
    let mut reader = BufReader::new(client);
    let Some(head) = read_head(&mut reader)? else { return Ok(()) };
    let fault = {
        let mut state = lock(state);
        state.heads.push(head.text.clone());
        state.take(head.line.clone())
    };
    let mut body = (&mut reader).take(head.body_bytes);
    match fault {
        Some(Fault::Refuse) => return Ok(()),
        Some(Fault::Status(status)) => {
            io::copy(&mut body, &mut io::sink())?;
            return answer(client, &head, status, "");
        }
        Some(Fault::Lie) if matches!(&*head.method, "PUT" | "POST") => {
            io::copy(&mut body, &mut io::sink())?;
            return answer(client, &head, 200, &lie(&head.line));
        }
        Some(Fault::Delay(time)) => thread::sleep(time),
        _ => {}
    }
    let mut upstream = TcpStream::connect(server)?;
    upstream.write_all(format!("{}Connection: close\r\n\r\n", head.text).as_bytes())?;
    if let Some(Fault::CutRequest(bytes)) = fault {
        io::copy(&mut body.take(bytes), &mut upstream)?;
        return upstream.shutdown(Shutdown::Both);
    }
    io::copy(&mut body, &mut upstream)?;
    match fault {
        Some(Fault::CutAnswer(bytes)) => {
            io::copy(&mut upstream.take(bytes), &mut client)?;
        }
        Some(Fault::Slow) => {
            for byte in BufReader::new(upstream).bytes() {
                client.write_all(&[byte?])?;
                // A test that is over does not wait for it.
                thread::sleep(Duration::from_secs(1));
                if lock(state).is_over {
                    break;
                }
            }
        }
        _ => {
            io::copy(&mut upstream, &mut client)?;
        }
    }
    Ok(())
}

fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut text = String::new();
    let mut body_bytes = 0;
    let mut reader = reader.take(HEAD_BYTES_MAX);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim_end().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        if name.eq_ignore_ascii_case("content-length") {
            body_bytes = value.trim().parse().unwrap_or(0);
        }
        if !name.eq_ignore_ascii_case("connection") {
            text += &line;
        }
    }
    let first = text.lines().next().unwrap_or_default();
    let mut words = first.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let line = format!("{method} {}", words.next().unwrap_or_default());
    Ok(Some(Head { method, line, body_bytes, text }))
}

fn answer(mut client: &TcpStream, head: &Head, status: u16, body: &str) -> io::Result<()> {
    let body = match status {
        200 => body.to_owned(),
        503 => "<Error><Code>SlowDown</Code><Message>told to fail</Message></Error>".into(),
        _ => "<Error><Code>Fault</Code><Message>told to fail</Message></Error>".into(),
    };
    let body = if head.method == "HEAD" { String::new() } else { body };
    write!(
        client,
        "HTTP/1.1 {status} Told\r\nETag: \"00000000000000000000000000000000\"\r\n\
         Content-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The body that a client of a multipart upload wants to hear.
fn lie(line: &str) -> String {
    if line.contains("?uploads") {
        return "<InitiateMultipartUploadResult><UploadId>lie</UploadId>\
                </InitiateMultipartUploadResult>"
            .into();
    }
    if line.starts_with("POST") {
        return "<CompleteMultipartUploadResult><ETag>\"0-1\"</ETag>\
                </CompleteMultipartUploadResult>"
            .into();
    }
    String::new()
}
