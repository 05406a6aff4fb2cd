//! Packets into a tunnel: each with the header of its kind and, over UDP, the source port of its flow.
//!
//! The headers stand apart from the packet and the kernel gathers both, so that a packet that
//! goes to several targets is copied by nobody but the kernel.

use super::sys::{LateError, MESSAGES, SendSocket, would_wait};
use crate::batch::Selection;
use crate::clock::Now;
use crate::device::{Sink, SinkCounters, Upstream};
use crate::error::Error;
use crate::packet::Packet;
use api::{DropReason, Oversize};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use wire::encap::{self, Fit, Told};
use wire::metadata::Lane;
use wire::tunnel::{Carrier, Encap};
use wire::{flow, udp};

/// Size of the send buffer.
const SEND_BUFFER_BYTES: usize = 8 << 20;

/// Headers in front of a packet: UDP and that of the tunnel.
const HEADER_BYTES_MAX: usize = udp::HEADER_LEN + encap::HEADER_LEN_MAX;

/// How often a tunnel that can tell how far it has come does so, ns.
const PROGRESS_NS: u64 = 1_000_000_000;

/// How long the same error is not reported again.
const REPORT_AGAIN: Duration = Duration::from_secs(10);

/// Where packets are sent, and how.
#[derive(Debug, Clone, Copy)]
pub struct SendOptions {
    /// The far end; the port is the carrier's.
    pub remote: SocketAddr,
    /// What stands between IP and the tunnel header.
    pub carrier: Carrier,
    /// The tunnel header.
    pub encap: Encap,
    /// What becomes of packets that do not fit the path.
    pub oversize: Oversize,
    /// Who numbers the packets.
    pub lane: Lane,
}

/// The sending end of a tunnel.
pub struct TunnelSink {
    socket: SendSocket,
    options: SendOptions,
    headers: Box<[[u8; HEADER_BYTES_MAX]; MESSAGES]>,
    /// The number of the next packet. One that the kernel refuses leaves its number to the next.
    sequence: u32,
    /// The number that was told last, and when.
    told: (u32, u64),
    counters: SinkCounters,
    /// The error that was reported last, and when.
    trouble: Option<(i32, Instant)>,
}

/// What came of an attempt to send some packets.
enum Sent {
    /// So many are done with: sent, or counted as dropped.
    Done(usize),
    /// The socket takes no more now.
    Full,
}

