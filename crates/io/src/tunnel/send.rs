//! Packets into a tunnel: each with the header of its kind and, over UDP, the source port of its flow.
//!
//! The headers stand apart from the packet and the kernel gathers both, so that a packet that
//! goes to several targets is copied by nobody but the kernel.

use super::batched::Refused;
use super::outlet::Outlet;
use super::sys::{LateError, MESSAGES};
use crate::batch::Selection;
use crate::clock::Now;
use crate::device::{Sink, SinkCounters, Upstream};
use crate::error::Error;
use crate::packet::Packet;
use crate::trouble::Trouble;
use api::{DropReason, Oversize, SNAPSHOT_LENGTH_MIN, Sending};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use wire::encap::{self, Fit, Told};
use wire::l2tp::{Ends, KEEP_ALIVE_LEN_MAX, KeepAlive};
use wire::metadata::Lane;
use wire::tunnel::{Carrier, Encap};
use wire::{Direction, LinkType, flow, udp};

/// Headers in front of a packet: UDP and that of the tunnel.
const HEADER_BYTES_MAX: usize = udp::HEADER_LEN + encap::HEADER_LEN_MAX;

/// What becomes of packets that were not sent, for a message.
const COUNTED: &str = "such packets are counted";

/// How often a tunnel that can tell how far it has come does so, ns.
const PROGRESS_NS: u64 = 1_000_000_000;
/// How often it says so at the end, as no later word makes up for one that is lost; and the pause
/// between.
const LAST_WORDS: usize = 3;
const LAST_WORDS_APART: Duration = Duration::from_millis(1);

/// Where packets are sent, and how.
#[derive(Debug, Clone, Copy)]
pub struct SendOptions {
    /// The far end; the port is the carrier's.
    pub remote: SocketAddr,
    /// The address of this host to send from; `None`: the route's.
    pub source: Option<IpAddr>,
    /// What stands between IP and the tunnel header.
    pub carrier: Carrier,
    /// The tunnel header.
    pub encap: Encap,
    /// What becomes of packets that do not fit the path, and the class of the outer ones.
    pub sending: Sending,
    /// Who numbers the packets.
    pub lane: Lane,
    /// The time between signs of life ([`wire::l2tp::KeepAlive`]), the first of which is sent at once;
    /// only L2TPv3 has them.
    pub keep_alive: Option<Duration>,
}

/// The sending end of a tunnel.
pub struct TunnelSink {
    outlet: Outlet,
    /// The policy of oversize is settled.
    options: SendOptions,
    /// What messages call it.
    name: String,
    headers: Box<[[u8; HEADER_BYTES_MAX]; MESSAGES]>,
    /// The number of the next packet. One that the kernel refuses leaves its number to the next.
    sequence: u32,
    /// The number that was told last, and when.
    told: (u32, u64),
    /// Signs of life that were sent, and when the next one is due.
    keep_alives: u64,
    keep_alive_due_ns: u64,
    counters: SinkCounters,
    trouble: Trouble,
}

/// What came of an attempt to send some packets.
enum Sent {
    /// So many are done with: sent, or counted as dropped.
    Done(usize),
    /// The socket takes no more now.
    Full,
}

impl TunnelSink {
    /// Opens the sockets.
    ///
    /// # Errors
    /// [`Error::System`] without the right to send raw packets (CAP_NET_RAW), or without a route.
    pub fn open(options: &SendOptions) -> Result<TunnelSink, Error> {
        let mut options = *options;
        let settled = options.sending.oversize.settled(options.encap.carries_length());
        options.sending.oversize = settled;
        let remote = options.remote;
        Ok(TunnelSink {
            outlet: Outlet::open(&options)?,
            options,
            name: format!("tunnel to {remote}"),
            headers: Box::new([[0; HEADER_BYTES_MAX]; MESSAGES]),
            sequence: 0,
            told: (0, Now::read().utc_ns),
            keep_alives: 0,
            keep_alive_due_ns: 0,
            counters: SinkCounters::default(),
            trouble: Trouble::default(),
        })
    }

