//! One TCP connection at a set pace, with the offloads that its devices have.

use super::generator::thread_ns;
use super::process::pin;
use super::{CORE, GENERATOR_CORE};
use anyhow::Context;
use io::netns::Netns;
use rustix::net::sockopt::set_tcp_congestion;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of a write, which becomes one super-packet or two.
pub const WRITE_BYTES: usize = 64 << 10;
/// Bytes that a segment carries over IPv4 with time stamps, at an MTU of 1500.
const SEGMENT_BYTES: usize = 1500 - 20 - 32;
/// How long a connection may stand still.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Bytes in all.
    pub bytes: usize,
    /// Writes a second; 0: as fast as it goes.
    pub writes_per_s: u64,
}

/// What was sent.
#[derive(Debug, Clone, Copy)]
pub struct Streamed {
    /// Segments that the data takes on the wire.
    pub segments: u64,
    /// CPU time of both ends, in their system calls, ns.
    pub cpu_ns: u64,
    /// From the first write until the far end has read everything.
    pub elapsed: Duration,
}

impl Stream {
    /// Sends from one network to another, to an address that leads there.
    ///
    /// # Errors
    /// If the connection cannot be made, or stands still.
    pub fn send(&self, client: &Netns, server: &Netns, to: SocketAddr) -> anyhow::Result<Streamed> {
        let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, to.port()));
        let listener =
            server.run(listen)?.with_context(|| format!("listen on port {}", to.port()))?;
        let connect = || TcpStream::connect_timeout(&to, PATIENCE);
        let near = client.run(connect)?.with_context(|| format!("connect to {to}"))?;
        let (far, _) = listener.accept()?;
        far.set_read_timeout(Some(PATIENCE))?;
        near.set_write_timeout(Some(PATIENCE))?;
        near.set_nodelay(true)?;
        // One that does not pace by timers: those would run on whoever's time.
        set_tcp_congestion(&near, "reno").context("congestion control `reno`")?;
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| read_all(&far));
            let start = Instant::now();
            let written = scope.spawn(move || self.write_all(near, start)).join();
            let read = reader.join();
            let [written, read] = [written, read].map(|end| match end {
                Ok(ns) => ns,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            anyhow::Ok(Streamed {
                segments: self.bytes.div_ceil(SEGMENT_BYTES) as u64,
                cpu_ns: written? + read?,
                elapsed: start.elapsed(),
            })
        })
    }

    fn write_all(&self, mut near: TcpStream, start: Instant) -> anyhow::Result<u64> {
        pin(GENERATOR_CORE);
        let content = vec![0x5a; WRITE_BYTES];
        let (mut left, mut number, mut ns) = (self.bytes, 0, 0);
        while left > 0 {
            let bytes = left.min(WRITE_BYTES);
            rig::wait_for_turn(start, number, self.writes_per_s);
            let before = thread_ns();
            near.write_all(&content[..bytes]).context("send over TCP")?;
            ns += thread_ns() - before;
            left -= bytes;
            number += 1;
        }
        Ok(ns)
    }
}

fn read_all(mut far: &TcpStream) -> anyhow::Result<u64> {
    pin(CORE);
    let mut buffer = vec![0; 4 * WRITE_BYTES];
    let before = thread_ns();
    while far.read(&mut buffer).context("receive over TCP")? > 0 {}
    Ok(thread_ns() - before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rig::{Topology, root_or_skip};

    #[test]
    fn a_stream_arrives_at_its_pace() {
        if !root_or_skip() {
            return;
        }
        let net = Topology::line(["left", "right"]).build();
        let (left, right) = (net.host("left"), net.host("right"));
        let stream = Stream { bytes: 10 * WRITE_BYTES + 1, writes_per_s: 100 };
        let to = SocketAddr::new(right.v4("left").into(), 9);
        let sent = stream.send(&left.netns, &right.netns, to).unwrap();
        assert_eq!(sent.segments, 453);
        assert!(sent.elapsed >= Duration::from_millis(100), "{sent:?}");
        assert!(sent.cpu_ns > 0, "{sent:?}");
        assert!(left.counter("right", "tx", "bytes") as usize > stream.bytes);
    }
}