impl TunnelSink {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`Error::System`] without the right to send raw packets (CAP_NET_RAW), or without a route.
    pub fn open(options: &SendOptions) -> Result<TunnelSink, Error> {
        let SendOptions { remote, carrier, oversize, .. } = *options;
        let what = || format!("tunnel to {remote}");
        let socket =
            SendSocket::open(remote, carrier, oversize).map_err(|e| match e.raw_os_error() {
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
        Ok(TunnelSink {
            socket,
            options: *options,
            headers: Box::new([[0; HEADER_BYTES_MAX]; MESSAGES]),
            sequence: 0,
            told: (0, Now::read().utc_ns),
            counters: SinkCounters::default(),
            trouble: None,
        })
    }

    /// Sends up to [`MESSAGES`] packets from the front. `tried_again` is whether the first one has
    /// failed before.
    fn send_some(&mut self, packets: Selection<'_>, tried_again: &mut bool) -> Sent {
        let mut datagrams: [(&[u8], &[u8]); MESSAGES] = [(&[], &[]); MESSAGES];
        let mut count = 0;
        let sequence = self.sequence;
        for (packet, header) in packets.iter().zip(self.headers.iter_mut()) {
            let Some(fit) = self.options.encap.fit(packet.meta.link_type, &packet.data) else {
                break;
            };
            let number = sequence.wrapping_add(count as u32);
            datagrams[count] = encapsulate(&self.options, header, packet, &fit, number);
            count += 1;
        }
        if count == 0 {
            self.counters.drops.add(DropReason::LinkType);
            return Sent::Done(1);
        }
        let error = match self.socket.send(&datagrams[..count]) {
            Ok(0) => return Sent::Full,
            Ok(sent) => {
                self.counters.sent += sent as u64;
                self.sequence = sequence.wrapping_add(sent as u32);
                *tried_again = false;
                return Sent::Done(sent);
            }
            Err(error) if would_wait(&error) => return Sent::Full,
            Err(error) => error,
        };
        let number = error.raw_os_error().unwrap_or(0);
        if number == libc::ENOBUFS && !self.socket.has_room() {
            return Sent::Full;
        }
        // An ICMP answer to an earlier packet is reported by the next call, which then sends
        // nothing. Only the second error is about this packet.
        if !std::mem::replace(tried_again, !*tried_again) {
            return Sent::Done(0);
        }
        self.counters.drops.add(reason(number));
        report(&mut self.trouble, self.options.remote, number, "such packets are counted");
        Sent::Done(1)
    }

    /// Tells the far end how many packets there were, so that it knows what it misses at the end.
    fn tell_progress(&mut self, utc_ns: u64) {
        let SendOptions { carrier, encap, lane, .. } = self.options;
        let mut header = [0; HEADER_BYTES_MAX];
        let at = carrier_len(carrier);
        let Some(len) = encap.emit_progress(&mut header[at..], lane, self.sequence, utc_ns) else {
            return;
        };
        let len = at + len;
        emit_carrier(&mut header, carrier, 0, len);
        // Where it cannot be sent, the next one tells the same.
        if self.socket.send(&[(&header[..len], &[])]).is_ok() {
            self.told = (self.sequence, utc_ns);
        }
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
            report(&mut self.trouble, self.options.remote, errno, consequence);
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

/// Writes the headers that go in front of a packet; gives them, and what of the packet goes in.
fn encapsulate<'a>(
    options: &SendOptions,
    header: &'a mut [u8; HEADER_BYTES_MAX],
    packet: &'a Packet,
    fit: &Fit,
    sequence: u32,
) -> (&'a [u8], &'a [u8]) {
    let SendOptions { carrier, encap, lane, .. } = *options;
    let payload = &packet.data[fit.at..fit.end];
    let meta = &packet.meta;
    let told = Told {
        origlen: meta.origlen.saturating_sub(fit.at as u32),
        ts_ns: meta.ts_ns,
        direction: meta.direction,
        lane,
    };
    let at = carrier_len(carrier);
    let len = at + encap.header_len(carrier);
    encap.emit(&mut header[at..len], carrier, fit, payload, &told, sequence);
    let hash = packet.meta.flow_hash.unwrap_or_else(|| packet.compute_flow_hash());
    emit_carrier(header, carrier, hash, len + payload.len());
    (&header[..len], payload)
}

fn carrier_len(carrier: Carrier) -> usize {
    match carrier {
        Carrier::Udp { .. } => udp::HEADER_LEN,
        Carrier::Ip { .. } => 0,
    }
}

/// Writes the UDP header, where there is one.
///
/// Its checksum stays 0: RFC 7348 wants it so over IPv4, and over IPv6 the kernel fills it in.
fn emit_carrier(header: &mut [u8], carrier: Carrier, flow_hash: u32, len: usize) {
    if let Carrier::Udp { port } = carrier {
        let repr = udp::Repr {
            src_port: flow::source_port(flow_hash),
            dst_port: port,
            length: u16::try_from(len).unwrap_or(0), // too large for UDP: the kernel refuses it
            checksum: 0,
        };
        repr.emit(header);
    }
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
        let (mut taken, mut tried_again) = (0, false);
        while taken < packets.len() {
            match self.send_some(packets.skip(taken), &mut tried_again) {
                Sent::Done(some) => taken += some,
                Sent::Full => break,
            }
        }
        taken
    }

    fn counters(&self) -> SinkCounters {
        self.counters
    }

    fn tick(&mut self, now: Now) {
        self.read_late_errors();
        let (told, told_ns) = self.told;
        let is_due = now.utc_ns.saturating_sub(told_ns) >= PROGRESS_NS;
        if told != self.sequence && is_due {
            self.tell_progress(now.utc_ns);
        }
    }

    fn finish(&mut self, _upstream: &Upstream) -> Result<(), Error> {
        if self.told.0 != self.sequence {
            self.tell_progress(Now::read().utc_ns);
        }
        self.read_late_errors();
        Ok(())
    }
}
