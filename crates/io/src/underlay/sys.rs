//! A socket that is connected only to ask what the kernel thinks of the way.
//!
//! Source: udp(7), ip(7) `IP_MTU`, ipv6(7) `IPV6_MTU`.

#![allow(unsafe_code)]

use crate::sys::{bind, disconnect, from_raw, get_words, set_option};
use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// The address family as netlink writes it.
pub(super) fn family(ip: IpAddr) -> u8 {
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    family as u8 // 2 and 10
}

/// Opens the socket, from an address of this host if one is given; its DSCP counts where routes are
/// chosen by it.
pub(super) fn open(remote: SocketAddr, source: Option<IpAddr>, dscp: u8) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain call; the result is checked.
    let fd = unsafe { libc::socket(family(remote.ip()).into(), kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let (level, name) = match remote {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    };
    set_option(socket.as_fd(), level, name, &(i32::from(dscp) << 2))?;
    if let Some(source) = source {
        bind(socket.as_fd(), (source, 0).into())?;
    }
    Ok(socket)
}

/// Has the kernel look for the way anew; returns the address that it would send from.
pub(super) fn connect(socket: &OwnedFd, remote: SocketAddr) -> io::Result<IpAddr> {
    let mut remote = remote;
    remote.set_port(9); // any: nothing is sent
    disconnect(socket.as_fd())?;
    crate::sys::connect(socket.as_fd(), remote)?;
    // SAFETY: an all-zero sockaddr_storage is valid.
    let mut local: libc::sockaddr_storage = unsafe { zeroed() };
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: the pointers describe `local` and its length.
    let result = unsafe {
        libc::getsockname(socket.as_raw_fd(), std::ptr::from_mut(&mut local).cast(), &mut len)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let local = from_raw(&local).ok_or_else(|| io::Error::other("the socket has no IP address"))?;
    Ok(local.ip())
}

/// Bytes of the largest IP packet on the way, as of the last [`connect`].
pub(super) fn mtu(socket: &OwnedFd, remote: SocketAddr) -> io::Result<usize> {
    let (level, name) = match remote {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mut words = [0u32; 1];
    get_words(socket.as_fd(), level, name, &mut words)?;
    Ok(words[0] as usize)
}
