//! TCP between two hosts.

use io::netns::Netns;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long a connection may stand still.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a function, with the threads that it starts, on one CPU. Packets that two CPUs send over a
/// veth may overtake each other between two places where they are captured; those of one do not.
///
/// # Panics
/// If the function panics.
pub fn on_one_cpu<R: Send>(function: impl FnOnce() -> R + Send) -> R {
    let pinned = || {
        let mine = sched_getaffinity(None).expect("a thread may ask where it runs");
        let first = (0..CpuSet::MAX_CPU).find(|&cpu| mine.is_set(cpu)).expect("it runs somewhere");
        let mut one = CpuSet::new();
        one.set(first);
        sched_setaffinity(None, &one).expect("a CPU that was already its own");
        function()
    };
    match std::thread::scope(|scope| scope.spawn(pinned).join()) {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Sends bytes both ways at once over one TCP connection, and waits until all have arrived and the
/// connection is closed on both sides. All of it on one CPU: see [`on_one_cpu`].
///
/// # Panics
/// If they do not arrive as they were sent.
pub fn exchange(client: &Netns, server: &Netns, to: SocketAddr, bytes_each_way: usize) {
    on_one_cpu(|| exchange_here(client, server, to, bytes_each_way));
}

fn exchange_here(client: &Netns, server: &Netns, to: SocketAddr, bytes_each_way: usize) {
    let inside = "a namespace that was made can be entered";
    // A program that another test is starting may hold the listener before this one for a moment.
    let end = Instant::now() + PATIENCE;
    let listener = loop {
        match server.run(|| TcpListener::bind(to)).expect(inside) {
            Ok(listener) => break listener,
            Err(error) => assert!(Instant::now() < end, "listen on {to}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let connect = || TcpStream::connect_timeout(&to, PATIENCE);
    let near = client.run(connect).expect(inside);
    let near = near.unwrap_or_else(|e| panic!("connect to {to}: {e}"));
    let (far, _) = listener.accept().expect("the connection stands");
    let content: Vec<u8> = (0..bytes_each_way as u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    std::thread::scope(|scope| {
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(PATIENCE)).expect("the time is not 0");
            stream.set_write_timeout(Some(PATIENCE)).expect("the time is not 0");
            scope.spawn(|| send(stream, &content));
            scope.spawn(|| receive(stream, &content));
        }
    });
}

fn send(mut stream: &TcpStream, content: &[u8]) {
    stream.write_all(content).unwrap_or_else(|e| panic!("send over TCP: {e}"));
    stream.shutdown(Shutdown::Write).unwrap_or_else(|e| panic!("end a TCP stream: {e}"));
}

fn receive(mut stream: &TcpStream, content: &[u8]) {
    let mut received = Vec::with_capacity(content.len() + 1);
    stream.read_to_end(&mut received).unwrap_or_else(|e| panic!("receive over TCP: {e}"));
    assert!(received == content, "TCP brought {} of {} bytes", received.len(), content.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Topology, root_or_skip};
    use std::net::IpAddr;

    #[test]
    fn bytes_go_both_ways_over_both_families() {
        if !root_or_skip() {
            return;
        }
        let net = Topology::line(["client", "server"]).build();
        let (client, server) = (net.host("client"), net.host("server"));
        for address in [IpAddr::from(server.v4("client")), server.v6("client").into()] {
            exchange(&client.netns, &server.netns, (address, 80).into(), 300_000);
        }
        let sent = client.counter("server", "tx", "bytes");
        assert!(sent > 600_000, "{sent} bytes");
    }
}
