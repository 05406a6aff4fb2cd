//! Numbered packets that carry the time at which they were sent, to one or several links.
//!
//! ```text
//! offset  bytes  payload
//!      0      8  the rig's magic
//!      8      8  number, big endian, from 0
//!     16      6  ns since 1970 UTC, the low 48 bits, big endian
//!     22      n  filler
//! ```
//!
//! Each burst is given to the kernel as one message and has one time. The sending device has no
//! offloads, so the kernel cuts it into the packets: one core sends several times as many as by a system
//! call for each.

use super::super::generator::{HEADERS_BYTES, Sent, connected, send_in_segments, thread_ns};
use anyhow::Context;
use io::Now;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

/// Bytes of the payload's head.
const HEAD_BYTES: usize = 22;
const STAMP_BITS: u32 = 48;
/// Source ports on each link.
const FLOWS: usize = 8;
/// The kernel cuts a message into so many packets at most here: 46 kB of the longest frames.
const BURST_MAX: u64 = 32;
/// Bursts a second, where they need not be longer than this makes them.
const BURSTS: u64 = 20_000;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Bytes of the frames, without the frame check sequence.
    pub frame_bytes: usize,
    /// Packets a second.
    pub pps: u64,
    /// Packets in all.
    pub count: u64,
}

impl Stream {
    fn burst_max(&self) -> u64 {
        (self.pps / BURSTS).clamp(1, BURST_MAX)
    }

    /// By which of some links the packet of a number goes, from 0.
    pub fn link_of(&self, number: u64, links: usize) -> usize {
        (number / self.burst_max() % links as u64) as usize
    }

    /// Sends from the calling thread's network namespace, burst by burst to each address in turn, on an
    /// absolute schedule.
    ///
    /// # Errors
    /// If the kernel refuses a burst for another reason than a full queue.
    pub fn send(&self, to: &[SocketAddr]) -> anyhow::Result<Sent> {
        let sockets: Vec<UdpSocket> = (0..FLOWS)
            .flat_map(|_| to)
            .map(|&to| connected(to, false))
            .collect::<Result<_, _>>()?;
        let payload_bytes = self.frame_bytes.saturating_sub(HEADERS_BYTES);
        anyhow::ensure!(
            payload_bytes >= HEAD_BYTES,
            "a frame of {} B holds no number and time",
            self.frame_bytes
        );
        let mut payload = vec![0x5a; payload_bytes];
        payload[..rig::MAGIC.len()].copy_from_slice(&rig::MAGIC);
        let burst_max = self.burst_max();
        let mut packets = vec![payload; burst_max as usize];
        let (mut next, mut send_ns) = (0, 0);
        let start = Instant::now();
        for socket in sockets.iter().cycle() {
            if next >= self.count {
                break;
            }
            let burst = (self.count - next).min(burst_max) as usize;
            rig::wait_for_turn(start, next, self.pps);
            let stamp = Now::read().utc_ns.to_be_bytes();
            for (number, packet) in (next..).zip(&mut packets[..burst]) {
                packet[8..16].copy_from_slice(&number.to_be_bytes());
                packet[16..HEAD_BYTES].copy_from_slice(&stamp[2..]);
            }
            let before = thread_ns();
            let sent = send_in_segments(socket, &packets[..burst]);
            sent.with_context(|| format!("packet {next}"))?;
            send_ns += thread_ns() - before;
            next += burst as u64;
        }
        Ok(Sent { accepted: next, elapsed: start.elapsed(), send_ns })
    }
}

/// The number of a frame, and how long after it was sent it was at a place at a time, ns. `None` for
/// other frames.
pub fn read(frame: &[u8], ts_ns: u64) -> Option<(u64, u64)> {
    let head = frame.get(HEADERS_BYTES..HEADERS_BYTES + HEAD_BYTES)?;
    if head[..8] != rig::MAGIC {
        return None;
    }
    let number = u64::from_be_bytes(*head[8..].first_chunk()?);
    let mut stamp = [0; 8];
    stamp[2..].copy_from_slice(&head[16..]);
    let mask = (1 << STAMP_BITS) - 1;
    Some((number, ts_ns.wrapping_sub(u64::from_be_bytes(stamp)) & mask))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn packets_go_to_each_link_in_turn_and_tell_their_number_and_their_time() {
        let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let to = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
        let stream = Stream { frame_bytes: 64, pps: 100_000, count: 43 };
        let sent = stream.send(&to).unwrap();
        assert_eq!(sent.accepted, 43);
        let mut numbers = Vec::new();
        let mut buffer = [0; 200];
        for (place, socket) in sockets.iter().enumerate() {
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            for _ in 0..[23, 20][place] {
                let len = socket.recv(&mut buffer[HEADERS_BYTES..]).unwrap();
                assert_eq!(len, 22);
                let frame = &buffer[..HEADERS_BYTES + len];
                let (number, late_ns) = read(frame, Now::read().utc_ns).unwrap();
                assert_eq!(stream.link_of(number, 2), place, "bursts of 5");
                assert!(late_ns < 5_000_000_000, "{late_ns}");
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..43).collect::<Vec<_>>());
    }

    #[test]
    fn times_come_round() {
        let mut frame = vec![0; 64];
        assert_eq!(read(&frame, 0), None);
        frame[HEADERS_BYTES..][..8].copy_from_slice(&rig::MAGIC);
        frame[HEADERS_BYTES + 15] = 7;
        frame[HEADERS_BYTES + 16..].copy_from_slice(&[0xff; 6]);
        assert_eq!(read(&frame, (5 << STAMP_BITS) + 9), Some((7, 10)));
    }
}