    /// Sends up to [`MESSAGES`] packets from the front.
    fn send_some(&mut self, packets: Selection<'_>) -> Sent {
        let mut datagrams: [(&[u8], &[u8]); MESSAGES] = [(&[], &[]); MESSAGES];
        let (mut count, mut cut, mut unfit) = (0, 0u64, DropReason::LinkType);
        let bytes_max = self.outlet.bytes_max().unwrap_or(usize::MAX);
        let sequence = self.sequence;
        for (packet, header) in packets.iter().zip(self.headers.iter_mut()) {
            let Some(fit) = self.options.encap.fit(packet.meta.link_type, &packet.data) else {
                break;
            };
            let Some(kept) = keep(&self.options, &fit, bytes_max) else {
                unfit = DropReason::Oversize;
                break;
            };
            cut |= u64::from(kept.end < fit.end) << count;
            let number = sequence.wrapping_add(count as u32);
            datagrams[count] = encapsulate(&self.options, header, packet, &kept, number);
            count += 1;
        }
        if count == 0 {
            self.counters.drops.add(unfit);
            if unfit == DropReason::Oversize {
                self.tell(libc::EMSGSIZE, COUNTED);
            }
            return Sent::Done(1);
        }
        match self.outlet.send(&datagrams[..count]) {
            Ok(0) => Sent::Full,
            Ok(sent) => {
                let is_large = |(h, p): &&(&[u8], &[u8])| h.len() + p.len() > bytes_max;
                self.counters.add_sent(packets.first(sent));
                self.counters.cut += u64::from((cut << (MESSAGES - sent)).count_ones());
                self.counters.fragmented +=
                    datagrams[..sent].iter().filter(is_large).count() as u64;
                self.sequence = sequence.wrapping_add(sent as u32);
                Sent::Done(sent)
            }
            Err(Refused { error, datagrams }) => {
                let errno = error.raw_os_error().unwrap_or(0);
                if errno == libc::EMSGSIZE && self.has_narrowed(bytes_max) {
                    return Sent::Done(0);
                }
                self.counters.drops.add_many(reason(errno), datagrams as u64);
                self.tell(errno, COUNTED);
                Sent::Done(datagrams)
            }
        }
    }

    /// Whether packets can be cut shorter than they were, as the way has become narrower.
    fn has_narrowed(&mut self, bytes_max: usize) -> bool {
        self.outlet.ask(Now::read());
        self.options.sending.oversize == Oversize::Cut
            && self.outlet.bytes_max().is_some_and(|now| now < bytes_max)
    }

    /// Tells the far end how many packets there were, so that it knows what it misses at the end.
    fn tell_progress(&mut self, utc_ns: u64) {
        let lane = self.options.lane;
        if self.send_progress(lane, self.sequence, utc_ns) {
            self.told = (self.sequence, utc_ns);
        }
    }

    /// Tells the far end how many packets others have sent by a lane of this tunnel: `next` is the number
    /// of the next one. Nothing where packets are not numbered.
    pub fn tell_progress_of(&mut self, lane: u8, next: u32, utc_ns: u64) {
        // Where it cannot be sent, the next one tells the same.
        self.send_progress(Lane { lane, ..self.options.lane }, next, utc_ns);
    }

    fn send_progress(&mut self, lane: Lane, next: u32, utc_ns: u64) -> bool {
        let SendOptions { carrier, encap, .. } = self.options;
        let mut header = [0; HEADER_BYTES_MAX];
        let at = carrier_len(carrier);
        let Some(len) = encap.emit_progress(&mut header[at..], lane, next, utc_ns) else {
            return false;
        };
        let len = at + len;
        emit_carrier(&mut header, &self.options, 0, len);
        self.outlet.send(&[(&header[..len], &[])]).is_ok_and(|sent| sent > 0)
    }

    /// Sends a sign of life when it is time for one. It is no packet of the tunnel's traffic, so that
    /// no counter counts it.
    fn keep_alive(&mut self, now: Now) {
        let SendOptions { remote, carrier, encap, lane, keep_alive: Some(period), .. } =
            self.options
        else {
            return;
        };
        let Encap::L2tp(tunnel) = encap else { return };
        if now.monotonic_ns < self.keep_alive_due_ns {
            return;
        }
        // Without a way there is nobody to hear it; it is sent once there is one.
        let ends = self.outlet.source().and_then(|source| Ends::new(source, remote.ip()));
        let Some(ends) = ends.filter(|_| !self.outlet.is_down()) else { return };
        let sign = KeepAlive { ends, session: tunnel.session, number: self.keep_alives };
        let (mut header, mut frame) = ([0; HEADER_BYTES_MAX], [0; KEEP_ALIVE_LEN_MAX]);
        let frame = &mut frame[..sign.frame_len()];
        sign.emit(frame);
        let Some(fit) = encap.fit(LinkType::ETHERNET, frame) else { return };
        let told = Told {
            origlen: frame.len() as u32,
            ts_ns: now.utc_ns,
            direction: Direction::Out,
            lane,
        };
        let at = carrier_len(carrier);
        let len = at + encap.header_len(carrier);
        encap.emit(&mut header[at..len], carrier, &fit, frame, &told, self.sequence);
        emit_carrier(&mut header, &self.options, 0, len + frame.len());
        if self.outlet.send(&[(&header[..len], frame)]).is_ok_and(|sent| sent > 0) {
            self.sequence = self.sequence.wrapping_add(1);
            self.keep_alives += 1;
        }
        // One that was refused is followed by the next one: at this pace nothing is flooded.
        let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        self.keep_alive_due_ns = now.monotonic_ns.saturating_add(period_ns);
    }

