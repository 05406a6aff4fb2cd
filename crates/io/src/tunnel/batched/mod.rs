//! Datagrams as frames of our own making, many of one flow to a super-packet.
//!
//! A packet socket passes by the route and the neighbour table, which cost a raw socket more than
//! half of its time. Datagrams of one source port and one length that follow each other go to the
//! kernel as one super-packet with one set of headers, which it or the NIC cuts into the datagrams.
//!
//! ```text
//! virtio-net │ Ethernet │ IP │ UDP │ tunnel │ packet │ tunnel │ packet │ … the last may be shorter
//!    10          14     20,40   8  └── gso_size ─────┘
//! ```
//!
//! Source: packet(7) `PACKET_VNET_HDR`; the VirtIO specification 1.3 section 5.1.6, and Linux
//! `include/linux/virtio_net.h` for what the kernel asks of `VIRTIO_NET_HDR_GSO_UDP_L4` (6.2 and
//! later): a checksum left to it, and lengths that speak of the whole. It sets the lengths,
//! checksums and IPv4 ids of the datagrams itself (`net/ipv4/udp_offload.c`).
//!
//! The UDP checksum of a single datagram over IPv4 stays 0, which all tunnels over UDP allow there.

mod sys;

use crate::underlay::{FrameAddresses, Path};
use std::io;
use std::net::{IpAddr, SocketAddr};
use sys::FrameSocket;
use wire::checksum::{self, Sum};
use wire::udp;
use wire::walk::ethertype;

use super::sys::MESSAGES;

/// Length of `struct virtio_net_hdr`.
const VNET_LEN: usize = 10;
const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
/// All that stands in front of the tunnel header.
const FRONT_BYTES_MAX: usize = VNET_LEN + ETHERNET_LEN + IPV6_LEN + udp::HEADER_LEN;
/// The largest IPv4 packet, and the largest payload of an IPv6 one.
const IP_BYTES_MAX: usize = 0xffff;

const VIRTIO_NET_HDR_F_NEEDS_CSUM: u8 = 1;
const VIRTIO_NET_HDR_GSO_UDP_L4: u8 = 5;
/// Where the checksum stands in the UDP header.
const CHECKSUM_OFFSET: u16 = 6;

const TTL: u8 = 64;
const DONT_FRAGMENT: u16 = 0x4000;

/// Sends datagrams by a packet socket.
pub(super) struct BatchedSender {
    socket: FrameSocket,
    remote: SocketAddr,
    dscp: u8,
    dont_fragment: bool,
    /// The id of the next IPv4 packet.
    ip_id: u16,
    /// Whether the kernel knows super-packets of UDP.
    joins: bool,
    fronts: Box<[[u8; FRONT_BYTES_MAX]; MESSAGES]>,
    runs: Box<[Run; MESSAGES]>,
}

/// Datagrams that become one message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Run {
    /// The first one's position.
    first: usize,
    /// How many.
    count: usize,
    /// UDP payload of each, the last excepted, bytes.
    size: usize,
    /// UDP payload of all, bytes.
    total: usize,
    /// Bytes of the headers in front.
    front_len: usize,
}

/// The kernel's refusal of a message.
#[derive(Debug)]
pub(super) struct Refused {
    pub error: io::Error,
    /// How many datagrams from the front it is about.
    pub datagrams: usize,
}

impl BatchedSender {
    /// Opens the socket, for packets of a DSCP (0 to 63) to one far end.
    pub fn open(
        remote: SocketAddr,
        dscp: u8,
        dont_fragment: bool,
        buffer_bytes: usize,
    ) -> io::Result<BatchedSender> {
        Ok(BatchedSender {
            socket: FrameSocket::open(buffer_bytes)?,
            remote,
            dscp,
            dont_fragment,
            ip_id: 0,
            joins: true,
            fronts: Box::new([[0; FRONT_BYTES_MAX]; MESSAGES]),
            runs: Box::new([Run::default(); MESSAGES]),
        })
    }

    /// Sends datagrams, each a pair of headers, UDP's first, and payload. None is larger than the
    /// path's MTU. Returns how many from the front went out; never waits.
    ///
    /// # Errors
    /// None went out.
    pub fn send(
        &mut self,
        path: &Path,
        addresses: &FrameAddresses,
        datagrams: &[(&[u8], &[u8])],
    ) -> Result<usize, Refused> {
        let datagrams = &datagrams[..datagrams.len().min(MESSAGES)];
        loop {
            let messages = self.lay_out(path, addresses, datagrams);
            let (fronts, runs) = (&self.fronts[..messages], &self.runs[..messages]);
            let result =
                self.socket.send(path.interface, self.ethertype(), fronts, runs, datagrams);
            match result {
                Ok(sent) => {
                    let datagrams = runs[..sent].iter().map(|run| run.count).sum();
                    self.ip_id = self.ip_id.wrapping_add(datagrams as u16);
                    return Ok(datagrams);
                }
                Err(error) if runs[0].count > 1 && is_no_join(&error) => {
                    tracing::debug!("{}: one datagram a frame from now on: {error}", self.remote);
                    self.joins = false;
                }
                Err(error) => return Err(Refused { error, datagrams: runs[0].count }),
            }
        }
    }

    fn ethertype(&self) -> u16 {
        if self.remote.is_ipv4() { ethertype::IPV4 } else { ethertype::IPV6 }
    }

