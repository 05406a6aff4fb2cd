//! Sockets that take a port or a protocol and let every packet go.
//!
//! Where the ring receives, the kernel goes on with each packet. It would find nobody listening, and
//! tell the sender so by ICMP. A socket that is there keeps it quiet; its filter rejects all, so
//! nothing is queued. A UDP socket reserves its port, too: whoever else wants it hears of it, as we do
//! if it is taken.

use super::{ListenPoint, sys};
use crate::error::Error;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use wire::tunnel::Carrier;

/// A socket at the place of an end of tunnels.
#[derive(Debug)]
pub(super) enum Quiet {
    Udp(UdpSocket),
    Raw { _socket: OwnedFd },
}

impl Quiet {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`Error::System`] if the address is not of this host, the port is taken, or the right to a raw
    /// socket (CAP_NET_RAW) is missing.
    pub fn open(point: &ListenPoint) -> Result<Quiet, Error> {
        let failed = |what: &str, source: io::Error| match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Error::System {
                what: format!("listen on {point}: {what}"),
                source,
                mend: "; another program or a kernel vxlan device holds the port: see `ss -ulnp` and `ip -d link`",
            },
            Some(libc::EADDRNOTAVAIL) => Error::System {
                what: format!("listen on {point}: {what}"),
                source,
                mend: "; the address is not of this host: see `ip address`",
            },
            _ => Error::system(format!("listen on {point}: {what}"), source),
        };
        let quiet = match point.carrier {
            Carrier::Udp { port } => {
                let socket = UdpSocket::bind((point.address, port));
                Quiet::Udp(socket.map_err(|e| failed("bind", e))?)
            }
            Carrier::Ip { protocol } => {
                let socket = sys::open_raw(point.address, protocol);
                Quiet::Raw { _socket: socket.map_err(|e| failed("raw socket", e))? }
            }
        };
        let socket = match &quiet {
            Quiet::Udp(socket) => socket.as_fd(),
            Quiet::Raw { _socket: socket } => socket.as_fd(),
        };
        crate::sys::reject_all(socket).map_err(|e| failed("reject all packets", e))?;
        Ok(quiet)
    }

    /// The carrier, with the port that the socket got if none was asked for.
    pub fn carrier(&self, asked: Carrier) -> io::Result<Carrier> {
        match self {
            Quiet::Udp(socket) => Ok(Carrier::Udp { port: socket.local_addr()?.port() }),
            Quiet::Raw { .. } => Ok(asked),
        }
    }

    /// Whether it stands for IPv4 as well, as a UDP socket at `[::]` does.
    pub fn takes_v4(&self) -> io::Result<bool> {
        match self {
            Quiet::Udp(socket) => {
                let local = socket.local_addr()?;
                Ok(local.is_ipv4()
                    || local.ip().is_unspecified() && !sys::is_v6_only(socket.as_fd())?)
            }
            Quiet::Raw { .. } => Ok(false),
        }
    }
}
