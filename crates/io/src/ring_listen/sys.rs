//! The raw socket that keeps the kernel from answering for a protocol.
//!
//! Source: raw(7), ip(7), ipv6(7).

#![allow(unsafe_code)]

use std::io;
use std::mem::zeroed;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Opens a raw socket of a protocol at a local address.
pub(super) fn open_raw(address: IpAddr, protocol: u8) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain call; the result is checked.
    let fd = unsafe { libc::socket(family, kind, i32::from(protocol)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    match address {
        IpAddr::V4(address) => {
            // SAFETY: an all-zero sockaddr_in is valid.
            let mut local: libc::sockaddr_in = unsafe { zeroed() };
            local.sin_family = family as u16;
            local.sin_addr.s_addr = u32::from_ne_bytes(address.octets());
            bind(&socket, &local)?;
        }
        IpAddr::V6(address) => {
            // SAFETY: an all-zero sockaddr_in6 is valid.
            let mut local: libc::sockaddr_in6 = unsafe { zeroed() };
            local.sin6_family = family as u16;
            local.sin6_addr.s6_addr = address.octets();
            bind(&socket, &local)?;
        }
    }
    Ok(socket)
}

fn bind<T>(socket: &OwnedFd, address: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `address`, which is only read.
    let result = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(address).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether an IPv6 socket gets packets of IPv6 only.
pub(super) fn is_v6_only(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut words = [0u32; 1];
    crate::sys::get_words(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, &mut words)?;
    Ok(words[0] != 0)
}
