//! Numbered packets, many a system call, at a set pace.
//!
//! The payload is the rig's: magic, number, filler, so that [`rig::numbers_in`] finds the numbers
//! again. For a tunnel's receiver the tunnel's header and a whole inner frame stand in front of it.

use anyhow::Context;
use etherparse::PacketBuilder;
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, MMsgHdr, Protocol, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType,
    sendmmsg, socket_with,
};
use rustix::time::{ClockId, clock_gettime};
use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Ethernet, IPv4 and UDP in front of the generator's payload, bytes.
pub const HEADERS_BYTES: usize = 14 + 20 + 8;
/// Packets of one system call, and so of one burst: at 100 kpps one each 320 µs.
const BURST: usize = 32;
/// Source ports; each burst has the next one's.
const FLOWS: usize = 8;
/// The IP protocol of GRE.
const GRE: u32 = 47;
/// How often in a row a full device queue may refuse a burst.
const REFUSALS_MAX: u32 = 100_000;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Bytes of the frame that is to be captured, without the frame check sequence.
    pub frame_bytes: usize,
    /// Packets a second; `None`: as fast as the kernel takes them.
    pub pps: Option<u64>,
    /// Packets in all.
    pub count: u64,
    /// Put the frame into a tunnel.
    pub tunnel: Option<Tunnel>,
    /// Destination ports, from the one that is sent to: each burst has the next one's.
    pub ports: u16,
    /// Give the kernel a burst as one message, which it cuts into the packets: several times as
    /// fast, where the sending device has no offloads. Not with a VXLAN header.
    pub in_segments: bool,
}

/// A tunnel that frames are sent into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// VXLAN with this id.
    Vxlan(u32),
    /// Ethernet in GRE, without a key. There are no ports, and so one flow.
    Gretap,
}

impl Tunnel {
    fn header(self) -> Vec<u8> {
        match self {
            Tunnel::Vxlan(vni) => [[8, 0, 0, 0], (vni << 8).to_be_bytes()].concat(),
            Tunnel::Gretap => vec![0, 0, 0x65, 0x58],
        }
    }
}

/// What was sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Packets that the kernel accepted.
    pub accepted: u64,
    /// From before the first to behind the last.
    pub elapsed: Duration,
    /// CPU time of the thread inside its system calls: in a veth pair that is the stack, the
    /// device, and what hangs on the far end up to a socket.
    pub send_ns: u64,
}

impl Load {
    /// The UDP payload of number 0, and where the number stands.
    fn payload(&self) -> anyhow::Result<(Vec<u8>, usize)> {
        let numbered_bytes = self.frame_bytes.saturating_sub(HEADERS_BYTES);
        anyhow::ensure!(
            numbered_bytes >= rig::PAYLOAD_BYTES_MIN,
            "a frame of {} B holds no number",
            self.frame_bytes
        );
        let mut numbered = vec![0x5a; numbered_bytes];
        numbered[..rig::MAGIC.len()].copy_from_slice(&rig::MAGIC);
        let Some(tunnel) = self.tunnel else {
            return Ok((numbered, rig::MAGIC.len()));
        };
        let mut payload = tunnel.header();
        let frame_at = payload.len();
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(1024, 9)
            .write(&mut payload, &numbered)?;
        // No checksum, as the number changes.
        payload[frame_at + HEADERS_BYTES - 2..frame_at + HEADERS_BYTES].fill(0);
        Ok((payload, frame_at + HEADERS_BYTES + rig::MAGIC.len()))
    }

    fn port(&self, first: u16, flow: usize) -> u16 {
        first + (flow % usize::from(self.ports)) as u16
    }

    /// Of the packets sent, those that went to the first port.
    pub fn to_first_port(self) -> u64 {
        let (burst, round) = (BURST as u64, BURST as u64 * u64::from(self.ports));
        self.count / round * burst + (self.count % round).min(burst)
    }

    /// Sends from the calling thread's network namespace, each burst at its first packet's turn
    /// ([`rig::wait_for_turn`]).
    ///
    /// # Errors
    /// If the kernel refuses a packet for another reason than a full queue.
    pub fn send(&self, to: SocketAddr) -> anyhow::Result<Sent> {
        let sockets: Vec<UdpSocket> = (0..FLOWS.next_multiple_of(self.ports.into()))
            .map(|flow| {
                let to = SocketAddr::new(to.ip(), self.port(to.port(), flow));
                connected(to, self.tunnel == Some(Tunnel::Gretap))
            })
            .collect::<Result<_, _>>()?;
        let (payload, number_at) = self.payload()?;
        let mut packets = vec![payload; BURST];
        let (mut next, mut send_ns, mut flow) = (0u64, 0, 0);
        let start = Instant::now();
        while next < self.count {
            let burst = (self.count - next).min(BURST as u64) as usize;
            for (number, packet) in (next..).zip(&mut packets[..burst]) {
                packet[number_at..number_at + 8].copy_from_slice(&number.to_be_bytes());
            }
            rig::wait_for_turn(start, next, self.pps.unwrap_or(0));
            let before = thread_ns();
            let sent = match self.in_segments {
                true => send_in_segments(&sockets[flow], &packets[..burst]),
                false => send_burst(&sockets[flow], &packets[..burst]),
            };
            sent.with_context(|| format!("packet {next} to {to}"))?;
            send_ns += thread_ns() - before;
            next += burst as u64;
            flow = (flow + 1) % sockets.len();
        }
        Ok(Sent { accepted: next, elapsed: start.elapsed(), send_ns })
    }
}

