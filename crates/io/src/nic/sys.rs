//! Packet sockets that only send.
//!
//! Source: packet(7), sendmmsg(2), Linux `net/packet/af_packet.c` (`packet_snd`, `packet_do_bind`).

#![allow(unsafe_code)]

use crate::sys::set_option;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Frames of one system call.
pub(super) const MESSAGES: usize = 64;

/// A packet socket of the calling thread's network namespace.
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// Opens a socket that sends through no interface yet. Of protocol 0, it receives nothing.
    pub(super) fn open(send_buffer_bytes: i32) -> io::Result<Socket> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: plain call; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nothing else owns.
        let socket = Socket(unsafe { OwnedFd::from_raw_fd(fd) });
        let half = send_buffer_bytes / 2; // the kernel doubles it
        let fd = socket.0.as_fd();
        set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &half)
            .or_else(|_| set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &half))?;
        Ok(socket)
    }

    /// Has the socket send through an interface.
    pub(super) fn bind(&self, index: i32) -> io::Result<()> {
        // SAFETY: an all-zero sockaddr_ll is valid.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index;
        // SAFETY: the pointer and the length describe `address`.
        let result = unsafe {
            libc::bind(
                self.0.as_raw_fd(),
                std::ptr::from_ref(&address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends frames, as many as go without waiting, up to [`MESSAGES`].
    ///
    /// Returns how many from the front went out. An error is about the first one that did not.
    pub(super) fn send(&self, frames: &[&[u8]]) -> io::Result<usize> {
        let count = frames.len().min(MESSAGES);
        // SAFETY: all-zero messages and vectors are valid.
        let mut vectors: [libc::iovec; MESSAGES] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; MESSAGES] = unsafe { zeroed() };
        for (i, frame) in frames.iter().enumerate().take(count) {
            vectors[i].iov_base = frame.as_ptr().cast_mut().cast();
            vectors[i].iov_len = frame.len();
            messages[i].msg_hdr.msg_iov = &mut vectors[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every pointer of the first `count` messages is to live memory of the stated
        // length, which sendmmsg only reads.
        let sent = unsafe {
            libc::sendmmsg(
                self.0.as_raw_fd(),
                messages.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }
}
