//! The demo's traffic: an HTTP server and a client that downloads from it, and what the tap must
//! leave alone: the same on another port, and UDP.

use super::scene::{SERVER, Scene};
use crate::failure::Failure;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of each answer.
const ANSWER_BYTES: usize = 512 << 10;
/// Pause between two downloads.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a connection may stand still.
const PATIENCE: Duration = Duration::from_secs(5);
const HTTP_PORT: u16 = 80;
const OTHER_PORT: u16 = 8080;
const UDP_PORT: u16 = 5000;

/// What the client did on port 80.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    pub requests: u64,
    /// Bytes of the answers' bodies.
    pub bytes: u64,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// Running traffic.
pub struct Traffic {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<std::io::Result<()>>>,
}

impl Traffic {
    /// Starts servers and clients, each in its host.
    pub fn start(scene: &Scene) -> Result<Traffic, Failure> {
        let failed = |what: &str, e: std::io::Error| Failure::CouldNot(format!("{what}: {e}"));
        for port in [HTTP_PORT, OTHER_PORT] {
            let listener = scene.server.run(|| TcpListener::bind((SERVER, port)))?;
            let listener = listener.map_err(|e| failed("start the HTTP server", e))?;
            std::thread::spawn(move || serve(&listener));
        }
        let shared = Arc::new(Shared::default());
        let udp = scene.client.run(|| UdpSocket::bind(("0.0.0.0", 0)))?;
        let udp = udp.map_err(|e| failed("open a UDP socket", e))?;
        let mut clients = Vec::new();
        for port in [HTTP_PORT, OTHER_PORT] {
            let shared = Arc::clone(&shared);
            // A connection belongs to the namespace of the thread that makes it.
            clients.push(scene.client.spawn(move || download(port, &shared))?);
        }
        let of_chatter = Arc::clone(&shared);
        clients.push(std::thread::spawn(move || chatter(&udp, &of_chatter)));
        Ok(Traffic { shared, clients })
    }

    pub fn so_far(&self) -> Done {
        Done {
            requests: self.shared.requests.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
        }
    }

    /// Lets the downloads at hand come to their end.
    pub fn stop(self) -> Result<Done, Failure> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let done = self.shared;
        for client in self.clients {
            let result = client.join().expect("a client does not panic");
            result.map_err(|e| Failure::CouldNot(format!("the demo's client: {e}")))?;
        }
        Ok(Done {
            requests: done.requests.load(Ordering::Relaxed),
            bytes: done.bytes.load(Ordering::Relaxed),
        })
    }
}

/// Answers each connection's request with bytes that do not repeat.
fn serve(listener: &TcpListener) {
    let body: Vec<u8> = (0..ANSWER_BYTES as u32 / 4).flat_map(u32::to_be_bytes).collect();
    for stream in listener.incoming().flatten() {
        // A client that breaks off costs only its own connection.
        let _ = answer(stream, &body);
    }
}

fn answer(mut stream: TcpStream, body: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line != "\r\n" {
        line.clear();
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)
}

/// Downloads one file after the other until told to stop.
fn download(port: u16, shared: &Shared) -> std::io::Result<()> {
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect((SERVER, port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET /file-{number}.bin HTTP/1.1\r\nHost: {SERVER}\r\nUser-Agent: tapline-demo\r\n\r\n"
        )?;
        let mut answer = Vec::with_capacity(ANSWER_BYTES + 256);
        stream.read_to_end(&mut answer)?;
        let body =
            answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
        if port == HTTP_PORT {
            shared.requests.fetch_add(1, Ordering::Relaxed);
            shared.bytes.fetch_add((answer.len() - body) as u64, Ordering::Relaxed);
        }
        number += 1;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Sends small UDP packets that nobody answers.
fn chatter(socket: &UdpSocket, shared: &Shared) -> std::io::Result<()> {
    while !shared.stop.load(Ordering::Relaxed) {
        socket.send_to(b"not for the tap", (SERVER, UDP_PORT))?;
        std::thread::sleep(PAUSE / 10);
    }
    Ok(())
}