/// A socket for UDP, or a raw one for GRE, of which the type only borrows its calls.
pub(super) fn connected(to: SocketAddr, is_gre: bool) -> std::io::Result<UdpSocket> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, protocol) = match is_gre {
        true => (SocketType::RAW, NonZeroU32::new(GRE).map(Protocol::from_raw)),
        false => (SocketType::DGRAM, None),
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
    let socket = UdpSocket::from(socket);
    socket.connect(to)?;
    Ok(socket)
}

/// Sends all packets of a burst; a full queue is offered the rest again.
fn send_burst(socket: &UdpSocket, packets: &[Vec<u8>]) -> anyhow::Result<()> {
    let vectors: Vec<[IoSlice<'_>; 1]> = packets.iter().map(|p| [IoSlice::new(p)]).collect();
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> =
        packets.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut messages: Vec<MMsgHdr<'_>> =
        vectors.iter().zip(&mut controls).map(|(v, c)| MMsgHdr::new(v, c)).collect();
    let (mut sent, mut refusals) = (0, 0);
    while sent < messages.len() {
        match sendmmsg(socket, &mut messages[sent..], SendFlags::empty()) {
            Ok(count) => sent += count,
            Err(Errno::INTR) => {}
            Err(Errno::NOBUFS | Errno::AGAIN) if refusals < REFUSALS_MAX => {
                refusals += 1;
                std::thread::yield_now();
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sends all packets of a burst, which are of one length, as one message that the kernel cuts.
pub(super) fn send_in_segments(socket: &UdpSocket, packets: &[Vec<u8>]) -> anyhow::Result<()> {
    let segment_bytes = packets.first().map_or(0, Vec::len);
    setsockopt(socket, UdpGsoSegment, &i32::try_from(segment_bytes)?)?;
    let message = packets.concat();
    for _ in 0..REFUSALS_MAX {
        match socket.send(&message) {
            Ok(_) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                std::thread::yield_now();
            }
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("the device's queue stays full")
}

pub(super) fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_arrives_once_in_a_frame_of_the_asked_length() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for (tunnel, in_segments) in [(None, false), (Some(Tunnel::Vxlan(7)), false), (None, true)]
        {
            let load = Load {
                frame_bytes: 64,
                pps: Some(20_000),
                count: 70,
                tunnel,
                ports: 1,
                in_segments,
            };
            let sent = load.send(socket.local_addr().unwrap()).unwrap();
            assert_eq!(sent.accepted, 70);
            assert!(sent.elapsed >= Duration::from_millis(3), "{sent:?}");
            let mut buffer = [0; 200];
            let mut numbers: Vec<u64> = Vec::new();
            for _ in 0..70 {
                let len = socket.recv(&mut buffer).unwrap();
                let numbered = if tunnel.is_some() { &buffer[8 + 42..len] } else { &buffer[..len] };
                assert_eq!((numbered.len(), &numbered[..8]), (22, &rig::MAGIC[..]));
                numbers.push(u64::from_be_bytes(numbered[8..16].try_into().unwrap()));
            }
            assert_eq!(numbers, (0..70).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_tunnel_s_header_is_its_own() {
        assert_eq!(Tunnel::Vxlan(7).header(), [8, 0, 0, 0, 0, 0, 7, 0]);
        assert_eq!(Tunnel::Gretap.header(), [0, 0, 0x65, 0x58]);
    }

    #[test]
    fn bursts_take_turns_at_the_ports() {
        let load = |count| Load {
            frame_bytes: 64,
            pps: None,
            count,
            tunnel: None,
            ports: 10,
            in_segments: false,
        };
        for (count, first) in [(0, 0), (31, 31), (33, 32), (320, 32), (321, 33), (3200, 320)] {
            assert_eq!(load(count).to_first_port(), first, "{count}");
        }
        let ports: Vec<u16> = (0..12).map(|flow| load(0).port(9, flow)).collect();
        assert_eq!(ports, [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 9, 10]);
    }

    #[test]
    fn a_frame_too_short_for_a_number_is_refused() {
        let load = Load {
            frame_bytes: 57,
            pps: None,
            count: 1,
            tunnel: None,
            ports: 1,
            in_segments: false,
        };
        let error = load.send("127.0.0.1:9".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "a frame of 57 B holds no number");
    }
}
