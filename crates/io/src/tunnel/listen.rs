//! Packets out of tunnels: a UDP or raw socket that many senders send to.
//!
//! Each tunnel packet stands for itself: a stranger's, a short or a malformed one is counted and costs
//! only itself. Outer fragments were put together by the kernel. What holds no packet, such as a
//! message between the endpoints, is consumed; a payload without a link type of its own stays in its
//! IP packet where the socket gives that (a raw IPv4 socket), and is lost where it does not.

use super::streams::Streams;
use super::sys::{Datagram, ListenSocket, MESSAGES};
use super::wanted::Wanted;
use crate::batch::Batch;
use crate::decap::DecapStatus;
use crate::device::{Arrival, Source};
use crate::error::Error;
use crate::interface::{Interface, Interfaces, Relinked};
use crate::packet::{Direction, InterfaceId, Meta, Outer, Packet};
use crate::pool::{Data, HEADROOM, Pool};
use api::{DecapStats, DropReason, Drops, TunnelEndpoint};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;
use wire::LinkType;
use wire::decap::{Content, Found, Rules};
use wire::sequence::Counts;
use wire::tunnel::{Carrier, Kind};

/// The largest packet, with its IP header where the socket gives that.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Datagrams of one chunk, and chunks: memory for a full batch, the buffers that stand ready, and
/// as many again.
const CHUNK_DATAGRAMS: usize = 16;
const CHUNKS: usize = 40;
const IPV4_HEADER_LEN_MIN: usize = 20;
/// System calls of one turn: a flood of packets that all are dropped must not hold up the rest.
const ROUNDS: usize = 8;
/// The kernel wakes a reader for the first datagram; the time of arrival is the kernel's anyway.
const GATHER: Duration = Duration::from_micros(500);
/// Below so large a receive buffer there is no time to wait.
const GATHER_BUFFER_BYTES: usize = 8 << 20;

/// How tunnel packets are listened for.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Local address, and UDP port if there is one.
    pub local: SocketAddr,
    /// What is listened for there: endpoints of one carrier, at least one.
    pub endpoints: Vec<TunnelEndpoint>,
    /// Bytes of the receive buffer. The kernel counts whole buffers, some 800 B for a small packet,
    /// against it.
    pub buffer_bytes: usize,
}

/// The receiving end of tunnels.
pub struct TunnelSource {
    socket: ListenSocket,
    reader: TunnelReader,
    pool: Pool,
    /// Buffers that stand ready for the next datagrams.
    ready: Vec<Data>,
    drops: Drops,
    status: Arc<DecapStatus>,
    /// The kernel's counter of dropped datagrams when last read, modulo 2³².
    kernel_drops: u32,
    /// The receive buffer that the kernel granted.
    buffer_bytes: usize,
    stopped: bool,
}

/// What makes packets out of tunnel packets.
struct TunnelReader {
    wanted: Wanted,
    kind: Kind,
    carrier: Carrier,
    /// Whether the IP header stands in front.
    has_ip_header: bool,
    interface: InterfaceId,
    relinked: Relinked,
    streams: Streams,
    counters: DecapStats,
}