    /// Takes back what turned out later not to have been sent: no neighbour answered, or a router
    /// on the way had no route.
    fn read_late_errors(&mut self) {
        while let Some(LateError { errno, by_icmp }) = self.outlet.late_error() {
            if !by_icmp {
                continue; // the call has told of it already
            }
            if errno == libc::EMSGSIZE {
                self.outlet.ask(Now::read());
            }
            let consequence = match reason(errno) {
                lost @ (DropReason::Unreachable | DropReason::Oversize) => {
                    let packets = self.counters.sent.min(1);
                    // Which one it was is not said: one of the mean size.
                    self.counters.sent_bytes -=
                        self.counters.sent_bytes.checked_div(self.counters.sent).unwrap_or(0);
                    self.counters.sent -= packets;
                    self.counters.drops.add_many(lost, packets);
                    COUNTED
                }
                // The far end has got it and has nobody to give it to.
                _ => "nobody listens there; packets go on being sent",
            };
            self.tell(errno, consequence);
        }
    }

    fn tell(&mut self, errno: i32, consequence: &str) {
        self.trouble.tell(&self.name, &io::Error::from_raw_os_error(errno), consequence);
    }
}

/// What of a packet goes in so that it fits the path; `None` if it is to be dropped.
#[inline]
fn keep(options: &SendOptions, fit: &Fit, bytes_max: usize) -> Option<Fit> {
    let headers = carrier_len(options.carrier) + options.encap.header_len(options.carrier);
    if headers + fit.end - fit.at <= bytes_max {
        return Some(*fit);
    }
    match options.sending.oversize {
        Oversize::Auto | Oversize::Fragment => Some(*fit),
        Oversize::Drop => None,
        Oversize::Cut => {
            let room = bytes_max.saturating_sub(headers);
            (room >= SNAPSHOT_LENGTH_MIN as usize).then(|| Fit { end: fit.at + room, ..*fit })
        }
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
    emit_carrier(header, options, hash, len + payload.len());
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
fn emit_carrier(header: &mut [u8], options: &SendOptions, flow_hash: u32, len: usize) {
    if let Carrier::Udp { port } = options.carrier {
        let repr = udp::Repr {
            src_port: match options.encap {
                // Fixed for the life of the tunnel (RFC 3931 section 4.1.2.2): Linux takes packets
                // from that port alone.
                Encap::L2tp(_) => port,
                _ => flow::source_port(flow_hash),
            },
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
        if self.outlet.is_down() {
            self.outlet.ask(Now::read());
        }
        if self.outlet.is_down() {
            self.counters.drops.add_many(DropReason::Unreachable, packets.len() as u64);
            self.tell(libc::ENETDOWN, COUNTED);
            return packets.len();
        }
        let mut taken = 0;
        while taken < packets.len() {
            match self.send_some(packets.skip(taken)) {
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
        self.outlet.tick(now);
        self.read_late_errors();
        self.keep_alive(now);
        let (told, told_ns) = self.told;
        let is_due = now.utc_ns.saturating_sub(told_ns) >= PROGRESS_NS;
        if told != self.sequence && is_due {
            self.tell_progress(now.utc_ns);
        }
    }

    fn finish(&mut self, _upstream: &Upstream) -> Result<(), Error> {
        let numbers = matches!(self.options.encap, Encap::Geneve { metadata: true, .. });
        if numbers && self.sequence != 0 {
            for word in 0..LAST_WORDS {
                if word > 0 {
                    std::thread::sleep(LAST_WORDS_APART);
                }
                self.tell_progress(Now::read().utc_ns);
            }
        }
        self.read_late_errors();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Vni;
    use wire::tunnel::{L2tp, L2tpFormat};

    #[test]
    fn the_source_port_is_the_flow_s_and_in_l2tp_the_tunnel_s() {
        let l2tp = L2tp { session: 1, format: L2tpFormat::default(), sequence: false };
        let vxlan = Encap::Vxlan { vni: Vni::new(1).unwrap() };
        for (encap, port, wanted) in
            [(vxlan, 4789, [0xc000, 0xffff]), (Encap::L2tp(l2tp), 1701, [1701, 1701])]
        {
            let options = SendOptions {
                remote: ([10, 0, 0, 2], port).into(),
                source: None,
                keep_alive: None,
                carrier: Carrier::Udp { port },
                encap,
                sending: Sending::default(),
                lane: Lane { epoch: 0, tap: 0, target: 0, lane: 0 },
            };
            let ports = [0, u32::MAX].map(|hash| {
                let mut header = [0xa5; udp::HEADER_LEN];
                emit_carrier(&mut header, &options, hash, 100);
                assert_eq!(header[2..4], port.to_be_bytes());
                u16::from_be_bytes([header[0], header[1]])
            });
            assert_eq!(ports, wanted);
        }
    }
}