    /// Parts datagrams into messages and writes the headers in front of each; returns how many.
    fn lay_out(
        &mut self,
        path: &Path,
        addresses: &FrameAddresses,
        datagrams: &[(&[u8], &[u8])],
    ) -> usize {
        let bytes_max = match self.remote {
            SocketAddr::V4(_) => IP_BYTES_MAX - IPV4_LEN - udp::HEADER_LEN,
            SocketAddr::V6(_) => IP_BYTES_MAX - udp::HEADER_LEN,
        };
        let (mut first, mut messages) = (0, 0);
        while first < datagrams.len() {
            let mut run = if self.joins {
                join(&datagrams[first..], bytes_max)
            } else {
                join(&datagrams[first..=first], bytes_max)
            };
            run.first = first;
            let udp = datagrams[first].0;
            let ip_id = self.ip_id.wrapping_add(first as u16);
            run.front_len = self.write_front(messages, path.source, addresses, &run, udp, ip_id);
            self.runs[messages] = run;
            first += run.count;
            messages += 1;
        }
        messages
    }

    /// Writes the headers of a message; returns their length.
    fn write_front(
        &mut self,
        message: usize,
        source: IpAddr,
        addresses: &FrameAddresses,
        run: &Run,
        udp: &[u8],
        ip_id: u16,
    ) -> usize {
        let front = &mut self.fronts[message];
        let udp_len = udp::HEADER_LEN + run.total;
        let ip_at = VNET_LEN + ETHERNET_LEN;
        front[VNET_LEN..][..6].copy_from_slice(&addresses.destination);
        front[VNET_LEN + 6..][..6].copy_from_slice(&addresses.source);
        let (ethertype, ip_len, pseudo) = match (source, self.remote.ip()) {
            (IpAddr::V4(source), IpAddr::V4(remote)) => {
                let (source, remote) = (source.octets(), remote.octets());
                let header = &mut front[ip_at..][..IPV4_LEN];
                let flags = if self.dont_fragment { DONT_FRAGMENT } else { 0 };
                header[..2].copy_from_slice(&[0x45, self.dscp << 2]);
                header[2..4].copy_from_slice(&((IPV4_LEN + udp_len) as u16).to_be_bytes());
                header[4..6].copy_from_slice(&ip_id.to_be_bytes());
                header[6..8].copy_from_slice(&flags.to_be_bytes());
                header[8..12].copy_from_slice(&[TTL, udp::PROTOCOL, 0, 0]);
                header[12..16].copy_from_slice(&source);
                header[16..].copy_from_slice(&remote);
                let sum = checksum::of(header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                let pseudo = Sum::pseudo_v4(source, remote, udp::PROTOCOL, udp_len as u32);
                (ethertype::IPV4, IPV4_LEN, pseudo)
            }
            (source, remote) => {
                let (source, remote) = (v6(source), v6(remote));
                let header = &mut front[ip_at..][..IPV6_LEN];
                header[..4].copy_from_slice(&[0x60 | self.dscp >> 2, self.dscp << 6, 0, 0]);
                header[4..6].copy_from_slice(&(udp_len as u16).to_be_bytes());
                header[6..8].copy_from_slice(&[udp::PROTOCOL, TTL]);
                header[8..24].copy_from_slice(&source);
                header[24..].copy_from_slice(&remote);
                let pseudo = Sum::pseudo_v6(source, remote, udp::PROTOCOL, udp_len as u32);
                (ethertype::IPV6, IPV6_LEN, pseudo)
            }
        };
        front[VNET_LEN + 12..][..2].copy_from_slice(&ethertype.to_be_bytes());
        let udp_at = ip_at + ip_len;
        let is_joined = run.count > 1;
        let needs_checksum = is_joined || ethertype == ethertype::IPV6;
        let header = &mut front[udp_at..][..udp::HEADER_LEN];
        header[..4].copy_from_slice(&udp[..4]);
        header[4..6].copy_from_slice(&(udp_len as u16).to_be_bytes());
        // What is left to the kernel or the NIC begins with the sum of the pseudo-header.
        let sum = if needs_checksum { pseudo.fold() } else { 0 };
        header[6..].copy_from_slice(&sum.to_be_bytes());
        let mut vnet = [0; VNET_LEN];
        if needs_checksum {
            vnet[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
            vnet[6..8].copy_from_slice(&((udp_at - VNET_LEN) as u16).to_ne_bytes());
            vnet[8..10].copy_from_slice(&CHECKSUM_OFFSET.to_ne_bytes());
        }
        let front_len = udp_at + udp::HEADER_LEN;
        if is_joined {
            vnet[1] = VIRTIO_NET_HDR_GSO_UDP_L4;
            vnet[2..4].copy_from_slice(&((front_len - VNET_LEN) as u16).to_ne_bytes());
            vnet[4..6].copy_from_slice(&(run.size as u16).to_ne_bytes());
        }
        front[..VNET_LEN].copy_from_slice(&vnet);
        front_len
    }
}

/// How many datagrams from the front can be one message: those of the first one's source port and
/// length, and one that is shorter. Not more than `bytes_max` of UDP payload.
fn join(datagrams: &[(&[u8], &[u8])], bytes_max: usize) -> Run {
    let size_of =
        |(header, payload): &(&[u8], &[u8])| header.len() - udp::HEADER_LEN + payload.len();
    let port_of = |(header, _): &(&[u8], &[u8])| [header[0], header[1]];
    let (size, port) = (size_of(&datagrams[0]), port_of(&datagrams[0]));
    let mut run = Run { count: 1, size, total: size, ..Run::default() };
    for datagram in &datagrams[1..] {
        let next = size_of(datagram);
        if next > size || run.total + next > bytes_max || port_of(datagram) != port {
            break;
        }
        run.count += 1;
        run.total += next;
        if next < size {
            break;
        }
    }
    run
}

fn v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Whether the kernel does not know such super-packets, or not for this device.
fn is_no_join(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EOPNOTSUPP))
}

#[cfg(test)]
mod tests;
