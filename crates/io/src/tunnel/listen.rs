//! Packets out of a tunnel: a UDP socket that many senders send to.
//!
//! Each datagram stands for itself: a stranger's, a short or a malformed one is counted and costs
//! only itself. Outer fragments were put together by the kernel.

use super::sys::{Datagram, ListenSocket, MESSAGES};
use crate::batch::Batch;
use crate::device::{Arrival, Source};
use crate::error::Error;
use crate::interface::{Interface, Interfaces};
use crate::packet::{Direction, InterfaceId, Meta, Outer, Packet};
use crate::pool::{Data, HEADROOM, Pool};
use api::{DropReason, Drops};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use wire::tunnel::{Carrier, Kind, Tunnel};
use wire::walk::Walk;
use wire::{LinkType, Vni, vxlan};

/// The largest UDP payload.
const DATAGRAM_BYTES_MAX: usize = 65_527;
/// Datagrams of one chunk, and chunks: memory for a full batch, the buffers that stand ready, and
/// as many again.
const CHUNK_DATAGRAMS: usize = 16;
const CHUNKS: usize = 40;
const ETHERNET_HEADER_LEN: usize = 14;
/// System calls of one turn: a flood of packets that all are dropped must not hold up the rest.
const ROUNDS: usize = 8;
/// The kernel wakes a reader for the first datagram; the time of arrival is the kernel's anyway.
const GATHER: Duration = Duration::from_micros(500);
/// Below so large a receive buffer there is no time to wait.
const GATHER_BUFFER_BYTES: usize = 8 << 20;

/// How tunnel packets are listened for.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Local address and UDP port.
    pub local: SocketAddr,
    /// Take packets of this id only; `None`: of every id.
    pub vni: Option<Vni>,
    /// Bytes of the receive buffer. The kernel counts whole buffers, some 800 B for a small packet,
    /// against it.
    pub buffer_bytes: usize,
}

/// The receiving end of VXLAN tunnels.
pub struct TunnelSource {
    socket: ListenSocket,
    vni: Option<Vni>,
    interface: InterfaceId,
    pool: Pool,
    /// Buffers that stand ready for the next datagrams.
    ready: Vec<Data>,
    drops: Drops,
    /// The kernel's counter of dropped datagrams when last read, modulo 2³².
    kernel_drops: u32,
    /// The receive buffer that the kernel granted.
    buffer_bytes: usize,
    stopped: bool,
}