impl TunnelSource {
    /// Opens the socket; packets arrive from now on.
    ///
    /// # Errors
    /// [`Error::System`] if the address is not of this host, the port is taken, or the process may
    /// not open raw sockets (CAP_NET_RAW), which tunnels without UDP need.
    ///
    /// # Panics
    /// Without endpoints.
    pub fn open(options: &ListenOptions, interfaces: &Interfaces) -> Result<TunnelSource, Error> {
        let local = options.local;
        let first = options.endpoints.first().expect("somebody listens");
        let (carrier, kind) = (first.carrier, first.scheme.kind);
        let place = match carrier {
            Carrier::Udp { .. } => format!("udp {local}"),
            Carrier::Ip { protocol } => format!("IP protocol {protocol} of {}", local.ip()),
        };
        let what = |what: &str| format!("listen on {place}: {what}");
        let socket = ListenSocket::bind(local, carrier).map_err(|source| Error::System {
            what: what("bind"),
            mend: match source.raw_os_error() {
                Some(libc::EADDRINUSE) => {
                    "; another program or a kernel vxlan device holds the port: see `ss -ulnp` and `ip -d link`"
                }
                Some(libc::EADDRNOTAVAIL) => "; the address is not of this host: see `ip address`",
                Some(libc::EPERM) => "; it needs CAP_NET_RAW: run as root",
                _ => "",
            },
            source,
        })?;
        let granted = socket
            .set_buffer(options.buffer_bytes)
            .map_err(|e| Error::system(what("receive buffer"), e))?;
        if granted < options.buffer_bytes {
            tracing::warn!(
                "listen on {place}: the receive buffer is {granted} of {} bytes; bursts may be \
                 lost (and counted): raise net.core.rmem_max or grant CAP_NET_ADMIN",
                options.buffer_bytes
            );
        }
        let kernel_drops = socket.dropped().map_err(|e| Error::system(what("SO_MEMINFO"), e))?;
        let name = match carrier {
            Carrier::Udp { port } => format!("udp-{port}"),
            Carrier::Ip { protocol } => format!("ip-{protocol}"),
        };
        let interface = interfaces.add(Interface {
            name: Some(name),
            description: Some(format!("{} received on {}", names(&options.endpoints), local)),
            ..Interface::new(LinkType::ETHERNET.0)
        });
        Ok(TunnelSource {
            socket,
            reader: TunnelReader {
                wanted: Wanted::new(&options.endpoints, &Rules::default()),
                kind,
                carrier,
                has_ip_header: matches!(carrier, Carrier::Ip { .. }) && local.is_ipv4(),
                interface,
                relinked: Relinked::new(interfaces),
                streams: Streams::default(),
                counters: DecapStats::default(),
            },
            pool: Pool::new(CHUNKS, CHUNK_DATAGRAMS * (DATAGRAM_BYTES_MAX + HEADROOM)),
            ready: Vec::with_capacity(MESSAGES),
            drops: Drops::default(),
            status: Arc::default(),
            kernel_drops,
            buffer_bytes: granted,
            stopped: false,
        })
    }

    /// The address and port that the socket got.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn local(&self) -> Result<SocketAddr, Error> {
        self.socket.local().map_err(|e| Error::system("getsockname", e))
    }

    /// Where the counters of what came out of the tunnels can be read while it works.
    pub fn status(&self) -> Arc<DecapStatus> {
        Arc::clone(&self.status)
    }

    fn read_kernel_drops(&mut self) {
        if let Ok(now) = self.socket.dropped() {
            let new = now.wrapping_sub(self.kernel_drops);
            self.drops.add_many(DropReason::KernelSocket, u64::from(new));
            self.kernel_drops = now;
        }
    }
}

/// The kinds of tunnel, each once.
fn names(endpoints: &[TunnelEndpoint]) -> String {
    let mut names: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.scheme.name()).collect();
    names.dedup();
    names.join(", ")
}

impl TunnelReader {
    /// Takes the packet out of a tunnel packet; `None` if it holds a message and no packet.
    #[inline]
    fn read(&mut self, mut data: Data, datagram: &Datagram) -> Result<Option<Packet>, DropReason> {
        data.truncate(datagram.len);
        let at = if self.has_ip_header { ip_header_len(&data)? } else { 0 };
        let payload = &data[at..];
        let found = self.wanted.read(|rules| match self.carrier {
            Carrier::Udp { .. } => rules.in_udp(self.kind, payload).map(Some),
            Carrier::Ip { .. } => rules.in_ip(self.kind, payload).map(Some),
        })?;
        let Some(Found { tunnel, content, .. }) = found else { return Ok(None) };
        let outer = Outer { tunnel, source: datagram.source };
        self.streams.note(outer, &content);
        let mut meta = Meta {
            ts_ns: datagram.ts_ns,
            origlen: data.len() as u32,
            link_type: LinkType::RAW,
            interface: self.interface,
            direction: Direction::Unknown,
            outer: Some(outer),
            packet_id: None,
            gso: None,
            decided: false,
            flow_hash: None,
        };
        match content {
            Content::Packet(inner) => {
                data.truncate(at + inner.end as usize);
                data.trim_front(at + inner.at as usize);
                meta.tell(&inner, &data);
                self.counters.decapsulated += 1;
                self.counters.layers += 1;
            }
            // The whole IP packet, which is what there is.
            Content::Opaque(_) if self.has_ip_header => self.counters.left += 1,
            Content::Opaque(_) => return Err(DropReason::LinkType),
            Content::Control | Content::Progress { .. } => {
                self.counters.control += 1;
                return Ok(None);
            }
        }
        meta.interface = self.relinked.find(self.interface, meta.link_type);
        Ok(Some(Packet { data, meta }))
    }
}

