//! Packets into a tunnel: VXLAN over UDP, each datagram with the source port of its flow.
//!
//! The headers stand apart from the packet and the kernel gathers both, so that a packet that
//! goes to several targets is copied by nobody but the kernel.

use super::sys::{HEADER_BYTES_MAX, MESSAGES, SendSocket, would_wait};
use crate::batch::Selection;
use crate::device::{Sink, SinkCounters, Upstream};
use crate::error::Error;
use crate::packet::Packet;
use api::{DropReason, Oversize};
use std::net::SocketAddr;
use wire::{Vni, flow, udp, vxlan};

/// Size of the send buffer.
pub const SEND_BUFFER_BYTES: usize = 8 << 20;

/// The sending end of a VXLAN tunnel.
pub struct TunnelSink {
    socket: SendSocket,
    remote: SocketAddr,
    vni: Vni,
    headers: Box<[[u8; HEADER_BYTES_MAX]; MESSAGES]>,
    counters: SinkCounters,
    /// The last error that cost a packet, so that it is reported when it changes.
    trouble: Option<i32>,
}

impl TunnelSink {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`Error::System`] without the right to send raw packets (CAP_NET_RAW).
    pub fn open(remote: SocketAddr, vni: Vni, oversize: Oversize) -> Result<TunnelSink, Error> {
        let what = || format!("tunnel to {remote}");
        let socket = SendSocket::open(remote, oversize)
            .map_err(|e| Error::system(what() + ": raw socket", e))?;
        socket
            .set_buffer(SEND_BUFFER_BYTES)
            .map_err(|e| Error::system(what() + ": send buffer", e))?;
        let headers = Box::new([[0; HEADER_BYTES_MAX]; MESSAGES]);
        Ok(TunnelSink {
            socket,
            remote,
            vni,
            headers,
            counters: SinkCounters::default(),
            trouble: None,
        })
    }

    /// Sends up to [`MESSAGES`] packets; returns how many it took: sent or counted as dropped.
    fn send_some(&mut self, packets: Selection<'_>) -> usize {
        let mut datagrams: [(&[u8], &[u8]); MESSAGES] = [(&[], &[]); MESSAGES];
        let mut count = 0;
        for ((packet, header), slot) in
            packets.iter().zip(self.headers.iter_mut()).zip(datagrams.iter_mut())
        {
            encapsulate(header, self.remote.port(), self.vni, packet);
            *slot = (&*header, &packet.data);
            count += 1;
        }
        let mut taken = 0;
        let mut tried_again = false;
        while taken < count {
            match self.socket.send(&datagrams[taken..count]) {
                Ok(0) => break,
                Ok(sent) => {
                    self.counters.sent += sent as u64;
                    taken += sent;
                    tried_again = false;
                    self.trouble = None;
                }
                Err(error) if would_wait(&error) => break,
                // An ICMP answer to an earlier packet is reported by the next call, which then
                // sends nothing. Only the second error is about this packet.
                Err(_) if !tried_again => tried_again = true,
                Err(error) => {
                    self.counters.drops.add(reason(&error));
                    taken += 1;
                    tried_again = false;
                    if self.trouble != error.raw_os_error() {
                        tracing::warn!(
                            "tunnel to {}: {error}; such packets are counted",
                            self.remote
                        );
                        self.trouble = error.raw_os_error();
                    }
                }
            }
        }
        taken
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

fn reason(error: &std::io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => DropReason::Oversize,
        Some(libc::ENOBUFS) => DropReason::DeviceQueue,
        Some(
            libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::ENODEV,
        ) => DropReason::Unreachable,
        _ => DropReason::SendError,
    }
}

impl Sink for TunnelSink {
    fn send(&mut self, packets: Selection<'_>) -> usize {
        let mut taken = 0;
        while taken < packets.len() {
            let some = self.send_some(packets.skip(taken));
            taken += some;
            if some < MESSAGES {
                break;
            }
        }
        taken
    }

    fn counters(&self) -> SinkCounters {
        self.counters
    }

    fn tick(&mut self, _now_ns: u64) {}

    fn finish(&mut self, _upstream: &Upstream) -> Result<(), Error> {
        Ok(())
    }
}
