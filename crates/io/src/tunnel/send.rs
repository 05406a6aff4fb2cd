//! Packets into a tunnel: VXLAN over UDP, each datagram with the source port of its flow.
//!
//! The headers stand apart from the packet and the kernel gathers both, so that a packet that
//! goes to several targets is copied by nobody but the kernel.

use super::sys::{HEADER_BYTES_MAX, LateError, MESSAGES, SendSocket, would_wait};
use crate::batch::Selection;
use crate::clock::Now;
use crate::device::{Sink, SinkCounters, Upstream};
use crate::error::Error;
use crate::packet::Packet;
use api::{DropReason, Oversize};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use wire::{LinkType, Vni, flow, udp, vxlan};

/// Size of the send buffer.
const SEND_BUFFER_BYTES: usize = 8 << 20;

/// How long the same error is not reported again.
const REPORT_AGAIN: Duration = Duration::from_secs(10);

/// The sending end of a VXLAN tunnel.
pub struct TunnelSink {
    socket: SendSocket,
    remote: SocketAddr,
    vni: Vni,
    headers: Box<[[u8; HEADER_BYTES_MAX]; MESSAGES]>,
    counters: SinkCounters,
    /// The error that was reported last, and when.
    trouble: Option<(i32, Instant)>,
}

impl TunnelSink {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`Error::System`] without the right to send raw packets (CAP_NET_RAW), or without a route.
    pub fn open(remote: SocketAddr, vni: Vni, oversize: Oversize) -> Result<TunnelSink, Error> {
        let what = || format!("tunnel to {remote}");
        let socket = SendSocket::open(remote, oversize).map_err(|e| match e.raw_os_error() {
            Some(libc::ENETUNREACH | libc::EINVAL) => Error::System {
                what: what(),
                source: e,
                mend: "; there must be a route to it (`ip route get`), and a link-local IPv6 \
                       address needs its interface: fe80::1%eth0",
            },
            _ => Error::system(what() + ": raw socket", e),
        })?;
        socket
            .set_buffer(SEND_BUFFER_BYTES)
            .map_err(|e| Error::system(what() + ": send buffer", e))?;
        let headers = Box::new([[0; HEADER_BYTES_MAX]; MESSAGES]);
        let counters = SinkCounters::default();
        Ok(TunnelSink { socket, remote, vni, headers, counters, trouble: None })
    }

    /// Sends up to [`MESSAGES`] packets; returns how many it took: sent or counted as dropped.
    fn send_some(&mut self, packets: Selection<'_>) -> usize {
        let mut datagrams: [(&[u8], &[u8]); MESSAGES] = [(&[], &[]); MESSAGES];
        let mut count = 0;
        let ethernet = packets.iter().take_while(|p| p.meta.link_type == LinkType::ETHERNET);
        for ((packet, header), slot) in
            ethernet.zip(self.headers.iter_mut()).zip(datagrams.iter_mut())
        {
            encapsulate(header, self.remote.port(), self.vni, packet);
            *slot = (&*header, &packet.data);
            count += 1;
        }
        let mut taken = 0;
        let mut tried_again = false;
        while taken < count {
            let error = match self.socket.send(&datagrams[taken..count]) {
                Ok(0) => return taken,
                Ok(sent) => {
                    self.counters.sent += sent as u64;
                    taken += sent;
                    tried_again = false;
                    continue;
                }
                Err(error) if would_wait(&error) => return taken,
                Err(error) => error,
            };
            let number = error.raw_os_error().unwrap_or(0);
            if number == libc::ENOBUFS && !self.socket.has_room() {
                return taken;
            }
            // An ICMP answer to an earlier packet is reported by the next call, which then sends
            // nothing. Only the second error is about this packet.
            if tried_again {
                self.counters.drops.add(reason(number));
                taken += 1;
                report(&mut self.trouble, self.remote, number, "such packets are counted");
            }
            tried_again = !tried_again;
        }
        if count < MESSAGES && taken < packets.len() {
            self.counters.drops.add(DropReason::LinkType);
            taken += 1;
        }
        taken
    }

    /// Takes back what turned out later not to have been sent: no neighbour answered, or a router
    /// on the way had no route.
    fn read_late_errors(&mut self) {
        while let Some(LateError { errno, by_icmp }) = self.socket.late_error() {
            if !by_icmp {
                continue; // the call has told of it already
            }
            let consequence = match reason(errno) {
                lost @ (DropReason::Unreachable | DropReason::Oversize) => {
                    let packets = self.counters.sent.min(1);
                    self.counters.sent -= packets;
                    self.counters.drops.add_many(lost, packets);
                    "such packets are counted"
                }
                // The far end has got it and has nobody to give it to.
                _ => "nobody listens there; packets go on being sent",
            };
            report(&mut self.trouble, self.remote, errno, consequence);
        }
    }
}

/// Reports an error, unless it was the last one reported and that is not long ago.
fn report(trouble: &mut Option<(i32, Instant)>, remote: SocketAddr, errno: i32, consequence: &str) {
    let known = trouble.is_some_and(|(last, at)| last == errno && at.elapsed() < REPORT_AGAIN);
    if !known {
        let error = std::io::Error::from_raw_os_error(errno);
        tracing::warn!("tunnel to {remote}: {error}; {consequence}");
        *trouble = Some((errno, Instant::now()));
    }
}

/// Writes the UDP and VXLAN headers that go in front of a packet.
///
/// The UDP checksum stays 0: RFC 7348 wants it so over IPv4, and over IPv6 the kernel fills it in.
fn encapsulate(header: &mut [u8; HEADER_BYTES_MAX], port: u16, vni: Vni, packet: &Packet) {
    let hash = packet.meta.flow_hash.unwrap_or_else(|| packet.compute_flow_hash());
    let len = HEADER_BYTES_MAX + packet.caplen();
    let repr = udp::Repr {
        src_port: flow::source_port(hash),
        dst_port: port,
        length: u16::try_from(len).unwrap_or(0), // too large for UDP: the kernel refuses it
        checksum: 0,
    };
    repr.emit(header);
    vxlan::Repr { vni }.emit(&mut header[udp::HEADER_LEN..]);
}

fn reason(errno: i32) -> DropReason {
    match errno {
        libc::EMSGSIZE => DropReason::Oversize,
        libc::ENOBUFS => DropReason::DeviceQueue,
        libc::ENETUNREACH
        | libc::EHOSTUNREACH
        | libc::ENETDOWN
        | libc::EHOSTDOWN
        | libc::ENODEV => DropReason::Unreachable,
        _ => DropReason::SendError,
    }
}

impl Sink for TunnelSink {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        let mut taken = 0;
        while taken < packets.len() {
            let some = self.send_some(packets.skip(taken));
            taken += some;
            if some == 0 {
                break;
            }
        }
        taken
    }

    fn counters(&self) -> SinkCounters {
        self.counters
    }

    fn tick(&mut self, _now: Now) {
        self.read_late_errors();
    }

    fn finish(&mut self, _upstream: &Upstream) -> Result<(), Error> {
        self.read_late_errors();
        Ok(())
    }
}
