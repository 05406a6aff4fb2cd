//! A socket for whole IP packets of our own.

#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd};

/// Sends IP packets with their headers (raw(7), `IPPROTO_RAW`); takes none in.
#[derive(Debug)]
pub(super) struct RawSocket(UdpSocket);

impl RawSocket {
    /// Opens one for a version of IP.
    pub(super) fn open(is_v6: bool) -> io::Result<RawSocket> {
        let family = if is_v6 { libc::AF_INET6 } else { libc::AF_INET };
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointer is passed.
        let socket = unsafe { libc::socket(family, kind, libc::IPPROTO_RAW) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        // What it sends to is an address, as of a UDP socket.
        Ok(RawSocket(socket.into()))
    }

    /// Sends a packet on its way to an address.
    pub(super) fn send(&self, packet: &[u8], to: IpAddr) -> io::Result<()> {
        self.0.send_to(packet, SocketAddr::new(to, 0)).map(|_| ())
    }
}
