//! A small HTTP server, and a client that asks it at a set pace over one connection.

use super::super::process::pin;
use super::super::{CORE, GENERATOR_CORE};
use anyhow::Context;
use io::netns::Netns;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Requests a second.
const PACE: u64 = 1000;
/// Bytes of an answer's body.
const BODY_BYTES: usize = 16 << 10;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long answers took, from the first byte of the request to the last one of the answer.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub p50_us: f64,
    pub p99_us: f64,
}

/// Asks a number of times, at least once.
///
/// # Errors
/// If the connection cannot be made, or an answer is not whole.
pub fn ask(client: &Netns, server: &Netns, to: SocketAddr, requests: u64) -> anyhow::Result<Times> {
    let listener =
        server.run(|| TcpListener::bind(to))?.with_context(|| format!("listen on {to}"))?;
    let connect = || TcpStream::connect_timeout(&to, PATIENCE);
    let near = client.run(connect)?.with_context(|| format!("connect to {to}"))?;
    let (far, _) = listener.accept()?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
    }
    let times = std::thread::scope(|scope| {
        let answering = scope.spawn(|| answer(&far));
        let asked = scope.spawn(|| ask_all(near, requests)).join();
        let answered = answering.join();
        match (asked, answered) {
            (Ok(asked), Ok(answered)) => answered.and(asked),
            (Err(panic), _) | (_, Err(panic)) => std::panic::resume_unwind(panic),
        }
    })?;
    Ok(percentiles(times))
}

/// Answers until the client has closed.
fn answer(far: &TcpStream) -> anyhow::Result<()> {
    pin(CORE);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
    let answer = [head.as_bytes(), &[b'x'; BODY_BYTES]].concat();
    let mut requests = BufReader::new(far);
    let mut line = String::new();
    loop {
        line.clear();
        if requests.read_line(&mut line).context("read a request")? == 0 {
            return Ok(());
        }
        if line == "\r\n" {
            let mut far = far;
            far.write_all(&answer).context("write an answer")?;
        }
    }
}

fn ask_all(near: TcpStream, requests: u64) -> anyhow::Result<Vec<u64>> {
    pin(GENERATOR_CORE);
    let mut answers = BufReader::with_capacity(2 * BODY_BYTES, &near);
    let (mut body, mut line) = (vec![0; BODY_BYTES], String::new());
    let mut times = Vec::new();
    let start = Instant::now();
    for number in 0..requests.max(1) {
        rig::wait_for_turn(start, number, PACE);
        let asked = Instant::now();
        let mut near = &near;
        near.write_all(REQUEST).context("write a request")?;
        loop {
            line.clear();
            anyhow::ensure!(answers.read_line(&mut line)? > 0, "the server has closed");
            if line == "\r\n" {
                break;
            }
        }
        answers.read_exact(&mut body).context("read an answer")?;
        times.push(asked.elapsed().as_nanos() as u64);
    }
    Ok(times)
}

fn percentiles(mut times_ns: Vec<u64>) -> Times {
    times_ns.sort_unstable();
    let at = |percent: usize| times_ns[(times_ns.len() * percent / 100).min(times_ns.len() - 1)];
    Times { p50_us: at(50) as f64 / 1000.0, p99_us: at(99) as f64 / 1000.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rig::{Topology, root_or_skip};

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times = percentiles((1..=1000).rev().map(|n| n * 1000).collect());
        assert_eq!((times.p50_us, times.p99_us), (501.0, 991.0));
        assert_eq!(percentiles(vec![7000]).p99_us, 7.0);
    }

    #[test]
    fn requests_are_answered() {
        if !root_or_skip() {
            return;
        }
        let net = Topology::line(["left", "right"]).build();
        let (left, right) = (net.host("left"), net.host("right"));
        let to = SocketAddr::new(right.v4("left").into(), 80);
        let times = ask(&left.netns, &right.netns, to, 20).unwrap();
        assert!(times.p50_us > 0.0 && times.p99_us >= times.p50_us, "{times:?}");
        assert!(right.counter("left", "tx", "bytes") > 20 * BODY_BYTES as u64);
    }
}
