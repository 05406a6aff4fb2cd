//! Netlink sockets.
//!
//! Source: netlink(7), rtnetlink(7).

#![allow(unsafe_code)]

use crate::sys::set_option;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A socket of the calling thread's network namespace, which is that of all its calls.
pub(super) fn open(protocol: i32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain call; the result is checked.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // The kernel gives it an address: one without takes no part in groups.
    // SAFETY: an all-zero sockaddr_nl is valid.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as u16;
    // SAFETY: the pointer and the length describe `address`.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            size_of::<libc::sockaddr_nl>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// Asks for word of every change that a group is told of, or no longer.
pub(super) fn subscribe(socket: BorrowedFd<'_>, group: u32, wanted: bool) -> io::Result<()> {
    let change = if wanted { libc::NETLINK_ADD_MEMBERSHIP } else { libc::NETLINK_DROP_MEMBERSHIP };
    set_option(socket, libc::SOL_NETLINK, change, &group)
}

/// Has the kernel heed all of a question for a list.
pub(super) fn ask_strictly(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK, &1)
}

/// Sends a message to the kernel.
pub(super) fn send(socket: BorrowedFd<'_>, message: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `message`, which is only read.
    let sent = unsafe {
        libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), libc::MSG_NOSIGNAL)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes the next message, cut to the buffer; never waits.
pub(super) fn receive<'a>(socket: BorrowedFd<'_>, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    // SAFETY: the pointer and the length describe `buffer`; any bytes are valid there.
    let received = unsafe {
        libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    };
    match usize::try_from(received) {
        Ok(len) => Ok(&buffer[..len]),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