impl TunnelSource {
    /// Opens the socket; packets arrive from now on.
    ///
    /// # Errors
    /// [`Error::System`] if the address is not of this host or the port is taken.
    pub fn open(options: &ListenOptions, interfaces: &Interfaces) -> Result<TunnelSource, Error> {
        let local = options.local;
        let what = |what: &str| format!("listen on udp {local}: {what}");
        let socket = ListenSocket::bind(local, Carrier::Udp { port: local.port() }).map_err(|source| Error::System {
            what: what("bind"),
            mend: match source.raw_os_error() {
                Some(libc::EADDRINUSE) => {
                    "; another program or a kernel vxlan device holds the port: see `ss -ulnp` and `ip -d link`"
                }
                Some(libc::EADDRNOTAVAIL) => "; the address is not of this host: see `ip address`",
                _ => "",
            },
            source,
        })?;
        let granted = socket
            .set_buffer(options.buffer_bytes)
            .map_err(|e| Error::system(what("receive buffer"), e))?;
        if granted < options.buffer_bytes {
            tracing::warn!(
                "listen on udp {local}: the receive buffer is {granted} of {} bytes; bursts may be \
                 lost (and counted): raise net.core.rmem_max or grant CAP_NET_ADMIN",
                options.buffer_bytes
            );
        }
        let kernel_drops = socket.dropped().map_err(|e| Error::system(what("SO_MEMINFO"), e))?;
        let interface = interfaces.add(Interface {
            name: Some(format!("udp-{}", local.port())),
            description: Some(format!("VXLAN received on {local}")),
            ..Interface::new(LinkType::ETHERNET.0)
        });
        Ok(TunnelSource {
            socket,
            vni: options.vni,
            interface,
            pool: Pool::new(CHUNKS, CHUNK_DATAGRAMS * (DATAGRAM_BYTES_MAX + HEADROOM)),
            ready: Vec::with_capacity(MESSAGES),
            drops: Drops::default(),
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

    fn read_kernel_drops(&mut self) {
        if let Ok(now) = self.socket.dropped() {
            let new = now.wrapping_sub(self.kernel_drops);
            self.drops.add_many(DropReason::KernelSocket, u64::from(new));
            self.kernel_drops = now;
        }
    }
}

/// Takes the packet out of a tunnel packet.
fn decapsulate(
    mut data: Data,
    datagram: &Datagram,
    wanted: Option<Vni>,
    interface: InterfaceId,
) -> Result<Packet, DropReason> {
    data.truncate(datagram.len);
    let vni = vni_of(&data)?;
    if wanted.is_some_and(|wanted| wanted != vni) {
        return Err(DropReason::ForeignId);
    }
    data.trim_front(vxlan::HEADER_LEN);
    let tunnel = Tunnel { kind: Kind::Vxlan, id: Some(vni.get()) };
    let meta = Meta {
        ts_ns: datagram.ts_ns,
        origlen: origlen(&data),
        link_type: LinkType::ETHERNET,
        interface,
        direction: Direction::Unknown,
        outer: Some(Outer { tunnel, source: datagram.source }),
        packet_id: None,
        gso: None,
        decided: false,
        flow_hash: None,
    };
    Ok(Packet { data, meta })
}

/// Reads the VXLAN header in front of a whole Ethernet header.
fn vni_of(data: &[u8]) -> Result<Vni, DropReason> {
    if data.len() < vxlan::HEADER_LEN + ETHERNET_HEADER_LEN {
        return Err(DropReason::TooShort);
    }
    let header = vxlan::Packet::new_checked(data).map_err(|_| DropReason::TooShort)?;
    let repr = vxlan::Repr::parse(&header).map_err(|_| DropReason::Malformed)?;
    Ok(repr.vni)
}

/// The length that the frame had before its sender sliced it: what its IP header declares, or what
/// is there if that is more (padding) or nothing is declared.
fn origlen(frame: &[u8]) -> u32 {
    let declared = Walk::new(LinkType::ETHERNET, frame).wire_len().unwrap_or(0);
    u32::try_from(frame.len().max(declared)).unwrap_or(u32::MAX)
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
                match decapsulate(data, datagram, self.vni, self.interface) {
                    Ok(packet) => batch.push(packet),
                    Err(reason) => self.drops.add(reason),
                }
            }
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

    fn is_live(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    const LISTEN_BUFFER_BYTES: usize = 16 << 20;
    const FRAME: [u8; 60] = [0x11; 60];

    fn tunnel_packet(flags: u8, vni: [u8; 3], frame: &[u8]) -> Vec<u8> {
        let mut bytes = vec![flags, 0, 0, 0, vni[0], vni[1], vni[2], 0];
        bytes.extend_from_slice(frame);
        bytes
    }

    fn open(vni: Option<u32>, buffer_bytes: usize) -> (TunnelSource, UdpSocket) {
        let local = "127.0.0.1:0".parse().unwrap();
        let vni = vni.map(|n| Vni::new(n).unwrap());
        let options = ListenOptions { local, vni, buffer_bytes };
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
        let (mut source, sender) = open(Some(71), LISTEN_BUFFER_BYTES);
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
    fn what_the_full_socket_loses_is_counted() {
        let (mut source, sender) = open(None, 64 << 10);
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
        let (mut source, sender) = open(None, LISTEN_BUFFER_BYTES);
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
    fn sliced_frames_get_their_length_back() {
        let mut frame = vec![0; 12];
        frame.extend_from_slice(&[0x08, 0x00, 0x45, 0, 0x05, 0xdc]); // an IPv4 packet of 1500 B
        frame.resize(200, 0);
        frame[14 + 8] = 64;
        frame[14 + 9] = 17;
        assert_eq!(origlen(&frame), 1514);
        assert_eq!(origlen(&FRAME), 60);
    }

    #[test]
    fn a_taken_port_says_so() {
        let (source, _sender) = open(None, 1 << 20);
        let local = source.local().unwrap();
        let options = ListenOptions { local, vni: None, buffer_bytes: 1 << 20 };
        let error = TunnelSource::open(&options, &Interfaces::default()).err().unwrap();
        assert!(error.to_string().contains("holds the port"), "{error}");
    }
}