/// The length of the IPv4 header that a raw socket puts in front.
fn ip_header_len(packet: &[u8]) -> Result<usize, DropReason> {
    let len = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    match len <= packet.len() && len >= IPV4_HEADER_LEN_MIN {
        true => Ok(len),
        false => Err(DropReason::TooShort),
    }
}

impl Source for TunnelSource {
    fn receive(&mut self, batch: &mut Batch) -> Result<Arrival, Error> {
        let mut datagrams = [Datagram::EMPTY; MESSAGES];
        for _ in 0..ROUNDS {
            if batch.room() == 0 {
                break;
            }
            while self.ready.len() < MESSAGES {
                match self.pool.take(DATAGRAM_BYTES_MAX) {
                    Some(data) => self.ready.push(data),
                    None => break,
                }
            }
            let wanted = self.ready.len().min(batch.room());
            let received = self
                .socket
                .receive(&mut self.ready[..wanted], &mut datagrams)
                .map_err(|e| Error::system("receive tunnel packets", e))?;
            if received == 0 {
                return Ok(match (batch.is_empty(), self.stopped) {
                    (false, _) => Arrival::Packets,
                    (true, true) => Arrival::End,
                    (true, false) => Arrival::Idle,
                });
            }
            for (data, datagram) in self.ready.drain(..received).zip(&datagrams) {
                match self.reader.read(data, datagram) {
                    Ok(Some(packet)) => batch.push(packet),
                    Ok(None) => {}
                    Err(reason) => self.drops.add(reason),
                }
            }
            self.status.set(&self.reader.counters);
        }
        Ok(Arrival::Packets)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.fd())
    }

    fn gather(&self) -> Duration {
        if self.buffer_bytes >= GATHER_BUFFER_BYTES { GATHER } else { Duration::ZERO }
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.stopped = true;
        self.socket.shut().map_err(|e| Error::system("stop listening", e))
    }

    fn drops(&mut self) -> Drops {
        self.read_kernel_drops();
        self.drops
    }

    fn streams(&self) -> Vec<(Outer, Counts)> {
        self.reader.streams.counts()
    }

    fn is_live(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Endpoint;
    use std::net::UdpSocket;
    use wire::vxlan;

    const LISTEN_BUFFER_BYTES: usize = 16 << 20;
    const FRAME: [u8; 60] = [0x11; 60];

    fn tunnel_packet(flags: u8, vni: [u8; 3], frame: &[u8]) -> Vec<u8> {
        let mut bytes = vec![flags, 0, 0, 0, vni[0], vni[1], vni[2], 0];
        bytes.extend_from_slice(frame);
        bytes
    }

    fn options(endpoints: &[&str], buffer_bytes: usize) -> ListenOptions {
        let tunnel = |text: &&str| match Endpoint::listener(text).unwrap() {
            Endpoint::Tunnel(tunnel) => tunnel,
            other => panic!("{other:?}"),
        };
        let endpoints: Vec<_> = endpoints.iter().map(tunnel).collect();
        let local = endpoints[0].resolve().unwrap();
        ListenOptions { local, endpoints, buffer_bytes }
    }

    /// A VXLAN listener at a free port, and a socket that sends to it.
    fn open(id: &str, buffer_bytes: usize) -> (TunnelSource, UdpSocket) {
        let mut options = options(&[&format!("vxlan://127.0.0.1{id}")], buffer_bytes);
        options.local.set_port(0);
        let source = TunnelSource::open(&options, &Interfaces::default()).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(source.local().unwrap()).unwrap();
        (source, sender)
    }

    fn receive_until_end(source: &mut TunnelSource) -> Vec<Packet> {
        source.stop().unwrap();
        let (mut batch, mut packets) = (Batch::new(), Vec::new());
        loop {
            let arrival = source.receive(&mut batch).unwrap();
            packets.extend(
                batch
                    .packets()
                    .iter()
                    .map(|p| Packet { data: Data::copy_of(&p.data), meta: p.meta.clone() }),
            );
            batch.clear();
            match arrival {
                Arrival::End => return packets,
                Arrival::Packets => {}
                Arrival::Idle => crate::wait(
                    std::iter::once(&*source as &dyn Source),
                    None,
                    Duration::from_millis(10),
                )
                .unwrap(),
            }
        }
    }

    #[test]
    fn each_bad_packet_costs_only_itself() {
        let (mut source, sender) = open("?vni=71", LISTEN_BUFFER_BYTES);
        sender.send(&tunnel_packet(0x08, [0, 0, 71], &FRAME)).unwrap();
        sender.send(&tunnel_packet(0x08, [0, 0, 72], &FRAME)).unwrap();
        sender.send(&tunnel_packet(0x00, [0, 0, 71], &FRAME)).unwrap();
        sender.send(&tunnel_packet(0x08, [0, 0, 71], &FRAME[..13])).unwrap();
        sender.send(b"").unwrap();
        sender.send(&tunnel_packet(0xff, [0, 0, 71], &FRAME)).unwrap();
        let packets = receive_until_end(&mut source);
        assert_eq!(packets.len(), 2);
        for packet in &packets {
            assert_eq!(&*packet.data, FRAME);
            assert_eq!(packet.meta.outer.unwrap().to_string(), "vxlan-71-127.0.0.1");
            assert!(packet.meta.ts_ns > 1_700_000_000_000_000_000);
        }
        let drops = source.drops();
        assert_eq!(drops.get(DropReason::ForeignId), 1);
        assert_eq!(drops.get(DropReason::Malformed), 1);
        assert_eq!(drops.get(DropReason::TooShort), 2);
        assert_eq!(drops.total(), 4);
    }

    #[test]
    fn each_packet_has_an_interface_of_its_link_type_and_messages_are_counted() {
        let mut options = options(&["geneve://127.0.0.1"], LISTEN_BUFFER_BYTES);
        options.local.set_port(0);
        let interfaces = Interfaces::default();
        let mut source = TunnelSource::open(&options, &interfaces).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(source.local().unwrap()).unwrap();
        let ipv4 = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        for _ in 0..2 {
            sender.send(&[&[0, 0, 0x65, 0x58, 0, 0, 7, 0], &FRAME[..]].concat()).unwrap();
            sender.send(&[&[0, 0, 0x08, 0x00, 0, 0, 7, 0], &ipv4[..]].concat()).unwrap();
        }
        sender.send(&[0, 0x80, 0x65, 0x58, 0, 0, 7, 0]).unwrap();
        let packets = receive_until_end(&mut source);
        let counters = source.status().get();
        assert_eq!((counters.decapsulated, counters.layers, counters.control), (4, 4, 1));
        let link_types: Vec<LinkType> = packets.iter().map(|p| p.meta.link_type).collect();
        let (ethernet, raw) = (LinkType::ETHERNET, LinkType::RAW);
        assert_eq!(link_types, [ethernet, raw, ethernet, raw]);
        for packet in &packets {
            let interface = interfaces.get(packet.meta.interface);
            assert_eq!(interface.link_type, packet.meta.link_type.0);
        }
        assert_eq!(packets[1].meta.interface, packets[3].meta.interface);
    }

    #[test]
    fn what_the_full_socket_loses_is_counted() {
        let (mut source, sender) = open("", 64 << 10);
        for _ in 0..2_000 {
            sender.send(&tunnel_packet(0x08, [0, 0, 1], &FRAME)).unwrap();
        }
        let packets = receive_until_end(&mut source).len() as u64;
        let lost = source.drops().get(DropReason::KernelSocket);
        assert!(lost > 0, "a 64 KiB buffer holds fewer than 2000 packets");
        assert_eq!(packets + lost, 2_000);
    }

    #[test]
    fn the_largest_datagram_comes_whole_and_order_is_kept() {
        let (mut source, sender) = open("", LISTEN_BUFFER_BYTES);
        let large = vec![0x22; 65_507 - vxlan::HEADER_LEN];
        for n in 0..200u8 {
            sender.send(&tunnel_packet(0x08, [0, 0, n], &FRAME)).unwrap();
        }
        sender.send(&tunnel_packet(0x08, [0, 0, 200], &large)).unwrap();
        let packets = receive_until_end(&mut source);
        assert_eq!(packets.len(), 201);
        for (n, packet) in packets.iter().enumerate() {
            assert_eq!(packet.meta.outer.unwrap().tunnel.id, Some(n as u32));
        }
        assert_eq!(*packets[200].data, large);
    }

    #[test]
    fn a_taken_port_says_so() {
        let (source, _sender) = open("", 1 << 20);
        let local = source.local().unwrap();
        let options = ListenOptions { local, ..options(&["vxlan://127.0.0.1"], 1 << 20) };
        let error = TunnelSource::open(&options, &Interfaces::default()).err().unwrap();
        assert!(error.to_string().contains("holds the port"), "{error}");
    }
}
