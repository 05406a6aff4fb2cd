//! The demo's traffic: clients that download from the server, and what the taps must leave alone:
//! health checks, another port, HTTP between clients, UDP and the ICMP that answers it.

use super::http::{self, Client, PATIENCE};
use super::plan::{CLIENTS, SERVER, STATUS, client_address, client_name};
use super::scene::Scene;
use super::stream::Digest;
use crate::failure::Failure;
use io::now_ns;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Pause between two downloads of a client.
const PAUSE: Duration = Duration::from_millis(50);
/// Downloads on a connection, in turns: a short one and one that is kept.
const REQUESTS: [u64; 2] = [1, 4];
const HTTP_PORT: u16 = 80;
const OTHER_PORT: u16 = 8080;
/// Nobody listens there: the server's kernel answers by ICMP.
const UDP_PORT: u16 = 5000;
/// Each connection has a port of its own, counted from here, so that it can be told from others.
const FIRST_PORT: u16 = 10_000;

/// A connection between a client and the server, as the client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    pub client: usize,
    /// The client's port.
    pub port: u16,
    /// When it was begun and when it had ended, nanoseconds since 1970.
    pub begun_ns: u64,
    pub ended_ns: u64,
    pub requests: u64,
    /// What the client sent, and what it got.
    pub up: Digest,
    pub down: Digest,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    requests: AtomicU64,
    /// Bytes of the answers' bodies.
    bytes: AtomicU64,
    connections: Mutex<Vec<Connection>>,
}

/// Running traffic.
pub struct Traffic {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<std::io::Result<()>>>,
}

impl Traffic {
    /// Starts servers and clients, each in its host.
    pub fn start(scene: &Scene) -> Result<Traffic, Failure> {
        let clients = scene.clients();
        let mut servers = vec![
            (&scene.server, SERVER, HTTP_PORT),
            (&scene.server, SERVER, OTHER_PORT),
            (&scene.server, STATUS, HTTP_PORT),
        ];
        let of_clients = clients.iter().enumerate();
        servers.extend(of_clients.map(|(n, host)| (*host, client_address(n), HTTP_PORT)));
        for (host, address, port) in servers {
            let listener = host.run(|| TcpListener::bind((address, port)))?;
            let listener = listener.map_err(|e| {
                Failure::CouldNot(format!("start the HTTP server on {address}:{port}: {e}"))
            })?;
            std::thread::spawn(move || http::serve(&listener));
        }
        let shared = Arc::new(Shared::default());
        let mut running = Vec::new();
        for (client, host) in clients.into_iter().enumerate() {
            let (of_downloads, of_others) = (Arc::clone(&shared), Arc::clone(&shared));
            // A connection belongs to the namespace of the thread that makes it.
            running.push(host.spawn(move || download(client, &of_downloads))?);
            running.push(host.spawn(move || make_noise(client, &of_others))?);
        }
        Ok(Traffic { shared, clients: running })
    }

    /// Downloads that are done, and the bytes of their bodies.
    pub fn so_far(&self) -> (u64, u64) {
        let Shared { requests, bytes, .. } = &*self.shared;
        (requests.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
    }

    /// Lets the connections at hand come to their end; gives all of them.
    pub fn stop(self) -> Result<Vec<Connection>, Failure> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for (thread, handle) in self.clients.into_iter().enumerate() {
            let result = handle.join().expect("a client does not panic");
            result.map_err(|e| {
                Failure::CouldNot(format!("the demo's {}: {e}", client_name(thread / 2)))
            })?;
        }
        let mut connections =
            self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut connections))
    }
}

/// Downloads one file after the other until told to stop.
fn download(client: usize, shared: &Shared) -> std::io::Result<()> {
    let going_on = || !shared.stop.load(Ordering::Relaxed);
    let (mut number, mut connections) = (0, 0);
    while going_on() {
        let begun_ns = now_ns();
        let wanted = REQUESTS[connections as usize % REQUESTS.len()];
        let port = FIRST_PORT + connections;
        let stream = connect((client_address(client), port), (SERVER, HTTP_PORT))?;
        let mut http = Client::new(stream)?;
        let mut requests = 0;
        loop {
            requests += 1;
            // Once told to stop, this file is the last.
            let last = requests == wanted || !going_on();
            let bytes = http.get(&http::file(number), last)?;
            shared.requests.fetch_add(1, Ordering::Relaxed);
            shared.bytes.fetch_add(bytes, Ordering::Relaxed);
            number += 1;
            if last {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        let (up, down) = (http.sent, http.received);
        http.finish()?;
        let ended_ns = now_ns();
        let connection = Connection { client, port, begun_ns, ended_ns, requests, up, down };
        shared.connections.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        connections += 1;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Connects from a port of one's own choice.
fn connect(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> std::io::Result<TcpStream> {
    let (inet, stream) = (AddressFamily::INET, SocketType::STREAM);
    let socket = rustix::net::socket_with(inet, stream, SocketFlags::CLOEXEC, None)?;
    // It bounds how long connecting may take, too.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    rustix::net::bind(&socket, &SocketAddrV4::new(from.0, from.1))?;
    rustix::net::connect(&socket, &SocketAddrV4::new(to.0, to.1))?;
    Ok(socket.into())
}

/// Makes traffic that no tap may mirror, until told to stop.
fn make_noise(client: usize, shared: &Shared) -> std::io::Result<()> {
    let udp = UdpSocket::bind((client_address(client), 0))?;
    let neighbour = client_address((client + 1) % CLIENTS);
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        for (to, path) in [
            ((SERVER, OTHER_PORT), http::file(number)),
            ((STATUS, HTTP_PORT), "/health".into()),
            ((neighbour, HTTP_PORT), http::file(0)),
        ] {
            let mut http = Client::new(TcpStream::connect(to)?)?;
            http.get(&path, true)?;
            http.finish()?;
            udp.send_to(b"not for the tap", (SERVER, UDP_PORT))?;
            std::thread::sleep(PAUSE);
        }
        number += 1;
    }
    Ok(())
}
